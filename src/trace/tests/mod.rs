//! Lines and events are each other's inverse; an observer tells what changed.
