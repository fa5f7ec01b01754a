//! What holds for every datagram and body, drawn at random; the fixed cases are in `tests/vectors/`.

mod bodies;
mod datagrams;
mod frames;
mod members;
mod sizes;
mod strategies;
