//! The sessions of one link: the one it seals with, the one before, and one whose keys the peer has not shown yet.
//!
//! Whoever initiated a handshake seals with its session as soon as the welcome is there; the answerer goes on with the
//! session before until a datagram opens under the new one, which proves that the peer has it. The session before is
//! kept for three probe timeouts after such a datagram, for what is still on its way. `[W-75]`

use core::net::SocketAddr;
use core::time::Duration;

use crate::rpc::core::Core;
use crate::rpc::event::LinkId;
use crate::seal::{Initiator, Phase, Session, SessionId};
use crate::time::Instant;
use crate::types::ClusterId;
use crate::wire::SealOffer;

/// A handshake of this end whose welcome is awaited.
#[derive(Debug)]
pub(super) struct Initiation {
    pub(super) nonce_a: u64,
    pub(super) id_in: SessionId,
    /// What the confirm says, each time the same.
    pub(super) offer: SealOffer,
    pub(super) state: Box<dyn Initiator>,
}

/// The last handshake that this end answered: a copy of its confirm gets the same welcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) nonce_a: u64,
    /// The confirm's packet number; handshakes from lower ones are over.
    pub(super) packet: u64,
    pub(super) offer: SealOffer,
}

/// See the file's page.
#[derive(Debug, Default)]
pub(super) struct LinkSeal {
    current: Option<Session>,
    /// And until when it is kept, once that is known.
    before: Option<(Session, Option<Instant>)>,
    /// This end answered; the peer has not used it yet.
    pending: Option<Session>,
    pub(super) answered: Option<Answered>,
    pub(super) initiation: Option<Initiation>,
}

impl LinkSeal {
    /// True when the link's datagrams are sealed.
    pub(super) fn is_sealed(&self) -> bool {
        self.current.is_some()
    }

    /// True when nothing more may be sealed before another handshake.
    pub(super) fn is_exhausted(&self) -> bool {
        self.current.as_ref().is_some_and(Session::is_exhausted)
    }

    /// Ends all sessions: they were another incarnation's.
    pub(super) fn clear(&mut self, core: &mut Core) {
        let before = self.before.take().map(|(session, _)| session);
        for session in [self.current.take(), before, self.pending.take()].into_iter().flatten() {
            core.seals.sessions.remove(&session.id_in());
        }
        self.answered = None;
        self.initiation = None;
    }

    /// Takes a session into use that this end initiated, or that is the first of its pair of incarnations.
    pub(super) fn use_now(&mut self, core: &mut Core, link: LinkId, session: Session) {
        core.seals.sessions.insert(session.id_in(), link);
        if let Some(current) = self.current.replace(session) {
            self.put_before(core, current, None);
        }
    }

    /// Holds a session that this end answered until its peer uses it.
    pub(super) fn use_when_opened(&mut self, core: &mut Core, link: LinkId, session: Session) {
        core.seals.sessions.insert(session.id_in(), link);
        if let Some(unused) = self.pending.replace(session) {
            core.seals.sessions.remove(&unused.id_in());
        }
    }

    fn put_before(&mut self, core: &mut Core, session: Session, until: Option<Instant>) {
        if let Some((gone, _)) = self.before.replace((session, until)) {
            core.seals.sessions.remove(&gone.id_in());
        }
    }

    /// Forgets the session before, when its time is over.
    pub(super) fn expire(&mut self, now: Instant, core: &mut Core) {
        if let Some((session, _)) = self.before.take_if(|(_, until)| until.is_some_and(|at| at <= now)) {
            core.seals.sessions.remove(&session.id_in());
        }
    }

    /// Opens a datagram in place with the session of this id; false when it cannot be.
    pub(super) fn open(
        &mut self,
        (now, keep): (Instant, Duration),
        core: &mut Core,
        sealed: &Sealed<'_>,
        text_and_tag: &mut [u8],
    ) -> bool {
        self.expire(now, core);
        let Some(keys) = core.config.seal.keys.clone() else {
            return false;
        };
        let open = |session: &mut Session, text: &mut [u8]| {
            session.open(keys.suite(), (now, keep), sealed.phase, sealed.packet, sealed.associated, text)
        };
        let has_id = |session: &Session| session.id_in() == sealed.id;
        if let Some(session) = self.current.as_mut().filter(|session| has_id(session)) {
            let is_open = open(session, text_and_tag);
            if is_open && let Some((_, until @ None)) = &mut self.before {
                *until = Some(now + keep);
            }
            return is_open;
        }
        if let Some((session, _)) = self.before.as_mut().filter(|(session, _)| has_id(session)) {
            return open(session, text_and_tag);
        }
        let Some(mut session) = self.pending.take_if(|session| has_id(session)) else {
            return false;
        };
        if !open(&mut session, text_and_tag) {
            self.pending = Some(session);
            return false;
        }
        if let Some(current) = self.current.replace(session) {
            self.put_before(core, current, Some(now + keep));
        }
        true
    }

    /// Seals a datagram with the current session and hands it out.
    ///
    /// # Panics
    /// When there is none, or it is exhausted.
    pub(super) fn transmit(
        &mut self,
        core: &mut Core,
        to: SocketAddr,
        bytes: Vec<u8>,
        cluster: ClusterId,
        packet: u64,
    ) {
        let session = self.current.as_mut().expect("a sealed link has a session");
        core.transmit_sealed(to, bytes, cluster, session, packet);
    }

    /// The peer acknowledged a packet.
    pub(super) fn on_acked(&mut self, packet: u64) {
        if let Some(session) = &mut self.current {
            session.on_acked(packet);
        }
    }
}

/// What is known of a sealed datagram before it is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed<'a> {
    pub(super) id: SessionId,
    pub(super) phase: Phase,
    pub(super) packet: u64,
    pub(super) associated: &'a [u8],
}
