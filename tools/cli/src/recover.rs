//! `recover`: a new cluster from a survivor's data folder, when the old one has lost its quorum for good.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use raftgram::kv::Kv;
use raftgram::membership::Members;
use raftgram::node::LoadError;
use raftgram::run::recovery::{RecoverError, Recovery, Survivor, longest};
use raftgram::store::{DiskErrorKind, OpenError, SnapshotError};
use raftgram::types::{ClusterId, NodeId};
use serde::Serialize;

use crate::address::Address;
use crate::error::{CliError, Code};
use crate::node::node_at;
use crate::output::Format;
use crate::wire::cluster_id;

/// Begin a new cluster with the data of a survivor, when so many voters are gone for good that the old one can never
/// commit again. Of several data folders the one with the longest log is taken; the others are only compared with it.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The data folder of a survivor, whose node has been stopped; name all that can be reached.
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// The voters that the cluster shall have. The survivor begins alone; the others join it, with empty folders.
    #[arg(long, value_name = "1=ADDR,2=ADDR,3=ADDR", value_delimiter = ',', required = true, value_parser = node_at)]
    voters: Vec<(NodeId, Address)>,
    /// Refuse the folders of another cluster than this.
    #[arg(long, value_name = "ID", value_parser = cluster_id)]
    cluster_id: Option<ClusterId>,
    /// Tell what would be done, and what may be lost, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// What a folder holds, and what becomes of it.
#[derive(Debug, Serialize)]
struct Plan {
    /// The folder that was, or would be, recovered.
    data: String,
    node: u16,
    address: String,
    old_cluster: String,
    old_store: String,
    old_voters: Vec<u16>,
    /// The last entry that the folder holds: all up to it are kept.
    last: u64,
    term: u64,
    /// Entries up to this one are known to have been committed.
    settled: u64,
    /// Entries above it, kept as if they had been committed.
    unsettled: u64,
    /// Whether whatever was acknowledged is known to be here.
    is_complete: bool,
    /// How far the other folders reach.
    compared: Vec<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_write_s_ago: Option<u64>,
    may_be_lost: Vec<String>,
    /// Voters that are to join.
    to_join: Vec<u16>,
}

#[derive(Debug, Serialize)]
struct Compared {
    data: String,
    last: u64,
    term: u64,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Shown {
    recovered: bool,
    #[serde(flatten)]
    plan: Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The new cluster's first entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    next: Vec<String>,
}

impl Recover {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let survivors = self.data.iter().map(|data| open(data)).collect::<Result<Vec<_>, _>>()?;
        self.check_cluster(&survivors)?;
        let place = longest(&survivors).expect("the parser demands a folder");
        let (node, address) = self.choose_node(&survivors[place])?;
        let plan = self.plan(&survivors, place, node, &address);
        let next = self.next_steps(&plan);
        if self.dry_run {
            let shown = Shown { recovered: false, plan, cluster: None, store: None, index: None, next };
            return format.answer(&shown, |format| shown.text(format));
        }
        if !self.yes {
            confirm(&plan, format)?;
        }
        let survivor = survivors.into_iter().nth(place).expect("it is one of them");
        let path = survivor.path().to_owned();
        let Recovery { cluster, store, snapshot } =
            survivor.recover(node, &address, Kv::new()).map_err(|error| refusal(error, &path))?;
        let shown = Shown {
            recovered: true,
            plan,
            cluster: Some(cluster.to_string()),
            store: Some(store.to_string()),
            index: Some(snapshot.id.index.0),
            next,
        };
        format.answer(&shown, |format| shown.text(format))
    }

    /// All of one cluster, and of the one that was named.
    fn check_cluster(&self, survivors: &[Survivor]) -> Result<(), CliError> {
        let mut clusters = survivors.iter().map(|survivor| (survivor, survivor.survey().record().cluster));
        let first = clusters.clone().next().map(|(_, cluster)| cluster);
        let expected = self.cluster_id.or(first);
        let Some((survivor, found)) = clusters.find(|(_, cluster)| Some(*cluster) != expected) else {
            return Ok(());
        };
        let expected = expected.map(|expected| expected.to_string()).unwrap_or_default();
        Err(CliError::new(Code::Failed, format!("the folder is of cluster {found}, not of {expected}"))
            .at(survivor.path().display())
            .hint("name folders of one cluster; one that was recovered before is of a cluster of its own"))
    }

    /// Who the survivor is among the voters.
    fn choose_node(&self, survivor: &Survivor) -> Result<(NodeId, String), CliError> {
        let at = |error: CliError| error.at(survivor.path().display());
        let mut voters: BTreeMap<NodeId, String> = BTreeMap::new();
        for (id, address) in &self.voters {
            if voters.insert(*id, address.to_string()).is_some() {
                return Err(CliError::usage(format!("--voters names {id} twice")));
            }
        }
        let node = match (survivor.identity(), &self.voters[..]) {
            (Some(identity), _) => identity.node,
            // A learner that was never told, or a node that was removed: any id will do.
            (None, [(only, _)]) => *only,
            (None, _) => {
                let text = "the folder is of no member, so it is not known which of the voters it shall be";
                return Err(at(
                    CliError::usage(text).hint("name one voter: the node that shall use the folder")
                ));
            }
        };
        match voters.remove(&node) {
            Some(address) => Ok((node, address)),
            None => {
                Err(at(CliError::usage(format!("the folder is of {node}, which --voters does not name"))
                    .hint(format!("name {}=ADDRESS among the voters", node.as_u16()))))
            }
        }
    }

    fn plan(&self, survivors: &[Survivor], place: usize, node: NodeId, address: &str) -> Plan {
        let survivor = &survivors[place];
        let survey = survivor.survey();
        let (last, settled) = (survey.last(), survey.settled());
        let stores: BTreeSet<_> = survivors.iter().map(|survivor| survivor.survey().record().store).collect();
        let voters = |members: &Members| members.keys().map(|id| id.as_u16()).collect();
        let others = survivors.iter().enumerate().filter(|(other, _)| *other != place);
        let mut plan = Plan {
            data: survivor.path().display().to_string(),
            node: node.as_u16(),
            address: address.to_owned(),
            old_cluster: survey.record().cluster.to_string(),
            old_store: survey.record().store.to_string(),
            old_voters: survey.memberships().last().map_or(Vec::new(), |latest| voters(&latest.voters)),
            last: last.index.0,
            term: last.term.0,
            settled: settled.index.0,
            unsettled: last.index.0 - settled.index.0,
            is_complete: survivor.holds_everything(&stores),
            compared: others
                .map(|(_, other)| Compared {
                    data: other.path().display().to_string(),
                    last: other.survey().last().index.0,
                    term: other.survey().last().term.0,
                })
                .collect(),
            last_write_s_ago: last_write_s_ago(survivor.path()),
            may_be_lost: Vec::new(),
            to_join: self
                .voters
                .iter()
                .map(|(id, _)| id.as_u16())
                .filter(|id| *id != node.as_u16())
                .collect(),
        };
        plan.may_be_lost = plan.losses();
        plan
    }

    /// What is left to do by hand.
    fn next_steps(&self, plan: &Plan) -> Vec<String> {
        let Plan { node, address, data, .. } = plan;
        let mut steps = vec![format!(
            "raftgram node --id {node} --listen {address} --voters {node}={address} --data {data}"
        )];
        for (id, joins) in self.voters.iter().filter(|(id, _)| id.as_u16() != *node) {
            let id = id.as_u16();
            steps.push(format!(
                "on {id}, with an empty folder: raftgram node --id {id} --listen {joins} --voters {node}={address} \
                 --data DIR --join"
            ));
            steps.push(format!("raftgram --cluster {address} member add {id}={joins}"));
            steps.push(format!("raftgram --cluster {address} member promote {id}"));
        }
        steps
    }
}

impl Plan {
    /// What is not known to survive, in words.
    fn losses(&self) -> Vec<String> {
        let Self { last, settled, unsettled, .. } = self;
        let mut losses = Vec::new();
        if !self.is_complete {
            let age =
                self.last_write_s_ago.map_or(String::new(), |age| format!(", which was written {age} s ago"));
            losses.push(format!(
                "every write above entry {last}{age}: a majority without this folder may have acknowledged some"
            ));
        }
        if *unsettled > 0 {
            let from = settled + 1;
            losses.push(format!(
                "nothing of entries {from} to {last}, but whether they were committed is not known: all of them count \
                 as committed, so a write that was never acknowledged may turn out to be done"
            ));
        }
        losses.push(
            "the sessions of all clients: a write that is under way ends with its outcome unknown".to_owned(),
        );
        losses
    }

    fn text(&self, format: Format) -> String {
        let voters = |ids: &[u16]| ids.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let complete = if self.is_complete {
            "yes: no quorum could do without the folders compared"
        } else {
            "not known: others may have acknowledged more"
        };
        let mut rows = vec![
            ("folder", self.data.clone()),
            ("node", format!("{} at {}", self.node, self.address)),
            ("old cluster", self.old_cluster.clone()),
            ("old voters", voters(&self.old_voters)),
            ("last entry", format!("{} of term {}", self.last, self.term)),
            ("known committed", format!("through {}", self.settled)),
            ("has all that was acknowledged", complete.to_owned()),
        ];
        rows.extend(self.compared.iter().map(|other| {
            ("compared with", format!("{}: last entry {} of term {}", other.data, other.last, other.term))
        }));
        rows.extend(self.may_be_lost.iter().map(|loss| ("may be lost", loss.clone())));
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format.table(&["recover", "value"], &rows)
    }
}

impl Shown {
    fn text(&self, format: Format) -> String {
        let mut text = self.plan.text(format);
        match (&self.cluster, &self.store, self.index) {
            (Some(cluster), Some(store), Some(index)) => {
                text +=
                    &format!("\nrecovered: cluster {cluster}, store {store}, beginning with entry {index}\n");
            }
            _ => text += "\nnothing was changed\n",
        }
        text += "next:\n";
        self.next.iter().for_each(|step| text += &format!("  {step}\n"));
        text
    }
}

/// Asks on the terminal, or whatever stands in its place.
fn confirm(plan: &Plan, format: Format) -> Result<(), CliError> {
    if format.is_json() {
        return Err(CliError::usage("a recovery has to be confirmed, and a JSON document asks nothing")
            .at(&plan.data)
            .hint("--dry-run tells what may be lost; --yes does it without asking"));
    }
    let question = "\nThe folder becomes that of a new cluster, which no other node of the old one can join; there is \
                    no way back but a copy of it.\nType `recover` to go on: ";
    eprint!("{}{question}", plan.text(format));
    let mut answer = String::new();
    io::stderr()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| CliError::io("asking", &error))?;
    if answer.trim() == "recover" {
        return Ok(());
    }
    Err(CliError::new(Code::Failed, "not confirmed: nothing was changed").at(&plan.data))
}

/// How long ago a log file was written to: the newest one's time, as far as the file system tells.
fn last_write_s_ago(folder: &Path) -> Option<u64> {
    let items = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let logs = items.filter(|item| item.file_name().to_string_lossy().starts_with("log-"));
    let newest = logs.filter_map(|item| item.metadata().ok()?.modified().ok()).max()?;
    SystemTime::now().duration_since(newest).ok().map(|age| age.as_secs())
}

fn open(data: &Path) -> Result<Survivor, CliError> {
    Survivor::open(data).map_err(|error| refusal(error, data))
}

fn refusal(error: RecoverError, data: &Path) -> CliError {
    const OTHERS: &str = "recover from another survivor, or restore a backup; nothing was changed";
    let text = error.to_string();
    let is_damage = matches!(
        &error,
        RecoverError::Open(
            OpenError::Damaged(_)
                | OpenError::HardStateMissing { .. }
                | OpenError::TwoStores { .. }
                | OpenError::CopiesDiffer { .. }
                | OpenError::UnsyncedStop,
        ) | RecoverError::Load(LoadError::File(SnapshotError::Damaged(_) | SnapshotError::Foreign))
    );
    let hint = match &error {
        _ if is_damage => OTHERS,
        RecoverError::Missing => "is the name right?",
        RecoverError::InUse => "stop its node first",
        RecoverError::NoCluster | RecoverError::Empty => {
            "nothing can be lost with it: found a cluster (node --bootstrap) or name another folder"
        }
        RecoverError::Load(LoadError::State(_)) => "use the raftgram, or the state machine, that wrote it",
        RecoverError::Open(OpenError::NewerFormat { .. }) => "use the newer raftgram that wrote it",
        RecoverError::Write(SnapshotError::Full) => {
            "the state is written once more beside the old one: make room; nothing was changed"
        }
        RecoverError::Disk(error) if error.kind == DiskErrorKind::Denied => "run as the owner of the folder",
        _ => "check that the folder can be read and written; saying it again starts over",
    };
    let code = if is_damage { Code::Corrupt } else { Code::Failed };
    CliError::new(code, text).at(data.display()).hint(hint)
}
