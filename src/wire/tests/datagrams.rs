//! Whole datagrams: round trips, arbitrary and mutated bytes, the order of checks.

use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::{CLUSTER, Encoded, frame, header};
use crate::types::{ClusterId, PacketNumber};
use crate::wire::datagram::{self, checksum};
use crate::wire::print::{Verdict, print_datagram};
use crate::wire::{DropReason, Flags, Frame, HEADER_BYTES, Header, Party, begin, decode, finish};

/// A datagram of these frames.
fn assemble(header: &Header, frames: &[Encoded]) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out, header);
    frames.iter().for_each(|frame| out.extend_from_slice(&frame.bytes));
    finish(&mut out, CLUSTER);
    out
}

/// Makes the checksum right again, so that what lies behind it is tested.
fn fix_crc(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let cluster = if bytes[8..12] == [0; 4] { ClusterId::ZERO } else { CLUSTER };
        let crc = checksum(bytes, cluster);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Does to a datagram all that a receiver might do.
fn handle_all(bytes: &[u8]) {
    let printed = print_datagram(bytes, Some(CLUSTER));
    assert!(!printed.to_string().is_empty());
    let _ = print_datagram(bytes, None);
    match decode(bytes, CLUSTER) {
        Ok(datagram) => {
            assert_eq!(printed.verdict, Verdict::Accept);
            for frame in datagram.frames() {
                // What was read can be written: an echo of a peer's numbers never fails.
                let mut out = Vec::new();
                frame.encode(&mut out);
            }
        }
        Err(reason) => assert_eq!(printed.verdict, Verdict::Drop(reason)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // [W-4] [W-6] [W-7]; invariant 25
    #[test]
    fn what_is_encoded_is_decoded_and_encodes_to_the_same_bytes(
        header in header(), frames in vec(frame(), 0..5)
    ) {
        let bytes = assemble(&header, &frames);
        let datagram = decode(&bytes, CLUSTER).unwrap();
        prop_assert_eq!(datagram.header, header);
        let shown: Vec<_> = datagram.frames().map(|frame| format!("{frame:?}")).collect();
        prop_assert_eq!(shown, frames.iter().map(|frame| frame.shown.clone()).collect::<Vec<_>>());
        let mut again = Vec::new();
        begin(&mut again, &datagram.header);
        datagram.frames().for_each(|frame| frame.encode(&mut again));
        finish(&mut again, CLUSTER);
        prop_assert_eq!(again, bytes);
    }

    // Scenario U18
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        handle_all(&bytes);
    }

    #[test]
    fn arbitrary_frames_under_a_good_header_never_panic(
        header in header(), frames in vec(any::<u8>(), 0..300)
    ) {
        let mut bytes = assemble(&header, &[]);
        bytes.extend_from_slice(&frames);
        fix_crc(&mut bytes);
        handle_all(&bytes);
    }

    #[test]
    fn mutated_datagrams_under_a_right_checksum_never_panic(
        header in header(),
        frames in vec(frame(), 1..4),
        patches in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
        tail in vec(any::<u8>(), 0..9),
    ) {
        let mut bytes = assemble(&header, &frames);
        for (place, byte) in patches {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes.extend_from_slice(&tail);
        fix_crc(&mut bytes);
        handle_all(&bytes);
    }

    // [W-4]: CRC-32 finds every error of up to three bits at this size.
    #[test]
    fn up_to_three_flipped_bits_are_noticed(
        header in header(),
        frames in vec(frame(), 0..5),
        bits in vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let mut bytes = assemble(&header, &frames);
        let bit_count = bytes.len() * 8;
        let places: std::collections::BTreeSet<_> = bits.iter().map(|bit| bit.index(bit_count)).collect();
        for place in places {
            bytes[place / 8] ^= 1 << (place % 8);
        }
        prop_assert!(decode(&bytes, CLUSTER).is_err());
    }

    // [W-8] [W-9]
    #[test]
    fn unknown_types_are_skipped_or_refuse_the_whole_datagram_by_their_highest_bit(
        header in header(),
        frames in vec(frame(), 0..4),
        kind in prop_oneof![0x0cu8..0x10, 0x1au8..=0xff],
        body in vec(any::<u8>(), 0..80),
        place in any::<prop::sample::Index>(),
    ) {
        let mut unknown = Vec::new();
        Frame::Notice { body: &body }.encode(&mut unknown);
        unknown[0] = kind;
        let mut with = frames.clone();
        with.insert(place.index(frames.len() + 1), Encoded { bytes: unknown, shown: String::new() });
        let bytes = assemble(&header, &with);
        match decode(&bytes, CLUSTER) {
            Ok(datagram) => {
                prop_assert!(kind >= 0x80);
                let shown: Vec<_> = datagram.frames().map(|frame| format!("{frame:?}")).collect();
                prop_assert_eq!(shown, frames.into_iter().map(|frame| frame.shown).collect::<Vec<_>>());
            }
            Err(reason) => {
                prop_assert!(kind < 0x80);
                prop_assert_eq!(reason, DropReason::UnknownCriticalFrame);
            }
        }
    }
}

fn plain_header() -> Header {
    Header {
        flags: Flags::NONE,
        cluster_tag: CLUSTER.tag(),
        source: Party::Any,
        destination: Party::Any,
        source_incarnation: Default::default(),
        destination_incarnation: Default::default(),
        packet: PacketNumber(1),
    }
}

// [W-2]: each fault is put in before the ones found earlier are mended.
#[test]
fn of_several_faults_the_first_in_the_order_of_checks_counts() {
    let mut bytes = assemble(&plain_header(), &[]);
    bytes.extend_from_slice(&[0x1f, 0]);
    finish(&mut bytes, CLUSTER);
    let refused_as = |bytes: &[u8]| decode(bytes, CLUSTER).unwrap_err();
    assert_eq!(refused_as(&bytes), DropReason::UnknownCriticalFrame);
    bytes.extend_from_slice(&[0x16, 0]);
    finish(&mut bytes, CLUSTER);
    assert_eq!(refused_as(&bytes), DropReason::MalformedFrame);
    bytes[24..32].fill(0);
    finish(&mut bytes, CLUSTER);
    assert_eq!(refused_as(&bytes), DropReason::Replay);
    bytes[31] ^= 1;
    assert_eq!(refused_as(&bytes), DropReason::Crc);
    bytes[8] ^= 1;
    assert_eq!(refused_as(&bytes), DropReason::ClusterTag);
    bytes[12..14].fill(0);
    assert_eq!(refused_as(&bytes), DropReason::Destination);
    bytes[2] = 9;
    assert_eq!(refused_as(&bytes), DropReason::Version);
    bytes[0] = 0;
    assert_eq!(refused_as(&bytes), DropReason::Magic);
    bytes.truncate(HEADER_BYTES - 1);
    assert_eq!(refused_as(&bytes), DropReason::Short);
}

// [W-5]; scenario U9
#[test]
fn no_value_of_the_crc_field_is_taken_unchecked() {
    let good = assemble(&plain_header(), &[]);
    for crc in [0, 1, u32::MAX, 0xffff_0000] {
        let mut bytes = good.clone();
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(decode(&bytes, CLUSTER), Err(DropReason::Crc));
    }
    let mut sealed = good;
    sealed[3] |= Flags::SEALED.0;
    finish(&mut sealed, CLUSTER);
    assert_eq!(decode(&sealed, CLUSTER), Err(DropReason::Crc), "sealed, though the checksum is right");
}

// [W-4]
#[test]
fn the_checksum_tells_clusters_apart_also_under_tag_0() {
    let bytes = assemble(&plain_header(), &[]);
    assert_eq!(datagram::verify_crc(&bytes, CLUSTER), Ok(()));
    assert_eq!(datagram::verify_crc(&bytes, ClusterId([1; 16])), Err(DropReason::Crc));
    assert_eq!(decode(&bytes, ClusterId::ZERO), Err(DropReason::ClusterTag));
    let untagged = assemble(&Header { cluster_tag: 0, ..plain_header() }, &[]);
    assert!(decode(&untagged, CLUSTER).is_ok() && decode(&untagged, ClusterId::ZERO).is_ok());
}

#[test]
fn a_datagram_of_an_unknown_cluster_is_printed_and_called_unverified() {
    let bytes = assemble(&plain_header(), &[]);
    assert_eq!(print_datagram(&bytes, None).verdict, Verdict::Unverified);
    let untagged = assemble(&Header { cluster_tag: 0, ..plain_header() }, &[]);
    assert_eq!(print_datagram(&untagged, None).verdict, Verdict::Accept);
}
