//! Sealed datagrams in plain, for whoever has the key file or the key log.
//!
//! A key shows a handshake to be genuine. It does not open what the ends say afterwards: those secrets exist in the
//! two ends alone and go with them, which is why a node must be told beforehand to keep a key log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raftgram::run::keys::{CaptureKeys, KeyError, read_capture_keys};
use raftgram::seal::{Captured, KeyRing, MAC_BYTES, Phase, SessionId, Suite, TAG_BYTES, suite};
use raftgram::types::ClusterId;
use raftgram::wire::{Flags, HEADER_BYTES, associated, cluster_in_force, parse_header, seal_id};

use crate::error::CliError;
use crate::key;

/// What the file held.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    keys: Option<KeyRing>,
    sessions: BTreeMap<SessionId, Vec<Captured>>,
    suite: Option<Arc<dyn Suite>>,
}

/// A sealed datagram's frames, and what it was sealed under.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) frames: Vec<u8>,
    pub(crate) under: String,
}

impl Opener {
    pub(crate) fn load(file: &Path) -> Result<Self, CliError> {
        let fault = |error: KeyError| key::fault(&error);
        let CaptureKeys { keys, sessions: list } = read_capture_keys(file).map_err(fault)?;
        let suite = suite();
        let mut sessions: BTreeMap<SessionId, Vec<Captured>> = BTreeMap::new();
        for ((id, secret), suite) in list.iter().zip(std::iter::repeat(suite.as_deref()).flatten()) {
            sessions.entry(*id).or_default().push(Captured::new(suite, secret));
        }
        Ok(Self { keys, sessions, suite })
    }

    /// The datagram in plain; `None` when it is not sealed, or by something else. Without the cluster's id only what
    /// is under no cluster can be opened.
    pub(crate) fn open(&mut self, bytes: &[u8], cluster: Option<ClusterId>) -> Option<Opened> {
        let header = parse_header(bytes).ok().filter(|header| header.flags.contains(Flags::SEALED))?;
        if bytes.len() < HEADER_BYTES + TAG_BYTES {
            return None;
        }
        let cluster = cluster.unwrap_or_default();
        let id = match SessionId::parse(seal_id(bytes)) {
            Err(id) => {
                let keys = self.keys.as_ref()?;
                let (covered, mac) = bytes.split_at(bytes.len() - MAC_BYTES);
                let slot = keys.find(id)?;
                let is_good = keys.verifies(slot, &cluster_in_force(bytes, cluster).0, covered, mac);
                let under = format!("{} key {id}", keys.role(slot).name());
                return is_good.then(|| Opened { frames: covered[HEADER_BYTES..].to_vec(), under });
            }
            Ok(id) => id,
        };
        let phase = if header.flags.contains(Flags::KEY_PHASE) { Phase::Odd } else { Phase::Even };
        let associated = associated(bytes, cluster);
        let suite = self.suite.as_deref()?;
        self.sessions.get_mut(&id)?.iter_mut().find_map(|session| {
            let mut text = bytes[HEADER_BYTES..].to_vec();
            session.open(suite, phase, header.packet.0, &associated, &mut text).then(|| {
                text.truncate(text.len() - TAG_BYTES);
                Opened { frames: text, under: format!("session {:08x}", id.0) }
            })
        })
    }
}
