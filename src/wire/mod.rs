//! The wire: bytes in, values out, and back.
//!
//! wire-spec.md is the law here; `[W-n]` names one of its rules. A datagram is a 32-byte header under a CRC-32
//! that covers the cluster id too, then frames ([`Frame`]). Requests, replies and notices carry bodies: the
//! consensus messages ([`peer`]) and the clients' requests and answers ([`client`]), told apart by their first
//! byte ([`body`]).
//!
//! Nothing in this room panics on bytes from the network or takes memory beyond a small multiple of them: headers,
//! frames and ranges borrow from the datagram, and only bodies become owned values. Encoders append straight to
//! the caller's vector, numbers in their shortest form `[W-1]`; they panic only when asked to write what no decoder
//! would read.
//!
//! Reading a datagram is one pass of checks in a fixed order, [`DropReason`]. Those that need state (who am I, who
//! are you, did I see this before) belong to `rpc` and stand between the steps of [`datagram`].

pub mod body;
pub mod calls;
pub mod client;
pub mod datagram;
pub mod digest;
pub mod error;
pub mod fault;
pub mod frame;
pub mod hello;
pub mod member;
pub mod peer;
pub mod print;
mod print_body;
mod print_member;
pub mod ranges;
pub mod sealed;
pub mod status;
pub mod transfer;
pub mod walk;

pub use calls::{CallRefusal, Class, Fragment};
pub use datagram::{
    DATAGRAM_BYTES_MAX, Datagram, Flags, HEADER_BYTES, Header, MAGIC, Party, VERSION, add_flags, begin,
    decode, finish, frames, parse_header, verify_crc,
};
pub use error::DropReason;
pub use frame::{Ack, Frame};
pub use hello::{Confirm, Description, Greeting, HELLO_DATAGRAM_BYTES, Hello, HelloAck, Welcome};
pub use ranges::{RANGES_MAX, Ranges, RangesIter, Span};
pub use sealed::{SealOffer, SealRefusal, associated, cluster_in_force, mark_sealed, seal_id};
pub use walk::{Frames, pad_to};

#[cfg(test)]
mod tests;
