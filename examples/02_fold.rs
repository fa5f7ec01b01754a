//! A machine of one's own in a closure: a value and what a command does to it.
//!
//! `cargo run --example 02_fold`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use raftgram::Cluster;
use raftgram::machine::Fold;

const TIMEOUT: Duration = Duration::from_secs(20);

/// How much there is of each thing.
type Stock = BTreeMap<String, i64>;

/// What every node runs: the same commands in the same order come to the same stock.
fn stock() -> Fold<Stock> {
    let fold = Fold::new(Stock::new(), |stock, (thing, change): (String, i64)| -> Option<i64> {
        let held = stock.get(&thing).copied().unwrap_or(0);
        // A command that asks for too much changes nothing, and its result says so.
        let left = (held + change >= 0).then_some(held + change)?;
        stock.insert(thing, left);
        Some(left)
    });
    fold.with_query(|stock, thing: String| stock.get(&thing).copied())
}

fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::in_process(3, stock)?;
    let client = cluster.client()?;
    let change = |thing: &str, count: i64| client.apply::<Option<i64>>(&(thing.to_owned(), count), TIMEOUT);

    println!("bolts: {:?}", change("bolts", 100)?);
    println!("bolts: {:?}", change("bolts", -30)?);
    println!("taking 80 more: {:?}", change("bolts", -80)?);
    let held: Option<i64> = client.ask(&"bolts".to_owned(), TIMEOUT)?;
    assert_eq!(held, Some(70));
    println!("there are {held:?}");
    Ok(())
}
