//! Curves over two axes, with marks: a chart as a scene.

use crate::picture::axis::Axis;
use crate::picture::ink::Ink;
use crate::picture::scene::{Anchor, Dash, Place, Scene, Shape, width_of};

const WIDTH: f32 = 640.0;
const PLOT_HEIGHT: f32 = 250.0;
const LEFT: f32 = 66.0;
const RIGHT: f32 = 18.0;
const BOTTOM: f32 = 50.0;
const SMALL: f32 = 11.5;
const LEGEND_LINE: f32 = 17.0;

/// One value of a curve.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Between which values its repeats lie.
    pub(crate) range: Option<(f64, f64)>,
    /// What a reader learns at it.
    pub(crate) tip: String,
}

/// Values that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) ink: Ink,
    pub(crate) dash: Dash,
    /// Whether a line joins the values, and whether dots mark them.
    pub(crate) is_joined: bool,
    pub(crate) has_dots: bool,
    pub(crate) spots: Vec<Spot>,
}

/// A span of the x axis in which something was so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Band {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ink: Ink,
    pub(crate) text: String,
}

/// Something that happened at a place of the x axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flag {
    pub(crate) at: f64,
    pub(crate) ink: Ink,
    pub(crate) text: String,
    /// What follows from another soon stands in a row above it, so that the words of both can be read.
    pub(crate) row: u8,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chart {
    /// Of the file.
    pub(crate) name: String,
    pub(crate) title: String,
    /// How to read it, in a line.
    pub(crate) subtitle: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
    pub(crate) bands: Vec<Band>,
    pub(crate) flags: Vec<Flag>,
}

/// Where the values are, within the scene.
struct Plot<'a> {
    chart: &'a Chart,
    top: f32,
}

impl Plot<'_> {
    fn x(&self, value: f64) -> f32 {
        LEFT + self.chart.x.part(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f32 {
        self.bottom() - self.chart.y.part(value) * PLOT_HEIGHT
    }

    fn bottom(&self) -> f32 {
        self.top + PLOT_HEIGHT
    }

    fn at(&self, spot: &Spot) -> Place {
        (self.x(spot.x), self.y(spot.y))
    }
}

impl Chart {
    /// Draws it.
    pub(crate) fn scene(&self) -> Scene {
        let legend = self.legend_places();
        let legend_lines = legend.iter().map(|(_, line)| line + 1).max().unwrap_or(0);
        let flags_height =
            self.flags.iter().map(|flag| flag.row + 1).max().map_or(0.0, |rows| 15.0 * f32::from(rows));
        // Lines of a legend are few.
        let top = 56.0 + legend_lines as f32 * LEGEND_LINE + flags_height;
        let plot = Plot { chart: self, top };
        let mut scene = Scene::new(WIDTH, plot.bottom() + BOTTOM, &self.title);
        scene.heading((12.0, 24.0), 15.5, &self.title);
        scene.text((12.0, 42.0), Anchor::Start, SMALL, Ink::Muted, &self.subtitle);
        self.draw_legend(&mut scene, &legend);
        self.draw_axes(&mut scene, &plot);
        self.draw_marks(&mut scene, &plot);
        for curve in &self.curves {
            draw_curve(&mut scene, &plot, curve);
        }
        scene
    }

    /// Where each curve's name stands, and in which line.
    fn legend_places(&self) -> Vec<(f32, usize)> {
        if self.curves.len() < 2 {
            return Vec::new();
        }
        let (mut x, mut line) = (12.0, 0);
        let mut places = Vec::new();
        for curve in &self.curves {
            let width = 26.0 + width_of(&curve.name, SMALL) + 16.0;
            if x + width > WIDTH - RIGHT && x > 12.0 {
                (x, line) = (12.0, line + 1);
            }
            places.push((x, line));
            x += width;
        }
        places
    }

    fn draw_legend(&self, scene: &mut Scene, places: &[(f32, usize)]) {
        for (curve, &(x, line)) in self.curves.iter().zip(places) {
            let y = 60.0 + line as f32 * LEGEND_LINE;
            if curve.is_joined {
                scene.line((x, y - 4.0), (x + 20.0, y - 4.0), curve.ink, 2.2, curve.dash);
            }
            if curve.has_dots {
                scene.dot((x + 10.0, y - 4.0), 3.2, curve.ink, "");
            }
            scene.text((x + 26.0, y), Anchor::Start, SMALL, Ink::Text, &curve.name);
        }
    }

    fn draw_axes(&self, scene: &mut Scene, plot: &Plot<'_>) {
        for (value, word) in &self.y.ticks {
            let y = plot.y(*value);
            scene.line((LEFT, y), (WIDTH - RIGHT, y), Ink::Grid, 1.0, Dash::Solid);
            scene.text((LEFT - 8.0, y + 4.0), Anchor::End, SMALL, Ink::Muted, word);
        }
        let mut free_from = f32::NEG_INFINITY;
        for (value, word) in &self.x.ticks {
            let (x, half) = (plot.x(*value), width_of(word, SMALL) / 2.0);
            scene.line((x, plot.bottom()), (x, plot.bottom() + 4.0), Ink::Muted, 1.0, Dash::Solid);
            // Labels that would stand on each other are left out.
            if x - half >= free_from {
                scene.text((x, plot.bottom() + 18.0), Anchor::Middle, SMALL, Ink::Muted, word);
                free_from = x + half + 6.0;
            }
        }
        let y = plot.bottom();
        scene.line((LEFT, y), (WIDTH - RIGHT, y), Ink::Muted, 1.0, Dash::Solid);
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        scene.text((middle, y + 38.0), Anchor::Middle, SMALL, Ink::Muted, &self.x.label);
    }

    fn draw_marks(&self, scene: &mut Scene, plot: &Plot<'_>) {
        for band in &self.bands {
            let (from, to) = (plot.x(band.from), plot.x(band.to));
            let size = ((to - from).max(1.5), PLOT_HEIGHT);
            let (at, ink, tip) = ((from, plot.top), band.ink, band.text.clone());
            scene.shapes.push(Shape::Rect { at, size, ink, opacity: 0.13, tip });
        }
        for row in [0, 1] {
            let of_row = self.flags.iter().filter(|flag| flag.row == row);
            let places: Vec<(f32, &Flag)> = of_row.map(|flag| (plot.x(flag.at), flag)).collect();
            for (number, &(x, flag)) in places.iter().enumerate() {
                draw_flag(scene, plot, x, flag);
                let next = places.get(number + 1).map_or(WIDTH, |(next, _)| next - 8.0);
                let y = plot.top - 3.0 - 15.0 * f32::from(row);
                if x + 8.0 + width_of(&flag.text, 10.5) < next {
                    scene.text((x + 7.0, y), Anchor::Start, 10.5, Ink::Muted, &flag.text);
                }
            }
        }
    }
}

fn draw_flag(scene: &mut Scene, plot: &Plot<'_>, x: f32, flag: &Flag) {
    let y = plot.top - 15.0 * f32::from(flag.row);
    scene.line((x, y - 2.0), (x, plot.bottom()), flag.ink, 1.0, Dash::Dotted);
    scene.shapes.push(Shape::Area {
        points: vec![(x - 4.0, y - 9.0), (x + 4.0, y - 9.0), (x, y - 2.0)],
        ink: flag.ink,
        opacity: 1.0,
    });
    let size = (10.0, plot.bottom() - y + 10.0);
    let (at, ink, tip) = ((x - 5.0, y - 10.0), flag.ink, flag.text.clone());
    scene.shapes.push(Shape::Rect { at, size, ink, opacity: 0.0, tip });
}

fn draw_curve(scene: &mut Scene, plot: &Plot<'_>, curve: &Curve) {
    let is_spread = |spot: &&Spot| spot.range.is_some_and(|(low, high)| high > low);
    for spot in curve.spots.iter().filter(is_spread) {
        let (low, high) = spot.range.unwrap_or((spot.y, spot.y));
        let (x, low, high) = (plot.x(spot.x), plot.y(low), plot.y(high));
        scene.line((x, low), (x, high), curve.ink, 1.2, Dash::Solid);
        for y in [low, high] {
            scene.line((x - 3.0, y), (x + 3.0, y), curve.ink, 1.2, Dash::Solid);
        }
    }
    if curve.is_joined && curve.spots.len() > 1 {
        scene.path(curve.spots.iter().map(|spot| plot.at(spot)).collect(), curve.ink, 2.2, curve.dash);
    }
    for spot in &curve.spots {
        if curve.has_dots {
            scene.dot(plot.at(spot), 3.6, curve.ink, &spot.tip);
        } else if !spot.tip.is_empty() {
            // Nothing to see and something to point at.
            let (x, y) = plot.at(spot);
            let (at, size, tip) = ((x - 3.0, y - 8.0), (6.0, 16.0), spot.tip.clone());
            scene.shapes.push(Shape::Rect { at, size, ink: curve.ink, opacity: 0.0, tip });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::axis::{Scale, micros, share};

    fn chart() -> Chart {
        let spot = |x, y| Spot { x, y, range: Some((y * 0.9, y * 1.2)), tip: format!("{x}: {y}") };
        let curve = |name: &str, ink| Curve {
            name: name.to_owned(),
            ink,
            dash: Dash::Solid,
            is_joined: true,
            has_dots: true,
            spots: vec![spot(0.0, 100.0), spot(0.3, 1000.0)],
        };
        Chart {
            name: "latency".to_owned(),
            title: "Latency".to_owned(),
            subtitle: "lower is better".to_owned(),
            x: Axis::over("loss", Scale::Linear, [0.0, 0.3].into_iter(), share),
            y: Axis::over("", Scale::Log, [100.0, 1000.0].into_iter(), micros),
            curves: vec![curve("p50", Ink::Series(0)), curve("p99", Ink::Series(1))],
            bands: vec![Band { from: 0.1, to: 0.2, ink: Ink::Bad, text: "fault".to_owned() }],
            flags: vec![Flag { at: 0.15, ink: Ink::Leader, text: "leader 2".to_owned(), row: 1 }],
        }
    }

    #[test]
    fn higher_values_stand_higher_and_later_ones_further_right() {
        let scene = chart().scene();
        let dots: Vec<Place> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Dot { at, tip, .. } if !tip.is_empty() => Some(*at),
                _ => None,
            })
            .collect();
        assert_eq!(dots.len(), 4);
        assert!(dots[1].0 > dots[0].0 && dots[1].1 < dots[0].1, "{dots:?}");
        assert!(dots.iter().all(|&(x, y)| (LEFT..=WIDTH).contains(&x) && (0.0..scene.height).contains(&y)));
    }

    #[test]
    fn one_curve_needs_no_legend() {
        let mut chart = chart();
        assert_eq!(chart.legend_places().len(), 2);
        chart.curves.truncate(1);
        assert_eq!(chart.legend_places(), []);
    }
}
