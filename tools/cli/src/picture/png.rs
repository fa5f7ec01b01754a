//! Scenes as PNG, in the light inks, at twice their size.

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform,
};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

use crate::picture::ink::Ink;
use crate::picture::scene::{Anchor, Place, Scene, Shape, Weight};

/// Roboto by Google, under the Apache License 2.0; see the licence beside the files.
const REGULAR: &[u8] = include_bytes!("font/Roboto-Regular.ttf");
const BOLD: &[u8] = include_bytes!("font/Roboto-Medium.ttf");

const SCALE: f32 = 2.0;

/// The picture's bytes; none if it is larger than any picture may be.
pub(crate) fn png(scene: &Scene) -> Option<Vec<u8>> {
    // Both are whole, positive and small.
    let side = |length: f32| (length * SCALE).ceil() as u32;
    let mut pixels = Pixmap::new(side(scene.width), side(scene.height))?;
    let [red, green, blue] = Ink::Surface.light();
    pixels.fill(Color::from_rgba8(red, green, blue, 255));
    for shape in &scene.shapes {
        paint_shape(&mut pixels, shape);
    }
    pixels.encode_png().ok()
}

fn paint_of(ink: Ink, opacity: f32) -> Paint<'static> {
    let mut paint = Paint::default();
    let [red, green, blue] = ink.light();
    let alpha = (opacity.clamp(0.0, 1.0) * 255.0) as u8;
    paint.set_color_rgba8(red, green, blue, alpha);
    paint.anti_alias = true;
    paint
}

fn paint_shape(pixels: &mut Pixmap, shape: &Shape) {
    let twice = Transform::from_scale(SCALE, SCALE);
    match shape {
        Shape::Path { points, ink, width, dash } => {
            let Some(path) = polygon(points) else { return };
            let stroke = Stroke {
                width: *width,
                line_cap: if dash.lengths().is_some() { LineCap::Butt } else { LineCap::Round },
                line_join: LineJoin::Round,
                dash: dash.lengths().and_then(|lengths| StrokeDash::new(lengths.to_vec(), 0.0)),
                ..Stroke::default()
            };
            pixels.stroke_path(&path, &paint_of(*ink, 1.0), &stroke, twice, None);
        }
        Shape::Area { points, ink, opacity } => {
            let Some(path) = polygon(points) else { return };
            pixels.fill_path(&path, &paint_of(*ink, *opacity), FillRule::Winding, twice, None);
        }
        Shape::Dot { at: (x, y), radius, ink, .. } => {
            let Some(path) = PathBuilder::from_circle(*x, *y, *radius) else { return };
            pixels.fill_path(&path, &paint_of(*ink, 1.0), FillRule::Winding, twice, None);
        }
        Shape::Rect { at: (x, y), size: (width, height), ink, opacity, .. } => {
            let Some(rect) = Rect::from_xywh(*x, *y, *width, *height) else { return };
            pixels.fill_rect(rect, &paint_of(*ink, *opacity), twice, None);
        }
        Shape::Text { at, anchor, size, ink, weight, text } => {
            let font = if *weight == Weight::Bold { BOLD } else { REGULAR };
            let Some(path) = written(font, text, *at, *anchor, *size) else { return };
            pixels.fill_path(&path, &paint_of(*ink, 1.0), FillRule::Winding, twice, None);
        }
    }
}

fn polygon(points: &[Place]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (place, &(x, y)) in points.iter().enumerate() {
        if place == 0 {
            builder.move_to(x, y);
        } else {
            builder.line_to(x, y);
        }
    }
    builder.finish()
}

/// Letters as outlines, moved to where they stand. A letter that the font lacks shows as the font's box.
struct Pen {
    builder: PathBuilder,
    x: f32,
    y: f32,
    scale: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> Place {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.builder.close();
    }
}

fn written(font: &[u8], text: &str, (x, y): Place, anchor: Anchor, size: f32) -> Option<Path> {
    let face = Face::parse(font, 0).ok()?;
    let scale = size / f32::from(face.units_per_em());
    let glyphs: Vec<GlyphId> = text.chars().map(|c| face.glyph_index(c).unwrap_or_default()).collect();
    let advance = |glyph: GlyphId| f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * scale;
    let width: f32 = glyphs.iter().map(|glyph| advance(*glyph)).sum();
    let shift = match anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => width / 2.0,
        Anchor::End => width,
    };
    let mut pen = Pen { builder: PathBuilder::new(), x: x - shift, y, scale };
    for glyph in glyphs {
        face.outline_glyph(glyph, &mut pen);
        pen.x += advance(glyph);
    }
    pen.builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_words_in_it() {
        let dark_pixels = |text: &str| {
            let mut scene = Scene::new(60.0, 20.0, "");
            scene.text((30.0, 15.0), Anchor::Middle, 12.0, Ink::Text, text);
            let bytes = png(&scene).unwrap();
            let pixels = Pixmap::decode_png(&bytes).unwrap();
            assert_eq!((pixels.width(), pixels.height()), (120, 40));
            pixels.pixels().iter().filter(|pixel| pixel.red() < 128).count()
        };
        assert_eq!(dark_pixels(""), 0);
        assert!(dark_pixels("99.9 %") > 100, "{}", dark_pixels("99.9 %"));
    }

    #[test]
    fn the_fonts_have_every_letter_that_pictures_use() {
        for font in [REGULAR, BOLD] {
            let face = Face::parse(font, 0).unwrap();
            for letter in ('!'..='~').chain("µ·×–—…≤≥°±".chars()) {
                assert!(face.glyph_index(letter).is_some(), "{letter}");
            }
        }
    }
}
