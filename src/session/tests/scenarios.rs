//! One test per rule, with the scenario's id where there is one.

use super::*;
use crate::cursor::CursorError;

#[test]
fn u1_a_write_retried_any_number_of_times_takes_effect_once_and_answers_alike() {
    let mut replica = Replica::default();
    let session = replica.open();
    let first = replica.write(session, 1, &[]);
    assert!(matches!(first, Outcome::Applied { index: Index(2), is_repeat: false, .. }));
    for _ in 0..20 {
        // Meanwhile terms pass and another client writes.
        let other = replica.open();
        replica.write(other, 1, &[]);
        let repeat = replica.write(session, 1, &[]);
        assert!(matches!(repeat, Outcome::Applied { is_repeat: true, .. }));
        assert_eq!(result_of(&repeat), result_of(&first), "index and term of the entry that took effect");
    }
    assert_eq!(replica.effects(), 21);
}

#[test]
fn u1_two_sessions_with_one_sequence_are_two_writes() {
    let mut replica = Replica::default();
    let (a, b) = (replica.open(), replica.open());
    assert_ne!(result_of(&replica.write(a, 1, &[])), result_of(&replica.write(b, 1, &[])));
    assert_eq!(replica.effects(), 2);
}

#[test]
fn u2_a_late_retry_to_an_evicted_session_is_told_so_and_never_carried_out() {
    let mut replica = Replica::with(small_limits());
    let evicted = replica.open();
    replica.write(evicted, 1, &[]);
    for _ in 0..3 {
        replica.open();
    }
    for sequence in [1, 2] {
        assert_eq!(replica.write(evicted, sequence, &[]), Outcome::SessionExpired);
    }
    assert_eq!(replica.effects(), 1);
}

#[test]
fn a_session_that_never_was_is_expired_and_a_guessed_id_opens_nothing() {
    let mut replica = Replica::default();
    assert_eq!(replica.write(SessionId(Index(2)), 1, &[]), Outcome::SessionExpired);
    let session = replica.open();
    assert_eq!(session, SessionId(Index(2)));
    assert!(matches!(replica.write(session, 1, &[]), Outcome::Applied { is_repeat: false, .. }));
}

#[test]
fn c2_a_million_sessions_stay_under_the_cap_and_the_longest_idle_goes_first() {
    let mut replica = Replica::with(Limits { sessions_max: 100, ..small_limits() });
    let kept = replica.open();
    for n in 1..=1_000_000u64 {
        replica.open();
        if n % 99 == 0 {
            let outcome = replica.write(kept, 1 + n / 99, &[(1, n / 99)]);
            assert!(matches!(outcome, Outcome::Applied { .. }), "used within the last 100 sessions");
        }
        assert!(replica.sessions.len() <= 100);
    }
    let oldest = replica.sessions.idle().next().unwrap().0;
    replica.open();
    assert!(!replica.sessions.contains(oldest));
    assert!(replica.sessions.contains(kept));
}

#[test]
fn c2_the_leaders_expire_spares_a_session_used_meanwhile() {
    let mut replica = Replica::default();
    let (idle, busy) = (replica.open(), replica.open());
    let expire =
        Command::Expire { unused_since: replica.last, sessions: vec![idle, busy, SessionId(Index(77))] };
    replica.write(busy, 1, &[]);
    assert_eq!(replica.apply(&expire), Outcome::Expired { count: 1 });
    assert_eq!(replica.write(idle, 1, &[]), Outcome::SessionExpired);
    assert!(matches!(replica.write(busy, 2, &[]), Outcome::Applied { .. }));
}

#[test]
fn i10_limits_come_from_the_log_and_lowering_them_expires_the_longest_idle() {
    let mut replica = Replica::default();
    assert_eq!(replica.sessions.limits(), Limits::FOUNDING);
    let ids: Vec<_> = (0..5).map(|_| replica.open()).collect();
    replica.write(ids[0], 1, &[]);
    replica.apply(&Command::SetLimits(small_limits()));
    let kept: Vec<_> = replica.sessions.idle().map(|(session, _)| session).collect();
    assert_eq!(kept, [ids[3], ids[4], ids[0]]);
    // A replica that reads the same log holds the same table, whatever its own settings are.
    let mut other = Replica::default();
    for _ in 0..5 {
        other.open();
    }
    other.write(ids[0], 1, &[]);
    other.apply(&Command::SetLimits(small_limits()));
    assert_eq!(other.sessions.state_hash(), replica.sessions.state_hash());
    assert_eq!(other.sessions, replica.sessions);
}

#[test]
fn a_finished_sequence_has_no_effect_however_late_it_comes() {
    let mut replica = Replica::default();
    let session = replica.open();
    // Sequence 2 was given up before it arrived; the write after it says so.
    replica.write(session, 1, &[]);
    replica.write(session, 3, &[(1, 2)]);
    let effects = replica.effects();
    for sequence in [1, 2] {
        assert_eq!(replica.write(session, sequence, &[]), Outcome::Finished);
    }
    assert_eq!(replica.write(session, 4, &[(1, 4)]), Outcome::Finished, "it may even finish itself");
    assert_eq!(replica.effects(), effects);
}

#[test]
fn a_full_window_refuses_without_effect_until_results_are_finished() {
    let mut replica = Replica::with(small_limits());
    let session = replica.open();
    for sequence in [1, 2, 4] {
        assert!(matches!(replica.write(session, sequence, &[]), Outcome::Applied { .. }));
    }
    assert_eq!(replica.write(session, 3, &[]), Outcome::WindowFull);
    assert!(matches!(replica.write(session, 4, &[]), Outcome::Applied { is_repeat: true, .. }));
    assert!(matches!(replica.write(session, 3, &[(4, 4)]), Outcome::Applied { is_repeat: false, .. }));
    assert_eq!(replica.effects(), 4);
}

#[test]
fn a_window_full_of_bytes_refuses_too() {
    let mut replica = Replica::with(Limits { window_bytes_max: 10, window_max: 99, ..small_limits() });
    let session = replica.open();
    replica.apply(&write(session, 1, &[], &[b'x'; 10]));
    assert_eq!(replica.write(session, 2, &[]), Outcome::WindowFull);
    assert!(matches!(replica.write(session, 2, &[(1, 1)]), Outcome::Applied { .. }));
}

#[test]
fn results_beyond_the_tables_bytes_expire_the_longest_idle_but_never_the_writer() {
    let mut replica = Replica::with(Limits { bytes_max: 100, ..small_limits() });
    let (a, b) = (replica.open(), replica.open());
    replica.apply(&write(a, 1, &[], &[b'x'; 60]));
    let bytes = replica.sessions.bytes();
    assert!((60..70).contains(&bytes), "{bytes}");
    assert!(matches!(replica.apply(&write(b, 1, &[], &[b'x'; 200])), Outcome::Applied { .. }));
    assert!(!replica.sessions.contains(a) && replica.sessions.contains(b));
    replica.write(b, 2, &[(1, 1)]);
    assert!(replica.sessions.bytes() < 20);
}

#[test]
fn more_ranges_than_fit_finish_the_lowest_and_lose_nothing_already_finished() {
    let mut replica = Replica::default();
    let session = replica.open();
    let even: Vec<_> = (1..=32).map(|n| (200 + 2 * n, 200 + 2 * n)).collect();
    replica.write(session, 1000, &even);
    replica.write(session, 2, &[]);
    assert!(matches!(replica.write(session, 1001, &[(2, 2)]), Outcome::Applied { .. }));
    // No room for the range of 2: its result stays, so a retry still finds it.
    assert!(matches!(replica.write(session, 2, &[]), Outcome::Applied { is_repeat: true, .. }));
    assert_eq!(replica.write(session, 202, &[]), Outcome::Finished);
}

#[test]
fn a_closed_session_is_gone() {
    let mut replica = Replica::default();
    let session = replica.open();
    replica.write(session, 1, &[]);
    assert_eq!(replica.apply(&Command::Close { session }), Outcome::Closed);
    assert_eq!(replica.apply(&Command::Close { session }), Outcome::Closed);
    assert_eq!(replica.write(session, 1, &[]), Outcome::SessionExpired);
    assert!(replica.sessions.is_empty());
    assert_eq!(replica.sessions.bytes(), 0);
}

#[test]
fn bytes_that_are_no_command_have_no_effect_and_the_same_outcome_everywhere() {
    let mut replica = Replica::default();
    replica.open();
    assert_eq!(replica.apply_bytes(&[]), Outcome::Malformed(CursorError::Short));
    assert_eq!(replica.apply_bytes(&[200, 1, 2]), Outcome::Malformed(CursorError::Value));
    assert_eq!((replica.sessions.len(), replica.effects()), (1, 0));
}

#[test]
fn s9_a_restored_table_answers_retries_like_the_one_it_was_taken_from() {
    let mut replica = Replica::with(small_limits());
    let session = replica.open();
    let first = replica.write(session, 1, &[]);
    replica.write(session, 2, &[]);
    replica.write(session, 4, &[(2, 2)]);
    let mut bytes = Vec::new();
    let frozen = replica.sessions.freeze();
    // What happens after the freeze is no part of the snapshot.
    let mut later = replica.sessions.clone();
    later.apply(Index(40), Term(9), &Command::Close { session }.to_bytes(), &mut Effects::default());
    frozen.write(&mut bytes).unwrap();
    let mut source = &bytes[..];
    let sessions = Sessions::restore(&mut source).unwrap();
    assert!(source.is_empty());
    assert_eq!(sessions.state_hash(), replica.sessions.state_hash());
    let mut restored = Replica { sessions, machine: Effects::default(), last: replica.last };
    assert_eq!(result_of(&restored.write(session, 1, &[])), result_of(&first));
    assert_eq!(restored.write(session, 2, &[]), Outcome::Finished);
    assert_eq!(restored.effects(), 0);
    // Expiry goes on alike: the same session is the longest idle.
    for side in [&mut restored, &mut replica] {
        side.last = Index(50);
        for _ in 0..3 {
            side.open();
        }
        assert!(!side.sessions.contains(session));
    }
    assert_eq!(restored.sessions.idle().collect::<Vec<_>>(), replica.sessions.idle().collect::<Vec<_>>());
}

#[test]
fn every_field_of_the_table_moves_its_hash() {
    let base = |replica: &mut Replica| {
        let session = replica.open();
        replica.write(session, 1, &[]);
        session
    };
    let hash_after = |change: &dyn Fn(&mut Replica, SessionId)| {
        let mut replica = Replica::default();
        let session = base(&mut replica);
        change(&mut replica, session);
        replica.last = Index(9);
        replica.apply_bytes(&[]);
        replica.sessions.state_hash()
    };
    let hashes = [
        hash_after(&|_, _| {}),
        hash_after(&|replica, session| {
            replica.write(session, 2, &[]);
        }),
        hash_after(&|replica, session| {
            replica.apply(&write(session, 2, &[], b"other"));
        }),
        hash_after(&|replica, session| {
            replica.write(session, 2, &[(1, 1)]);
        }),
        hash_after(&|replica, session| {
            replica.write(session, 1, &[]);
        }),
        hash_after(&|replica, session| {
            replica.apply(&Command::Close { session });
        }),
        hash_after(&|replica, _| {
            replica.open();
        }),
        hash_after(&|replica, _| {
            replica.apply(&Command::SetLimits(small_limits()));
        }),
    ];
    let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}

#[test]
fn tables_that_no_log_leads_to_are_refused() {
    let limits = [1, 1, 1, 1, 1];
    // One record with limits, applied index and session count, then one per session; each begins with its length.
    let table = |applied: u8, sessions: &[&[u8]]| {
        let head = [&[7], &limits[..], &[applied, sessions.len() as u8]].concat();
        let records = sessions.iter().map(|session| [&[session.len() as u8], *session].concat());
        [head, records.collect::<Vec<_>>().concat()].concat()
    };
    // id, last use, finished ranges, results (sequence, index, term, result)
    let good = table(9, &[&[3, 5, 0, 1, 1, 4, 1, 0]]);
    assert!(Sessions::restore(&mut &good[..]).is_ok());
    let cases = [
        ("more sessions than the limit", table(9, &[&[3, 5, 0, 0], &[4, 6, 0, 0]])),
        ("used after the last entry", table(9, &[&[3, 10, 0, 0]])),
        ("used before it was opened", table(9, &[&[3, 2, 0, 0]])),
        ("session zero", table(9, &[&[0, 2, 0, 0]])),
        ("sequence zero", table(9, &[&[3, 5, 0, 1, 0, 4, 1, 0]])),
        ("result of an entry before the session", table(9, &[&[3, 5, 0, 1, 1, 3, 1, 0]])),
        ("result of an entry after its last use", table(9, &[&[3, 5, 0, 1, 1, 6, 1, 0]])),
        ("result of a finished sequence", table(9, &[&[3, 5, 1, 0, 0, 1, 1, 4, 1, 0]])),
    ];
    for (why, bytes) in cases {
        assert_eq!(Sessions::restore(&mut &bytes[..]), Err(RestoreError::Malformed), "{why}");
    }
    let huge = [&[14], &limits[..], &[9], &[0xff; 8]].concat();
    assert_eq!(Sessions::restore(&mut &huge[..]), Err(RestoreError::Ended), "no memory before bytes");
}

#[test]
#[should_panic(expected = "entry 3 after entry 3")]
fn an_entry_applied_twice_is_a_broken_invariant() {
    let mut replica = Replica { last: Index(2), ..Replica::default() };
    replica.open();
    replica.last = Index(2);
    replica.open();
}
