//! Many nodes and one virtual clock.

pub mod invariant;
