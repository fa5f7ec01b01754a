//! What this end sent on a link and does not know to have arrived: the ring of sent packets, acknowledgements, and
//! the verdict "lost".
//!
//! A packet is never sent again; its *frames* are, in a new packet. A packet is lost when three later ones are
//! acknowledged or when, one later being acknowledged, it is older than 9/8 srtt + G (RFC 9002 §6.1). When a lost
//! packet turns out to have arrived, both tolerances widen (RFC 8985 §6.2) and narrow again after sixteen
//! recoveries without such an error.

use core::time::Duration;
use std::collections::VecDeque;

use crate::time::Instant;
use crate::types::CallId;
use crate::wire::Span;

/// A frame that must arrive, as the sender remembers it: never the bytes, only whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentFrame {
    /// A part of a request's body.
    Request { call: CallId, part: u32 },
    /// A part of a reply's body.
    Reply { call: CallId, part: u32 },
    /// The caller gave up.
    Cancel { call: CallId },
    /// The callee refused.
    Refused { call: CallId },
    /// A range of call ids that ended without a reply.
    Finished { low: u64, high: u64 },
    /// Nothing but the wish to be acknowledged.
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for no acknowledgement, or its number went to a datagram outside the link.
    Silent,
    InFlight,
    Acked,
    /// Declared lost; kept for a while, because only then can the verdict turn out wrong.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct SentPacket {
    at: Instant,
    bytes: u32,
    frame_count: u32,
    state: State,
}

/// What one acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acked {
    /// Packets acknowledged for the first time.
    pub(super) count: u32,
    /// When the largest of the acknowledgement was sent, if it asked for one and was not acknowledged before: a
    /// round-trip sample.
    pub(super) largest_sent_at: Option<Instant>,
    /// Packets that had been declared lost.
    pub(super) spurious_count: u32,
}

/// The ring of sent packets of one link.
#[derive(Clone, Debug)]
pub(super) struct SentPackets {
    /// The packet number of the ring's front.
    first: u64,
    packets: VecDeque<SentPacket>,
    /// The frames of all packets in the ring, in order.
    frames: VecDeque<SentFrame>,
    in_flight_count: usize,
    in_flight_bytes: usize,
    largest_acked: u64,
    /// How many later acknowledged packets make one lost.
    threshold: u64,
    /// How many quarters of the lowest round trip the loss delay is widened by.
    widening: u32,
    /// Loss verdicts left until the tolerances narrow again.
    narrow_after: u32,
    /// When the oldest candidate will be old enough.
    loss_at: Option<Instant>,
}

impl SentPackets {
    /// An empty ring whose next packet is `next`.
    pub(super) fn new(next: u64) -> Self {
        Self {
            first: next,
            packets: VecDeque::new(),
            frames: VecDeque::new(),
            in_flight_count: 0,
            in_flight_bytes: 0,
            largest_acked: 0,
            threshold: THRESHOLD,
            widening: 0,
            narrow_after: 0,
            loss_at: None,
        }
    }

    /// Notes a packet; without frames it is not waited for. Numbers in between went to datagrams outside the link.
    pub(super) fn record(&mut self, number: u64, at: Instant, bytes: usize, frames: &[SentFrame]) {
        let end = self.first + self.packets.len() as u64;
        assert!(number >= end, "packet {number} sent after {end}");
        if self.packets.is_empty() {
            self.first = number;
        } else {
            let skipped = SentPacket { at, bytes: 0, frame_count: 0, state: State::Silent };
            self.packets.extend((end..number).map(|_| skipped));
        }
        let state = if frames.is_empty() { State::Silent } else { State::InFlight };
        if state == State::InFlight {
            self.in_flight_count += 1;
            self.in_flight_bytes += bytes;
            self.frames.extend(frames);
        }
        self.packets.push_back(SentPacket {
            at,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            frame_count: frames.len() as u32,
            state,
        });
        if self.in_flight_count == 0 {
            self.trim(at, Duration::ZERO);
        }
    }

    /// Takes in acknowledged ranges, highest first; the frames of newly acknowledged packets are put into `acked`,
    /// also of those that had been declared lost. Ranges of numbers never sent are ignored.
    pub(super) fn on_ack(&mut self, spans: impl Iterator<Item = Span>, acked: &mut Vec<SentFrame>) -> Acked {
        let mut outcome = Acked::default();
        let end = self.first + self.packets.len() as u64;
        for (place, span) in spans.enumerate() {
            if span.last < self.first {
                break;
            }
            for number in span.first.max(self.first)..=span.last.min(end.saturating_sub(1)) {
                let was = self.packets[(number - self.first) as usize];
                if place == 0 && number == span.last && matches!(was.state, State::InFlight | State::Lost) {
                    outcome.largest_sent_at = Some(was.at);
                }
                self.acknowledge(number, was, acked, &mut outcome);
            }
        }
        outcome
    }

    fn acknowledge(&mut self, number: u64, was: SentPacket, acked: &mut Vec<SentFrame>, outcome: &mut Acked) {
        match was.state {
            State::Silent | State::Acked => return,
            State::InFlight => self.leave_flight(was),
            State::Lost => {
                outcome.spurious_count += 1;
                self.widen(self.largest_acked.saturating_sub(number));
            }
        }
        self.packets[(number - self.first) as usize].state = State::Acked;
        self.largest_acked = self.largest_acked.max(number);
        outcome.count += 1;
        let from = self.frames_before(number);
        acked.extend(self.frames.range(from..from + was.frame_count as usize));
    }

    fn leave_flight(&mut self, packet: SentPacket) {
        self.in_flight_count -= 1;
        self.in_flight_bytes -= packet.bytes as usize;
    }

    /// RFC 8985 §6.2: one more quarter of the lowest round trip per wrong verdict, and as much reordering as was
    /// seen, both within bounds.
    fn widen(&mut self, distance: u64) {
        self.threshold = self.threshold.max(distance + 1).min(THRESHOLD_MAX);
        self.widening = (self.widening + 1).min(WIDENING_MAX);
        self.narrow_after = NARROW_AFTER;
    }

    /// Declares packets lost and puts their frames, with the packet's number, into `lost`; returns how many
    /// packets. Call it after acknowledgements and when [`Self::loss_at`] is reached.
    pub(super) fn detect_lost(
        &mut self,
        now: Instant,
        loss_delay: Duration,
        rtt_min: Duration,
        lost: &mut Vec<(u64, SentFrame)>,
    ) -> u32 {
        self.loss_at = None;
        let patience = loss_delay + (rtt_min * self.widening / 4).min(loss_delay);
        let mut count = 0;
        let mut frame_at = 0;
        for place in 0..self.packets.len() {
            let number = self.first + place as u64;
            if number >= self.largest_acked {
                break;
            }
            let packet = self.packets[place];
            let frames_from = frame_at;
            frame_at += packet.frame_count as usize;
            if packet.state != State::InFlight {
                continue;
            }
            let old_at = packet.at + patience;
            if self.largest_acked - number < self.threshold && old_at > now {
                self.loss_at = Some(self.loss_at.map_or(old_at, |at| at.min(old_at)));
                continue;
            }
            self.packets[place].state = State::Lost;
            self.leave_flight(packet);
            lost.extend(self.frames.range(frames_from..frame_at).map(|frame| (number, *frame)));
            count += 1;
        }
        if count > 0 && self.narrow_after > 0 {
            self.narrow_after -= 1;
            if self.narrow_after == 0 {
                self.threshold = THRESHOLD;
                self.widening = 0;
            }
        }
        count
    }

    /// Gives up waiting for all but the newest `keep` packets in flight, because newer ones carry their frames.
    pub(super) fn abandon_all_but(&mut self, keep: usize, lost: &mut Vec<(u64, SentFrame)>) {
        lost.clear();
        let mut extra = self.in_flight_count.saturating_sub(keep);
        let mut frame_at = 0;
        for place in 0..self.packets.len() {
            let packet = self.packets[place];
            let frames_from = frame_at;
            frame_at += packet.frame_count as usize;
            if extra == 0 {
                break;
            }
            if packet.state == State::InFlight {
                extra -= 1;
                self.packets[place].state = State::Lost;
                self.leave_flight(packet);
                let number = self.first + place as u64;
                lost.extend(self.frames.range(frames_from..frame_at).map(|frame| (number, *frame)));
            }
        }
    }

    /// Drops what is settled from the front: acknowledged, silent, and lost for longer than `keep_lost`.
    pub(super) fn trim(&mut self, now: Instant, keep_lost: Duration) {
        while let Some(front) = self.packets.front() {
            let is_settled = match front.state {
                State::Silent | State::Acked => true,
                State::InFlight => false,
                State::Lost => front.at + keep_lost <= now || self.packets.len() > TRACKED_MAX,
            };
            if !is_settled {
                break;
            }
            self.frames.drain(..front.frame_count as usize);
            self.packets.pop_front();
            self.first += 1;
        }
    }

    /// The frames of packets in flight, oldest first: what a probe repeats.
    pub(super) fn in_flight_frames(&self) -> impl Iterator<Item = SentFrame> + '_ {
        let mut frame_at = 0;
        self.packets.iter().flat_map(move |packet| {
            let from = frame_at;
            frame_at += packet.frame_count as usize;
            let taken = if packet.state == State::InFlight { from..frame_at } else { from..from };
            self.frames.range(taken).copied()
        })
    }

    /// The frames of one packet if it is still in flight.
    pub(super) fn frames_in_flight_of(&self, number: u64) -> impl Iterator<Item = SentFrame> + '_ {
        let is_in_flight = number
            .checked_sub(self.first)
            .and_then(|place| self.packets.get(usize::try_from(place).ok()?))
            .is_some_and(|packet| packet.state == State::InFlight);
        let from = if is_in_flight { self.frames_before(number) } else { 0 };
        let count =
            if is_in_flight { self.packets[(number - self.first) as usize].frame_count as usize } else { 0 };
        self.frames.range(from..from + count).copied()
    }

    /// How many of the ring's frames belong to packets before this one; the end is nearer more often.
    fn frames_before(&self, number: u64) -> usize {
        let place = (number - self.first) as usize;
        if place < self.packets.len() / 2 {
            self.packets.range(..place).map(|packet| packet.frame_count as usize).sum()
        } else {
            let after: usize = self.packets.range(place..).map(|packet| packet.frame_count as usize).sum();
            self.frames.len() - after
        }
    }

    /// When [`Self::detect_lost`] is worth calling without an acknowledgement.
    pub(super) fn loss_at(&self) -> Option<Instant> {
        self.loss_at
    }

    /// Packets in flight.
    pub(super) fn in_flight_count(&self) -> usize {
        self.in_flight_count
    }

    /// Bytes in flight.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// True when no further packet may be waited for.
    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= TRACKED_MAX
    }
}

/// RFC 9002 §6.1.1.
const THRESHOLD: u64 = 3;
const THRESHOLD_MAX: u64 = 128;
/// Two round trips.
const WIDENING_MAX: u32 = 8;
/// RFC 8985 §6.2, `reo_wnd_persist`.
const NARROW_AFTER: u32 = 16;
/// The ring's bound, above any window of datagrams; full means that nothing more is sent until it moves.
pub(super) const TRACKED_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn at(us: u32) -> Instant {
        Instant::ZERO + us * US
    }

    fn request(call: u64) -> SentFrame {
        SentFrame::Request { call: CallId(call), part: 0 }
    }

    fn ring(count: u64) -> SentPackets {
        let mut sent = SentPackets::new(1);
        for number in 1..=count {
            sent.record(number, at(number as u32), 100, &[request(number)]);
        }
        sent
    }

    fn ack(sent: &mut SentPackets, spans: &[(u64, u64)]) -> (Acked, Vec<SentFrame>) {
        let mut frames = Vec::new();
        let spans = spans.iter().map(|&(first, last)| Span { first, last });
        (sent.on_ack(spans, &mut frames), frames)
    }

    fn lost(sent: &mut SentPackets, now: Instant) -> Vec<u64> {
        let mut frames = Vec::new();
        sent.detect_lost(now, 200 * US, 100 * US, &mut frames);
        frames.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn an_acknowledgement_settles_packets_once() {
        let mut sent = ring(4);
        let (outcome, frames) = ack(&mut sent, &[(3, 4), (1, 1)]);
        assert_eq!(outcome.count, 3);
        assert_eq!(outcome.largest_sent_at, Some(at(4)));
        assert_eq!(frames, [request(3), request(4), request(1)]);
        assert_eq!((sent.in_flight_count(), sent.in_flight_bytes()), (1, 100));
        let (outcome, frames) = ack(&mut sent, &[(3, 4), (1, 1)]);
        assert_eq!((outcome.count, outcome.largest_sent_at, frames.len()), (0, None, 0));
        assert_eq!(sent.in_flight_frames().collect::<Vec<_>>(), [request(2)]);
    }

    #[test]
    fn numbers_never_sent_are_not_acknowledged() {
        let mut sent = ring(2);
        let (outcome, _) = ack(&mut sent, &[(3, u64::MAX)]);
        assert_eq!(outcome.count, 0);
        let (outcome, _) = ack(&mut sent, &[(0, u64::MAX)]);
        assert_eq!((outcome.count, outcome.largest_sent_at), (2, None));
    }

    #[test]
    fn three_later_acknowledgements_make_a_packet_lost() {
        let mut sent = ring(5);
        ack(&mut sent, &[(2, 3)]);
        assert_eq!(lost(&mut sent, at(10)), [] as [u64; 0]);
        assert_eq!(sent.loss_at(), Some(at(201)));
        ack(&mut sent, &[(2, 4)]);
        assert_eq!(lost(&mut sent, at(10)), [1]);
        assert_eq!(sent.loss_at(), None, "packet 5 has no later acknowledgement");
    }

    #[test]
    fn an_old_packet_is_lost_once_a_later_one_is_acknowledged() {
        let mut sent = ring(2);
        assert_eq!(lost(&mut sent, at(10_000)), [] as [u64; 0], "nothing later was acknowledged");
        ack(&mut sent, &[(2, 2)]);
        assert_eq!(lost(&mut sent, at(200)), [] as [u64; 0]);
        assert_eq!(lost(&mut sent, at(201)), [1]);
    }

    #[test]
    fn a_wrong_verdict_widens_both_tolerances() {
        let mut sent = ring(10);
        ack(&mut sent, &[(6, 6)]);
        assert_eq!(lost(&mut sent, at(20)), [1, 2, 3]);
        let (outcome, frames) = ack(&mut sent, &[(1, 1)]);
        assert_eq!((outcome.count, outcome.spurious_count), (1, 1));
        assert_eq!(frames, [request(1)]);
        ack(&mut sent, &[(9, 9)]);
        assert_eq!(lost(&mut sent, at(20)), [] as [u64; 0], "up to 5 of reordering were seen");
        assert_eq!(sent.loss_at(), Some(at(4 + 225)), "a quarter of the lowest round trip more");
    }

    #[test]
    fn settled_packets_leave_the_ring_and_take_their_frames_along() {
        let mut sent = ring(4);
        ack(&mut sent, &[(1, 2), (4, 4)]);
        sent.trim(at(10), 1000 * US);
        assert_eq!((sent.first, sent.packets.len(), sent.frames.len()), (3, 2, 2));
        ack(&mut sent, &[(3, 4)]);
        sent.trim(at(10), 1000 * US);
        assert_eq!((sent.first, sent.packets.len(), sent.frames.len()), (5, 0, 0));
        sent.record(9, at(11), 50, &[]);
        assert!(sent.packets.is_empty(), "nobody waits for a silent packet");
    }
}
