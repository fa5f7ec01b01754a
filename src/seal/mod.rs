//! The seal: what lets nobody in who does not hold a key. wire-spec.md section 11 is the law; `[W-n]` names its rules.
//!
//! A *cluster key* is 32 random bytes that every node holds; a *client key* likewise, for those who may speak as
//! clients only. Neither ever encrypts a datagram. Three things come of each ([`KeyRing`]): its id, which is public;
//! a key for authenticating the datagrams of a handshake, which anyone may read; and the pre-shared key of the Noise
//! handshake NNpsk0 inside them.
//!
//! That handshake gives two secrets that no other handshake has, one for each direction ([`Split`]). From each secret
//! follow the cipher's keys, one after another ([`Session`]): a sender goes on to the next one, its next *phase*,
//! long before the cipher has had its fill. What is sealed is sealed with AES-128-GCM, the packet number as nonce.
//! Packet numbers of a process never repeat, and the secrets are fresh for each handshake; so no nonce is used twice
//! under one key, also not by a copy of a machine's disk.
//!
//! # Without I/O
//! The room has no randomness of its own: ephemeral keys follow from an [`Entropy`] that is handed in, which the
//! drivers draw from the operating system and a simulator from its seed, and from what the owner's generator gives.
//! The cryptography itself stands behind one trait, [`Suite`]; [`suite`] gives the one made of ring and snow, with
//! the feature `seal`. Without the feature all of the room is there but that.
//!
//! # What is wiped
//! [`Secret`] overwrites itself when it goes (with the feature `seal`; without it nothing can be sealed). The round
//! keys inside ring's ciphers are not overwritten: they are derived from a secret of one session's one phase.

mod captured;
mod key;
#[cfg(feature = "seal")]
mod noise;
mod ring_of_keys;
#[cfg(feature = "seal")]
mod ringed;
mod secret;
mod session;
mod suite;
#[cfg(test)]
mod tests;

pub use captured::Captured;
pub use key::{
    KEYS_MAX, Key, KeyFault, KeyFileError, KeyRole, format_key, format_session, parse_keys, parse_sessions,
};
pub use ring_of_keys::{KeyId, KeyRing, KeySlot, SealMode, Trust};
pub use secret::{Entropy, Secret};
pub use session::{KeyLog, PACKETS_PER_PHASE_MAX, Phase, Session, SessionId, SessionKeys};
pub use suite::{Cipher, Initiator, MAC_BYTES, NOISE_BYTES, Split, Suite, TAG_BYTES, suite};
