//! The UDP socket: made with large buffers, read in batches, written in batches.
//!
//! With feature `offload` the kernel splits and joins runs of equal-sized datagrams (GSO, GRO), which is worth an
//! order of magnitude when much is sent; without it each datagram is one system call. Either way the rest of the
//! house sees single datagrams.

use std::io;
use std::net::SocketAddr;

use crate::rpc::SendErrorKind;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Type};

/// The buffer size asked of the kernel in each direction, in bytes.
pub const BUFFER_BYTES_WANTED: usize = 8 << 20;

/// The largest UDP payload, and with one more byte the size of a receive buffer: what fills it was too long.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What the kernel granted; half of what it reports, since it counts its own bookkeeping too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// Receive buffer in bytes.
    pub receive_bytes: usize,
    /// Send buffer in bytes.
    pub send_bytes: usize,
}

impl BufferSizes {
    /// True when a burst may be dropped that the size asked for would have held.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.receive_bytes < BUFFER_BYTES_WANTED || self.send_bytes < BUFFER_BYTES_WANTED
    }
}

/// One datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: SocketAddr,
    /// The UDP payload.
    pub bytes: Vec<u8>,
}

/// A bound, non-blocking UDP socket in a poll.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    buffers: BufferSizes,
    batch: imp::Batch,
}

impl Socket {
    /// Binds `address`, asks for large buffers and reads back what came of it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // The kernel caps silently what it is asked for; only reading it back tells.
        socket.set_recv_buffer_size(BUFFER_BYTES_WANTED)?;
        socket.set_send_buffer_size(BUFFER_BYTES_WANTED)?;
        socket.bind(&SockAddr::from(address))?;
        let buffers = BufferSizes {
            receive_bytes: socket.recv_buffer_size()? / 2,
            send_bytes: socket.send_buffer_size()? / 2,
        };
        let io = UdpSocket::from_std(socket.into());
        let batch = imp::Batch::new(&io)?;
        Ok(Self { io, buffers, batch })
    }

    /// Puts the socket into a poll under `token`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.io, token, Interest::READABLE)
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// What the kernel granted.
    #[must_use]
    pub fn buffers(&self) -> BufferSizes {
        self.buffers
    }

    /// How many datagrams of one size the kernel takes in one call; 1 where it takes each by itself.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.batch.segments_max()
    }

    /// Reads up to about `limit` datagrams and hands each to `take`. True when the socket may hold more; errors of
    /// reading are loss (a peer's closed port reports itself here) and end the batch.
    pub fn receive(&mut self, limit: usize, take: &mut dyn FnMut(SocketAddr, &[u8])) -> bool {
        let mut count = 0;
        while count < limit {
            match self.batch.receive(&self.io, take) {
                // What comes after a batch that was not filled is told by the poll.
                Ok(Batched { is_last: true, .. }) => return false,
                Ok(batched) => count += batched.count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => count += 1,
            }
        }
        true
    }

    /// Sends all of `datagrams`, in order, and empties the list. What the kernel refuses is lost, as the network
    /// may lose it; `failed` hears of each.
    pub fn send(&mut self, datagrams: &mut Vec<Outgoing>, failed: &mut dyn FnMut(SocketAddr, SendErrorKind)) {
        self.batch.send(&self.io, datagrams, failed);
        datagrams.clear();
    }
}

#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "read on Linux only"))]
fn kind_of(error: &io::Error) -> SendErrorKind {
    // EMSGSIZE has no ErrorKind of its own, and elsewhere another number.
    #[cfg(target_os = "linux")]
    if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) {
        return SendErrorKind::MessageTooLong;
    }
    SendErrorKind::Other
}

/// What one call to the kernel brought.
#[derive(Clone, Copy, Debug)]
struct Batched {
    count: usize,
    /// The socket held no more.
    is_last: bool,
}

#[cfg(not(feature = "offload"))]
mod imp {
    use super::{Batched, DATAGRAM_BYTES_MAX, Outgoing, SendErrorKind, SocketAddr, UdpSocket, io, kind_of};

    #[derive(Debug)]
    pub(super) struct Batch {
        buffer: Box<[u8]>,
    }

    impl Batch {
        pub(super) fn new(_io: &UdpSocket) -> io::Result<Self> {
            Ok(Self { buffer: vec![0; DATAGRAM_BYTES_MAX + 1].into_boxed_slice() })
        }

        pub(super) fn segments_max(&self) -> usize {
            1
        }

        pub(super) fn receive(
            &mut self,
            io: &UdpSocket,
            take: &mut dyn FnMut(SocketAddr, &[u8]),
        ) -> io::Result<Batched> {
            let (count, from) = io.recv_from(&mut self.buffer)?;
            take(from, &self.buffer[..count]);
            Ok(Batched { count: 1, is_last: false })
        }

        pub(super) fn send(
            &mut self,
            io: &UdpSocket,
            datagrams: &[Outgoing],
            failed: &mut dyn FnMut(SocketAddr, SendErrorKind),
        ) {
            for datagram in datagrams {
                if let Err(error) = io.send_to(&datagram.bytes, datagram.to) {
                    failed(datagram.to, kind_of(&error));
                }
            }
        }
    }
}

#[cfg(feature = "offload")]
mod imp {
    use super::{Batched, DATAGRAM_BYTES_MAX, Outgoing, SendErrorKind, SocketAddr, UdpSocket, io, kind_of};
    use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
    use std::io::IoSliceMut;

    #[derive(Debug)]
    pub(super) struct Batch {
        state: UdpSocketState,
        receive: Vec<Box<[u8]>>,
        /// The last call filled few buffers, so the next offers few: each costs something, filled or not.
        is_quiet: bool,
        segments: Vec<u8>,
    }

    /// Offered where little comes.
    const FEW: usize = if BATCH_SIZE < 4 { BATCH_SIZE } else { 4 };

    impl Batch {
        pub(super) fn new(io: &UdpSocket) -> io::Result<Self> {
            let state = UdpSocketState::new(UdpSockRef::from(io))?;
            let receive =
                (0..BATCH_SIZE).map(|_| vec![0; DATAGRAM_BYTES_MAX + 1].into_boxed_slice()).collect();
            Ok(Self { state, receive, is_quiet: true, segments: Vec::new() })
        }

        pub(super) fn segments_max(&self) -> usize {
            self.state.max_gso_segments()
        }

        pub(super) fn receive(
            &mut self,
            io: &UdpSocket,
            take: &mut dyn FnMut(SocketAddr, &[u8]),
        ) -> io::Result<Batched> {
            if self.is_quiet {
                self.receive_into::<FEW>(io, take)
            } else {
                self.receive_into::<BATCH_SIZE>(io, take)
            }
        }

        fn receive_into<const OFFERED: usize>(
            &mut self,
            io: &UdpSocket,
            take: &mut dyn FnMut(SocketAddr, &[u8]),
        ) -> io::Result<Batched> {
            let mut metas = [RecvMeta::default(); OFFERED];
            let received = {
                let mut buffers = self.receive.iter_mut().map(|buffer| IoSliceMut::new(buffer));
                let mut slices: [IoSliceMut<'_>; OFFERED] =
                    std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
                io.try_io(|| self.state.recv(UdpSockRef::from(io), &mut slices, &mut metas))?
            };
            self.is_quiet = received < FEW;
            let mut count = 0;
            for (meta, buffer) in metas.iter().zip(&self.receive).take(received) {
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    take(meta.addr, datagram);
                    count += 1;
                }
                if meta.len == 0 {
                    take(meta.addr, &[]);
                    count += 1;
                }
            }
            Ok(Batched { count, is_last: received < OFFERED })
        }

        pub(super) fn send(
            &mut self,
            io: &UdpSocket,
            datagrams: &[Outgoing],
            failed: &mut dyn FnMut(SocketAddr, SendErrorKind),
        ) {
            let mut rest = datagrams;
            while let Some(first) = rest.first() {
                let run = run_count(rest, self.state.max_gso_segments());
                let (batch, after) = rest.split_at(run);
                rest = after;
                if run == 1 || self.send_segmented(io, batch).is_err() {
                    // A kernel or card that refuses a segmented send is served one by one; the state has taken
                    // note and asks for no more of them.
                    for datagram in batch {
                        if let Err(error) = self.send_one(io, &datagram.bytes, first.to, None) {
                            failed(datagram.to, kind_of(&error));
                        }
                    }
                }
            }
        }

        fn send_segmented(&mut self, io: &UdpSocket, batch: &[Outgoing]) -> io::Result<()> {
            let mut segments = std::mem::take(&mut self.segments);
            segments.clear();
            for datagram in batch {
                segments.extend_from_slice(&datagram.bytes);
            }
            let sent = self.send_one(io, &segments, batch[0].to, Some(batch[0].bytes.len()));
            self.segments = segments;
            sent
        }

        fn send_one(
            &self,
            io: &UdpSocket,
            contents: &[u8],
            destination: SocketAddr,
            segment_size: Option<usize>,
        ) -> io::Result<()> {
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            io.try_io(|| self.state.try_send(UdpSockRef::from(io), &transmit))
        }
    }

    /// How many datagrams from the front go out as one segmented send: one destination, one size, the last may
    /// be shorter.
    fn run_count(datagrams: &[Outgoing], segments_max: usize) -> usize {
        let Some(first) = datagrams.first() else { return 0 };
        let size = first.bytes.len();
        let count_max = segments_max.min(DATAGRAM_BYTES_MAX / size.max(1)).max(1);
        let mut count = 1;
        while count < count_max && count < datagrams.len() {
            let next = &datagrams[count];
            if next.to != first.to || next.bytes.len() > size || next.bytes.is_empty() {
                break;
            }
            count += 1;
            if next.bytes.len() < size {
                break;
            }
        }
        count
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_run_has_one_destination_and_one_size_and_may_end_shorter() {
            let a: SocketAddr = "127.0.0.1:1".parse().unwrap();
            let b: SocketAddr = "127.0.0.1:2".parse().unwrap();
            let list = |sizes: &[(SocketAddr, usize)]| -> Vec<Outgoing> {
                sizes.iter().map(|&(to, size)| Outgoing { to, bytes: vec![0; size] }).collect()
            };
            let cases: [(&[(SocketAddr, usize)], usize); 6] = [
                (&[], 0),
                (&[(a, 9), (a, 9), (a, 9)], 3),
                (&[(a, 9), (a, 4), (a, 9)], 2),
                (&[(a, 9), (a, 10)], 1),
                (&[(a, 9), (b, 9)], 1),
                (&[(a, 9), (a, 0)], 1),
            ];
            for (sizes, expected) in cases {
                assert_eq!(run_count(&list(sizes), 64), expected, "{sizes:?}");
            }
            assert_eq!(run_count(&list(&[(a, 9); 100]), 64), 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    fn exchange(address: &str) {
        let mut poll = Poll::new().unwrap();
        let mut receiver = Socket::bind(address.parse().unwrap()).unwrap();
        receiver.register(poll.registry(), Token(0)).unwrap();
        let mut sender = Socket::bind(address.parse().unwrap()).unwrap();
        let to = receiver.local_addr().unwrap();
        let sizes = [1200, 1200, 1200, 700, 9, 0, 1200, 1200];
        let mut sent: Vec<Outgoing> =
            sizes.iter().enumerate().map(|(i, &size)| Outgoing { to, bytes: vec![i as u8; size] }).collect();
        let expected: Vec<Vec<u8>> = sent.iter().map(|datagram| datagram.bytes.clone()).collect();
        sender.send(&mut sent, &mut |to, error| panic!("sending to {to} failed: {error:?}"));

        let mut received = Vec::new();
        let mut events = Events::with_capacity(4);
        while received.len() < expected.len() {
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert!(!events.is_empty(), "{} of {} datagrams came", received.len(), expected.len());
            while receiver.receive(3, &mut |from, bytes| {
                assert_eq!(from, sender.local_addr().unwrap());
                received.push(bytes.to_vec());
            }) {}
        }
        assert_eq!(received, expected);
    }

    #[test]
    fn datagrams_of_all_sizes_arrive_one_by_one_over_ipv4() {
        exchange("127.0.0.1:0");
    }

    #[test]
    fn datagrams_of_all_sizes_arrive_one_by_one_over_ipv6() {
        exchange("[::1]:0");
    }

    #[test]
    fn the_granted_buffers_are_read_back() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let buffers = socket.buffers();
        assert!(buffers.receive_bytes > 0 && buffers.send_bytes > 0, "{buffers:?}");
    }
}
