//! Ctrl-C and SIGTERM as something that a loop can ask about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{CliError, Code};

/// Becomes true at the first Ctrl-C or SIGTERM; the second ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over both signals. Only commands that ask `is_raised` may do this, or they could not be stopped.
    pub(crate) fn install() -> Result<Self, CliError> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set by the first.
            flag::register_conditional_shutdown(
                signal,
                i32::from(Code::Interrupted.exit()),
                Arc::clone(&raised),
            )
            .and_then(|_| flag::register(signal, Arc::clone(&raised)))
            .map_err(|error| CliError::io("taking over Ctrl-C", &error))?;
        }
        Ok(Self(raised))
    }

    /// True once a signal came.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
