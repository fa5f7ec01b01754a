//! Events as lines.

use core::fmt::{self, Write};

use crate::trace::event::{Boot, DatagramEvent, Event, Frame, Header, SCHEMA, Source, What};
use crate::trace::json::Object;
use crate::trace::state::{Members, State};
use crate::types::NodeId;
use crate::wire::{Class, Party};

impl Event {
    /// Writes the event as one line of JSON, its end included.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_line(&self, out: &mut dyn Write) -> fmt::Result {
        Object::write(out, |line| {
            line.plain("name", self.name())?;
            line.number_or_null("node", self.node.map(number))?;
            line.number("time_ns", self.at.as_nanos())?;
            match &self.what {
                What::Header(header) => write_header(header, line),
                What::Boot(boot) => write_boot(boot, line),
                What::Change(_, state) => write_state(state, line),
                What::Datagram(datagram) => {
                    line.object("message", |message| write_datagram(datagram, message))
                }
                What::Gap { events } => line.number("events", *events),
                What::Note(_, text) => line.text("text", text),
            }
        })?;
        out.write_char('\n')
    }

    /// The line, its end included.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = String::new();
        // Only the place written to can fail, and a string does not.
        let _ = self.write_line(&mut line);
        line
    }

    /// The event's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match &self.what {
            What::Header(_) => "trace",
            What::Boot(_) => "boot",
            What::Change(change, _) => change.name(),
            What::Datagram(_) => "datagram",
            What::Gap { .. } => "gap",
            What::Note(kind, _) => kind.name(),
        }
    }
}

fn write_header(header: &Header, line: &mut Object<'_>) -> fmt::Result {
    line.number("schema", SCHEMA)?;
    match header.source {
        Source::Simulation { seed } => {
            line.plain("source", "simulation")?;
            line.number("seed", seed)?;
        }
        Source::Node { incarnation, unix_us } => {
            line.plain("source", "node")?;
            line.number("incarnation", u64::from(incarnation.0))?;
            line.number("unix_us", unix_us)?;
        }
    }
    match header.cluster {
        Some(cluster) => line.plain("cluster", cluster),
        None => line.field("cluster")?.write_str("null"),
    }
}

fn write_boot(boot: &Boot, line: &mut Object<'_>) -> fmt::Result {
    line.number("incarnation", u64::from(boot.incarnation.0))?;
    line.plain("store", boot.store)?;
    line.plain("address", boot.address)
}

fn write_state(state: &State, line: &mut Object<'_>) -> fmt::Result {
    line.number("term", state.term.0)?;
    line.number_or_null("vote", state.vote.map(number))?;
    line.plain("role", state.role)?;
    line.number_or_null("leader", state.leader.map(number))?;
    line.number("commit", state.commit.0)?;
    line.object("log", |log| {
        log.number("length", state.last_index.0)?;
        log.number("last_term", state.last_term.0)?;
        log.number("base", state.base.0)
    })?;
    line.object("durable", |durable| {
        durable.number("term", state.durable.term.0)?;
        durable.number_or_null("vote", state.durable.vote.map(number))?;
        durable.number("length", state.durable.last_index.0)
    })?;
    line.object("membership", |membership| write_members(&state.members, membership))
}

fn write_members(members: &Members, membership: &mut Object<'_>) -> fmt::Result {
    membership.number("index", members.index.0)?;
    for (name, nodes) in
        [("voters", &members.voters), ("outgoing", &members.outgoing), ("learners", &members.learners)]
    {
        membership.list(name, nodes, |out, node| write!(out, "{}", node.as_u16()))?;
    }
    Ok(())
}

fn write_datagram(datagram: &DatagramEvent, message: &mut Object<'_>) -> fmt::Result {
    let header = datagram.header;
    message.number_or_null("from", header.and_then(|header| party(header.from)))?;
    message.number_or_null("to", header.and_then(|header| party(header.to)))?;
    message.plain("type", &datagram.kind)?;
    message.number_or_null("term", datagram.term())?;
    message.number_or_null("index", datagram.index())?;
    message.plain("outcome", datagram.outcome.name())?;
    if let Some(reason) = datagram.outcome.reason() {
        message.plain("reason", reason)?;
    }
    if let Some(header) = header {
        message.number("packet", header.packet.0)?;
        message.number("from_incarnation", u64::from(header.from_incarnation.0))?;
        message.number("to_incarnation", u64::from(header.to_incarnation.0))?;
    }
    message.plain("from_address", datagram.from_address)?;
    message.plain("to_address", datagram.to_address)?;
    message.number("bytes", datagram.bytes)?;
    if let Some(is_retransmission) = datagram.is_retransmission {
        write!(message.field("is_retransmission")?, "{is_retransmission}")?;
    }
    message.list("frames", &datagram.frames, |out, frame| {
        Object::write(out, |object| write_frame(frame, object))
    })?;
    if datagram.frames_left_out > 0 {
        message.number("frames_left_out", datagram.frames_left_out)?;
    }
    match &datagram.payload {
        Some(payload) => message.plain("payload", Hex(payload)),
        None => Ok(()),
    }
}

fn write_frame(frame: &Frame, object: &mut Object<'_>) -> fmt::Result {
    object.plain("frame", &frame.name)?;
    if let Some(call) = frame.call {
        object.number("call", call.0)?;
    }
    if let Some(class) = frame.class {
        object.plain("class", class_name(class))?;
    }
    if let Some(kind) = &frame.kind {
        object.plain("type", kind)?;
    }
    if let Some(answer) = &frame.answer {
        object.plain("answer", answer)?;
    }
    frame.numbers.iter().try_for_each(|(name, number)| object.number(name, *number))
}

pub(super) const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Again => "again",
        Class::Once => "once",
    }
}

fn number(node: NodeId) -> u64 {
    u64::from(node.as_u16())
}

const fn party(party: Party) -> Option<u64> {
    match party {
        Party::Node(id) => Some(id.as_u16() as u64),
        Party::Any => None,
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in self.0 {
            f.write_char(char::from(DIGITS[usize::from(byte >> 4)]))?;
            f.write_char(char::from(DIGITS[usize::from(byte & 15)]))?;
        }
        Ok(())
    }
}
