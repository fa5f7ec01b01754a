//! The seal: invariant 29, and how all other checks see through it.
//!
//! The checks hold the keys, and are told every session's secrets as a key log is. So each datagram that a node sends
//! is opened at once, and what the other checks look at is what it would have been in plain.
//!
//! Where sealed datagrams are required, a node sends no other (but a word to who cannot read better), and whatever
//! an end takes, byte for byte, is something that an end sent: not what a link or an adversary altered or made. Of a
//! session, an end takes it once. So the account holds a number for each datagram of a run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::violation::{Broken, hold};
use crate::seal::{Captured, KeyLog, KeyRing, MAC_BYTES, Phase, SealMode, Secret, SessionId, TAG_BYTES};
use crate::types::ClusterId;
use crate::wire::{self, Flags, Frame, HEADER_BYTES, Header};

/// The secrets of all sessions, in the order in which their ends noted them: a list that only grows, and so needs no
/// lock.
#[derive(Debug, Default)]
pub struct SessionSecrets {
    first: Slot,
}

type Slot = OnceLock<Box<Noted>>;

#[derive(Debug)]
struct Noted {
    id: SessionId,
    secret: Secret,
    next: Slot,
}

impl SessionSecrets {
    /// Beyond the first `count`.
    fn after(&self, count: usize) -> impl Iterator<Item = (SessionId, &Secret)> {
        let first = self.first.get();
        core::iter::successors(first, |noted| noted.next.get())
            .skip(count)
            .map(|noted| (noted.id, &noted.secret))
    }
}

impl KeyLog for SessionSecrets {
    fn note(&self, id: SessionId, secret: &Secret) {
        let mut noted = Box::new(Noted { id, secret: secret.clone(), next: Slot::new() });
        let mut slot = &self.first;
        loop {
            match slot.get() {
                Some(taken) => slot = &taken.next,
                None => match slot.set(noted) {
                    Ok(()) => return,
                    Err(again) => noted = again,
                },
            }
        }
    }
}

impl Drop for SessionSecrets {
    fn drop(&mut self) {
        // One after the other: a chain that drops itself needs as much stack as it is long.
        let mut slot = core::mem::take(&mut self.first);
        while let Some(mut noted) = slot.into_inner() {
            slot = core::mem::take(&mut noted.next);
        }
    }
}

/// What became of a datagram that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Taken,
}

/// See the file's page.
#[derive(Debug)]
pub(super) struct SealCheck {
    mode: SealMode,
    keys: Arc<KeyRing>,
    secrets: Arc<SessionSecrets>,
    secrets_read: usize,
    sessions: BTreeMap<SessionId, Vec<Captured>>,
    /// By a hash of all their bytes.
    sent: BTreeMap<u64, Fate>,
}

impl SealCheck {
    pub(super) fn new(mode: SealMode, keys: Arc<KeyRing>, secrets: Arc<SessionSecrets>) -> Self {
        Self { mode, keys, secrets, secrets_read: 0, sessions: BTreeMap::new(), sent: BTreeMap::new() }
    }

    /// What a datagram that a node sends would be in plain.
    pub(super) fn open<'a>(&mut self, cluster: ClusterId, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Broken> {
        // What has no header is for the other checks.
        let Ok(header) = wire::parse_header(bytes) else { return Ok(Cow::Borrowed(bytes)) };
        if !header.flags.contains(Flags::SEALED) {
            let may_be_plain = self.mode != SealMode::Require || is_refusal(&header, bytes);
            hold!(may_be_plain, Seal, "sends {} bytes in plain", bytes.len());
            return Ok(Cow::Borrowed(bytes));
        }
        let frames = match SessionId::parse(wire::seal_id(bytes)) {
            Err(_) => self.handshake(cluster, bytes).map(|covered| covered[HEADER_BYTES..].to_vec()),
            Ok(id) => self.of_session(id, &header, cluster, bytes),
        };
        let Some(frames) = frames else {
            hold!(false, Seal, "sends {} bytes that no key opens", bytes.len());
            return Ok(Cow::Borrowed(bytes));
        };
        let mut plain = Vec::with_capacity(bytes.len());
        let flags = Flags(header.flags.0 & !Flags::SEALED.with(Flags::KEY_PHASE).0);
        wire::begin(&mut plain, &Header { flags, ..header });
        plain.extend_from_slice(&frames);
        wire::finish(&mut plain, cluster);
        Ok(Cow::Owned(plain))
    }

    /// Header and frames of a handshake's datagram, if its MAC is good.
    pub(super) fn handshake<'a>(&self, cluster: ClusterId, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (covered, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        let header = wire::parse_header(covered).ok()?;
        let key = SessionId::parse(wire::seal_id(covered)).err()?;
        let slot = self.keys.find(key).filter(|_| header.flags.contains(Flags::SEALED))?;
        let cluster = wire::cluster_in_force(bytes, cluster);
        self.keys.verifies(slot, &cluster.0, covered, mac).then_some(covered)
    }

    /// The frames of a session's datagram.
    fn of_session(
        &mut self,
        id: SessionId,
        header: &Header,
        cluster: ClusterId,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let parity = if header.flags.contains(Flags::KEY_PHASE) { Phase::Odd } else { Phase::Even };
        let associated = wire::associated(bytes, cluster);
        let sealed = &bytes[HEADER_BYTES..];
        let frame_bytes = sealed.len().checked_sub(TAG_BYTES)?;
        let mut text = sealed.to_vec();
        loop {
            let known = self.sessions.get_mut(&id).into_iter().flatten();
            // The newest first: ids of different ends may be the same.
            for session in known.rev() {
                text.copy_from_slice(sealed);
                if session.open(self.keys.suite(), parity, header.packet.0, &associated, &mut text) {
                    text.truncate(frame_bytes);
                    return Some(text);
                }
            }
            if !self.read_secrets() {
                return None;
            }
        }
    }

    /// True when there were any that had not been read.
    fn read_secrets(&mut self) -> bool {
        let fresh: Vec<_> = self.secrets.after(self.secrets_read).collect();
        self.secrets_read += fresh.len();
        for (id, secret) in &fresh {
            let session = Captured::new(self.keys.suite(), secret);
            self.sessions.entry(*id).or_default().push(session);
        }
        !fresh.is_empty()
    }

    /// An end sends a datagram, of this hash.
    pub(super) fn sent(&mut self, hash: u64) {
        self.sent.entry(hash).or_insert(Fate::UnderWay);
    }

    /// An end has taken a datagram.
    pub(super) fn taken(&mut self, hash: u64, bytes: &[u8]) -> Result<(), Broken> {
        if self.mode != SealMode::Require {
            return Ok(());
        }
        let Some(fate) = self.sent.get_mut(&hash) else {
            hold!(false, Seal, "takes {} bytes that no end sent", bytes.len());
            return Ok(());
        };
        let is_sessions = bytes.len() >= HEADER_BYTES && SessionId::parse(wire::seal_id(bytes)).is_ok();
        let is_again = core::mem::replace(fate, Fate::Taken) == Fate::Taken;
        hold!(!(is_again && is_sessions), Seal, "takes {} bytes of a session a second time", bytes.len());
        Ok(())
    }
}

/// What is said to who cannot read better: a client without a key that is known, and a later version.
fn is_refusal(header: &Header, bytes: &[u8]) -> bool {
    let is_one = |frame| matches!(frame, Frame::SealRefused { .. } | Frame::Version { .. });
    wire::frames(header, bytes).is_ok_and(|mut frames| frames.all(is_one))
}
