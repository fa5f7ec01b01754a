//! Commands as an enum of one's own, a line each to write and to read. What a node cannot read changes nothing.
//!
//! `cargo run --example 04_typed_commands`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use raftgram::Cluster;
use raftgram::cursor::{CursorError, Reader};
use raftgram::machine::{Codec, Fold};

const TIMEOUT: Duration = Duration::from_secs(20);

enum Command {
    Pay { to: String, amount: u64 },
    Move { from: String, to: String, amount: u64 },
}

impl Codec for Command {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Pay { to, amount } => (0_u8, to.clone(), *amount).encode(out),
            Self::Move { from, to, amount } => (1_u8, (from.clone(), to.clone()), *amount).encode(out),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        match u8::decode(r)? {
            0 => Ok(Self::Pay { to: Codec::decode(r)?, amount: Codec::decode(r)? }),
            1 => Ok(Self::Move { from: Codec::decode(r)?, to: Codec::decode(r)?, amount: Codec::decode(r)? }),
            _ => Err(CursorError::Value),
        }
    }
}

/// Carries one out; the result says whether there was enough.
fn apply(accounts: &mut BTreeMap<String, u64>, command: Command) -> bool {
    let (from, to, amount) = match command {
        Command::Pay { to, amount } => (None, to, amount),
        Command::Move { from, to, amount } => (Some(from), to, amount),
    };
    if let Some(from) = from {
        let Some(left) = accounts.get(&from).and_then(|held| held.checked_sub(amount)) else { return false };
        accounts.insert(from, left);
    }
    *accounts.entry(to).or_default() += amount;
    true
}

fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::in_process(3, || Fold::new(BTreeMap::new(), apply))?;
    let client = cluster.client()?;
    let [ada, bob] = ["ada", "bob"].map(str::to_owned);
    assert!(client.apply(&Command::Pay { to: ada.clone(), amount: 50 }, TIMEOUT)?);
    assert!(client.apply(&Command::Move { from: ada.clone(), to: bob.clone(), amount: 20 }, TIMEOUT)?);
    assert!(!client.apply(&Command::Move { from: ada, to: bob, amount: 31 }, TIMEOUT)?);
    println!("{:?}", client.ask::<BTreeMap<String, u64>>(&(), TIMEOUT)?);
    Ok(())
}
