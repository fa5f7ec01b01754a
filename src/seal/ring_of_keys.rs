//! The keys that one end holds, ready for use.

use core::fmt;
use std::sync::Arc;

use crate::seal::key::{Key, KeyFault, KeyFileError, KeyRole};
use crate::seal::secret::Secret;
use crate::seal::suite::{Initiator, MAC_BYTES, NOISE_BYTES, Split, Suite, is_equal};

/// Whether datagrams are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealMode {
    /// Never, and sealed ones are dropped.
    #[default]
    Off,
    /// Sealed ones and plain ones are taken, and this end greets with sealed ones first: for the time of a change.
    Accept,
    /// Always, and plain ones are dropped.
    Require,
}

/// What the other end of a link has proved by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: the link is plain.
    None,
    /// That it holds a key of this role.
    Key(KeyRole),
}

impl Trust {
    /// True when who proved this may change the cluster itself, such as its members: not the holder of a client's key.
    /// Where nobody needs a key everybody may.
    #[must_use]
    pub const fn may_change_cluster(self) -> bool {
        !matches!(self, Self::Key(KeyRole::Client))
    }
}

/// A key's public name: 31 bits that follow from it. `[W-71]`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl KeyId {
    /// The seven bits of it that the ids of sessions repeat, so that also a receiver that has forgotten a session
    /// knows a key to answer under. `[W-72]`
    #[must_use]
    pub const fn mark(self) -> u32 {
        self.0 & 0x7f
    }
}

/// The place of a key in its [`KeyRing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlot(usize);

/// What comes of a key.
struct Held {
    role: KeyRole,
    id: KeyId,
    mac: Secret,
    psk: Secret,
}

/// The keys of one end. The first cluster key is the one that a node greets with, the first key of all the one of a
/// client; all are accepted.
pub struct KeyRing {
    suite: Arc<dyn Suite>,
    keys: Vec<Held>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (key.role, key.id))).finish()
    }
}

impl KeyRing {
    /// Derives what is needed of each key; the keys themselves are dropped. `[W-71]`
    pub fn new(suite: Arc<dyn Suite>, keys: Vec<Key>) -> Result<Self, KeyFileError> {
        let mut held: Vec<Held> = Vec::with_capacity(keys.len());
        for Key { role, secret } in keys {
            let derive = |label: &[u8]| suite.hmac(secret.expose(), &[b"raftgram 1 ", label]);
            let [a, b, c, d, ..] = derive(b"id");
            let id = KeyId(u32::from_be_bytes([a, b, c, d]) & SESSION_BIT.wrapping_sub(1));
            if held.iter().any(|known| known.id == id) {
                return Err(KeyFileError { line: 0, fault: KeyFault::Twice });
            }
            held.push(Held {
                role,
                id,
                mac: Secret::new(derive(b"greeting")),
                psk: Secret::new(derive(b"noise")),
            });
        }
        if held.is_empty() {
            return Err(KeyFileError { line: 0, fault: KeyFault::Empty });
        }
        Ok(Self { suite, keys: held })
    }

    /// The cryptography they are used with.
    #[must_use]
    pub fn suite(&self) -> &dyn Suite {
        &*self.suite
    }

    /// Role and id of each, in order.
    pub fn list(&self) -> impl Iterator<Item = (KeyRole, KeyId)> + '_ {
        self.keys.iter().map(|key| (key.role, key.id))
    }

    /// The key a node greets with.
    #[must_use]
    pub fn for_node(&self) -> Option<KeySlot> {
        self.keys.iter().position(|key| key.role == KeyRole::Cluster).map(KeySlot)
    }

    /// The key a client greets with.
    #[must_use]
    pub fn for_client(&self) -> KeySlot {
        KeySlot(0)
    }

    /// The key of this id.
    #[must_use]
    pub fn find(&self, id: KeyId) -> Option<KeySlot> {
        self.keys.iter().position(|key| key.id == id).map(KeySlot)
    }

    /// The first key with this mark.
    #[must_use]
    pub fn find_marked(&self, mark: u32) -> Option<KeySlot> {
        self.keys.iter().position(|key| key.id.mark() == mark).map(KeySlot)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self, slot: KeySlot) -> KeyId {
        self.keys[slot.0].id
    }

    /// Its role.
    #[must_use]
    pub fn role(&self, slot: KeySlot) -> KeyRole {
        self.keys[slot.0].role
    }

    /// The MAC of a handshake's datagram. `[W-74]`
    #[must_use]
    pub fn mac(&self, slot: KeySlot, cluster: &[u8], datagram: &[u8]) -> [u8; MAC_BYTES] {
        let whole = self.suite.hmac(self.keys[slot.0].mac.expose(), &[cluster, datagram]);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&whole[..MAC_BYTES]);
        mac
    }

    /// True when that is its MAC.
    #[must_use]
    pub fn verifies(&self, slot: KeySlot, cluster: &[u8], datagram: &[u8], mac: &[u8]) -> bool {
        is_equal(&self.mac(slot, cluster, datagram), mac)
    }

    /// Begins a handshake under a key.
    #[must_use]
    pub fn initiate(
        &self,
        slot: KeySlot,
        prologue: &[u8],
        ephemeral: Secret,
    ) -> (Box<dyn Initiator>, [u8; NOISE_BYTES]) {
        self.suite.initiate(&self.keys[slot.0].psk, prologue, ephemeral)
    }

    /// Answers one.
    #[must_use]
    pub fn answer(
        &self,
        slot: KeySlot,
        prologue: &[u8],
        ephemeral: Secret,
        message: &[u8; NOISE_BYTES],
    ) -> Option<([u8; NOISE_BYTES], Split)> {
        self.suite.answer(&self.keys[slot.0].psk, prologue, ephemeral, message)
    }
}

/// The bit that tells the ids of sessions from those of keys. `[W-72]`
pub(super) const SESSION_BIT: u32 = 1 << 31;
