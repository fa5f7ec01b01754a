//! Somebody on the network who has heard everything and knows the cluster's id.
//!
//! A datagram without a seal can be made by anybody who knows the cluster's id, so whoever speaks under a member's
//! address *and* incarnation, in numbers of packets not seen yet, is that member to everyone. What plain datagrams
//! must withstand, and what is sent here: true ones played again at any later time and from anywhere, ones of wrong
//! clusters, wrong parties and wrong incarnations with the right checksum, noise, and malformed frames from strangers.
//! Only a node on an older copy of its folder is spared: its boots bear the numbers of boots that were, so what was
//! once said to those passes for new.
//!
//! Where the seal is required there is no such limit: an adversary without a key also says, as a member and in the
//! member's own numbers, what would elect it; and alters what it heard as it likes.

use core::time::Duration;

use super::Plan;
use super::mix::magnitude;
use crate::machine::Machine;
use crate::message::{Message, VoteRequest};
use crate::rng::Rng;
use crate::seal::SealMode;
use crate::sim::network::End;
use crate::sim::simulation::Simulation;
use crate::types::{CallId, ClusterId, GroupId, Incarnation, Index, NodeId, PacketNumber, Term};
use crate::wire::peer::encode_message;
use crate::wire::{self, Class, Flags, Frame, Header, Party};

/// A client's place that no client takes.
const STRANGER: End = End::Client(60);

impl Plan {
    /// Plays a whole captured stretch again.
    pub(super) fn play_captured<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let stretch: Vec<(End, End, Vec<u8>)> = sim.tapped().cloned().collect();
        let after = magnitude(&mut self.rng, Duration::from_millis(1), Duration::from_secs(60));
        for (at, (from, to, bytes)) in stretch.into_iter().enumerate() {
            if matches!(to, End::Node(_)) {
                sim.inject(from, to, bytes, after + Duration::from_micros(at as u64 * 20));
            }
        }
    }

    /// Sends a few datagrams of the adversary's own making.
    pub(super) fn forge<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let cluster = (1..=sim.nodes()).find_map(|node| sim.node(node).map(|node| node.cluster()));
        let Some(cluster) = cluster else { return };
        let known: Vec<(End, End, Vec<u8>)> = sim.tapped().cloned().collect();
        if sim.settings().seal == SealMode::Require {
            // With a generator of its own: the plan draws the same against a plain cluster.
            let mut rng = self.rng.clone().fork();
            for (from, to, bytes) in known.iter().filter(|(_, to, _)| matches!(to, End::Node(_))) {
                if !rng.chance(0.2) {
                    continue;
                }
                let delay = magnitude(&mut rng, Duration::from_micros(10), Duration::from_secs(2));
                sim.inject(*from, *to, pretended(bytes, cluster, &mut rng), delay);
            }
        }
        for _ in 0..1 + self.rng.below(20) {
            let delay = magnitude(&mut self.rng, Duration::from_micros(10), Duration::from_secs(2));
            let rng = &mut self.rng;
            let to = End::Node(rng.below(u64::from(sim.nodes())) as usize);
            let forged = match known.get(rng.below(known.len().max(1) as u64) as usize) {
                Some((from @ End::Node(_), to @ End::Node(_), bytes)) if rng.chance(0.2) => {
                    let implausible = implausible(bytes, cluster, rng);
                    sim.inject(*from, *to, implausible, delay);
                    continue;
                }
                Some((from, _, bytes)) if rng.chance(0.7) => {
                    let from = if rng.chance(0.5) { *from } else { STRANGER };
                    (from, changed(bytes, cluster, rng))
                }
                _ => (STRANGER, noise(to, cluster, rng)),
            };
            sim.inject(forged.0, to, forged.1, delay);
        }
    }
}

/// Numbers that no member would send, under a member's name. The packet number is one that the member will use, so
/// that its own datagram of this number is lost.
fn implausible(bytes: &[u8], cluster: ClusterId, rng: &mut Rng) -> Vec<u8> {
    let Ok(header) = wire::parse_header(bytes) else { return bytes.to_vec() };
    let packet = PacketNumber(header.packet.0 + 1 + rng.below(8));
    let header = Header { flags: Flags::NONE, packet, ..header };
    let number = [1 << 20, (1 << 60) - 2][rng.below(2) as usize] - rng.below(4);
    let ask = VoteRequest {
        term: Term(number),
        campaign_term: Term(number + 2),
        campaign: number,
        last_index: Index(number),
        last_term: Term(number),
        is_transfer: false,
    };
    let message = if rng.chance(0.5) { Message::PreVote(ask) } else { Message::Vote(ask) };
    let (mut body, mut frames) = (Vec::new(), Vec::new());
    encode_message(GroupId(0), &message, &mut body);
    Frame::Notice { body: &body }.encode(&mut frames);
    seal(&header, &frames, if header.cluster_tag == 0 { ClusterId::ZERO } else { cluster })
}

/// What would make its sender a member, or change what a member said, if datagrams were not sealed.
pub(in crate::sim) fn pretended(bytes: &[u8], cluster: ClusterId, rng: &mut Rng) -> Vec<u8> {
    let Ok(header) = wire::parse_header(bytes) else { return bytes.to_vec() };
    let mut altered = bytes.to_vec();
    match rng.below(6) {
        0 | 1 => {}
        2 => {
            let bit = rng.below(bytes.len() as u64 * 8) as usize;
            altered[bit / 8] ^= 0x80 >> (bit % 8);
            return altered;
        }
        3 => {
            altered.truncate(rng.below(bytes.len() as u64) as usize);
            return altered;
        }
        4 => {
            altered[wire::HEADER_BYTES - 1] = altered[wire::HEADER_BYTES - 1].wrapping_add(1);
            return altered;
        }
        _ => {
            altered.extend((0..=rng.below(20)).map(|_| rng.next_u64() as u8));
            return altered;
        }
    }
    let term = Term(2 + rng.below(60));
    let (last_index, last_term) = (Index(1 << 40), term);
    let ask = VoteRequest {
        term,
        campaign_term: term,
        campaign: 1 << 30,
        last_index,
        last_term,
        is_transfer: rng.chance(0.5),
    };
    let (mut body, mut frames) = (Vec::new(), Vec::new());
    encode_message(GroupId(0), &Message::Vote(ask), &mut body);
    let call = CallId((1 << 40) + rng.below(1 << 20));
    Frame::Request { call, class: Class::Again, body: &body }.encode(&mut frames);
    let packet = PacketNumber(header.packet.0 + 1 + rng.below(8));
    let plain = Header { flags: Flags::ACK_ELICITING, packet, ..header };
    let mut made = seal(&plain, &frames, if header.cluster_tag == 0 { ClusterId::ZERO } else { cluster });
    if rng.chance(0.5) {
        // Under the id of a session or key that there is, with a tag of nothing.
        wire::mark_sealed(&mut made, Flags::NONE, wire::seal_id(bytes));
        made.extend_from_slice(&rng.bytes16());
    }
    made
}

/// A true datagram with one thing wrong that no true one has, and the right checksum.
fn changed(bytes: &[u8], cluster: ClusterId, rng: &mut Rng) -> Vec<u8> {
    let Ok(mut header) = wire::parse_header(bytes) else { return bytes.to_vec() };
    let is_tagged = header.cluster_tag != 0;
    let mut cluster = cluster;
    match rng.below(5) {
        0 => return bytes.to_vec(),
        1 if is_tagged => header.source_incarnation = Incarnation(rng.next_u64() as u32 | 1 << 31),
        2 if is_tagged => header.destination_incarnation = Incarnation(rng.next_u64() as u32 | 1 << 31),
        3 => {
            cluster = ClusterId(rng.bytes16());
            header.cluster_tag = cluster.tag();
        }
        // A member of this number there is not.
        _ => header.source = NodeId::new(60_000).map_or(Party::Any, Party::Node),
    }
    let mut body = bytes[wire::HEADER_BYTES..].to_vec();
    if rng.chance(0.3) && !body.is_empty() {
        let at = rng.below(body.len() as u64) as usize;
        body[at] = rng.next_u64() as u8;
    }
    seal(&header, &body, if header.cluster_tag == 0 { ClusterId::ZERO } else { cluster })
}

/// A header that a stranger may send, and anything after it.
fn noise(to: End, cluster: ClusterId, rng: &mut Rng) -> Vec<u8> {
    let mut body: Vec<u8> = (0..rng.below(300)).map(|_| rng.next_u64() as u8).collect();
    if let Some(first) = body.first_mut()
        && rng.chance(0.8)
    {
        *first = rng.below(0x1a) as u8;
    }
    if rng.chance(0.1) {
        return body;
    }
    let destination = match to {
        End::Node(place) if rng.chance(0.8) => NodeId::new(place as u16 + 1).map_or(Party::Any, Party::Node),
        _ => Party::Any,
    };
    let is_tagged = rng.chance(0.7);
    let header = Header {
        flags: if rng.chance(0.5) { Flags::CLIENT } else { Flags::ACK_ELICITING },
        cluster_tag: if is_tagged { cluster.tag() } else { 0 },
        source: Party::Any,
        destination,
        source_incarnation: Incarnation(rng.next_u64() as u32 | 1 << 31),
        destination_incarnation: Incarnation(rng.next_u64() as u32),
        packet: PacketNumber(1 + rng.below(1 << 40)),
    };
    seal(&header, &body, if is_tagged { cluster } else { ClusterId::ZERO })
}

fn seal(header: &Header, body: &[u8], cluster: ClusterId) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(wire::HEADER_BYTES + body.len());
    wire::begin(&mut datagram, header);
    datagram.extend_from_slice(body);
    wire::finish(&mut datagram, cluster);
    datagram
}
