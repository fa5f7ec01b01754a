//! Arbitrary bytes into what this program reads of files: settings, histories, captures. libFuzzer's end of it when
//! built with `--cfg fuzzing` by `fuzz/run`, with `FUZZ_TARGET` naming the reader; a few seeds of it in `cargo test`.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::{check, config, wire};

/// A harness, by name.
type Reader = (&'static str, fn(&[u8]));

const READERS: [Reader; 3] =
    [("config", settings), ("history", check::read_any), ("capture", wire::read_any)];

/// A file of settings under the whole command line.
fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(file) = config::File::parse(&text) {
        // Refused or taken; taken settings are parsed as arguments are.
        if let Ok(mut tree) = file.layer(Cli::command()) {
            drop(tree.try_get_matches_from_mut(["raftgram", "config", "show"]));
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let reader = READERS.iter().find(|(known, _)| *known == name);
    reader.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?} and must be a reader")).1(data);
});

#[cfg(test)]
mod tests {
    use raftgram::rng::Rng;

    use super::*;

    const SETTINGS: &[u8] =
        b"log-level = \"debug\"\ncluster = [\"7101\"]\n[bench-kv]\nclients = 8\nreads = \"40%\"\n";
    const JSONL: &[u8] =
        b"{\"index\":0,\"process\":3,\"type\":\"invoke\",\"f\":\"cas\",\"key\":\"k\",\"value\":[1,null]}\n\
          {\"index\":1,\"process\":3,\"type\":\"ok\",\"f\":\"cas\",\"key\":\"k\",\"value\":[1,null]}\n";
    const JEPSEN: &[u8] =
        b"INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t3\n";
    const PORCUPINE: &[u8] = b"{:process 0, :type :invoke, :f :put, :key \"0\", :value \"x 0 1 y\"}\n";
    const PCAP: &[u8] = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x01\0\x65\0\0\0\
        \0\0\0\0\0\0\0\0\x20\0\0\0\x20\0\0\0\
        \x45\0\0\0\0\0\x40\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\0\x07\0\x09\0\x0b\0\0abc\xff";
    const PCAPNG: &[u8] = b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\
        \xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0\
        \x01\0\0\0\x14\0\0\0\x65\0\0\0\0\0\0\0\x14\0\0\0";

    /// What each reader takes.
    const SAMPLES: [(&str, &[&[u8]]); 3] =
        [("config", &[SETTINGS]), ("history", &[JSONL, JEPSEN, PORCUPINE]), ("capture", &[PCAP, PCAPNG])];

    #[test]
    fn no_changed_file_makes_a_reader_panic() {
        for (name, samples) in SAMPLES {
            let (_, read) =
                READERS.iter().find(|(known, _)| *known == name).expect("every reader has samples");
            for sample in samples {
                read(sample);
            }
            let count = if name == "config" { 20 } else { 2_000 };
            for seed in 0..count {
                let mut rng = Rng::from_seed(seed);
                let mut bytes = samples[rng.below(samples.len() as u64) as usize].to_vec();
                for _ in 0..=rng.below(3) {
                    change(&mut bytes, &mut rng);
                }
                read(&bytes);
            }
        }
    }

    fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(5) {
            0 => bytes[at] = rng.next_u64() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + rng.below(20) as usize).min(bytes.len());
                let copied = bytes[at..end].to_vec();
                bytes.extend(copied);
            }
            _ => bytes.insert(at, b"\0\xff\"{}[]:,0n"[rng.below(11) as usize]),
        }
    }
}
