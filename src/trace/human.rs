//! Events for people: a line each, in the words of the glossary.

use core::fmt;

use crate::time::Instant;
use crate::trace::event::{DatagramEvent, Event, Frame, Source, What};
use crate::trace::state::{Members, State};
use crate::types::NodeId;
use crate::wire::Party;

impl fmt::Display for Event {
    /// `   12.345678ms n1 role leader …`; lines of one file stand under each other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>16} ", Shown(self.at))?;
        if let What::Datagram(datagram) = &self.what {
            return write_datagram(datagram, f);
        }
        if let Some(node) = self.node {
            write!(f, "{node} ")?;
        }
        f.write_str(self.name())?;
        match &self.what {
            What::Header(header) => {
                match header.source {
                    Source::Simulation { seed } => write!(f, " of a simulation, seed={seed}")?,
                    Source::Node { incarnation, .. } => write!(f, " of a node, incarnation={incarnation}")?,
                }
                header.cluster.map_or(Ok(()), |cluster| write!(f, " cluster={cluster}"))
            }
            What::Boot(boot) => {
                write!(f, " incarnation={} store={} at {}", boot.incarnation, boot.store, boot.address)
            }
            What::Change(_, state) => write!(f, " {state}"),
            What::Gap { events } => write!(f, " of {events} events that the recorder left out"),
            What::Note(_, text) if text.is_empty() => Ok(()),
            What::Note(_, text) => write!(f, ": {}", text.escape_debug()),
            What::Datagram(_) => Ok(()),
        }
    }
}

/// A time that can be padded.
struct Shown(Instant);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// A node or nothing.
struct Maybe(Option<NodeId>);

impl fmt::Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(node) => fmt::Display::fmt(&node, f),
            None => f.write_str("none"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, vote, role, leader, commit, base, last_index, last_term, durable, members } = self;
        write!(f, "{role} term={term} vote={} leader={} commit={commit}", Maybe(*vote), Maybe(*leader))?;
        write!(f, " last={last_index}@{last_term}")?;
        if base.0 > 0 {
            write!(f, " base={base}")?;
        }
        write!(f, " durable={} in term {}", durable.last_index, durable.term)?;
        if durable.vote != *vote {
            write!(f, " vote={}", Maybe(durable.vote))?;
        }
        write!(f, " {members}")
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",");
        write!(f, "voters={}", list(&self.voters))?;
        for (name, nodes) in [("outgoing", &self.outgoing), ("learners", &self.learners)] {
            if !nodes.is_empty() {
                write!(f, " {name}={}", list(nodes))?;
            }
        }
        Ok(())
    }
}

/// `n1 -> n2 sent append term=5 index=12 … (packet 77, 70 bytes)`, and what else the datagram holds.
fn write_datagram(datagram: &DatagramEvent, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match datagram.header {
        Some(header) => {
            let end = |party, address| match party {
                Party::Node(node) => node.to_string(),
                Party::Any => format!("{address}"),
            };
            write!(f, "{} -> ", end(header.from, datagram.from_address))?;
            write!(f, "{} ", end(header.to, datagram.to_address))?;
        }
        None => write!(f, "{} -> {} ", datagram.from_address, datagram.to_address)?,
    }
    f.write_str(datagram.outcome.name())?;
    if let Some(reason) = datagram.outcome.reason() {
        write!(f, " ({reason})")?;
    }
    if datagram.frames.is_empty() {
        write!(f, " {}", datagram.kind)?;
    }
    for (place, frame) in datagram.frames.iter().enumerate() {
        write!(f, "{} {frame}", if place == 0 { "" } else { "," })?;
    }
    if datagram.frames_left_out > 0 {
        write!(f, ", {} more frames", datagram.frames_left_out)?;
    }
    match datagram.header {
        Some(header) => write!(f, " (packet {}, {} bytes", header.packet, datagram.bytes)?,
        None => write!(f, " ({} bytes", datagram.bytes)?,
    }
    let again = datagram.is_retransmission == Some(true);
    f.write_str(if again { ", again)" } else { ")" })
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_ref().unwrap_or(&self.name))?;
        if let Some(answer) = &self.answer {
            write!(f, " {answer}")?;
        }
        self.numbers.iter().try_for_each(|(name, number)| write!(f, " {name}={number}"))?;
        self.call.map_or(Ok(()), |call| write!(f, " call={call}"))
    }
}
