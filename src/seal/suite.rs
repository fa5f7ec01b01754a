//! What the seal asks of cryptography.

use core::fmt;
use std::sync::Arc;

use crate::seal::secret::Secret;

/// The bytes by which a sealed datagram is longer.
pub const TAG_BYTES: usize = 16;
/// The bytes of the MAC under a handshake's datagram; the same, so that room is reckoned alike.
pub const MAC_BYTES: usize = TAG_BYTES;
/// Each message of NNpsk0 without a payload: an ephemeral public key and a tag.
pub const NOISE_BYTES: usize = 48;

/// The secrets of a finished handshake.
#[derive(Clone, Debug)]
pub struct Split {
    /// For what the initiator sends.
    pub initiator: Secret,
    /// For what the answerer sends.
    pub answerer: Secret,
}

/// HMAC-SHA-256, AES-128-GCM and `Noise_NNpsk0_25519_AESGCM_SHA256`. `[W-70]`
pub trait Suite: fmt::Debug + Send + Sync {
    /// The MAC of the parts, one after another.
    fn hmac(&self, key: &[u8], parts: &[&[u8]]) -> [u8; 32];

    /// A cipher under this key.
    fn cipher(&self, key: &[u8; 16]) -> Box<dyn Cipher>;

    /// Begins a handshake; the message is for the answerer.
    fn initiate(
        &self,
        psk: &Secret,
        prologue: &[u8],
        ephemeral: Secret,
    ) -> (Box<dyn Initiator>, [u8; NOISE_BYTES]);

    /// Answers one; `None` when the message was not made with this key and prologue.
    fn answer(
        &self,
        psk: &Secret,
        prologue: &[u8],
        ephemeral: Secret,
        message: &[u8; NOISE_BYTES],
    ) -> Option<([u8; NOISE_BYTES], Split)>;
}

/// An authenticated cipher under one key. The caller sees to it that no nonce comes twice.
pub trait Cipher: fmt::Debug + Send + Sync {
    /// Encrypts in place and returns the tag.
    fn seal(&self, nonce: u64, associated: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES];

    /// Decrypts in place what stands before the tag at the end; false, and the bytes spoilt, when any of it was
    /// altered.
    fn open(&self, nonce: u64, associated: &[u8], text_and_tag: &mut [u8]) -> bool;
}

/// The initiator's half of a handshake, waiting for the answer.
pub trait Initiator: fmt::Debug + Send + Sync {
    /// Takes the answer; `None` when it is none to what was sent, and the right one may still come.
    fn finish(&mut self, message: &[u8; NOISE_BYTES]) -> Option<Split>;
}

/// The suite of ring and snow; `None` in a build without the feature `seal`.
#[must_use]
pub fn suite() -> Option<Arc<dyn Suite>> {
    #[cfg(feature = "seal")]
    return Some(Arc::new(super::ringed::Ringed));
    #[cfg(not(feature = "seal"))]
    None
}

/// Compares in a time that does not tell where two differ.
#[must_use]
pub(super) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
