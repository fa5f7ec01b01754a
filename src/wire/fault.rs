//! A body for experiments: what a node's links shall do to datagrams, for a while.

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::NodeId;
use crate::wire::body::read_bool;

/// What somebody wants of a node's links. `[W-110]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultRequest {
    /// Whatever was set ends now.
    Clear,
    /// These links are like this, until the time is up or something else is set for them.
    Set {
        /// Which.
        links: FaultLinks,
        /// For how long, in milliseconds, 1 to [`FAULT_MS_MAX`].
        lasting_ms: u64,
        /// Like what.
        faults: LinkFaults,
    },
}

/// Faults end by themselves after a day at the latest.
pub const FAULT_MS_MAX: u64 = 86_400_000;

/// Shares on the wire are parts of this.
pub const WHOLE_PPM: u64 = 1_000_000;

/// Which of a node's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultLinks {
    /// Those to other nodes, for which nothing else is said.
    Nodes,
    /// Those to clients and from them.
    Clients,
    /// The one to this node.
    Node(NodeId),
}

/// What links do; all zeros is nothing. Shares are in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFaults {
    /// Everything is lost.
    pub is_blocked: bool,
    /// Longer datagrams are lost; 0 for none.
    pub mtu: u64,
    /// Lost independently.
    pub loss_ppm: u64,
    /// Loss in bursts: from good to bad, from bad to good, loss in the bad state, loss in the good one.
    pub burst_ppm: [u64; 4],
    /// How long a datagram takes, in µs.
    pub delay_us: u64,
    /// How far that varies.
    pub jitter_us: u64,
    /// Sent twice.
    pub duplicate_ppm: u64,
    /// Held back.
    pub reorder_ppm: u64,
    /// For so long.
    pub reorder_delay_us: u64,
    /// Damaged.
    pub corrupt_ppm: u64,
}

impl FaultRequest {
    /// Appends the fields.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self::Set { links, lasting_ms, faults } = self else { return out.put_u8(0) };
        out.put_u8(1);
        out.put_varint(*lasting_ms);
        match links {
            FaultLinks::Nodes => out.put_u8(0),
            FaultLinks::Clients => out.put_u8(1),
            FaultLinks::Node(node) => {
                out.put_u8(2);
                out.put_u16(node.as_u16());
            }
        }
        out.put_u8(u8::from(faults.is_blocked));
        let [to_bad, to_good, bad, good] = faults.burst_ppm;
        for number in [
            faults.mtu,
            faults.loss_ppm,
            to_bad,
            to_good,
            bad,
            good,
            faults.delay_us,
            faults.jitter_us,
            faults.duplicate_ppm,
            faults.reorder_ppm,
            faults.reorder_delay_us,
            faults.corrupt_ppm,
        ] {
            out.put_varint(number);
        }
    }

    /// Reads what [`Self::encode`] writes.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        if !read_bool(r)? {
            return Ok(Self::Clear);
        }
        let lasting_ms = r.varint()?;
        if !(1..=FAULT_MS_MAX).contains(&lasting_ms) {
            return Err(CursorError::Value);
        }
        let links = match r.u8()? {
            0 => FaultLinks::Nodes,
            1 => FaultLinks::Clients,
            2 => FaultLinks::Node(NodeId::new(r.u16()?).ok_or(CursorError::Value)?),
            _ => return Err(CursorError::Value),
        };
        let faults = LinkFaults {
            is_blocked: read_bool(r)?,
            mtu: r.varint()?,
            loss_ppm: read_ppm(r)?,
            burst_ppm: [read_ppm(r)?, read_ppm(r)?, read_ppm(r)?, read_ppm(r)?],
            delay_us: read_us(r)?,
            jitter_us: read_us(r)?,
            duplicate_ppm: read_ppm(r)?,
            reorder_ppm: read_ppm(r)?,
            reorder_delay_us: read_us(r)?,
            corrupt_ppm: read_ppm(r)?,
        };
        Ok(Self::Set { links, lasting_ms, faults })
    }
}

fn read_ppm(r: &mut Reader<'_>) -> Result<u64, CursorError> {
    Some(r.varint()?).filter(|ppm| *ppm <= WHOLE_PPM).ok_or(CursorError::Value)
}

/// A delay longer than faults last is none.
fn read_us(r: &mut Reader<'_>) -> Result<u64, CursorError> {
    Some(r.varint()?).filter(|us| *us <= FAULT_MS_MAX * 1000).ok_or(CursorError::Value)
}
