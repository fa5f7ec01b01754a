//! Who answers at an address? Asked before a membership binds a data folder to it.
//!
//! A mistyped address in a membership is a member that nobody reaches, and a member that is another node than meant may
//! be counted for what it never promised. So the leader says hello first, and the entry binds the store that answered.
//!
//! The hello is a client's, from a room of its own on the node's socket: the links between members are not moved or
//! taken over by a question. A blank node does not answer clients, so that one which is not started with the wish to
//! join looks like none.

use core::time::Duration;
use std::net::SocketAddr;

use super::admin::Asked;
use super::{Node, Output};
use crate::machine::Machine;
use crate::rpc::{Event, Local, Output as RpcOutput, PeerInfo, Rpc, SendErrorKind};
use crate::time::{Instant, earliest};
use crate::types::{BootNonce, PacketNumber};
use crate::wire::DropReason;
use crate::wire::member::ChangeRefusal;

/// How long an address has to answer. Hellos are repeated several times within it.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The most questions under way at once; who asks for more is told to come again.
pub(super) const PROBES_MAX: usize = 8;

/// A question under way.
#[derive(Debug)]
pub(super) struct Probe {
    address: SocketAddr,
    rpc: Rpc,
    asked: Asked,
    deadline: Instant,
}

/// The questions under way, and where the numbers of the next one's datagrams begin.
#[derive(Debug)]
pub(super) struct Probes {
    open: Vec<Probe>,
    next_packet: PacketNumber,
}

impl Default for Probes {
    fn default() -> Self {
        Self { open: Vec::new(), next_packet: PacketNumber(1) }
    }
}

impl Probes {
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= PROBES_MAX
    }

    /// Hands in a datagram; true when a question took it for its own.
    pub(super) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> bool {
        let mut probes = self.open.iter_mut().filter(|probe| probe.address == from);
        probes.any(|probe| probe.rpc.handle_datagram(now, from, bytes).is_none())
    }

    pub(super) fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: SendErrorKind) {
        self.open.iter_mut().for_each(|probe| probe.rpc.handle_send_error(now, to, kind));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.open.iter_mut().for_each(|probe| probe.rpc.handle_timeout(now));
    }

    pub(super) fn flush(&mut self, now: Instant) {
        self.open.iter_mut().for_each(|probe| probe.rpc.flush(now));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.iter().fold(None, |next, probe| {
            earliest(next, earliest(probe.rpc.poll_timeout(), Some(probe.deadline)))
        })
    }

    fn close(&mut self, place: usize) -> Probe {
        let probe = self.open.swap_remove(place);
        self.next_packet = self.next_packet.max(probe.rpc.next_packet());
        probe
    }
}

impl<M: Machine> Node<M> {
    /// Says hello to the address of what was asked.
    pub(super) fn probe(&mut self, now: Instant, address: SocketAddr, asked: Asked) {
        let local =
            Local { first_packet: self.probes.next_packet, ..Local::client(BootNonce(self.rng.bytes16())) };
        let mut rpc = Rpc::new(self.config.rpc.clone(), local, self.rng.fork(), now)
            .unwrap_or_else(|error| panic!("node settings: {error}"));
        rpc.connect(now, address, None);
        self.probes.open.push(Probe { address, rpc, asked, deadline: now + PROBE_TIMEOUT });
    }

    /// Hands in a datagram; tells why, if it is dropped.
    pub(super) fn take_in(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        if self.probes.handle_datagram(now, from, bytes) {
            return None;
        }
        self.rpc.handle_datagram(now, from, bytes)
    }

    /// Acts on what the questions have come to.
    pub(super) fn pump_probes(&mut self, now: Instant) {
        let mut place = 0;
        while place < self.probes.open.len() {
            match self.answer_of(now, place) {
                None => place += 1,
                Some(answer) => {
                    let probe = self.probes.close(place);
                    self.on_probed(now, probe.asked, answer);
                }
            }
        }
    }

    /// Who answered a question, or why nobody will.
    fn answer_of(&mut self, now: Instant, place: usize) -> Option<Result<PeerInfo, ChangeRefusal>> {
        let probe = &mut self.probes.open[place];
        while let Some(output) = probe.rpc.poll_output() {
            match output {
                RpcOutput::Transmit { to, bytes } => self.outputs.push_back(Output::Transmit { to, bytes }),
                RpcOutput::Event(Event::Connected { peer, .. }) => return Some(Ok(peer)),
                // What closes or refuses a link before it is open may be anybody's word: the time decides.
                RpcOutput::Event(_) => {}
            }
        }
        (now >= probe.deadline).then_some(Err(ChangeRefusal::Silent))
    }
}
