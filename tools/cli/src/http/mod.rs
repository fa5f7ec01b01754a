//! What a node shows over HTTP: `node --http ADDR`.
//!
//! It only shows: every request is a GET, nothing a request says changes anything, so it needs no authority, and
//! whoever may not see the figures must be kept from the port. The node's loop is asked for its figures between two of
//! its turns; a loop that hangs is what `/health` is for.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the dashboard, one page that loads nothing from anywhere else |
//! | `/metrics` | for Prometheus; docs/metrics.md describes each |
//! | `/health` | 200 while the loop answers: restart the process when it does not |
//! | `/ready` | 200 while the node is a member, knows a leader and is not far behind: send it clients |
//! | `/status` | the figures as JSON, what the dashboard shows |
//! | `/strip?after=N` | the datagrams that passed after number N, while somebody asks |

mod kernel;
mod metrics;
mod picture;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use raftgram::handle::{Onlooker, WaitError};
use raftgram::run::figures::NodeFigures;
use raftgram::wire::status::Standing;
use slog::{Logger, info, warn};

use crate::error::{CliError, Code};
use server::{Request, Response};

/// How long the loop may take to answer. It answers within a turn, so this is a loop that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many committed entries a node may have yet to apply and still be ready.
const READY_LAG_MAX: u64 = 10_000;

const PAGE: &str = include_str!("dashboard.html");

/// The port, taken and not served yet.
#[derive(Debug)]
pub(crate) struct Face {
    listener: TcpListener,
    address: SocketAddr,
}

impl Face {
    /// Takes the port; to be done before the node starts, so that a taken one is told at once.
    pub(crate) fn bind(address: SocketAddr, logger: &Logger) -> Result<Self, CliError> {
        let taken = TcpListener::bind(address).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        });
        let face = taken.map_err(|error| {
            CliError::new(Code::Failed, format!("cannot serve HTTP there: {error}"))
                .at(address)
                .hint("another program may listen there; try another --http")
        })?;
        if !address.ip().is_loopback() {
            warn!(logger, "serving figures beyond loopback: whoever reaches this port sees the cluster's addresses and \
                traffic, and can change nothing"; "http" => %face.address);
        }
        info!(logger, "serving HTTP"; "http" => %face.address);
        Ok(face)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves from threads of its own until the process ends. `node_address` is where the node's own socket is bound.
    pub(crate) fn serve(self, onlooker: Onlooker, node_address: SocketAddr) -> Result<(), CliError> {
        let view = View { onlooker, node_address };
        server::serve(self.listener, move |request| view.answer(request))
            .map_err(|error| CliError::io("starting the HTTP thread", &error))
    }
}

/// What requests are answered from.
#[derive(Debug)]
struct View {
    onlooker: Onlooker,
    node_address: SocketAddr,
}

/// Why there are no figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// The node is being founded, joins, or ends.
    NotRunning,
    /// Its loop does not answer.
    Hangs,
}

impl Silence {
    fn text(self) -> &'static str {
        match self {
            Self::NotRunning => "the node is being founded, is joining, or has ended",
            Self::Hangs => "the node's loop does not answer",
        }
    }
}

impl View {
    fn answer(&self, request: &Request<'_>) -> Response {
        match request.path {
            "/" => Response::page(PAGE),
            "/metrics" => self.metrics(),
            "/health" => match self.figures() {
                Err(Silence::Hangs) => Response::unavailable(Silence::Hangs.text()),
                Err(Silence::NotRunning) => Response::text("starting"),
                Ok(_) => Response::text("ok"),
            },
            "/ready" => match self.figures().map_err(|silence| silence.text().to_owned()).and_then(ready) {
                Ok(()) => Response::text("ready"),
                Err(why) => Response::unavailable(&why),
            },
            "/status" => match self.figures() {
                Ok(figures) => Response::json(&picture::Picture::of(&figures, self.kernel_drops())),
                Err(silence) => Response::unavailable(silence.text()),
            },
            "/strip" => self.strip(request),
            _ => Response::not_found("there is /, /metrics, /health, /ready, /status and /strip"),
        }
    }

    fn figures(&self) -> Result<NodeFigures, Silence> {
        self.onlooker.figures().wait(PATIENCE).map_err(|error| match error {
            WaitError::TimedOut => Silence::Hangs,
            WaitError::Gone => Silence::NotRunning,
        })
    }

    fn kernel_drops(&self) -> Option<u64> {
        kernel::drops_at(self.node_address)
    }

    fn metrics(&self) -> Response {
        match self.figures() {
            Ok(figures) => Response::metrics(metrics::page(&figures, self.kernel_drops())),
            Err(Silence::NotRunning) => Response::metrics(metrics::page_of_blank()),
            Err(Silence::Hangs) => Response::unavailable(Silence::Hangs.text()),
        }
    }

    fn strip(&self, request: &Request<'_>) -> Response {
        let after = request.value("after").unwrap_or("0");
        let Ok(after) = after.parse() else {
            return Response::bad_request("after is a number, that of the last datagram seen");
        };
        match self.onlooker.look(after).wait(PATIENCE) {
            Ok(view) => Response::json(&picture::Strip::of(&view)),
            Err(_) => Response::unavailable(Silence::NotRunning.text()),
        }
    }
}

/// Whether clients are well served by this node, and if not, why.
fn ready(figures: NodeFigures) -> Result<(), String> {
    let status = figures.status;
    if status.standing != Standing::Member {
        return Err(format!("the node is {}, not a member", status.standing.name()));
    }
    if status.repair.is_some() {
        return Err("a part of the log is being fetched from other nodes".to_owned());
    }
    if status.leader.is_none() {
        return Err(format!("no leader is known in term {}", status.term.0));
    }
    let lag = status.commit.0.saturating_sub(status.applied.0);
    if lag > READY_LAG_MAX {
        return Err(format!("{lag} committed entries are still to be applied"));
    }
    Ok(())
}
