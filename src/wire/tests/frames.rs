//! Frames and ranges: smallest and longest forms, unknown bytes, padding.

use proptest::prelude::*;

use super::strategies::spans;
use crate::cursor::{CursorError, Reader, Writer};
use crate::wire::frame::frame_type as t;
use crate::wire::{
    DropReason, Flags, Frame, Frames, HEADER_BYTES, HELLO_DATAGRAM_BYTES, Header, Hello, HelloAck, Party,
    Ranges, Span, begin, pad_to,
};

// [W-12]: the example of the spec.
#[test]
fn ranges_stand_as_the_spec_shows_them() {
    let spans = [Span::new(8, 10), Span::new(5, 5), Span::new(1, 2)];
    let mut bytes = Vec::new();
    Ranges::of(&spans).encode(&mut bytes);
    assert_eq!(bytes, [3, 10, 2, 1, 0, 1, 1]);
    let read = Ranges::decode(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(read, Ranges::of(&spans));
    assert_eq!(read.to_string(), "8-10,5,1-2");
    assert_eq!(read.largest(), Some(10));
    let members: Vec<u64> = (0..12).filter(|n| read.contains(*n)).collect();
    assert_eq!(members, [1, 2, 5, 8, 9, 10]);
}

#[test]
#[should_panic(expected = "does not lie below")]
fn ranges_that_touch_are_no_set() {
    let _ = Ranges::of(&[Span::new(5, 6), Span::new(1, 4)]);
}

// [W-12]
#[test]
fn ranges_below_zero_or_more_than_32_are_refused() {
    for bytes in [&[33, 9, 0][..], &[1, 5, 6], &[2, 5, 1, 3, 0], &[2, 5, 1, 2, 1]] {
        assert_eq!(Ranges::decode(&mut Reader::new(bytes)), Err(CursorError::Value), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn ranges_round_trip(spans in spans(0)) {
        let mut bytes = Vec::new();
        Ranges::of(&spans).encode(&mut bytes);
        prop_assert_eq!(bytes.len(), Ranges::of(&spans).encoded_bytes());
        let mut reader = Reader::new(&bytes);
        let read = Ranges::decode(&mut reader).unwrap();
        prop_assert!(reader.is_empty());
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), spans);
    }

    #[test]
    fn ranges_that_were_read_can_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(ranges) = Ranges::decode(&mut reader) {
            let mut again = Vec::new();
            ranges.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.rest().len()]);
        }
    }
}

// Nothing is allocated for a frame: it is copied, so it owns nothing.
#[test]
fn a_frame_owns_no_memory() {
    const fn is_copy<T: Copy>() {}
    const { is_copy::<Frame<'static>>() };
}

/// A body of zeros as long as the type needs, but for the ones that do not take zeros.
fn smallest_body(frame_type: u8) -> Vec<u8> {
    match frame_type {
        t::HELLO => vec![0; 8 + 65],
        t::HELLO_ACK => vec![0; 16 + 65],
        t::CONFIRM => vec![0; 16],
        t::WELCOME => vec![0; 12],
        t::VERSION => vec![0; 2],
        t::STALE_INCARNATION => vec![0; 4],
        t::ACK => vec![0, 1, 0, 0],
        t::CREDIT | t::REQUEST_AGAIN | t::REQUEST_ONCE | t::REPLY | t::CANCEL => vec![0],
        t::REQUEST_FRAGMENT_AGAIN | t::REQUEST_FRAGMENT_ONCE | t::REPLY_FRAGMENT => vec![0, 1, 0, 0],
        t::FINISHED => vec![1, 0, 0],
        t::CALL_REFUSED => vec![0, 0],
        _ => vec![],
    }
}

const TYPES: [u8; 20] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16,
    0x17, 0x18, 0x19,
];

// [W-7] [W-10] [W-13]
#[test]
fn every_type_takes_its_smallest_body_and_nothing_shorter() {
    for frame_type in TYPES {
        let body = smallest_body(frame_type);
        let frame = Frame::decode(frame_type, &body).unwrap().unwrap();
        assert_eq!(frame.frame_type(), frame_type);
        for bytes in 0..body.len() {
            assert!(
                Frame::decode(frame_type, &body[..bytes]).is_err(),
                "type {frame_type:02x} of {bytes} bytes"
            );
        }
    }
}

// [W-10]
#[test]
fn unknown_bytes_behind_the_last_field_are_ignored() {
    let rest_is_a_field = [
        t::PADDING,
        t::MTU_PROBE,
        t::REQUEST_AGAIN,
        t::REQUEST_ONCE,
        t::REQUEST_FRAGMENT_AGAIN,
        t::REQUEST_FRAGMENT_ONCE,
        t::REPLY,
        t::REPLY_FRAGMENT,
        t::NOTICE,
    ];
    for frame_type in TYPES.into_iter().filter(|frame_type| !rest_is_a_field.contains(frame_type)) {
        let body = smallest_body(frame_type);
        let longer = [&body[..], &[0xee; 9]].concat();
        assert_eq!(Frame::decode(frame_type, &longer), Frame::decode(frame_type, &body));
    }
}

// [W-30]
#[test]
fn acks_notices_and_handshakes_elicit_no_ack() {
    let eliciting: Vec<u8> = TYPES
        .into_iter()
        .filter(|frame_type| {
            let body = smallest_body(*frame_type);
            Frame::decode(*frame_type, &body).unwrap().unwrap().is_ack_eliciting()
        })
        .collect();
    assert_eq!(eliciting, [0x08, 0x09, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
}

// [W-1]
#[test]
fn a_frame_length_in_a_longer_form_is_malformed() {
    assert!(Frames::check(&[t::CANCEL, 1, 9]).is_ok());
    assert_eq!(Frames::check(&[t::CANCEL, 0x40, 1, 9]), Err(DropReason::MalformedFrame));
}

fn header() -> Header {
    Header {
        flags: Flags::CLIENT,
        cluster_tag: 0,
        source: Party::Any,
        destination: Party::Any,
        source_incarnation: Default::default(),
        destination_incarnation: Default::default(),
        packet: crate::types::PacketNumber(1),
    }
}

#[test]
fn padding_fills_to_the_byte_where_one_frame_or_two_can() {
    for target in (HEADER_BYTES..=400).chain(16_380..=16_440).chain([65_507]) {
        let mut out = Vec::new();
        begin(&mut out, &header());
        pad_to(&mut out, target);
        let is_one_missing = target == HEADER_BYTES + 1;
        assert_eq!(out.len(), target - usize::from(is_one_missing), "{target}");
        assert!(Frames::check(&out[HEADER_BYTES..]).is_ok());
    }
}

// [W-22] [W-25]: nobody is sent more than it sent.
#[test]
fn the_largest_hello_ack_is_no_larger_than_a_padded_hello() {
    let mut body = vec![0xff; 16];
    body.extend_from_slice(&[0xff; 2 + 8 + 48]);
    for _ in 0..3 {
        body.put_varint(crate::cursor::VARINT_MAX);
    }
    body.put_u16(u16::MAX);
    body.put_varint(crate::cursor::VARINT_MAX);
    body.push(1);
    body.put_u64(u64::MAX);
    let ack = Frame::decode(t::HELLO_ACK, &body).unwrap().unwrap();
    let Frame::HelloAck(HelloAck { nonce_a, description, .. }) = ack else { panic!("{ack:?}") };
    for frame in [ack, Frame::Hello(Hello { nonce_a, description })] {
        let mut out = Vec::new();
        begin(&mut out, &header());
        frame.encode(&mut out);
        assert!(out.len() <= HELLO_DATAGRAM_BYTES, "{} bytes", out.len());
    }
}
