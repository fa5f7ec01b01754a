//! `top`: a live screen of the cluster.
//!
//! Every so often the nodes are asked for their status, as `status` asks. Two looks make a [`view::View`]: what each
//! node is, and how quickly its counters rise. [`draw`] makes lines of a view, [`screen`] shows them on the terminal
//! and hears the keys. When it ends, the last view stays on the terminal as plain text. Where stdout is no terminal
//! there is no screen: the views are printed one after the other.

mod draw;
mod screen;
mod view;

use std::time::{Duration, Instant};

use clap::Args;

use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::output::{self, Format};
use crate::reach::Reach;
use crate::status;
use crate::units::Span;

use screen::{Key, Screen};
use view::{Look, View};

/// How wide text is where nobody says.
const PLAIN_COLUMNS: usize = 120;
/// How many commit rates the curve shows.
const CURVE_LOOKS: usize = 60;

/// Watch the cluster: roles, rates, links and drops, until `q` or Ctrl-C. The last view stays on the terminal.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How often to look.
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    interval: Span,
    /// End after so many views; 0 is never, and 1 where stdout is no terminal.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
}

impl Top {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        if self.interval.0 < Duration::from_millis(50) {
            return Err(CliError::usage("--interval is at least 50ms: looking is work for the nodes, too"));
        }
        let interrupt = Interrupt::install()?;
        let first = look(reach)?;
        if format == Format::Terminal {
            return self.live(reach, first, &interrupt);
        }
        let mut last = first;
        let count = self.count.unwrap_or(1);
        let mut curve = Vec::new();
        for number in 1.. {
            if wait(self.interval.0, &interrupt, &mut || None) == Some(Key::Quit) {
                break;
            }
            let next = look(reach)?;
            let view = View::between(&last, &next, &mut curve, CURVE_LOOKS);
            if format.is_json() {
                format.event(&view)?;
            } else {
                output::write(&draw::plain(&draw::lines(&view, &reach.to_string()), PLAIN_COLUMNS))?;
            }
            last = next;
            if number == count {
                break;
            }
        }
        Ok(())
    }

    /// The screen, until a key or a signal ends it.
    fn live(&self, reach: &Reach, first: Look, interrupt: &Interrupt) -> Result<(), CliError> {
        let screen = Screen::open()?;
        let mut curve = Vec::new();
        let mut last = first;
        let mut view = View::between(&last, &last, &mut Vec::new(), CURVE_LOOKS);
        let mut is_paused = false;
        let mut shown = 0;
        let ended = loop {
            let mut lines = draw::lines(&view, &reach.to_string());
            lines.push(draw::keys(is_paused));
            if let Err(error) = screen.show(&lines) {
                break Err(error);
            }
            if self.count.is_some_and(|count| count > 0 && shown >= count) {
                break Ok(());
            }
            match wait(self.interval.0, interrupt, &mut || screen.key()) {
                Some(Key::Quit) => break Ok(()),
                Some(Key::Pause) => is_paused = !is_paused,
                Some(Key::Other) => {}
                None if is_paused => {}
                None => match look(reach) {
                    Ok(next) => {
                        view = View::between(&last, &next, &mut curve, CURVE_LOOKS);
                        last = next;
                        shown += 1;
                    }
                    Err(error) => break Err(error),
                },
            }
        };
        drop(screen);
        ended?;
        output::write(&draw::plain(&draw::lines(&view, &reach.to_string()), PLAIN_COLUMNS))
    }
}

fn look(reach: &Reach) -> Result<Look, CliError> {
    let at = Instant::now();
    let cluster = status::ask(reach)?;
    if cluster.nodes.iter().any(|row| row.reachable) || reach.named {
        return Ok(Look { at, cluster });
    }
    Err(CliError::new(Code::Unreachable, "no node answered")
        .at(reach)
        .after(at.elapsed())
        .hint("is a node running there? `raftgram cluster up` starts three; --cluster names others"))
}

/// Waits for a key or for the time to look again; a signal is the key that ends it.
fn wait(span: Duration, interrupt: &Interrupt, key: &mut dyn FnMut() -> Option<Key>) -> Option<Key> {
    let until = Instant::now() + span;
    loop {
        if interrupt.is_raised() {
            return Some(Key::Quit);
        }
        if let Some(key) = key() {
            return Some(key);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        // Short enough for fingers.
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}
