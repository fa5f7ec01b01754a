//! What the command tree says about itself: shell completions and manual pages.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use serde::Serialize;

use crate::error::CliError;
use crate::output::{self, Format, file_error};

/// Print completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell to complete in.
    shell: Shell,
}

/// Write manual pages into a folder.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder, made when it is not there.
    dir: PathBuf,
}

impl Completions {
    pub(crate) fn run(&self, mut command: Command, format: Format) -> Result<(), CliError> {
        #[derive(Serialize)]
        struct Script {
            shell: String,
            script: String,
        }
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "raftgram", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        format.answer(&Script { shell: self.shell.to_string(), script: script.clone() }, |_| script)
    }
}

impl Man {
    pub(crate) fn run(&self, mut command: Command, format: Format) -> Result<(), CliError> {
        #[derive(Serialize)]
        struct Written {
            files: Vec<PathBuf>,
        }
        fs::create_dir_all(&self.dir).map_err(|error| file_error(&self.dir, "making the folder", &error))?;
        command.build();
        let mut files = Vec::new();
        self.write(&command, "raftgram", &mut files)?;
        let text = files.iter().map(|file| format!("{}\n", file.display())).collect();
        format.answer(&Written { files }, |_| text)
    }

    /// Writes the page of this command and of those below it, as `raftgram-bench-udp.1`.
    fn write(&self, command: &Command, name: &str, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
        let mut page = Vec::new();
        let path = self.dir.join(format!("{name}.1"));
        clap_mangen::Man::new(command.clone().name(name.to_owned()))
            .render(&mut page)
            .and_then(|()| fs::write(&path, page))
            .map_err(|error| output::file_error(&path, "writing the page", &error))?;
        files.push(path);
        for inner in
            command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
        {
            self.write(inner, &format!("{name}-{}", inner.get_name()), files)?;
        }
        Ok(())
    }
}
