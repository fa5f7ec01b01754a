//! Where the simulation is judged as a whole; single events are where they happen.

use super::invariant::Violation;
use super::server::Server;
use super::simulation::Simulation;
use crate::machine::Machine;

/// How many events there are between two looks at everything.
pub(super) const RECHECK_EVERY: u64 = 1_000;

impl<M: Machine> Simulation<M> {
    /// The first violation ends the run.
    pub(super) fn judge(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.violation = Some(violation);
        }
    }

    /// Looks at everything anew.
    pub(super) fn recheck(&mut self) {
        self.recheck_at = self.events + RECHECK_EVERY;
        let nodes = self.servers.iter().filter_map(Server::node);
        let judged = self.invariants.recheck(self.now, nodes);
        self.judge(judged);
        let Some(id) = self.invariants.reopens() else { return };
        let Some(server) = self.servers.iter().find(|server| server.id == id) else { return };
        let options = self.settings.open_options();
        let judged = server.disk.with(|disk| self.invariants.reopen(self.now, id, disk, &options));
        self.judge(judged);
    }
}
