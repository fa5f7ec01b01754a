//! The depth-first search for an order.

use std::collections::BTreeMap;

use super::Budget;
use super::configuration::{Bits, Configuration, Next, Seen};
use super::model::{Effect, Model};
use super::order::Order;
use super::part::{Move, Origin};
use super::states::{Claim, States};

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There is an order.
    Explained,
    /// There is none.
    Stuck,
    /// The budget is spent.
    OutOfSteps,
}

/// One search and what it has learned. Operations are numbered by invocation, states as they are met.
pub(super) struct Search<'a, M: Model> {
    model: &'a M,
    moves: Vec<Move<'a, M>>,
    plans: Vec<Plan>,
    /// Those that must take effect and have not, by invocation.
    required: Order,
    /// The same by return.
    returns: Order,
    /// Those that must take effect, by return.
    by_return: Vec<usize>,
    /// Those that need not take effect, by invocation.
    optional: Vec<usize>,
    states: States<M::State>,
    /// By state, those that must find it, by invocation.
    needers: BTreeMap<u32, Vec<usize>>,
    /// Operations in the order in which they took effect.
    trail: Vec<usize>,
    ahead: Bits,
    seen: Seen,
    /// The furthest return that some order got to.
    furthest: usize,
}

/// What a search keeps of one operation.
#[derive(Debug)]
struct Plan {
    act: Act,
    /// Whether it must take effect in the order that is sought, so that what it needs must come up.
    is_due: bool,
    /// Its place among the returns, if it must take effect.
    rank: Option<usize>,
    /// No other operation that is open at the same return has this number.
    slot: usize,
    /// For an optional operation: the last equal one invoked before, which goes first.
    twin: Option<usize>,
    has_happened: bool,
}

/// [`Effect`] with numbered states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Observes { needs: Option<u32> },
    Overwrites { leaves: u32 },
    Depends { needs: Option<u32>, leaves: Option<u32> },
}

/// A configuration on the way, and what is to be tried from it.
#[derive(Debug)]
struct Frame {
    /// The trail's length before it.
    base: usize,
    state: u32,
    next: Next,
    /// Those that must take effect and may do so next, the most urgent first.
    due: Vec<usize>,
    cursor: Cursor,
}

/// What to try next: all of one kind, then all of the next.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// Those that must take effect, from this place among the frame's on.
    Required(usize),
    /// Those that may have taken effect before.
    Across(Option<usize>),
    /// Those that need not take effect, from this place among them on.
    Optional(usize),
}

/// A step that is possible.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    operation: usize,
    state: u32,
    next: Next,
}

impl<'a, M: Model> Search<'a, M> {
    /// A search through these operations, which are in the order of their invocations.
    pub(super) fn new(model: &'a M, moves: Vec<Move<'a, M>>) -> Self {
        let mut states = States::default();
        let mut by_return: Vec<usize> = (0..moves.len()).filter(|&at| moves[at].until.is_some()).collect();
        let required = Order::new(moves.len(), by_return.iter().copied());
        by_return.sort_by_key(|&at| moves[at].until);
        let optional: Vec<usize> = (0..moves.len()).filter(|&at| moves[at].until.is_none()).collect();
        let mut plans: Vec<Plan> = moves.iter().map(|one| Plan::new(one, &mut states)).collect();
        for (rank, &at) in by_return.iter().enumerate() {
            plans[at].rank = Some(rank);
        }
        let slots = assign_slots(&moves, &mut plans);
        let mut last = BTreeMap::new();
        for &at in optional.iter().filter(|&&at| moves[at].answer.is_none()) {
            plans[at].twin = last.insert(moves[at].call, at);
        }
        let mut needers = BTreeMap::<u32, Vec<usize>>::new();
        for (at, plan) in plans.iter().enumerate() {
            plan.claim(&mut states, Claim::Raise);
            if let Some(state) = plan.must_find() {
                needers.entry(state).or_default().push(at);
            }
        }
        Self {
            model,
            required,
            returns: Order::new(moves.len(), by_return.iter().copied()),
            seen: Seen::new(by_return.len()),
            ahead: Bits::below(slots),
            moves,
            plans,
            by_return,
            optional,
            states,
            needers,
            trail: Vec::new(),
            furthest: 0,
        }
    }

    /// Looks for an order from any of these states.
    pub(super) fn run(&mut self, starts: impl IntoIterator<Item = M::State>, budget: &mut Budget) -> End {
        for start in starts {
            let state = self.states.number(start);
            match self.run_from(state, budget) {
                End::Stuck => assert!(self.trail.is_empty(), "{} are left on the trail", self.trail.len()),
                end => return end,
            }
        }
        End::Stuck
    }

    /// Once stuck: the event of the last return that every order got to. What was invoked after it is not to blame,
    /// unless an order was given up for what came later.
    pub(super) fn furthest(&self) -> u64 {
        let at = self.by_return[self.furthest];
        self.moves[at].until.unwrap_or_default()
    }

    /// Every state that was come to or that some operation leaves.
    pub(super) fn states(&self) -> impl Iterator<Item = &M::State> {
        self.states.reached()
    }

    fn run_from(&mut self, start: u32, budget: &mut Budget) -> End {
        let mut frames = Vec::new();
        let root = Candidate { operation: usize::MAX, state: start, next: Next::Anyone };
        if self.enter(0, root, &mut frames, budget) == Entered::End {
            return End::Explained;
        }
        while let Some(frame) = frames.last_mut() {
            let Some(candidate) = self.next_candidate(frame, budget) else {
                if budget.left == 0 {
                    return End::OutOfSteps;
                }
                let base = frame.base;
                self.undo(base);
                frames.pop();
                continue;
            };
            let (before, base) = (frame.state, self.trail.len());
            self.take(candidate.operation);
            if candidate.state != before && self.states.is_irreplaceable(before) {
                self.undo(base);
            } else if self.enter(base, candidate, &mut frames, budget) == Entered::End {
                return End::Explained;
            }
        }
        End::Stuck
    }

    /// Arrives where a candidate led: lets fitting observers take effect and explores on, unless this was seen.
    fn enter(
        &mut self,
        base: usize,
        candidate: Candidate,
        frames: &mut Vec<Frame>,
        budget: &mut Budget,
    ) -> Entered {
        let Candidate { state, mut next, .. } = candidate;
        self.states.reach(state);
        if self.absorb(state, budget) {
            next = Next::Anyone;
        }
        let Some(waits_for) = self.waits_for() else { return Entered::End };
        self.furthest = self.furthest.max(waits_for);
        if !self.is_stranded(state, budget)
            && self.seen.insert(waits_for, Configuration { state, ahead: self.ahead.clone(), next })
        {
            let due = self.due();
            frames.push(Frame { base, state, next, due, cursor: Cursor::Required(0) });
            Entered::New
        } else {
            self.undo(base);
            Entered::Known
        }
    }

    /// Lets every observer take effect that fits the state; says whether any did.
    fn absorb(&mut self, state: u32, budget: &mut Budget) -> bool {
        let before = self.trail.len();
        let mut at = self.required.first();
        while let Some(operation) = at {
            if !self.is_open(operation) || !budget.step() {
                break;
            }
            // Read before it is taken: more may be open after it, never one that was skipped.
            at = self.required.after(operation);
            if matches!(self.plans[operation].act, Act::Observes { .. })
                && self.after(operation, state) == Some(state)
            {
                self.take(operation);
            }
        }
        self.trail.len() > before
    }

    /// True when nothing can bring this state back, and yet it must change before all have found it who must.
    fn is_stranded(&self, state: u32, budget: &mut Budget) -> bool {
        if !self.states.is_irreplaceable(state) {
            return false;
        }
        let needers = self.needers.get(&state).into_iter().flatten().rev();
        let Some(&last) = needers.into_iter().find(|&&at| !self.plans[at].has_happened) else { return false };
        let due = std::iter::successors(self.returns.first(), |&at| self.returns.after(at));
        let is_before = |&at: &usize| self.moves[at].until < Some(self.moves[last].invoked);
        due.take_while(is_before).take_while(|_| budget.step()).any(|at| match self.plans[at].act {
            Act::Observes { needs } => needs.is_some_and(|needs| needs != state),
            Act::Overwrites { .. } | Act::Depends { .. } => self.plans[at].is_due,
        })
    }

    /// The next operation that can take effect from here, if there is one and budget for it.
    fn next_candidate(&mut self, frame: &mut Frame, budget: &mut Budget) -> Option<Candidate> {
        loop {
            let cursor = self.settle(frame)?;
            if !budget.step() {
                return None;
            }
            let found = match cursor {
                Cursor::Required(place) => {
                    frame.cursor = Cursor::Required(place + 1);
                    self.try_required(frame.due[place], frame)
                }
                Cursor::Across(at) => {
                    let operation = at?;
                    frame.cursor = Cursor::Across(self.required.after(operation));
                    let can = self.moves[operation].origin == Origin::Across;
                    can.then_some(Candidate { operation, state: frame.state, next: frame.next })
                }
                Cursor::Optional(place) => {
                    frame.cursor = Cursor::Optional(place + 1);
                    self.try_optional(self.optional[place], frame)
                }
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// Moves a cursor that is past the open operations of its kind to the next kind; none when all were tried.
    fn settle(&self, frame: &Frame) -> Option<Cursor> {
        let mut cursor = frame.cursor;
        loop {
            cursor = match cursor {
                Cursor::Required(place) if place < frame.due.len() => return Some(cursor),
                Cursor::Required(_) => Cursor::Across(self.required.first()),
                // Those that cross the beginning were invoked first.
                Cursor::Across(Some(at)) if self.moves[at].origin == Origin::Across => return Some(cursor),
                Cursor::Across(_) => Cursor::Optional(0),
                Cursor::Optional(place) => {
                    let at = *self.optional.get(place)?;
                    return self.is_open(at).then_some(cursor);
                }
            }
        }
    }

    /// Those that must take effect and may do so next, observers left out: what fits was absorbed. First comes what is
    /// due first, itself or by what an open observer must find.
    fn due(&self) -> Vec<usize> {
        let open = std::iter::successors(self.required.first(), |&at| self.required.after(at));
        let mut due = Vec::new();
        let mut asked = BTreeMap::<u32, u64>::new();
        for at in open.take_while(|&at| self.is_open(at)) {
            let until = self.moves[at].until.unwrap_or(u64::MAX);
            match self.plans[at].act {
                Act::Observes { needs: Some(needs) } => {
                    let earliest = asked.entry(needs).or_insert(until);
                    *earliest = until.min(*earliest);
                }
                Act::Observes { needs: None } => {}
                Act::Overwrites { leaves } => due.push((until, Some(leaves), at)),
                Act::Depends { leaves, .. } => due.push((until, leaves, at)),
            }
        }
        let asked = |leaves: Option<u32>| leaves.and_then(|leaves| asked.get(&leaves).copied());
        due.sort_by_key(|&(until, leaves, _)| asked(leaves).map_or(until, |asked| asked.min(until)));
        due.into_iter().map(|(.., at)| at).collect()
    }

    fn try_required(&mut self, operation: usize, frame: &Frame) -> Option<Candidate> {
        match self.plans[operation].act {
            Act::Overwrites { .. } if frame.next == Next::Observer => return None,
            Act::Observes { .. } | Act::Overwrites { .. } | Act::Depends { .. } => {}
        }
        let state = self.after(operation, frame.state)?;
        Some(Candidate { operation, state, next: Next::Anyone })
    }

    fn try_optional(&mut self, operation: usize, frame: &Frame) -> Option<Candidate> {
        let plan = &self.plans[operation];
        if plan.has_happened || plan.twin.is_some_and(|twin| !self.plans[twin].has_happened) {
            return None;
        }
        if frame.next == Next::Observer && matches!(plan.act, Act::Overwrites { .. }) {
            return None;
        }
        let state = self.after(operation, frame.state)?;
        (state != frame.state).then_some(Candidate { operation, state, next: Next::Observer })
    }

    /// The state after this operation took effect in that state, if it can.
    fn after(&mut self, operation: usize, state: u32) -> Option<u32> {
        match self.plans[operation].act {
            Act::Observes { needs: Some(needs) } => (needs == state).then_some(state),
            Act::Overwrites { leaves } => Some(leaves),
            Act::Depends { needs: Some(needs), .. } if needs != state => None,
            Act::Depends { needs: Some(_), leaves: Some(leaves) } => Some(leaves),
            Act::Observes { needs: None } | Act::Depends { .. } => {
                let one = &self.moves[operation];
                let after = self.model.step(self.states.get(state), one.call, one.answer)?;
                Some(self.states.number(after))
            }
        }
    }

    /// True when this operation was invoked before the return that is waited for.
    fn is_open(&self, operation: usize) -> bool {
        let Some(first) = self.returns.first() else { return false };
        self.moves[first].until.is_some_and(|until| self.moves[operation].invoked < until)
    }

    /// The first return of those that have not taken effect.
    fn waits_for(&self) -> Option<usize> {
        self.returns.first().and_then(|first| self.plans[first].rank)
    }

    /// An operation takes effect.
    fn take(&mut self, operation: usize) {
        let waited_for = self.waits_for().unwrap_or(self.by_return.len());
        self.ahead.set(self.plans[operation].slot);
        if self.plans[operation].rank.is_some() {
            self.required.take(operation);
            self.returns.take(operation);
        }
        // Slots of those that are passed are for others to use.
        for rank in waited_for..self.waits_for().unwrap_or(self.by_return.len()) {
            self.ahead.clear(self.plans[self.by_return[rank]].slot);
        }
        self.plans[operation].has_happened = true;
        self.plans[operation].claim(&mut self.states, Claim::Drop);
        self.trail.push(operation);
    }

    /// Takes operations back until the trail is this long.
    fn undo(&mut self, length: usize) {
        while self.trail.len() > length {
            let Some(operation) = self.trail.pop() else { return };
            self.plans[operation].claim(&mut self.states, Claim::Raise);
            self.plans[operation].has_happened = false;
            let waited_for = self.waits_for().unwrap_or(self.by_return.len());
            if self.plans[operation].rank.is_some() {
                self.returns.put_back(operation);
                self.required.put_back(operation);
            }
            for rank in self.waits_for().unwrap_or(self.by_return.len())..waited_for {
                self.ahead.set(self.plans[self.by_return[rank]].slot);
            }
            self.ahead.clear(self.plans[operation].slot);
        }
    }
}

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    New,
    Known,
    /// Everything that must take effect has.
    End,
}

impl Plan {
    fn new<M: Model>(one: &Move<'_, M>, states: &mut States<M::State>) -> Self {
        let mut number = |state: &Option<M::State>| state.clone().map(|state| states.number(state));
        let act = match &one.effect {
            Effect::Observes { needs } => Act::Observes { needs: number(needs) },
            Effect::Depends { needs, leaves } => {
                Act::Depends { needs: number(needs), leaves: number(leaves) }
            }
            Effect::Overwrites { leaves } => Act::Overwrites { leaves: states.number(leaves.clone()) },
        };
        if let Act::Overwrites { leaves } | Act::Depends { leaves: Some(leaves), .. } = act {
            states.reach(leaves);
        }
        let is_due = one.until.is_some() && one.origin == Origin::Inside;
        Self { act, is_due, rank: None, slot: 0, twin: None, has_happened: false }
    }

    /// The state that must come up for it.
    fn must_find(&self) -> Option<u32> {
        match self.act {
            Act::Observes { needs } | Act::Depends { needs, .. } => needs.filter(|_| self.is_due),
            Act::Overwrites { .. } => None,
        }
    }

    fn claim<S: Clone + Ord>(&self, states: &mut States<S>, claim: Claim) {
        if let Some(state) = self.must_find() {
            states.claim_need(state, claim);
        }
        match self.act {
            Act::Observes { .. } => {}
            Act::Overwrites { leaves } => states.claim_source(Some(leaves), claim),
            Act::Depends { leaves, .. } => states.claim_source(leaves, claim),
        }
    }
}

/// Gives each operation a number that no other has which is open at the same return; says how many there are.
fn assign_slots<M: Model>(moves: &[Move<'_, M>], plans: &mut [Plan]) -> usize {
    let (mut free, mut count) = (Vec::new(), 0);
    let mut taken = BTreeMap::<u64, usize>::new();
    for (one, plan) in moves.iter().zip(plans) {
        while let Some(first) = taken.first_entry().filter(|first| *first.key() < one.invoked) {
            free.push(first.remove());
        }
        plan.slot = free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        if let Some(until) = one.until {
            taken.insert(until, plan.slot);
        }
    }
    count
}
