//! A trace of a simulation: what happened, an event a line, for people and for outside checkers.

use super::network::End;
use super::simulation::Simulation;
use crate::fault::LinkStats;
use crate::machine::Machine;
use crate::raft::Raft;
use crate::time::Instant;
use crate::trace::{
    Boot, Datagrams, Event, Header, Loss, NoteKind, Observer, Outcome, Payloads, Sight, Source, What,
};
use crate::types::NodeId;
use std::collections::BTreeMap;

/// Who is told of everything.
pub(super) struct Recorder {
    tell: Box<dyn FnMut(&Event)>,
    datagrams: Datagrams,
    observers: BTreeMap<NodeId, Observer>,
}

impl<M: Machine> Simulation<M> {
    /// From here on `tell` is told of everything that happens, in order.
    pub fn record(&mut self, payloads: Payloads, mut tell: impl FnMut(&Event) + 'static) {
        let header = Header { source: Source::Simulation { seed: self.settings.seed }, cluster: None };
        tell(&Event { at: self.now, node: None, what: What::Header(header) });
        let datagrams = Datagrams::new(payloads);
        let recorder = Recorder { tell: Box::new(tell), datagrams, observers: BTreeMap::new() };
        self.recorder = Some(Box::new(recorder));
    }

    pub(super) fn record_note(&mut self, kind: NoteKind, node: Option<usize>, text: impl FnOnce() -> String) {
        let node = node.and_then(|place| self.servers.get(place)).map(|server| server.id);
        if let Some(recorder) = &mut self.recorder {
            (recorder.tell)(&Event { at: self.now, node, what: What::Note(kind, text()) });
        }
    }

    /// What became of a datagram, as `seen_by` saw it.
    pub(super) fn record_datagram(
        &mut self,
        seen_by: End,
        from: End,
        to: End,
        bytes: &[u8],
        outcome: Outcome,
    ) {
        let seen_by = match seen_by {
            End::Node(place) => self.servers.get(place).map(|server| server.id),
            End::Client(_) => None,
        };
        if let Some(recorder) = &mut self.recorder {
            let opened = self.invariants.in_plain(bytes);
            let (from, to) = (from.address(), to.address());
            let opened = opened.as_deref();
            recorder.datagram(&Sight { at: self.now, seen_by, from, to, bytes, opened, outcome });
        }
    }

    /// What the network did to a datagram that was just put in, by what its link counts.
    pub(super) fn record_fate(&mut self, from: End, to: End, bytes: &[u8], before: &LinkStats) {
        let after = *self.network.link(from, to).stats();
        let fates = [
            (
                after.sent == before.sent || after.dropped_blocked > before.dropped_blocked,
                Outcome::Lost(Loss::Partition),
            ),
            (after.dropped_mtu > before.dropped_mtu, Outcome::Lost(Loss::Size)),
            (
                after.dropped_loss + after.dropped_burst > before.dropped_loss + before.dropped_burst,
                Outcome::Lost(Loss::Chance),
            ),
            (after.dropped_queue > before.dropped_queue, Outcome::Lost(Loss::Queue)),
            (after.duplicated + after.replayed > before.duplicated + before.replayed, Outcome::Duplicated),
        ];
        for (_, outcome) in fates.into_iter().filter(|(is_so, _)| *is_so) {
            self.record_datagram(from, from, to, bytes, outcome);
        }
    }

    pub(super) fn record_boot(&mut self, place: usize) {
        let server = &self.servers[place];
        let (Some(recorder), Some(running)) = (&mut self.recorder, server.running.as_deref()) else { return };
        let address = End::Node(place).address();
        let boot = Boot { incarnation: server.incarnation, store: running.store.id(), address };
        recorder.observers.insert(server.id, Observer::new(server.id));
        (recorder.tell)(&Event { at: self.now, node: Some(server.id), what: What::Boot(boot) });
    }

    /// What has changed at a node.
    pub(super) fn record_state(&mut self, id: NodeId, raft: &Raft) {
        if let Some(recorder) = &mut self.recorder {
            recorder.state(self.now, id, raft);
        }
    }
}

impl Recorder {
    fn datagram(&mut self, sight: &Sight<'_>) {
        let event = self.datagrams.read(sight);
        (self.tell)(&event);
    }

    fn state(&mut self, at: Instant, id: NodeId, raft: &Raft) {
        let observer = self.observers.entry(id).or_insert_with(|| Observer::new(id));
        let tell = &mut self.tell;
        observer.observe(at, raft, &mut |event| tell(&event));
    }
}
