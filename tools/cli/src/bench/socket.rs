//! The sockets of a measurement, and what the kernel says about them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde::Serialize;
use socket2::SockRef;

use crate::error::{CliError, Code};

/// What is asked for; the kernel gives less without a word.
const BUFFER_BYTES: usize = 8 << 20;

/// The buffers as the kernel gave them; Linux counts its own bookkeeping in.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Buffers {
    receive_bytes: usize,
    send_bytes: usize,
}

/// How a socket waits for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Asleep in the kernel, and looking up this often.
    Asleep(Duration),
    /// Asking again and again: fastest, at the price of a whole processor.
    Spinning,
}

/// A socket on any free port of this address.
pub(crate) fn open(address: IpAddr, waiting: Waiting) -> Result<(UdpSocket, Buffers), CliError> {
    let bound = UdpSocket::bind(SocketAddr::new(address, 0)).and_then(|socket| {
        match waiting {
            Waiting::Asleep(look_up) => socket.set_read_timeout(Some(look_up))?,
            Waiting::Spinning => socket.set_nonblocking(true)?,
        }
        let given = ask_for_buffers(&SockRef::from(&socket))?;
        Ok((socket, given))
    });
    bound.map_err(|error| CliError::new(Code::Failed, format!("opening a UDP socket: {error}")).at(address))
}

fn ask_for_buffers(socket: &SockRef<'_>) -> std::io::Result<Buffers> {
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    Ok(Buffers { receive_bytes: socket.recv_buffer_size()?, send_bytes: socket.send_buffer_size()? })
}

/// Takes what has arrived already; `None` when nothing has.
pub(super) fn take(socket: &UdpSocket, datagram: &mut [u8]) -> Option<(usize, SocketAddr)> {
    let flags = rustix::net::RecvFlags::DONTWAIT;
    let (_, bytes, from) = rustix::net::recvfrom(socket, datagram, flags).ok()?;
    Some((bytes, SocketAddr::try_from(from?).ok()?))
}

/// Keeps this process on one processor.
pub(crate) fn pin(processor: usize) -> Result<(), CliError> {
    let mut only = rustix::thread::CpuSet::new();
    if processor >= rustix::thread::CpuSet::MAX_CPU {
        return Err(CliError::usage(format!("there is no processor {processor}")));
    }
    only.set(processor);
    rustix::thread::sched_setaffinity(None, &only)
        .map_err(|error| CliError::io(format!("pinning to processor {processor}"), &error.into()))
}

/// Datagrams that the kernel dropped at the sockets of these ports, where it says so (Linux).
pub(crate) fn kernel_drops(ports: [u16; 2]) -> Option<u64> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(std::fs::read_to_string);
    let lines: Vec<&str> = tables.iter().flatten().flat_map(|table| table.lines().skip(1)).collect();
    let found: Vec<u64> = lines.iter().filter_map(|line| drops_of(line, ports)).collect();
    (found.len() == ports.len()).then(|| found.iter().sum())
}

/// Datagrams that this machine's kernel has dropped since its start because a socket's buffer was full.
pub(crate) fn kernel_drops_of_all() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, counts) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "RcvbufErrors")?;
    counts.split_whitespace().nth(place)?.parse().ok()
}

/// How large a socket's buffers may become on this machine.
pub(crate) fn buffer_bounds() -> BTreeMap<&'static str, u64> {
    let read = |name: &'static str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
        Some((name, text.trim().parse().ok()?))
    };
    ["rmem_max", "wmem_max"].into_iter().filter_map(read).collect()
}

/// The last column of one line of /proc/net/udp, when the line is about one of these ports.
fn drops_of(line: &str, ports: [u16; 2]) -> Option<u64> {
    let mut columns = line.split_whitespace();
    let (_, port) = columns.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !ports.contains(&port) {
        return None;
    }
    columns.next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_by_port() {
        let line =
            "  437: 0100007F:1BBD 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 21 2 0000 5";
        assert_eq!(drops_of(line, [7101, 1]), Some(5));
        assert_eq!(drops_of(line, [7102, 1]), None);
        assert_eq!(drops_of("nonsense", [7101, 1]), None);
    }
}
