//! A scenario: a cluster, a load, what is varied, and what befalls it. Read from TOML by `parse`, and written as such.

use std::fmt::{self, Write as _};
use std::time::Duration;

use raftgram::fault::{Bursts, LinkConfig};

use super::run_folder::{Ground, Unit};
use crate::units::{Bytes, Share, Span};

/// An experiment, with every setting that it is repeated with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) about: String,
    pub(crate) on: Ground,
    /// What is measured, one after the other; others than raftgram in namespaces only.
    pub(crate) systems: Vec<System>,
    pub(crate) nodes: u16,
    pub(crate) fsync: bool,
    /// Without one it is drawn, and printed.
    pub(crate) seed: Option<u64>,
    pub(crate) repeats: u32,
    pub(crate) warm_up: Span,
    pub(crate) duration: Span,
    /// How long an operation may take.
    pub(crate) timeout: Span,
    /// How long a window the first repeat of each point records; zero for none.
    pub(crate) trace: Span,
    /// How much log nodes keep below a snapshot.
    pub(crate) log_tail: Bytes,
    pub(crate) load: Load,
    pub(crate) links: Links,
    /// How long a disk takes for a sync: the simulator's.
    pub(crate) disk: Span,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) faults: Vec<Fault>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Raftgram,
    /// The same with TCP between the nodes.
    RaftgramTcp,
    Etcd,
}

impl System {
    /// As scenarios name them.
    pub(crate) const WORDS: [(&'static str, Self); 3] =
        [("raftgram", Self::Raftgram), ("raftgram-tcp", Self::RaftgramTcp), ("etcd", Self::Etcd)];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raftgram => "raftgram",
            Self::RaftgramTcp => "raftgram-tcp",
            Self::Etcd => "etcd",
        }
    }
}

/// What clients do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) clients: u16,
    pub(crate) value: Bytes,
    pub(crate) reads: Share,
    /// Operations a second, begun whether or not earlier ones were answered; without it each client waits for its own.
    pub(crate) rate: Option<u32>,
    pub(crate) keys: u64,
}

/// What links do to datagrams.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Links {
    /// Which links.
    pub(crate) between: Between,
    pub(crate) loss: Share,
    /// Loss comes in bursts of so many datagrams on average, instead of one by one.
    pub(crate) burst: Option<f64>,
    pub(crate) delay: Span,
    pub(crate) jitter: Span,
    pub(crate) dup: Share,
    pub(crate) reorder: Share,
    pub(crate) corrupt: Share,
    pub(crate) mtu: Option<Bytes>,
}

/// Which links have faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// Those between nodes.
    Nodes,
    /// Those to clients, too.
    All,
}

/// What is varied, and over which values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    pub(crate) key: SweepKey,
    /// As they were written.
    pub(crate) values: Vec<String>,
}

/// Something that befalls the cluster, once or again and again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Counted from the begin of the measured span.
    pub(crate) at: Span,
    /// How long it lasts, if it lasts.
    pub(crate) lasting: Span,
    /// From one begin to the next.
    pub(crate) every: Option<Span>,
    pub(crate) node: Option<NodeChoice>,
    pub(crate) deed: Deed,
}

/// What befalls it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deed {
    /// The process is killed, and started again.
    Crash,
    /// The process is told to stop, and started again.
    Restart,
    /// The process stands still.
    Pause,
    /// Nothing passes between these groups; with a node instead, between it and all others.
    Partition(Vec<Vec<u16>>),
    /// Nobody hears the node.
    Mute,
    /// The node hears nobody.
    Deaf,
    /// Links are like this: all of them, or those from the node.
    Links(Links),
    /// Syncs take this long.
    SlowDisk(Span),
    /// The node takes a snapshot.
    Snapshot,
    /// The leader hands over.
    Transfer,
}

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeChoice {
    Number(u16),
    /// Whoever leads at that moment.
    Leader,
    /// One that does not lead, drawn from the seed.
    Follower,
    /// One drawn from the seed.
    Any,
    /// One after the other.
    Each,
}

/// What can be varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SweepKey {
    Loss,
    Burst,
    Delay,
    Rtt,
    Jitter,
    Dup,
    Reorder,
    Corrupt,
    Mtu,
    Value,
    Clients,
    Rate,
    Nodes,
    Disk,
}

impl SweepKey {
    pub(crate) const ALL: [Self; 14] = [
        Self::Loss,
        Self::Burst,
        Self::Delay,
        Self::Rtt,
        Self::Jitter,
        Self::Dup,
        Self::Reorder,
        Self::Corrupt,
        Self::Mtu,
        Self::Value,
        Self::Clients,
        Self::Rate,
        Self::Nodes,
        Self::Disk,
    ];

    /// As scenarios and `--sweep` name it.
    pub(crate) const fn name(self) -> &'static str {
        self.words().0
    }

    /// For people.
    pub(crate) const fn label(self) -> &'static str {
        self.words().1
    }

    pub(crate) const fn unit(self) -> Unit {
        self.words().2
    }

    const fn words(self) -> (&'static str, &'static str, Unit) {
        match self {
            Self::Loss => ("loss", "datagrams lost", Unit::Share),
            Self::Burst => ("burst", "mean length of a burst of losses", Unit::Count),
            Self::Delay => ("delay", "one-way delay", Unit::S),
            Self::Rtt => ("rtt", "round-trip time", Unit::S),
            Self::Jitter => ("jitter", "jitter", Unit::S),
            Self::Dup => ("dup", "datagrams duplicated", Unit::Share),
            Self::Reorder => ("reorder", "datagrams held back", Unit::Share),
            Self::Corrupt => ("corrupt", "datagrams damaged", Unit::Share),
            Self::Mtu => ("mtu", "longest datagram that passes", Unit::Bytes),
            Self::Value => ("value", "size of a value", Unit::Bytes),
            Self::Clients => ("clients", "clients", Unit::Count),
            Self::Rate => ("rate", "operations asked for in a second", Unit::Count),
            Self::Nodes => ("nodes", "nodes", Unit::Count),
            Self::Disk => ("disk", "time of a sync", Unit::S),
        }
    }

    /// Sets the value, and says what it is on the axis.
    pub(crate) fn apply(self, scenario: &mut Scenario, text: &str) -> Result<f64, String> {
        let share = |text: &str| text.parse::<Share>();
        let span = |text: &str| text.parse::<Span>();
        let seconds = |span: Span| span.0.as_secs_f64();
        let count = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no whole number"));
        let small =
            |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no whole number up to 65535"));
        let links = &mut scenario.links;
        Ok(match self {
            Self::Loss => set(&mut links.loss, share(text)?).fraction(),
            Self::Dup => set(&mut links.dup, share(text)?).fraction(),
            Self::Reorder => set(&mut links.reorder, share(text)?).fraction(),
            Self::Corrupt => set(&mut links.corrupt, share(text)?).fraction(),
            Self::Burst => *links.burst.insert(burst(text)?),
            Self::Delay => seconds(set(&mut links.delay, span(text)?)),
            Self::Rtt => {
                let rtt = span(text)?;
                links.delay = Span(rtt.0 / 2);
                seconds(rtt)
            }
            Self::Jitter => seconds(set(&mut links.jitter, span(text)?)),
            Self::Disk => seconds(set(&mut scenario.disk, span(text)?)),
            Self::Mtu => links.mtu.insert(text.parse()?).0 as f64,
            Self::Value => set(&mut scenario.load.value, text.parse::<Bytes>()?).0 as f64,
            Self::Clients => f64::from(set(&mut scenario.load.clients, small(text)?)),
            Self::Rate => f64::from(*scenario.load.rate.insert(count(text)?)),
            Self::Nodes => f64::from(set(&mut scenario.nodes, small(text)?)),
        })
    }
}

fn set<T: Copy>(place: &mut T, value: T) -> T {
    *place = value;
    value
}

/// The mean length of a burst.
pub(crate) fn burst(text: &str) -> Result<f64, String> {
    let length = text.parse::<f64>().ok().filter(|length| (1.0..=1e6).contains(length));
    length.ok_or_else(|| format!("`{text}` is no length of a burst: a number of datagrams from 1 on"))
}

impl Default for Links {
    fn default() -> Self {
        Self {
            between: Between::Nodes,
            loss: Share::NONE,
            burst: None,
            delay: Span(Duration::from_micros(50)),
            jitter: Span(Duration::ZERO),
            dup: Share::NONE,
            reorder: Share::NONE,
            corrupt: Share::NONE,
            mtu: None,
        }
    }
}

impl Links {
    /// As the links' own settings.
    pub(crate) fn config(&self) -> LinkConfig {
        let loss = self.loss.fraction();
        // A chain that loses everything while it is bad: its bursts last 1/r, and p/(p+r) of all is lost.
        let bursts = self.burst.filter(|_| loss > 0.0).map(|length| {
            let r = 1.0 / length;
            let p = if loss < 1.0 { (loss * r / (1.0 - loss)).min(1.0) } else { 1.0 };
            Bursts { p, r: if loss < 1.0 { r } else { 0.0 }, loss_bad: 1.0, loss_good: 0.0 }
        });
        LinkConfig {
            mtu: self.mtu.map(|bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX)),
            loss: if bursts.is_some() { 0.0 } else { loss },
            bursts,
            delay: self.delay.0,
            jitter: self.jitter.0,
            duplicate: self.dup.fraction(),
            reorder: self.reorder.fraction(),
            corrupt: self.corrupt.fraction(),
            ..LinkConfig::default()
        }
    }

    /// What differs from links that do nothing but take their time, as keys and texts.
    fn words(&self) -> Vec<(&'static str, String)> {
        let plain = Self::default();
        let mut words = Vec::new();
        let mut say = |is_said: bool, key, text: String| words.extend(is_said.then_some((key, text)));
        say(self.loss != plain.loss, "loss", self.loss.to_string());
        say(self.burst.is_some(), "burst", self.burst.unwrap_or_default().to_string());
        say(self.delay != plain.delay, "delay", self.delay.to_string());
        say(self.jitter != plain.jitter, "jitter", self.jitter.to_string());
        say(self.dup != plain.dup, "dup", self.dup.to_string());
        say(self.reorder != plain.reorder, "reorder", self.reorder.to_string());
        say(self.corrupt != plain.corrupt, "corrupt", self.corrupt.to_string());
        say(self.mtu.is_some(), "mtu", self.mtu.unwrap_or(Bytes(0)).to_string());
        words
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words().iter().map(|(key, text)| format!("{key} {text}")).collect();
        if words.is_empty() { f.write_str("no faults") } else { f.write_str(&words.join(" ")) }
    }
}

impl Fault {
    /// What it is, of this node if it is of one.
    pub(crate) fn text(&self, node: Option<u16>) -> String {
        let of = node
            .map_or_else(|| self.node.map_or_else(String::new, |it| format!(" {it}")), |it| format!(" {it}"));
        match &self.deed {
            Deed::Partition(groups) if !groups.is_empty() => format!("partition {}", group_text(groups)),
            Deed::Partition(_) => format!("partition{of} from the others"),
            Deed::Mute => format!("nobody hears{of}"),
            Deed::Deaf => format!("{} hears nobody", of.trim_start()),
            Deed::Links(links) if of.is_empty() => links.to_string(),
            Deed::Links(links) => format!("{links} from{of}"),
            Deed::SlowDisk(sync) => format!("disk of{of} takes {sync}"),
            deed => format!("{}{of}", deed.name()),
        }
    }

    /// The same with when.
    pub(crate) fn plan_text(&self) -> String {
        let mut text = format!("at {} {}", self.at, self.text(None));
        // Writing to a String cannot fail.
        if !self.lasting.0.is_zero() {
            let _ = write!(text, " for {}", self.lasting);
        }
        if let Some(every) = self.every {
            let _ = write!(text, ", every {every}");
        }
        text
    }
}

fn group_text(groups: &[Vec<u16>]) -> String {
    let group = |group: &Vec<u16>| group.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    groups.iter().map(group).collect::<Vec<_>>().join("/")
}

impl Deed {
    /// As scenarios name them.
    pub(crate) const NAMES: [&'static str; 10] = [
        "crash",
        "restart",
        "pause",
        "partition",
        "mute",
        "deaf",
        "links",
        "slow-disk",
        "snapshot",
        "transfer",
    ];

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Partition(_) => "partition",
            Self::Mute => "mute",
            Self::Deaf => "deaf",
            Self::Links(_) => "links",
            Self::SlowDisk(_) => "slow-disk",
            Self::Snapshot => "snapshot",
            Self::Transfer => "transfer",
        }
    }

    /// Whether it goes on for a while.
    pub(crate) const fn lasts(&self) -> bool {
        !matches!(self, Self::Snapshot | Self::Transfer)
    }
}

impl fmt::Display for NodeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Leader => f.write_str("leader"),
            Self::Follower => f.write_str("follower"),
            Self::Any => f.write_str("any"),
            Self::Each => f.write_str("each"),
        }
    }
}

impl Scenario {
    /// Standing and planned faults in words.
    pub(crate) fn fault_words(&self) -> Vec<String> {
        let standing = Some(self.links.to_string()).filter(|_| !self.links.words().is_empty());
        standing.into_iter().chain(self.faults.iter().map(Fault::plan_text)).collect()
    }

    /// As TOML that reads back as this.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        let ground = match self.on {
            Ground::Simulator => "simulator",
            Ground::Processes => "processes",
            Ground::Namespaces => "namespaces",
        };
        line(&mut out, "name", &quoted(&self.name));
        line(&mut out, "title", &quoted(&self.title));
        line(&mut out, "about", &quoted(&self.about));
        line(&mut out, "on", &quoted(ground));
        let systems: Vec<String> = self.systems.iter().map(|system| quoted(system.name())).collect();
        line(&mut out, "systems", &format!("[{}]", systems.join(", ")));
        line(&mut out, "nodes", &self.nodes);
        line(&mut out, "fsync", &self.fsync);
        if let Some(seed) = self.seed {
            line(&mut out, "seed", &seed);
        }
        line(&mut out, "repeats", &self.repeats);
        line(&mut out, "warm-up", &quoted(&self.warm_up));
        line(&mut out, "duration", &quoted(&self.duration));
        line(&mut out, "timeout", &quoted(&self.timeout));
        line(&mut out, "trace", &quoted(&self.trace));
        line(&mut out, "log-tail", &quoted(&self.log_tail));
        line(&mut out, "disk", &quoted(&self.disk));
        out.push_str("\n[load]\n");
        line(&mut out, "clients", &self.load.clients);
        line(&mut out, "value", &quoted(&self.load.value));
        line(&mut out, "reads", &quoted(&self.load.reads));
        if let Some(rate) = self.load.rate {
            line(&mut out, "rate", &rate);
        }
        line(&mut out, "keys", &self.load.keys);
        out.push_str("\n[links]\n");
        let between = if self.links.between == Between::All { "all" } else { "nodes" };
        line(&mut out, "between", &quoted(between));
        link_lines(&mut out, &self.links);
        if let Some(sweep) = &self.sweep {
            out.push_str("\n[sweep]\n");
            let values: Vec<String> = sweep.values.iter().map(quoted).collect();
            line(&mut out, sweep.key.name(), &format!("[{}]", values.join(", ")));
        }
        for fault in &self.faults {
            fault_lines(&mut out, fault);
        }
        out
    }
}

fn fault_lines(out: &mut String, fault: &Fault) {
    out.push_str("\n[[fault]]\n");
    line(out, "at", &quoted(&fault.at));
    line(out, "do", &quoted(fault.deed.name()));
    if fault.deed.lasts() {
        line(out, "for", &quoted(&fault.lasting));
    }
    if let Some(every) = &fault.every {
        line(out, "every", &quoted(every));
    }
    if let Some(node) = &fault.node {
        line(out, "node", &quoted(node));
    }
    match &fault.deed {
        Deed::Partition(groups) if !groups.is_empty() => line(out, "groups", &quoted(&group_text(groups))),
        Deed::Links(links) => link_lines(out, links),
        Deed::SlowDisk(sync) => line(out, "sync", &quoted(sync)),
        _ => {}
    }
}

fn link_lines(out: &mut String, links: &Links) {
    for (key, text) in links.words() {
        let text = if key == "burst" { text } else { quoted(&text) };
        line(out, key, &text);
    }
}

fn line(out: &mut String, key: &str, value: &(impl fmt::Display + ?Sized)) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{key} = {value}");
}

/// JSON's quoting is TOML's, but for what neither a name nor a title holds.
fn quoted(text: &(impl fmt::Display + ?Sized)) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}
