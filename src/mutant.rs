//! Known bugs that can be switched on, to show that the simulator's checks catch them.
//!
//! Each is the bug of a scenario that has broken another system, at the very place where the rule is kept. Without
//! the feature `mutants` no switch exists: `is` is the constant `false` and the compiler removes the bug. No check
//! and no fault plan may ask which mutant runs.
//!
//! The switch is a thread's own, because a bug sits deep inside rooms that have no settings in common; a simulation
//! runs on one thread from its start to its end.

use core::fmt;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A bug that can be switched on, named after its scenario.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// Every mutant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The scenario's id.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What goes wrong, in one line.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

mutants! {
    /// Term and vote are two records, and only the first of them is synced.
    E1,
    /// A candidate asks for votes before its own term and vote are durable.
    E2,
    /// A node whose second hard-state file is missing or bad starts over at term 0.
    E3,
    /// A failed write of the hard state is passed over.
    E4,
    /// Voters that hear a leader help to depose it.
    E5,
    /// A leader that hears no quorum leads on.
    E7,
    /// A pre-vote of a lower term is not answered.
    E8,
    /// Whatever a leader of a lower term sends is dropped in silence.
    E9,
    /// A candidate begins with the tally of the campaign before, its pre-votes.
    E10,
    /// A voter that is asked for a pre-vote adopts the term that the campaign would have.
    E11,
    /// A heartbeat's answer of a higher term deposes nobody, and counts as a sign of life.
    E14,
    /// A node that was removed campaigns on.
    E13,
    /// An order to campaign is followed whenever it comes, whatever its term and boot.
    E15,
    /// A learner that does not know that it was promoted never votes.
    E17,
    /// A campaign goes by the committed membership, not by the latest in the log.
    E18,
    /// A leader commits entries of older terms by counting.
    L1,
    /// A follower commits up to the end of its log, whatever of it was verified.
    L2,
    /// A follower acknowledges all that is durable, whatever of it was verified.
    L3,
    /// A write that ends after its entries were cut vouches for those that replaced them.
    L4,
    /// An append that ends before the log does cuts what lies beyond.
    L5,
    /// A heartbeat sets the commit index, also back.
    L6,
    /// The quorum is read off the peers in the order of their ids.
    L8,
    /// A leader counts itself before its own disk is done.
    L9,
    /// An append goes out from a place that the log has forgotten.
    L10,
    /// The bytes of an append stay in flight when the answer to a later one covers it.
    L12,
    /// A deposed leader tells its clients "done" when another entry takes the index of theirs.
    L15,
    /// A failed write of entries is passed over.
    L16,
    /// A new leader changes the membership before it knows what is committed.
    M1,
    /// Only the leader that began a joint membership leaves it.
    M2,
    /// A membership that was cut off acts on.
    M3,
    /// A snapshot is installed, and the membership in it is not.
    M4,
    /// What a node with another data folder acknowledges counts for the member that it was.
    M5,
    /// A wiped node's new data folder is put in the place of the old one.
    M6,
    /// A new leader serves reads before it has committed anything.
    R1,
    /// Any answer confirms the newest read.
    R2,
    /// Reads that wait when leadership is lost count as confirmed.
    R3,
    /// A lease lasts a maximum election timeout, whatever voters promise and however clocks drift.
    R4,
    /// A leader keeps its lease when it has ordered another node to campaign.
    R5,
    /// A confirmed read is answered before the machine has reached its index.
    R6,
    /// A snapshot of what is committed here already is pulled and installed all the same.
    S1,
    /// The log that a snapshot covers is removed before the record names the snapshot.
    S2,
    /// A snapshot gets its name before it is synced.
    S3,
    /// The blocks of a snapshot are believed unchecked.
    S6,
    /// What a snapshot holds of the session table is left behind.
    S9,
    /// Any bad batch is taken for a torn end of the log.
    D1,
    /// A failed sync is tried again, and the second answer believed.
    D3,
    /// Entries are reported durable without a sync.
    D5,
    /// Neither place nor predecessor of a log record is checked.
    D6,
    /// A wiped node takes its former place again.
    I1,
    /// Votes are counted by node id, whatever data folder they come from.
    I2,
    /// What a boot read is counted as durable before it is synced.
    I3,
    /// The hard state is written to one of its two files only.
    I4,
    /// A rotten last batch is taken for a torn one.
    I5,
    /// Appends that wait outlive the leader that sent them.
    I6,
    /// The time a disk takes for a vote counts as a leader's silence.
    I7,
    /// A full log refuses the new leader's no-op too.
    I8,
    /// A late copy of a hello brings an earlier boot back.
    I9,
    /// Each node has bounds of its own for sessions.
    I10,
    /// A node with a damaged log votes by what is left of it.
    I11,
    /// The result of a write is not recorded.
    U1,
    /// A write of an expired session is carried out.
    U2,
    /// Call ids are told apart by their lowest four bits.
    U3,
    /// A peer's new boot inherits the state of the one before.
    U4,
    /// A datagram for an earlier boot is taken in.
    U5,
    /// An append of an older term is taken like one of this.
    U6,
    /// A bad checksum is passed over.
    U8,
    /// A checksum of zero means that there is none.
    U9,
    /// Datagrams are packed larger than the path takes.
    U10,
    /// A datagram that the socket does not take ends the link.
    U12,
    /// Probe timeouts never back off.
    U13,
    /// Numbers in messages are believed unseen.
    U16,
    /// Lengths in datagrams are believed unseen.
    U18,
    /// The session table has no bound.
    C2,
}

impl Mutant {
    /// The mutant of this name, in any case of letters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use core::cell::Cell;

    std::thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Switches one mutant on in this thread, and every other off.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    /// True while this mutant is on.
    pub(crate) fn is(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(not(feature = "mutants"))]
mod switch {
    use super::Mutant;

    /// False: this build has no mutants.
    pub(crate) const fn is(_: Mutant) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
pub use switch::activate;

pub(crate) use switch::is;
