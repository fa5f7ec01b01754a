//! What the codec costs: an append of 1 and of 32 entries of 100 bytes, a heartbeat, and the checksum alone.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raftgram::entry::Payload;
use raftgram::message::{Append, AppendEntry, Heartbeat, Message};
use raftgram::seal::suite;
use raftgram::types::{CallId, ClusterId, GroupId, Incarnation, Index, NodeId, PacketNumber, Round, Term};
use raftgram::wire::peer::{decode_message, encode_message};
use raftgram::wire::{Class, Flags, Frame, Header, Party, begin, datagram, decode, finish};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const ENTRY_BYTES: usize = 100;

fn header() -> Header {
    Header {
        flags: Flags::ACK_ELICITING,
        cluster_tag: CLUSTER.tag(),
        source: Party::Node(NodeId::MIN),
        destination: Party::Node(NodeId::MAX),
        source_incarnation: Incarnation(7),
        destination_incarnation: Incarnation(7),
        packet: PacketNumber(1_000_000),
    }
}

fn append(entries: usize) -> Message {
    let entry = AppendEntry { term: Term(5), payload: Payload::Command([0x55; ENTRY_BYTES].into()) };
    Message::Append(Append {
        term: Term(5),
        attempt: 0,
        prev_index: Index(1_000_000),
        prev_term: Term(5),
        commit: Index(1_000_000),
        entries: vec![entry; entries],
        chain: 0x0102_0304,
    })
}

fn heartbeat() -> Message {
    Message::Heartbeat(Heartbeat { term: Term(5), round: Round(100_000), commit: Index(1_000_000) })
}

/// From message to bytes ready for the socket, into vectors that are kept.
fn encode(message: &Message, body: &mut Vec<u8>, out: &mut Vec<u8>) {
    body.clear();
    out.clear();
    encode_message(GroupId(0), message, body);
    begin(out, &header());
    match message {
        Message::Heartbeat(_) => Frame::Notice { body }.encode(out),
        _ => Frame::Request { call: CallId(1_000_000), class: Class::Again, body }.encode(out),
    }
    finish(out, CLUSTER);
}

/// From bytes to message, every check on the way.
fn decode_whole(bytes: &[u8]) -> Message {
    let datagram = decode(bytes, CLUSTER).expect("a good datagram");
    match datagram.frames().next().expect("one frame") {
        Frame::Request { body, .. } | Frame::Notice { body } => decode_message(body).expect("a good body").1,
        other => panic!("{other:?}"),
    }
}

fn codec(criterion: &mut Criterion) {
    for (name, message) in
        [("heartbeat", heartbeat()), ("append of 1 entry", append(1)), ("append of 32 entries", append(32))]
    {
        let (mut body, mut out) = (Vec::new(), Vec::new());
        encode(&message, &mut body, &mut out);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function("encode", |bencher| {
            bencher.iter(|| encode(black_box(&message), &mut body, &mut out));
        });
        group.bench_function("check and find frames", |bencher| {
            bencher.iter(|| decode(black_box(&out), CLUSTER).map(|datagram| datagram.frames().count()));
        });
        group.bench_function("decode", |bencher| bencher.iter(|| decode_whole(black_box(&out))));
        group.finish();
    }
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for bytes in [48, 1200, 1400] {
        let datagram = vec![0xa5; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            bencher.iter(|| datagram::checksum(black_box(&datagram), CLUSTER));
        });
    }
    group.finish();
}

/// What stands in the checksum's place when a datagram is sealed.
fn seal(criterion: &mut Criterion) {
    let Some(suite) = suite() else { return };
    let cipher = suite.cipher(&[7; 16]);
    let mut group = criterion.benchmark_group("seal");
    for bytes in [48, 1200, 1400] {
        let mut text = vec![0xa5; bytes - 32];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("seal {bytes} bytes"), |bencher| {
            bencher.iter(|| cipher.seal(black_box(9), &[3; 48], &mut text));
        });
        let tag = cipher.seal(9, &[3; 48], &mut text);
        let sealed = [&text[..], &tag].concat();
        let mut copy = Vec::new();
        group.bench_function(format!("copy and open {bytes} bytes"), |bencher| {
            bencher.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(&sealed));
                assert!(cipher.open(9, &[3; 48], &mut copy));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec, checksum, seal);
criterion_main!(benches);
