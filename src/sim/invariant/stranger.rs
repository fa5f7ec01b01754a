//! Invariant 22: how large a datagram is, and what an address gets that has proven nothing.
//!
//! An address has proven itself to a node when it returned a number that the node had sent there: the nonce of a
//! hello, or that of a hello-ack. Until then it gets what a handshake of the node's own needs, and beyond that at most
//! one datagram, no larger, for each of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::violation::{Broken, hold};
use crate::types::NodeId;
use crate::wire::{self, Frame};

/// How many nonces are remembered per address; more handshakes are never under way at once.
const NONCES_MAX: usize = 64;

/// One address in the eyes of one node.
#[derive(Debug, Default)]
struct Address {
    is_proven: bool,
    /// Nonces sent there, of hellos and hello-acks.
    nonces: Vec<u64>,
    /// Datagrams from there that were not answered yet: the count and the longest.
    requests: u64,
    request_bytes: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    addresses: BTreeMap<(NodeId, SocketAddr), Address>,
}

impl Strangers {
    /// A node has forgotten who proved what.
    pub(super) fn booted(&mut self, node: NodeId) {
        self.addresses.retain(|(at, _), _| *at != node);
    }

    /// A datagram of this size comes to a node; `bytes` are its header and its frames in plain.
    pub(super) fn received(&mut self, node: NodeId, from: SocketAddr, size: usize, bytes: &[u8]) {
        let address = self.addresses.entry((node, from)).or_default();
        if address.is_proven {
            return;
        }
        address.requests += 1;
        address.request_bytes = address.request_bytes.max(size);
        let Ok(header) = wire::parse_header(bytes) else { return };
        let Ok(frames) = wire::frames(&header, bytes) else { return };
        address.is_proven = frames.into_iter().any(|frame| match frame {
            Frame::HelloAck(ack) => address.nonces.contains(&ack.nonce_a),
            Frame::Confirm(confirm) => address.nonces.contains(&confirm.nonce_b),
            _ => false,
        });
    }

    /// A datagram leaves a node.
    pub(super) fn sent(
        &mut self,
        node: NodeId,
        to: SocketAddr,
        bytes: usize,
        frames: &wire::Frames<'_>,
    ) -> Result<(), Broken> {
        let address = self.addresses.entry((node, to)).or_default();
        if address.is_proven {
            return Ok(());
        }
        let mut is_own_handshake = false;
        for frame in frames.clone() {
            let nonce = match frame {
                Frame::Hello(hello) => {
                    is_own_handshake = true;
                    hello.nonce_a
                }
                Frame::HelloAck(ack) => ack.nonce_b,
                _ => continue,
            };
            if !address.nonces.contains(&nonce) {
                if address.nonces.len() == NONCES_MAX {
                    address.nonces.remove(0);
                }
                address.nonces.push(nonce);
            }
        }
        if is_own_handshake {
            return Ok(());
        }
        hold!(
            address.requests > 0 && bytes <= address.request_bytes,
            DatagramSize,
            "sends {bytes} bytes to {to}, which has proven nothing and sent {} datagrams of at most {} bytes",
            address.requests,
            address.request_bytes
        );
        address.requests -= 1;
        Ok(())
    }
}
