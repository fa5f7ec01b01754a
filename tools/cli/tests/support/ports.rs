//! Ports that nobody uses, for what a test starts.
//!
//! They are read from the system's tables. To bind a socket and let it go would not do: a process that another test
//! starts at that moment inherits it, and the port stays taken until that process has become its program.

use std::collections::BTreeSet;

/// Ports in use on any address, over UDP or TCP; none are known on a system without such tables.
fn in_use() -> BTreeSet<u16> {
    let tables = ["udp", "udp6", "tcp", "tcp6"].map(|table| format!("/proc/net/{table}"));
    let tables = tables.iter().filter_map(|table| std::fs::read_to_string(table).ok());
    let ports = |table: String| -> Vec<u16> { table.lines().skip(1).map(local_port).collect() };
    tables.flat_map(ports).collect()
}

/// `  52: 0100007F:1F90 00000000:0000 07 …`: the second field is the socket's own address.
fn local_port(line: &str) -> u16 {
    let port = line.split_whitespace().nth(1).and_then(|address| address.rsplit_once(':')).map(|it| it.1);
    port.and_then(|port| u16::from_str_radix(port, 16).ok())
        .unwrap_or_else(|| panic!("no address in `{line}`"))
}

/// The first of the starts from which `count` ports in a row are free at this moment.
pub(crate) fn first_free(starts: impl IntoIterator<Item = u16>, count: u16) -> u16 {
    let in_use = in_use();
    let mut starts = starts.into_iter();
    starts.find(|&first| in_use.range(first..first + count).next().is_none()).expect("some ports are free")
}

#[cfg(target_os = "linux")]
#[test]
fn a_free_port_is_not_held_by_a_process_that_starts_meanwhile() {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::atomic::{AtomicBool, Ordering};

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::process::Command::new("true").status().unwrap();
            }
        });
        let begin = 25_000 + u16::try_from(std::process::id() % 5_000).unwrap();
        let bound = (begin..begin + 100).map(|start| {
            let first = first_free(start..32_000, 1);
            // Not where the other tests' clusters are.
            UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), first)).map(drop).map_err(|error| (first, error))
        });
        let bound: Result<(), _> = bound.collect();
        is_over.store(true, Ordering::Relaxed);
        bound.unwrap();
    });
}
