//! Keys as they stand in a file: `cluster HEX` or `client HEX`, one a line.

use core::fmt;

use crate::seal::secret::Secret;
use crate::seal::session::SessionId;

/// The most keys of one file; a rotation needs two of each kind.
pub const KEYS_MAX: usize = 64;

/// What the holder of a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// A node; or a client that may do whatever a node may ask for.
    Cluster,
    /// A client, and nothing else.
    Client,
}

impl KeyRole {
    /// Its word in a key file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Client => "client",
        }
    }
}

/// One key of a file.
#[derive(Clone, Debug)]
pub struct Key {
    /// What its holder may be.
    pub role: KeyRole,
    /// The key.
    pub secret: Secret,
}

/// What is wrong with a key file, without a word of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFileError {
    /// Counted from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong there.
    pub fault: KeyFault,
}

/// What is wrong with a line of a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// It begins with neither `cluster` nor `client`.
    UnknownRole,
    /// The key is not 64 hexadecimal digits.
    NotHex,
    /// The same key, or one that cannot be told from it, stood before.
    Twice,
    /// There are no keys in it.
    Empty,
    /// There are more than [`KEYS_MAX`].
    TooMany,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        match self.fault {
            KeyFault::UnknownRole => f.write_str("a key begins with `cluster` or `client`"),
            KeyFault::NotHex => f.write_str("a key is 64 hexadecimal digits"),
            KeyFault::Twice => f.write_str("this key stands there twice"),
            KeyFault::Empty => f.write_str("there is no key in it"),
            KeyFault::TooMany => write!(f, "more than {KEYS_MAX} keys"),
        }
    }
}

impl core::error::Error for KeyFileError {}

/// The keys of a file's text: a line each, `#` begins a comment.
pub fn parse_keys(text: &str) -> Result<Vec<Key>, KeyFileError> {
    let mut keys: Vec<Key> = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let fault = |fault| KeyFileError { line: place + 1, fault };
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (role, hex) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let role = [KeyRole::Cluster, KeyRole::Client].into_iter().find(|known| known.name() == role);
        let role = role.ok_or(fault(KeyFault::UnknownRole))?;
        let secret = parse_secret(hex.trim()).ok_or(fault(KeyFault::NotHex))?;
        if keys.iter().any(|known| known.secret.expose() == secret.expose()) {
            return Err(fault(KeyFault::Twice));
        }
        if keys.len() == KEYS_MAX {
            return Err(fault(KeyFault::TooMany));
        }
        keys.push(Key { role, secret });
    }
    if keys.is_empty() { Err(KeyFileError { line: 0, fault: KeyFault::Empty }) } else { Ok(keys) }
}

/// The lines `session ID HEX` of a key log, among which keys may stand. Lines of another form are passed over: a log
/// may end in the middle of one.
#[must_use]
pub fn parse_sessions(text: &str) -> Vec<(SessionId, Secret)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (Some("session"), Some(id), Some(hex)) = (words.next(), words.next(), words.next()) else {
            return None;
        };
        let id = u32::from_str_radix(id, 16).ok().and_then(|id| SessionId::parse(id).ok())?;
        Some((id, parse_secret(hex)?))
    };
    text.lines().filter_map(line).collect()
}

/// A session's line of a key log.
#[must_use]
pub fn format_session(id: SessionId, secret: &Secret) -> String {
    let mut line = format!("session {:08x} ", id.0);
    // As much as it will hold: what a text leaves behind when it grows would not be wiped.
    line.reserve_exact(65);
    put_hex(&mut line, secret);
    line
}

fn parse_secret(hex: &str) -> Option<Secret> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| (digit as char).to_digit(16);
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Some(Secret::new(bytes))
}

/// A key's line, for a new file. The text is as secret as the key.
#[must_use]
pub fn format_key(key: &Key) -> String {
    let mut line = String::with_capacity(80);
    line.push_str(key.role.name());
    line.push(' ');
    put_hex(&mut line, &key.secret);
    line
}

fn put_hex(line: &mut String, secret: &Secret) {
    for byte in secret.expose() {
        for digit in [byte >> 4, byte & 15] {
            line.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    line.push('\n');
}
