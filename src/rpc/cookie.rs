//! The cookie of hello-ack: a number that only a receiver of datagrams at that address can repeat, computed from
//! the hello alone, so that nothing is stored for whoever has not returned it.
//!
//! It is SipHash-2-4 (Aumasson and Bernstein 2012) under a secret drawn at start, over the address, the nonce, the
//! claimed identity and the time. It stops whoever cannot read our answers from opening a link or making us
//! store anything; it does not stop someone on the path, who sees the cookie. For that there is the seal.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::rng::Rng;
use crate::time::Instant;

/// How long a cookie is good.
pub(super) const COOKIE_AGE_MAX: Duration = Duration::from_secs(4);

/// The low bits of a cookie tell when it was made, in µs: its age is also a first guess at the round trip. The other
/// 40 are the proof.
const TIME_BITS: u32 = 24;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Makes and checks cookies.
#[derive(Clone, Debug)]
pub(super) struct CookieKey {
    key: [u64; 2],
}

impl CookieKey {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self { key: [rng.next_u64(), rng.next_u64()] }
    }

    /// The cookie for a hello whose claims are `claims`, received now.
    pub(super) fn make(&self, now: Instant, from: SocketAddr, claims: &[u8]) -> u64 {
        self.at(micros(now), from, claims)
    }

    /// How old the cookie is, if [`Self::make`] gave it for the same address and claims a short while ago.
    pub(super) fn age(&self, now: Instant, from: SocketAddr, claims: &[u8], cookie: u64) -> Option<Duration> {
        let now_us = micros(now);
        let age_us = (now_us & TIME_MASK).wrapping_sub(cookie) & TIME_MASK;
        let made_us = now_us.checked_sub(age_us)?;
        let age = Duration::from_micros(age_us);
        (age <= COOKIE_AGE_MAX && self.at(made_us, from, claims) == cookie).then_some(age)
    }

    fn at(&self, made_us: u64, from: SocketAddr, claims: &[u8]) -> u64 {
        let mut sip = Sip::new(self.key);
        sip.word(made_us);
        match from.ip() {
            IpAddr::V4(ip) => sip.word(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => {
                let bits = u128::from(ip);
                sip.word((bits >> 64) as u64);
                sip.word(bits as u64);
            }
        }
        sip.word(u64::from(from.port()) << 1 | u64::from(from.is_ipv6()));
        (sip.bytes(claims) & !TIME_MASK) | (made_us & TIME_MASK)
    }
}

fn micros(now: Instant) -> u64 {
    now.as_nanos() / 1000
}

/// SipHash-2-4 over whole words, then a tail of bytes.
struct Sip {
    v: [u64; 4],
    bytes: u64,
}

impl Sip {
    fn new(key: [u64; 2]) -> Self {
        let [k0, k1] = key;
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, bytes: 0 }
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
        self.bytes += 8;
    }

    fn bytes(mut self, bytes: &[u8]) -> u64 {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        last[7] = (self.bytes + tail.len() as u64) as u8;
        self.word(u64::from_le_bytes(last));
        self.v[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.v;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*b);
        *a = a.wrapping_add(*d);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_siphash_paper() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(Sip::new(key).bytes(&input), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn a_cookie_holds_for_its_address_its_claims_and_a_few_seconds() {
        let key = CookieKey::draw(&mut Rng::from_seed(1));
        let here: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let there: SocketAddr = "127.0.0.1:7001".parse().unwrap();
        let now = Instant::ZERO + Duration::from_secs(100);
        let cookie = key.make(now, here, b"claims");
        assert_eq!(key.age(now, here, b"claims", cookie), Some(Duration::ZERO));
        let later = now + Duration::from_micros(123);
        assert_eq!(key.age(later, here, b"claims", cookie), Some(Duration::from_micros(123)));
        assert_eq!(key.age(now + COOKIE_AGE_MAX, here, b"claims", cookie), Some(COOKIE_AGE_MAX));
        for seconds in [5, 16, 17, 18, 100] {
            assert_eq!(key.age(now + Duration::from_secs(seconds), here, b"claims", cookie), None);
        }
        assert_eq!(key.age(now + Duration::from_micros(1 << 24), here, b"claims", cookie), None);
        assert_eq!(key.age(now, there, b"claims", cookie), None);
        assert_eq!(key.age(now, here, b"claimz", cookie), None);
        for bit in 0..64 {
            assert_eq!(key.age(now, here, b"claims", cookie ^ 1 << bit), None);
        }
        let other = CookieKey::draw(&mut Rng::from_seed(2));
        assert_eq!(other.age(now, here, b"claims", cookie), None);
    }
}
