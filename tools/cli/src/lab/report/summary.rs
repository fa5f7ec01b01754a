//! The rows of run folders as points with repeats: what charts and tables are made of.

use hdrhistogram::Histogram;

use crate::bench::report::histogram;
use crate::lab::run_folder::{Event, NodeCounts, Point, Run, RunFolder, Second};

/// Everything that a report shows.
pub(super) struct Summary {
    /// What was run; of several folders the first.
    pub(super) run: Run,
    /// All of them.
    pub(super) runs: Vec<Run>,
    pub(super) systems: Vec<String>,
    /// By system, then along the axis.
    pub(super) groups: Vec<Group>,
}

/// A point with all its repeats, and what was seen of them.
pub(super) struct Group {
    pub(super) point: u32,
    pub(super) system: usize,
    pub(super) x: Option<f64>,
    pub(super) label: String,
    pub(super) rows: Vec<Point>,
    pub(super) seconds: Vec<Second>,
    pub(super) events: Vec<Event>,
    pub(super) nodes: Vec<NodeCounts>,
}

/// A figure of a group: its middle, and between what its repeats lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) middle: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Figure {
    /// The median of the repeats; none of none.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let middle = if values.len().is_multiple_of(2) {
            (values[half - 1] + values[half]) / 2.0
        } else {
            values[half]
        };
        Some(Self { middle, low, high })
    }

    /// The range of the repeats, where there are several.
    pub(super) fn range(self) -> Option<(f64, f64)> {
        (self.low < self.high).then_some((self.low, self.high))
    }
}

impl Group {
    /// A figure that each repeat has, or may have.
    pub(super) fn figure(&self, of: impl Fn(&Point) -> Option<f64>) -> Option<Figure> {
        Figure::of(self.rows.iter().filter_map(of))
    }

    /// All repeats' latencies together.
    pub(super) fn latencies(&self) -> Histogram<u64> {
        let mut all = histogram();
        for row in &self.rows {
            // Both have the same bounds.
            let _ = all.add(row.histogram());
        }
        all
    }
}

impl Summary {
    /// One folder, or several as systems of their own.
    pub(super) fn compared(folders: Vec<RunFolder>) -> Self {
        let is_several = folders.len() > 1;
        let mut systems: Vec<String> = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut runs = Vec::new();
        for (number, folder) in folders.into_iter().enumerate() {
            let name = folder.dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
            let named =
                |system: &str| if is_several { format!("{name}: {system}") } else { system.to_owned() };
            // Points of several folders have numbers of their own.
            let shift = u32::try_from(number * 1000).unwrap_or(0);
            for point in &folder.points {
                let system = named(&point.system);
                let place = systems.iter().position(|known| *known == system).unwrap_or_else(|| {
                    systems.push(system.clone());
                    systems.len() - 1
                });
                let wanted = point.point + shift;
                if let Some(group) = groups.iter_mut().find(|group| group.point == wanted) {
                    group.rows.push(point.clone());
                    continue;
                }
                groups.push(Group {
                    point: wanted,
                    system: place,
                    x: point.x,
                    label: point.label.clone(),
                    rows: vec![point.clone()],
                    seconds: of(&folder.seconds, |row| row.point == point.point),
                    events: of(&folder.events, |row| row.point == point.point),
                    nodes: of(&folder.nodes, |row| row.point == point.point),
                });
            }
            runs.push(folder.run);
        }
        let order = |group: &Group| (group.system, group.x.unwrap_or(f64::from(group.point)));
        groups.sort_by(|a, b| {
            let ((a, x), (b, y)) = (order(a), order(b));
            a.cmp(&b).then(x.total_cmp(&y))
        });
        // Folders are opened one by one, and at least one is asked for.
        let run = runs[0].clone();
        Self { run, runs, systems, groups }
    }

    /// The groups of a system along the axis.
    pub(super) fn along(&self, system: usize) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.system == system)
    }

    /// Values of the axis that occur, ascending, with their labels.
    pub(super) fn places(&self) -> Vec<(f64, String)> {
        let mut places: Vec<(f64, String)> =
            self.groups.iter().filter_map(|group| Some((group.x?, group.label.clone()))).collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        places.dedup_by(|a, b| a.0 == b.0);
        places
    }
}

fn of<T: Clone>(rows: &[T], is_its: impl Fn(&T) -> bool) -> Vec<T> {
    rows.iter().filter(|row| is_its(row)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_repeats() {
        let figure = |values: &[f64]| Figure::of(values.iter().copied());
        assert_eq!(figure(&[]), None);
        assert_eq!(figure(&[3.0, 1.0, 2.0]), Some(Figure { middle: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(figure(&[1.0, 2.0]).unwrap().middle, 1.5);
        assert_eq!(figure(&[4.0]).unwrap().range(), None);
    }
}
