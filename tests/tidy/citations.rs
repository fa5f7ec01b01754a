//! Rules of the wire spec and the places that cite them: `[W-n]` in wire-spec.md, in code and in tests.

use std::collections::{BTreeMap, BTreeSet};

/// Who cites rule n: the first place found in code, and in tests.
#[derive(Debug, Default)]
pub(crate) struct Cited {
    code: BTreeMap<u32, String>,
    tests: BTreeMap<u32, String>,
}

impl Cited {
    /// Adds what one library file cites; `is_test` tells of each line whether it belongs to a test.
    pub(crate) fn add(&mut self, name: &str, text: &str, is_test: impl Fn(usize) -> bool) {
        for (line, rule) in rules(text) {
            let side = if is_test(line) { &mut self.tests } else { &mut self.code };
            side.entry(rule).or_insert_with(|| format!("{name}:{line}"));
        }
    }

    /// Rules nobody keeps, rules nobody tests, and citations of rules that do not exist.
    pub(crate) fn faults(&self, spec: &str) -> Vec<String> {
        let known: BTreeSet<u32> = rules(spec).into_iter().map(|(_, rule)| rule).collect();
        if known.is_empty() {
            return vec!["wire-spec.md has no rules".to_owned()];
        }
        let missing = |side: &BTreeMap<u32, String>, whom: &str| -> Vec<String> {
            let missing = known.iter().filter(|rule| !side.contains_key(rule));
            missing.map(|rule| format!("[W-{rule}] is cited by no {whom}")).collect()
        };
        let strange = self.code.iter().chain(&self.tests).filter(|(rule, _)| !known.contains(rule));
        let strange =
            strange.map(|(rule, place)| format!("{place}: wire-spec.md has no [W-{rule}]")).collect();
        [missing(&self.code, "code"), missing(&self.tests, "test"), strange].concat()
    }
}

/// Every `[W-n]` in the text, with its line.
fn rules(text: &str) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for rest in line.split("[W-").skip(1) {
            let digits = rest.split(']').next().filter(|_| rest.contains(']')).unwrap_or("");
            found.extend(digits.parse().ok().map(|rule| (at + 1, rule)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_needs_code_and_a_test() {
        let spec = "[W-1] MUST a.\n[W-2] MUST b. See [W-1].";
        let mut cited = Cited::default();
        assert_eq!(cited.faults(spec).len(), 4);
        cited.add("a.rs", "// [W-1], [W-2]\n\n// [W-1]", |line| line == 3);
        assert_eq!(cited.faults(spec), ["[W-2] is cited by no test"]);
        cited.add("b.rs", "// [W-2]", |_| true);
        assert_eq!(cited.faults(spec), [""; 0]);
    }

    #[test]
    fn a_rule_that_does_not_exist_is_not_cited() {
        let mut cited = Cited::default();
        cited.add("a.rs", "// [W-1]\n// [W-9]", |_| false);
        cited.add("b.rs", "// [W-1]", |_| true);
        assert_eq!(cited.faults("[W-1]"), ["a.rs:2: wire-spec.md has no [W-9]"]);
        assert_eq!(cited.faults("no rules").len(), 1);
    }

    #[test]
    fn only_the_bracketed_form_counts() {
        assert_eq!(rules("W-1 [W-] [W-x] [W-2 [W-3]"), [(1, 3)]);
    }
}
