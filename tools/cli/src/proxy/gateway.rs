//! Plain clients of a sealed cluster.
//!
//! ```text
//! client ── plain ──► [ calls come in │ the same bodies are called again ] ── sealed ──► the leader
//! ```
//!
//! Two rooms of `raftgram::rpc` stand back to back. To its clients the plain one is a node that always leads; to the
//! cluster the sealed one is a client. A call that comes in is called again with the very body it has, so sessions
//! and sequences are the client's own, and a body that was called twice takes effect once `[W-48]`. What the two rooms
//! do not share is all that belongs to a link: packet numbers, incarnations, retransmission.
//!
//! A redirect is followed here, because where it leads plain clients are not heard. Nobody is told "this had no
//! effect" while an earlier copy of the call may have had one: such a call is repeated until it is answered or given
//! up.
//!
//! Whoever reaches the plain socket may do what the holder of a client key may, whatever key is behind it. `[W-82]`

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use raftgram::rng::Rng;
use raftgram::rpc::{
    CallError, CallFailure, CloseReason, Event, LinkId, Local, LocalRole, Output, Rpc, RpcConfig, SealConfig,
    Token,
};
use raftgram::time::{Instant, earliest};
use raftgram::types::{
    BootNonce, CallId, GroupId, Identity, Incarnation, Index, NodeId, PacketNumber, StoreId,
};
use raftgram::wire::client::{
    ClientReply, ClientRequest, RefusalCode, decode_reply, decode_request, encode_reply,
};
use raftgram::wire::{Class, Greeting};
use serde::Serialize;
use slog::{Logger, info, warn};

use crate::error::{CliError, Code};

/// How long a call waits before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a client is told to wait when the cluster has too much to do.
const BUSY: Duration = Duration::from_millis(10);

/// The most nodes; redirects beyond it are not followed.
const NODES_MAX: usize = 64;

/// A call that proved without effect is answered after so many rounds of all nodes.
const ROUNDS: usize = 2;

/// The two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Clients are heard here.
    Plain,
    /// Nodes are spoken to here.
    Sealed,
}

/// A node of the cluster.
#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    link: LinkId,
    is_up: bool,
}

/// A client's call that is not answered.
#[derive(Debug)]
struct Asked {
    token: Token,
    group: GroupId,
    class: Class,
    body: Vec<u8>,
    attempts: usize,
    /// An attempt may have had an effect.
    is_doubtful: bool,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) clients: u64,
    pub(super) calls: u64,
    pub(super) answered: u64,
    /// Calls that only the holder of a cluster's key may make.
    pub(super) refused: u64,
    /// Calls that were made again to the cluster.
    pub(super) again: u64,
}

/// Both rooms, and what is between them; no socket and no clock.
pub(super) struct Gateway {
    log: Logger,
    /// What the plain room is made of once the cluster is known.
    local: Local,
    rng: Rng,
    /// None until a node has told which cluster it is.
    plain: Option<Rpc>,
    sealed: Rpc,
    nodes: Vec<Upstream>,
    /// Whom calls go to, as long as it is up.
    leader: usize,
    open: BTreeMap<(LinkId, CallId), Asked>,
    later: BTreeMap<(Instant, u64), Asked>,
    serial: u64,
    outgoing: VecDeque<(Side, SocketAddr, Vec<u8>)>,
    counts: Counts,
}

impl Gateway {
    /// `seal` has entropy; `node` is the id that clients see, which means nothing to the cluster.
    pub(super) fn new(
        now: Instant,
        nodes: &[SocketAddr],
        seal: SealConfig,
        node: NodeId,
        mut rng: Rng,
        log: Logger,
    ) -> Result<Self, CliError> {
        let config = RpcConfig { seal, ..RpcConfig::default() };
        let client = Local::client(BootNonce(rng.bytes16()));
        let mut sealed = Rpc::new(config, client, rng.fork(), now)
            .map_err(|error| CliError::new(Code::Failed, error.to_string()))?;
        let upstream = |&address: &SocketAddr| Upstream {
            address,
            link: sealed.connect(now, address, None),
            is_up: false,
        };
        let nodes = nodes.iter().map(upstream).collect();
        // Another store at each start, so that no client takes this one's past for its own.
        let identity = Identity { node, store: StoreId(rng.bytes16()) };
        let incarnation = Incarnation(1 + rng.below(u64::from(u32::MAX)) as u32);
        let local = Local {
            role: LocalRole::Node { identity, incarnation },
            boot_nonce: BootNonce(rng.bytes16()),
            greeting: Greeting::Plain,
            first_packet: PacketNumber(1),
            ..client
        };
        Ok(Self {
            log,
            local,
            rng,
            plain: None,
            sealed,
            nodes,
            leader: 0,
            open: BTreeMap::new(),
            later: BTreeMap::new(),
            serial: 0,
            outgoing: VecDeque::new(),
            counts: Counts::default(),
        })
    }

    /// A datagram came in at one of the sockets. Clients that come too early are not heard, and greet again.
    pub(super) fn handle_datagram(&mut self, now: Instant, side: Side, from: SocketAddr, bytes: &[u8]) {
        // What a room drops, it counts.
        let _ = match (side, &mut self.plain) {
            (Side::Sealed, _) => self.sealed.handle_datagram(now, from, bytes),
            (Side::Plain, Some(plain)) => plain.handle_datagram(now, from, bytes),
            (Side::Plain, None) => None,
        };
    }

    /// The end of a turn: what is due is done, and what came of everything is ready to be sent.
    pub(super) fn turn(&mut self, now: Instant) {
        for room in [Some(&mut self.sealed), self.plain.as_mut()].into_iter().flatten() {
            if room.poll_timeout().is_some_and(|at| at <= now) {
                room.handle_timeout(now);
            }
        }
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let asked = entry.remove();
            self.ask(now, asked);
        }
        while self.settle(now) {}
    }

    /// Drains both rooms once; true when there was anything.
    fn settle(&mut self, now: Instant) -> bool {
        let mut events = Vec::new();
        for (side, room) in [(Side::Sealed, Some(&mut self.sealed)), (Side::Plain, self.plain.as_mut())] {
            let Some(room) = room else { continue };
            room.flush(now);
            while let Some(output) = room.poll_output() {
                match output {
                    Output::Transmit { to, bytes } => self.outgoing.push_back((side, to, bytes)),
                    Output::Event(event) => events.push((side, event)),
                }
            }
        }
        let had_events = !events.is_empty();
        for (side, event) in events {
            match side {
                Side::Plain => self.on_client(now, event),
                Side::Sealed => self.on_node(now, event),
            }
        }
        had_events
    }

    pub(super) fn poll_output(&mut self) -> Option<(Side, SocketAddr, Vec<u8>)> {
        self.outgoing.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let later = self.later.first_key_value().map(|(&(at, _), _)| at);
        let plain = self.plain.as_ref().and_then(Rpc::poll_timeout);
        earliest(earliest(later, plain), self.sealed.poll_timeout())
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// True when every node was given up.
    pub(super) fn has_nobody(&self) -> bool {
        self.nodes.is_empty()
    }

    // --- Clients.

    fn on_client(&mut self, now: Instant, event: Event) {
        match event {
            // A node that was pointed here by mistake is no client.
            Event::Connected { link, peer } if peer.identity.is_some() => {
                self.plain.iter_mut().for_each(|plain| plain.close(now, link));
            }
            Event::Connected { .. } => self.counts.clients += 1,
            Event::Request { token, class, body, .. } => self.on_request(now, token, class, body),
            Event::Cancelled { token } => self.let_go(now, |asked| asked.token == token),
            Event::Closed { link, .. } => self.let_go(now, |asked| asked.token.link() == link),
            _ => {}
        }
    }

    fn on_request(&mut self, now: Instant, token: Token, class: Class, body: Vec<u8>) {
        self.counts.calls += 1;
        let asked = |group, body| Asked { token, group, class, body, attempts: 0, is_doubtful: false };
        let (group, refusal) = match decode_request(&body) {
            Ok((group, request)) if is_for_clients(&request) => return self.ask(now, asked(group, body)),
            Ok((group, _)) => (group, (RefusalCode::NotAllowed, "the proxy passes on what clients ask")),
            Err(_) => (GroupId(0), (RefusalCode::UnknownBody, "the proxy does not know what this asks")),
        };
        self.counts.refused += 1;
        let (code, text) = refusal;
        self.answer(now, &asked(group, body), &ClientReply::Refused { code, text });
    }

    /// Nobody waits for these any more.
    fn let_go(&mut self, now: Instant, is_over: impl Fn(&Asked) -> bool) {
        let Self { open, sealed, later, .. } = self;
        open.retain(|&(link, call), asked| {
            if is_over(asked) {
                sealed.cancel(now, link, call);
            }
            !is_over(asked)
        });
        later.retain(|_, asked| !is_over(asked));
    }

    fn answer(&mut self, now: Instant, asked: &Asked, reply: &ClientReply<'_>) {
        let mut body = Vec::new();
        encode_reply(asked.group, reply, &mut body);
        self.reply(now, asked.token, body);
    }

    fn reply(&mut self, now: Instant, token: Token, body: Vec<u8>) {
        if let Some(plain) = &mut self.plain {
            self.counts.answered += u64::from(plain.reply(now, token, body));
        }
    }

    // --- Nodes.

    /// Calls whoever leads, as far as is known.
    fn ask(&mut self, now: Instant, asked: Asked) {
        let Some(link) = self.choose() else { return self.again(now, asked) };
        match self.sealed.call(now, link, asked.class, asked.body.clone()) {
            Ok(call) => drop(self.open.insert((link, call), asked)),
            Err(CallError::TooLarge { bytes_max }) => {
                let bytes_max = bytes_max as u64;
                self.answer(now, &asked, &ClientReply::TooLarge { bytes_max });
            }
            Err(CallError::Busy) => self.on_busy(now, asked),
            Err(CallError::UnknownLink) => self.again(now, asked),
        }
    }

    /// The link to the leader, or to the next node that is up.
    fn choose(&mut self) -> Option<LinkId> {
        let count = self.nodes.len();
        let mut places = (0..count).map(|step| (self.leader + step) % count);
        self.leader = places.find(|&place| self.nodes[place].is_up)?;
        Some(self.nodes[self.leader].link)
    }

    /// Tries it again in a moment, unless it is known to have had no effect and was tried often.
    fn again(&mut self, now: Instant, mut asked: Asked) {
        asked.attempts += 1;
        self.counts.again += 1;
        if !asked.is_doubtful && asked.attempts > ROUNDS * self.nodes.len() {
            return self.answer(now, &asked, &ClientReply::Redirect { leader: None });
        }
        self.serial += 1;
        self.later.insert((now + PAUSE, self.serial), asked);
    }

    fn on_busy(&mut self, now: Instant, asked: Asked) {
        if asked.is_doubtful {
            return self.again(now, asked);
        }
        self.answer(now, &asked, &ClientReply::Busy { retry_after_us: BUSY.as_micros() as u64 });
    }

    fn on_node(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected { link, peer } => {
                info!(self.log, "a node is reached"; "node" => %peer);
                self.set_up(link, true);
                self.hear_clients(now);
            }
            Event::Heard { link } => self.set_up(link, true),
            Event::Silent { link } => {
                self.set_up(link, false);
                self.ask_others(now, link);
            }
            Event::Closed { link, reason } => {
                let gone = self.nodes.iter().position(|node| node.link == link);
                let gone = gone.map(|place| self.nodes.remove(place));
                if let Some(gone) = gone
                    && !matches!(reason, CloseReason::SameAs(_))
                {
                    warn!(self.log, "a node is given up"; "address" => %gone.address, "why" => ?reason);
                }
            }
            Event::Refused { link, reason } => {
                let address = self.nodes.iter().find(|node| node.link == link).map(|node| node.address);
                let address = address.map_or_else(String::new, |address| address.to_string());
                warn!(self.log, "a node does not take this key"; "address" => address, "why" => ?reason);
            }
            Event::Reply { link, call, body } => {
                if let Some(asked) = self.open.remove(&(link, call)) {
                    self.on_reply(now, link, asked, body);
                }
            }
            Event::CallFailed { link, call, reason } => {
                if let Some(asked) = self.open.remove(&(link, call)) {
                    self.on_failure(now, asked, reason);
                }
            }
            _ => {}
        }
    }

    fn set_up(&mut self, link: LinkId, is_up: bool) {
        self.nodes.iter_mut().filter(|node| node.link == link).for_each(|node| node.is_up = is_up);
    }

    /// From now on clients are heard: whoever speaks to them must say which cluster it is. `[W-26]`
    fn hear_clients(&mut self, now: Instant) {
        if self.plain.is_some() || self.sealed.cluster().is_zero() {
            return;
        }
        self.local.cluster = self.sealed.cluster();
        // The same settings were good for the sealed room.
        self.plain = Rpc::new(RpcConfig::default(), self.local, self.rng.fork(), now).ok();
        info!(self.log, "clients are heard"; "cluster" => %self.local.cluster);
    }

    /// What a silent node was asked others are asked, too.
    fn ask_others(&mut self, now: Instant, silent: LinkId) {
        let calls: Vec<CallId> =
            self.open.keys().filter(|(link, _)| *link == silent).map(|(_, call)| *call).collect();
        for call in calls {
            self.sealed.cancel(now, silent, call);
            if let Some(mut asked) = self.open.remove(&(silent, call)) {
                asked.is_doubtful = true;
                self.again(now, asked);
            }
        }
    }

    fn on_reply(&mut self, now: Instant, link: LinkId, asked: Asked, body: Vec<u8>) {
        match decode_reply(&body) {
            Ok((_, ClientReply::Redirect { leader })) => {
                let leader = leader.and_then(|hint| Some((hint.node, hint.address.parse().ok()?)));
                self.on_redirect(now, link, asked, leader);
            }
            // Another attempt may have had an effect after all.
            Ok((_, ClientReply::Busy { .. })) if asked.is_doubtful => self.again(now, asked),
            _ => self.reply(now, asked.token, body),
        }
    }

    fn on_redirect(
        &mut self,
        now: Instant,
        link: LinkId,
        mut asked: Asked,
        leader: Option<(NodeId, SocketAddr)>,
    ) {
        let place = leader.and_then(|(node, address)| self.place_of(now, node, address));
        match place {
            Some(place) if self.nodes[place].link != link => {
                self.leader = place;
                // At once, unless nodes send each other's clients around.
                if self.nodes[place].is_up && asked.attempts == 0 {
                    asked.attempts = 1;
                    return self.ask(now, asked);
                }
            }
            _ => self.leader = (self.leader + 1) % self.nodes.len().max(1),
        }
        self.again(now, asked);
    }

    /// Where the node stands among those that are known; it may be one more.
    fn place_of(&mut self, now: Instant, node: NodeId, address: SocketAddr) -> Option<usize> {
        if self.nodes.len() >= NODES_MAX {
            return self.nodes.iter().position(|it| it.address == address);
        }
        let link = self.sealed.connect(now, address, Some(node));
        let known = self.nodes.iter().position(|it| it.link == link);
        known.or_else(|| {
            self.nodes.push(Upstream { address, link, is_up: self.sealed.peer(link).is_some() });
            Some(self.nodes.len() - 1)
        })
    }

    fn on_failure(&mut self, now: Instant, mut asked: Asked, reason: CallFailure) {
        match reason {
            CallFailure::Busy => self.on_busy(now, asked),
            CallFailure::TooLarge if !asked.is_doubtful => {
                let text = "the body is larger than the node takes";
                self.answer(now, &asked, &ClientReply::Refused { code: RefusalCode::MalformedBody, text });
            }
            CallFailure::LinkClosed => self.again(now, asked),
            CallFailure::OutcomeUnknown | CallFailure::PeerRestarted | CallFailure::TooLarge => {
                asked.is_doubtful = true;
                self.again(now, asked);
            }
        }
    }
}

/// What the holder of a client key may ask.
fn is_for_clients(request: &ClientRequest<'_>) -> bool {
    match request {
        ClientRequest::OpenSession
        | ClientRequest::CloseSession { .. }
        | ClientRequest::Propose(_)
        | ClientRequest::Read { .. }
        | ClientRequest::Status
        | ClientRequest::Members { .. }
        | ClientRequest::Watch(_) => true,
        ClientRequest::TakeSnapshot { through } => *through != Index(0),
        ClientRequest::Founding
        | ClientRequest::ChangeMembership(_)
        | ClientRequest::TransferLeadership { .. }
        | ClientRequest::SetFaults(_) => false,
    }
}
