//! Watches over a whole cluster: nothing is missed, nothing comes twice, and what is forgotten is said to be.

use std::time::Duration;

use raftgram::client::{Answer, ClientError};
use raftgram::kv::Command;
use raftgram::sim::{Crash, Settings};
use raftgram::types::Index;

use super::{LONG, World, founded, lan, put, rough, start};

/// The entry, the key, and its value unless it was deleted.
type Told = (u64, String, Option<Vec<u8>>);

/// What a watch brings until it brings nothing for `patience`, and where it got to.
fn follow(world: &mut World, after: Index, prefix: &str, patience: Duration) -> (Vec<Told>, Index) {
    let (mut after, mut seen) = (after, Vec::new());
    loop {
        let id = world.watch(0, after, prefix.as_bytes(), patience);
        let Answer::Watched { through, events } = world.finish(0, id).unwrap() else { panic!("a watch") };
        assert!(through >= after);
        after = through;
        if events.is_empty() {
            return (seen, after);
        }
        for event in events {
            assert!(event.index <= through);
            let (key, value) = match Command::decode(&event.event).unwrap() {
                Command::Put { key, value } => (key, Some(value.to_vec())),
                Command::Delete { key } => (key, None),
                Command::Cas { .. } => panic!("no event is a compare and set"),
            };
            seen.push((event.index.0, String::from_utf8(key.to_vec()).unwrap(), value));
        }
    }
}

fn write(world: &mut World, command: &Command<'_>) {
    let id = world.propose(0, command.to_bytes(), LONG);
    assert!(matches!(world.finish(0, id), Ok(Answer::Applied { .. })));
}

// [W-100] [W-101] [W-104]
#[test]
fn a_watch_tells_what_became_of_its_keys_and_nothing_else() {
    let mut world = founded(60, lan());
    put(&mut world, "color", b"blue");
    put(&mut world, "shape", b"round");
    write(&mut world, &Command::Cas { key: b"color", old: Some(b"red"), new: b"green" });
    write(&mut world, &Command::Cas { key: b"color", old: Some(b"blue"), new: b"green" });
    write(&mut world, &Command::Delete { key: b"colour" });
    write(&mut world, &Command::Delete { key: b"color" });
    let short = Duration::from_millis(500);
    let (seen, through) = follow(&mut world, Index(0), "color", short);
    let told: Vec<(&str, Option<&[u8]>)> =
        seen.iter().map(|(_, key, value)| (key.as_str(), value.as_deref())).collect();
    let expected: [(&str, Option<&[u8]>); 3] =
        [("color", Some(b"blue")), ("color", Some(b"green")), ("color", None)];
    assert_eq!(told, expected);
    assert_eq!(follow(&mut world, through, "color", short), (Vec::new(), through), "each comes once");
    let (again, _) = follow(&mut world, Index(seen[0].0), "color", short);
    assert_eq!(again, &seen[1..], "a watch begins after the entry it names");
}

// [W-100]
#[test]
fn a_watch_that_waits_is_answered_when_the_write_is() {
    let mut world = founded(61, lan());
    let id = world.watch(0, Index(0), b"k", LONG);
    let began = world.now();
    world.run_for(Duration::from_millis(700));
    put(&mut world, "k", b"v");
    let Ok(Answer::Watched { events, .. }) = world.finish(0, id) else { panic!("an event") };
    assert_eq!(events.len(), 1);
    let waited = world.now().saturating_since(began);
    assert!(waited < Duration::from_millis(900), "{waited:?}: it came with the end of a wait");
}

/// Whoever leads is killed again and again while one client writes and watches on lossy links.
#[test]
fn a_watch_misses_nothing_through_losses_and_changes_of_leader() {
    let mut world = founded(62, rough());
    let mut seen = Vec::new();
    let mut after = Index(0);
    for round in 0..6_u64 {
        for number in 0..20 {
            put(&mut world, "n", (round * 20 + number).to_string().as_bytes());
        }
        if let Some(leader) = world.leader() {
            world.crash(leader, Crash::PowerCut);
            put(&mut world, "between", b"");
            start(&mut world, leader);
        }
        let (new, through) = follow(&mut world, after, "n", Duration::from_secs(2));
        after = through;
        seen.extend(new.into_iter().map(|(_, _, value)| String::from_utf8(value.unwrap()).unwrap()));
    }
    let expected: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
}

// [W-102]
#[test]
fn what_is_no_longer_known_is_compacted_and_never_passed_over() {
    let settings = Settings { watch_bytes_max: 2000, ..Settings::new(63, 3) };
    let mut world = super::founded_with(settings);
    for number in 0..100 {
        put(&mut world, "k", &[number; 100]);
    }
    let id = world.watch(0, Index(0), b"k", LONG);
    let Err(ClientError::Compacted { oldest }) = world.finish(0, id) else { panic!("compacted") };
    let (seen, _) = follow(&mut world, oldest, "k", Duration::from_millis(500));
    assert!((5..15).contains(&seen.len()), "{} are remembered within 2,000 bytes", seen.len());
    assert_eq!(seen.last().unwrap().2.as_deref(), Some(&[99; 100][..]));
    let id = world.watch(0, Index(oldest.0 - 1), b"k", LONG);
    assert_eq!(world.finish(0, id), Err(ClientError::Compacted { oldest }));
}

// [W-103]
#[test]
fn a_filter_that_no_node_takes_is_refused_at_once() {
    let mut world = founded(64, lan());
    let id = world.watch(0, Index(0), &[0; 4097], LONG);
    assert_eq!(world.finish(0, id), Err(ClientError::TooLarge { bytes_max: 4096 }));
}
