//! The logger: lines on stderr, so that stdout holds data only. Written by a thread of its own, so that a slow
//! terminal never holds up a heartbeat.

use slog::{Drain as _, Level, LevelFilter, Logger};
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

impl std::fmt::Display for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As it is written on the command line.
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("info", |value| value.get_name()))
    }
}

/// A logger at this level. Its guard writes what is queued when it is dropped.
pub(crate) fn logger(level: LogLevel) -> (Logger, slog_async::AsyncGuard) {
    let level = match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let decorator = slog_term::TermDecorator::new().stderr();
    let decorator = if is_plain { decorator.force_plain() } else { decorator };
    let format = slog_term::FullFormat::new(decorator.build()).use_utc_timestamp().build().fuse();
    // A log that cannot be written is dropped and counted, never waited for.
    let (queue, guard) = slog_async::Async::new(LevelFilter::new(format, level).fuse())
        .chan_size(4096)
        .overflow_strategy(OverflowStrategy::DropAndReport)
        .thread_name("log".to_owned())
        .build_with_guard();
    (Logger::root(queue.fuse(), slog::o!()), guard)
}
