//! Datagrams and bodies as names and values, for `raftgram wire decode`, test vectors and traces.
//!
//! Printing goes as far as the bytes allow: a datagram that is dropped still shows its header, and its frames up
//! to the first malformed one.

use core::fmt::{self, Write as _};

use crate::cursor::Reader;
use crate::types::ClusterId;
use crate::wire::body::{BodyFamily, family};
use crate::wire::calls::{Class, Fragment};
use crate::wire::datagram::{Flags, HEADER_BYTES, checksum, decode, parse_header};
use crate::wire::error::DropReason;
use crate::wire::frame::{Frame, frame_type};
use crate::wire::hello::{Description, Greeting};
use crate::wire::print_body;
use crate::wire::walk::{Frames, split};

pub use crate::wire::print_body::{message_name, reply_name, request_name};

/// Names and values in the order of the bytes. Names are dotted paths such as `frame0.call`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<(String, String)>,
    prefix: String,
}

/// A datagram, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// What it holds.
    pub fields: Fields,
    /// What a receiver without state makes of it.
    pub verdict: Verdict,
}

/// What a receiver makes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would read it.
    Accept,
    /// It would drop it.
    Drop(DropReason),
    /// Its cluster's id is not known here, so nobody can tell whether the checksum is right; the rest is.
    Unverified,
}

/// Takes a datagram apart. With no cluster given, those under a cluster's tag stay unverified.
#[must_use]
pub fn print_datagram(bytes: &[u8], cluster: Option<ClusterId>) -> Printed {
    let mut fields = Fields::default();
    print_header(bytes, &mut fields);
    if let (Some(frames), Ok(header)) = (bytes.get(HEADER_BYTES..), parse_header(bytes)) {
        if header.flags.contains(Flags::SEALED) {
            fields.put("sealed_bytes", frames.len());
        } else {
            print_frames(frames, &mut fields);
        }
    }
    Printed { fields, verdict: judge(bytes, cluster) }
}

/// Takes a sealed datagram apart whose seal was found good: `frames` are its frames in plain.
#[must_use]
pub fn print_opened(bytes: &[u8], frames: &[u8], sealed_under: &str) -> Printed {
    let mut fields = Fields::default();
    print_header(bytes, &mut fields);
    fields.put("sealed_under", sealed_under);
    print_frames(frames, &mut fields);
    let verdict = match parse_header(bytes) {
        Err(reason) => Verdict::Drop(reason),
        Ok(_) => Frames::check(frames).map_or_else(Verdict::Drop, |_| Verdict::Accept),
    };
    Printed { fields, verdict }
}

/// Takes the body of a request, reply or notice apart.
#[must_use]
pub fn print_body(body: &[u8]) -> Fields {
    let mut fields = Fields::default();
    put_body(body, &mut fields);
    fields
}

fn judge(bytes: &[u8], cluster: Option<ClusterId>) -> Verdict {
    let is_tagged = parse_header(bytes).is_ok_and(|header| header.cluster_tag != 0);
    match cluster {
        None if is_tagged => match structure(bytes) {
            Ok(()) => Verdict::Unverified,
            Err(reason) => Verdict::Drop(reason),
        },
        known => match decode(bytes, known.unwrap_or_default()) {
            Ok(_) => Verdict::Accept,
            Err(reason) => Verdict::Drop(reason),
        },
    }
}

fn structure(bytes: &[u8]) -> Result<(), DropReason> {
    let header = parse_header(bytes)?;
    if header.flags.contains(Flags::SEALED) {
        return Err(DropReason::Crc);
    }
    super::datagram::frames(&header, bytes).map(|_| ())
}

fn print_header(bytes: &[u8], fields: &mut Fields) {
    fields.put("bytes", bytes.len());
    let Ok(header) = parse_header(bytes) else {
        fields.put("raw", Hex(&bytes[..bytes.len().min(HEADER_BYTES)]));
        return;
    };
    fields.put("version", bytes[2]);
    fields.put("flags", FlagNames(header.flags));
    let is_sealed = header.flags.contains(Flags::SEALED);
    fields.put(if is_sealed { "seal_id" } else { "crc" }, Hex(&bytes[4..8]));
    fields.put("cluster_tag", Hex(&bytes[8..12]));
    fields.put("source", header.source);
    fields.put("destination", header.destination);
    fields.put("source_incarnation", header.source_incarnation);
    fields.put("destination_incarnation", header.destination_incarnation);
    fields.put("packet", header.packet);
    if header.cluster_tag == 0 && !is_sealed {
        let expected = checksum(bytes, ClusterId::ZERO);
        fields.put("crc_expected", format_args!("{expected:08x}"));
    }
}

fn print_frames(bytes: &[u8], fields: &mut Fields) {
    let mut reader = Reader::new(bytes);
    let mut place = 0;
    while !reader.is_empty() {
        fields.within(&format!("frame{place}"), |fields| {
            let before = reader.rest();
            let Ok((kind, body)) = split(&mut reader) else {
                fields.put("malformed", Hex(before));
                reader = Reader::new(&[]);
                return;
            };
            match Frame::decode(kind, body) {
                Ok(Some(frame)) => put_frame(&frame, fields),
                Ok(None) => {
                    let is_ignorable = kind & frame_type::IGNORABLE != 0;
                    let name = if is_ignorable { "unknown-ignorable" } else { "unknown-critical" };
                    fields.put("type", format_args!("{name} {kind:02x}"));
                    fields.put("body", Hex(body));
                }
                Err(why) => {
                    fields.put("type", format_args!("{kind:02x}"));
                    fields.put("malformed", Hex(body));
                    fields.put("why", why);
                }
            }
        });
        place += 1;
    }
}

fn put_frame(frame: &Frame<'_>, fields: &mut Fields) {
    fields.put("type", frame.name());
    match frame {
        Frame::Padding { bytes } | Frame::MtuProbe { bytes } => fields.put("bytes", bytes),
        Frame::Hello(hello) => {
            fields.put("nonce_a", format_args!("{:016x}", hello.nonce_a));
            put_description(&hello.description, fields);
        }
        Frame::HelloAck(ack) => {
            put_nonces(ack.nonce_a, ack.nonce_b, fields);
            put_description(&ack.description, fields);
        }
        Frame::Confirm(confirm) => put_nonces(confirm.nonce_a, confirm.nonce_b, fields),
        Frame::Welcome(welcome) => {
            fields.put("nonce_a", format_args!("{:016x}", welcome.nonce_a));
            fields.put("incarnation", welcome.incarnation);
        }
        Frame::Version { min, max } => {
            fields.put("min", min);
            fields.put("max", max);
        }
        Frame::StaleIncarnation { current } => fields.put("current", current),
        Frame::Seal(offer) => {
            fields.put("session", format_args!("{:08x}", offer.session));
            fields.put("message", Hex(&offer.message));
        }
        Frame::SealRefused { reason } => fields.put("reason", reason),
        Frame::Ack(ack) => {
            fields.put("delay_us", ack.delay_us);
            fields.put("packets", ack.packets);
        }
        Frame::Credit { bytes_total } => fields.put("bytes_total", bytes_total),
        Frame::Request { call, class, body } => {
            fields.put("call", call);
            fields.put("class", class_name(*class));
            fields.within("body", |fields| put_body(body, fields));
        }
        Frame::RequestFragment { call, class, part } => {
            fields.put("call", call);
            fields.put("class", class_name(*class));
            put_fragment(part, fields);
        }
        Frame::Reply { call, body } => {
            fields.put("call", call);
            fields.within("body", |fields| put_body(body, fields));
        }
        Frame::ReplyFragment { call, part } => {
            fields.put("call", call);
            put_fragment(part, fields);
        }
        Frame::Cancel { call } => fields.put("call", call),
        Frame::Finished { calls } => fields.put("calls", calls),
        Frame::CallRefused { call, reason } => {
            fields.put("call", call);
            fields.put("reason", reason);
        }
        Frame::Notice { body } => fields.within("body", |fields| put_body(body, fields)),
    }
}

fn put_nonces(nonce_a: u64, nonce_b: u64, fields: &mut Fields) {
    fields.put("nonce_a", format_args!("{nonce_a:016x}"));
    fields.put("nonce_b", format_args!("{nonce_b:016x}"));
}

fn put_description(d: &Description, fields: &mut Fields) {
    fields.put("version_min", d.version_min);
    fields.put("version_max", d.version_max);
    fields.put("features", format_args!("{:016x}", d.features));
    fields.put("store", d.store);
    fields.put("boot_nonce", d.boot_nonce);
    fields.put("cluster", d.cluster);
    fields.put("election_timeout_min_us", d.election_timeout_min_us);
    fields.put("election_timeout_max_us", d.election_timeout_max_us);
    fields.put("heartbeat_us", d.heartbeat_us);
    fields.put("datagram_bytes_max", d.datagram_bytes_max);
    fields.put("credit_bytes", d.credit_bytes);
    match d.greeting {
        Greeting::Plain => fields.put("greeting", "plain"),
        Greeting::Founding { digest } => fields.put("greeting", format_args!("founding {digest:016x}")),
    }
}

fn put_fragment(part: &Fragment<'_>, fields: &mut Fields) {
    fields.put("total_bytes", part.total_bytes);
    fields.put("offset", part.offset);
    fields.put("part", Hex(part.bytes));
}

fn put_body(body: &[u8], fields: &mut Fields) {
    let read = match family(body) {
        Some(BodyFamily::Peer) => print_body::peer(body, fields),
        Some(BodyFamily::ClientRequest) => print_body::request(body, fields),
        Some(BodyFamily::ClientReply) => print_body::reply(body, fields),
        None => {
            fields.put("opaque", Hex(body));
            return;
        }
    };
    if let Err(why) = read {
        fields.put("malformed", Hex(body));
        fields.put("why", why);
    }
}

const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Again => "again",
        Class::Once => "once",
    }
}

impl Fields {
    /// The names and values.
    #[must_use]
    pub fn as_slice(&self) -> &[(String, String)] {
        &self.list
    }

    pub(super) fn put(&mut self, name: &str, value: impl fmt::Display) {
        self.list.push((format!("{}{name}", self.prefix), value.to_string()));
    }

    pub(super) fn within(&mut self, name: &str, put: impl FnOnce(&mut Self)) {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        put(self);
        self.prefix.truncate(outer);
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop(reason) => write!(f, "drop {reason}"),
            Self::Unverified => f.write_str("unverified: the cluster id is not known"),
        }
    }
}

impl fmt::Display for Printed {
    /// A line for each field, then the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}verdict: {}", self.fields, self.verdict)
    }
}

/// Bytes as hexadecimal digits.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct FlagNames(Flags);

impl fmt::Display for FlagNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Flags::SEALED, "sealed"),
            (Flags::ACK_ELICITING, "ack-eliciting"),
            (Flags::PROBE, "probe"),
            (Flags::CLIENT, "client"),
            (Flags::KEY_PHASE, "key-phase"),
        ];
        write!(f, "{:02x}", self.0.0)?;
        for (flag, name) in names {
            if self.0.contains(flag) {
                f.write_char(' ')?;
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}
