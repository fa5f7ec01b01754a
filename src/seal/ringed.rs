//! The suite made of ring, and of snow for the order of the handshake's steps.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

use crate::seal::noise;
use crate::seal::secret::Secret;
use crate::seal::suite::{Cipher, Initiator, NOISE_BYTES, Split, Suite, TAG_BYTES};

/// See the file's page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ringed;

impl Suite for Ringed {
    fn hmac(&self, key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        parts.iter().for_each(|part| context.update(part));
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    fn cipher(&self, key: &[u8; 16]) -> Box<dyn Cipher> {
        let key = UnboundKey::new(&AES_128_GCM, key).expect("a key of 16 bytes is one of AES-128");
        Box::new(Gcm(LessSafeKey::new(key)))
    }

    fn initiate(
        &self,
        psk: &Secret,
        prologue: &[u8],
        ephemeral: Secret,
    ) -> (Box<dyn Initiator>, [u8; NOISE_BYTES]) {
        noise::initiate(psk, prologue, ephemeral)
    }

    fn answer(
        &self,
        psk: &Secret,
        prologue: &[u8],
        ephemeral: Secret,
        message: &[u8; NOISE_BYTES],
    ) -> Option<([u8; NOISE_BYTES], Split)> {
        noise::answer(psk, prologue, ephemeral, message)
    }
}

/// AES-128-GCM. ring calls the key less safe because it takes nonces on trust; ours are packet numbers. `[W-3]`
#[derive(Debug)]
struct Gcm(LessSafeKey);

/// Four zero bytes and the packet number. `[W-73]`
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for Gcm {
    fn seal(&self, number: u64, associated: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self.0.seal_in_place_separate_tag(nonce(number), Aad::from(associated), text);
        let tag = tag.expect("a datagram is shorter than the cipher's 64 GiB");
        let mut out = [0; TAG_BYTES];
        out.copy_from_slice(tag.as_ref());
        out
    }

    fn open(&self, number: u64, associated: &[u8], text_and_tag: &mut [u8]) -> bool {
        self.0.open_in_place(nonce(number), Aad::from(associated), text_and_tag).is_ok()
    }
}
