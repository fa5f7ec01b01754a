//! Invariants 10, 11, 14, 16, 22, 25 and 29 on datagrams, broken one by one.

use std::net::SocketAddr;

use super::super::beliefs::Beliefs;
use super::super::codec::CodecCheck;
use super::super::shown::Known;
use super::super::stranger::Strangers;
use super::super::violation::{Broken, Invariant};
use super::puppet::{CLUSTER, Stage, assert_broken, id, identity};
use crate::message::{
    AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, VoteReply, VoteRequest,
};
use crate::raft::{PeerStatus, ProgressKind};
use crate::time::Instant;
use crate::types::{CallId, GroupId, Incarnation, Index, PacketNumber, Round, Term};
use crate::wire::client::{ClientReply, Outcome, encode_reply};
use crate::wire::peer::encode_message;
use crate::wire::{self, Class, Confirm, Flags, Frame, Header, Party};

fn header(from: u16, to: u16) -> Header {
    Header {
        flags: Flags::NONE,
        cluster_tag: CLUSTER.tag(),
        source: Party::Node(id(from)),
        destination: Party::Node(id(to)),
        source_incarnation: Incarnation(1),
        destination_incarnation: Incarnation(1),
        packet: PacketNumber(1),
    }
}

fn body(message: &Message) -> Vec<u8> {
    let mut body = Vec::new();
    encode_message(GroupId(0), message, &mut body);
    body
}

impl Stage {
    /// What the checks say to a message on its way.
    fn shows(&self, from: u16, to: u16, message: &Message) -> Result<(), Broken> {
        self.shows_body(from, to, &body(message))
    }

    fn shows_body(&self, from: u16, to: u16, body: &[u8]) -> Result<(), Broken> {
        let Self { oracle, folders, cores, operations } = self;
        let known = Known { oracle, folders, cores, operations };
        let frame = Frame::Reply { call: CallId(1), body };
        known.check_frame(folders.of(id(from)).unwrap(), &header(from, to), &frame)
    }
}

fn accepted(term: u64, match_index: u64) -> Message {
    let outcome = AppendOutcome::Accepted { match_index: Index(match_index) };
    Message::AppendReply(AppendReply { term: Term(term), attempt: 0, outcome })
}

fn granted(term: u64) -> Message {
    let (term, is_granted) = (Term(term), true);
    Message::VoteReply(VoteReply { term, campaign_term: term, campaign: 1, is_granted })
}

fn vote(term: u64) -> Message {
    let term = Term(term);
    Message::Vote(VoteRequest {
        term,
        campaign_term: term,
        campaign: 1,
        last_index: Index(1),
        last_term: Term(1),
        is_transfer: false,
    })
}

fn heartbeat(term: u64) -> Message {
    Message::Heartbeat(Heartbeat { term: Term(term), round: Round(1), commit: Index(1) })
}

#[test]
fn what_is_durable_may_be_shown() {
    let (stage, _) = Stage::settled();
    stage.shows(2, 1, &granted(1)).unwrap();
    stage.shows(2, 1, &accepted(1, 1)).unwrap();
    stage.shows(1, 2, &vote(1)).unwrap();
    stage.shows(1, 2, &heartbeat(1)).unwrap();
}

#[test]
fn invariant_10_terms_and_votes_that_are_not_on_disk_are_found() {
    let (stage, _) = Stage::settled();
    assert_broken(stage.shows(2, 1, &accepted(2, 1)), Invariant::DurableBeforeShown);
    assert_broken(stage.shows(2, 3, &granted(1)), Invariant::DurableBeforeShown);
    assert_broken(stage.shows(2, 3, &vote(1)), Invariant::DurableBeforeShown);
    assert_broken(stage.shows(2, 3, &vote(2)), Invariant::DurableBeforeShown);
}

#[test]
fn invariant_1_a_message_of_a_leader_that_is_none_is_found() {
    let (stage, _) = Stage::settled();
    assert_broken(stage.shows(2, 3, &heartbeat(1)), Invariant::ElectionSafety);
}

#[test]
fn invariant_11_an_acknowledgement_beyond_the_disk_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].append_noop(1);
    stage.turn(&puppets[1]).unwrap();
    assert_broken(stage.shows(2, 1, &accepted(1, 2)), Invariant::DurableBeforeAcknowledged);
}

#[test]
fn invariant_11_an_acknowledgement_of_other_entries_than_the_leaders_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append_noop(1);
    stage.turn(&puppets[0]).unwrap();
    puppets[1].append(1, super::consensus::write(b"x"));
    stage.persist(&mut puppets[1]).unwrap();
    assert_broken(stage.shows(2, 1, &accepted(1, 2)), Invariant::DurableBeforeAcknowledged);
}

#[test]
fn invariant_14_a_datagram_of_a_boot_that_the_disk_did_not_count_is_found() {
    let (stage, _) = Stage::settled();
    let Stage { oracle, folders, cores, operations } = &stage;
    let known = Known { oracle, folders, cores, operations };
    let shadow = folders.of(id(1)).unwrap();
    known.check_header(shadow, &header(1, 2)).unwrap();
    let later = Header { source_incarnation: Incarnation(2), ..header(1, 2) };
    assert_broken(known.check_header(shadow, &later), Invariant::CampaignMembership);
}

#[test]
fn invariant_16_a_reply_without_an_effect_is_found() {
    let (stage, _) = Stage::settled();
    let mut body = Vec::new();
    let outcome = Outcome { index: Index(9), term: Term(1), result: b"done" };
    encode_reply(GroupId(0), &ClientReply::Applied(outcome), &mut body);
    assert_broken(stage.shows_body(1, 2, &body), Invariant::AtMostOnce);
}

fn datagram(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::begin(&mut bytes, &header(1, 2));
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    wire::finish(&mut bytes, CLUSTER);
    bytes
}

/// Sends as often as it takes to be a sample.
fn sample(bytes: &[u8]) -> Result<(), Broken> {
    let mut check = CodecCheck::default();
    (0..4096).try_for_each(|_| check.sent(CLUSTER, bytes))
}

#[test]
fn invariant_25_datagrams_that_do_not_come_back_as_they_were_are_found() {
    let heartbeat = body(&heartbeat(1));
    sample(&datagram(&[Frame::Notice { body: &heartbeat }])).unwrap();
    // A body with a byte that encoding would not write, one of no family, and a checksum that fits nothing.
    let longer = [&heartbeat[..], &[0]].concat();
    assert_broken(sample(&datagram(&[Frame::Notice { body: &longer }])), Invariant::Codec);
    let request = Frame::Request { call: CallId(1), class: Class::Again, body: &[0xff] };
    assert_broken(sample(&datagram(&[request])), Invariant::Codec);
    let mut broken = datagram(&[Frame::Notice { body: &heartbeat }]);
    *broken.last_mut().unwrap() ^= 1;
    assert_broken(sample(&broken), Invariant::Codec);
}

#[test]
fn invariant_22_a_stranger_that_gets_more_than_it_sent_is_found() {
    let from = SocketAddr::from(([10, 0, 0, 1], 1));
    let request = datagram(&[Frame::Version { min: 1, max: 1 }]);
    let header = wire::parse_header(&request).unwrap();
    let frames = wire::frames(&header, &request).unwrap();
    let answer = |strangers: &mut Strangers, bytes| strangers.sent(id(1), from, bytes, &frames);

    let mut strangers = Strangers::default();
    assert_broken(answer(&mut strangers, 10), Invariant::DatagramSize);
    strangers.received(id(1), from, request.len(), &request);
    assert_broken(answer(&mut strangers, request.len() + 1), Invariant::DatagramSize);
    answer(&mut strangers, request.len()).unwrap();
    assert_broken(answer(&mut strangers, request.len()), Invariant::DatagramSize);
}

#[test]
fn invariant_22_only_the_number_that_was_sent_to_an_address_proves_it() {
    let from = SocketAddr::from(([10, 0, 0, 1], 1));
    let confirm = |nonce_b| datagram(&[Frame::Confirm(Confirm { nonce_a: 1, nonce_b })]);
    let ack = Frame::HelloAck(crate::wire::HelloAck { nonce_a: 1, nonce_b: 77, description: description() });
    let ack = datagram(&[ack]);
    let header = wire::parse_header(&ack).unwrap();
    let frames = wire::frames(&header, &ack).unwrap();
    let padded = datagram(&[Frame::Padding { bytes: 256 }]);

    let mut strangers = Strangers::default();
    strangers.received(id(1), from, padded.len(), &padded);
    strangers.sent(id(1), from, ack.len(), &frames).unwrap();
    strangers.received(id(1), from, 256, &confirm(78));
    assert_broken(strangers.sent(id(1), from, 1200, &frames), Invariant::DatagramSize);
    strangers.received(id(1), from, 256, &confirm(77));
    strangers.sent(id(1), from, 1200, &frames).unwrap();
    strangers.booted(id(1));
    assert_broken(strangers.sent(id(1), from, 1200, &frames), Invariant::DatagramSize);
}

fn description() -> crate::wire::Description {
    crate::wire::Description {
        version_min: 1,
        version_max: 1,
        features: 0,
        store: crate::types::StoreId([1; 16]),
        boot_nonce: crate::types::BootNonce([2; 16]),
        cluster: CLUSTER,
        election_timeout_min_us: 1,
        election_timeout_max_us: 2,
        heartbeat_us: 1,
        datagram_bytes_max: 1200,
        credit_bytes: 1,
        greeting: crate::wire::Greeting::Plain,
    }
}

/// What node 1, which leads term 3, believes of node 2.
fn believed() -> PeerStatus {
    PeerStatus {
        identity: identity(2),
        kind: ProgressKind::Probe,
        match_index: Index(0),
        next_index: Index(1),
        inflight_count: 0,
        inflight_bytes: 0,
        heard: Instant::ZERO,
        acked_round: Round(0),
        offer: None,
    }
}

/// Node 2 says this to node 1, which then believes that.
fn lead_on(message: &Message, peer: PeerStatus) -> Result<(), Broken> {
    let mut beliefs = Beliefs::default();
    beliefs.turned(id(1), Some(Term(3)), [believed()].into_iter())?;
    let (mut frames, mut datagram) = (Vec::new(), Vec::new());
    Frame::Notice { body: &body(message) }.encode(&mut frames);
    wire::begin(&mut datagram, &header(2, 1));
    datagram.extend_from_slice(&frames);
    wire::finish(&mut datagram, CLUSTER);
    beliefs.received(id(1), &datagram);
    beliefs.turned(id(1), Some(Term(3)), [peer].into_iter())?;
    // One answer is one sign of life.
    let again = PeerStatus { heard: Instant::from_nanos(2), ..peer };
    assert_broken(beliefs.turned(id(1), Some(Term(3)), [again].into_iter()), Invariant::LivenessOfCore);
    Ok(())
}

fn heartbeat_reply(term: u64, round: u64) -> Message {
    Message::HeartbeatReply(HeartbeatReply { term: Term(term), round: Round(round) })
}

/// Scenarios E14 and R2.
#[test]
fn invariants_11_21_and_28_what_a_leader_believes_unsaid_is_found() {
    let heard = PeerStatus { heard: Instant::from_nanos(1), ..believed() };
    lead_on(&heartbeat_reply(3, 5), PeerStatus { acked_round: Round(5), ..heard }).unwrap();
    lead_on(&accepted(3, 4), PeerStatus { match_index: Index(4), ..heard }).unwrap();
    assert_broken(lead_on(&heartbeat_reply(4, 5), heard), Invariant::LivenessOfCore);
    let later = PeerStatus { acked_round: Round(6), ..heard };
    assert_broken(lead_on(&heartbeat_reply(3, 5), later), Invariant::ReadIndex);
    let longer = PeerStatus { match_index: Index(5), ..heard };
    assert_broken(lead_on(&accepted(3, 4), longer), Invariant::DurableBeforeAcknowledged);
}
#[cfg(feature = "seal")]
mod sealed {
    use super::*;
    use crate::seal::{
        Key, KeyLog as _, KeyRing, KeyRole, SealMode, Secret, Session, SessionId, SessionKeys, suite,
    };
    use crate::sim::invariant::SessionSecrets;
    use crate::sim::invariant::sealed::SealCheck;
    use std::sync::Arc;

    fn check() -> (SealCheck, Arc<KeyRing>, Arc<SessionSecrets>) {
        let key = Key { role: KeyRole::Cluster, secret: Secret::new([1; 32]) };
        let keys = Arc::new(KeyRing::new(suite().unwrap(), vec![key]).unwrap());
        let secrets = Arc::new(SessionSecrets::default());
        (SealCheck::new(SealMode::Require, keys.clone(), secrets.clone()), keys, secrets)
    }

    /// A datagram of the session with these secrets.
    fn sealed(keys: &KeyRing, secret: u8) -> Vec<u8> {
        let ids = (SessionId(1 << 31), SessionId(1 << 31 | 1));
        let [sending, receiving] = [secret, secret + 1].map(|byte| Secret::new([byte; 32]));
        let made_of =
            SessionKeys { id_in: ids.0, id_out: ids.1, sending, receiving, packets_per_phase_max: 9 };
        let mut session = Session::new(keys.suite(), made_of);
        let mut bytes = datagram(&[Frame::Notice { body: &body(&heartbeat(1)) }]);
        session.phase_for(keys.suite(), 1);
        wire::mark_sealed(&mut bytes, Flags::NONE, ids.1.0);
        let associated = wire::associated(&bytes, CLUSTER);
        let tag = session.seal(1, &associated, &mut bytes[wire::HEADER_BYTES..]);
        [&bytes[..], &tag].concat()
    }

    #[test]
    fn invariant_29_what_is_sent_in_plain_or_under_no_key_is_found_and_the_rest_is_opened() {
        let (mut check, keys, secrets) = check();
        let plain = datagram(&[Frame::Notice { body: &body(&heartbeat(1)) }]);
        assert_broken(check.open(CLUSTER, &plain).map(drop), Invariant::Seal);
        let bytes = sealed(&keys, 3);
        assert_broken(check.open(CLUSTER, &bytes).map(drop), Invariant::Seal);
        secrets.note(SessionId(1 << 31 | 1), &Secret::new([7; 32]));
        secrets.note(SessionId(1 << 31 | 1), &Secret::new([3; 32]));
        assert_eq!(&*check.open(CLUSTER, &bytes).unwrap(), &plain[..]);
        let refusal = datagram(&[Frame::SealRefused { reason: wire::SealRefusal::SealRequired }]);
        check.open(CLUSTER, &refusal).unwrap();
    }

    #[test]
    fn invariant_29_what_nobody_sent_and_what_was_taken_before_is_found() {
        let (mut check, keys, _) = check();
        let bytes = sealed(&keys, 3);
        assert_broken(check.taken(1, &bytes), Invariant::Seal);
        check.sent(1);
        check.taken(1, &bytes).unwrap();
        assert_broken(check.taken(1, &bytes), Invariant::Seal);
    }
}
