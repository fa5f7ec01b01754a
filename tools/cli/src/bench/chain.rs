//! `bench chain`: what a commit costs when nothing but its datagrams is left. A client asks a leader, the leader sends
//! to two followers, the first one's acknowledgement answers the client; four processes, no consensus, no checksum, no
//! state machine. With `--fsync` leader and followers write what they get and sync it before they acknowledge.
//!
//! A Raft over UDP can come near this floor and never below it, so figures of clusters are read against it, taken in
//! the same minute and the same placement.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use slog::{Logger, info, warn};

use crate::bench::floor::{FloorSettings, Piece};
use crate::bench::link::{DATAGRAM_BYTES_MAX, NUMBER_BYTES, TURN_MAX};
use crate::bench::peer::Peer;
use crate::bench::report::{Figures, Latency, histogram};
use crate::bench::socket::{self, Buffers, Waiting};
use crate::bench::udp;
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::output::Format;
use crate::units::{Bytes, Span};

/// A request that takes so long is counted as lost, and another takes its place.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long the ping-pong beside it is played.
const PING_PONG: Duration = Duration::from_millis(800);

/// Four processes that only move datagrams, as a commit does: the floor under every Raft.
#[derive(Args, Clone, Debug)]
pub(crate) struct Chain {
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// The size of a request, at least 8 bytes.
    #[arg(long, value_name = "BYTES", default_value = "64B")]
    size: Bytes,
    /// The most bytes in a datagram of several requests, numbers or acknowledgements.
    #[arg(long, value_name = "BYTES", default_value = "1400B")]
    pack: Bytes,
    /// Pack requests at the client too, as one process with many of them can.
    #[arg(long)]
    client_packs: bool,
    /// Write to a log and sync it before acknowledging.
    #[arg(long)]
    fsync: bool,
    /// Where the logs are made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Measure this long.
    #[arg(long, value_name = "SPAN", default_value = "3s")]
    duration: Span,
    /// Load this long before measuring.
    #[arg(long, value_name = "SPAN", default_value = "500ms")]
    warm_up: Span,
    /// The address of all four.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Keep client, leader and followers on these processors; one number is for all of them.
    #[arg(long, value_name = "A,B,C,D", value_delimiter = ',', num_args = 1..=4)]
    pin: Vec<usize>,
    /// Write the latency distribution here.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Settings {
    nodes: u8,
    fsync: bool,
    clients: u16,
    value_bytes: u64,
    loss: f64,
    rtt_us: Option<f64>,
    /// The p50 of a ping-pong of two of these processes, in the same placement and the same run.
    ping_pong_p50_us: f64,
    transport: &'static str,
    pack_bytes: u64,
    client_packs: bool,
    duration: String,
    warm_up: String,
    pinned: Option<Vec<usize>>,
    kernel_drops: Option<u64>,
    socket_buffers: Buffers,
    build: &'static str,
    version: &'static str,
}

impl Chain {
    pub(crate) fn run(self, format: Format, logger: &Logger) -> Result<(), CliError> {
        self.check()?;
        let interrupt = Interrupt::install()?;
        if cfg!(debug_assertions) {
            warn!(logger, "this is a debug build; for figures use `cargo build --release`");
        }
        info!(logger, "measuring"; "warm_up" => %self.warm_up, "duration" => %self.duration);
        let size = self.size_bytes();
        let ping_pong = udp::ping_pong(self.address, size, &self.pins([0, 1]), PING_PONG, &interrupt)?.p50;
        let drops_before = socket::kernel_drops_of_all();
        let (tally, buffers) = self.measure(&interrupt)?;
        let drops = socket::kernel_drops_of_all().zip(drops_before).map(|(after, before)| after - before);
        let Tally { latencies, errors, unknown, elapsed } = tally;
        if latencies.is_empty() {
            return Err(CliError::new(Code::Failed, "no request came back").after(elapsed));
        }
        let settings = self.settings(ping_pong, buffers, drops);
        let figures = Figures { latencies, errors, unknown, elapsed, settings };
        if let Some(file) = &self.hgrm {
            figures.write_hgrm(file)?;
        }
        figures.answer(format)
    }

    /// The floor of this shape.
    pub(super) fn beside(settings: &FloorSettings, clients: u16, duration: Span, warm_up: Span) -> Self {
        Self {
            clients,
            size: Bytes(settings.value_bytes.max(NUMBER_BYTES as u64)),
            pack: Bytes(settings.pack_bytes),
            client_packs: settings.client_packs,
            fsync: settings.fsync,
            dir: PathBuf::from("."),
            duration,
            warm_up,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            pin: Vec::new(),
            hgrm: None,
        }
    }

    /// One measurement, for those who set others beside it.
    pub(super) fn piece(&self, interrupt: &Interrupt) -> Result<Piece, CliError> {
        let (tally, _) = self.measure(interrupt)?;
        let ops_per_s = tally.latencies.len() as f64 / tally.elapsed.as_secs_f64();
        Ok(Piece::new(ops_per_s, &Latency::of(&tally.latencies)))
    }

    fn check(&self) -> Result<(), CliError> {
        let most = DATAGRAM_BYTES_MAX as u64 - 100;
        if self.size.0 < NUMBER_BYTES as u64 || self.size.0 > self.pack.0 {
            let text = format!("--size {} is not between 8 bytes and --pack {}", self.size, self.pack);
            return Err(CliError::usage(text));
        }
        if self.pack.0 < 64 || self.pack.0 > most {
            return Err(CliError::usage(format!("--pack {} is not between 64 and {most} bytes", self.pack)));
        }
        if self.duration.0.is_zero() {
            return Err(CliError::usage("--duration must be longer than nothing"));
        }
        Ok(())
    }

    fn size_bytes(&self) -> usize {
        usize::try_from(self.size.0).expect("checked to be small")
    }

    /// The processors of these places: client, leader, followers.
    fn pins<const N: usize>(&self, places: [usize; N]) -> Vec<usize> {
        places.iter().filter_map(|place| self.pin.get(*place).or(self.pin.last())).copied().collect()
    }

    /// Starts the others, loads them and measures.
    fn measure(&self, interrupt: &Interrupt) -> Result<(Tally, Buffers), CliError> {
        let followers = [2, 3].map(|place| self.start(place, &[]));
        let followers = followers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let leader = self.start(1, &followers)?;
        let (socket, buffers) = socket::open(self.address, Waiting::Asleep(PATIENCE))?;
        socket.connect(leader.address).map_err(|error| CliError::io("connecting", &error))?;
        if let [processor] = self.pins([0])[..] {
            socket::pin(processor)?;
        }
        let mut client = Client::new(self, &socket);
        client.load(self.warm_up.0, interrupt)?;
        let tally = client.load(self.duration.0, interrupt)?;
        Ok((tally, buffers))
    }

    fn start(&self, place: usize, followers: &[Peer]) -> Result<Peer, CliError> {
        let mut arguments = vec!["bench".to_owned(), "chain-link".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        add("address", self.address.to_string());
        add("size", self.size.0.to_string());
        add("pack", self.pack.0.to_string());
        if !followers.is_empty() {
            let addresses: Vec<String> = followers.iter().map(|peer| peer.address.to_string()).collect();
            add("followers", addresses.join(","));
        }
        if self.fsync {
            add("sync-in", self.dir.display().to_string());
        }
        if let [processor] = self.pins([place])[..] {
            add("pin", processor.to_string());
        }
        Peer::start(&arguments, self.address)
    }

    fn settings(&self, ping_pong: f64, socket_buffers: Buffers, kernel_drops: Option<u64>) -> Settings {
        Settings {
            nodes: 3,
            fsync: self.fsync,
            clients: self.clients,
            value_bytes: self.size.0,
            loss: 0.0,
            rtt_us: None,
            ping_pong_p50_us: ping_pong,
            transport: "udp between four processes, nothing but datagrams",
            pack_bytes: self.pack.0,
            client_packs: self.client_packs,
            duration: self.duration.to_string(),
            warm_up: self.warm_up.to_string(),
            pinned: (!self.pin.is_empty()).then(|| self.pins([0, 1, 2, 3])),
            kernel_drops,
            socket_buffers,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

struct Tally {
    latencies: Histogram<u64>,
    errors: u64,
    unknown: u64,
    elapsed: Duration,
}

/// Keeps so many requests under way.
struct Client<'a> {
    socket: &'a UdpSocket,
    size: usize,
    /// The most bytes of requests in a datagram.
    pack: usize,
    /// The request of each place; a place's numbers differ by the count of places.
    open: Vec<Open>,
}

#[derive(Clone, Copy)]
struct Open {
    number: u64,
    sent: Instant,
}

impl<'a> Client<'a> {
    fn new(options: &Chain, socket: &'a UdpSocket) -> Self {
        let now = Instant::now();
        let size = options.size_bytes();
        let pack = if options.client_packs { usize::try_from(options.pack.0).unwrap_or(size) } else { size };
        let open = (0..u64::from(options.clients)).map(|number| Open { number, sent: now }).collect();
        Self { socket, size, pack, open }
    }

    /// Loads for so long; what is under way at the end is not counted.
    fn load(&mut self, duration: Duration, interrupt: &Interrupt) -> Result<Tally, CliError> {
        let mut tally = Tally { latencies: histogram(), errors: 0, unknown: 0, elapsed: Duration::ZERO };
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let began = Instant::now();
        let mut free: Vec<usize> = (0..self.open.len()).collect();
        let mut looked = began;
        while began.elapsed() < duration {
            if interrupt.is_raised() {
                return Err(CliError::new(Code::Interrupted, "stopped before the end").after(began.elapsed()));
            }
            self.ask(&mut free, &mut tally);
            // Without an answer this comes back after the patience.
            if let Ok(bytes) = self.socket.recv(&mut datagram) {
                self.take(&datagram[..bytes], &mut free, &mut tally);
                for _ in 1..TURN_MAX {
                    let Some((bytes, _)) = socket::take(self.socket, &mut datagram) else { break };
                    self.take(&datagram[..bytes], &mut free, &mut tally);
                }
            }
            if looked.elapsed() >= PATIENCE {
                looked = Instant::now();
                self.give_up(looked, &mut free, &mut tally);
            }
        }
        tally.elapsed = began.elapsed();
        Ok(tally)
    }

    /// One request for each free place.
    fn ask(&mut self, free: &mut Vec<usize>, tally: &mut Tally) {
        let places = self.open.len() as u64;
        let mut requests = Vec::with_capacity(free.len() * self.size);
        let now = Instant::now();
        for place in free.drain(..) {
            let open = &mut self.open[place];
            *open = Open { number: open.number + places, sent: now };
            requests.extend_from_slice(&open.number.to_be_bytes());
            requests.resize(requests.len() + self.size - NUMBER_BYTES, 0xa5);
        }
        send_packed(&mut requests, self.size, self.pack, |datagram| {
            tally.errors += u64::from(self.socket.send(datagram).is_err());
        });
    }

    fn take(&self, replies: &[u8], free: &mut Vec<usize>, tally: &mut Tally) {
        let now = Instant::now();
        for number in replies.chunks_exact(NUMBER_BYTES).filter_map(number) {
            let place = (number % self.open.len() as u64) as usize;
            // A late answer is of a request that was given up.
            if self.open[place].number == number {
                let latency = now.saturating_duration_since(self.open[place].sent);
                tally.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
                free.push(place);
            }
        }
    }

    fn give_up(&self, now: Instant, free: &mut Vec<usize>, tally: &mut Tally) {
        for (place, open) in self.open.iter().enumerate() {
            if now.saturating_duration_since(open.sent) >= PATIENCE && !free.contains(&place) {
                tally.unknown += 1;
                free.push(place);
            }
        }
    }
}

/// Sends what stands in the buffer, as many whole items of `size` bytes in a datagram as `pack` bytes hold, at least
/// one; and empties it.
pub(super) fn send_packed(items: &mut Vec<u8>, size: usize, pack: usize, mut send: impl FnMut(&[u8])) {
    items.chunks((pack / size).max(1) * size).for_each(&mut send);
    items.clear();
}

/// The number that these bytes are.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().map(u64::from_be_bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_share_datagrams_as_far_as_they_fit_and_are_never_cut() {
        let mut sent = Vec::new();
        let mut items = vec![1; 10 * 3];
        send_packed(&mut items, 10, 25, |datagram| sent.push(datagram.len()));
        assert_eq!((sent, items.len()), (vec![20, 10], 0));
        let (mut sent, mut items) = (Vec::new(), vec![1; 40]);
        send_packed(&mut items, 20, 8, |datagram| sent.push(datagram.len()));
        assert_eq!(sent, [20, 20]);
    }
}
