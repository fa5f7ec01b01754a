//! A node that holds whatever a test wants it to, and a stage for a few of them.

use std::sync::Arc;

use super::super::cores::{Context, Cores};
use super::super::folders::Folders;
use super::super::operations::{Language, Operations};
use super::super::oracle::Oracle;
use super::super::shadow::Found;
use super::super::subject::{Effect, Subject};
use super::super::violation::{Broken, Invariant};
use crate::entry::{Entry, Payload};
use crate::membership::{Member, Members, Membership};
use crate::raft::{Base, RoleKind};
use crate::store::Batch;
use crate::time::Instant;
use crate::types::{ClusterId, HardState, Identity, Incarnation, Index, NodeId, StoreId, Term};

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);

pub(super) fn id(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

pub(super) fn identity(number: u16) -> Identity {
    Identity { node: id(number), store: StoreId([number as u8; 16]) }
}

pub(super) fn members(numbers: &[u16]) -> Members {
    let member = |number: &u16| Member { store: identity(*number).store, address: format!("h:{number}") };
    numbers.iter().map(|number| (id(*number), member(number))).collect()
}

pub(super) fn voters(numbers: &[u16]) -> Membership {
    Membership::of_voters(members(numbers))
}

#[derive(Clone, Debug)]
pub(super) struct Puppet {
    pub(super) identity: Identity,
    pub(super) incarnation: Incarnation,
    pub(super) role: RoleKind,
    pub(super) hard_state: HardState,
    pub(super) durable_hard_state: HardState,
    pub(super) base: Base,
    pub(super) entries: Vec<Entry>,
    pub(super) commit: Index,
    pub(super) applied: Index,
    pub(super) durable: Index,
    pub(super) membership: Arc<Membership>,
    pub(super) membership_index: Index,
    pub(super) effects: Vec<Effect>,
    pub(super) restored: Option<Effect>,
    pub(super) sessions_hash: u64,
}

impl Puppet {
    pub(super) fn new(number: u16) -> Self {
        Self {
            identity: identity(number),
            incarnation: Incarnation(1),
            role: RoleKind::Follower,
            hard_state: HardState::default(),
            durable_hard_state: HardState::default(),
            base: Base::default(),
            entries: Vec::new(),
            commit: Index(0),
            applied: Index(0),
            durable: Index(0),
            membership: Arc::new(voters(&[1, 2, 3])),
            membership_index: Index(0),
            effects: Vec::new(),
            restored: None,
            sessions_hash: 0,
        }
    }

    /// Adds an entry to the log in memory.
    pub(super) fn append(&mut self, term: u64, payload: Payload) -> Index {
        let index = self.last().next();
        let before = self.mark(index.prev()).unwrap().chain;
        if let Payload::Membership(membership) = &payload {
            self.membership = Arc::clone(membership);
            self.membership_index = index;
        }
        self.entries.push(Entry::new(CLUSTER, index, Term(term), payload, before));
        index
    }

    pub(super) fn append_noop(&mut self, term: u64) -> Index {
        self.append(term, Payload::Noop)
    }

    pub(super) fn vote(&mut self, term: u64, whom: u16) {
        self.hard_state = HardState { term: Term(term), vote: Some(identity(whom)) };
    }

    /// Commits and applies all of it.
    pub(super) fn commit_all(&mut self) {
        self.commit = self.last();
        self.applied = self.commit;
        self.sessions_hash = self.commit.0;
    }
}

impl Subject for Puppet {
    fn identity(&self) -> Identity {
        self.identity
    }
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
    fn cluster(&self) -> ClusterId {
        CLUSTER
    }
    fn role(&self) -> RoleKind {
        self.role
    }
    fn hard_state(&self) -> HardState {
        self.hard_state
    }
    fn durable_hard_state(&self) -> HardState {
        self.durable_hard_state
    }
    fn base(&self) -> Base {
        self.base
    }
    fn applied(&self) -> Index {
        self.applied
    }
    fn commit(&self) -> Index {
        self.commit
    }
    fn durable(&self) -> Index {
        self.durable
    }
    fn last(&self) -> Index {
        Index(self.base.index.0 + self.entries.len() as u64)
    }
    fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.index == index)
    }
    fn membership(&self) -> (&Arc<Membership>, Index) {
        (&self.membership, self.membership_index)
    }
    fn effects(&self) -> &[Effect] {
        &self.effects
    }
    fn restored(&self) -> Option<Effect> {
        self.restored
    }
    fn sessions_hash(&self) -> u64 {
        self.sessions_hash
    }
}

/// The accounts that the checks of consensus keep.
pub(super) struct Stage {
    pub(super) oracle: Oracle,
    pub(super) folders: Folders,
    pub(super) cores: Cores,
    pub(super) operations: Operations,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            oracle: Oracle::default(),
            folders: Folders::default(),
            cores: Cores::default(),
            operations: Operations::new(Language::Kv),
        }
    }

    /// Boots a node on what its memory shows.
    pub(super) fn boot(&mut self, puppet: &Puppet) -> Result<(), Broken> {
        let found = Found {
            identity: puppet.identity,
            incarnation: puppet.incarnation,
            hard_state: puppet.hard_state,
            base: puppet.base,
            entries: &puppet.entries,
            is_damaged: false,
            damage: &[],
        };
        self.folders.booted(&mut self.oracle, &found)?;
        self.with(|cores, context| cores.booted(puppet, context))
    }

    /// Its disk finishes what its memory shows.
    pub(super) fn persist(&mut self, puppet: &mut Puppet) -> Result<(), Broken> {
        let last = self.folders.of(puppet.identity.node).unwrap().log().last();
        let keep = last.min(puppet.last());
        let batch = Batch {
            hard_state: Some(puppet.hard_state),
            truncate_from: (keep < last).then(|| keep.next()),
            entries: puppet.entries.clone(),
        };
        puppet.durable_hard_state = puppet.hard_state;
        puppet.durable = puppet.last();
        self.folders.persisted(&mut self.oracle, puppet.identity.node, &batch)
    }

    pub(super) fn turn(&mut self, puppet: &Puppet) -> Result<(), Broken> {
        self.with(|cores, context| cores.turned(puppet, context))
    }

    fn with<T>(&mut self, look: impl FnOnce(&mut Cores, &mut Context<'_>) -> T) -> T {
        let now = Instant::from_nanos(1);
        let Self { oracle, folders, cores, operations } = self;
        look(cores, &mut Context { now, oracle, folders, operations })
    }

    /// Three nodes that have booted, of which the first leads term 1 with one entry that all hold and have committed.
    pub(super) fn settled() -> (Self, [Puppet; 3]) {
        let mut stage = Self::new();
        let mut puppets = [1, 2, 3].map(Puppet::new);
        for puppet in &mut puppets {
            stage.boot(puppet).unwrap();
        }
        for puppet in &mut puppets {
            puppet.vote(1, 1);
            stage.persist(puppet).unwrap();
        }
        puppets[0].role = RoleKind::Leader;
        for puppet in &mut puppets {
            puppet.append_noop(1);
            stage.persist(puppet).unwrap();
        }
        for puppet in &mut puppets {
            puppet.commit_all();
            stage.turn(puppet).unwrap();
        }
        (stage, puppets)
    }
}

#[track_caller]
pub(super) fn assert_broken(result: Result<(), Broken>, invariant: Invariant) {
    match result {
        Err(broken) => assert_eq!(broken.invariant, invariant, "{}", broken.text),
        Ok(()) => panic!("{invariant} was not found broken"),
    }
}
