//! Scenarios from TOML. What is wrong is told with file, line, reason and the nearest right word.

use std::cell::RefCell;
use std::str::FromStr;
use std::time::Duration;

use raftgram::sim::NODES_MAX;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::run_folder::Ground;
use super::scenario::{
    Between, Deed, Fault, Links, Load, NodeChoice, Scenario, Sweep, SweepKey, System, burst,
};
use crate::error::CliError;
use crate::units::{Bytes, Share, Span};

/// The most values of a sweep, repeats, and occurrences of a fault: what nobody waits for is a mistake.
const VALUES_MAX: usize = 64;
const REPEATS_MAX: u32 = 100;

const GROUNDS: [(&str, Ground); 3] =
    [("simulator", Ground::Simulator), ("processes", Ground::Processes), ("namespaces", Ground::Namespaces)];

/// How unlike a word may be to what was meant.
const LIKENESS_MIN: f64 = 0.6;

/// Reads a scenario. `file` is what it is called in errors.
pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, CliError> {
    let source = Source { file, text };
    let tree = DeTable::parse(text)
        .map_err(|error| source.fault(error.span().map_or(0, |span| span.start), error.message()))?;
    let root = Section::new(&source, "the scenario", tree.get_ref(), 0);
    let nodes = root.number("nodes", 3, 1..=u64::from(NODES_MAX))? as u16;
    let scenario = Scenario {
        name: root.text("name")?.unwrap_or_else(|| "unnamed".to_owned()),
        title: root.text("title")?.unwrap_or_default(),
        about: root.text("about")?.unwrap_or_default(),
        on: root.word("on", &GROUNDS)?.unwrap_or(Ground::Simulator),
        systems: read_systems(&root)?,
        nodes,
        fsync: root.truth("fsync")?.unwrap_or(true),
        seed: root.optional("seed", whole)?,
        repeats: root.number("repeats", 1, 1..=u64::from(REPEATS_MAX))? as u32,
        warm_up: root.read("warm-up", Span(Duration::from_secs(1)))?,
        duration: root.read("duration", Span(Duration::from_secs(10)))?,
        timeout: root.read("timeout", Span(Duration::from_secs(5)))?,
        trace: root.read("trace", Span(Duration::from_millis(300)))?,
        log_tail: root.read("log-tail", Bytes(4 << 20))?,
        disk: root.read("disk", Span(Duration::from_micros(250)))?,
        load: read_load(&root)?,
        links: root
            .section("links")?
            .map_or_else(|| Ok(Links::default()), |section| read_links(section, true))?,
        sweep: root.section("sweep")?.map(|section| read_sweep(&section)).transpose()?,
        faults: read_faults(&root, nodes)?,
    };
    root.finish()?;
    check(&source, &root, &scenario)?;
    Ok(scenario)
}

/// What only the whole shows.
fn check(source: &Source<'_>, root: &Section<'_>, scenario: &Scenario) -> Result<(), CliError> {
    if scenario.duration.0.is_zero() || scenario.duration.0 > Duration::from_secs(24 * 3600) {
        return Err(
            source.fault(root.place_of("duration"), "a duration is more than nothing and at most a day")
        );
    }
    if let Some(sweep) = &scenario.sweep {
        let section = root.section("sweep")?;
        let at = section.map_or(0, |section| section.place_of(sweep.key.name()));
        for value in &sweep.values {
            let mut varied = scenario.clone();
            sweep.key.apply(&mut varied, value).map_err(|error| source.fault(at, &error))?;
            varied.fit().map_err(|error| source.fault(at, &error))?;
        }
    }
    scenario.fit().map_err(|error| source.fault(0, &error))
}

impl Scenario {
    /// Says what of it cannot be run.
    pub(crate) fn fit(&self) -> Result<(), String> {
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return Err(format!("{} nodes, not 1 to {NODES_MAX}", self.nodes));
        }
        let clients_max = if self.on == Ground::Simulator { SIMULATED_MAX } else { CLIENTS_MAX };
        if !(1..=clients_max).contains(&self.load.clients) {
            return Err(format!("{} clients, not 1 to {clients_max}", self.load.clients));
        }
        if self.on != Ground::Namespaces && self.systems != [System::Raftgram] {
            return Err("other systems than raftgram are measured in namespaces only".to_owned());
        }
        if self.load.rate == Some(0) {
            return Err("a rate of 0 is no load".to_owned());
        }
        if self.load.value.0 > raftgram::kv::VALUE_BYTES_MAX as u64 {
            return Err(format!("values of {} are more than a value may have", self.load.value));
        }
        let named = self.faults.iter().flat_map(Fault::nodes);
        match named.max() {
            Some(node) if node > self.nodes => {
                Err(format!("there is no node {node}: {}", counted(self.nodes)))
            }
            _ => Ok(()),
        }
    }
}

/// As many clients as a simulation has room for.
pub(crate) const SIMULATED_MAX: u16 = 60;

/// More on one machine are no load but a queue.
const CLIENTS_MAX: u16 = 1024;

fn counted(nodes: u16) -> String {
    if nodes == 1 { "there is node 1 only".to_owned() } else { format!("there are nodes 1 to {nodes}") }
}

impl Fault {
    fn nodes(&self) -> Vec<u16> {
        let groups = match &self.deed {
            Deed::Partition(groups) => groups.concat(),
            _ => Vec::new(),
        };
        let own = match self.node {
            Some(NodeChoice::Number(number)) => Some(number),
            _ => None,
        };
        groups.into_iter().chain(own).collect()
    }
}

fn read_load(root: &Section<'_>) -> Result<Load, CliError> {
    let plain = Load { clients: 8, value: Bytes(100), reads: Share::NONE, rate: None, keys: 1000 };
    let Some(section) = root.section("load")? else { return Ok(plain) };
    let load = Load {
        clients: section.number("clients", u64::from(plain.clients), 1..=u64::from(CLIENTS_MAX))? as u16,
        value: section.read("value", plain.value)?,
        reads: section.read("reads", plain.reads)?,
        rate: section
            .optional("rate", |value| whole(value).and_then(|it| small(it, 1..=1_000_000)))?
            .map(|it| it as u32),
        keys: section.number("keys", plain.keys, 1..=1_000_000_000)?,
    };
    section.finish()?;
    Ok(load)
}

fn read_systems(root: &Section<'_>) -> Result<Vec<System>, CliError> {
    let systems = root.optional("systems", |value| {
        let list = value.as_array().ok_or("a list of systems is wanted")?;
        let mut systems = Vec::new();
        for value in list.iter() {
            let text = plain_text(value.get_ref())?;
            let known = System::WORDS.into_iter().find(|(word, _)| *word == text);
            let (_, system) = known.ok_or_else(|| {
                let words = System::WORDS.map(|(word, _)| word);
                format!("`{text}` is none of {}{}", words.join(", "), nearest(&text, words))
            })?;
            if systems.contains(&system) {
                return Err(format!("`{text}` stands there twice"));
            }
            systems.push(system);
        }
        if systems.is_empty() { Err("at least one system is measured".to_owned()) } else { Ok(systems) }
    })?;
    Ok(systems.unwrap_or_else(|| vec![System::Raftgram]))
}

/// The keys of links; `between` only where all links are spoken of.
fn read_links(section: Section<'_>, is_standing: bool) -> Result<Links, CliError> {
    let links = take_links(&section, is_standing)?;
    section.finish()?;
    Ok(links)
}

fn take_links(section: &Section<'_>, is_standing: bool) -> Result<Links, CliError> {
    let plain = Links::default();
    let between = if is_standing {
        section.word("between", &[("nodes", Between::Nodes), ("all", Between::All)])?
    } else {
        None
    };
    Ok(Links {
        between: between.unwrap_or(plain.between),
        loss: section.read("loss", plain.loss)?,
        burst: section.optional("burst", |value| burst(&plain_text(value)?))?,
        delay: section.read("delay", plain.delay)?,
        jitter: section.read("jitter", plain.jitter)?,
        dup: section.read("dup", plain.dup)?,
        reorder: section.read("reorder", plain.reorder)?,
        corrupt: section.read("corrupt", plain.corrupt)?,
        mtu: section.optional("mtu", |value| plain_text(value)?.parse())?,
    })
}

fn read_sweep(section: &Section<'_>) -> Result<Sweep, CliError> {
    let mut found = None;
    for key in SweepKey::ALL {
        let Some((_, value)) = section.get(key.name()) else { continue };
        if found.is_some() {
            return Err(section.fault(key.name(), "only one thing is varied at a time"));
        }
        let list = value
            .get_ref()
            .as_array()
            .ok_or_else(|| section.fault(key.name(), "a list of values is wanted"))?;
        let values: Result<Vec<String>, String> =
            list.iter().map(|value| plain_text(value.get_ref())).collect();
        let values = values.map_err(|error| section.fault(key.name(), &error))?;
        if values.is_empty() || values.len() > VALUES_MAX {
            return Err(section.fault(key.name(), &format!("{} values, not 1 to {VALUES_MAX}", values.len())));
        }
        found = Some(Sweep { key, values });
    }
    section.finish()?;
    found.ok_or_else(|| {
        section.source.fault(section.at, "[sweep] names nothing to vary, such as `loss = [\"0%\", \"5%\"]`")
    })
}

fn read_faults(root: &Section<'_>, nodes: u16) -> Result<Vec<Fault>, CliError> {
    let Some((_, value)) = root.get("fault") else { return Ok(Vec::new()) };
    let list =
        value.get_ref().as_array().ok_or_else(|| root.fault("fault", "faults are written as [[fault]]"))?;
    let mut faults = Vec::new();
    for item in list.iter() {
        let at = item.span().start;
        let table = item
            .get_ref()
            .as_table()
            .ok_or_else(|| root.source.fault(at, "a fault is written as [[fault]]"))?;
        faults.push(read_fault(&Section::new(root.source, "[[fault]]", table, at), nodes)?);
    }
    Ok(faults)
}

fn read_fault(section: &Section<'_>, nodes: u16) -> Result<Fault, CliError> {
    let names: Vec<(&str, &str)> = Deed::NAMES.iter().map(|name| (*name, *name)).collect();
    let name = section.word("do", &names)?.ok_or_else(|| {
        section.source.fault(section.at, &format!("a fault needs `do`: one of {}", Deed::NAMES.join(", ")))
    })?;
    let node = section.optional("node", |value| node_choice(&plain_text(value)?, nodes))?;
    let groups = section.optional("groups", |value| groups(&plain_text(value)?, nodes))?;
    let deed = match name {
        "crash" => Deed::Crash,
        "restart" => Deed::Restart,
        "pause" => Deed::Pause,
        "partition" => Deed::Partition(groups.clone().unwrap_or_default()),
        "mute" => Deed::Mute,
        "deaf" => Deed::Deaf,
        "links" => Deed::Links(take_links(section, false)?),
        "slow-disk" => Deed::SlowDisk(section.read("sync", Span(Duration::from_millis(20)))?),
        "snapshot" => Deed::Snapshot,
        _ => Deed::Transfer,
    };
    let is_partition = matches!(deed, Deed::Partition(_));
    if groups.is_some() && (!is_partition || node.is_some()) {
        return Err(section.fault("groups", "groups are for a partition, and instead of a node"));
    }
    let needs_node = match &deed {
        Deed::Partition(groups) => groups.is_empty(),
        Deed::Links(_) | Deed::Transfer => false,
        _ => true,
    };
    if needs_node && node.is_none() {
        let text = format!("`{name}` needs a node: a number, leader, follower, any or each");
        return Err(section.fault("do", &text));
    }
    let every: Option<Span> = section.optional("every", |value| plain_text(value)?.parse())?;
    let lasting = section.optional("for", |value| plain_text(value)?.parse::<Span>())?;
    if deed.lasts() != lasting.is_some() {
        let text = if deed.lasts() {
            "it needs `for`: how long it lasts"
        } else {
            "it happens at once, without `for`"
        };
        return Err(section.fault("do", &format!("`{name}`: {text}")));
    }
    let lasting = lasting.unwrap_or(Span(Duration::ZERO));
    if every.is_some_and(|every| every.0.is_zero() || every.0 < lasting.0) {
        return Err(section.fault("every", "it would begin again before it has ended"));
    }
    let fault = Fault { at: section.read("at", Span(Duration::ZERO))?, lasting, every, node, deed };
    section.finish()?;
    Ok(fault)
}

fn node_choice(text: &str, nodes: u16) -> Result<NodeChoice, String> {
    let words = [
        ("leader", NodeChoice::Leader),
        ("follower", NodeChoice::Follower),
        ("any", NodeChoice::Any),
        ("each", NodeChoice::Each),
    ];
    if let Some((_, choice)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    match text.parse::<u16>() {
        Ok(number) if (1..=nodes).contains(&number) => Ok(NodeChoice::Number(number)),
        Ok(number) => Err(format!("there is no node {number}: {}", counted(nodes))),
        Err(_) => {
            let near = nearest(text, words.iter().map(|(word, _)| *word));
            Err(format!("`{text}` is no node: a number, leader, follower, any or each{near}"))
        }
    }
}

/// `1,2/3` as groups of nodes.
pub(crate) fn groups(text: &str, nodes: u16) -> Result<Vec<Vec<u16>>, String> {
    let number = |text: &str| {
        let number =
            text.trim().parse::<u16>().map_err(|_| format!("`{text}` is no node: write groups as 1,2/3"))?;
        if (1..=nodes).contains(&number) {
            Ok(number)
        } else {
            Err(format!("there is no node {number}: {}", counted(nodes)))
        }
    };
    let groups: Result<Vec<Vec<u16>>, String> =
        text.split('/').map(|group| group.split(',').map(number).collect()).collect();
    let groups = groups?;
    let mut all = groups.concat();
    all.sort_unstable();
    if all.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!("`{text}` has a node in two groups"));
    }
    if groups.len() < 2 {
        return Err(format!("`{text}` is one group: write two or more, as 1,2/3"));
    }
    Ok(groups)
}

/// ", did you mean x?" for the word that is most like this one, if any is.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |other: &str| strsim::jaro_winkler(word, other);
    let best = known.into_iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    best.filter(|best| likeness(best) >= LIKENESS_MIN)
        .map_or_else(String::new, |best| format!(", did you mean `{best}`?"))
}

/// The text that errors point into.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn fault(&self, at: usize, why: &str) -> CliError {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        CliError::usage(why.trim_end()).at(format!("{}:{line}", self.file))
    }
}

/// One table of the file, which remembers what was asked of it.
struct Section<'a> {
    source: &'a Source<'a>,
    name: &'a str,
    table: &'a DeTable<'a>,
    at: usize,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    fn new(source: &'a Source<'a>, name: &'a str, table: &'a DeTable<'a>, at: usize) -> Self {
        Self { source, name, table, at, known: RefCell::new(Vec::new()) }
    }

    fn get(&self, key: &'static str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
        self.known.borrow_mut().push(key);
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((name.span().start, value))
    }

    fn place_of(&self, key: &str) -> usize {
        self.table.keys().find(|name| name.get_ref() == key).map_or(self.at, |name| name.span().start)
    }

    fn fault(&self, key: &str, why: &str) -> CliError {
        self.source.fault(self.place_of(key), &format!("`{key}` in {}: {why}", self.name))
    }

    fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, CliError> {
        let Some((_, value)) = self.get(key) else { return Ok(None) };
        read(value.get_ref()).map(Some).map_err(|why| self.fault(key, &why))
    }

    fn read<T: FromStr<Err = String>>(&self, key: &'static str, otherwise: T) -> Result<T, CliError> {
        let found = self.optional(key, |value| plain_text(value)?.parse())?;
        Ok(found.unwrap_or(otherwise))
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, CliError> {
        self.optional(key, |value| {
            value.as_str().map(str::to_owned).ok_or_else(|| "a text is wanted".to_owned())
        })
    }

    fn truth(&self, key: &'static str) -> Result<Option<bool>, CliError> {
        self.optional(key, |value| value.as_bool().ok_or_else(|| "true or false is wanted".to_owned()))
    }

    fn number(
        &self,
        key: &'static str,
        otherwise: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, CliError> {
        let found = self.optional(key, |value| whole(value).and_then(|it| small(it, bounds)))?;
        Ok(found.unwrap_or(otherwise))
    }

    fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Result<Option<T>, CliError> {
        self.optional(key, |value| {
            let text = plain_text(value)?;
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
            found.ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("`{text}` is none of {}{}", known.join(", "), nearest(&text, known.iter().copied()))
            })
        })
    }

    fn section(&self, key: &'static str) -> Result<Option<Section<'a>>, CliError> {
        let Some((at, value)) = self.get(key) else { return Ok(None) };
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.fault(key, &format!("a section [{key}] is wanted")))?;
        Ok(Some(Section::new(self.source, key, table, at)))
    }

    /// Refuses what nobody asked for.
    fn finish(&self) -> Result<(), CliError> {
        let known = self.known.borrow();
        let Some(strange) = self.table.keys().find(|name| !known.contains(&name.get_ref().as_ref())) else {
            return Ok(());
        };
        let word = strange.get_ref();
        let near = nearest(word, known.iter().copied());
        Err(self.source.fault(strange.span().start, &format!("there is no `{word}` in {}{near}", self.name)))
    }
}

/// A text, or a number as one would write it.
fn plain_text(value: &DeValue<'_>) -> Result<String, String> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let number = value.as_integer().map(|it| it.as_str()).or(value.as_float().map(|it| it.as_str()));
    number.map(|text| text.replace('_', "")).ok_or_else(|| "a text or a number is wanted".to_owned())
}

fn whole(value: &DeValue<'_>) -> Result<u64, String> {
    let text = plain_text(value)?;
    text.parse().map_err(|_| format!("`{text}` is no whole number from 0 on"))
}

fn small(number: u64, bounds: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    if bounds.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not {} to {}", bounds.start(), bounds.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "x"
title = "T \"quoted\""
on = "processes"
nodes = 5
seed = 7
[load]
rate = 1_000
[links]
loss = "5%"
burst = 2.5
[sweep]
loss = ["0%", "1%", 5]
[[fault]]
at = "1s"
for = "500ms"
every = "2s"
do = "crash"
node = "leader"
[[fault]]
do = "partition"
for = "1s"
groups = "1,2/3,4,5"
[[fault]]
do = "links"
for = "1s"
node = 2
loss = "100%"
"#;

    #[test]
    fn a_scenario_that_was_written_reads_back_as_the_same() {
        let scenario = parse("x.toml", WHOLE).unwrap();
        assert_eq!((scenario.nodes, scenario.load.rate, scenario.links.burst), (5, Some(1000), Some(2.5)));
        assert_eq!(scenario.sweep.as_ref().map(|sweep| sweep.values.join(",")), Some("0%,1%,5".to_owned()));
        assert_eq!(parse("y.toml", &scenario.to_toml()).unwrap(), scenario);
        assert_eq!(
            scenario.fault_words()[1..],
            [
                "at 1s crash leader for 500ms, every 2s",
                "at 0s partition 1,2/3,4,5 for 1s",
                "at 0s loss 100% from 2 for 1s",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_the_nearest_right_word() {
        let cases = [
            ("\nnodez = 3", "x.toml:2: there is no `nodez` in the scenario, did you mean `nodes`?"),
            ("[links]\nlos = \"1%\"", "x.toml:2: there is no `los` in links, did you mean `loss`?"),
            ("[links]\n\nloss = \"120%\"", "x.toml:3: `loss` in links: `120%` is more than 100%"),
            (
                "[links]\nloss = 0.2",
                "x.toml:2: `loss` in links: `0.2` may be a fraction or per cent: write 0.2% or 20%",
            ),
            ("[sweep]\nlos = [1]", "x.toml:2: there is no `los` in sweep, did you mean `loss`?"),
            ("[sweep]\nloss = [\"1%\", \"101%\"]", "x.toml:2: `101%` is more than 100%"),
            (
                "on = \"simulater\"",
                "x.toml:1: `on` in the scenario: `simulater` is none of simulator, processes, namespaces, did you mean \
                 `simulator`?",
            ),
            (
                "[[fault]]\ndo = \"crush\"",
                "x.toml:2: `do` in [[fault]]: `crush` is none of crash, restart, pause, partition, mute, deaf, \
                 links, slow-disk, snapshot, transfer, did you mean `crash`?",
            ),
            (
                "[[fault]]\ndo = \"crash\"\nfor = \"1s\"\nnode = 4",
                "x.toml:4: `node` in [[fault]]: there is no node 4: there are nodes 1 to 3",
            ),
            (
                "[[fault]]\ndo = \"crash\"\nnode = 1",
                "x.toml:2: `do` in [[fault]]: `crash`: it needs `for`: how long it lasts",
            ),
            (
                "[[fault]]\ndo = \"partition\"\nfor = \"1s\"\ngroups = \"1,2\"",
                "x.toml:4: `groups` in [[fault]]: `1,2` is one group: write two or more, as 1,2/3",
            ),
            ("nodes = 0", "x.toml:1: `nodes` in the scenario: 0 is not 1 to 15"),
            ("nodes =", "x.toml:1: string values must be quoted, expected literal string"),
        ];
        for (text, wanted) in cases {
            let error = parse("x.toml", text).unwrap_err().to_string();
            assert_eq!(error, format!("error: {wanted}"), "{text}");
        }
    }
}
