//! The other processes of a measurement: started by it, ended with it.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{CliError, Code};
use crate::output;

/// Another process of this program that listens on a socket; killed when this value goes.
pub(super) struct Peer {
    child: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Peer {
    /// Runs this program with these arguments and reads where it listens.
    pub(super) fn start(arguments: &[String], address: IpAddr) -> Result<Self, CliError> {
        let own = std::env::current_exe().map_err(|error| CliError::io("finding the own program", &error))?;
        let mut command = Command::new(&own);
        let started = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child =
            started.map_err(|error| CliError::io("starting another process", &error).at(own.display()))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let mut peer = Self { child, address: SocketAddr::new(address, 0) };
        match (read, line.trim().parse()) {
            (Some(Ok(_)), Ok(listens)) => peer.address = listens,
            _ => return Err(CliError::new(Code::Failed, "the other process did not say where it listens")),
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says where this process listens, and becomes true when the parent closed the pipe, or died, which closes it too.
pub(super) fn announce(address: SocketAddr) -> Result<Arc<AtomicBool>, CliError> {
    output::write(&format!("{address}\n"))?;
    let orphaned = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&orphaned);
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(io::stdin().read(&mut byte), Ok(1)) {}
        seen.store(true, Ordering::Relaxed);
    });
    Ok(orphaned)
}
