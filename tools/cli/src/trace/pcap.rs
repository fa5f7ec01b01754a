//! `trace pcap`: recorded datagrams as a capture for Wireshark, tshark, tcpdump and scapy.
//!
//! A datagram is in the files of both its ends, as *sent* and as *delivered* or *dropped*. The capture shows it once,
//! when it was sent, and what became of it in a comment; one whose sender recorded nothing (a client's) when it was
//! received.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use pcap_file::PcapError;
use raftgram::trace::{DatagramEvent, Outcome, What};
use raftgram::types::{ClusterId, NodeId};
use raftgram::wire::datagram::checksum;
use raftgram::wire::{Flags, HEADER_BYTES, Party, cluster_in_force};
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::{Format, file_error};
use crate::trace::input::Inputs;
use crate::trace::lines::{AtCut, Lines};
use crate::trace::packet::{CaptureWriter, Direction, Packet};
use crate::wire::opener::Opener;

/// Make a pcapng file of recorded datagrams, with what became of each as a comment.
#[derive(Debug, Args)]
#[command(
    after_help = "With --key FILE, where FILE is the log of `node --key-log`, sealed datagrams are shown in plain."
)]
pub(crate) struct Pcap {
    /// Files that `node --record` or `sim --trace --payloads` wrote.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the capture here; one that is there is overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Show a datagram for each end that saw it, not once.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Default, Serialize)]
struct Made {
    file: String,
    packets: u64,
    comments: u64,
    /// Sealed datagrams that are shown in plain, and those that stayed sealed.
    opened: u64,
    sealed: u64,
    /// Events that the recorders left out.
    left_out: u64,
}

/// What names a datagram in the files of both its ends. Numbers count for each receiver, which is not named in a first
/// hello: there its address stands for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    from: u16,
    incarnation: u32,
    to: u16,
    packet: u64,
    address: Option<String>,
}

/// What all files together say of a datagram.
#[derive(Debug, Default)]
struct Known {
    is_sent: bool,
    is_delivered: bool,
    /// What befell it, and whom it befell, if a node saw it.
    fates: Vec<(Option<NodeId>, Outcome)>,
}

impl Key {
    fn of(datagram: &DatagramEvent) -> Option<Self> {
        let header = datagram.header?;
        let is_named = header.to != Party::Any;
        Some(Self {
            from: header.from.as_u16(),
            incarnation: header.from_incarnation.0,
            to: header.to.as_u16(),
            packet: header.packet.0,
            address: (!is_named).then(|| datagram.to_address.to_string()),
        })
        .filter(|_| header.from != Party::Any)
    }
}

/// What the files say together: a first reading of them all.
#[derive(Default)]
struct Overview {
    known: BTreeMap<Key, Known>,
    /// Whose files are there, without gaps.
    recorded: BTreeSet<NodeId>,
    left_out: u64,
}

impl Overview {
    fn of(files: &[PathBuf]) -> Result<Self, CliError> {
        let mut overview = Self::default();
        for path in files {
            if path == Path::new("-") {
                return Err(CliError::usage("a capture reads its files twice, so they cannot be stdin"));
            }
            let mut lines = Lines::open(path, AtCut::End)?;
            let mut node = None;
            while let Some(event) = lines.next()? {
                node = node.or(event.node);
                if let What::Datagram(datagram) = &event.what {
                    overview.note(event.node, datagram);
                }
            }
            let left_out = lines.counts().left_out;
            overview.left_out += left_out;
            overview.recorded.extend(node.filter(|_| left_out == 0));
        }
        Ok(overview)
    }

    fn note(&mut self, seen_by: Option<NodeId>, datagram: &DatagramEvent) {
        let Some(key) = Key::of(datagram) else { return };
        let known = self.known.entry(key).or_default();
        match datagram.outcome {
            Outcome::Sent => known.is_sent = true,
            Outcome::Delivered => known.is_delivered = true,
            outcome => known.fates.push((seen_by, outcome)),
        }
    }

    /// True for the one sight of a datagram that stands for all.
    fn is_first_sight(&self, datagram: &DatagramEvent) -> bool {
        let known = Key::of(datagram).and_then(|key| self.known.get(&key));
        matches!(datagram.outcome, Outcome::Sent | Outcome::Refused)
            || known.is_none_or(|known| !known.is_sent)
    }

    /// What is to be said of a datagram that is shown once.
    fn fates(&self, seen_by: Option<NodeId>, datagram: &DatagramEvent) -> Vec<String> {
        let Some(known) = Key::of(datagram).and_then(|key| self.known.get(&key)) else {
            return fate(seen_by, datagram.outcome).into_iter().collect();
        };
        let mut said: Vec<String> =
            known.fates.iter().filter_map(|&(by, outcome)| fate(by, outcome)).collect();
        if let Some(Party::Node(to)) = datagram.header.map(|header| header.to) {
            let is_lost = said.is_empty() && !known.is_delivered && self.recorded.contains(&to);
            said.extend(is_lost.then(|| format!("not seen by node {}", to.as_u16())));
        }
        said
    }
}

/// What became of a datagram, in words; nothing for what is to be expected.
fn fate(by: Option<NodeId>, outcome: Outcome) -> Option<String> {
    let whom = by.map(|node| format!(" by node {}", node.as_u16())).unwrap_or_default();
    let reason = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
    match outcome {
        Outcome::Sent | Outcome::Delivered => None,
        Outcome::Refused => Some(format!("refused by the socket{reason}")),
        Outcome::Dropped(_) => Some(format!("dropped{whom}{reason}")),
        other => Some(format!("{}{reason}", other.name())),
    }
}

impl Pcap {
    pub(crate) fn run(&self, key_file: Option<&Path>, format: Format) -> Result<(), CliError> {
        let opener = key_file.map(Opener::load).transpose()?.unwrap_or_default();
        let overview = Overview::of(&self.files)?;
        let file =
            File::create(&self.out).map_err(|error| file_error(&self.out, "making the capture", &error))?;
        let mut maker = Maker {
            all: self.all,
            made: Made {
                file: self.out.display().to_string(),
                left_out: overview.left_out,
                ..Made::default()
            },
            overview,
            opener,
        };
        maker.write(Inputs::open(&self.files)?, file).map_err(|error| match error {
            Fault::Cli(error) => error,
            Fault::Pcap(error) => {
                CliError::new(Code::Failed, format!("writing the capture: {error}")).at(self.out.display())
            }
        })?;
        format.answer(&maker.made, |_| {
            let Made { file, packets, comments, opened, sealed, left_out } = &maker.made;
            format!(
                "{file}: {packets} packets, {comments} with a comment, {opened} opened, {sealed} still sealed, \
                 {left_out} events left out by the recorders\n"
            )
        })
    }
}

enum Fault {
    Cli(CliError),
    Pcap(PcapError),
}

impl From<CliError> for Fault {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}

impl From<PcapError> for Fault {
    fn from(error: PcapError) -> Self {
        Self::Pcap(error)
    }
}

/// The second reading, which writes.
struct Maker {
    all: bool,
    overview: Overview,
    opener: Opener,
    made: Made,
}

impl Maker {
    fn write(&mut self, mut inputs: Inputs, to: File) -> Result<(), Fault> {
        let clusters: BTreeSet<String> =
            inputs.headers().filter_map(|header| header.cluster).map(|id| format!("cluster {id}")).collect();
        let clusters: Vec<String> = clusters.into_iter().collect();
        let mut writer = CaptureWriter::new(BufWriter::new(to), &clusters.join(", "))?;
        while let Some(seen) = inputs.next()? {
            let (time_ns, event) = (seen.time_ns, seen.event);
            let cluster = seen.header.cluster.unwrap_or_default();
            let What::Datagram(datagram) = event.what else { continue };
            if !self.all && !self.overview.is_first_sight(&datagram) {
                continue;
            }
            let Some(payload) = &datagram.payload else {
                let why = "this trace has no payloads: record it with `sim --trace FILE --payloads`";
                return Err(CliError::new(Code::Failed, why).at(seen.path.display()).into());
            };
            let (payload, under) = self.in_plain(payload, cluster);
            let comment = self.comment(event.node, &datagram, under.as_deref());
            self.made.packets += 1;
            self.made.comments += u64::from(!comment.is_empty());
            writer.packet(&Packet {
                time_ns,
                direction: match datagram.outcome {
                    Outcome::Delivered | Outcome::Dropped(_) => Direction::In,
                    _ => Direction::Out,
                },
                from: datagram.from_address,
                to: datagram.to_address,
                payload: &payload,
                comment: &comment,
            })?;
        }
        writer.finish().flush().map_err(PcapError::IoError)?;
        Ok(())
    }

    fn comment(&self, seen_by: Option<NodeId>, datagram: &DatagramEvent, under: Option<&str>) -> String {
        let mut said = Vec::new();
        said.extend((datagram.is_retransmission == Some(true)).then(|| "sent again".to_owned()));
        if self.all {
            let whose = seen_by.map(|node| format!("seen by node {}", node.as_u16()));
            said.extend(fate(seen_by, datagram.outcome).or(whose));
        } else {
            said.extend(self.overview.fates(seen_by, datagram));
        }
        said.extend(under.map(|under| format!("sealed under {under}, here in plain")));
        said.join("; ")
    }

    /// What a sealed datagram would be in plain, if the keys open it, and what it was sealed under.
    fn in_plain(&mut self, payload: &[u8], cluster: ClusterId) -> (Vec<u8>, Option<String>) {
        let Some(opened) = self.opener.open(payload, cluster_of(cluster)) else {
            let flags = payload.get(3).copied().unwrap_or(0);
            self.made.sealed +=
                u64::from(payload.len() >= HEADER_BYTES && Flags(flags).contains(Flags::SEALED));
            return (payload.to_vec(), None);
        };
        self.made.opened += 1;
        let mut plain = payload[..HEADER_BYTES].to_vec();
        plain[3] &= !(Flags::SEALED.0 | Flags::KEY_PHASE.0);
        plain.extend(&opened.frames);
        let crc = checksum(&plain, cluster_in_force(&plain, cluster));
        plain[4..8].copy_from_slice(&crc.to_be_bytes());
        (plain, Some(opened.under))
    }
}

fn cluster_of(cluster: ClusterId) -> Option<ClusterId> {
    (cluster != ClusterId::ZERO).then_some(cluster)
}
