//! The invariants of a whole cluster, checked after every event for what the touched node may have broken. The
//! numbers are those of the project's list; one node's own share is `raft::invariant`.

use core::hash::{Hash, Hasher};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::members::store_of;
use super::node::Node;
use crate::entry::{Entry, Payload};
use crate::membership::Membership;
use crate::message::{AppendOutcome, Message};
use crate::raft::{Output, Raft, RoleKind, quorum};
use crate::types::{HardState, Identity, Index, NodeId, Term};

/// What is known of the past.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    /// Who led each term, in which boot.
    leaders: BTreeMap<Term, (NodeId, u32)>,
    /// The chain value of every entry ever seen, which stands for it and all before it.
    entries: BTreeMap<(Index, Term), u32>,
    /// Of every committed entry its chain value and the lowest term of a node that knew it as committed.
    committed: BTreeMap<Index, (u32, Term)>,
    /// Each node's log as last seen, by chain values.
    logs: BTreeMap<NodeId, Vec<u32>>,
    /// The term a node led in when last seen, with its last index then.
    leading: BTreeMap<NodeId, (Term, Index)>,
    /// The hard state that a node's disk held when last seen, boots included.
    disks: BTreeMap<NodeId, HardState>,
    applied: BTreeMap<Index, u32>,
    /// Every membership ever seen in a log, by place and chain value.
    memberships: BTreeMap<(Index, u32), Arc<Membership>>,
    /// Nodes as they were when their data was lost.
    lost: BTreeMap<Identity, Node>,
}

impl Checks {
    pub(super) fn highest_commit(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(index, _)| *index)
    }

    /// The membership in force at a committed index, if any entry up to there holds one.
    pub(super) fn membership_at(&self, index: Index) -> Option<Membership> {
        let is_committed =
            |place: &(Index, u32)| self.committed.get(&place.0).map(|(c, _)| *c) == Some(place.1);
        let mut earlier = self.memberships.range(..=(index, u32::MAX)).rev();
        earlier.find(|(place, _)| is_committed(place)).map(|(_, membership)| Membership::clone(membership))
    }

    /// What of the past decides whether a later state is allowed: who led and what was committed. The rest is
    /// what the nodes still hold, or follows from it.
    pub(super) fn hash_into(&self, state: &mut impl Hasher) {
        self.leaders.hash(state);
        self.committed.hash(state);
    }

    /// Its data is gone. What it acknowledged may still be on its way, and count.
    pub(super) fn wiped(&mut self, node: NodeId, lost: Node) {
        self.lost.insert(store_of(node, lost.life), lost);
        self.booted(node);
        self.disks.remove(&node);
    }

    pub(super) fn booted(&mut self, node: NodeId) {
        self.logs.remove(&node);
        self.leading.remove(&node);
    }

    /// What a node says, against what its disk holds at that moment.
    pub(super) fn output(
        &self,
        node: NodeId,
        nodes: &BTreeMap<NodeId, Node>,
        to: &Option<NodeId>,
        output: &Output,
    ) {
        let (Output::Request { message, .. }
        | Output::Reply { message, .. }
        | Output::Notice { message, .. }) = output
        else {
            return;
        };
        let state = &nodes[&node];
        let disk = state.disk.hard_state;
        // 10: term and vote are durable before any message that shows them.
        assert!(message.term() <= disk.term, "{node} shows term {}, durable is {disk}", message.term());
        match message {
            Message::VoteReply(m) if m.is_granted => {
                let vote = disk.vote.map(|vote| vote.node);
                assert_eq!((disk.term, vote), (m.campaign_term, *to), "{node} tells of a vote it may forget");
            }
            Message::Vote(m) => {
                let vote = disk.vote.map(|vote| vote.node);
                assert_eq!((disk.term, vote), (m.term, Some(node)), "{node} campaigns without its own vote");
            }
            // True under every leader, so it is compared with what is committed, not with one leader's log.
            Message::SnapshotOfferReply(m) if m.match_index > Index(0) => {
                let committed = self.committed.get(&m.match_index).map(|(chain, _)| *chain);
                assert!(committed.is_some(), "{node} tells of {}, which is not committed", m.match_index);
                let durable = self.chain_on_disk(state, m.match_index);
                assert_eq!(durable, committed, "{node} tells of {}", m.match_index);
            }
            // L10: no append starts from what the log does not hold.
            Message::Append(m) => {
                let known = state.raft.as_ref().and_then(|raft| raft.term_at(m.prev_index));
                let is_current = state.raft.as_ref().is_some_and(|raft| raft.term() == m.term);
                let is_compacted = state.raft.as_ref().is_some_and(|raft| m.prev_index < raft.base().index);
                assert!(!is_current || is_compacted || known == Some(m.prev_term), "{node} sends {m}");
            }
            Message::AppendReply(m) => {
                if let AppendOutcome::Accepted { match_index } = m.outcome {
                    self.acknowledged(node, nodes, m.term, match_index);
                }
            }
            _ => {}
        }
    }

    /// 11: what is acknowledged is durable and equals the leader's log.
    fn acknowledged(&self, node: NodeId, nodes: &BTreeMap<NodeId, Node>, term: Term, index: Index) {
        let state = &nodes[&node];
        let raft = state.raft.as_ref().unwrap();
        let durable = self.chain_on_disk(state, index);
        assert!(durable.is_some(), "{node} acknowledges {index}, which is not on its disk");
        if index >= raft.base().index {
            assert_eq!(durable, chain_at(raft, index), "{node} acknowledges {index}, its disk has another");
        }
        let (leader, _) = self.leaders[&term];
        let Some(leader_raft) = &nodes[&leader].raft else { return };
        let is_led = leader_raft.role() == RoleKind::Leader && leader_raft.term() == term;
        if is_led && index >= leader_raft.base().index {
            assert_eq!(
                durable,
                chain_at(leader_raft, index),
                "{node} acknowledges {index}, {leader} has another"
            );
        }
    }

    /// What a disk holds at an index; below its log's base it is what is committed there.
    fn chain_on_disk(&self, state: &Node, index: Index) -> Option<u32> {
        if index < state.disk.base.index {
            return self.committed.get(&index).map(|(chain, _)| *chain);
        }
        state.disk.chain_at(index)
    }

    /// 5: equal indexes, equal states; the chain value stands for the machine's state.
    pub(super) fn applied(&mut self, node: NodeId, entry: &Entry) {
        let known = *self.applied.entry(entry.index).or_insert(entry.chain);
        assert_eq!(known, entry.chain, "{node} applies another entry {}", entry.index);
    }

    /// Everything a step of this node may have broken.
    pub(super) fn after(&mut self, node: NodeId, nodes: &BTreeMap<NodeId, Node>) {
        let state = &nodes[&node];
        let Some(raft) = &state.raft else { return };
        self.check_log(node, raft);
        self.check_candidate(node, raft);
        self.check_leader(node, state.boot, raft);
        self.check_commit(node, raft, nodes);
        self.check_disk(node, state, raft);
    }

    /// 3: log matching, on index, term and everything before.
    fn check_log(&mut self, node: NodeId, raft: &Raft) {
        let base = raft.base();
        let base_at = usize::try_from(base.index.0).unwrap();
        if base_at > 0 {
            // What lies before the log's first entry is committed.
            let known = self.committed.get(&base.index).map(|(chain, _)| *chain);
            assert_eq!(known, Some(base.chain), "{node}: the base {} is not what is committed", base.index);
        }
        let committed = &self.committed;
        let seen = self.logs.entry(node).or_default();
        if base_at > 0 && seen.get(base_at - 1) != Some(&base.chain) {
            seen.clear();
            seen.extend(committed.range(..=base.index).map(|(_, (chain, _))| *chain));
            assert_eq!(seen.len(), base_at, "{node}: committed entries are missing below {}", base.index);
        }
        let last = usize::try_from(raft.last_index().0).unwrap();
        seen.truncate(last);
        while seen.len() > base_at && chain_at(raft, Index(seen.len() as u64)) != seen.last().copied() {
            seen.pop();
        }
        for entry in raft.entries_from(Index(seen.len() as u64 + 1)) {
            seen.push(entry.chain);
            let known = *self.entries.entry((entry.index, entry.term)).or_insert(entry.chain);
            assert_eq!(known, entry.chain, "{node} holds another entry {}@{}", entry.index, entry.term);
            if let Payload::Membership(membership) = &entry.payload {
                check_change(node, raft, entry);
                self.memberships.insert((entry.index, entry.chain), Arc::clone(membership));
            }
        }
        // 14, M4: the membership in force is the latest in the log, whatever of it a snapshot stands for.
        let holds = |(index, chain): &(Index, u32)| {
            let at = usize::try_from(index.0).unwrap() - 1;
            seen.get(at) == Some(chain)
        };
        if let Some((place, membership)) = self.memberships.iter().rev().find(|(place, _)| holds(place)) {
            assert_eq!(raft.membership(), membership, "{node}: not the membership of {}", place.0);
        }
    }

    /// 14: nobody stands that does not count, or may still have to for those who do (E13, E18).
    fn check_candidate(&self, node: NodeId, raft: &Raft) {
        if raft.role() == RoleKind::Follower {
            return;
        }
        let own = raft.config().identity;
        let mut latest = self.logs[&node].iter().enumerate().rev().filter_map(|(at, chain)| {
            let place = Index(at as u64 + 1);
            Some((place, self.memberships.get(&(place, *chain))?))
        });
        let Some((since, membership)) = latest.next() else { return };
        let is_before = since > raft.commit() && latest.next().is_none_or(|(_, m)| m.is_voter(own));
        let was = raft.role();
        assert!(membership.is_voter(own) || is_before || was == RoleKind::Leader, "{node} is {was}");
    }

    fn check_leader(&mut self, node: NodeId, boot: u32, raft: &Raft) {
        if raft.role() != RoleKind::Leader {
            self.leading.remove(&node);
            return;
        }
        let term = raft.term();
        // 1: election safety.
        let known = *self.leaders.entry(term).or_insert((node, boot));
        assert_eq!(known, (node, boot), "two leaders of term {term}");
        // 2: a leader only appends.
        if let Some((led, last)) = self.leading.insert(node, (term, raft.last_index())) {
            assert!(led != term || last <= raft.last_index(), "{node} shortened its log while leading");
        }
        // 4: leader completeness; what was committed in an earlier term is in the log.
        let earlier = self.committed.iter().rev().find(|(_, (_, committed_in))| *committed_in < term);
        if let Some((index, (chain, _))) = earlier {
            let holds = *index < raft.base().index || chain_at(raft, *index) == Some(*chain);
            assert!(holds, "{node} leads term {term} without entry {index}");
        }
    }

    fn check_commit(&mut self, node: NodeId, raft: &Raft, nodes: &BTreeMap<NodeId, Node>) {
        let commit = raft.commit();
        let term = raft.term();
        let first_new = self.highest_commit().next();
        for entry in raft.entries_from(first_new).take_while(|entry| entry.index <= commit) {
            self.committed.insert(entry.index, (entry.chain, term));
        }
        // 7: what is committed stays as it is; the chain value vouches for all before it.
        if let Some((chain, committed_in)) = self.committed.get_mut(&commit) {
            // A commit index at or above the base, see `raft::invariant`.
            assert_eq!(chain_at(raft, commit), Some(*chain), "{node} has another committed entry {commit}");
            *committed_in = term.min(*committed_in);
        }
        // 6: committed entries are durable on a quorum.
        if commit >= first_new {
            let chain = chain_at(raft, commit);
            let holds = |who: Identity| {
                let present = nodes.get(&who.node).filter(|n| store_of(who.node, n.life) == who);
                let state = present.or_else(|| self.lost.get(&who));
                state.is_some_and(|state| self.chain_on_disk(state, commit) == chain)
            };
            assert!(quorum::is_quorum(raft.membership(), holds), "{node}: {commit} is durable on no quorum");
        }
    }

    /// 8, 9, 12: what a node believes to be durable is on its disk; the disk's term never falls, nor changes its
    /// vote within a term, over all boots.
    fn check_disk(&mut self, node: NodeId, state: &Node, raft: &Raft) {
        let durable = raft.durable_index();
        if durable >= raft.base().index.max(state.disk.base.index) {
            assert_eq!(state.disk.chain_at(durable), chain_at(raft, durable), "{node} believes in {durable}");
        }
        assert!(durable <= state.disk.last_index(), "{node} believes in {durable}");
        assert_eq!(state.disk.hard_state, raft.durable_hard_state(), "{node}");
        let before = self.disks.insert(node, state.disk.hard_state).unwrap_or_default();
        let after = state.disk.hard_state;
        assert!(after.term >= before.term, "{node}: {before} to {after}");
        let keeps_vote = after.term > before.term || before.vote.is_none() || after.vote == before.vote;
        assert!(keeps_vote, "{node}: {before} to {after}");
        assert!(state.applied <= raft.commit(), "{node} applied {} of {}", state.applied, raft.commit());
    }
}

/// 13: no membership before an entry of the own term is committed, and none while another is not.
fn check_change(node: NodeId, raft: &Raft, entry: &Entry) {
    if raft.role() != RoleKind::Leader || raft.term() != entry.term {
        return;
    }
    let commit = raft.commit();
    assert_eq!(raft.term_at(commit), Some(entry.term), "{node} proposes {entry}, committed is {commit}");
    let of_membership = |at: &Entry| matches!(at.payload, Payload::Membership(_));
    let mut between = raft.entries_from(commit.next()).take_while(|at| at.index < entry.index);
    assert!(!between.any(of_membership), "{node} proposes {entry} as a second one, committed is {commit}");
}

fn chain_at(raft: &Raft, index: Index) -> Option<u32> {
    let base = raft.base();
    if index == base.index { Some(base.chain) } else { raft.entry(index).map(|entry| entry.chain) }
}
