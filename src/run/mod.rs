//! The run room.

pub mod disk;
