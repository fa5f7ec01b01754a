//! The seal's own handshake inside the link's: its first message stands beside the confirm, its second beside the
//! welcome. `[W-75]`
//!
//! It is not beside the hello, where an answerer would have to compute for whoever sends one. A confirm shows a fresh
//! nonce that only the hello's address got, under the MAC of a key; before it an answerer computes two MACs and keeps
//! nothing.

use crate::cursor::Writer as _;
use crate::rpc::config::LocalRole;
use crate::rpc::cover::Cover;
use crate::rpc::endpoint::Rpc;
use crate::rpc::event::LinkId;
use crate::rpc::hello::Envelope;
use crate::rpc::link::{Answerer, Link, Step};
use crate::rpc::link_seal::{Answered, Initiation};
use crate::seal::{KeySlot, SealMode, Session, SessionId, SessionKeys, Split};
use crate::types::{ClusterId, Identity};
use crate::wire::{Confirm, DropReason, Header, Hello, Party, SealOffer};

/// What is to come of a sealed confirm.
#[derive(Debug)]
pub(super) enum Answering {
    /// It is a copy of one that was answered: the same welcome goes out again.
    Again(LinkId, SealOffer),
    /// It begins a session.
    Fresh(Box<Session>, SealOffer),
    /// This end's own handshake stands. `[W-18]`
    Ignore,
}

/// What both ends mix into the handshake: who speaks to whom about which hello. `[W-75]`
fn prologue(cluster: ClusterId, confirm: &Header, nonces: Confirm) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.put_bytes(b"raftgram 1");
    out.put_bytes(&if confirm.cluster_tag == 0 { ClusterId::ZERO } else { cluster }.0);
    out.put_u16(confirm.source.as_u16());
    out.put_u16(confirm.destination.as_u16());
    out.put_u32(confirm.source_incarnation.0);
    out.put_u32(confirm.destination_incarnation.0);
    out.put_u64(nonces.nonce_a);
    out.put_u64(nonces.nonce_b);
    out
}

impl Rpc {
    /// Begins the seal's handshake for a confirm that has this header.
    pub(super) fn initiate_seal(&mut self, id: LinkId, slot: KeySlot, confirm: &Header, nonces: Confirm) {
        let (Some(id_in), Some(keys)) = (self.core.next_session(slot), self.core.config.seal.keys.clone())
        else {
            return;
        };
        let prologue = prologue(self.core.local.cluster, confirm, nonces);
        let ephemeral = self.core.draw_secret();
        let (state, message) = keys.initiate(slot, &prologue, ephemeral);
        if let Some(link) = self.links.get_mut(&id) {
            let offer = SealOffer { session: id_in.0, message };
            let nonce_a = nonces.nonce_a;
            link.seal.initiation = Some(Initiation { nonce_a, id_in, offer, state });
        }
    }

    /// The session of a welcome; `None` when it does not fit what was sent.
    pub(super) fn finish_seal(&mut self, id: LinkId, nonce_a: u64, offer: &SealOffer) -> Option<Session> {
        let link = self.links.get_mut(&id)?;
        let initiation = link.seal.initiation.as_mut().filter(|initiation| initiation.nonce_a == nonce_a)?;
        let id_out = SessionId::parse(offer.session).ok()?;
        let Split { initiator, answerer } = initiation.state.finish(&offer.message)?;
        let id_in = initiation.id_in;
        link.seal.initiation = None;
        let packets_per_phase_max = self.core.config.seal.packets_per_phase_max;
        let keys =
            SessionKeys { id_in, id_out, sending: initiator, receiving: answerer, packets_per_phase_max };
        Some(self.core.session(keys))
    }

    /// Judges a sealed confirm whose cookie is good. Nothing is changed yet.
    pub(super) fn answer_seal(
        &mut self,
        envelope: &Envelope,
        hello: &Hello,
        confirm: Confirm,
        offer: Option<&SealOffer>,
    ) -> Result<Answering, DropReason> {
        let Cover::Key(slot) = envelope.cover else {
            return Err(DropReason::Crc);
        };
        let offer = offer.ok_or(DropReason::MalformedFrame)?;
        let known = self.link_of_claim(&envelope.header, hello);
        if let Some(link) = known {
            match link.seal.answered {
                Some(answered) if answered.nonce_a == hello.nonce_a => {
                    return Ok(Answering::Again(link.id, answered.offer));
                }
                // A late copy of a confirm must not bring an earlier handshake back.
                Some(answered)
                    if is_same_boot(link, &envelope.header, hello)
                        && envelope.header.packet.0 <= answered.packet =>
                {
                    return Err(DropReason::Replay);
                }
                _ => {}
            }
            if self.stands_with_confirm(link, &envelope.header, hello) {
                return Ok(Answering::Ignore);
            }
        }
        let id_out = SessionId::parse(offer.session).map_err(|_| DropReason::MalformedFrame)?;
        let prologue = prologue(self.core.local.cluster, &envelope.header, confirm);
        let ephemeral = self.core.draw_secret();
        let keys = self.core.config.seal.keys.clone().ok_or(DropReason::Crc)?;
        let (message, split) =
            keys.answer(slot, &prologue, ephemeral, &offer.message).ok_or(DropReason::Crc)?;
        let id_in = self.core.next_session(slot).ok_or(DropReason::Crc)?;
        let packets_per_phase_max = self.core.config.seal.packets_per_phase_max;
        let Split { initiator, answerer } = split;
        let session =
            SessionKeys { id_in, id_out, sending: answerer, receiving: initiator, packets_per_phase_max };
        let session = self.core.session(session);
        Ok(Answering::Fresh(Box::new(session), SealOffer { session: id_in.0, message }))
    }

    /// The link of whoever a greeter says it is.
    fn link_of_claim(&self, header: &Header, hello: &Hello) -> Option<&Link> {
        let id = match header.source {
            Party::Node(node) => self.by_node.get(&node),
            Party::Any => self.by_client_nonce.get(&hello.description.boot_nonce),
        };
        self.links.get(id?).map(|link| &**link)
    }

    /// When two confirms cross, each end would have answered the other's handshake and given up its own. So that of
    /// the lower stands, as with hellos. `[W-18]`
    fn stands_with_confirm(&self, link: &Link, header: &Header, hello: &Hello) -> bool {
        let (LocalRole::Node { identity, .. }, Party::Node(node)) = (self.core.local.role, header.source)
        else {
            return false;
        };
        let theirs = Identity { node, store: hello.description.store };
        let is_confirming = |link: &Link| {
            link.seal.initiation.is_some()
                && link.handshake.is_some_and(|handshake| {
                    matches!(handshake.step, Step::Confirm(Answerer { node: to, .. }) if to == node)
                })
        };
        let is_open = is_confirming(link)
            || self.greetings.values().filter_map(|id| self.links.get(id)).any(|link| is_confirming(link));
        is_open && identity < theirs
    }

    /// Puts an answered session on its link: at once when there is nothing before it, otherwise when the peer has
    /// shown that it has the keys too.
    pub(super) fn install_answered(&mut self, id: LinkId, answered: Answered, session: Session) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.seal.is_sealed() {
            link.seal.use_when_opened(&mut self.core, id, session);
        } else {
            link.seal.use_now(&mut self.core, id, session);
        }
        link.seal.answered = Some(answered);
    }

    /// True when plain datagrams are taken at all. `[W-78]`
    pub(super) fn takes_plain(&self) -> bool {
        self.core.config.seal.mode != SealMode::Require
    }
}

fn is_same_boot(link: &Link, header: &Header, hello: &Hello) -> bool {
    link.peer.is_some_and(|peer| {
        peer.info.boot_nonce == hello.description.boot_nonce
            && (header.source == Party::Any || peer.info.incarnation == header.source_incarnation)
    })
}
