//! What the guides print is run as it stands. A fenced block is
//! - `sh`: run, in the order of the document, in an empty folder, and must succeed;
//! - `sh background`: one command that starts a cluster, which is waited for and runs to the end of the document;
//! - `output`: lines that the block before it prints, in their order;
//! - `sh elsewhere`: about machines that exist in the text only: its raftgram commands must be such as there are;
//! - `rust FILE`: lines of that file, in their order.
//!
//! All else is not looked at. Ports of the text stand for free ones.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{command, raftgram};
use crate::up::{free_ports, turn};

/// The guides; whatever else has a block to run is found missing here.
const GUIDES: [&str; 7] = [
    "README.md",
    "docs/tutorial.md",
    "docs/operations.md",
    "docs/errors.md",
    "docs/faq.md",
    "docs/embedding.md",
    "docs/metrics.md",
];

/// How many ports the guides may use: 7101 and so on for nodes, 7201 and so on for HTTP.
const PORTS: u16 = 60;

/// Where ports for HTTP begin among them.
const HTTP: u16 = 50;

#[derive(Debug)]
struct Block {
    /// The words behind the fence.
    kind: String,
    line: usize,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
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
fn with_ports(text: &str, first: u16) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..].len() - rest[at..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[at..at + digits].parse::<u16>();
        out += &rest[..at];
        match number {
            Ok(port @ 7101..=7150) => write!(out, "{}", first + port - 7101).unwrap(),
            Ok(port @ 7191..=7199) => write!(out, "{}", first + 40 + port - 7191).unwrap(),
            Ok(port @ 7201..=7210) => write!(out, "{}", first + HTTP + port - 7201).unwrap(),
            _ => out += &rest[at..at + digits],
        }
        rest = &rest[at + digits..];
    }
    out + rest
}

/// One shell script of a guide's blocks; what each prints is found between marks.
fn script(blocks: &[Block], first: u16) -> String {
    let mut script = "set -euo pipefail\ntrap 'jobs -p | xargs -r kill; wait || true' EXIT\n".to_owned();
    for block in blocks {
        let text = with_ports(&block.text, first);
        match block.kind.as_str() {
            "sh" => writeln!(script, "{{\n{text}}}\necho '@@ {}'", block.line).unwrap(),
            "sh background" => {
                assert_eq!(text.lines().count(), 1, "line {}: one command", block.line);
                let log = format!("background-{}", block.line);
                writeln!(
                    script,
                    "{} >{log} 2>{log}.err &\nuntil grep -q '^ready' {log}; do kill -0 $! || {{ cat {log}.err >&2; \
                     exit 1; }}; sleep 0.02; done\necho '@@ {}'",
                    text.trim_end(),
                    block.line
                )
                .unwrap();
            }
            _ => {}
        }
    }
    script
}

/// Each line of `lines` stands in `text`, in this order.
fn stand_in_order(lines: &str, text: &str, trim: fn(&str) -> &str) -> Result<(), String> {
    let mut all = text.lines().map(trim);
    for line in lines.lines().map(trim).filter(|line| !line.is_empty()) {
        if !all.any(|of_text| of_text == line) {
            return Err(format!("`{line}` is not there, or not behind the line before it"));
        }
    }
    Ok(())
}

fn run_guide(guide: &str, blocks: &[Block], first: u16) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(dir.path().join("script"), script(blocks, first)).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_raftgram")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let of_program = command(&[]);
    let mut bash = Command::new("bash");
    // The environment of a reader, who has set nothing, but for the ports.
    bash.arg(dir.path().join("script")).current_dir(&work).stdin(Stdio::null()).env("PATH", path);
    for (name, value) in of_program.get_envs().filter(|(_, value)| value.is_none()) {
        assert!(value.is_none());
        bash.env_remove(name);
    }
    let nodes: Vec<String> = (first..first + 3).map(|port| port.to_string()).collect();
    bash.env("RAFTGRAM_CLUSTER_UP_PORT", first.to_string()).env("RAFTGRAM_CLUSTER", nodes.join(","));
    let output = bash.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let told = || format!("{guide}\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", told());
    for pair in blocks.windows(2).filter(|pair| pair[1].kind == "output") {
        let mark = format!("@@ {}\n", pair[0].line);
        let end = stdout.find(&mark).unwrap_or_else(|| panic!("no end of line {}: {}", pair[0].line, told()));
        let begin = stdout[..end].rfind("@@ ").map_or(0, |at| at + stdout[at..].find('\n').unwrap() + 1);
        let printed = &stdout[begin..end];
        if let Err(why) = stand_in_order(&with_ports(&pair[1].text, first), printed, str::trim_end) {
            panic!("{guide}:{}: {why}; printed was\n{printed}", pair[1].line);
        }
    }
}

/// The commands of a block, with lines that end in a backslash put together.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let words = |line: &str| {
        line.split(" #").next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    joined
        .lines()
        .map(words)
        .filter(|words: &Vec<String>| words.first().is_some_and(|it| it == "raftgram"))
        .collect()
}

#[test]
fn every_command_of_the_guides_runs_as_printed() {
    let _turn = turn();
    for guide in GUIDES {
        let blocks = blocks(&read(guide));
        if blocks.iter().any(|block| block.kind == "sh") {
            run_guide(guide, &blocks, free_ports(PORTS));
        }
    }
}

#[test]
fn commands_for_other_machines_are_such_as_there_are() {
    for guide in GUIDES {
        for block in blocks(&read(guide)).iter().filter(|block| block.kind == "sh elsewhere") {
            let commands = commands(&block.text);
            assert!(!commands.is_empty(), "{guide}:{} has no command", block.line);
            for words in commands {
                let mut arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
                arguments.push("--help");
                let output = raftgram(&arguments);
                let told = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "{guide}:{}: {words:?}: {told}", block.line);
            }
        }
    }
}

#[test]
fn code_in_the_guides_is_that_of_the_examples() {
    let mut count = 0;
    for guide in GUIDES {
        for block in blocks(&read(guide)) {
            let Some(file) = block.kind.strip_prefix("rust ") else { continue };
            if let Err(why) = stand_in_order(&block.text, &read(file), str::trim) {
                panic!("{guide}:{}: {why} in {file}", block.line);
            }
            count += 1;
        }
    }
    assert!(count > 0, "no guide shows code");
}

#[test]
fn no_guide_with_blocks_to_run_is_left_out_and_links_lead_somewhere() {
    let mut names: Vec<String> = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        names.push(format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    }
    for name in names.iter().filter(|name| name.ends_with(".md")) {
        let text = read(name);
        let runs = blocks(&text).iter().any(|block| block.kind.starts_with("sh"));
        assert!(
            !runs || GUIDES.contains(&name.as_str()),
            "{name} has blocks to run and is no guide of this test"
        );
        let folder = root().join(name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_outside = link.contains("://") || file.is_empty();
            assert!(is_outside || folder.join(file).exists(), "{name}: {link} leads nowhere");
        }
    }
}

#[test]
fn ports_of_the_text_become_free_ones() {
    let text = "7101,7103 7121 7191 7201 at 17101, 71011 and 9";
    assert_eq!(with_ports(text, 20_000), "20000,20002 20020 20040 20050 at 17101, 71011 and 9");
}
