//! Becoming a cluster, or part of one: what a node with a blank data folder does before it is a [`super::Node`].
//!
//! # Founding
//! Founding is one act of *all* voters. Each blank node says hello to the others under no cluster, showing its
//! store id and a digest of its voter list. The one with the lowest id collects all of them, draws the cluster
//! id, writes the *founding record* that binds every id to its store and address, and is founded once that is
//! durable. The others ask it for the record; a node takes the first record that binds its own store, and never
//! another.
//!
//! A founded node answers a blank one's hello with its cluster id. Whoever sees such an answer asks that node, as
//! a client would, for its founding record. A record that does not bind the asking store means "already founded
//! without you": a wiped node can therefore never found or join as the voter it was.
//!
//! # Joining
//! A node that joins asks any address given for the founding record and keeps it, although it does not bind its
//! store: it is then no voter until the membership in the log says so.
//!
//! Either way the record must be durable before [`Output::Done`] is acted upon; afterwards the driver opens the
//! data folder again, under a new incarnation, as a founded node.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cursor::Writer;
use crate::founding::FoundingRecord;
use crate::membership::{Member, Members, Membership};
use crate::rng::Rng;
use crate::rpc::{Event, LinkId, Local, Output as RpcOutput, PeerInfo, Rpc, RpcConfig};
use crate::time::{Instant, earliest};
use crate::types::{ClusterId, Identity, NodeId};
use crate::wire::Class;
use crate::wire::client::{ClientReply, ClientRequest};

/// How long a question for the record may stay unanswered before another node is asked.
const ASK_TIMEOUT: Duration = Duration::from_millis(200);
