//! Settings from four places: flags over `RAFTGRAM_*` environment over a TOML file over defaults.
//!
//! Before the command line is parsed, every option of every command gets its environment variable, and the file's
//! values become the defaults. So one parser judges values from everywhere, and no command merges anything.
//!
//! Names: option `--log-level` of every command is `RAFTGRAM_LOG_LEVEL` and, in the file, `log-level` at the top.
//! Option `--size` of `bench udp` is `RAFTGRAM_BENCH_UDP_SIZE` and `size` under `[bench-udp]`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, builder::BoolishValueParser};
use serde::Serialize;
use toml::{Table, Value};

use crate::error::{CliError, Code};
use crate::output::Format;

/// The environment variables that set options are those that begin so.
const PREFIX: &str = "RAFTGRAM";

/// A configuration file; without one, an empty table.
#[derive(Debug, Default)]
pub(crate) struct File {
    path: Option<PathBuf>,
    table: Table,
}

impl File {
    /// Reads the file that `--config` or `RAFTGRAM_CONFIG` names.
    pub(crate) fn load(arguments: &[OsString]) -> Result<Self, CliError> {
        let path = named_in(arguments).or_else(|| std::env::var_os(format!("{PREFIX}_CONFIG")));
        let Some(path) = path.map(PathBuf::from) else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            CliError::usage(format!("reading the configuration: {error}")).at(path.display())
        })?;
        let file = Self::parse(&text).map_err(|error| error.at(path.display()))?;
        Ok(Self { path: Some(path), ..file })
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        let parsed = text.parse::<Table>();
        let table = parsed.map_err(|error| CliError::usage(error.to_string().trim_end().to_owned()))?;
        Ok(Self { path: None, table })
    }

    /// Gives every option of the tree its environment variable and its default from this file.
    pub(crate) fn layer(&self, command: Command) -> Result<Command, CliError> {
        let mut known = Vec::new();
        let command = self.layer_at(command, "", &mut known)?;
        let section_or_key = |key: &str, value: &Value| match value {
            Value::Table(table) => table.keys().map(|inner| format!("{key}.{inner}")).collect(),
            _ => vec![key.to_owned()],
        };
        let mut written = self.table.iter().flat_map(|(key, value)| section_or_key(key, value));
        match written.find(|key| !known.contains(key)) {
            None => Ok(command),
            Some(strange) => {
                Err(self.fault(&strange, "there is no such setting").hint("see `raftgram config show`"))
            }
        }
    }

    fn layer_at(&self, command: Command, path: &str, known: &mut Vec<String>) -> Result<Command, CliError> {
        let mut fault = None;
        let command = command.mut_args(|arg| {
            let Some(key) = key(path, &arg) else { return arg };
            known.push(key.clone());
            match self.default_of(&key, &arg) {
                Ok(values) => with_sources(arg, &key, values),
                Err(error) => {
                    fault.get_or_insert(error);
                    arg
                }
            }
        });
        let command = command.mut_subcommands(|inner| {
            let path = join(path, inner.get_name());
            let unchanged = inner.clone();
            self.layer_at(inner, &path, known).unwrap_or_else(|error| {
                fault.get_or_insert(error);
                unchanged
            })
        });
        fault.map_or(Ok(command), Err)
    }

    /// The file's values for this option, as they would be written on the command line.
    fn default_of(&self, key: &str, arg: &Arg) -> Result<Vec<String>, CliError> {
        let value = match key.split_once('.') {
            None => self.table.get(key),
            Some((section, inner)) => self.table.get(section).and_then(|table| table.get(inner)),
        };
        let word = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Integer(number) => Ok(number.to_string()),
            Value::Float(number) => Ok(number.to_string()),
            Value::Boolean(truth) => Ok(truth.to_string()),
            _ => Err(self.fault(key, "a setting is a text, a number, true or false, or a list of those")),
        };
        match value {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) if takes_many(arg) => list.iter().map(word).collect(),
            Some(value) => Ok(vec![word(value)?]),
        }
    }

    fn fault(&self, key: &str, why: &str) -> CliError {
        let error = CliError::usage(format!("`{key}`: {why}"));
        match &self.path {
            Some(path) => error.at(path.display()),
            None => error,
        }
    }
}

/// The value of `--config`, found before anything else is known about the command line.
fn named_in(arguments: &[OsString]) -> Option<OsString> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().cloned();
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

fn with_sources(arg: Arg, key: &str, values: Vec<String>) -> Arg {
    let arg = if arg.get_env().is_none() { arg.env(variable(key)).hide_env_values(true) } else { arg };
    // `RAFTGRAM_JSON=1` is what people write, beside true and yes.
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = if is_flag { arg.value_parser(BoolishValueParser::new()) } else { arg };
    if values.is_empty() { arg } else { arg.required(false).default_values(values) }
}

/// The setting's name; positional arguments and help are none.
fn key(path: &str, arg: &Arg) -> Option<String> {
    let long = arg.get_long().filter(|_| !arg.is_hide_set())?;
    let is_answer = matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
    match path {
        _ if is_answer => None,
        "" => Some(long.to_owned()),
        path => Some(format!("{path}.{long}")),
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}_{}", key.replace(['-', '.'], "_").to_uppercase())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}-{name}") }
}

fn takes_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append) || arg.get_value_delimiter().is_some()
}

/// One line of `config show`.
#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: Option<String>,
    source: &'static str,
    env: String,
}

/// Prints every setting of the tree, as this command line, environment and file give it.
pub(crate) fn show(
    file: &File,
    command: &Command,
    matches: &ArgMatches,
    prefix: Option<&str>,
    format: Format,
) -> Result<(), CliError> {
    let mut settings = Vec::new();
    collect(file, command, "", Some(matches), &mut settings);
    settings.retain(|setting| prefix.is_none_or(|prefix| setting.key.starts_with(prefix)));
    if settings.is_empty() {
        let asked = prefix.unwrap_or_default();
        return Err(CliError::new(Code::Usage, format!("no setting begins with `{asked}`")));
    }
    #[derive(Serialize)]
    struct Shown<'a> {
        file: Option<&'a Path>,
        settings: &'a [Setting],
    }
    format.answer(&Shown { file: file.path.as_deref(), settings: &settings }, |format| {
        let row = |s: &Setting| {
            vec![
                s.key.clone(),
                s.value.clone().unwrap_or_else(|| "-".to_owned()),
                s.source.to_owned(),
                s.env.clone(),
            ]
        };
        format.table(
            &["setting", "value", "source", "environment"],
            &settings.iter().map(row).collect::<Vec<_>>(),
        )
    })
}

fn collect(file: &File, command: &Command, path: &str, matches: Option<&ArgMatches>, out: &mut Vec<Setting>) {
    for arg in command.get_arguments().filter(|arg| path.is_empty() || !arg.is_global_set()) {
        let Some(key) = key(path, arg) else { continue };
        let (value, source) = effective(file, &key, arg, matches);
        let env = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        out.push(Setting { key, value, source, env });
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        collect(file, inner, &join(path, inner.get_name()), None, out);
    }
}

/// The value of one option and where it comes from. What another command was not asked for cannot come by a flag.
fn effective(
    file: &File,
    key: &str,
    arg: &Arg,
    matches: Option<&ArgMatches>,
) -> (Option<String>, &'static str) {
    let id = arg.get_id().as_str();
    if matches.and_then(|matches| matches.value_source(id)) == Some(ValueSource::CommandLine) {
        let flag = matches!(arg.get_action(), ArgAction::SetTrue).then(|| "true".to_owned());
        let raw = matches.and_then(|matches| matches.get_raw(id)).into_iter().flatten();
        return (flag.or_else(|| Some(words(raw))), "flag");
    }
    if let Some(value) = arg.get_env().and_then(std::env::var_os) {
        return (Some(value.to_string_lossy().into_owned()), "environment");
    }
    let defaults = arg.get_default_values();
    // The layer below made the file's values the defaults.
    let source =
        if file.default_of(key, arg).is_ok_and(|values| !values.is_empty()) { "file" } else { "default" };
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
    match defaults {
        [] if is_flag => (Some("false".to_owned()), source),
        [] => (None, source),
        values => (Some(words(values.iter().map(|value| value.as_ref()))), source),
    }
}

fn words<'a>(values: impl Iterator<Item = &'a OsStr>) -> String {
    values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    struct Sample {
        #[arg(long, global = true, default_value = "5s")]
        timeout: String,
        #[arg(long, global = true, value_delimiter = ',')]
        cluster: Vec<String>,
        #[command(subcommand)]
        command: Inner,
    }

    #[derive(Debug, Subcommand)]
    enum Inner {
        Node {
            #[arg(long)]
            id: u16,
            #[arg(long)]
            no_fsync: bool,
        },
    }

    fn parse(toml: &str, arguments: &[&str]) -> Result<Sample, String> {
        let file = File { path: None, table: toml.parse().unwrap() };
        let command = <Sample as clap::CommandFactory>::command();
        let command = file.layer(command).map_err(|error| error.message)?;
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        <Sample as clap::FromArgMatches>::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_stands_over_defaults_and_under_flags() {
        let toml = "timeout = \"1s\"\ncluster = [7101, \"a:1\"]\n[node]\nid = 3\nno-fsync = true";
        let Sample { timeout, cluster, command: Inner::Node { id, no_fsync } } =
            parse(toml, &["x", "node"]).unwrap();
        assert_eq!((timeout.as_str(), id, no_fsync), ("1s", 3, true));
        assert_eq!(cluster, ["7101", "a:1"]);
        let Sample { timeout, command: Inner::Node { id, .. }, .. } =
            parse(toml, &["x", "--timeout", "2s", "node", "--id", "4"]).unwrap();
        assert_eq!((timeout.as_str(), id), ("2s", 4));
    }

    #[test]
    fn without_a_file_defaults_and_requirements_stay() {
        assert!(parse("", &["x", "node"]).unwrap_err().contains("--id"));
        assert_eq!(parse("", &["x", "node", "--id", "1"]).unwrap().timeout, "5s");
    }

    #[test]
    fn a_strange_setting_is_named() {
        assert_eq!(
            parse("[node]\nidd = 1", &["x", "node"]).unwrap_err(),
            "`node.idd`: there is no such setting"
        );
        assert_eq!(parse("speed = 1", &["x", "node"]).unwrap_err(), "`speed`: there is no such setting");
        assert!(
            parse("timeout = 1979-05-27", &["x", "node"]).unwrap_err().starts_with("`timeout`: a setting is")
        );
        assert!(parse("[node]\nid = \"x\"", &["x", "node"]).unwrap_err().contains("invalid value 'x'"));
    }

    #[test]
    fn variables_are_named_after_command_and_option() {
        assert_eq!(variable("cluster"), "RAFTGRAM_CLUSTER");
        assert_eq!(variable("cluster-up.no-fsync"), "RAFTGRAM_CLUSTER_UP_NO_FSYNC");
    }

    #[test]
    fn the_file_is_found_in_front_of_a_double_dash() {
        let arguments = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(named_in(&arguments(&["x", "--config", "a"])), Some("a".into()));
        assert_eq!(named_in(&arguments(&["x", "--config=b"])), Some("b".into()));
        assert_eq!(named_in(&arguments(&["x", "kv", "--", "--config", "a"])), None);
    }
}
