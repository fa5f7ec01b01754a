//! `backup` and `restore`: the state of a cluster as one file, and a new cluster from it.
//!
//! A backup is a snapshot file. It is taken where it costs least, a follower, but only after a read through the leader
//! has told how far a snapshot must reach to hold every write acknowledged before.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use raftgram::client::Answer;
use raftgram::handle::{Client, OperationResult, Pending};
use raftgram::kv::{Kv, Query};
use raftgram::node::LoadError;
use raftgram::node::snapshot::load_alone;
use raftgram::run::disk::FolderDisk;
use raftgram::run::random_rng;
use raftgram::snapshot::{BLOCK_BYTES, SnapshotMeta};
use raftgram::store::snapshot::{open_alone, verify_alone};
use raftgram::store::{
    DiskErrorKind, FIRST_INCARNATION_MAX, FormatError, FormatOptions, RestoreError, SEGMENT_BYTES,
    SnapshotError, SnapshotFile, Store,
};
use raftgram::types::{ClusterId, Incarnation, Index, StoreId};
use raftgram::wire::client::ReadLevel;
use raftgram::wire::status::NodeRole;
use raftgram::wire::transfer::Pull;
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::Format;
use crate::reach::Reach;
use crate::snapshot;
use crate::wire::cluster_id;

/// How long each step may take unless told otherwise: a large state is written at the speed of its node's disk.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a node may take to say what it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at a node that lags.
const PAUSE: Duration = Duration::from_millis(20);

/// Ranges asked for at a time.
const WINDOW: usize = 16;

/// Write the whole replicated state of a running cluster into one file: every write acknowledged before is in it.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to make; one that exists is not replaced.
    file: PathBuf,
}

/// Put a backup into an empty data folder. Its node, and others restored from the same file, then found a new cluster
/// (`node --bootstrap`, `cluster up`), which none of the old nodes belongs to.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup, or the snapshot file of a data folder.
    file: PathBuf,
    /// The data folder to make; each node of the new cluster needs one.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Refuse a backup of another cluster than this.
    #[arg(long, value_name = "ID", value_parser = cluster_id)]
    cluster_id: Option<ClusterId>,
}

/// What a backup holds.
#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    cluster: String,
    index: u64,
    term: u64,
    bytes: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
}

impl Shown {
    fn of(path: &Path, file: &SnapshotFile) -> Self {
        let meta = &file.meta;
        Self {
            file: path.display().to_string(),
            cluster: file.head.cluster.to_string(),
            index: meta.id.index.0,
            term: meta.id.term.0,
            bytes: meta.bytes,
            digest: format!("{:016x}", meta.digest),
            addr: None,
            data: None,
            store: None,
        }
    }

    fn text(&self, format: Format) -> String {
        let mut rows = vec![
            ("file", self.file.clone()),
            ("cluster", self.cluster.clone()),
            ("index", self.index.to_string()),
            ("term", self.term.to_string()),
            ("bytes", self.bytes.to_string()),
            ("digest", self.digest.clone()),
        ];
        let more = [("node", &self.addr), ("data", &self.data), ("store", &self.store)];
        rows.extend(more.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format.table(&["backup", "value"], &rows)
    }
}

impl Backup {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let began = Instant::now();
        if self.file.exists() {
            return Err(CliError::new(Code::Failed, "the file exists and is not replaced")
                .at(self.file.display())
                .hint("name another file"));
        }
        let partial = Partial::create(&self.file)?;
        let client = reach.connect()?;
        let through = newest(reach, &client)?;
        let mut fault = None;
        for server in by_load(reach, &client) {
            let address = &reach.addresses[server];
            match fetch(reach, &client, server, through, &partial) {
                Ok(()) => {
                    let file = partial.keep()?;
                    let shown = Shown { addr: Some(address.to_string()), ..Shown::of(&self.file, &file) };
                    return format.answer(&shown, |format| shown.text(format));
                }
                Err(error) => fault = Some(error.at(address).after(began.elapsed())),
            }
        }
        Err(fault.unwrap_or_else(|| {
            CliError::new(Code::Unreachable, "no node answers").at(reach).after(began.elapsed())
        }))
    }
}

/// An index that no write acknowledged so far lies above.
fn newest(reach: &Reach, client: &Client) -> Result<Index, CliError> {
    let timeout = reach.timeout_or(TIMEOUT);
    let query = Query::Get { key: b"" }.to_bytes();
    match reach.wait(client.read(query, ReadLevel::Linearizable, timeout), timeout)? {
        Answer::Read { index, .. } => Ok(index),
        other => unreachable!("a read was asked for, not {other:?}"),
    }
}

/// The nodes that answer, the leader last: it has the most to do.
fn by_load(reach: &Reach, client: &Client) -> Vec<usize> {
    let ask = |server| (server, client.status(server, STATUS_TIMEOUT));
    let asked: Vec<(usize, Pending<OperationResult>)> = (0..reach.addresses.len()).map(ask).collect();
    let answers =
        asked.into_iter().filter_map(|(server, pending)| match reach.wait(pending, STATUS_TIMEOUT) {
            Ok(Answer::Status(status)) => Some((status.role == NodeRole::Leader, server)),
            _ => None,
        });
    let mut servers: Vec<(bool, usize)> = answers.collect();
    servers.sort_unstable();
    servers.into_iter().map(|(_, server)| server).collect()
}

/// Gets a snapshot that goes through this index, or further, from one node.
fn fetch(
    reach: &Reach,
    client: &Client,
    server: usize,
    through: Index,
    partial: &Partial,
) -> Result<(), CliError> {
    let deadline = Instant::now() + reach.timeout_or(TIMEOUT);
    let meta = loop {
        let meta = snapshot::take(reach, client, server, deadline)?;
        if meta.id.index >= through {
            break meta;
        }
        std::thread::sleep(PAUSE);
    };
    download(reach, client, server, meta, partial)
}

fn download(
    reach: &Reach,
    client: &Client,
    server: usize,
    meta: SnapshotMeta,
    partial: &Partial,
) -> Result<(), CliError> {
    let timeout = reach.timeout_or(TIMEOUT);
    let mut out = File::create(&partial.path).map_err(|error| partial.fault("making the file", &error))?;
    let mut asked = VecDeque::new();
    let mut offset = 0;
    loop {
        while asked.len() < WINDOW && offset < meta.bytes {
            let length = (meta.bytes - offset).min(BLOCK_BYTES as u64) as u32;
            asked.push_back(client.pull(server, Pull { meta, offset, length }, timeout));
            offset += u64::from(length);
        }
        let Some(pending) = asked.pop_front() else { break };
        let bytes = match reach.wait(pending, timeout)? {
            Answer::Range { bytes: Some(bytes) } => bytes,
            Answer::Range { bytes: None } => {
                return Err(CliError::new(
                    Code::Failed,
                    format!("the node has snapshot {} no more", meta.id),
                )
                .hint("try again"));
            }
            other => unreachable!("a range was asked for, not {other:?}"),
        };
        out.write_all(&bytes).map_err(|error| partial.fault("writing the backup", &error))?;
    }
    out.sync_all().map_err(|error| partial.fault("writing the backup", &error))
}

/// The backup while it is made: under a name that nobody takes for one, gone when it does not succeed.
struct Partial {
    file: PathBuf,
    path: PathBuf,
}

impl Partial {
    fn create(file: &Path) -> Result<Self, CliError> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = Self { file: file.to_owned(), path: file.with_file_name(name) };
        // Before anybody is troubled: a place that cannot be written to is told at once.
        File::create(&partial.path).map_err(|error| partial.fault("making the file", &error))?;
        Ok(partial)
    }

    fn fault(&self, what: &str, error: &std::io::Error) -> CliError {
        CliError::io(what, error).at(self.path.display()).hint("choose another place")
    }

    /// Checks what was written, by its own checksums, and gives it its name.
    fn keep(self) -> Result<SnapshotFile, CliError> {
        let file = check(&self.path)?.file;
        let fault = |error| self.fault("naming the backup", &error);
        fs::rename(&self.path, &self.file).map_err(fault)?;
        File::open(folder_of(&self.file)).and_then(|folder| folder.sync_all()).map_err(fault)?;
        Ok(file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has its name, or is worth nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// A backup that was checked.
struct Checked {
    folder: FolderDisk,
    name: String,
    file: SnapshotFile,
}

/// Checks all of a backup: its bytes, and that the store takes the state in them.
fn check(path: &Path) -> Result<Checked, CliError> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
        return Err(CliError::usage("the backup needs a file name").at(path.display()));
    };
    let fault = |error| backup_fault(error).at(path.display());
    let mut folder = FolderDisk::open_read_only(folder_of(path)).map_err(|error| fault(error.into()))?;
    let file = open_alone(&mut folder, &name).map_err(fault)?;
    verify_alone(&mut folder, &name, &file).map_err(fault)?;
    match load_alone(&mut folder, &name, &file, &mut Kv::new()) {
        Ok(_) => Ok(Checked { folder, name, file }),
        Err(LoadError::File(error)) => Err(fault(error)),
        Err(LoadError::State(error)) => Err(CliError::new(Code::Failed, error.to_string())
            .at(path.display())
            .hint("use the raftgram, or the state machine, that wrote it")),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn backup_fault(error: SnapshotError) -> CliError {
    let text = error.to_string();
    match error {
        SnapshotError::Newer { .. } => {
            CliError::new(Code::Failed, text).hint("use the newer raftgram that wrote it")
        }
        SnapshotError::Failed(error) if error.kind == DiskErrorKind::Missing => {
            CliError::new(Code::Failed, text).hint("is the name right?")
        }
        SnapshotError::Full | SnapshotError::Failed(_) => {
            CliError::new(Code::Failed, text).hint("check that the place is there, readable, and has room")
        }
        SnapshotError::Damaged(_) | SnapshotError::Foreign | SnapshotError::Interrupted => {
            CliError::new(Code::Corrupt, text).hint("it is no whole backup; use another one")
        }
    }
}

impl Restore {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let mut checked = check(&self.file)?;
        let found = checked.file.head.cluster;
        if let Some(expected) = self.cluster_id.filter(|expected| *expected != found) {
            let text = format!("the backup is of cluster {found}, not of {expected}");
            return Err(CliError::new(Code::Failed, text)
                .at(self.file.display())
                .hint("name its own cluster, or none, if it is the one you want"));
        }
        let store = self.write(&mut checked)?;
        let shown = Shown {
            data: Some(self.data.display().to_string()),
            store: Some(store.to_string()),
            ..Shown::of(&self.file, &checked.file)
        };
        format.answer(&shown, |format| {
            shown.text(format)
                + "\nrestore the other nodes' folders from the same file, then start them with --bootstrap\n"
        })
    }

    fn write(&self, checked: &mut Checked) -> Result<StoreId, CliError> {
        let mut rng = random_rng().map_err(|error| CliError::io("drawing a store id", &error))?;
        let options = FormatOptions {
            store: StoreId(rng.bytes16()),
            first_incarnation: Incarnation(rng.below(u64::from(FIRST_INCARNATION_MAX)) as u32 + 1),
            segment_bytes: SEGMENT_BYTES,
        };
        let fault = |error: RestoreError| match error {
            RestoreError::Folder(FormatError::NotEmpty { .. }) => {
                CliError::new(Code::Failed, error.to_string())
                    .hint("nothing was changed; restore into a folder that no node has used")
            }
            RestoreError::Folder(FormatError::Disk(_)) => {
                CliError::new(Code::Failed, error.to_string()).hint("restoring again starts over")
            }
            RestoreError::Backup(error) => backup_fault(error),
        };
        let at = |error: CliError| error.at(self.data.display());
        let mut disk = FolderDisk::open(&self.data)
            .map_err(|error| at(fault(RestoreError::Folder(FormatError::Disk(error)))))?;
        let Checked { folder, name, file } = checked;
        Store::format_restored(&mut disk, options, folder, name, file).map_err(|error| at(fault(error)))?;
        Ok(options.store)
    }
}
