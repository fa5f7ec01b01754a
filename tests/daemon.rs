//! The program as it is run: real node processes on loopback, killed, paused, wiped, flooded and lied to.
//!
//! One cluster runs at a time, on an address of this test process's own, with its data in a folder of its own.
//! What is waited for is waited for by condition, with one generous deadline. Long forms by environment:
//! `RAFTGRAM_KILLS` (20) leaders are killed, of nodes with the flags `RAFTGRAM_KILLS_FLAGS` (none), the lossy network
//! lasts `RAFTGRAM_LOSSY_SECONDS` (10), a snapshot of
//! `RAFTGRAM_TRANSFER_MIB` (16) travels while its ends die, a sealed cluster gets `RAFTGRAM_FORGED` forged
//! datagrams, whose cost is measured, and a plain one malformed ones for `RAFTGRAM_FLOOD_SECONDS` (1), the stalls of a
//! rolling restart must come to less than `RAFTGRAM_STALL_MS` (not checked), `RAFTGRAM_RESENT` (2,000) requests are
//! sent five times each, and a node's clients are too many for `RAFTGRAM_OVERLOAD_SECONDS` (3), of which
//! `RAFTGRAM_SLOW_CLIENTS` (300) hardly hear. Those of `faults` stand there.

#[path = "daemon/backup.rs"]
mod backup;
#[path = "daemon/bench.rs"]
mod bench;
#[path = "../tools/cli/tests/support/browser.rs"]
#[expect(dead_code, reason = "pages that are only looked at need no mouse")]
mod browser;
#[path = "daemon/cluster.rs"]
mod cluster;
#[path = "cluster/copies.rs"]
mod copies;
#[cfg(target_os = "linux")]
#[path = "daemon/cost.rs"]
mod cost;
#[path = "daemon/failover.rs"]
mod failover;
#[cfg(target_os = "linux")]
#[path = "daemon/faults/mod.rs"]
mod faults;
#[cfg(target_os = "linux")]
#[path = "daemon/flood.rs"]
mod flood;
#[cfg(target_os = "linux")]
#[path = "daemon/forged.rs"]
mod forged;
#[path = "daemon/founding.rs"]
mod founding;
#[path = "daemon/http.rs"]
mod http;
#[path = "daemon/load.rs"]
mod load;
#[path = "daemon/members.rs"]
mod members;
#[path = "daemon/network.rs"]
mod network;
#[cfg(target_os = "linux")]
#[path = "daemon/overload.rs"]
mod overload;
#[path = "../tools/cli/tests/support/ports.rs"]
mod ports;
#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/reads.rs"]
mod reads;
#[path = "daemon/record.rs"]
mod record;
#[path = "daemon/recovery.rs"]
mod recovery;
#[path = "daemon/refusals.rs"]
mod refusals;
#[path = "daemon/relay.rs"]
mod relay;
#[path = "daemon/repair.rs"]
mod repair;
#[path = "daemon/resent.rs"]
mod resent;
#[path = "daemon/sealed.rs"]
mod sealed;
#[path = "daemon/sizes.rs"]
mod sizes;
#[path = "daemon/snapshot.rs"]
mod snapshot;
#[path = "../tools/cli/tests/support/mod.rs"]
mod support;
#[path = "daemon/transfer.rs"]
mod transfer;
#[path = "daemon/up.rs"]
mod up;
#[path = "daemon/upgrade.rs"]
mod upgrade;
