//! The scenarios that come with the program.

use super::parse::{nearest, parse};
use super::scenario::Scenario;
use crate::error::{CliError, Code};

/// Name and text of each, in the order in which they are listed.
const ALL: [(&str, &str); 11] = [
    ("loss-sweep", include_str!("scenarios/loss-sweep.toml")),
    ("burst-loss", include_str!("scenarios/burst-loss.toml")),
    ("reorder-duplicate", include_str!("scenarios/reorder-duplicate.toml")),
    ("rtt-sweep", include_str!("scenarios/rtt-sweep.toml")),
    ("mtu", include_str!("scenarios/mtu.toml")),
    ("one-way-partition", include_str!("scenarios/one-way-partition.toml")),
    ("leader-kill-storm", include_str!("scenarios/leader-kill-storm.toml")),
    ("rolling-restart", include_str!("scenarios/rolling-restart.toml")),
    ("slow-disk", include_str!("scenarios/slow-disk.toml")),
    ("snapshot-under-load", include_str!("scenarios/snapshot-under-load.toml")),
    ("versus-etcd", include_str!("scenarios/versus-etcd.toml")),
];

/// Each of them.
pub(crate) fn all() -> Result<Vec<Scenario>, CliError> {
    ALL.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The scenario of this name, or the one that this file holds.
pub(crate) fn find(name: &str) -> Result<Scenario, CliError> {
    if let Some((name, text)) = ALL.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    let is_file = name.ends_with(".toml") || name.contains('/');
    match std::fs::read_to_string(name) {
        Ok(text) => parse(name, &text),
        Err(error) if is_file => {
            Err(CliError::new(Code::NotFound, format!("reading the scenario: {error}")).at(name))
        }
        Err(_) => {
            let near = nearest(name, ALL.iter().map(|(known, _)| *known));
            let text = format!("there is no scenario `{name}`{near}");
            Err(CliError::new(Code::NotFound, text)
                .hint("`raftgram lab list` shows them; a scenario of your own is named by its file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_read_under_its_own_name_and_says_what_it_shows() {
        for ((name, _), scenario) in ALL.iter().zip(all().unwrap()) {
            assert_eq!(scenario.name, *name);
            assert!(!scenario.title.is_empty() && !scenario.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
        let error = find("los-sweep").unwrap_err();
        assert_eq!(error.message, "there is no scenario `los-sweep`, did you mean `loss-sweep`?");
        assert_eq!(error.code, Code::NotFound);
    }
}
