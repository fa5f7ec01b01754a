//! The fields of bodies about the membership and its leader.

use crate::membership::MembershipChange;
use crate::wire::member::{ChangeRefusal, ChangeRequest, Changed, MembershipState};
use crate::wire::print::Fields;
use crate::wire::print_body::put_membership;

pub(super) fn change(request: &ChangeRequest, fields: &mut Fields) {
    if let Some(expected) = request.expected {
        fields.put("expected", expected);
    }
    let (name, node) = (change_name(&request.change), request.change.node());
    fields.put("change", name);
    fields.put("node", node);
    match &request.change {
        MembershipChange::Add { member, .. } => {
            fields.put("store", member.store);
            fields.put("address", &member.address);
        }
        MembershipChange::Move { address, .. } => fields.put("address", address),
        MembershipChange::Promote { .. } | MembershipChange::Remove { .. } => {}
    }
}

const fn change_name(change: &MembershipChange) -> &'static str {
    match change {
        MembershipChange::Add { .. } => "add",
        MembershipChange::Promote { .. } => "promote",
        MembershipChange::Remove { .. } => "remove",
        MembershipChange::Move { .. } => "move",
    }
}

pub(super) fn changed(changed: Option<Changed>, fields: &mut Fields) {
    let Some(Changed { index, term }) = changed else { return };
    fields.put("index", index);
    if let Some(term) = term {
        fields.put("term", term);
    }
}

pub(super) fn state(state: &MembershipState, fields: &mut Fields) {
    fields.put("leader", state.leader);
    fields.put("term", state.term);
    fields.put("commit", state.commit);
    fields.put("version", state.version);
    fields.put("is_settled", state.is_settled);
    fields.put("outcome", state.outcome.name());
    fields.put("transferring", state.transferring.map_or_else(|| "none".to_owned(), |to| to.to_string()));
    put_membership(&state.membership, fields);
    for (place, row) in state.members.iter().enumerate() {
        fields.within(&format!("member{place}"), |fields| {
            fields.put("node", row.node);
            fields.put("match_index", row.match_index);
            fields.put("lag", row.lag);
            fields.put("is_heard", row.is_heard);
            fields.put("is_caught_up", row.is_caught_up);
        });
    }
}

pub(super) fn refusal(reason: ChangeRefusal, fields: &mut Fields) {
    match reason {
        ChangeRefusal::Other(code) => fields.put("reason", code),
        reason => fields.put("reason", reason.name()),
    }
    match reason {
        ChangeRefusal::Running { index } => fields.put("index", index),
        ChangeRefusal::Version { expected, actual } => {
            fields.put("expected", expected);
            fields.put("actual", actual);
        }
        ChangeRefusal::NotCaughtUp { node, lag } => {
            fields.put("node", node);
            fields.put("lag", lag);
        }
        ChangeRefusal::Unknown { node }
        | ChangeRefusal::Taken { node }
        | ChangeRefusal::StoreInUse { node }
        | ChangeRefusal::Unheard { node }
        | ChangeRefusal::OtherNode { node } => fields.put("node", node),
        ChangeRefusal::QuorumAtRisk { alive, needed } => {
            fields.put("alive", alive);
            fields.put("needed", needed);
        }
        _ => {}
    }
}
