//! A history as columns of numbers, which a page's script draws from without reading the rest.
//!
//! ```text
//! length of the head u32 LE | head, JSON, padded with spaces to a multiple of 8
//! arrows: sent f64[n] | end f64[n] | from u8[n] | to u8[n] | kind u8[n] | flags u8[n] | text u32[n + 1]
//! states: at f64[m] | term f64[m] | commit f64[m] | lane u8[m] | standing u8[m] | text u32[m + 1]
//! texts, UTF-8, which the text columns point into
//! ```
//!
//! Columns begin at multiples of 8; times are nanoseconds; numbers are little-endian, as every browser's are. All of it
//! is compressed with gzip, which browsers take apart themselves, and stands in the page in base64.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::diagram::kind::{GROUPS, group_of};
use crate::diagram::{Arrow, Fate, History, Standing};

const IS_AGAIN: u8 = 8;
const IS_COPY: u8 = 16;
const IS_DAMAGED: u8 = 32;
const IS_GUESS: u8 = 64;
/// Beside a state's standing.
const IS_COMMIT: u8 = 8;

/// The history for a page's script.
pub(super) fn pack(history: &History, first_arrows: usize) -> String {
    let columns = columns(history, first_arrows);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(&columns);
    base64(&encoder.finish().unwrap_or_default())
}

fn columns(history: &History, first_arrows: usize) -> Vec<u8> {
    let first = history.first_window(first_arrows);
    let kind = |name: &String| json!({"name": name, "group": group_of(name)});
    let lane = |lane: &crate::diagram::Lane| json!({"name": lane.name, "node": lane.is_node});
    let note = |note: &crate::diagram::Note| {
        let (at, text) = (note.at_ns, &note.text);
        json!({"at": at, "lane": note.lane, "kind": note.kind, "text": text})
    };
    let head = json!({
        "lanes": history.lanes.iter().map(lane).collect::<Vec<_>>(),
        "kinds": history.kinds.iter().map(kind).collect::<Vec<_>>(),
        "groups": GROUPS.map(|group| json!({"name": group.name, "ink": group.ink.name()})),
        "notes": history.notes.iter().map(note).collect::<Vec<_>>(),
        "arrows": history.arrows.len(),
        "states": history.states.len(),
        "end": history.end_ns,
        "first": [first.from_ns, first.to_ns],
        "source": history.source,
        "left_out": history.left_out,
    });
    let mut head = head.to_string().into_bytes();
    head.resize((head.len() + 4).next_multiple_of(8) - 4, b' ');
    let mut out = Vec::new();
    // A head has some thousand notes at most.
    out.extend((head.len() as u32).to_le_bytes());
    out.extend(head);
    let mut texts = Vec::new();
    let arrows = &history.arrows;
    doubles(&mut out, arrows.iter().map(|arrow| arrow.sent_ns));
    doubles(&mut out, arrows.iter().map(|arrow| arrow.end_ns));
    bytes(&mut out, arrows.iter().map(|arrow| arrow.from));
    bytes(&mut out, arrows.iter().map(|arrow| arrow.to));
    bytes(&mut out, arrows.iter().map(|arrow| arrow.kind));
    bytes(&mut out, arrows.iter().map(flags));
    places(&mut out, &mut texts, arrows.iter().map(|arrow| arrow.text.as_str()));
    let states = &history.states;
    doubles(&mut out, states.iter().map(|state| state.at_ns));
    doubles(&mut out, states.iter().map(|state| state.term));
    doubles(&mut out, states.iter().map(|state| state.commit));
    bytes(&mut out, states.iter().map(|state| state.lane));
    bytes(
        &mut out,
        states.iter().map(|state| standing(state.standing) | if state.is_commit { IS_COMMIT } else { 0 }),
    );
    places(&mut out, &mut texts, states.iter().map(|state| state.text.as_str()));
    out.extend(texts);
    out
}

fn flags(arrow: &Arrow) -> u8 {
    let fate = match arrow.fate {
        Fate::Delivered => 0,
        Fate::Lost => 1,
        Fate::Dropped => 2,
        Fate::Refused => 3,
        Fate::Unknown => 4,
    };
    let set = [
        (arrow.is_again, IS_AGAIN),
        (arrow.is_copy, IS_COPY),
        (arrow.is_damaged, IS_DAMAGED),
        (arrow.is_guess, IS_GUESS),
    ];
    set.into_iter().filter(|(is_so, _)| *is_so).fold(fate, |flags, (_, flag)| flags | flag)
}

const fn standing(standing: Standing) -> u8 {
    match standing {
        Standing::Follower => 0,
        Standing::PreCandidate => 1,
        Standing::Candidate => 2,
        Standing::Leader => 3,
        Standing::Down => 4,
    }
}

fn doubles(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    // Exact up to 2^53: a hundred days in nanoseconds.
    values.for_each(|value| out.extend((value as f64).to_le_bytes()));
}

fn bytes(out: &mut Vec<u8>, values: impl Iterator<Item = u8>) {
    out.extend(values);
    align(out);
}

/// Where each text begins, and where the last one ends.
fn places<'a>(out: &mut Vec<u8>, texts: &mut Vec<u8>, values: impl Iterator<Item = &'a str>) {
    // A page of more than 4 GiB is none.
    let place = |texts: &Vec<u8>| u32::try_from(texts.len()).unwrap_or(u32::MAX).to_le_bytes();
    for text in values {
        out.extend(place(texts));
        texts.extend(text.as_bytes());
    }
    out.extend(place(texts));
    align(out);
}

fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit > group.len() { '=' } else { char::from(DIGITS[value]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagram::{Lane, LaneState, Note};

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn every_column_begins_where_a_page_can_read_it() {
        let arrow = Arrow {
            sent_ns: 5,
            end_ns: 9,
            from: 0,
            to: 1,
            kind: 0,
            fate: Fate::Lost,
            is_again: true,
            is_copy: false,
            is_damaged: false,
            is_guess: false,
            text: "ab".to_owned(),
        };
        let state = LaneState {
            at_ns: 1,
            lane: 1,
            standing: Standing::Leader,
            term: 3,
            commit: 4,
            is_commit: true,
            text: "c".to_owned(),
        };
        let lane = |name: &str| Lane { name: name.to_owned(), is_node: true };
        let history = History {
            lanes: vec![lane("node 1"), lane("node 2")],
            kinds: vec!["append".to_owned()],
            arrows: vec![arrow],
            states: vec![state],
            notes: vec![Note { at_ns: 2, lane: None, kind: "fault", text: "x".to_owned() }],
            end_ns: 9,
            ..History::default()
        };
        let out = columns(&history, 100);
        let head_bytes = u32::from_le_bytes(out[..4].try_into().unwrap()) as usize;
        assert_eq!((4 + head_bytes) % 8, 0);
        let head: serde_json::Value = serde_json::from_slice(&out[4..4 + head_bytes]).unwrap();
        assert_eq!((&head["arrows"], &head["notes"][0]["kind"]), (&json!(1), &json!("fault")));
        let rest = &out[4 + head_bytes..];
        let double = |at: usize| f64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        assert_eq!((double(0), double(8)), (5.0, 9.0));
        let byte_columns = [rest[16], rest[24], rest[32], rest[40]];
        assert_eq!(byte_columns, [0, 1, 0, 1 | IS_AGAIN]);
        assert_eq!(rest[48..56], [0, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!((double(56), double(64), double(72)), (1.0, 3.0, 4.0));
        assert_eq!((rest[80], rest[88]), (1, 3 | IS_COMMIT));
        assert_eq!(&rest[104..], b"abc");
    }
}
