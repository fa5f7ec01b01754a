//! The raftgram command line.

fn main() {}
