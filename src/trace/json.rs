//! The part of JSON that a trace needs: objects, lists, texts, whole numbers, true, false, null.

use core::fmt::{self, Write};

/// Why a line is no part of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It is no JSON of the kind that traces are written in.
    NotJson {
        /// The byte where that shows, from 0 on.
        at: usize,
    },
    /// A field that its event needs is not there.
    Missing {
        /// The field's name.
        field: String,
    },
    /// A field that its event does not have, or has already.
    Unknown {
        /// The field's name.
        field: String,
    },
    /// A field holds something that it cannot.
    Wrong {
        /// The field's name.
        field: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// There is no event of this name.
    UnknownEvent {
        /// The name.
        name: String,
    },
    /// The file has a schema that this version does not read.
    Schema {
        /// Its number.
        found: u64,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { at } => write!(f, "no JSON object as traces hold: see byte {at} of the line"),
            Self::Missing { field } => write!(f, "`{field}` is missing"),
            Self::Unknown { field } => write!(f, "`{field}` is no field of this event, or stands here twice"),
            Self::Wrong { field, expected } => write!(f, "`{field}` is not {expected}"),
            Self::UnknownEvent { name } => write!(f, "there is no event `{name}`"),
            Self::Schema { found } => write!(f, "schema {found} is not known here"),
        }
    }
}

impl core::error::Error for Malformed {}

/// Writes the fields of one object.
pub(super) struct Object<'a> {
    out: &'a mut dyn Write,
    has_fields: bool,
}

impl<'a> Object<'a> {
    /// Writes an object whose fields `fill` writes.
    pub(super) fn write(
        out: &'a mut dyn Write,
        fill: impl FnOnce(&mut Object<'_>) -> fmt::Result,
    ) -> fmt::Result {
        out.write_char('{')?;
        let mut object = Object { out, has_fields: false };
        fill(&mut object)?;
        object.out.write_char('}')
    }

    /// Begins a field and gives the place for its value.
    pub(super) fn field(&mut self, name: &str) -> Result<&mut dyn Write, fmt::Error> {
        if self.has_fields {
            self.out.write_char(',')?;
        }
        self.has_fields = true;
        write_text(self.out, name)?;
        self.out.write_char(':')?;
        Ok(self.out)
    }

    pub(super) fn number(&mut self, name: &str, number: u64) -> fmt::Result {
        write!(self.field(name)?, "{number}")
    }

    /// A number or null.
    pub(super) fn number_or_null(&mut self, name: &str, number: Option<u64>) -> fmt::Result {
        match number {
            Some(number) => self.number(name, number),
            None => self.field(name)?.write_str("null"),
        }
    }

    /// Something that prints as text without anything to escape.
    pub(super) fn plain(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        write!(self.field(name)?, "\"{value}\"")
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> fmt::Result {
        write_text(self.field(name)?, text)
    }

    pub(super) fn object(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut Object<'_>) -> fmt::Result,
    ) -> fmt::Result {
        Object::write(self.field(name)?, fill)
    }

    /// A list of whatever `write` writes of each item.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut dyn Write, T) -> fmt::Result,
    ) -> fmt::Result {
        let out = self.field(name)?;
        out.write_char('[')?;
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                out.write_char(',')?;
            }
            write(out, item)?;
        }
        out.write_char(']')
    }
}

fn write_text(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            // Line separators are legal in JSON and end a line for some readers all the same.
            control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                write!(out, "\\u{:04x}", u32::from(control))?;
            }
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}

/// A value as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// How deep values may lie in each other: a trace's own lie at most five deep.
const DEPTH_MAX: usize = 8;

/// Reads a line.
pub(super) fn parse(line: &str) -> Result<Json, Malformed> {
    let mut parser = Parser { text: line, at: 0 };
    let read = parser.value(0).filter(|_| {
        parser.skip_blanks();
        parser.at == line.len()
    });
    read.ok_or(Malformed::NotJson { at: parser.at })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Option<Json> {
        self.skip_blanks();
        match self.peek()? {
            b'{' if depth < DEPTH_MAX => self.fields(depth + 1).map(Json::Object),
            b'[' if depth < DEPTH_MAX => self.items(depth + 1).map(Json::List),
            b'"' => self.string().map(Json::Text),
            b'0'..=b'9' => self.number().map(Json::Number),
            _ => self.literal(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there.then_some(())
    }

    fn literal(&mut self) -> Option<Json> {
        let literals = [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
        let rest = &self.text[self.at..];
        let (name, value) = literals.into_iter().find(|(name, _)| rest.starts_with(name))?;
        self.at += name.len();
        Some(value)
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.text[self.at..].bytes().take_while(u8::is_ascii_digit).count();
        let text = &self.text[self.at..self.at + digits];
        let is_canonical = digits == 1 || !text.starts_with('0');
        let number = text.parse().ok().filter(|_| is_canonical)?;
        self.at += digits;
        Some(number)
    }

    fn items(&mut self, depth: usize) -> Option<Vec<Json>> {
        self.take(b'[')?;
        let mut items = Vec::new();
        if self.take(b']').is_some() {
            return Some(items);
        }
        loop {
            items.push(self.value(depth)?);
            if self.take(b']').is_some() {
                return Some(items);
            }
            self.take(b',')?;
        }
    }

    fn fields(&mut self, depth: usize) -> Option<Vec<(String, Json)>> {
        self.take(b'{')?;
        let mut fields = Vec::new();
        if self.take(b'}').is_some() {
            return Some(fields);
        }
        loop {
            self.skip_blanks();
            let name = self.string()?;
            self.take(b':')?;
            fields.push((name, self.value(depth)?));
            if self.take(b'}').is_some() {
                return Some(fields);
            }
            self.take(b',')?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(text);
                }
                b'\\' => text.push(self.escape()?),
                _ => return None,
            }
        }
    }

    /// One escaped character; of pairs of surrogates, which no trace holds, neither half is one.
    fn escape(&mut self) -> Option<char> {
        let escaped = *self.text.as_bytes().get(self.at + 1)?;
        let short = match escaped {
            b'"' | b'\\' | b'/' => char::from(escaped),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let digits = self.text.get(self.at + 2..self.at + 6)?;
                let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
                self.at += 4;
                char::from_u32(code)?
            }
            _ => return None,
        };
        self.at += 2;
        Some(short)
    }
}
