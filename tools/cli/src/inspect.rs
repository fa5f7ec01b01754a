//! `inspect`: an offline look at a data folder. It opens nothing for writing and reads with the boot's own eyes,
//! so what it calls corrupt a node refuses to start on, and the other way round. `--verify` finds one thing more that
//! a start would mend in silence: a bad copy of the hard-state record.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use raftgram::entry::Payload;
use raftgram::run::disk::FolderDisk;
use raftgram::store::inspect::{self, Meta, SegmentReport, Verified};
use raftgram::store::snapshot::file_of;
use raftgram::store::{Damage, DamageKind, Disk, OpenError, SegmentEnd, SnapshotFile, Stop, Syncing, Tail};
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::Format;

/// Look at the data folder of a node that is not running.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The data folder.
    dir: PathBuf,
    /// Which part to show; without it a summary of all.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Check every byte that counts, of this part or of all, and print the first damage with its place, or a summary.
    #[arg(long)]
    verify: bool,
}

/// Parts of a data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Every entry of the log.
    Log,
    /// The snapshot: what it covers, and every block of it checked.
    Snapshot,
    /// Term, vote, identity and what else the hard-state record holds.
    Meta,
}

impl Inspect {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let mut disk =
            FolderDisk::open_read_only(&self.dir).map_err(|error| self.fault(OpenError::Disk(error)))?;
        match self.part {
            Some(Part::Log) if self.verify => self.verify_log(&mut disk, format),
            Some(Part::Log) => self.log(&mut disk, format),
            Some(Part::Snapshot) => self.snapshot(&mut disk, format),
            Some(Part::Meta) => {
                let meta = self.meta(&mut disk)?;
                let shown = ShownMeta::of(&meta);
                format.answer(&shown, |format| shown.text(format))
            }
            None => self.summary(&mut disk, format),
        }
    }

    fn meta(&self, disk: &mut impl Disk) -> Result<Meta, CliError> {
        let meta = if self.verify { inspect::verify_meta(disk) } else { inspect::meta(disk) };
        meta.map_err(|error| self.fault(error))
    }

    fn verify_log(&self, disk: &mut impl Disk, format: Format) -> Result<(), CliError> {
        #[derive(Serialize)]
        struct Summary {
            log: ShownEnd,
        }
        let verified = inspect::verify_log(disk).map_err(|error| self.fault(error))?;
        let summary = Summary { log: ShownEnd::of(&verified) };
        format.answer(&summary, |format| summary.log.text(format))
    }

    /// Everything is verified either way; `--verify` leaves out what is no fault.
    fn summary(&self, disk: &mut impl Disk, format: Format) -> Result<(), CliError> {
        let meta = self.meta(disk)?;
        let verified = inspect::verify(disk).map_err(|error| self.fault(error))?;
        #[derive(Serialize)]
        struct Summary {
            meta: Option<ShownMeta>,
            log: ShownEnd,
        }
        let meta = (!self.verify).then(|| ShownMeta::of(&meta));
        let summary = Summary { meta, log: ShownEnd::of(&verified) };
        format.answer(&summary, |format| {
            let meta = summary.meta.as_ref().map_or_else(String::new, |meta| meta.text(format) + "\n");
            meta + &summary.log.text(format)
        })
    }

    fn snapshot(&self, disk: &mut impl Disk, format: Format) -> Result<(), CliError> {
        let meta = inspect::meta(disk).map_err(|error| self.fault(error))?;
        let file = inspect::snapshot(disk, &meta).map_err(|error| self.fault(error))?;
        if let Some(file) = &file {
            inspect::verify_blocks(disk, file).map_err(|error| self.fault(error))?;
        }
        #[derive(Serialize)]
        struct Answer {
            snapshot: Option<ShownSnapshot>,
        }
        let answer = Answer { snapshot: file.as_ref().map(ShownSnapshot::of) };
        format.answer(&answer, |format| match &answer.snapshot {
            Some(shown) => shown.text(format),
            None => "no snapshot: the log begins at entry 1".to_owned(),
        })
    }

    fn log(&self, disk: &mut impl Disk, format: Format) -> Result<(), CliError> {
        let meta = inspect::meta(disk).map_err(|error| self.fault(error))?;
        let reports = inspect::log(disk, &meta).map_err(|error| self.fault(error))?;
        let (mut rows, mut fault) = (Vec::new(), None);
        for report in reports {
            let report = report.map_err(|error| self.fault(OpenError::Disk(error)))?;
            rows.extend(live_entries(&report));
            if let SegmentEnd::Damaged(damage) = &report.end
                && !is_behind_the_live_part(&report)
            {
                fault = Some(self.fault(damage.clone().into()));
                break;
            }
        }
        #[derive(Serialize)]
        struct Log<'a> {
            entries: &'a [ShownEntry],
        }
        if let (Some(fault), true) = (&fault, format.is_json()) {
            // One document: the failure says where, and half a log would pass for a whole one.
            return Err(fault.clone());
        }
        format.answer(&Log { entries: &rows }, |format| {
            let cells: Vec<Vec<String>> = rows.iter().map(ShownEntry::cells).collect();
            format.table(&["index", "term", "kind", "bytes", "content", "chain", "file", "offset"], &cells)
        })?;
        fault.map_or(Ok(()), Err)
    }

    /// Damage is exit code 6; a folder that was never a node's, or cannot be read, is a plain failure.
    fn fault(&self, error: OpenError) -> CliError {
        let place = match &error {
            OpenError::Damaged(damage) => self.dir.join(&damage.file),
            _ => self.dir.clone(),
        };
        let (code, hint) = match &error {
            OpenError::NotFormatted => (Code::Failed, "name a node's own folder, such as raftgram-data/1"),
            OpenError::FormatUnfinished => {
                (Code::Failed, "no node ever ran here; starting one formats it again")
            }
            OpenError::NewerFormat { .. } => (Code::Failed, "use the newer raftgram that wrote it"),
            OpenError::Disk(_) | OpenError::Full => {
                (Code::Failed, "check that the folder is there and readable")
            }
            OpenError::Damaged(Damage { what: DamageKind::HardStateCopy, .. }) => {
                (Code::Corrupt, "nothing is lost: the next start of the node rewrites it from the other copy")
            }
            OpenError::HardStateMissing { .. }
            | OpenError::TwoStores { .. }
            | OpenError::CopiesDiffer { .. } => (
                Code::Corrupt,
                "files were lost or copied in from elsewhere; restore all of the folder, or none",
            ),
            OpenError::Damaged(damage) if damage.what.is_repairable() => (
                Code::Corrupt,
                "start the node: it fetches what is damaged from the other nodes, and keeps what is not",
            ),
            _ => (
                Code::Corrupt,
                "the other nodes have the data; keep this folder until they are seen to be well",
            ),
        };
        CliError::new(code, error.to_string()).at(place.display()).hint(hint)
    }
}

/// True when everything that counts in this segment stands before what is damaged: a later segment cut the rest.
fn is_behind_the_live_part(report: &SegmentReport) -> bool {
    let last = report.batches.last().map_or(report.segment.base, |batch| batch.header.last);
    report.live_to.is_some_and(|live_to| live_to <= last)
}

fn live_entries(report: &SegmentReport) -> Vec<ShownEntry> {
    let entries = report.batches.iter().flat_map(|batch| &batch.entries);
    let live = entries.filter(|(_, entry)| report.live_to.is_none_or(|live_to| entry.index <= live_to));
    live.map(|(offset, entry)| ShownEntry {
        index: entry.index.0,
        term: entry.term.0,
        kind: match entry.payload {
            Payload::Noop => "noop",
            Payload::Command(_) => "command",
            Payload::Membership(_) => "membership",
            _ => "unknown",
        },
        bytes: entry.payload.content_bytes(),
        content: entry.payload.to_string(),
        chain: format!("{:08x}", entry.chain),
        file: report.file.clone(),
        offset: *offset,
    })
    .collect()
}

#[derive(Debug, Serialize)]
struct ShownEntry {
    index: u64,
    term: u64,
    kind: &'static str,
    bytes: usize,
    content: String,
    chain: String,
    file: String,
    offset: u64,
}

impl ShownEntry {
    fn cells(&self) -> Vec<String> {
        let numbers = [self.index, self.term].map(|number| number.to_string());
        let [index, term] = numbers;
        let Self { kind, bytes, content, chain, file, offset, .. } = self;
        vec![
            index,
            term,
            (*kind).to_owned(),
            bytes.to_string(),
            content.clone(),
            chain.clone(),
            file.clone(),
            offset.to_string(),
        ]
    }
}

#[derive(Debug, Serialize)]
struct ShownSnapshot {
    file: String,
    index: u64,
    term: u64,
    chain: String,
    bytes: u64,
    digest: String,
    cluster: String,
    membership: String,
}

impl ShownSnapshot {
    fn of(file: &SnapshotFile) -> Self {
        let (meta, head) = (&file.meta, &file.head);
        Self {
            file: file_of(meta.id.index),
            index: meta.id.index.0,
            term: meta.id.term.0,
            chain: format!("{:08x}", meta.id.chain),
            bytes: meta.bytes,
            digest: format!("{:016x}", meta.digest),
            cluster: head.cluster.to_string(),
            membership: head.membership.to_string(),
        }
    }

    fn text(&self, format: Format) -> String {
        let rows = [
            ("file", self.file.clone()),
            ("index", self.index.to_string()),
            ("term", self.term.to_string()),
            ("chain", self.chain.clone()),
            ("bytes", self.bytes.to_string()),
            ("digest", self.digest.clone()),
            ("cluster", self.cluster.clone()),
            ("membership", self.membership.clone()),
            ("intact", "yes".to_owned()),
        ];
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format.table(&["snapshot", "value"], &rows)
    }
}

#[derive(Debug, Serialize)]
struct ShownMeta {
    store: String,
    cluster: Option<String>,
    incarnation: u32,
    term: u64,
    vote: Option<String>,
    stopped: &'static str,
    synced: bool,
    founding: Option<String>,
    record: u64,
    /// The file of the snapshot in force.
    snapshot: Option<String>,
    copies: Vec<ShownCopy>,
    segments: Vec<ShownSegment>,
    peers: Vec<ShownPeer>,
}

#[derive(Debug, Serialize)]
struct ShownCopy {
    file: &'static str,
    sequence: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownSegment {
    file: String,
    base: u64,
}

#[derive(Debug, Serialize)]
struct ShownPeer {
    store: String,
    incarnation: u32,
}

impl ShownMeta {
    fn of(meta: &Meta) -> Self {
        let record = &meta.record;
        let copies = meta.copies.iter().map(|&(file, sequence)| ShownCopy { file, sequence });
        let segments = record.segments.iter();
        let segments =
            segments.map(|segment| ShownSegment { file: segment.generation.file(), base: segment.base.0 });
        let peers = record.peers.iter();
        let peers = peers
            .map(|(store, seen)| ShownPeer { store: store.to_string(), incarnation: seen.incarnation.0 });
        Self {
            store: record.store.to_string(),
            cluster: (!record.cluster.is_zero()).then(|| record.cluster.to_string()),
            incarnation: record.incarnation.0,
            term: record.hard_state.term.0,
            vote: record.hard_state.vote.map(|vote| vote.to_string()),
            stopped: match record.stop {
                Stop::Clean => "cleanly",
                Stop::Unclean => "uncleanly, or still running",
            },
            synced: record.syncing == Syncing::Always,
            founding: record.founding.as_ref().map(|founding| founding.membership.to_string()),
            record: record.sequence,
            snapshot: record.snapshot.map(|meta| file_of(meta.id.index)),
            copies: copies.collect(),
            segments: segments.collect(),
            peers: peers.collect(),
        }
    }

    fn text(&self, format: Format) -> String {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let mut rows = vec![
            ("store", self.store.clone()),
            ("cluster", or_none(&self.cluster)),
            ("incarnation", self.incarnation.to_string()),
            ("term", self.term.to_string()),
            ("vote", or_none(&self.vote)),
            ("stopped", self.stopped.to_owned()),
            ("synced", self.synced.to_string()),
            ("founding", or_none(&self.founding)),
            ("record", self.record.to_string()),
            ("snapshot", or_none(&self.snapshot)),
        ];
        for copy in &self.copies {
            rows.push((
                copy.file,
                copy.sequence.map_or_else(|| "invalid".to_owned(), |n| format!("record {n}")),
            ));
        }
        rows.extend(
            self.segments.iter().map(|s| ("segment", format!("{} from entry {}", s.file, s.base + 1))),
        );
        rows.extend(
            self.peers.iter().map(|p| ("peer", format!("{} incarnation {}", p.store, p.incarnation))),
        );
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format.table(&["meta", "value"], &rows)
    }
}

#[derive(Debug, Serialize)]
struct ShownEnd {
    intact: bool,
    /// The snapshot in force goes through this entry; 0 for none.
    snapshot: u64,
    last: u64,
    synced_through: u64,
    torn: Option<ShownTear>,
}

#[derive(Debug, Serialize)]
struct ShownTear {
    file: String,
    offset: u64,
}

impl ShownEnd {
    fn of(verified: &Verified) -> Self {
        let torn = match &verified.tail {
            Tail::Whole => None,
            Tail::Cut { file, offset } => Some(ShownTear { file: file.clone(), offset: *offset }),
        };
        let snapshot = verified.snapshot.map_or(0, |meta| meta.id.index.0);
        Self { intact: true, snapshot, last: verified.last.0, synced_through: verified.mark.0, torn }
    }

    fn text(&self, format: Format) -> String {
        let tail = match &self.torn {
            None => "whole".to_owned(),
            Some(tear) => {
                format!(
                    "ends in a write cut short and never acknowledged: {} at byte {}",
                    tear.file, tear.offset
                )
            }
        };
        let snapshot = match self.snapshot {
            0 => "none".to_owned(),
            index => format!("through entry {index}"),
        };
        let rows = [
            ("intact", "yes".to_owned()),
            ("snapshot", snapshot),
            ("last", self.last.to_string()),
            ("tail", tail),
        ];
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format.table(&["log", "value"], &rows)
    }
}
