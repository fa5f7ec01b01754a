//! Running the program, for tests of what it prints.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs the program to its end.
pub(crate) fn raftgram(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The program with an environment that sets nothing, and no input.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftgram"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RAFTGRAM_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit code and the one document on stdout.
pub(crate) fn json(output: &Output) -> (i32, Value) {
    let document = serde_json::from_slice(&output.stdout);
    let document =
        document.unwrap_or_else(|error| panic!("stdout is no JSON document ({error}): {output:?}"));
    (output.status.code().unwrap(), document)
}
