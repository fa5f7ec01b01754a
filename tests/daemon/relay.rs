//! A path between two parties that can be cut one way: two sockets, each facing one party in the other's place.
//! It needs no privilege, since nodes are told by `--route` to send to it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cluster::loopback;

/// How many datagrams of each direction are kept to be looked at.
const KEPT_MAX: usize = 256;

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) is_cut: AtomicBool,
    passed: AtomicU64,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl Way {
    /// How many datagrams have come through.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// The first datagrams that came through.
    pub(crate) fn kept(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap().clone()
    }

    fn pass(&self, from: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
        if self.is_cut.load(Ordering::SeqCst) {
            return;
        }
        let mut kept = self.kept.lock().unwrap();
        if kept.len() < KEPT_MAX {
            kept.push(bytes.to_vec());
        }
        drop(kept);
        self.passed.fetch_add(1, Ordering::SeqCst);
        // What cannot be sent is lost, as on any path.
        let _ = from.send_to(bytes, to);
    }
}

/// Between a near and a far party. The far one's address is known; the near one is whoever speaks last.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where the near party sends what is for the far one.
    pub(crate) faces_near: SocketAddr,
    /// Where the far party sends what is for the near one.
    pub(crate) faces_far: SocketAddr,
    pub(crate) outward: Arc<Way>,
    pub(crate) inward: Arc<Way>,
    is_stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    pub(crate) fn start(near: Option<SocketAddr>, far: SocketAddr) -> Self {
        let bind = || {
            let socket = UdpSocket::bind((loopback(), 0)).unwrap();
            // How soon the threads notice that they are to stop.
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            socket
        };
        let (near_socket, far_socket) = (Arc::new(bind()), Arc::new(bind()));
        let (faces_near, faces_far) = (near_socket.local_addr().unwrap(), far_socket.local_addr().unwrap());
        let (outward, inward) = (Arc::new(Way::default()), Arc::new(Way::default()));
        let (is_stopping, near) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(near)));
        let (out, back) = (Arc::clone(&outward), Arc::clone(&inward));
        let (out_from, out_to, speaker) =
            (Arc::clone(&near_socket), Arc::clone(&far_socket), Arc::clone(&near));
        let forward = relay_thread(out_from, Arc::clone(&is_stopping), move |from, bytes| {
            *speaker.lock().unwrap() = Some(from);
            out.pass(&out_to, far, bytes);
        });
        let backward = relay_thread(far_socket, Arc::clone(&is_stopping), move |_, bytes| {
            let to = *near.lock().unwrap();
            to.into_iter().for_each(|to| back.pass(&near_socket, to, bytes));
        });
        Self { faces_near, faces_far, outward, inward, is_stopping, threads: vec![forward, backward] }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn relay_thread(
    socket: Arc<UdpSocket>,
    is_stopping: Arc<AtomicBool>,
    pass: impl Fn(SocketAddr, &[u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while !is_stopping.load(Ordering::SeqCst) {
            // An error is a timeout, or a closed port of whoever was sent to.
            if let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
                pass(from, &buffer[..bytes]);
            }
        }
    })
}
