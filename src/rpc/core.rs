//! What all links share: settings, randomness, counters, outputs, and the room's own numbering.

use core::net::SocketAddr;
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::rng::Rng;
use crate::rpc::config::{Local, LocalRole, RpcConfig};
use crate::rpc::cookie::CookieKey;
use crate::rpc::cover::Seals;
use crate::rpc::event::{Event, LinkId, Output};
use crate::rpc::sent::SentFrame;
use crate::rpc::stats::RpcStats;
use crate::time::Instant;
use crate::types::{ClusterId, Incarnation, StoreId};
use crate::wire::{Description, Flags, Header, Party, Span, VERSION};

/// State outside any link.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: RpcConfig,
    pub(super) local: Local,
    /// The tag of `local.cluster`.
    pub(super) tag: u32,
    pub(super) rng: Rng,
    pub(super) cookies: CookieKey,
    pub(super) stats: RpcStats,
    pub(super) outputs: VecDeque<Output>,
    /// When links want `handle_timeout`; an entry may be early, never late.
    pub(super) deadlines: BTreeSet<(Instant, LinkId)>,
    /// Links with something to send.
    pub(super) dirty: Vec<LinkId>,
    next_link: u32,
    /// The lowest packet number no link and no stray datagram used so far, as far as links have ended.
    pub(super) next_packet: u64,
    next_call: u64,
    next_client: u32,
    /// Bytes being put together on all links.
    pub(super) arriving_bytes: usize,
    stray_answers_left: u32,
    stray_refill_at: Instant,
    /// Addresses that were sent a hint, and until when they get no other.
    hinted: BTreeMap<SocketAddr, Instant>,
    pub(super) seals: Seals,
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) scratch: Scratch,
}

/// Lists that keep their memory from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) spans: Vec<Span>,
    pub(super) acked: Vec<SentFrame>,
    pub(super) lost: Vec<(u64, SentFrame)>,
    pub(super) frames: Vec<SentFrame>,
    /// A sealed datagram in plain.
    pub(super) opened: Vec<u8>,
}

impl Core {
    pub(super) fn new(config: RpcConfig, local: Local, mut rng: Rng) -> Self {
        let cookies = CookieKey::draw(&mut rng);
        let seals = Seals::new(&config.seal, &rng);
        Self {
            stray_answers_left: config.stray_answers_max,
            next_packet: local.first_packet.0.max(1),
            tag: local.cluster.tag(),
            config,
            local,
            rng,
            cookies,
            stats: RpcStats::default(),
            outputs: VecDeque::new(),
            deadlines: BTreeSet::new(),
            dirty: Vec::new(),
            next_link: 0,
            next_call: 1,
            next_client: 1,
            arriving_bytes: 0,
            stray_refill_at: Instant::ZERO,
            hinted: BTreeMap::new(),
            seals,
            buffers: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// A client learned its cluster.
    pub(super) fn learn_cluster(&mut self, cluster: ClusterId) {
        self.local.cluster = cluster;
        self.tag = cluster.tag();
    }

    /// True for a client.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.local.role, LocalRole::Client)
    }

    /// This end in a header.
    pub(super) fn party(&self) -> Party {
        match self.local.role {
            LocalRole::Node { identity, .. } => Party::Node(identity.node),
            LocalRole::Client => Party::Any,
        }
    }

    /// A node's incarnation; a client has one per link.
    pub(super) fn incarnation(&self) -> Incarnation {
        match self.local.role {
            LocalRole::Node { incarnation, .. } => incarnation,
            LocalRole::Client => Incarnation::UNKNOWN,
        }
    }

    /// The header's flags that never change.
    pub(super) fn flags(&self) -> Flags {
        if self.is_client() { Flags::CLIENT } else { Flags::NONE }
    }

    /// How this end shows itself: a node that has a cluster with its id, whatever it was started with. `[W-25]`
    pub(super) fn description(&self) -> Description {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(SPAN_US_MAX).min(SPAN_US_MAX);
        Description {
            version_min: VERSION,
            version_max: self.config.wire_level.version_max,
            features: self.config.wire_level.features,
            store: match self.local.role {
                LocalRole::Node { identity, .. } => identity.store,
                LocalRole::Client => StoreId::ZERO,
            },
            boot_nonce: self.local.boot_nonce,
            cluster: self.local.cluster,
            election_timeout_min_us: micros(self.local.election_timeout_min),
            election_timeout_max_us: micros(self.local.election_timeout_max),
            heartbeat_us: micros(self.local.heartbeat),
            datagram_bytes_max: u16::try_from(self.config.datagram_bytes_max).unwrap_or(u16::MAX),
            credit_bytes: self.config.credit_bytes,
            greeting: self.local.greeting,
        }
    }

    /// A block of call ids for one link.
    pub(super) fn next_call_ids(&mut self) -> Range<u64> {
        let from = self.next_call;
        self.next_call = from + CALL_ID_BLOCK;
        from..self.next_call
    }

    pub(super) fn next_link(&mut self) -> LinkId {
        self.next_link = self.next_link.checked_add(1).expect("fewer than 2^32 links in one process");
        LinkId(self.next_link)
    }

    /// A number for another client; `None` when all are used up, for they are never handed out twice.
    pub(super) fn next_client(&mut self) -> Option<Incarnation> {
        let given = Incarnation(self.next_client);
        self.next_client = self.next_client.checked_add(1)?;
        Some(given)
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// An empty vector, used before if there is one.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(self.config.datagram_bytes_max))
    }

    pub(super) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.buffers.len() < BUFFERS_MAX && bytes.capacity() >= self.config.datagram_bytes_max {
            bytes.clear();
            self.buffers.push(bytes);
        }
    }

    /// The number of a datagram outside any link.
    pub(super) fn stray_number(&mut self) -> u64 {
        let number = self.next_packet;
        self.next_packet += 1;
        number
    }

    /// Takes one of the answers that strangers may have in these 10 ms.
    pub(super) fn may_answer_stray(&mut self, now: Instant) -> bool {
        if now >= self.stray_refill_at {
            self.stray_refill_at = now + STRAY_PERIOD;
            self.stray_answers_left = self.config.stray_answers_max;
        }
        let may = self.stray_answers_left > 0;
        self.stray_answers_left = self.stray_answers_left.saturating_sub(1);
        may
    }

    /// The same for a hint, of which an address gets ten a second. `[W-23]` `[W-24]`
    pub(super) fn may_hint(&mut self, now: Instant, to: SocketAddr) -> bool {
        if self.hinted.get(&to).is_some_and(|&until| now < until) || !self.may_answer_stray(now) {
            return false;
        }
        if self.hinted.len() >= HINTED_MAX {
            self.hinted.retain(|_, until| now < *until);
        }
        if self.hinted.len() >= HINTED_MAX {
            return false;
        }
        self.hinted.insert(to, now + HINT_PERIOD);
        self.stats.hints += 1;
        true
    }

    /// A header without a link.
    pub(super) fn stray_header(
        &self,
        tag: u32,
        destination: Party,
        incarnation: Incarnation,
        packet: u64,
    ) -> Header {
        Header {
            flags: self.flags(),
            cluster_tag: tag,
            source: self.party(),
            destination,
            source_incarnation: self.incarnation(),
            destination_incarnation: incarnation,
            packet: crate::types::PacketNumber(packet),
        }
    }

    /// Everything a probe timeout may be bounded by: the heartbeat and the configured maximum.
    pub(super) fn probe_timeout_max(&self) -> Duration {
        if self.local.heartbeat.is_zero() {
            self.config.probe_timeout_max
        } else {
            self.config.probe_timeout_max.min(self.local.heartbeat)
        }
    }

    /// The pace of probes to a silent peer.
    pub(super) fn heartbeat(&self) -> Duration {
        if self.local.heartbeat.is_zero() { self.config.probe_timeout_max } else { self.local.heartbeat }
    }
}

/// The wire's spans are below 2^62; an hour is more than any timeout here.
const SPAN_US_MAX: u64 = 3_600_000_000;
const HINT_PERIOD: Duration = Duration::from_millis(100);
pub(super) const HINTED_MAX: usize = 256;
const STRAY_PERIOD: Duration = Duration::from_millis(10);
pub(super) const BUFFERS_MAX: usize = 256;
/// 2^62 / 2^20 blocks are never used up.
const CALL_ID_BLOCK: u64 = 1 << 20;
