//! `member`: who is in the cluster, and changes of that, one node at a time.
//!
//! Every command waits for its result and says meanwhile what it waits for, on stderr or as events of a stream. Nothing
//! is kept between runs: `replace` finds out how far it had come by looking at the membership, so that saying it again
//! goes on where it stopped.

mod show;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use raftgram::client::{Answer, ClientError};
use raftgram::handle::{Client, OperationResult, Pending, WaitError};
use raftgram::membership::{Member as Binding, MembershipChange};
use raftgram::types::{Index, NodeId, StoreId};
use raftgram::wire::member::{ChangeRefusal, MembershipState};

use crate::address::Address;
use crate::error::{CliError, Code};
use crate::node::{node_at, node_id};
use crate::output::Format;
use crate::reach::{Reach, meaning_of_change};
use show::{Changed, Listed, Meanwhile};

/// How long a change may take unless told otherwise: a new node has to get the whole state.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at a node that catches up.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a wait is spoken of.
const WORD_EVERY: Duration = Duration::from_secs(1);

/// A promotion is asked for again so often in a row although the learner lacks no less than before.
const IN_VAIN_MAX: u32 = 20;

/// Whichever data folder answers.
const ANY_STORE: StoreId = StoreId([0; 16]);

/// Who is in the cluster, and changing that.
#[derive(Debug, Args)]
pub(crate) struct Member {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Show the members, the version of the membership, and how far each of them is.
    List,
    /// Take a node in as a learner, and wait until it has caught up. It must run already, started with --join.
    Add {
        /// The node, such as 4=10.0.0.4:7101, at the address where the other nodes reach it.
        #[arg(value_name = "ID=ADDR", value_parser = node_at)]
        node: (NodeId, Address),
        /// End as soon as it is a learner, without waiting for it to catch up.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        compare: Compare,
    },
    /// Let a learner that has caught up vote.
    Promote {
        #[arg(value_name = "ID", value_parser = node_id)]
        node: NodeId,
        #[command(flatten)]
        compare: Compare,
    },
    /// Let a node go.
    Remove {
        #[arg(value_name = "ID", value_parser = node_id)]
        node: NodeId,
        #[command(flatten)]
        compare: Compare,
    },
    /// Record that a node is reached at another address, where it must answer with its data.
    Update {
        #[arg(value_name = "ID=ADDR", value_parser = node_at)]
        node: (NodeId, Address),
        #[command(flatten)]
        compare: Compare,
    },
    /// Put a node with an empty folder in the place of a member whose data is lost: the old one is removed, the new one
    /// added, brought up to date and promoted. It must run already, started with --join. Say it again after an
    /// interruption: it goes on.
    Replace {
        #[arg(value_name = "ID=ADDR", value_parser = node_at)]
        node: (NodeId, Address),
        #[command(flatten)]
        compare: Compare,
    },
}

/// The membership that a change is meant for.
#[derive(Debug, Args)]
struct Compare {
    /// Change nothing unless this is the version in force, as `member list` shows it.
    #[arg(long, value_name = "V")]
    if_version: Option<u64>,
}

impl Compare {
    fn expected(&self) -> Option<Index> {
        self.if_version.map(Index)
    }
}

impl Member {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let began = Instant::now();
        let client = reach.connect()?;
        let deadline = began + reach.timeout_or(TIMEOUT);
        let work = Work { reach, format, client, deadline };
        if let Operation::List = self.operation {
            let listed = Listed::of(&*work.members()?);
            return format.answer(&listed, |format| listed.text(format));
        }
        let (what, state) = self.change(&work)?;
        let changed = Changed::of(what, &state, began.elapsed());
        format.answer(&changed, |_| changed.text())
    }

    /// Carries a change out: what was done, and who is in the cluster now.
    fn change(&self, work: &Work<'_>) -> Result<(String, Box<MembershipState>), CliError> {
        match &self.operation {
            Operation::List => unreachable!("a list changes nothing"),
            Operation::Add { node: (node, address), no_wait, compare } => {
                let state = work.add(*node, address, compare.expected())?;
                let state = if *no_wait { state } else { work.catch_up(*node)? };
                Ok((format!("{} is a member", node.as_u16()), state))
            }
            Operation::Promote { node, compare } => {
                let state = work.promote(*node, compare.expected())?;
                Ok((format!("{} is a voter", node.as_u16()), state))
            }
            Operation::Remove { node, compare } => {
                let state = work.remove(*node, compare.expected())?;
                Ok((format!("{} is removed: stop it", node.as_u16()), state))
            }
            Operation::Update { node: (node, address), compare } => {
                let address = address.resolve()?.to_string();
                work.say(&format!("asking the leader to look for {} at {address}", node.as_u16()));
                let what = format!("{} is reached at {address}", node.as_u16());
                let change = MembershipChange::Move { node: *node, address };
                Ok((what, work.ask(change, compare.expected())?))
            }
            Operation::Replace { node: (node, address), compare } => {
                work.replace(*node, address, compare.expected())
            }
        }
    }
}

/// One command at work.
struct Work<'a> {
    reach: &'a Reach,
    format: Format,
    client: Client,
    deadline: Instant,
}

impl Work<'_> {
    /// Says what goes on: on stderr, or as an event of a stream.
    fn say(&self, text: &str) {
        Meanwhile { text }.say(self.format);
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn members(&self) -> Result<Box<MembershipState>, CliError> {
        let left = self.left();
        match self.reach.wait(self.client.members(left), left)? {
            Answer::Members(state) => Ok(state),
            other => unreachable!("the members were asked for, not {other:?}"),
        }
    }

    /// Has the leader carry out a change, and waits until it has settled.
    fn ask(
        &self,
        change: MembershipChange,
        expected: Option<Index>,
    ) -> Result<Box<MembershipState>, CliError> {
        self.try_to(change, expected)?.map_err(|error| meaning_of_change(&error).at(self.reach))
    }

    /// The same, for who can do something about a refusal.
    fn try_to(
        &self,
        change: MembershipChange,
        expected: Option<Index>,
    ) -> Result<Result<Box<MembershipState>, ClientError>, CliError> {
        let left = self.left();
        let pending = self.client.change_membership(expected, change, left);
        match self.wait(&pending, "the change has not settled yet")? {
            Ok(Answer::Members(state)) => Ok(Ok(state)),
            Ok(other) => unreachable!("a change was asked for, not {other:?}"),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Waits, and says so now and then.
    fn wait(&self, pending: &Pending<OperationResult>, still: &str) -> Result<OperationResult, CliError> {
        // The client keeps the deadline; this one only notices that the client does not.
        let grace = self.deadline + Duration::from_secs(5);
        loop {
            match pending.wait(WORD_EVERY) {
                Ok(result) => return Ok(result),
                Err(WaitError::TimedOut) if Instant::now() < grace => self.say(still),
                Err(WaitError::TimedOut) => {
                    return Err(CliError::new(Code::OutcomeUnknown, "the client does not answer"));
                }
                Err(_) => return Err(CliError::new(Code::Failed, "the client's thread has ended")),
            }
        }
    }

    fn add(
        &self,
        node: NodeId,
        address: &Address,
        expected: Option<Index>,
    ) -> Result<Box<MembershipState>, CliError> {
        self.try_add(node, address, expected)?.map_err(|error| meaning_of_change(&error).at(address))
    }

    fn try_add(
        &self,
        node: NodeId,
        address: &Address,
        expected: Option<Index>,
    ) -> Result<Result<Box<MembershipState>, ClientError>, CliError> {
        let at = address.resolve()?.to_string();
        self.say(&format!("asking the leader to take in {} at {at}", node.as_u16()));
        let member = Binding { store: ANY_STORE, address: at };
        self.try_to(MembershipChange::Add { node, member }, expected)
    }

    fn remove(&self, node: NodeId, expected: Option<Index>) -> Result<Box<MembershipState>, CliError> {
        self.say(&format!("removing {}", node.as_u16()));
        self.ask(MembershipChange::Remove { node }, expected)
    }

    /// Under load a learner that keeps up lacks now fewer and now more entries: it is asked for again while that gets
    /// better.
    fn promote(&self, node: NodeId, expected: Option<Index>) -> Result<Box<MembershipState>, CliError> {
        self.say(&format!("promoting {}", node.as_u16()));
        let (mut least, mut in_vain) = (u64::MAX, 0);
        loop {
            match self.try_to(MembershipChange::Promote { node }, expected)? {
                Err(ClientError::ChangeRefused {
                    refusal: ChangeRefusal::NotCaughtUp { lag, .. }, ..
                }) if in_vain < IN_VAIN_MAX && self.left() > PAUSE => {
                    in_vain = if lag < least { 0 } else { in_vain + 1 };
                    if in_vain == 0 {
                        self.say(&format!("{} catches up: {lag} entries to go", node.as_u16()));
                    }
                    least = least.min(lag);
                    std::thread::sleep(PAUSE);
                }
                result => return result.map_err(|error| meaning_of_change(&error).at(self.reach)),
            }
        }
    }

    /// Waits until a learner has what it takes to be promoted.
    fn catch_up(&self, node: NodeId) -> Result<Box<MembershipState>, CliError> {
        let mut said: Option<Instant> = None;
        loop {
            let state = self.members()?;
            let is_voter = state.membership.voters.contains_key(&node);
            let row = state.members.iter().find(|row| row.node == node).copied();
            match row {
                Some(row) if row.is_caught_up || is_voter => return Ok(state),
                None if is_voter => return Ok(state),
                None => {
                    let text = format!("{} was removed meanwhile", node.as_u16());
                    return Err(
                        CliError::new(Code::Failed, text).hint("`raftgram member list` shows who is in")
                    );
                }
                Some(row) => {
                    if said.is_none_or(|at| at.elapsed() >= WORD_EVERY) {
                        said = Some(Instant::now());
                        let does = if row.is_heard { "catches up" } else { "does not answer the leader" };
                        self.say(&format!("{} {does}: {} entries to go", node.as_u16(), row.lag));
                    }
                }
            }
            if self.left().is_zero() {
                let text = format!("{} is a learner and has not caught up in time", node.as_u16());
                return Err(CliError::new(Code::TimedOut, text)
                    .at(self.reach)
                    .hint("it goes on by itself; say the same again to wait on, with a longer --timeout"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Old store out, new one in, caught up, promoted; whatever of that is done is found done.
    fn replace(
        &self,
        node: NodeId,
        address: &Address,
        expected: Option<Index>,
    ) -> Result<(String, Box<MembershipState>), CliError> {
        let before = self.members()?;
        let known = before.membership.member(node).cloned();
        if known.is_none() {
            self.say(&format!("{} is no member, so there is nothing to remove", node.as_u16()));
        }
        match self.try_add(node, address, expected)? {
            Ok(_) => {}
            // Only now is anything removed: a node that could take the place is there.
            Err(ClientError::ChangeRefused { refusal: ChangeRefusal::Taken { .. }, .. }) => {
                self.remove(node, expected.or(Some(before.version)))?;
                self.add(node, address, None)?;
            }
            Err(error) => return Err(meaning_of_change(&error).at(address)),
        }
        self.catch_up(node)?;
        let state = self.promote(node, None)?;
        let same = |old: &Binding| state.membership.member(node).is_some_and(|new| new.store == old.store);
        let what = match known.filter(same) {
            Some(_) => format!("{} is a voter with the data folder it had", node.as_u16()),
            None => format!("{} is a voter with another data folder", node.as_u16()),
        };
        Ok((what, state))
    }
}
