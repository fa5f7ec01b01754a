//! One test vector: a line of `tests/vectors/*.jsonl`, as wire-spec.md section 13 describes it. Every test that
//! runs the vectors includes this file, so that all read them alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftgram::types::ClusterId;
use serde_json::{Map, Value};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) cluster: ClusterId,
    /// What the receiver is and has seen, by name; only in exchange steps.
    pub(crate) context: BTreeMap<String, u64>,
    /// What the receiver holds, by name; only in what is sealed.
    pub(crate) keys: BTreeMap<String, String>,
    /// What a decoder finds, in order when built, by name when read.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) expect: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The bytes alone tell the verdict.
    Datagram,
    /// A body, without frame and datagram.
    Body,
    /// A datagram whose verdict needs state.
    ExchangeStep,
    /// A datagram whose verdict needs keys.
    Sealed,
    /// The seal's handshake.
    Handshake,
}

impl Kind {
    /// The kinds' names.
    pub(crate) const NAMES: [(Self, &str); 5] = [
        (Self::Datagram, "datagram"),
        (Self::Body, "body"),
        (Self::ExchangeStep, "exchange-step"),
        (Self::Sealed, "sealed"),
        (Self::Handshake, "handshake"),
    ];
}

/// Where the vectors lie.
pub(crate) fn vectors_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Reads the cases of one file.
pub(crate) fn read_cases(file: &str) -> Vec<Case> {
    let path = vectors_dir().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(Case::parse).collect()
}

impl Case {
    /// Reads one line.
    pub(crate) fn parse(line: &str) -> Self {
        let object: Map<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"));
        let text = |key: &str| {
            object.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no {key} in {line}")).to_owned()
        };
        let inner = |key: &str| object.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let kind = text("kind");
        Self {
            name: text("name"),
            kind: Kind::NAMES
                .iter()
                .find(|(_, name)| *name == kind)
                .unwrap_or_else(|| panic!("kind {kind}"))
                .0,
            bytes: unhex(&text("hex")),
            cluster: ClusterId::from_hex(&text("cluster")).expect("a cluster id"),
            context: inner("context").into_iter().map(|(k, v)| (k, v.as_u64().expect("a number"))).collect(),
            keys: inner("keys").into_iter().map(|(k, v)| (k, v.as_str().expect("text").to_owned())).collect(),
            fields: inner("fields")
                .into_iter()
                .map(|(k, v)| (k, v.as_str().expect("text").to_owned()))
                .collect(),
            expect: text("expect"),
        }
    }
}

/// Digits as bytes; white space between them is skipped.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{c} is no digit")) as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte at the end of {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
