//! The decoders: whatever they accept they can write, and read again as the same.

use raftgram::types::{ClusterId, Incarnation, NodeId, PacketNumber};
use raftgram::wire::client::{decode_reply, decode_request, encode_reply, encode_request};
use raftgram::wire::digest::{decode_digests, encode_digests};
use raftgram::wire::peer::{decode_message, encode_message};
use raftgram::wire::print::{print_body, print_datagram};
use raftgram::wire::transfer::{decode_pull, decode_pull_reply, encode_pull, encode_pull_reply};
use raftgram::wire::{Flags, Frame, Frames, Header, MAGIC, Party, VERSION, begin};

use super::input::Input;
use super::pool::{CLUSTER, Pool, seal};

/// A whole datagram: the input itself, its magic, version and checksum put right, or one built of known frames.
pub(crate) fn datagram(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let choice = input.byte();
    let mut bytes = Vec::with_capacity(256);
    if choice & 1 == 0 {
        bytes.extend_from_slice(input.rest());
        if choice & 2 == 0 && bytes.len() >= 4 {
            bytes[..2].copy_from_slice(&MAGIC);
            bytes[2] = VERSION;
            bytes[3] &= !Flags::SEALED.0;
        }
    } else {
        begin(&mut bytes, &header(&mut input));
        Pool::shared().add_frames(&mut bytes, &mut input);
    }
    if choice & 4 == 0 {
        seal(&mut bytes, CLUSTER);
    }
    if choice & 0xf8 == 0xf8 {
        drop(print_datagram(&bytes, Some(CLUSTER)).to_string());
    }
    if let Ok(datagram) = raftgram::wire::decode(&bytes, CLUSTER) {
        check_frames(datagram.frames());
    }
    1
}

/// Frames without a datagram around them.
pub(crate) fn frames(data: &[u8]) -> u64 {
    if let Ok(frames) = Frames::check(data) {
        check_frames(frames);
    }
    1
}

/// A body as it is, or one of the pool's.
pub(crate) fn body(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let choice = input.byte();
    let built;
    let bytes = if choice & 1 == 0 {
        input.rest()
    } else {
        built = Pool::shared().body(&mut input);
        &built
    };
    if choice & 0xf8 == 0xf8 {
        let fields = print_body(bytes);
        assert!(!fields.as_slice().is_empty());
    }
    check_body(bytes);
    1
}

fn header(input: &mut Input<'_>) -> Header {
    let party = |byte: u8| NodeId::new(u16::from(byte & 3)).map_or(Party::Any, Party::Node);
    Header {
        flags: Flags(input.byte() & !Flags::SEALED.0),
        cluster_tag: if input.byte() & 1 == 0 { ClusterId::ZERO.tag() } else { CLUSTER.tag() },
        source: party(input.byte()),
        destination: party(input.byte()),
        source_incarnation: Incarnation(u32::from(input.byte())),
        destination_incarnation: Incarnation(u32::from(input.byte())),
        packet: PacketNumber(1 + u64::from(input.byte())),
    }
}

/// What was read is what is read of what is written of it. `[W-1]`
fn check_frames(frames: Frames<'_>) {
    let mut again = Vec::new();
    let mut count = 0;
    for frame in frames.clone() {
        let before = again.len();
        frame.encode(&mut again);
        assert_eq!(again.len() - before, frame.encoded_bytes(), "{frame:?}");
        count += 1;
        if let Frame::Request { body, .. } | Frame::Reply { body, .. } | Frame::Notice { body } = frame {
            check_body(body);
        }
    }
    let read = Frames::check(&again).expect("frames that were written can be read");
    assert_eq!(read.clone().count(), count);
    for (frame, read) in frames.zip(read) {
        assert_eq!(frame, read);
    }
}

fn check_body(body: &[u8]) {
    let mut out = Vec::new();
    if let Ok((group, message)) = decode_message(body) {
        encode_message(group, &message, &mut out);
        assert_eq!(decode_message(&out), Ok((group, message)));
    } else if let Ok((group, request)) = decode_request(body) {
        encode_request(group, &request, &mut out);
        assert_eq!(decode_request(&out), Ok((group, request)));
    } else if let Ok((group, reply)) = decode_reply(body) {
        encode_reply(group, &reply, &mut out);
        assert_eq!(decode_reply(&out), Ok((group, reply)));
    } else if let Ok((group, pull)) = decode_pull(body) {
        encode_pull(group, &pull, &mut out);
        assert_eq!(decode_pull(&out), Ok((group, pull)));
    } else if let Ok((group, reply)) = decode_pull_reply(body) {
        encode_pull_reply(group, &reply, &mut out);
        assert_eq!(decode_pull_reply(&out), Ok((group, reply)));
    } else if let Ok((group, digests)) = decode_digests(body) {
        encode_digests(group, &digests, &mut out);
        assert_eq!(decode_digests(&out), Ok((group, digests)));
    }
}
