//! Runs that once showed a bug, played again. Each `.case` file of `tests/seeds/` is one, in lines `name = value`:
//!
//! ```text
//! seed = 20
//! nodes = 3
//! time_s = 30
//! faults = all
//! operations_per_s = 64
//! sealed = true (or left out: plain datagrams)
//! why = what went wrong, and where it was mended
//! ```
//!
//! A change to what a seed draws makes another run of it, which then is one more seed like any other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use raftgram::seal::SealMode;
use raftgram::sim::workload::{Keep, KvWorkload};
use raftgram::sim::{Config, run};

#[test]
fn every_run_that_showed_a_bug_is_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (config, why) = read(&text);
        if config.seal != SealMode::Off && cfg!(not(feature = "seal")) {
            println!("skipped: {} needs the feature `seal`", file.display());
            continue;
        }
        let (report, _) = run(config, |rng| KvWorkload::new(rng, Keep::Nothing));
        assert!(report.violation.is_none(), "{} ({why}): {report}", file.display());
    }
}

fn read(text: &str) -> (Config, &str) {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let pairs: BTreeMap<&str, &str> = lines
        .map(|line| line.split_once('=').unwrap_or_else(|| panic!("`{line}` is no `name = value`")))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let number = |name: &str| pairs[name].parse::<u64>().unwrap_or_else(|error| panic!("{name}: {error}"));
    let config = Config {
        nodes: number("nodes") as u16,
        time: Duration::from_secs(number("time_s")),
        faults: pairs["faults"].parse().unwrap(),
        operations_per_s: number("operations_per_s") as u32,
        seal: if pairs.get("sealed") == Some(&"true") { SealMode::Require } else { SealMode::Off },
        ..Config::new(number("seed"))
    };
    (config, pairs["why"])
}
