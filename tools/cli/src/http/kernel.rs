//! What the kernel counts for a socket.

use std::net::{IpAddr, SocketAddr};

/// Datagrams that the kernel dropped at the socket bound here, where it says so (Linux): the node was too slow, or its
/// buffer too small.
pub(super) fn drops_at(address: SocketAddr) -> Option<u64> {
    let table = if address.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    drops_in(&std::fs::read_to_string(table).ok()?, address)
}

/// The last column of the line about this address.
fn drops_in(table: &str, address: SocketAddr) -> Option<u64> {
    let name = name_of(address);
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&name))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// As the table writes it: words of four bytes, each as the machine's own number.
fn name_of(address: SocketAddr) -> String {
    let words = |octets: &[u8]| -> String {
        let word = |four: &[u8]| four.try_into().map(u32::from_ne_bytes).unwrap_or(0);
        octets.chunks(4).map(|four| format!("{:08X}", word(four))).collect()
    };
    let host = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{host}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_read_by_address_and_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout drops\n\
            437: 0100007F:1BBD 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 21 2 0000 5\n\
            438: 0200007F:1BBD 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 22 2 0000 7\n";
        let drops = |text: &str| drops_in(table, text.parse().unwrap());
        assert_eq!(
            (drops("127.0.0.1:7101"), drops("127.0.0.2:7101"), drops("127.0.0.1:7102")),
            (Some(5), Some(7), None)
        );
        assert_eq!(name_of("[::1]:7101".parse().unwrap()), "00000000000000000000000001000000:1BBD");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_line_of_a_socket_that_is_bound_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(drops_at(socket.local_addr().unwrap()), Some(0));
    }
}
