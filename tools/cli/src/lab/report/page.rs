//! `report.html`: one file with everything in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::diagram;
use crate::lab::report::Traced;
use crate::lab::report::summary::{Figure, Group, Summary};
use crate::lab::run_folder::{Ground, Point, Run, State};
use crate::picture::{Chart, escaped, inline_svg, micros, plain, share, style_sheet};

const BASE_CSS: &str = include_str!("base.css");
const CSS: &str = include_str!("report.css");
const JS: &str = include_str!("report.js");

/// The page. `shown` is the diagram that stands in it, `diagrams` are the pages of all.
pub(super) fn page(
    summary: &Summary,
    charts: &[Chart],
    shown: Option<&Traced>,
    diagrams: &[String],
) -> String {
    let run = &summary.run;
    let (style, diagram_css) = (style_sheet(), diagram::PARTS_CSS);
    let title = escaped(&run.title);
    let mut body = String::new();
    body.push_str(&head(summary));
    body.push_str("<main>\n");
    body.push_str(&cards(summary));
    body.push_str(&pictures(charts));
    body.push_str(&space_time(shown, diagrams));
    body.push_str(&figures(summary));
    body.push_str(&drops(summary));
    body.push_str(&conditions(summary));
    body.push_str("</main>\n");
    let diagram_js = if shown.is_some() { diagram::PARTS_JS } else { "" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}{BASE_CSS}{CSS}{diagram_css}</style>\n</head>\n<body>\n{body}\
         <div id=\"point\" hidden></div>\n<script>\n{JS}{diagram_js}</script>\n</body>\n</html>\n"
    )
}

fn head(summary: &Summary) -> String {
    let run = &summary.run;
    let ground = match (run.on, run.is_deterministic) {
        (Ground::Simulator, true) => format!(
            "<span class=\"badge good\">simulated: seed {} gives these figures again, to the digit</span>",
            run.seed
        ),
        _ => "<span class=\"badge\">real processes: another run gives other figures; repeats show how far apart</span>"
            .to_owned(),
    };
    let partial = if run.state == State::Partial {
        let why = run.why_partial.as_deref().unwrap_or("it is still running, or was killed");
        format!(
            "<p class=\"banner\"><b>Partial:</b> {} of {} runs were done. {}</p>\n",
            run.runs_done,
            run.runs_planned,
            escaped(why)
        )
    } else {
        String::new()
    };
    format!(
        "<header>\n<button id=\"theme\" title=\"light or dark\">◐</button>\n<h1>{}</h1>\n<p>{}</p>\n\
         <p class=\"badges\">{ground}<span class=\"badge\">{} runs in {:.0} s</span></p>\n{partial}</header>\n",
        escaped(&run.title),
        escaped(&run.about),
        run.runs_done,
        run.elapsed_s
    )
}

/// The few figures that a reader came for.
fn cards(summary: &Summary) -> String {
    let mut cards: Vec<(String, String, String)> = Vec::new();
    for (place, system) in summary.systems.iter().enumerate().take(3) {
        let groups: Vec<&Group> = summary.along(place).collect();
        let ends: Vec<&&Group> = match groups.as_slice() {
            [only] => vec![only],
            [first, .., last] => vec![first, last],
            [] => continue,
        };
        for group in ends {
            let whose = if summary.systems.len() == 1 { String::new() } else { format!("{system}, ") };
            let at = match (&summary.run.axis, group.label.as_str()) {
                (Some(axis), label) => format!("{whose}{label} {}", axis.label),
                (None, label) => format!("{whose}{label}"),
            };
            let p99 = group.figure(|row| Some(row.latency_us?.p99));
            let Some(p50) = group.figure(|row| Some(row.latency_us?.p50)) else { continue };
            let tail = p99.map_or_else(String::new, |p99| format!("p99 {}", micros(p99.middle)));
            cards.push((micros(p50.middle), format!("median commit; {tail}"), at));
        }
    }
    let rows = || summary.groups.iter().flat_map(|group| &group.rows);
    let ops: u64 = rows().map(|row| row.ops).sum();
    let unknown: u64 = rows().map(|row| row.unknown + row.errors).sum();
    cards.push((
        plain(ops as f64),
        format!("operations answered; {unknown} failed or unknown"),
        String::new(),
    ));
    let failovers = rows().flat_map(|row| &row.failovers_us).map(|us| *us as f64);
    if let Some(figure) = Figure::of(failovers) {
        cards.push((
            micros(figure.middle),
            "median failover".to_owned(),
            format!("longest {}", micros(figure.high)),
        ));
    }
    let card = |(value, what, at): (String, String, String)| {
        format!(
            "<div class=\"card\"><b>{}</b><span>{}</span><small>{}</small></div>\n",
            escaped(&value),
            escaped(&what),
            escaped(&at)
        )
    };
    format!("<div class=\"cards\">\n{}</div>\n", cards.into_iter().map(card).collect::<String>())
}

fn pictures(charts: &[Chart]) -> String {
    let figure = |chart: &Chart| {
        format!(
            "<figure>{}<figcaption><a href=\"{name}.svg\">SVG</a> <a href=\"{name}.png\">PNG</a></figcaption>\
             </figure>\n",
            inline_svg(&chart.scene()),
            name = chart.name
        )
    };
    let (timelines, others): (Vec<&Chart>, Vec<&Chart>) =
        charts.iter().partition(|chart| chart.name.contains("time"));
    let mut out = String::new();
    let all = |charts: Vec<&Chart>| charts.into_iter().map(figure).collect::<String>();
    let _ = write!(out, "<div class=\"charts\">\n{}</div>\n", all(others));
    if !timelines.is_empty() {
        let _ = write!(out, "<h2>Over time</h2>\n<div class=\"charts\">\n{}</div>\n", all(timelines));
    }
    out
}

fn space_time(shown: Option<&Traced>, diagrams: &[String]) -> String {
    if diagrams.is_empty() {
        return String::new();
    }
    let link = |name: &String| format!("<a href=\"{name}\">{}</a> ", name.trim_end_matches(".html"));
    let links: String = diagrams.iter().map(link).collect();
    let (label, element) = shown.map_or_else(
        || ("too large to stand in this page".to_owned(), String::new()),
        |traced| (traced.label.clone(), diagram::element(&traced.history)),
    );
    format!(
        "<h2>Space–time diagram <small>{}</small></h2>\n<p class=\"explained\">Each node is a line, each datagram an \
         arrow; a red cross is one that was lost, a ring at its begin says that it was sent again. Gold: the leader. \
         Point at an arrow for its frames, click and turn the wheel to zoom, drag to move. Pages of their own: \
         {links}</p>\n{element}",
        escaped(&label)
    )
}

type Column = (&'static str, fn(&Point) -> Option<f64>, fn(f64) -> String);

const COLUMNS: [Column; 13] = [
    ("ops/s", |row| Some(row.ops_per_s), plain),
    ("p50", |row| Some(row.latency_us?.p50), micros),
    ("p90", |row| Some(row.latency_us?.p90), micros),
    ("p99", |row| Some(row.latency_us?.p99), micros),
    ("p99.9", |row| Some(row.latency_us?.p999), micros),
    ("max", |row| Some(row.latency_us?.max), micros),
    ("datagrams/commit", |row| per_commit(row.datagrams, row), plain),
    ("bytes/commit", |row| per_commit(row.datagram_bytes, row), plain),
    ("sent again", |row| Some(row.retransmits? as f64 / row.datagrams.filter(|n| *n > 0)? as f64), share),
    ("elections", |row| Some(row.elections as f64), plain),
    ("longest gap", |row| Some(row.longest_gap_us as f64), micros),
    ("unknown", |row| Some(row.unknown as f64), plain),
    ("failed", |row| Some(row.errors as f64), plain),
];

fn per_commit(sent: Option<u64>, row: &Point) -> Option<f64> {
    sent.filter(|_| row.commits > 0).map(|sent| sent as f64 / row.commits as f64)
}

/// Every figure of every group, with the range of its repeats to point at.
fn figures(summary: &Summary) -> String {
    let headings: String = COLUMNS.iter().map(|(name, ..)| format!("<th>{name}</th>")).collect();
    let mut rows = String::new();
    for group in &summary.groups {
        let mut cells = String::new();
        for (_, of, word) in COLUMNS {
            let _ = match group.figure(of) {
                Some(figure) if figure.range().is_some() => write!(
                    cells,
                    "<td data-tip=\"{} to {} in {} repeats\">{}</td>",
                    word(figure.low),
                    word(figure.high),
                    group.rows.len(),
                    word(figure.middle)
                ),
                Some(figure) => write!(cells, "<td>{}</td>", word(figure.middle)),
                None => write!(cells, "<td class=\"none\">–</td>"),
            };
        }
        let _ = writeln!(
            rows,
            "<tr><th>{}</th><td>{}</td>{cells}</tr>",
            escaped(&summary.systems[group.system]),
            escaped(&group.label)
        );
    }
    format!(
        "<h2>Every figure <small>median of the repeats; point at one for their range</small></h2>\n\
         <div class=\"wide\"><table>\n<tr><th>system</th><th>at</th>{headings}</tr>\n{rows}</table></div>\n"
    )
}

/// What receivers did not take, by reason.
fn drops(summary: &Summary) -> String {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for node in summary.groups.iter().flat_map(|group| &group.nodes) {
        for (reason, count) in &node.drops {
            *reasons.entry(reason.as_str()).or_default() += count;
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let row =
        |(reason, count): (&str, u64)| format!("<tr><th>{}</th><td>{count}</td></tr>\n", escaped(reason));
    let rows: String = reasons.into_iter().map(row).collect();
    format!(
        "<h2>Datagrams that nodes dropped, by reason</h2>\n<div class=\"wide\"><table>\n{rows}</table></div>\n"
    )
}

/// Everything that it takes to run this again.
fn conditions(summary: &Summary) -> String {
    let blocks: String = summary.runs.iter().map(condition).collect();
    format!(
        "<h2>How it was run</h2>\n{blocks}<p class=\"explained\">Files: <a href=\"run.json\">run.json</a> \
         <a href=\"points.jsonl\">points.jsonl</a> <a href=\"series.csv\">series.csv</a> \
         <a href=\"events.jsonl\">events.jsonl</a> <a href=\"scenario.toml\">scenario.toml</a></p>\n"
    )
}

fn condition(run: &Run) -> String {
    let settings = &run.settings;
    let rate = settings.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate} a second"));
    let buffers: Vec<String> =
        run.host.socket_buffers.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    let commit = run.commit.clone().unwrap_or_else(|| "not known".to_owned());
    let us = |us: u64| micros(us as f64);
    let rows = [
        ("command", run.command.clone()),
        ("seed", run.seed.to_string()),
        ("raftgram", format!("{} ({} build)", run.version, run.build)),
        ("beside it", if run.programs.is_empty() { "nothing".to_owned() } else { run.programs.join(", ") }),
        ("commit", if run.is_modified { format!("{commit}, changed since") } else { commit }),
        ("nodes", settings.nodes.to_string()),
        ("fsync", if settings.fsync { "yes" } else { "no" }.to_owned()),
        ("clients", format!("{} clients, {rate}", settings.clients)),
        ("values", format!("{} bytes, {} keys", settings.value_bytes, settings.keys)),
        ("reads", share(settings.reads)),
        ("measured", format!("{} after {} of warm-up", us(settings.duration_us), us(settings.warm_up_us))),
        ("repeats", run.repeats.to_string()),
        ("timeout", us(settings.timeout_us)),
        (
            "election timeout",
            format!("{} to {}", us(settings.election_timeout_min_us), us(settings.election_timeout_max_us)),
        ),
        ("heartbeat", us(settings.heartbeat_us)),
        ("faults", if settings.faults.is_empty() { "none".to_owned() } else { settings.faults.join("; ") }),
        ("kernel", run.host.kernel.clone()),
        ("processors", format!("{} × {}", run.host.processors, run.host.processor)),
        ("memory", format!("{} GiB", plain(run.host.memory_bytes as f64 / f64::from(1 << 30)))),
        ("socket buffers", buffers.join(", ")),
    ];
    let row =
        |(name, value): &(&str, String)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value));
    format!(
        "<div class=\"wide\"><table class=\"facts\">\n{}</table></div>\n",
        rows.iter().map(row).collect::<String>()
    )
}
