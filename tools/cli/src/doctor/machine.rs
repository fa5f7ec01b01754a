//! Clock, processor, limits and rights.

use std::time::{Duration, Instant};

use super::{Finding, Verdict, kernel_says, unknown};

/// How late a sleep may end before timers are called coarse: heartbeats go every 25 ms.
const LATE_MAX: Duration = Duration::from_millis(5);

/// How often the timer is tried.
const TRIES: u32 = 20;

pub(super) fn look() -> Vec<Finding> {
    vec![clock(), timer(), hypervisor(), governor(), files(), user()]
}

fn clock() -> Finding {
    let what = "clock";
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match kernel_says(path) {
        None => unknown(what, &"the kernel does not say"),
        Some(source) => {
            let is_slow = matches!(source.as_str(), "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies");
            let hint = "each look at this clock costs a microsecond or more, and a node looks at it for every \
                datagram; a kernel that distrusts tsc says why in dmesg";
            Finding::judged(what, source, is_slow.then(|| (Verdict::Poor, hint.to_owned())))
        }
    }
}

/// What a millisecond's sleep really takes. The timers of a node are finer, and are woken by the same scheduler.
fn timer() -> Finding {
    let wanted = Duration::from_millis(1);
    let late = |_| {
        let began = Instant::now();
        std::thread::sleep(wanted);
        began.elapsed().saturating_sub(wanted)
    };
    let worst = (0..TRIES).map(late).max().unwrap_or_default();
    let hint = "other programs keep the processor from this one; election timeouts of 250 ms are safe up to tens of \
        milliseconds, and every one of them is a node's latency";
    let found = format!("the latest of {TRIES} wake-ups came {} us late", worst.as_micros());
    Finding::judged("timer", found, (worst > LATE_MAX).then(|| (Verdict::Poor, hint.to_owned())))
}

fn hypervisor() -> Finding {
    let what = "virtual machine";
    let Some(found) = std::fs::read_to_string("/proc/cpuinfo").ok() else {
        return unknown(what, &"no /proc/cpuinfo");
    };
    if !found.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")) {
        return Finding::new(what, Verdict::Good, "no sign of one");
    }
    Finding::new(what, Verdict::Note, "this is one")
        .hint("its clock stands still while its host stops or moves it: do not use --lease-drift here")
}

fn governor() -> Finding {
    let what = "processor speed";
    match kernel_says("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
        None => Finding::new(what, Verdict::Good, "not governed by this system"),
        Some(governor) => {
            let hint = "a processor that saves power answers a lone datagram late: \
                `cpupower frequency-set -g performance`";
            let is_saving = governor == "powersave";
            Finding::judged(what, governor, is_saving.then(|| (Verdict::Note, hint.to_owned())))
        }
    }
}

fn files() -> Finding {
    let what = "open files";
    let limits = std::fs::read_to_string("/proc/self/limits");
    let line = limits.iter().flat_map(|text| text.lines()).find(|line| line.starts_with("Max open files"));
    let Some(soft) = line.and_then(|line| line.split_whitespace().nth(3)) else {
        return unknown(what, &"no /proc/self/limits");
    };
    let is_low = soft.parse::<u64>().is_ok_and(|soft| soft < 256);
    let hint = "a node needs about 30, and 64 more for HTTP: `ulimit -n 1024`, or LimitNOFILE= of its unit";
    Finding::judged(what, format!("at most {soft}"), is_low.then(|| (Verdict::Bad, hint.to_owned())))
}

fn user() -> Finding {
    let what = "user";
    if rustix::process::geteuid().is_root() {
        return Finding::new(what, Verdict::Note, "root").hint(
            "a node needs no right of root's: a user of its own, as packaging/systemd has it, bounds what can go wrong",
        );
    }
    Finding::new(what, Verdict::Good, "not root, which is all a node needs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_looked_at_has_a_name_and_a_finding() {
        let findings = look();
        let names: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(names, ["clock", "timer", "virtual machine", "processor speed", "open files", "user"]);
        assert!(findings.iter().all(|finding| !finding.found.is_empty()), "{findings:?}");
    }
}
