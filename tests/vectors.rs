//! The test vectors: those of `tests/vectors/` and those that stand in wire-spec.md are what the encoder writes,
//! and the decoder finds in them what they say.
//!
//! Beside them, in `fuzz`: bytes that nobody wrote, and everything that reads bytes.
//!
//! `RAFTGRAM_UPDATE=1 cargo test --test vectors` writes the files and the blocks of the spec anew; run it
//! a second time without to check them.

#[path = "vectors/bodies.rs"]
mod bodies;
#[path = "vectors/case.rs"]
mod case;
#[path = "vectors/datagrams.rs"]
mod datagrams;
#[path = "vectors/drops.rs"]
mod drops;
#[path = "fuzz/mod.rs"]
mod fuzz;
#[path = "vectors/members.rs"]
mod members;
#[cfg(feature = "seal")]
#[path = "vectors/sealed.rs"]
mod sealed;
#[path = "vectors/write.rs"]
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use case::{Case, Kind, read_cases, unhex, vectors_dir};
use raftgram::wire::DropReason;
use raftgram::wire::print::{Verdict, print_body, print_datagram};
use write::hex;

/// Every file and what belongs into it.
fn files() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("datagrams.jsonl", datagrams::cases()),
        ("bodies.jsonl", bodies::cases()),
        ("drops.jsonl", drops::cases()),
        #[cfg(feature = "seal")]
        ("sealed.jsonl", sealed::cases()),
        ("steps.jsonl", drops::steps()),
    ]
}

/// Without the seal not all of the files can be made anew.
fn is_updating() -> bool {
    cfg!(feature = "seal") && std::env::var_os("RAFTGRAM_UPDATE").is_some()
}

#[test]
fn the_files_hold_what_the_encoder_writes() {
    for (file, cases) in files() {
        let text: String = cases.iter().map(|case| case.line() + "\n").collect();
        let path = vectors_dir().join(file);
        if is_updating() {
            std::fs::write(&path, &text).unwrap();
        }
        let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
        for (place, (found, made)) in on_disk.lines().zip(text.lines()).enumerate() {
            assert_eq!(found, made, "{file} line {}", place + 1);
        }
        assert_eq!(on_disk.lines().count(), text.lines().count(), "{file}: count of lines");
    }
}

// [W-2] [W-3] [W-5] [W-7] [W-8] [W-9] [W-10] [W-12] [W-13] [W-43] [W-44]: each has cases here.
#[test]
fn the_decoder_finds_what_each_case_says() {
    for (file, _) in files() {
        for case in read_cases(file) {
            check(&case);
        }
    }
}

fn check(case: &Case) {
    let said: BTreeMap<_, _> = case.fields.iter().cloned().collect();
    let (found, verdict) = match case.kind {
        Kind::Body => {
            let fields = print_body(&case.bytes);
            let is_malformed =
                fields.as_slice().iter().any(|(name, _)| name == "malformed" || name == "opaque");
            (fields, if is_malformed { "malformed".to_owned() } else { "accept".to_owned() })
        }
        #[cfg(feature = "seal")]
        Kind::Handshake => return sealed::check_handshake(case),
        #[cfg(feature = "seal")]
        Kind::Sealed => sealed::found(case),
        #[cfg(not(feature = "seal"))]
        Kind::Sealed | Kind::Handshake => return,
        Kind::Datagram | Kind::ExchangeStep => {
            let printed = print_datagram(&case.bytes, Some(case.cluster));
            let verdict = match printed.verdict {
                Verdict::Drop(reason) => reason.name().to_owned(),
                Verdict::Accept | Verdict::Unverified => "accept".to_owned(),
            };
            (printed.fields, verdict)
        }
    };
    if !said.is_empty() {
        assert_eq!(found.as_slice().iter().cloned().collect::<BTreeMap<_, _>>(), said, "{}", case.name);
    }
    // What needs state passes here: `rpc` runs those cases against its own.
    let expected = if case.kind == Kind::ExchangeStep { "accept" } else { &case.expect };
    assert_eq!(verdict, expected, "{}", case.name);
}

// [W-4] [W-53]; invariant 25 of the simulator's list.
#[test]
fn every_single_bit_flip_of_an_accepted_datagram_is_dropped() {
    let mut flips = 0;
    for (file, _) in files() {
        for case in read_cases(file) {
            if !matches!(case.kind, Kind::Datagram | Kind::ExchangeStep) || case.expect != "accept" {
                continue;
            }
            for bit in 0..case.bytes.len() * 8 {
                let mut flipped = case.bytes.clone();
                flipped[bit / 8] ^= 0x80 >> (bit % 8);
                let printed = print_datagram(&flipped, Some(case.cluster));
                assert!(matches!(printed.verdict, Verdict::Drop(_)), "{} bit {bit}: {printed}", case.name);
                flips += 1;
            }
        }
    }
    assert!(flips > 10_000, "{flips} flips are too few to mean anything");
}

#[test]
fn every_shorter_or_longer_copy_of_an_accepted_datagram_is_dropped() {
    for case in read_cases("datagrams.jsonl") {
        for bytes in 0..case.bytes.len() {
            let printed = print_datagram(&case.bytes[..bytes], Some(case.cluster));
            assert!(matches!(printed.verdict, Verdict::Drop(_)), "{} cut to {bytes}", case.name);
        }
        let mut longer = case.bytes.clone();
        longer.push(0);
        let verdict = print_datagram(&longer, Some(case.cluster)).verdict;
        assert_eq!(verdict, Verdict::Drop(DropReason::Crc), "{}", case.name);
    }
}

#[test]
fn names_are_unique_and_every_drop_reason_and_frame_type_has_a_case() {
    let all: Vec<Case> = files().into_iter().flat_map(|(_, cases)| cases).collect();
    let names: BTreeSet<_> = all.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), all.len());
    for reason in DropReason::ALL {
        assert!(all.iter().any(|case| case.expect == reason.name()), "no case is dropped as {reason}");
    }
    let types: BTreeSet<u8> = all
        .iter()
        .filter(|case| matches!(case.kind, Kind::Datagram | Kind::ExchangeStep))
        .filter_map(|case| case.bytes.get(32).copied())
        .collect();
    for frame_type in (0x00..=0x0b).chain(0x10..=0x19) {
        assert!(types.contains(&frame_type), "no case begins with a frame of type {frame_type:02x}");
    }
    let kinds: BTreeSet<u8> = all
        .iter()
        .filter(|case| case.kind == Kind::Body)
        .filter_map(|case| case.bytes.first().copied())
        .collect();
    for kind in (0x01..=0x0c).chain(0x40..=0x45).chain(0x80..=0x8b) {
        assert!(kinds.contains(&kind), "no case of body kind {kind:02x}");
    }
}

#[test]
fn the_blocks_in_the_spec_are_cases() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire-spec.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let all: BTreeMap<String, Vec<u8>> =
        files().into_iter().flat_map(|(_, cases)| cases).map(|case| (case.name, case.bytes)).collect();
    if is_updating() {
        std::fs::write(&path, with_blocks_filled(&text, &all)).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let blocks: Vec<_> = blocks(&text).collect();
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    for (name, digits) in blocks {
        if cfg!(not(feature = "seal")) && name.starts_with("sealed-") {
            continue;
        }
        let bytes = all.get(name).unwrap_or_else(|| panic!("the spec shows an unknown case {name}"));
        assert_eq!(&unhex(digits), bytes, "{name} in wire-spec.md");
    }
}

const OPENING: &str = "\n```vector ";

/// Name and digits of each block.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(OPENING).skip(1).map(|rest| {
        let (name, rest) = rest.split_once('\n').expect("a block's name ends its line");
        (name.trim(), rest.split_once("```").expect("a block is closed").0)
    })
}

fn with_blocks_filled(text: &str, all: &BTreeMap<String, Vec<u8>>) -> String {
    let mut parts = text.split(OPENING);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('\n').expect("a block's name ends its line");
        let (_, after) = rest.split_once("```").expect("a block is closed");
        out.push_str(OPENING);
        out.push_str(name);
        for row in all[name.trim()].chunks(16) {
            out.push('\n');
            let pairs: Vec<_> = row.iter().map(|byte| hex(&[*byte])).collect();
            out.push_str(&pairs.join(" "));
        }
        out.push_str("\n```");
        out.push_str(after);
    }
    out
}
