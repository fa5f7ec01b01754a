//! The hard-state record: all that must change in one step, in two files.
//!
//! It holds term and vote, the boot counter, whose folder this is, the stores seen, and the names of the live log
//! segments. It is always written whole: to the stalest of the two files first, then, when that is synced, to the
//! other one. A reader takes the valid copy with the highest sequence; none valid means refusal (E1, E3, I4).

use std::collections::BTreeMap;

use byteorder::{BigEndian, ByteOrder as _};

use crate::cursor::{CursorError, Reader, Writer};
use crate::founding::FoundingRecord;
use crate::snapshot::SnapshotMeta;
use crate::store::block::BLOCK_BYTES;
use crate::store::segment::{Generation, SegmentRef};
use crate::types::{BootNonce, ClusterId, HardState, Identity, Incarnation, Index, NodeId, StoreId, Term};

/// The names of the two files.
pub(super) const FILES: [&str; 2] = ["hard-state-a", "hard-state-b"];

/// The length both files have from the start, so that no later record needs room: 70 KiB of founding record, 36
/// KiB of stores seen and 144 KiB of segments fit.
pub(super) const FILE_BYTES: usize = 256 * 1024;

/// The format version of the folder as a whole.
pub const FORMAT_VERSION: u16 = 1;

/// The most stores whose boots are remembered; one more is refused.
pub const PEERS_MAX: usize = 1024;

/// The most log segments that may be live; at the bound the log reports "full".
pub const SEGMENTS_MAX: usize = 4096;

/// From here on the log asks for a snapshot, which lets it drop segments; until one is in force it goes on.
pub const SEGMENTS_CROWDED: usize = SEGMENTS_MAX / 4 * 3;

/// The kernel's name for the time since the machine was started; zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelBoot(pub [u8; 16]);

/// How the last run ended, or whether it still goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By `shutdown`: everything was synced.
    Clean,
    /// In any other way, or it has not stopped.
    Unclean,
}

/// Whether the last run synced its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncing {
    /// Each write, before it was reported.
    Always,
    /// None but those of boot and shutdown: a crash of the machine may lose or tear anything.
    Never(KernelBoot),
}

/// The highest boot of another store that this one has adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootSeen {
    /// Its boot counter.
    pub incarnation: Incarnation,
    /// The number it drew at that boot.
    pub nonce: BootNonce,
}

/// The record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the records of this folder; the higher one of two is the newer.
    pub sequence: u64,
    /// Whose folder it is.
    pub store: StoreId,
    /// Of which cluster; zero before founding or joining.
    pub cluster: ClusterId,
    /// The boot counter of the last boot; durable before that boot's socket opened.
    pub incarnation: Incarnation,
    /// Term and vote.
    pub hard_state: HardState,
    /// How the last run ended.
    pub stop: Stop,
    /// Whether it synced.
    pub syncing: Syncing,
    /// What the cluster was founded as, if this store took part.
    pub founding: Option<FoundingRecord>,
    /// The highest boot seen of other stores.
    pub peers: BTreeMap<StoreId, BootSeen>,
    /// The snapshot in force; the log goes on after it.
    pub snapshot: Option<SnapshotMeta>,
    /// The live segments, oldest first.
    pub segments: Vec<SegmentRef>,
}

const MAGIC: [u8; 4] = *b"rgh\x00";
/// Magic, version, reserved, body length, CRC over all other bytes.
const PREFIX_BYTES: usize = 16;

/// Why a copy cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// The bytes are not a record: torn, rotten, or never written.
    Bytes,
    /// They are one, of a version not known here.
    Newer(u16),
}

impl Record {
    /// True when this store was founded by itself and never saw another one: nobody else has its data.
    pub(super) fn is_alone(&self) -> bool {
        let founders = self.founding.as_ref().map(|founding| founding.membership.iter().count());
        founders == Some(1) && self.peers.is_empty()
    }

    /// Writes the record to the front of `out`, replacing its content.
    ///
    /// # Panics
    /// When it is longer than its file: every part has a bound, and their sum fits.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.resize(PREFIX_BYTES, 0);
        self.encode_body(out);
        assert!(out.len() <= FILE_BYTES, "a record of {} bytes exceeds {FILE_BYTES}", out.len());
        let body_bytes = (out.len() - PREFIX_BYTES) as u32;
        out[..4].copy_from_slice(&MAGIC);
        BigEndian::write_u16(&mut out[4..6], FORMAT_VERSION);
        BigEndian::write_u32(&mut out[8..12], body_bytes);
        let crc = checksum(out);
        BigEndian::write_u32(&mut out[12..16], crc);
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.put_u64(self.sequence);
        out.put_bytes(&self.store.0);
        out.put_bytes(&self.cluster.0);
        out.put_u32(self.incarnation.0);
        out.put_u64(self.hard_state.term.0);
        out.put_u16(self.hard_state.vote.map_or(0, |vote| vote.node.as_u16()));
        out.put_bytes(&self.hard_state.vote.map_or(StoreId::ZERO, |vote| vote.store).0);
        out.put_u8(match self.stop {
            Stop::Clean => 0,
            Stop::Unclean => 1,
        });
        match self.syncing {
            Syncing::Always => out.put_u8(0),
            Syncing::Never(boot) => {
                out.put_u8(1);
                out.put_bytes(&boot.0);
            }
        }
        match &self.founding {
            None => out.put_u8(0),
            Some(founding) => {
                out.put_u8(1);
                founding.encode(out);
            }
        }
        out.put_varint(self.peers.len() as u64);
        for (store, seen) in &self.peers {
            out.put_bytes(&store.0);
            out.put_u32(seen.incarnation.0);
            out.put_bytes(&seen.nonce.0);
        }
        match &self.snapshot {
            None => out.put_u8(0),
            Some(meta) => {
                out.put_u8(1);
                meta.encode(out);
            }
        }
        out.put_varint(self.segments.len() as u64);
        for segment in &self.segments {
            out.put_u64(segment.generation.0);
            out.put_u64(segment.base.0);
            out.put_u64(segment.first_batch);
            out.put_u64(segment.durable_bytes);
            out.put_varint(segment.file_bytes / BLOCK_BYTES as u64);
        }
    }

    /// Reads a copy from the bytes of its file; whatever follows the record is ignored.
    pub(super) fn decode(file: &[u8]) -> Result<Self, Invalid> {
        let prefix = file.get(..PREFIX_BYTES).ok_or(Invalid::Bytes)?;
        let body_bytes = BigEndian::read_u32(&prefix[8..12]) as usize;
        let record = file.get(..PREFIX_BYTES + body_bytes).ok_or(Invalid::Bytes)?;
        if prefix[..4] != MAGIC || BigEndian::read_u32(&prefix[12..16]) != checksum(record) {
            return Err(Invalid::Bytes);
        }
        match BigEndian::read_u16(&prefix[4..6]) {
            FORMAT_VERSION => Self::decode_body(&record[PREFIX_BYTES..]).map_err(|_| Invalid::Bytes),
            version => Err(Invalid::Newer(version)),
        }
    }

    fn decode_body(body: &[u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let record = Self {
            sequence: r.u64()?,
            store: StoreId(r.array()?),
            cluster: ClusterId(r.array()?),
            incarnation: Incarnation(r.u32()?),
            hard_state: HardState { term: Term(r.u64()?), vote: decode_vote(r)? },
            stop: match r.u8()? {
                0 => Stop::Clean,
                1 => Stop::Unclean,
                _ => return Err(CursorError::Value),
            },
            syncing: match r.u8()? {
                0 => Syncing::Always,
                1 => Syncing::Never(KernelBoot(r.array()?)),
                _ => return Err(CursorError::Value),
            },
            founding: match r.u8()? {
                0 => None,
                1 => Some(FoundingRecord::decode(r)?),
                _ => return Err(CursorError::Value),
            },
            peers: decode_peers(r)?,
            snapshot: match r.u8()? {
                0 => None,
                1 => Some(SnapshotMeta::decode(r)?),
                _ => return Err(CursorError::Value),
            },
            segments: decode_segments(r)?,
        };
        reader.finish()?;
        Ok(record)
    }
}

fn decode_vote(r: &mut Reader<'_>) -> Result<Option<Identity>, CursorError> {
    let node = NodeId::new(r.u16()?);
    let store = StoreId(r.array()?);
    Ok(node.map(|node| Identity { node, store }))
}

fn decode_peers(r: &mut Reader<'_>) -> Result<BTreeMap<StoreId, BootSeen>, CursorError> {
    let count = r.varint()?;
    if count > PEERS_MAX as u64 {
        return Err(CursorError::Value);
    }
    let mut peers = BTreeMap::new();
    for _ in 0..count {
        let store = StoreId(r.array()?);
        let seen = BootSeen { incarnation: Incarnation(r.u32()?), nonce: BootNonce(r.array()?) };
        peers.insert(store, seen);
    }
    Ok(peers)
}

fn decode_segments(r: &mut Reader<'_>) -> Result<Vec<SegmentRef>, CursorError> {
    let count = r.varint()?;
    if count > SEGMENTS_MAX as u64 {
        return Err(CursorError::Value);
    }
    let mut segments: Vec<SegmentRef> = Vec::new();
    for _ in 0..count {
        let segment = SegmentRef {
            generation: Generation(r.u64()?),
            base: Index(r.u64()?),
            first_batch: r.u64()?,
            durable_bytes: r.u64()?,
            file_bytes: r.varint()?.checked_mul(BLOCK_BYTES as u64).ok_or(CursorError::Value)?,
        };
        if segments
            .last()
            .is_some_and(|last| last.generation >= segment.generation || last.base >= segment.base)
        {
            return Err(CursorError::Value);
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..12]);
    hasher.update(&record[PREFIX_BYTES..]);
    hasher.finalize()
}
