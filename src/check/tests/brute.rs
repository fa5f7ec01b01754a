//! The definition of linearizability written down, with no thought of speed: every order of every choice of pending
//! operations is tried. Shares nothing with the search but the model.

use super::super::{Answer, Call, Model, Operation, Outcome, Register};

/// Whether these operations on one key have an order, from this state.
pub(super) fn is_linearizable(operations: &[Operation<Call, Answer>], start: &Option<String>) -> bool {
    let all: Vec<&Operation<Call, Answer>> =
        operations.iter().filter(|operation| operation.outcome != Outcome::Failed).collect();
    assert!(all.len() <= 12, "{} operations are too many to try every order", all.len());
    extends(&all, start)
}

/// Whether these, which have not taken effect, can all be put after what has.
fn extends(left: &[&Operation<Call, Answer>], state: &Option<String>) -> bool {
    if left.iter().all(|operation| operation.outcome == Outcome::Unknown) {
        return true;
    }
    (0..left.len()).any(|at| {
        let mut others = left.to_vec();
        let first = others.remove(at);
        // An order may not put first what was invoked after another one's return.
        let is_late = others.iter().any(|other| returned(other) < first.invoked);
        let answer = match &first.outcome {
            Outcome::Ok(answer) => Some(answer),
            _ => None,
        };
        let after = Register::absent().step(state, &first.call, answer);
        !is_late && after.is_some_and(|after| extends(&others, &after))
    })
}

/// The event by which an operation took effect, if it did.
fn returned(operation: &Operation<Call, Answer>) -> u64 {
    match operation.outcome {
        Outcome::Ok(_) => operation.returned.unwrap_or(u64::MAX),
        Outcome::Failed | Outcome::Unknown => u64::MAX,
    }
}
