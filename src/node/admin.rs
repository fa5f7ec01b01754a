//! What administrators ask of the leader: who is in the cluster, a change of that, another leader.
//!
//! A change is answered as soon as it is in the log, by its entry; the asker then asks what has become of it, here or
//! at the next leader, so that nothing of a change is lost with the leader that began it. `[W-79]` to `[W-84]`
//!
//! Whether the moment allows a change only Raft can say. What is added here is that an address is bound to a data
//! folder only after that folder answered there (`probe`), and the words that tell an operator what to do instead.

use super::probe::PROBE_TIMEOUT;
use super::{Node, NodeConfig};
use crate::machine::Machine;
use crate::membership::{Member, MembershipChange, MembershipError};
use crate::raft::{ChangeError, RoleKind, TransferError};
use crate::rpc::{PeerInfo, Token};
use crate::time::Instant;
use crate::types::{Identity, NodeId, StoreId};
use crate::wire::client::{ClientReply, REFUSAL_TEXT_BYTES_MAX, RefusalCode};
use crate::wire::member::{
    ChangeOutcome, ChangeRefusal, ChangeRequest, Changed, MemberProgress, MembershipState,
};
use crate::wire::status::STATUS_ROWS_MAX;
use std::net::SocketAddr;

/// A change whose address is being asked who is there.
#[derive(Debug)]
pub(super) struct Asked {
    token: Token,
    request: ChangeRequest,
    address: String,
}

/// "Whichever answers": no data folder has this id.
const ANY_STORE: StoreId = StoreId([0; 16]);

impl<M: Machine> Node<M> {
    /// True when who sent this request may change the cluster itself; otherwise it is refused. `[W-82]`
    pub(super) fn may_change_cluster(&mut self, now: Instant, token: Token) -> bool {
        let may = self.rpc.peer(token.link()).is_some_and(|peer| peer.trust.may_change_cluster());
        if !may {
            let text = "a client's key does not allow this: it takes a cluster key";
            self.refuse(now, token, RefusalCode::NotAllowed, text);
        }
        may
    }

    pub(super) fn serve_change(&mut self, now: Instant, token: Token, request: ChangeRequest) {
        if self.raft.role() != RoleKind::Leader {
            return self.redirect(now, token);
        }
        let node = request.change.node();
        let address = match &request.change {
            MembershipChange::Add { member, .. } => member.address.clone(),
            MembershipChange::Move { address, .. } => {
                if self.raft.membership().member(node).is_none() {
                    return self.refuse_change(now, token, ChangeRefusal::Unknown { node });
                }
                address.clone()
            }
            MembershipChange::Promote { .. } | MembershipChange::Remove { .. } => {
                if self.raft.membership().member(node).is_none() {
                    return self.refuse_change(now, token, ChangeRefusal::Unknown { node });
                }
                return self.change(now, token, &request);
            }
        };
        let Some(at) = address_of(&self.config, node, &address) else {
            return self.refuse_change(now, token, ChangeRefusal::Address);
        };
        if self.probes.is_full() {
            return self.busy(now, token);
        }
        self.probe(now, at, Asked { token, request, address });
    }

    /// Somebody answered at the address of a change, or nobody did. `[W-83]`
    pub(super) fn on_probed(&mut self, now: Instant, asked: Asked, answer: Result<PeerInfo, ChangeRefusal>) {
        let Asked { token, mut request, address } = asked;
        let node = request.change.node();
        let bound = self.raft.membership().member(node).map(|member| member.store);
        let found = answer.and_then(|peer| match peer.identity {
            _ if peer.cluster != self.cluster() => Err(ChangeRefusal::OtherCluster),
            Some(Identity { node: found, .. }) if found != node => {
                Err(ChangeRefusal::OtherNode { node: found })
            }
            Some(Identity { store, .. }) => Ok(store),
            None => Err(ChangeRefusal::Silent),
        });
        let fit = found.and_then(|found| match &mut request.change {
            MembershipChange::Add { member: Member { store, .. }, .. } => {
                let is_wanted = *store == ANY_STORE || *store == found;
                *store = found;
                if is_wanted { Ok(()) } else { Err(ChangeRefusal::OtherStore) }
            }
            _ if bound == Some(found) => Ok(()),
            _ => Err(ChangeRefusal::OtherStore),
        });
        match fit {
            Ok(()) => self.change(now, token, &request),
            Err(refusal) => self.refuse_change_at(now, token, refusal, &address),
        }
    }

    fn change(&mut self, now: Instant, token: Token, request: &ChangeRequest) {
        let refusal = match self.raft.change_membership(now, request.expected, &request.change) {
            Ok(index) => {
                slog::info!(self.log, "membership change"; "change" => %request.change, "index" => %index);
                // What is committed needs no term to be known again.
                let term = self.raft.term_at(index).filter(|_| index > self.commit);
                return self.answer(now, token, &ClientReply::Changed(Changed { index, term }));
            }
            Err(ChangeError::NotLeader { .. }) => return self.redirect(now, token),
            Err(ChangeError::NotReady | ChangeError::Transferring { .. }) => return self.busy(now, token),
            Err(ChangeError::Running { index }) => ChangeRefusal::Running { index },
            Err(ChangeError::Version { expected, actual }) => ChangeRefusal::Version { expected, actual },
            Err(ChangeError::Silent { node }) => ChangeRefusal::Unheard { node },
            Err(ChangeError::NotCaughtUp { node, lag }) => ChangeRefusal::NotCaughtUp { node, lag },
            Err(ChangeError::QuorumAtRisk { alive, needed }) => {
                ChangeRefusal::QuorumAtRisk { alive: alive as u64, needed: needed as u64 }
            }
            Err(ChangeError::Unfit(error)) => match error {
                MembershipError::Unknown { node } => ChangeRefusal::Unknown { node },
                MembershipError::Taken { node } => ChangeRefusal::Taken { node },
                MembershipError::StoreInUse { node } => ChangeRefusal::StoreInUse { node },
                MembershipError::LastVoter => ChangeRefusal::LastVoter,
                MembershipError::TooMany => ChangeRefusal::TooMany,
                MembershipError::Address => ChangeRefusal::Address,
            },
        };
        self.refuse_change(now, token, refusal);
    }

    pub(super) fn serve_members(&mut self, now: Instant, token: Token, of: Option<Changed>) {
        if self.raft.role() != RoleKind::Leader {
            return self.redirect(now, token);
        }
        let Some(outcome) = of.map_or(Some(ChangeOutcome::NotAsked), |of| self.outcome_of(of)) else {
            return self.busy(now, token);
        };
        let last = self.raft.last_index().0;
        let alive = self.config.timing.election_timeout_max;
        let member = |peer: crate::raft::PeerStatus| MemberProgress {
            node: peer.identity.node,
            match_index: peer.match_index,
            lag: last.saturating_sub(peer.match_index.0),
            is_heard: now.saturating_since(peer.heard) < alive,
            is_caught_up: self.raft.is_caught_up(now, peer.identity.node),
        };
        let membership = self.raft.membership();
        let peers = self.raft.peers().filter(|peer| membership.contains(peer.identity));
        let state = MembershipState {
            leader: self.identity.node,
            term: self.raft.term(),
            commit: self.raft.commit(),
            version: self.raft.membership_index(),
            is_settled: self.raft.is_membership_settled(),
            outcome,
            transferring: self.raft.transferring(),
            membership: membership.as_ref().clone(),
            members: peers.map(member).take(STATUS_ROWS_MAX).collect(),
        };
        self.answer(now, token, &ClientReply::Members(Box::new(state)));
    }

    /// What became of the entry of a change; `None` while this leader cannot know it. `[W-81]`
    ///
    /// An entry that the log of a leader lacks was never committed if the leader's term is no lower than the entry's,
    /// and never will be once the leader has committed an entry of its own: every later leader has that one, and before
    /// or at its place none of the lost entry's term.
    fn outcome_of(&self, of: Changed) -> Option<ChangeOutcome> {
        let Changed { index, term } = of;
        let is_kept = match (term, self.raft.term_at(index)) {
            (None, _) => true,
            (Some(term), Some(found)) => term == found,
            // Below the log's base everything is committed; beyond its end nothing is there.
            (Some(_), None) => index <= self.commit,
        };
        if !is_kept {
            let may_tell = self.raft.is_settled_leader() && term.is_some_and(|term| term <= self.raft.term());
            return may_tell.then_some(ChangeOutcome::Superseded);
        }
        let (version, is_joint) = (self.raft.membership_index(), self.raft.membership().is_joint());
        let is_committed = index <= self.raft.commit();
        // A joint membership that was begun later is another change's. Of one that a snapshot holds nobody knows when.
        let is_later = version > index && version > self.raft.base().index;
        let is_left = self.raft.is_membership_settled() || is_joint && is_later;
        Some(if is_committed && is_left { ChangeOutcome::Settled } else { ChangeOutcome::Pending })
    }

    /// `[W-84]`
    pub(super) fn serve_transfer(&mut self, now: Instant, token: Token, to: Option<NodeId>) {
        let term = self.raft.term();
        if self.raft.role() == RoleKind::Leader && to == Some(self.identity.node) {
            return self.answer(now, token, &ClientReply::Transferring { to: self.identity.node, term });
        }
        if let Some(node) = to
            && self.raft.role() == RoleKind::Leader
            && self.raft.membership().member(node).is_none()
        {
            return self.refuse_change(now, token, ChangeRefusal::Unknown { node });
        }
        match self.raft.transfer_leadership(now, to) {
            Ok(to) => self.answer(now, token, &ClientReply::Transferring { to, term }),
            // The same wish again, perhaps from an attempt whose answer was lost.
            Err(TransferError::Transferring { to: other }) if to.is_none_or(|to| to == other) => {
                self.answer(now, token, &ClientReply::Transferring { to: other, term });
            }
            Err(TransferError::Transferring { .. }) => self.busy(now, token),
            Err(TransferError::NotLeader { .. }) => self.redirect(now, token),
            Err(TransferError::NoTarget) => self.refuse_change(now, token, ChangeRefusal::NoTarget),
        }
    }

    fn refuse_change(&mut self, now: Instant, token: Token, refusal: ChangeRefusal) {
        self.refuse_change_at(now, token, refusal, "");
    }

    fn refuse_change_at(&mut self, now: Instant, token: Token, reason: ChangeRefusal, address: &str) {
        let mut text = words(reason, address);
        slog::info!(self.log, "change of the cluster refused"; "reason" => &text);
        while text.len() > REFUSAL_TEXT_BYTES_MAX {
            text.pop();
        }
        self.answer(now, token, &ClientReply::ChangeRefused { reason, text: &text });
    }
}

/// Where a member is reached: by the operator's route if there is one, by its advertised address, or where the name in
/// that leads.
pub(super) fn address_of(config: &NodeConfig, node: NodeId, address: &str) -> Option<SocketAddr> {
    let routed = config.routes.get(&node).copied();
    routed.or_else(|| address.parse().ok()).or_else(|| config.names.get(address).copied())
}

/// The reason and the way out.
fn words(refusal: ChangeRefusal, address: &str) -> String {
    match refusal {
        ChangeRefusal::Running { index } => format!(
            "another change (entry {index}) is under way: ask again when `member list` shows that it has settled"
        ),
        ChangeRefusal::Version { expected, actual } => {
            format!("the membership has version {actual}, not {expected}: look at it again and decide anew")
        }
        ChangeRefusal::Unknown { node } => format!("{node} is no member: `member list` shows who is"),
        ChangeRefusal::Taken { node } => format!(
            "the member {node} has another data folder than the node that answers: `member replace` puts this one in \
             its place"
        ),
        ChangeRefusal::StoreInUse { node } => format!(
            "this data folder is the member {node} already: a node's number cannot change, start a new node with an \
             empty folder"
        ),
        ChangeRefusal::NotCaughtUp { node, lag } => format!(
            "{node} lacks {lag} entries and would hold up every write: ask again when `member list` shows that it has \
             caught up"
        ),
        ChangeRefusal::Unheard { node } => {
            format!("{node} does not answer the leader: is it running, and reachable at its address?")
        }
        ChangeRefusal::QuorumAtRisk { alive, needed } => format!(
            "only {alive} of the voters concerned answer, {needed} are needed or nothing could be written any more: \
             start the others first, or remove the dead one"
        ),
        ChangeRefusal::LastVoter => "it is the last voter: promote another node first".to_owned(),
        ChangeRefusal::TooMany => "there are 255 members already: remove one first".to_owned(),
        ChangeRefusal::Address => {
            "the leader cannot use this address: give IP:PORT as the other nodes reach it".to_owned()
        }
        ChangeRefusal::Silent => format!(
            "no node of this cluster answered the leader at {address} within {} s: is the address right, and the node \
             started there with --join?",
            PROBE_TIMEOUT.as_secs()
        ),
        ChangeRefusal::OtherNode { node } => {
            format!("it is {node} that answers at {address}: check the number and the address")
        }
        ChangeRefusal::OtherCluster => format!(
            "the node at {address} belongs to another cluster: start one with an empty folder and --join there"
        ),
        ChangeRefusal::OtherStore => format!(
            "the node at {address} has another data folder than the member: `member replace` puts it in its place"
        ),
        ChangeRefusal::NoTarget => {
            "no such voter is connected to the leader: `member list` shows who could lead".to_owned()
        }
        ChangeRefusal::Other(code) => format!("for reason {code}"),
    }
}
