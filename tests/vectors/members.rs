//! Bodies about the membership and its leader.

use raftgram::membership::{Member, MembershipChange};
use raftgram::types::{Index, NodeId, StoreId, Term};
use raftgram::wire::client::{ClientReply, ClientRequest};
use raftgram::wire::fault::{FaultLinks, FaultRequest, LinkFaults};
use raftgram::wire::member::{
    ChangeOutcome, ChangeRefusal, ChangeRequest, Changed, MemberProgress, MembershipState,
};

use super::bodies::membership;

fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn change(expected: Option<u64>, change: MembershipChange) -> ClientRequest<'static> {
    ClientRequest::ChangeMembership(ChangeRequest { expected: expected.map(Index), change })
}

// [W-110]
fn faults(links: FaultLinks) -> FaultRequest {
    let faults = LinkFaults {
        is_blocked: false,
        mtu: 1400,
        loss_ppm: 50_000,
        burst_ppm: [10_000, 250_000, 1_000_000, 0],
        delay_us: 5_000,
        jitter_us: 1_000,
        duplicate_ppm: 1,
        reorder_ppm: 100_000,
        reorder_delay_us: 1_000,
        corrupt_ppm: 0,
    };
    FaultRequest::Set { links, lasting_ms: 30_000, faults }
}

// [W-79] [W-81] [W-84] [W-110]
pub(super) fn requests() -> Vec<(&'static str, ClientRequest<'static>)> {
    let address = "10.0.0.4:7101".to_owned();
    let whoever = Member { store: StoreId([0; 16]), address: address.clone() };
    let this = Member { store: StoreId([4; 16]), address: address.clone() };
    let of = |term| Some(Changed { index: Index(1_000_001), term });
    vec![
        ("change-add", change(None, MembershipChange::Add { node: node(4), member: whoever })),
        ("change-add-a-store", change(Some(0), MembershipChange::Add { node: node(4), member: this })),
        ("change-promote", change(None, MembershipChange::Promote { node: node(4) })),
        ("change-remove", change(Some(1_000_000), MembershipChange::Remove { node: node(3) })),
        ("change-move", change(None, MembershipChange::Move { node: node(4), address })),
        ("members", ClientRequest::Members { of: None }),
        ("members-of-a-change", ClientRequest::Members { of: of(Some(Term(5))) }),
        ("members-of-what-was-so", ClientRequest::Members { of: of(None) }),
        ("transfer-leadership", ClientRequest::TransferLeadership { to: None }),
        ("transfer-leadership-to", ClientRequest::TransferLeadership { to: Some(node(2)) }),
        ("set-faults", ClientRequest::SetFaults(faults(FaultLinks::Node(node(3))))),
        ("set-faults-of-all", ClientRequest::SetFaults(faults(FaultLinks::Nodes))),
        ("set-faults-of-clients", ClientRequest::SetFaults(faults(FaultLinks::Clients))),
        ("clear-faults", ClientRequest::SetFaults(FaultRequest::Clear)),
    ]
}

// [W-79] [W-80] [W-81] [W-84]
pub(super) fn replies() -> Vec<(&'static str, ClientReply<'static>)> {
    let state = MembershipState {
        leader: node(1),
        term: Term(5),
        commit: Index(1_000_000),
        version: Index(1_000_001),
        is_settled: false,
        outcome: ChangeOutcome::Pending,
        transferring: None,
        membership: membership(),
        members: vec![MemberProgress {
            node: node(9),
            match_index: Index(999_000),
            lag: 1001,
            is_heard: true,
            is_caught_up: false,
        }],
    };
    let settled = MembershipState {
        is_settled: true,
        outcome: ChangeOutcome::Settled,
        transferring: Some(node(2)),
        members: Vec::new(),
        ..state.clone()
    };
    let refused = |reason| ClientReply::ChangeRefused { reason, text: "why" };
    vec![
        ("changed", ClientReply::Changed(Changed { index: Index(1_000_001), term: Some(Term(5)) })),
        ("changed-before", ClientReply::Changed(Changed { index: Index(0), term: None })),
        ("membership-state", ClientReply::Members(Box::new(state))),
        ("membership-state-settled", ClientReply::Members(Box::new(settled))),
        ("change-refused-running", refused(ChangeRefusal::Running { index: Index(1_000_001) })),
        (
            "change-refused-version",
            refused(ChangeRefusal::Version { expected: Index(9), actual: Index(1_000_001) }),
        ),
        ("change-refused-unknown", refused(ChangeRefusal::Unknown { node: node(7) })),
        ("change-refused-not-caught-up", refused(ChangeRefusal::NotCaughtUp { node: node(4), lag: 1001 })),
        ("change-refused-quorum-at-risk", refused(ChangeRefusal::QuorumAtRisk { alive: 1, needed: 2 })),
        ("change-refused-silent", refused(ChangeRefusal::Silent)),
        ("change-refused-later-code", refused(ChangeRefusal::Other(99))),
        ("transferring", ClientReply::Transferring { to: node(2), term: Term(5) }),
        ("faults-set", ClientReply::FaultsSet),
    ]
}
