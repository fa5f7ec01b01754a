//! Committed entries into the machine, answers out.

use std::sync::Arc;

use super::Node;
use crate::entry::Payload;
use crate::machine::Machine;
use crate::mutant::{self, Mutant};
use crate::rpc::Token;
use crate::session::Outcome as SessionOutcome;
use crate::time::Instant;
use crate::types::{Index, Term};
use crate::wire::client::{ClientReply, Outcome, RefusalCode};

impl<M: Machine> Node<M> {
    /// Applies a bounded batch of what is committed, and answers those who waited for it.
    pub(super) fn apply_committed(&mut self, now: Instant) {
        let mut bytes = 0;
        for _ in 0..self.config.apply_count_max {
            if self.applied >= self.commit || bytes > self.config.apply_bytes_max {
                break;
            }
            bytes += self.apply_next(now);
        }
        self.answer_confirmed_reads(now);
    }

    /// Applies the entry after the last applied one and returns its length in bytes.
    fn apply_next(&mut self, now: Instant) -> usize {
        let index = self.applied.next();
        let Some(entry) = self.raft.entry(index) else {
            panic!("entry {index} is committed (up to {}) and not in the log", self.commit);
        };
        let entry = entry.clone();
        self.applied = index;
        let mut digested = None;
        let bytes = match &entry.payload {
            Payload::Command(command) => {
                let outcome = self.sessions.apply(index, entry.term, command, &mut self.machine);
                self.answer_write(now, index, entry.term, &outcome);
                self.watches.note((index, entry.term), command, &outcome, &self.config.watch);
                digested = Some(outcome);
                command.len()
            }
            Payload::Membership(membership) => {
                self.applied_membership = Arc::clone(membership);
                0
            }
            Payload::Noop => 0,
        };
        self.digests.count(index, digested.as_ref());
        self.count_applied(&entry);
        bytes
    }

    /// Answers the client whose proposal became this entry, if it was proposed here and in this term.
    fn answer_write(&mut self, now: Instant, index: Index, term: Term, outcome: &SessionOutcome) {
        let Some((proposed, tokens)) = self.writes.remove(index) else { return };
        if proposed.term == term {
            self.commits.record(now.saturating_since(proposed.at));
        }
        self.pace.count(now);
        for token in tokens {
            if proposed.term != term && !mutant::is(Mutant::L15) {
                self.redirect(now, token);
            } else {
                self.tell_outcome(now, token, outcome);
            }
        }
    }

    fn tell_outcome(&mut self, now: Instant, token: Token, outcome: &SessionOutcome) {
        let reply = match outcome {
            SessionOutcome::Opened { session } => ClientReply::SessionOpened { session: *session },
            SessionOutcome::Closed => ClientReply::SessionClosed,
            SessionOutcome::Applied { index, term, result, .. } => {
                ClientReply::Applied(Outcome { index: *index, term: *term, result })
            }
            SessionOutcome::Finished => ClientReply::SequenceFinished,
            SessionOutcome::SessionExpired => ClientReply::SessionExpired,
            SessionOutcome::WindowFull => return self.busy(now, token),
            SessionOutcome::LimitsSet(_) | SessionOutcome::Expired { .. } | SessionOutcome::Malformed(_) => {
                ClientReply::Refused { code: RefusalCode::MalformedBody, text: "no client proposes this" }
            }
        };
        self.answer(now, token, &reply);
    }

    fn answer_confirmed_reads(&mut self, now: Instant) {
        while let Some(first) = self.confirmed_reads.first_entry()
            && first.key().0 <= self.applied
        {
            let read = first.remove();
            self.answer_read(now, read.token, &read.query);
        }
    }
}
