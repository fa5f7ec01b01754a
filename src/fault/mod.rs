//! The fault room.
