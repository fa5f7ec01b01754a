//! Getting a snapshot file from other nodes: what to ask for next, whom, and when.
//!
//! # How a file comes
//! 1. *Survey*: what is here of this very file, from before a crash or under an earlier leader, counts. The file's
//!    table of checksums tells; as long as that is not here, it is all that is asked for.
//! 2. *Pull*: what is missing, in pieces of one block, several at a time. Every answer is bound to the file by its
//!    digest and to its place, so copies and answers from two nodes cannot mix (S6). Pieces are written as they come.
//! 3. *Finish*: when nothing is missing the file is synced and every block checked; then the machine is filled from
//!    it. A damaged block sends us back to 1.
//!
//! # Whom to ask
//! The leader that offers it, at first. Whoever says that the file is not there, or is silent, gives way to the next
//! node; any that has the file will do, leader or not. After all have failed there is a pause.
//!
//! # How fast
//! At most a window of bytes is asked for and not written, whatever credit allows beyond it, and no faster than the
//! configured rate: the log has precedence on the wire, and the disk must keep up.

use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::snapshot::{BLOCK_BYTES, SnapshotMeta};
use crate::time::Instant;
use crate::types::NodeId;

/// The bounds of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullConfig {
    /// Bytes asked for and not yet written. One block: a round trip for each. Much: memory, and a burst that others
    /// have to wait behind.
    pub window_bytes: u64,
    /// Bytes a second. Low: long transfers, and the leader has to keep its log for them. High: less of the link and
    /// the disks for everything else.
    pub bytes_per_second: u64,
    /// A source that answers nothing for this long is not asked any more. Short: a busy disk looks dead. Long: a
    /// dead source holds the transfer up.
    pub patience: Duration,
}

impl Default for PullConfig {
    fn default() -> Self {
        Self { window_bytes: 512 << 10, bytes_per_second: 64 << 20, patience: Duration::from_millis(500) }
    }
}

impl PullConfig {
    /// No faster than this, and with a window that does not keep it slower: what comes in eight milliseconds, a round
    /// trip with the disks at both ends, between 512 KiB and 4 MiB.
    #[must_use]
    pub fn at_rate(bytes_per_second: u64) -> Self {
        let window_bytes = (bytes_per_second / 125).clamp(512 << 10, 4 << 20);
        Self { window_bytes, bytes_per_second: bytes_per_second.max(1), ..Self::default() }
    }
}

/// After all sources failed, this long passes until they are tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What the puller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A survey of what is here.
    Surveying,
    /// Pieces from the source, and their way to the disk.
    Pulling,
    /// The check of the whole file, and the machine's state.
    Finishing,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this node for this range.
    Ask { from: NodeId, range: Range<u64> },
    /// Write these pieces.
    Write { pieces: Vec<(u64, Vec<u8>)> },
    /// Find out what is missing.
    Survey,
    /// Check the file and fill the machine.
    Finish,
}

/// One file on its way.
#[derive(Debug)]
pub(super) struct Puller {
    meta: SnapshotMeta,
    config: PullConfig,
    phase: Phase,
    /// Whom to ask; none while all have failed.
    source: Option<NodeId>,
    /// Who failed since a piece came last.
    failed: BTreeSet<NodeId>,
    /// Pieces not asked for, in order.
    wanted: VecDeque<Range<u64>>,
    /// Pieces asked for, by offset.
    asked: BTreeMap<u64, Range<u64>>,
    /// Pieces that came and wait for the disk, which has one write at a time.
    arrived: Vec<(u64, Vec<u8>)>,
    /// Bytes in the write under way.
    writing_bytes: u64,
    /// A survey or finish that was not asked for yet.
    is_due: bool,
    /// Bytes of the file that are not on disk; all of it while its end, the table of checksums, is missing, since
    /// then nothing is known of the rest.
    missing_bytes: u64,
    is_table_here: bool,
    /// What the last survey found missing, which is pulled by the time of the next.
    pulled: Vec<Range<u64>>,
    /// The rate allows the next question then.
    ask_after: Instant,
    /// The last answer, or when the first question after a pause went out.
    heard: Instant,
    /// Bytes that came over the wire, for `status` and tests.
    pulled_bytes: u64,
}

impl Puller {
    /// Begins with a survey.
    pub(super) fn new(meta: SnapshotMeta, from: NodeId, config: PullConfig, now: Instant) -> Self {
        Self {
            meta,
            config,
            phase: Phase::Surveying,
            source: Some(from),
            failed: BTreeSet::new(),
            wanted: VecDeque::new(),
            asked: BTreeMap::new(),
            arrived: Vec::new(),
            writing_bytes: 0,
            is_due: true,
            missing_bytes: meta.bytes,
            is_table_here: false,
            pulled: Vec::new(),
            ask_after: now,
            heard: now,
            pulled_bytes: 0,
        }
    }

    pub(super) fn meta(&self) -> SnapshotMeta {
        self.meta
    }

    /// Who is asked.
    pub(super) fn source(&self) -> Option<NodeId> {
        self.source
    }

    /// Bytes of the file that are on disk.
    pub(super) fn bytes(&self) -> u64 {
        if self.is_table_here { self.meta.bytes - self.missing_bytes } else { 0 }
    }

    /// Bytes that came over the wire.
    pub(super) fn pulled_bytes(&self) -> u64 {
        self.pulled_bytes
    }

    /// All of it is here; it is being checked.
    pub(super) fn is_whole(&self) -> bool {
        self.phase == Phase::Finishing
    }

    /// A new leader offers the same file: it is asked from now on, and what is under way stays so.
    pub(super) fn offered_by(&mut self, from: NodeId) {
        self.source = Some(from);
        self.failed.remove(&from);
    }

    /// Takes one of these as its source if it has none.
    pub(super) fn choose_source(&mut self, others: &[NodeId]) {
        self.source = self.source.or(others.first().copied());
    }

    /// These bytes are not here. Those that were pulled and are missing all the same came damaged from the source.
    pub(super) fn surveyed(&mut self, now: Instant, missing: &[Range<u64>], others: &[NodeId]) {
        assert_eq!(self.phase, Phase::Surveying, "a survey nobody asked for");
        assert!(self.asked.is_empty() && self.arrived.is_empty(), "a survey while pieces are under way");
        self.missing_bytes = missing.iter().map(|range| range.end - range.start).sum();
        let overlaps = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        if missing.iter().any(|range| self.pulled.iter().any(|pulled| overlaps(range, pulled))) {
            self.give_up_source(now, others);
        }
        self.pulled = missing.to_vec();
        self.is_table_here = missing.last().is_none_or(|range| range.end < self.meta.bytes);
        self.wanted = missing.iter().cloned().flat_map(pieces).collect();
        self.heard = now;
        self.phase = if self.missing_bytes == 0 { Phase::Finishing } else { Phase::Pulling };
        self.is_due = self.missing_bytes == 0;
    }

    /// A piece came. False when it is none that was asked for. `[W-56]`
    pub(super) fn answered(&mut self, now: Instant, offset: u64, digest: u64, bytes: &[u8]) -> bool {
        let is_asked = self.asked.get(&offset).is_some_and(|range| range.end - offset == bytes.len() as u64);
        if !is_asked || digest != self.meta.digest {
            return false;
        }
        self.asked.remove(&offset);
        self.arrived.push((offset, bytes.to_vec()));
        self.pulled_bytes += bytes.len() as u64;
        self.heard = now;
        self.failed.clear();
        true
    }

    /// This node does not have the file, or cannot be asked: the piece is asked for elsewhere.
    pub(super) fn refused(&mut self, now: Instant, from: NodeId, offset: u64, others: &[NodeId]) {
        if let Some(range) = self.asked.remove(&offset) {
            self.wanted.push_front(range);
        }
        if self.source == Some(from) {
            self.give_up_source(now, others);
        }
    }

    /// The pieces of the last write are on disk.
    pub(super) fn written(&mut self) {
        assert!(self.writing_bytes > 0, "a write nobody asked for");
        self.missing_bytes -= self.writing_bytes;
        self.writing_bytes = 0;
        if self.wanted.is_empty() && self.asked.is_empty() && self.arrived.is_empty() {
            // What was missing is here, but only the tail may have been looked for; and nothing is believed.
            self.survey_again();
        }
    }

    /// The check found damage, so the source may have it too.
    pub(super) fn damaged(&mut self, now: Instant, others: &[NodeId]) {
        assert_eq!(self.phase, Phase::Finishing, "a check nobody asked for");
        self.survey_again();
        self.give_up_source(now, others);
    }

    fn survey_again(&mut self) {
        self.phase = Phase::Surveying;
        self.is_due = true;
    }

    /// True when the source has been silent for too long: what is open to it should be cancelled.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        !self.asked.is_empty() && now.saturating_since(self.heard) >= self.config.patience
    }

    /// Everything asked for is to be asked for elsewhere.
    pub(super) fn source_is_silent(&mut self, now: Instant, others: &[NodeId]) {
        for (_, range) in core::mem::take(&mut self.asked).into_iter().rev() {
            self.wanted.push_front(range);
        }
        self.give_up_source(now, others);
    }

    /// The next of the others, in a round; a pause when each has failed.
    fn give_up_source(&mut self, now: Instant, others: &[NodeId]) {
        self.failed.extend(self.source);
        let after = |id: &&NodeId| self.source.is_none_or(|source| **id > source);
        let fresh = |id: &&NodeId| !self.failed.contains(id);
        let next = others.iter().filter(after).find(fresh).or_else(|| others.iter().find(fresh)).copied();
        self.heard = now;
        if next.is_none() {
            self.failed.clear();
            self.ask_after = self.ask_after.max(now + RETRY_PAUSE);
        }
        self.source = next.or(others.first().copied());
    }

    /// The next thing to do now.
    pub(super) fn next_step(&mut self, now: Instant) -> Option<Step> {
        match self.phase {
            Phase::Surveying => core::mem::take(&mut self.is_due).then_some(Step::Survey),
            Phase::Finishing => core::mem::take(&mut self.is_due).then_some(Step::Finish),
            Phase::Pulling => {
                if self.writing_bytes == 0 && !self.arrived.is_empty() {
                    let pieces = core::mem::take(&mut self.arrived);
                    self.writing_bytes = pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
                    return Some(Step::Write { pieces });
                }
                self.next_question(now)
            }
        }
    }

    fn next_question(&mut self, now: Instant) -> Option<Step> {
        let (from, range) = self.question()?;
        if now < self.ask_after {
            return None;
        }
        if self.asked.is_empty() {
            self.heard = now;
        }
        self.wanted.pop_front();
        let bytes = range.end - range.start;
        self.asked.insert(range.start, range.clone());
        let nanos = bytes.saturating_mul(1_000_000_000) / self.config.bytes_per_second.max(1);
        self.ask_after = self.ask_after.max(now) + Duration::from_nanos(nanos);
        Some(Step::Ask { from, range })
    }

    /// The next piece to ask for, if the window has room for it; one always goes.
    fn question(&self) -> Option<(NodeId, Range<u64>)> {
        let (from, range) = (self.source?, self.wanted.front()?.clone());
        let open = self.open_bytes();
        let has_room = open == 0 || open + (range.end - range.start) <= self.config.window_bytes;
        has_room.then_some((from, range))
    }

    /// Asked for and not written.
    fn open_bytes(&self) -> u64 {
        let asked: u64 = self.asked.values().map(|range| range.end - range.start).sum();
        let arrived: u64 = self.arrived.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        asked + arrived + self.writing_bytes
    }

    /// When [`Self::next_step`] or [`Self::is_stalled`] may say something else.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.phase != Phase::Pulling {
            return None;
        }
        let ask = self.question().map(|_| self.ask_after);
        let stall = (!self.asked.is_empty()).then(|| self.heard + self.config.patience);
        crate::time::earliest(ask, stall)
    }
}

/// Cuts a range at the blocks' borders.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let block = BLOCK_BYTES as u64;
    let mut at = range.start;
    core::iter::from_fn(move || {
        let start = at;
        at = range.end.min((start / block + 1) * block);
        (start < range.end).then_some(start..at)
    })
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a survey is a list of ranges, often of one")]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotId;
    use crate::types::{Index, Term};

    const BLOCK: u64 = BLOCK_BYTES as u64;
    const DIGEST: u64 = 77;

    fn id(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    /// A puller of a file of five blocks and a table, whose blocks are missing; two of them fit the window.
    fn puller() -> Puller {
        let snapshot = SnapshotId { index: Index(9), term: Term(2), chain: 3 };
        let meta = SnapshotMeta { id: snapshot, bytes: 5 * BLOCK + 52, digest: DIGEST };
        let config = PullConfig { window_bytes: 2 * BLOCK, ..PullConfig::default() };
        let mut puller = Puller::new(meta, id(1), config, at(0));
        assert_eq!(puller.next_step(at(0)), Some(Step::Survey));
        assert_eq!(puller.next_step(at(0)), None, "a survey is asked for once");
        puller.surveyed(at(0), &[0..5 * BLOCK], &[id(1), id(2)]);
        puller
    }

    fn asked(puller: &mut Puller, ms: u64) -> Vec<(NodeId, u64)> {
        core::iter::from_fn(|| match puller.next_step(at(ms)) {
            Some(Step::Ask { from, range }) => Some((from, range.start / BLOCK)),
            None => None,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    fn answer(puller: &mut Puller, ms: u64, block: u64) {
        assert!(puller.answered(at(ms), block * BLOCK, DIGEST, &vec![0; BLOCK_BYTES]));
        assert!(matches!(puller.next_step(at(ms)), Some(Step::Write { .. })));
        puller.written();
    }

    #[test]
    fn pieces_end_at_the_borders_of_blocks() {
        let cut: Vec<_> = pieces(BLOCK - 5..2 * BLOCK + 7).collect();
        assert_eq!(cut, [BLOCK - 5..BLOCK, BLOCK..2 * BLOCK, 2 * BLOCK..2 * BLOCK + 7]);
        assert_eq!(pieces(3..3).count(), 0);
    }

    #[test]
    fn no_more_is_asked_for_than_the_window_holds() {
        let mut puller = puller();
        assert_eq!(asked(&mut puller, 10), [(id(1), 0)], "the rate lets one go");
        assert_eq!(asked(&mut puller, 20), [(id(1), 1)]);
        assert_eq!(asked(&mut puller, 30), [], "the window is full");
        answer(&mut puller, 30, 1);
        assert_eq!(asked(&mut puller, 30), [(id(1), 2)]);
        assert_eq!(puller.bytes(), BLOCK + 52);
    }

    /// Without the table nothing is known of what else is here.
    #[test]
    fn the_table_comes_first_and_then_another_survey() {
        let mut puller = Puller { phase: Phase::Surveying, ..puller() };
        puller.wanted.clear();
        puller.pulled.clear();
        puller.surveyed(at(0), &[5 * BLOCK..5 * BLOCK + 52], &[id(1)]);
        assert_eq!(asked(&mut puller, 10), [(id(1), 5)]);
        assert!(puller.answered(at(11), 5 * BLOCK, DIGEST, &[0; 52]));
        assert!(matches!(puller.next_step(at(11)), Some(Step::Write { .. })));
        puller.written();
        assert_eq!((puller.bytes(), puller.next_step(at(11))), (0, Some(Step::Survey)));
    }

    /// S6: from another file, of another length, twice, or at another place.
    #[test]
    fn an_answer_that_was_not_asked_for_is_not_written() {
        let mut puller = puller();
        assert_eq!(asked(&mut puller, 10).len(), 1);
        let block = vec![1; BLOCK_BYTES];
        assert!(!puller.answered(at(11), 0, DIGEST + 1, &block), "another file");
        assert!(!puller.answered(at(11), 0, DIGEST, &block[1..]), "another length");
        assert!(!puller.answered(at(11), BLOCK, DIGEST, &block), "another place");
        assert!(puller.answered(at(11), 0, DIGEST, &block));
        assert!(!puller.answered(at(11), 0, DIGEST, &block), "twice");
    }

    #[test]
    fn a_source_without_the_file_gives_way_to_the_next_and_all_to_a_pause() {
        let mut puller = puller();
        let others = [id(1), id(2), id(3)];
        for from in [1, 2, 3] {
            assert_eq!(asked(&mut puller, 10), [(id(from), 0)]);
            puller.ask_after = at(0);
            puller.refused(at(10), id(from), 0, &others);
        }
        assert_eq!(asked(&mut puller, 10), [], "each has failed");
        assert_eq!(asked(&mut puller, 70), [(id(1), 0)]);
    }

    #[test]
    fn a_silent_source_gives_way_and_nothing_that_is_here_is_asked_for_again() {
        let mut puller = puller();
        assert_eq!(asked(&mut puller, 10).len(), 1);
        answer(&mut puller, 12, 0);
        assert_eq!(asked(&mut puller, 20), [(id(1), 1)]);
        assert!(!puller.is_stalled(at(519)));
        assert!(puller.is_stalled(at(520)));
        assert_eq!(puller.poll_timeout(), Some(at(20) + Duration::from_nanos(976_562)).min(Some(at(520))));
        puller.source_is_silent(at(520), &[id(1), id(2)]);
        assert_eq!(asked(&mut puller, 521), [(id(2), 1)]);
    }

    /// A new leader that has the very file goes on where the old one stopped.
    #[test]
    fn a_new_leader_s_offer_of_the_same_file_moves_the_questions_to_it() {
        let mut puller = puller();
        assert_eq!(asked(&mut puller, 10).len(), 1);
        answer(&mut puller, 12, 0);
        puller.offered_by(id(3));
        assert_eq!(asked(&mut puller, 20), [(id(3), 1)]);
        assert_eq!(puller.pulled_bytes(), BLOCK);
    }

    /// S6: its table tells which blocks are not what the file holds.
    #[test]
    fn a_source_whose_blocks_are_damaged_is_not_asked_for_them_again() {
        let mut puller = puller();
        for block in 0..5 {
            assert_eq!(asked(&mut puller, 10 * block + 10), [(id(1), block)]);
            answer(&mut puller, 10 * block + 10, block);
        }
        assert_eq!(puller.next_step(at(60)), Some(Step::Survey));
        puller.surveyed(at(60), &[2 * BLOCK..3 * BLOCK], &[id(1), id(2)]);
        assert_eq!(asked(&mut puller, 70), [(id(2), 2)]);
    }

    #[test]
    fn a_file_that_is_here_is_checked_and_a_damaged_one_surveyed_again() {
        let mut puller = puller();
        for block in 0..5 {
            assert_eq!(asked(&mut puller, 10 * block + 10), [(id(1), block)]);
            answer(&mut puller, 10 * block + 10, block);
        }
        assert_eq!(puller.next_step(at(60)), Some(Step::Survey));
        puller.surveyed(at(60), &[], &[id(1), id(2)]);
        assert!(puller.is_whole());
        assert_eq!(puller.next_step(at(60)), Some(Step::Finish));
        puller.damaged(at(60), &[id(1), id(2)]);
        assert_eq!(puller.next_step(at(61)), Some(Step::Survey));
        puller.surveyed(at(61), &[BLOCK..2 * BLOCK], &[id(1), id(2)]);
        assert_eq!(asked(&mut puller, 70), [(id(2), 1)], "not from the same source");
    }
}
