//! What the documents of the repository print is run as it stands, or checked for being such as there is. How blocks
//! are labelled for that is told in `support/guide.rs`; a block with a command and without such a label fails a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::guide::{self, Block, Reader, blocks, printed, read, root, stand_in_order, with_ports};
use crate::support::raftgram;
use crate::up::{free_ports, turn};

/// Guides whose reader stands in the root of a clone; that of all others in an empty folder.
const IN_A_CLONE: [&str; 4] = ["README.md", "docs/captures.md", "docs/lab.md", "docs/python.md"];

/// What a line begins with that somebody may type.
const COMMANDS: [&str; 35] = [
    ".ci/run",
    "apt",
    "apt-get",
    "awk",
    "cargo",
    "cat",
    "cc",
    "cd",
    "cp",
    "curl",
    "docker",
    "echo",
    "export",
    "for",
    "fuzz/run",
    "gcc",
    "git",
    "grep",
    "install",
    "kill",
    "mkdir",
    "pip",
    "pkill",
    "printf",
    "python",
    "python3",
    "raftgram",
    "rm",
    "ssh",
    "sudo",
    "systemctl",
    "target/release/raftgram",
    "tools/capi/install",
    "tshark",
    "useradd",
];

/// Folders whose files a command may name.
const FOLDERS: [&str; 7] = [".ci/", "docs/", "examples/", "fuzz/", "packaging/", "tests/", "tools/"];

/// Every document of the repository, whoever reads it.
fn guides() -> Vec<String> {
    let mut guides = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if name.ends_with(".md") {
                guides.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    guides.sort();
    assert!(guides.iter().any(|guide| guide == "docs/tutorial.md"), "{guides:?}");
    guides
}

/// The words of a command, with what belongs together in quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in command.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The commands of a block as words, without what is put into their environment and without `sudo`.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ").replace(" && ", "\n").replace(" | ", "\n");
    let is_setting = |word: &String| {
        let name = word.split_once('=').map(|(name, _)| name);
        word == "sudo" || name.is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let command = |line: &str| words(line).into_iter().skip_while(is_setting).collect::<Vec<_>>();
    joined.lines().map(command).filter(|words| !words.is_empty()).collect()
}

/// Why a command cannot be given; nothing when it can, as far as this repository knows.
fn fault(words: &[String]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let arguments = match words[..] {
        ["cargo", "run", "--release", "--", ref rest @ ..] => Some(rest),
        [program, ref rest @ ..] if program.rsplit('/').next() == Some("raftgram") => Some(rest),
        _ => None,
    };
    if let Some(arguments) = arguments {
        let output = raftgram(&[arguments, &["--help"]].concat());
        return (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let absent = words
        .iter()
        .find(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !root().join(word).exists());
    if let Some(absent) = absent {
        return Some(format!("there is no {absent}"));
    }
    let pairs = words.windows(2).filter(|_| words[0] == "cargo");
    let is_there = |pair: &[&str]| match pair[0] {
        "--test" => ["tests", "tools/cli/tests"]
            .iter()
            .any(|folder| root().join(folder).join(pair[1].to_owned() + ".rs").exists()),
        "--example" => root().join(format!("examples/{}.rs", pair[1])).exists(),
        "--bench" => root().join(format!("benches/{}.rs", pair[1])).exists(),
        "-p" => ["Cargo.toml", "tools/cli/Cargo.toml", "tools/capi/Cargo.toml"]
            .iter()
            .any(|manifest| read(manifest).contains(&format!("name = \"{}\"", pair[1]))),
        _ => true,
    };
    let mut pairs = pairs.filter(|pair| !is_there(pair));
    pairs.next().map(|pair| format!("there is no {} {}", pair[0], pair[1]))
}

/// True for a line that somebody may type.
fn is_command(line: &str) -> bool {
    let typed = line.trim_start().trim_start_matches("# ");
    let mut words = typed.split_whitespace();
    let word = words.next().unwrap_or_default();
    // `raftgram = …` and `for = …` are settings.
    let is_setting = words.next() == Some("=");
    typed.starts_with("$ ") || word.starts_with("./") || COMMANDS.contains(&word) && !is_setting
}

/// A label of those that `support/guide.rs` lists, and what is wrong with a block of that label.
fn judge(guide: &str, block: &Block) -> Result<(), String> {
    match block.label() {
        _ if block.is_run() => Ok(()),
        ("output", "") => Ok(()),
        ("rust" | "toml", file) if !file.is_empty() => Ok(()),
        ("sh", "elsewhere") => {
            let faults: Vec<String> = commands(&block.text)
                .iter()
                .filter_map(|words| fault(words).map(|why| format!("{}: {why}", words.join(" "))))
                .collect();
            if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
        }
        ("sh", other) if other.starts_with("by ") => {
            let test = other.trim_start_matches("by ");
            if read(test).contains(guide) { Ok(()) } else { Err(format!("{test} does not read {guide}")) }
        }
        (label, _) if guide::SHOWN.contains(&label) => {
            let command = block.text.lines().find(|line| is_command(line));
            command.map_or(Ok(()), |line| Err(format!("`{line}` is run by nobody")))
        }
        _ => Err("a label that says neither how it is run nor why it is not".to_owned()),
    }
}

#[test]
fn every_command_of_the_guides_runs_as_printed() {
    let _turn = turn();
    let program = Path::new(env!("CARGO_BIN_EXE_raftgram"));
    for guide in guides() {
        let blocks = blocks(&read(&guide));
        if !blocks.iter().any(Block::is_run) {
            continue;
        }
        let first = free_ports(guide::PORTS);
        let is_clone = IN_A_CLONE.contains(&guide.as_str());
        let mut reader = Reader::new(first, program);
        if is_clone {
            reader.clones(&[program]);
        }
        let nodes: Vec<String> = (first..first + 3).map(|port| port.to_string()).collect();
        reader.set("RAFTGRAM_CLUSTER_UP_PORT", first.to_string());
        reader.set("RAFTGRAM_CLUSTER", nodes.join(","));
        let began = Instant::now();
        reader.run(&guide, &blocks);
        println!("{guide}: {:.1?}", began.elapsed());
    }
}

#[test]
fn every_block_says_how_it_is_run_and_other_machines_get_commands_that_there_are() {
    let mut faults = Vec::new();
    for guide in guides() {
        for block in blocks(&read(&guide)) {
            if let Err(why) = judge(&guide, &block) {
                faults.push(format!("{guide}:{} [{}]: {why}", block.line, block.kind));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn commands_between_the_lines_are_such_as_there_are() {
    let mut faults = Vec::new();
    let mut count = 0;
    for guide in guides() {
        let text = read(&guide);
        let mut is_prose = true;
        let prose: Vec<&str> = text
            .lines()
            .filter(|line| {
                let is_fence = line.starts_with("```");
                is_prose ^= is_fence;
                is_prose && !is_fence
            })
            .collect();
        for span in prose.join(" ").split('`').skip(1).step_by(2) {
            // What stands for something else ends what can be tried.
            let words: Vec<String> = words(span)
                .into_iter()
                .take_while(|word| !word.contains(['\u{2026}', '|', '[', '*']))
                .collect();
            if words.first().is_some_and(|word| word == "raftgram" || word == "cargo") && words.len() > 1 {
                count += 1;
                let fault = fault(&words).filter(|why| !is_about_a_placeholder(why));
                faults.extend(fault.map(|why| format!("{guide}: `{span}`: {why}")));
            }
        }
    }
    assert!(faults.is_empty() && count > 50, "of {count}:\n{}", faults.join("\n"));
}

/// True for what is said about `ADDR` and about a flag that is only named.
fn is_about_a_placeholder(why: &str) -> bool {
    let value = why.split("invalid value '").nth(1).and_then(|rest| rest.split('\'').next());
    let is_capital = |value: &str| {
        !value.is_empty() && !value.contains(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    why.contains("a value is required for") || value.is_some_and(is_capital)
}

/// A line of code, in a source or in its documentation, without indentation and without a remark behind it.
fn code(line: &str) -> String {
    let line = line.trim().trim_start_matches("/// ");
    line.split("  //").next().unwrap_or_default().trim_end().to_owned()
}

#[test]
fn code_in_the_guides_is_that_of_the_examples() {
    let mut count = 0;
    for guide in guides() {
        for block in blocks(&read(&guide)) {
            let Some(file) = block.kind.strip_prefix("rust ") else { continue };
            if let Err(why) = stand_in_order(&block.text, &read(file), code) {
                panic!("{guide}:{}: {why} in {file}", block.line);
            }
            count += 1;
        }
    }
    assert!(count > 0, "no guide shows code");
}

#[test]
fn links_in_documents_lead_somewhere() {
    for name in guides() {
        let text = read(&name);
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_outside = link.contains("://") || file.is_empty();
            assert!(is_outside || folder.join(file).exists(), "{name}: {link} leads nowhere");
        }
    }
}

#[test]
fn a_block_with_a_command_needs_a_label_that_has_it_run_or_checked() {
    let judged = |text: &str| judge("README.md", &blocks(text)[0]);
    for text in [
        "```\nraftgram status\n```",
        "```console\n$ raftgram status\n```",
        "```bash\nraftgram status\n```",
        "```text\n$ ls\n```",
        "```text\n# raftgram status\n```",
        "```text\npython3 x.py\n```",
        "```sh elsewhere\nraftgram statu\n```",
        "```sh elsewhere\nssh there && cargo test --test nothing\n```",
        "```sh elsewhere\ncargo build -p nothing\n```",
        "```sh elsewhere\ntools/nothing\n```",
        "```sh elsewhere\nA=1 sudo raftgram statu\n```",
        "```sh by Cargo.toml\nraftgram status\n```",
        "```rust\nlet x = 1;\n```",
    ] {
        assert!(judged(text).is_err(), "{text}");
    }
    for text in [
        "```sh\nanything\n```",
        "```sh with tshark\nanything\n```",
        "```sh elsewhere\nssh there\nA=1 raftgram --json kv put a 'b c' # d\n```",
        "```sh elsewhere\ncargo test -p raftgram-cli --test daemon && tools/capi/install X\n```",
        "```text\nwords of a page\n```",
    ] {
        assert_eq!(judged(text), Ok(()), "{text}");
    }
}

#[test]
fn ports_of_the_text_become_free_ones() {
    let text = "7101,7103 7121 7191 7201 at 17101, 71011 and 9";
    assert_eq!(with_ports(text, 20_000), "20000,20002 20020 20090 20099 at 17101, 71011 and 9");
}

#[test]
fn an_ellipsis_in_what_is_printed_stands_for_anything() {
    let text = "a 1 b\nid 77 of 9c1f\nend\n";
    for (lines, is_there) in [
        ("a \u{2026} b\nend", true),
        ("id \u{2026} of \u{2026}", true),
        ("a \u{2026} c", false),
        ("end\na 1 b", false),
    ] {
        assert_eq!(stand_in_order(lines, text, printed).is_ok(), is_there, "{lines}");
    }
}
