//! `wire decode`: datagrams taken apart, each with what a receiver would make of it.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use raftgram::types::ClusterId;
use raftgram::wire::print::{Printed, Verdict, print_datagram, print_opened};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::error::{CliError, Code};
use crate::output::{Format, file_error};
use crate::wire::capture;
use crate::wire::opener::Opener;

/// Take datagrams apart: every field, and why a receiver would drop it.
#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// One datagram in hexadecimal; or a file: pcap, pcapng, hexadecimal lines, or one datagram's bytes; `-` is stdin.
    #[arg(value_name = "HEX|FILE")]
    input: String,
    /// The cluster, without which no checksum but a hello's can be judged.
    #[arg(long, value_name = "ID", value_parser = cluster_id)]
    cluster_id: Option<ClusterId>,
}

/// Where datagrams came from.
enum Input {
    One(Vec<u8>),
    Lines(Vec<Vec<u8>>),
    Capture(capture::Capture),
}

#[derive(Debug, Serialize)]
struct Decoded {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<SocketAddr>,
    /// `accept`, `drop`, or `unverified` without the cluster's id.
    verdict: &'static str,
    /// The drop reason of wire-spec.md section 3.
    drop: Option<String>,
    fields: Named,
    #[serde(skip)]
    text: String,
}

/// Names and values in the order of the bytes.
#[derive(Debug)]
struct Named(Vec<(String, String)>);

#[derive(Debug, Serialize)]
struct Many<'a> {
    datagrams: &'a [Decoded],
    /// Packets of a capture that are no UDP datagrams.
    others: u64,
}

impl Decode {
    pub(crate) fn run(&self, key_file: Option<&Path>, format: Format) -> Result<(), CliError> {
        let mut opener = key_file.map(Opener::load).transpose()?.unwrap_or_default();
        match self.read()? {
            Input::One(bytes) => {
                let decoded = self.decode(&mut opener, &bytes);
                format.answer(&decoded, |_| decoded.text.clone())
            }
            Input::Lines(lines) => {
                let decoded: Vec<Decoded> =
                    lines.iter().map(|bytes| self.decode(&mut opener, bytes)).collect();
                print_many(format, &decoded, 0)
            }
            Input::Capture(capture) => {
                let decoded: Vec<Decoded> =
                    capture.datagrams.iter().map(|captured| self.captured(&mut opener, captured)).collect();
                print_many(format, &decoded, capture.others)
            }
        }
    }

    fn decode(&self, opener: &mut Opener, bytes: &[u8]) -> Decoded {
        let printed = match opener.open(bytes, self.cluster_id) {
            Some(opened) => print_opened(bytes, &opened.frames, &opened.under),
            None => print_datagram(bytes, self.cluster_id),
        };
        let text = format!("{printed}\n");
        let Printed { fields, verdict } = printed;
        let (verdict, drop) = match verdict {
            Verdict::Accept => ("accept", None),
            Verdict::Drop(reason) => ("drop", Some(reason.to_string())),
            Verdict::Unverified => ("unverified", None),
        };
        Decoded { from: None, to: None, verdict, drop, fields: Named(fields.as_slice().to_vec()), text }
    }

    fn captured(&self, opener: &mut Opener, captured: &capture::Captured) -> Decoded {
        let decoded = self.decode(opener, &captured.payload);
        let text = format!("from: {}\nto: {}\n{}", captured.from, captured.to, decoded.text);
        Decoded { from: Some(captured.from), to: Some(captured.to), text, ..decoded }
    }

    /// Hexadecimal that is also the name of a file is a file: the other reading can be forced by `-`.
    fn read(&self) -> Result<Input, CliError> {
        let path = Path::new(&self.input);
        let content = if self.input == "-" {
            let mut content = Vec::new();
            let read = std::io::stdin().read_to_end(&mut content);
            read.map_err(|error| CliError::io("reading stdin", &error))?;
            content
        } else if path.is_file() {
            std::fs::read(path).map_err(|error| file_error(path, "reading the file", &error))?
        } else {
            let bytes = unhex(&self.input).ok_or_else(|| {
                CliError::usage(format!("`{}` is neither hexadecimal nor a file", shortened(&self.input)))
            })?;
            return Ok(Input::One(bytes));
        };
        if capture::is_capture(&content) {
            let fault =
                |why| CliError::new(Code::Corrupt, format!("reading the capture: {why}")).at(&self.input);
            return capture::read(&content).map(Input::Capture).map_err(fault);
        }
        let text = std::str::from_utf8(&content).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match lines.map(unhex).collect::<Option<Vec<_>>>() {
            Some(lines) if !lines.is_empty() => Ok(Input::Lines(lines)),
            _ => Ok(Input::One(content)),
        }
    }
}

fn print_many(format: Format, datagrams: &[Decoded], others: u64) -> Result<(), CliError> {
    if format == Format::JsonStream {
        return datagrams.iter().try_for_each(|decoded| format.event(decoded));
    }
    format.answer(&Many { datagrams, others }, |_| {
        let texts: Vec<&str> = datagrams.iter().map(|decoded| decoded.text.as_str()).collect();
        texts.join("\n")
    })
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// A cluster id as `status` and the logs print it.
pub(crate) fn cluster_id(text: &str) -> Result<ClusterId, String> {
    ClusterId::from_hex(text)
        .ok_or_else(|| "a cluster id is 32 hexadecimal digits; `status` shows it".to_owned())
}

/// Bytes from hexadecimal digits; spaces and colons between them are how other tools print.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b':').collect();
    let value = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

/// Enough of a long argument to know it again.
fn shortened(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_may_be_spaced_and_never_odd() {
        assert_eq!(unhex("a7 52:01"), Some(vec![0xa7, 0x52, 1]));
        assert_eq!(unhex("a75"), None);
        assert_eq!(unhex("xx"), None);
        assert_eq!(unhex(""), None);
        assert_eq!(unhex("é0"), None);
    }

    #[test]
    fn a_cluster_id_is_32_digits() {
        assert!(cluster_id("00").is_err());
        assert_eq!(cluster_id(&"ab".repeat(16)), Ok(ClusterId([0xab; 16])));
    }
}
