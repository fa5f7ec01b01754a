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

    /// Whether a healed cluster has come to rest: to be asked again until it has, or until
    /// [`rest_deadline`](super::invariant::rest_deadline) is over.
    ///
    /// # Errors
    /// What it still lacks, as a violation of the invariant that it would be after the deadline.
    pub fn at_rest(&self) -> Result<(), Violation> {
        self.invariants.at_rest(self.now, self.servers.iter().filter_map(Server::node))
    }

    /// Judges what only shows at the end: all that clients were told is at every node, and their whole history has an
    /// order.
    ///
    /// # Errors
    /// What is missing, or what was found before.
    pub fn conclude(&mut self) -> Result<(), Violation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        self.at_rest()?;
        self.recheck();
        let nodes = self.servers.iter().filter_map(Server::node);
        let judged = self.invariants.ended(self.now, nodes);
        self.judge(judged);
        self.violation.clone().map_or(Ok(()), Err)
    }
}
