//! The data folder: may it be written, how long does a sync take, how much room is there.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Finding, Verdict, unknown};
use crate::units::Bytes;

/// How many syncs are measured.
const SYNCS: usize = 20;

/// A sync that takes longer bounds a cluster to few commits; a vote that does delays every election.
const SLOW: Duration = Duration::from_millis(20);

/// Room for a few log segments and a snapshot.
const ROOM_MIN: u64 = 1 << 30;

/// What statfs says of a file system in memory.
const TMPFS: i64 = 0x0102_1994;

pub(super) fn look(folder: &Path) -> Vec<Finding> {
    let Some(existing) = folder.ancestors().find(|path| path.is_dir() || path.as_os_str().is_empty()) else {
        return vec![Finding::new(
            "data folder",
            Verdict::Bad,
            format!("{}: no such place", folder.display()),
        )];
    };
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let mut findings = vec![room(existing)];
    match syncs(existing) {
        Ok(times) => findings.push(judge(times)),
        Err(error) => findings.push(
            Finding::new("data folder", Verdict::Bad, format!("{}: {error}", existing.display()))
                .hint("the user of the node must own it: chown, or another --data"),
        ),
    }
    findings
}

fn room(folder: &Path) -> Finding {
    let what = "room";
    match rustix::fs::statfs(folder) {
        Err(error) => unknown(what, &error),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0));
            let is_memory = i128::from(stat.f_type) == i128::from(TMPFS);
            let found = format!("{} free in {}", readable(free), folder.display());
            let fault = match (is_memory, free < ROOM_MIN) {
                (true, _) => {
                    Some((Verdict::Note, "it is in memory: what is written is lost with the machine's power"))
                }
                (_, true) => {
                    Some((Verdict::Poor, "a node whose disk is full is read-only until there is room"))
                }
                _ => None,
            };
            Finding::judged(what, found, fault.map(|(verdict, hint)| (verdict, hint.to_owned())))
        }
    }
}

/// Appends a block and syncs it, again and again, as a log does.
fn syncs(folder: &Path) -> io::Result<Vec<Duration>> {
    let mut file = tempfile::Builder::new().prefix(".raftgram-doctor").tempfile_in(folder)?;
    let block = [0x5a; 4096];
    file.write_all(&[0; 4096 * SYNCS])?;
    file.as_file().sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&block)?;
        file.as_file().sync_data()?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times)
}

fn judge(sorted: Vec<Duration>) -> Finding {
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    let found = format!(
        "half of {} took {} us or less, the slowest {} us",
        sorted.len(),
        median.as_micros(),
        worst.as_micros()
    );
    let hint = "every commit waits for a sync of a majority: a disk with a power-safe cache takes well \
        under a millisecond";
    let is_too_quick = median < Duration::from_micros(5);
    let fault = if median > SLOW {
        Some((Verdict::Poor, hint))
    } else if is_too_quick {
        Some((
            Verdict::Note,
            "no disk is so quick: here a sync does not wait for one, and a crash may lose what it was told",
        ))
    } else {
        None
    };
    Finding::judged("sync", found, fault.map(|(verdict, hint)| (verdict, hint.to_owned())))
}

/// In the largest unit that leaves two digits.
fn readable(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    units
        .into_iter()
        .find(|(size, _)| bytes >= 10 * size)
        .map_or_else(|| Bytes(bytes).to_string(), |(size, unit)| format!("{} {unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_poor_and_one_that_cannot_be_is_noted() {
        let of = |us| judge(vec![Duration::from_micros(us); SYNCS]).verdict;
        assert_eq!((of(900), of(20_001), of(2)), (Verdict::Good, Verdict::Poor, Verdict::Note));
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_that_will_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let findings = look(&dir.path().join("not/yet"));
        let names: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(names, ["room", "sync"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        assert_eq!(look(Path::new("/proc/nowhere")).last().unwrap().verdict, Verdict::Bad);
    }

    #[test]
    fn sizes_are_told_in_two_digits_or_more() {
        assert_eq!(
            (readable(9 << 30), readable(10 << 30), readable(5)),
            ("9216 MiB".into(), "10 GiB".into(), "5B".into())
        );
    }
}
