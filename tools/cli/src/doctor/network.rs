//! Sockets, cards and what the kernel has lost.

use std::fs;
use std::net::SocketAddr;

use raftgram::run::socket::{BUFFER_BYTES_WANTED, Socket};

use super::{Finding, Verdict, kernel_says, unknown};
use crate::bench::kernel_drops_of_all;
use crate::units::Bytes;

/// A datagram of 1,200 bytes under an IPv6 and a UDP header.
const MTU_MIN: u64 = 1200 + 40 + 8;

pub(super) fn look(listen: SocketAddr) -> Vec<Finding> {
    let mut findings = socket(listen);
    findings.extend(cards());
    findings.push(lost());
    findings
}

fn socket(listen: SocketAddr) -> Vec<Finding> {
    let socket = match Socket::bind(listen) {
        Ok(socket) => socket,
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "a node that runs there already is well; else choose another port"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE; use another"
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    "no card of this machine has the address; see `ip address`"
                }
                _ => "see `ip address` for what this machine has",
            };
            let is_running = error.kind() == std::io::ErrorKind::AddrInUse;
            let verdict = if is_running { Verdict::Note } else { Verdict::Bad };
            let fault = Finding::new("socket", verdict, format!("{listen}: {error}")).hint(hint);
            // The rest can be told at any other port.
            let elsewhere = Socket::bind(SocketAddr::new([127, 0, 0, 1].into(), 0));
            return std::iter::once(fault).chain(elsewhere.iter().flat_map(granted)).collect();
        }
    };
    let mut findings = vec![Finding::new("socket", Verdict::Good, format!("{listen} can be bound"))];
    findings.extend(granted(&socket));
    findings
}

fn granted(socket: &Socket) -> Vec<Finding> {
    let buffers = socket.buffers();
    let one = |what: &str, granted: usize, name: &str| {
        let (granted, wanted) = (granted as u64, BUFFER_BYTES_WANTED as u64);
        let text = format!("{} of {} asked for", Bytes(granted), Bytes(wanted));
        let hint = format!(
            "bursts are lost when it overflows: sysctl -w net.core.{name}={wanted}, and a file in /etc/sysctl.d"
        );
        Finding::judged(what, text, (granted < wanted).then_some((Verdict::Poor, hint)))
    };
    let offload = match socket.segments_max() {
        1 => Finding::new("offload", Verdict::Note, "the kernel takes datagrams one by one").hint(
            "a Linux of 4.18 or newer takes many in one call (UDP_SEGMENT), which saves processor time",
        ),
        count => Finding::new("offload", Verdict::Good, format!("{count} datagrams in one call")),
    };
    vec![
        one("receive buffer", buffers.receive_bytes, "rmem_max"),
        one("send buffer", buffers.send_bytes, "wmem_max"),
        offload,
    ]
}

fn cards() -> Vec<Finding> {
    let entries = match fs::read_dir("/sys/class/net") {
        Ok(entries) => entries,
        Err(error) => return vec![unknown("cards", &error)],
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let card = |name: &String| {
        let mtu: u64 = kernel_says(&format!("/sys/class/net/{name}/mtu"))?.parse().ok()?;
        let is_down = kernel_says(&format!("/sys/class/net/{name}/operstate")).is_some_and(|it| it == "down");
        (!is_down).then(|| judge_mtu(name, mtu))
    };
    names.iter().filter_map(card).collect()
}

fn judge_mtu(name: &str, mtu: u64) -> Finding {
    let hint = format!(
        "datagrams have up to 1,200 bytes and need {MTU_MIN} with their headers: those that are larger than this \
         card's do not arrive"
    );
    let fault = (mtu < MTU_MIN).then_some((Verdict::Bad, hint));
    Finding::judged(&format!("card {name}"), format!("MTU {mtu}"), fault)
}

fn lost() -> Finding {
    let what = "lost by the kernel";
    match kernel_drops_of_all() {
        None => unknown(what, &"no /proc/net/snmp"),
        Some(0) => Finding::new(what, Verdict::Good, "no datagram since the machine's start"),
        Some(count) => Finding::new(
            what,
            Verdict::Note,
            format!("{count} datagrams since the machine's start, of all programs"),
        )
        .hint("a socket's buffer was full; `status` and /metrics show whether it was a node's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_cannot_carry_a_datagram_is_bad() {
        assert_eq!(judge_mtu("eth0", 1500).verdict, Verdict::Good);
        assert_eq!(judge_mtu("tun0", 1248).verdict, Verdict::Good);
        assert_eq!(judge_mtu("tun0", 1247).verdict, Verdict::Bad);
    }

    #[test]
    fn a_port_in_use_is_told_and_the_rest_is_looked_at_all_the_same() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let findings = socket(taken.local_addr().unwrap());
        assert_eq!((findings[0].what.as_str(), findings[0].verdict), ("socket", Verdict::Note));
        assert!(findings.iter().any(|finding| finding.what == "receive buffer"), "{findings:?}");
    }
}
