//! Real faults: processes killed at the n-th write, sync, rename and removal; networks of the kernel that lose, double,
//! corrupt and carry one way only; disks that fail, are slow or full; files that somebody meddled with.
//!
//! It takes root, network namespaces, nft and strace. Where one of them lacks, a test says on stderr that it was
//! skipped, which `.ci/run` counts. Plain runs are short: `RAFTGRAM_FAULT_ROUNDS` (0) is how often every n is killed,
//! `RAFTGRAM_FAULT_SECONDS` (4) how long mixed faults go on, drawn from `RAFTGRAM_FAULT_SEED` (1), and
//! `RAFTGRAM_LOSS_SECONDS` (1) how long 30 % of all datagrams are lost. Each run records a history of what clients saw,
//! which `raftgram check` judges.

mod history;
mod kills;
mod lab;
mod loss;
mod mixed;
mod net;
mod site;

use std::io::Write as _;
use std::process::{Command, Stdio};

/// True when this test can run here; otherwise it has said why not.
fn can_run(test: &str, tools: &[&str]) -> bool {
    let missing = if rustix::process::geteuid().is_root() {
        tools.iter().find(|tool| !works(tool)).map(|tool| format!("{tool} does not work"))
    } else {
        Some("it takes root".to_owned())
    };
    if let Some(why) = &missing {
        // Not by a macro, whose output the test harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
    }
    missing.is_none()
}

/// Tries the very thing that is needed, in a namespace of its own where there is one.
fn works(tool: &str) -> bool {
    let script = match tool {
        "strace" => "strace -qq -o /dev/null -e inject=getpid:delay_enter=1 true",
        "nft" => "unshare -n nft list ruleset",
        "ip" => "unshare -n ip link add rgtest0 type veth peer name rgtest1",
        "etcd" => "etcd --version",
        other => panic!("nobody knows how to try {other}"),
    };
    let tried = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output();
    tried.is_ok_and(|output| output.status.success())
}
