//! What a node tells about itself when asked for its status.

use core::fmt;

use crate::cursor::{CursorError, Reader, Writer};
use crate::membership::Membership;
use crate::types::{ClusterId, Incarnation, Index, NodeId, StoreId, Term};
use crate::wire::body::{read_bool, read_index, read_term};
use crate::wire::client::read_text;

/// A node's account of itself. Later versions append fields; readers ignore what they do not know. `[W-51]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Its advertised address, at most 255 bytes.
    pub address: String,
    /// Its part in the cluster.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// Known on a quorum.
    pub commit: Index,
    /// Given to the machine.
    pub applied: Index,
    /// End of its log.
    pub last: Index,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its cluster; zero while blank.
    pub cluster: ClusterId,
    /// Its data folder.
    pub store: StoreId,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The membership it acts under; none while blank.
    pub membership: Option<Membership>,
    /// Its links to other nodes.
    pub peers: Vec<PeerStatus>,
    /// Datagrams that came from its socket.
    pub received: u64,
    /// Of these, how many passed every check.
    pub accepted: u64,
    /// Packets it declared lost and sent again.
    pub retransmits: u64,
    /// Calls it got more than once.
    pub duplicates: u64,
    /// The dropped ones by reason; a name is at most 255 bytes.
    pub drops: Vec<DropCount>,
    /// The index of the snapshot in force; 0 for none.
    pub snapshot: Index,
    /// Snapshots on their way, to this node and, from a leader's view, to others.
    pub transfers: Vec<TransferStatus>,
    /// Damaged places found in its data since its boot.
    pub damage: u64,
    /// The hole in its log that is being filled, if there is one.
    pub repair: Option<RepairStatus>,
    /// The version of the membership it acts under: the index of its entry, 0 for that of the founding.
    pub version: Index,
    /// What the node knows of its own place in the cluster. `[W-85]`
    pub standing: Standing,
    /// The last entry through which another node is known to have come to the same results or state. `[W-94]`
    pub agreed: Index,
    /// The first difference found from each other node since the boot; none while all replicas agree.
    pub divergences: Vec<Divergence>,
    /// Datagrams it gave to its socket since its boot; 0 from a node of a version that does not tell.
    pub sent: u64,
    /// The bytes of these.
    pub sent_bytes: u64,
}

/// Where two replicas differ. `[W-94]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// From which node.
    pub node: NodeId,
    /// What showed it.
    pub kind: DivergenceKind,
    /// The difference shows behind this entry, and may be older.
    pub after: Index,
    /// It shows at this entry or before.
    pub through: Index,
}

/// What shows that two replicas differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergenceKind {
    /// The results of the same entries.
    Results,
    /// The snapshots of the same index.
    Snapshot,
}

impl DivergenceKind {
    const ALL: [Self; 2] = [Self::Results, Self::Snapshot];

    /// Its name in `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DivergenceKind::Results => {
                write!(
                    f,
                    "results of entries {} to {} differ from {}",
                    self.after.next(),
                    self.through,
                    self.node
                )
            }
            DivergenceKind::Snapshot => write!(f, "snapshot {} differs from {}", self.through, self.node),
        }
    }
}

/// A node's place in its cluster, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is a voter or a learner of the membership it acts under.
    Member,
    /// It joined and is no member yet.
    Joining,
    /// It was a member and is none any more.
    Removed,
    /// Another data folder is the member of its id.
    Replaced,
}

impl Standing {
    const ALL: [Self; 4] = [Self::Member, Self::Joining, Self::Removed, Self::Replaced];

    /// Its name in `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Joining => "joining",
            Self::Removed => "removed",
            Self::Replaced => "replaced",
        }
    }
}

/// A hole in a log. `[W-65]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairStatus {
    /// The first missing entry.
    pub first: Index,
    /// The last one; none when that is not known.
    pub last: Option<Index>,
    /// Entries of it that have come.
    pub fetched: u64,
    /// Who is asked.
    pub from: Option<NodeId>,
}

/// A snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferStatus {
    /// Who gets it.
    pub to: NodeId,
    /// The index it goes through.
    pub index: Index,
    /// Bytes of it that are there.
    pub bytes: u64,
    /// Bytes of the whole.
    pub bytes_total: u64,
    /// True when all of it is there and it is not installed yet.
    pub is_transferred: bool,
}

/// A node's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Not founded, not joined.
    Blank,
    /// It follows.
    Follower,
    /// It asks whether a campaign has a chance.
    PreCandidate,
    /// It campaigns.
    Candidate,
    /// It leads.
    Leader,
    /// It only receives.
    Learner,
}

/// One link to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The other node.
    pub node: NodeId,
    /// Smoothed round-trip time, in µs.
    pub rtt_us: u64,
    /// Packets declared lost on it.
    pub retransmits: u64,
    /// Smoothed loss, in parts per million.
    pub loss_ppm: u32,
}

/// How many datagrams were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCount {
    /// [`super::DropReason::name`], or a later version's reason.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The most rows of peers or drop reasons.
pub const STATUS_ROWS_MAX: usize = 255;

impl NodeRole {
    const ALL: [Self; 6] =
        [Self::Blank, Self::Follower, Self::PreCandidate, Self::Candidate, Self::Leader, Self::Learner];

    /// Its name in `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Learner => "learner",
        }
    }
}

impl NodeStatus {
    /// Appends the fields.
    ///
    /// # Panics
    /// When there are more than [`STATUS_ROWS_MAX`] rows of a kind, or a text is longer than it may be.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.node.as_u16());
        put_text(out, &self.address);
        out.put_u8(self.role as u8);
        for number in [self.term.0, self.commit.0, self.applied.0, self.last.0] {
            out.put_varint(number);
        }
        out.put_u32(self.incarnation.0);
        out.put_bytes(&self.cluster.0);
        out.put_bytes(&self.store.0);
        out.put_u16(self.leader.map_or(0, NodeId::as_u16));
        out.put_u8(u8::from(self.membership.is_some()));
        if let Some(membership) = &self.membership {
            membership.encode(out);
        }
        put_count(out, self.peers.len());
        for peer in &self.peers {
            out.put_u16(peer.node.as_u16());
            out.put_varint(peer.rtt_us);
            out.put_varint(peer.retransmits);
            out.put_u32(peer.loss_ppm);
        }
        for number in [self.received, self.accepted, self.retransmits, self.duplicates] {
            out.put_varint(number);
        }
        put_count(out, self.drops.len());
        for drop in &self.drops {
            put_text(out, &drop.reason);
            out.put_varint(drop.count);
        }
        out.put_varint(self.snapshot.0);
        put_count(out, self.transfers.len());
        for transfer in &self.transfers {
            out.put_u16(transfer.to.as_u16());
            for number in [transfer.index.0, transfer.bytes, transfer.bytes_total] {
                out.put_varint(number);
            }
            out.put_u8(u8::from(transfer.is_transferred));
        }
        out.put_varint(self.damage);
        out.put_u8(u8::from(self.repair.is_some()));
        if let Some(repair) = &self.repair {
            out.put_varint(repair.first.0);
            out.put_varint(repair.last.map_or(0, |last| last.0));
            out.put_varint(repair.fetched);
            out.put_u16(repair.from.map_or(0, NodeId::as_u16));
        }
        out.put_varint(self.version.0);
        out.put_u8(self.standing as u8);
        out.put_varint(self.agreed.0);
        put_count(out, self.divergences.len());
        for row in &self.divergences {
            out.put_u16(row.node.as_u16());
            out.put_u8(row.kind as u8);
            out.put_varint(row.after.0);
            out.put_varint(row.through.0);
        }
        out.put_varint(self.sent);
        out.put_varint(self.sent_bytes);
    }

    /// Reads what [`Self::encode`] writes.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        Ok(Self {
            node: read_node(r)?.ok_or(CursorError::Value)?,
            address: read_text(r)?.to_owned(),
            role: *NodeRole::ALL.get(usize::from(r.u8()?)).ok_or(CursorError::Value)?,
            term: read_term(r)?,
            commit: read_index(r)?,
            applied: read_index(r)?,
            last: read_index(r)?,
            incarnation: Incarnation(r.u32()?),
            cluster: ClusterId(r.array()?),
            store: StoreId(r.array()?),
            leader: read_node(r)?,
            membership: if read_bool(r)? { Some(Membership::decode(r)?) } else { None },
            peers: read_rows(r, |r| {
                Ok(PeerStatus {
                    node: read_node(r)?.ok_or(CursorError::Value)?,
                    rtt_us: r.varint()?,
                    retransmits: r.varint()?,
                    loss_ppm: r.u32()?,
                })
            })?,
            received: r.varint()?,
            accepted: r.varint()?,
            retransmits: r.varint()?,
            duplicates: r.varint()?,
            drops: read_rows(r, |r| Ok(DropCount { reason: read_text(r)?.to_owned(), count: r.varint()? }))?,
            snapshot: read_index(r)?,
            transfers: read_rows(r, |r| {
                Ok(TransferStatus {
                    to: read_node(r)?.ok_or(CursorError::Value)?,
                    index: read_index(r)?,
                    bytes: r.varint()?,
                    bytes_total: r.varint()?,
                    is_transferred: read_bool(r)?,
                })
            })?,
            damage: r.varint()?,
            repair: if read_bool(r)? { Some(read_repair(r)?) } else { None },
            // Appended later: earlier nodes end here.
            version: if r.is_empty() { Index(0) } else { read_index(r)? },
            standing: if r.is_empty() { Standing::Member } else { read_standing(r)? },
            agreed: if r.is_empty() { Index(0) } else { read_index(r)? },
            divergences: if r.is_empty() { Vec::new() } else { read_rows(r, read_divergence)? },
            sent: if r.is_empty() { 0 } else { r.varint()? },
            sent_bytes: if r.is_empty() { 0 } else { r.varint()? },
        })
    }
}

fn read_standing(r: &mut Reader<'_>) -> Result<Standing, CursorError> {
    Standing::ALL.get(usize::from(r.u8()?)).copied().ok_or(CursorError::Value)
}

fn read_repair(r: &mut Reader<'_>) -> Result<RepairStatus, CursorError> {
    let (first, last) = (read_index(r)?, read_index(r)?);
    let last = (last != Index(0)).then_some(last);
    Ok(RepairStatus { first, last, fetched: r.varint()?, from: read_node(r)? })
}

/// `[W-94]`
fn read_divergence(r: &mut Reader<'_>) -> Result<Divergence, CursorError> {
    let node = read_node(r)?.ok_or(CursorError::Value)?;
    let kind = *DivergenceKind::ALL.get(usize::from(r.u8()?)).ok_or(CursorError::Value)?;
    let (after, through) = (read_index(r)?, read_index(r)?);
    if after < through { Ok(Divergence { node, kind, after, through }) } else { Err(CursorError::Value) }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    assert!(count <= STATUS_ROWS_MAX, "{count} rows are more than {STATUS_ROWS_MAX}");
    out.put_varint(count as u64);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() <= 255, "a text of {} bytes", text.len());
    out.put_prefixed(text.as_bytes());
}

/// A node id, or `None` for 0.
pub(super) fn read_node(r: &mut Reader<'_>) -> Result<Option<NodeId>, CursorError> {
    match r.u16()? {
        0 => Ok(None),
        number => NodeId::new(number).map(Some).ok_or(CursorError::Value),
    }
}

fn read_rows<T>(
    r: &mut Reader<'_>,
    read_row: impl Fn(&mut Reader<'_>) -> Result<T, CursorError>,
) -> Result<Vec<T>, CursorError> {
    let count = r.varint()?;
    if count > STATUS_ROWS_MAX as u64 {
        return Err(CursorError::Value);
    }
    (0..count).map(|_| read_row(r)).collect()
}
