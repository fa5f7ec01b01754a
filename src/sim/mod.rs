//! Many nodes and one virtual clock.

mod agenda;
mod clients;
mod clock;
pub mod invariant;
mod judging;
mod lifecycle;
mod network;
mod script;
mod server;
mod settings;
mod simulation;
mod storage;

pub use clients::Ended;
pub use invariant::Violation;
pub use network::End;
pub use server::{Crash, Down};
pub use settings::{NODES_MAX, Settings};
pub use simulation::Simulation;
pub use storage::DiskProfile;
