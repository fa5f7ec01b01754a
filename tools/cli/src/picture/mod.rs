//! Pictures: drawn once as shapes, written as SVG, as PNG, and into pages.
//!
//! A [`Scene`] is a list of shapes in the order in which they are painted. Shapes name an [`Ink`], never a colour, so
//! that one drawing suits light and dark: [`svg`] writes classes, a page or the file's own style sheet says what they
//! look like; [`png`] paints the light colours with a font of its own, so that a picture is the same on every machine.
//! [`Chart`] lays out axes, curves and marks, and makes a scene of them.

mod axis;
mod chart;
mod ink;
mod png;
mod scene;
mod svg;

pub(crate) use axis::{Axis, Scale, micros, plain, share};
pub(crate) use chart::{Band, Chart, Curve, Flag, Spot};
pub(crate) use ink::{Ink, style_sheet};
pub(crate) use png::png;
pub(crate) use scene::{Anchor, Dash, Place, Scene, Shape};
pub(crate) use svg::{escaped, inline_svg, svg};
