//! Three nodes in namespaces of their own, one fault after the other, drawn from a seed: of the network, of the
//! process, of the disk, of the files. After each all of it heals, and the cluster must be whole again. Clients go on
//! all the time, and what they saw is judged at the end.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use raftgram::rng::Rng;
use rustix::process::Signal;

use super::can_run;
use super::history::Clients;
use super::net::{Net, PORT};
use super::site::Site;
use crate::cluster::alone;
use crate::process::{eventually, setting};

/// What can happen to one node, or between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Loss,
    HeavyLoss,
    Twice,
    Corruption,
    Deaf,
    CutOff,
    Stopped,
    Killed,
    SyncFails,
    SyncIsSlow,
    SendFails,
    DiskFull,
    BitFlipped,
    Truncated,
    Removed,
    OldRecord,
}

const ALL: [Fault; 16] = [
    Fault::Loss,
    Fault::HeavyLoss,
    Fault::Twice,
    Fault::Corruption,
    Fault::Deaf,
    Fault::CutOff,
    Fault::Stopped,
    Fault::Killed,
    Fault::SyncFails,
    Fault::SyncIsSlow,
    Fault::SendFails,
    Fault::DiskFull,
    Fault::BitFlipped,
    Fault::Truncated,
    Fault::Removed,
    Fault::OldRecord,
];

/// The node whose disk is small enough to be filled.
const SMALL: usize = 3;
const SMALL_MIB: u64 = 160;

#[test]
fn a_cluster_under_real_faults_of_every_kind_stays_linearizable() {
    if !can_run("mixed faults", &["ip", "nft", "strace"]) {
        return;
    }
    let span = Duration::from_secs(setting("RAFTGRAM_FAULT_SECONDS", 4));
    let seed = setting("RAFTGRAM_FAULT_SEED", 1);
    let _alone = alone();
    let net = Net::new(3);
    let mut site = Site::new(&net.addresses(), |id| net.within(id));
    site.outside = net.within(0);
    site.mount(SMALL, SMALL_MIB);
    site.ids().for_each(|id| site.start(id, &["--bootstrap"], &[]));
    site.wait_until_whole();
    let hub = net.within(0);
    let within: Vec<&str> = hub.iter().map(String::as_str).collect();
    let clients = Clients::start(&within, &site.names(), site.dir.path());
    let mut world = World { net: &net, site, rng: Rng::from_seed(seed) };
    let (began, mut told) = (Instant::now(), std::collections::BTreeMap::new());
    // Every fault comes once before any comes twice, if there is time.
    let mut bag = Vec::new();
    while began.elapsed() < span {
        if bag.is_empty() {
            bag = ALL.to_vec();
        }
        let fault = bag.swap_remove(world.rng.below(bag.len() as u64) as usize);
        let before = clients.written_bytes();
        world.strike(fault);
        world.site.wait_until_whole();
        eventually("clients get on", || (clients.written_bytes() > before).then_some(()));
        *told.entry(fault).or_insert(0) += 1;
    }
    eprintln!("seed {seed}, {:.0} s: {told:?}", began.elapsed().as_secs_f64());
    clients.judge();
}

struct World<'a> {
    net: &'a Net,
    site: Site,
    rng: Rng,
}

impl World<'_> {
    fn strike(&mut self, fault: Fault) {
        let id = 1 + self.rng.below(3) as usize;
        let other = 1 + (id + self.rng.below(2) as usize) % 3;
        let port = format!("udp dport {PORT}");
        let share = |percent: u64| format!("{port} numgen random mod 100 < {percent}");
        match fault {
            Fault::Loss => self.all_hear(&format!("{} drop", share(30))),
            Fault::HeavyLoss => self.all_hear(&format!("{} drop", share(50))),
            Fault::Twice => {
                let own = self.site.ip(id);
                self.hears(id, &format!("{} dup to {own}", share(40)));
            }
            // The byte is one of the header, of the session's table, or of a body, and the UDP checksum is put right or
            // was never looked at.
            Fault::Corruption => {
                let at = 64 + 8 * self.rng.below(120);
                self.all_hear(&format!("{} @th,{at},8 set 0x55", share(10)));
            }
            Fault::Deaf => {
                let from = self.site.ip(other);
                self.hears(id, &format!("ip saddr {from} drop"));
            }
            Fault::CutOff => self.hears(id, &format!("{port} drop")),
            Fault::Stopped => {
                self.site.signal(id, Signal::STOP);
                self.last(2000);
                self.site.signal(id, Signal::CONT);
            }
            Fault::Killed => {
                self.site.kill(id);
                self.last(1000);
                self.site.start(id, &[], &[]);
            }
            Fault::SyncFails => self.sync_fails(id),
            Fault::SyncIsSlow => self.traced(id, "fdatasync", "delay_enter=150000"),
            Fault::SendFails => self.traced(id, "sendto,sendmsg,sendmmsg", "error=ENOBUFS:when=1+3"),
            Fault::DiskFull => self.fill_disk(),
            Fault::BitFlipped | Fault::Truncated | Fault::Removed => self.meddle(id, fault),
            Fault::OldRecord => self.put_old_record_back(id),
        }
    }

    /// A fault lasts a while, half of it at least.
    fn last(&mut self, longest_ms: u64) {
        let span = longest_ms / 2 + self.rng.below(longest_ms / 2);
        std::thread::sleep(Duration::from_millis(span));
    }

    fn hears(&mut self, id: usize, rules: &str) {
        self.net.rule(id, rules);
        self.last(2000);
        self.net.heal(id);
    }

    fn all_hear(&mut self, rules: &str) {
        self.site.ids().for_each(|id| self.net.rule(id, rules));
        self.last(3000);
        self.site.ids().for_each(|id| self.net.heal(id));
    }

    /// The node runs on while a tracer interferes with its calls.
    fn traced(&mut self, id: usize, calls: &str, inject: &str) {
        let tracer = Tracer::attach(self.site.pid(id), calls, inject);
        self.last(2000);
        drop(tracer);
    }

    /// A failed sync ends the node; what it wrote is not relied on, and it comes back.
    fn sync_fails(&mut self, id: usize) {
        let tracer = Tracer::attach(self.site.pid(id), "fdatasync", "error=EIO:when=2");
        let status = self.site.reap(id);
        drop(tracer);
        assert_eq!(
            status.code(),
            Some(1),
            "a node whose disk fails says so; its log:\n{}",
            self.site.log(id)
        );
        self.site.start(id, &[], &[]);
    }

    fn fill_disk(&mut self) {
        let filler = self.site.data(SMALL).join("filler");
        let file = fs::File::create(&filler).unwrap();
        let chunk = vec![0x5a; 1 << 20];
        let full = (0..2 * SMALL_MIB).find(|place| file.write_all_at(&chunk, place << 20).is_err());
        assert!(full.is_some(), "the disk took more than it has");
        self.last(2500);
        fs::remove_file(&filler).unwrap();
    }

    /// A file of the log, or the snapshot, is not what was written when its node comes back.
    fn meddle(&mut self, id: usize, fault: Fault) {
        self.site.ask(&["--timeout", "5s", "snapshot", "take"]);
        self.site.kill(id);
        let files =
            files_of(self.site.data(id), |name| name.starts_with("log-") || name.starts_with("snapshot-"));
        let file = &files[self.rng.below(files.len() as u64) as usize];
        match fault {
            Fault::BitFlipped => {
                // In the first block: elsewhere most files hold zeros.
                let bytes = fs::metadata(file).unwrap().len().min(4096);
                let at = self.rng.below(bytes.max(1));
                let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
                let mut byte = [0];
                if file.read_at(&mut byte, at).unwrap() == 1 {
                    file.write_all_at(&[byte[0] ^ (1 << self.rng.below(8))], at).unwrap();
                }
            }
            Fault::Truncated => {
                let bytes = fs::metadata(file).unwrap().len();
                OpenOptions::new().write(true).open(file).unwrap().set_len(bytes / 2).unwrap();
            }
            _ => fs::remove_file(file).unwrap(),
        }
        self.site.start(id, &[], &[]);
    }

    /// Hard-state records from before do not go with the log that was written under later ones: such a folder is
    /// refused, or, when nothing of that log is left, the others know its boot for an older one. Then all of what was
    /// there is put back.
    fn put_old_record_back(&mut self, id: usize) {
        let data = self.site.data(id).to_owned();
        let old = read(&data, |name| name.starts_with("hard-state"));
        self.site.kill(id);
        self.site.start(id, &[], &[]);
        self.site.wait_until_whole();
        self.site.kill(id);
        let new = read(&data, |_| true);
        put(&old);
        let told = |site: &Site| site.ids().map(|id| site.log(id).matches(COPY).count()).sum::<usize>();
        let before = told(&self.site);
        self.site.start(id, &[], &[]);
        eventually("the old record is known for one", || {
            let refused = self.site.ended(id).map(|status| status.code() == Some(6));
            refused.unwrap_or_else(|| told(&self.site) > before).then_some(())
        });
        self.site.kill(id);
        files_of(&data, |_| true).iter().for_each(|path| fs::remove_file(path).unwrap());
        put(&new);
        self.site.start(id, &[], &[]);
    }
}

/// What a node says of an older boot of another's data folder.
const COPY: &str = "a copied data folder is speaking";

fn read(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<(Vec<u8>, PathBuf)> {
    files_of(folder, is_wanted).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect()
}

fn put(files: &[(Vec<u8>, PathBuf)]) {
    files.iter().for_each(|(content, path)| fs::write(path, content).unwrap());
}

fn files_of(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| is_wanted(path.file_name().unwrap().to_str().unwrap())).collect();
    found.sort();
    found
}

/// Something that interferes with a running process until it is dropped.
struct Tracer(Child);

impl Tracer {
    fn attach(pid: u32, calls: &str, inject: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{inject}"), "-p", &pid.to_string()]);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It lets go of the process before it ends; killed, it would leave it as it is.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}
