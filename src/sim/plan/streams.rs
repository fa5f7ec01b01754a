//! Whose draw is whose: each deed of each kind of fault draws from a generator of its own.
//!
//! The generators are not advanced one after the other but made from seed, kind and number. So a new kind of fault,
//! or one more draw in an old one, leaves all that others draw as it was: the new kind takes the place of some deeds,
//! and every other deed is the same one at the same time.

use crate::hash::Fnv1a;
use crate::rng::Rng;
use crate::sim::faults::Fault;

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    seed: u64,
}

impl Streams {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// What the `number`th deed of this kind draws from. Number 0 is what is drawn before a run begins.
    pub(super) fn of(self, fault: Fault, number: u64) -> Rng {
        let hash = Fnv1a::default().bytes(fault.name().as_bytes()).u64(self.seed).u64(number);
        Rng::from_seed(hash.finish())
    }

    /// Which of these kinds does the `number`th deed.
    pub(super) fn pick(self, kinds: &[Fault], number: u64) -> Fault {
        let highest = kinds.iter().max_by_key(|kind| self.of(**kind, number).next_u64());
        *highest.unwrap_or_else(|| panic!("a deed of no kind"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_kind_of_fault_leaves_the_other_deeds_as_they_were() {
        let streams = Streams::new(7);
        let before = [Fault::Kill, Fault::Partition, Fault::Rot];
        let after = [Fault::Kill, Fault::Partition, Fault::Transfer, Fault::Rot];
        let mut taken = 0;
        for number in 1..=400 {
            let (old, new) = (streams.pick(&before, number), streams.pick(&after, number));
            assert!(new == old || new == Fault::Transfer, "deed {number} was {old:?} and became {new:?}");
            taken += u32::from(new != old);
        }
        assert!((60..=140).contains(&taken), "{taken} of 400 deeds are of the new kind");
    }
}
