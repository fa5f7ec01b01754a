//! Why a command failed: one value that becomes an exit code, a line for people or a JSON document.

use std::fmt;
use std::time::Duration;

use raftgram::wire::member::ChangeRefusal;
use serde::Serialize;

/// The kinds of failure that a script may tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something of this machine refused: a file, a socket, a child process.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Nobody answered.
    Unreachable,
    /// The time was up before anything was done.
    TimedOut,
    /// The time was up, and nobody knows whether it was done.
    OutcomeUnknown,
    /// A key or value is longer than the store takes.
    TooLarge,
    /// There is no such key.
    NotFound,
    /// A key does not hold what it was compared with.
    CompareFailed,
    /// The leader did not begin a change of the cluster, for the reason of this number.
    Change(u8),
    /// Nodes answered, and none of them leads.
    NoLeader,
    /// Bytes that were whole once are not.
    Corrupt,
    /// A property that was checked does not hold.
    Violation,
    /// It could not be shown whether it holds.
    Inconclusive,
    /// Stopped by a signal before the end.
    Interrupted,
}

impl Code {
    /// The process's exit code.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Self::Failed | Self::TooLarge => 1,
            Self::Usage => 2,
            Self::Unreachable | Self::TimedOut | Self::OutcomeUnknown => 3,
            Self::NotFound | Self::CompareFailed => 4,
            Self::NoLeader => 5,
            // The codes of what the reasons are kinds of: compare failed, not found, unreachable, no quorum.
            Self::Change(reason) => match ChangeRefusal::name_of(reason) {
                "version" | "unknown" => 4,
                "silent" | "unheard" => 3,
                "quorum-at-risk" => 5,
                _ => 1,
            },
            Self::Corrupt => 6,
            Self::Violation => 7,
            Self::Inconclusive => 8,
            Self::Interrupted => 130,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::TooLarge => "too-large",
            Self::NotFound => "not-found",
            Self::CompareFailed => "compare-failed",
            Self::Change(reason) => ChangeRefusal::name_of(reason),
            Self::NoLeader => "no-leader",
            Self::Corrupt => "corrupt",
            Self::Violation => "violation",
            Self::Inconclusive => "inconclusive",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A failure with everything known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CliError {
    pub(crate) code: Code,
    /// What failed and why, one lower-case line.
    pub(crate) message: String,
    /// The address or file it is about.
    pub(crate) address: Option<String>,
    /// How long was tried.
    pub(crate) elapsed: Option<Duration>,
    /// What to try.
    pub(crate) hint: Option<String>,
    /// Whether it was printed where it happened, and only its exit code is left to say.
    pub(crate) is_reported: bool,
}

impl CliError {
    /// A failure of this kind.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), address: None, elapsed: None, hint: None, is_reported: false }
    }

    /// A failure of this machine while doing `what`.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Code::Failed, format!("{what}: {error}"))
    }

    /// A wrong command line or configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Names the address or file.
    pub(crate) fn at(mut self, address: impl fmt::Display) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// Says how long was tried.
    pub(crate) const fn after(mut self, elapsed: Duration) -> Self {
        self.elapsed = Some(elapsed);
        self
    }

    /// Says what to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Leaves only the exit code to say.
    pub(crate) const fn already_reported(mut self) -> Self {
        self.is_reported = true;
        self
    }

    /// The failure as the document that `--json` prints.
    pub(crate) fn document(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Document {
            error: Fields,
        }
        #[derive(Serialize)]
        struct Fields {
            code: &'static str,
            message: String,
            address: Option<String>,
            elapsed_ms: Option<u64>,
            hint: Option<String>,
        }
        Document {
            error: Fields {
                code: self.code.name(),
                message: self.message.clone(),
                address: self.address.clone(),
                elapsed_ms: self.elapsed.map(|e| u64::try_from(e.as_millis()).unwrap_or(u64::MAX)),
                hint: self.hint.clone(),
            },
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: ")?;
        if let Some(address) = &self.address {
            write!(f, "{address}: ")?;
        }
        write!(f, "{}", self.message)?;
        if let Some(elapsed) = self.elapsed {
            write!(f, " (after {} ms)", elapsed.as_millis())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_row_in_the_index() {
        let index = include_str!("../../../docs/errors.md");
        let plain = [
            Code::Failed,
            Code::Usage,
            Code::Unreachable,
            Code::TimedOut,
            Code::OutcomeUnknown,
            Code::TooLarge,
            Code::NotFound,
            Code::CompareFailed,
            Code::NoLeader,
            Code::Corrupt,
            Code::Violation,
            Code::Inconclusive,
            Code::Interrupted,
        ];
        // The last of the reasons is that of a later version.
        let reasons =
            (1..).map(Code::Change).take_while(|code| code.name() != "other").chain([Code::Change(u8::MAX)]);
        for code in plain.into_iter().chain(reasons) {
            let row = format!("| {} | `{}` |", code.exit(), code.name());
            assert!(index.lines().any(|line| line.starts_with(&row)), "docs/errors.md has no row `{row}`");
        }
    }

    #[test]
    fn a_failure_says_where_how_long_and_what_to_try() {
        let error = CliError::new(Code::Failed, "no answer")
            .at("127.0.0.1:7101")
            .after(Duration::from_millis(5000))
            .hint("is the node running?");
        assert_eq!(
            error.to_string(),
            "error: 127.0.0.1:7101: no answer (after 5000 ms)\nhint: is the node running?"
        );
        let fields = r#""code":"failed","message":"no answer","address":"127.0.0.1:7101","elapsed_ms":5000"#;
        let expected = format!(r#"{{"error":{{{fields},"hint":"is the node running?"}}}}"#);
        assert_eq!(serde_json::to_string(&error.document()).unwrap(), expected);
    }
}
