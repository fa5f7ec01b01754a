//! As much of HTTP/1.1 as a browser, curl and Prometheus need: GET, no body, a bound on everything.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The most connections at a time; further ones are told to come back.
const CONNECTIONS_MAX: usize = 64;

/// The most bytes of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// How long a connection may take to bring its next request, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted: descriptors may be short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    query: &'a str,
}

impl<'a> Request<'a> {
    fn of(target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path, query }
    }

    /// The value of this key behind the question mark.
    pub(super) fn value(&self, key: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(k, v)| (k == key).then_some(v))
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Response {
    const TEXT: &str = "text/plain; charset=utf-8";

    pub(super) fn text(line: &str) -> Self {
        Self { status: "200 OK", content_type: Self::TEXT, body: format!("{line}\n") }
    }

    pub(super) fn page(html: &str) -> Self {
        Self { status: "200 OK", content_type: "text/html; charset=utf-8", body: html.to_owned() }
    }

    pub(super) fn metrics(body: String) -> Self {
        Self { status: "200 OK", content_type: "text/plain; version=0.0.4; charset=utf-8", body }
    }

    pub(super) fn json(document: &impl Serialize) -> Self {
        // Our documents have text keys and finite numbers only, so rendering cannot fail.
        let body = serde_json::to_string(document).unwrap_or_default();
        Self { status: "200 OK", content_type: "application/json", body }
    }

    pub(super) fn unavailable(why: &str) -> Self {
        Self { status: "503 Service Unavailable", ..Self::text(why) }
    }

    pub(super) fn not_found(what_there_is: &str) -> Self {
        Self { status: "404 Not Found", ..Self::text(what_there_is) }
    }

    pub(super) fn bad_request(why: &str) -> Self {
        Self { status: "400 Bad Request", ..Self::text(why) }
    }

    fn bytes(&self, body: Body, after: After) -> Vec<u8> {
        let connection = if after == After::Close { "close" } else { "keep-alive" };
        // The page may run its own script, speak to its own node, and nothing else.
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src \
             'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        match body {
            Body::Sent => [head.as_bytes(), self.body.as_bytes()].concat(),
            Body::LeftOut => head.into_bytes(),
        }
    }
}

/// Whether the answer's body goes out: HEAD asks for the rest only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Sent,
    LeftOut,
}

/// What happens to a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

/// Answers from threads of its own until the process ends.
pub(super) fn serve(
    listener: TcpListener,
    answer: impl Fn(&Request<'_>) -> Response + Send + Sync + 'static,
) -> io::Result<()> {
    let answer = Arc::new(answer);
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            let slot = Slot::take(&open);
            let answer = Arc::clone(&answer);
            // Without a thread the connection is closed, which says enough.
            let _ = thread::Builder::new().name("http-connection".to_owned()).spawn(move || match slot {
                Some(_slot) => converse(stream, &*answer),
                None => drop(turn_away(stream)),
            });
        }
    })?;
    Ok(())
}

/// The right to one connection.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let slot = (open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX).then(|| Self(Arc::clone(open)));
        if slot.is_none() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
        slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&Response::unavailable("too many connections").bytes(Body::Sent, After::Close))
}

/// Requests and answers until either side has enough.
fn converse(mut stream: TcpStream, answer: &dyn Fn(&Request<'_>) -> Response) {
    if stream.set_write_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    let mut unread = Vec::new();
    loop {
        // Closed, silent for too long, or broken: nobody is left to tell.
        let Ok(Some(head)) = read_head(&mut stream, &mut unread) else { return };
        let (response, body, after) = respond(&head, answer);
        if stream.write_all(&response.bytes(body, after)).is_err() || after == After::Close {
            return;
        }
    }
}

/// The bytes of the next request, up to its blank line; what came behind it stays in `unread`.
fn read_head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = unread.split_off(end + 4);
            return Ok(Some(std::mem::replace(unread, rest)));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        if unread.len() > REQUEST_BYTES_MAX {
            return Ok(Some(std::mem::take(unread)));
        }
        stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 2048];
        match stream.read(&mut bytes)? {
            0 => return Ok(None),
            count => unread.extend_from_slice(&bytes[..count]),
        }
    }
}

fn respond(head: &[u8], answer: &dyn Fn(&Request<'_>) -> Response) -> (Response, Body, After) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let is_whole = parsed.parse(head).is_ok_and(|status| status.is_complete());
    let (true, Some(method), Some(target)) = (is_whole, parsed.method, parsed.path) else {
        return (Response::bad_request("this is no HTTP request"), Body::Sent, After::Close);
    };
    let header = |name: &str| parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let closes = header("connection").is_some_and(|header| header.value.eq_ignore_ascii_case(b"close"));
    let has_body = header("transfer-encoding").is_some()
        || header("content-length").is_some_and(|header| header.value.trim_ascii() != b"0");
    let body = match method {
        "GET" => Body::Sent,
        "HEAD" => Body::LeftOut,
        _ => {
            let response = Response {
                status: "405 Method Not Allowed",
                ..Response::text("only GET and HEAD: nothing can be changed here")
            };
            return (response, Body::Sent, After::Close);
        }
    };
    let after = if closes || has_body || parsed.version == Some(0) { After::Close } else { After::Keep };
    (answer(&Request::of(target)), body, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> (String, Body, After) {
        let (response, body, after) = respond(head.as_bytes(), &|request| {
            Response::text(&format!("{} {:?}", request.path, request.value("after")))
        });
        (format!("{} {}", response.status, response.body.trim_end()), body, after)
    }

    #[test]
    fn a_request_is_a_path_and_values() {
        let get = asked("GET /strip?a=b&after=7 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(get, ("200 OK /strip Some(\"7\")".to_owned(), Body::Sent, After::Keep));
        let head = asked("HEAD / HTTP/1.1\r\nConnection: Close\r\n\r\n");
        assert_eq!(head, ("200 OK / None".to_owned(), Body::LeftOut, After::Close));
        assert_eq!(asked("GET / HTTP/1.0\r\n\r\n").2, After::Close);
        // What stands behind the head would be taken for the next request.
        assert_eq!(asked("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n").2, After::Close);
    }

    #[test]
    fn what_is_no_request_and_what_would_change_something_is_refused() {
        assert_eq!(asked("hello\r\n\r\n").0, "400 Bad Request this is no HTTP request");
        assert_eq!(asked(&"x".repeat(9000)).0, "400 Bad Request this is no HTTP request");
        let post = asked("POST /health HTTP/1.1\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(post.0, "405 Method Not Allowed only GET and HEAD: nothing can be changed here");
        assert_eq!(post.2, After::Close);
    }

    #[test]
    fn connections_are_counted_and_given_back() {
        let open = Arc::new(AtomicUsize::new(0));
        let taken: Vec<Option<Slot>> = (0..CONNECTIONS_MAX + 2).map(|_| Slot::take(&open)).collect();
        assert_eq!(taken.iter().filter(|slot| slot.is_none()).count(), 2);
        drop(taken);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}
