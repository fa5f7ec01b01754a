//! Reading what others sealed, for whoever was told the secret of a session.

use std::collections::VecDeque;

use crate::seal::secret::Secret;
use crate::seal::session::{Phase, cipher_of, next_of};
use crate::seal::suite::{Cipher, Suite};

/// How many phases back a datagram may come late.
const KEPT_MAX: usize = 8;

/// How many phases may have been missed: a thousand million datagrams of a session with the usual limit.
const AHEAD_MAX: usize = 256;

/// One direction of a session whose secret is known. Datagrams are opened roughly in the order in which they were
/// sealed; what comes between may be missing.
#[derive(Debug)]
pub struct Captured {
    /// Of the newest phase.
    secret: Secret,
    phase: Phase,
    /// Of the newest phase, which is the last, and of those before it.
    ciphers: VecDeque<Box<dyn Cipher>>,
}

impl Captured {
    /// A session from its first phase on.
    #[must_use]
    pub fn new(suite: &dyn Suite, secret: &Secret) -> Self {
        let ciphers = VecDeque::from([cipher_of(suite, secret)]);
        Self { secret: secret.clone(), phase: Phase::Even, ciphers }
    }

    /// Decrypts in place what stands before the tag, in whatever phase of this parity it is; false, and the bytes
    /// spoilt, when it was not sealed with this session's keys.
    pub fn open(
        &mut self,
        suite: &dyn Suite,
        parity: Phase,
        packet: u64,
        associated: &[u8],
        text_and_tag: &mut [u8],
    ) -> bool {
        let sealed = text_and_tag.to_vec();
        let mut opens = |cipher: &dyn Cipher| {
            text_and_tag.copy_from_slice(&sealed);
            cipher.open(packet, associated, text_and_tag)
        };
        let mut phase = self.phase;
        for cipher in self.ciphers.iter().rev() {
            if phase == parity && opens(&**cipher) {
                return true;
            }
            phase = phase.next();
        }
        let (mut phase, mut secret, mut passed) = (self.phase, self.secret.clone(), Vec::new());
        for _ in 0..AHEAD_MAX {
            (phase, secret) = (phase.next(), next_of(suite, &secret));
            let cipher = cipher_of(suite, &secret);
            let is_open = phase == parity && opens(&*cipher);
            passed.push(cipher);
            if is_open {
                self.ciphers.extend(passed);
                self.ciphers.drain(..self.ciphers.len().saturating_sub(KEPT_MAX));
                (self.phase, self.secret) = (phase, secret);
                return true;
            }
        }
        false
    }
}
