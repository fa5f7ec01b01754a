//! A request or reply body on its way out: kept whole where it was handed in, sent in parts, and repeated part by
//! part until every part is acknowledged.

use std::collections::VecDeque;

use crate::wire::HEADER_BYTES;

/// One part's fate.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// The packet that last carried it; 0 before the first.
    sent_in: u64,
    is_acked: bool,
}

/// How bodies are cut for one datagram size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The largest body that fits one frame.
    pub(super) whole_max: usize,
    /// The size of a part otherwise, which leaves room for an acknowledgement beside it.
    pub(super) part_bytes: usize,
}

impl Cut {
    /// For datagrams of this size.
    pub(super) fn of(datagram_bytes_max: usize) -> Self {
        let room = datagram_bytes_max - HEADER_BYTES;
        Self { whole_max: room - WHOLE_OVERHEAD_MAX, part_bytes: room - PART_OVERHEAD_MAX }
    }
}

/// Type, length, call id.
const WHOLE_OVERHEAD_MAX: usize = 1 + 4 + 8;
/// Type, length, call id, total, offset, and a usual acknowledgement.
const PART_OVERHEAD_MAX: usize = 1 + 4 + 8 + 8 + 8 + 48;

/// The body and the state of its parts.
///
/// A part is named by its place, and by how often the body was cut anew in the upper eight bits, so that an
/// acknowledgement of an earlier cut is not taken for one of this.
#[derive(Debug)]
pub(super) struct OutBody {
    bytes: Vec<u8>,
    cut: u32,
    was_sent: bool,
    parts: Parts,
}

/// Most bodies are whole, and small ones are moved about with the tables they lie in: lists are kept elsewhere.
#[derive(Debug)]
enum Parts {
    Whole { part: Part, is_due: bool },
    Split(Box<Split>),
}

#[derive(Debug)]
struct Split {
    /// The size of every part but the last.
    part_bytes: usize,
    parts: Vec<Part>,
    /// Parts from here on were never sent in this cut.
    next_unsent: u32,
    /// Parts to be repeated, before any unsent one.
    repeat: VecDeque<u32>,
    unacked_count: u32,
}

impl OutBody {
    pub(super) fn new(bytes: Vec<u8>, cut: Cut) -> Self {
        let parts = if bytes.len() <= cut.whole_max {
            Parts::Whole { part: Part::default(), is_due: true }
        } else {
            let count = bytes.len().div_ceil(cut.part_bytes);
            assert!(count < 1 << CUT_SHIFT, "a body of {} bytes in {count} parts", bytes.len());
            Parts::Split(Box::new(Split {
                part_bytes: cut.part_bytes,
                parts: vec![Part::default(); count],
                next_unsent: 0,
                repeat: VecDeque::new(),
                unacked_count: count as u32,
            }))
        };
        Self { bytes, cut: 0, was_sent: false, parts }
    }

    /// Begins anew with parts of another size, for a path that turned out narrower.
    pub(super) fn cut_anew(self, cut: Cut) -> Self {
        let (times, was_sent) = (self.cut + 1, self.was_sent);
        assert!(times < 1 << (32 - CUT_SHIFT), "a body cut {times} times");
        Self { cut: times, was_sent, ..Self::new(self.bytes, cut) }
    }

    /// The bytes, to begin anew for another incarnation of the peer.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The whole body's size.
    pub(super) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True when it goes out in more than one part.
    pub(super) fn is_split(&self) -> bool {
        matches!(self.parts, Parts::Split(_))
    }

    /// True when any of it was ever sent.
    pub(super) fn was_sent(&self) -> bool {
        self.was_sent
    }

    /// True when every part is acknowledged.
    pub(super) fn is_acked(&self) -> bool {
        match &self.parts {
            Parts::Whole { part, .. } => part.is_acked,
            Parts::Split(split) => split.unacked_count == 0,
        }
    }

    /// The part to send next, if any is due.
    pub(super) fn due(&mut self) -> Option<u32> {
        let place = match &mut self.parts {
            Parts::Whole { part, is_due } => (*is_due && !part.is_acked).then_some(0)?,
            Parts::Split(split) => split.due()?,
        };
        Some(self.cut << CUT_SHIFT | place)
    }

    /// Where a part begins, and its bytes.
    pub(super) fn slice(&self, part: u32) -> (u64, &[u8]) {
        match &self.parts {
            Parts::Whole { .. } => (0, &self.bytes),
            Parts::Split(split) => {
                let from = (part & PLACE_MASK) as usize * split.part_bytes;
                let to = (from + split.part_bytes).min(self.bytes.len());
                (from as u64, &self.bytes[from..to])
            }
        }
    }

    /// The size of a part that would have to be repeated; nothing when it is acknowledged.
    pub(super) fn pending_bytes(&self, part: u32) -> usize {
        let is_pending = self.place(part).is_some_and(|place| !self.at(place).is_acked);
        if is_pending { self.slice(part).1.len() } else { 0 }
    }

    /// The part that was due went out in this packet; true when it had been sent before.
    pub(super) fn mark_sent(&mut self, part: u32, packet: u64) -> bool {
        let place = part & PLACE_MASK;
        self.was_sent = true;
        let state = match &mut self.parts {
            Parts::Whole { part, is_due } => {
                assert!(*is_due, "a whole body is sent out of turn");
                *is_due = false;
                part
            }
            Parts::Split(split) => {
                if split.repeat.front() == Some(&place) {
                    split.repeat.pop_front();
                } else {
                    assert_eq!(place, split.next_unsent, "part {place} is sent out of turn");
                    split.next_unsent += 1;
                }
                &mut split.parts[place as usize]
            }
        };
        let was_sent = state.sent_in != 0;
        state.sent_in = packet;
        was_sent
    }

    /// A packet that carried the part was acknowledged.
    pub(super) fn on_acked(&mut self, part: u32) {
        let Some(place) = self.place(part) else {
            return;
        };
        match &mut self.parts {
            Parts::Whole { part, .. } => part.is_acked = true,
            Parts::Split(split) => {
                let state = &mut split.parts[place as usize];
                split.unacked_count -= u32::from(!state.is_acked);
                state.is_acked = true;
            }
        }
    }

    /// A packet that carried the part is lost; true when the part must be repeated: it is not acknowledged, and no
    /// later packet carries it.
    pub(super) fn on_lost(&mut self, part: u32, packet: u64) -> bool {
        let is_latest = self.place(part).is_some_and(|place| self.at(place).sent_in == packet);
        is_latest && self.repeat_part(part)
    }

    /// Has the part sent again although nothing says it is lost; false when it is acknowledged or due anyway.
    pub(super) fn repeat_part(&mut self, part: u32) -> bool {
        let Some(place) = self.place(part) else {
            return false;
        };
        match &mut self.parts {
            Parts::Whole { part, is_due } => {
                let must_repeat = !*is_due && !part.is_acked;
                *is_due |= must_repeat;
                must_repeat
            }
            Parts::Split(split) => split.repeat_part(place),
        }
    }

    /// The name of the first part.
    pub(super) fn first_part(&self) -> u32 {
        self.cut << CUT_SHIFT
    }

    /// The part's place, unless it belongs to an earlier cut.
    fn place(&self, part: u32) -> Option<u32> {
        (part >> CUT_SHIFT == self.cut).then_some(part & PLACE_MASK)
    }

    fn at(&self, place: u32) -> Part {
        match &self.parts {
            Parts::Whole { part, .. } => *part,
            Parts::Split(split) => split.parts[place as usize],
        }
    }
}

impl Split {
    fn due(&mut self) -> Option<u32> {
        while let Some(&place) = self.repeat.front() {
            if !self.parts[place as usize].is_acked {
                return Some(place);
            }
            self.repeat.pop_front();
        }
        ((self.next_unsent as usize) < self.parts.len()).then_some(self.next_unsent)
    }

    fn repeat_part(&mut self, place: u32) -> bool {
        let is_settled = place >= self.next_unsent || self.parts[place as usize].is_acked;
        if is_settled || self.repeat.contains(&place) {
            return false;
        }
        self.repeat.push_back(place);
        true
    }
}

const CUT_SHIFT: u32 = 24;
const PLACE_MASK: u32 = (1 << CUT_SHIFT) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut { whole_max: 4, part_bytes: 4 };

    #[test]
    fn a_whole_body_is_due_once_and_again_when_lost() {
        let mut body = OutBody::new(b"abc".to_vec(), CUT);
        assert_eq!(body.due(), Some(0));
        assert!(!body.mark_sent(0, 7));
        assert_eq!(body.due(), None);
        assert!(body.on_lost(0, 7));
        assert!(!body.on_lost(0, 7), "it is due already");
        assert_eq!(body.due(), Some(0));
        assert!(body.mark_sent(0, 9));
        assert!(!body.on_lost(0, 7), "packet 9 carries it");
        body.on_acked(0);
        assert!(body.is_acked());
        assert!(!body.on_lost(0, 9));
    }

    #[test]
    fn parts_cover_the_body_and_only_lost_ones_are_repeated() {
        let mut body = OutBody::new((0..10).collect(), CUT);
        let mut seen = Vec::new();
        while let Some(part) = body.due() {
            let (offset, bytes) = body.slice(part);
            seen.push((offset, bytes.to_vec()));
            body.mark_sent(part, 1 + u64::from(part));
        }
        assert_eq!(seen, [(0, vec![0, 1, 2, 3]), (4, vec![4, 5, 6, 7]), (8, vec![8, 9])]);
        body.on_acked(0);
        assert!(!body.on_lost(0, 1));
        assert!(body.on_lost(1, 2));
        assert_eq!(body.due(), Some(1));
        body.on_acked(1);
        body.on_acked(2);
        assert_eq!(body.due(), None);
        assert!(body.is_acked());
    }

    #[test]
    fn acknowledgements_of_an_earlier_cut_do_not_count() {
        let mut body = OutBody::new((0..10).collect(), CUT);
        body.mark_sent(0, 1);
        let mut body = body.cut_anew(Cut { whole_max: 2, part_bytes: 2 });
        assert!(body.was_sent());
        body.on_acked(0);
        let part = body.due().unwrap();
        assert_eq!(body.slice(part), (0, &[0, 1][..]));
        body.mark_sent(part, 2);
        assert!(!body.on_lost(0, 2));
        assert!(body.on_lost(part, 2));
    }
}
