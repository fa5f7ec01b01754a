//! Captures as pcapng: each datagram under the IP and UDP headers that it would have had, all of one link type, so that
//! libpcap reads them as well as Wireshark does.

use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapResult};

const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;
const IPV4_BYTES: u16 = 20;
const UDP_BYTES: u16 = 8;
/// Timestamps count so many decimal places: nanoseconds.
const NANOSECONDS: u8 = 9;

/// Which way a datagram went, as who recorded it saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// One datagram of a capture.
pub(super) struct Packet<'a> {
    /// Since 1970.
    pub(super) time_ns: u64,
    pub(super) direction: Direction,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: &'a [u8],
    /// Nothing is written for an empty one.
    pub(super) comment: &'a str,
}

/// A capture that is being written.
pub(super) struct CaptureWriter<W: Write>(PcapNgWriter<W>);

impl<W: Write> CaptureWriter<W> {
    /// There is one interface: libpcap refuses a second one with raw IP.
    pub(super) fn new(to: W, comment: &str) -> PcapResult<Self> {
        let options = vec![
            SectionHeaderOption::Comment(Cow::Borrowed("IP and UDP headers are made up from the addresses")),
            SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                "raftgram ",
                env!("CARGO_PKG_VERSION")
            ))),
        ];
        let section =
            SectionHeaderBlock { endianness: Endianness::Little, options, ..SectionHeaderBlock::default() };
        let mut writer = PcapNgWriter::with_section_header(to, section)?;
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed("raftgram")),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            InterfaceDescriptionOption::Comment(Cow::Borrowed(comment)),
        ];
        let snaplen = u32::from(u16::MAX) + 1;
        writer.write_pcapng_block(InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen, options })?;
        Ok(Self(writer))
    }

    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> PcapResult<()> {
        let data = ip_packet(packet.from, packet.to, packet.payload);
        let mut options = vec![EnhancedPacketOption::Flags(packet.direction as u32)];
        if !packet.comment.is_empty() {
            options.push(EnhancedPacketOption::Comment(Cow::Borrowed(packet.comment)));
        }
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(packet.time_ns),
            original_len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            data: Cow::Owned(data),
            options,
        };
        self.0.write_pcapng_block(block).map(|_| ())
    }

    pub(super) fn finish(self) -> W {
        self.0.into_inner()
    }
}

/// The datagram in an IP packet of its addresses' family; of IPv6, where they differ.
fn ip_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    // A UDP payload never has as many bytes as would not fit.
    let bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX - IPV4_BYTES - UDP_BYTES);
    let udp_bytes = bytes + UDP_BYTES;
    let mut udp = [from.port(), to.port(), udp_bytes, 0].map(u16::to_be_bytes).concat();
    udp.extend(&payload[..usize::from(bytes)]);
    let (mut packet, pseudo) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let mut header = vec![0x45, 0];
            header.extend((udp_bytes + IPV4_BYTES).to_be_bytes());
            // Never cut into fragments.
            header.extend([0, 0, 0x40, 0, HOPS, PROTOCOL_UDP, 0, 0]);
            header.extend(&addresses);
            let sum = internet_checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            (header, addresses)
        }
        (from, to) => {
            let addresses = [ipv6(from), ipv6(to)].map(|address| address.octets()).concat();
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(udp_bytes.to_be_bytes());
            header.extend([PROTOCOL_UDP, HOPS]);
            header.extend(&addresses);
            (header, addresses)
        }
    };
    let tail = [[0, PROTOCOL_UDP], udp_bytes.to_be_bytes()].concat();
    // A sum of 0 would say that there is none.
    let sum = match internet_checksum(&[&pseudo, &tail, &udp]) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

fn ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The checksum of RFC 1071 over parts of even length, all but the last.
fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum();
    let mut folded = sum;
    while folded > u64::from(u16::MAX) {
        folded = (folded & u64::from(u16::MAX)) + (folded >> 16);
    }
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_a_real_datagram() {
        // Taken from loopback with tcpdump, but for the identification.
        let (from, to) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
        let packet = ip_packet(from, to, b"abc");
        let header = [0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0x3c, 0xcc, 127, 0, 0, 1, 127, 0, 0, 1];
        assert_eq!(packet[..20], header);
        assert_eq!(packet[20..26], [0, 7, 0, 9, 0, 11]);
        assert_eq!(packet[28..], *b"abc");
        assert_eq!(internet_checksum(&[&header]), 0);
        let pseudo = [127, 0, 0, 1, 127, 0, 0, 1, 0, 17, 0, 11];
        assert_eq!(internet_checksum(&[&pseudo, &packet[20..]]), 0);
    }

    #[test]
    fn ipv6_and_mixed_addresses_make_ipv6_packets() {
        for (from, to) in [("[::1]:7", "[::1]:9"), ("127.0.0.1:7", "[::1]:9")] {
            let packet = ip_packet(from.parse().unwrap(), to.parse().unwrap(), b"abcd");
            assert_eq!((packet[0], &packet[4..8], packet.len()), (0x60, &[0, 12, 17, 64][..], 52));
            let pseudo = [&packet[8..40], &[0, 17, 0, 12]].concat();
            assert_eq!(internet_checksum(&[&pseudo, &packet[40..]]), 0);
        }
    }
}
