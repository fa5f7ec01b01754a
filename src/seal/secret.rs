//! Bytes that nobody may see, and where fresh ones come from.

use core::fmt;

use crate::rng::Rng;
use crate::seal::suite::Suite;

/// Thirty-two secret bytes. They are not printed, and are overwritten when dropped.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes the bytes over; whoever had them wipes his copy.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a computation.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        #[cfg(feature = "seal")]
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// Where ephemeral keys come from: a secret seed and a count.
///
/// The generator of the pure floors is not made for keys: who sees some of its numbers can compute the others. So
/// each key is a MAC under a seed that shows nowhere, over a salt and a count that never repeats.
#[derive(Clone, Debug)]
pub struct Entropy {
    seed: Secret,
    salt: [u8; 16],
    drawn: u64,
}

impl Entropy {
    /// Handed in: by a driver from the operating system, by a simulator from its seed.
    #[must_use]
    pub const fn new(seed: Secret) -> Self {
        Self { seed, salt: [0; 16], drawn: 0 }
    }

    /// The part of one owner, whose draws meet nobody else's.
    #[must_use]
    pub fn fork(&self, rng: &mut Rng) -> Self {
        Self { seed: self.seed.clone(), salt: rng.bytes16(), drawn: 0 }
    }

    /// Thirty-two bytes that were never drawn before.
    pub fn draw(&mut self, suite: &dyn Suite) -> Secret {
        self.drawn += 1;
        Secret::new(
            suite.hmac(self.seed.expose(), &[b"raftgram ephemeral", &self.salt, &self.drawn.to_be_bytes()]),
        )
    }
}
