//! Lines and events are each other's inverse, and docs/trace.md tells all of them.

mod checked;
mod datagrams;
mod observed;
mod strategies;

use proptest::prelude::*;

use crate::time::Instant;
use crate::trace::datagram::NUMBERS;
use crate::trace::{Change, Event, Loss, Malformed, NoteKind, Outcome, What, read_line};

const DOCS: &str = include_str!("../../../docs/trace.md");

/// The lines that docs/trace.md shows.
fn samples() -> impl Iterator<Item = &'static str> {
    DOCS.lines().filter(|line| line.starts_with(r#"{"name":"#))
}

#[test]
fn every_documented_line_is_read_and_written_back() {
    let mut count = 0;
    for line in samples() {
        let event = read_line(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert_eq!(event.to_line(), format!("{line}\n"));
        count += 1;
    }
    assert_eq!(count, 11);
}

#[test]
fn every_name_is_documented() {
    let names = Change::ALL.map(Change::name).into_iter().chain(NoteKind::ALL.map(NoteKind::name));
    let outcomes = [
        Outcome::Sent,
        Outcome::Delivered,
        Outcome::Dropped(crate::wire::DropReason::Short),
        Outcome::Lost(Loss::Chance),
        Outcome::Duplicated,
        Outcome::Damaged,
        Outcome::Refused,
    ];
    let all = names.chain(Loss::ALL.map(Loss::name)).chain(outcomes.map(Outcome::name)).chain(NUMBERS);
    for name in all {
        assert!(DOCS.contains(&format!("`{name}`")), "docs/trace.md does not tell of `{name}`");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(event in strategies::event()) {
        let line = event.to_line();
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1), "one line: {:?}", line);
        prop_assert_eq!(read_line(&line), Ok(event.clone()));
        // What others make of it.
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(json["name"].as_str(), Some(event.name()));
        prop_assert_eq!(json["time_ns"].as_u64(), Some(event.at.as_nanos()));
        if let What::Note(_, text) = &event.what {
            prop_assert_eq!(json["text"].as_str(), Some(text.as_str()));
        }
        prop_assert!(!event.to_string().contains('\n'));
    }

    #[test]
    fn no_line_panics_the_reader(line in "[\\[\\]{}\",:a-z0-9\\\\ue]{0,60}", cut in any::<prop::sample::Index>()) {
        let _ = read_line(&line);
        let sample = samples().nth(4).unwrap();
        let at = cut.index(sample.len());
        prop_assert!(read_line(&sample[..at]).is_err(), "cut at {}", at);
    }
}

#[test]
fn a_malformed_line_says_what_is_wrong() {
    let cases = [
        ("", "no JSON object as traces hold: see byte 0 of the line"),
        ("{\"name\":\"gap\",", "no JSON object as traces hold: see byte 14 of the line"),
        ("[1]", "no JSON object as traces hold: see byte 0 of the line"),
        (
            "{\"name\":\"gap\",\"node\":null,\"time_ns\":-1,\"events\":1}",
            "no JSON object as traces hold: see byte 36 of the line",
        ),
        (
            "{\"name\":\"gap\",\"node\":null,\"time_ns\":01,\"events\":1}",
            "no JSON object as traces hold: see byte 36 of the line",
        ),
        (
            "{\"name\":\"gap\",\"node\":null,\"time_ns\":18446744073709551616,\"events\":1}",
            "no JSON object as traces hold: see byte 36 of the line",
        ),
        ("{\"node\":1}", "`name` is missing"),
        ("{\"name\":\"gab\",\"node\":null,\"time_ns\":1}", "there is no event `gab`"),
        ("{\"name\":\"gap\",\"node\":0,\"time_ns\":1,\"events\":1}", "`node` is not a node's number"),
        ("{\"name\":\"gap\",\"node\":1,\"time_ns\":\"1\",\"events\":1}", "`time_ns` is not a whole number"),
        (
            "{\"name\":\"gap\",\"node\":1,\"time_ns\":1,\"events\":1,\"events\":1}",
            "`events` is no field of this event, or stands here twice",
        ),
        (
            "{\"name\":\"trace\",\"node\":1,\"time_ns\":1,\"schema\":2,\"source\":\"simulation\",\
             \"seed\":1,\"cluster\":null}",
            "schema 2 is not known here",
        ),
        (
            "{\"name\":\"boot\",\"node\":null,\"time_ns\":1,\"incarnation\":1,\
             \"store\":\"85e5982e385d747bf85d5f7a28e661dc\",\"address\":\"127.0.0.1:1\"}",
            "`node` is not a node's number",
        ),
    ];
    for (line, why) in cases {
        assert_eq!(read_line(line).map_err(|error| error.to_string()), Err(why.to_owned()), "{line}");
    }
}

#[test]
fn a_wrong_part_of_a_datagram_is_named_by_its_path() {
    let sample = samples().find(|line| line.contains("append-reply")).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(sample.contains(from), "{from}");
        read_line(&sample.replacen(from, to, 1)).map_err(|error| error.to_string())
    };
    let cases = [
        (
            "\"attempt\":0",
            "\"atempt\":0",
            "`message.frames.atempt` is no field of this event, or stands here twice",
        ),
        ("\"attempt\":0", "\"attempt\":null", "`message.frames.attempt` is not a whole number"),
        ("\"packet\":104,", "", "`message.packet` is missing"),
        ("\"index\":7", "\"index\":8", "`message.term` is not with `index` that of the first body"),
        ("delivered", "dropped", "`message.outcome` is not an outcome with a reason of its own"),
        ("127.0.0.1:7102", "localhost", "`message.from_address` is not an address and a port"),
        (
            "\"bytes\":41",
            "\"bytes\":41,\"payload\":\"0\"",
            "`message.payload` is not hexadecimal digits in pairs",
        ),
        (
            "\"bytes\":41",
            "\"bytes\":41,\"payload\":\"00\"",
            "`message.payload` is not as long as `bytes` says",
        ),
        ("append-reply", "Append reply", "`message.type` is not a word"),
    ];
    for (from, to, why) in cases {
        assert_eq!(changed(from, to), Err(why.to_owned()), "{from} -> {to}");
    }
}

#[test]
fn values_too_deep_and_texts_with_wrong_escapes_are_no_trace() {
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(read_line(&deep), Err(Malformed::NotJson { .. })));
    for text in ["\\x", "\\u12", "\\ud800", "\\u+123", "\u{1}", "\\"] {
        let line = format!("{{\"name\":\"fault\",\"node\":null,\"time_ns\":1,\"text\":\"{text}\"}}");
        assert!(matches!(read_line(&line), Err(Malformed::NotJson { .. })), "{text:?}");
    }
    let line = r#"{"name":"fault","node":null,"time_ns":1,"text":"\u00e9\n\/\\\" é"}"#;
    let event = Event {
        at: Instant::from_nanos(1),
        node: None,
        what: What::Note(NoteKind::Fault, "é\n/\\\" é".to_owned()),
    };
    assert_eq!(read_line(line), Ok(event));
}
