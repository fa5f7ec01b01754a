//! Recorded losses, replayed.

use std::path::Path;
use std::sync::Arc;

use crate::error::{CliError, Code};
use crate::output::file_error;

/// For each datagram in order, whether it was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Losses(Arc<[bool]>);

impl Losses {
    pub(crate) fn read(file: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(file).map_err(|error| file_error(file, "reading", &error))?;
        Self::parse(&text).map_err(|why| CliError::new(Code::Usage, why).at(file.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#')) {
            for sign in line.chars().filter(|sign| !sign.is_whitespace()) {
                all.push(match sign {
                    '0' => false,
                    '1' => true,
                    other => {
                        return Err(format!("line {number}: `{other}` is neither 0, arrived, nor 1, lost"));
                    }
                });
            }
        }
        if all.is_empty() { Err("it holds no 0 and no 1".to_owned()) } else { Ok(Self(all.into())) }
    }

    /// From its begin on.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { losses: Arc::clone(&self.0), next: 0 }
    }
}

/// How far one way of one session has come in a record.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    losses: Arc<[bool]>,
    next: usize,
}

impl Cursor {
    /// Whether the next datagram is lost.
    pub(crate) fn next_is_lost(&mut self) -> bool {
        let is_lost = self.losses[self.next];
        self.next = (self.next + 1) % self.losses.len();
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_again_at_its_end() {
        let mut cursor = Losses::parse("# a walk through the hall\n0 1\n1\n").unwrap().cursor();
        let lost: Vec<bool> = (0..7).map(|_| cursor.next_is_lost()).collect();
        assert_eq!(lost, [false, true, true, false, true, true, false]);
    }

    #[test]
    fn what_is_no_record_says_where() {
        assert_eq!(Losses::parse("01\n0x1").unwrap_err(), "line 2: `x` is neither 0, arrived, nor 1, lost");
        assert_eq!(Losses::parse("#\n").unwrap_err(), "it holds no 0 and no 1");
    }
}
