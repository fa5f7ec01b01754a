//! Calls over datagrams: links that know what arrived, and on them calls that are carried out at most once.
//!
//! The room knows nothing of Raft: bodies are opaque, and so are its tokens to its owner. It has no socket, thread or
//! clock: [`Rpc`] takes datagrams, commands and `now`, and gives out [`Output`]s. wire-spec.md sections 3 and 5 to 7
//! are the law; `[W-n]` in the code names the rule kept there.
//!
//! # A link
//!
//! joins one incarnation of this end to one of a peer. It begins with a handshake of four datagrams (`hello`):
//!
//! ```text
//!   hello ->            nothing is stored for it; the answer's nonce b is a keyed hash of the claims and the time
//!             <- hello-ack
//!   hello, confirm ->   nonce b is back: the initiator is where it says, and is adopted
//!             <- welcome
//! ```
//!
//! Every datagram of a link is numbered, is sent once and never again; what must arrive of it is sent again in a new
//! one. `received` knows the numbers that came and owes an acknowledgement, which waits a moment for something to ride
//! on; `sent` knows what went out and judges what is lost; `rtt` and `probe` say when to ask again although nothing
//! shows a loss; `window` says how much may be under way, and gives way to delay, not to loss. A link outlives its
//! peer's restarts: a proven new incarnation ends everything that belonged to the old one, and packet numbers and call
//! ids go on.
//!
//! Where keys are held, the datagrams of the handshake are under the MAC of a key, and those of the link are encrypted
//! by a session that the last two steps of the handshake begin (`cover`, `offer`, `unseal`, `link_seal`; the
//! cryptography is the room `seal`'s). All else of this page holds plain and sealed.
//!
//! What a link remembers of a peer's incarnation is kept until that incarnation is over. So a link to a node that its
//! owner closes is *parked*, and revived when the same incarnations meet again; only a client's is forgotten, for a
//! client that comes back gets another incarnation.
//!
//! # A call
//!
//! has an id that is never used again. Its body, whole or in fragments, is repeated until acknowledged (`body`); the
//! callee (`callee`) hands it to its owner once, and repeats the answer until acknowledged; the caller (`caller`) hands
//! that to its owner once. An acknowledgement means that every frame of the packet was applied. Hence a callee whose
//! answer is acknowledged knows that the caller has it, closes the id, and needs to keep no reply: the reply cache is
//! the answers on their way. Ids that end otherwise are closed by a cancel, a refusal or a finished range. Closed ids
//! are kept as ranges as long as the pair lives, so a copy that comes late is known whenever it comes.
//!
//! Class `again` and class `once` are treated alike while the pair lives. They differ when it ends: open `once` calls
//! have an unknown outcome, open `again` calls may be made again.
//!
//! # The laws
//!
//! Each holds under loss, duplication, reordering, late copies, restarts of either side and stray or crossed hellos,
//! with the replay window on and off. `tests/laws.rs` draws such runs; the tests named keep watch over one law.
//!
//! 1. Every call ends exactly once: by a reply, a failure or its cancellation. (`laws`)
//! 2. A body of class `once` is carried out at most once per pair of incarnations. (`laws`, U1, U4, U14,
//!    `a_closed_link_that_comes_back_remembers_what_was_carried_out`)
//! 3. A reply belongs to its call. (`laws`, U3)
//! 4. A call fails only because its callee restarted, refused it, or its link was closed; a refused call is never
//!    carried out. (`laws`, C1, `a_full_callee_refuses_new_calls_and_keeps_open_ones`)
//! 5. Once the faults are over everything comes to rest: no call open, nothing in flight, no credit and no memory held.
//!    (`laws`)
//! 6. Acknowledged means applied. (`laws`: were it not so, 1 would fail)
//! 7. No packet number is used twice towards one address, also by a successor of the room in the same process.
//!    (asserted of every datagram in every test; `a_room_made_anew_goes_on_counting_packets`)
//! 8. No datagram is larger than the limit. (asserted likewise; U10)
//! 9. `received` is `accepted` plus the drops. (asserted after every step; U16, `tests/rpc_vectors.rs`)
//! 10. Who has not proven its address gets at most one datagram for each of its own, no larger, and nothing is stored
//!     for it. (U15, `no_vector_draws_more_than_it_sent`)
//! 11. Retransmissions have a budget: what is not acknowledged stays within the window, a probe timeout adds one
//!     datagram, timeouts back off, and a silent peer gets one probe per heartbeat. (U13)
//! 12. Memory is bounded: every table has a `_max` in [`RpcConfig`] that says what happens when it is full. (`bounds`)
//! 13. A hint never changes a link. (`a_stale_incarnation_hint_never_drops_a_working_link`)
//! 14. What no handshake proved is never adopted, and a copy of a data folder is not at all. (I9,
//!     `a_copy_of_a_data_folder_is_not_adopted`)
//!
//! # Left out
//!
//! Probing for larger datagrams (probes are answered, none are sent): the size is configured, and falls to 1,200 bytes
//! when the socket says so. ECN. Pacing within a turn: a window's worth may go out at once. Congestion
//! control for wide areas. Credit is granted in the hello and never raised. Acknowledged greetings are not kept across
//! restarts: that a store's incarnation never goes back is checked against what this process has seen.

mod admit;
mod body;
mod callee;
mod caller;
mod config;
mod cookie;
mod core;
mod cover;
mod endpoint;
mod event;
mod greet;
mod hello;
mod link;
mod link_seal;
mod offer;
mod pack;
mod probe;
mod ranges;
mod reassembly;
mod receive;
mod received;
mod recover;
mod replay;
mod rtt;
mod sent;
mod stats;
mod stranger;
mod unseal;
mod window;

pub use config::{
    ConfigError, DuplicateMode, Local, LocalRole, ReplayProtection, RpcConfig, SealConfig, WireLevel,
};
pub use endpoint::Rpc;
pub use event::{CallError, CallFailure, CloseReason, Event, LinkId, Output, PeerInfo, SendErrorKind, Token};
pub use stats::{LinkStats, RpcLoad, RpcStats};

#[cfg(test)]
mod tests;
