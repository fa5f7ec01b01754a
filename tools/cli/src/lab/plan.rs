//! What there is to run: a scenario as points and repeats, each with a seed and a schedule of its own.

use std::time::Duration;

use super::run_folder::{Axis, Ground};
use super::scenario::{Deed, Fault, NodeChoice, Scenario, SweepKey, System};
use crate::error::CliError;

/// One repeat of one point.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) point: u32,
    pub(crate) repeat: u32,
    pub(crate) x: Option<f64>,
    pub(crate) label: String,
    pub(crate) system: System,
    pub(crate) seed: u64,
    /// The scenario with the axis's value in it.
    pub(crate) scenario: Scenario,
}

/// A scenario's points and repeats, point by point.
pub(crate) fn tasks(scenario: &Scenario, seed: u64) -> Result<(Option<Axis>, Vec<Task>), CliError> {
    let mut values = Vec::new();
    match &scenario.sweep {
        None => values.push((None, scenario.name.clone(), scenario.clone())),
        Some(sweep) => {
            for value in &sweep.values {
                let mut varied = scenario.clone();
                let x = sweep.key.apply(&mut varied, value).and_then(|x| varied.fit().map(|()| x));
                let x = x.map_err(|why| CliError::usage(format!("--sweep {}: {why}", sweep.key.name())))?;
                values.push((Some(x), value.clone(), varied));
            }
        }
    }
    let axis = scenario.sweep.as_ref().map(|sweep| Axis {
        key: sweep.key.name().to_owned(),
        label: match (scenario.on, sweep.key) {
            // Half of the systems there know no datagrams.
            (Ground::Namespaces, SweepKey::Loss) => "packets lost",
            (_, key) => key.label(),
        }
        .to_owned(),
        unit: sweep.key.unit(),
        values: values.iter().filter_map(|(x, ..)| *x).collect(),
    });
    // All systems at one value before the next, so that what else the machine does befalls all of them alike.
    let systems = || scenario.systems.iter();
    let points: Vec<_> =
        values.iter().flat_map(|value| systems().map(move |system| (*system, value))).collect();
    let task = |point: u32, repeat: u32, (system, value): &(System, &(Option<f64>, String, Scenario))| Task {
        point,
        repeat,
        x: value.0,
        label: value.1.clone(),
        system: *system,
        // Repeats differ; points of one repeat share the seed, so that they differ in what is varied only.
        seed: seed.wrapping_add(u64::from(repeat).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        scenario: value.2.clone(),
    };
    let tasks = (0..)
        .zip(&points)
        .flat_map(|(point, it)| (0..scenario.repeats).map(move |repeat| task(point, repeat, it)));
    Ok((axis, tasks.collect()))
}

/// One occurrence of a fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Occurrence {
    /// From the begin of the measured span.
    pub(crate) at: Duration,
    pub(crate) until: Option<Duration>,
    /// Which of its kind: decides whose turn it is.
    pub(crate) number: u32,
    pub(crate) fault: Fault,
}

/// Every occurrence within the measured span, by the time of its begin.
pub(crate) fn occurrences(scenario: &Scenario) -> Vec<Occurrence> {
    let mut all = Vec::new();
    for fault in &scenario.faults {
        let mut at = fault.at.0;
        let mut number = 0;
        while at < scenario.duration.0 {
            let until = fault.deed.lasts().then(|| at + fault.lasting.0);
            all.push(Occurrence { at, until, number, fault: fault.clone() });
            let Some(every) = fault.every else { break };
            at += every.0;
            number += 1;
            // Each node has had its turn.
            if matches!(fault.deed, Deed::Restart)
                && fault.node == Some(NodeChoice::Each)
                && number >= u32::from(scenario.nodes)
            {
                break;
            }
        }
    }
    all.sort_by_key(|occurrence| occurrence.at);
    all
}

impl Occurrence {
    /// Whom it befalls, if it befalls one: `leader` leads at the moment, `draw` gives a number below another.
    pub(crate) fn node(
        &self,
        nodes: u16,
        leader: Option<u16>,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Option<u16> {
        let any = |draw: &mut dyn FnMut(u64) -> u64| draw(u64::from(nodes)) as u16 + 1;
        match self.fault.node? {
            NodeChoice::Number(number) => Some(number),
            // Nobody leads: then it befalls somebody.
            NodeChoice::Leader => Some(leader.unwrap_or_else(|| any(draw))),
            NodeChoice::Any => Some(any(draw)),
            NodeChoice::Each => Some((self.number % u32::from(nodes)) as u16 + 1),
            NodeChoice::Follower if nodes == 1 => Some(1),
            NodeChoice::Follower => {
                let drawn = draw(u64::from(nodes) - 1) as u16 + 1;
                let leader = leader.unwrap_or(nodes);
                Some(if drawn >= leader { drawn + 1 } else { drawn })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::parse::parse;

    fn scenario(text: &str) -> Scenario {
        parse("x", text).unwrap()
    }

    #[test]
    fn points_of_one_repeat_share_a_seed_and_repeats_do_not() {
        let (axis, tasks) = tasks(&scenario("repeats = 2\n[sweep]\nrtt = [\"0ms\", \"10ms\"]"), 7).unwrap();
        assert_eq!(axis.unwrap().values, [0.0, 0.01]);
        let seeds: Vec<_> = tasks.iter().map(|task| (task.point, task.repeat, task.seed)).collect();
        let other = 7u64.wrapping_add(0x9e37_79b9_7f4a_7c15);
        assert_eq!(seeds, [(0, 0, 7), (0, 1, other), (1, 0, 7), (1, 1, other)]);
        assert_eq!(tasks[2].scenario.links.delay.0, Duration::from_millis(5));
    }

    #[test]
    fn a_fault_comes_again_until_the_end_and_a_rolling_restart_ends_with_the_last_node() {
        let storm = scenario(
            "duration = \"5s\"\n[[fault]]\ndo = \"crash\"\nnode = \"leader\"\nat = \"1s\"\nfor = \"1s\"\n\
             every = \"2s\"",
        );
        let at: Vec<_> = occurrences(&storm).iter().map(|it| it.at.as_secs()).collect();
        assert_eq!(at, [1, 3]);
        let rolling = scenario(
            "duration = \"50s\"\n[[fault]]\ndo = \"restart\"\nnode = \"each\"\nfor = \"1s\"\nevery = \"2s\"",
        );
        let nodes =
            occurrences(&rolling).iter().map(|it| it.node(3, Some(2), &mut |_| 0)).collect::<Vec<_>>();
        assert_eq!(nodes, [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_follower_is_any_node_but_the_leader() {
        let fault = scenario("[[fault]]\ndo = \"pause\"\nnode = \"follower\"\nfor = \"1s\"");
        let occurrence = &occurrences(&fault)[0];
        for leader in 1..=3 {
            let drawn: Vec<_> =
                (0..2).map(|number| occurrence.node(3, Some(leader), &mut |_| number).unwrap()).collect();
            let others: Vec<u16> = (1..=3).filter(|node| *node != leader).collect();
            assert_eq!(drawn, others);
        }
    }
}
