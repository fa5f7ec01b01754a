//! What a log entry of kind command carries: the session layer's own commands, and a client's wrapped in one.

use core::fmt;

use super::ranges::Ranges;
use crate::cursor::{CursorError, Reader, Writer};
use crate::types::{Index, Sequence, SessionId};

/// The most sessions that one [`Command::Expire`] names.
pub const EXPIRE_MAX: usize = 1024;

/// The numbers that applying goes by: the bounds of the session table, and when a snapshot is due. They are part of
/// the replicated state: only [`Command::SetLimits`] changes them, never a node's settings (scenario I10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions open at once. At 1 any second client expires the first; very high, idle clients' results stay
    /// in memory and in every snapshot.
    pub sessions_max: u64,
    /// Results kept per session, which is how many writes a client may have open. Below what the client opens
    /// at once, writes are refused and tried again.
    pub window_max: u64,
    /// Bytes of results kept per session before new writes are refused.
    pub window_bytes_max: u64,
    /// Bytes of results kept in all sessions before the longest-idle ones expire.
    pub bytes_max: u64,
    /// The most bytes of log applied between two snapshots, see [`Self::mark_bytes`]. Few: the state is written often.
    /// Many: a long log in memory, on disk and at each start. It stands here because every node must take its
    /// snapshots at the same indexes.
    pub snapshot_bytes: u64,
}

impl Limits {
    /// What holds until the log's first [`Command::SetLimits`]. A part of the format: another value here would
    /// make replicas of different releases diverge.
    pub const FOUNDING: Self = Self {
        sessions_max: 4096,
        window_max: 64,
        window_bytes_max: 4 << 20,
        bytes_max: 64 << 20,
        snapshot_bytes: 64 << 20,
    };

    /// How many bytes of log lead to the next snapshot of a state that comes to `state_bytes`: as many, so that a
    /// snapshot costs about what the log before it did, and what is in memory goes with the state (Ongaro's
    /// dissertation, §5.1.3). At least a sixteenth of [`Self::snapshot_bytes`], and all of it where nobody knows how
    /// large the state is.
    #[must_use]
    pub fn mark_bytes(&self, state_bytes: Option<u64>) -> u64 {
        let most = self.snapshot_bytes;
        state_bytes.map_or(most, |bytes| bytes.clamp(most / 16, most))
    }

    fn numbers(&self) -> [u64; 5] {
        [self.sessions_max, self.window_max, self.window_bytes_max, self.bytes_max, self.snapshot_bytes]
    }

    fn is_valid(&self) -> bool {
        self.numbers().iter().all(|&max| max > 0)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.numbers().into_iter().for_each(|number| out.put_varint(number));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        let limits = Self {
            sessions_max: reader.varint()?,
            window_max: reader.varint()?,
            window_bytes_max: reader.varint()?,
            bytes_max: reader.varint()?,
            snapshot_bytes: reader.varint()?,
        };
        if limits.is_valid() { Ok(limits) } else { Err(CursorError::Value) }
    }
}

/// The content of a command entry. Its first byte names the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Replaces the numbers that applying goes by; sessions beyond them expire, longest idle first.
    SetLimits(Limits),
    /// Opens the session whose id is this entry's index.
    Open,
    /// The client needs its session no longer.
    Close {
        /// The session to forget.
        session: SessionId,
    },
    /// The leader found these sessions idle by its clock. A session used after `unused_since` stays: its client
    /// came back while this entry was on its way.
    Expire {
        /// The last entry that the leader knew any of them to be used by.
        unused_since: Index,
        /// At most [`EXPIRE_MAX`].
        sessions: Vec<SessionId>,
    },
    /// A client's write.
    Write {
        /// Whose.
        session: SessionId,
        /// The client's number for it, from 1.
        sequence: Sequence,
        /// The sequences whose answers the client has, or no longer waits for.
        finished: Ranges,
        /// For the state machine.
        command: &'a [u8],
    },
}

const SET_LIMITS: u8 = 0;
const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const EXPIRE: u8 = 3;
const WRITE: u8 = 4;

/// All of a command but what a write carries usually takes no more, and grows no vector.
const USUAL_BYTES: usize = 32;

impl<'a> Command<'a> {
    /// Appends the command's one encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::SetLimits(limits) => {
                out.put_u8(SET_LIMITS);
                limits.encode(out);
            }
            Self::Open => out.put_u8(OPEN),
            Self::Close { session } => {
                out.put_u8(CLOSE);
                out.put_varint(session.0.0);
            }
            Self::Expire { unused_since, sessions } => {
                assert!(sessions.len() <= EXPIRE_MAX, "{} sessions in one expire", sessions.len());
                out.put_u8(EXPIRE);
                out.put_varint(unused_since.0);
                out.put_varint(sessions.len() as u64);
                sessions.iter().for_each(|session| out.put_varint(session.0.0));
            }
            Self::Write { session, sequence, finished, command } => {
                out.put_u8(WRITE);
                out.put_varint(session.0.0);
                out.put_varint(sequence.0);
                finished.encode(out);
                out.put_bytes(command);
            }
        }
    }

    /// The encoding as a vector of its own.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let carried = if let Self::Write { command, .. } = self { command.len() } else { 0 };
        let mut out = Vec::with_capacity(USUAL_BYTES + carried);
        self.encode(&mut out);
        out
    }

    /// Reads what [`Self::encode`] wrote; the bytes must hold exactly one command.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(bytes);
        let command = match reader.u8()? {
            SET_LIMITS => Self::SetLimits(Limits::decode(&mut reader)?),
            OPEN => Self::Open,
            CLOSE => Self::Close { session: session_id(&mut reader)? },
            EXPIRE => {
                let unused_since = Index(reader.varint()?);
                let count = reader.varint()?;
                if count > EXPIRE_MAX as u64 {
                    return Err(CursorError::Value);
                }
                let sessions = (0..count).map(|_| session_id(&mut reader)).collect::<Result<_, _>>()?;
                Self::Expire { unused_since, sessions }
            }
            WRITE => {
                let session = session_id(&mut reader)?;
                let sequence = Sequence(reader.varint()?);
                if sequence == Sequence(0) {
                    return Err(CursorError::Value);
                }
                let finished = Ranges::decode(&mut reader)?;
                return Ok(Self::Write { session, sequence, finished, command: reader.rest() });
            }
            _ => return Err(CursorError::Value),
        };
        reader.finish()?;
        Ok(command)
    }
}

fn session_id(reader: &mut Reader<'_>) -> Result<SessionId, CursorError> {
    reader.varint().map(|index| SessionId(Index(index)))
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetLimits(limits) => write!(
                f,
                "set limits sessions={} window={} window_bytes={} bytes={}",
                limits.sessions_max, limits.window_max, limits.window_bytes_max, limits.bytes_max
            ),
            Self::Open => f.write_str("open"),
            Self::Close { session } => write!(f, "close {session}"),
            Self::Expire { unused_since, sessions } => {
                write!(f, "expire {} sessions unused since {unused_since}", sessions.len())
            }
            Self::Write { session, sequence, finished, command } => {
                write!(f, "write {session}/{sequence} finished={finished} command[{}]", command.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mark_is_as_far_as_the_state_is_large_within_the_limit() {
        let limits = Limits { snapshot_bytes: 160, ..Limits::FOUNDING };
        let cases = [(None, 160), (Some(0), 10), (Some(10), 10), (Some(77), 77), (Some(161), 160)];
        for (state, mark) in cases {
            assert_eq!(limits.mark_bytes(state), mark, "{state:?}");
        }
    }

    fn commands() -> impl Strategy<Value = (Command<'static>, Vec<u8>)> {
        let id = prop_oneof![0u64..100, 0..=crate::cursor::VARINT_MAX];
        let session = id.clone().prop_map(|index| SessionId(Index(index)));
        let numbers = (1u64..9, 1u64..1 << 40, 1u64..1 << 20, 1u64..1 << 50, 1u64..1 << 60);
        let limits =
            numbers.prop_map(|(sessions_max, window_max, window_bytes_max, bytes_max, snapshot_bytes)| {
                Command::SetLimits(Limits {
                    sessions_max,
                    window_max,
                    window_bytes_max,
                    bytes_max,
                    snapshot_bytes,
                })
            });
        let finished = prop::collection::vec((1u64..90, 0u64..4), 0..9).prop_map(|inserted| {
            let mut ranges = Ranges::default();
            inserted.iter().for_each(|&(first, more)| {
                ranges.insert(Sequence(first), Sequence(first + more));
            });
            ranges
        });
        let expire = (id, prop::collection::vec(session.clone(), 0..20))
            .prop_map(|(since, sessions)| Command::Expire { unused_since: Index(since), sessions });
        let write = (session.clone(), 1..=crate::cursor::VARINT_MAX, finished).prop_map(
            |(session, sequence, finished)| Command::Write {
                session,
                sequence: Sequence(sequence),
                finished,
                command: b"",
            },
        );
        let command = prop_oneof![
            limits,
            Just(Command::Open),
            session.prop_map(|session| Command::Close { session }),
            expire,
            write
        ];
        (command, prop::collection::vec(any::<u8>(), 0..40))
    }

    proptest! {
        #[test]
        fn commands_round_trip((envelope, tail) in commands()) {
            let mut envelope: Command<'_> = envelope;
            if let Command::Write { command, .. } = &mut envelope {
                *command = &tail;
            }
            let bytes = envelope.to_bytes();
            prop_assert_eq!(Command::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn any_bytes_decode_to_nothing_or_to_what_they_encode(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert_eq!(command.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn bad_commands_are_refused_with_their_reason() {
        let cases: [(&[u8], CursorError); 7] = [
            (&[], CursorError::Short),
            (&[9], CursorError::Value),
            (&[OPEN, 0], CursorError::Trailing),
            (&[SET_LIMITS, 1, 1, 0, 1, 1], CursorError::Value),
            (&[WRITE, 1, 0, 0], CursorError::Value),
            (&[WRITE, 1, 1, 33], CursorError::Value),
            (&[EXPIRE, 1, 0x44, 0x01], CursorError::Value),
        ];
        for (bytes, error) in cases {
            assert_eq!(Command::decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_steady_client_pays_eleven_bytes_around_its_command() {
        let finished = Ranges::from_pairs(&[(1, 998)]).unwrap();
        let session = SessionId(Index(1_000_000));
        let write = Command::Write { session, sequence: Sequence(999), finished, command: &[7; 100] };
        assert_eq!(write.to_bytes().len(), 100 + 11);
    }
}
