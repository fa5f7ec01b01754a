//! Why a datagram is dropped: one reason each, one counter each.

use core::fmt;

/// Why a datagram was dropped, in the order of the checks: a datagram with several faults is counted under the
/// first. This room raises `Short`, `Magic`, `Version`, `Crc`, `MalformedFrame` and `UnknownCriticalFrame`, and
/// `Destination` and `Replay` for numbers that name nobody; the rest needs state and is raised by `rpc`. `[W-2]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Fewer bytes than a header.
    Short,
    /// It does not begin with the magic bytes.
    Magic,
    /// A version this node does not speak.
    Version,
    /// Another cluster's tag, or none where one is needed.
    ClusterTag,
    /// It is for another node, or names node 0.
    Destination,
    /// The checksum is wrong, or the datagram is sealed and this node has no key for it.
    Crc,
    /// It was sent to an earlier incarnation of this node.
    StaleDestinationIncarnation,
    /// It was sent by an incarnation that is not the sender's current one.
    StaleSourceIncarnation,
    /// Its packet number was seen before, is too old to tell, or is none at all.
    Replay,
    /// A frame does not hold what its type demands.
    MalformedFrame,
    /// A frame type that is unknown and must not be ignored.
    UnknownCriticalFrame,
    /// It asks for more than a limit allows.
    OverLimit,
}

impl DropReason {
    /// Every reason, in the order of the checks.
    pub const ALL: [Self; 12] = [
        Self::Short,
        Self::Magic,
        Self::Version,
        Self::ClusterTag,
        Self::Destination,
        Self::Crc,
        Self::StaleDestinationIncarnation,
        Self::StaleSourceIncarnation,
        Self::Replay,
        Self::MalformedFrame,
        Self::UnknownCriticalFrame,
        Self::OverLimit,
    ];

    /// Its name in metrics, `status` and test vectors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::ClusterTag => "cluster_tag",
            Self::Destination => "destination",
            Self::Crc => "crc_or_seal",
            Self::StaleDestinationIncarnation => "stale_destination_incarnation",
            Self::StaleSourceIncarnation => "stale_source_incarnation",
            Self::Replay => "replay",
            Self::MalformedFrame => "malformed_frame",
            Self::UnknownCriticalFrame => "unknown_critical_frame",
            Self::OverLimit => "over_limit",
        }
    }

    /// Its place in [`Self::ALL`], for tables of counters.
    #[must_use]
    pub const fn position(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for DropReason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_at_its_position() {
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.position(), place);
        }
    }
}
