//! A view as lines of words, each with a tone.

use crate::picture::{micros, plain as number, share};
use crate::top::view::{View, by_reason};

/// How a word is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// A heading.
    Strong,
    /// What only helps.
    Faint,
    Leader,
    Candidate,
    Bad,
    Curve,
}

impl Tone {
    /// The terminal's code for it.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Leader => "1;33",
            Self::Candidate => "35",
            Self::Bad => "1;31",
            Self::Curve => "36",
        }
    }
}

/// A line of words.
pub(super) type Line = Vec<(Tone, String)>;

const CURVE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// All lines of a view.
pub(super) fn lines(view: &View, asked: &str) -> Vec<Line> {
    let mut lines = vec![headline(view, asked), curve(view), Vec::new()];
    lines.extend(nodes(view));
    if !view.links.is_empty() {
        lines.push(Vec::new());
        lines.extend(links(view));
    }
    lines.push(Vec::new());
    lines.extend(drops(view));
    lines
}

/// What the keys do.
pub(super) fn keys(is_paused: bool) -> Line {
    let mut line = vec![(Tone::Faint, "q quit   space pause".to_owned())];
    if is_paused {
        line.push((Tone::Bad, "   paused".to_owned()));
    }
    line
}

fn headline(view: &View, asked: &str) -> Line {
    let up = view.nodes.iter().filter(|node| node.is_reachable).count();
    let all = view.nodes.len();
    let leader = match view.leader {
        Some(id) => (Tone::Leader, format!("node {id} leads")),
        None => (Tone::Bad, "no leader".to_owned()),
    };
    vec![
        (Tone::Strong, "raftgram top  ".to_owned()),
        leader,
        (Tone::Plain, format!(", term {}  ", view.term)),
        (if up < all { Tone::Bad } else { Tone::Plain }, format!("{up} of {all} nodes answer")),
        (Tone::Faint, format!("  {asked}")),
    ]
}

fn curve(view: &View) -> Line {
    let most = view.commits_per_s.iter().copied().fold(1.0, f64::max);
    // Between 0 and 7.
    let bar = |rate: &f64| CURVE[(rate / most * 7.0).round().clamp(0.0, 7.0) as usize];
    let now = view.commits_per_s.last().copied().unwrap_or(0.0);
    vec![
        (Tone::Plain, format!("{:>7} commits/s  ", number(now))),
        (Tone::Curve, view.commits_per_s.iter().map(bar).collect()),
    ]
}

/// Columns under headings, right-aligned but for the first ones.
fn table(headings: &[&str], left: usize, rows: &[Vec<(Tone, String)>]) -> Vec<Line> {
    let width = |place: usize| {
        let cells = rows.iter().filter_map(|row| row.get(place)).map(|(_, cell)| cell.chars().count());
        cells.chain([headings[place].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let padded = |place: usize, cell: &str| {
        let width = widths[place];
        if place < left { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") }
    };
    let heading = headings.iter().enumerate().map(|(place, word)| (Tone::Strong, padded(place, word)));
    let mut lines: Vec<Line> = vec![heading.collect()];
    for row in rows {
        let cells = row.iter().enumerate().map(|(place, (tone, cell))| (*tone, padded(place, cell)));
        lines.push(cells.collect());
    }
    lines
}

fn nodes(view: &View) -> Vec<Line> {
    let headings = [
        "node",
        "address",
        "role",
        "term",
        "commit",
        "/s",
        "applied",
        "/s",
        "open",
        "received/s",
        "again/s",
        "twice/s",
        "drops/s",
    ];
    let row = |node: &crate::top::view::NodeView| {
        let id = node.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        if !node.is_reachable {
            return vec![
                (Tone::Bad, id),
                (Tone::Bad, node.addr.clone()),
                (Tone::Bad, "no answer".to_owned()),
            ];
        }
        let tone = match node.role.as_str() {
            "leader" => Tone::Leader,
            "candidate" | "pre-candidate" => Tone::Candidate,
            _ => Tone::Plain,
        };
        let quiet = |value: f64| {
            let tone = if value > 0.0 { Tone::Plain } else { Tone::Faint };
            (tone, number(value))
        };
        let bad = |value: f64| (if value > 0.0 { Tone::Bad } else { Tone::Faint }, number(value));
        vec![
            (tone, id),
            (Tone::Plain, node.addr.clone()),
            (tone, node.role.clone()),
            (Tone::Plain, node.term.to_string()),
            (Tone::Plain, node.commit.to_string()),
            quiet(node.commits_per_s),
            (Tone::Plain, node.applied.to_string()),
            quiet(node.applied_per_s),
            quiet(node.open as f64),
            quiet(node.received_per_s),
            quiet(node.retransmits_per_s),
            quiet(node.duplicates_per_s),
            bad(node.drops_per_s),
        ]
    };
    table(&headings, 3, &view.nodes.iter().map(row).collect::<Vec<_>>())
}

fn links(view: &View) -> Vec<Line> {
    let headings = ["link", "rtt", "loss", "sent again", "/s"];
    let row = |link: &crate::top::view::LinkView| {
        let lossy = match link.loss {
            loss if loss >= 0.05 => Tone::Bad,
            loss if loss >= 0.001 => Tone::Candidate,
            _ => Tone::Faint,
        };
        vec![
            (Tone::Plain, format!("{} → {}", link.from, link.to)),
            (Tone::Plain, if link.rtt_us == 0 { "–".to_owned() } else { micros(link.rtt_us as f64) }),
            (lossy, share(link.loss)),
            (Tone::Plain, link.retransmits.to_string()),
            (Tone::Plain, number(link.retransmits_per_s)),
        ]
    };
    table(&headings, 1, &view.links.iter().map(row).collect::<Vec<_>>())
}

fn drops(view: &View) -> Vec<Line> {
    let reasons = by_reason(&view.drops);
    if reasons.is_empty() {
        return vec![vec![(Tone::Faint, "no datagram was dropped".to_owned())]];
    }
    let whose = |reason: &str| {
        let of = view.drops.iter().filter(|drop| drop.reason == reason);
        of.map(|drop| format!("{}:{}", drop.node, drop.count)).collect::<Vec<_>>().join(" ")
    };
    let row = |(reason, (count, per_s)): (&str, (u64, f64))| {
        vec![
            (Tone::Plain, reason.to_owned()),
            (Tone::Faint, whose(reason)),
            (Tone::Plain, count.to_string()),
            (if per_s > 0.0 { Tone::Bad } else { Tone::Faint }, number(per_s)),
        ]
    };
    let rows: Vec<_> = reasons.into_iter().map(row).collect();
    table(&["dropped for", "by node", "datagrams", "/s"], 2, &rows)
}

/// Lines without tones.
pub(super) fn plain(lines: &[Line], columns: usize) -> String {
    let text = |line: &Line| {
        let whole: String = line.iter().map(|(_, word)| word.as_str()).collect();
        let cut: String = whole.trim_end().chars().take(columns.max(20)).collect();
        cut + "\n"
    };
    lines.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::view::{DropView, LinkView, NodeView};

    fn view() -> View {
        let node = |id, role: &str| NodeView {
            id: Some(id),
            addr: format!("127.0.0.1:710{id}"),
            is_reachable: true,
            role: role.to_owned(),
            term: 3,
            commit: 1200,
            commits_per_s: 150.0,
            ..NodeView::default()
        };
        let silent = NodeView { id: Some(3), addr: "127.0.0.1:7103".to_owned(), ..NodeView::default() };
        let drop = |node| DropView { node, reason: "replay".to_owned(), count: 4, per_s: 0.5 };
        View {
            leader: Some(1),
            term: 3,
            nodes: vec![node(1, "leader"), node(2, "follower"), silent],
            links: vec![LinkView {
                from: 1,
                to: 2,
                rtt_us: 180,
                loss: 0.1,
                retransmits: 7,
                retransmits_per_s: 0.0,
            }],
            drops: vec![drop(1), drop(2)],
            commits_per_s: vec![0.0, 75.0, 150.0],
        }
    }

    #[test]
    fn everything_stands_in_its_row() {
        let text = plain(&lines(&view(), "7101"), 200);
        let line = |begin: &str| {
            let found = text.lines().find(|line| line.starts_with(begin));
            let words = found.unwrap_or_else(|| panic!("no `{begin}` in\n{text}")).split_whitespace();
            words.map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("raftgram top"), "raftgram top node 1 leads, term 3 2 of 3 nodes answer 7101");
        assert_eq!(line("    150 commits"), "150 commits/s ▁▅█");
        assert_eq!(line("1     127"), "1 127.0.0.1:7101 leader 3 1200 150 0 0 0 0 0 0 0");
        assert_eq!(line("3     127"), "3 127.0.0.1:7103 no answer");
        assert_eq!(line("1 → 2"), "1 → 2 180 µs 10 % 7 0");
        assert_eq!(line("replay"), "replay 1:4 2:4 8 1");
    }

    #[test]
    fn who_leads_and_who_is_silent_is_seen_from_afar() {
        let lines = lines(&view(), "7101");
        let tone =
            |word: &str| lines.iter().flatten().find(|(_, text)| text.trim() == word).map(|(tone, _)| *tone);
        assert_eq!((tone("leader"), tone("no answer")), (Some(Tone::Leader), Some(Tone::Bad)));
        assert_eq!(tone("10 %"), Some(Tone::Bad));
    }
}
