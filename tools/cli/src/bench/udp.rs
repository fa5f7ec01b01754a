//! `bench udp`: one datagram there and back between two processes, again and again. No commit over UDP can be
//! faster than this machine's ping-pong, so every other figure is read against it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use slog::{Logger, info, warn};

use crate::bench::peer::Peer;
use crate::bench::report::{Figures, Latency, histogram};
use crate::bench::socket::{self, Buffers, Waiting};
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::output::Format;
use crate::units::{Bytes, Span};

/// The number that tells an answer from the answer to an earlier ping.
const NUMBER_BYTES: usize = 8;

/// The largest payload of UDP over IPv4.
const SIZE_MAX: u64 = 65_507;

/// Ping-pong between two processes over loopback UDP: the floor under every commit.
#[derive(Debug, Args)]
pub(crate) struct Udp {
    /// Measure this long.
    #[arg(long, value_name = "SPAN", default_value = "3s")]
    duration: Span,
    /// Play this long before measuring.
    #[arg(long, value_name = "SPAN", default_value = "500ms")]
    warm_up: Span,
    /// The payload of a datagram, at least 8 bytes.
    #[arg(long, value_name = "BYTES", default_value = "64B")]
    size: Bytes,
    /// The address of both ends.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Count a ping as lost after this long.
    #[arg(long, value_name = "SPAN", default_value = "100ms")]
    patience: Span,
    /// Ask the socket again and again instead of sleeping in the kernel.
    #[arg(long)]
    spin: bool,
    /// Keep the two processes on these processors.
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..=2)]
    pin: Vec<usize>,
    /// Write the latency distribution here.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

/// What the figures were taken with. `nodes` to `rtt_us` are the keys of every bench; here no Raft is involved.
#[derive(Debug, Serialize)]
struct Settings {
    nodes: u8,
    fsync: bool,
    clients: u8,
    value_bytes: u64,
    loss: f64,
    rtt_us: Option<f64>,
    transport: &'static str,
    address: IpAddr,
    duration: String,
    warm_up: String,
    patience: String,
    waiting: &'static str,
    pinned: Option<Vec<usize>>,
    kernel_drops: Option<u64>,
    socket_buffers: Buffers,
    build: &'static str,
    version: &'static str,
}

impl Udp {
    pub(crate) fn run(self, format: Format, logger: &Logger) -> Result<(), CliError> {
        self.check()?;
        let interrupt = Interrupt::install()?;
        let waiting = if self.spin { Waiting::Spinning } else { Waiting::Asleep(self.patience.0) };
        let (socket, buffers, echo) = pair(self.address, waiting, &self.pin)?;
        let own = socket.local_addr().map_err(|error| CliError::io("reading the own address", &error))?;
        if cfg!(debug_assertions) {
            warn!(logger, "this is a debug build; for figures use `cargo build --release`");
        }
        info!(logger, "warming up"; "for" => %self.warm_up, "echo" => %echo.address);
        let mut game =
            Game { socket: &socket, patience: self.patience.0, datagram: self.datagram(), pings: 0 };
        game.play(self.warm_up.0, &interrupt)?;
        info!(logger, "measuring"; "for" => %self.duration);
        let began = Instant::now();
        let (latencies, errors, unknown) = game.play(self.duration.0, &interrupt)?;
        let elapsed = began.elapsed();
        let drops = socket::kernel_drops([own.port(), echo.address.port()]);
        let figures =
            Figures { latencies, errors, unknown, elapsed, settings: self.settings(buffers, drops) };
        if figures.latencies.is_empty() {
            return Err(CliError::new(Code::Failed, "no ping came back").at(echo.address).after(elapsed));
        }
        if let Some(file) = &self.hgrm {
            figures.write_hgrm(file)?;
        }
        figures.answer(format)
    }

    fn check(&self) -> Result<(), CliError> {
        if self.size.0 < NUMBER_BYTES as u64 || self.size.0 > SIZE_MAX {
            return Err(CliError::usage(format!(
                "--size {} is not between 8 and {SIZE_MAX} bytes",
                self.size.0
            )));
        }
        if self.duration.0.is_zero() || self.patience.0.is_zero() {
            return Err(CliError::usage("--duration and --patience must be longer than nothing"));
        }
        Ok(())
    }

    fn datagram(&self) -> Vec<u8> {
        vec![0xa5; usize::try_from(self.size.0).expect("checked to be small")]
    }

    fn settings(&self, socket_buffers: Buffers, kernel_drops: Option<u64>) -> Settings {
        Settings {
            nodes: 0,
            fsync: false,
            clients: 1,
            value_bytes: self.size.0,
            loss: 0.0,
            rtt_us: None,
            transport: "udp ping-pong between two processes",
            address: self.address,
            duration: self.duration.to_string(),
            warm_up: self.warm_up.to_string(),
            patience: self.patience.to_string(),
            waiting: if self.spin { "spinning" } else { "asleep in the kernel" },
            pinned: (!self.pin.is_empty()).then(|| self.pin.clone()),
            kernel_drops,
            socket_buffers,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// A socket that is connected to an echo process.
fn pair(address: IpAddr, waiting: Waiting, pin: &[usize]) -> Result<(UdpSocket, Buffers, Peer), CliError> {
    let (socket, buffers) = socket::open(address, waiting)?;
    let mut arguments = ["bench", "udp-echo", "--address", &address.to_string()].map(str::to_owned).to_vec();
    if waiting == Waiting::Spinning {
        arguments.push("--spin".to_owned());
    }
    if let [.., processor] = *pin {
        arguments.extend(["--pin".to_owned(), processor.to_string()]);
    }
    let echo = Peer::start(&arguments, address)?;
    if let [processor, ..] = *pin {
        socket::pin(processor)?;
    }
    socket.connect(echo.address).map_err(|error| CliError::io("connecting", &error).at(echo.address))?;
    Ok((socket, buffers, echo))
}

/// The latency of a ping-pong that other figures of the same run are read against: `bytes` a datagram, this long.
pub(super) fn ping_pong(
    address: IpAddr,
    bytes: usize,
    pin: &[usize],
    duration: Duration,
    interrupt: &Interrupt,
) -> Result<Latency, CliError> {
    let patience = Duration::from_millis(100);
    let (socket, _, _echo) = pair(address, Waiting::Asleep(patience), pin)?;
    let mut game = Game { socket: &socket, patience, datagram: vec![0xa5; bytes], pings: 0 };
    game.play(duration / 4, interrupt)?;
    let (latencies, ..) = game.play(duration, interrupt)?;
    Ok(Latency::of(&latencies))
}

/// One side of the ping-pong.
struct Game<'a> {
    socket: &'a UdpSocket,
    patience: Duration,
    datagram: Vec<u8>,
    /// Pings sent so far; each carries its number.
    pings: u64,
}

impl Game<'_> {
    /// Plays for this long: latencies, pings that could not be sent, pings whose answer did not come.
    fn play(
        &mut self,
        duration: Duration,
        interrupt: &Interrupt,
    ) -> Result<(hdrhistogram::Histogram<u64>, u64, u64), CliError> {
        let (mut latencies, mut errors, mut unknown) = (histogram(), 0, 0);
        let began = Instant::now();
        let mut answer = vec![0; self.datagram.len()];
        while began.elapsed() < duration {
            if interrupt.is_raised() {
                return Err(CliError::new(Code::Interrupted, "stopped before the end").after(began.elapsed()));
            }
            self.pings += 1;
            self.datagram[..NUMBER_BYTES].copy_from_slice(&self.pings.to_be_bytes());
            let sent = Instant::now();
            if self.socket.send(&self.datagram).is_err() {
                errors += 1;
                continue;
            }
            match self.wait(sent, &mut answer) {
                Some(latency) => {
                    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))
                }
                None => unknown += 1,
            }
        }
        Ok((latencies, errors, unknown))
    }

    /// Waits for the answer to the last ping; answers to earlier ones are passed over.
    fn wait(&self, sent: Instant, answer: &mut [u8]) -> Option<Duration> {
        loop {
            let received = self.socket.recv(answer);
            let waited = sent.elapsed();
            match received {
                Ok(bytes) if answer[..bytes] == self.datagram => return Some(waited),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(_) => return None,
            }
            if waited >= self.patience {
                return None;
            }
        }
    }
}
