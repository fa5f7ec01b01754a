//! The state through the last entry of a folder, without a node: for a cluster that begins anew with what one survivor
//! of another has.

use super::snapshot::{self, LoadError, State};
use crate::entry::Payload;
use crate::machine::{Frozen, Machine};
use crate::session::Sessions;
use crate::store::{Disk, Survey};

/// Fills the machine from the folder's snapshot and applies all of its log, committed or not. What comes out is the
/// body of a snapshot, session table and all: a retry of a write that is in it gets its recorded result.
pub fn rebuild<M: Machine, D: Disk>(
    disk: &mut D,
    survey: &Survey,
    machine: &mut M,
) -> Result<Box<dyn Frozen>, LoadError> {
    let mut state = match &survey.snapshot {
        Some(file) => snapshot::load(disk, file, machine)?.state,
        None => State { since_mark: 0, sessions: Sessions::new() },
    };
    for entry in &survey.entries {
        if let Payload::Command(command) = &entry.payload {
            state.sessions.apply(entry.index, entry.term, command, machine);
        }
        let mark_bytes = state.sessions.mark_bytes(machine.state_bytes());
        State::passes_mark(&mut state.since_mark, entry, mark_bytes);
    }
    Ok(state.freeze(machine))
}
