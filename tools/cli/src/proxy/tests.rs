//! What was asked for is what is measured, within what chance allows; the same seed does the same.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftgram::fault::{Bursts, LinkConfig, LinkStats, sigmas};
use raftgram::time::Instant;
use raftgram::types::{ClusterId, Incarnation, NodeId, PacketNumber, Term};
use raftgram::wire::{Flags, Header, Party};

use super::engine::{Engine, Way};
use super::rules::Rule;
use super::serve::Server;

const COUNT: u64 = 100_000;

/// Beyond five deviations once in two million runs of a true claim; the seeds are fixed.
const SIGMAS: f64 = 5.0;

fn at(us: u64) -> Instant {
    Instant::from_nanos(us * 1000)
}

/// Sends numbered datagrams up, one each 10 µs, and gives what comes out, with when.
fn carry(config: LinkConfig, seed: u64) -> (Vec<(u64, u64)>, LinkStats) {
    let mut engine = Engine::new(config, None, None, Vec::new(), seed);
    let mut out = Vec::new();
    let mut take = |engine: &mut Engine, now: Instant| {
        while let Some((_, _, bytes)) = engine.poll_output(now) {
            out.push((u64::from_be_bytes(bytes.try_into().unwrap()), now.as_nanos() / 1000));
        }
    };
    for number in 0..COUNT {
        engine.offer(at(number * 10), 0, Way::Up, number.to_be_bytes().to_vec());
        take(&mut engine, at(number * 10));
    }
    while let Some(next) = engine.poll_timeout() {
        take(&mut engine, next);
    }
    let stats = engine.stats(Way::Up);
    (out, stats)
}

#[test]
fn loss_duplication_and_reordering_are_as_often_as_asked_for() {
    let reorder_delay = Duration::from_millis(1);
    let config =
        LinkConfig { loss: 0.05, duplicate: 0.02, reorder: 0.1, reorder_delay, ..LinkConfig::default() };
    let (out, stats) = carry(config, 1);
    let mut copies = vec![0u64; COUNT as usize];
    out.iter().for_each(|(number, _)| copies[*number as usize] += 1);
    let lost = copies.iter().filter(|count| **count == 0).count() as u64;
    let twice = copies.iter().filter(|count| **count == 2).count() as u64;
    assert_eq!((lost, twice), (stats.dropped(), stats.duplicated));
    assert!(sigmas(lost, COUNT, 0.05) < SIGMAS, "{lost} lost of {COUNT}");
    assert!(sigmas(twice, COUNT - lost, 0.02) < SIGMAS, "{twice} twice");
    // Each copy is held back by itself, and a datagram each 10 µs passes it meanwhile.
    assert!(sigmas(stats.reordered, COUNT - lost + twice, 0.1) < SIGMAS, "{}", stats.reordered);
    let (mut newest, mut passed) = (0, 0);
    for (number, _) in &out {
        passed += u64::from(*number < newest);
        newest = newest.max(*number);
    }
    assert_eq!(passed, stats.overtaken);
    assert!(
        passed <= stats.reordered && passed * 10 > stats.reordered * 9,
        "{passed} of {}",
        stats.reordered
    );
}

#[test]
fn delay_and_jitter_are_as_long_as_asked_for() {
    let (delay, jitter) = (Duration::from_millis(5), Duration::from_millis(2));
    let (out, _) = carry(LinkConfig { delay, jitter, ..LinkConfig::default() }, 2);
    let delays: Vec<f64> = out.iter().map(|(number, came)| (came - number * 10) as f64).collect();
    assert_eq!(delays.len() as u64, COUNT);
    let mean = delays.iter().sum::<f64>() / COUNT as f64;
    // The mean of so many draws from 3000 to 7000 µs; each is cut down to a whole one.
    let deviation = 4000.0 / 12f64.sqrt() / (COUNT as f64).sqrt();
    assert!((mean + 0.5 - 5000.0).abs() < SIGMAS * deviation + 0.5, "{mean}");
    assert!(delays.iter().all(|us| (2999.0..=7000.0).contains(us)));
    let near_the_ends = delays.iter().filter(|us| **us < 3100.0 || **us > 6900.0).count() as u64;
    assert!(sigmas(near_the_ends, COUNT, 0.05) < SIGMAS, "{near_the_ends}");
}

#[test]
fn bursts_are_as_long_and_as_many_as_asked_for() {
    let bursts = Bursts { p: 0.01, r: 0.25, loss_bad: 1.0, loss_good: 0.0 };
    let (out, stats) = carry(LinkConfig { bursts: Some(bursts), ..LinkConfig::default() }, 3);
    let mut arrived = vec![false; COUNT as usize];
    out.iter().for_each(|(number, _)| arrived[*number as usize] = true);
    let begun = arrived.windows(2).filter(|pair| pair[0] && !pair[1]).count() as u64 + u64::from(!arrived[0]);
    let mean = stats.dropped_burst as f64 / begun as f64;
    // Lengths are geometric: mean 4, deviation sqrt(1 - r) / r.
    assert!(
        (mean - 4.0).abs() < SIGMAS * (0.75f64.sqrt() / 0.25) / (begun as f64).sqrt(),
        "{mean} of {begun}"
    );
    assert!(sigmas(begun, COUNT - stats.dropped_burst, 0.01) < SIGMAS, "{begun}");
}

#[test]
fn the_same_seed_does_the_same_and_another_does_not() {
    let config =
        LinkConfig { loss: 0.1, jitter: Duration::from_millis(1), duplicate: 0.1, ..LinkConfig::default() };
    let (one, again, other) = (carry(config.clone(), 7), carry(config.clone(), 7), carry(config, 8));
    assert_eq!(one, again);
    assert_ne!(one.0, other.0);
}

#[test]
fn sessions_and_ways_draw_apart() {
    let lost = |noise: bool| {
        let config = LinkConfig { loss: 0.5, ..LinkConfig::default() };
        let mut engine = Engine::new(config, None, None, Vec::new(), 1);
        let mut arrived = Vec::new();
        for number in 0..100u8 {
            engine.offer(at(0), 0, Way::Up, vec![number]);
            if noise {
                engine.offer(at(0), 1, Way::Up, vec![number]);
                engine.offer(at(0), 0, Way::Down, vec![number]);
            }
        }
        while let Some((session, way, bytes)) = engine.poll_output(at(0)) {
            arrived.extend((session == 0 && way == Way::Up).then_some(bytes[0]));
        }
        arrived
    };
    assert_eq!(lost(false), lost(true));
}

/// A datagram of raftgram with one body in a request.
fn raftgram_datagram(to: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let node = |number| Party::Node(NodeId::new(number).unwrap());
    let header = Header {
        flags: Flags::NONE,
        cluster_tag: ClusterId([7; 16]).tag(),
        source: node(1),
        destination: node(to),
        source_incarnation: Incarnation(1),
        destination_incarnation: Incarnation(1),
        packet: PacketNumber(1),
    };
    raftgram::wire::begin(&mut bytes, &header);
    let frame = raftgram::wire::Frame::Request {
        call: raftgram::types::CallId(1),
        class: raftgram::wire::Class::Again,
        body,
    };
    frame.encode(&mut bytes);
    raftgram::wire::finish(&mut bytes, ClusterId([7; 16]));
    bytes
}

fn append(term: u64) -> Vec<u8> {
    // Kind 05 of group 0; term, attempt, prev index, prev term, commit, chain.
    let term = u8::try_from(Term(term).0).unwrap();
    vec![5, 0, term, 0, 0, term, 0, 0, 0, 0, 0]
}

#[test]
fn a_rule_strikes_the_very_frame_that_it_names() {
    let rules = ["drop the 2nd append to 3", "delay every append of term 5 by 50ms"];
    let rules: Vec<Rule> = rules.iter().map(|text| text.parse().unwrap()).collect();
    let mut engine = Engine::new(LinkConfig::default(), None, None, rules, 1);
    let sent = [(3, 4), (2, 4), (3, 4), (3, 4), (3, 5)];
    for (place, (to, term)) in (0..).zip(sent) {
        engine.offer(at(place), 0, Way::Up, raftgram_datagram(to, &append(term)));
    }
    engine.offer(at(9), 0, Way::Up, b"not raftgram".to_vec());
    let mut out = Vec::new();
    while let Some((.., bytes)) = engine.poll_output(at(10)) {
        out.push(bytes);
    }
    assert_eq!(out.len(), 4, "the third was dropped and the fifth is held back");
    assert_eq!(out[3], b"not raftgram");
    assert_eq!(engine.poll_timeout(), Some(at(4 + 50_000)));
    assert_eq!(
        engine.poll_output(at(4 + 50_000)).map(|(.., bytes)| bytes),
        Some(raftgram_datagram(3, &append(5)))
    );
    assert_eq!(engine.rules().map(|(_, struck)| struck).collect::<Vec<_>>(), [1, 1]);
}

/// A proxy of this engine before a socket, and a client's socket that speaks to it.
fn live(engine: Engine, work: impl FnOnce(&UdpSocket, &UdpSocket)) -> LinkStats {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let upstream = UdpSocket::bind(loopback).unwrap();
    let client = UdpSocket::bind(loopback).unwrap();
    let mut proxy = Server::bind(loopback, upstream.local_addr().unwrap(), engine).unwrap();
    client.connect(proxy.local_addr().unwrap()).unwrap();
    for socket in [&upstream, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| proxy.run(None, || is_over.load(Ordering::Relaxed), |_| {}));
        work(&upstream, &client);
        is_over.store(true, Ordering::Relaxed);
        serving.join().unwrap().unwrap();
    });
    proxy.engine().stats(Way::Up)
}

/// An echo: what the engine loses of a sequence it loses over sockets, too.
#[test]
fn over_sockets_a_plain_echo_loses_what_the_seed_says() {
    let engine = || {
        Engine::new(LinkConfig { loss: 0.3, ..LinkConfig::default() }, Some(Way::Up), None, Vec::new(), 11)
    };
    let mut alone = engine();
    let mut expected = Vec::new();
    for number in 0..200u8 {
        alone.offer(at(0), 0, Way::Up, vec![number]);
        expected.extend(alone.poll_output(at(0)).map(|(.., bytes)| bytes[0]));
    }
    let mut echoed = Vec::new();
    let stats = live(engine(), |upstream, client| {
        let mut bytes = [0; 16];
        // One at a time, for loopback may drop what nobody reads; the last lets the end be seen.
        let mut arrivals = expected.iter().copied().peekable();
        for number in 0..200u8 {
            client.send(&[number]).unwrap();
            if arrivals.next_if_eq(&number).is_some() {
                let (length, from) = upstream.recv_from(&mut bytes).unwrap();
                upstream.send_to(&bytes[..length], from).unwrap();
                let length = client.recv(&mut bytes).unwrap();
                echoed.extend_from_slice(&bytes[..length]);
            }
        }
    });
    assert_eq!(echoed, expected);
    assert_eq!(stats.delivered as usize, expected.len());
}

/// Questions and answers of different lengths from several clients, as a resolver has them: each gets its own.
#[test]
fn over_sockets_each_client_gets_the_answers_to_its_questions() {
    let delay = Duration::from_millis(2);
    live(
        Engine::new(LinkConfig { delay, ..LinkConfig::default() }, None, None, Vec::new(), 1),
        |upstream, first| {
            let second = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            second.connect(first.peer_addr().unwrap()).unwrap();
            second.set_read_timeout(first.read_timeout().unwrap()).unwrap();
            let began = std::time::Instant::now();
            first.send(b"\x12\x34 a.example").unwrap();
            second.send(b"\x56\x78 b.example").unwrap();
            let mut bytes = [0; 2048];
            for _ in 0..2 {
                let (length, from) = upstream.recv_from(&mut bytes).unwrap();
                let mut answer = bytes[..length].to_vec();
                answer.resize(1500, b'.');
                upstream.send_to(&answer, from).unwrap();
            }
            for (client, question) in [(&second, b"\x56\x78 b.example"), (first, b"\x12\x34 a.example")] {
                let length = client.recv(&mut bytes).unwrap();
                assert_eq!((length, &bytes[..question.len()]), (1500, &question[..]));
            }
            assert!(began.elapsed() >= delay * 2, "each way takes its time");
        },
    );
}
