//! Traces for Perfetto: they parse, what is open is closed in its order, and they say what the events say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::diagram::simulated;
use crate::support::{json as document, raftgram};

/// The lines of a trace.
fn events(trace: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(trace).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Makes the picture; gives what the command says of it, and its events by time as a viewer takes them.
fn picture(more: &[&str]) -> (Value, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.json");
    let named =
        ["--json", "trace", "perfetto", simulated().to_str().unwrap(), "--out", out.to_str().unwrap()];
    let (code, made) = document(&raftgram(&[&named[..], more].concat()));
    assert_eq!(code, 0, "{made}");
    let whole: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let mut drawn = whole["traceEvents"].as_array().unwrap().clone();
    assert_eq!(made["events"], drawn.len());
    drawn.sort_by_key(ns);
    (made, drawn)
}

fn ns(event: &Value) -> u64 {
    (event["ts"].as_f64().unwrap() * 1000.0).round() as u64
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Terms with roles inside: node, since when, term, role.
type Roles = Vec<(u64, u64, u64, String)>;

fn drawn_roles(drawn: &[Value]) -> Roles {
    let mut open: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    let mut roles = Roles::new();
    for event in drawn.iter().filter(|event| ["B", "E"].contains(&text(&event["ph"]))) {
        let slices = open.entry(event["pid"].as_u64().unwrap()).or_default();
        if event["ph"] == "E" {
            assert!(slices.pop().is_some(), "nothing ends here: {event}");
            continue;
        }
        let term = event["args"]["term"].as_u64().unwrap();
        match slices.as_slice() {
            [] => assert_eq!(text(&event["name"]), format!("term {term}")),
            [outer] => {
                assert_eq!(outer["args"]["term"], term, "{event} in {outer}");
                let role = text(&event["name"]).to_owned();
                roles.push((event["pid"].as_u64().unwrap(), ns(event), term, role));
            }
            _ => panic!("three deep: {event}"),
        }
        slices.push(event);
    }
    assert!(open.values().all(Vec::is_empty), "not ended: {open:?}");
    roles
}

fn told_roles(told: &[Value]) -> Roles {
    let mut roles = Roles::new();
    let mut last: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for event in told {
        let Some(node) = event["node"].as_u64() else { continue };
        if ["boot", "stop", "crash"].contains(&text(&event["name"])) {
            last.remove(&node);
        }
        let (Some(term), Some(role)) = (event["term"].as_u64(), event["role"].as_str()) else { continue };
        let state = (term, role.to_owned());
        if last.insert(node, state.clone()).as_ref() != Some(&state) {
            roles.push((node, event["time_ns"].as_u64().unwrap(), state.0, state.1));
        }
    }
    roles
}

#[test]
fn terms_and_roles_nest_and_are_those_of_the_trace() {
    let (made, drawn) = picture(&[]);
    let (mut drawn, mut told) = (drawn_roles(&drawn), told_roles(&events(simulated())));
    let nodes: BTreeSet<u64> = told.iter().map(|(node, ..)| *node).collect();
    assert_eq!(made["nodes"], nodes.len(), "{made}");
    drawn.sort();
    told.sort();
    assert!(told.iter().any(|(.., role)| role == "leader"));
    assert_eq!(drawn, told);
}

/// Spans by category and id: when each began and ended, and what its end says.
fn spans<'a>(drawn: &'a [Value], category: &str) -> BTreeMap<&'a str, (u64, u64, &'a Value)> {
    let mut begun: BTreeMap<&str, u64> = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for event in drawn.iter().filter(|event| event["cat"] == category) {
        let id = text(&event["id"]);
        match text(&event["ph"]) {
            "b" => assert!(begun.insert(id, ns(event)).is_none(), "{event}"),
            "n" => assert!(begun.contains_key(id), "{event}"),
            "e" => {
                let begin = begun.remove(id).unwrap();
                assert!(spans.insert(id, (begin, ns(event), &event["args"])).is_none(), "{event}");
            }
            _ => panic!("{event}"),
        }
    }
    assert!(begun.is_empty(), "not ended: {begun:?}");
    spans
}

#[test]
fn entries_and_calls_are_spans_from_what_began_them_to_what_ended_them() {
    let (made, drawn) = picture(&["--no-datagrams"]);
    let told = events(simulated());
    let entries = spans(&drawn, "entry");
    assert_eq!(made["entries"], entries.len());
    let mut committed = 0;
    for (id, (begin, end, args)) in &entries {
        let numbers: Vec<u64> = id.split('/').map(|part| part.parse().unwrap()).collect();
        let at = |time: u64, name: &str| {
            let is_it = |event: &&Value| {
                event["node"] == numbers[0] && event["time_ns"] == time && event["name"] == name
            };
            told.iter().find(is_it).unwrap_or_else(|| panic!("{id}: no {name} at {time}"))
        };
        // A look tells several changes, each with the state after all of them.
        let appended = at(*begin, "append");
        assert_eq!((&appended["role"], &appended["term"]), (&"leader".into(), &numbers[1].into()), "{id}");
        assert!(appended["log"]["length"].as_u64().unwrap() >= numbers[2], "{id}");
        if args["became"] == "committed" {
            committed += 1;
            assert!(at(*end, "commit")["commit"].as_u64().unwrap() >= numbers[2], "{id}");
        }
    }
    assert_eq!(made["committed"], committed);
    assert!(committed > 10, "{made}");

    let mut asked: BTreeMap<String, u64> = BTreeMap::new();
    for event in told.iter().filter(|event| event["name"] == "datagram") {
        let message = &event["message"];
        if message["outcome"] != "delivered" || !message["from"].is_null() {
            continue;
        }
        let frames = message["frames"].as_array().unwrap().iter();
        for frame in frames.filter(|frame| text(&frame["frame"]).starts_with("request")) {
            let id = format!(
                "{}/{}/{}/{}",
                event["node"],
                message["to_incarnation"],
                text(&message["from_address"]),
                frame["call"]
            );
            asked.entry(id).or_insert(event["time_ns"].as_u64().unwrap());
        }
    }
    let calls = spans(&drawn, "call");
    let begun: BTreeMap<String, u64> =
        calls.iter().map(|(id, (begin, ..))| ((*id).to_owned(), *begin)).collect();
    assert_eq!(begun, asked);
    let answered = calls.values().filter(|(_, _, args)| args["reply"].is_object()).count();
    assert_eq!((&made["calls"], &made["answered"]), (&calls.len().into(), &answered.into()));
    assert!(answered > 10 && !drawn.iter().any(|event| event["cat"] == "datagram"), "{made}");
}

#[test]
fn each_sight_of_a_datagram_is_shown_and_arrows_begin_before_they_end() {
    let (made, drawn) = picture(&[]);
    let told = events(simulated());
    let datagrams: Vec<&Value> = told.iter().filter(|event| event["name"] == "datagram").collect();
    assert_eq!(made["datagrams"], datagrams.len());
    let is_slice = |event: &&&Value| ["sent", "delivered"].contains(&text(&event["message"]["outcome"]));
    let sights = datagrams.iter().filter(is_slice).count();
    let shown = |event: &Value| event["args"]["count"].as_u64().unwrap() as usize;
    let slices: Vec<&Value> = drawn.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(slices.iter().map(|slice| shown(slice)).sum::<usize>(), sights);
    let instants = drawn.iter().filter(|event| event["ph"] == "i" && event["cat"] == "datagram").count();
    assert_eq!(instants, datagrams.len() - sights);
    let mut ends: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for slice in &slices {
        let track = (slice["pid"].as_u64().unwrap(), slice["tid"].as_u64().unwrap());
        let end = ns(slice) + (slice["dur"].as_f64().unwrap() * 1000.0).round() as u64;
        let before = ends.insert(track, end).unwrap_or(0);
        assert!(before <= ns(slice), "two at once: {slice}");
    }
    let mut out = BTreeSet::new();
    let mut arrived = 0;
    for event in &drawn {
        match text(&event["ph"]) {
            "s" => assert!(out.insert(text(&event["id"]).to_owned()), "two by one number: {event}"),
            "f" => {
                arrived += 1;
                assert!(out.contains(text(&event["id"])), "an arrow from nowhere: {event}");
            }
            _ => {}
        }
    }
    assert!(arrived > 100);
}

#[test]
fn what_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("none").join("out.json");
    let named = |trace: &str| {
        document(&raftgram(&["--json", "trace", "perfetto", trace, "--out", out.to_str().unwrap()]))
    };
    assert_eq!(named(simulated().to_str().unwrap()).0, 1);
    let (code, said) = named("/nonexistent/trace");
    assert_eq!((code, &said["error"]["address"]), (1, &Value::from("/nonexistent/trace")));
}
