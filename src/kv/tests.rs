//! Each command and query by table, the codecs, and the machine against a naive map.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;
use crate::cursor::CursorError;
use crate::machine::Machine;
use crate::types::Index;

fn apply(kv: &mut Kv, index: u64, command: Command<'_>) -> CommandResult {
    CommandResult::decode(&kv.apply(Index(index), &command.to_bytes())).unwrap()
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
    Command::Put { key, value }
}

fn cas<'a>(key: &'a [u8], old: Option<&'a [u8]>, new: &'a [u8]) -> Command<'a> {
    Command::Cas { key, old, new }
}

fn previous(index: u64, value: &[u8]) -> Option<Previous> {
    Some(Previous { index: Index(index), value: Some(value.into()) })
}

fn list<'a>(prefix: &'a [u8], after: Option<&'a [u8]>, rows_max: u64) -> Query<'a> {
    Query::List { prefix, after, rows_max, bytes_max: PAGE_BYTES_MAX }
}

/// The keys of one page, and whether it is the last.
fn keys(kv: &Kv, query: Query<'_>) -> (Vec<String>, bool) {
    let bytes = kv.query(&query.to_bytes());
    match Answer::decode(&bytes).unwrap() {
        Answer::Page { rows, is_last } => {
            (rows.iter().map(|row| String::from_utf8(row.key.to_vec()).unwrap()).collect(), is_last)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_command_answers_with_what_the_key_held_before() {
    use CommandResult::{CompareFailed, Done};
    let mut kv = Kv::new();
    let absent = None;
    let steps = [
        (put(b"k", b"a"), Done { previous: absent.clone() }),
        (put(b"k", b"b"), Done { previous: previous(1, b"a") }),
        (cas(b"k", Some(b"a"), b"c"), CompareFailed { previous: previous(2, b"b") }),
        (cas(b"k", None, b"c"), CompareFailed { previous: previous(2, b"b") }),
        (cas(b"k", Some(b"b"), b"c"), Done { previous: previous(2, b"b") }),
        (cas(b"new", Some(b""), b"x"), CompareFailed { previous: absent.clone() }),
        (cas(b"new", None, b""), Done { previous: absent.clone() }),
        (cas(b"new", Some(b""), b"y"), Done { previous: previous(7, b"") }),
        (Command::Delete { key: b"k" }, Done { previous: previous(5, b"c") }),
        (Command::Delete { key: b"k" }, Done { previous: absent.clone() }),
        (put(b"", b"the empty key is a key"), Done { previous: absent }),
    ];
    for (place, (command, result)) in steps.into_iter().enumerate() {
        assert_eq!(apply(&mut kv, 1 + place as u64, command), result, "{command:?}");
    }
    assert_eq!((kv.len(), kv.bytes()), (2, 4 + 22));
}

#[test]
fn a_get_finds_the_value_and_the_entry_that_wrote_it() {
    let mut kv = Kv::new();
    apply(&mut kv, 7, put(b"k", b"v"));
    let get = |key| kv.query(&Query::Get { key }.to_bytes());
    assert_eq!(Answer::decode(&get(b"k")), Ok(Answer::Found { value: b"v", index: Index(7) }));
    assert_eq!(Answer::decode(&get(b"K")), Ok(Answer::Missing));
}

#[test]
fn a_long_previous_value_is_told_by_its_index_only() {
    let mut kv = Kv::new();
    let long = [b'x'; PREVIOUS_BYTES_MAX + 1];
    apply(&mut kv, 1, put(b"k", &long));
    let result = apply(&mut kv, 2, put(b"k", &long[1..]));
    assert_eq!(result, CommandResult::Done { previous: Some(Previous { index: Index(1), value: None }) });
    assert_eq!(apply(&mut kv, 3, put(b"k", b"")), CommandResult::Done { previous: previous(2, &long[1..]) });
}

#[test]
fn keys_and_values_up_to_the_limit_are_taken_and_one_byte_more_is_refused() {
    let value = vec![1; VALUE_BYTES_MAX + 1];
    let key = [2; KEY_BYTES_MAX + 1];
    let value_refused = Refusal::ValueTooLarge { bytes: value.len() as u64 };
    let key_refused = Refusal::KeyTooLarge { bytes: key.len() as u64 };
    let cases = [
        (put(b"k", &value), value_refused),
        (cas(b"k", None, &value), value_refused),
        (cas(b"k", Some(&value), b""), value_refused),
        (put(&key, b""), key_refused),
        (Command::Delete { key: &key }, key_refused),
    ];
    let mut kv = Kv::new();
    for (command, refusal) in cases {
        assert_eq!(command.check(), Err(refusal));
        assert_eq!(apply(&mut kv, 1, command), CommandResult::Refused(refusal));
    }
    assert_eq!((kv.len(), kv.state_hash()), (0, Kv::new().state_hash()));
    assert_eq!(put(&key[1..], &value[1..]).check(), Ok(()));
    apply(&mut kv, 2, put(&key[1..], &value[1..]));
    assert_eq!(kv.bytes(), (KEY_BYTES_MAX + VALUE_BYTES_MAX) as u64);
    assert_eq!(value_refused.to_string(), "value of 1048577 bytes is longer than 1048576");
}

#[test]
fn bytes_that_are_no_command_or_query_are_refused_and_change_nothing() {
    let mut kv = Kv::new();
    apply(&mut kv, 1, put(b"k", b"v"));
    let hash = kv.state_hash();
    for bytes in [&b""[..], &[4], &[0], &[0, 2, 1], &[2, 0, 5, 1]] {
        let result = CommandResult::decode(&kv.apply(Index(2), bytes));
        assert_eq!(result, Ok(CommandResult::Refused(Refusal::Malformed)), "{bytes:?}");
    }
    for bytes in [&b""[..], &[3], &[1, 1], &[1, 1, 1, 0, 9]] {
        assert_eq!(Answer::decode(&kv.query(bytes)), Ok(Answer::Refused(Refusal::Malformed)), "{bytes:?}");
    }
    assert_eq!(kv.state_hash(), hash);
}

#[test]
fn a_list_pages_through_exactly_the_keys_with_the_prefix() {
    let mut kv = Kv::new();
    for (place, key) in ["a", "b", "b1", "b2", "b3", "c", "\u{7f}"].iter().enumerate() {
        apply(&mut kv, 1 + place as u64, put(key.as_bytes(), b"v"));
    }
    let page = |keys: &[&str], is_last| (keys.iter().map(ToString::to_string).collect::<Vec<_>>(), is_last);
    assert_eq!(keys(&kv, list(b"b", None, 2)), page(&["b", "b1"], false));
    assert_eq!(keys(&kv, list(b"b", Some(b"b1"), 2)), page(&["b2", "b3"], true));
    assert_eq!(keys(&kv, list(b"b", Some(b"b3"), 2)), page(&[], true));
    assert_eq!(keys(&kv, list(b"b", Some(b""), 99)), page(&["b", "b1", "b2", "b3"], true));
    assert_eq!(keys(&kv, list(b"b", Some(b"z"), 99)), page(&[], true));
    assert_eq!(keys(&kv, list(b"b15", Some(b"b1"), 99)), page(&[], true));
    assert_eq!(keys(&kv, list(b"", None, 0)), page(&["a"], false), "one row always comes");
    assert_eq!(keys(&kv, list(b"", None, u64::MAX)).0.len(), 7);
    // Deleted between two pages: the continuation needs no longer be a key.
    apply(&mut kv, 9, Command::Delete { key: b"b1" });
    assert_eq!(keys(&kv, list(b"b", Some(b"b1"), 99)), page(&["b2", "b3"], true));
}

#[test]
fn a_page_ends_before_its_bytes_do_but_a_long_row_comes_alone() {
    let mut kv = Kv::new();
    apply(&mut kv, 1, put(b"a", &[0; 10]));
    apply(&mut kv, 2, put(b"b", &[0; VALUE_BYTES_MAX]));
    apply(&mut kv, 3, put(b"c", &[0; 10]));
    let page = |after, bytes_max| keys(&kv, Query::List { prefix: b"", after, rows_max: 9, bytes_max });
    assert_eq!(page(None, 10), (vec!["a".into()], false));
    assert_eq!(page(Some(b"a"), 10), (vec!["b".into()], false));
    assert_eq!(page(Some(b"a"), u64::MAX), (vec!["b".into()], false));
    assert_eq!(page(Some(b"b"), 11), (vec!["c".into()], true));
}

#[test]
fn the_state_hash_depends_on_keys_values_and_indexes_and_not_on_the_way_there() {
    let after = |steps: &[(u64, Command<'_>)]| {
        let mut kv = Kv::new();
        for &(index, command) in steps {
            apply(&mut kv, index, command);
        }
        kv.state_hash()
    };
    let base = after(&[(1, put(b"a", b"1")), (2, put(b"b", b"2"))]);
    assert_eq!(base, after(&[(2, put(b"b", b"2")), (1, put(b"a", b"1"))]));
    assert_eq!(base, after(&[(0, put(b"a", b"0")), (1, put(b"a", b"1")), (2, put(b"b", b"2"))]));
    let others = [
        after(&[(1, put(b"a", b"1")), (3, put(b"b", b"2"))]),
        after(&[(1, put(b"a", b"1")), (2, put(b"b", b"3"))]),
        after(&[(1, put(b"a", b"1")), (2, put(b"c", b"2"))]),
        after(&[(1, put(b"a", b"1")), (2, put(b"b2", b""))]),
        after(&[(1, put(b"a", b"1"))]),
    ];
    assert!(others.iter().all(|&other| other != base));
}

#[test]
fn malformed_results_and_answers_are_refused_with_their_reason() {
    assert_eq!(CommandResult::decode(&[0, 0, 0]), Err(CursorError::Trailing));
    assert_eq!(CommandResult::decode(&[0, 3]), Err(CursorError::Value));
    assert_eq!(CommandResult::decode(&[2]), Err(CursorError::Short));
    assert_eq!(Answer::decode(&[5]), Err(CursorError::Value));
    assert_eq!(Answer::decode(&[3, 0, 0]), Err(CursorError::Short));
    assert_eq!(Answer::decode(&[0, 0]), Err(CursorError::Trailing));
}

/// Few short keys and values, so that commands meet.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(97u8..100, 0..3)
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Cas(Vec<u8>, Option<Vec<u8>>, Vec<u8>),
}

impl Step {
    fn command(&self) -> Command<'_> {
        match self {
            Self::Put(key, value) => put(key, value),
            Self::Delete(key) => Command::Delete { key },
            Self::Cas(key, old, new) => cas(key, old.as_deref(), new),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (text(), text()).prop_map(|(key, value)| Step::Put(key, value)),
        1 => text().prop_map(Step::Delete),
        3 => (text(), prop::option::of(text()), text()).prop_map(|(key, old, new)| Step::Cas(key, old, new)),
    ];
    prop::collection::vec(step, 0..80)
}

type Naive = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

fn naive_apply(map: &mut Naive, index: u64, step: &Step) -> CommandResult {
    let held = map.get(step.command().key()).cloned();
    let previous = held.as_ref().and_then(|(index, value)| previous(*index, value));
    match step {
        Step::Put(key, value) => drop(map.insert(key.clone(), (index, value.clone()))),
        Step::Delete(key) => drop(map.remove(key)),
        Step::Cas(key, old, new) if held.map(|(_, value)| value) == *old => {
            map.insert(key.clone(), (index, new.clone()));
        }
        Step::Cas(..) => return CommandResult::CompareFailed { previous },
    }
    CommandResult::Done { previous }
}

proptest! {
    #[test]
    fn a_random_log_leads_where_the_naive_map_says(
        steps in steps(), prefix in text(), rows_max in 1u64..5, bytes_max in 0u64..12
    ) {
        let (mut kv, mut naive) = (Kv::new(), Naive::new());
        for (place, step) in steps.iter().enumerate() {
            let index = 1 + place as u64;
            prop_assert_eq!(apply(&mut kv, index, step.command()), naive_apply(&mut naive, index, step));
        }
        let bytes: usize = naive.iter().map(|(key, (_, value))| key.len() + value.len()).sum();
        prop_assert_eq!((kv.len(), kv.bytes()), (naive.len(), bytes as u64));
        // The same state reached directly has the same hash.
        let mut direct = Kv::new();
        for (key, (index, value)) in &naive {
            apply(&mut direct, *index, put(key, value));
        }
        prop_assert_eq!(kv.state_hash(), direct.state_hash());
        // All pages together are all rows with the prefix.
        let (mut listed, mut after) = (Naive::new(), None::<Vec<u8>>);
        loop {
            let query = Query::List { prefix: &prefix, after: after.as_deref(), rows_max, bytes_max };
            let bytes = kv.query(&query.to_bytes());
            let Ok(Answer::Page { rows, is_last }) = Answer::decode(&bytes) else { panic!("no page") };
            prop_assert!(rows.len() as u64 <= rows_max);
            prop_assert!(is_last || !rows.is_empty());
            listed.extend(rows.iter().map(|row| (row.key.to_vec(), (row.index.0, row.value.to_vec()))));
            after = rows.last().map(|row| row.key.to_vec());
            if is_last {
                break;
            }
        }
        naive.retain(|key, _| key.starts_with(&prefix));
        prop_assert_eq!(listed, naive);
    }

    #[test]
    fn commands_and_queries_round_trip(
        step in (text(), prop::option::of(text()), text()), after in prop::option::of(text()), max in 0u64..9
    ) {
        let (key, old, new) = step;
        for command in [put(&key, &new), Command::Delete { key: &key }, cas(&key, old.as_deref(), &new)] {
            let bytes = command.to_bytes();
            prop_assert_eq!(Command::decode(&bytes), Ok(command));
        }
        let list = Query::List { prefix: &key, after: after.as_deref(), rows_max: max, bytes_max: 7 };
        for query in [Query::Get { key: &key }, list] {
            let bytes = query.to_bytes();
            prop_assert_eq!(Query::decode(&bytes), Ok(query));
        }
    }

    #[test]
    fn any_bytes_decode_to_nothing_or_to_what_they_encode(bytes in prop::collection::vec(0u8..9, 0..24)) {
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(&command.to_bytes(), &bytes);
        }
        if let Ok(query) = Query::decode(&bytes) {
            prop_assert_eq!(&query.to_bytes(), &bytes);
        }
        if let Ok(result) = CommandResult::decode(&bytes) {
            prop_assert_eq!(&result.to_bytes(), &bytes);
        }
        if let Ok(answer) = Answer::decode(&bytes) {
            prop_assert_eq!(&answer.to_bytes(), &bytes);
        }
    }
}
