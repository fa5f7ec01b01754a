//! Answers that are awaited, many at once, and what a node tells of itself. Any executor will do; this one is std's.
//!
//! `cargo run --example 08_await_and_events`

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use raftgram::machine::{Codec as _, Fold};
use raftgram::{Answer, Client, Cluster};

const TIMEOUT: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for a future to end.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Unpark(thread::current()))));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

/// Sends all commands, then awaits the answers: one round trip and one disk write may carry many of them.
async fn add_up(client: &Client) -> Result<u64, Box<dyn Error>> {
    let pending: Vec<_> = (1..=20_u64).map(|number| client.propose(number.to_bytes(), TIMEOUT)).collect();
    let mut highest = None;
    for answer in pending {
        let Answer::Applied { result, .. } = answer.await?? else { return Err("no result".into()) };
        highest = highest.max(Option::<u64>::from_bytes(&result)?);
    }
    highest.ok_or_else(|| "not understood".into())
}

fn add(sum: &mut u64, number: u64) -> u64 {
    *sum += number;
    *sum
}

fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::in_process(3, || Fold::new(0, add))?;
    assert_eq!(block_on(add_up(&cluster.client()?))?, 210);
    for (id, node) in cluster.nodes() {
        std::iter::from_fn(|| node.next_event(Duration::ZERO)).for_each(|event| println!("{id}: {event:?}"));
    }
    Ok(())
}
