//! What no file may hold, whatever its language: leftover words, paths of one machine, strange hosts.

/// Words that mean "not finished"; put together here so that this file passes its own check.
const LEFTOVERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Beginnings of paths that exist on one machine only.
const HOMES: [&str; 3] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Hosts that a URL may name. A package mirror in a lock file or a manifest is the mistake this is for: it works
/// on one network only. Anything public that a reader profits from may be added.
const HOSTS: [&str; 12] = [
    "crates.io",
    "doc.rust-lang.org",
    "docs.rs",
    "github.com",
    "keepachangelog.com",
    "no-color.org",
    "raft.github.io",
    "semver.org",
    "ui.perfetto.dev",
    "www.apache.org",
    "www.rfc-editor.org",
    "www.w3.org",
];

/// The longest line that a reader sees whole beside another file.
const LINE_CHARS_MAX: usize = 120;

/// Leftover words, one message per line that has one.
pub(crate) fn leftover_faults(name: &str, text: &str) -> Vec<String> {
    by_line(name, text, |line| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.find(|word| LEFTOVERS.contains(word)).map(|word| format!("`{word}` is left over"))
    })
}

/// Paths of one machine: homes, and any of `own`, the folders this very run happens in.
pub(crate) fn machine_path_faults(name: &str, text: &str, own: &[&str]) -> Vec<String> {
    by_line(name, text, |line| {
        let named = HOMES.iter().copied().chain(own.iter().copied().filter(|path| path.len() > 1));
        named
            .filter(|path| begins_a_path(line, path))
            .map(|path| format!("names `{path}`, a path of one machine"))
            .next()
    })
}

/// True when `path` stands in the line as the beginning of an absolute path, not inside a longer one.
fn begins_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '*' | '~'))
    })
}

/// URLs to hosts that are not on the list.
pub(crate) fn host_faults(name: &str, text: &str) -> Vec<String> {
    by_line(name, text, |line| {
        line.match_indices("://").find_map(|(at, _)| {
            let scheme = line[..at].rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
            let authority = &line[at + 3..];
            let host =
                authority.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_' | '@'));
            let host = host.map(|h| h.rsplit('@').next().unwrap_or(h)).next().unwrap_or("");
            // A placeholder in a format string has no host to judge.
            (scheme.starts_with("http") && !host.is_empty() && !HOSTS.contains(&host))
                .then(|| format!("names the host `{host}`; tests/tidy/text.rs lists those that may be"))
        })
    })
}

/// Lines too long to stand beside another file.
pub(crate) fn line_faults(name: &str, text: &str) -> Vec<String> {
    by_line(name, text, |line| {
        let chars = line.chars().count();
        (chars > LINE_CHARS_MAX).then(|| format!("{chars} characters, more than {LINE_CHARS_MAX}"))
    })
}

fn by_line(name: &str, text: &str, fault: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let judged = text.lines().enumerate();
    judged.filter_map(|(at, line)| fault(line).map(|fault| format!("{name}:{}: {fault}", at + 1))).collect()
}

/// The test files that a manifest lists, relative to the repository; `folder` is where the manifest stands.
pub(crate) fn listed_tests(manifest: &str, folder: &str) -> Vec<String> {
    let mut listed = Vec::new();
    for section in manifest.split("\n[").filter_map(|section| section.strip_prefix("[test]]")) {
        let value = |key: &str| {
            section.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        let path = value("path").or_else(|| value("name").map(|name| format!("tests/{name}.rs")));
        listed.extend(path.map(|path| flatten(&format!("{folder}/{path}"))));
    }
    listed
}

/// `a/../b` as `b`.
fn flatten(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_whole_words() {
        assert_eq!(leftover_faults("a", &format!("fine\n// {}: later", LEFTOVERS[0])).len(), 1);
        assert_eq!(leftover_faults("a", &format!("{}?", LEFTOVERS[1])).len(), 1);
        assert_eq!(leftover_faults("a", &format!("MA{} {}_x", LEFTOVERS[0], LEFTOVERS[2])), [""; 0]);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_relative_one_is_not() {
        assert_eq!(machine_path_faults("a", &format!("see {}me/x", HOMES[0]), &[]).len(), 1);
        assert_eq!(machine_path_faults("a", "open \"/build/here/x\"", &["/build/here"]).len(), 1);
        assert_eq!(
            machine_path_faults("a", &format!("{{root}}{}x tools{}y", HOMES[0], HOMES[1]), &["/"]),
            [""; 0]
        );
    }

    #[test]
    fn only_listed_hosts_are_named() {
        let url = |scheme: &str, host: &str| format!("see {scheme}://{host}/x");
        assert_eq!(host_faults("a", &url("https", "docs.rs")), [""; 0]);
        assert_eq!(host_faults("a", &url("registry+https", "github.com")), [""; 0]);
        assert_eq!(host_faults("a", &url("http", "10.0.0.1:8080")).len(), 1);
        assert_eq!(host_faults("a", &url("sparse+https", "user@mirror.example")).len(), 1);
        assert_eq!(host_faults("a", "format!(\"http://{addr}\")"), [""; 0]);
    }

    #[test]
    fn lines_are_counted_in_characters() {
        assert_eq!(line_faults("a", &"é".repeat(LINE_CHARS_MAX)), [""; 0]);
        assert_eq!(line_faults("a", &"x".repeat(LINE_CHARS_MAX + 1)).len(), 1);
    }

    #[test]
    fn listed_tests_are_found_by_name_and_by_path() {
        let manifest =
            "[package]\nname = \"p\"\n\n[[test]]\nname = \"a\"\n\n[[test]]\npath = \"../../tests/c.rs\"\n";
        assert_eq!(listed_tests(manifest, "tools/cli"), ["tools/cli/tests/a.rs", "tests/c.rs"]);
        assert_eq!(listed_tests(manifest, "")[0], "tests/a.rs");
    }
}
