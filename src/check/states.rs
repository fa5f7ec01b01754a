//! States by number, and who still waits to see each.

use std::collections::BTreeMap;

/// What a step of the search does to an operation's claims on states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has not taken effect: it needs one state and may bring back another.
    Raise,
    /// It has.
    Drop,
}

/// Every state that was met, and the claims of the operations that have not taken effect.
#[derive(Debug)]
pub(super) struct States<S> {
    met: Vec<S>,
    numbers: BTreeMap<S, u32>,
    /// By state, whether some operation leads to it: not all that are asked for come up.
    is_reached: Vec<bool>,
    /// By state, how many must find it.
    needed: Vec<u32>,
    /// By state, how many lead to it.
    sources: Vec<u32>,
    /// How many lead nobody knows where.
    sources_of_any: u32,
}

impl<S> Default for States<S> {
    fn default() -> Self {
        Self {
            met: Vec::new(),
            numbers: BTreeMap::new(),
            is_reached: Vec::new(),
            needed: Vec::new(),
            sources: Vec::new(),
            sources_of_any: 0,
        }
    }
}

impl<S: Clone + Ord> States<S> {
    /// The state's number, a new one if it was not met before.
    pub(super) fn number(&mut self, state: S) -> u32 {
        if let Some(&number) = self.numbers.get(&state) {
            return number;
        }
        // A state costs a step of the budget or an operation in memory, so they stay far below 2^32.
        let number = u32::try_from(self.met.len()).expect("fewer than 2^32 states");
        self.met.push(state.clone());
        self.numbers.insert(state, number);
        self.is_reached.push(false);
        self.needed.push(0);
        self.sources.push(0);
        number
    }

    pub(super) fn get(&self, number: u32) -> &S {
        &self.met[number as usize]
    }

    /// The key may come to hold this state.
    pub(super) fn reach(&mut self, state: u32) {
        self.is_reached[state as usize] = true;
    }

    pub(super) fn reached(&self) -> impl Iterator<Item = &S> {
        self.met.iter().zip(&self.is_reached).filter(|(_, is_reached)| **is_reached).map(|(state, _)| state)
    }

    /// Someone must find this state.
    pub(super) fn claim_need(&mut self, state: u32, claim: Claim) {
        change(&mut self.needed[state as usize], claim);
    }

    /// Someone leads to this state, or nobody knows where.
    pub(super) fn claim_source(&mut self, state: Option<u32>, claim: Claim) {
        match state {
            Some(state) => change(&mut self.sources[state as usize], claim),
            None => change(&mut self.sources_of_any, claim),
        }
    }

    /// True when someone must find this state and nobody can bring it back.
    pub(super) fn is_irreplaceable(&self, state: u32) -> bool {
        let at = state as usize;
        self.needed[at] > 0 && self.sources[at] == 0 && self.sources_of_any == 0
    }
}

fn change(count: &mut u32, claim: Claim) {
    match claim {
        Claim::Raise => *count += 1,
        Claim::Drop => *count -= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_only_asked_for_is_not_reached() {
        let mut states = States::default();
        let (_, b) = (states.number("a"), states.number("b"));
        states.reach(b);
        assert_eq!(states.reached().collect::<Vec<_>>(), [&"b"]);
    }

    #[test]
    fn a_state_is_irreplaceable_while_it_is_needed_and_has_no_source() {
        let mut states = States::default();
        let (a, b) = (states.number("a"), states.number("b"));
        assert_eq!((states.number("a"), *states.get(b)), (a, "b"));
        assert!(!states.is_irreplaceable(a));
        states.claim_need(a, Claim::Raise);
        assert!(states.is_irreplaceable(a) && !states.is_irreplaceable(b));
        for source in [Some(a), None] {
            states.claim_source(source, Claim::Raise);
            assert!(!states.is_irreplaceable(a), "{source:?}");
            states.claim_source(source, Claim::Drop);
        }
        states.claim_need(a, Claim::Drop);
        assert!(!states.is_irreplaceable(a));
    }
}
