//! From trace files to a history: both ends of a datagram become one arrow.
//!
//! A datagram is *sent* in one line and *delivered*, *dropped* or *lost* in another, of the same file (a simulation's)
//! or of another node's. What names it in both is who sent which packet to whom; where one end is a client, the
//! addresses too. A second arrival of the same packet is a copy that the network made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use raftgram::raft::RoleKind;
use raftgram::trace::{Change, DatagramEvent, NoteKind, Outcome, Source, State, What};
use raftgram::types::NodeId;
use raftgram::wire::Party;

use crate::diagram::{Arrow, Fate, History, Lane, LaneState, Note, Standing};
use crate::error::{CliError, Code};
use crate::trace::input::{Inputs, Seen};

/// More clients than these share a lane.
const CLIENT_LANES_MAX: usize = 4;
/// More lanes than a reader or a byte can tell apart.
const LANES_MAX: usize = 64;
/// A flight of unknown length is drawn as long as this when no other one is known either.
const FLIGHT_NS: u64 = 200_000;

/// One end of an arrow before lanes have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Node(NodeId),
    Client(SocketAddr),
}

/// What names a datagram at both its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    from: (u16, u32),
    to: u16,
    packet: u64,
    addresses: Option<(SocketAddr, SocketAddr)>,
}

/// An arrow whose end may not be known yet.
#[derive(Debug)]
struct Flight {
    from: End,
    to: End,
    sent_ns: Option<u64>,
    end_ns: Option<u64>,
    kind: String,
    fate: Fate,
    is_again: bool,
    is_copy: bool,
    is_damaged: bool,
    text: String,
}

/// What a line says of a node.
#[derive(Debug)]
struct Told {
    at_ns: u64,
    node: NodeId,
    change: Option<Change>,
    standing: Standing,
    state: Option<State>,
}

#[derive(Debug, Default)]
struct Gatherer {
    flights: Vec<Flight>,
    /// Flights by name, the latest of each.
    known: BTreeMap<Key, usize>,
    /// Arrivals that were read before their departure: files' clocks differ a little.
    early: BTreeMap<Key, usize>,
    nodes: BTreeSet<NodeId>,
    listening: BTreeMap<SocketAddr, NodeId>,
    states: Vec<Told>,
    notes: Vec<(u64, Option<NodeId>, NoteKind, String)>,
    /// When each node's recording began and when it ended, of those without gaps.
    recorded: BTreeMap<NodeId, (u64, u64)>,
    has_network: bool,
    left_out: u64,
    last_ns: u64,
}

/// Reads the files.
pub(crate) fn gather(files: &[PathBuf]) -> Result<History, CliError> {
    let mut inputs = Inputs::open(files)?;
    let source = source_of(&inputs);
    let mut gatherer = Gatherer {
        has_network: inputs.headers().any(|header| matches!(header.source, Source::Simulation { .. })),
        ..Gatherer::default()
    };
    let mut first_ns = None;
    while let Some(seen) = inputs.next()? {
        let zero = *first_ns.get_or_insert(seen.time_ns);
        gatherer.take(seen.time_ns - zero, seen);
    }
    gatherer.finish(source)
}

fn source_of(inputs: &Inputs) -> String {
    let seed = inputs.headers().find_map(|header| match header.source {
        Source::Simulation { seed } => Some(seed),
        Source::Node { .. } => None,
    });
    let cluster = inputs.headers().find_map(|header| header.cluster);
    match (seed, cluster) {
        (Some(seed), _) => format!("a simulation, seed {seed}"),
        (None, Some(cluster)) => format!("cluster {cluster}"),
        (None, None) => "live nodes".to_owned(),
    }
}

impl Gatherer {
    fn take(&mut self, at_ns: u64, seen: Seen<'_>) {
        self.last_ns = at_ns;
        let node = seen.event.node;
        if let Some(node) = node {
            self.nodes.insert(node);
            self.recorded.entry(node).or_insert((at_ns, at_ns)).1 = at_ns;
        }
        match (seen.event.what, node) {
            (What::Boot(boot), Some(node)) => {
                self.listening.insert(boot.address, node);
                let standing = Standing::Follower;
                self.states.push(Told { at_ns, node, change: None, standing, state: None });
            }
            (What::Change(change, state), Some(node)) => {
                let standing = match state.role {
                    RoleKind::Follower => Standing::Follower,
                    RoleKind::PreCandidate => Standing::PreCandidate,
                    RoleKind::Candidate => Standing::Candidate,
                    RoleKind::Leader => Standing::Leader,
                };
                let (change, state) = (Some(change), Some(state));
                self.states.push(Told { at_ns, node, change, standing, state });
            }
            (What::Datagram(datagram), node) => self.datagram(at_ns, node, &datagram),
            (What::Gap { events }, _) => self.left_out += events,
            (What::Note(kind, text), node) => {
                if let (NoteKind::Stop | NoteKind::Crash, Some(node)) = (kind, node) {
                    let standing = Standing::Down;
                    self.states.push(Told { at_ns, node, change: None, standing, state: None });
                }
                self.notes.push((at_ns, node, kind, text));
            }
            _ => {}
        }
    }

    fn datagram(&mut self, at_ns: u64, seen_by: Option<NodeId>, datagram: &DatagramEvent) {
        let key = Key::of(datagram);
        let known = key.as_ref().and_then(|key| self.known.get(key).copied());
        match datagram.outcome {
            Outcome::Sent | Outcome::Refused => {
                let mut flight = self.flight(seen_by, None, datagram);
                flight.sent_ns = Some(at_ns);
                if datagram.outcome == Outcome::Refused {
                    (flight.fate, flight.end_ns) = (Fate::Refused, Some(at_ns));
                }
                if let Some(place) = key.as_ref().and_then(|key| self.early.remove(key)) {
                    let arrived = &mut self.flights[place];
                    arrived.is_again = flight.is_again;
                    (arrived.sent_ns, arrived.end_ns) = (Some(at_ns), arrived.end_ns.max(Some(at_ns)));
                    self.known.extend(key.map(|key| (key, place)));
                    return;
                }
                self.known.extend(key.map(|key| (key, self.flights.len())));
                self.flights.push(flight);
            }
            Outcome::Delivered | Outcome::Dropped(_) => {
                let mut flight = self.flight(None, seen_by, datagram);
                flight.end_ns = Some(at_ns);
                match known.map(|place| &mut self.flights[place]) {
                    Some(sent) if sent.end_ns.is_none() && sent.fate == Fate::Unknown => {
                        (sent.end_ns, sent.to) = (Some(at_ns), flight.to);
                        sent.meet(datagram.outcome);
                        return;
                    }
                    Some(sent) => {
                        (flight.sent_ns, flight.from) = (sent.sent_ns, sent.from);
                        flight.is_copy = true;
                    }
                    None => self.early.extend(key.map(|key| (key, self.flights.len()))),
                }
                flight.meet(datagram.outcome);
                self.flights.push(flight);
            }
            Outcome::Lost(_) => {
                let place = known.filter(|&place| self.flights[place].fate == Fate::Unknown);
                if let Some(place) = place {
                    self.flights[place].meet(datagram.outcome);
                    return;
                }
                let mut flight = self.flight(None, None, datagram);
                flight.sent_ns = known.map_or(Some(at_ns), |place| self.flights[place].sent_ns);
                flight.is_copy = known.is_some();
                flight.meet(datagram.outcome);
                self.flights.push(flight);
            }
            Outcome::Damaged => {
                if let Some(place) = known {
                    self.flights[place].is_damaged = true;
                }
            }
            // Its second arrival shows it.
            _ => {}
        }
    }

    /// What a line says of a datagram; who saw it is surer of that than its header is.
    fn flight(&mut self, from: Option<NodeId>, to: Option<NodeId>, datagram: &DatagramEvent) -> Flight {
        let end = |seen: Option<NodeId>, party: Option<Party>, address: SocketAddr| match (seen, party) {
            (Some(node), _) | (None, Some(Party::Node(node))) => End::Node(node),
            _ => self.listening.get(&address).map_or(End::Client(address), |node| End::Node(*node)),
        };
        let header = datagram.header;
        let (from, to) = (
            end(from, header.map(|header| header.from), datagram.from_address),
            end(to, header.map(|header| header.to), datagram.to_address),
        );
        for end in [from, to] {
            if let End::Node(node) = end {
                self.nodes.insert(node);
            }
        }
        Flight {
            from,
            to,
            sent_ns: None,
            end_ns: None,
            kind: datagram.kind.to_string(),
            fate: Fate::Unknown,
            is_again: datagram.is_retransmission == Some(true),
            is_copy: false,
            is_damaged: false,
            text: text_of(datagram),
        }
    }
}

impl Key {
    fn of(datagram: &DatagramEvent) -> Option<Self> {
        let header = datagram.header?;
        let has_client = header.from == Party::Any || header.to == Party::Any;
        Some(Self {
            from: (header.from.as_u16(), header.from_incarnation.0),
            to: header.to.as_u16(),
            packet: header.packet.0,
            addresses: has_client.then_some((datagram.from_address, datagram.to_address)),
        })
    }
}

impl Flight {
    /// Notes what became of it.
    fn meet(&mut self, outcome: Outcome) {
        self.fate = match outcome {
            Outcome::Delivered => Fate::Delivered,
            Outcome::Dropped(_) => Fate::Dropped,
            Outcome::Lost(_) => Fate::Lost,
            _ => self.fate,
        };
        if let Some(reason) = outcome.reason() {
            self.text.push_str(&format!("\n{}: {reason}", outcome.name()));
        }
    }
}

/// The datagram's frames, a line each, under its size and number.
fn text_of(datagram: &DatagramEvent) -> String {
    let mut text = match datagram.header {
        Some(header) => format!("packet {}, {} bytes", header.packet, datagram.bytes),
        None => format!("{} bytes", datagram.bytes),
    };
    for frame in &datagram.frames {
        text.push_str(&format!("\n{frame}"));
    }
    if datagram.frames_left_out > 0 {
        text.push_str(&format!("\n{} more frames", datagram.frames_left_out));
    }
    text
}

impl Gatherer {
    fn finish(mut self, source: String) -> Result<History, CliError> {
        let lanes = Lanes::of(&self)?;
        let typical_ns = self.typical_flights(&lanes);
        let mut kinds: Vec<String> = self.flights.iter().map(|flight| flight.kind.clone()).collect();
        kinds.sort();
        kinds.dedup();
        let recorded = &self.recorded;
        let has_network = self.has_network;
        let arrow = |flight: Flight| {
            let (from, to) = (lanes.place(&flight.from), lanes.place(&flight.to));
            let usual_ns = typical_ns.get(&(from, to)).copied().unwrap_or(FLIGHT_NS);
            let sent_ns = flight.sent_ns.or(flight.end_ns).unwrap_or(0);
            let sent_ns = if flight.sent_ns.is_none() { sent_ns.saturating_sub(usual_ns) } else { sent_ns };
            let end_ns = flight.end_ns.unwrap_or(sent_ns + usual_ns);
            let is_missed = flight.fate == Fate::Unknown
                && !has_network
                && matches!(flight.to, End::Node(node) if recorded.get(&node)
                    .is_some_and(|(begin, end)| *begin <= sent_ns && end_ns + 10 * usual_ns < *end));
            let fate = if is_missed { Fate::Lost } else { flight.fate };
            let text = if is_missed { flight.text + "\nlost: not seen by its receiver" } else { flight.text };
            let kind = kinds.binary_search(&flight.kind).unwrap_or(0);
            Arrow {
                sent_ns,
                end_ns,
                from,
                to,
                // Kinds are named by this program: some dozens.
                kind: u8::try_from(kind).unwrap_or(u8::MAX),
                fate,
                is_again: flight.is_again,
                is_copy: flight.is_copy,
                is_damaged: flight.is_damaged,
                is_guess: flight.sent_ns.is_none() || (flight.end_ns.is_none() && fate == Fate::Unknown),
                text,
            }
        };
        let mut arrows: Vec<Arrow> = self.flights.drain(..).map(arrow).collect();
        arrows.sort_by_key(|arrow| (arrow.sent_ns, arrow.end_ns));
        let end_ns = arrows.iter().map(|arrow| arrow.end_ns).max().unwrap_or(0).max(self.last_ns);
        Ok(History {
            arrows,
            states: states(&self.states, &lanes),
            notes: notes(self.notes, &lanes),
            lanes: lanes.lanes,
            kinds,
            source,
            left_out: self.left_out,
            end_ns,
        })
    }

    /// The median flight of each pair of lanes.
    fn typical_flights(&self, lanes: &Lanes) -> BTreeMap<(u8, u8), u64> {
        let mut flights: BTreeMap<(u8, u8), Vec<u64>> = BTreeMap::new();
        for flight in &self.flights {
            if let (Some(sent), Some(end), Fate::Delivered) = (flight.sent_ns, flight.end_ns, flight.fate) {
                let pair = (lanes.place(&flight.from), lanes.place(&flight.to));
                flights.entry(pair).or_default().push(end.saturating_sub(sent));
            }
        }
        let median = |mut lengths: Vec<u64>| {
            lengths.sort_unstable();
            lengths[lengths.len() / 2]
        };
        flights.into_iter().map(|(pair, lengths)| (pair, median(lengths))).collect()
    }
}

/// The places of all ends.
struct Lanes {
    lanes: Vec<Lane>,
    places: BTreeMap<End, u8>,
    clients: u8,
}

impl Lanes {
    /// Nodes by number, then clients.
    fn of(gatherer: &Gatherer) -> Result<Self, CliError> {
        let mut lanes = Vec::new();
        let mut places = BTreeMap::new();
        if gatherer.nodes.len() > LANES_MAX {
            let why = format!("{} nodes are more than a diagram shows", gatherer.nodes.len());
            return Err(CliError::new(Code::Failed, why));
        }
        for node in &gatherer.nodes {
            places.insert(End::Node(*node), lanes.len() as u8);
            lanes.push(Lane { name: format!("node {}", node.as_u16()), is_node: true });
        }
        // What was sent to an address before a node was known to listen there was sent to that node.
        for (address, node) in &gatherer.listening {
            let place = places.get(&End::Node(*node)).copied().unwrap_or(0);
            places.insert(End::Client(*address), place);
        }
        let is_new = |end: &End| matches!(end, End::Client(_)) && !places.contains_key(end);
        let ends = gatherer.flights.iter().flat_map(|flight| [flight.from, flight.to]);
        let mut clients: Vec<End> = ends.filter(is_new).collect();
        clients.sort();
        clients.dedup();
        let shared = lanes.len() as u8;
        if clients.len() > CLIENT_LANES_MAX {
            lanes.push(Lane { name: format!("{} clients", clients.len()), is_node: false });
            places.extend(clients.into_iter().map(|client| (client, shared)));
        } else {
            for (number, client) in clients.into_iter().enumerate() {
                places.insert(client, lanes.len() as u8);
                lanes.push(Lane { name: format!("client {}", number + 1), is_node: false });
            }
        }
        Ok(Self { lanes, places, clients: shared })
    }

    fn place(&self, end: &End) -> u8 {
        self.places.get(end).copied().unwrap_or(self.clients)
    }
}

/// Changes of one look become one state.
fn states(told: &[Told], lanes: &Lanes) -> Vec<LaneState> {
    let mut states: Vec<LaneState> = Vec::new();
    let mut last_of: BTreeMap<u8, usize> = BTreeMap::new();
    for Told { at_ns, node, change, standing, state } in told {
        let lane = lanes.place(&End::Node(*node));
        let name = change.map(Change::name);
        let is_commit = *change == Some(Change::Commit);
        if let Some(&place) = last_of.get(&lane) {
            let last = &mut states[place];
            if last.at_ns == *at_ns && last.standing == *standing && change.is_some() && last.term > 0 {
                last.is_commit |= is_commit;
                last.text = format!("{}, {}", name.unwrap_or_default(), last.text);
                continue;
            }
        }
        let what = state.as_ref().map_or_else(|| standing.name().to_owned(), ToString::to_string);
        last_of.insert(lane, states.len());
        states.push(LaneState {
            at_ns: *at_ns,
            lane,
            standing: *standing,
            term: state.as_ref().map_or(0, |state| state.term.0),
            commit: state.as_ref().map_or(0, |state| state.commit.0),
            is_commit,
            text: name.map_or_else(|| what.clone(), |name| format!("{name}\n{what}")),
        });
    }
    states
}

fn notes(told: Vec<(u64, Option<NodeId>, NoteKind, String)>, lanes: &Lanes) -> Vec<Note> {
    let note = |(at_ns, node, kind, text): (u64, Option<NodeId>, NoteKind, String)| Note {
        at_ns,
        lane: node.map(|node| lanes.place(&End::Node(node))),
        kind: kind.name(),
        text,
    };
    told.into_iter().map(note).collect()
}
