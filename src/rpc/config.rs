//! Settings of the room, and who its owner is.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use crate::seal::{Entropy, KeyLog, KeyRing, PACKETS_PER_PHASE_MAX, SealMode};
use crate::types::{BootNonce, ClusterId, Identity, Incarnation, PacketNumber};
use crate::wire::{DATAGRAM_BYTES_MAX, Greeting, HELLO_DATAGRAM_BYTES, VERSION};

/// Whether datagrams seen before are dropped before their frames are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayProtection {
    /// By a window of 2,048 packet numbers.
    Window,
    /// Not at all: for tests that show what holds without it.
    Off,
}

/// Whether small datagrams are sent twice on a lossy, little used link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateMode {
    /// While smoothed loss is above 5 %.
    Adaptive,
    /// Never.
    Off,
}

/// The highest wire version and the features that an end offers in its hello; both ends use what both have. `[W-68]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLevel {
    /// The highest version; the lowest is 1.
    pub version_max: u8,
    /// Bits of optional features.
    pub features: u64,
}

impl WireLevel {
    /// As a node of the version after this one may show itself: a version and features that nobody here knows.
    pub const NEXT: Self = Self { version_max: VERSION + 1, features: u64::MAX };
}

impl Default for WireLevel {
    fn default() -> Self {
        Self { version_max: VERSION, features: 0 }
    }
}

/// Settings. Sizes and counts are per link unless they say otherwise.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// The largest datagram sent and accepted. Larger than the path takes: delivery collapses. Smaller: more
    /// headers per byte, and the hello does not fit below 256.
    pub datagram_bytes_max: usize,
    /// The largest body of a call or reply, in either direction. Smaller than a peer's: its large calls are
    /// refused as too large.
    pub body_bytes_max: usize,
    /// Bytes of unfinished large bodies a peer may have under way towards this end. Smaller than
    /// `body_bytes_max` is refused; much larger lets peers hold memory.
    pub credit_bytes: u64,
    /// The same over all links together; beyond it large calls are refused as busy.
    pub reassembly_bytes_max: usize,
    /// Links to nodes in the whole room; beyond it hellos of unknown nodes are dropped as over a limit.
    pub links_max: usize,
    /// Links to clients in the whole room; beyond it the client silent longest gives way if it has been silent for
    /// a second, otherwise the newcomer is dropped as over a limit.
    pub clients_max: usize,
    /// Calls open towards a peer; beyond it `call` says busy.
    pub calls_open_max: usize,
    /// Bytes of bodies of open calls; beyond it `call` says busy.
    pub call_bytes_max: usize,
    /// Calls of a peer taken in and not finished; beyond it new ones are refused as busy.
    pub calls_served_max: usize,
    /// Bytes of replies not acknowledged yet; beyond it new calls are refused as busy.
    pub reply_bytes_max: usize,
    /// Notices waiting for the end of the turn; beyond it the oldest goes.
    pub notices_max: usize,
    /// Answers to datagrams from outside any link, per 10 ms in the whole room; beyond it they are dropped as over
    /// a limit. Small: a burst of restarting peers is slow to meet. Large: a flood costs more.
    pub stray_answers_max: u32,
    /// G of RFC 9002: what a timer can be trusted to keep. Too small: probes for packets that merely wait for
    /// the scheduler. Too large: losses are found late.
    pub granularity: Duration,
    /// How long an acknowledgement waits for a datagram to ride on; the peer is taken to wait as long. Shorter: more
    /// datagrams that say nothing else. Longer: what got lost last is repeated later.
    pub ack_delay_max: Duration,
    /// The longest probe timeout while a peer is not silent; the heartbeat interval bounds it too.
    pub probe_timeout_max: Duration,
    /// The round trip assumed before the first sample.
    pub rtt_guess: Duration,
    /// When an unanswered hello is first repeated; each later wait is half as long again.
    pub hello_retry_min: Duration,
    /// The longest wait between hellos.
    pub hello_retry_max: Duration,
    /// The smallest window.
    pub window_bytes_min: usize,
    /// The largest window; a socket buffer of the usual 212,992 bytes holds 92 large datagrams.
    pub window_bytes_max: usize,
    /// How long a client may be silent before its link is closed.
    pub client_idle_max: Duration,
    /// See there.
    pub replay: ReplayProtection,
    /// See there.
    pub duplicate: DuplicateMode,
    /// What this end says it speaks. Raised only by tests of rolling upgrades: what is sent is version 1 anyway.
    pub wire_level: WireLevel,
    /// See there.
    pub seal: SealConfig,
}

/// Whether and with what datagrams are sealed.
#[derive(Clone, Debug)]
pub struct SealConfig {
    /// Never, also, or always.
    pub mode: SealMode,
    /// The keys; needed unless the mode is off. A node needs one that is the cluster's.
    pub keys: Option<Arc<KeyRing>>,
    /// Where ephemeral keys come from; needed unless the mode is off. The drivers draw it from the operating system
    /// at each start, whatever stands here; a simulator draws it from its seed.
    pub entropy: Option<Entropy>,
    /// Datagrams sealed under one key before the next one. Few: keys are derived often, and twice as many are the most
    /// that may be under way. More than the default: beyond what is known to be safe, and refused.
    pub packets_per_phase_max: u64,
    /// Who is told of session secrets; nobody unless captures are to be read.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

impl Default for SealConfig {
    fn default() -> Self {
        Self {
            mode: SealMode::Off,
            keys: None,
            entropy: None,
            packets_per_phase_max: PACKETS_PER_PHASE_MAX,
            key_log: None,
        }
    }
}

impl SealConfig {
    /// Sealed datagrams with these keys.
    #[must_use]
    pub fn with(mode: SealMode, keys: Arc<KeyRing>) -> Self {
        Self { mode, keys: Some(keys), ..Self::default() }
    }

    fn is_complete(&self) -> bool {
        self.mode == SealMode::Off || (self.keys.is_some() && self.entropy.is_some())
    }
}

impl Default for RpcConfig {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            datagram_bytes_max: 1200,
            body_bytes_max: 16 * MIB + 64 * 1024,
            credit_bytes: 33 * MIB as u64,
            reassembly_bytes_max: 256 * MIB,
            links_max: 256,
            clients_max: 4096,
            calls_open_max: 1024,
            call_bytes_max: 64 * MIB,
            calls_served_max: 2048,
            reply_bytes_max: 64 * MIB,
            notices_max: 64,
            stray_answers_max: 256,
            granularity: Duration::from_micros(100),
            ack_delay_max: Duration::from_micros(500),
            probe_timeout_max: Duration::from_millis(50),
            rtt_guess: Duration::from_millis(1),
            hello_retry_min: Duration::from_millis(50),
            hello_retry_max: Duration::from_secs(1),
            window_bytes_min: 16 * 1024,
            window_bytes_max: 512 * 1024,
            client_idle_max: Duration::from_secs(60),
            replay: ReplayProtection::Window,
            duplicate: DuplicateMode::Adaptive,
            wire_level: WireLevel::default(),
            seal: SealConfig::default(),
        }
    }
}

/// A setting that cannot work, by name, with what it was and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub must_be: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.field, self.must_be)
    }
}

impl core::error::Error for ConfigError {}

impl RpcConfig {
    /// Checks every field that the others or the wire bound.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let checks = [
            (self.wire_level.version_max >= VERSION, "wire_level.version_max", "at least 1"),
            (
                (HELLO_DATAGRAM_BYTES..=DATAGRAM_BYTES_MAX).contains(&self.datagram_bytes_max),
                "datagram_bytes_max",
                "between 256 and 65507",
            ),
            (
                (1..=BODY_BYTES_LIMIT).contains(&self.body_bytes_max),
                "body_bytes_max",
                "between 1 byte and 1 GiB",
            ),
            (
                self.credit_bytes >= self.body_bytes_max as u64 && self.credit_bytes < 1 << 62,
                "credit_bytes",
                "at least body_bytes_max",
            ),
            (
                self.reassembly_bytes_max >= self.body_bytes_max,
                "reassembly_bytes_max",
                "at least body_bytes_max",
            ),
            (
                self.call_bytes_max >= self.body_bytes_max && self.reply_bytes_max >= self.body_bytes_max,
                "call_bytes_max and reply_bytes_max",
                "at least body_bytes_max",
            ),
            (
                self.links_max > 0
                    && self.clients_max > 0
                    && self.calls_open_max > 0
                    && self.calls_served_max > 0
                    && self.notices_max > 0
                    && self.stray_answers_max > 0,
                "every count",
                "at least 1",
            ),
            (!self.granularity.is_zero(), "granularity", "longer than zero"),
            (
                !self.hello_retry_min.is_zero() && self.hello_retry_min <= self.hello_retry_max,
                "hello_retry_min",
                "longer than zero and at most hello_retry_max",
            ),
            (
                self.window_bytes_min >= 2 * self.datagram_bytes_max
                    && self.window_bytes_min <= self.window_bytes_max,
                "window_bytes_min",
                "at least two datagrams and at most window_bytes_max",
            ),
            (self.seal.is_complete(), "seal", "given keys and entropy, or be off"),
            (
                (1..=PACKETS_PER_PHASE_MAX).contains(&self.seal.packets_per_phase_max),
                "packets_per_phase_max",
                "between 1 and 2^22",
            ),
        ];
        match checks.into_iter().find(|(is_good, ..)| !is_good) {
            Some((_, field, must_be)) => Err(ConfigError { field, must_be }),
            None => Ok(()),
        }
    }
}

/// Fragment tables stay small and every sum of sizes far from overflow.
const BODY_BYTES_LIMIT: usize = 1 << 30;

/// What this end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalRole {
    /// A node.
    Node {
        /// Its id and store.
        identity: Identity,
        /// Its boot counter, durable already.
        incarnation: Incarnation,
    },
    /// A client: each node it links with gives it an incarnation.
    Client,
}

/// Who this end is, as it shows itself in a hello.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// Node or client.
    pub role: LocalRole,
    /// Drawn at boot.
    pub boot_nonce: BootNonce,
    /// Its cluster; zero for a blank node, and for a client that knows none yet.
    pub cluster: ClusterId,
    /// Whether a blank node is founding.
    pub greeting: Greeting,
    /// The shortest election timeout; a client leaves it at zero.
    pub election_timeout_min: Duration,
    /// The longest election timeout; a client leaves it at zero.
    pub election_timeout_max: Duration,
    /// The heartbeat interval: the pace of probes to a silent peer.
    pub heartbeat: Duration,
    /// The lowest packet number not used in this process: 1 at its start, and [`next_packet`] of the one before
    /// when an `Rpc` is made anew, as a blank node does once it is founded. No packet number is ever reused.
    ///
    /// [`next_packet`]: crate::rpc::Rpc::next_packet
    pub first_packet: PacketNumber,
}

impl Local {
    /// A client that knows no cluster yet.
    #[must_use]
    pub const fn client(boot_nonce: BootNonce) -> Self {
        Self {
            role: LocalRole::Client,
            boot_nonce,
            cluster: ClusterId::ZERO,
            greeting: Greeting::Plain,
            election_timeout_min: Duration::ZERO,
            election_timeout_max: Duration::ZERO,
            heartbeat: Duration::from_millis(25),
            first_packet: PacketNumber(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(RpcConfig::default().validate(), Ok(()));
    }

    #[test]
    fn each_impossible_setting_is_named() {
        type Spoil = fn(&mut RpcConfig);
        let cases: [(Spoil, &str); 6] = [
            (|c| c.datagram_bytes_max = 255, "datagram_bytes_max"),
            (|c| c.body_bytes_max = 0, "body_bytes_max"),
            (|c| c.credit_bytes = 1, "credit_bytes"),
            (|c| c.notices_max = 0, "every count"),
            (|c| c.granularity = Duration::ZERO, "granularity"),
            (|c| c.window_bytes_min = 100, "window_bytes_min"),
        ];
        for (spoil, field) in cases {
            let mut config = RpcConfig::default();
            spoil(&mut config);
            assert_eq!(config.validate().map_err(|error| error.field), Err(field));
        }
    }
}
