//! One test vector: a line of `tests/vectors/*.jsonl`, as wire-spec.md section 13 describes it. Every test that
//! runs the vectors includes this file, so that all read them alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use raftgram::types::ClusterId;
use serde_json::{Map, Value};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub kind: Kind,
    pub bytes: Vec<u8>,
    pub cluster: ClusterId,
    /// What the receiver is and has seen, by name; only in exchange steps.
    pub context: BTreeMap<String, u64>,
    /// What a decoder finds, in order when built, by name when read.
    pub fields: Vec<(String, String)>,
    pub expect: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bytes alone tell the verdict.
    Datagram,
    /// A body, without frame and datagram.
    Body,
    /// A datagram whose verdict needs state.
    ExchangeStep,
}

impl Kind {
    const NAMES: [(Self, &str); 3] =
        [(Self::Datagram, "datagram"), (Self::Body, "body"), (Self::ExchangeStep, "exchange-step")];
}

/// Where the vectors lie.
pub fn vectors_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Reads the cases of one file.
pub fn read_cases(file: &str) -> Vec<Case> {
    let path = vectors_dir().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(Case::parse).collect()
}

impl Case {
    /// Reads one line.
    pub fn parse(line: &str) -> Self {
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
            fields: inner("fields")
                .into_iter()
                .map(|(k, v)| (k, v.as_str().expect("text").to_owned()))
                .collect(),
            expect: text("expect"),
        }
    }

    /// Writes the line, keys in the order of the spec.
    pub fn line(&self) -> String {
        let kind = Kind::NAMES.iter().find(|(kind, _)| *kind == self.kind).expect("every kind has a name").1;
        let mut out = format!(
            r#"{{"name":{},"kind":"{kind}","hex":"{}","cluster":"{}""#,
            quoted(&self.name),
            hex(&self.bytes),
            self.cluster
        );
        if !self.context.is_empty() {
            let pairs = self.context.iter().map(|(k, v)| format!("{}:{v}", quoted(k))).collect::<Vec<_>>();
            write!(out, r#","context":{{{}}}"#, pairs.join(",")).expect("a string takes all");
        }
        if !self.fields.is_empty() {
            let pairs = self.fields.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v)));
            let pairs = pairs.collect::<Vec<_>>();
            write!(out, r#","fields":{{{}}}"#, pairs.join(",")).expect("a string takes all");
        }
        write!(out, r#","expect":"{}"}}"#, self.expect).expect("a string takes all");
        out
    }
}

/// Bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digits as bytes; white space between them is skipped.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{c} is no digit")) as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte at the end of {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
