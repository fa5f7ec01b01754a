//! Scenes as SVG: for a page, which styles it, or as a file that styles itself.

use std::fmt::Write as _;

use crate::picture::ink::plain_style_sheet;
use crate::picture::scene::{Anchor, Place, Scene, Shape, Weight};

const FONT: &str = "Roboto,system-ui,-apple-system,'Segoe UI',sans-serif";

/// A file of its own, light or dark as its reader prefers.
pub(crate) fn svg(scene: &Scene) -> String {
    let Scene { width, height, .. } = scene;
    let background = format!(r#"<rect width="{width}" height="{height}" class="f-surface"/>"#);
    let style = format!("<style>{}</style>", plain_style_sheet());
    format!("{}\n", whole(scene, &(style + &background)))
}

/// For a page that brings [`crate::picture::style_sheet`].
pub(crate) fn inline_svg(scene: &Scene) -> String {
    whole(scene, "")
}

fn whole(scene: &Scene, first: &str) -> String {
    let Scene { width, height, title, shapes } = scene;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" font-family=\"{FONT}\"><title>{}</title>{first}\n",
        escaped(title)
    );
    for shape in shapes {
        shape_svg(&mut out, shape);
    }
    out + "</svg>"
}

fn shape_svg(out: &mut String, shape: &Shape) {
    // Writing to a String cannot fail.
    let _ = match shape {
        Shape::Path { points, ink, width, dash } => {
            let dashes = dash.lengths().map(|[on, off]| format!(r#" stroke-dasharray="{on} {off}""#));
            writeln!(
                out,
                r#"<path d="{}" class="s-{}" fill="none" stroke-width="{width}" stroke-linejoin="round" {}{}/>"#,
                track(points),
                ink.name(),
                if dashes.is_some() { r#"stroke-linecap="butt""# } else { r#"stroke-linecap="round""# },
                dashes.unwrap_or_default()
            )
        }
        Shape::Area { points, ink, opacity } => {
            writeln!(
                out,
                r#"<path d="{}Z" class="f-{}" fill-opacity="{opacity}"/>"#,
                track(points),
                ink.name()
            )
        }
        Shape::Dot { at: (x, y), radius, ink, tip } => writeln!(
            out,
            r#"<circle cx="{}" cy="{}" r="{radius}" class="f-{}"{}/>"#,
            Short(*x),
            Short(*y),
            ink.name(),
            tip_attribute(tip)
        ),
        Shape::Rect { at: (x, y), size: (width, height), ink, opacity, tip } => writeln!(
            out,
            r#"<rect x="{}" y="{}" width="{}" height="{}" rx="1.5" class="f-{}" fill-opacity="{opacity}"{}/>"#,
            Short(*x),
            Short(*y),
            Short(*width),
            Short(*height),
            ink.name(),
            tip_attribute(tip)
        ),
        Shape::Text { at: (x, y), anchor, size, ink, weight, text } => writeln!(
            out,
            r#"<text x="{}" y="{}" text-anchor="{}" font-size="{size}" class="f-{}"{}>{}</text>"#,
            Short(*x),
            Short(*y),
            match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            },
            ink.name(),
            if *weight == Weight::Bold { r#" font-weight="600""# } else { "" },
            escaped(text)
        ),
    };
}

fn tip_attribute(tip: &str) -> String {
    if tip.is_empty() { String::new() } else { format!(r#" data-tip="{}""#, escaped(tip)) }
}

fn track(points: &[Place]) -> String {
    let mut track = String::new();
    for (place, (x, y)) in points.iter().enumerate() {
        let _ = write!(track, "{}{} {}", if place == 0 { 'M' } else { 'L' }, Short(*x), Short(*y));
    }
    track
}

/// A coordinate to a tenth: more than any screen shows.
struct Short(f32);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = (self.0 * 10.0).round() / 10.0;
        write!(f, "{tenths}")
    }
}

/// Text that means itself in HTML and SVG.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::ink::Ink;
    use crate::picture::scene::Dash;

    #[test]
    fn words_and_tips_cannot_break_out_of_a_picture() {
        let mut scene = Scene::new(10.0, 10.0, "a<b");
        scene.text((1.0, 2.0), Anchor::Start, 9.0, Ink::Text, "</svg>&");
        scene.dot((1.0, 2.0), 2.0, Ink::Bad, "\"><script>");
        let text = svg(&scene);
        assert!(text.contains("<title>a&lt;b</title>") && text.contains("&lt;/svg&gt;&amp;"), "{text}");
        assert!(text.contains(r#"data-tip="&quot;&gt;&lt;script&gt;""#), "{text}");
    }

    #[test]
    fn a_line_is_one_path_and_names_its_ink() {
        let mut scene = Scene::new(10.0, 10.0, "");
        scene.line((0.0, 1.0), (2.55, 3.0), Ink::Series(1), 2.0, Dash::Dashed);
        let text = inline_svg(&scene);
        assert!(text.contains(r#"d="M0 1L2.6 3" class="s-series1""#), "{text}");
        assert!(text.contains(r#"stroke-dasharray="6 4""#), "{text}");
    }
}
