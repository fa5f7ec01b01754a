//! Finding nodes on a network: the question that `raftgram discover` asks, and the answer of a node that was started
//! with `--beacon`.
//!
//! A question goes to a multicast group or to an address; every node that listens there answers the asker, with what
//! somebody needs who wants to join. Nothing is sent unasked and nothing joins by itself. A question is as long as the
//! longest answer, so that nobody can use a node to send a third party more than he sends himself, and a node answers
//! a few times a second at most. Answers prove nothing: whoever is on the network can forge them, and a key keeps such
//! a one out of the cluster all the same.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use raftgram::handle::Onlooker;
use raftgram::wire::status::NodeStatus;
use serde::{Deserialize, Serialize};
use slog::{Logger, info};

use crate::error::{CliError, Code};

/// Where questions go unless told otherwise: a group of the organisation-local scope, which routers keep inside.
pub(crate) const GROUP: &str = "239.255.71.1:7171";

/// What every question begins with.
const QUESTION: &[u8] = b"raftgram discover 1\n";

/// The length of a question and the most of an answer: fits a datagram anywhere.
const BYTES: usize = 1200;

/// The most answers in a second.
const ANSWERS_MAX: u32 = 20;

/// How long the node may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait when the socket cannot be read for the moment.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node answers.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Found {
    /// The version of this answer.
    pub(crate) raftgram: u32,
    /// The cluster's id.
    pub(crate) cluster: String,
    /// The node's number.
    pub(crate) node: u16,
    /// Where it is reached, as it advertises.
    pub(crate) addr: String,
    pub(crate) role: String,
    pub(crate) term: u64,
    /// Whether it takes sealed datagrams only: then a key is needed to join.
    pub(crate) sealed: bool,
    /// All voters by number.
    pub(crate) voters: BTreeMap<u16, String>,
    /// All learners by number.
    #[serde(default)]
    pub(crate) learners: BTreeMap<u16, String>,
}

impl Found {
    fn of(status: &NodeStatus, is_sealed: bool) -> Option<Self> {
        let membership = status.membership.as_ref()?;
        let addresses = |members: &raftgram::membership::Members| {
            members.iter().map(|(id, member)| (id.as_u16(), member.address.clone())).collect()
        };
        Some(Self {
            raftgram: 1,
            cluster: status.cluster.to_string(),
            node: status.node.as_u16(),
            addr: status.address.clone(),
            role: status.role.name().to_owned(),
            term: status.term.0,
            sealed: is_sealed,
            voters: addresses(&membership.voters),
            learners: addresses(&membership.learners),
        })
    }

    /// Reads an answer; none of anything that a terminal should not be shown.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let found: Self = serde_json::from_slice(bytes).ok()?;
        let addresses = found.voters.values().chain(found.learners.values());
        let texts = addresses.chain([&found.cluster, &found.addr, &found.role]);
        let is_printable = texts.into_iter().all(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        (is_printable && found.raftgram == 1).then_some(found)
    }
}

/// The socket of a node that answers.
#[derive(Debug)]
pub(crate) struct Beacon {
    socket: UdpSocket,
    at: SocketAddr,
}

impl Beacon {
    /// Takes the address, or joins the group; several nodes of one machine may be in one group.
    pub(crate) fn bind(at: SocketAddr) -> Result<Self, CliError> {
        let socket = bind(at).map_err(|error| {
            CliError::new(Code::Failed, format!("cannot answer to discover there: {error}"))
                .at(at)
                .hint("name a multicast group, or an address of this machine with a free port")
        })?;
        Ok(Self { socket, at })
    }

    /// Answers from a thread of its own until the process ends.
    pub(crate) fn answer(self, node: Onlooker, is_sealed: bool, logger: &Logger) -> Result<(), CliError> {
        info!(logger, "answering to discover"; "beacon" => %self.at);
        thread::Builder::new()
            .name("beacon".to_owned())
            .spawn(move || serve(&self.socket, &node, is_sealed))
            .map(drop)
            .map_err(|error| CliError::io("starting the thread that answers to discover", &error))
    }
}

fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    if !at.ip().is_multicast() {
        return UdpSocket::bind(at);
    }
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    match at.ip() {
        IpAddr::V4(group) => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?,
        IpAddr::V6(group) => socket.join_multicast_v6(&group, 0)?,
    }
    Ok(socket.into())
}

fn serve(socket: &UdpSocket, node: &Onlooker, is_sealed: bool) {
    let mut question = [0; BYTES + 1];
    let mut second = (Instant::now(), 0);
    loop {
        let Ok((count, from)) = socket.recv_from(&mut question) else {
            thread::sleep(PAUSE);
            continue;
        };
        if second.0.elapsed() >= Duration::from_secs(1) {
            second = (Instant::now(), 0);
        }
        if count != BYTES || !question.starts_with(QUESTION) || second.1 >= ANSWERS_MAX {
            continue;
        }
        second.1 += 1;
        let Ok(figures) = node.figures().wait(PATIENCE) else { continue };
        let Some(found) = Found::of(&figures.status, is_sealed) else { continue };
        let answer = serde_json::to_vec(&found).unwrap_or_default();
        if answer.len() <= BYTES {
            // Whoever asked may be gone.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// Asks at an address and collects answers until the time is up, each node's once.
pub(crate) fn ask(at: SocketAddr, patience: Duration) -> io::Result<Vec<(SocketAddr, Found)>> {
    let any: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    let mut question = [0; BYTES];
    question[..QUESTION.len()].copy_from_slice(QUESTION);
    let deadline = Instant::now() + patience;
    let mut found = BTreeMap::new();
    let mut answer = [0; BYTES + 1];
    let mut ask_at = Instant::now();
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Ok(found.into_values().collect());
        }
        if now >= ask_at {
            socket.send_to(&question, at)?;
            // Questions and answers get lost; a few of them are enough.
            ask_at = now + patience / 3;
        }
        socket.set_read_timeout(Some(
            deadline.min(ask_at).saturating_duration_since(now).max(Duration::from_millis(1)),
        ))?;
        // A time-out, or a port that nobody listens on: ask again.
        let Ok((count, from)) = socket.recv_from(&mut answer) else { continue };
        if let Some(of_node) = Found::read(&answer[..count]) {
            found.insert((of_node.cluster.clone(), of_node.node, from), (from, of_node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        let voters = [(1, "10.0.0.1:7101".to_owned()), (2, "10.0.0.2:7101".to_owned())].into();
        Found {
            raftgram: 1,
            cluster: "c1".repeat(16),
            node: 1,
            addr: "10.0.0.1:7101".to_owned(),
            role: "leader".to_owned(),
            term: 3,
            sealed: false,
            voters,
            learners: BTreeMap::new(),
        }
    }

    #[test]
    fn an_answer_is_read_back_and_what_could_move_a_cursor_is_not() {
        let bytes = serde_json::to_vec(&found()).unwrap();
        assert_eq!(Found::read(&bytes), Some(found()));
        let forged = Found { addr: "\u{1b}[2J".to_owned(), ..found() };
        assert_eq!(Found::read(&serde_json::to_vec(&forged).unwrap()), None);
        let later = Found { raftgram: 2, ..found() };
        assert_eq!(Found::read(&serde_json::to_vec(&later).unwrap()), None);
        assert_eq!(Found::read(b"hello"), None);
    }

    #[test]
    fn a_group_is_shared_by_the_nodes_of_a_machine() {
        // Where there is no multicast there is nothing to share.
        if let Ok(first) = bind(GROUP.parse().unwrap()) {
            bind(first.local_addr().unwrap()).unwrap();
        }
    }
}
