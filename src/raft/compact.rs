//! Forgetting what a snapshot covers.

use super::Raft;
use super::config::Base;
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;

impl Raft {
    /// A snapshot of this node's own state is on disk, with all that it covers. The log may begin after it from now
    /// on. One that is older than what the log begins with already is ignored.
    ///
    /// # Panics
    /// When it is of something that is not committed here, or of another log.
    pub fn compact(&mut self, now: Instant, meta: SnapshotMeta) {
        let before = self.begin(now);
        let index = meta.id.index;
        assert!(index <= self.commit, "a snapshot through {index}, committed is {}", self.commit);
        if index > self.log.base().index {
            let place = (self.log.term_at(index), self.log.chain_at(index));
            assert_eq!(place, (Some(meta.id.term), Some(meta.id.chain)), "a snapshot of another log");
            self.log.forget_through(Base { index, term: meta.id.term, chain: meta.id.chain });
        }
        self.end(before);
    }
}
