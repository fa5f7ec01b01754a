//! Snapshots beside the event loop: written, loaded, removed and freed one after the other.
//!
//! The thread has a way of its own into the data folder and touches the files of snapshots only; the hard-state record
//! and the log are the disk thread's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use mio::Waker;

use crate::machine::Machine;
use crate::node::{SnapshotDone, SnapshotJob};
use crate::store::{Disk, SnapshotError};

/// What became of the jobs.
pub(super) enum Event<M> {
    /// One was carried out.
    Done(SnapshotDone<M>),
    /// The disk has failed; nothing more will be done.
    Failed(SnapshotError),
    /// The thread broke an invariant, or the machine did; nothing more will be done.
    Panicked,
}

/// The thread, as the loop holds it.
pub(super) struct SnapshotThread<M> {
    jobs: Sender<SnapshotJob<M>>,
    report: Arc<Report<M>>,
    thread: JoinHandle<()>,
}

struct Report<M> {
    events: Mutex<Vec<Event<M>>>,
    waker: Arc<Waker>,
    /// Set when the loop has ended: a write under way is broken off.
    is_over: Arc<AtomicBool>,
}

impl<M> Report<M> {
    fn send(&self, event: Event<M>) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        // It fails only when the loop is gone, and then nobody waits.
        drop(self.waker.wake());
    }
}

/// Tells the loop when the thread panics.
struct TellPanic<M>(Arc<Report<M>>);

impl<M> Drop for TellPanic<M> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send(Event::Panicked);
        }
    }
}

impl<M: Machine + Send + 'static> SnapshotThread<M> {
    /// A thread that wakes the loop through `waker` whenever something is done.
    pub(super) fn start<D: Disk + Send + 'static>(mut disk: D, waker: Arc<Waker>) -> io::Result<Self> {
        let (jobs, receiver) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Report { events: Mutex::new(Vec::new()), waker, is_over });
        let of_thread = Arc::clone(&report);
        let thread = thread::Builder::new().name("raftgram-snapshot".to_owned()).spawn(move || {
            let _told = TellPanic(Arc::clone(&of_thread));
            serve(&mut disk, &receiver, &of_thread);
        })?;
        Ok(Self { jobs, report, thread })
    }

    pub(super) fn ask(&self, job: SnapshotJob<M>) {
        // The thread ends only after a failure or a panic, which it has reported.
        drop(self.jobs.send(job));
    }

    /// What has been done since the last look, in order, into an empty list.
    pub(super) fn take_events(&self, into: &mut Vec<Event<M>>) {
        std::mem::swap(&mut *self.report.events.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    /// Breaks off what is under way and waits for the thread's end: it must leave the folder before the next boot.
    pub(super) fn stop(self) {
        self.report.is_over.store(true, Ordering::Relaxed);
        drop(self.jobs);
        // A panic has been reported.
        drop(self.thread.join());
    }
}

fn serve<M: Machine, D: Disk>(disk: &mut D, jobs: &Receiver<SnapshotJob<M>>, report: &Report<M>) {
    while let Ok(job) = jobs.recv() {
        let is_over = Arc::clone(&report.is_over);
        match job.until(move || is_over.load(Ordering::Relaxed)).carry_out(disk) {
            Ok(done) => report.send(Event::Done(done)),
            Err(error) => return report.send(Event::Failed(error)),
        }
    }
}
