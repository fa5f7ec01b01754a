//! Frames and bodies that make sense, taken from the vectors, and what is made of them: put together anew, changed in
//! one place, with numbers at the ends of their range.

use std::sync::OnceLock;

use raftgram::cursor::Writer as _;
use raftgram::types::ClusterId;
use raftgram::wire::{DATAGRAM_BYTES_MAX, HEADER_BYTES, finish};

use super::input::Input;

/// The cluster of everything that is driven here.
pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Types of the frames that carry bodies, with what stands before the body: a call id of one byte.
const CARRIERS: [(u8, bool); 4] = [(0x10, true), (0x11, true), (0x14, true), (0x19, false)];

/// What inputs are built of.
pub(crate) struct Pool {
    /// Type and body of each frame.
    frames: Vec<(u8, Vec<u8>)>,
    bodies: Vec<Vec<u8>>,
}

impl Pool {
    pub(crate) fn shared() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(Self::of_vectors)
    }

    fn of_vectors() -> Self {
        let mut frames = Vec::new();
        for datagram in vectors(include_str!("../vectors/datagrams.jsonl")) {
            let mut rest = datagram.get(HEADER_BYTES..).unwrap_or_default();
            while let Some(&[frame_type, first, ..]) = rest.first_chunk::<2>().map(|two| two as &[u8; 2]) {
                let (bytes, begins) = match first >> 6 {
                    0 => (usize::from(first), 2),
                    1 => (usize::from(first & 0x3f) << 8 | usize::from(rest.get(2).copied().unwrap_or(0)), 3),
                    _ => break,
                };
                let Some(body) = rest.get(begins..begins + bytes) else { break };
                // Of padding and of hellos' filling a few bytes are as good as all.
                frames.push((frame_type, body[..bytes.min(160)].to_vec()));
                rest = &rest[begins + bytes..];
            }
        }
        let bodies: Vec<Vec<u8>> = vectors(include_str!("../vectors/bodies.jsonl")).collect();
        assert!(frames.len() > 40 && bodies.len() > 60, "{} frames, {} bodies", frames.len(), bodies.len());
        Self { frames, bodies }
    }

    /// A body as a call or notice carries it, most likely changed.
    pub(crate) fn body(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut body = self.bodies[input.place(self.bodies.len())].clone();
        vary(&mut body, input);
        body
    }

    /// Appends frames to a datagram, one to four of them.
    pub(crate) fn add_frames(&self, out: &mut Vec<u8>, input: &mut Input<'_>) {
        let choice = input.byte();
        for _ in 0..=choice & 3 {
            self.add_frame(out, input);
        }
        if choice & 0xf0 == 0xf0 {
            out.extend_from_slice(input.slice(8));
        }
    }

    fn add_frame(&self, out: &mut Vec<u8>, input: &mut Input<'_>) {
        let choice = input.byte();
        if choice & 1 == 0 {
            let (frame_type, body) = &self.frames[input.place(self.frames.len())];
            let mut body = body.clone();
            vary(&mut body, input);
            put_frame(out, if choice == 0xfe { input.byte() } else { *frame_type }, &body, choice);
        } else {
            let (frame_type, has_call) = CARRIERS[usize::from(choice >> 1) % CARRIERS.len()];
            let mut body = Vec::new();
            if has_call {
                body.push(input.byte() & 0x3f);
            }
            body.extend(self.body(input));
            put_frame(out, frame_type, &body, choice);
        }
    }
}

/// One choice in 32 is a length that is not the body's.
fn put_frame(out: &mut Vec<u8>, frame_type: u8, body: &[u8], choice: u8) {
    out.push(frame_type);
    let wrong = u64::from(choice >> 3 == 0x1f);
    out.put_varint(body.len() as u64 + wrong);
    out.extend_from_slice(body);
}

/// The `hex` of each line.
fn vectors(text: &'static str) -> impl Iterator<Item = Vec<u8>> {
    let hex = |line: &'static str| Some(line.split_once("\"hex\":\"")?.1.split_once('"')?.0);
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a vector is written in hex") as u8;
    text.lines().filter_map(hex).map(move |text| {
        text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    })
}

/// Numbers at the ends of their forms and of what terms and indexes may be.
const EXTREMES: [&[u8]; 8] = [
    &[0],
    &[0x3f],
    &[0x7f, 0xff],
    &[0xbf, 0xff, 0xff, 0xff],
    &[0xff; 8],
    &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xd0, 0, 0, 0, 0, 0, 0, 0],
    &[0xc0, 0, 0, 0, 0, 0, 0, 1],
];

/// Changes bytes that make sense in one place, or not at all.
pub(crate) fn vary(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let choice = input.byte();
    if choice < 0x40 || bytes.is_empty() {
        return;
    }
    let at = input.place(bytes.len());
    match choice & 7 {
        0 | 1 => bytes[at] = input.byte(),
        // A number takes the place of one, if one stands here.
        2..=4 => {
            let end = (at + (1 << (bytes[at] >> 6))).min(bytes.len());
            let number = EXTREMES[usize::from(choice >> 3) % EXTREMES.len()];
            bytes.splice(at..end, number.iter().copied());
        }
        5 => bytes.truncate(at),
        6 => {
            let added = input.slice(4);
            bytes.splice(at..at, added.iter().copied());
        }
        _ => bytes[at] ^= 1 << (choice >> 5),
    }
}

/// Makes a datagram whole: as if its sender had meant what it says, and belonged to the cluster or to none.
pub(crate) fn seal(datagram: &mut Vec<u8>, cluster: ClusterId) {
    if datagram.len() >= HEADER_BYTES {
        datagram.truncate(DATAGRAM_BYTES_MAX);
        let tag = &mut datagram[TAG];
        if tag != [0; 4] {
            tag.copy_from_slice(&cluster.tag().to_be_bytes());
        }
        finish(datagram, cluster);
    }
}

/// Where a datagram names its cluster.
const TAG: std::ops::Range<usize> = 8..12;
