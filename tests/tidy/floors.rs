//! Who may import whom, and what the pure floors may not touch (ARCHITECTURE.md, the floors).

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, Placed, Token, Written};

/// The floor of every room; a room that is not here may not exist.
const ROOMS: [(&str, u8); 30] = [
    ("cursor", 0),
    ("entry", 0),
    ("founding", 0),
    ("hash", 0),
    ("histogram", 0),
    ("layered", 0),
    ("machine", 0),
    ("membership", 0),
    ("message", 0),
    ("mutant", 0),
    ("remains", 0),
    ("rng", 0),
    ("snapshot", 0),
    ("time", 0),
    ("types", 0),
    ("check", 1),
    ("fault", 1),
    ("kv", 1),
    ("raft", 1),
    ("seal", 1),
    ("session", 1),
    ("store", 1),
    ("wire", 1),
    ("rpc", 2),
    ("trace", 2),
    ("client", 3),
    ("node", 3),
    ("run", 4),
    ("sim", 4),
    ("handle", 5),
];

/// Paths that reach outside the machine; what stands below one is banned with it.
const OUTSIDE: [&str; 23] = [
    "libc",
    "mio",
    "quinn_udp",
    "rustix",
    "socket2",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
];

/// As [`OUTSIDE`], but tests may: golden files are rewritten on request.
const OUTSIDE_BUT_IN_TESTS: [&str; 3] = ["std::env", "std::fs", "std::path"];

/// Words that need no path to do harm.
const WORDS: [&str; 12] = [
    "HashMap",
    "HashSet",
    "Mutex",
    "RwLock",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "async",
    "await",
    "thread_local",
    "unsafe",
];

/// Crates that a ground-floor room stands in for, and the rooms that may name them all the same: the store writes
/// fields at fixed places in a block, which a cursor cannot.
const WRAPPED: [(&str, &[&str]); 2] = [("byteorder", &["cursor", "store"]), ("rand", &["rng"])];

/// One library file as the walk from lib.rs found it.
pub(crate) struct File<'a> {
    /// For messages.
    pub(crate) name: &'a str,
    /// Its module, without `crate`; empty for lib.rs.
    pub(crate) module: &'a [String],
    pub(crate) is_test: bool,
    pub(crate) tokens: &'a [Placed<'a>],
}

/// Everything wrong with the imports of these files.
pub(crate) fn import_faults(files: &[File<'_>]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ground = BTreeMap::<String, BTreeSet<String>>::new();
    for file in files {
        // lib.rs names every room; that is what it is for.
        let Some(room) = file.module.first() else { continue };
        let Some(floor) = floor(room) else {
            faults.push(format!("{}: room `{room}` has no floor", file.name));
            continue;
        };
        for path in source::paths(file.tokens, &["crate", "super", "self"]) {
            let at = format!("{}:{}: `{}`", file.name, path.line, path.segments.join("::"));
            let target = resolve(file.module, &path);
            let Some(target) = target.first().filter(|t| *t != "*" && *t != "self") else {
                faults.push(format!("{at} names the whole crate: name a room"));
                continue;
            };
            match self::floor(target) {
                None => faults.push(format!("{at} names no room: `{target}` is none")),
                Some(0) if floor == 0 => {
                    ground.entry(room.clone()).or_default().insert(target.clone());
                }
                Some(below) if below < floor || target == room => {}
                Some(other) => {
                    faults.push(format!("{at}: `{room}` on floor {floor} may not see `{target}` on {other}"));
                }
            }
        }
    }
    faults.extend(cycle(&ground).map(|rooms| format!("floor 0 imports in a circle: {rooms}")));
    faults
}

/// Everything by which these files reach outside though their floor is pure.
pub(crate) fn purity_faults(files: &[File<'_>]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.module.first().is_some_and(|room| is_pure(room)))
        .flat_map(impurities)
        .collect()
}

fn impurities(file: &File<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for path in source::paths(file.tokens, &["std", "libc", "mio", "quinn_udp", "rustix", "socket2"]) {
        let is_test = file.is_test || path.is_test;
        let soft = if is_test { &[][..] } else { &OUTSIDE_BUT_IN_TESTS[..] };
        let written = path.segments.join("::");
        if let Some(banned) = OUTSIDE.iter().chain(soft).find(|banned| reaches(&written, banned)) {
            faults.push(format!("{}:{}: `{written}` reaches outside ({banned})", file.name, path.line));
        }
    }
    for (name, homes) in WRAPPED {
        if file.module.first().is_some_and(|room| !homes.contains(&room.as_str())) {
            let uses = source::paths(file.tokens, &[name]);
            faults.extend(uses.iter().map(|path| {
                format!("{}:{}: `{}` is for {homes:?} only", file.name, path.line, path.segments.join("::"))
            }));
        }
    }
    for pair in file.tokens.windows(3) {
        let word = match (pair[0].token, pair[1].token, pair[2].token) {
            (Token::Word("Instant"), Token::PathSep, Token::Word("now")) => "Instant::now",
            // The switch of the mutants is a thread's own; src/mutant.rs says why.
            (Token::Word("thread_local"), ..) if file.module == ["mutant"] => continue,
            (Token::Word(word), ..) if WORDS.contains(&word) => word,
            _ => continue,
        };
        faults.push(format!("{}:{}: `{word}` has no place on a pure floor", file.name, pair[0].line));
    }
    faults
}

/// True when the written path is the banned one, stands below it, or is a glob above it.
fn reaches(written: &str, banned: &str) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|r| r.is_empty() || r.starts_with("::"))
    };
    match written.strip_suffix("::*") {
        Some(above) => below(banned, above) || below(above, banned),
        None => below(written.strip_suffix("::self").unwrap_or(written), banned),
    }
}

fn floor(room: &str) -> Option<u8> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|&(_, floor)| floor)
}

fn is_pure(room: &str) -> bool {
    room == "sim" || floor(room).is_some_and(|floor| floor <= 3)
}

/// The absolute module path that `written` names, without `crate`.
fn resolve(module: &[String], written: &Written) -> Vec<String> {
    let mut here: Vec<String> = module.iter().chain(&written.inline).cloned().collect();
    for (at, segment) in written.segments.iter().enumerate() {
        match segment.as_str() {
            "crate" => here.clear(),
            "super" => drop(here.pop()),
            "self" if at == 0 => {}
            _ => here.push(segment.clone()),
        }
    }
    here
}

/// One circle in the graph, printed as `a -> b -> a`.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    fn walk<'a>(
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        trail: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        let here = *trail.last().expect("the walk begins at a room");
        for next in graph.get(here).into_iter().flatten().filter(|next| *next != here) {
            if let Some(start) = trail.iter().position(|room| room == next) {
                return Some([&trail[start..], &[next.as_str()]].concat().join(" -> "));
            }
            if !done.contains(next.as_str()) {
                trail.push(next);
                let found = walk(graph, trail, done);
                if found.is_some() {
                    return found;
                }
                trail.pop();
            }
        }
        done.insert(here);
        None
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|room| walk(graph, &mut vec![room], &mut done))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a check over one invented file.
    fn faults_of(module: &str, text: &str, check: fn(&[File<'_>]) -> Vec<String>) -> Vec<String> {
        let masked = source::mask(text);
        let tokens = source::tokens(&masked);
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        check(&[File { name: "x.rs", module: &module, is_test: false, tokens: &tokens }])
    }

    fn imports(module: &str, text: &str) -> usize {
        faults_of(module, text, import_faults).len()
    }

    fn outside(module: &str, text: &str) -> usize {
        faults_of(module, text, purity_faults).len()
    }

    #[test]
    fn imports_run_down_and_never_sideways_or_up() {
        assert_eq!(
            imports(
                "rpc::link",
                "use crate::wire::Frame; use crate::types::{NodeId, Term}; use super::call;"
            ),
            0
        );
        assert_eq!(imports("raft::log", "use crate::wire::Frame;"), 1);
        assert_eq!(imports("wire", "use crate::rpc::Rpc;"), 1);
        assert_eq!(imports("sim", "use crate::{run::Loop, node::Node};"), 1);
        assert_eq!(imports("types", "use crate::{time, store::Disk, kv};"), 2);
        assert_eq!(imports("wire::frame", "fn f() { super::super::session::g() }"), 1);
        assert_eq!(imports("wire::frame", "mod a { use super::super::super::kv::X; }"), 1);
        assert_eq!(imports("wire::frame", "#[cfg(test)] mod tests { use crate::rpc; }"), 1);
        assert_eq!(
            imports("wire::frame", "#[cfg(test)] mod tests { use super::*; use super::super::client; }"),
            0
        );
        assert_eq!(imports("wire", "// crate::rpc is told in prose\n"), 0);
    }

    #[test]
    fn no_import_hides_its_room() {
        assert_eq!(imports("wire", "use crate::*;"), 1);
        assert_eq!(imports("wire", "use crate as c;"), 1);
        assert_eq!(imports("wire", "use crate::{self as c};"), 1);
        assert_eq!(imports("wire", "use super::*;"), 1);
        assert_eq!(imports("wire", "use crate::NodeId;"), 1);
        assert_eq!(imports("utils", "use crate::types::Term;"), 1);
    }

    #[test]
    fn a_circle_on_the_ground_floor_is_named() {
        let edge = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|&t| t.to_owned()).collect());
        let straight =
            BTreeMap::from([edge("entry", &["types", "cursor"]), edge("message", &["entry", "types"])]);
        assert_eq!(cycle(&straight), None);
        let round =
            BTreeMap::from([edge("entry", &["types"]), edge("time", &["entry"]), edge("types", &["time"])]);
        assert_eq!(cycle(&round).as_deref(), Some("entry -> types -> time -> entry"));
    }

    #[test]
    fn pure_floors_reach_nothing_outside() {
        assert_eq!(
            outside(
                "rpc",
                "use std::net::{IpAddr, SocketAddr}; use std::sync::Arc; use std::collections::BTreeMap;"
            ),
            0
        );
        assert_eq!(outside("rpc", "use std::net::{self, SocketAddr};"), 0);
        assert_eq!(outside("rpc", "use std::net::*;"), 1);
        assert_eq!(outside("store", "use std::{fs::File, io};"), 1);
        assert_eq!(outside("store", "fn f() { ::std::thread::spawn(g) }"), 1);
        assert_eq!(outside("node", "use std::time::Duration;"), 0);
        assert_eq!(outside("node", "use std::time::{Duration, Instant};"), 1);
        assert_eq!(outside("node", "let t = Instant::now();"), 1);
        assert_eq!(outside("node", "use mio::Poll; use socket2::Socket;"), 2);
        assert_eq!(outside("sim", "async fn f() {} "), 1);
        assert_eq!(outside("kv", "unsafe { x }"), 1);
        assert_eq!(outside("kv", "let m = HashMap::<u8, u8>::new();"), 1);
        assert_eq!(outside("wire", "use byteorder::BigEndian;"), 1);
        assert_eq!(outside("cursor", "use byteorder::BigEndian;"), 0);
        assert_eq!(outside("run", "use mio::Poll; use std::thread;"), 0);
    }

    #[test]
    fn only_tests_may_rewrite_their_golden_files() {
        assert_eq!(outside("raft", "#[cfg(test)] mod tests { use std::fs; use std::env; }"), 0);
        assert_eq!(outside("raft", "#[cfg(test)] mod tests { use std::thread; }"), 1);
        assert_eq!(outside("raft", "use std::fs;"), 1);
    }
}
