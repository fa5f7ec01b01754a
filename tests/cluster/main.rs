//! The whole system in one thread: founding, elections, exactly-once writes and reads, under seeded faults.

mod copies;
mod members;
mod reads;
mod repair;
mod resent;
mod scenarios_s;
mod snapshots;
mod upgrade;
mod watch;

use std::time::Duration;

use raftgram::client::{Answer, ClientError};
use raftgram::fault::LinkConfig;
use raftgram::kv::{Answer as KvAnswer, Command, CommandResult, Kv, Query};
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, Down, End, Settings, Simulation};
use raftgram::wire::client::ReadLevel;

type World = Simulation<Kv>;

const LONG: Duration = Duration::from_secs(60);

fn lan() -> LinkConfig {
    LinkConfig { delay: Duration::from_micros(50), ..LinkConfig::default() }
}

fn rough() -> LinkConfig {
    LinkConfig {
        loss: 0.2,
        duplicate: 0.05,
        reorder: 0.05,
        reorder_delay: Duration::from_micros(300),
        corrupt: 0.01,
        jitter: Duration::from_micros(40),
        ..lan()
    }
}

/// Three nodes that were never started.
fn blank(seed: u64, link: LinkConfig) -> World {
    let settings = Settings { link, language: Language::Kv, ..Settings::new(seed, 3) };
    Simulation::new(settings, Kv::new)
}

/// Three founders, a leader and a client.
fn founded(seed: u64, link: LinkConfig) -> World {
    founded_with(Settings { link, ..Settings::new(seed, 3) })
}

fn founded_with(settings: Settings) -> World {
    let mut world = Simulation::new(Settings { language: Language::Kv, ..settings }, Kv::new);
    world.found();
    world
}

fn start(world: &mut World, node: u16) {
    world.start(node).unwrap();
}

/// How many nodes found out that they are not wanted.
fn unwanted(world: &World) -> usize {
    (1..=3).filter(|node| world.down(*node) == Some(&Down::FoundedWithoutIt)).count()
}

/// The seeds of the drawn tests; `RAFTGRAM_SEEDS=A..B` replays others.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RAFTGRAM_SEEDS") else { return 0..8 };
    let (first, end) = text.split_once("..").expect("RAFTGRAM_SEEDS is written A..B");
    first.parse().unwrap()..end.parse().unwrap()
}

fn put(world: &mut World, key: &str, value: &[u8]) -> CommandResult {
    let command = Command::Put { key: key.as_bytes(), value }.to_bytes();
    let id = world.propose(0, command, LONG);
    match world.finish(0, id) {
        Ok(Answer::Applied { result, .. }) => CommandResult::decode(&result).unwrap(),
        other => panic!("put {key}: {other:?}"),
    }
}

fn get(world: &mut World, key: &str) -> Option<Vec<u8>> {
    let query = Query::Get { key: key.as_bytes() }.to_bytes();
    let id = world.read(0, query, ReadLevel::Linearizable, LONG);
    match world.finish(0, id) {
        Ok(Answer::Read { result, .. }) => match KvAnswer::decode(&result).unwrap() {
            KvAnswer::Found { value, .. } => Some(value.to_vec()),
            KvAnswer::Missing => None,
            other => panic!("get {key}: {other:?}"),
        },
        other => panic!("get {key}: {other:?}"),
    }
}

#[test]
fn three_blank_nodes_become_a_cluster_that_writes_and_reads() {
    let mut world = founded(1, lan());
    assert!(matches!(put(&mut world, "k", b"v"), CommandResult::Done { previous: None }));
    assert_eq!(get(&mut world, "k").as_deref(), Some(&b"v"[..]));
    assert_eq!(get(&mut world, "other"), None);
    assert_eq!(unwanted(&world), 0);
}

#[test]
fn a_value_of_one_mebibyte_travels_in_fragments_and_a_larger_one_is_refused() {
    let mut world = founded(2, rough());
    let value: Vec<u8> = (0..1 << 20).map(|i: u32| (i * 7 + i / 251) as u8).collect();
    put(&mut world, "large", &value);
    assert!(get(&mut world, "large").as_deref() == Some(&value[..]), "the large value came back changed");
    let id = world.propose(0, vec![0; 3 << 20], LONG);
    assert!(matches!(world.finish(0, id), Err(ClientError::TooLarge { .. })));
}

#[test]
fn all_data_survives_a_restart_of_all_nodes() {
    let mut world = founded(3, lan());
    for i in 0..20 {
        put(&mut world, &format!("k{i}"), format!("v{i}").as_bytes());
    }
    let before = world.incarnation(1);
    (1..=3).for_each(|number| world.crash(number, Crash::PowerCut));
    (1..=3).for_each(|number| start(&mut world, number));
    assert!(world.incarnation(1) > before, "each boot counts");
    for i in 0..20 {
        assert_eq!(get(&mut world, &format!("k{i}")).as_deref(), Some(format!("v{i}").as_bytes()), "k{i}");
    }
}

#[test]
fn a_write_is_answered_as_soon_as_another_leads() {
    for seed in 20..40 {
        let mut world = founded(seed, lan());
        put(&mut world, "k", b"before");
        let leader = world.leader().unwrap();
        world.crash(leader, Crash::PowerCut);
        let command = Command::Put { key: b"k", value: b"after" }.to_bytes();
        let id = world.propose(0, command, LONG);
        world.run_until("another leads", |world| world.leader().is_some());
        let led = world.now();
        assert!(matches!(world.finish(0, id), Ok(Answer::Applied { .. })), "seed {seed}");
        let waited = world.now().saturating_since(led);
        assert!(waited <= Duration::from_millis(50), "seed {seed}: {waited:?} after another node led");
    }
}

/// Scenario I1: a wiped founder never founds again while one of the cluster lives.
#[test]
fn two_of_three_wiped_do_not_form_a_cluster() {
    let mut world = founded(4, lan());
    put(&mut world, "k", b"v");
    for number in [1, 2] {
        world.wipe(number);
        start(&mut world, number);
    }
    world.run_until("both wiped nodes are told", |world| unwanted(world) == 2);
    world.run_for(Duration::from_secs(5));
    assert!(world.leader().is_none(), "a leader without a quorum");
    assert!(world.node(1).is_none() && world.node(2).is_none(), "a wiped node runs as a member");
}

/// The lowest founder crashes as soon as its record is durable; nobody else knows it yet.
#[test]
fn a_founder_that_crashes_with_the_only_record_founds_the_same_cluster_again() {
    for seed in 0..4 {
        let mut world = blank(seed, rough());
        (1..=3).for_each(|number| start(&mut world, number));
        world.run_until("the lowest is founded", |world| world.node(1).is_some());
        let cluster = world.node(1).unwrap().cluster();
        world.crash(1, Crash::PowerCut);
        world.run_for(Duration::from_secs(5));
        assert!(world.node(2).is_none() && world.node(3).is_none(), "seed {seed}: founded without a record");
        start(&mut world, 1);
        world.run_until("all are members", |world| (1..=3).all(|number| world.node(number).is_some()));
        world.run_until("a leader serves", |world| world.leader().is_some());
        assert!((1..=3).all(|number| world.node(number).unwrap().cluster() == cluster), "seed {seed}");
        assert_eq!(unwanted(&world), 0, "seed {seed}");
    }
}

/// The founder of the record lost its disk before anybody asked for it: the blank ones found with what it is now.
#[test]
fn a_founder_wiped_before_anybody_learned_of_its_record_founds_anew() {
    for seed in 0..4 {
        let mut world = blank(seed, lan());
        (1..=3).for_each(|number| start(&mut world, number));
        world.run_until("the lowest is founded", |world| world.node(1).is_some());
        // Time enough to learn that there is a record, not to get it.
        world.run_for(Duration::from_millis(seed * 20));
        world.wipe(1);
        world.run_for(Duration::from_secs(1));
        let has_learned = world.node(2).is_some() || world.node(3).is_some();
        start(&mut world, 1);
        if has_learned {
            world.run_until("the wiped one is told", |world| unwanted(world) == 1);
        } else {
            world.run_until("all are members", |world| (1..=3).all(|number| world.node(number).is_some()));
            world.run_until("a leader serves", |world| world.leader().is_some());
        }
    }
}

#[test]
fn a_founder_that_comes_late_is_waited_for() {
    let mut world = blank(7, lan());
    (1..=2).for_each(|number| start(&mut world, number));
    world.run_for(Duration::from_secs(10));
    assert!(world.node(1).is_none() && world.node(2).is_none(), "founded without all voters");
    start(&mut world, 3);
    world.run_until("a leader serves", |world| world.leader().is_some());
    world.run_until("all are members", |world| (1..=3).all(|number| world.node(number).is_some()));
}

/// Each client increments a counter of its own by compare-and-set: a write applied twice would make the second one
/// fail, a lost one the next.
#[test]
fn no_write_is_lost_or_doubled_while_leaders_are_killed_on_rough_links() {
    for seed in seeds() {
        let mut world = founded(seed, rough());
        for _ in 0..2 {
            world.add_client();
        }
        let mut counters = [0u64; 3];
        let mut open = [None; 3];
        let mut kills = 0;
        let mut down: Option<u16> = None;
        while counters.iter().any(|count| *count < 150) {
            for (number, slot) in open.iter_mut().enumerate() {
                if let Some(id) = *slot {
                    let Some(result) = world.take_ended(number, id) else { continue };
                    let Ok(Answer::Applied { result, .. }) = result else {
                        panic!("seed {seed}: {result:?}\n{}", world.describe());
                    };
                    let result = CommandResult::decode(&result).unwrap();
                    let context = format!("seed {seed} client {number} at {}", counters[number]);
                    assert!(matches!(result, CommandResult::Done { .. }), "{context}: {result:?}");
                    counters[number] += 1;
                }
                let (old, new) = (counters[number].to_string(), (counters[number] + 1).to_string());
                let old = (counters[number] > 0).then_some(old.as_bytes());
                let key = format!("counter{number}");
                let command = Command::Cas { key: key.as_bytes(), old, new: new.as_bytes() }.to_bytes();
                *slot = Some(world.propose(number, command, LONG));
            }
            if counters[0] / 40 > kills && down.is_none() && world.leader().is_some() {
                kills += 1;
                down = world.leader();
                world.crash(down.unwrap(), Crash::PowerCut);
            }
            if let Some(number) = down
                && world.leader().is_some()
            {
                start(&mut world, number);
                down = None;
            }
            assert!(world.step(), "seed {seed}: {:?}", world.violation());
        }
        assert!(kills >= 3, "seed {seed}: {kills} kills");
        for (number, count) in counters.iter().enumerate() {
            let found = get(&mut world, &format!("counter{number}"));
            assert!(found.is_some_and(|value| value >= count.to_string().into_bytes()), "seed {seed}");
        }
    }
}

/// Scenario E7: heartbeats alone do not keep a deaf leader in office.
#[test]
fn a_leader_that_can_send_but_not_receive_steps_down() {
    let mut world = founded(5, lan());
    let leader = world.leader().unwrap();
    for other in (1..=3).filter(|other| *other != leader) {
        world.block(End::node(other), End::node(leader));
    }
    world.run_until("another leads", |world| world.leader().is_some_and(|now| now != leader));
    put(&mut world, "k", b"v");
    world.unblock_all();
    world.run_until("the deaf one follows", |world| {
        world.leader().is_some() && world.node(leader).is_some_and(|node| node.raft().leader().is_some())
    });
    assert_eq!(get(&mut world, "k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn an_operation_without_a_cluster_ends_by_its_deadline_and_says_what_is_known() {
    let mut world = blank(6, lan());
    start(&mut world, 1);
    let client = world.add_client();
    let patience = Duration::from_millis(500);
    let deadline = world.now() + patience;
    let id = world.propose(client, b"x".to_vec(), patience);
    let error = world.finish(client, id).unwrap_err();
    assert!(world.now() >= deadline);
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("not sent"), "{error}");
}
