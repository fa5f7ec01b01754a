//! The keys between two ends from one handshake to the next, phase by phase.
//!
//! Each direction has a secret. The cipher's key and the next phase's secret follow from it, and neither leads back.
//! A sender turns to the next phase when it has sealed `packets_per_phase_max` datagrams and one of the present phase
//! was acknowledged, so that the receiver has followed; the flag KEY_PHASE tells the phase's parity. A receiver tries
//! what is flagged otherwise with the next key, or, if its number says that it was sent earlier, with the one before,
//! which it keeps for a while. Nothing but a datagram that opens moves it on. `[W-76]`

use core::fmt;
use core::time::Duration;

use crate::seal::ring_of_keys::{KeyId, SESSION_BIT};
use crate::seal::secret::Secret;
use crate::seal::suite::{Cipher, Suite, TAG_BYTES};
use crate::time::Instant;

/// Datagrams sealed before the next phase, unless set lower. RFC 9001 §6.6 allows AES-GCM twice as many.
pub const PACKETS_PER_PHASE_MAX: u64 = 1 << 22;

/// The id by which a receiver knows a session: bit 31, the mark of the cluster key, 24 bits of its own. `[W-72]`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The id with these own bits, of a session begun under a key.
    #[must_use]
    pub const fn new(key: KeyId, own: u32) -> Self {
        Self(SESSION_BIT | key.mark() << 24 | own & 0x00ff_ffff)
    }

    /// What the header's field says: a session, or a key.
    pub const fn parse(field: u32) -> Result<Self, KeyId> {
        if field & SESSION_BIT == 0 { Err(KeyId(field)) } else { Ok(Self(field)) }
    }

    /// The mark of the key that the session was begun under.
    #[must_use]
    pub const fn mark(self) -> u32 {
        self.0 >> 24 & 0x7f
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The parity of a phase, as the flag KEY_PHASE shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The flag is clear.
    Even,
    /// The flag is set.
    Odd,
}

impl Phase {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }
}

/// What a session is made of.
#[derive(Debug)]
pub struct SessionKeys {
    /// The id that this end chose.
    pub id_in: SessionId,
    /// The id that the peer chose.
    pub id_out: SessionId,
    /// For what this end sends.
    pub sending: Secret,
    /// For what it receives.
    pub receiving: Secret,
    /// Datagrams sealed in one phase; at twice as many nothing more is sealed.
    pub packets_per_phase_max: u64,
}

/// Who is told of session secrets, for reading captures: it is handed in like a logger, and only when an operator asks
/// for it. Whoever has what it was told can read the traffic.
pub trait KeyLog: fmt::Debug + Send + Sync {
    /// Datagrams that bear this id follow from this secret.
    fn note(&self, id: SessionId, secret: &Secret);
}

/// See the file's page.
#[derive(Debug)]
pub struct Session {
    id_in: SessionId,
    id_out: SessionId,
    sending: Sending,
    receiving: Receiving,
}

#[derive(Debug)]
struct Sending {
    secret: Secret,
    cipher: Box<dyn Cipher>,
    phase: Phase,
    /// Datagrams sealed in this phase, and how many may be before the next.
    sealed_count: u64,
    packets_max: u64,
    /// The first packet of this phase; 0 before it.
    first_packet: u64,
    is_followed: bool,
}

#[derive(Debug)]
struct Receiving {
    secret: Secret,
    cipher: Box<dyn Cipher>,
    phase: Phase,
    /// The lowest packet number opened in this phase.
    first_packet: u64,
    next: Option<(Secret, Box<dyn Cipher>)>,
    before: Option<(Box<dyn Cipher>, Instant)>,
    was_opened: bool,
}

/// The cipher of a phase.
pub(super) fn cipher_of(suite: &dyn Suite, secret: &Secret) -> Box<dyn Cipher> {
    let whole = Secret::new(suite.hmac(secret.expose(), &[b"raftgram 1 key"]));
    let (key, _) = whole.expose().split_first_chunk().expect("16 bytes are fewer than 32");
    suite.cipher(key)
}

/// The secret of the phase after.
pub(super) fn next_of(suite: &dyn Suite, secret: &Secret) -> Secret {
    Secret::new(suite.hmac(secret.expose(), &[b"raftgram 1 next"]))
}

impl Session {
    /// The session of a finished handshake, in its first phase.
    #[must_use]
    pub fn new(suite: &dyn Suite, keys: SessionKeys) -> Self {
        let SessionKeys { id_in, id_out, sending, receiving, packets_per_phase_max } = keys;
        Self {
            id_in,
            id_out,
            sending: Sending {
                cipher: cipher_of(suite, &sending),
                secret: sending,
                phase: Phase::Even,
                sealed_count: 0,
                packets_max: packets_per_phase_max,
                first_packet: 0,
                is_followed: false,
            },
            receiving: Receiving {
                cipher: cipher_of(suite, &receiving),
                secret: receiving,
                phase: Phase::Even,
                first_packet: 0,
                next: None,
                before: None,
                was_opened: false,
            },
        }
    }

    /// The id that datagrams to this end bear.
    #[must_use]
    pub fn id_in(&self) -> SessionId {
        self.id_in
    }

    /// The id that datagrams of this end bear.
    #[must_use]
    pub fn id_out(&self) -> SessionId {
        self.id_out
    }

    /// True when no more may be sealed before a new handshake: the peer has not followed for a whole phase.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.sending.sealed_count >= 2 * self.sending.packets_max
    }

    /// True once a datagram of the peer opened: it has the keys.
    #[must_use]
    pub fn was_opened(&self) -> bool {
        self.receiving.was_opened
    }

    /// The phase to seal this packet in; it turns to the next one where that is due.
    pub fn phase_for(&mut self, suite: &dyn Suite, packet: u64) -> Phase {
        let sending = &mut self.sending;
        if sending.sealed_count >= sending.packets_max && sending.is_followed {
            sending.secret = next_of(suite, &sending.secret);
            sending.cipher = cipher_of(suite, &sending.secret);
            sending.phase = sending.phase.next();
            sending.sealed_count = 0;
            sending.first_packet = 0;
            sending.is_followed = false;
        }
        if sending.first_packet == 0 {
            sending.first_packet = packet;
        }
        sending.phase
    }

    /// Encrypts in place and returns the tag. `[W-73]`
    ///
    /// # Panics
    /// When it is exhausted.
    pub fn seal(&mut self, packet: u64, associated: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        assert!(!self.is_exhausted(), "{} datagrams under one key", self.sending.sealed_count);
        self.sending.sealed_count += 1;
        self.sending.cipher.seal(packet, associated, text)
    }

    /// The peer acknowledged this packet.
    pub fn on_acked(&mut self, packet: u64) {
        let sending = &mut self.sending;
        sending.is_followed |= sending.first_packet != 0 && packet >= sending.first_packet;
    }

    /// Decrypts in place what stands before the tag; false when it was not sealed with this session's keys. The key
    /// of the phase before is kept for `keep` when a new one begins.
    pub fn open(
        &mut self,
        suite: &dyn Suite,
        (now, keep): (Instant, Duration),
        phase: Phase,
        packet: u64,
        associated: &[u8],
        text_and_tag: &mut [u8],
    ) -> bool {
        let receiving = &mut self.receiving;
        if receiving.before.as_ref().is_some_and(|(_, until)| *until <= now) {
            receiving.before = None;
        }
        let is_open = if phase == receiving.phase {
            receiving.cipher.open(packet, associated, text_and_tag)
        } else if packet < receiving.first_packet {
            let before = receiving.before.as_ref();
            before.is_some_and(|(cipher, _)| cipher.open(packet, associated, text_and_tag))
        } else {
            receiving.open_next(suite, (now, keep), packet, associated, text_and_tag)
        };
        if is_open && phase == receiving.phase {
            let is_first = !receiving.was_opened || packet < receiving.first_packet;
            receiving.first_packet = if is_first { packet } else { receiving.first_packet };
        }
        receiving.was_opened |= is_open;
        is_open
    }
}

impl Receiving {
    fn open_next(
        &mut self,
        suite: &dyn Suite,
        (now, keep): (Instant, Duration),
        packet: u64,
        associated: &[u8],
        text_and_tag: &mut [u8],
    ) -> bool {
        // Derived once and kept, so that forged datagrams cost no more than others.
        let (_, cipher) = self.next.get_or_insert_with(|| {
            let secret = next_of(suite, &self.secret);
            let cipher = cipher_of(suite, &secret);
            (secret, cipher)
        });
        if !cipher.open(packet, associated, text_and_tag) {
            return false;
        }
        if let Some((secret, cipher)) = self.next.take() {
            self.secret = secret;
            self.before = Some((std::mem::replace(&mut self.cipher, cipher), now + keep));
            self.phase = self.phase.next();
            self.first_packet = packet;
        }
        true
    }
}
