//! Tests of the whole room over virtual time.

mod exchange;
mod laws;
mod world;
