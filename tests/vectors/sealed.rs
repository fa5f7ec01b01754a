//! What is under a key or a session, what spoils it, and one handshake step by step.

use std::collections::BTreeMap;

use raftgram::message::{Heartbeat, Message};
use raftgram::seal::{
    Captured, Key, KeyRing, KeyRole, Phase, Secret, Session, SessionId, SessionKeys, TAG_BYTES, suite,
};
use raftgram::types::{GroupId, Incarnation, Index, NodeId, PacketNumber, Round, Term};
use raftgram::wire::peer::encode_message;
use raftgram::wire::print::{Fields, Verdict, print_datagram, print_opened};
use raftgram::wire::{
    Confirm, Flags, Frame, HEADER_BYTES, HELLO_DATAGRAM_BYTES, Header, Hello, Party, SealOffer, Welcome,
    associated, begin, cluster_in_force, mark_sealed, pad_to, parse_header, seal_id,
};

use super::case::{Case, Kind, unhex};
use super::datagrams::{CLUSTER, NONCE_A, NONCE_B, client_description, header, stranger, to_client};
use super::write::hex;

const SESSION: u32 = 0x8512_3456;

fn counted(from: u8) -> [u8; 32] {
    core::array::from_fn(|place| from + place as u8)
}

/// The key of all these vectors, and the secret of one direction.
fn key() -> Secret {
    Secret::new(counted(0x40))
}

fn secret() -> Secret {
    Secret::new(counted(0x80))
}

fn ring(role: KeyRole, secret: Secret) -> KeyRing {
    KeyRing::new(suite().unwrap(), vec![Key { role, secret }]).unwrap()
}

fn under_key(role: KeyRole, header: &Header, frames: &[Frame<'_>], pad: usize) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out, header);
    frames.iter().for_each(|frame| frame.encode(&mut out));
    pad_to(&mut out, pad);
    let ring = ring(role, key());
    let slot = ring.for_client();
    mark_sealed(&mut out, Flags::NONE, ring.id(slot).0);
    let mac = ring.mac(slot, &cluster_in_force(&out, CLUSTER).0, &out);
    out.extend_from_slice(&mac);
    out
}

/// The packets of this number in the phases of a session that turns after each.
fn under_session(packets: &[u64]) -> Vec<Vec<u8>> {
    let suite = suite().unwrap();
    let keys = SessionKeys {
        id_in: SessionId(1 << 31),
        id_out: SessionId(SESSION),
        sending: secret(),
        receiving: secret(),
        packets_per_phase_max: 1,
    };
    let mut session = Session::new(&*suite, keys);
    let mut notice = Vec::new();
    let beat = Heartbeat { term: Term(5), round: Round(384), commit: Index(1_000_000) };
    encode_message(GroupId(0), &Message::Heartbeat(beat), &mut notice);
    let seal = |&packet: &u64| {
        let mut out = Vec::new();
        begin(&mut out, &Header { packet: PacketNumber(packet), ..header() });
        Frame::Notice { body: &notice }.encode(&mut out);
        let odd = session.phase_for(&*suite, packet) == Phase::Odd;
        mark_sealed(&mut out, if odd { Flags::KEY_PHASE } else { Flags::NONE }, SESSION);
        let associated = associated(&out, CLUSTER);
        let tag = session.seal(packet, &associated, &mut out[HEADER_BYTES..]);
        out.extend_from_slice(&tag);
        session.on_acked(packet);
        out
    };
    packets.iter().map(seal).collect()
}

fn case(name: &str, bytes: Vec<u8>, keys: &[(&str, String)]) -> Case {
    let mut case = Case {
        name: name.to_owned(),
        kind: Kind::Sealed,
        bytes,
        cluster: CLUSTER,
        context: BTreeMap::new(),
        keys: keys.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        fields: Vec::new(),
        expect: String::new(),
    };
    let (fields, verdict) = found(&case);
    if verdict == "accept" {
        case.fields = fields.as_slice().to_vec();
    }
    case.expect = verdict;
    case
}

// [W-5] [W-70] [W-71] [W-72] [W-73] [W-74] [W-75] [W-76]
pub(crate) fn cases() -> Vec<Case> {
    let of_key = [("cluster", hex(key().expose()))];
    let of_client = [("client", hex(key().expose()))];
    let of_session = [("session", format!("{SESSION:08x}")), ("secret", hex(secret().expose()))];
    let hello = Frame::Hello(Hello { nonce_a: NONCE_A, description: client_description() });
    let pad = HELLO_DATAGRAM_BYTES - TAG_BYTES;
    let client_hello = under_key(KeyRole::Cluster, &stranger(), &[hello], pad);
    let handshake = handshake();
    let message = |name: &str| -> [u8; 48] {
        let field = handshake.fields.iter().find(|(field, _)| field == name).unwrap();
        unhex(&field.1).try_into().unwrap()
    };
    let confirm = [
        hello,
        Frame::Confirm(Confirm { nonce_a: NONCE_A, nonce_b: NONCE_B }),
        Frame::Seal(SealOffer { session: 0x85aa_aaaa, message: message("message_1") }),
    ];
    let welcome = [
        Frame::Welcome(Welcome { nonce_a: NONCE_A, incarnation: Incarnation(3) }),
        Frame::Seal(SealOffer { session: 0x85bb_bbbb, message: message("message_2") }),
    ];
    let to_stranger = Header { destination_incarnation: Incarnation::UNKNOWN, ..to_client() };
    let beats = under_session(&[1_000_000, 1_000_001, 1_000_002]);
    let spoilt = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let last = beats[0].len() - 1;
    let wrong = [("cluster", hex(&counted(0x41)))];
    let wrong_secret = [of_session[0].clone(), ("secret", hex(&counted(0x81)))];
    let from_node = Header { source: Party::Node(NodeId::new(2).unwrap()), flags: Flags::NONE, ..stranger() };
    vec![
        case("sealed-client-hello", client_hello.clone(), &of_key),
        case(
            "sealed-client-hello-under-a-client-key",
            under_key(KeyRole::Client, &stranger(), &[hello], pad),
            &of_client,
        ),
        case("sealed-client-confirm", under_key(KeyRole::Cluster, &confirm_header(), &confirm, pad), &of_key),
        case("sealed-client-welcome", under_key(KeyRole::Cluster, &to_stranger, &welcome, 0), &of_key),
        case("sealed-heartbeat", beats[0].clone(), &of_session),
        case("sealed-heartbeat-in-phase-1", beats[1].clone(), &of_session),
        case("sealed-heartbeat-in-phase-2", beats[2].clone(), &of_session),
        case("sealed-under-a-key-that-is-not-held", client_hello.clone(), &wrong),
        case("sealed-without-any-key", client_hello.clone(), &[]),
        case("sealed-with-an-altered-mac", spoilt(&client_hello, client_hello.len() - 1), &of_key),
        case("sealed-with-an-altered-frame", spoilt(&client_hello, 40), &of_key),
        case(
            "sealed-node-hello-under-a-client-key",
            under_key(KeyRole::Client, &from_node, &[hello], pad),
            &of_client,
        ),
        case("sealed-in-a-session-that-is-not-known", spoilt(&beats[0], 7), &of_session),
        case("sealed-with-another-secret", beats[0].clone(), &wrong_secret),
        case("sealed-with-an-altered-tag", spoilt(&beats[0], last), &of_session),
        case("sealed-with-an-altered-text", spoilt(&beats[0], HEADER_BYTES), &of_session),
        case("sealed-with-an-altered-header", spoilt(&beats[0], 19), &of_session),
        case("sealed-with-the-other-phase", spoilt_phase(&beats[0]), &of_session),
        case("sealed-cut-into-the-tag", beats[0][..HEADER_BYTES + TAG_BYTES - 1].to_vec(), &of_session),
        case("sealed-flag-taken-off", unsealed(&beats[0]), &of_session),
        handshake,
    ]
}

fn spoilt_phase(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[3] ^= Flags::KEY_PHASE.0;
    bytes
}

fn unsealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[3] &= !Flags::SEALED.0;
    bytes
}

/// The header of the client's confirm, which the prologue repeats.
fn confirm_header() -> Header {
    Header {
        cluster_tag: CLUSTER.tag(),
        destination: Party::Node(NodeId::MIN),
        destination_incarnation: Incarnation(7),
        packet: PacketNumber(2),
        ..stranger()
    }
}

fn handshake() -> Case {
    let header = confirm_header();
    let mut prologue = b"raftgram 1".to_vec();
    prologue.extend_from_slice(&CLUSTER.0);
    prologue.extend_from_slice(&header.source.as_u16().to_be_bytes());
    prologue.extend_from_slice(&header.destination.as_u16().to_be_bytes());
    prologue.extend_from_slice(&header.source_incarnation.0.to_be_bytes());
    prologue.extend_from_slice(&header.destination_incarnation.0.to_be_bytes());
    prologue.extend_from_slice(&NONCE_A.to_be_bytes());
    prologue.extend_from_slice(&NONCE_B.to_be_bytes());
    let keys = [
        ("cluster", hex(key().expose())),
        ("initiator", hex(&counted(0x10))),
        ("answerer", hex(&counted(0x20))),
    ];
    let mut case = Case { kind: Kind::Handshake, ..case("handshake", Vec::new(), &keys) };
    case.bytes = prologue;
    case.fields = steps(&case);
    case.expect = "accept".to_owned();
    case
}

/// Both ends of a handshake, from its keys and its prologue.
fn steps(case: &Case) -> Vec<(String, String)> {
    let secret = |name: &str| Secret::new(unhex(&case.keys[name]).try_into().unwrap());
    let ring = ring(KeyRole::Cluster, secret("cluster"));
    let slot = ring.for_client();
    let (mut initiator, first) = ring.initiate(slot, &case.bytes, secret("initiator"));
    let (second, there) = ring.answer(slot, &case.bytes, secret("answerer"), &first).unwrap();
    let here = initiator.finish(&second).unwrap();
    assert_eq!(here.answerer.expose(), there.answerer.expose());
    let fields = [
        ("message_1", hex(&first)),
        ("message_2", hex(&second)),
        ("initiator_secret", hex(here.initiator.expose())),
        ("answerer_secret", hex(here.answerer.expose())),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// What a receiver with the case's keys finds, and its verdict.
pub(crate) fn found(case: &Case) -> (Fields, String) {
    let printed = match open(case) {
        Some((frames, under)) => print_opened(&case.bytes, &frames, &under),
        None => print_datagram(&case.bytes, Some(case.cluster)),
    };
    let verdict = match printed.verdict {
        Verdict::Drop(reason) => reason.name().to_owned(),
        Verdict::Accept | Verdict::Unverified => "accept".to_owned(),
    };
    (printed.fields, verdict)
}

/// A handshake's messages and secrets are those that the case has.
pub(crate) fn check_handshake(case: &Case) {
    let said: BTreeMap<_, _> = case.fields.iter().cloned().collect();
    assert_eq!(steps(case).into_iter().collect::<BTreeMap<_, _>>(), said, "{}", case.name);
}

fn open(case: &Case) -> Option<(Vec<u8>, String)> {
    let bytes = &case.bytes;
    let header = parse_header(bytes).ok().filter(|header| header.flags.contains(Flags::SEALED))?;
    let (covered, mac) =
        bytes.split_at_checked(bytes.len() - TAG_BYTES).filter(|(head, _)| head.len() >= HEADER_BYTES)?;
    let secret = |name: &str| Some(Secret::new(unhex(case.keys.get(name)?).try_into().ok()?));
    match SessionId::parse(seal_id(bytes)) {
        Err(id) => {
            let roles = [KeyRole::Cluster, KeyRole::Client];
            let (role, secret) = roles.into_iter().find_map(|role| Some((role, secret(role.name())?)))?;
            let ring = ring(role, secret);
            let slot = ring.find(id)?;
            let is_good = ring.verifies(slot, &cluster_in_force(bytes, case.cluster).0, covered, mac)
                && (role == KeyRole::Cluster || header.source == Party::Any);
            is_good.then(|| (covered[HEADER_BYTES..].to_vec(), format!("{} key {id}", role.name())))
        }
        Ok(id) => {
            let is_known = case.keys.get("session").is_some_and(|known| *known == format!("{:08x}", id.0));
            let phase = if header.flags.contains(Flags::KEY_PHASE) { Phase::Odd } else { Phase::Even };
            let associated = associated(bytes, case.cluster);
            let mut text = bytes[HEADER_BYTES..].to_vec();
            let secret = secret("secret").filter(|_| is_known)?;
            let suite = suite()?;
            let mut session = Captured::new(&*suite, &secret);
            let is_open = session.open(&*suite, phase, header.packet.0, &associated, &mut text);
            text.truncate(text.len() - TAG_BYTES);
            is_open.then(|| (text, format!("session {:08x}", id.0)))
        }
    }
}
