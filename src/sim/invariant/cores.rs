//! Each running node's consensus, after each event that touched it: invariants 1 to 9 and 12 to 14.
//!
//! Only what changed is looked at. A node's log is mirrored by marks; where the mirror's last mark still stands in the
//! log, the chain value vouches for all before it, so an event that adds nothing costs a few comparisons.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::folders::Folders;
use super::marks::{Mark, Marks};
use super::operations::Operations;
use super::oracle::{Committed, Leader, Oracle};
use super::quorum;
use super::subject::Subject;
use super::violation::{Broken, hold};
use crate::entry::Payload;
use crate::membership::Membership;
use crate::raft::RoleKind;
use crate::time::Instant;
use crate::types::{HardState, Identity, Incarnation, Index, NodeId, Term};

/// A running node as last seen.
#[derive(Debug)]
pub(super) struct Core {
    identity: Identity,
    incarnation: Incarnation,
    log: Marks,
    /// The memberships in the log, with the one before it first where that is known.
    memberships: Vec<(Index, Arc<Membership>)>,
    hard_state: HardState,
    commit: Index,
    applied: Index,
    /// The term it leads.
    leads: Option<Term>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Cores {
    running: BTreeMap<NodeId, Core>,
    /// Every committed membership by its entry, the founding one included.
    memberships: BTreeMap<Index, Arc<Membership>>,
    machines: Machines,
}

/// What the machines came to.
#[derive(Debug, Default)]
struct Machines {
    /// The chain of effects by index, as the first node there had it.
    effects: BTreeMap<Index, u64>,
    /// The session table's hash after each index at which a node was seen.
    sessions: BTreeMap<Index, u64>,
}

/// What the cores are compared with.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) oracle: &'a mut Oracle,
    pub(super) folders: &'a Folders,
    pub(super) operations: &'a mut Operations,
}

impl Cores {
    /// A node's process began: memory starts anew.
    pub(super) fn booted(&mut self, node: &impl Subject, context: &mut Context<'_>) -> Result<(), Broken> {
        let identity = node.identity();
        let (membership, since) = node.membership();
        if since == Index(0) && membership.is_valid() {
            // A founding that nobody but a wiped node knew of is followed by another.
            let is_first = context.oracle.commit() == Index(0);
            if is_first || !self.memberships.contains_key(&since) {
                self.memberships.insert(since, Arc::clone(membership));
            }
        }
        let core = Core {
            identity,
            incarnation: node.incarnation(),
            log: Marks::above(node.base()),
            memberships: membership_at(&self.memberships, node.base().index).into_iter().collect(),
            hard_state: node.hard_state(),
            commit: node.commit(),
            applied: node.applied(),
            leads: None,
        };
        check_base(node, context.oracle)?;
        check_base_membership(node, membership_at(&self.memberships, node.base().index).as_ref())?;
        if let Some(known) = self.machines.sessions.get(&core.applied) {
            let hash = node.sessions_hash();
            hold!(
                *known == hash,
                SnapshotState,
                "its snapshot's sessions show {hash:016x} after {}, replay led to {known:016x}",
                core.applied
            );
        }
        self.machines.check_restored(node)?;
        self.running.insert(identity.node, core);
        self.turned(node, context)
    }

    pub(super) fn stopped(&mut self, node: NodeId) {
        self.running.remove(&node);
    }

    /// Everything that an event at this node may have broken.
    pub(super) fn turned(&mut self, node: &impl Subject, context: &mut Context<'_>) -> Result<(), Broken> {
        let Some(core) = self.running.get_mut(&node.identity().node) else { return Ok(()) };
        core.check_order(node)?;
        let seen = core.log.last();
        let is_cut = core.follow_log(node, context.oracle, &self.memberships)?;
        let is_new_leader = core.check_role(node, context)?;
        core.check_disk(node, context.folders)?;
        let (commit, term) = (node.commit(), node.hard_state().term);
        let is_new_commit = commit != core.commit || is_cut;
        if is_new_commit {
            core.check_commit(node, context, seen)?;
            core.commit = commit;
            for (index, membership) in core.memberships.iter().filter(|(index, _)| *index <= commit) {
                self.memberships.entry(*index).or_insert_with(|| Arc::clone(membership));
            }
        }
        if is_new_leader {
            core.check_completeness(context.oracle)?;
        }
        core.hard_state = node.hard_state();
        self.machines.check(core, node, context)?;
        if is_new_commit { self.check_leaders(term, commit, context.oracle) } else { Ok(()) }
    }

    /// 4: leaders of later terms hold what this node knows as committed.
    fn check_leaders(&self, term: Term, commit: Index, oracle: &Oracle) -> Result<(), Broken> {
        let mark = oracle.mark(commit);
        for other in self.running.values().filter(|other| other.leads.is_some_and(|led| led > term)) {
            let is_held = commit < other.log.base().index || other.log.at(commit) == mark;
            hold!(
                is_held,
                LeaderCompleteness,
                "{commit} is committed in term {term}, {} leads term {:?} without it",
                other.identity,
                other.leads
            );
        }
        Ok(())
    }

    /// The latest membership that is committed, whoever knows it.
    pub(super) fn committed_membership(&self) -> Option<&Arc<Membership>> {
        self.memberships.values().next_back()
    }

    pub(super) fn log_of(&self, node: NodeId) -> Option<&Marks> {
        self.running.get(&node).map(|core| &core.log)
    }

    /// The term this node leads.
    pub(super) fn leads(&self, node: NodeId) -> Option<Term> {
        self.running.get(&node)?.leads
    }
}

impl Machines {
    /// 15: a machine that was filled from a snapshot is where replay leads.
    fn check_restored(&self, node: &impl Subject) -> Result<(), Broken> {
        let Some(restored) = node.restored() else { return Ok(()) };
        let known = self.effects.get(&restored.index).copied();
        hold!(
            known == Some(restored.chain),
            SnapshotState,
            "its snapshot's machine shows {:016x} after {}, replay led to {known:016x?}",
            restored.chain,
            restored.index
        );
        Ok(())
    }

    /// 5 and 16: what the machine was given and what the session table came to.
    fn check(
        &mut self,
        core: &mut Core,
        node: &impl Subject,
        context: &mut Context<'_>,
    ) -> Result<(), Broken> {
        let applied = node.applied();
        hold!(applied >= core.applied, Monotone, "applied index fell from {} to {applied}", core.applied);
        if applied == core.applied {
            return Ok(());
        }
        self.check_restored(node)?;
        let seen = node.effects().partition_point(|effect| effect.index <= core.applied);
        core.applied = applied;
        for effect in node.effects().get(seen..).unwrap_or_default() {
            let known = self.effects.get(&effect.index).copied();
            hold!(
                known.is_none_or(|known| known == effect.chain),
                StateMachineSafety,
                "its machine shows {:016x} after {}, another node's showed {known:016x?}",
                effect.chain,
                effect.index
            );
            if known.is_none() {
                self.effects.insert(effect.index, effect.chain);
                context.operations.took_effect(effect, node.entry(effect.index))?;
            }
        }
        let hash = node.sessions_hash();
        let known = *self.sessions.entry(applied).or_insert(hash);
        hold!(
            known == hash,
            StateMachineSafety,
            "its sessions show {hash:016x} after {applied}, another node's showed {known:016x}"
        );
        context.operations.saw_sessions(applied, || node.open_sessions());
        Ok(())
    }
}

/// The committed membership at this index, and its entry.
fn membership_at(
    committed: &BTreeMap<Index, Arc<Membership>>,
    index: Index,
) -> Option<(Index, Arc<Membership>)> {
    let (since, membership) = committed.range(..=index).next_back()?;
    Some((*since, Arc::clone(membership)))
}

/// 15: a log begins after a committed entry.
fn check_base(node: &impl Subject, oracle: &Oracle) -> Result<(), Broken> {
    let base = node.base();
    let (held, committed) = (node.mark(base.index), oracle.mark(base.index));
    hold!(
        held == committed,
        SnapshotState,
        "begins after {held:?} at {}, where {committed:?} is committed",
        base.index
    );
    Ok(())
}

/// 15: the membership in force at a log's base is the committed one there.
fn check_base_membership(
    node: &impl Subject,
    of_base: Option<&(Index, Arc<Membership>)>,
) -> Result<(), Broken> {
    let (base, (membership, since)) = (node.base().index, node.membership());
    let is_of_base = base > Index(0) && since <= base;
    hold!(
        !is_of_base || of_base.is_none_or(|(_, committed)| committed == membership),
        SnapshotState,
        "begins after {base} with {membership}, committed there is {of_base:?}"
    );
    Ok(())
}

impl Core {
    /// 8 and 9, in memory.
    fn check_order(&self, node: &impl Subject) -> Result<(), Broken> {
        let (base, applied, commit, last) = (node.base().index, node.applied(), node.commit(), node.last());
        hold!(
            base <= applied && applied <= commit && commit <= last && node.durable() <= last,
            Ordering,
            "base {base}, applied {applied}, commit {commit}, last {last}, durable {}",
            node.durable()
        );
        let (before, after) = (self.hard_state, node.hard_state());
        let keeps_vote = after.term > before.term || before.vote.is_none() || after.vote == before.vote;
        hold!(after.term >= before.term && keeps_vote, Monotone, "went from {before} to {after}");
        hold!(commit >= self.commit, Monotone, "commit index fell from {} to {commit}", self.commit);
        hold!(
            node.incarnation() == self.incarnation && node.identity() == self.identity,
            Monotone,
            "booted as {} of {}, now {} of {}",
            self.incarnation,
            self.identity,
            node.incarnation(),
            node.identity()
        );
        Ok(())
    }

    /// 2, 3 and 13: brings the mirror up to the log. True when something was cut off or the base moved.
    fn follow_log(
        &mut self,
        node: &impl Subject,
        oracle: &mut Oracle,
        committed: &BTreeMap<Index, Arc<Membership>>,
    ) -> Result<bool, Broken> {
        let (base, last) = (node.base(), node.last());
        let mut is_cut = false;
        if base != self.log.base() {
            check_base(node, oracle)?;
            self.log.rebase(base);
            is_cut = true;
            let of_base = membership_at(committed, base.index);
            check_base_membership(node, of_base.as_ref())?;
            // Of those above the base only what the log still holds; below it what is committed: a snapshot may have
            // taken the place of a log that held another one there.
            let is_held = |index: Index| node.mark(index).is_some() && self.log.at(index) == node.mark(index);
            self.memberships.retain(|(index, _)| *index > base.index && is_held(*index));
            self.memberships.splice(..0, of_base);
        }
        let mut keep = self.log.last().min(last);
        while keep > base.index && self.log.at(keep) != node.mark(keep) {
            keep = keep.prev();
        }
        if keep < self.log.last() {
            let term = node.hard_state().term;
            let is_leading = node.role() == RoleKind::Leader && self.leads == Some(term);
            hold!(
                !is_leading,
                LeaderAppendOnly,
                "cut its log from {} to {keep} while leading term {term}",
                self.log.last()
            );
            self.log.truncate_from(keep.next());
            self.memberships.retain(|(index, _)| *index <= keep);
            is_cut = true;
        }
        while self.log.last() < last {
            self.add(self.log.last().next(), node, oracle)?;
        }
        Ok(is_cut)
    }

    /// Takes in the entry at this index.
    fn add(&mut self, index: Index, node: &impl Subject, oracle: &mut Oracle) -> Result<(), Broken> {
        let before = self.log.last_mark();
        let Some(entry) = node.entry(index) else {
            hold!(false, Ordering, "has no entry {index} of {}", node.last());
            return Ok(());
        };
        let mark = Mark::of(entry);
        hold!(
            entry.is_chained_to(node.cluster(), before.chain) && mark.term >= before.term,
            LogMatching,
            "{index}@{} does not continue {}@{}",
            mark.term,
            index.prev(),
            before.term
        );
        oracle.saw_entry(index, mark)?;
        if let Payload::Membership(membership) = &entry.payload {
            self.check_change(index, mark.term, membership, node)?;
            self.memberships.push((index, Arc::clone(membership)));
        }
        self.log.push(mark);
        Ok(())
    }

    /// 13. That nothing else is uncommitted only its proposer knows for certain: others hear of commits late.
    fn check_change(
        &self,
        index: Index,
        term: Term,
        membership: &Membership,
        node: &impl Subject,
    ) -> Result<(), Broken> {
        if let Some((since, before)) = self.memberships.last() {
            hold!(
                quorum::overlap(before, membership),
                MembershipChange,
                "{membership} at {index} shares no quorum with {before} at {since}"
            );
            let is_proposer = node.role() == RoleKind::Leader && node.hard_state().term == term;
            let commit = node.commit();
            hold!(
                !is_proposer || *since <= commit,
                MembershipChange,
                "proposes {membership} at {index} while the one at {since} is beyond commit {commit}"
            );
            let committed_term = node.mark(commit).map_or(Term(0), |mark| mark.term);
            hold!(
                !is_proposer || committed_term == term,
                MembershipChange,
                "proposes {membership} at {index} with nothing of term {term} committed"
            );
        }
        Ok(())
    }

    /// 1 and 14. True when it leads a term that it did not lead before.
    fn check_role(&mut self, node: &impl Subject, context: &mut Context<'_>) -> Result<bool, Broken> {
        let role = node.role();
        let term = node.hard_state().term;
        if role == RoleKind::Follower {
            self.leads = None;
            return Ok(false);
        }
        if role == RoleKind::Leader && self.leads == Some(term) {
            return Ok(false);
        }
        let (membership, since) = node.membership();
        let latest = self.memberships.last();
        hold!(
            latest.is_none_or(|(index, held)| *index <= since && held == membership)
                && since <= self.log.last(),
            CampaignMembership,
            "campaigns by {membership} of {since}, its log has one at {:?}",
            latest.map(|(index, _)| *index)
        );
        if role != RoleKind::Leader {
            self.leads = None;
            // While the entry that leaves it out may be cut off, others may need it (thesis §4.2.2).
            let before = self.memberships.iter().rev().nth(1).filter(|_| since > node.commit());
            hold!(
                quorum::votes(membership, self.identity)
                    || before.is_some_and(|(_, before)| quorum::votes(before, self.identity)),
                CampaignMembership,
                "campaigns and is no voter of {membership}"
            );
            return Ok(false);
        }
        let leader = Leader { identity: self.identity, incarnation: self.incarnation };
        context.oracle.leads(term, leader)?;
        let oracle = &context.oracle;
        hold!(
            quorum::is_quorum(membership, |voter| oracle.vote(term, voter) == Some(self.identity)),
            CampaignMembership,
            "leads term {term} without durable votes of a quorum of {membership}"
        );
        self.leads = Some(term);
        Ok(true)
    }

    /// 12; and the same of term and vote (10).
    fn check_disk(&self, node: &impl Subject, folders: &Folders) -> Result<(), Broken> {
        let Some(shadow) = folders.of(self.identity.node) else { return Ok(()) };
        let durable = node.durable();
        let (believed, held) = (self.log.at(durable), shadow.log().at(durable));
        hold!(
            believed == held || durable < shadow.log().base().index || durable < self.log.base().index,
            DurableSelfMatch,
            "takes {durable} for durable with {believed:?}, its disk has {held:?}"
        );
        let (believed, held) = (node.durable_hard_state(), shadow.hard_state());
        let is_held = believed.term < held.term || believed == held;
        hold!(is_held, DurableBeforeShown, "takes {believed} for durable, its disk has {held}");
        Ok(())
    }

    /// 6 and 7.
    fn check_commit(
        &self,
        node: &impl Subject,
        context: &mut Context<'_>,
        seen: Index,
    ) -> Result<(), Broken> {
        let commit = node.commit();
        let term = node.hard_state().term;
        let (oracle, folders) = (&mut *context.oracle, context.folders);
        let Some(mark) = self.log.at(commit) else { return Ok(()) };
        if commit > oracle.commit() {
            if self.leads == Some(term) {
                // Raft paper §5.4.2: counting decides about entries of the own term only.
                hold!(
                    mark.term == term,
                    CommittedOnQuorum,
                    "leads term {term} and commits {commit}@{} by counting",
                    mark.term
                );
            }
            let (membership, since) = node.membership();
            // One that was appended in this very turn may have come after the counting.
            let before = self.memberships.iter().rev().nth(1).filter(|_| since > seen && commit < since);
            let is_held =
                |by: &&Arc<Membership>| quorum::is_quorum(by, |who| folders.hold(who, commit, mark));
            let counted_by = [Some(membership), before.map(|(_, before)| before)];
            let Some(counted_by) = counted_by.into_iter().flatten().find(is_held) else {
                hold!(
                    false,
                    CommittedOnQuorum,
                    "commits {commit}@{}, which no quorum of {membership} has on disk",
                    mark.term
                );
                return Ok(());
            };
            oracle.counted_by(Arc::clone(counted_by));
            while oracle.commit() < commit {
                let index = oracle.commit().next();
                let Some(mark) = self.log.at(index) else { break };
                let by = self.identity.node;
                oracle.commits(Committed { mark, known_in: term, by, at: context.now });
            }
        }
        oracle.knows(commit, mark, term)
    }

    /// 4.
    fn check_completeness(&self, oracle: &Oracle) -> Result<(), Broken> {
        let term = self.leads.unwrap_or_default();
        let index = oracle.committed_before(term);
        hold!(
            index < self.log.base().index || self.log.at(index) == oracle.mark(index),
            LeaderCompleteness,
            "leads term {term} without {index}, which was committed before"
        );
        Ok(())
    }
}
