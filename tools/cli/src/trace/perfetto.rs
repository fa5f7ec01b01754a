//! `trace perfetto`: recorded events for the timeline viewers that read Chrome's trace events, Perfetto above all.
//!
//! Each node is a process with three tracks: its terms with its roles inside, what it sent, what it received. Beside
//! these are spans: a client's call from when its node got it to the answer, and a leader's entry from when it stood in
//! the log to when it was known as committed. Arrows join the two sights of a datagram, by a number that is made of its
//! header, so that nobody has to remember what was sent. What is kept is one state a node, the calls and entries that
//! are open (both bounded), and the ids of calls answered lately.

mod calls;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use raftgram::hash::Fnv1a;
use raftgram::raft::RoleKind;
use raftgram::trace::{Change, DatagramEvent, NoteKind, Outcome, Source, State, What};
use raftgram::types::NodeId;
use raftgram::wire::Party;
use serde::Serialize;
use serde_json::json;

use crate::error::CliError;
use crate::output::{Format, file_error};
use crate::trace::chrome::{ChromeWriter, Phase, Place, Said};
use crate::trace::input::{Inputs, Seen};
use calls::{Calls, Ended};

/// Make a trace for Perfetto (ui.perfetto.dev) and other viewers of Chrome's trace events.
///
/// Each node is a process: its terms and roles, what it sent and received with arrows from one node to the other, the
/// calls of clients from request to answer, and a leader's entries from the log to the commit.
#[derive(Debug, Args)]
pub(crate) struct Perfetto {
    /// Files that `node --record`, `cluster up --record`, `lab run` or `sim --trace` wrote.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write it here; a file that is there is overwritten.
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    /// Leave datagrams and their arrows out: they are most of a file.
    #[arg(long)]
    no_datagrams: bool,
}

/// What was made of a trace.
#[derive(Debug, Default, Serialize)]
struct Made {
    file: String,
    events: u64,
    nodes: usize,
    /// Calls of clients, and those of them that were answered.
    calls: u64,
    answered: u64,
    /// Entries that leaders appended, and those of them that they knew as committed.
    entries: u64,
    committed: u64,
    /// Sights of datagrams.
    datagrams: u64,
    left_out: u64,
    span_ms: f64,
}

/// A datagram is shown for so long, or until the next one.
const DATAGRAM_NS: u64 = 2000;

/// The most datagrams of one instant that are named one by one.
const NAMED_MAX: usize = 64;

/// The most datagrams of one instant that have arrows; no turn of a node sends or reads more.
const ARROWS_MAX: usize = 4096;

/// The most entries of a node that are followed; beyond it the oldest is given up.
const ENTRIES_MAX: usize = 65_536;

/// Clients have no numbers: they share a process.
const CLIENTS: u32 = u16::MAX as u32;

const STATE: u32 = 1;
const SENDS: u32 = 2;
const RECEIVES: u32 = 3;

impl Perfetto {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let inputs = Inputs::open(&self.files)?;
        let failed = |error: io::Error| file_error(&self.out, "writing the trace", &error);
        let file = File::create(&self.out).map_err(failed)?;
        let seeds: Vec<u64> = inputs
            .headers()
            .filter_map(|header| match header.source {
                Source::Simulation { seed } => Some(seed),
                Source::Node { .. } => None,
            })
            .collect();
        let clusters: BTreeSet<String> =
            inputs.headers().filter_map(|header| header.cluster).map(|id| id.to_string()).collect();
        let about = json!({ "source": "raftgram trace", "clusters": clusters, "seeds": seeds });
        let out = ChromeWriter::new(BufWriter::new(file), &about).map_err(failed)?;
        let mut made = self.write(inputs, out).map_err(|fault| match fault {
            Fault::Cli(error) => error,
            Fault::Io(error) => failed(error),
        })?;
        made.file = self.out.display().to_string();
        format.answer(&made, |_| {
            let Made { file, events, nodes, calls, answered, entries, committed, .. } = &made;
            format!(
                "{file}: {events} events of {nodes} nodes over {:.0} ms; {answered} of {calls} calls answered, \
                 {committed} of {entries} entries committed; open it in ui.perfetto.dev\n",
                made.span_ms
            )
        })
    }

    fn write<W: Write>(&self, mut inputs: Inputs, out: ChromeWriter<W>) -> Result<Made, Fault> {
        let mut picture = Picture {
            out,
            has_datagrams: !self.no_datagrams,
            tracks: BTreeMap::new(),
            calls: Calls::default(),
            made: Made::default(),
            now_ns: 0,
        };
        // Simulated time is shown as it is; hosts' clocks begin somewhere.
        let is_simulated = inputs.headers().all(|header| matches!(header.source, Source::Simulation { .. }));
        let mut zero_ns = is_simulated.then_some(0);
        while let Some(seen) = inputs.next()? {
            let zero_ns = *zero_ns.get_or_insert(seen.time_ns);
            picture.now_ns = seen.time_ns - zero_ns;
            picture.take(seen)?;
        }
        Ok(picture.finish()?)
    }
}

enum Fault {
    Cli(CliError),
    Io(io::Error),
}

impl From<CliError> for Fault {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What is known of a node, or of all clients.
#[derive(Debug, Default)]
struct Track {
    /// The slices that are open.
    term: Option<u64>,
    role: Option<RoleKind>,
    /// Whether the next three were told without a gap since.
    is_followed: bool,
    last: u64,
    durable: u64,
    commit: u64,
    /// Its entries that it does not know as committed, while it leads: index and term.
    open: VecDeque<(u64, u64)>,
    /// What it sent, and received, at the last instant.
    batches: [Batch; 2],
}

/// Datagrams of one instant on one track.
#[derive(Debug, Default)]
struct Batch {
    at_ns: u64,
    count: usize,
    names: Vec<String>,
    arrows: Vec<u64>,
}

/// A picture that is being written.
struct Picture<W: Write> {
    out: ChromeWriter<W>,
    has_datagrams: bool,
    tracks: BTreeMap<u32, Track>,
    calls: Calls,
    made: Made,
    now_ns: u64,
}

fn pid(node: Option<NodeId>) -> u32 {
    node.map_or(CLIENTS, |node| u32::from(node.as_u16()))
}

impl<W: Write> Picture<W> {
    fn take(&mut self, seen: Seen<'_>) -> io::Result<()> {
        let node = seen.event.node;
        match seen.event.what {
            What::Boot(boot) => {
                self.end_boot(pid(node))?;
                let args = json!({ "incarnation": boot.incarnation.0, "address": boot.address.to_string() });
                self.instant(node, STATE, "boot", args)
            }
            What::Change(change, state) => self.change(pid(node), change, &state),
            What::Datagram(datagram) => self.datagram(node, &datagram),
            What::Gap { events } => {
                self.made.left_out += events;
                self.tracks.values_mut().for_each(|track| track.is_followed = false);
                self.instant(None, STATE, &format!("{events} events left out"), json!({}))
            }
            What::Note(kind, text) => {
                if matches!(kind, NoteKind::Stop | NoteKind::Crash) {
                    self.end_boot(pid(node))?;
                }
                self.instant(node, STATE, kind.name(), json!({ "text": text }))
            }
            _ => Ok(()),
        }
    }

    /// The track of a node; the first time it gets its names.
    fn track(&mut self, pid: u32) -> io::Result<&mut Track> {
        if !self.tracks.contains_key(&pid) {
            let name = if pid == CLIENTS { "clients".to_owned() } else { format!("node {pid}") };
            self.made.nodes += usize::from(pid != CLIENTS);
            let tracks = [(STATE, "term and role"), (SENDS, "sends"), (RECEIVES, "receives")];
            let mut put = |tid, what, args| {
                let said = Said { name: what, args, ..Said::default() };
                self.out.put(0, Place { pid, tid }, Phase::Name, &said)
            };
            put(0, "process_name", json!({ "name": name }))?;
            put(0, "process_sort_index", json!({ "sort_index": pid }))?;
            for (tid, name) in tracks {
                put(tid, "thread_name", json!({ "name": name }))?;
            }
        }
        Ok(self.tracks.entry(pid).or_default())
    }

    fn put(&mut self, pid: u32, tid: u32, phase: Phase, said: &Said<'_>) -> io::Result<()> {
        self.out.put(self.now_ns, Place { pid, tid }, phase, said)
    }

    fn instant(
        &mut self,
        node: Option<NodeId>,
        tid: u32,
        name: &str,
        args: serde_json::Value,
    ) -> io::Result<()> {
        let pid = pid(node);
        self.track(pid)?;
        let phase = Phase::Instant { is_global: node.is_none() };
        self.put(pid, tid, phase, &Said { name, args, ..Said::default() })
    }

    // --- States.

    fn change(&mut self, pid: u32, change: Change, state: &State) -> io::Result<()> {
        let track = self.track(pid)?;
        let (term, role) = (state.term.0, state.role);
        let is_other_term = track.term != Some(term);
        if is_other_term || track.role != Some(role) {
            if role != RoleKind::Leader {
                self.end_entries(pid)?;
            }
            self.end_slices(pid, is_other_term)?;
            if is_other_term {
                self.begin(pid, &format!("term {term}"), json!({ "term": term }))?;
            }
            let leader = state.leader.map(NodeId::as_u16);
            let vote = state.vote.map(NodeId::as_u16);
            self.begin(pid, &role.to_string(), json!({ "term": term, "leader": leader, "vote": vote }))?;
            let track = self.track(pid)?;
            (track.term, track.role) = (Some(term), Some(role));
        }
        if change == Change::Truncate {
            self.end_entries(pid)?;
        }
        self.log(pid, state)
    }

    fn begin(&mut self, pid: u32, name: &str, args: serde_json::Value) -> io::Result<()> {
        self.put(pid, STATE, Phase::Begin, &Said { name, args, ..Said::default() })
    }

    /// Ends the role, and the term if it is over.
    fn end_slices(&mut self, pid: u32, is_term_over: bool) -> io::Result<()> {
        let track = self.track(pid)?;
        let is_role_open = track.role.take().is_some();
        let is_term_open = is_term_over && track.term.take().is_some();
        for _ in 0..usize::from(is_role_open) + usize::from(is_term_open) {
            self.put(pid, STATE, Phase::End, &Said::default())?;
        }
        Ok(())
    }

    /// What the log and the disk hold now: a counter, and what became of the leader's entries.
    fn log(&mut self, pid: u32, state: &State) -> io::Result<()> {
        let (last, durable, commit) = (state.last_index.0, state.durable.last_index.0, state.commit.0);
        let track = self.track(pid)?;
        let before = (track.last, track.durable, track.commit);
        if track.is_followed && before == (last, durable, commit) {
            return Ok(());
        }
        (track.last, track.durable, track.commit) = (last, durable, commit);
        // What was there before anybody looked is not begun now.
        let first = if std::mem::replace(&mut track.is_followed, true) { before.0 + 1 } else { last + 1 };
        if state.role == RoleKind::Leader {
            for index in first..=last {
                self.begin_entry(pid, index, state.last_term.0)?;
            }
            self.tell_durable(pid, before.1, durable)?;
            self.commit(pid, commit)?;
        }
        let args = json!({ "last": last, "durable": durable, "commit": commit });
        self.put(pid, STATE, Phase::Counter, &Said { name: "log", args, ..Said::default() })
    }

    fn begin_entry(&mut self, pid: u32, index: u64, term: u64) -> io::Result<()> {
        self.made.entries += 1;
        let track = self.track(pid)?;
        track.open.push_back((index, term));
        let given_up = if track.open.len() > ENTRIES_MAX { track.open.pop_front() } else { None };
        if let Some(entry) = given_up {
            self.entry(pid, Phase::SpanEnd, entry, json!({ "became": "too many to follow" }))?;
        }
        self.entry(pid, Phase::SpanBegin, (index, term), json!({ "index": index, "term": term }))
    }

    fn entry(
        &mut self,
        pid: u32,
        phase: Phase,
        (index, term): (u64, u64),
        args: serde_json::Value,
    ) -> io::Result<()> {
        let id = format!("{pid}/{term}/{index}");
        let name = if phase == Phase::SpanPoint { "durable" } else { "entry" };
        self.put(pid, STATE, phase, &Said { name, category: "entry", id: &id, args })
    }

    fn tell_durable(&mut self, pid: u32, from: u64, through: u64) -> io::Result<()> {
        let track = self.track(pid)?;
        let is_new = |(index, _): &&(u64, u64)| *index > from && *index <= through;
        let entries: Vec<(u64, u64)> = track.open.iter().filter(is_new).copied().collect();
        entries.into_iter().try_for_each(|entry| self.entry(pid, Phase::SpanPoint, entry, json!({})))
    }

    fn commit(&mut self, pid: u32, through: u64) -> io::Result<()> {
        while let Some(&entry) = self.track(pid)?.open.front()
            && entry.0 <= through
        {
            self.track(pid)?.open.pop_front();
            self.made.committed += 1;
            self.entry(pid, Phase::SpanEnd, entry, json!({ "became": "committed" }))?;
        }
        Ok(())
    }

    /// Nobody knows here what became of them.
    fn end_entries(&mut self, pid: u32) -> io::Result<()> {
        let open = std::mem::take(&mut self.track(pid)?.open);
        open.into_iter().try_for_each(|entry| {
            self.entry(pid, Phase::SpanEnd, entry, json!({ "became": "unknown to this node" }))
        })
    }

    /// The node is no more, or another boot of it begins.
    fn end_boot(&mut self, pid: u32) -> io::Result<()> {
        self.end_entries(pid)?;
        self.end_slices(pid, true)?;
        let track = self.track(pid)?;
        (track.last, track.durable, track.commit, track.is_followed) = (0, 0, 0, false);
        for ended in self.calls.forget(pid) {
            self.call_ended(pid, &ended)?;
        }
        Ok(())
    }

    // --- Datagrams.

    fn datagram(&mut self, seen_by: Option<NodeId>, datagram: &DatagramEvent) -> io::Result<()> {
        self.made.datagrams += 1;
        let header = datagram.header;
        if let Some(node) = seen_by {
            let (begun, ended) = self.calls.see(pid(Some(node)), datagram);
            for begun in begun {
                self.made.calls += 1;
                let said = Said { name: &begun.name, category: "call", id: &begun.id, args: begun.args };
                self.put(pid(Some(node)), STATE, Phase::SpanBegin, &said)?;
            }
            for ended in ended {
                self.made.answered += u64::from(ended.is_answered);
                self.call_ended(pid(Some(node)), &ended)?;
            }
        }
        if !self.has_datagrams {
            return Ok(());
        }
        let name_of = |party: Option<Party>| match party {
            Some(Party::Node(node)) => format!("node {}", node.as_u16()),
            _ => "a client".to_owned(),
        };
        let (from, to) = (header.map(|header| header.from), header.map(|header| header.to));
        let again = if datagram.is_retransmission == Some(true) { ", sent again" } else { "" };
        match datagram.outcome {
            Outcome::Sent => {
                let name = format!("{} to {}{again}", datagram.kind, name_of(to));
                self.batch(pid(seen_by), 0, name, number_of(datagram))
            }
            Outcome::Delivered => {
                let name = format!("{} from {}", datagram.kind, name_of(from));
                // Only where it left does an arrow begin.
                let is_shown = match from {
                    Some(Party::Node(node)) => self.tracks.contains_key(&pid(Some(node))),
                    _ => self.tracks.contains_key(&CLIENTS),
                };
                self.batch(pid(seen_by), 1, name, number_of(datagram).filter(|_| is_shown))
            }
            outcome => {
                let why = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
                let name = format!("{} {}{why}", outcome.name(), datagram.kind);
                let args = json!({
                    "from": name_of(from), "to": name_of(to), "bytes": datagram.bytes,
                    "packet": header.map(|header| header.packet.0),
                });
                // What the network did to it is shown where it left.
                let (node, tid) = match (seen_by, from) {
                    (Some(node), _) => (Some(node), RECEIVES),
                    (None, Some(Party::Node(node))) => (Some(node), SENDS),
                    _ => (None, SENDS),
                };
                let pid = pid(node);
                self.track(pid)?;
                let said = Said { name: &name, category: "datagram", args, ..Said::default() };
                self.put(pid, tid, Phase::Instant { is_global: false }, &said)
            }
        }
    }

    fn call_ended(&mut self, pid: u32, ended: &Ended) -> io::Result<()> {
        let Ended { id, name, args, .. } = ended;
        let said = Said { name, category: "call", id, args: args.clone() };
        self.put(pid, STATE, Phase::SpanEnd, &said)
    }

    /// One more datagram of this track; those of one instant are one slice.
    fn batch(&mut self, pid: u32, way: usize, name: String, arrow: Option<u64>) -> io::Result<()> {
        let now_ns = self.now_ns;
        if self.track(pid)?.batches[way].at_ns != now_ns {
            self.end_batch(pid, way)?;
        }
        let batch = &mut self.track(pid)?.batches[way];
        batch.at_ns = now_ns;
        batch.count += 1;
        if batch.names.len() < NAMED_MAX {
            batch.names.push(name);
        }
        batch.arrows.extend(arrow.filter(|_| batch.count <= ARROWS_MAX));
        Ok(())
    }

    /// The slice lasts until now at most.
    fn end_batch(&mut self, pid: u32, way: usize) -> io::Result<()> {
        let now_ns = self.now_ns;
        let batch = std::mem::take(&mut self.track(pid)?.batches[way]);
        let Some(name) = batch.names.first() else { return Ok(()) };
        let dur_ns = (now_ns - batch.at_ns).min(DATAGRAM_NS);
        let (tid, arrow) = [(SENDS, Phase::ArrowOut), (RECEIVES, Phase::ArrowIn)][way];
        let place = Place { pid, tid };
        let many = format!("{} datagrams", batch.count);
        let name = if batch.count == 1 { name } else { &many };
        let args = json!({ "count": batch.count, "datagrams": batch.names });
        let said = Said { name, category: "datagram", args, ..Said::default() };
        self.out.put(batch.at_ns, place, Phase::Slice { dur_ns }, &said)?;
        for number in batch.arrows {
            let id = format!("{number:#x}");
            let said = Said { name: "datagram", category: "datagram", id: &id, ..Said::default() };
            self.out.put(batch.at_ns, place, arrow, &said)?;
        }
        Ok(())
    }

    /// Ends all that is open, at the last event.
    fn finish(mut self) -> io::Result<Made> {
        let end_ns = self.now_ns;
        for pid in self.tracks.keys().copied().collect::<Vec<_>>() {
            self.now_ns = end_ns;
            self.end_boot(pid)?;
            self.now_ns = end_ns + DATAGRAM_NS;
            self.end_batch(pid, 0)?;
            self.end_batch(pid, 1)?;
        }
        self.made.span_ms = end_ns as f64 / 1e6;
        self.made.events = self.out.finish()?;
        Ok(self.made)
    }
}

/// A number that both ends make of a datagram's header.
fn number_of(datagram: &DatagramEvent) -> Option<u64> {
    let header = datagram.header?;
    let mut key = format!(
        "{} {} {} {}",
        header.from.as_u16(),
        header.from_incarnation,
        header.to.as_u16(),
        header.packet
    );
    if header.from == Party::Any || header.to == Party::Any {
        key += &format!(" {} {}", datagram.from_address, datagram.to_address);
    }
    Some(Fnv1a::default().bytes(key.as_bytes()).finish())
}
