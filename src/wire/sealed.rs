//! Where the seal stands in a datagram: which bytes it covers, and the frames that open it. The cryptography is the
//! room `seal`'s; here are places only.

use core::fmt;

use crate::types::ClusterId;
use crate::wire::datagram::{CRC_AT, FLAGS_AT, Flags, HEADER_BYTES, TAG_AT, u32_at};

/// Half of the handshake of the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealOffer {
    /// The id under which its sender wants to receive. `[W-72]`
    pub session: u32,
    /// The message of NNpsk0.
    pub message: [u8; 48],
}

/// Why a greeting was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealRefusal {
    /// It was plain, and only sealed ones are taken.
    SealRequired,
    /// Its key is not known here, or does not fit.
    KeyUnknown,
    /// It was sealed, and no seal is taken here.
    NoSeal,
    /// A reason of a later version.
    Other(u8),
}

impl SealRefusal {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::SealRequired => 1,
            Self::KeyUnknown => 2,
            Self::NoSeal => 3,
            Self::Other(code) => code,
        }
    }

    pub(super) const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::SealRequired,
            2 => Self::KeyUnknown,
            3 => Self::NoSeal,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for SealRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SealRequired => f.write_str("seal required"),
            Self::KeyUnknown => f.write_str("key unknown"),
            Self::NoSeal => f.write_str("no seal"),
            Self::Other(code) => write!(f, "refusal {code}"),
        }
    }
}

/// Sets the flag SEALED, further flags, and the id of key or session in the checksum's place.
///
/// # Panics
/// When there is no whole header.
pub fn mark_sealed(datagram: &mut [u8], flags: Flags, id: u32) {
    assert!(datagram.len() >= HEADER_BYTES, "a datagram of {} bytes has no header", datagram.len());
    datagram[FLAGS_AT] |= flags.with(Flags::SEALED).0;
    datagram[CRC_AT..TAG_AT].copy_from_slice(&id.to_be_bytes());
}

/// What stands in the checksum's place.
///
/// # Panics
/// When there is no whole header.
#[must_use]
pub fn seal_id(datagram: &[u8]) -> u32 {
    u32_at(datagram, CRC_AT)
}

/// The bytes of the cluster id that the datagram is under: zeros where its tag is 0. `[W-4]` `[W-73]`
///
/// # Panics
/// When there is no whole header.
#[must_use]
pub fn cluster_in_force(datagram: &[u8], cluster: ClusterId) -> ClusterId {
    if u32_at(datagram, TAG_AT) == 0 { ClusterId::ZERO } else { cluster }
}

/// What a sealed datagram's tag covers besides the frames: cluster id and header. `[W-73]`
///
/// # Panics
/// When there is no whole header.
#[must_use]
pub fn associated(datagram: &[u8], cluster: ClusterId) -> [u8; 16 + HEADER_BYTES] {
    let mut out = [0; 16 + HEADER_BYTES];
    out[..16].copy_from_slice(&cluster_in_force(datagram, cluster).0);
    out[16..].copy_from_slice(&datagram[..HEADER_BYTES]);
    out
}
