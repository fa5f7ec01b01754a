//! The repository's own rules, checked on its own text: floors, purity, lengths, citations of the wire spec,
//! leftovers. Each check is tested beside its code on small bad inputs, so that none of them passes by sleeping.

#[path = "tidy/citations.rs"]
mod citations;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use citations::Cited;
use source::{Placed, Token};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Folders of which nothing is ours.
const NOT_OURS: [&str; 3] = [".git", "target", "raftgram-data"];

/// The repository as path and text, files that are not text left out.
struct Repository(BTreeMap<String, String>);

impl Repository {
    fn read() -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder);
            for item in fs::read_dir(&full).expect("the repository can be listed") {
                let item = item.expect("the repository can be listed");
                let name = item.file_name().into_string().expect("file names are text");
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if item.file_type().expect("a listed file has a type").is_dir() {
                    if !NOT_OURS.contains(&name.as_str()) && name != "__pycache__" {
                        folders.push(path);
                    }
                } else if let Ok(text) = fs::read_to_string(item.path()) {
                    files.insert(path, text);
                }
            }
        }
        Self(files)
    }

    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(name, _)| name.ends_with(".rs"))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Follows `mod` declarations from `folder`/`root`: each file's name, module and whether it is for tests only.
    fn walk(&self, folder: &str, root: &str) -> Vec<(String, Vec<String>, bool)> {
        let mut found = Vec::new();
        let mut open = vec![(format!("{folder}/{root}"), Vec::new(), false)];
        while let Some((name, module, is_test)) = open.pop() {
            let text = self.0.get(&name).unwrap_or_else(|| panic!("{name} is declared and not there"));
            let masked = source::mask(text);
            for declared in source::declarations(&source::tokens(&masked)) {
                let child: Vec<String> = module.iter().cloned().chain(declared.path).collect();
                let flat = format!("{folder}/{}.rs", child.join("/"));
                let nested = format!("{folder}/{}/mod.rs", child.join("/"));
                let file = if self.0.contains_key(&flat) { flat } else { nested };
                open.push((file, child, is_test || declared.is_test));
            }
            found.push((name, module, is_test));
        }
        found.sort();
        found
    }

    /// Runs a check of the floors over the whole library.
    fn check_floors(&self, check: fn(&[floors::File<'_>]) -> Vec<String>) -> Vec<String> {
        let walked = self.walk("src", "lib.rs");
        let masked: Vec<String> = walked.iter().map(|(name, ..)| source::mask(&self.0[name])).collect();
        let tokens: Vec<Vec<Placed<'_>>> = masked.iter().map(|text| source::tokens(text)).collect();
        let files: Vec<floors::File<'_>> = walked
            .iter()
            .zip(&tokens)
            .map(|((name, module, is_test), tokens)| floors::File { name, module, is_test: *is_test, tokens })
            .collect();
        check(&files)
    }
}

/// Fails with all faults at once, so that one run shows what there is to mend.
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn imports_run_down_the_floors() {
    assert_none(&Repository::read().check_floors(floors::import_faults));
}

#[test]
fn pure_floors_reach_nothing_outside() {
    assert_none(&Repository::read().check_floors(floors::purity_faults));
}

#[test]
fn the_library_forbids_unsafe_code() {
    assert!(Repository::read().0["src/lib.rs"].contains("\n#![forbid(unsafe_code)]\n"));
}

#[test]
fn every_source_file_is_reached_from_its_root() {
    let repository = Repository::read();
    for (folder, root) in [("src", "lib.rs"), ("tools/capi/src", "lib.rs"), ("tools/cli/src", "main.rs")] {
        let walked: Vec<String> = repository.walk(folder, root).into_iter().map(|(name, ..)| name).collect();
        let inside = |name: &str| name.starts_with(&format!("{folder}/"));
        let present: Vec<&str> =
            repository.rust().map(|(name, _)| name).filter(|name| inside(name)).collect();
        assert_eq!(present, walked, "files in {folder} against files reached from {root}");
    }
}

#[test]
fn modules_stand_where_their_names_say() {
    let mut faults = Vec::new();
    for (name, text) in Repository::read().rust().filter(|(name, _)| name.starts_with("src/")) {
        let masked = source::mask(text);
        let placed = source::tokens(&masked);
        let moved = placed.windows(3).filter(|w| {
            (w[0].token, w[1].token, w[2].token)
                == (Token::Mark(b'#'), Token::Mark(b'['), Token::Word("path"))
        });
        faults.extend(moved.map(|w| format!("{name}:{}: `#[path]` hides the module's floor", w[0].line)));
    }
    assert_none(&faults);
}

#[test]
fn every_source_file_begins_with_prose() {
    let repository = Repository::read();
    let ours =
        |name: &str| name.starts_with("src/") || name.starts_with("tools/") || name.starts_with("tests/");
    let silent = repository.rust().filter(|(name, text)| ours(name) && !begins_with_prose(text));
    assert_none(
        &silent.map(|(name, _)| format!("{name} does not begin with what it is for")).collect::<Vec<_>>(),
    );
}

/// True when the file opens with `//!` and at least one sentence.
fn begins_with_prose(text: &str) -> bool {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let prose = lines.collect::<Vec<_>>().join(" ");
    prose.contains(['.', ':']) && prose.split_whitespace().count() >= 2
}

#[test]
fn files_functions_and_lines_stay_readable() {
    let mut faults = Vec::new();
    for (name, text) in Repository::read().rust() {
        faults.extend(length_faults(name, text));
    }
    assert_none(&faults);
}

fn length_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = text::line_faults(name, text);
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{name}: {lines} lines, more than {FILE_LINES_MAX}"));
    }
    let masked = source::mask(text);
    for (function, line, lines) in source::functions(&source::tokens(&masked)) {
        if lines > FUNCTION_LINES_MAX {
            faults.push(format!(
                "{name}:{line}: `{function}` has {lines} lines, more than {FUNCTION_LINES_MAX}"
            ));
        }
    }
    faults
}

#[test]
fn every_rule_of_the_wire_spec_is_kept_and_tested() {
    let repository = Repository::read();
    let mut cited = Cited::default();
    for (name, _, is_test) in repository.walk("src", "lib.rs") {
        let text = &repository.0[&name];
        let masked = source::mask(text);
        let regions = test_regions(&source::tokens(&masked));
        let is_test = is_test || is_test_file(&name);
        cited.add(&name, text, |line| is_test || regions.iter().any(|region| region.contains(&line)));
    }
    // The checks name rules to test themselves; they keep none.
    let others =
        repository.iter().filter(|(name, _)| name.starts_with("tests/") && !name.starts_with("tests/tidy"));
    others.for_each(|(name, text)| cited.add(name, text, |_| true));
    let spec = repository.0.get("wire-spec.md").expect("wire-spec.md stands beside README.md");
    assert_none(&cited.faults(spec));
}

fn is_test_file(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// The lines that belong to tests inside a file of code.
fn test_regions(placed: &[Placed<'_>]) -> Vec<std::ops::RangeInclusive<usize>> {
    let regions = placed.chunk_by(|a, b| a.is_test == b.is_test).filter(|chunk| chunk[0].is_test);
    regions.map(|chunk| chunk[0].line..=chunk[chunk.len() - 1].line).collect()
}

#[test]
fn nothing_is_left_over() {
    let mut faults = Vec::new();
    for (name, text) in Repository::read().iter() {
        faults.extend(text::leftover_faults(name, text));
        if name.ends_with(".rs") {
            faults.extend(unfinished_faults(name, text));
        }
    }
    assert_none(&faults);
}

/// Macros that stand for code to come or for a look while debugging.
fn unfinished_faults(name: &str, text: &str) -> Vec<String> {
    let masked = source::mask(text);
    let placed = source::tokens(&masked);
    let calls = placed.windows(2).filter_map(|w| match (w[0].token, w[1].token) {
        (Token::Word(word @ ("dbg" | "todo" | "unimplemented")), Token::Mark(b'!')) => {
            Some((w[0].line, word))
        }
        _ => None,
    });
    calls.map(|(line, word)| format!("{name}:{line}: `{word}!` is left over")).collect()
}

#[test]
fn no_file_names_one_machine_or_a_strange_host() {
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo_home = std::env::var("CARGO_HOME").unwrap_or_default();
    let own = [env!("CARGO_MANIFEST_DIR"), home.as_str(), cargo_home.as_str()];
    let mut faults = Vec::new();
    for (name, text) in Repository::read().iter() {
        faults.extend(text::machine_path_faults(name, text, &own));
        faults.extend(text::host_faults(name, text));
    }
    assert_none(&faults);
}

#[test]
fn every_integration_test_is_listed() {
    let repository = Repository::read();
    let manifests = repository.iter().filter(|(name, _)| name.ends_with("Cargo.toml"));
    let listed: Vec<String> = manifests
        .flat_map(|(name, text)| text::listed_tests(text, name.trim_end_matches("Cargo.toml")))
        .collect();
    let is_top = |name: &str| name.strip_prefix("tests/").is_some_and(|rest| !rest.contains('/'));
    let present = repository.rust().map(|(name, _)| name).filter(|name| is_top(name));
    let unlisted = present.filter(|name| !listed.iter().any(|listed| listed == name));
    assert_none(
        &unlisted
            .map(|name| format!("{name} is listed in no Cargo.toml, so nothing runs it"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_length_check_sees_what_is_too_long() {
    let long = format!("fn f() {{\n{}}}\n", "    a();\n".repeat(FUNCTION_LINES_MAX - 1));
    assert_eq!(length_faults("x.rs", &long).len(), 1);
    assert_eq!(length_faults("x.rs", &long.replacen("    a();\n", "", 1)), [""; 0]);
    assert_eq!(length_faults("x.rs", &"\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    assert_eq!(length_faults("x.rs", &"\n".repeat(FILE_LINES_MAX)), [""; 0]);
}

#[test]
fn the_prose_check_wants_a_sentence() {
    assert!(begins_with_prose("//! The wire room.\n"));
    assert!(!begins_with_prose("//! wire\n"));
    assert!(!begins_with_prose("use x;\n//! The wire room.\n"));
}

#[test]
fn the_unfinished_check_reads_code_and_not_prose() {
    let call = concat!("fn f() { to", "do!() } // dbg!");
    assert_eq!(unfinished_faults("x.rs", call).len(), 1);
}

#[test]
fn a_test_region_reaches_from_its_attribute_to_its_brace() {
    let masked = source::mask("fn a() {}\n#[cfg(test)]\nmod tests {\n// [W-1]\nfn b() {}\n}\nfn c() {}\n");
    assert_eq!(test_regions(&source::tokens(&masked)), [2..=6]);
    assert!(is_test_file("src/raft/tests/votes.rs") && is_test_file("src/rpc/tests.rs"));
    assert!(!is_test_file("src/rpc/tests_of_nothing.rs"));
}
