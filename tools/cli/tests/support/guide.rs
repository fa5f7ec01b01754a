//! Guides as tests read them: the fenced blocks of a document, and one shell script of those that are to be run.
//!
//! Every block has a label, which is one of these; a second word does not disturb whoever colours the first.
//! - `sh`: run, in the order of the document, and must succeed;
//! - `sh background`: one command that goes on in a terminal of its own: it is waited for until it serves;
//! - `python`: a program, run by python3 as it stands;
//! - `sh with PROGRAM`, `python with MODULE`: the same where that is installed; elsewhere the test says it is skipped;
//! - `output`: lines that the block before it prints, in their order; `…` stands for anything;
//! - `toml FILE`: a file that the reader has written before;
//! - `sh elsewhere`: takes other machines, minutes or a package manager: is not run, but names what there is;
//! - `sh by FILE`: run by that other test;
//! - `rust FILE`: lines of that file, in their order;
//! - whatever [`SHOWN`] has: to be looked at, and without a command.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Blocks that are neither run nor compared here.
pub(crate) const SHOWN: [&str; 4] = ["text", "toml", "json", "vector"];

/// How many ports a guide may use: 7101 to 7199 for nodes, 7201 to 7210 for HTTP.
pub(crate) const PORTS: u16 = 99 + 10;

/// What of the repository a reader's clone has.
const CLONE: [&str; 5] = ["examples", "include", "packaging", "tools", "Cargo.toml"];

/// What `cargo test` has built stands for what a reader builds.
const CARGO: &str = "#!/bin/sh
case \"$*\" in
  'build --release' | 'build --release -p '*) ;;
  'run --release -- '*) shift 3; exec target/release/raftgram \"$@\" ;;
  *) echo \"no block that is run may say: cargo $*\" >&2; exit 1 ;;
esac
";

/// Debian has scapy for its own Python only, which need not be the first on the path.
const PROLOGUE: &str = "set -euo pipefail
trap '{ jobs -rp | xargs -r kill; wait; } || true' EXIT
here() { command -v \"$1\" >/dev/null; }
imports() { python3 -c \"import $1\" 2>/dev/null; }
if ! imports scapy && /usr/bin/python3 -c 'import scapy' 2>/dev/null; then python3() { /usr/bin/python3 \"$@\"; }; fi
";

#[derive(Debug)]
pub(crate) struct Block {
    /// The words behind the fence.
    pub(crate) kind: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Block {
    /// The first word of the label, and what is behind it.
    pub(crate) fn label(&self) -> (&str, &str) {
        self.kind.split_once(' ').unwrap_or((&self.kind, ""))
    }

    /// What must be installed for it; nothing when it is not to be run.
    fn needs(&self) -> Option<String> {
        match self.label() {
            ("sh", "" | "background") => Some("true".to_owned()),
            ("python", "") => Some("here python3".to_owned()),
            ("sh", rest) => rest.strip_prefix("with ").map(|program| format!("here {program}")),
            ("python", rest) => rest.strip_prefix("with ").map(|module| format!("imports {module}")),
            _ => None,
        }
    }

    pub(crate) fn is_run(&self) -> bool {
        self.needs().is_some()
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some(Block { kind: kind.to_owned(), line: at + 1, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &(line.to_owned() + "\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    blocks
}

/// The same text with free ports: 7101 becomes the first of a row, 7201 the first of those for HTTP.
pub(crate) fn with_ports(text: &str, first: u16) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..].len() - rest[at..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[at..at + digits].parse::<u16>();
        out += &rest[..at];
        match number {
            Ok(port @ 7101..=7199) => write!(out, "{}", first + port - 7101).unwrap(),
            Ok(port @ 7201..=7210) => write!(out, "{}", first + 99 + port - 7201).unwrap(),
            _ => out += &rest[at..at + digits],
        }
        rest = &rest[at + digits..];
    }
    out + rest
}

/// Each line of `lines` stands in `text`, in this order; `…` in it stands for anything. What `trim` leaves is compared.
pub(crate) fn stand_in_order(lines: &str, text: &str, trim: fn(&str) -> String) -> Result<(), String> {
    let mut all = text.lines().map(trim);
    for line in lines.lines().map(trim).filter(|line| !line.is_empty()) {
        if !all.any(|of_text| is_like(&line, &of_text)) {
            return Err(format!("`{line}` is not there, or not behind the line before it"));
        }
    }
    Ok(())
}

/// A line that is printed: tables are wider on a terminal than in a pipe.
pub(crate) fn printed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_like(pattern: &str, line: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('…') else { return pattern == line };
    let Some(mut left) = line.strip_prefix(begin) else { return false };
    let parts: Vec<&str> = rest.split('…').collect();
    let (end, middle) = parts.split_last().expect("a split has a part");
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

/// A folder for a guide, with all that its script needs.
pub(crate) struct Reader {
    dir: tempfile::TempDir,
    first: u16,
    environment: BTreeMap<String, String>,
}

impl Reader {
    /// Somebody in an empty folder, with this program on the path. Ports of the text are [`PORTS`] ones from `first`.
    pub(crate) fn new(first: u16, program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let programs = dir.path().join("bin");
        for folder in [dir.path().join("work"), programs.clone()] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(programs.join("cargo"), CARGO).unwrap();
        let status = Command::new("chmod").arg("+x").arg(programs.join("cargo")).status().unwrap();
        assert!(status.success());
        symlink(program, programs.join(program.file_name().unwrap())).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let environment = BTreeMap::from([("PATH".to_owned(), path)]);
        Self { dir, first, environment }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.environment.insert(name.to_owned(), value);
    }

    /// The folder is the root of a clone, where this was built: the program, and libraries if there are any.
    pub(crate) fn clones(&self, built: &[&Path]) {
        let mut copy = Command::new("cp");
        copy.arg("-r").args(CLONE.map(|name| root().join(name))).arg(self.work());
        assert!(copy.status().unwrap().success());
        let release = self.work().join("target/release");
        fs::create_dir_all(&release).unwrap();
        for file in built {
            symlink(file, release.join(file.file_name().unwrap())).unwrap();
        }
    }

    /// The shell script of these blocks; what each prints is found between marks.
    fn script(&self, blocks: &[Block]) -> String {
        let mut script = PROLOGUE.to_owned();
        for block in blocks {
            let text = with_ports(&block.text, self.first);
            let line = block.line;
            if let Some(file) = block.kind.strip_prefix("toml ") {
                fs::write(self.work().join(file), &text).unwrap();
            }
            let Some(needs) = block.needs() else { continue };
            let run = if block.kind == "sh background" {
                assert_eq!(
                    text.trim_end().replace("\\\n", " ").lines().count(),
                    1,
                    "line {line}: one command"
                );
                let log = self.dir.path().join(format!("background-{line}")).display().to_string();
                format!(
                    "{} >{log} 2>{log}.err &\nuntil grep -Eqs '^(ready|listening)' {log} || grep -qs 'INFO serving' \
                     {log}.err; do kill -0 $! || {{ cat {log}.err >&2; exit 1; }}; sleep 0.02; done",
                    text.trim_end().rsplit_once(" #").map_or(text.trim_end(), |(command, _)| command)
                )
            } else if block.label().0 == "python" {
                let file = self.dir.path().join(format!("line-{line}.py"));
                fs::write(&file, text).unwrap();
                format!("python3 {}", file.display())
            } else {
                format!("{{\n{text}}}")
            };
            writeln!(script, "if {needs}; then\n{run}\necho '@@ {line}'\nelse echo '@@ {line} skipped'; fi")
                .unwrap();
        }
        script
    }

    /// Runs the blocks of a guide in a shell without any setting of ours, and compares what they print.
    pub(crate) fn run(&self, guide: &str, blocks: &[Block]) {
        let file = self.dir.path().join("script");
        fs::write(&file, self.script(blocks)).unwrap();
        // Whatever is waited for in vain ends with all that it started.
        let mut bash = Command::new("timeout");
        bash.args(["300", "bash"]).arg(file).current_dir(self.work()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RAFTGRAM_") || name == "LD_LIBRARY_PATH" {
                bash.env_remove(name);
            }
        }
        let output = bash.envs(&self.environment).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let told = || format!("{guide}\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}", told());
        for block in blocks.iter().filter(|block| stdout.contains(&format!("@@ {} skipped\n", block.line))) {
            let what = block.kind.rsplit(' ').next().unwrap_or_default();
            let is_required = std::env::var("RAFTGRAM_TEST_GUIDES").is_ok_and(|value| value == "required");
            assert!(!is_required, "{guide}:{}: {what} is not installed", block.line);
            // Past the capture of tests' output: what was not run must be seen.
            let _ = writeln!(std::io::stderr(), "skipped: {guide}:{}: {what} is not installed", block.line);
        }
        let is_of_another_test = |block: &Block| block.kind.starts_with("sh by ");
        let pairs =
            blocks.windows(2).filter(|pair| pair[1].kind == "output" && !is_of_another_test(&pair[0]));
        for pair in pairs {
            assert!(pair[0].is_run(), "{guide}:{}: nothing was run before it", pair[1].line);
            let mark = format!("@@ {}\n", pair[0].line);
            let Some(end) = stdout.find(&mark) else {
                assert!(stdout.contains(&format!("@@ {} skipped\n", pair[0].line)), "{}", told());
                continue;
            };
            let begin = stdout[..end].rfind("@@ ").map_or(0, |at| at + stdout[at..].find('\n').unwrap() + 1);
            let text = &stdout[begin..end];
            if let Err(why) = stand_in_order(&with_ports(&pair[1].text, self.first), text, printed) {
                panic!("{guide}:{}: {why}; printed was\n{text}", pair[1].line);
            }
        }
    }
}
