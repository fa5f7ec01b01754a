//! The raftgram command line: parse, run, map the failure to an exit code.

// libFuzzer brings its own, see `fuzz`.
#![cfg_attr(fuzzing, no_main)]

mod address;
mod backup;
mod beacon;
mod bench;
mod check;
mod cli;
mod cluster;
mod config;
mod diagram;
mod discover;
mod docs;
mod doctor;
mod error;
mod fault;
mod faults;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod http;
mod inspect;
mod interrupt;
mod key;
mod kv;
mod lab;
mod leader;
mod log;
mod member;
mod node;
mod output;
mod picture;
mod proxy;
mod reach;
mod recover;
mod sim;
mod snapshot;
mod status;
mod supervise;
mod tempo;
mod top;
mod trace;
mod units;
mod wire;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::cli::{Cli, Command, ConfigCommand};
use crate::error::{CliError, Code};
use crate::output::{Format, Json};

/// The C library's frees a gibibyte of state under locks that the loop waits for, 0.1 s and more, and keeps buffers as
/// large as a log segment: `cargo bench --bench stall`.
#[cfg(all(target_os = "linux", not(fuzzing)))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg_attr(fuzzing, expect(dead_code, reason = "libFuzzer begins elsewhere"))]
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (format, error) = *failure;
            format.failure(&error);
            ExitCode::from(error.code.exit())
        }
    }
}

fn run(arguments: &[OsString]) -> Result<(), Box<(Format, CliError)>> {
    let guess = Format::choose(json_asked_for(arguments));
    let file = config::File::load(arguments).map_err(|error| Box::new((guess, error)))?;
    let mut tree = file.layer(Cli::command()).map_err(|error| Box::new((guess, error)))?;
    let parsed = tree.try_get_matches_from_mut(arguments);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return answer_or_usage(&error, guess).map_err(|error| Box::new((guess, error))),
    };
    let format = cli.global.format();
    dispatch(cli, &file, &tree, &matches).map_err(|error| Box::new((format, error)))
}

fn dispatch(
    cli: Cli,
    file: &config::File,
    tree: &clap::Command,
    matches: &ArgMatches,
) -> Result<(), CliError> {
    let format = cli.global.format();
    let log = cli.global.log();
    let reach = cli.global.reach();
    let key_file = cli.global.key_file().map(Path::to_path_buf);
    // Kept to the end: dropping it writes the log lines that are queued.
    let (logger, dial, _guard) = log::logger(log);
    match cli.command {
        Command::Cluster(cluster) => cluster.run(&reach, format, log, &logger),
        Command::Node(node) => node.run(key_file.as_deref(), format, &logger, dial),
        Command::Kv(kv) => kv.run(&reach, format),
        Command::Member(member) => member.run(&reach, format),
        Command::Leader(leader) => leader.run(&reach, format),
        Command::Snapshot(snapshot) => snapshot.run(&reach, format),
        Command::Backup(backup) => backup.run(&reach, format),
        Command::Restore(restore) => restore.run(format),
        Command::Recover(recover) => recover.run(format),
        Command::Status(status) => status.run(&reach, format),
        Command::Top(top) => top.run(&reach, format),
        Command::Bench(bench) => bench.run(&reach, format, &logger),
        Command::Check(check) => check.run(format),
        Command::Key(key) => key.run(format),
        Command::Lab(lab) => lab.run(format),
        Command::Proxy(proxy) => {
            // A key in the environment is for commands that talk to the cluster; a lossy path does not.
            let is_asked = matches.value_source("key_file") == Some(ValueSource::CommandLine);
            proxy.run(key_file.as_deref().filter(|_| is_asked), format, &logger)
        }
        Command::Sim(sim) => sim.run(format),
        Command::Trace(trace) => trace.run(key_file.as_deref(), format),
        Command::Wire(wire) => wire.run(key_file.as_deref(), format),
        Command::Fault(fault) => fault.run(&reach, format),
        Command::Inspect(inspect) => inspect.run(format),
        Command::Doctor(doctor) => doctor.run(format),
        Command::Discover(discover) => discover.run(&reach, format),
        Command::Config(ConfigCommand::Show { prefix }) => {
            config::show(file, tree, matches, prefix.as_deref(), format)
        }
        Command::Completions(completions) => completions.run(tree.clone(), format),
        Command::Man(man) => man.run(tree.clone(), format),
    }
}

/// Help and version are answers; everything else that the parser says is a wrong command line.
fn answer_or_usage(error: &clap::Error, format: Format) -> Result<(), CliError> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return error.print().map_err(|error| CliError::io("writing to stdout", &error));
    }
    let text = error.render();
    if !format.is_json() {
        // Printed as the parser lays it out, colours included; the document's parts would say less.
        let _ = error.print();
        std::process::exit(i32::from(Code::Usage.exit()));
    }
    let text = text.to_string();
    let (message, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(CliError::usage(one_line(message)).hint(one_line(hint)))
}

/// What the failures before parsing are written as; the parser knows better once it succeeded.
fn json_asked_for(arguments: &[OsString]) -> Json {
    let options: Vec<&OsString> = arguments.iter().take_while(|argument| *argument != "--").collect();
    let asked = |flag: &str, variable: &str| {
        let truths = ["1", "true", "yes", "on", "y", "t"];
        let value = std::env::var(variable).unwrap_or_default().to_lowercase();
        options.iter().any(|argument| *argument == flag) || truths.contains(&value.as_str())
    };
    if asked("--json", "RAFTGRAM_JSON") {
        Json::Document
    } else if asked("--json-stream", "RAFTGRAM_JSON_STREAM") {
        Json::Stream
    } else {
        Json::No
    }
}
