//! Clients in the simulation.

use super::agenda::{Alarms, Event};
use super::invariant::{self, Ask, OperationKey};
use super::network::{End, node_address};
use super::simulation::{AT_ONCE, Kind, Simulation};
use crate::client::{Answer, Client, ClientError, OperationId, Output};
use crate::machine::Machine;
use crate::membership::MembershipChange;
use crate::time::Instant;
use crate::types::{Index, NodeId};
use crate::wire::client::ReadLevel;
use core::time::Duration;

/// A place for a client, which may be empty.
#[derive(Debug)]
pub(super) struct Seat {
    /// Boxed, for it is taken out for each of its turns.
    pub(super) client: Option<Box<Client>>,
    boot: u32,
    alarms: Alarms,
}

/// An operation that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Whose.
    pub client: usize,
    /// Which.
    pub id: OperationId,
    /// How.
    pub result: Result<Answer, ClientError>,
}

impl<M: Machine> Simulation<M> {
    /// Adds a client that knows all nodes.
    pub fn add_client(&mut self) -> usize {
        self.seats.push(Seat { client: None, boot: 0, alarms: Alarms::default() });
        let client = self.seats.len() - 1;
        self.restart_client(client);
        client
    }

    /// Ends a client with all it has under way, and puts a new one in its place, at the same address.
    pub fn restart_client(&mut self, client: usize) {
        let addresses: Vec<_> = (0..self.servers.len()).map(node_address).collect();
        let new = Client::new(self.settings.client.clone(), &addresses, self.rng.fork(), self.now);
        let seat = &mut self.seats[client];
        *seat = Seat { client: Some(Box::new(new)), boot: seat.boot + 1, alarms: Alarms::default() };
        self.ended.retain(|ended| ended.client != client);
        self.forget_asked(client);
        self.settle_client(client);
    }

    /// A client offers a command.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn propose(&mut self, client: usize, command: Vec<u8>, patience: Duration) -> OperationId {
        let deadline = self.now + patience;
        let key = self.invariants.asked(Ask::Write(&command));
        let machine = self.seats[client].client.as_mut();
        let id = machine.map(|machine| machine.propose(command, deadline));
        self.asked.extend(id.map(|id| ((client, id), key)));
        self.settle_client(client);
        id.unwrap_or_else(|| panic!("client {client} is being called"))
    }

    /// A client asks.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn read(
        &mut self,
        client: usize,
        query: Vec<u8>,
        level: ReadLevel,
        patience: Duration,
    ) -> OperationId {
        let deadline = self.now + patience;
        let key = self.invariants.asked(Ask::Read { query: &query, level });
        let machine = self.seats[client].client.as_mut();
        let id = machine.map(|machine| machine.read(query, level, deadline));
        self.asked.extend(id.map(|id| ((client, id), key)));
        self.settle_client(client);
        id.unwrap_or_else(|| panic!("client {client} is being called"))
    }

    /// A client waits for what the machine carries out after this entry.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn watch(&mut self, client: usize, after: Index, filter: &[u8], patience: Duration) -> OperationId {
        let deadline = self.now + patience;
        self.ask(client, |machine| machine.watch(after, filter.to_vec(), deadline))
    }

    /// A client asks the leader who is in the cluster.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn members(&mut self, client: usize, patience: Duration) -> OperationId {
        let deadline = self.now + patience;
        self.ask(client, |machine| machine.members(deadline))
    }

    /// A client has the leader change the membership.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn change_membership(
        &mut self,
        client: usize,
        expected: Option<Index>,
        change: MembershipChange,
        patience: Duration,
    ) -> OperationId {
        let deadline = self.now + patience;
        self.ask(client, |machine| machine.change_membership(expected, change, deadline))
    }

    /// A client has the leader hand over.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn hand_over(&mut self, client: usize, to: Option<NodeId>, patience: Duration) -> OperationId {
        let deadline = self.now + patience;
        self.ask(client, |machine| machine.transfer_leadership(to, deadline))
    }

    /// Something that is no operation on the machine.
    fn ask(&mut self, client: usize, what: impl FnOnce(&mut Client) -> OperationId) -> OperationId {
        let id = self.seats[client].client.as_deref_mut().map(what);
        self.settle_client(client);
        id.unwrap_or_else(|| panic!("client {client} is being called"))
    }

    /// The next operation that has ended.
    pub fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// How one operation has ended, if it has.
    pub fn take_ended(&mut self, client: usize, id: OperationId) -> Option<Result<Answer, ClientError>> {
        let at = self.ended.iter().position(|ended| ended.client == client && ended.id == id)?;
        self.ended.remove(at).map(|ended| ended.result)
    }

    /// Waits for the end of one operation.
    ///
    /// # Panics
    /// See [`Self::run_until`].
    pub fn finish(&mut self, client: usize, id: OperationId) -> Result<Answer, ClientError> {
        let is_over = |sim: &Self| sim.ended.iter().any(|ended| ended.client == client && ended.id == id);
        self.run_until("an operation ends", is_over);
        self.take_ended(client, id).unwrap_or_else(|| unreachable!("{id} has ended"))
    }

    /// What a client had under way when it ended may have happened, or may yet.
    fn forget_asked(&mut self, client: usize) {
        let is_its = |&(&(whose, _), _): &(&(usize, OperationId), &OperationKey)| whose == client;
        let open: Vec<OperationKey> = self.asked.iter().filter(is_its).map(|(_, key)| *key).collect();
        self.asked.retain(|(whose, _), _| *whose != client);
        for key in open {
            let judged = self.invariants.answered(self.now, key, invariant::End::Unknown);
            self.judge(judged);
        }
    }

    pub(super) fn wake_client(&mut self, client: usize, boot: u32, at: Instant) {
        let now = self.now;
        let seat = &mut self.seats[client];
        if seat.boot != boot || !seat.alarms.ring(at) {
            return;
        }
        let Some(machine) = &mut seat.client else { return };
        if machine.poll_timeout().is_some_and(|at| at <= now) {
            machine.handle_timeout(now);
            self.note(Kind::Client, client, 0);
            self.settle_client(client);
        } else {
            self.schedule_client(client);
        }
    }

    /// Ends a client's turn.
    pub(super) fn settle_client(&mut self, client: usize) {
        let now = self.now;
        let Some(mut machine) = self.seats[client].client.take() else { return };
        machine.turn(now);
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Transmit { to, bytes } => self.transmit(End::Client(client), to, bytes),
                Output::Done { id, result } => {
                    self.note(Kind::Ended, client, u64::from(result.is_ok()));
                    if let Some(key) = self.asked.remove(&(client, id)) {
                        let judged = self.invariants.answered(now, key, invariant::End::of(&result));
                        self.judge(judged);
                    }
                    self.ended.push_back(Ended { client, id, result });
                }
            }
        }
        self.seats[client].client = Some(machine);
        self.schedule_client(client);
    }

    fn schedule_client(&mut self, client: usize) {
        let soonest = self.now + AT_ONCE;
        let seat = &mut self.seats[client];
        let next = seat.client.as_ref().and_then(|machine| machine.poll_timeout()).map(|at| at.max(soonest));
        if let Some(at) = next
            && seat.alarms.set(at)
        {
            let boot = seat.boot;
            self.agenda.push(at, Event::Client { client, boot });
        }
    }
}
