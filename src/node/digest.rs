//! The divergence alarm: do all replicas come to the same results? (design: replicas compare state hashes)
//!
//! A machine that reads a clock, a random number or a node's settings makes replicas differ, and nobody notices until a
//! failover shows another value. So every node digests what its entries come to and tells the others about once a
//! second; who finds another digest for the same entries than its own raises an alarm, in its log and in `status`, and
//! goes on: which of the two is right it cannot know. With three nodes or more the one that differs from all others is
//! the one to be replaced.
//!
//! # What is digested
//! - *Results*, in windows of [`SPANS`] entries that begin and end at fixed indexes, so that two nodes compare the
//!   same entries wherever they started: over each entry's outcome as a client is told it. A window of one span is the
//!   digest of the windows of the span before it, so every entry is told of, however many there are in a second. A
//!   node that started inside a window has no digest of it.
//! - *Snapshots*: every node takes them at the same indexes and in one encoding, so their own digests show any
//!   difference in the state, also one that no result has shown yet.
//!
//! The receiver may be ahead or behind: it keeps the newest windows of each span, and what each other node told last.

use std::collections::{BTreeMap, VecDeque};

use crc32fast::Hasher;
use slog::{debug, error};

use super::links::Standing;
use super::{Node, NodeEvent, Output};
use crate::machine::Machine;
use crate::rpc::LinkId;
use crate::session::Outcome;
use crate::snapshot::{FORMAT_VERSION, SnapshotMeta};
use crate::time::Instant;
use crate::types::{GroupId, Identity, Index};
use crate::wire::digest::{LAYOUT, StateDigests, WindowDigest, decode_digests, encode_digests};
use crate::wire::status::{Divergence, DivergenceKind};

/// Entries in the windows; each is a multiple of the one before.
pub(super) const SPANS: [u64; 3] = [64, 64 * 64, 64 * 64 * 64];

/// Windows of each span, and snapshots, that are kept to be compared with.
const KEPT: usize = 64;

/// Windows of each span that are told: two tellings may be lost without a gap in a quiet cluster.
const TOLD: usize = 4;

/// So often the newest is told: notices may be lost.
const TELLINGS: u8 = 3;

/// What this node has digested and heard.
#[derive(Debug, Default)]
pub(super) struct Digests {
    levels: [Level; SPANS.len()],
    snapshots: VecDeque<(Index, u64)>,
    /// What each member told last.
    heard: BTreeMap<Identity, StateDigests>,
    /// The first difference from each.
    diverged: BTreeMap<Identity, Divergence>,
    /// The last entry through which another node is known to have come to the same.
    agreed: Index,
    /// Differences found since the owner was told.
    found: Vec<(Identity, Divergence)>,
    tell_at: Instant,
    /// How often what is new is still to be told.
    tellings_left: u8,
}

/// The windows of one span.
#[derive(Debug, Default)]
struct Level {
    /// The one under way; none when this node started inside it.
    open: Option<Hasher>,
    done: VecDeque<(Index, u32)>,
}

impl Digests {
    /// Takes in what an entry came to. Entries without an outcome count as well: they fill windows.
    pub(super) fn count(&mut self, index: Index, outcome: Option<&Outcome>) {
        let level = &mut self.levels[0];
        if (index.0 - 1).is_multiple_of(SPANS[0]) {
            level.open = Some(Hasher::new());
        }
        if let (Some(hasher), Some(outcome)) = (&mut level.open, outcome) {
            hasher.update(&index.0.to_be_bytes());
            put_outcome(hasher, outcome);
        }
        self.close(0, index);
    }

    /// Ends the window that ends with this entry, if one does.
    fn close(&mut self, at: usize, index: Index) {
        if !index.0.is_multiple_of(SPANS[at]) {
            return;
        }
        let Some(hasher) = self.levels[at].open.take() else { return };
        let digest = hasher.finalize();
        keep(&mut self.levels[at].done, (index, digest));
        self.tellings_left = TELLINGS;
        if let Some(wider) = self.levels.get_mut(at + 1) {
            if (index.0 - SPANS[at]).is_multiple_of(SPANS[at + 1]) {
                wider.open = Some(Hasher::new());
            }
            if let Some(open) = &mut wider.open {
                open.update(&digest.to_be_bytes());
            }
            self.close(at + 1, index);
        }
        self.compare();
    }

    /// The state comes from elsewhere: what is open now has a hole.
    pub(super) fn restart(&mut self) {
        self.levels.iter_mut().for_each(|level| level.open = None);
    }

    /// A snapshot of this node's own state was written.
    pub(super) fn add_snapshot(&mut self, meta: &SnapshotMeta) {
        keep(&mut self.snapshots, (meta.id.index, meta.digest));
        self.tellings_left = TELLINGS;
        self.compare();
    }

    /// What is told to others.
    fn newest(&self) -> StateDigests {
        let windows = self.levels.iter().zip(SPANS).flat_map(|(level, span)| {
            let newest = level.done.iter().rev().take(TOLD);
            newest.map(move |&(last, digest)| WindowDigest { span, last, digest })
        });
        let snapshot =
            self.snapshots.back().map(|(index, digest)| (u64::from(FORMAT_VERSION), *index, *digest));
        StateDigests { layout: LAYOUT, windows: windows.collect(), snapshot }
    }

    /// Looks whether anything that was told differs from what came out here.
    fn compare(&mut self) {
        let Self { levels, snapshots, heard, diverged, agreed, found, .. } = self;
        for (who, told) in heard {
            let windows = told.windows.iter().filter_map(|window| {
                let place = SPANS.iter().position(|span| *span == window.span)?;
                let own = own(&levels[place].done, window.last)?;
                let after = Index(window.last.0 - window.span);
                Some((DivergenceKind::Results, after, window.last, own == window.digest))
            });
            let snapshot = told.snapshot.and_then(|(_, index, digest)| {
                let own = own(snapshots, index)?;
                Some((DivergenceKind::Snapshot, Index(0), index, own == digest))
            });
            let mut first: Option<Divergence> = None;
            for (kind, after, through, is_equal) in windows.chain(snapshot) {
                if is_equal {
                    *agreed = through.max(*agreed);
                } else if first.is_none_or(|first| through < first.through) {
                    first = Some(Divergence { node: who.node, kind, after, through });
                }
            }
            if let Some(divergence) = first.filter(|_| !diverged.contains_key(who)) {
                diverged.insert(*who, divergence);
                found.push((*who, divergence));
            }
        }
    }

    /// The first difference from each other node, of those that are still members.
    pub(super) fn status(&self) -> (Index, Vec<Divergence>) {
        (self.agreed, self.diverged.values().copied().collect())
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

fn own<T: Copy>(list: &VecDeque<(Index, T)>, index: Index) -> Option<T> {
    let place = list.binary_search_by_key(&index, |(index, _)| *index).ok()?;
    list.get(place).map(|(_, digest)| *digest)
}

/// What a client is told of it, and how many sessions went.
fn put_outcome(hasher: &mut Hasher, outcome: &Outcome) {
    let mut put = |kind: u8, numbers: &[u64]| {
        hasher.update(&[kind]);
        numbers.iter().for_each(|number| hasher.update(&number.to_be_bytes()));
    };
    match outcome {
        Outcome::LimitsSet(limits) => put(0, &[limits.sessions_max, limits.snapshot_bytes]),
        Outcome::Opened { session } => put(1, &[session.0.0]),
        Outcome::Closed => put(2, &[]),
        Outcome::Expired { count } => put(3, &[*count as u64]),
        Outcome::Applied { index, term, result, .. } => {
            put(4, &[index.0, term.0, result.len() as u64]);
            hasher.update(result);
        }
        Outcome::Finished => put(5, &[]),
        Outcome::WindowFull => put(6, &[]),
        Outcome::SessionExpired => put(7, &[]),
        Outcome::Malformed(_) => put(8, &[]),
    }
}

impl<M: Machine> Node<M> {
    /// Tells the other members what is new, and the owner what differs.
    pub(super) fn advance_digests(&mut self, now: Instant) {
        for (peer, divergence) in core::mem::take(&mut self.digests.found) {
            error!(self.log, "replicas differ: the same entries came to something else on another node; compare the \
                nodes' `status`, and replace the one that differs from the others";
                "peer" => %peer, "what" => %divergence);
            self.outputs.push_back(Output::Event(NodeEvent::Diverged { peer, divergence }));
        }
        let Some(interval) = self.config.digest_interval else { return };
        if self.digests.tellings_left == 0 || now < self.digests.tell_at {
            return;
        }
        self.digests.tell_at = now + interval;
        self.digests.tellings_left -= 1;
        let mut body = Vec::new();
        encode_digests(GroupId(0), &self.digests.newest(), &mut body);
        for peer in self.peers.values() {
            if matches!(peer.standing, Standing::Adopted { .. })
                && let Err(error) = self.rpc.notice(now, peer.link, body.clone())
            {
                debug!(self.log, "state digests not sent"; "reason" => %error);
            }
        }
    }

    /// When the next telling is due.
    pub(super) fn digests_due(&self) -> Option<Instant> {
        let is_due = self.config.digest_interval.is_some() && self.digests.tellings_left > 0;
        is_due.then_some(self.digests.tell_at)
    }

    /// Another node told what it came to. Only members of one layout are compared with. `[W-93]`
    pub(super) fn on_digests(&mut self, link: LinkId, body: &[u8]) {
        let Some(Standing::Adopted { identity }) = self.standing_of(link) else { return };
        let identity = *identity;
        let Ok((GroupId(0), mut told)) = decode_digests(body) else { return };
        if told.layout != LAYOUT || !self.raft.membership().contains(identity) {
            return;
        }
        told.snapshot.take_if(|(format, ..)| *format != u64::from(FORMAT_VERSION));
        let membership = self.raft.membership();
        self.digests.heard.retain(|who, _| membership.contains(*who));
        self.digests.diverged.retain(|who, _| membership.contains(*who));
        self.digests.heard.insert(identity, told);
        self.digests.compare();
    }
}
