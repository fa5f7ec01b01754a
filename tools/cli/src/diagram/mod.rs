//! The space–time diagram: each node a line along which time runs, each datagram an arrow from one line to another.
//!
//! [`gather`] reads traces (docs/trace.md) and lays what happened out as a [`History`]: lanes, arrows from where a
//! datagram was sent to what became of it, states along the lanes, and notes. From that come
//! - a page ([`page`]) in which a window of time moves over all of it: [`pack`] writes the history down as columns of
//!   numbers, compressed, which the page's script draws from, so that a million events stay usable;
//! - pictures of one window ([`still`]), as SVG or PNG;
//! - the same window as a sequence diagram in Mermaid's words ([`mermaid`]).

mod gather;
mod kind;
mod mermaid;
mod pack;
mod page;
mod still;

pub(crate) use gather::gather;
pub(crate) use mermaid::{ARROWS_MAX as MERMAID_ARROWS_MAX, mermaid};
pub(crate) use page::{PARTS_CSS, PARTS_JS, element, page};
pub(crate) use still::{ARROWS_MAX as STILL_ARROWS_MAX, still};

/// What is known of a cluster over a while.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct History {
    pub(crate) lanes: Vec<Lane>,
    /// The kinds of datagrams that occur, by name; arrows name their places.
    pub(crate) kinds: Vec<String>,
    /// In the order of their begins.
    pub(crate) arrows: Vec<Arrow>,
    /// In the order of their times.
    pub(crate) states: Vec<LaneState>,
    pub(crate) notes: Vec<Note>,
    /// What the files are of, in words.
    pub(crate) source: String,
    /// Events that the recorders left out.
    pub(crate) left_out: u64,
    /// The last time of all; the first is 0.
    pub(crate) end_ns: u64,
}

/// Who sends and receives: a node, a client, or all clients when they are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) is_node: bool,
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrow {
    pub(crate) sent_ns: u64,
    /// When it arrived; of a lost one, when it would have.
    pub(crate) end_ns: u64,
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) kind: u8,
    pub(crate) fate: Fate,
    /// Some of it was sent before, in another datagram.
    pub(crate) is_again: bool,
    /// The network made it of another one.
    pub(crate) is_copy: bool,
    /// The network changed its bytes.
    pub(crate) is_damaged: bool,
    /// One of its ends is not in the files: its time is a guess.
    pub(crate) is_guess: bool,
    /// What it holds and what became of it, a frame a line.
    pub(crate) text: String,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Lost,
    /// It came, and its receiver did not take it.
    Dropped,
    /// The sender's socket did not take it.
    Refused,
    /// The files do not tell.
    Unknown,
}

/// What a node is, from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneState {
    pub(crate) at_ns: u64,
    pub(crate) lane: u8,
    pub(crate) standing: Standing,
    pub(crate) term: u64,
    pub(crate) commit: u64,
    /// Whether the commit index rose.
    pub(crate) is_commit: bool,
    pub(crate) text: String,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
    /// It does not run.
    Down,
}

impl Standing {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Down => "down",
        }
    }
}

/// Something else that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) at_ns: u64,
    pub(crate) lane: Option<u8>,
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// A span of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
}

impl History {
    /// What the window shows of the arrows.
    pub(crate) fn within(&self, window: Window) -> impl Iterator<Item = &Arrow> {
        let Window { from_ns, to_ns } = window;
        let end = self.arrows.partition_point(|arrow| arrow.sent_ns <= to_ns);
        self.arrows[..end].iter().filter(move |arrow| arrow.end_ns >= from_ns)
    }

    /// All of it when that is little; else what surrounds the first leader, with about so many arrows.
    pub(crate) fn first_window(&self, arrows: usize) -> Window {
        let whole = Window { from_ns: 0, to_ns: self.end_ns };
        if self.arrows.len() <= arrows {
            return whole;
        }
        let leader = self.states.iter().find(|state| state.standing == Standing::Leader);
        let middle = leader.map_or(0, |state| state.at_ns);
        let place = self.arrows.partition_point(|arrow| arrow.sent_ns < middle);
        let first = place.saturating_sub(arrows / 2).min(self.arrows.len() - arrows);
        Window { from_ns: self.arrows[first].sent_ns, to_ns: self.arrows[first + arrows - 1].end_ns }
    }

    /// The states of a lane as spans: from when to when it was what.
    pub(crate) fn spans(&self, lane: u8) -> Vec<(u64, u64, &LaneState)> {
        let mut spans: Vec<(u64, u64, &LaneState)> = Vec::new();
        for state in self.states.iter().filter(|state| state.lane == lane) {
            if let Some((_, end, last)) = spans.last_mut() {
                if (last.standing, last.term) == (state.standing, state.term) {
                    continue;
                }
                *end = state.at_ns;
            }
            spans.push((state.at_ns, self.end_ns, state));
        }
        spans
    }
}
