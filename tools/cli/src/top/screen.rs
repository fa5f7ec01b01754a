//! The terminal while `top` has it: a screen of its own, no echo, keys as they are pressed. Everything is put back
//! when it is dropped, also when the program panics.

use std::io::{self, Read as _, Write as _};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::CliError;
use crate::top::draw::Line;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What the reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Pause,
    Other,
}

/// The terminal.
pub(super) struct Screen {
    before: Option<Termios>,
    keys: Receiver<u8>,
    has_tones: bool,
}

impl Screen {
    /// Takes the terminal. Keys are heard only if stdin is one.
    pub(super) fn open() -> Result<Self, CliError> {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            // Signals stay: Ctrl-C ends this as it ends everything.
            quiet.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(io::stdin(), OptionalActions::Now, &quiet)
                .map_err(|error| CliError::io("taking the terminal", &error.into()))?;
        }
        let (send, keys) = channel();
        if before.is_some() {
            // It waits for a key for as long as the program runs.
            thread::spawn(move || {
                let mut byte = [0];
                while io::stdin().read_exact(&mut byte).is_ok() && send.send(byte[0]).is_ok() {}
            });
        }
        let has_tones = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        write(ENTER)?;
        Ok(Self { before, keys, has_tones })
    }

    /// A key that was pressed since.
    pub(super) fn key(&self) -> Option<Key> {
        self.keys.try_recv().ok().map(|byte| match byte {
            b'q' | b'Q' | 0x1b | 0x04 => Key::Quit,
            b' ' | b'p' => Key::Pause,
            _ => Key::Other,
        })
    }

    /// Shows these lines, as many and as much of each as there is room for.
    pub(super) fn show(&self, lines: &[Line]) -> Result<(), CliError> {
        let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) =
            size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let mut out = String::from("\x1b[H");
        for (place, line) in lines.iter().take(rows).enumerate() {
            if place > 0 {
                out.push_str("\r\n");
            }
            self.put(&mut out, line, columns);
            out.push_str("\x1b[K");
        }
        out.push_str("\x1b[J");
        write(&out)
    }

    fn put(&self, out: &mut String, line: &Line, columns: usize) {
        let mut left = columns;
        for (tone, word) in line {
            let cut: String = word.chars().take(left).collect();
            left -= cut.chars().count();
            if self.has_tones {
                out.push_str(&format!("\x1b[{}m{cut}\x1b[0m", tone.code()));
            } else {
                out.push_str(&cut);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CliError::io("writing to the terminal", &error))
}
