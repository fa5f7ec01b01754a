//! What a service manager hears: that the node has started, how it is, that it stops, and that it still lives.
//!
//! It is the protocol of `sd_notify`: without `NOTIFY_SOCKET` in the environment nothing happens. With a watchdog
//! (`WATCHDOG_USEC`) the sign of life depends on the node's loop, which is asked each time; so a loop that hangs ends
//! in a restart.

use std::io;
use std::thread;
use std::time::Duration;

use raftgram::handle::{Onlooker, WaitError};
use raftgram::wire::status::NodeStatus;
use sd_notify::NotifyState;
use slog::{Logger, warn};

/// How often the node's state is told.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells that the node runs, and from a thread of its own how it is.
pub(crate) fn started(onlooker: Onlooker, logger: &Logger) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!(logger, "the service manager cannot be told"; "error" => %error);
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Two signs of life fit the time after which a missing one counts.
    let pause = watchdog.map_or(PAUSE, |limit| PAUSE.min(limit / 2));
    let patience = pause.min(Duration::from_secs(2));
    let told = thread::Builder::new().name("supervise".to_owned()).spawn(move || {
        loop {
            let status = match onlooker.figures().wait(patience) {
                Ok(figures) => line(&figures.status),
                Err(WaitError::Gone) => "being founded, joining, or ending".to_owned(),
                Err(WaitError::TimedOut) => {
                    thread::sleep(pause);
                    continue;
                }
            };
            // When the manager has gone nobody is left to tell.
            let _ = tell(&status);
            thread::sleep(pause);
        }
    });
    if let Err(error) = told {
        warn!(logger, "the service manager is told no more"; "error" => %error);
    }
}

/// Tells that the node has been told to stop.
pub(crate) fn stopping() {
    // Without a manager there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(status)])
}

/// One line for `systemctl status`.
fn line(status: &NodeStatus) -> String {
    let leader = status.leader.map_or_else(|| "nobody".to_owned(), |leader| leader.to_string());
    format!(
        "{} in term {}, led by {leader}, applied {} of {}",
        status.role.name(),
        status.term.0,
        status.applied.0,
        status.last.0
    )
}
