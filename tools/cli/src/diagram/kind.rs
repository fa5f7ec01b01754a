//! Kinds of datagrams in groups, each with an ink of its own.

use crate::picture::Ink;

/// A group of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) ink: Ink,
}

/// The groups, in the order of their importance to a reader.
pub(super) const GROUPS: [Group; 7] = [
    Group { name: "appends", ink: Ink::Series(0) },
    Group { name: "elections", ink: Ink::Series(1) },
    Group { name: "heartbeats and reads", ink: Ink::Series(4) },
    Group { name: "clients", ink: Ink::Series(2) },
    Group { name: "snapshots and repair", ink: Ink::Series(5) },
    Group { name: "administration", ink: Ink::Series(3) },
    Group { name: "links", ink: Ink::Series(6) },
];

/// The place of a kind's group. What is not known belongs to links, as frames without a body do.
pub(super) fn group_of(kind: &str) -> usize {
    let name = kind.strip_suffix("-reply").unwrap_or(kind);
    match name {
        "append" => 0,
        "vote" | "pre-vote" | "transfer" => 1,
        "heartbeat" | "read-probe" | "read-index" | "state-digests" => 2,
        "open-session" | "close-session" | "propose" | "read" | "session-opened" | "session-closed"
        | "applied" | "redirect" | "busy" | "session-expired" | "sequence-finished" | "too-large"
        | "refused" => 3,
        "snapshot-offer" | "snapshot-pull" | "snapshot-data" | "range" | "take-snapshot"
        | "snapshot-state" => 4,
        "status"
        | "founding"
        | "founded"
        | "change-membership"
        | "members"
        | "transfer-leadership"
        | "changed"
        | "membership-state"
        | "change-refused"
        | "transferring"
        | "transferred" => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_in_the_group_of_its_question() {
        for kind in ["append", "vote", "pre-vote", "heartbeat", "read-index", "snapshot-offer", "range"] {
            assert_eq!(group_of(kind), group_of(&format!("{kind}-reply")), "{kind}");
        }
        assert_eq!(GROUPS[group_of("ack")].name, "links");
    }
}
