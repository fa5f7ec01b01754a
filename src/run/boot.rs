//! From a data folder and a plan to a running node.
//!
//! In this order, so that what is refused leaves nothing half-made: names are resolved, the folder is locked, the
//! socket is bound, the folder is opened (and formatted first where that was asked for); then, on the node's own
//! thread, a blank node is founded or joins, the folder is opened again, and the node runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slog::{Logger, info, o, warn};

use crate::fault::LinkConfig;
use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::membership::Member;
use crate::node::founding::{Blank, Founding, FoundingNotice, Output as FoundingOutput, Plan};
use crate::node::{LiveFaults, LoadError, Node, NodeConfig, NodeEvent, NodeStart, snapshot};
use crate::rng::Rng;
use crate::run::disk::{FolderDisk, kernel_boot};
use crate::run::disk_thread::Writer;
use crate::run::keys::random_entropy;
use crate::run::mailbox::{CloseOnDrop, Mailbox};
use crate::run::net::Net;
use crate::run::node::{NodeLoop, Request, RunError};
use crate::run::random_rng;
use crate::run::record::{Recorded, Recorder};
use crate::run::shaper::Shaper;
use crate::run::snapshot_thread::SnapshotThread;
use crate::run::spin::Spin;
use crate::seal::SealMode;
use crate::store::{
    DiskError, DiskErrorKind, FIRST_INCARNATION_MAX, FormatError, FormatOptions, Fsync, OnDamage, OpenError,
    OpenOptions, Recovered, SEGMENT_BYTES, SharedDisk, SnapshotError, Store, StoreError, Unsynced,
};
use crate::trace::Payloads;
use crate::types::{BootNonce, ClusterId, Identity, Incarnation, NodeId, StoreId};

/// What to do with a data folder that has no cluster yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBlank {
    /// Refuse: a folder that should hold data and does not is a loss to be noticed.
    Refuse,
    /// Found a new cluster together with all other voters.
    Bootstrap,
    /// Join the cluster that answers at any of the voters' addresses.
    Join,
}

/// What carries datagrams between nodes. Clients speak UDP either way, and all nodes of a cluster need the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// Frames of TCP streams, for comparison: one lost packet holds up all that was sent after it.
    Tcp,
}

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The node's settings; the routes to members that are advertised by name are filled in.
    pub config: NodeConfig,
    /// Where its socket is bound.
    pub listen: SocketAddr,
    /// Where clients are heard as well, on a socket of their own: however many they are, they are in the way of each
    /// other only, not of what nodes say. Whoever knows the address above may still ask there.
    pub client_listen: Option<SocketAddr>,
    /// How it speaks with other nodes.
    pub transport: Transport,
    /// The voters' advertised addresses: read when the folder is blank, and to find members by name.
    pub voters: BTreeMap<NodeId, String>,
    /// The data folder.
    pub data: PathBuf,
    /// What to do when it is blank.
    pub if_blank: IfBlank,
    /// How long a file of its log is. Short: many files. Long: room that is taken ahead, twice.
    pub segment_bytes: u64,
    /// The cluster the folder must belong to, if that is known.
    pub cluster: Option<ClusterId>,
    /// Whether writes are synced.
    pub fsync: Fsync,
    /// Faults between the node's socket and its machine, and the seed they are drawn from.
    pub faults: Option<(LinkConfig, u64)>,
    /// A folder to record in what the node sends, gets and becomes: a file for each of its boots, see docs/trace.md.
    pub record: Option<PathBuf>,
    /// Whether its loop looks for datagrams before it sleeps; it costs up to a core.
    pub spin: Option<Spin>,
    /// Where log records go; each room adds its own keys.
    pub logger: Logger,
}

impl NodeOptions {
    /// A node of this id that listens at, and is reached at, this address; with its data in this folder, durable
    /// writes, no faults and no log output.
    #[must_use]
    pub fn new(id: NodeId, listen: SocketAddr, data: PathBuf) -> Self {
        Self {
            config: NodeConfig::new(id, listen.to_string()),
            listen,
            client_listen: None,
            transport: Transport::Udp,
            voters: BTreeMap::new(),
            data,
            if_blank: IfBlank::Refuse,
            segment_bytes: SEGMENT_BYTES,
            cluster: None,
            fsync: Fsync::On,
            faults: None,
            record: None,
            spin: None,
            logger: Logger::root(slog::Discard, o!()),
        }
    }

    /// Voters 1, 2, 3, … at these addresses.
    ///
    /// # Panics
    /// With more than 65,534 addresses.
    #[must_use]
    pub fn voters_from(addresses: &[impl ToString]) -> BTreeMap<NodeId, String> {
        let id = |place: usize| {
            u16::try_from(place + 1).ok().and_then(NodeId::new).expect("at most 65,534 voters")
        };
        addresses.iter().enumerate().map(|(place, address)| (id(place), address.to_string())).collect()
    }
}

/// Why a node did not start. Each names the thing and, in its words, the way out.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be resolved.
    Address {
        /// As it was given.
        address: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The socket could not be bound.
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Another process uses the data folder.
    FolderLocked {
        /// Which.
        folder: PathBuf,
    },
    /// The data folder is blank and neither founding nor joining was asked for.
    FolderBlank {
        /// Which.
        folder: PathBuf,
    },
    /// The data folder holds a backup, with which a cluster can be founded and none be joined.
    FolderRestored {
        /// Which.
        folder: PathBuf,
    },
    /// The data folder could not be taken, made or written.
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the disk said.
        error: DiskError,
    },
    /// The data folder must not be used.
    Open {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// This node is not in the list of voters it should found with.
    NotAVoter {
        /// The node.
        id: NodeId,
    },
    /// A setting that cannot work.
    Config(String),
    /// The folder for recordings could not be made.
    Record {
        /// Which.
        folder: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// No randomness, or no thread, was to be had.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, error } => write!(f, "address {address} cannot be resolved: {error}"),
            Self::Bind { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::FolderLocked { folder } => {
                write!(f, "data folder {} is in use by another process", folder.display())
            }
            Self::FolderBlank { folder } => write!(
                f,
                "data folder {} holds no node's data; if that is as it should be, found a cluster (bootstrap) or \
                 join one (join)",
                folder.display()
            ),
            Self::FolderRestored { folder } => write!(
                f,
                "data folder {} was restored from a backup: a new cluster can be founded with it (bootstrap), but it \
                 can join none",
                folder.display()
            ),
            Self::Folder { folder, error } => write!(f, "data folder {}: {error}", folder.display()),
            Self::Open { folder, error } => write!(f, "data folder {}: {error}", folder.display()),
            Self::NotAVoter { id } => {
                write!(f, "{id} is not among the voters it should found a cluster with")
            }
            Self::Config(what) => f.write_str(what),
            Self::Record { folder, error } => {
                write!(f, "nothing can be recorded in {}: {error}", folder.display())
            }
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A node that is ready to run on a thread of its own.
pub struct Booted<M, D> {
    site: Site,
    machine: M,
    store: Store<D>,
    recovered: Recovered,
}

/// What a node has around it, blank or founded.
struct Site {
    options: NodeOptions,
    contacts: Vec<(Option<NodeId>, SocketAddr)>,
    net: Net,
    mailbox: Arc<Mailbox<Request>>,
    rng: Rng,
    log: Logger,
}

/// Does all of a start that can be refused, on the folder that the options name.
pub fn boot<M: Machine>(options: NodeOptions, machine: M) -> Result<Booted<M, FolderDisk>, StartError> {
    boot_on(options, machine, |options| {
        // A folder that should be there is not made by looking for it.
        if options.if_blank == IfBlank::Refuse && !options.data.exists() {
            return Err(StartError::FolderBlank { folder: options.data.clone() });
        }
        take_folder(&options.data)
    })
}

/// Does all of a start that can be refused, on the disk that `take` brings; the options' folder is its name.
pub fn boot_on<M: Machine, D: SharedDisk>(
    mut options: NodeOptions,
    machine: M,
    take: impl FnOnce(&NodeOptions) -> Result<D, StartError>,
) -> Result<Booted<M, D>, StartError> {
    let id = options.config.id;
    if options.if_blank == IfBlank::Bootstrap && !options.voters.contains_key(&id) {
        return Err(StartError::NotAVoter { id });
    }
    options.config.validate().map_err(|error| StartError::Config(error.to_string()))?;
    prepare_seal(&mut options.config)?;
    let mut contacts = Vec::new();
    for (voter, address) in options.voters.iter().filter(|(voter, _)| **voter != id) {
        let named = resolve(address)?;
        options.config.names.insert(address.clone(), named);
        let resolved = options.config.routes.get(voter).copied().unwrap_or(named);
        contacts.push(((options.if_blank == IfBlank::Bootstrap).then_some(*voter), resolved));
    }
    if let Some(folder) = &options.record {
        std::fs::create_dir_all(folder)
            .map_err(|error| StartError::Record { folder: folder.clone(), error })?;
    }
    let mut rng = random_rng().map_err(StartError::System)?;
    let disk = take(&options)?;
    let refused = |address| move |error| StartError::Bind { address, error };
    let mut net = Net::bind(options.listen).map_err(refused(options.listen))?;
    if let Some(address) = options.client_listen {
        net.listen_for_clients(address).map_err(refused(address))?;
    }
    let log = options.logger.new(o!("node" => id.as_u16()));
    if options.transport == Transport::Tcp {
        net.stream_to_nodes(&log).map_err(refused(options.listen))?;
    }
    let (store, recovered) = open_or_format(disk, &options, &mut rng)?;
    let mailbox = Arc::new(Mailbox::new(net.waker()));
    Ok(Booted { site: Site { options, contacts, net, mailbox, rng, log }, machine, store, recovered })
}

impl<M: Machine + Send + 'static, D: SharedDisk> Booted<M, D> {
    /// The way in from other threads.
    #[must_use]
    pub fn mailbox(&self) -> Arc<Mailbox<Request>> {
        Arc::clone(&self.site.mailbox)
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.site.net.local_addr()
    }

    /// Where clients are heard.
    pub fn client_addr(&self) -> io::Result<SocketAddr> {
        self.site.net.client_addr()
    }

    /// Founds or joins where the folder is blank, then runs the node until it is told to stop.
    pub fn run(self, on_event: Box<dyn FnMut(&NodeEvent) + Send>) -> Result<(), RunError> {
        let Self { mut site, mut machine, store, recovered } = self;
        // Also when founding fails or the machine panics.
        let _closed_at_end = CloseOnDrop(Arc::clone(&site.mailbox));
        site.warn_of_small_buffers();
        site.warn_of_other_voters(&recovered);
        let Some((store, recovered)) = site.become_member(store, recovered)? else { return Ok(()) };
        site.record(&recovered)?;
        let Site { options, mut net, mailbox, mut rng, log, .. } = site;
        if let Some(file) = &recovered.snapshot {
            info!(log, "loading a snapshot"; "snapshot" => %file.meta);
        }
        let (mut store, recovered, snapshot) =
            snapshot::fill(store, recovered, OnDamage::Keep, &mut machine).map_err(not_filled)?;
        // The snapshot's file is the snapshot thread's from here on.
        store.disk_mut().close_files();
        let start = NodeStart {
            store: recovered.store,
            incarnation: recovered.incarnation,
            boot_nonce: BootNonce(rng.bytes16()),
            cluster: recovered.cluster,
            founding: recovered.founding,
            hard_state: recovered.hard_state,
            snapshot,
            entries: recovered.entries,
            remains: recovered.remains,
            damage: recovered.damage,
        };
        info!(log, "serving"; "listen" => %options.listen, "transport" => ?options.transport,
            "cluster" => %start.cluster, "store" => %start.store, "incarnation" => %start.incarnation,
            "entries" => start.entries.len());
        let live = options.config.live_faults == LiveFaults::Allowed;
        if let Some((faults, seed)) =
            options.faults.or_else(|| live.then(|| (LinkConfig::default(), rng.next_u64())))
        {
            info!(log, "faults between socket and machine"; "seed" => seed, "faults" => format!("{faults:?}"));
            net.shape(Shaper::new(faults, Rng::from_seed(seed)));
        }
        if let Some(spin) = options.spin {
            net.spin(spin);
        }
        let node = Node::new(options.config, start, machine, &options.logger, rng, net.now());
        let shared = store.disk().share().map_err(|error| RunError::Disk(StoreError::Failed(error)))?;
        let snapshots = match options.fsync {
            Fsync::On => SnapshotThread::start(shared, net.waker()),
            Fsync::Off => SnapshotThread::start(Unsynced(shared), net.waker()),
        };
        let snapshots = snapshots.map_err(RunError::Poll)?;
        let writer = match options.fsync {
            Fsync::On => Writer::thread(store, net.waker()).map_err(RunError::Poll)?,
            Fsync::Off => Writer::in_place(store),
        };
        let (syncs, began) = (Histogram::default(), net.now());
        NodeLoop { node, net, writer, snapshots, mailbox, on_event, log, syncs, began }.run()
    }
}

/// What keeps the machine from being filled. A damaged snapshot does only where nobody else has its content.
fn not_filled(error: snapshot::StartError) -> RunError {
    match error {
        snapshot::StartError::Load(error) => RunError::Snapshot(error),
        snapshot::StartError::Open(OpenError::Disk(error)) => RunError::Disk(StoreError::Failed(error)),
        snapshot::StartError::Open(OpenError::Damaged(damage)) => {
            RunError::Snapshot(LoadError::File(SnapshotError::Damaged(damage)))
        }
        snapshot::StartError::Open(error) => unreachable!("the folder is open: {error}"),
    }
}

impl Site {
    fn warn_of_small_buffers(&self) {
        let buffers = self.net.buffers();
        if buffers.is_short() {
            warn!(self.log, "the kernel granted smaller socket buffers than asked for; \
                sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608 raises them";
                "receive_bytes" => buffers.receive_bytes, "send_bytes" => buffers.send_bytes);
        }
    }

    /// Records this boot, if that was asked for; the one before ends here.
    fn record(&mut self, recovered: &Recovered) -> Result<(), RunError> {
        self.net.record(None);
        let Some(folder) = &self.options.record else { return Ok(()) };
        let begin = || {
            let recorded = Recorded {
                node: self.options.config.id,
                store: recovered.store,
                incarnation: recovered.incarnation,
                cluster: recovered.cluster,
                address: self.net.local_addr()?,
                payloads: Payloads::Kept,
            };
            Recorder::start(folder, recorded, self.net.now(), &self.log)
        };
        let recorder = begin().map_err(|error| RunError::Record { folder: folder.clone(), error })?;
        self.net.record(Some(recorder));
        Ok(())
    }

    /// The list of voters is read at the founding only; later it finds members by name and changes nothing.
    fn warn_of_other_voters(&self, recovered: &Recovered) {
        let Some(record) = &recovered.founding else { return };
        let address = |(id, member): (NodeId, &Member)| (id, member.address.clone());
        let founded: BTreeMap<NodeId, String> = record.membership.iter().map(address).collect();
        if !self.options.voters.is_empty() && self.options.voters != founded {
            warn!(self.log, "the list of voters differs from the one the cluster was founded with, which stands";
                "given" => format!("{:?}", self.options.voters), "founded" => format!("{founded:?}"));
        }
    }

    /// The blank node's life, if it is blank. `None` when it was told to stop before it became a member.
    fn become_member<D: SharedDisk>(
        &mut self,
        mut store: Store<D>,
        recovered: Recovered,
    ) -> Result<Option<(Store<D>, Recovered)>, RunError> {
        if !recovered.cluster.is_zero() {
            return Ok(Some((store, recovered)));
        }
        self.record(&recovered)?;
        match self.found_or_join(&recovered)? {
            None => {
                store.shutdown().map_err(RunError::Disk)?;
                return Ok(None);
            }
            Some(FoundingOutput::Founded(record)) => {
                info!(self.log, "founded"; "cluster" => %record.cluster, "members" => %record.membership);
                store.record_founding(&record).map_err(RunError::Disk)?;
            }
            Some(FoundingOutput::Joined(cluster)) => {
                if let Some(expected) = self.options.cluster.filter(|expected| *expected != cluster) {
                    return Err(RunError::OtherCluster { found: cluster, expected });
                }
                info!(self.log, "joined"; "cluster" => %cluster);
                store.record_cluster(cluster).map_err(RunError::Disk)?;
            }
            Some(other) => unreachable!("{other:?} does not end founding"),
        }
        // Opening again raises the boot counter: nothing said as a blank node can be taken for the member's word.
        Store::open(store.into_disk(), open_options(&self.options)).map(Some).map_err(RunError::Reopen)
    }

    /// Drives the founding machine to what ends it.
    fn found_or_join(&mut self, recovered: &Recovered) -> Result<Option<FoundingOutput>, RunError> {
        let plan = match self.options.if_blank {
            IfBlank::Join => Plan::Join,
            _ => Plan::Found {
                voters: self.options.voters.clone(),
                restored: recovered.snapshot.as_ref().map(|file| file.meta),
            },
        };
        info!(self.log, "blank"; "plan" => if plan == Plan::Join { "join" } else { "found" },
            "store" => %recovered.store);
        let blank = Blank {
            identity: Identity { node: self.options.config.id, store: recovered.store },
            incarnation: recovered.incarnation,
            boot_nonce: BootNonce(self.rng.bytes16()),
        };
        let (config, now) = (self.options.config.rpc.clone(), self.net.now());
        let mut founding = Founding::new(plan, blank, &self.contacts, config, self.rng.fork(), now);
        let mut requests = Vec::new();
        loop {
            let now = self.net.now();
            founding.turn(now);
            while let Some(output) = founding.poll_output() {
                match output {
                    FoundingOutput::Transmit { to, bytes } => self.net.queue(to, bytes),
                    FoundingOutput::Notice(FoundingNotice::FoundedWithoutUs { peer, cluster }) => {
                        return Err(RunError::FoundedWithoutUs { peer, cluster });
                    }
                    FoundingOutput::Notice(notice) => warn!(self.log, "founding waits"; "reason" => %notice),
                    end => return Ok(Some(end)),
                }
            }
            self.net.send(|to, error| founding.handle_send_error(now, to, error));
            self.net.wait(founding.poll_timeout()).map_err(RunError::Poll)?;
            self.mailbox.take(&mut requests);
            if requests.drain(..).any(|request| matches!(request, Request::Stop)) {
                return Ok(None);
            }
            self.net.receive(|now, from, bytes| founding.handle_datagram(now, from, bytes));
            founding.handle_timeout(self.net.now());
        }
    }
}

/// Sees to it that a node that seals has a key to greet with, and fresh randomness.
fn prepare_seal(config: &mut NodeConfig) -> Result<(), StartError> {
    let seal = &mut config.rpc.seal;
    if seal.mode == SealMode::Off {
        return Ok(());
    }
    if seal.keys.as_ref().is_none_or(|keys| keys.for_node().is_none()) {
        let what = "a node that seals its datagrams needs a key of the cluster";
        return Err(StartError::Config(what.to_owned()));
    }
    seal.entropy = Some(random_entropy().map_err(StartError::System)?);
    Ok(())
}

/// Where a name or address leads; IPv4 before IPv6 only if the resolver says so.
pub fn resolve(address: &str) -> Result<SocketAddr, StartError> {
    let failed = |error| StartError::Address { address: address.to_owned(), error };
    let mut found = address.to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "no address of this name")))
}

fn take_folder(folder: &Path) -> Result<FolderDisk, StartError> {
    FolderDisk::open(folder).map_err(|error| match error.kind {
        DiskErrorKind::Locked => StartError::FolderLocked { folder: folder.to_owned() },
        _ => StartError::Folder { folder: folder.to_owned(), error },
    })
}

fn open_options(options: &NodeOptions) -> OpenOptions {
    OpenOptions {
        cluster: options.cluster,
        segment_bytes: options.segment_bytes,
        kernel_boot: kernel_boot().unwrap_or_default(),
        fsync: options.fsync,
        on_damage: OnDamage::Keep,
    }
}

fn open_or_format<D: SharedDisk>(
    mut disk: D,
    options: &NodeOptions,
    rng: &mut Rng,
) -> Result<(Store<D>, Recovered), StartError> {
    let folder = || options.data.clone();
    let not_taken = |error| StartError::Folder { folder: folder(), error };
    let refused = |error| StartError::Open { folder: folder(), error };
    // What has no cluster yet cannot be of the wrong one; which one it joins is checked when it does.
    let blank = OpenOptions { cluster: None, ..open_options(options) };
    let opened = match Store::open(disk.share().map_err(not_taken)?, open_options(options)) {
        Err(
            OpenError::NotFormatted
            | OpenError::FormatUnfinished
            | OpenError::ForeignCluster { found: ClusterId::ZERO, .. },
        ) if options.if_blank == IfBlank::Bootstrap && options.cluster.is_some() => {
            let what = "a cluster that is founded gets an id of its own, so that none can be asked for";
            return Err(StartError::Config(what.to_owned()));
        }
        Err(OpenError::ForeignCluster { found: ClusterId::ZERO, .. })
            if options.if_blank == IfBlank::Join =>
        {
            Store::open(disk, blank).map_err(refused)?
        }
        Err(OpenError::NotFormatted | OpenError::FormatUnfinished) if options.if_blank != IfBlank::Refuse => {
            let format = FormatOptions {
                store: StoreId(rng.bytes16()),
                first_incarnation: Incarnation(rng.below(u64::from(FIRST_INCARNATION_MAX)) as u32 + 1),
                segment_bytes: options.segment_bytes,
            };
            Store::format(&mut disk, format).map_err(|error| match error {
                FormatError::Disk(error) => not_taken(error),
                FormatError::NotEmpty { .. } => StartError::FolderBlank { folder: folder() },
            })?;
            Store::open(disk, blank).map_err(refused)?
        }
        Err(OpenError::NotFormatted | OpenError::FormatUnfinished) => {
            return Err(StartError::FolderBlank { folder: folder() });
        }
        opened => opened.map_err(refused)?,
    };
    match options.if_blank {
        IfBlank::Bootstrap => {}
        _ if opened.0.is_restored() => return Err(StartError::FolderRestored { folder: folder() }),
        IfBlank::Refuse if opened.1.cluster.is_zero() => {
            return Err(StartError::FolderBlank { folder: folder() });
        }
        _ => {}
    }
    Ok(opened)
}
