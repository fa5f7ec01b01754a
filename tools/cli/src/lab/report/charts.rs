//! Which charts a run makes: one for each question that its rows can answer.

use crate::lab::report::summary::{Figure, Group, Summary};
use crate::lab::run_folder::{Event, EventKind, Point, Second};
use crate::picture::{Axis, Band, Chart, Curve, Dash, Flag, Ink, Scale, Spot, micros, plain, share};

/// More timelines than these nobody compares.
const TIMELINES_MAX: usize = 12;

type Percentile = (&'static str, fn(&Point) -> Option<f64>);

const PERCENTILES: [Percentile; 4] = [
    ("p50", |row| Some(row.latency_us?.p50)),
    ("p90", |row| Some(row.latency_us?.p90)),
    ("p99", |row| Some(row.latency_us?.p99)),
    ("p99.9", |row| Some(row.latency_us?.p999)),
];

/// All charts, in the order in which a report shows them. One without values is left out.
pub(super) fn charts(summary: &Summary) -> Vec<Chart> {
    let mut charts = Vec::new();
    if summary.groups.len() > 1 {
        charts.extend(latency(summary));
        charts.extend(operations(summary));
    }
    charts.extend(percentile_curves(summary));
    if summary.groups.len() > 1 {
        charts.extend(per_commit(summary, "datagrams", "Datagrams per commit", |row| row.datagrams));
        charts.extend(per_commit(summary, "bytes", "Bytes per commit", |row| row.datagram_bytes));
        charts.extend(ratios(summary));
    }
    charts.extend(failovers(summary));
    charts.extend(timelines(summary));
    charts.retain(|chart| chart.curves.iter().any(|curve| !curve.spots.is_empty()));
    charts
}

/// The axis of the sweep, or a place for each group where nothing is swept.
struct Across<'a> {
    summary: &'a Summary,
    is_swept: bool,
}

impl<'a> Across<'a> {
    fn of(summary: &'a Summary) -> Self {
        Self { summary, is_swept: summary.run.axis.is_some() && summary.places().len() > 1 }
    }

    fn x(&self, group: &Group) -> f64 {
        let place = || self.summary.groups.iter().position(|other| other.point == group.point).unwrap_or(0);
        group.x.filter(|_| self.is_swept).unwrap_or_else(|| place() as f64)
    }

    fn axis(&self) -> Axis {
        let ticks: Vec<(f64, String)> = if self.is_swept {
            self.summary.places()
        } else {
            let system = |group: &Group| match (self.summary.systems.len(), group.label.as_str()) {
                (1, "") => "all".to_owned(),
                (1, label) => label.to_owned(),
                (_, label) => format!("{} {label}", self.summary.systems[group.system]),
            };
            self.summary.groups.iter().map(|group| (self.x(group), system(group))).collect()
        };
        let label = self.summary.run.axis.as_ref().filter(|_| self.is_swept).map_or("", |axis| &axis.label);
        let (low, high) = (ticks.first().map_or(0.0, |tick| tick.0), ticks.last().map_or(1.0, |tick| tick.0));
        // Dots at the ends stand clear of the frame.
        let spare = ((high - low) * 0.03).max(1e-9);
        let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low - spare, high + spare) };
        Axis { label: label.to_owned(), scale: Scale::Linear, low, high, ticks }
    }

    /// A curve of one figure of a system's groups.
    fn curve(
        &self,
        system: usize,
        name: &str,
        ink: Ink,
        of: impl Fn(&Point) -> Option<f64>,
        word: fn(f64) -> String,
    ) -> Curve {
        let spot = |group: &Group| {
            let figure = group.figure(&of)?;
            let tip = format!("{} {name}: {}", group.label, told(figure, group.rows.len(), word));
            Some(Spot { x: self.x(group), y: figure.middle, range: figure.range(), tip })
        };
        let spots = self.summary.along(system).filter_map(spot).collect();
        Curve {
            name: name.to_owned(),
            ink,
            dash: Dash::Solid,
            is_joined: self.is_swept,
            has_dots: true,
            spots,
        }
    }

    fn chart(&self, name: &str, title: &str, subtitle: &str, y: Axis, curves: Vec<Curve>) -> Chart {
        Chart {
            name: name.to_owned(),
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            x: self.axis(),
            y,
            curves,
            bands: Vec::new(),
            flags: Vec::new(),
        }
    }

    fn named(&self, system: usize, what: &str) -> String {
        if self.summary.systems.len() == 1 {
            what.to_owned()
        } else {
            format!("{} {what}", self.summary.systems[system]).trim().to_owned()
        }
    }
}

/// A figure in words: its middle, and the range of its repeats.
fn told(figure: Figure, repeats: usize, word: fn(f64) -> String) -> String {
    match figure.range() {
        Some((low, high)) => {
            format!("{} ({} to {} in {repeats} repeats)", word(figure.middle), word(low), word(high))
        }
        None => word(figure.middle),
    }
}

fn values(curves: &[Curve]) -> impl Iterator<Item = f64> {
    let ends = |spot: &Spot| [spot.y, spot.range.map_or(spot.y, |range| range.1)];
    curves.iter().flat_map(|curve| curve.spots.iter().flat_map(ends)).collect::<Vec<_>>().into_iter()
}

fn latency(summary: &Summary) -> Option<Chart> {
    let across = Across::of(summary);
    let mut curves = Vec::new();
    let count = summary.systems.len();
    for system in 0..count {
        for (place, (name, of)) in PERCENTILES.iter().enumerate() {
            // Of several systems the middle and the tail: four curves each would hide each other.
            if count > 1 && place % 2 == 1 {
                continue;
            }
            let ink = if count > 1 { Ink::Series(system) } else { Ink::ramp(place, PERCENTILES.len()) };
            let mut curve = across.curve(system, &across.named(system, name), ink, of, micros);
            if count > 1 && place == 2 {
                curve.dash = Dash::Dashed;
            }
            curves.push(curve);
        }
    }
    let low = curves.iter().flat_map(|curve| &curve.spots);
    let low = low.map(|spot| spot.range.map_or(spot.y, |range| range.0)).collect::<Vec<_>>();
    let y = Axis::over("", Scale::Log, values(&curves).chain(low), micros);
    let title = match &summary.run.axis {
        Some(axis) if across.is_swept => format!("Commit latency against {}", axis.label),
        _ => "Commit latency".to_owned(),
    };
    let subtitle =
        "from sending an operation to its answer; a logarithmic scale; whiskers: range of the repeats";
    Some(across.chart("latency", &title, subtitle, y, curves))
}

fn operations(summary: &Summary) -> Option<Chart> {
    let across = Across::of(summary);
    let curve = |system| {
        let name = across.named(system, "operations a second");
        across.curve(system, &name, Ink::Series(system), |row| Some(row.ops_per_s), plain)
    };
    let curves: Vec<Curve> = (0..summary.systems.len()).map(curve).collect();
    let y = Axis::over("", Scale::Linear, values(&curves), plain);
    let subtitle = match summary.run.settings.rate {
        Some(rate) => format!("operations answered a second, of {rate} asked for"),
        None => format!(
            "operations answered a second, {} clients one after the other",
            summary.run.settings.clients
        ),
    };
    Some(across.chart("throughput", "Throughput", &subtitle, y, curves))
}

fn percentile_curves(summary: &Summary) -> Option<Chart> {
    // p at which -log10(1 - p) is the place.
    let nines =
        [(0.0, "0 %"), (0.301, "50 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")];
    let count = summary.groups.len();
    let mut curves = Vec::new();
    for (place, group) in summary.groups.iter().enumerate() {
        let latencies = group.latencies();
        let last = (latencies.len() as f64).log10().clamp(0.5, 4.3);
        let spot = |step: u32| {
            let nines = last * f64::from(step) / 60.0;
            let part = 1.0 - 10f64.powf(-nines);
            let us = latencies.value_at_quantile(part) as f64 / 1e3;
            let tip = format!("{} {:.2} %: {}", group.label, part * 100.0, micros(us));
            Spot { x: nines, y: us, range: None, tip }
        };
        let spots = if latencies.is_empty() { Vec::new() } else { (0..=60).map(spot).collect() };
        let is_several = summary.systems.len() > 1;
        let along = summary.along(group.system).count();
        let at = summary.along(group.system).position(|other| other.point == group.point).unwrap_or(0);
        let label = if group.label.is_empty() { "all".to_owned() } else { group.label.clone() };
        let name = if is_several { format!("{} {label}", summary.systems[group.system]) } else { label };
        // Of many systems at many values, the first and the last value of each.
        if is_several && count > 8 && at != 0 && at + 1 != along {
            continue;
        }
        let ink = if is_several { Ink::Series(group.system) } else { Ink::ramp(place, count) };
        let dash = if is_several && at > 0 { Dash::Dashed } else { Dash::Solid };
        curves.push(Curve { name, ink, dash, is_joined: true, has_dots: false, spots });
    }
    let low = curves.iter().flat_map(|curve| curve.spots.first()).map(|spot| spot.y).collect::<Vec<_>>();
    let y = Axis::over("", Scale::Log, values(&curves).chain(low), micros);
    let ticks: Vec<(f64, String)> = nines.map(|(place, word)| (place, word.to_owned())).to_vec();
    let x = Axis {
        label: "share of operations that were at least as quick".into(),
        scale: Scale::Linear,
        low: 0.0,
        high: 4.35,
        ticks,
    };
    Some(Chart {
        name: "percentiles".to_owned(),
        title: "Latency by percentile".to_owned(),
        subtitle: "each step to the right is ten times rarer; all repeats together".to_owned(),
        x,
        y,
        curves,
        bands: Vec::new(),
        flags: Vec::new(),
    })
}

fn per_commit(summary: &Summary, name: &str, title: &str, of: fn(&Point) -> Option<u64>) -> Option<Chart> {
    let across = Across::of(summary);
    let each = |row: &Point| {
        let sent = of(row)?;
        (row.commits > 0).then(|| sent as f64 / row.commits as f64)
    };
    let curve = |system| {
        let name = across.named(system, title);
        across.curve(system, &name, Ink::Series(system), each, plain)
    };
    let curves: Vec<Curve> =
        (0..summary.systems.len()).map(curve).filter(|curve| !curve.spots.is_empty()).collect();
    let y = Axis::over("", Scale::Linear, values(&curves), plain);
    let subtitle = "what the nodes sent, to each other and to clients, heartbeats and acknowledgements too";
    Some(across.chart(&format!("{name}-per-commit"), title, subtitle, y, curves))
}

fn ratios(summary: &Summary) -> Option<Chart> {
    let across = Across::of(summary);
    let per = |count: Option<u64>, row: &Point| {
        let datagrams = row.datagrams.filter(|datagrams| *datagrams > 0)?;
        Some(count? as f64 / datagrams as f64)
    };
    let mut curves = Vec::new();
    for system in 0..summary.systems.len() {
        let ink = |place| if summary.systems.len() == 1 { Ink::Series(place) } else { Ink::Series(system) };
        let again = across.named(system, "sent again");
        curves.push(across.curve(system, &again, ink(0), |row| per(row.retransmits, row), share));
        let twice = across.named(system, "came twice");
        let mut curve = across.curve(system, &twice, ink(1), |row| per(row.duplicates, row), share);
        curve.dash = Dash::Dashed;
        curves.push(curve);
    }
    curves.retain(|curve| !curve.spots.is_empty());
    let y = Axis::over("", Scale::Linear, values(&curves), share);
    let subtitle = "parts of calls sent again, and calls that came more than once, per datagram sent";
    Some(across.chart("repetition", "Sent again, and come twice", subtitle, y, curves))
}

fn failovers(summary: &Summary) -> Option<Chart> {
    let across = Across::of(summary);
    let mut curves = Vec::new();
    for system in 0..summary.systems.len() {
        let mut all = Vec::new();
        let mut middles = Vec::new();
        for group in summary.along(system) {
            let x = across.x(group);
            let times: Vec<f64> =
                group.rows.iter().flat_map(|row| &row.failovers_us).map(|us| *us as f64).collect();
            let spot = |us: &f64| Spot {
                x,
                y: *us,
                range: None,
                tip: format!("{}: {} without a leader that commits", group.label, micros(*us)),
            };
            all.extend(times.iter().map(spot));
            if let Some(figure) = Figure::of(times.iter().copied()) {
                let tip = format!("{} median of {}: {}", group.label, times.len(), micros(figure.middle));
                middles.push(Spot { x, y: figure.middle, range: None, tip });
            }
        }
        let ink = Ink::Series(system);
        let each = across.named(system, "each failover");
        let dash = Dash::Solid;
        curves.push(Curve { name: each, ink, dash, is_joined: false, has_dots: true, spots: all });
        if middles.len() > 1 {
            let name = across.named(system, "median");
            let dash = Dash::Dashed;
            curves.push(Curve { name, ink, dash, is_joined: true, has_dots: false, spots: middles });
        }
    }
    curves.retain(|curve| !curve.spots.is_empty());
    let y = Axis::over("", Scale::Linear, values(&curves), micros);
    let subtitle = "from the loss of a leader to the first commit under the next";
    (!curves.is_empty()).then(|| across.chart("failovers", "Failover times", subtitle, y, curves))
}

/// What happened second by second, with what befell the cluster: of the first repeat of each group that something
/// befell; of the first and last one where nothing did.
fn timelines(summary: &Summary) -> Vec<Chart> {
    let is_eventful = |group: &&Group| group.events.iter().any(|event| event.at_us > 0);
    let mut groups: Vec<&Group> = summary.groups.iter().filter(is_eventful).collect();
    if groups.is_empty() {
        groups.extend(summary.groups.first());
        groups.extend(summary.groups.last().filter(|_| summary.groups.len() > 1));
    }
    let seconds = summary.groups.iter().flat_map(|group| &group.seconds);
    let most = seconds.map(|second| second.ops as f64).fold(0.0, f64::max);
    let both =
        |group: &Group| [throughput_over_time(summary, group, most), latency_over_time(summary, group)];
    groups.into_iter().take(TIMELINES_MAX).flat_map(both).collect()
}

/// A chart over a group's seconds, of its first repeat, without curves.
fn over_time(summary: &Summary, group: &Group, name: &str, title: &str, y: Axis) -> Chart {
    let mine = first_repeat(group);
    let begin = mine.first().map_or(0.0, |second| second.second as f64);
    let end = mine.last().map_or(1.0, |second| second.second as f64 + 1.0);
    let x = Axis::over("seconds", Scale::Linear, [begin, end].into_iter(), plain).between(begin, end);
    let repeat = group.rows.first().map_or(0, |row| row.repeat);
    let (bands, flags) = marks(&group.events, repeat, end);
    let label = match summary.systems.len() {
        1 => group.label.clone(),
        _ => format!("{} {}", summary.systems[group.system], group.label),
    };
    let of = if label.is_empty() || summary.groups.len() == 1 { String::new() } else { format!(": {label}") };
    Chart {
        name: format!("{name}-p{}", group.point),
        title: format!("{title}{of}"),
        subtitle: "each second; shaded: faults, nodes that are down, time without a leader; flags: who leads"
            .to_owned(),
        x,
        y,
        curves: Vec::new(),
        bands,
        flags,
    }
}

fn first_repeat(group: &Group) -> Vec<&Second> {
    let repeat = group.rows.first().map_or(0, |row| row.repeat);
    group.seconds.iter().filter(|second| second.repeat == repeat).collect()
}

fn throughput_over_time(summary: &Summary, group: &Group, most: f64) -> Chart {
    let y = Axis::over("", Scale::Linear, [most].into_iter(), plain);
    let spot = |second: &&Second| {
        let tip = format!("second {}: {} operations answered", second.second, second.ops);
        Spot { x: second.second as f64 + 0.5, y: second.ops as f64, range: None, tip }
    };
    let spots: Vec<Spot> = first_repeat(group).iter().map(spot).collect();
    let mut chart = over_time(summary, group, "timeline", "Operations answered over time", y);
    chart.curves = vec![Curve {
        name: "operations a second".to_owned(),
        ink: Ink::Series(group.system),
        dash: Dash::Solid,
        is_joined: true,
        has_dots: spots.len() <= 40,
        spots,
    }];
    chart
}

fn latency_over_time(summary: &Summary, group: &Group) -> Chart {
    let seconds = first_repeat(group);
    let mut curves = Vec::new();
    for (place, name) in [(0, "p50"), (2, "p99"), (3, "highest")] {
        let spot = |second: &&Second| {
            let us = second.latency_us?[place];
            let tip = format!("second {}: {name} {}", second.second, micros(us));
            Some(Spot { x: second.second as f64 + 0.5, y: us, range: None, tip })
        };
        let spots: Vec<Spot> = seconds.iter().filter_map(spot).collect();
        let (name, ink, has_dots) = (name.to_owned(), Ink::ramp(place, 4), spots.len() <= 40);
        curves.push(Curve { name, ink, dash: Dash::Solid, is_joined: true, has_dots, spots });
    }
    let y = Axis::over("", Scale::Log, values(&curves), micros);
    let mut chart = over_time(summary, group, "latency-over-time", "Latency over time", y);
    chart.curves = curves;
    chart
}

/// Faults and leaderless times as bands, elections and crashes as flags.
fn marks(events: &[Event], repeat: u32, end_s: f64) -> (Vec<Band>, Vec<Flag>) {
    let seconds = |event: &Event| event.at_us as f64 / 1e6;
    let mine: Vec<&Event> = events.iter().filter(|event| event.repeat == repeat).collect();
    let mut bands = Vec::new();
    let mut flags = Vec::new();
    for (place, event) in mine.iter().enumerate() {
        let until = |is_end: &dyn Fn(&Event) -> bool| {
            mine[place..].iter().find(|later| is_end(later)).map_or(end_s, |later| seconds(later))
        };
        let node = event.node.map(|node| format!(" of node {node}")).unwrap_or_default();
        let from = seconds(event);
        match event.kind {
            EventKind::Fault => {
                let to = until(&|later| later.kind == EventKind::Heal && later.text == event.text);
                bands.push(Band { from, to, ink: Ink::Bad, text: event.text.clone() });
            }
            EventKind::NoLeader => {
                let to = until(&|later| later.kind == EventKind::Leader);
                let text = format!("no leader for {}", micros((to - from) * 1e6));
                bands.push(Band { from, to, ink: Ink::Candidate, text });
            }
            EventKind::Crash | EventKind::Pause => {
                let back = [EventKind::Start, EventKind::Resume];
                let to = until(&|later| back.contains(&later.kind) && later.node == event.node);
                let what = if event.kind == EventKind::Crash { "crash" } else { "pause" };
                let text = format!("{what}{node}");
                bands.push(Band { from, to, ink: Ink::Follower, text: text.clone() });
                flags.push(Flag { at: from, ink: Ink::Bad, text, row: 0 });
            }
            EventKind::Leader => {
                let who = event.node.map_or_else(|| "leader".to_owned(), |node| format!("node {node} leads"));
                let term = event.term.map(|term| format!(", term {term}")).unwrap_or_default();
                flags.push(Flag { at: from, ink: Ink::Leader, text: format!("{who}{term}"), row: 1 });
            }
            EventKind::Membership => {
                flags.push(Flag { at: from, ink: Ink::Series(3), text: event.text.clone(), row: 0 });
            }
            _ => {}
        }
    }
    (bands, flags)
}
