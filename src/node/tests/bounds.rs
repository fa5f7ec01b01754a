//! Every table of a node is filled, and holds no more than its bound.

use super::*;
use crate::membership::MembershipChange;
use crate::node::links::HELD_MAX;
use crate::node::probe::PROBES_MAX;
use crate::node::raft_io::PEER_TOKENS_MAX;
use crate::rpc::Token;
use crate::wire::client::ReadLevel;
use crate::wire::member::ChangeRequest;
use crate::wire::watch::Watch;

/// How many of these calls were answered busy, with a time to come again; the others wait.
fn busy(net: &Net, calls: &[CallId]) -> usize {
    let answered = calls.iter().filter(|call| net.replies.contains_key(*call));
    let is_busy = |reply: ClientReply<'_>| match reply {
        ClientReply::Busy { retry_after_us } => assert!(retry_after_us > 0),
        other => panic!("{other:?}"),
    };
    answered.map(|call| net.reply(*call, is_busy)).count()
}

/// A leader that takes few and reaches nobody, so that nothing it takes is ever done.
fn crowded() -> (Net, u16) {
    let (mut net, leader) = Net::elected();
    let config = &mut net.nodes.get_mut(&leader).unwrap().config;
    config.waiting_max = 8;
    config.watch.waiting_max = 3;
    net.cut.insert(leader);
    (net, leader)
}

#[test]
fn writes_that_wait_are_as_many_as_the_setting_says_and_the_rest_is_told_when_to_come_again() {
    let (mut net, leader) = crowded();
    let calls = [(); 10].map(|()| net.call(leader, &ClientRequest::OpenSession));
    net.run_for(Duration::from_millis(50));
    // One client alone gets half of the places.
    assert_eq!((net.nodes[&leader].load().writes, busy(&net, &calls)), (4, 6));
}

#[test]
fn reads_that_wait_are_as_many_as_the_setting_says_and_the_rest_is_told_when_to_come_again() {
    let (mut net, leader) = crowded();
    let levels = [ReadLevel::Linearizable, ReadLevel::AnyNode].into_iter().cycle();
    let calls: Vec<CallId> =
        levels.take(10).map(|level| net.call(leader, &ClientRequest::Read { level, query: b"" })).collect();
    net.run_for(Duration::from_millis(50));
    assert_eq!((net.nodes[&leader].load().reads, busy(&net, &calls)), (8, 2));
}

// [W-103]
#[test]
fn watches_that_wait_are_as_many_as_the_setting_says_and_the_rest_is_told_when_to_come_again() {
    let (mut net, leader) = crowded();
    let after = net.nodes[&leader].applied;
    let watch = ClientRequest::Watch(Watch { after, wait_us: 1_000_000, filter: b"" });
    let calls = [(); 10].map(|()| net.call(leader, &watch));
    net.run_for(Duration::from_millis(50));
    assert_eq!(busy(&net, &calls), 7);
}

/// Who asks for members at addresses where nobody answers keeps a few questions under way, not one for each.
#[test]
fn addresses_that_are_asked_who_is_there_are_few_at_a_time() {
    let (mut net, leader) = Net::elected();
    let add = |number: u16| {
        let member = Member { store: StoreId([0; 16]), address: format!("127.0.0.1:{}", 9000 + number) };
        let change = MembershipChange::Add { node: node_id(number), member };
        ClientRequest::ChangeMembership(ChangeRequest { expected: None, change })
    };
    let numbers = 10..10 + 2 * PROBES_MAX as u16;
    let calls: Vec<CallId> = numbers.map(|number| net.call(leader, &add(number))).collect();
    net.run_for(Duration::from_millis(50));
    assert!(net.nodes[&leader].probes.is_full());
    assert_eq!(busy(&net, &calls), PROBES_MAX);
}

#[test]
fn what_is_held_back_while_a_boot_is_recorded_is_bounded() {
    let now = Instant::from_nanos(1_000);
    let mut node = node(1, Rng::from_seed(1), now);
    let link = node.peers[&node_id(2)].link;
    node.on_connected(link, &info(1));
    (0..HELD_MAX + 50).for_each(|_| node.on_peer_message(now, link, None, of_term(9)));
    let Some(Standing::Recording { held, .. }) = node.standing_of(link) else { panic!("it is recorded") };
    assert_eq!(held.len(), HELD_MAX);
}

/// The oldest goes: whoever waits for its answer asks again.
#[test]
fn requests_of_peers_that_wait_for_an_answer_are_bounded() {
    let (mut net, leader) = Net::elected();
    let node = net.nodes.get_mut(&leader).unwrap();
    let calls = 0..PEER_TOKENS_MAX as u64 + 50;
    let tokens: Vec<_> = calls.map(|call| node.keep_peer_token(Token::stale(1000, call))).collect();
    assert_eq!(node.load().peer_tokens, PEER_TOKENS_MAX);
    assert_eq!(node.peer_tokens.first_key_value().map(|(token, _)| *token), Some(tokens[50]));
}
