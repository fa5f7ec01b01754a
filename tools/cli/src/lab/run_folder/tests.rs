//! What was written is read again.

use super::*;

fn run() -> Run {
    let host = Host {
        kernel: "Linux".into(),
        processors: 2,
        processor: "one".into(),
        memory_bytes: 1,
        socket_buffers: BTreeMap::new(),
    };
    let settings = Settings {
        nodes: 3,
        fsync: true,
        clients: 1,
        value_bytes: 100,
        reads: 0.0,
        rate: None,
        keys: 10,
        timeout_us: 5_000_000,
        warm_up_us: 0,
        duration_us: 1_000_000,
        election_timeout_min_us: 1,
        election_timeout_max_us: 2,
        heartbeat_us: 1,
        faults: vec!["loss 5%".into()],
    };
    Run {
        format: FORMAT,
        name: "x".into(),
        title: "X".into(),
        about: String::new(),
        state: State::Partial,
        why_partial: Some("interrupted".into()),
        on: Ground::Simulator,
        is_deterministic: true,
        seed: 7,
        repeats: 1,
        axis: Some(Axis {
            key: "loss".into(),
            label: "lost".into(),
            unit: Unit::Share,
            values: vec![0.0, 0.05],
        }),
        systems: vec!["raftgram".into()],
        runs_planned: 2,
        runs_done: 1,
        began_unix_us: 1,
        elapsed_s: 0.5,
        command: "raftgram lab run x".into(),
        version: "0".into(),
        build: "debug".into(),
        commit: None,
        is_modified: false,
        host,
        programs: Vec::new(),
        settings,
    }
}

fn point() -> Point {
    let mut latencies = histogram();
    (1..=1000u64).for_each(|us| latencies.record(us * 1000).unwrap());
    Point {
        point: 0,
        repeat: 0,
        system: "raftgram".into(),
        x: Some(0.05),
        label: "5%".into(),
        seed: 7,
        measured_us: 1_000_000,
        ops: 1000,
        errors: 0,
        unknown: 0,
        ops_per_s: 1000.0,
        latency_us: Latency::of_any(&latencies),
        histogram_ns: pairs(&latencies),
        commits: 1000,
        datagrams: Some(6000),
        datagram_bytes: None,
        retransmits: Some(1),
        duplicates: Some(0),
        elections: 1,
        leader_changes: 1,
        failovers_us: vec![300_000],
        longest_gap_us: 5,
        trace_hash: None,
        trace: None,
    }
}

#[test]
fn what_was_written_is_read_again_also_with_its_end_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let mut writer = Writer::create(&dir, &run(), "name = \"x\"\n").unwrap();
    let second = Second {
        point: 0,
        repeat: 0,
        second: -1,
        ops: 2,
        errors: 1,
        unknown: 0,
        latency_us: Some([1.5, 2.0, 3.0, 4.0]),
    };
    let empty = Second { second: 0, ops: 0, latency_us: None, ..second };
    let event = Event {
        point: 0,
        repeat: 0,
        at_us: -5,
        kind: EventKind::NoLeader,
        node: None,
        term: None,
        text: String::new(),
    };
    writer.point(&point()).unwrap();
    writer.second(&second).unwrap();
    writer.second(&empty).unwrap();
    writer.event(&event).unwrap();
    // A row that the end of the process cut.
    writer.points.write_all(b"{\"point\":1,\"rep").unwrap();
    let read = RunFolder::open(&dir).unwrap();
    assert_eq!((read.run, &read.points[..]), (run(), &[point()][..]));
    assert_eq!((read.seconds, read.events), (vec![second, empty], vec![event]));
    let again = Writer::create(&dir, &run(), "").unwrap_err();
    assert_eq!((again.code, again.message.as_str()), (Code::Usage, "the folder is not empty"));
}

#[test]
fn a_histogram_that_was_written_has_the_same_percentiles() {
    let point = point();
    let latencies = point.histogram();
    assert_eq!(
        (Latency::of_any(&latencies).map(|it| it.p99), latencies.len()),
        (point.latency_us.map(|it| it.p99), 1000)
    );
}
