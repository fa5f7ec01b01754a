//! `proxy`: a lossy UDP path for any program, without root, from a seed.
//!
//! ```text
//! program ── datagrams ──► listen  [ rules → loss trace → link ]  upstream socket ──► the other program
//!         ◄──────────────────────  [ link ← loss trace ← rules ]  ◄──────────────────
//! ```
//!
//! Whoever sends to the listening socket gets a *session*: a socket of its own towards the upstream address, so that
//! answers find their way back, and two links of `raftgram::fault`, one for each way. What a session loses follows from
//! the seed, the session's number and the order of its datagrams; other sessions and the clock do not touch it.
//!
//! `engine` decides and holds no socket; `serve` is the loop around it. `rules` are scripted faults that know
//! raftgram's frames ("drop the 2nd append to 3"); of other programs' datagrams they can count only. `words` has
//! netem's words, presets, and the `tc` lines that ask a kernel for the same.
//!
//! With `--key` it is something else, a `gateway`: it ends the links of plain clients and makes their calls again on
//! sealed ones (`gateway_serve` is the loop around that). Nothing is lost on purpose there.

mod engine;
mod gateway;
mod gateway_serve;
#[cfg(test)]
mod gateway_tests;
mod losses;
mod rules;
mod serve;
#[cfg(test)]
mod tests;
mod words;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use raftgram::fault::LinkConfig;
use serde::Serialize;
use slog::Logger;

use crate::address::Address;
use crate::error::CliError;
use crate::faults::LinkFlags;
use crate::interrupt::Interrupt;
use crate::output::{self, Format};
use crate::units::{Bytes, Span};
use engine::{Engine, Way};
use gateway::Counts;
use losses::Losses;
use rules::Rule;
pub(crate) use words::Burst;
use words::{Preset, Rate};

/// Put a lossy path before any UDP program. Needs no root; the words are netem's. With --key, let plain clients into a
/// sealed cluster.
#[derive(Debug, Args)]
#[command(after_help = "Rules: ACTION WHICH KIND [from N] [to N] [of term N] [by SPAN] [up|down], such as \
\"drop the 2nd append to 3\", \"delay every vote of term 5 by 50ms\", \"drop the first 3 datagrams up\", \
\"duplicate every 10th append-reply\". Actions: drop, delay, duplicate. KIND is a frame or body of wire-spec.md, or \
datagram for any. Up is towards the upstream address. The first rule that strikes a datagram decides.

With --key on the command line (the environment's key does not count here) the proxy loses nothing: it hears plain \
clients, such as the one in Python, at a loopback address, and speaks sealed to the cluster, of which --upstream names \
any nodes. Whoever reaches that address reads and writes as the holder of a client key does.")]
pub(crate) struct Proxy {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", required_unless_present = "print_tc")]
    listen: Option<Address>,
    /// Where to send on to; with --key any of the cluster's nodes.
    #[arg(long, value_name = "ADDR[,…]", value_delimiter = ',', required_unless_present = "print_tc")]
    upstream: Vec<Address>,
    /// Begin with these settings; what else is given counts over them.
    #[arg(long, value_enum, value_name = "NAME")]
    preset: Option<Preset>,
    #[command(flatten)]
    flags: LinkFlags,
    /// Drop in bursts (Gilbert-Elliott): the chances to go from good to bad and back, and of loss in either; as netem's
    /// `gemodel`.
    #[arg(long, value_name = "P,R[,1-H[,1-K]]")]
    burst: Option<Burst>,
    /// Hold what is to be passed back this long beyond the delay. Without it: 1ms.
    #[arg(long, value_name = "SPAN")]
    reorder_delay: Option<Span>,
    /// Carry no more than this: 1mbit, 500kbit, 100kbps (bytes).
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Let this many datagrams wait for that; more are dropped.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Drop datagrams that are longer.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<Bytes>,
    /// Let faults strike one way only; without it they strike each way.
    #[arg(long, value_enum, value_name = "WAY")]
    only: Option<Way>,
    /// Lose what was lost in this record: a 0 for each datagram that arrived and a 1 for each that was lost, in order;
    /// it begins again at its end. Blanks, line ends and lines that begin with # do not count.
    #[arg(long, value_name = "FILE")]
    loss_trace: Option<PathBuf>,
    /// A scripted fault; see below. Can be given several times.
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<Rule>,
    /// Draw all faults from this seed; without it from a random one, which is printed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End after this long; without it at Ctrl-C or SIGTERM.
    #[arg(long, value_name = "SPAN")]
    duration: Option<Span>,
    /// Print the tc lines that ask a Linux kernel for the same, and end.
    #[arg(long)]
    print_tc: bool,
    /// The device in those lines.
    #[arg(long, value_name = "DEV", default_value = "lo")]
    device: String,
}

/// What went through.
#[derive(Debug, Serialize)]
pub(crate) struct Counted {
    event: &'static str,
    sessions: usize,
    /// By way, then by name; see `fault` in the library's documentation.
    up: serde_json::Value,
    down: serde_json::Value,
    /// How often each rule struck.
    rules: Vec<RuleCount>,
}

/// What a gateway passed on.
#[derive(Debug, Serialize)]
struct Passed {
    event: &'static str,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Serialize)]
pub(crate) struct RuleCount {
    rule: String,
    struck: u64,
}

impl Proxy {
    /// `key_file` is that of the command line.
    pub(crate) fn run(self, key_file: Option<&Path>, format: Format, log: &Logger) -> Result<(), CliError> {
        let config = self.link()?;
        if self.print_tc {
            let lines = words::tc(&config, &self.device);
            let document = serde_json::json!({ "tc": lines.iter().map(|it| &it.0).collect::<Vec<_>>() });
            return format.answer(&document, |_| words::tc_text(&lines));
        }
        let Some(listen) = &self.listen else {
            return Err(CliError::usage("--listen and --upstream are needed"));
        };
        let listen = listen.resolve()?;
        let upstream = self.upstream.iter().map(Address::resolve).collect::<Result<Vec<_>, _>>()?;
        if let Some(key_file) = key_file {
            self.check_no_faults(&config)?;
            let server = gateway_serve::Server::bind(listen, &upstream, key_file, log)?;
            return self.pass_clients(server, &upstream, format);
        }
        let &[upstream] = &upstream[..] else {
            return Err(CliError::usage("--upstream is one address, unless --key makes a gateway of this"));
        };
        let losses = self.loss_trace.as_deref().map(Losses::read).transpose()?;
        let seed = self.seed.unwrap_or_else(crate::sim::any_seed);
        let engine = Engine::new(config, self.only, losses, self.rules, seed);
        let interrupt = Interrupt::install()?;
        let mut proxy = serve::Server::bind(listen, upstream, engine)?;
        let bound = proxy.local_addr()?;
        if format.is_json() {
            format.event(&serde_json::json!({
                "event": "listening", "addr": bound, "upstream": upstream, "seed": seed,
            }))?;
        } else {
            output::write(&format!("listening {bound}\nupstream {upstream}\nseed {seed}\n"))?;
        }
        let until = self.duration.map(|span| span.0);
        let is_watched = std::io::stderr().is_terminal() && format == Format::Terminal;
        proxy.run(until, || interrupt.is_raised(), |counted| tell(counted, format, is_watched))?;
        let counted = Counted::of(proxy.engine());
        match format {
            Format::JsonStream | Format::Json => format.event(&counted),
            _ => output::write(&counted.text(format)),
        }
    }

    /// A gateway loses nothing on purpose: its two sides have links of their own, on which a fault would strike twice.
    fn check_no_faults(&self, config: &LinkConfig) -> Result<(), CliError> {
        let has_faults = *config != LinkConfig::default()
            || self.only.is_some()
            || self.loss_trace.is_some()
            || self.seed.is_some()
            || !self.rules.is_empty();
        if has_faults {
            return Err(CliError::usage("with --key the proxy takes no faults")
                .hint("let another proxy, without --key, stand before it or behind it"));
        }
        Ok(())
    }

    /// A gateway, until it is told to stop.
    fn pass_clients(
        &self,
        mut server: gateway_serve::Server,
        upstream: &[SocketAddr],
        format: Format,
    ) -> Result<(), CliError> {
        let interrupt = Interrupt::install()?;
        let bound = server.local_addr()?;
        if format.is_json() {
            format
                .event(&serde_json::json!({ "event": "listening", "addr": bound, "upstream": upstream }))?;
        } else {
            let names: Vec<String> = upstream.iter().map(ToString::to_string).collect();
            output::write(&format!("listening {bound}\nupstream {}, sealed\n", names.join(",")))?;
        }
        let until = self.duration.map(|span| span.0);
        server.run(
            until,
            || interrupt.is_raised(),
            |counts| {
                // A courtesy, as below.
                if format == Format::JsonStream {
                    let _ = format.event(&Passed { event: "counted", counts });
                }
            },
        )?;
        let counts = server.counts();
        match format {
            Format::JsonStream | Format::Json => format.event(&Passed { event: "counted", counts }),
            _ => {
                let Counts { clients, calls, answered, refused, again } = counts;
                let rows = [
                    ("clients", clients),
                    ("calls", calls),
                    ("answered", answered),
                    ("refused", refused),
                    ("tried again", again),
                ];
                let rows = rows.map(|(name, count)| vec![name.to_owned(), count.to_string()]);
                output::write(&format.table(&["passed on", ""], &rows))
            }
        }
    }

    /// The preset with what flags say over it.
    fn link(&self) -> Result<LinkConfig, CliError> {
        let mut config = self.flags.over(self.preset.map(Preset::config).unwrap_or_default());
        config.bursts = self.burst.map(|burst| burst.0).or(config.bursts);
        config.reorder_delay = self.reorder_delay.map_or(config.reorder_delay, |span| span.0);
        config.mtu = self.mtu.map(|bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX)).or(config.mtu);
        config.rate = self.rate.map(|rate| rate.with_limit(self.limit)).or(config.rate);
        if self.limit.is_some() && config.rate.is_none() {
            return Err(CliError::usage("--limit is how many datagrams wait for --rate, which is not given"));
        }
        config.validate().map_err(|error| CliError::usage(error.to_string()))?;
        Ok(config)
    }
}

/// Live counters: a line on a terminal, an event in a stream.
fn tell(engine: &Engine, format: Format, is_watched: bool) {
    let counted = Counted::of(engine);
    // They are a courtesy: whoever does not read them any more changes nothing.
    if format == Format::JsonStream {
        let _ = format.event(&counted);
    } else if is_watched {
        eprint!("\r{}\x1b[K", counted.line());
    }
}

impl Counted {
    fn of(engine: &Engine) -> Self {
        let counts = |way| {
            engine
                .stats(way)
                .counts()
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count.into()))
                .collect()
        };
        let rules = engine.rules().map(|(rule, struck)| RuleCount { rule: rule.to_string(), struck });
        Self {
            event: "counted",
            sessions: engine.sessions(),
            up: serde_json::Value::Object(counts(Way::Up)),
            down: serde_json::Value::Object(counts(Way::Down)),
            rules: rules.collect(),
        }
    }

    fn line(&self) -> String {
        let way = |counts: &serde_json::Value| {
            let count = |name: &str| counts[name].as_u64().unwrap_or(0);
            format!("{} sent {} delivered", count("sent"), count("delivered"))
        };
        format!("{} sessions, up {}, down {}", self.sessions, way(&self.up), way(&self.down))
    }

    fn text(&self, format: Format) -> String {
        let names = self.up.as_object().into_iter().flatten().map(|(name, _)| name);
        let rows: Vec<Vec<String>> = names
            .filter(|name| {
                ["sent", "delivered"].contains(&name.as_str()) || self.up[*name] != 0 || self.down[*name] != 0
            })
            .map(|name| vec![name.clone(), self.up[name].to_string(), self.down[name].to_string()])
            .collect();
        let rules: Vec<Vec<String>> =
            self.rules.iter().map(|it| vec![it.rule.clone(), it.struck.to_string()]).collect();
        let table = format.table(&["datagrams", "up", "down"], &rows);
        if rules.is_empty() { table } else { table + "\n" + &format.table(&["rule", "struck"], &rules) }
    }
}
