//! As much of gRPC as two calls to etcd take: unary ones, over HTTP/2 without TLS, any number at once.
//!
//! etcd's clients speak gRPC. Its JSON gateway would be spoken with in fewer lines, but that translates each request
//! into a gRPC one and would charge etcd for it; and a whole gRPC stack is an asynchronous runtime and forty crates for
//! two messages of two fields. Written after RFC 9113 (frames), RFC 7541 (header fields, literal ones only) and
//! PROTOCOL-HTTP2 of gRPC. Header fields of answers are not decoded: an answer without a message is a failed call.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Flags; the first means *acknowledged* on settings and pings.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const FRAME_HEAD_BYTES: usize = 9;

/// The longest frame that a peer may send without having been told otherwise.
const FRAME_BYTES_MAX: usize = 16_384;

/// A message on the wire stands behind a byte that says whether it is compressed, and its length.
const MESSAGE_HEAD_BYTES: usize = 5;

/// The other end may send 65,535 bytes that were not acknowledged; after so many they are.
const WINDOW_STEP: usize = 16_384;

/// A connection, and the calls under way on it.
#[derive(Debug)]
pub(super) struct Connection {
    io: TcpStream,
    next: u32,
    /// The answers' bytes so far.
    calls: BTreeMap<u32, Vec<u8>>,
    partial: Vec<u8>,
    /// Bytes of data that were not acknowledged.
    taken: usize,
}

/// A call that ended: its number, and the answer's message unless it failed.
pub(super) type Answered = (u32, Option<Vec<u8>>);

impl Connection {
    pub(super) fn open(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let mut io = TcpStream::connect_timeout(&to, patience)?;
        io.set_nodelay(true)?;
        io.set_write_timeout(Some(patience))?;
        io.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())?;
        Ok(Self { io, next: 1, calls: BTreeMap::new(), partial: Vec::new(), taken: 0 })
    }

    /// Begins a call. Messages are short and few at once, so that no window of the other end is ever full.
    pub(super) fn begin(&mut self, path: &str, message: &[u8]) -> io::Result<u32> {
        let id = self.next;
        self.next += 2;
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let body = [&[0], &length[..], message].concat();
        let head = frame(HEADERS, END_HEADERS, id, &header_fields(path));
        self.io.write_all(&[head, frame(DATA, END_STREAM, id, &body)].concat())?;
        self.calls.insert(id, Vec::new());
        Ok(id)
    }

    /// Waits up to `wait` for something to come; gives the calls that ended by then.
    pub(super) fn poll(&mut self, wait: Duration) -> io::Result<Vec<Answered>> {
        self.io.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = [0; FRAME_BYTES_MAX];
        match self.io.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(count) => self.partial.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        let mut ended = Vec::new();
        let mut replies = Vec::new();
        let partial = std::mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        while let Some((frame, after)) = first_frame(rest) {
            self.take(frame, &mut ended, &mut replies)?;
            rest = after;
        }
        self.partial = rest.to_vec();
        if self.taken >= WINDOW_STEP {
            let step = u32::try_from(self.taken).unwrap_or(u32::MAX).to_be_bytes();
            replies.extend(frame(WINDOW_UPDATE, 0, 0, &step));
            self.taken = 0;
        }
        self.io.write_all(&replies)?;
        Ok(ended)
    }

    /// One call from begin to end; none when it failed or took too long.
    pub(super) fn call(
        &mut self,
        path: &str,
        message: &[u8],
        patience: Duration,
    ) -> io::Result<Option<Vec<u8>>> {
        let id = self.begin(path, message)?;
        let began = std::time::Instant::now();
        while let Some(left) = patience.checked_sub(began.elapsed()) {
            if let Some((_, answer)) = self.poll(left)?.into_iter().find(|(ended, _)| *ended == id) {
                return Ok(answer);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn take(&mut self, came: Frame<'_>, ended: &mut Vec<Answered>, replies: &mut Vec<u8>) -> io::Result<()> {
        let Frame { kind, flags, stream, payload } = came;
        match kind {
            DATA => {
                self.taken += payload.len();
                if let Some(body) = self.calls.get_mut(&stream) {
                    body.extend_from_slice(payload);
                }
            }
            // The first has the status of HTTP, the last one gRPC's.
            HEADERS if flags & END_STREAM != 0 => {
                let body = self.calls.remove(&stream);
                ended.extend(body.map(|body| (stream, body.get(MESSAGE_HEAD_BYTES..).map(<[u8]>::to_vec))));
            }
            RST_STREAM => ended.extend(self.calls.remove(&stream).map(|_| (stream, None))),
            SETTINGS if flags == 0 => replies.extend(frame(SETTINGS, 1, 0, &[])),
            PING if flags == 0 => replies.extend(frame(PING, 1, 0, payload)),
            GOAWAY => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
        Ok(())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A frame as it came.
#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// The frame that these bytes begin with, and what comes after it.
fn first_frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(FRAME_HEAD_BYTES)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
    let (payload, after) = rest.split_at_checked(length)?;
    Some((Frame { kind: head[3], flags: head[4], stream, payload }, after))
}

/// Of a call to this path: two of the static table whole, three by their names in it, one in letters.
fn header_fields(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let (post, http) = (0x83, 0x86);
    let (authority, path_name, content_type) = ([0x01], [0x04], [0x0f, 0x10]);
    [
        &[post, http],
        &path_name[..],
        &text(path),
        &authority,
        &text("etcd"),
        &content_type,
        &text("application/grpc"),
        &[0],
        &text("te"),
        &text("trailers"),
    ]
    .concat()
}

/// A field of a message that is bytes or a text.
pub(super) fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by their numbers; none if it is no message.
pub(super) fn fields(mut message: &[u8]) -> Option<BTreeMap<u64, Field<'_>>> {
    let mut fields = BTreeMap::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        fields.insert(tag >> 3, field);
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn fields_read_back_whatever_their_length() {
        let long = vec![7; 300];
        let message = [bytes_field(1, b"key"), bytes_field(2, &long), vec![3 << 3, 0x96, 0x01]].concat();
        let read = fields(&message).unwrap();
        assert_eq!(read[&1], Field::Bytes(b"key"));
        assert_eq!(read[&2], Field::Bytes(&long));
        assert_eq!(read[&3], Field::Number(150));
        for cut in 1..message.len() {
            // What is cut within a field is no message; nothing panics.
            let _ = fields(&message[..cut]);
        }
    }

    #[test]
    fn a_call_ends_with_its_message_or_without_one_and_pings_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut io = listener.accept().unwrap().0;
            let answer = [
                frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
                frame(HEADERS, END_HEADERS, 1, &[0x88]),
                frame(DATA, 0, 1, &[0, 0, 0, 0, 2, 8]),
                frame(DATA, 0, 1, &[5]),
                frame(PING, 0, 0, b"12345678"),
                frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x88]),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]),
            ];
            io.write_all(&answer.concat()).unwrap();
            let mut all = Vec::new();
            io.read_to_end(&mut all).unwrap();
            all
        });
        let mut connection = Connection::open(address, Duration::from_secs(9)).unwrap();
        assert_eq!(connection.begin("/a/B", b"one").unwrap(), 1);
        assert_eq!(connection.begin("/a/B", b"two").unwrap(), 3);
        let mut ended = Vec::new();
        while ended.len() < 2 {
            ended.extend(connection.poll(Duration::from_millis(20)).unwrap());
        }
        assert_eq!(ended, [(3, None), (1, Some(vec![8, 5]))]);
        drop(connection);
        let said = server.join().unwrap();
        assert!(said.starts_with(PREFACE));
        let pong = frame(PING, 1, 0, b"12345678");
        assert!(said.windows(pong.len()).any(|window| window == pong));
    }
}
