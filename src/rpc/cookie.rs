//! The cookie of hello-ack: a number that only a receiver of datagrams at that address can repeat, computed from
//! the hello alone, so that nothing is stored for whoever has not returned it.
//!
//! It is SipHash-2-4 (Aumasson and Bernstein 2012) under a secret drawn at start, over the address, the nonce, the
//! claimed identity and a slice of time. It stops whoever cannot read our answers from opening a link or making us
//! store anything; it does not stop someone on the path, who sees the cookie. For that there is the seal.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::rng::Rng;
use crate::time::Instant;

/// A cookie is good in the slice it was made in and in the next one.
const SLICE: Duration = Duration::from_secs(4);

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
        self.at(slice(now), from, claims)
    }

    /// True when [`Self::make`] gave this cookie for the same address and claims a short while ago.
    pub(super) fn is_good(&self, now: Instant, from: SocketAddr, claims: &[u8], cookie: u64) -> bool {
        let slice = slice(now);
        self.at(slice, from, claims) == cookie
            || (slice > 0 && self.at(slice - 1, from, claims) == cookie)
    }

    fn at(&self, slice: u64, from: SocketAddr, claims: &[u8]) -> u64 {
        let mut sip = Sip::new(self.key);
        sip.word(slice);
        match from.ip() {
            IpAddr::V4(ip) => sip.word(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => {
                let bits = u128::from(ip);
                sip.word((bits >> 64) as u64);
                sip.word(bits as u64);
            }
        }
        sip.word(u64::from(from.port()) << 1 | u64::from(from.is_ipv6()));
        sip.bytes(claims)
    }
}

fn slice(now: Instant) -> u64 {
    now.as_nanos() / SLICE.as_nanos() as u64
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
        assert!(key.is_good(now, here, b"claims", cookie));
        assert!(key.is_good(now + SLICE, here, b"claims", cookie));
        assert!(!key.is_good(now + 2 * SLICE, here, b"claims", cookie));
        assert!(!key.is_good(now, there, b"claims", cookie));
        assert!(!key.is_good(now, here, b"claimz", cookie));
        let other = CookieKey::draw(&mut Rng::from_seed(2));
        assert!(!other.is_good(now, here, b"claims", cookie));
    }
}
