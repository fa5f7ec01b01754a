//! Starting and stopping nodes, and what follows from each of their turns.

use std::net::SocketAddr;

use slog::{Discard, Logger, o};

use super::agenda::Event;
use super::invariant::{Invariant, Observed, Violation};
use super::network::{End, node_address};
use super::server::{Crash, Down, Life, Running, Server};
use super::simulation::{AT_ONCE, Kind, QUIET, Simulation};
use super::storage::{Job, SharedDisk};
use crate::machine::Machine;
use crate::node::founding::{Blank, Founding, FoundingNotice, Output as FoundingOutput, Plan};
use crate::node::{DiskRoom, Node, NodeEvent, NodeStart, Output, StartError, StartSnapshot, snapshot};
use crate::rpc::SendErrorKind;
use crate::store::{
    Batch, Disk as _, DiskFault, FormatError, FormatOptions, MemoryDisk, OnDamage, OpenError, OpenOptions,
    Recovered, Store, StoreError, Upkeep,
};
use crate::trace::{NoteKind, Outcome};
use crate::types::{BootNonce, Identity, Incarnation, NodeId};

/// The disk operations of one write among which a crash may fall.
const CUT_OPERATIONS_MAX: u64 = 5;

/// The same for what is done with snapshot files.
const CUT_SNAPSHOT_OPERATIONS_MAX: u64 = 12;

/// An opened data folder, with the machine filled from its snapshot.
type Folder<M> = (Store<SharedDisk>, Recovered, Observed<M>, Option<StartSnapshot>);

/// What a turn asked for beside effects.
enum Ending {
    /// Nothing.
    None,
    /// The effects it had left ended the node.
    Doomed(Crash),
    /// It is not wanted.
    FoundedWithoutIt,
}

impl<M: Machine> Simulation<M> {
    /// Starts a node on its disk; on an empty one it becomes a founder, or joins.
    pub(super) fn boot(&mut self, place: usize) -> Result<(), OpenError> {
        assert!(self.servers[place].running.is_none(), "node {} runs already", self.servers[place].id);
        let result = self.open(place).map(|(store, recovered, machine, snapshot)| {
            let server = &mut self.servers[place];
            server.incarnation = recovered.incarnation;
            server.is_founded = !recovered.cluster.is_zero();
            let judged = self.invariants.opened(self.now, server.id, &recovered);
            self.judge(judged);
            let life = self.enliven(place, recovered, machine, snapshot);
            let server = &mut self.servers[place];
            server.running = Some(Box::new(Running { life, store }));
        });
        let incarnation = self.servers[place].incarnation;
        self.note(Kind::Boot, place, u64::from(incarnation.0) << 1 | u64::from(result.is_ok()));
        match &result {
            Ok(()) => {
                self.record_boot(place);
                let server = &self.servers[place];
                if let Some(node) = server.node() {
                    let judged = self.invariants.booted(self.now, server.id, node);
                    self.judge(judged);
                }
                self.settle(place);
            }
            Err(error) => self.servers[place].down = Down::Refused(error.clone()),
        }
        result
    }

    fn open(&mut self, place: usize) -> Result<Folder<M>, OpenError> {
        let segment_bytes = self.settings.segment_bytes;
        let server = &mut self.servers[place];
        let mut disk = server.disk.clone();
        let options = FormatOptions {
            store: crate::types::StoreId(server.rng.bytes16()),
            first_incarnation: Incarnation(server.rng.below(1 << 20) as u32 + 1),
            segment_bytes,
        };
        let files = disk.list()?;
        // As the daemon does: an empty folder, or one whose formatting was cut short.
        if files.is_empty() || files.iter().any(|file| file == "formatting") {
            Store::format(&mut disk, options).map_err(|error| match error {
                FormatError::Disk(error) => OpenError::Disk(error),
                FormatError::NotEmpty { .. } => OpenError::FormatUnfinished,
            })?;
        }
        let options = OpenOptions { on_damage: OnDamage::Keep, ..self.settings.open_options() };
        let mut machine = Observed::new((self.factory)());
        match snapshot::open(disk, options, &mut machine) {
            Ok((store, recovered, snapshot)) => Ok((store, recovered, machine, snapshot)),
            Err(StartError::Open(error)) => Err(error),
            Err(error) => panic!("a snapshot in force cannot be loaded: {error}"),
        }
    }

    fn enliven(
        &mut self,
        place: usize,
        recovered: Recovered,
        machine: Observed<M>,
        snapshot: Option<StartSnapshot>,
    ) -> Life<M> {
        let now = self.now;
        let server = &mut self.servers[place];
        let (id, local) = (server.id, server.clock.local(now));
        let boot_nonce = BootNonce(server.rng.bytes16());
        if recovered.cluster.is_zero() {
            let identity = Identity { node: id, store: recovered.store };
            let blank = Blank { identity, incarnation: recovered.incarnation, boot_nonce };
            let rng = server.rng.fork();
            let founders = usize::from(self.settings.founders);
            let joins = self.servers[place].is_joiner || place >= founders;
            // Whoever joins may ask anybody.
            let known = if joins { self.servers.len() } else { founders };
            let ids = self.servers.iter().map(|server| server.id).enumerate().take(known);
            let ids: Vec<(usize, NodeId)> = ids.collect();
            let contacts: Vec<(Option<NodeId>, SocketAddr)> = ids
                .iter()
                .filter(|(other, _)| *other != place)
                .map(|(other, id)| ((!joins).then_some(*id), node_address(*other)))
                .collect();
            let voters = ids.iter();
            let voters = voters.map(|(other, id)| (*id, node_address(*other).to_string())).collect();
            let rpc = self.settings.rpc_of(id);
            let plan = match joins {
                true => Plan::Join,
                false => Plan::Found { voters, restored: recovered.snapshot.map(|file| file.meta) },
            };
            return Life::Blank(Box::new(Founding::new(plan, blank, &contacts, rpc, rng, local)));
        }
        let start = NodeStart {
            store: recovered.store,
            incarnation: recovered.incarnation,
            boot_nonce,
            cluster: recovered.cluster,
            founding: recovered.founding,
            hard_state: recovered.hard_state,
            snapshot,
            entries: recovered.entries,
            remains: recovered.remains,
            damage: recovered.damage,
        };
        let config = self.settings.node(id, node_address(place).to_string());
        let logger = Logger::root(Discard, o!());
        let node = Node::new(config, start, machine, &logger, server.rng.fork(), local);
        Life::Member(Box::new(node))
    }

    /// The founding record is durable: the node begins anew as a member.
    pub(super) fn refound(&mut self, place: usize) {
        self.invariants.stopped(self.servers[place].id);
        self.servers[place].stop(Down::Crashed);
        // A disk fault may hit this start like any other; the node is down then.
        if self.boot(place).is_err() {
            self.fallen.push_back(self.servers[place].id.as_u16());
        }
    }

    /// Ends a node's run.
    pub(super) fn bring_down(&mut self, place: usize, crash: Crash, why: Down) {
        let server = &mut self.servers[place];
        if server.running.is_none() {
            return;
        }
        let is_cut = server.writer.is_writing() && server.rng.chance(0.8);
        if is_cut && let Some(mut running) = server.running.take() {
            // The write under way gets as far as any of its disk operations.
            let stop = server.rng.below(CUT_OPERATIONS_MAX);
            let disk = running.store.disk_mut();
            disk.with(|disk| disk.set_fault(disk.operations() + stop, DiskFault::Stop));
            if let Some(batch) = server.writer.batch() {
                self.invariants.cut(server.id, batch);
            }
            if let Some((meta, log)) = server.writer.adoption() {
                self.invariants.adoption_cut(server.id, meta, log);
            }
            server.writer.finish(self.now, &mut running.store);
            server.disk.with(MemoryDisk::revive);
        }
        if server.snapshots.is_working() && server.rng.chance(0.8) {
            let stop = server.rng.below(CUT_SNAPSHOT_OPERATIONS_MAX);
            server.disk.with(|disk| disk.set_fault(disk.operations() + stop, DiskFault::Stop));
            let disk = server.disk.clone();
            server.snapshots.finish(disk);
        }
        self.invariants.stopped(server.id);
        server.stop(why);
        let rng = &mut server.rng;
        server.disk.with(|disk| match crash {
            Crash::Kill => disk.revive(),
            Crash::PowerCut => disk.crash(rng),
        });
        self.note(Kind::Crash, place, crash as u64);
        self.record_note(NoteKind::Crash, Some(place), || format!("{crash:?}"));
    }

    /// A node goes down without its owner's doing.
    fn fall(&mut self, place: usize, crash: Crash, why: Down) {
        self.bring_down(place, crash, why);
        self.fallen.push_back(self.servers[place].id.as_u16());
    }

    pub(super) fn disk_failed(&mut self, place: usize, error: &impl core::fmt::Display) {
        self.fall(place, Crash::Kill, Down::DiskFailed(error.to_string()));
    }

    /// What a disk does when nothing waits for it.
    pub(super) fn upkeep(&mut self, place: usize) {
        let (now, server) = (self.now, &mut self.servers[place]);
        if !server.writer.is_idle() {
            return;
        }
        let local = server.clock.local(now);
        let Some(running) = server.running.as_deref_mut() else { return };
        let room = loop {
            match running.store.maintain() {
                Ok(Upkeep::More) => {}
                Ok(Upkeep::Done) => break DiskRoom::Enough,
                Ok(Upkeep::Crowded { segments }) => break DiskRoom::Crowded { segments },
                Err(StoreError::Full) => break DiskRoom::Low,
                Err(error) => return self.disk_failed(place, &error),
            }
        };
        server.room = room;
        if let Life::Member(node) = &mut running.life {
            node.handle_disk_room(local, room);
        }
        if !server.awaits_quiet {
            server.awaits_quiet = true;
            let boot = server.boot;
            self.agenda.push(now + QUIET, Event::Quiet { server: place, boot });
        }
    }

    pub(super) fn quiet(&mut self, place: usize, boot: u32) {
        let (now, server) = (self.now, &mut self.servers[place]);
        if server.boot != boot || server.running.is_none() {
            return;
        }
        server.awaits_quiet = false;
        if !server.writer.is_idle() || server.paused_until.is_some() {
            return;
        }
        let since = now.saturating_since(server.writer.wrote);
        if since < QUIET {
            server.awaits_quiet = true;
            return self.agenda.push(now + (QUIET - since), Event::Quiet { server: place, boot });
        }
        let Some(running) = server.running.as_deref_mut() else { return };
        let result = running.store.quiet();
        self.note(Kind::Quiet, place, 0);
        if let Err(error @ StoreError::Failed(_)) = result {
            return self.disk_failed(place, &error);
        }
        // There may be room again.
        if self.servers[place].room == DiskRoom::Low {
            self.upkeep(place);
            self.settle(place);
        }
    }

    /// Ends a node's turn: carries out what it wants done, and asks when it wants to be called again.
    pub(super) fn settle(&mut self, place: usize) {
        let Some(mut running) = self.servers[place].running.take() else { return };
        if self.servers[place].paused_until.is_some() {
            self.servers[place].running = Some(running);
            return;
        }
        self.touched = Some(place);
        let ending = match &mut running.life {
            Life::Member(node) => self.settle_member(place, node),
            Life::Blank(founding) => self.settle_blank(place, founding),
        };
        let now = self.now;
        let server = &mut self.servers[place];
        server.running = Some(running);
        match ending {
            Ending::None => {}
            Ending::Doomed(crash) => return self.fall(place, crash, Down::Crashed),
            Ending::FoundedWithoutIt => return self.fall(place, Crash::Kill, Down::FoundedWithoutIt),
        }
        if let Some(at) = server.writer.begin(now, server.profile, &mut server.rng) {
            let boot = server.boot;
            self.agenda.push(at, Event::Disk { server: place, boot });
        }
        if let Some(latency) = server.snapshots.begin(server.profile, &mut server.rng) {
            let boot = server.boot;
            self.agenda.push(now + latency, Event::Snapshot { server: place, boot });
        }
        self.schedule_wake(place);
    }

    fn settle_member(&mut self, place: usize, node: &mut Node<Observed<M>>) -> Ending {
        let local = self.servers[place].clock.local(self.now);
        node.turn(local);
        if self.recorder.is_some() {
            self.record_state(self.servers[place].id, node.raft());
        }
        let judged = self.invariants.turned(self.now, self.servers[place].id, node);
        self.judge(judged);
        let mut refused = Vec::new();
        while let Some(output) = node.poll_output() {
            let server = &mut self.servers[place];
            if let Some((left, crash)) = &mut server.doom {
                match left.checked_sub(1) {
                    Some(fewer) => *left = fewer,
                    None => return Ending::Doomed(*crash),
                }
            }
            match output {
                Output::Transmit { to, bytes } => match server.refuses(bytes.len()) {
                    None => {
                        let judged = self.invariants.sent(self.now, server.id, to, &bytes);
                        self.judge(judged);
                        self.transmit(End::Node(place), to, bytes);
                    }
                    Some(kind) => {
                        if let Some(to) = End::of(to) {
                            self.record_datagram(
                                End::Node(place),
                                End::Node(place),
                                to,
                                &bytes,
                                Outcome::Refused,
                            );
                        }
                        refused.push((to, kind));
                    }
                },
                Output::Persist { ticket, hard_state, truncate_from, entries } => {
                    let batch = Batch { hard_state, truncate_from, entries };
                    server.writer.ask(Job::Persist { ticket, batch });
                }
                Output::RecordPeer { store, incarnation, nonce, kept } => {
                    server.writer.ask(Job::RecordPeer { store, incarnation, nonce, kept });
                }
                Output::Snapshot(job) => server.snapshots.ask(job),
                Output::AdoptSnapshot { meta, log } => server.writer.ask(Job::Adopt { meta, log }),
                Output::Event(NodeEvent::CopiedFolder { peer, .. }) => self.check_alarm(place, peer),
                Output::Event(NodeEvent::Diverged { divergence, .. }) => {
                    let (invariant, node) = (Invariant::StateMachineSafety, Some(server.id));
                    let text = format!("finds that {divergence}");
                    self.judge(Err(Violation { invariant, node, at: self.now, text }));
                }
                Output::Event(_) => {}
            }
        }
        for (to, kind) in refused {
            // What the node says to that, it says in its next turn, which its timers bring.
            node.handle_send_error(local, to, kind);
        }
        Ending::None
    }

    /// 14: only a copied data folder is taken for one, or one that is gone and for which late datagrams speak.
    fn check_alarm(&mut self, place: usize, peer: Identity) {
        let is_copy = self.servers.iter().any(|server| server.id == peer.node && server.is_old_copy);
        let was_wiped = self.servers.iter().any(|server| server.id == peer.node && server.was_wiped);
        let is_in_use = self.invariants.shadow(peer.node).is_some_and(|shadow| shadow.identity() == peer);
        if !is_copy && (is_in_use || !was_wiped) {
            let text = format!("takes the data folder of {peer} for a copy, and nobody copied it");
            let (invariant, node) = (Invariant::CampaignMembership, Some(self.servers[place].id));
            self.judge(Err(Violation { invariant, node, at: self.now, text }));
        }
    }

    fn settle_blank(&mut self, place: usize, founding: &mut Founding) -> Ending {
        founding.turn(self.servers[place].clock.local(self.now));
        let mut ending = Ending::None;
        while let Some(output) = founding.poll_output() {
            let server = &mut self.servers[place];
            match output {
                FoundingOutput::Transmit { to, bytes } => {
                    let judged = self.invariants.sent(self.now, server.id, to, &bytes);
                    self.judge(judged);
                    self.transmit(End::Node(place), to, bytes);
                }
                FoundingOutput::Founded(record) if server.writer.is_idle() => {
                    server.writer.ask(Job::Found(record));
                }
                FoundingOutput::Joined(cluster) if server.writer.is_idle() => {
                    server.writer.ask(Job::Join(cluster));
                }
                FoundingOutput::Notice(FoundingNotice::FoundedWithoutUs { .. }) => {
                    ending = Ending::FoundedWithoutIt;
                }
                // The first record is taken, and all founders have the same list.
                FoundingOutput::Founded(_) | FoundingOutput::Joined(_) | FoundingOutput::Notice(_) => {}
            }
        }
        ending
    }

    pub(super) fn schedule_wake(&mut self, place: usize) {
        let soonest = self.now + AT_ONCE;
        let server = &mut self.servers[place];
        let next = match server.running.as_deref().map(|running| &running.life) {
            Some(Life::Blank(founding)) => founding.poll_timeout(),
            Some(Life::Member(node)) => node.poll_timeout(),
            None => None,
        };
        let Some(at) = next.map(|local| server.clock.global(local).max(soonest)) else { return };
        if server.alarms.set(at) {
            let boot = server.boot;
            self.agenda.push(at, Event::Wake { server: place, boot });
        }
    }
}

impl<M> Server<M> {
    /// Whether the socket refuses a datagram of this length.
    fn refuses(&mut self, bytes: usize) -> Option<SendErrorKind> {
        if self.mtu.is_some_and(|mtu| bytes > mtu) {
            return Some(SendErrorKind::MessageTooLong);
        }
        (self.send_errors > 0.0 && self.rng.chance(self.send_errors)).then_some(SendErrorKind::Other)
    }
}
