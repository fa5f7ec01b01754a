//! Tests of the whole room over virtual time.

mod exchange;
mod figures;
mod laws;
mod world;
