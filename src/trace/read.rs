//! Lines as events.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::raft::RoleKind;
use crate::time::Instant;
use crate::trace::datagram::NUMBERS;
use crate::trace::event::{
    Boot, Change, DatagramEvent, Event, Frame, Header, NoteKind, Outcome, Parties, SCHEMA, Source, What,
};
use crate::trace::json::{Json, Malformed, parse};
use crate::trace::state::{Durable, Members, State};
use crate::trace::write::class_name;
use crate::types::{CallId, ClusterId, Incarnation, Index, NodeId, PacketNumber, StoreId, Term};
use crate::wire::{Class, Party};

/// Reads one line, with or without its end.
///
/// # Errors
/// Why it is no line of a trace.
pub fn read_line(line: &str) -> Result<Event, Malformed> {
    let mut fields = Fields::of(parse(line.strip_suffix('\n').unwrap_or(line))?, "")?;
    let name = fields.text("name")?;
    let node = fields.optional("node", Fields::node)?;
    let at = Instant::from_nanos(fields.number("time_ns")?);
    let change = Change::ALL.into_iter().find(|change| change.name() == name);
    let note = NoteKind::ALL.into_iter().find(|kind| kind.name() == name);
    let what = match (name.as_str(), change, note) {
        ("trace", ..) => What::Header(read_header(&mut fields)?),
        ("boot", ..) => What::Boot(read_boot(&mut fields)?),
        ("datagram", ..) => {
            let mut message = fields.object("message")?;
            let datagram = read_datagram(&mut message)?;
            message.end()?;
            What::Datagram(Box::new(datagram))
        }
        ("gap", ..) => What::Gap { events: fields.number("events")? },
        (_, Some(change), _) => What::Change(change, read_state(&mut fields)?),
        (_, _, Some(kind)) => What::Note(kind, fields.text("text")?),
        _ => return Err(Malformed::UnknownEvent { name }),
    };
    fields.end()?;
    if node.is_none() && matches!(what, What::Boot(_) | What::Change(..)) {
        return Err(Malformed::Wrong { field: "node".to_owned(), expected: "a node's number" });
    }
    Ok(Event { at, node, what })
}

fn read_header(fields: &mut Fields) -> Result<Header, Malformed> {
    match fields.number("schema")? {
        SCHEMA => {}
        found => return Err(Malformed::Schema { found }),
    }
    let source = match fields.text("source")?.as_str() {
        "simulation" => Source::Simulation { seed: fields.number("seed")? },
        "node" => Source::Node {
            incarnation: fields.incarnation("incarnation")?,
            unix_us: fields.number("unix_us")?,
        },
        _ => return Err(fields.wrong("source", "`simulation` or `node`")),
    };
    let cluster = fields.optional("cluster", |fields, name| {
        let text = fields.text(name)?;
        ClusterId::from_hex(&text).ok_or_else(|| fields.wrong(name, "32 hexadecimal digits"))
    })?;
    Ok(Header { source, cluster })
}

fn read_boot(fields: &mut Fields) -> Result<Boot, Malformed> {
    let incarnation = fields.incarnation("incarnation")?;
    let store = StoreId::from_hex(&fields.text("store")?);
    let store = store.ok_or_else(|| fields.wrong("store", "32 hexadecimal digits"))?;
    Ok(Boot { incarnation, store, address: fields.address("address")? })
}

fn read_state(fields: &mut Fields) -> Result<State, Malformed> {
    let term = Term(fields.number("term")?);
    let vote = fields.optional("vote", Fields::node)?;
    let roles = [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate, RoleKind::Leader];
    let role = fields.text("role")?;
    let role = roles.into_iter().find(|known| known.to_string() == role);
    let role = role.ok_or_else(|| fields.wrong("role", "a role"))?;
    let leader = fields.optional("leader", Fields::node)?;
    let commit = Index(fields.number("commit")?);
    let mut log = fields.object("log")?;
    let (last_index, last_term) = (Index(log.number("length")?), Term(log.number("last_term")?));
    let base = Index(log.number("base")?);
    log.end()?;
    let mut durable = fields.object("durable")?;
    let on_disk = Durable {
        term: Term(durable.number("term")?),
        vote: durable.optional("vote", Fields::node)?,
        last_index: Index(durable.number("length")?),
    };
    durable.end()?;
    let mut membership = fields.object("membership")?;
    let members = Members {
        index: Index(membership.number("index")?),
        voters: membership.nodes("voters")?,
        outgoing: membership.nodes("outgoing")?,
        learners: membership.nodes("learners")?,
    };
    membership.end()?;
    let members = Arc::new(members);
    Ok(State { term, vote, role, leader, commit, base, last_index, last_term, durable: on_disk, members })
}

fn read_datagram(message: &mut Fields) -> Result<DatagramEvent, Malformed> {
    let (from, to) = (message.optional("from", Fields::node)?, message.optional("to", Fields::node)?);
    let kind = message.word("type")?;
    let (term, index) =
        (message.optional("term", Fields::number)?, message.optional("index", Fields::number)?);
    let (outcome, reason) = (message.text("outcome")?, message.if_there("reason", Fields::text)?);
    let outcome = Outcome::from_names(&outcome, reason.as_deref());
    let outcome = outcome.ok_or_else(|| message.wrong("outcome", "an outcome with a reason of its own"))?;
    let party = |node: Option<NodeId>| node.map_or(Party::Any, Party::Node);
    let header = match message.if_there("packet", Fields::number)? {
        Some(packet) => Some(Parties {
            from: party(from),
            to: party(to),
            packet: PacketNumber(packet),
            from_incarnation: message.incarnation("from_incarnation")?,
            to_incarnation: message.incarnation("to_incarnation")?,
        }),
        None if from.is_some() || to.is_some() => {
            return Err(Malformed::Missing { field: message.path("packet") });
        }
        None => None,
    };
    let mut event = DatagramEvent {
        outcome,
        from_address: message.address("from_address")?,
        to_address: message.address("to_address")?,
        bytes: message.number("bytes")?,
        header,
        is_retransmission: message.if_there("is_retransmission", Fields::truth)?,
        kind,
        frames: Vec::new(),
        frames_left_out: 0,
        payload: None,
    };
    for frame in message.list("frames")? {
        event.frames.push(read_frame(frame)?);
    }
    event.frames_left_out = message.if_there("frames_left_out", Fields::number)?.unwrap_or(0);
    event.payload = message.if_there("payload", Fields::bytes)?;
    if (event.term(), event.index()) != (term, index) {
        return Err(message.wrong("term", "with `index` that of the first body"));
    }
    if event.payload.as_ref().is_some_and(|payload| payload.len() as u64 != event.bytes) {
        return Err(message.wrong("payload", "as long as `bytes` says"));
    }
    Ok(event)
}

fn read_frame(frame: Json) -> Result<Frame, Malformed> {
    let mut fields = Fields::of(frame, "message.frames.")?;
    let mut read = Frame {
        name: fields.word("frame")?,
        call: fields.if_there("call", Fields::number)?.map(CallId),
        class: fields.if_there("class", Fields::class)?,
        kind: fields.if_there("type", Fields::word)?,
        answer: fields.if_there("answer", Fields::word)?,
        numbers: Vec::new(),
    };
    for (name, value) in std::mem::take(&mut fields.left) {
        let known = NUMBERS.into_iter().find(|known| *known == name);
        let known = known.ok_or_else(|| Malformed::Unknown { field: fields.path(&name) })?;
        let Json::Number(number) = value else { return Err(fields.wrong(known, "a whole number")) };
        if read.number(known).is_some() {
            return Err(Malformed::Unknown { field: fields.path(known) });
        }
        read.numbers.push((Cow::Borrowed(known), number));
    }
    Ok(read)
}

/// The fields of an object that were not asked for yet.
struct Fields {
    left: Vec<(String, Json)>,
    /// What stands before their names in messages.
    within: String,
}

impl Fields {
    fn of(value: Json, within: &str) -> Result<Self, Malformed> {
        match value {
            Json::Object(left) => Ok(Self { left, within: within.to_owned() }),
            _ if within.is_empty() => Err(Malformed::NotJson { at: 0 }),
            _ => {
                let field = within.trim_end_matches('.').to_owned();
                Err(Malformed::Wrong { field, expected: "an object" })
            }
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.within)
    }

    fn wrong(&self, name: &str, expected: &'static str) -> Malformed {
        Malformed::Wrong { field: self.path(name), expected }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.left.iter().position(|(known, _)| known == name)
    }

    fn take(&mut self, name: &str) -> Result<Json, Malformed> {
        let at = self.find(name).ok_or_else(|| Malformed::Missing { field: self.path(name) })?;
        Ok(self.left.remove(at).1)
    }

    /// Every field was asked for.
    fn end(self) -> Result<(), Malformed> {
        match self.left.first() {
            Some((name, _)) => Err(Malformed::Unknown { field: self.path(name) }),
            None => Ok(()),
        }
    }

    /// A field that may be null.
    fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.find(name) {
            Some(at) if self.left[at].1 == Json::Null => {
                self.left.remove(at);
                Ok(None)
            }
            _ => read(self, name).map(Some),
        }
    }

    /// A field that may be left out.
    fn if_there<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        self.find(name).map(|_| read(self, name)).transpose()
    }

    fn number(&mut self, name: &str) -> Result<u64, Malformed> {
        match self.take(name)? {
            Json::Number(number) => Ok(number),
            _ => Err(self.wrong(name, "a whole number")),
        }
    }

    fn truth(&mut self, name: &str) -> Result<bool, Malformed> {
        match self.take(name)? {
            Json::Bool(truth) => Ok(truth),
            _ => Err(self.wrong(name, "true or false")),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, Malformed> {
        match self.take(name)? {
            Json::Text(text) => Ok(text),
            _ => Err(self.wrong(name, "a text")),
        }
    }

    /// A name of small letters, digits and hyphens.
    fn word(&mut self, name: &str) -> Result<Cow<'static, str>, Malformed> {
        let text = self.text(name)?;
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || !text.bytes().all(is_word) {
            return Err(self.wrong(name, "a word"));
        }
        Ok(Cow::Owned(text))
    }

    fn class(&mut self, name: &str) -> Result<Class, Malformed> {
        let text = self.text(name)?;
        let class = [Class::Again, Class::Once].into_iter().find(|class| class_name(*class) == text);
        class.ok_or_else(|| self.wrong(name, "`again` or `once`"))
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, Malformed> {
        let text = self.text(name)?;
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.ok_or_else(|| self.wrong(name, "hexadecimal digits in pairs"))
    }

    fn address(&mut self, name: &str) -> Result<SocketAddr, Malformed> {
        self.text(name)?.parse().map_err(|_| self.wrong(name, "an address and a port"))
    }

    fn incarnation(&mut self, name: &str) -> Result<Incarnation, Malformed> {
        let number = u32::try_from(self.number(name)?);
        number.map(Incarnation).map_err(|_| self.wrong(name, "a number below 2^32"))
    }

    fn node(&mut self, name: &str) -> Result<NodeId, Malformed> {
        node_of(self.number(name)?).ok_or_else(|| self.wrong(name, "a node's number"))
    }

    fn nodes(&mut self, name: &str) -> Result<Vec<NodeId>, Malformed> {
        let node = |item| match item {
            Json::Number(number) => node_of(number),
            _ => None,
        };
        let nodes: Option<Vec<NodeId>> = self.list(name)?.into_iter().map(node).collect();
        nodes.ok_or_else(|| self.wrong(name, "a list of nodes' numbers"))
    }

    fn list(&mut self, name: &str) -> Result<Vec<Json>, Malformed> {
        match self.take(name)? {
            Json::List(items) => Ok(items),
            _ => Err(self.wrong(name, "a list")),
        }
    }

    fn object(&mut self, name: &str) -> Result<Self, Malformed> {
        let value = self.take(name)?;
        Self::of(value, &(self.path(name) + "."))
    }
}

fn node_of(number: u64) -> Option<NodeId> {
    u16::try_from(number).ok().and_then(NodeId::new)
}
