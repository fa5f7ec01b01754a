//! How members and changes are written.

use std::io::Write as _;
use std::time::Duration;

use raftgram::membership::Membership;
use raftgram::types::NodeId;
use raftgram::wire::member::{MemberProgress, MembershipState};
use serde::Serialize;

use crate::output::Format;

/// Who is in the cluster.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    leader: u16,
    term: u64,
    /// For `--if-version`.
    version: u64,
    /// False while a change is under way.
    settled: bool,
    joint: bool,
    members: Vec<Row>,
}

/// One member.
#[derive(Debug, Serialize)]
struct Row {
    id: u16,
    addr: String,
    /// voter, learner, or outgoing: a voter until the change under way has ended.
    role: &'static str,
    leader: bool,
    store: String,
    /// The leader's account of the others; absent for itself.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Progress {
    #[serde(rename = "match")]
    match_index: u64,
    lag: u64,
    heard: bool,
    caught_up: bool,
}

impl Progress {
    fn of(row: &MemberProgress) -> Self {
        let MemberProgress { match_index, lag, is_heard, is_caught_up, .. } = *row;
        Self { match_index: match_index.0, lag, heard: is_heard, caught_up: is_caught_up }
    }
}

fn role(membership: &Membership, id: NodeId) -> &'static str {
    if membership.voters.contains_key(&id) {
        "voter"
    } else if membership.outgoing.contains_key(&id) {
        "outgoing"
    } else {
        "learner"
    }
}

impl Listed {
    pub(super) fn of(state: &MembershipState) -> Self {
        let progress = |id| state.members.iter().find(|row| row.node == id).map(Progress::of);
        let row = |(id, member): (NodeId, &raftgram::membership::Member)| Row {
            id: id.as_u16(),
            addr: member.address.clone(),
            role: role(&state.membership, id),
            leader: id == state.leader,
            store: member.store.to_string(),
            progress: progress(id),
        };
        Self {
            leader: state.leader.as_u16(),
            term: state.term.0,
            version: state.version.0,
            settled: state.is_settled,
            joint: state.membership.is_joint(),
            members: state.membership.iter().map(row).collect(),
        }
    }

    pub(super) fn text(&self, format: Format) -> String {
        let cells = self.members.iter().map(|row| {
            let role = if row.leader { format!("{}, leads", row.role) } else { row.role.to_owned() };
            let state = match row.progress {
                None => "",
                Some(progress) if !progress.heard => "does not answer",
                Some(progress) if progress.caught_up => "caught up",
                Some(_) => "catching up",
            };
            let lag = row.progress.map_or_else(|| "-".to_owned(), |progress| progress.lag.to_string());
            vec![row.id.to_string(), row.addr.clone(), role, lag, state.to_owned(), row.store.clone()]
        });
        let headings = ["id", "address", "role", "lag", "state", "store"];
        let mut text = format.table(&headings, &cells.collect::<Vec<_>>());
        let state = match (self.settled, self.joint) {
            (true, _) => "settled",
            (_, true) => "a change is under way: joint",
            _ => "a change is under way",
        };
        text.push_str(&format!("version {}, {state}\n", self.version));
        text
    }
}

/// What a change has come to.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    done: String,
    version: u64,
    leader: u16,
    voters: Vec<u16>,
    learners: Vec<u16>,
    elapsed_ms: u64,
}

impl Changed {
    pub(super) fn of(done: String, state: &MembershipState, elapsed: Duration) -> Self {
        let ids = |members: &raftgram::membership::Members| members.keys().map(|id| id.as_u16()).collect();
        Self {
            done,
            version: state.version.0,
            leader: state.leader.as_u16(),
            voters: ids(&state.membership.voters),
            learners: ids(&state.membership.learners),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn text(&self) -> String {
        let list = |ids: &[u16]| ids.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let learners = match self.learners.as_slice() {
            [] => String::new(),
            learners => format!(", learners {}", list(learners)),
        };
        format!("{}; version {}: voters {}{learners}\n", self.done, self.version, list(&self.voters))
    }
}

/// What goes on meanwhile.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "meanwhile")]
pub(super) struct Meanwhile<'a> {
    pub(super) text: &'a str,
}

impl Meanwhile<'_> {
    pub(super) fn say(&self, format: Format) {
        // Whoever does not want to hear it has closed it.
        match format {
            Format::JsonStream => drop(format.event(self)),
            _ => drop(writeln!(std::io::stderr(), "{}", self.text)),
        }
    }
}
