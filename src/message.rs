//! What nodes say to each other about Raft, decoded.
//!
//! Requests travel as calls of class `again`; each has one reply. Heartbeats and their answers are datagrams of
//! their own that nobody repeats. `wire::peer` gives all of them bytes.
//!
//! Every message names its sender's term. Replies repeat what makes a late or doubled copy harmless: the campaign
//! a vote was asked for, the attempt and prev index an append was refused at, the round a probe belonged to.

use core::fmt;

use crate::entry::Payload;
use crate::snapshot::SnapshotMeta;
use crate::types::{Incarnation, Index, Round, Term};

/// One message of the consensus protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Would you vote for me? Changes nothing at the receiver (thesis §9.6).
    PreVote(VoteRequest),
    /// The answer to it.
    PreVoteReply(VoteReply),
    /// Vote for me (Raft paper §5.2).
    Vote(VoteRequest),
    /// The answer to it.
    VoteReply(VoteReply),
    /// Entries to add (Raft paper §5.3).
    Append(Append),
    /// The answer to it, when what it acknowledges is durable.
    AppendReply(AppendReply),
    /// I lead; unreliable.
    Heartbeat(Heartbeat),
    /// I heard you; unreliable.
    HeartbeatReply(HeartbeatReply),
    /// Confirm that I still lead, for a read (thesis §6.4).
    ReadProbe(ReadProbe),
    /// The answer to it.
    ReadProbeReply(ReadProbe),
    /// Campaign now, without pre-vote (thesis §3.10).
    Transfer(Transfer),
    /// The answer to it.
    TransferReply(TransferReply),
    /// What you need is not in my log any more: here is a snapshot (Raft paper §7).
    SnapshotOffer(SnapshotOffer),
    /// The answer to it: how far the receiver is.
    SnapshotOfferReply(SnapshotOfferReply),
    /// My log is damaged from here on: what do you have?
    Range(RangeRequest),
    /// The answer to it.
    RangeReply(RangeReply),
    /// Which index must reads reach that clients asked this node for? (thesis §6.4)
    ReadIndex(ReadIndex),
    /// The answer to it.
    ReadIndexReply(ReadIndexReply),
}

/// A candidate's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// The sender's current term. In a pre-vote it is *not* the proposed one.
    pub term: Term,
    /// The term the vote is for: `term` in a vote, `term + 1` in a pre-vote.
    pub campaign_term: Term,
    /// The sender's numbering of its campaigns since boot, so that an answer to an earlier one is known as such.
    pub campaign: u64,
    /// The sender's last entry.
    pub last_index: Index,
    /// That entry's term.
    pub last_term: Term,
    /// True when a transfer ordered this campaign: leader stickiness does not hold then.
    pub is_transfer: bool,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// The sender's current term, whatever it answers.
    pub term: Term,
    /// The term asked about.
    pub campaign_term: Term,
    /// The campaign asked about.
    pub campaign: u64,
    /// Yes or no.
    pub is_granted: bool,
}

/// Entries that follow one the receiver should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The leader's numbering of its probing attempts at this receiver, from 0 in each term: a refusal of an
    /// older attempt says nothing.
    pub attempt: u64,
    /// The index right before `entries`.
    pub prev_index: Index,
    /// The term of the entry there.
    pub prev_term: Term,
    /// The leader's commit index.
    pub commit: Index,
    /// Consecutive entries from `prev_index + 1`; may be empty.
    pub entries: Vec<AppendEntry>,
    /// The chain value of the last of `entries`, or of the entry at `prev_index` when there are none. The receiver
    /// computes the ones between from its own chain value at `prev_index`.
    pub chain: u32,
}

/// An entry inside an append: its index follows from its place, its chain value from those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its content.
    pub payload: Payload,
}

/// A follower's answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// The sender's current term.
    pub term: Term,
    /// The attempt of the append answered.
    pub attempt: u64,
    /// What became of it.
    pub outcome: AppendOutcome,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The sender's log equals the leader's up to here, durably.
    Accepted {
        /// The highest index known equal and durable.
        match_index: Index,
    },
    /// The sender has no entry of `prev_term` at `prev_index`.
    Refused {
        /// The append's prev index.
        prev_index: Index,
        /// The sender's term at `prev_index`, or 0 where its log is shorter.
        conflict_term: Term,
        /// The first index the sender holds of `conflict_term`, or the one after its last entry.
        conflict_index: Index,
        /// The sender's last index.
        last_index: Index,
    },
    /// It was kept for later and had to go: the leader should probe.
    Evicted {
        /// The append's prev index.
        prev_index: Index,
    },
}

/// A leader's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// Its numbering of heartbeats and read probes in this term.
    pub round: Round,
    /// The smaller of its commit index and what it knows the receiver to match.
    pub commit: Index,
}

/// The answer to a heartbeat, also to one of a lower term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The sender's current term.
    pub term: Term,
    /// The heartbeat's round.
    pub round: Round,
}

/// A read's question for a quorum, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadProbe {
    /// The sender's current term.
    pub term: Term,
    /// The round of this attempt; an answer of one attempt never confirms a later one.
    pub round: Round,
}

/// A follower's question, for reads that clients asked it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// The sender's current term.
    pub term: Term,
    /// Numbers the sender's questions over all its boots, so that an answer to an earlier one is known as such.
    pub question: u64,
}

/// The leader's answer to it; nobody else has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexReply {
    /// The sender's current term.
    pub term: Term,
    /// The question.
    pub question: u64,
    /// What was acknowledged before the question was put lies at or below; nothing where the sender does not lead.
    pub index: Option<Index>,
}

/// The order to campaign at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The leader's term.
    pub term: Term,
    /// The receiver's incarnation: the order dies with a reboot.
    pub incarnation: Incarnation,
    /// The leader's last index; the order counts only if the receiver's log has it.
    pub last_index: Index,
}

/// Whether the order was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferReply {
    /// The sender's current term.
    pub term: Term,
    /// True when it campaigns.
    pub is_taken: bool,
}

/// A leader's offer of a snapshot, repeated until the receiver has caught up. The bytes do not travel with it: the
/// receiver asks for them, from whoever has the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The leader's term.
    pub term: Term,
    /// The file that the receiver may ask for; what it covers is committed.
    pub meta: SnapshotMeta,
}

/// A follower's answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOfferReply {
    /// The sender's current term.
    pub term: Term,
    /// The index of the snapshot that was offered.
    pub index: Index,
    /// What the sender knows as committed and holds durably.
    pub match_index: Index,
    /// How far it is.
    pub outcome: SnapshotOutcome,
}

/// How far the receiver of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It has this much of the file.
    Pulling {
        /// Bytes of the file that are here.
        bytes: u64,
    },
    /// It has all of the file and has not installed it yet.
    Transferred,
    /// It is installed, or nothing of it was needed.
    Installed,
}

/// The question of a node whose log is damaged, to any other; at the same time its word that it holds nothing from
/// there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// The sender's current term.
    pub term: Term,
    /// Numbers the sender's questions over all its boots, so that an answer to an earlier one is known as such.
    pub question: u64,
    /// The log of the sender is intact below this index only.
    pub damaged_from: Index,
    /// The first entry it asks for.
    pub first: Index,
    /// The last one; 0 when it does not know how many it lacks.
    pub last: Index,
}

/// What a node can say to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReply {
    /// The sender's current term.
    pub term: Term,
    /// The question.
    pub question: u64,
    /// Told by the leader of this term only: what it knows as committed, after it took back what the asker had
    /// acknowledged.
    pub commit: Option<Index>,
    /// What it has.
    pub outcome: RangeOutcome,
}

/// What a node has of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeOutcome {
    /// Its entries from the first on, as many as fit; none when its log ends before it.
    Entries {
        /// The entries.
        entries: Vec<AppendEntry>,
        /// The chain value through the last of them, or through the entry before the first.
        chain: u32,
    },
    /// The first entry is in no log here any more; this snapshot covers it.
    Covered {
        /// The file that the asker may pull; what it covers is committed.
        meta: SnapshotMeta,
    },
    /// Nothing.
    Nothing,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As a call that is re-sent until answered.
    Request,
    /// As the answer to a call.
    Reply,
    /// Once, unreliably.
    Notice,
}

impl Message {
    /// The sender's current term.
    #[must_use]
    pub fn term(&self) -> Term {
        match self {
            Self::PreVote(m) | Self::Vote(m) => m.term,
            Self::PreVoteReply(m) | Self::VoteReply(m) => m.term,
            Self::Append(m) => m.term,
            Self::AppendReply(m) => m.term,
            Self::Heartbeat(m) => m.term,
            Self::HeartbeatReply(m) => m.term,
            Self::ReadProbe(m) | Self::ReadProbeReply(m) => m.term,
            Self::Transfer(m) => m.term,
            Self::TransferReply(m) => m.term,
            Self::SnapshotOffer(m) => m.term,
            Self::SnapshotOfferReply(m) => m.term,
            Self::Range(m) => m.term,
            Self::RangeReply(m) => m.term,
            Self::ReadIndex(m) => m.term,
            Self::ReadIndexReply(m) => m.term,
        }
    }

    /// How it travels.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::PreVote(_)
            | Self::Vote(_)
            | Self::Append(_)
            | Self::ReadProbe(_)
            | Self::Transfer(_)
            | Self::SnapshotOffer(_)
            | Self::Range(_)
            | Self::ReadIndex(_) => Delivery::Request,
            Self::PreVoteReply(_)
            | Self::VoteReply(_)
            | Self::AppendReply(_)
            | Self::ReadProbeReply(_)
            | Self::TransferReply(_)
            | Self::SnapshotOfferReply(_)
            | Self::RangeReply(_)
            | Self::ReadIndexReply(_) => Delivery::Reply,
            Self::Heartbeat(_) | Self::HeartbeatReply(_) => Delivery::Notice,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreVote(m) => write!(f, "pre-vote {m}"),
            Self::PreVoteReply(m) => write!(f, "pre-vote-reply {m}"),
            Self::Vote(m) => write!(f, "vote {m}"),
            Self::VoteReply(m) => write!(f, "vote-reply {m}"),
            Self::Append(m) => write!(f, "append {m}"),
            Self::AppendReply(m) => write!(f, "append-reply {m}"),
            Self::Heartbeat(m) => {
                write!(f, "heartbeat term={} round={} commit={}", m.term, m.round, m.commit)
            }
            Self::HeartbeatReply(m) => write!(f, "heartbeat-reply term={} round={}", m.term, m.round),
            Self::ReadProbe(m) => write!(f, "read-probe term={} round={}", m.term, m.round),
            Self::ReadProbeReply(m) => write!(f, "read-probe-reply term={} round={}", m.term, m.round),
            Self::Transfer(m) => {
                write!(f, "transfer term={} incarnation={} last={}", m.term, m.incarnation, m.last_index)
            }
            Self::TransferReply(m) => {
                write!(f, "transfer-reply term={} {}", m.term, if m.is_taken { "taken" } else { "refused" })
            }
            Self::SnapshotOffer(m) => write!(f, "snapshot-offer term={} {}", m.term, m.meta),
            Self::SnapshotOfferReply(m) => {
                write!(f, "snapshot-offer-reply term={} ", m.term)?;
                write!(f, "snapshot={} match={} {}", m.index, m.match_index, m.outcome)
            }
            Self::Range(m) => {
                write!(f, "range term={} question={} from={}", m.term, m.question, m.damaged_from)?;
                write!(f, " first={} last={}", m.first, m.last)
            }
            Self::RangeReply(m) => {
                write!(f, "range-reply term={} question={}", m.term, m.question)?;
                if let Some(commit) = m.commit {
                    write!(f, " commit={commit}")?;
                }
                write!(f, " {}", m.outcome)
            }
            Self::ReadIndex(m) => write!(f, "read-index term={} question={}", m.term, m.question),
            Self::ReadIndexReply(m) => {
                write!(f, "read-index-reply term={} question={}", m.term, m.question)?;
                m.index.map_or(Ok(()), |index| write!(f, " index={index}"))
            }
        }
    }
}

impl fmt::Display for SnapshotOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pulling { bytes } => write!(f, "pulling bytes={bytes}"),
            Self::Transferred => f.write_str("transferred"),
            Self::Installed => f.write_str("installed"),
        }
    }
}

impl fmt::Display for RangeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries { entries, .. } => write!(f, "entries={}", entries.len()),
            Self::Covered { meta } => write!(f, "covered {meta}"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for VoteRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, campaign_term, campaign, last_index, last_term, is_transfer } = self;
        write!(f, "term={term} for={campaign_term} campaign={campaign} last={last_index}@{last_term}")?;
        if *is_transfer { f.write_str(" transfer") } else { Ok(()) }
    }
}

impl fmt::Display for VoteReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.is_granted { "granted" } else { "refused" };
        write!(f, "term={} for={} campaign={} {answer}", self.term, self.campaign_term, self.campaign)
    }
}

impl fmt::Display for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, attempt, prev_index, prev_term, commit, entries, .. } = self;
        write!(f, "term={term} attempt={attempt} prev={prev_index}@{prev_term} commit={commit} entries=[")?;
        for (i, entry) in entries.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{}@{} {}", prev_index.0 + 1 + i as u64, entry.term, entry.payload)?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for AppendReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term={} attempt={} ", self.term, self.attempt)?;
        match self.outcome {
            AppendOutcome::Accepted { match_index } => write!(f, "match={match_index}"),
            AppendOutcome::Refused { prev_index, conflict_term, conflict_index, last_index } => {
                write!(
                    f,
                    "refused prev={prev_index} conflict={conflict_index}@{conflict_term} last={last_index}"
                )
            }
            AppendOutcome::Evicted { prev_index } => write!(f, "evicted prev={prev_index}"),
        }
    }
}
