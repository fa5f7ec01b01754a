//! Shapes, in the order in which they are painted.

use crate::picture::ink::Ink;

/// A place in a picture, from its upper left corner.
pub(crate) type Place = (f32, f32);

/// How a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dash {
    #[default]
    Solid,
    Dashed,
    Dotted,
}

impl Dash {
    /// Lengths of strokes and gaps; none for a solid line.
    pub(super) const fn lengths(self) -> Option<[f32; 2]> {
        match self {
            Self::Solid => None,
            Self::Dashed => Some([6.0, 4.0]),
            Self::Dotted => Some([1.5, 4.0]),
        }
    }
}

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How heavy letters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Regular,
    Bold,
}

/// One thing that is painted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A line through points.
    Path { points: Vec<Place>, ink: Ink, width: f32, dash: Dash },
    /// What a line encloses.
    Area { points: Vec<Place>, ink: Ink, opacity: f32 },
    /// A dot, with what it stands for.
    Dot { at: Place, radius: f32, ink: Ink, tip: String },
    /// A box.
    Rect { at: Place, size: (f32, f32), ink: Ink, opacity: f32, tip: String },
    /// Words.
    Text { at: Place, anchor: Anchor, size: f32, ink: Ink, weight: Weight, text: String },
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scene {
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// What it shows, for those who cannot see it.
    pub(crate) title: String,
    pub(crate) shapes: Vec<Shape>,
}

impl Scene {
    /// An empty one.
    pub(crate) fn new(width: f32, height: f32, title: &str) -> Self {
        Self { width, height, title: title.to_owned(), shapes: Vec::new() }
    }

    pub(crate) fn line(&mut self, from: Place, to: Place, ink: Ink, width: f32, dash: Dash) {
        self.path(vec![from, to], ink, width, dash);
    }

    pub(crate) fn path(&mut self, points: Vec<Place>, ink: Ink, width: f32, dash: Dash) {
        self.shapes.push(Shape::Path { points, ink, width, dash });
    }

    pub(crate) fn dot(&mut self, at: Place, radius: f32, ink: Ink, tip: &str) {
        self.shapes.push(Shape::Dot { at, radius, ink, tip: tip.to_owned() });
    }

    pub(crate) fn text(&mut self, at: Place, anchor: Anchor, size: f32, ink: Ink, text: &str) {
        let text = text.to_owned();
        self.shapes.push(Shape::Text { at, anchor, size, ink, weight: Weight::Regular, text });
    }

    pub(crate) fn heading(&mut self, at: Place, size: f32, text: &str) {
        let text = text.to_owned();
        let (anchor, ink, weight) = (Anchor::Start, Ink::Text, Weight::Bold);
        self.shapes.push(Shape::Text { at, anchor, size, ink, weight, text });
    }
}

/// About how wide a text is; enough to lay legends out.
pub(super) fn width_of(text: &str, size: f32) -> f32 {
    let narrow =
        |c: char| matches!(c, 'i' | 'l' | 'j' | 't' | 'f' | 'r' | ' ' | '.' | ',' | '\'' | '|' | '1');
    let em: f32 = text.chars().map(|c| if narrow(c) { 0.32 } else { 0.56 }).sum();
    em * size
}
