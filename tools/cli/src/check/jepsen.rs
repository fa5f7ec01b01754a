//! Jepsen's log lines of one register: `INFO  jepsen.util - 0 :invoke :cas [1 2]`.

use raftgram::check::{Answer, Call, History};

use super::reader::{self, Event, Function, Kind, Malformed, Value};

const SOURCE: &str = "jepsen.util - ";

/// Reads a log. All lines are about one register, which has no name.
pub(super) fn read(text: &str) -> Result<History<Call, Answer>, Malformed> {
    reader::read(text, |line| {
        let (_, event) = line.split_once(SOURCE).ok_or("this is no line of jepsen.util")?;
        let mut words = event.split_whitespace();
        let mut word = || words.next().ok_or("a line has a process, a type, a function and a value");
        let (process, kind, function) = (word()?, word()?, word()?);
        let process = process.parse().map_err(|_| format!("`{process}` is no process number"))?;
        let kind = kind_of(kind).ok_or_else(|| format!("`{kind}` is no type of event"))?;
        let function = match function {
            ":read" => Function::Read,
            ":write" => Function::Write,
            ":cas" => Function::Cas,
            other => return Err(format!("`{other}` is no function of a register")),
        };
        let value = value(function, &words.collect::<Vec<_>>())?;
        Ok(Event { process, key: "register".to_owned(), kind, function, value })
    })
}

/// The type of an event as Clojure's keyword.
pub(super) fn kind_of(word: &str) -> Option<Kind> {
    match word {
        ":invoke" => Some(Kind::Invoke),
        ":ok" => Some(Kind::Ok),
        ":fail" => Some(Kind::Fail),
        ":info" => Some(Kind::Info),
        _ => None,
    }
}

fn value(function: Function, words: &[&str]) -> Result<Value, String> {
    let held = |word: &str| (word != "nil").then(|| word.to_owned());
    match (function, words) {
        // A reason instead of a value, such as `:timed-out`.
        (_, [word]) if word.starts_with(':') => Ok(Value::Unsaid),
        (Function::Cas, [old, new]) => match (old.strip_prefix('['), new.strip_suffix(']')) {
            (Some(old), Some(new)) => Ok(Value::Pair(held(old), held(new))),
            _ => Err(format!("`{old} {new}` is no pair of values")),
        },
        (Function::Read | Function::Write, [word]) => Ok(Value::Held(held(word))),
        (_, words) => Err(format!("`{}` is no value", words.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_with_tabs_or_spaces() {
        let log = "INFO  jepsen.util - 3\t:invoke\t:cas\t[1 nil]\n\
            INFO  jepsen.util - 3   :info   :cas    :timed-out\n\
            INFO  jepsen.util - 4\t:invoke\t:read\tnil\n\
            INFO  jepsen.util - 4\t:ok\t:read\t7\n";
        let shown: Vec<String> = read(log).unwrap().operations().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["[0..1] process 3: cas 1 absent -> unknown", "[2..3] process 4: read -> 7"]);
    }

    #[test]
    fn what_is_no_log_line_is_refused() {
        for (line, why) in [
            ("hello", "this is no line of jepsen.util"),
            ("jepsen.util - 1 :invoke", "a line has a process, a type, a function and a value"),
            ("jepsen.util - x :invoke :read nil", "`x` is no process number"),
            ("jepsen.util - 1 :begin :read nil", "`:begin` is no type of event"),
            ("jepsen.util - 1 :invoke :append 1", "`:append` is no function of a register"),
            ("jepsen.util - 1 :invoke :cas (1 2)", "`(1 2)` is no pair of values"),
            ("jepsen.util - 1 :invoke :write 1 2", "`1 2` is no value"),
        ] {
            assert_eq!(read(line).unwrap_err(), Malformed { line: 1, why: why.to_owned() });
        }
    }
}
