//! Keys, phases and handshakes, each alone.

#![cfg(feature = "seal")]

use core::time::Duration;

use super::{
    Entropy, Key, KeyFault, KeyFileError, KeyId, KeyRing, KeyRole, Phase, Secret, Session, SessionId,
    SessionKeys, Split, Trust, format_key, format_session, parse_keys, parse_sessions, suite,
};
use crate::rng::Rng;
use crate::time::Instant;

const KEEP: Duration = Duration::from_millis(3);

fn pair(packets_per_phase_max: u64) -> (Session, Session) {
    let suite = suite().unwrap();
    let keys = |id_in, id_out, sending, receiving| SessionKeys {
        id_in: SessionId(id_in),
        id_out: SessionId(id_out),
        sending: Secret::new([sending; 32]),
        receiving: Secret::new([receiving; 32]),
        packets_per_phase_max,
    };
    (Session::new(&*suite, keys(1, 2, 7, 8)), Session::new(&*suite, keys(2, 1, 8, 7)))
}

type Datagram = (u64, Phase, Vec<u8>);

fn seal(session: &mut Session, packet: u64) -> Datagram {
    let phase = session.phase_for(&*suite().unwrap(), packet);
    let mut text = packet.to_be_bytes().to_vec();
    let tag = session.seal(packet, b"header", &mut text);
    text.extend_from_slice(&tag);
    (packet, phase, text)
}

fn open(session: &mut Session, at_ms: u64, (packet, phase, text): &Datagram) -> bool {
    let now = Instant::ZERO + Duration::from_millis(at_ms);
    let mut text = text.clone();
    let suite = suite().unwrap();
    let is_open = session.open(&*suite, (now, KEEP), *phase, *packet, b"header", &mut text);
    assert!(!is_open || text[..8] == packet.to_be_bytes());
    is_open
}

// [W-76]
#[test]
fn a_sender_turns_to_the_next_phase_only_when_the_peer_has_followed() {
    let (mut here, mut there) = pair(3);
    for packet in 1..=5 {
        let sealed = seal(&mut here, packet);
        assert_eq!(sealed.1, Phase::Even, "nothing was acknowledged");
        assert!(open(&mut there, 0, &sealed));
    }
    here.on_acked(4);
    let turned = seal(&mut here, 6);
    assert_eq!(turned.1, Phase::Odd);
    for packet in 7..=8 {
        assert_eq!(seal(&mut here, packet).1, Phase::Odd);
    }
    here.on_acked(5);
    assert_eq!(seal(&mut here, 9).1, Phase::Odd, "packet 5 was of the phase before");
    here.on_acked(6);
    assert_eq!(seal(&mut here, 10).1, Phase::Even);
    assert!(open(&mut there, 1, &turned));
}

// [W-76]
#[test]
fn the_phase_before_is_opened_for_a_while_and_a_forged_phase_moves_nothing() {
    let (mut here, mut there) = pair(2);
    let early: Vec<Datagram> = (1..=2).map(|packet| seal(&mut here, packet)).collect();
    here.on_acked(1);
    let late: Vec<Datagram> = (3..=4).map(|packet| seal(&mut here, packet)).collect();
    assert_ne!(early[0].1, late[0].1);
    assert!(open(&mut there, 0, &early[0]));
    let forged = (9, late[0].1, vec![0; 24]);
    assert!(!open(&mut there, 0, &forged));
    assert!(open(&mut there, 0, &late[1]), "the later one overtook the earlier");
    assert!(open(&mut there, 1, &late[0]));
    assert!(open(&mut there, 2, &early[1]), "what was on its way");
    assert!(!open(&mut there, 3, &early[1]), "three milliseconds are over");
    here.on_acked(3);
    let next = seal(&mut here, 5);
    assert_eq!(next.1, early[0].1, "the flag is a parity");
    assert!(open(&mut there, 9, &next));
}

// [W-76]
#[test]
fn a_session_that_is_not_followed_ends_at_twice_the_limit() {
    let (mut here, _) = pair(3);
    for packet in 1..=6 {
        assert!(!here.is_exhausted(), "after {} packets", packet - 1);
        seal(&mut here, packet);
    }
    assert!(here.is_exhausted());
}

// [W-70] [W-75]
#[test]
fn a_handshake_needs_the_key_and_the_prologue_and_gives_each_direction_a_secret() {
    let suite = suite().unwrap();
    let (psk, other) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let (mut initiator, message) = suite.initiate(&psk, b"prologue", Secret::new([3; 32]));
    let answer =
        |psk: &Secret, prologue: &[u8], message| suite.answer(psk, prologue, Secret::new([4; 32]), message);
    assert!(answer(&other, b"prologue", &message).is_none());
    assert!(answer(&psk, b"Prologue", &message).is_none());
    let (reply, there) = answer(&psk, b"prologue", &message).unwrap();
    let mut altered = reply;
    altered[47] ^= 1;
    assert!(initiator.finish(&altered).is_none());
    let here: Split = initiator.finish(&reply).unwrap();
    assert_eq!(here.initiator.expose(), there.initiator.expose());
    assert_eq!(here.answerer.expose(), there.answerer.expose());
    assert_ne!(here.answerer.expose(), here.initiator.expose());
}

#[test]
fn a_public_key_of_low_order_is_refused() {
    let suite = suite().unwrap();
    let psk = Secret::new([1; 32]);
    let (_, mut message) = suite.initiate(&psk, b"", Secret::new([3; 32]));
    message[..32].fill(0);
    assert!(suite.answer(&psk, b"", Secret::new([4; 32]), &message).is_none());
}

#[test]
fn entropy_repeats_for_a_simulation_and_differs_by_seed_owner_and_draw() {
    let suite = suite().unwrap();
    let draw = |seed, owner| {
        let mut entropy = Entropy::new(Secret::new([seed; 32])).fork(&mut Rng::from_seed(owner));
        [*entropy.draw(&*suite).expose(), *entropy.draw(&*suite).expose()]
    };
    assert_eq!(draw(1, 1), draw(1, 1));
    let mut all: Vec<[u8; 32]> = [draw(1, 1), draw(1, 2), draw(2, 1)].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6);
}

// [W-71] [W-72]
#[test]
fn ids_tell_keys_from_sessions_and_a_session_s_mark_leads_to_its_key() {
    let keys = [(KeyRole::Client, 1), (KeyRole::Cluster, 2)];
    let keys = keys.map(|(role, byte)| Key { role, secret: Secret::new([byte; 32]) });
    let ring = KeyRing::new(suite().unwrap(), keys.to_vec()).unwrap();
    let ids: Vec<KeyId> = ring.list().map(|(_, id)| id).collect();
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(SessionId::parse(id.0), Err(*id));
        let session = SessionId::new(*id, 0xff12_3456);
        assert_eq!(SessionId::parse(session.0), Ok(session));
        assert_eq!(session.0 & 0x00ff_ffff, 0x12_3456);
        let slot = ring.find_marked(session.mark()).unwrap();
        assert_eq!(ring.id(slot), *id, "key {place}");
    }
    assert_eq!(ring.for_node(), ring.find(ids[1]));
    assert_eq!(Some(ring.for_client()), ring.find(ids[0]));
    assert_eq!(ring.find(KeyId(ids[0].0 ^ 1)), None);
}

#[test]
fn a_client_s_key_is_not_for_changing_the_cluster() {
    let may = [Trust::None, Trust::Key(KeyRole::Cluster), Trust::Key(KeyRole::Client)];
    assert_eq!(may.map(Trust::may_change_cluster), [true, true, false]);
}

#[test]
fn a_key_file_is_read_back_and_each_fault_is_named() {
    let key = Key { role: KeyRole::Client, secret: Secret::new([0xa5; 32]) };
    let line = format_key(&key);
    let text = format!("# ours\n\n  {}  # since spring\n", line.trim());
    let read = parse_keys(&text).unwrap();
    assert_eq!((read.len(), read[0].role, read[0].secret.expose()), (1, KeyRole::Client, &[0xa5; 32]));
    let cases = [
        ("", 0, KeyFault::Empty),
        ("cluster", 1, KeyFault::NotHex),
        ("cluster 00", 1, KeyFault::NotHex),
        ("node 00", 1, KeyFault::UnknownRole),
        (&line.replace('a', "g"), 1, KeyFault::NotHex),
        (&format!("{line}{}", line.replace("client", "cluster")), 2, KeyFault::Twice),
    ];
    for (text, line, fault) in cases {
        assert_eq!(parse_keys(text).map(|keys| keys.len()), Err(KeyFileError { line, fault }), "{text:?}");
    }
    let many: String =
        (0..65u8).map(|n| format_key(&Key { role: key.role, secret: Secret::new([n; 32]) })).collect();
    let error = KeyFileError { line: 65, fault: KeyFault::TooMany };
    assert_eq!(parse_keys(&many).map(|keys| keys.len()), Err(error));
}

#[test]
fn a_key_log_is_read_back_whatever_stands_between() {
    let line = format_session(SessionId(0x8000_0001), &Secret::new([3; 32]));
    let text = format!("{line}cluster 00\nsession 1 00\n{}", &line[..20]);
    let read = parse_sessions(&text);
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].0, read[0].1.expose()), (SessionId(0x8000_0001), &[3; 32]));
}

#[test]
fn no_secret_is_printed() {
    let key = Key { role: KeyRole::Cluster, secret: Secret::new([0xab; 32]) };
    let (session, _) = pair(1);
    let ring = KeyRing::new(suite().unwrap(), vec![key.clone()]).unwrap();
    let entropy = Entropy::new(Secret::new([0xab; 32]));
    let printed = format!("{key:?} {session:?} {ring:?} {entropy:?}");
    assert!(!printed.contains("171") && !printed.contains("abab"), "{printed}");
}
