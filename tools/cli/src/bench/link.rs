//! The processes behind `bench chain`: a leader and its followers that move datagrams and do nothing else.
//!
//! | from, to | datagram |
//! |---|---|
//! | client, leader | requests of equal size; each begins with its number |
//! | leader, follower | the append's number, then requests |
//! | follower, leader | numbers of appends |
//! | leader, client | numbers of requests |
//!
//! Numbers are 8 bytes, the highest first. Each process takes what has arrived, up to a bound, before it answers: that
//! packs appends, acknowledgements and replies, and one sync covers all of it.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use crate::bench::socket::{self, Waiting};
use crate::bench::{chain, peer};
use crate::error::CliError;

/// Bytes of a number.
pub(super) const NUMBER_BYTES: usize = 8;

/// Datagrams taken in one turn.
pub(super) const TURN_MAX: usize = 256;

/// Larger than any datagram of the chain.
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What a write to the log is a multiple of.
const BLOCK_BYTES: usize = 4096;

/// The log's length; it is written round and round.
const LOG_BYTES: u64 = 64 << 20;

/// How often an idle process looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A leader, when it has followers, or a follower. Ends when its stdin closes.
#[derive(Debug, Args)]
pub(crate) struct Link {
    #[arg(long, hide = true)]
    address: IpAddr,
    #[arg(long, hide = true)]
    size: usize,
    #[arg(long, hide = true)]
    pack: usize,
    #[arg(long, hide = true, value_delimiter = ',')]
    followers: Vec<SocketAddr>,
    /// Make a log here, and what arrives durable in it before answering.
    #[arg(long, hide = true)]
    sync_in: Option<PathBuf>,
    #[arg(long, hide = true)]
    pin: Option<usize>,
}

impl Link {
    pub(crate) fn run(self) -> Result<(), CliError> {
        if let Some(processor) = self.pin {
            socket::pin(processor)?;
        }
        let (socket, _) = socket::open(self.address, Waiting::Asleep(LOOK_UP))?;
        let address = socket.local_addr().map_err(|error| CliError::io("reading the own address", &error))?;
        let log = self.sync_in.as_ref().map(|folder| Log::create(folder)).transpose();
        let log = log.map_err(|error| CliError::io("making the log", &error))?;
        let orphaned = peer::announce(address)?;
        let (size, pack) = (self.size, self.pack);
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let mut part: Box<dyn Part> = if self.followers.is_empty() {
            Box::new(Follower { socket, log, leader: None, content: Vec::new(), acks: Vec::new(), pack })
        } else {
            Box::new(Leader {
                socket,
                log,
                size,
                pack,
                followers: self.followers,
                client: None,
                requests: Vec::new(),
                first_open: 0,
                open: VecDeque::new(),
                replies: Vec::new(),
            })
        };
        while !orphaned.load(Ordering::Relaxed) {
            let Ok((bytes, from)) = part.socket().recv_from(&mut datagram) else { continue };
            part.receive(&datagram[..bytes], from);
            for _ in 1..TURN_MAX {
                let Some((bytes, from)) = socket::take(part.socket(), &mut datagram) else { break };
                part.receive(&datagram[..bytes], from);
            }
            part.turn().map_err(|error| CliError::io("writing the log", &error))?;
        }
        Ok(())
    }
}

/// What a process of the chain does with datagrams. What it cannot send is lost, and the client counts it.
trait Part {
    fn socket(&self) -> &UdpSocket;
    /// Takes note.
    fn receive(&mut self, datagram: &[u8], from: SocketAddr);
    /// Answers all that was taken note of.
    fn turn(&mut self) -> std::io::Result<()>;
}

struct Follower {
    socket: UdpSocket,
    log: Option<Log>,
    leader: Option<SocketAddr>,
    content: Vec<u8>,
    acks: Vec<u8>,
    pack: usize,
}

impl Part for Follower {
    fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some((number, requests)) = datagram.split_at_checked(NUMBER_BYTES) else { return };
        self.leader = Some(from);
        self.acks.extend_from_slice(number);
        if self.log.is_some() {
            self.content.extend_from_slice(requests);
        }
    }

    fn turn(&mut self) -> std::io::Result<()> {
        if let Some(log) = &mut self.log {
            log.write(&mut self.content)?;
        }
        if let Some(leader) = self.leader {
            chain::send_packed(&mut self.acks, NUMBER_BYTES, self.pack, |acks| {
                let _ = self.socket.send_to(acks, leader);
            });
        }
        Ok(())
    }
}

struct Leader {
    socket: UdpSocket,
    log: Option<Log>,
    size: usize,
    pack: usize,
    followers: Vec<SocketAddr>,
    client: Option<SocketAddr>,
    /// Arrived, not sent on.
    requests: Vec<u8>,
    /// The number of the append at the front of `open`.
    first_open: u64,
    /// The request numbers of each append that nobody acknowledged yet; empty once somebody has.
    open: VecDeque<Vec<u8>>,
    replies: Vec<u8>,
}

impl Part for Leader {
    fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) {
        if !self.followers.contains(&from) {
            self.client = Some(from);
            self.requests.extend_from_slice(datagram);
            return;
        }
        for number in datagram.chunks_exact(NUMBER_BYTES).filter_map(chain::number) {
            let place = number.checked_sub(self.first_open).and_then(|place| usize::try_from(place).ok());
            if let Some(numbers) = place.and_then(|place| self.open.get_mut(place)) {
                self.replies.append(numbers);
            }
        }
        while self.open.front().is_some_and(Vec::is_empty) {
            self.open.pop_front();
            self.first_open += 1;
        }
    }

    /// Appends go out before the own sync, replies to what is durable here and at one follower.
    fn turn(&mut self) -> std::io::Result<()> {
        let mut append = Vec::with_capacity(self.pack);
        let most = ((self.pack - NUMBER_BYTES) / self.size).max(1) * self.size;
        for requests in self.requests.chunks(most) {
            let number = self.first_open + self.open.len() as u64;
            append.clear();
            append.extend_from_slice(&number.to_be_bytes());
            append.extend_from_slice(requests);
            for follower in &self.followers {
                let _ = self.socket.send_to(&append, follower);
            }
            self.open.push_back(
                requests
                    .chunks_exact(self.size)
                    .flat_map(|request| request[..NUMBER_BYTES].to_vec())
                    .collect(),
            );
        }
        if let Some(client) = self.client {
            chain::send_packed(&mut self.replies, NUMBER_BYTES, self.pack, |replies| {
                let _ = self.socket.send_to(replies, client);
            });
        }
        if let Some(log) = &mut self.log {
            log.write(&mut self.requests)?;
        }
        self.requests.clear();
        Ok(())
    }
}

/// A file of zeros that is written round and round, and synced each time.
struct Log {
    file: File,
    offset: u64,
}

impl Log {
    fn create(folder: &std::path::Path) -> std::io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        let zeros = vec![0; 1 << 20];
        for offset in (0..LOG_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0 })
    }

    /// Writes this in whole blocks, makes it durable and empties it.
    fn write(&mut self, content: &mut Vec<u8>) -> std::io::Result<()> {
        if content.is_empty() {
            return Ok(());
        }
        content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
        if self.offset + content.len() as u64 > LOG_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(content, self.offset)?;
        self.file.sync_data()?;
        self.offset += content.len() as u64;
        content.clear();
        Ok(())
    }
}
