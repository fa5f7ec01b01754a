//! The process that `bench udp` talks to: sends every datagram back to where it came from.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use crate::bench::peer;
use crate::bench::socket::{self, Waiting};
use crate::error::CliError;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// The other process of `bench udp`. Ends when its stdin closes, so that it never outlives its parent.
#[derive(Debug, Args)]
pub(crate) struct Echo {
    #[arg(long, hide = true)]
    address: IpAddr,
    #[arg(long, hide = true)]
    spin: bool,
    #[arg(long, hide = true)]
    pin: Option<usize>,
}

impl Echo {
    pub(crate) fn run(self) -> Result<(), CliError> {
        if let Some(processor) = self.pin {
            socket::pin(processor)?;
        }
        let waiting = if self.spin { Waiting::Spinning } else { Waiting::Asleep(Duration::from_millis(100)) };
        let (socket, _) = socket::open(self.address, waiting)?;
        let address = socket.local_addr().map_err(|error| CliError::io("reading the own address", &error))?;
        let orphaned = peer::announce(address)?;
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        while !orphaned.load(Ordering::Relaxed) {
            // What cannot be received or sent is lost, as datagrams are; the other side counts it.
            if let Ok((bytes, from)) = socket.recv_from(&mut datagram) {
                let _ = socket.send_to(&datagram[..bytes], from);
            }
        }
        Ok(())
    }
}
