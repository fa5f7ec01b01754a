//! Frames: `type u8 ‖ length varint ‖ body`. `[W-7]`
//!
//! A frame borrows its body from the datagram; a datagram's frames are all read once before the first is handed
//! out, so nobody acts on half of one.

use crate::cursor::{CursorError, Reader, Writer, varint_bytes};
use crate::types::{CallId, Incarnation};
use crate::wire::calls::{CallRefusal, Class, Fragment};
use crate::wire::hello::{Confirm, Description, Hello, HelloAck, Welcome};
use crate::wire::ranges::Ranges;
use crate::wire::sealed::{SealOffer, SealRefusal};

/// One typed part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Bytes without meaning.
    Padding {
        /// How many follow the frame's length; what they hold is ignored.
        bytes: usize,
    },
    /// Who are you?
    Hello(Hello),
    /// The answer to a hello.
    HelloAck(HelloAck),
    /// Proof of having got it.
    Confirm(Confirm),
    /// The link is open.
    Welcome(Welcome),
    /// The answer to a version its sender does not speak.
    Version {
        /// The lowest it speaks.
        min: u8,
        /// The highest it speaks.
        max: u8,
    },
    /// A hint to say hello again.
    StaleIncarnation {
        /// The sender's own incarnation.
        current: Incarnation,
    },
    /// Half of the handshake of the seal, beside a confirm or a welcome. `[W-75]`
    Seal(SealOffer),
    /// Why a greeting was dropped, said in plain; an excuse to an operator and nothing else. `[W-77]`
    SealRefused {
        /// Why.
        reason: SealRefusal,
    },
    /// Packets that arrived.
    Ack(Ack<'a>),
    /// What the sender takes in.
    Credit {
        /// How many bytes of bodies in fragments may be under way; never shrinks.
        bytes_total: u64,
    },
    /// Fills a datagram to find out whether its size gets through. `[W-34]`
    MtuProbe {
        /// As in padding.
        bytes: usize,
    },
    /// A whole call.
    Request {
        /// Its number.
        call: CallId,
        /// Whether it may be carried out twice.
        class: Class,
        /// What is asked.
        body: &'a [u8],
    },
    /// A part of a call whose body does not fit one datagram.
    RequestFragment {
        /// The call's number.
        call: CallId,
        /// Whether it may be carried out twice.
        class: Class,
        /// Which part.
        part: Fragment<'a>,
    },
    /// The whole answer to a call.
    Reply {
        /// The call's number.
        call: CallId,
        /// What is answered.
        body: &'a [u8],
    },
    /// A part of an answer.
    ReplyFragment {
        /// The call's number.
        call: CallId,
        /// Which part.
        part: Fragment<'a>,
    },
    /// The caller no longer wants an answer. `[W-41]`
    Cancel {
        /// The call's number.
        call: CallId,
    },
    /// Calls whose answers the caller has, or no longer wants: their replies may be forgotten.
    Finished {
        /// Ranges of call ids, never none.
        calls: Ranges<'a>,
    },
    /// The callee did not take the call in.
    CallRefused {
        /// The call's number.
        call: CallId,
        /// Why.
        reason: CallRefusal,
    },
    /// A body that is sent once and not acknowledged.
    Notice {
        /// What is said.
        body: &'a [u8],
    },
}

/// Packets that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// How long the largest one waited for this acknowledgement, in µs; below 2^62.
    pub delay_us: u64,
    /// Ranges of packet numbers, never none.
    pub packets: Ranges<'a>,
}

/// The numbers of the frame types. `[W-9]`
pub mod frame_type {
    #![expect(missing_docs, reason = "each is the name of the frame it stands for")]
    pub const PADDING: u8 = 0x00;
    pub const HELLO: u8 = 0x01;
    pub const HELLO_ACK: u8 = 0x02;
    pub const CONFIRM: u8 = 0x03;
    pub const WELCOME: u8 = 0x04;
    pub const VERSION: u8 = 0x05;
    pub const STALE_INCARNATION: u8 = 0x06;
    pub const ACK: u8 = 0x07;
    pub const CREDIT: u8 = 0x08;
    pub const MTU_PROBE: u8 = 0x09;
    pub const SEAL: u8 = 0x0a;
    pub const SEAL_REFUSED: u8 = 0x0b;
    pub const REQUEST_AGAIN: u8 = 0x10;
    pub const REQUEST_ONCE: u8 = 0x11;
    pub const REQUEST_FRAGMENT_AGAIN: u8 = 0x12;
    pub const REQUEST_FRAGMENT_ONCE: u8 = 0x13;
    pub const REPLY: u8 = 0x14;
    pub const REPLY_FRAGMENT: u8 = 0x15;
    pub const CANCEL: u8 = 0x16;
    pub const FINISHED: u8 = 0x17;
    pub const CALL_REFUSED: u8 = 0x18;
    pub const NOTICE: u8 = 0x19;
    /// The bit of a type that may be ignored when it is unknown.
    pub const IGNORABLE: u8 = 0x80;
}

use frame_type as t;

impl<'a> Frame<'a> {
    /// Its type's number.
    #[must_use]
    pub const fn frame_type(&self) -> u8 {
        match self {
            Self::Padding { .. } => t::PADDING,
            Self::Hello(_) => t::HELLO,
            Self::HelloAck(_) => t::HELLO_ACK,
            Self::Confirm(_) => t::CONFIRM,
            Self::Welcome(_) => t::WELCOME,
            Self::Version { .. } => t::VERSION,
            Self::StaleIncarnation { .. } => t::STALE_INCARNATION,
            Self::Seal(_) => t::SEAL,
            Self::SealRefused { .. } => t::SEAL_REFUSED,
            Self::Ack(_) => t::ACK,
            Self::Credit { .. } => t::CREDIT,
            Self::MtuProbe { .. } => t::MTU_PROBE,
            Self::Request { class: Class::Again, .. } => t::REQUEST_AGAIN,
            Self::Request { class: Class::Once, .. } => t::REQUEST_ONCE,
            Self::RequestFragment { class: Class::Again, .. } => t::REQUEST_FRAGMENT_AGAIN,
            Self::RequestFragment { class: Class::Once, .. } => t::REQUEST_FRAGMENT_ONCE,
            Self::Reply { .. } => t::REPLY,
            Self::ReplyFragment { .. } => t::REPLY_FRAGMENT,
            Self::Cancel { .. } => t::CANCEL,
            Self::Finished { .. } => t::FINISHED,
            Self::CallRefused { .. } => t::CALL_REFUSED,
            Self::Notice { .. } => t::NOTICE,
        }
    }

    /// Its type's name, as `wire decode` prints it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Padding { .. } => "padding",
            Self::Hello(_) => "hello",
            Self::HelloAck(_) => "hello-ack",
            Self::Confirm(_) => "confirm",
            Self::Welcome(_) => "welcome",
            Self::Version { .. } => "version",
            Self::StaleIncarnation { .. } => "stale-incarnation",
            Self::Seal(_) => "seal",
            Self::SealRefused { .. } => "seal-refused",
            Self::Ack(_) => "ack",
            Self::Credit { .. } => "credit",
            Self::MtuProbe { .. } => "mtu-probe",
            Self::Request { .. } => "request",
            Self::RequestFragment { .. } => "request-fragment",
            Self::Reply { .. } => "reply",
            Self::ReplyFragment { .. } => "reply-fragment",
            Self::Cancel { .. } => "cancel",
            Self::Finished { .. } => "finished",
            Self::CallRefused { .. } => "call-refused",
            Self::Notice { .. } => "notice",
        }
    }

    /// True when a datagram that holds it must be acknowledged: its loss would be missed. `[W-30]`
    #[must_use]
    pub const fn is_ack_eliciting(&self) -> bool {
        matches!(
            self,
            Self::Credit { .. }
                | Self::MtuProbe { .. }
                | Self::Request { .. }
                | Self::RequestFragment { .. }
                | Self::Reply { .. }
                | Self::ReplyFragment { .. }
                | Self::Cancel { .. }
                | Self::Finished { .. }
                | Self::CallRefused { .. }
        )
    }

    /// How many bytes [`Self::encode`] appends, type and length included.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let body = self.body_bytes();
        1 + varint_bytes(body as u64) + body
    }

    /// Appends the frame.
    ///
    /// # Panics
    /// When a number does not fit a varint, an ack or finished frame names no range, or a fragment is empty or
    /// reaches past its total.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.frame_type());
        let body_bytes = self.body_bytes();
        out.put_varint(body_bytes as u64);
        let before = out.len();
        self.encode_body(out);
        assert_eq!(out.len() - before, body_bytes, "a {} frame's length", self.name());
    }

    fn body_bytes(&self) -> usize {
        match self {
            Self::Padding { bytes } | Self::MtuProbe { bytes } => *bytes,
            Self::Hello(hello) => 8 + hello.description.encoded_bytes(),
            Self::HelloAck(ack) => 16 + ack.description.encoded_bytes(),
            Self::Confirm(_) => 16,
            Self::Welcome(_) => 12,
            Self::Version { .. } => 2,
            Self::StaleIncarnation { .. } => 4,
            Self::Seal(offer) => 4 + offer.message.len(),
            Self::SealRefused { .. } => 1,
            Self::Ack(Ack { delay_us, packets }) => varint_bytes(*delay_us) + packets.encoded_bytes(),
            Self::Credit { bytes_total } => varint_bytes(*bytes_total),
            Self::Request { call, body, .. } | Self::Reply { call, body } => {
                varint_bytes(call.0) + body.len()
            }
            Self::RequestFragment { call, part, .. } | Self::ReplyFragment { call, part } => {
                varint_bytes(call.0)
                    + varint_bytes(part.total_bytes)
                    + varint_bytes(part.offset)
                    + part.bytes.len()
            }
            Self::Cancel { call } => varint_bytes(call.0),
            Self::Finished { calls } => calls.encoded_bytes(),
            Self::CallRefused { call, .. } => varint_bytes(call.0) + 1,
            Self::Notice { body } => body.len(),
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Padding { bytes } | Self::MtuProbe { bytes } => out.resize(out.len() + bytes, 0),
            Self::Hello(hello) => {
                out.put_u64(hello.nonce_a);
                hello.description.encode(out);
            }
            Self::HelloAck(ack) => {
                out.put_u64(ack.nonce_a);
                out.put_u64(ack.nonce_b);
                ack.description.encode(out);
            }
            Self::Confirm(Confirm { nonce_a, nonce_b }) => {
                out.put_u64(*nonce_a);
                out.put_u64(*nonce_b);
            }
            Self::Welcome(Welcome { nonce_a, incarnation }) => {
                out.put_u64(*nonce_a);
                out.put_u32(incarnation.0);
            }
            Self::Version { min, max } => out.put_bytes(&[*min, *max]),
            Self::StaleIncarnation { current } => out.put_u32(current.0),
            Self::Seal(SealOffer { session, message }) => {
                out.put_u32(*session);
                out.put_bytes(message);
            }
            Self::SealRefused { reason } => out.put_u8(reason.code()),
            Self::Ack(Ack { delay_us, packets }) => {
                assert!(!packets.is_empty(), "an ack of no packet");
                out.put_varint(*delay_us);
                packets.encode(out);
            }
            Self::Credit { bytes_total } => out.put_varint(*bytes_total),
            Self::Request { call, body, .. } | Self::Reply { call, body } => {
                out.put_varint(call.0);
                out.put_bytes(body);
            }
            Self::RequestFragment { call, part, .. } | Self::ReplyFragment { call, part } => {
                out.put_varint(call.0);
                part.encode(out);
            }
            Self::Cancel { call } => out.put_varint(call.0),
            Self::Finished { calls } => {
                assert!(!calls.is_empty(), "finished calls, none");
                calls.encode(out);
            }
            Self::CallRefused { call, reason } => {
                out.put_varint(call.0);
                out.put_u8(reason.code());
            }
            Self::Notice { body } => out.put_bytes(body),
        }
    }

    /// Reads the body of a frame of this type; `None` for an unknown type. Bytes after the last known field are
    /// ignored: a later version may have put a field there. `[W-10]`
    pub fn decode(frame_type: u8, body: &'a [u8]) -> Result<Option<Self>, CursorError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        Ok(Some(match frame_type {
            t::PADDING => Self::Padding { bytes: body.len() },
            t::MTU_PROBE => Self::MtuProbe { bytes: body.len() },
            t::HELLO => Self::Hello(Hello { nonce_a: r.u64()?, description: Description::decode(r)? }),
            t::HELLO_ACK => Self::HelloAck(HelloAck {
                nonce_a: r.u64()?,
                nonce_b: r.u64()?,
                description: Description::decode(r)?,
            }),
            t::CONFIRM => Self::Confirm(Confirm { nonce_a: r.u64()?, nonce_b: r.u64()? }),
            t::WELCOME => Self::Welcome(Welcome { nonce_a: r.u64()?, incarnation: Incarnation(r.u32()?) }),
            t::VERSION => Self::Version { min: r.u8()?, max: r.u8()? },
            t::STALE_INCARNATION => Self::StaleIncarnation { current: Incarnation(r.u32()?) },
            t::SEAL => Self::Seal(SealOffer { session: r.u32()?, message: r.array()? }),
            t::SEAL_REFUSED => Self::SealRefused { reason: SealRefusal::of_code(r.u8()?) },
            t::ACK => Self::Ack(Ack { delay_us: r.varint()?, packets: some_ranges(r)? }),
            t::CREDIT => Self::Credit { bytes_total: r.varint()? },
            t::REQUEST_AGAIN | t::REQUEST_ONCE => {
                Self::Request { call: call_id(r)?, class: class_of(frame_type), body: r.rest() }
            }
            t::REQUEST_FRAGMENT_AGAIN | t::REQUEST_FRAGMENT_ONCE => Self::RequestFragment {
                call: call_id(r)?,
                class: class_of(frame_type),
                part: Fragment::decode(r)?,
            },
            t::REPLY => Self::Reply { call: call_id(r)?, body: r.rest() },
            t::REPLY_FRAGMENT => Self::ReplyFragment { call: call_id(r)?, part: Fragment::decode(r)? },
            t::CANCEL => Self::Cancel { call: call_id(r)? },
            t::FINISHED => Self::Finished { calls: some_ranges(r)? },
            t::CALL_REFUSED => Self::CallRefused { call: call_id(r)?, reason: CallRefusal::of_code(r.u8()?) },
            t::NOTICE => Self::Notice { body },
            _ => return Ok(None),
        }))
    }
}

fn class_of(frame_type: u8) -> Class {
    if matches!(frame_type, t::REQUEST_ONCE | t::REQUEST_FRAGMENT_ONCE) { Class::Once } else { Class::Again }
}

fn call_id(reader: &mut Reader<'_>) -> Result<CallId, CursorError> {
    reader.varint().map(CallId)
}

fn some_ranges<'a>(reader: &mut Reader<'a>) -> Result<Ranges<'a>, CursorError> {
    let ranges = Ranges::decode(reader)?;
    if ranges.is_empty() { Err(CursorError::Value) } else { Ok(ranges) }
}
