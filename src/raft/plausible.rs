//! Is this message one that a sound node could have sent? Everything beyond this line may rely on it: no sum
//! below overflows, and no entry claims a term its leader cannot know.
//!
//! The checks need nothing but the message. They are about U16 (one forged datagram with a term of 2^64 - 1 must
//! not panic a node), and about rules that every sender keeps by construction:
//! - a vote is asked for the sender's own term, a pre-vote for the one after it (thesis §9.6);
//! - nobody stands or leads in term 0, which is before the first election;
//! - no log holds an entry of a term above its owner's (Raft paper §5.1), nor terms that fall (§5.3);
//! - the place before the first entry is index 0 of term 0, and no other index has that term.
//!
//! A forged term just below the bound still costs the cluster its low terms; only the seal keeps strangers out. At
//! the bound itself nobody campaigns any more, instead of overflowing.

use super::config::NUMBER_MAX;
use crate::message::{Append, Message, SnapshotOffer, VoteRequest};
use crate::types::{Index, Term};

/// True when it may be looked at further.
pub(super) fn is_plausible(message: &Message) -> bool {
    // Nobody stands or leads in term 0; but a blank node may ask whether it could, and is answered.
    let has_term = message.term() > Term(0);
    message.term().0 <= NUMBER_MAX
        && match message {
            Message::PreVote(m) => m.campaign_term.0 == m.term.0 + 1 && is_end_plausible(m),
            Message::Vote(m) => has_term && m.campaign_term == m.term && is_end_plausible(m),
            Message::Append(m) => has_term && is_append_plausible(m),
            Message::SnapshotOffer(m) => has_term && is_offer_plausible(m),
            Message::Range(m) => m.damaged_from > Index(0) && m.damaged_from <= m.first,
            Message::Heartbeat(_) | Message::ReadProbe(_) | Message::Transfer(_) | Message::ReadIndex(_) => {
                has_term
            }
            _ => true,
        }
}

/// The end of a log: no term above the sender's, and zero goes with zero.
fn is_end_plausible(m: &VoteRequest) -> bool {
    m.last_term <= m.term && is_place_plausible(m.last_index, m.last_term)
}

/// Index 0 is the place before the first entry, and the only one of term 0.
fn is_place_plausible(index: Index, term: Term) -> bool {
    index.0 <= NUMBER_MAX && (index == Index(0)) == (term == Term(0))
}

/// A snapshot covers something, of a term that its leader knows.
fn is_offer_plausible(m: &SnapshotOffer) -> bool {
    let id = m.meta.id;
    id.index > Index(0) && id.term <= m.term && is_place_plausible(id.index, id.term)
}

/// Terms in a log never fall and never pass the leader's.
fn is_append_plausible(m: &Append) -> bool {
    let mut terms = m.entries.iter().map(|entry| entry.term);
    let is_rising = core::iter::once(m.prev_term).chain(terms.clone()).is_sorted();
    is_rising
        && is_place_plausible(m.prev_index, m.prev_term)
        && m.prev_index.0 + m.entries.len() as u64 <= NUMBER_MAX
        && terms.clone().all(|term| term > Term(0))
        && terms.next_back().unwrap_or(m.prev_term) <= m.term
}
