//! Writing of cases, for the one test that makes the files.

use std::fmt::Write as _;

use serde_json::Value;

use super::case::{Case, Kind};

/// Bytes as digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Case {
    /// Writes the line, keys in the order of the spec.
    pub(crate) fn line(&self) -> String {
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
        if !self.keys.is_empty() {
            let pairs = self.keys.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v)));
            let pairs = pairs.collect::<Vec<_>>();
            write!(out, r#","keys":{{{}}}"#, pairs.join(",")).expect("a string takes all");
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

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
