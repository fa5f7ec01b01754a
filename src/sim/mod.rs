//! Many nodes and one virtual clock.

mod agenda;
mod clients;
mod clock;
mod faults;
pub mod invariant;
mod judging;
mod lifecycle;
mod network;
mod plan;
mod report;
mod run;
mod script;
mod server;
mod settings;
mod simulation;
mod storage;
pub mod workload;

pub use clients::Ended;
pub use faults::{Fault, FaultSet, UnknownFault};
pub use invariant::Violation;
pub use network::End;
pub use report::{Counts, Report};
pub use run::{Config, run};
pub use server::{Crash, Down};
pub use settings::{NODES_MAX, Settings};
pub use simulation::Simulation;
pub use storage::DiskProfile;
