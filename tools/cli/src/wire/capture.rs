//! Datagrams out of capture files: the UDP payloads of pcap and pcapng, whatever link they were taken on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

const ETHERNET_IPV4: u16 = 0x0800;
const ETHERNET_IPV6: u16 = 0x86dd;
const ETHERNET_VLAN: u16 = 0x8100;
const PROTOCOL_UDP: u8 = 17;

/// One UDP datagram of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Vec<u8>,
}

/// What a capture file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) datagrams: Vec<Captured>,
    /// Packets that are no whole UDP datagram: other protocols, fragments, packets cut by the capture.
    pub(super) others: u64,
}

/// True when the bytes begin as pcap or pcapng do.
pub(super) fn is_capture(bytes: &[u8]) -> bool {
    let magics = [0xa1b2_c3d4_u32, 0xd4c3_b2a1, 0xa1b2_3c4d, 0x4d3c_b2a1, 0x0a0d_0d0a];
    bytes.first_chunk().is_some_and(|magic| magics.contains(&u32::from_be_bytes(*magic)))
}

/// Reads all packets.
pub(super) fn read(bytes: &[u8]) -> Result<Capture, String> {
    let mut capture = Capture::default();
    if bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        read_pcapng(bytes, &mut capture)?;
    } else {
        let mut reader = PcapReader::new(bytes).map_err(|error| error.to_string())?;
        let link = reader.header().datalink;
        while let Some(packet) = reader.next_packet() {
            capture.add(link, &packet.map_err(|error| error.to_string())?.data);
        }
    }
    Ok(capture)
}

fn read_pcapng(bytes: &[u8], capture: &mut Capture) -> Result<(), String> {
    let mut reader = PcapNgReader::new(bytes).map_err(|error| error.to_string())?;
    let mut links = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(|error| error.to_string())? {
            Block::SectionHeader(_) => links.clear(),
            Block::InterfaceDescription(interface) => links.push(interface.linktype),
            Block::EnhancedPacket(packet) => match links.get(packet.interface_id as usize) {
                Some(&link) => capture.add(link, &packet.data),
                None => {
                    return Err(format!(
                        "a packet names interface {}, which is not there",
                        packet.interface_id
                    ));
                }
            },
            Block::SimplePacket(packet) => match links.first() {
                Some(&link) => capture.add(link, &packet.data),
                None => return Err("a packet stands before any interface".to_owned()),
            },
            _ => {}
        }
    }
    Ok(())
}

impl Capture {
    fn add(&mut self, link: DataLink, packet: &[u8]) {
        match network_layer(link, packet).and_then(udp) {
            Some(captured) => self.datagrams.push(captured),
            None => self.others += 1,
        }
    }
}

/// What lies under the link's header.
fn network_layer(link: DataLink, packet: &[u8]) -> Option<&[u8]> {
    let (kind_at, mut header) = match link {
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => return Some(packet),
        // BSD loopback: an address family in the byte order of the host; the IP version says the same.
        DataLink::NULL | DataLink::LOOP => return packet.get(4..),
        DataLink::ETHERNET => (12, 14),
        DataLink::LINUX_SLL => (14, 16),
        DataLink::Unknown(276) => (0, 20),
        _ => return None,
    };
    let kind = |at: usize| packet.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let mut found = kind(kind_at)?;
    if found == ETHERNET_VLAN && link == DataLink::ETHERNET {
        found = kind(16)?;
        header = 18;
    }
    packet.get(header..).filter(|_| matches!(found, ETHERNET_IPV4 | ETHERNET_IPV6))
}

/// The datagram in an IP packet, if it is whole.
fn udp(packet: &[u8]) -> Option<Captured> {
    let (source, destination, segment): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
            let is_whole_udp = fragment == 0 && *packet.get(9)? == PROTOCOL_UDP;
            let address =
                |at: usize| packet.get(at..at + 4)?.try_into().ok().map(|b: [u8; 4]| Ipv4Addr::from(b));
            (address(12)?.into(), address(16)?.into(), packet.get(header..).filter(|_| is_whole_udp)?)
        }
        6 => {
            let address =
                |at: usize| packet.get(at..at + 16)?.try_into().ok().map(|b: [u8; 16]| Ipv6Addr::from(b));
            let is_udp = *packet.get(6)? == PROTOCOL_UDP;
            (address(8)?.into(), address(24)?.into(), packet.get(40..).filter(|_| is_udp)?)
        }
        _ => return None,
    };
    let field = |at: usize| segment.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let payload = segment.get(8..usize::from(field(4)?))?;
    Some(Captured {
        from: SocketAddr::new(source, field(0)?),
        to: SocketAddr::new(destination, field(2)?),
        payload: payload.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with this payload from 10.0.0.1:7 to 10.0.0.2:9, and one byte of padding behind.
    fn ipv4(payload: &[u8]) -> Vec<u8> {
        let udp_bytes = u16::try_from(payload.len() + 8).unwrap();
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0, 7, 0, 9]);
        packet.extend(udp_bytes.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet.push(0xff);
        packet
    }

    fn payload_of(link: DataLink, packet: &[u8]) -> Option<Vec<u8>> {
        network_layer(link, packet).and_then(udp).map(|captured| captured.payload)
    }

    #[test]
    fn a_payload_is_found_under_every_link() {
        let ip = ipv4(b"abc");
        let expected = Some(b"abc".to_vec());
        let under = |header: &[u8]| [header, &ip[..]].concat();
        assert_eq!(payload_of(DataLink::RAW, &ip), expected);
        assert_eq!(payload_of(DataLink::NULL, &under(&[2, 0, 0, 0])), expected);
        assert_eq!(payload_of(DataLink::ETHERNET, &under(&[[0; 12].as_slice(), &[8, 0]].concat())), expected);
        let tagged = [[0; 12].as_slice(), &[0x81, 0, 0, 1, 8, 0]].concat();
        assert_eq!(payload_of(DataLink::ETHERNET, &under(&tagged)), expected);
        assert_eq!(
            payload_of(DataLink::LINUX_SLL, &under(&[[0; 14].as_slice(), &[8, 0]].concat())),
            expected
        );
        assert_eq!(
            payload_of(DataLink::Unknown(276), &under(&[[8, 0].as_slice(), &[0; 18]].concat())),
            expected
        );
        let found = udp(&ip).unwrap();
        assert_eq!(
            (found.from.to_string(), found.to.to_string()),
            ("10.0.0.1:7".into(), "10.0.0.2:9".into())
        );
    }

    #[test]
    fn what_is_no_whole_datagram_is_passed_over() {
        let ip = ipv4(b"abc");
        for length in 0..ip.len() - 1 {
            assert_eq!(payload_of(DataLink::RAW, &ip[..length]), None, "{length}");
        }
        let mut fragment = ip.clone();
        fragment[6] = 0x20;
        assert_eq!(payload_of(DataLink::RAW, &fragment), None);
        let mut tcp = ip.clone();
        tcp[9] = 6;
        assert_eq!(payload_of(DataLink::RAW, &tcp), None);
        let mut short = ip;
        short[25] = 7;
        assert_eq!(payload_of(DataLink::RAW, &short), None);
    }

    #[test]
    fn a_capture_file_is_known_by_its_first_bytes() {
        assert!(is_capture(&[0xd4, 0xc3, 0xb2, 0xa1, 0]));
        assert!(is_capture(&[0x0a, 0x0d, 0x0d, 0x0a]));
        assert!(!is_capture(&[0xa7, 0x52, 1, 0]));
        assert!(!is_capture(&[0x0a]));
    }

    fn pcap() -> Vec<u8> {
        let ip = ipv4(b"abc");
        let bytes = u32::try_from(ip.len()).unwrap().to_le_bytes();
        let mut file = [0xa1b2_c3d4_u32.to_le_bytes(), [2, 0, 4, 0], [0; 4], [0; 4], [0, 0, 1, 0]].concat();
        file.extend(101_u32.to_le_bytes());
        file.extend([[0; 4], [0; 4], bytes, bytes].concat());
        file.extend(&ip);
        file
    }

    /// A section, one interface with raw IP, one packet, as RFC drafts lay them out.
    fn pcapng() -> Vec<u8> {
        let mut ip = ipv4(b"abc");
        let bytes = u32::try_from(ip.len()).unwrap().to_le_bytes();
        ip.resize(ip.len().next_multiple_of(4), 0);
        let block = |kind: u32, body: &[u8]| {
            let total = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
            [&kind.to_le_bytes(), &total[..], body, &total].concat()
        };
        let section = [0x1a2b_3c4d_u32.to_le_bytes(), [1, 0, 0, 0], [0xff; 4], [0xff; 4]].concat();
        let packet = [&[0; 12][..], &bytes, &bytes, &ip].concat();
        [block(0x0a0d_0d0a, &section), block(1, &[101, 0, 0, 0, 0, 0, 0, 0]), block(6, &packet)].concat()
    }

    #[test]
    fn both_kinds_of_file_are_read_to_their_end() {
        for file in [pcap(), pcapng()] {
            let capture = read(&file).unwrap();
            assert_eq!((capture.datagrams.len(), capture.others), (1, 0));
            assert_eq!(capture.datagrams[0].payload, b"abc");
            assert!(read(&file[..file.len() - 1]).is_err());
        }
    }

    #[test]
    fn no_file_makes_the_reader_panic() {
        for file in [pcap(), pcapng()] {
            for at in 0..file.len() {
                let _ = read(&file[..at]);
                for value in [0, 1, 0x7f, 0xff] {
                    let mut changed = file.clone();
                    changed[at] = value;
                    let _ = read(&changed);
                }
            }
        }
    }
}
