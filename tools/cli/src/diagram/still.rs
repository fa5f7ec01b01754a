//! A window as a picture that stands still.

use crate::diagram::kind::{GROUPS, group_of};
use crate::diagram::{Arrow, Fate, History, Standing, Window};
use crate::picture::{Anchor, Dash, Ink, Place, Scene, Shape};

/// More arrows than these cover each other.
pub(crate) const ARROWS_MAX: usize = 4000;
/// So few that each can be named.
const NAMED_MAX: usize = 60;

const WIDTH: f32 = 1200.0;
const LEFT: f32 = 96.0;
const RIGHT: f32 = 24.0;
const TOP: f32 = 92.0;
const LANE_HEIGHT: f32 = 110.0;

struct Sheet<'a> {
    history: &'a History,
    window: Window,
}

impl Sheet<'_> {
    fn x(&self, at_ns: u64) -> f32 {
        let Window { from_ns, to_ns } = self.window;
        let part = (at_ns as f64 - from_ns as f64) / (to_ns - from_ns).max(1) as f64;
        LEFT + part.clamp(0.0, 1.0) as f32 * (WIDTH - LEFT - RIGHT)
    }

    fn y(lane: u8) -> f32 {
        TOP + 24.0 + f32::from(lane) * LANE_HEIGHT
    }
}

/// Draws the window, at most [`ARROWS_MAX`] arrows of it.
pub(crate) fn still(history: &History, window: Window) -> Scene {
    let title = format!("Space-time diagram of {}", history.source);
    let height = TOP + 66.0 + LANE_HEIGHT * history.lanes.len().saturating_sub(1) as f32;
    let mut scene = Scene::new(WIDTH, height, &title);
    let sheet = Sheet { history, window };
    scene.heading((14.0, 26.0), 16.0, &title);
    let arrows: Vec<&Arrow> = history.within(window).take(ARROWS_MAX).collect();
    draw_legend(&mut scene, history, &arrows);
    draw_time(&mut scene, &sheet, height);
    for arrow in &arrows {
        draw_arrow(&mut scene, &sheet, arrow, arrows.len() <= NAMED_MAX);
    }
    for lane in (0u8..).take(history.lanes.len()) {
        draw_lane(&mut scene, &sheet, lane);
    }
    scene
}

fn draw_legend(scene: &mut Scene, history: &History, arrows: &[&Arrow]) {
    let mut x = 14.0;
    for (place, group) in GROUPS.iter().enumerate() {
        let is_there = |arrow: &&&Arrow| group_of(&history.kinds[usize::from(arrow.kind)]) == place;
        if !arrows.iter().any(|arrow| is_there(&arrow)) {
            continue;
        }
        scene.line((x, 45.0), (x + 18.0, 45.0), group.ink, 2.4, Dash::Solid);
        scene.text((x + 24.0, 49.0), Anchor::Start, 12.0, Ink::Text, group.name);
        x += 44.0 + group.name.len() as f32 * 6.4;
    }
    cross(scene, (x + 8.0, 45.0));
    scene.text((x + 20.0, 49.0), Anchor::Start, 12.0, Ink::Text, "lost or not taken");
    scene.dot((x + 140.0, 45.0), 3.5, Ink::Text, "");
    scene.text((x + 150.0, 49.0), Anchor::Start, 12.0, Ink::Text, "sent again");
}

fn draw_time(scene: &mut Scene, sheet: &Sheet<'_>, height: f32) {
    let Window { from_ns, to_ns } = sheet.window;
    let length = (to_ns - from_ns).max(1) as f64;
    let rough = length / 8.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough);
    let step = (step.unwrap_or(rough) as u64).max(1);
    let mut at_ns = from_ns.next_multiple_of(step);
    while at_ns <= to_ns {
        let x = sheet.x(at_ns);
        scene.line((x, TOP - 14.0), (x, height - 24.0), Ink::Grid, 1.0, Dash::Solid);
        scene.text((x, TOP - 20.0), Anchor::Middle, 11.0, Ink::Muted, &clock(at_ns, step));
        at_ns += step;
    }
}

/// A time in milliseconds, to the digit that steps change.
fn clock(at_ns: u64, step_ns: u64) -> String {
    let digits = match step_ns {
        step if step >= 1_000_000 => 0,
        step if step >= 10_000 => 2,
        _ => 3,
    };
    format!("{:.digits$} ms", at_ns as f64 / 1e6)
}

fn draw_lane(scene: &mut Scene, sheet: &Sheet<'_>, lane: u8) {
    let (history, y) = (sheet.history, Sheet::y(lane));
    scene.text((14.0, y + 4.0), Anchor::Start, 13.0, Ink::Text, &history.lanes[usize::from(lane)].name);
    if !history.lanes[usize::from(lane)].is_node {
        scene.line((LEFT, y), (WIDTH - RIGHT, y), Ink::Muted, 1.5, Dash::Solid);
        return;
    }
    for (from_ns, to_ns, state) in history.spans(lane) {
        if to_ns < sheet.window.from_ns || from_ns > sheet.window.to_ns {
            continue;
        }
        let (from, to) = (sheet.x(from_ns), sheet.x(to_ns));
        let (ink, width, dash) = match state.standing {
            Standing::Leader => (Ink::Leader, 7.0, Dash::Solid),
            Standing::Candidate | Standing::PreCandidate => (Ink::Candidate, 5.0, Dash::Solid),
            Standing::Follower => (Ink::Follower, 3.0, Dash::Solid),
            Standing::Down => (Ink::Bad, 1.5, Dash::Dashed),
        };
        scene.line((from, y), (to, y), ink, width, dash);
        let word = if state.standing == Standing::Down {
            "down".to_owned()
        } else {
            format!("{}, term {}", state.standing.name(), state.term)
        };
        if to - from > word.len() as f32 * 6.2 {
            scene.text((from + 3.0, y - 8.0), Anchor::Start, 11.0, Ink::Text, &word);
        }
    }
}

fn draw_arrow(scene: &mut Scene, sheet: &Sheet<'_>, arrow: &Arrow, is_named: bool) {
    let kind = &sheet.history.kinds[usize::from(arrow.kind)];
    let ink = GROUPS[group_of(kind)].ink;
    let from = (sheet.x(arrow.sent_ns), Sheet::y(arrow.from));
    let whole = (sheet.x(arrow.end_ns), Sheet::y(arrow.to));
    let is_short = matches!(arrow.fate, Fate::Lost | Fate::Refused);
    let along = |part: f32| (from.0 + (whole.0 - from.0) * part, from.1 + (whole.1 - from.1) * part);
    let to = if is_short { along(0.6) } else { whole };
    let dash = if arrow.is_copy || arrow.is_guess { Dash::Dashed } else { Dash::Solid };
    scene.line(from, to, ink, if is_named { 1.6 } else { 1.0 }, dash);
    if arrow.is_again {
        scene.dot(from, 3.5, ink, "");
    }
    match arrow.fate {
        Fate::Lost | Fate::Refused | Fate::Dropped => cross(scene, to),
        _ => head(scene, from, to, ink),
    }
    if is_named {
        let (x, y) = along(0.3);
        scene.text((x + 4.0, y), Anchor::Start, 9.5, Ink::Muted, kind);
    }
}

fn head(scene: &mut Scene, from: Place, to: Place, ink: Ink) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy).max(0.001);
    let (ux, uy) = (dx / length, dy / length);
    let back = (to.0 - ux * 7.0, to.1 - uy * 7.0);
    let points = vec![to, (back.0 - uy * 2.8, back.1 + ux * 2.8), (back.0 + uy * 2.8, back.1 - ux * 2.8)];
    scene.shapes.push(Shape::Area { points, ink, opacity: 1.0 });
}

fn cross(scene: &mut Scene, (x, y): Place) {
    for slope in [-1.0, 1.0] {
        let (from, to) = ((x - 4.0, y - 4.0 * slope), (x + 4.0, y + 4.0 * slope));
        scene.line(from, to, Ink::Bad, 1.8, Dash::Solid);
    }
}
