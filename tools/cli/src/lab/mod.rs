//! Experiments: a scenario runs on the simulator or on node processes, and leaves a folder that reports are made of.

pub(crate) mod run_folder;
