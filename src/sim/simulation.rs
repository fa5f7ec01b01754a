//! The simulation itself: one event after the other.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::agenda::{Agenda, Event};
use super::clients::{Ended, Seat};
use super::invariant::{Invariants, OperationKey, Violation};
use super::network::{End, Network};
use super::sealing;
use super::server::{INBOX_MAX, Life, Running, Server};
use super::settings::Settings;
use super::storage::Done;
use crate::client::OperationId;
use crate::hash::Fnv1a;
use crate::machine::Machine;
use crate::rng::Rng;
use crate::seal::SealMode;
use crate::store::Adopted;
use crate::time::Instant;
use crate::trace::{Loss, Outcome};
use crate::types::NodeId;

/// When every simulation begins. Zero would hide what forgets to add its offset.
pub(super) const BEGIN: Instant = Instant::from_nanos(1_000_000);

/// How soon a node that is late with something is called again.
pub(super) const AT_ONCE: Duration = Duration::from_micros(1);

/// How often a write that found the disk full is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// How long nothing must be written until the log's synced mark is carried on.
pub(super) const QUIET: Duration = Duration::from_millis(50);

/// Whole nodes and clients on one virtual clock; see the module's page.
pub struct Simulation<M> {
    pub(super) settings: Settings,
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) agenda: Agenda,
    pub(super) network: Network,
    pub(super) servers: Vec<Server<M>>,
    pub(super) seats: Vec<Seat>,
    /// Operations that have ended, in the order in which they did.
    pub(super) ended: VecDeque<Ended>,
    /// Nodes that ended by themselves.
    pub(super) fallen: VecDeque<u16>,
    /// Timers of the owner that are due.
    pub(super) due: VecDeque<u64>,
    /// Datagrams that come from nobody's link.
    pub(super) forged: BTreeMap<u64, (End, End, Vec<u8>)>,
    pub(super) forged_count: u64,
    /// What an eavesdropper has kept.
    pub(super) tapped: VecDeque<(End, End, Vec<u8>)>,
    pub(super) tapped_max: usize,
    pub(super) factory: Box<dyn FnMut() -> M>,
    pub(super) invariants: Invariants,
    /// Operations that have not ended, as the checks know them.
    pub(super) asked: BTreeMap<(usize, OperationId), OperationKey>,
    /// The number of events at which everything is looked at anew.
    pub(super) recheck_at: u64,
    pub(super) violation: Option<Violation>,
    pub(super) recorder: Option<Box<super::recorder::Recorder>>,
    pub(super) events: u64,
    pub(super) hash: Fnv1a,
    /// The node that the last event touched.
    pub(super) touched: Option<usize>,
}

/// What happened, for the hash of the whole run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Arrival = 1,
    Wake,
    Disk,
    Quiet,
    Resume,
    Client,
    Timer,
    Boot,
    Crash,
    Ended,
    Snapshot,
}

impl<M: Machine> Simulation<M> {
    /// Nodes that were never started, and no clients. `factory` makes the machine of each start of a node.
    ///
    /// # Panics
    /// When datagrams are to be sealed in a build without the feature `seal`.
    pub fn new(mut settings: Settings, factory: impl FnMut() -> M + 'static) -> Self {
        let mut rng = Rng::from_seed(settings.seed);
        let network = Network::new(settings.link.clone(), rng.fork());
        let mut invariants = Invariants::new(&settings.node(NodeId::MIN, String::new()), settings.language);
        sealing::prepare(&mut settings, &mut invariants);
        let server = |number| {
            let id = NodeId::new(number).unwrap_or(NodeId::MIN);
            Server::new(id, settings.disk, rng.fork())
        };
        let servers = (1..=settings.nodes).map(server).collect();
        Self {
            settings,
            now: BEGIN,
            rng,
            agenda: Agenda::default(),
            network,
            servers,
            seats: Vec::new(),
            ended: VecDeque::new(),
            fallen: VecDeque::new(),
            due: VecDeque::new(),
            forged: BTreeMap::new(),
            forged_count: 0,
            tapped: VecDeque::new(),
            tapped_max: 0,
            factory: Box::new(factory),
            invariants,
            asked: BTreeMap::new(),
            recheck_at: super::judging::RECHECK_EVERY,
            violation: None,
            recorder: None,
            events: 0,
            hash: Fnv1a::default(),
            touched: None,
        }
    }

    /// Lets the next event happen; false when there is none, or a violation has ended the simulation.
    pub fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, event)) = self.agenda.pop() else { return false };
        self.now = self.now.max(at);
        self.touched = None;
        match event {
            Event::Arrival(path) => self.arrive(path, at),
            Event::Forged(number) => self.arrive_forged(number),
            Event::Wake { server, boot } => self.wake(server, boot, at),
            Event::Disk { server, boot } => self.disk(server, boot),
            Event::Snapshot { server, boot } => self.snapshot(server, boot),
            Event::Quiet { server, boot } => self.quiet(server, boot),
            Event::Resume { server, boot } => self.resume(server, boot),
            Event::Client { client, boot } => self.wake_client(client, boot, at),
            Event::Timer(token) => {
                self.note(Kind::Timer, 0, token);
                self.due.push_back(token);
            }
        }
        if self.events >= self.recheck_at {
            self.recheck();
        }
        self.violation.is_none()
    }

    /// Takes note of something that happened.
    pub(super) fn note(&mut self, kind: Kind, place: usize, what: u64) {
        self.events += 1;
        // Four words at once, as FNV-1a does it with bytes.
        let word = (kind as u64) << 56 | (place as u64) << 40 ^ self.now.as_nanos();
        self.hash = self.hash.u64(word).u64(what);
    }

    pub(super) fn transmit(&mut self, from: End, to: SocketAddr, bytes: Vec<u8>) {
        let Some(to) = End::of(to) else { return };
        if self.is_sealed() {
            self.invariants.transmitted(hash_bytes(&bytes));
        }
        if self.tapped_max > 0 {
            if self.tapped.len() >= self.tapped_max {
                self.tapped.pop_front();
            }
            self.tapped.push_back((from, to, bytes.clone()));
        }
        let before = if self.recorder.is_some() {
            self.record_datagram(from, from, to, &bytes, Outcome::Sent);
            Some((*self.network.link(from, to).stats(), bytes.clone()))
        } else {
            None
        };
        if let Some((at, path)) = self.network.send(self.now, from, to, bytes) {
            self.agenda.push(at, Event::Arrival(path));
        }
        if let Some((before, bytes)) = before {
            self.record_fate(from, to, &bytes, &before);
        }
    }

    fn arrive(&mut self, path: usize, at: Instant) {
        if !self.network.ring(at, path) {
            return;
        }
        let (from, to) = Network::ends(path);
        let mut count = 0;
        while let Some(bytes) = self.network.take(self.now, path) {
            self.note(Kind::Arrival, path, hash_bytes(&bytes));
            self.hand_in(from, to, bytes);
            count += 1;
        }
        if let Some((at, path)) = self.network.schedule(path) {
            self.agenda.push(at, Event::Arrival(path));
        }
        if count > 0 {
            self.settle_end(to);
        }
    }

    fn arrive_forged(&mut self, number: u64) {
        let Some((from, to, bytes)) = self.forged.remove(&number) else { return };
        self.note(Kind::Arrival, usize::MAX & 0xffff, hash_bytes(&bytes));
        if self.is_fooled_by_the_past(to) {
            return self.record_datagram(to, from, to, &bytes, Outcome::Lost(Loss::Partition));
        }
        self.hand_in(from, to, bytes);
        self.settle_end(to);
    }

    /// A boot of an older copy of a folder bears the number of a boot that was. Without a seal, what somebody captured
    /// of that one's time passes for new, and nothing on the wire can tell.
    fn is_fooled_by_the_past(&self, to: End) -> bool {
        let End::Node(server) = to else { return false };
        self.settings.seal != SealMode::Require
            && self.servers.get(server).is_some_and(|server| server.is_old_copy)
    }

    fn hand_in(&mut self, from: End, to: End, bytes: Vec<u8>) {
        let now = self.now;
        let (id, dropped) = match to {
            End::Node(server) => {
                let Some(server) = self.servers.get_mut(server) else { return };
                let local = server.clock.local(now);
                let Some(running) = &mut server.running else {
                    return self.record_datagram(to, from, to, &bytes, Outcome::Lost(Loss::NobodyThere));
                };
                if server.paused_until.is_some() {
                    if server.inbox.len() < INBOX_MAX {
                        server.inbox.push_back((from.address(), bytes));
                    }
                    return;
                }
                self.invariants.received(now, server.id, from.address(), &bytes);
                let dropped = match &mut running.life {
                    Life::Blank(founding) => founding.handle_datagram(local, from.address(), &bytes),
                    Life::Member(node) => node.handle_datagram(local, from.address(), &bytes),
                };
                (Some(server.id), dropped)
            }
            End::Client(client) => {
                let client = self.seats.get_mut(client).and_then(|seat| seat.client.as_mut());
                let Some(client) = client else { return };
                (None, client.handle_datagram(now, from.address(), &bytes))
            }
        };
        if dropped.is_none() && self.is_sealed() {
            let judged = self.invariants.taken(now, id, hash_bytes(&bytes), &bytes);
            self.judge(judged);
        }
        if self.recorder.is_some() {
            let outcome = dropped.map_or(Outcome::Delivered, Outcome::Dropped);
            self.record_datagram(to, from, to, &bytes, outcome);
        }
        self.recycle(to, bytes);
    }

    /// Who took in a datagram fills its vector again.
    fn recycle(&mut self, end: End, bytes: Vec<u8>) {
        match end {
            End::Node(server) => {
                let running = self.servers.get_mut(server).and_then(|server| server.running.as_deref_mut());
                if let Some(Running { life: Life::Member(node), .. }) = running {
                    node.recycle(bytes);
                }
            }
            End::Client(client) => {
                if let Some(client) = self.seats.get_mut(client).and_then(|seat| seat.client.as_mut()) {
                    client.recycle(bytes);
                }
            }
        }
    }

    fn is_sealed(&self) -> bool {
        self.settings.seal != SealMode::Off
    }

    fn settle_end(&mut self, end: End) {
        match end {
            End::Node(server) if server < self.servers.len() => self.settle(server),
            End::Client(client) if client < self.seats.len() => self.settle_client(client),
            _ => {}
        }
    }

    /// True when an event is for the run of a node that is still on, and not paused; a paused one gets it later.
    fn is_for(&mut self, server: usize, boot: u32, event: Event) -> bool {
        let it = &self.servers[server];
        if it.boot != boot || it.running.is_none() {
            return false;
        }
        if let Some(until) = it.paused_until {
            self.agenda.push(until, event);
            return false;
        }
        true
    }

    fn wake(&mut self, server: usize, boot: u32, at: Instant) {
        let it = &mut self.servers[server];
        if it.boot != boot || it.running.is_none() || !it.alarms.ring(at) {
            return;
        }
        if it.paused_until.is_some() {
            // The end of the pause looks at the timers, and asks for the next wake.
            return;
        }
        if self.fire_timers(server) {
            self.note(Kind::Wake, server, 0);
            self.settle(server);
        } else {
            self.schedule_wake(server);
        }
    }

    /// Calls a node whose time has come.
    pub(super) fn fire_timers(&mut self, server: usize) -> bool {
        let now = self.now;
        let server = &mut self.servers[server];
        let local = server.clock.local(now);
        match server.running.as_deref_mut().map(|running| &mut running.life) {
            Some(Life::Blank(founding)) if founding.poll_timeout().is_some_and(|at| at <= local) => {
                founding.handle_timeout(local);
                true
            }
            Some(Life::Member(node)) if node.poll_timeout().is_some_and(|at| at <= local) => {
                node.handle_timeout(local);
                true
            }
            _ => false,
        }
    }

    fn disk(&mut self, server: usize, boot: u32) {
        if !self.is_for(server, boot, Event::Disk { server, boot }) {
            return;
        }
        let now = self.now;
        let it = &mut self.servers[server];
        if let Some(until) = it.writer.still_hangs(now) {
            return self.agenda.push(until, Event::Disk { server, boot });
        }
        let local = it.clock.local(now);
        let Some(running) = it.running.as_deref_mut() else { return };
        if let Some(batch) = it.writer.batch() {
            self.invariants.cut(it.id, batch);
        }
        if let Some((meta, log)) = it.writer.adoption() {
            self.invariants.adoption_cut(it.id, meta, log);
        }
        let Some(done) = it.writer.finish(now, &mut running.store) else { return };
        let mut judged = Ok(());
        let kind = match (&done, &mut running.life) {
            (Done::Persisted { ticket, batch }, Life::Member(node)) => {
                judged = self.invariants.persisted(now, it.id, batch);
                node.handle_persisted(local, *ticket);
                1
            }
            (Done::PeerRecorded { store, incarnation, nonce, seen }, Life::Member(node)) => {
                self.invariants.recorded(now, it.id);
                node.handle_peer_recorded(local, *store, *incarnation, *nonce, *seen);
                2
            }
            (Done::Adopted { meta, log, adopted }, Life::Member(node)) => {
                if matches!(adopted, Adopted::Yes { .. }) {
                    judged = self.invariants.adopted(now, it.id, meta, *log);
                }
                node.handle_snapshot_adopted(local, *meta, *adopted);
                6
            }
            (Done::Full(_), _) => 3,
            (Done::Failed(_), _) => 4,
            _ => 5,
        };
        self.judge(judged);
        self.note(Kind::Disk, server, kind);
        match done {
            Done::Full(job) => {
                self.servers[server].writer.put_back(job);
                self.agenda.push(now + FULL_PAUSE, Event::Disk { server, boot });
            }
            Done::Failed(error) => self.disk_failed(server, &error),
            Done::Founded => self.refound(server),
            Done::Persisted { .. } | Done::Adopted { .. } | Done::PeerRecorded { .. } => {
                self.upkeep(server);
                self.settle(server);
            }
        }
    }

    fn snapshot(&mut self, server: usize, boot: u32) {
        if !self.is_for(server, boot, Event::Snapshot { server, boot }) {
            return;
        }
        let now = self.now;
        let it = &mut self.servers[server];
        if let Some(until) = it.writer.still_hangs(now) {
            return self.agenda.push(until, Event::Snapshot { server, boot });
        }
        let local = it.clock.local(now);
        let disk = it.disk.clone();
        let Some(done) = it.snapshots.finish(disk) else { return };
        self.note(Kind::Snapshot, server, u64::from(done.is_ok()));
        match done {
            Ok(done) => {
                let running = self.servers[server].running.as_deref_mut();
                if let Some(Running { life: Life::Member(node), .. }) = running {
                    node.handle_snapshot_done(local, done);
                }
                self.settle(server);
            }
            Err(error) => self.disk_failed(server, &error),
        }
    }

    fn resume(&mut self, server: usize, boot: u32) {
        let now = self.now;
        let it = &mut self.servers[server];
        if it.boot != boot || it.paused_until != Some(now) {
            return;
        }
        it.paused_until = None;
        let inbox = core::mem::take(&mut it.inbox);
        self.note(Kind::Resume, server, inbox.len() as u64);
        for (from, bytes) in inbox {
            if let Some(from) = End::of(from) {
                self.hand_in(from, End::Node(server), bytes);
            }
        }
        self.fire_timers(server);
        self.settle(server);
    }

    /// Runs until this instant, or a violation.
    pub fn run_until_instant(&mut self, end: Instant) {
        while self.violation.is_none() && self.agenda.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }
}

/// A hash of a datagram, a word at a time.
fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    rest.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
