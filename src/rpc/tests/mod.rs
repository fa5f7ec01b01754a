//! Tests of the whole room over virtual time.

mod bounds;
mod exchange;
mod figures;
mod laws;
mod scenarios;
mod world;
