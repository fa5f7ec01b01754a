//! What must hold from line to line.

use core::fmt;
use std::collections::BTreeMap;

use crate::time::Instant;
use crate::trace::event::{Event, What};
use crate::trace::json::Malformed;
use crate::trace::read::read_line;
use crate::trace::state::State;
use crate::types::NodeId;

/// Why a line cannot stand where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is no line of a trace.
    Malformed(Malformed),
    /// The first line is not a header, or another line is.
    HeaderPlace,
    /// Its time is before that of the line before.
    TimeRunsBack {
        /// The line before.
        last: Instant,
        /// This one.
        at: Instant,
    },
    /// A node's state is told before its boot.
    NoBoot {
        /// Which.
        node: NodeId,
    },
    /// A number that never falls fell.
    Fell {
        /// Whose.
        node: NodeId,
        /// Which.
        what: &'static str,
        /// From where.
        from: u64,
        /// To where.
        to: u64,
    },
    /// A node's state contradicts itself.
    Impossible {
        /// Whose.
        node: NodeId,
        /// What it should be.
        rule: &'static str,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => fmt::Display::fmt(why, f),
            Self::HeaderPlace => f.write_str("a trace has one header, and it is the first line"),
            Self::TimeRunsBack { last, at } => write!(f, "time runs back from {last} to {at}"),
            Self::NoBoot { node } => write!(f, "a state of {node} before its boot"),
            Self::Fell { node, what, from, to } => write!(f, "the {what} of {node} fell from {from} to {to}"),
            Self::Impossible { node, rule } => write!(f, "the state of {node} is impossible: {rule}"),
        }
    }
}

impl core::error::Error for Fault {}

impl From<Malformed> for Fault {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By name.
    pub events: BTreeMap<&'static str, u64>,
    /// By outcome, and reason where there is one.
    pub datagrams: BTreeMap<(&'static str, Option<&'static str>), u64>,
    /// Datagrams that were sent again.
    pub retransmissions: u64,
    /// Events that the recorder left out.
    pub left_out: u64,
}

impl Counts {
    /// All events, the header included.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.events.values().sum()
    }

    fn count(&mut self, event: &Event) {
        *self.events.entry(event.name()).or_default() += 1;
        match &event.what {
            What::Datagram(datagram) => {
                let outcome = (datagram.outcome.name(), datagram.outcome.reason());
                *self.datagrams.entry(outcome).or_default() += 1;
                self.retransmissions += u64::from(datagram.is_retransmission == Some(true));
            }
            What::Gap { events } => self.left_out += events,
            _ => {}
        }
    }
}

/// Reads a file line by line.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    counts: Counts,
    last: Option<Instant>,
    /// What was told last of each node that booted; nothing yet right after a boot, when even what was durable may
    /// have been taken from it.
    nodes: BTreeMap<NodeId, Option<State>>,
}

impl Checker {
    /// Takes in the next line.
    ///
    /// # Errors
    /// Why it cannot stand here; later lines can be checked all the same.
    pub fn line(&mut self, line: &str) -> Result<Event, Fault> {
        let event = read_line(line)?;
        let is_first = self.last.is_none();
        let last = *self.last.get_or_insert(event.at);
        self.last = Some(last.max(event.at));
        self.counts.count(&event);
        if is_first != matches!(event.what, What::Header(_)) {
            return Err(Fault::HeaderPlace);
        }
        if event.at < last {
            return Err(Fault::TimeRunsBack { last, at: event.at });
        }
        match (&event.what, event.node) {
            (What::Boot(_), Some(node)) => {
                self.nodes.insert(node, None);
            }
            (What::Change(_, state), Some(node)) => self.change(node, state)?,
            _ => {}
        }
        Ok(event)
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn change(&mut self, node: NodeId, state: &State) -> Result<(), Fault> {
        let Some(seen) = self.nodes.get_mut(&node) else { return Err(Fault::NoBoot { node }) };
        let Some(before) = seen.replace(state.clone()) else { return possible(node, state) };
        let pairs = [
            ("term", before.term.0, state.term.0),
            ("durable term", before.durable.term.0, state.durable.term.0),
            ("commit index", before.commit.0, state.commit.0),
            ("log's base", before.base.0, state.base.0),
        ];
        match pairs.into_iter().find(|(_, from, to)| to < from) {
            Some((what, from, to)) => Err(Fault::Fell { node, what, from, to }),
            None => possible(node, state),
        }
    }
}

/// What one state must hold by itself.
fn possible(node: NodeId, state: &State) -> Result<(), Fault> {
    let rules = [
        (state.durable.term <= state.term, "the durable term is at most the term"),
        (state.commit <= state.last_index, "the commit index is at most the last index"),
        (state.base <= state.last_index, "the log's base is at most the last index"),
        (state.last_term <= state.term, "the last entry's term is at most the term"),
        (state.durable.last_index <= state.last_index, "what is durable of the log is in it"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(Fault::Impossible { node, rule }),
        None => Ok(()),
    }
}
