//! `Noise_NNpsk0_25519_AESGCM_SHA256` (The Noise Protocol Framework, revision 34, sections 7.4 and 9): snow keeps the
//! order of the steps, ring has hash and cipher, curve25519-dalek the curve. Ephemeral keys are handed in.

use core::fmt;

use curve25519_dalek::MontgomeryPoint;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};

use crate::seal::secret::Secret;
use crate::seal::suite::{Initiator, NOISE_BYTES, Split};

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
/// The most that snow needs for a message.
const ROOM: usize = NOISE_BYTES + 16;

pub(super) fn initiate(
    psk: &Secret,
    prologue: &[u8],
    ephemeral: Secret,
) -> (Box<dyn Initiator>, [u8; NOISE_BYTES]) {
    let mut state = builder(psk, prologue, ephemeral).and_then(Builder::build_initiator).expect(GOOD_PATTERN);
    let message = write(&mut state);
    (Box::new(Waiting(state)), message)
}

pub(super) fn answer(
    psk: &Secret,
    prologue: &[u8],
    ephemeral: Secret,
    message: &[u8; NOISE_BYTES],
) -> Option<([u8; NOISE_BYTES], Split)> {
    let mut state = builder(psk, prologue, ephemeral).and_then(Builder::build_responder).expect(GOOD_PATTERN);
    state.read_message(message, &mut [0; ROOM]).ok()?;
    let answer = write(&mut state);
    Some((answer, split(&mut state)))
}

const GOOD_PATTERN: &str = "the pattern is one that snow knows, its key has 32 bytes";

fn builder<'a>(psk: &'a Secret, prologue: &'a [u8], ephemeral: Secret) -> Result<Builder<'a>, Error> {
    let resolver = Resolver { ephemeral };
    Builder::with_resolver(PATTERN.parse()?, Box::new(resolver)).psk(0, psk.expose())?.prologue(prologue)
}

fn write(state: &mut HandshakeState) -> [u8; NOISE_BYTES] {
    let mut room = [0; ROOM];
    let bytes = state.write_message(&[], &mut room).expect("the message is this end's to write");
    assert_eq!(bytes, NOISE_BYTES, "a message of NNpsk0 without a payload");
    let mut message = [0; NOISE_BYTES];
    message.copy_from_slice(&room[..NOISE_BYTES]);
    message
}

fn split(state: &mut HandshakeState) -> Split {
    let (initiator, answerer) = state.dangerously_get_raw_split();
    Split { initiator: Secret::new(initiator), answerer: Secret::new(answerer) }
}

struct Waiting(HandshakeState);

impl Initiator for Waiting {
    fn finish(&mut self, message: &[u8; NOISE_BYTES]) -> Option<Split> {
        self.0.read_message(message, &mut [0; ROOM]).ok()?;
        Some(split(&mut self.0))
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting(..)")
    }
}

/// Hands snow what it computes with.
struct Resolver {
    ephemeral: Secret,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::new(Sha256::default()) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::AESGCM).then(|| Box::new(Gcm256(None)) as Box<dyn Cipher>)
    }
}

/// The ephemeral key, which a handshake draws once.
struct Once(Option<Secret>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let secret = self.0.take().filter(|secret| secret.expose().len() == dest.len()).ok_or(Error::Rng)?;
        dest.copy_from_slice(secret.expose());
        Ok(())
    }
}

/// X25519 (RFC 7748) with the ephemeral key.
struct X25519 {
    private: Secret,
    public: [u8; 32],
}

impl Default for X25519 {
    fn default() -> Self {
        Self { private: Secret::new([0; 32]), public: [0; 32] }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(private);
        self.private = Secret::new(bytes);
        self.public = MontgomeryPoint::mul_base_clamped(bytes).to_bytes();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = [0; 32];
        rng.try_fill_bytes(&mut bytes)?;
        self.set(&bytes);
        zeroize::Zeroize::zeroize(&mut bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.expose()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let point = public.first_chunk().copied().map(MontgomeryPoint).ok_or(Error::Dh)?;
        let shared = point.mul_clamped(*self.private.expose()).to_bytes();
        // A point of low order would let the peer choose the result.
        if shared == [0; 32] {
            return Err(Error::Dh);
        }
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(&shared);
        Ok(())
    }
}

struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.clone().finish().as_ref());
    }
}

/// The handshake's own cipher, under keys that each serve for one message.
struct Gcm256(Option<LessSafeKey>);

impl Gcm256 {
    fn key(&self) -> &LessSafeKey {
        self.0.as_ref().expect("snow sets a key before it uses it")
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for Gcm256 {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes is one of AES-256");
        self.0 = Some(LessSafeKey::new(key));
    }

    fn encrypt(&self, number: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = self.key().seal_in_place_separate_tag(nonce(number), Aad::from(authtext), text);
        let tag = tag.expect("a handshake's message is short");
        rest[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
        plaintext.len() + tag.as_ref().len()
    }

    fn decrypt(
        &self,
        number: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let mut text = ciphertext.to_vec();
        let opened = self.key().open_in_place(nonce(number), Aad::from(authtext), &mut text);
        let opened = opened.map_err(|_| Error::Decrypt)?;
        out.get_mut(..opened.len()).ok_or(Error::Decrypt)?.copy_from_slice(opened);
        Ok(opened.len())
    }
}
