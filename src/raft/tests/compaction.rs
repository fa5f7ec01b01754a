//! Snapshots in the cluster of `cluster`: taken at random moments, written late, pulled in ranges that may be lost,
//! installed after a while. A file stands for its bytes: what counts here is who has which, and what becomes of logs.

use super::cluster::{Cluster, Event, ms};
use crate::membership::Membership;
use crate::raft::ReceiveProgress;
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{Index, NodeId};

/// The length of every file, and of a range: a pull takes several steps.
pub(super) const FILE_BYTES: u64 = 5_000;
const RANGE_BYTES: u64 = 1_000;

impl Cluster {
    /// A node takes a snapshot of what it has applied. Files of one index are the same on all nodes, or differ, as
    /// `flavour` says.
    pub(super) fn snapshot(&mut self, node: NodeId, flavour: u64) -> bool {
        let Some(state) = self.nodes.get(&node) else { return false };
        let Some(raft) = &state.raft else { return false };
        let index = state.applied.min(raft.durable_index());
        let (Some(term), true) = (raft.term_at(index), index > Index(0)) else { return false };
        let chain = raft.entry(index).map_or(raft.base().chain, |entry| entry.chain);
        let id = SnapshotId { index, term, chain };
        let meta = SnapshotMeta { id, bytes: FILE_BYTES, digest: flavour };
        let membership = self.checks.membership_at(index).unwrap_or_else(|| state.founding().clone());
        if !membership.is_valid() {
            // One that joined has not come to the first membership.
            return false;
        }
        let known = self.files.entry(meta).or_insert_with(|| membership.clone());
        assert_eq!(*known, membership, "{node}: another membership at {index}");
        let boot = state.boot;
        let took = self.rng.duration_between(ms(1), ms(40));
        self.schedule(took, Event::Written { node, boot, meta });
        true
    }

    pub(super) fn snapshot_written(&mut self, node: NodeId, meta: SnapshotMeta) {
        let membership = self.files[&meta].clone();
        let state = self.nodes.get_mut(&node).unwrap();
        let index = meta.id.index;
        if state.disk.snapshot.as_ref().is_some_and(|(held, _)| held.id.index >= index)
            || state.disk.chain_at(index) != Some(meta.id.chain)
        {
            // Another, newer one took its place while it was written.
            return;
        }
        let purge_through = Index(self.rng.below(index.0 + 1));
        state.disk.adopt(meta, membership, purge_through.max(state.disk.base.index));
        state.raft.as_mut().unwrap().compact(self.now, meta);
        self.compactions += 1;
        self.note(format_args!("compacted {node} {meta}"));
    }

    /// The driver is asked for a snapshot: what is here of the same file counts.
    pub(super) fn start_pull(&mut self, node: NodeId, meta: SnapshotMeta) {
        let boot = self.nodes[&node].boot;
        let disk = &mut self.nodes.get_mut(&node).unwrap().disk;
        if disk.incoming.is_none_or(|(known, _)| known != meta) {
            disk.incoming = Some((meta, 0));
        }
        self.note(format_args!("pull {node} {meta}"));
        self.schedule(ms(1), Event::Pulled { node, boot, meta });
    }

    pub(super) fn cancel_pull(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().disk.incoming = None;
        self.note(format_args!("cancel pull {node}"));
    }

    /// The next range comes from any node that has the file and can be reached; after the last the file is verified,
    /// which takes a while.
    pub(super) fn snapshot_pulled(&mut self, node: NodeId, meta: SnapshotMeta) {
        let now = self.now;
        let has_file = |(other, state): (&NodeId, &super::node::Node)| {
            let is_reached = !self.cut.contains(&(node, *other)) && !self.cut.contains(&(*other, node));
            let held = state.disk.snapshot.as_ref().is_some_and(|(held, _)| *held == meta);
            *other != node && state.raft.is_some() && is_reached && held
        };
        let has_source = self.nodes.iter().any(has_file) && !self.rng.chance(self.net.loss);
        let took = self.rng.duration_between(ms(1), ms(15));
        let state = self.nodes.get_mut(&node).unwrap();
        let Some((_, bytes)) = state.disk.incoming.as_mut().filter(|(incoming, _)| *incoming == meta) else {
            return;
        };
        let raft = state.raft.as_mut().unwrap();
        if *bytes < FILE_BYTES {
            if has_source {
                *bytes += RANGE_BYTES;
            }
            let is_whole = *bytes == FILE_BYTES;
            let progress = if is_whole { ReceiveProgress::Whole } else { ReceiveProgress::Bytes(*bytes) };
            raft.handle_snapshot_progress(now, meta, progress);
            let boot = state.boot;
            self.schedule(took, Event::Pulled { node, boot, meta });
            return;
        }
        state.disk.incoming = None;
        if raft.handle_snapshot_installed(now, meta, self.files[&meta].clone()) {
            assert!(state.applied < meta.id.index, "{node}: from {} back to {meta}", state.applied);
            state.applied = meta.id.index;
            self.installs += 1;
        }
        self.note(format_args!("installed {node} {meta}"));
    }
}

impl super::node::Node {
    /// The membership before the first entry.
    pub(super) fn founding(&self) -> &Membership {
        &self.membership
    }
}
