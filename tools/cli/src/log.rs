//! The logger: lines on stderr, so that stdout holds data only. Written by a thread of its own, so that a slow
//! terminal never holds up a heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};
use slog_async::OverflowStrategy;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON document a line: ts, level, msg, and what belongs to the message.
    Json,
}

impl std::fmt::Display for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        written(self, f)
    }
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        written(self, f)
    }
}

/// As it is written on the command line.
fn written(value: &impl clap::ValueEnum, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    value.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    fn of_slog(self) -> Level {
        match self {
            Self::Error => Level::Error,
            Self::Warn => Level::Warning,
            Self::Info => Level::Info,
            Self::Debug => Level::Debug,
            Self::Trace => Level::Trace,
        }
    }
}

/// What a command line says about the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSettings {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

/// Which way a level is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// One level more is logged.
    Up,
    /// One level less.
    Down,
}

/// The level of a logger, to be changed while it is used.
#[derive(Clone, Debug)]
pub(crate) struct Dial(Arc<AtomicUsize>);

impl Dial {
    fn new(level: LogLevel) -> Self {
        let place = LogLevel::ALL.into_iter().position(|it| it == level).unwrap_or_default();
        Self(Arc::new(AtomicUsize::new(place)))
    }

    /// The level at this moment.
    pub(crate) fn level(&self) -> LogLevel {
        LogLevel::ALL[self.0.load(Ordering::Relaxed)]
    }

    /// Logs one level more or less, where there is one, and returns the new level.
    pub(crate) fn turn(&self, turn: Turn) -> LogLevel {
        let place = self.0.load(Ordering::Relaxed);
        let place = match turn {
            Turn::Up => (place + 1).min(LogLevel::ALL.len() - 1),
            Turn::Down => place.saturating_sub(1),
        };
        self.0.store(place, Ordering::Relaxed);
        LogLevel::ALL[place]
    }
}

/// Lets pass what the dial says. It stands before the queue, so that what is not wanted costs no place in it.
struct Dialled<D> {
    drain: D,
    dial: Dial,
}

impl<D: Drain<Ok = (), Err = Never>> Drain for Dialled<D> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if record.level().is_at_least(self.dial.level().of_slog()) {
            self.drain.log(record, values)
        } else {
            Ok(())
        }
    }
}

/// A logger, the dial of its level, and a guard that writes what is queued when it is dropped.
pub(crate) fn logger(settings: LogSettings) -> (Logger, Dial, slog_async::AsyncGuard) {
    let dial = Dial::new(settings.level);
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let decorator = slog_term::TermDecorator::new().stderr();
    let decorator = if is_plain { decorator.force_plain() } else { decorator };
    let (queue, guard) = match settings.format {
        LogFormat::Text => {
            queue(slog_term::FullFormat::new(decorator.build()).use_utc_timestamp().build().ignore_res())
        }
        LogFormat::Json => {
            let json = slog_json::Json::new(std::io::stderr()).set_flush(true).add_default_keys();
            queue(json.build().ignore_res())
        }
    };
    let dialled = Dialled { drain: queue.fuse(), dial: dial.clone() };
    (Logger::root(dialled, slog::o!()), dial, guard)
}

/// A log that cannot be written is dropped and counted, never waited for.
fn queue(
    drain: impl Drain<Ok = (), Err = Never> + Send + 'static,
) -> (slog_async::Async, slog_async::AsyncGuard) {
    slog_async::Async::new(drain)
        .chan_size(4096)
        .overflow_strategy(OverflowStrategy::DropAndReport)
        .thread_name("log".to_owned())
        .build_with_guard()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dial_turns_level_by_level_and_stops_at_both_ends() {
        let dial = Dial::new(LogLevel::Warn);
        let turned = [Turn::Down, Turn::Down, Turn::Up, Turn::Up, Turn::Up, Turn::Up, Turn::Up]
            .map(|it| dial.turn(it));
        let expected = [
            LogLevel::Error,
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
            LogLevel::Trace,
        ];
        assert_eq!(turned, expected);
        assert_eq!(dial.level(), LogLevel::Trace);
    }
}
