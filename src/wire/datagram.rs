//! The datagram: a 32-byte header under a CRC-32, then frames.
//!
//! Reading is cut in steps, so that `rpc` can put its own checks in between, in the order of [`DropReason`]:
//! [`parse_header`], then tag and destination; [`verify_crc`], then incarnations and replay window; [`frames`].
//! [`decode`] is all three in a row for those who keep no state.

use core::fmt;

use crate::cursor::{Reader, VARINT_MAX, Writer};
use crate::mutant::{self, Mutant};
use crate::types::{ClusterId, Incarnation, NodeId, PacketNumber};
use crate::wire::error::DropReason;
use crate::wire::walk::Frames;

/// The bytes of a header.
pub const HEADER_BYTES: usize = 32;

/// The first two bytes of every datagram: no UTF-8 text, DTLS record or STUN message starts so.
pub const MAGIC: [u8; 2] = [0xa7, 0x52];

/// The one version spoken so far.
pub const VERSION: u8 = 1;

/// The longest datagram: what fits the length that IPv4 and UDP leave. How much of it a path or peer takes is for
/// `rpc` to know. `[W-11]`
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Bits that tell how to treat a datagram. Unknown ones are kept and ignored. `[W-6]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Under a key, whose id stands in the checksum's place. `[W-72]`
    pub const SEALED: Self = Self(0x01);
    /// The receiver must acknowledge it.
    pub const ACK_ELICITING: Self = Self(0x02);
    /// A probe of the path's size: its loss says nothing about congestion.
    pub const PROBE: Self = Self(0x04);
    /// The sender is a client.
    pub const CLIENT: Self = Self(0x08);
    /// The parity of the phase whose key sealed it. `[W-76]`
    pub const KEY_PHASE: Self = Self(0x10);

    /// True when every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One end of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// This node.
    Node(NodeId),
    /// 65,535: as source a client, as destination whoever hears it.
    Any,
}

impl Party {
    /// Its number in a header.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        match self {
            Self::Node(id) => id.as_u16(),
            Self::Any => u16::MAX,
        }
    }

    /// The party of this number; 0 names nobody.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number == u16::MAX {
            return Some(Self::Any);
        }
        match NodeId::new(number) {
            Some(id) => Some(Self::Node(id)),
            None => None,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => fmt::Display::fmt(id, f),
            Self::Any => f.write_str("any"),
        }
    }
}

/// What stands before the frames, without magic, version and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How to treat the datagram.
    pub flags: Flags,
    /// [`ClusterId::tag`] of the cluster whose id the checksum covers; 0 where that is not known yet.
    pub cluster_tag: u32,
    /// Who sent it.
    pub source: Party,
    /// Whom it is for.
    pub destination: Party,
    /// The sender's incarnation; a client has none before it was welcomed.
    pub source_incarnation: Incarnation,
    /// The receiver's incarnation as the sender knows it.
    pub destination_incarnation: Incarnation,
    /// Its serial number; from 1, below 2^62.
    pub packet: PacketNumber,
}

/// A datagram whose every byte was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Its header.
    pub header: Header,
    frames: Frames<'a>,
}

impl<'a> Datagram<'a> {
    /// Its frames in order; unknown ones that may be ignored are left out.
    #[must_use]
    pub fn frames(&self) -> Frames<'a> {
        self.frames.clone()
    }
}

/// Appends a header to an empty vector, its checksum still open; frames are appended after it, then [`finish`]
/// closes it.
///
/// # Panics
/// When `out` holds anything, or the packet number is not one a sender may use.
pub fn begin(out: &mut Vec<u8>, header: &Header) {
    assert!(out.is_empty(), "a datagram begins after {} bytes", out.len());
    assert!(is_sendable(header.packet), "packet number {} is never sent", header.packet);
    out.put_bytes(&MAGIC);
    out.put_u8(VERSION);
    out.put_u8(header.flags.0);
    out.put_u32(0);
    out.put_u32(header.cluster_tag);
    out.put_u16(header.source.as_u16());
    out.put_u16(header.destination.as_u16());
    out.put_u32(header.source_incarnation.0);
    out.put_u32(header.destination_incarnation.0);
    out.put_u64(header.packet.0);
}

/// Sets further flags in a datagram that is not finished yet: whether it elicits an acknowledgement shows only
/// when its frames are in.
///
/// # Panics
/// When there is no whole header.
pub fn add_flags(datagram: &mut [u8], flags: Flags) {
    assert!(datagram.len() >= HEADER_BYTES, "a datagram of {} bytes has no header", datagram.len());
    datagram[FLAGS_AT] |= flags.0;
}

/// Closes a datagram with its checksum, computed with `cluster`, or with no cluster where the tag is 0.
///
/// # Panics
/// When there is no whole header, or the tag in it is neither 0 nor that of `cluster`.
pub fn finish(datagram: &mut [u8], cluster: ClusterId) {
    assert!(datagram.len() >= HEADER_BYTES, "a datagram of {} bytes has no header", datagram.len());
    let tag = u32_at(datagram, TAG_AT);
    assert!(tag == 0 || tag == cluster.tag(), "tag {tag:08x} is not that of cluster {cluster}");
    let crc = checksum(datagram, if tag == 0 { ClusterId::ZERO } else { cluster });
    datagram[CRC_AT..TAG_AT].copy_from_slice(&crc.to_be_bytes());
}

/// Reads the header. Raises `Short`, `Magic`, `Version`, and `Destination` for node id 0 at either end. `[W-2]`
pub fn parse_header(bytes: &[u8]) -> Result<Header, DropReason> {
    // The length test makes every read below succeed.
    let (head, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(DropReason::Short)?;
    if head[..VERSION_AT] != MAGIC {
        return Err(DropReason::Magic);
    }
    if head[VERSION_AT] != VERSION {
        return Err(DropReason::Version);
    }
    read_fields(head).map_err(|_| DropReason::Short)?.ok_or(DropReason::Destination)
}

/// Checks the checksum, of a datagram whose header was parsed, with the cluster whose tag it bears; a tag of 0
/// means no cluster, whatever `cluster` is. Sealed datagrams have none and are refused. Raises `Crc`. `[W-4]`
/// `[W-5]`
pub fn verify_crc(bytes: &[u8], cluster: ClusterId) -> Result<(), DropReason> {
    if bytes.len() < HEADER_BYTES || Flags(bytes[FLAGS_AT]).contains(Flags::SEALED) {
        return Err(DropReason::Crc);
    }
    let cluster = if u32_at(bytes, TAG_AT) == 0 { ClusterId::ZERO } else { cluster };
    let crc = u32_at(bytes, CRC_AT);
    let is_unchecked = mutant::is(Mutant::U8) || (mutant::is(Mutant::U9) && crc == 0);
    if crc == checksum(bytes, cluster) || is_unchecked { Ok(()) } else { Err(DropReason::Crc) }
}

/// Checks every frame of a datagram before handing out the first. Raises `Replay` for a packet number that no
/// sender may use, `MalformedFrame`, and `UnknownCriticalFrame`. `[W-8]`
pub fn frames<'a>(header: &Header, bytes: &'a [u8]) -> Result<Frames<'a>, DropReason> {
    if !is_sendable(header.packet) {
        return Err(DropReason::Replay);
    }
    Frames::check(bytes.get(HEADER_BYTES..).ok_or(DropReason::Short)?)
}

/// Reads a datagram as a member of `cluster` would, without the checks that need state.
pub fn decode(bytes: &[u8], cluster: ClusterId) -> Result<Datagram<'_>, DropReason> {
    let header = parse_header(bytes)?;
    if header.cluster_tag != 0 && header.cluster_tag != cluster.tag() {
        return Err(DropReason::ClusterTag);
    }
    verify_crc(bytes, cluster)?;
    let frames = frames(&header, bytes)?;
    Ok(Datagram { header, frames })
}

/// The checksum that belongs into this datagram: CRC-32 over cluster id, bytes 0–3, bytes 8 to the end, and the
/// length as four bytes. `[W-4]` One changed bit anywhere changes it. `[W-53]`
///
/// # Panics
/// When there is no whole header.
#[must_use]
pub fn checksum(datagram: &[u8], cluster: ClusterId) -> u32 {
    // In one piece: a checksum of many short ones takes several times as long.
    let mut head = [0; 16 + CRC_AT];
    head[..16].copy_from_slice(&cluster.0);
    head[16..].copy_from_slice(&datagram[..CRC_AT]);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(&datagram[TAG_AT..]);
    let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
    hasher.update(&length.to_be_bytes());
    hasher.finalize()
}

const VERSION_AT: usize = 2;
pub(super) const FLAGS_AT: usize = 3;
pub(super) const CRC_AT: usize = 4;
pub(super) const TAG_AT: usize = 8;

fn read_fields(head: &[u8; HEADER_BYTES]) -> Result<Option<Header>, crate::cursor::CursorError> {
    let mut reader = Reader::new(&head[FLAGS_AT..]);
    let flags = Flags(reader.u8()?);
    reader.u32()?;
    let cluster_tag = reader.u32()?;
    let ends = (Party::new(reader.u16()?), Party::new(reader.u16()?));
    let source_incarnation = Incarnation(reader.u32()?);
    let destination_incarnation = Incarnation(reader.u32()?);
    let packet = PacketNumber(reader.u64()?);
    let (Some(source), Some(destination)) = ends else {
        return Ok(None);
    };
    Ok(Some(Header {
        flags,
        cluster_tag,
        source,
        destination,
        source_incarnation,
        destination_incarnation,
        packet,
    }))
}

pub(super) fn u32_at(datagram: &[u8], at: usize) -> u32 {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| datagram[at + i]);
    u32::from_be_bytes([a, b, c, d])
}

/// Acknowledgements carry packet numbers as varints, so larger ones could not be acknowledged. `[W-3]`
const fn is_sendable(packet: PacketNumber) -> bool {
    packet.0 > 0 && packet.0 <= VARINT_MAX
}
