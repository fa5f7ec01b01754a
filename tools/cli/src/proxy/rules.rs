//! Scripted faults, as one would say them: "drop the 2nd append to 3".

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use raftgram::time::Instant;
use raftgram::trace::{DatagramEvent, Datagrams, Outcome, Payloads, Sight, What};
use raftgram::wire::Party;

use super::engine::Way;
use crate::lab::nearest;
use crate::units::Span;

/// One scripted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    action: Action,
    which: Which,
    /// A frame's name or a body's; none for any datagram.
    kind: Option<String>,
    from: Option<u16>,
    to: Option<u16>,
    term: Option<u64>,
    way: Option<Way>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Drop,
    Delay(Duration),
    Duplicate,
}

/// Which of those that a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    /// This one only, counted from 1.
    Nth(u64),
    /// One in so many.
    EveryNth(u64),
    First(u64),
}

/// A datagram as rules see it.
#[derive(Debug)]
pub(crate) struct Seen {
    way: Way,
    /// What it holds, if it is raftgram's and can be read.
    event: Option<Box<DatagramEvent>>,
}

impl Seen {
    pub(crate) fn of(way: Way, bytes: &[u8]) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let outcome = Outcome::Delivered;
        let sight = Sight {
            at: Instant::ZERO,
            seen_by: None,
            from: nowhere,
            to: nowhere,
            bytes,
            opened: None,
            outcome,
        };
        let event = match Datagrams::new(Payloads::LeftOut).read(&sight).what {
            What::Datagram(event) if event.header.is_some() => Some(event),
            _ => None,
        };
        Self { way, event }
    }
}

impl Rule {
    pub(crate) const fn action(&self) -> Action {
        self.action
    }

    /// Whether this datagram is of those that the rule counts.
    pub(crate) fn speaks_of(&self, seen: &Seen) -> bool {
        if self.way.is_some_and(|way| way != seen.way) {
            return false;
        }
        let names_raftgram =
            self.kind.is_some() || self.from.is_some() || self.to.is_some() || self.term.is_some();
        let Some(event) = &seen.event else { return !names_raftgram };
        let is_party = |wanted: Option<u16>, party: Party| match (wanted, party) {
            (None, _) => true,
            (Some(wanted), Party::Node(node)) => node.as_u16() == wanted,
            (Some(_), Party::Any) => false,
        };
        let Some(header) = event.header else { return false };
        if !is_party(self.from, header.from) || !is_party(self.to, header.to) {
            return false;
        }
        if self.kind.is_none() && self.term.is_none() {
            return true;
        }
        event.frames.iter().any(|frame| {
            let is_kind = self
                .kind
                .as_deref()
                .is_none_or(|kind| frame.name == kind || frame.kind.as_deref() == Some(kind));
            is_kind && self.term.is_none_or(|term| frame.number("term") == Some(term))
        })
    }

    /// Whether it strikes the one that it counted so many up to and with.
    pub(crate) const fn strikes(&self, met: u64) -> bool {
        match self.which {
            Which::All => true,
            Which::Nth(number) => met == number,
            Which::EveryNth(number) => met.is_multiple_of(number),
            Which::First(count) => met <= count,
        }
    }
}

/// The names that datagrams, frames and bodies have in traces.
const KINDS: [&str; 46] = [
    "padding",
    "hello",
    "hello-ack",
    "confirm",
    "welcome",
    "version",
    "stale-incarnation",
    "ack",
    "credit",
    "mtu-probe",
    "request",
    "request-fragment",
    "reply",
    "reply-fragment",
    "cancel",
    "finished",
    "call-refused",
    "notice",
    "pre-vote",
    "pre-vote-reply",
    "vote",
    "vote-reply",
    "append",
    "append-reply",
    "heartbeat",
    "heartbeat-reply",
    "read-probe",
    "read-probe-reply",
    "transfer",
    "transfer-reply",
    "snapshot-offer",
    "snapshot-offer-reply",
    "snapshot-pull",
    "snapshot-data",
    "range",
    "range-reply",
    "read-index",
    "read-index-reply",
    "state-digests",
    "propose",
    "read",
    "status",
    "open-session",
    "applied",
    "redirect",
    "busy",
];

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace().peekable();
        let verb = words.next().ok_or("a rule is empty: write such as \"drop the 2nd append to 3\"")?;
        let which = match words.next() {
            Some("every" | "all" | "each") => match words.peek().and_then(|word| ordinal(word)) {
                Some(number) => {
                    words.next();
                    Which::EveryNth(number)
                }
                None => Which::All,
            },
            Some("the") => match words.next() {
                Some("first") => match words.peek().and_then(|word| word.parse().ok()) {
                    Some(count) => {
                        words.next();
                        Which::First(count)
                    }
                    None => Which::Nth(1),
                },
                Some(word) => Which::Nth(
                    ordinal(word).ok_or_else(|| format!("`{word}` is not 1st, 2nd, 3rd and so on"))?,
                ),
                None => return Err("\"the\" what? write such as \"the 2nd append\"".to_owned()),
            },
            other => {
                let other = other.unwrap_or("nothing");
                return Err(format!(
                    "after `{verb}` comes `every`, `every 10th`, `the 2nd` or `the first 3`, not `{other}`"
                ));
            }
        };
        if which == Which::Nth(0) || which == Which::EveryNth(0) || which == Which::First(0) {
            return Err("datagrams are counted from 1".to_owned());
        }
        let word = words.next().ok_or("a rule needs a kind: a frame or body, or `datagram`")?;
        let mut rule = Self {
            action: Action::Drop,
            which,
            kind: kind(word)?,
            from: None,
            to: None,
            term: None,
            way: None,
        };
        let mut by = None;
        while let Some(word) = words.next() {
            let mut number = |of: &str| {
                let text = words.next().unwrap_or_default();
                text.parse::<u64>().map_err(|_| format!("`{of}` is followed by a number, not `{text}`"))
            };
            match word {
                "from" => rule.from = Some(node(number("from")?)?),
                "to" => rule.to = Some(node(number("to")?)?),
                "of" | "in" => {}
                "term" => rule.term = Some(number("term")?),
                "up" => rule.way = Some(Way::Up),
                "down" => rule.way = Some(Way::Down),
                "by" => by = Some(words.by()?),
                other => {
                    let near = nearest(other, ["from", "to", "of", "term", "by", "up", "down"]);
                    return Err(format!("`{other}` has no meaning here{near}"));
                }
            }
        }
        rule.action = action(verb, by)?;
        Ok(rule)
    }
}

/// What follows "by".
trait By {
    fn by(&mut self) -> Result<Duration, String>;
}

impl<'a, I: Iterator<Item = &'a str>> By for I {
    fn by(&mut self) -> Result<Duration, String> {
        let number = self.next().unwrap_or_default();
        // "50 ms" is what people say.
        match number.parse::<f64>() {
            Ok(_) => format!("{number}{}", self.next().unwrap_or_default()).parse::<Span>(),
            Err(_) => number.parse::<Span>(),
        }
        .map(|span| span.0)
    }
}

fn action(verb: &str, by: Option<Duration>) -> Result<Action, String> {
    match (verb, by) {
        ("drop", None) => Ok(Action::Drop),
        ("duplicate", None) => Ok(Action::Duplicate),
        ("delay", Some(span)) => Ok(Action::Delay(span)),
        ("delay", None) => Err("a delay needs `by`, such as \"by 50ms\"".to_owned()),
        ("drop" | "duplicate", Some(_)) => Err(format!("`by` is for delays, not for `{verb}`")),
        _ => Err(format!(
            "`{verb}` is none of drop, delay, duplicate{}",
            nearest(verb, ["drop", "delay", "duplicate"])
        )),
    }
}

fn kind(word: &str) -> Result<Option<String>, String> {
    let single = |word: &str| word.strip_suffix('s').filter(|word| KINDS.contains(word)).map(str::to_owned);
    match word {
        "datagram" | "datagrams" => Ok(None),
        known if KINDS.contains(&known) => Ok(Some(known.to_owned())),
        other => single(other).map(Some).ok_or_else(|| {
            format!(
                "no frame or body is called `{other}`{}",
                nearest(other, KINDS.iter().copied().chain(["datagram"]))
            )
        }),
    }
}

fn node(number: u64) -> Result<u16, String> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{number} is no node number"))
}

/// 2 of "2nd".
fn ordinal(word: &str) -> Option<u64> {
    ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)?.parse().ok())
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, which, kind, from, to, term, way } = self;
        f.write_str(match action {
            Action::Drop => "drop ",
            Action::Delay(_) => "delay ",
            Action::Duplicate => "duplicate ",
        })?;
        match which {
            Which::All => f.write_str("every ")?,
            Which::Nth(number) => write!(f, "the {} ", nth(*number))?,
            Which::EveryNth(number) => write!(f, "every {} ", nth(*number))?,
            Which::First(count) => write!(f, "the first {count} ")?,
        }
        let plural = if matches!(which, Which::First(2..)) { "s" } else { "" };
        write!(f, "{}{plural}", kind.as_deref().unwrap_or("datagram"))?;
        from.iter().try_for_each(|node| write!(f, " from {node}"))?;
        to.iter().try_for_each(|node| write!(f, " to {node}"))?;
        term.iter().try_for_each(|term| write!(f, " of term {term}"))?;
        if let Action::Delay(span) = action {
            write!(f, " by {}", Span(*span))?;
        }
        match way {
            Some(Way::Up) => f.write_str(" up"),
            Some(Way::Down) => f.write_str(" down"),
            None => Ok(()),
        }
    }
}

fn nth(number: u64) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_as_they_are_said() {
        for text in [
            "drop the 2nd append to 3",
            "delay every vote of term 5 by 50ms",
            "duplicate every 10th append-reply from 2",
            "drop the first 3 datagrams up",
            "drop every datagram down",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        let said: Rule = "delay all votes in term 5 by 50 ms".parse().unwrap();
        assert_eq!(said.to_string(), "delay every vote of term 5 by 50ms");
    }

    #[test]
    fn a_rule_that_is_none_says_what_would_be() {
        let cases = [
            ("dorp every append", "`dorp` is none of drop, delay, duplicate, did you mean `drop`?"),
            (
                "drop append",
                "after `drop` comes `every`, `every 10th`, `the 2nd` or `the first 3`, not `append`",
            ),
            ("drop every apend", "no frame or body is called `apend`, did you mean `append`?"),
            ("delay every vote", "a delay needs `by`, such as \"by 50ms\""),
            ("drop every vote too 3", "`too` has no meaning here, did you mean `to`?"),
            ("drop every vote to 0", "0 is no node number"),
            ("drop the 0th vote", "datagrams are counted from 1"),
            ("delay every vote by 5", "`5` has no unit: write 5ms or 5s"),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<Rule>().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn which_datagrams_are_struck_is_counted_from_one() {
        let struck = |text: &str| {
            let rule: Rule = text.parse().unwrap();
            (1..=6).filter(|met| rule.strikes(*met)).collect::<Vec<u64>>()
        };
        assert_eq!(struck("drop the 2nd append"), [2]);
        assert_eq!(struck("drop every 3rd append"), [3, 6]);
        assert_eq!(struck("drop the first 2 appends"), [1, 2]);
        assert_eq!(struck("drop the first append"), [1]);
        assert_eq!(struck("drop every append").len(), 6);
    }
}
