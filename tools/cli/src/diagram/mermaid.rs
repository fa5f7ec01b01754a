//! A window as a sequence diagram in Mermaid's words, for issues and documents.

use std::fmt::Write as _;

use crate::diagram::{Arrow, Fate, History, Standing, Window};

/// More arrows than these nobody reads.
pub(crate) const ARROWS_MAX: usize = 500;

/// The window, in the order in which things happened, at most [`ARROWS_MAX`] arrows of it.
pub(crate) fn mermaid(history: &History, window: Window) -> String {
    let mut out = "sequenceDiagram\n".to_owned();
    for (place, lane) in history.lanes.iter().enumerate() {
        let _ = writeln!(out, "    participant l{place} as {}", lane.name);
    }
    let mut lines: Vec<(u64, String)> =
        history.within(window).take(ARROWS_MAX).map(|arrow| (arrow.sent_ns, line(history, arrow))).collect();
    let is_within = |at_ns: u64| (window.from_ns..=window.to_ns).contains(&at_ns);
    for lane in (0u8..).take(history.lanes.len()) {
        let spans = history.spans(lane);
        for (at_ns, _, state) in spans.into_iter().filter(|(at_ns, ..)| is_within(*at_ns)) {
            let term = if state.standing == Standing::Down {
                String::new()
            } else {
                format!(", term {}", state.term)
            };
            lines.push((at_ns, format!("Note over l{lane}: {}{term}", state.standing.name())));
        }
    }
    for note in history.notes.iter().filter(|note| is_within(note.at_ns)) {
        let lane = note.lane.unwrap_or(0);
        let text = if note.text.is_empty() { String::new() } else { format!(" {}", plain(&note.text)) };
        lines.push((note.at_ns, format!("Note over l{lane}: {}{text}", note.kind)));
    }
    lines.sort_by_key(|(at_ns, _)| *at_ns);
    for (_, line) in lines {
        let _ = writeln!(out, "    {line}");
    }
    out
}

fn line(history: &History, arrow: &Arrow) -> String {
    let how = match (arrow.fate, arrow.is_copy) {
        (Fate::Lost | Fate::Refused | Fate::Dropped, _) => "-x",
        (_, true) => "-->>",
        _ => "->>",
    };
    let mut words = history.kinds.get(usize::from(arrow.kind)).cloned().unwrap_or_default();
    // The line of the first body tells term and index.
    let body = arrow.text.lines().find(|line| line.contains("term=") || line.contains("index="));
    for field in body.into_iter().flat_map(|line| line.split(' ')) {
        if field.starts_with("term=") || field.starts_with("index=") {
            let _ = write!(words, " {field}");
        }
    }
    let marks = [
        (arrow.is_again, "again"),
        (arrow.is_copy, "copy"),
        (arrow.is_damaged, "damaged"),
        (arrow.fate == Fate::Lost, "lost"),
        (arrow.fate == Fate::Dropped, "dropped"),
        (arrow.fate == Fate::Refused, "refused by the socket"),
    ];
    let marks: Vec<&str> = marks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, word)| word).collect();
    if !marks.is_empty() {
        let _ = write!(words, " ({})", marks.join(", "));
    }
    format!("l{}{how}l{}: {}", arrow.from, arrow.to, plain(&words))
}

/// Words that end no statement of Mermaid's.
fn plain(text: &str) -> String {
    text.replace([';', '#', '\n'], " ")
}
