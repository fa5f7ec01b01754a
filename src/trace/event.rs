//! The events as values.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::time::Instant;
use crate::trace::state::State;
use crate::types::{CallId, ClusterId, Incarnation, NodeId, PacketNumber, StoreId};
use crate::wire::{Class, DropReason, Party};

/// The version of the schema, in every header. It rises with each event or field that is added.
pub const SCHEMA: u64 = 1;

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was seen, by the clock of whoever saw it: the simulator's, or one that reads zero at the node's start.
    pub at: Instant,
    /// The node that it is about, or that saw it.
    pub node: Option<NodeId>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The file begins.
    Header(Header),
    /// A node booted.
    Boot(Boot),
    /// Something about a node changed; the state is that after the change.
    Change(Change, State),
    /// Something became of a datagram.
    Datagram(Box<DatagramEvent>),
    /// The recorder was too slow and left out this many events that belong here.
    Gap {
        /// How many.
        events: u64,
    },
    /// Something else.
    Note(NoteKind, String),
}

/// What the first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who wrote the file.
    pub source: Source,
    /// The cluster, if there is one yet.
    pub cluster: Option<ClusterId>,
}

/// Who writes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A simulation: the same seed and the same version of raftgram give the same file.
    Simulation {
        /// What everything was drawn from.
        seed: u64,
    },
    /// A node on a real network.
    Node {
        /// Its boot.
        incarnation: Incarnation,
        /// The wall clock at the file's time zero, in microseconds since 1970: for laying files of several hosts
        /// side by side.
        unix_us: u64,
    },
}

/// A node's boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Which boot of its data folder.
    pub incarnation: Incarnation,
    /// Its data folder.
    pub store: StoreId,
    /// Where its socket is bound.
    pub address: SocketAddr,
}

/// What changed. The names are those of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Change {
    /// It is what it was restored as: the first look after a boot.
    Restored,
    /// The term.
    Term,
    /// The vote, within a term or with it.
    Vote,
    /// What it is.
    Role,
    /// Whom it takes for the leader.
    Leader,
    /// Entries came behind the last one.
    Append,
    /// Entries at the end were removed, and maybe others put in their place.
    Truncate,
    /// Entries at the beginning were dropped, or all replaced, by a snapshot.
    Compact,
    /// The membership that acts, which is the latest in the log.
    Membership,
    /// What its disk holds of term, vote and log.
    Durable,
    /// The commit index.
    Commit,
}

impl Change {
    /// Every change, in the order in which one look tells them.
    pub const ALL: [Self; 11] = [
        Self::Restored,
        Self::Term,
        Self::Vote,
        Self::Role,
        Self::Leader,
        Self::Append,
        Self::Truncate,
        Self::Compact,
        Self::Membership,
        Self::Durable,
        Self::Commit,
    ];

    /// The event's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Term => "term",
            Self::Vote => "vote",
            Self::Role => "role",
            Self::Leader => "leader",
            Self::Append => "append",
            Self::Truncate => "truncate",
            Self::Compact => "compact",
            Self::Membership => "membership",
            Self::Durable => "durable",
            Self::Commit => "commit",
        }
    }
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NoteKind {
    /// A node ended as it was told to.
    Stop,
    /// A node ended otherwise.
    Crash,
    /// A node stands still.
    Pause,
    /// It goes on.
    Resume,
    /// A fault begins, or is injected once.
    Fault,
    /// A fault ends, or all of them do.
    Heal,
    /// A checked property does not hold.
    Violation,
    /// The socket did not take a datagram.
    SocketError,
    /// A node saw something that cannot happen while the design's assumptions hold.
    Alarm,
}

impl NoteKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Stop,
        Self::Crash,
        Self::Pause,
        Self::Resume,
        Self::Fault,
        Self::Heal,
        Self::Violation,
        Self::SocketError,
        Self::Alarm,
    ];

    /// The event's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Fault => "fault",
            Self::Heal => "heal",
            Self::Violation => "violation",
            Self::SocketError => "socket-error",
            Self::Alarm => "alarm",
        }
    }
}

/// A datagram and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramEvent {
    /// What became of it.
    pub outcome: Outcome,
    /// Where it was sent from.
    pub from_address: SocketAddr,
    /// Where it was sent to.
    pub to_address: SocketAddr,
    /// Its size.
    pub bytes: u64,
    /// Its header; none when it has none that can be read.
    pub header: Option<Parties>,
    /// True when a frame of it was sent before, in another datagram. Known where it is sent.
    pub is_retransmission: Option<bool>,
    /// What it is above all: the kind of its first body, or else the name of its first frame.
    pub kind: Cow<'static, str>,
    /// The frames in their order, without padding and without those beyond the first [`Self::FRAMES_MAX`].
    pub frames: Vec<Frame>,
    /// How many frames are left out for being too many.
    pub frames_left_out: u64,
    /// All of it, where whoever records keeps that.
    pub payload: Option<Vec<u8>>,
}

impl DatagramEvent {
    /// The most frames that an event lists.
    pub const FRAMES_MAX: usize = 64;

    /// The first body's term.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        self.first_body()?.number("term")
    }

    /// The first body's index.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.first_body()?.number("index")
    }

    fn first_body(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.kind.is_some())
    }
}

/// What a datagram's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Its sender; `Any` for a client.
    pub from: Party,
    /// Its receiver; `Any` for a client, and for whoever listens at the address.
    pub to: Party,
    /// The sender's boot.
    pub from_incarnation: Incarnation,
    /// The boot that it was sent to.
    pub to_incarnation: Incarnation,
    /// The sender's number of it.
    pub packet: PacketNumber,
}

/// A frame in few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The frame's name.
    pub name: Cow<'static, str>,
    /// The call that it belongs to.
    pub call: Option<CallId>,
    /// Whether that may be carried out twice; shown by its requests.
    pub class: Option<Class>,
    /// The kind of its body.
    pub kind: Option<Cow<'static, str>>,
    /// How the body answers: granted, refused, accepted, evicted, taken.
    pub answer: Option<Cow<'static, str>>,
    /// Its numbers, and its body's, by name; in the order of the bytes but for `term` and `index`, which come first.
    pub numbers: Vec<(Cow<'static, str>, u64)>,
}

impl Frame {
    /// The number of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers.iter().find(|(known, _)| known == name).map(|&(_, number)| number)
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// Its sender gave it to the network.
    Sent,
    /// Its receiver took it in.
    Delivered,
    /// Its receiver did not, for this reason.
    Dropped(DropReason),
    /// The network lost it.
    Lost(Loss),
    /// The network made another copy of it.
    Duplicated,
    /// The network changed its bytes; these are the changed ones.
    Damaged,
    /// The sender's socket did not take it.
    Refused,
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Dropped(_) => "dropped",
            Self::Lost(_) => "lost",
            Self::Duplicated => "duplicated",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
        }
    }

    /// Why, for those that have a reason.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Dropped(reason) => Some(reason.name()),
            Self::Lost(loss) => Some(loss.name()),
            Self::Sent | Self::Delivered | Self::Duplicated | Self::Damaged | Self::Refused => None,
        }
    }

    /// The outcome of this name and reason.
    #[must_use]
    pub fn from_names(name: &str, reason: Option<&str>) -> Option<Self> {
        Some(match (name, reason) {
            ("sent", None) => Self::Sent,
            ("delivered", None) => Self::Delivered,
            ("dropped", Some(reason)) => {
                Self::Dropped(DropReason::ALL.into_iter().find(|known| known.name() == reason)?)
            }
            ("lost", Some(reason)) => Self::Lost(Loss::ALL.into_iter().find(|known| known.name() == reason)?),
            ("duplicated", None) => Self::Duplicated,
            ("damaged", None) => Self::Damaged,
            ("refused", None) => Self::Refused,
            _ => return None,
        })
    }
}

/// Why the network lost a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Loss {
    /// By chance, alone or in a burst.
    Chance,
    /// There was no way from one to the other.
    Partition,
    /// A queue was full.
    Queue,
    /// It was larger than the way takes.
    Size,
    /// Nobody listened at the address.
    NobodyThere,
}

impl Loss {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Chance, Self::Partition, Self::Queue, Self::Size, Self::NobodyThere];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chance => "chance",
            Self::Partition => "partition",
            Self::Queue => "queue",
            Self::Size => "size",
            Self::NobodyThere => "nobody-there",
        }
    }
}
