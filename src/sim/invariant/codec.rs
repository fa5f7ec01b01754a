//! Invariant 25, on samples of what is really sent.

use super::violation::{Broken, hold};
use crate::types::ClusterId;
use crate::wire::body::{BodyFamily, body_kind, family};
use crate::wire::client::{decode_reply, decode_request, encode_reply, encode_request};
use crate::wire::digest::{decode_digests, encode_digests};
use crate::wire::peer::{decode_message, encode_message};
use crate::wire::transfer::{decode_pull, decode_pull_reply, encode_pull, encode_pull_reply};
use crate::wire::{self, Frame};

/// One datagram in so many is decoded, encoded again, and sent with one bit flipped to the decoder.
const SAMPLE: u64 = 16;

/// One in so many has every bit flipped in turn.
const SAMPLE_ALL_BITS: u64 = 4096;

/// Where the checksum stands.
const CHECKSUM: core::ops::Range<usize> = 4..8;

/// Counts datagrams, and holds what encoding needs.
#[derive(Debug, Default)]
pub(super) struct CodecCheck {
    seen: u64,
    again: Vec<u8>,
    flipped: Vec<u8>,
}

impl CodecCheck {
    /// Looks at this datagram if its turn has come.
    pub(super) fn sent(&mut self, cluster: ClusterId, bytes: &[u8]) -> Result<(), Broken> {
        self.seen += 1;
        if !self.seen.is_multiple_of(SAMPLE) {
            return Ok(());
        }
        self.check_round_trip(cluster, bytes)?;
        self.flipped.clear();
        self.flipped.extend_from_slice(bytes);
        if self.seen.is_multiple_of(SAMPLE_ALL_BITS) {
            return (0..bytes.len() * 8).try_for_each(|bit| self.check_flip(cluster, bit));
        }
        // Spreads over all places without a draw: a draw here would shift those of the run.
        let spread = self.seen.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.check_flip(cluster, spread as usize % (bytes.len() * 8))
    }

    fn check_round_trip(&mut self, cluster: ClusterId, bytes: &[u8]) -> Result<(), Broken> {
        let datagram = match wire::decode(bytes, cluster) {
            Ok(datagram) => datagram,
            Err(reason) => {
                hold!(false, Codec, "a datagram of {} bytes is dropped: {}", bytes.len(), reason.name());
                return Ok(());
            }
        };
        self.again.clear();
        wire::begin(&mut self.again, &datagram.header);
        for frame in datagram.frames() {
            check_body(&frame)?;
            frame.encode(&mut self.again);
        }
        wire::finish(&mut self.again, cluster);
        let differs = self.again.iter().zip(bytes).position(|(again, sent)| again != sent);
        hold!(
            self.again == bytes,
            Codec,
            "a datagram of {} bytes becomes one of {}, the first difference at {differs:?}",
            bytes.len(),
            self.again.len()
        );
        Ok(())
    }

    fn check_flip(&mut self, cluster: ClusterId, bit: usize) -> Result<(), Broken> {
        let mask = 1 << (bit % 8);
        self.flipped[bit / 8] ^= mask;
        let is_accepted = wire::decode(&self.flipped, cluster).is_ok();
        let checksum: [u8; 4] = self.flipped[CHECKSUM].try_into().unwrap_or_default();
        // What rewrites a datagram may write over its checksum, too.
        let mut passes_with = |value: u8| {
            self.flipped[CHECKSUM].fill(value);
            wire::decode(&self.flipped, cluster).is_ok()
        };
        let is_accepted_without = passes_with(0) || passes_with(0xff);
        self.flipped[CHECKSUM].copy_from_slice(&checksum);
        self.flipped[bit / 8] ^= mask;
        let bytes = self.flipped.len();
        hold!(!is_accepted, Codec, "{bytes} bytes pass with bit {bit} flipped");
        hold!(!is_accepted_without, Codec, "{bytes} bytes pass with bit {bit} flipped and no checksum");
        Ok(())
    }
}

/// Whole bodies are read and written again too.
fn check_body(frame: &Frame<'_>) -> Result<(), Broken> {
    let body = match frame {
        Frame::Request { body, .. } | Frame::Reply { body, .. } | Frame::Notice { body } => *body,
        _ => return Ok(()),
    };
    let mut again = Vec::with_capacity(body.len());
    let is_read = match family(body) {
        Some(BodyFamily::Peer) if body.first() == Some(&body_kind::SNAPSHOT_PULL) => {
            decode_pull(body).map(|(group, pull)| encode_pull(group, &pull, &mut again))
        }
        Some(BodyFamily::Peer) if body.first() == Some(&body_kind::SNAPSHOT_DATA) => {
            decode_pull_reply(body).map(|(group, reply)| encode_pull_reply(group, &reply, &mut again))
        }
        Some(BodyFamily::Peer) if body.first() == Some(&body_kind::STATE_DIGESTS) => {
            decode_digests(body).map(|(group, digests)| encode_digests(group, &digests, &mut again))
        }
        Some(BodyFamily::Peer) => {
            decode_message(body).map(|(group, message)| encode_message(group, &message, &mut again))
        }
        Some(BodyFamily::ClientRequest) => {
            decode_request(body).map(|(group, request)| encode_request(group, &request, &mut again))
        }
        Some(BodyFamily::ClientReply) => {
            decode_reply(body).map(|(group, reply)| encode_reply(group, &reply, &mut again))
        }
        None => {
            hold!(false, Codec, "a body of {} bytes is of no family", body.len());
            return Ok(());
        }
    };
    hold!(is_read.is_ok(), Codec, "a body of {} bytes cannot be read: {is_read:?}", body.len());
    hold!(again == body, Codec, "a body of {} bytes becomes one of {}", body.len(), again.len());
    Ok(())
}
