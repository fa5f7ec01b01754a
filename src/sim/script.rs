//! What a scenario can do to a simulation, and ask of it. Nodes go by their numbers, from 1 on.

use core::time::Duration;

use super::agenda::Event;
use super::invariant::Violation;
use super::network::End;
use super::server::{Crash, Down, Life, Running, Server};
use super::simulation::Simulation;
use super::storage::DiskProfile;
use crate::fault::LinkConfig;
use crate::machine::Machine;
use crate::membership::Membership;
use crate::node::Node;
use crate::raft::RoleKind;
use crate::session;
use crate::sim::invariant::Observed;
use crate::store::{MemoryDisk, OpenError};
use crate::time::Instant;
use crate::trace::NoteKind;
use crate::types::{Incarnation, StoreId};

/// How long [`Simulation::run_until`] waits.
const PATIENCE: Duration = Duration::from_secs(120);

impl<M: Machine> Simulation<M> {
    /// The instant that has been reached.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How much has happened.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// A hash of all that has happened: equal for equal settings and deeds, on every machine.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// What it is made of.
    #[must_use]
    pub const fn settings(&self) -> &super::settings::Settings {
        &self.settings
    }

    /// The next node that ended by itself, or by what had been set to befall it.
    pub fn poll_fallen(&mut self) -> Option<u16> {
        self.fallen.pop_front()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u16 {
        self.servers.len() as u16
    }

    /// What was found not to hold; the simulation stands still from then on.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Starts a node that is down. On an empty disk it is a founder.
    ///
    /// # Errors
    /// When it refuses its data folder.
    ///
    /// # Panics
    /// When it runs.
    pub fn start(&mut self, node: u16) -> Result<(), OpenError> {
        self.boot(place(node))
    }

    /// Starts a node that is down. On an empty disk it joins the cluster, also if it was one of the founders.
    ///
    /// # Errors
    /// When it refuses its data folder.
    ///
    /// # Panics
    /// When it runs.
    pub fn join(&mut self, node: u16) -> Result<(), OpenError> {
        self.servers[place(node)].is_joiner = true;
        self.boot(place(node))
    }

    /// Where a node is reached, as a membership names it.
    #[must_use]
    pub fn address(&self, node: u16) -> String {
        super::network::node_address(place(node)).to_string()
    }

    /// Starts all founders, adds a client and waits until a leader serves.
    ///
    /// # Panics
    /// When a node does not start.
    pub fn found(&mut self) {
        for node in 1..=self.settings.founders {
            self.start(node).unwrap_or_else(|error| panic!("node {node}: {error}"));
        }
        self.add_client();
        self.run_until("a leader serves", |sim| sim.leader().is_some());
    }

    /// Brings a node down at once. Nothing happens to one that is down.
    pub fn crash(&mut self, node: u16, crash: Crash) {
        self.bring_down(place(node), crash, Down::Crashed);
    }

    /// Brings a node down in the middle of what it does next, after so many effects of its turns.
    pub fn crash_after(&mut self, node: u16, effects: u32, crash: Crash) {
        self.servers[place(node)].doom = Some((effects, crash));
    }

    /// Crashes a node that runs, and starts it.
    ///
    /// # Errors
    /// When it refuses its data folder.
    pub fn restart(&mut self, node: u16, crash: Crash) -> Result<(), OpenError> {
        self.crash(node, crash);
        self.start(node)
    }

    /// Brings a node down and takes its data away.
    pub fn wipe(&mut self, node: u16) {
        self.crash(node, Crash::Kill);
        let server = &mut self.servers[place(node)];
        server.was_wiped = true;
        server.disk = super::storage::SharedDisk::default();
        self.invariants.wiped(server.id);
    }

    /// A node does nothing for a while. Its socket goes on taking in what has room.
    pub fn pause(&mut self, node: u16, span: Duration) {
        let until = self.now + span;
        let server = &mut self.servers[place(node)];
        if server.running.is_some() && server.paused_until.is_none_or(|paused| paused < until) {
            server.paused_until = Some(until);
            let boot = server.boot;
            self.agenda.push(until, Event::Resume { server: place(node), boot });
            self.record_note(NoteKind::Pause, Some(place(node)), || format!("{span:?}"));
        }
    }

    /// Why a node is down, if it is.
    #[must_use]
    pub fn down(&self, node: u16) -> Option<&Down> {
        let server = &self.servers[place(node)];
        server.running.is_none().then_some(&server.down)
    }

    /// A founded node that runs.
    #[must_use]
    pub fn node(&self, node: u16) -> Option<&Node<Observed<M>>> {
        self.servers.get(place(node))?.node()
    }

    /// The number of a node's latest start.
    #[must_use]
    pub fn incarnation(&self, node: u16) -> Incarnation {
        self.servers[place(node)].incarnation
    }

    /// The node that leads: of those that have committed in their term, the one of the highest.
    #[must_use]
    pub fn leader(&self) -> Option<u16> {
        let leads = |server: &&Server<M>| {
            server
                .node()
                .is_some_and(|node| node.raft().role() == RoleKind::Leader && node.raft().is_settled_leader())
        };
        let leaders = self.servers.iter().filter(leads);
        leaders.max_by_key(|server| server.node().map(|node| node.raft().term())).map(|it| it.id.as_u16())
    }

    /// The data folder that a node runs on, or ran on last.
    #[must_use]
    pub fn store_of(&self, node: u16) -> Option<StoreId> {
        let server = &self.servers[place(node)];
        self.invariants.shadow(server.id).map(|shadow| shadow.identity().store)
    }

    /// The latest membership that is committed, whoever knows it.
    #[must_use]
    pub fn committed_membership(&self) -> Option<&Membership> {
        self.invariants.committed_membership()
    }

    /// From here on nothing that `from` sends reaches `to`.
    pub fn block(&mut self, from: End, to: End) {
        self.network.set_blocked(from, to, true);
    }

    /// Ends one block.
    pub fn unblock(&mut self, from: End, to: End) {
        self.network.set_blocked(from, to, false);
    }

    /// Ends all blocks.
    pub fn unblock_all(&mut self) {
        self.network.unblock_all();
    }

    /// Whether a path is blocked.
    #[must_use]
    pub fn is_blocked(&self, from: End, to: End) -> bool {
        self.network.is_blocked(from, to)
    }

    /// Sets what one path does with what is sent from here on.
    pub fn set_link(&mut self, from: End, to: End, config: LinkConfig) {
        self.network.set_link(from, to, config);
    }

    /// Sets what every path does with what is sent from here on.
    pub fn set_links(&mut self, config: &LinkConfig) {
        self.network.set_links(config);
    }

    /// What one path has done.
    pub fn link_stats(&mut self, from: End, to: End) -> crate::fault::LinkStats {
        *self.network.link(from, to).stats()
    }

    /// Sets how long a node's disk takes for writes begun from here on.
    pub fn set_disk(&mut self, node: u16, profile: DiskProfile) {
        self.servers[place(node)].profile = profile;
    }

    /// A node's disk answers nothing for a while.
    pub fn hang_disk(&mut self, node: u16, span: Duration) {
        let until = self.now + span;
        self.servers[place(node)].writer.hang_until(until);
    }

    /// Looks at a node's disk, or changes what is on it, or sets faults.
    pub fn with_disk<T>(&mut self, node: u16, work: impl FnOnce(&mut MemoryDisk) -> T) -> T {
        self.servers[place(node)].disk.with(work)
    }

    /// Changes what is on a node's disk in ways that a store finds out: it does not open, or is as it was.
    pub fn spoil_disk<T>(&mut self, node: u16, work: impl FnOnce(&mut MemoryDisk) -> T) -> T {
        let server = &self.servers[place(node)];
        self.invariants.damaged(server.id);
        server.disk.with(work)
    }

    /// A node's clock runs so many times as fast as it should.
    pub fn set_clock_rate(&mut self, node: u16, rate: f64) {
        let (now, server) = (self.now, &mut self.servers[place(node)]);
        server.clock.set_rate(now, rate);
        server.alarms.clear();
        self.schedule_wake(place(node));
    }

    /// A node's clock jumps ahead.
    pub fn jump_clock(&mut self, node: u16, span: Duration) {
        let (now, server) = (self.now, &mut self.servers[place(node)]);
        server.clock.jump(now, span);
        server.alarms.clear();
        self.schedule_wake(place(node));
    }

    /// A node's socket refuses this share of its datagrams, and all that are longer than `mtu`.
    pub fn set_socket(&mut self, node: u16, send_errors: f64, mtu: Option<usize>) {
        let server = &mut self.servers[place(node)];
        (server.send_errors, server.mtu) = (send_errors, mtu);
    }

    /// A node hands leadership over, if it leads.
    pub fn transfer_leadership(&mut self, node: u16) {
        let (now, place) = (self.now, place(node));
        let server = &mut self.servers[place];
        let local = server.clock.local(now);
        if let Some(Running { life: Life::Member(node), .. }) = server.running.as_deref_mut() {
            node.transfer_leadership(local, None);
            self.settle(place);
        }
    }

    /// A node runs the version after this one from its next start on, as far as the wire shows (F24).
    pub fn upgrade(&mut self, node: u16) {
        self.settings.upgraded.insert(node);
    }

    /// A node runs this version from its next start on.
    pub fn downgrade(&mut self, node: u16) {
        self.settings.upgraded.remove(&node);
    }

    /// A node takes a snapshot of what it has applied.
    pub fn take_snapshot(&mut self, node: u16) {
        let place = place(node);
        if self.servers[place].paused_until.is_some() {
            return;
        }
        if let Some(Running { life: Life::Member(node), .. }) = self.servers[place].running.as_deref_mut() {
            node.take_snapshot();
            self.settle(place);
        }
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.seats.len()
    }

    /// Where the clients are.
    #[must_use]
    pub fn client_ends(&self) -> Vec<End> {
        (0..self.seats.len()).map(End::Client).collect()
    }

    /// Whether a node's data folder belongs to a cluster, as far as it was ever opened.
    #[must_use]
    pub fn is_founded(&self, node: u16) -> bool {
        self.servers[place(node)].is_founded
    }

    /// A node that is down finds this on its disk instead of what was there.
    ///
    /// # Panics
    /// When it runs.
    pub fn put_back(&mut self, node: u16, disk: MemoryDisk) {
        assert!(self.down(node).is_some(), "node {node} runs");
        let server = &mut self.servers[place(node)];
        server.disk = super::storage::SharedDisk::of(disk);
        server.is_old_copy = true;
        self.invariants.forswear(server.id);
    }

    /// Has the leader propose other limits for the whole cluster, if it would change any. False when there is no
    /// leader that can, or it refused for the moment.
    pub fn change_limits(&mut self, change: impl FnOnce(&mut session::Limits)) -> bool {
        let Some(leader) = self.leader() else { return false };
        let place = place(leader);
        let local = self.servers[place].clock.local(self.now);
        if self.servers[place].paused_until.is_some() {
            return false;
        }
        let Some(Running { life: Life::Member(node), .. }) = self.servers[place].running.as_deref_mut()
        else {
            return false;
        };
        let mut limits = node.sessions().limits();
        change(&mut limits);
        if limits == node.sessions().limits() {
            return true;
        }
        let is_taken = node.propose_limits(local, limits).is_ok();
        self.settle(place);
        is_taken
    }

    /// Ends what troubles a node beside its disk: a pause, a hanging disk, a planned crash, a bad clock or socket.
    pub fn end_trouble(&mut self, node: u16) {
        self.set_clock_rate(node, 1.0);
        let now = self.now;
        let server = &mut self.servers[place(node)];
        (server.send_errors, server.mtu, server.doom) = (0.0, None, None);
        let was_hanging = server.writer.stop_hanging();
        let boot = server.boot;
        let was_paused = server.paused_until.is_some();
        if was_paused {
            server.paused_until = Some(now);
            self.agenda.push(now, Event::Resume { server: place(node), boot });
        }
        if was_hanging || was_paused {
            self.agenda.push(now, Event::Disk { server: place(node), boot });
            // What a pause or a hanging disk held up of a snapshot was put off until its planned end.
            self.agenda.push(now, Event::Snapshot { server: place(node), boot });
        }
    }

    /// Whether these nodes have come to rest: one leads, all hold the same, and nothing is under way.
    ///
    /// # Errors
    /// What they lack.
    pub fn are_at_rest(&self, is_in: impl Fn(u16) -> bool + Clone) -> Result<(), Violation> {
        self.invariants.at_rest(self.now, self.nodes_in(is_in))
    }

    /// The last look at these nodes, which have come to rest: everything that anyone was told is there.
    ///
    /// # Errors
    /// What is not.
    pub fn check_all(&mut self, is_in: impl Fn(u16) -> bool + Clone) -> Result<(), Violation> {
        let nodes = self.servers.iter().filter(|server| is_in(server.id.as_u16())).filter_map(Server::node);
        self.invariants.ended(self.now, nodes)
    }

    fn nodes_in(
        &self,
        is_in: impl Fn(u16) -> bool + Clone,
    ) -> impl Iterator<Item = &Node<Observed<M>>> + Clone {
        self.servers.iter().filter(move |server| is_in(server.id.as_u16())).filter_map(Server::node)
    }

    /// Keeps copies of the latest datagrams on the network, at most so many.
    pub fn tap(&mut self, count_max: usize) {
        self.tapped_max = count_max;
        self.tapped.truncate(count_max);
    }

    /// What [`Self::tap`] keeps, the oldest first.
    pub fn tapped(&self) -> impl ExactSizeIterator<Item = &(End, End, Vec<u8>)> {
        self.tapped.iter()
    }

    /// Somebody else sends a datagram under the address of `from`; it arrives after `delay`.
    pub fn inject(&mut self, from: End, to: End, bytes: Vec<u8>, delay: Duration) {
        self.forged_count += 1;
        self.forged.insert(self.forged_count, (from, to, bytes));
        self.agenda.push(self.now + delay, Event::Forged(self.forged_count));
    }

    /// Asks for [`Self::poll_timer`] to say `token` after a while.
    pub fn set_timer(&mut self, after: Duration, token: u64) {
        self.agenda.push(self.now + after, Event::Timer(token));
    }

    /// The next timer of the owner that is due.
    pub fn poll_timer(&mut self) -> Option<u64> {
        self.due.pop_front()
    }

    /// The node that the last event touched.
    #[must_use]
    pub fn touched(&self) -> Option<u16> {
        self.touched.map(|place| place as u16 + 1)
    }

    /// Runs for this long, or until a violation.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until_instant(self.now + span);
    }

    /// Runs until `condition` holds.
    ///
    /// # Panics
    /// When it does not within two virtual minutes, and at a violation.
    pub fn run_until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = self.now + PATIENCE;
        while !condition(self) {
            assert!(self.violation.is_none(), "{}\n{}", self.violation_text(), self.describe());
            assert!(self.now < deadline, "not within {PATIENCE:?}: {what}\n{}", self.describe());
            self.step();
        }
    }

    fn violation_text(&self) -> String {
        self.violation.as_ref().map_or_else(String::new, ToString::to_string)
    }

    /// A line per node.
    #[must_use]
    pub fn describe(&self) -> String {
        let line = |server: &Server<M>| {
            let id = server.id;
            let Some(node) = server.node() else {
                let blank = server.running.is_some();
                return if blank { format!("{id} blank") } else { format!("{id} down: {}", server.down) };
            };
            let raft = node.raft();
            let (role, term, last) = (raft.role(), raft.term(), raft.last_index());
            let leader = raft.leader().map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            let paused = if server.paused_until.is_some() { " paused" } else { "" };
            format!(
                "{id} {role} term={term} leader={leader} last={last}@{} commit={}{paused}{}",
                raft.last_term(),
                raft.commit(),
                raft.repair().map_or_else(String::new, |repair| format!(" {repair:?}"))
            )
        };
        self.servers.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Where the node of this number stands in the tables.
///
/// # Panics
/// For number 0.
fn place(node: u16) -> usize {
    assert!(node > 0, "nodes are counted from 1");
    usize::from(node) - 1
}
