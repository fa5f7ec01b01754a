//! Reaching a cluster: which addresses, how long, and what a client's failure means to a script.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raftgram::client::{Answer, ClientConfig, ClientError, Outcome, Phase};
use raftgram::handle::{Client, OperationResult, Pending, WaitError};
use raftgram::rpc::SealConfig;
use raftgram::run;
use raftgram::seal::SealMode;
use raftgram::wire::SealRefusal;

use crate::address::Address;
use crate::error::{CliError, Code};
use crate::key;
use crate::units::Span;

/// The ports of `cluster up`, for those who name no cluster.
const DEFAULT_PORTS: [u16; 3] = [7101, 7102, 7103];

/// How long the client may take beyond its own deadline before it is taken for dead.
const GRACE: Duration = Duration::from_secs(5);

/// The cluster that a command speaks to.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// As they were named, or the ports of `cluster up`.
    pub(crate) addresses: Vec<Address>,
    /// Whether somebody named them.
    pub(crate) named: bool,
    timeout: Option<Span>,
    key_file: Option<PathBuf>,
}

impl Reach {
    /// What `--cluster` and `--timeout` say.
    pub(crate) fn new(named: &[Address], timeout: Option<Span>, key_file: Option<PathBuf>) -> Self {
        let loopback = |port| Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let addresses = if named.is_empty() { DEFAULT_PORTS.map(loopback).to_vec() } else { named.to_vec() };
        Self { addresses, named: !named.is_empty(), timeout, key_file }
    }

    /// The timeout asked for, or this one.
    pub(crate) fn timeout_or(&self, otherwise: Duration) -> Duration {
        self.timeout.map_or(otherwise, |span| span.0)
    }

    /// A client of these nodes.
    pub(crate) fn connect(&self) -> Result<Client, CliError> {
        let resolved = self.addresses.iter().map(Address::resolve).collect::<Result<Vec<_>, _>>()?;
        self.connect_to(&resolved)
    }

    /// A client of the nodes at these addresses, with the key of this cluster.
    pub(crate) fn connect_to(&self, addresses: &[SocketAddr]) -> Result<Client, CliError> {
        Client::connect(addresses, self.config()?)
            .map_err(|error| CliError::io("opening the client's socket", &error))
    }

    /// The machine of a client, and the address for its socket, for those with a loop of their own.
    pub(crate) fn machine(
        &self,
        now: raftgram::time::Instant,
    ) -> Result<(raftgram::client::Client, SocketAddr), CliError> {
        let resolved = self.addresses.iter().map(Address::resolve).collect::<Result<Vec<_>, _>>()?;
        let client = run::client::client(&resolved, self.config()?, now);
        let client = client.map_err(|error| CliError::io("drawing randomness", &error))?;
        Ok((client, run::client::any_address(&resolved)))
    }

    fn config(&self) -> Result<ClientConfig, CliError> {
        let mut config = ClientConfig::default();
        if let Some(file) = &self.key_file {
            config.rpc.seal = SealConfig::with(SealMode::Require, key::load(file)?);
        }
        Ok(config)
    }

    /// The file that holds the keys, if one was named.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        self.key_file.as_deref()
    }

    /// Waits for an operation and says what its failure means.
    pub(crate) fn wait(
        &self,
        pending: Pending<OperationResult>,
        timeout: Duration,
    ) -> Result<Answer, CliError> {
        let began = Instant::now();
        let fault = match pending.wait(timeout + GRACE) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => meaning(&error),
            Err(WaitError::TimedOut) => CliError::new(Code::OutcomeUnknown, "the client does not answer"),
            Err(_) => CliError::new(Code::Failed, "the client's thread has ended"),
        };
        Err(fault.at(self).after(began.elapsed()))
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(","))
    }
}

/// A client's failure as exit code, words and way out.
pub(crate) fn meaning(error: &ClientError) -> CliError {
    let text = error.to_string();
    match error {
        ClientError::TimedOut { phase: Phase::Connecting, .. } => CliError::new(Code::Unreachable, text)
            .hint("is a node running there? `raftgram cluster up` starts three; --cluster names others"),
        ClientError::TimedOut { phase: Phase::SealRefused(refusal), .. } => CliError::new(
            Code::Unreachable,
            text,
        )
        .hint(match refusal {
            SealRefusal::NoSeal => "leave out --key and RAFTGRAM_KEY_FILE, or start the nodes with a key",
            _ => "--key FILE or RAFTGRAM_KEY_FILE names the key file; it must hold a key that the nodes hold",
        }),
        ClientError::TimedOut { phase: Phase::NoLeader, .. } => CliError::new(Code::NoLeader, text)
            .hint("more than half of the voters must run and reach each other; `raftgram status` shows them"),
        ClientError::TimedOut { outcome: Outcome::Unknown, .. }
        | ClientError::SessionExpired { outcome: Outcome::Unknown } => {
            CliError::new(Code::OutcomeUnknown, text).hint("read the key to see whether it happened")
        }
        ClientError::TimedOut { outcome: Outcome::NotSent, .. } => {
            CliError::new(Code::TimedOut, text).hint("try again, or give it longer with --timeout")
        }
        ClientError::ChangeRefused { refusal, reason } => {
            let (why, what) = reason.split_once(": ").unwrap_or((reason, ""));
            let fault =
                CliError::new(Code::Change(refusal.code()), format!("refused, nothing has changed: {why}"));
            if what.is_empty() { fault } else { fault.hint(what) }
        }
        ClientError::Superseded => {
            CliError::new(Code::Failed, text).hint("look at `raftgram member list`, and say the same again")
        }
        ClientError::NotTransferred { .. } => CliError::new(Code::Failed, text)
            .hint("`raftgram member list` shows who has caught up and answers"),
        ClientError::Busy => CliError::new(Code::Failed, text).hint("try again in a moment"),
        _ => CliError::new(Code::Failed, text),
    }
}

/// What the failure of a change of the cluster means: nothing of it is lost by asking again.
pub(crate) fn meaning_of_change(error: &ClientError) -> CliError {
    let fault = meaning(error);
    if fault.code != Code::OutcomeUnknown {
        return fault;
    }
    fault.hint("`raftgram member list` shows what it came to; saying the same again does no harm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_command_speaks_to_the_ports_of_cluster_up() {
        let reach = Reach::new(&[], None, None);
        assert_eq!(reach.to_string(), "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103");
        assert!(!reach.named);
        let reach = Reach::new(&["8000".parse().unwrap()], Some("1s".parse().unwrap()), None);
        assert_eq!((reach.to_string().as_str(), reach.named), ("127.0.0.1:8000", true));
        assert_eq!(reach.timeout_or(Duration::ZERO), Duration::from_secs(1));
    }

    #[test]
    fn each_failure_has_the_exit_code_that_scripts_expect() {
        let exit = |error: ClientError| meaning(&error).code.exit();
        let timed_out = |outcome, phase| ClientError::TimedOut { outcome, phase };
        assert_eq!(exit(timed_out(Outcome::NotSent, Phase::Connecting)), 3);
        assert_eq!(exit(timed_out(Outcome::Unknown, Phase::Answer)), 3);
        assert_eq!(exit(timed_out(Outcome::Unknown, Phase::NoLeader)), 5);
        assert_eq!(exit(ClientError::SessionExpired { outcome: Outcome::Unknown }), 3);
        assert_eq!(exit(ClientError::Busy), 1);
        let unknown = meaning(&timed_out(Outcome::Unknown, Phase::Answer));
        assert!(unknown.message.contains("outcome unknown"), "{}", unknown.message);
    }
}
