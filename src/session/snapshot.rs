//! The table as bytes: one record with limits, applied index and number of sessions, then one record per session, ids
//! ascending. Each record is `length varint ‖ fields`, so that a table of any size goes through a small buffer.

use std::sync::Arc;

use super::command::Limits;
use super::ranges::Ranges;
use super::table::{Recorded, Session, Sessions};
use crate::cursor::{CursorError, Reader, Writer as _};
use crate::layered::FrozenMap;
use crate::machine::{Fields, Frozen, RestoreError, Sink, SinkClosed, Source};
use crate::types::{Index, Sequence, SessionId, Term};

/// The session table as it was at one index.
#[derive(Debug)]
pub struct FrozenSessions {
    limits: Limits,
    applied: Index,
    sessions: FrozenMap<SessionId, Arc<Session>>,
}

impl Sessions {
    /// Holds the table fast as it is now. Takes no longer for a larger one.
    #[must_use]
    pub fn freeze(&mut self) -> FrozenSessions {
        FrozenSessions { limits: self.limits, applied: self.applied, sessions: self.sessions.freeze() }
    }

    /// Reads what [`FrozenSessions`] wrote and nothing beyond, and refuses what no log could have led to.
    pub fn restore(source: &mut dyn Source) -> Result<Self, RestoreError> {
        let mut fields = Fields::new(source);
        let head = fields.prefixed(usize::MAX)?;
        let mut reader = Reader::new(&head);
        let limits = Limits::decode(&mut reader)?;
        let mut table = Self::at(limits, Index(reader.varint()?));
        let count = reader.varint()?;
        reader.finish()?;
        let mut newest = Index(0);
        for _ in 0..count {
            let record = fields.prefixed(usize::MAX)?;
            let mut reader = Reader::new(&record);
            let (id, session) = decode_session(&mut reader)?;
            reader.finish()?;
            let is_in_order = newest < id.0 && id.0 <= session.last_use && session.last_use <= table.applied;
            if !is_in_order || table.by_use.contains_key(&session.last_use) {
                return Err(RestoreError::Malformed);
            }
            newest = id.0;
            table.put(id, session);
        }
        if count > limits.sessions_max {
            return Err(RestoreError::Malformed);
        }
        Ok(table)
    }
}

impl Frozen for FrozenSessions {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        let mut fields = Vec::new();
        self.limits.encode(&mut fields);
        fields.put_varint(self.applied.0);
        fields.put_varint(self.sessions.len() as u64);
        put_record(&mut fields, sink)?;
        for (id, session) in self.sessions.iter() {
            encode_session(*id, session, &mut fields);
            put_record(&mut fields, sink)?;
        }
        Ok(())
    }
}

/// Writes the fields with their length before them, and empties them.
fn put_record(fields: &mut Vec<u8>, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
    sink.put_record(fields)?;
    fields.clear();
    Ok(())
}

fn encode_session(id: SessionId, session: &Session, out: &mut Vec<u8>) {
    out.put_varint(id.0.0);
    out.put_varint(session.last_use.0);
    session.finished.encode(out);
    out.put_varint(session.results.len() as u64);
    for (sequence, recorded) in &session.results {
        out.put_varint(sequence.0);
        out.put_varint(recorded.index.0);
        out.put_varint(recorded.term.0);
        out.put_prefixed(&recorded.result);
    }
}

fn decode_session(reader: &mut Reader<'_>) -> Result<(SessionId, Session), CursorError> {
    let id = SessionId(Index(reader.varint()?));
    let last_use = Index(reader.varint()?);
    let mut session = Session { last_use, finished: Ranges::decode(reader)?, ..Session::default() };
    let mut newest = Sequence(0);
    for _ in 0..reader.varint()? {
        let sequence = Sequence(reader.varint()?);
        let (index, term) = (Index(reader.varint()?), Term(reader.varint()?));
        let result = reader.prefixed()?;
        let is_within_life = id.0 < index && index <= last_use;
        if sequence <= newest || session.finished.contains(sequence) || !is_within_life {
            return Err(CursorError::Value);
        }
        newest = sequence;
        session.record(sequence, Recorded::new(sequence, index, term, result.into()));
    }
    Ok((id, session))
}
