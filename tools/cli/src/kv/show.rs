//! Keys and values as text: bytes that are UTF-8 as they are, others in hexadecimal under a name that says so.

use raftgram::kv;
use raftgram::types::{Index, Term};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::output::Format;

/// One key and what it holds after an operation.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    index: Index,
    term: Term,
}

impl<'a> Shown<'a> {
    pub(super) fn new(key: &'a [u8], value: Option<&'a [u8]>, index: Index, term: Term) -> Self {
        Self { key, value, index, term }
    }

    /// What a write says to people; a script sees the exit code.
    pub(super) fn done(&self, format: Format) -> String {
        if format == Format::Terminal { format!("ok, entry {}\n", self.index) } else { String::new() }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_bytes(&mut map, ["key", "key_hex"], self.key)?;
        match self.value {
            Some(value) => put_bytes(&mut map, ["value", "value_hex"], value)?,
            None => map.serialize_entry("value", &None::<&str>)?,
        }
        map.serialize_entry("index", &self.index.0)?;
        map.serialize_entry("term", &self.term.0)?;
        map.end()
    }
}

/// All rows of a list.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    prefix: String,
    pub(super) items: Vec<Row>,
    /// What the last page was read at.
    pub(super) index: u64,
    pub(super) term: u64,
}

#[derive(Debug)]
pub(super) struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    index: u64,
}

impl Row {
    pub(super) fn of(row: &kv::Row<'_>) -> Self {
        Self { key: row.key.to_vec(), value: row.value.to_vec(), index: row.index.0 }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_bytes(&mut map, ["key", "key_hex"], &self.key)?;
        put_bytes(&mut map, ["value", "value_hex"], &self.value)?;
        map.serialize_entry("index", &self.index)?;
        map.end()
    }
}

impl Listed {
    pub(super) fn new(prefix: &[u8]) -> Self {
        Self { prefix: text(prefix), items: Vec::new(), index: 0, term: 0 }
    }

    pub(super) fn text(&self, format: Format) -> String {
        let cells = |row: &Row| vec![text(&row.key), text(&row.value), row.index.to_string()];
        let rows: Vec<Vec<String>> = self.items.iter().map(cells).collect();
        match format {
            Format::Terminal => format.table(&["key", "value", "index"], &rows),
            // Data only: what reads a pipe splits at the tab and wants no headings among its keys.
            _ => self.items.iter().map(|row| format!("{}\t{}\n", text(&row.key), text(&row.value))).collect(),
        }
    }
}

pub(super) fn put_bytes<M: serde::ser::SerializeMap>(
    map: &mut M,
    names: [&str; 2],
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(names[0], text),
        Err(_) => map.serialize_entry(names[1], &hex(bytes)),
    }
}

/// The bytes for people: tabs, newlines and what is no text are escaped, so that a row stays a row.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(['\t', '\n', '\r']) => text.to_owned(),
        Ok(text) => text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"),
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_other_bytes_say_that_they_are_none() {
        let shown = Shown::new(b"k", Some(b"v"), Index(3), Term(2));
        assert_eq!(serde_json::to_string(&shown).unwrap(), r#"{"key":"k","value":"v","index":3,"term":2}"#);
        let shown = Shown::new(b"k", Some(&[0xff, 0]), Index(3), Term(2));
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            r#"{"key":"k","value_hex":"ff00","index":3,"term":2}"#
        );
        let shown = Shown::new(b"k", None, Index(3), Term(2));
        assert_eq!(serde_json::to_string(&shown).unwrap(), r#"{"key":"k","value":null,"index":3,"term":2}"#);
    }

    #[test]
    fn a_row_stays_on_its_line() {
        assert_eq!(text(b"a\tb\nc"), "a\\tb\\nc");
        assert_eq!(text(&[0xff]), "0xff");
    }
}
