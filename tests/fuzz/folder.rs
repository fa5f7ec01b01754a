//! Data folders that somebody meddled with: bytes changed under checksums that were put right again.

use std::sync::OnceLock;

use raftgram::entry::{Entry, Payload};
use raftgram::founding::FoundingRecord;
use raftgram::kv::{Command as KvCommand, Kv};
use raftgram::machine::{Frozen, Machine as _, Sink, SinkClosed};
use raftgram::membership::{Member, Membership};
use raftgram::node::snapshot::load;
use raftgram::session::Sessions;
use raftgram::snapshot::SnapshotId;
use raftgram::store::snapshot::{Incoming, SnapshotFile, open_alone, verify_alone, write};
use raftgram::store::{
    Batch, FormatOptions, LogAfter, MemoryDisk, OnDamage, OpenOptions, SnapshotHead, Store, inspect,
};
use raftgram::types::{Incarnation, Index, NodeId, StoreId, Term};

use super::input::Input;
use super::pool::{CLUSTER, vary};

const BLOCK_BYTES: usize = 4096;
const HEADER_BYTES: usize = 128;
const SEGMENT_BYTES: u64 = 32 * 1024;
const ENTRIES: u64 = 9;

fn founding() -> FoundingRecord {
    let member = |number: u16| {
        let id = NodeId::new(number).expect("no number here is 0");
        (id, Member { store: StoreId([number as u8; 16]), address: format!("[::1]:{number}") })
    };
    FoundingRecord { cluster: CLUSTER, membership: Membership::of_voters((1..=3).map(member).collect()) }
}

fn options(on_damage: OnDamage) -> OpenOptions {
    OpenOptions { segment_bytes: SEGMENT_BYTES, on_damage, ..OpenOptions::default() }
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for index in 1..=ENTRIES {
        let chain = entries.last().map_or(0, |entry| entry.chain);
        let value = vec![index as u8; 700 * (index as usize % 4)];
        let payload = match index {
            5 => Payload::Noop,
            7 => Payload::Membership(founding().membership.into()),
            _ => Payload::Command(KvCommand::Put { key: b"k", value: &value }.to_bytes().into()),
        };
        entries.push(Entry::new(CLUSTER, Index(index), Term(1 + index / 4), payload, chain));
    }
    entries
}

/// What a node writes behind the sessions and the machine's state.
struct State;

impl Frozen for State {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&state_bytes())
    }
}

/// A mark, a session table and a machine, as a node freezes them.
fn state_bytes() -> Vec<u8> {
    let mut machine = Kv::new();
    for (index, key) in (1..).zip([b"a", b"b", b"c"]) {
        machine.apply(Index(index), &KvCommand::Put { key, value: &[index as u8; 40] }.to_bytes());
    }
    let mut sessions = Sessions::new();
    let open = raftgram::session::Command::Open.to_bytes();
    sessions.apply(Index(4), Term(1), &open, &mut machine);
    let mut out = 7_u64.to_be_bytes().to_vec();
    sessions.freeze().write(&mut out).expect("a vector takes all");
    machine.freeze().write(&mut out).expect("a vector takes all");
    out
}

/// A folder with a log of three batches over two segments, and a snapshot of the entries up to the third.
fn folder() -> MemoryDisk {
    static DISK: OnceLock<MemoryDisk> = OnceLock::new();
    let made = DISK.get_or_init(|| {
        let mut disk = MemoryDisk::new();
        let (store, first_incarnation) = (StoreId([1; 16]), Incarnation(1));
        let format = FormatOptions { store, first_incarnation, segment_bytes: SEGMENT_BYTES };
        Store::format(&mut disk, format).expect("a disk in memory takes a folder");
        let (mut store, _) = Store::open(disk, options(OnDamage::Refuse)).expect("it was just made");
        store.record_founding(&founding()).expect("the disk does not fail");
        let entries = entries();
        for some in entries.chunks(3) {
            let batch = Batch { entries: some.to_vec(), ..Batch::default() };
            store.persist(&batch).expect("the disk does not fail");
        }
        let third = &entries[2];
        let id = SnapshotId { index: third.index, term: third.term, chain: third.chain };
        let head = SnapshotHead { cluster: CLUSTER, id, membership: founding().membership };
        let meta = write(store.disk_mut(), &head, &State).expect("the disk does not fail");
        store.adopt_snapshot(meta, LogAfter::Kept).expect("the disk does not fail");
        store.into_disk()
    });
    made.clone()
}

/// Files of a whole folder are changed; then it is looked at and opened. What opens is a log without holes, goes on
/// being written, and opens again as the same.
pub(crate) fn log(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let mut disk = folder();
    let names: Vec<String> = disk.file_names().map(str::to_owned).collect();
    while !input.is_empty() {
        let name = &names[input.place(names.len())];
        meddle(&mut disk, name, &mut input);
    }
    drop(inspect::verify(&mut disk.clone()));
    for on_damage in [OnDamage::Refuse, OnDamage::Keep] {
        let Ok((mut store, found)) = Store::open(disk.clone(), options(on_damage)) else { continue };
        let base = found.snapshot.as_ref().map_or(0, |file| file.meta.id.index.0);
        let follow = (base + 1..).zip(&found.entries).all(|(index, entry)| entry.index == Index(index));
        assert!(follow, "entries out of order after {base}: {:?}", found.entries);
        if let Some(file) = &found.snapshot {
            drop(load(store.disk_mut(), file, &mut Kv::new()));
        }
        if found.remains.is_some() || found.entries.is_empty() || !found.damage.is_empty() {
            continue;
        }
        let last = &found.entries[found.entries.len() - 1];
        let next = Entry::new(found.cluster, last.index.next(), last.term, Payload::Noop, last.chain);
        let batch = Batch { entries: vec![next.clone()], ..Batch::default() };
        if store.persist(&batch).is_err() {
            continue;
        }
        let again = Store::open(store.into_disk(), options(on_damage));
        let (_, again) = again.unwrap_or_else(|error| panic!("a folder that was just opened: {error}"));
        assert_eq!(again.entries.last(), Some(&next));
        assert_eq!(again.entries.len(), found.entries.len() + 1);
    }
    1
}

/// One change to a file, and most often the checksums that cover it put right.
fn meddle(disk: &mut MemoryDisk, name: &str, input: &mut Input<'_>) {
    let choice = input.byte();
    if choice == 0xff {
        return disk.lose(name);
    }
    disk.rot(name, |content| {
        match choice & 7 {
            // Where the numbers are: the first bytes of a block.
            0..4 => {
                let block = BLOCK_BYTES * input.place((content.len() / BLOCK_BYTES).max(1));
                let at = block + input.place(HEADER_BYTES);
                let number = input.number().to_be_bytes();
                let width = [1, 2, 4, 8][input.place(4)];
                if let Some(place) = content.get_mut(at..at + width) {
                    place.copy_from_slice(&number[8 - width..]);
                }
            }
            4 => {
                let at = input.place(content.len());
                if let Some(byte) = content.get_mut(at) {
                    *byte = input.byte();
                }
            }
            5 => content.truncate(content.len().min(512 * input.place(128))),
            6 => {
                let blocks = (content.len() / BLOCK_BYTES).max(1);
                let (from, to) = (BLOCK_BYTES * input.place(blocks), BLOCK_BYTES * input.place(blocks));
                if from.max(to) + BLOCK_BYTES <= content.len() {
                    content.copy_within(from..from + BLOCK_BYTES, to);
                }
            }
            _ => content.extend_from_slice(input.slice(16)),
        }
        if choice & 8 == 0 {
            put_right(name, content);
        }
    });
}

fn put_right(name: &str, content: &mut [u8]) {
    if name.starts_with("hard-state") {
        put_record_right(content);
    } else if name.starts_with("snapshot") {
        put_trailer_right(content);
    } else {
        (0..content.len() / BLOCK_BYTES)
            .for_each(|block| put_batch_right(&mut content[block * BLOCK_BYTES..]));
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn put_record_right(content: &mut [u8]) {
    let body = content.get(8..12).map(|length| number(length, 0));
    if let Some(record) = body.and_then(|bytes| content.get_mut(..bytes.checked_add(16)?)) {
        let covered = [&record[..12], &record[16..]].concat();
        record[12..16].copy_from_slice(&crc32fast::hash(&covered).to_be_bytes());
    }
}

/// The header of a batch, and the batch that it names.
fn put_batch_right(block: &mut [u8]) {
    if block[1..4] != *b"rgb" {
        return;
    }
    if let Some(batch) =
        number(block, 12).checked_mul(BLOCK_BYTES).and_then(|bytes| block.get(HEADER_BYTES..bytes))
    {
        let crc = crc32fast::hash(batch);
        block[8..12].copy_from_slice(&crc.to_be_bytes());
    }
    let crc = crc32fast::hash(&block[8..HEADER_BYTES]);
    block[4..8].copy_from_slice(&crc.to_be_bytes());
}

fn put_trailer_right(content: &mut [u8]) {
    if let Some(trailer) = content.last_chunk_mut::<32>() {
        let crc = crc32fast::hash(&trailer[..28]);
        trailer[28..].copy_from_slice(&crc.to_be_bytes());
    }
}

/// A snapshot file by itself: changed, its checksums computed anew, opened, verified and read into a machine; and the
/// same file as one that is being pulled from another node.
pub(crate) fn snapshot(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let mut disk = folder();
    let names: Vec<String> = disk.file_names().map(str::to_owned).collect();
    let name = names.into_iter().find(|name| name.starts_with("snapshot")).expect("the folder has one");
    let whole = disk.content(&name).expect("it was just named").to_vec();
    let tail = whole.len() - 36;
    let mut content = whole[..tail].to_vec();
    for _ in 0..=input.byte() & 3 {
        vary(&mut content, &mut input);
    }
    let mut file = content.clone();
    file.extend(crc32fast::hash(&content).to_be_bytes());
    file.extend_from_slice(&whole[whole.len() - 32..]);
    let trailer = file.len() - 32;
    file[trailer + 8..trailer + 16].copy_from_slice(&(content.len() as u64).to_be_bytes());
    let digest = raftgram::hash::Fnv1a::default()
        .u64(u64::from(raftgram::snapshot::FORMAT_VERSION))
        .u64(content.len() as u64)
        .bytes(&file[content.len()..trailer])
        .finish();
    file[trailer + 16..trailer + 24].copy_from_slice(&digest.to_be_bytes());
    put_trailer_right(&mut file);
    if input.byte() & 7 == 0 {
        meddle_with(&mut file, &mut input);
    }
    disk.rot("alone", |content| *content = file.clone());
    if let Ok(opened) = open_alone(&mut disk, "alone") {
        drop(verify_alone(&mut disk, "alone", &opened));
        drop(raftgram::node::snapshot::load_alone(&mut disk, "alone", &opened, &mut Kv::new()));
        pull(&mut disk, &opened, &file, &mut input);
    }
    1
}

fn meddle_with(file: &mut [u8], input: &mut Input<'_>) {
    let at = input.place(file.len());
    file[at] = input.byte();
}

/// What is pulled whole is what was offered.
fn pull(disk: &mut MemoryDisk, opened: &SnapshotFile, file: &[u8], input: &mut Input<'_>) {
    let mut meta = opened.meta;
    if input.byte() & 3 == 0 {
        meta.bytes = input.number();
    }
    let Ok(mut incoming) = Incoming::open(disk, meta) else { return };
    for _ in 0..4 {
        let Ok(missing) = incoming.missing(disk) else { return };
        let Some(range) = missing.first() else { break };
        let (Ok(from), Ok(to)) = (usize::try_from(range.start), usize::try_from(range.end)) else { return };
        let Some(bytes) = file.get(from..to.min(file.len())) else { return };
        if incoming.write(disk, range.start, bytes).is_err() {
            return;
        }
    }
    drop(incoming.finish(disk, CLUSTER));
}

/// What a snapshot holds, without a file around it: sessions and machine.
pub(crate) fn state(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let choice = input.byte();
    let mut bytes = if choice & 1 == 0 { input.rest().to_vec() } else { state_bytes() };
    for _ in 0..=choice >> 6 {
        vary(&mut bytes, &mut input);
    }
    let source = &mut bytes.get(8..).unwrap_or_default();
    let Ok(sessions) = Sessions::restore(source) else { return 1 };
    let mut machine = Kv::new();
    if machine.restore(source).is_ok() {
        let _hash = sessions.state_hash();
        let mut out = Vec::new();
        machine.freeze().write(&mut out).expect("a vector takes all");
        let mut again = Kv::new();
        again.restore(&mut &out[..]).expect("what was written can be read");
        assert_eq!(again.state_hash(), machine.state_hash());
    }
    1
}
