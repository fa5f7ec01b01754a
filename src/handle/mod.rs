//! The handle room.
