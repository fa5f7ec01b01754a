//! Streams over loopback: whoever dials, datagrams arrive whole, in order, and on one stream.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use mio::{Events, Poll, Token};
use slog::{Logger, o};

use super::{Outgoing, QUEUED_BYTES_MAX, STREAMS_MAX, Streams};
use crate::run::clock::Clock;

/// A node's streams, and what they brought.
struct End {
    poll: Poll,
    streams: Streams,
    clock: Clock,
    came: Vec<(SocketAddr, Vec<u8>)>,
    failed: usize,
}

impl End {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let log = Logger::root(slog::Discard, o!());
        let streams = Streams::bind(any, poll.registry(), Token(0), &log).unwrap();
        Self { poll, streams, clock: Clock::start(), came: Vec::new(), failed: 0 }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.streams.port).into()
    }

    fn send(&mut self, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let mut list = datagrams.iter().map(|bytes| Outgoing { to, bytes: bytes.clone() }).collect();
        self.streams.send(self.clock.now(), &mut list, &mut |_, _| self.failed += 1);
        assert!(list.is_empty(), "{list:?} is for no client");
    }

    fn take_events(&mut self) {
        let mut events = Events::with_capacity(16);
        let wait = std::time::Duration::from_millis(u64::from(!self.streams.is_readable()));
        self.poll.poll(&mut events, Some(wait)).unwrap();
        events.iter().for_each(|event| self.streams.take_event(event));
    }

    /// One turn of a loop.
    fn turn(&mut self) {
        self.take_events();
        self.streams.receive(&mut |from, bytes| self.came.push((from, bytes.to_vec())));
    }
}

/// Turns both until it is so; a test that hangs here is ended by its runner.
fn until(ends: &mut [&mut End], is_so: impl Fn(&[&mut End]) -> bool) {
    while !is_so(ends) {
        ends.iter_mut().for_each(|end| end.turn());
    }
}

#[test]
fn datagrams_arrive_whole_and_in_order_from_where_the_sender_listens() {
    let (mut one, mut other) = (End::new(), End::new());
    let (here, there) = (one.address(), other.address());
    let sizes = [1, 65_507, 1_200, 9_000, 2, 40_000];
    let sent: Vec<Vec<u8>> = (0..).zip(sizes).map(|(byte, size)| vec![byte; size]).collect();
    one.send(there, &sent);
    until(&mut [&mut one, &mut other], |ends| ends[1].came.len() == sent.len());
    assert!(other.came.iter().all(|(from, _)| *from == here));
    assert!(other.came.iter().map(|(_, bytes)| bytes).eq(&sent));
    // The answer takes the same stream.
    other.send(here, &sent[..1]);
    until(&mut [&mut one, &mut other], |ends| ends[0].came.len() == 1);
    assert_eq!(one.came, [(there, sent[0].clone())]);
    assert_eq!((one.streams.streams.len(), other.streams.streams.len()), (1, 1));
}

#[test]
fn two_nodes_that_dial_each_other_at_once_end_with_the_stream_of_the_lower_address() {
    let (mut one, mut other) = (End::new(), End::new());
    let (here, there) = (one.address(), other.address());
    one.send(there, &[vec![1]]);
    other.send(here, &[vec![2]]);
    // Both are connected before either hears of the other's.
    for end in [&mut one, &mut other] {
        while !end.streams.streams.values().all(|stream| stream.is_connected) {
            end.take_events();
        }
    }
    let is_one = |end: &End| end.streams.streams.len() == 1 && end.streams.routes.len() == 1;
    let is_dialled = |end: &End| end.streams.streams.values().any(|stream| stream.is_dialled);
    let is_shared = |one: &End, other: &End| is_dialled(one) != is_dialled(other);
    until(&mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| is_one(end)) && is_shared(ends[0], ends[1])
    });
    assert_eq!((is_dialled(&one), is_dialled(&other)), (here < there, there < here));
    // And it carries both ways.
    one.came.clear();
    other.came.clear();
    one.send(there, &[vec![3]]);
    other.send(here, &[vec![4]]);
    let has = |end: &End, byte| end.came.iter().any(|(_, bytes)| *bytes == [byte]);
    until(&mut [&mut one, &mut other], |ends| has(ends[0], 4) && has(ends[1], 3));
}

#[test]
fn a_node_that_went_away_and_came_back_is_dialled_again() {
    let mut one = End::new();
    let mut other = End::new();
    let (here, there) = (one.address(), other.address());
    one.send(there, &[vec![1]]);
    until(&mut [&mut one, &mut other], |ends| !ends[1].came.is_empty());
    drop(other);
    until(&mut [&mut one], |ends| ends[0].streams.streams.is_empty());
    assert!(one.streams.routes.is_empty());
    // Nobody listens there: the kernel says so, at once or a moment later.
    one.send(there, &[vec![2]]);
    until(&mut [&mut one], |ends| ends[0].streams.streams.is_empty());
    let log = Logger::root(slog::Discard, o!());
    let mut back = End::new();
    let registry = back.poll.registry().try_clone().unwrap();
    back.streams = Streams::bind(there, &registry, Token(0), &log).unwrap();
    one.send(there, &[vec![3]]);
    until(&mut [&mut one, &mut back], |ends| !ends[1].came.is_empty());
    assert_eq!(back.came, [(here, vec![3])]);
}

#[test]
fn what_is_no_greeting_or_no_frame_ends_the_stream_and_nothing_else() {
    let cases: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n",
        b"r!",
        b"raftgram\x1f\x90\0\0",
        // Longer than any datagram.
        b"raftgram\x1f\x90\xff\xff",
    ];
    let mut end = End::new();
    for bytes in cases {
        let mut peer = TcpStream::connect(end.address()).unwrap();
        peer.write_all(bytes).unwrap();
        until(&mut [&mut end], |ends| ends[0].streams.next > 1 && !ends[0].streams.can_accept);
        until(&mut [&mut end], |ends| ends[0].streams.streams.is_empty());
        // Ended, with a reset where bytes were left unread.
        assert!(peer.read(&mut [0; 8]).map_or(true, |count| count == 0), "{bytes:?}");
        assert!(end.streams.routes.is_empty() && end.came.is_empty());
        end.streams.next = 1;
    }
}

#[test]
fn what_nobody_reads_is_dropped_beyond_a_bound() {
    let mut end = End::new();
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let datagrams = vec![vec![0; 60_000]; 20];
    let mut sent = 0;
    while end.failed == 0 {
        end.send(silent.local_addr().unwrap(), &datagrams);
        end.turn();
        sent += datagrams.len() * datagrams[0].len();
    }
    assert!(sent > QUEUED_BYTES_MAX);
    assert_eq!(end.streams.streams.len(), 1);
}

#[test]
fn streams_that_say_nothing_make_room_for_others() {
    let mut end = End::new();
    let address = end.address();
    let mut speaker = TcpStream::connect(address).unwrap();
    speaker.write_all(b"raftgram\x1f\x90\0\x01!").unwrap();
    until(&mut [&mut end], |ends| ends[0].came.len() == 1);
    let mut silent = Vec::new();
    for _ in 0..STREAMS_MAX + 3 {
        silent.push(TcpStream::connect(address).unwrap());
        end.turn();
    }
    let last = STREAMS_MAX + 4;
    until(&mut [&mut end], |ends| ends[0].streams.next == last + 1);
    assert_eq!(end.streams.streams.len(), STREAMS_MAX);
    speaker.write_all(b"\0\x01?").unwrap();
    until(&mut [&mut end], |ends| ends[0].came.len() == 2);
}
