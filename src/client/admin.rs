//! Changes of the cluster itself: asked for at the leader, then watched until they have settled.
//!
//! A change names what is to be, not what is to be done, so an attempt whose answer was lost is simply made again:
//! a leader that finds it so already says so. What a second attempt may find is its own first one under way, which is
//! waited for, or that it removed whom it was to remove.

use std::time::Duration;

use super::operation::{Answer, Kind, Operation, OperationId};
use super::{Client, ClientError};
use crate::membership::{Membership, MembershipChange};
use crate::time::Instant;
use crate::types::{Index, NodeId, Term};
use crate::wire::client::ClientRequest;
use crate::wire::member::{ChangeOutcome, ChangeRefusal, ChangeRequest, Changed, MembershipState};

/// Between two looks at a change that has not settled.
const WATCH_PAUSE: Duration = Duration::from_millis(10);

/// Before a change is asked for again that met its own first attempt.
const RUNNING_PAUSE: Duration = Duration::from_millis(50);

/// How long a leader may take to answer a change: it says hello to the address first. Should it die meanwhile, its
/// silence is noticed sooner.
pub(super) const CHANGE_PATIENCE: Duration = Duration::from_secs(5);

/// What a client wants of the cluster itself, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admin {
    /// Who is in it?
    Members,
    /// Change that.
    Change {
        request: ChangeRequest,
        /// The entry that it became, once the leader has said so.
        begun: Option<Changed>,
    },
    /// Let another node lead.
    Transfer {
        to: Option<NodeId>,
        /// Who is to lead and the term that is to end, once the leader has said so.
        begun: Option<(NodeId, Term)>,
    },
}

impl Admin {
    /// The body to send next.
    pub(super) fn request(&self) -> ClientRequest<'_> {
        match self {
            Self::Members | Self::Transfer { begun: Some(_), .. } => ClientRequest::Members { of: None },
            Self::Change { begun: Some(changed), .. } => {
                let of = (changed.index != Index(0)).then_some(*changed);
                ClientRequest::Members { of }
            }
            Self::Change { request, begun: None } => ClientRequest::ChangeMembership(request.clone()),
            Self::Transfer { to, begun: None } => ClientRequest::TransferLeadership { to: *to },
        }
    }

    /// True when the next body asks for something to be done.
    pub(super) const fn is_deed(&self) -> bool {
        matches!(self, Self::Change { begun: None, .. } | Self::Transfer { begun: None, .. })
    }

    /// True when giving up leaves the outcome open, should an attempt have been made.
    pub(super) const fn may_take_effect(&self) -> bool {
        !matches!(self, Self::Members)
    }
}

impl Client {
    /// Asks the leader who is in the cluster and how far each member is. `[W-81]`
    pub fn members(&mut self, deadline: Instant) -> OperationId {
        self.begin(Kind::Admin(Admin::Members), deadline)
    }

    /// Has the leader change the membership, and waits until the change has settled: it is committed and no joint
    /// membership of its own is in force. With `expected`, only if that is the version in force. `[W-79]`
    pub fn change_membership(
        &mut self,
        expected: Option<Index>,
        change: MembershipChange,
        deadline: Instant,
    ) -> OperationId {
        let request = ChangeRequest { expected, change };
        self.begin(Kind::Admin(Admin::Change { request, begun: None }), deadline)
    }

    /// Has the leader hand over to this voter, or to the fittest, and waits until another one leads. `[W-84]`
    pub fn transfer_leadership(&mut self, to: Option<NodeId>, deadline: Instant) -> OperationId {
        self.begin(Kind::Admin(Admin::Transfer { to, begun: None }), deadline)
    }

    fn admin(&mut self, id: OperationId) -> Option<&mut Admin> {
        match &mut self.operations.get_mut(&id)?.kind {
            Kind::Admin(admin) => Some(admin),
            _ => None,
        }
    }

    pub(super) fn on_changed(&mut self, now: Instant, id: OperationId, changed: Changed) {
        let Some(Admin::Change { begun, .. }) = self.admin(id) else {
            return self.end(id, Err(ClientError::BadReply));
        };
        *begun = Some(changed);
        self.retry_after(now, id, WATCH_PAUSE);
    }

    pub(super) fn on_transferring(&mut self, now: Instant, id: OperationId, to: NodeId, term: Term) {
        let Some(Admin::Transfer { begun, .. }) = self.admin(id) else {
            return self.end(id, Err(ClientError::BadReply));
        };
        *begun = Some((to, term));
        self.retry_after(now, id, WATCH_PAUSE);
    }

    pub(super) fn on_members(&mut self, now: Instant, id: OperationId, state: Box<MembershipState>) {
        let end = match self.admin(id) {
            Some(Admin::Members) => Some(Ok(Answer::Members(state))),
            Some(Admin::Change { begun: Some(begun), request }) => {
                // What was so already, and what nobody can tell any more, has settled when the membership has.
                let has_settled = match state.outcome {
                    ChangeOutcome::Superseded => return self.end(id, Err(ClientError::Superseded)),
                    ChangeOutcome::Settled => true,
                    ChangeOutcome::NotAsked => state.is_settled && state.version >= begun.index,
                    ChangeOutcome::Pending => false,
                };
                // Of an entry that is in no log any more a leader cannot know whether it was the change.
                let is_so = is_so(&request.change, &state.membership);
                let end = if is_so { Ok(Answer::Members(state)) } else { Err(ClientError::Superseded) };
                has_settled.then_some(end)
            }
            Some(Admin::Transfer { begun: Some((to, term)), .. }) => {
                let (to, term) = (*to, *term);
                let MembershipState { leader, term: led, transferring, .. } = *state;
                if led > term || leader == to {
                    Some(Ok(Answer::Transferred { leader, term: led }))
                } else {
                    transferring.is_none().then_some(Err(ClientError::NotTransferred { to }))
                }
            }
            _ => Some(Err(ClientError::BadReply)),
        };
        match end {
            Some(end) => self.end(id, end),
            None => self.retry_after(now, id, WATCH_PAUSE),
        }
    }

    pub(super) fn on_change_refused(
        &mut self,
        now: Instant,
        id: OperationId,
        reason: ChangeRefusal,
        text: &str,
    ) {
        // An earlier attempt may have begun it.
        let was_lost = self.operations.get(&id).is_some_and(Operation::was_lost);
        if was_lost && let Some(Admin::Change { request, begun }) = self.admin(id) {
            let removes = matches!(request.change, MembershipChange::Remove { .. });
            match reason {
                ChangeRefusal::Running { .. } => return self.retry_after(now, id, RUNNING_PAUSE),
                ChangeRefusal::Unknown { .. } if removes => {
                    *begun = Some(Changed { index: Index(0), term: None });
                    return self.retry_after(now, id, WATCH_PAUSE);
                }
                _ => {}
            }
        }
        self.end(id, Err(ClientError::ChangeRefused { refusal: reason, reason: text.to_owned() }));
    }
}

/// True when the membership is as the change wants it.
fn is_so(change: &MembershipChange, membership: &Membership) -> bool {
    let found = membership.member(change.node());
    match change {
        MembershipChange::Add { member, .. } => found.is_some_and(|it| it.address == member.address),
        MembershipChange::Move { address, .. } => found.is_some_and(|it| it.address == *address),
        MembershipChange::Promote { node } => membership.voters.contains_key(node),
        MembershipChange::Remove { .. } => found.is_none(),
    }
}
