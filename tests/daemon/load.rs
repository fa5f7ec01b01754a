//! Writers that would notice a lost or doubled write: each counts its own key up by compare-and-set.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftgram::kv::{Command, CommandResult};
use raftgram::{Answer, Client, ClientConfig};

use crate::cluster::connect_as;
use crate::process::{PATIENCE, eventually};

/// Writers on threads, until stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The number of the first writer's key.
    first: usize,
    is_stopping: AtomicBool,
    /// What each writer's key holds by the last acknowledgement.
    acknowledged: Vec<AtomicU64>,
    /// When the first acknowledgement of each term's entries came.
    first_by_term: Mutex<BTreeMap<u64, Instant>>,
    /// When the last acknowledgement of any writer came, and the longest time between two since it was last asked for.
    pace: Mutex<(Instant, Duration)>,
}

impl Load {
    /// So many writers, each with a client of its own.
    pub(crate) fn start(addresses: &[SocketAddr], count: usize) -> Self {
        Self::start_with(addresses, count, &ClientConfig::default())
    }

    /// The same with settings for the clients.
    pub(crate) fn start_with(addresses: &[SocketAddr], count: usize, config: &ClientConfig) -> Self {
        Self::start_beyond(addresses, count, config, 0)
    }

    /// The same with keys that begin behind those of an earlier load.
    pub(crate) fn start_beyond(
        addresses: &[SocketAddr],
        count: usize,
        config: &ClientConfig,
        first: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            first,
            is_stopping: AtomicBool::new(false),
            acknowledged: (0..count).map(|_| AtomicU64::new(0)).collect(),
            first_by_term: Mutex::new(BTreeMap::new()),
            pace: Mutex::new((Instant::now(), Duration::ZERO)),
        });
        let writer = |place: usize| {
            let (shared, client) = (Arc::clone(&shared), connect_as(config, addresses));
            std::thread::spawn(move || shared.write(place, &client))
        };
        let writers = (0..count).map(writer).collect();
        Self { shared, writers }
    }

    /// The key of one writer.
    pub(crate) fn key(place: usize) -> String {
        format!("counter-{place}")
    }

    /// What this writer's key is known to hold, at least.
    pub(crate) fn acknowledged(&self, place: usize) -> u64 {
        self.shared.acknowledged[place].load(Ordering::SeqCst)
    }

    /// The same for another thread to ask, again and again.
    pub(crate) fn watch(&self, place: usize) -> impl Fn() -> u64 + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.acknowledged[place].load(Ordering::SeqCst)
    }

    /// All acknowledged writes.
    pub(crate) fn total(&self) -> u64 {
        self.shared.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Waits for so many more writes.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let goal = self.total() + more;
        eventually("writes are acknowledged", || {
            self.assert_going();
            (self.total() >= goal).then_some(())
        });
    }

    /// Waits for a write that a later term than this acknowledged; when it was.
    #[track_caller]
    pub(crate) fn first_beyond(&self, term: u64) -> Instant {
        eventually("a later leader acknowledges a write", || {
            self.assert_going();
            self.shared.first_by_term.lock().unwrap().range(term + 1..).map(|(_, at)| *at).next()
        })
    }

    /// Waits for a write that this term or a later one acknowledged.
    #[track_caller]
    pub(crate) fn wait_for_term(&self, term: u64) {
        self.first_beyond(term - 1);
    }

    /// The longest time without an acknowledgement since this was last asked.
    pub(crate) fn longest_stall(&self) -> Duration {
        let mut pace = self.shared.pace.lock().unwrap();
        let (last, longest) = *pace;
        pace.1 = Duration::ZERO;
        longest.max(last.elapsed())
    }

    fn assert_going(&self) {
        assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer has failed; its panic says why");
    }

    /// Ends the load: what every key must hold now.
    #[track_caller]
    pub(crate) fn stop(mut self) -> BTreeMap<String, String> {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        for writer in self.writers.drain(..) {
            writer.join().expect("a writer failed");
        }
        (0..self.shared.acknowledged.len())
            .map(|place| (Self::key(self.shared.first + place), self.acknowledged(place).to_string()))
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn write(&self, place: usize, client: &Client) {
        let key = Load::key(self.first + place);
        let mut count = 0_u64;
        while !self.is_stopping.load(Ordering::SeqCst) {
            let (old, new) = (count.to_string(), (count + 1).to_string());
            let old = (count > 0).then_some(old.as_bytes());
            let command = Command::Cas { key: key.as_bytes(), old, new: new.as_bytes() };
            let answer = client.propose(command.to_bytes(), PATIENCE).wait(PATIENCE * 2);
            let ended = Instant::now();
            if self.is_stopping.load(Ordering::SeqCst) && !matches!(answer, Ok(Ok(_))) {
                // The test is failing already, and its nodes are going away.
                return;
            }
            let Ok(Ok(Answer::Applied { term, result, .. })) = answer else {
                panic!("{key}: writing {new} came to {answer:?}");
            };
            let result = CommandResult::decode(&result).unwrap();
            // A lost write leaves an older value, a doubled one fails its own comparison.
            assert!(matches!(result, CommandResult::Done { .. }), "{key}: writing {new} came to {result:?}");
            count += 1;
            self.acknowledged[place].store(count, Ordering::SeqCst);
            self.first_by_term.lock().unwrap().entry(term.0).or_insert(ended);
            let mut pace = self.pace.lock().unwrap();
            *pace = (ended, pace.1.max(ended.saturating_duration_since(pace.0)));
        }
    }
}
