//! Trace events as Chrome's tools and Perfetto read them, written one by one: "Trace Event Format", the JSON object
//! form.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

/// One track of one process of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pid: u32,
    pub(super) tid: u32,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A slice of the track begins, within the one that is open.
    Begin,
    /// The innermost slice ends.
    End,
    /// A slice that lasts so long.
    Slice {
        dur_ns: u64,
    },
    /// A span beside the slices begins; the next two are of a span with the same category and id.
    SpanBegin,
    SpanPoint,
    SpanEnd,
    /// An arrow leaves the slice that is here, and arrives at one.
    ArrowOut,
    ArrowIn,
    /// Something happens, here or to all.
    Instant {
        is_global: bool,
    },
    Counter,
    /// It names a track.
    Name,
}

impl Phase {
    const fn letter(self) -> &'static str {
        match self {
            Self::Begin => "B",
            Self::End => "E",
            Self::Slice { .. } => "X",
            Self::SpanBegin => "b",
            Self::SpanPoint => "n",
            Self::SpanEnd => "e",
            Self::ArrowOut => "s",
            Self::ArrowIn => "f",
            Self::Instant { .. } => "i",
            Self::Counter => "C",
            Self::Name => "M",
        }
    }
}

/// An event's words; what is empty is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) name: &'a str,
    pub(super) category: &'a str,
    /// Of spans and arrows.
    pub(super) id: &'a str,
    pub(super) args: Value,
}

#[derive(Serialize)]
struct Line<'a> {
    ph: &'static str,
    pid: u32,
    tid: u32,
    /// In microseconds.
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    /// An arrow ends at the slice around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: &'a Value,
}

/// A file that is being written; nothing of it is kept.
pub(super) struct ChromeWriter<W: Write> {
    out: W,
    count: u64,
}

impl<W: Write> ChromeWriter<W> {
    /// Begins the file.
    pub(super) fn new(mut out: W, about: &Value) -> io::Result<Self> {
        write!(out, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{about},\"traceEvents\":[")?;
        Ok(Self { out, count: 0 })
    }

    /// Writes one event.
    pub(super) fn put(&mut self, at_ns: u64, place: Place, phase: Phase, said: &Said<'_>) -> io::Result<()> {
        let us = |ns: u64| ns as f64 / 1000.0;
        let line = Line {
            ph: phase.letter(),
            pid: place.pid,
            tid: place.tid,
            ts: us(at_ns),
            dur: if let Phase::Slice { dur_ns } = phase { Some(us(dur_ns)) } else { None },
            name: said.name,
            cat: said.category,
            id: said.id,
            bp: (phase == Phase::ArrowIn).then_some("e"),
            s: match phase {
                Phase::Instant { is_global: true } => Some("g"),
                Phase::Instant { is_global: false } => Some("t"),
                _ => None,
            },
            args: &said.args,
        };
        self.out.write_all(if self.count == 0 { b"\n" } else { b",\n" })?;
        self.count += 1;
        serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from)
    }

    /// Ends the file; tells how many events it has.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.count)
    }
}
