//! Porcupine's records of a text store: `{:process 0, :type :ok, :f :get, :key "7", :value "x"}`.

use raftgram::check::{Answer, Call, History};

use super::jepsen::kind_of;
use super::reader::{self, Event, Function, Malformed, Value};

/// Reads a history of get, put and append.
pub(super) fn read(text: &str) -> Result<History<Call, Answer>, Malformed> {
    reader::read(text, |line| {
        let mut rest = line
            .trim()
            .strip_prefix('{')
            .and_then(|line| line.strip_suffix('}'))
            .ok_or("this is no record in braces")?;
        let process = field(&mut rest, ":process ")?;
        let process = process.parse().map_err(|_| format!("`{process}` is no process number"))?;
        let kind = field(&mut rest, ":type ")?;
        let kind = kind_of(kind).ok_or_else(|| format!("`{kind}` is no type of event"))?;
        let function = match field(&mut rest, ":f ")? {
            ":get" => Function::Read,
            ":put" => Function::Write,
            ":append" => Function::Append,
            other => return Err(format!("`{other}` is no function of a text store")),
        };
        let key = text_of(field(&mut rest, ":key ")?)?.ok_or("`nil` is no key")?;
        let value = match field(&mut rest, ":value ")? {
            reason if reason.starts_with(':') => Value::Unsaid,
            value => Value::Held(text_of(value)?),
        };
        if !rest.is_empty() {
            return Err(format!("`{rest}` follows the value"));
        }
        Ok(Event { process, key, kind, function, value })
    })
}

/// Takes the field with this name off the front of a record.
fn field<'a>(rest: &mut &'a str, name: &str) -> Result<&'a str, String> {
    let missing = || format!("`{}` is missing", name.trim());
    let value = rest.strip_prefix(name).ok_or_else(missing)?;
    let end = match value.strip_prefix('"') {
        Some(inner) => inner.find('"').map(|end| end + 2).ok_or("a text has no end")?,
        None => value.find(',').unwrap_or(value.len()),
    };
    let after = &value[end..];
    *rest = after.strip_prefix(", ").unwrap_or(after);
    Ok(&value[..end])
}

/// The content of a quoted text, or none for `nil`.
fn text_of(value: &str) -> Result<Option<String>, String> {
    if value == "nil" {
        return Ok(None);
    }
    match value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Ok(Some(inner.to_owned())),
        Some(_) => Err("escapes in texts are not understood".to_owned()),
        None => Err(format!("`{value}` is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: &str = "{:process 0, :type :invoke, :f :put, :key \"a, b\", :value \"x 0 y\"}";

    #[test]
    fn records_are_read() {
        let lines = [PUT, "{:process 1, :type :invoke, :f :get, :key \"\", :value nil}"].join("\n") + "\n";
        let history = read(&lines).unwrap();
        assert_eq!(history.operations()[0].key, "a, b");
        assert_eq!(history.operations()[0].call, Call::Write("x 0 y".to_owned()));
        assert_eq!(history.operations()[1].call, Call::Read);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (from, to, why) in [
            ("{", "(", "this is no record in braces"),
            (":process 0", ":process x", "`x` is no process number"),
            (":type", ":kind", "`:type` is missing"),
            (":invoke", ":start", "`:start` is no type of event"),
            (":put", ":cas", "`:cas` is no function of a text store"),
            ("\"a, b\"", "nil", "`nil` is no key"),
            ("0 y\"}", "0 y}", "a text has no end"),
            ("\"x 0 y\"", "7", "`7` is no text"),
            ("0 y", "0\\ty", "escapes in texts are not understood"),
            ("\"}", "\", :more 1}", "`:more 1` follows the value"),
        ] {
            let line = PUT.replacen(from, to, 1);
            assert_eq!(read(&line).unwrap_err(), Malformed { line: 1, why: why.to_owned() }, "{line}");
        }
    }
}
