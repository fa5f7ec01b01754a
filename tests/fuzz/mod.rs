//! Arbitrary bytes into everything that reads bytes: what the fuzz targets of `fuzz/` and the seeded tests run alike.
//!
//! Each harness takes one input and makes of it what it needs: a datagram, a sequence of things that happen to a node,
//! changes to a data folder. So random bytes are structured input already, and a fuzzer that is guided by coverage
//! moves between structures and not only between bytes. A harness panics when what it drives does, or breaks a rule
//! that holds whatever comes in.

#[path = "decode.rs"]
pub(crate) mod decode;
#[path = "folder.rs"]
pub(crate) mod folder;
#[path = "input.rs"]
pub(crate) mod input;
#[path = "links.rs"]
pub(crate) mod links;
#[path = "nodes.rs"]
pub(crate) mod nodes;
#[path = "pool.rs"]
pub(crate) mod pool;
#[cfg(test)]
#[path = "seeded.rs"]
mod seeded;

/// One target: what it is called, and what it does with an input. It returns how many steps that were.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]) -> u64,
    /// As many bytes make an input that reaches far.
    #[cfg_attr(fuzzing, expect(dead_code, reason = "libFuzzer finds its own lengths"))]
    pub(crate) input_bytes: usize,
}

/// All of them.
pub(crate) const TARGETS: [Target; 8] = [
    Target { name: "datagram", run: decode::datagram, input_bytes: 96 },
    Target { name: "frames", run: decode::frames, input_bytes: 96 },
    Target { name: "body", run: decode::body, input_bytes: 64 },
    Target { name: "links", run: links::run, input_bytes: 2048 },
    Target { name: "node", run: nodes::run, input_bytes: 2048 },
    Target { name: "log", run: folder::log, input_bytes: 64 },
    Target { name: "snapshot", run: folder::snapshot, input_bytes: 64 },
    Target { name: "state", run: folder::state, input_bytes: 128 },
];
