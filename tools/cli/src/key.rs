//! `key`: files of keys, made and looked at without showing a key; and how commands read theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use raftgram::run::keys::{KeyError, KeyLogFile, create_key, read_keys};
use raftgram::seal::{KeyLog, KeyRing, KeyRole};
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::Format;

/// Keys for sealed clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Write a fresh key into a new file that only its owner can read.
    New {
        /// The file; it must not be there yet.
        file: PathBuf,
        /// For clients: its holder can speak as a client and never as a node.
        #[arg(long)]
        client: bool,
    },
    /// Show role and id of each key in a file; never the keys.
    List {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    file: PathBuf,
    keys: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    role: &'static str,
    id: String,
}

impl KeyCommand {
    pub(crate) fn run(self, format: Format) -> Result<(), CliError> {
        let file = match self {
            Self::List { file } => file,
            Self::New { file, client } => {
                let role = if client { KeyRole::Client } else { KeyRole::Cluster };
                create_key(&file, role).map_err(|error| fault(&error))?;
                file
            }
        };
        let keys = load(&file)?;
        let row = |(role, id): (KeyRole, _)| Row { role: role.name(), id: format!("{id}") };
        let listed = Listed { file, keys: keys.list().map(row).collect() };
        format.answer(&listed, |format| {
            let rows: Vec<Vec<String>> =
                listed.keys.iter().map(|row| vec![row.role.to_owned(), row.id.clone()]).collect();
            format.table(&["role", "id"], &rows)
        })
    }
}

/// The keys of a file, or what is wrong with it.
pub(crate) fn load(file: &Path) -> Result<Arc<KeyRing>, CliError> {
    read_keys(file).map(Arc::new).map_err(|error| fault(&error))
}

/// The log of session secrets in this file.
pub(crate) fn log(file: &Path) -> Result<Arc<dyn KeyLog>, CliError> {
    let log = KeyLogFile::open(file).map_err(|error| fault(&error))?;
    Ok(Arc::new(log))
}

pub(crate) fn fault(error: &KeyError) -> CliError {
    let failed = CliError::new(Code::Failed, error.to_string());
    match error {
        KeyError::Exposed { file, .. } => failed.hint(format!("chmod 600 {}", file.display())),
        KeyError::Exists { .. } => failed.hint("name a file that is not there yet"),
        KeyError::Content { .. } => failed.hint("`raftgram key new FILE` makes one"),
        _ => failed,
    }
}
