//! Calls of clients, as the node saw them that they were made to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use raftgram::trace::{DatagramEvent, Frame, Outcome};
use raftgram::wire::Party;
use serde_json::{Value, json};

/// The most calls that are followed at once, and that are remembered as answered; beyond it the oldest is given up.
const CALLS_MAX: usize = 65_536;

/// Node, its boot, the client's address, and the call's id.
type Key = (u32, u32, SocketAddr, u64);

/// Which calls are open.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// By what name.
    open: BTreeMap<Key, String>,
    /// In the order in which they came; some are answered.
    order: VecDeque<Key>,
    /// A request that comes once more after its answer is no call.
    answered: BTreeSet<Key>,
    answered_order: VecDeque<Key>,
}

/// A call came in.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) args: Value,
}

/// A call is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) args: Value,
    pub(super) is_answered: bool,
}

impl Calls {
    /// What a datagram begins and ends at the node that saw it.
    pub(super) fn see(&mut self, pid: u32, datagram: &DatagramEvent) -> (Vec<Begun>, Vec<Ended>) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        let Some(header) = datagram.header else { return (begun, ended) };
        for frame in &datagram.frames {
            let Some(call) = frame.call else { continue };
            match (datagram.outcome, header.from, header.to) {
                (Outcome::Delivered, Party::Any, _) => {
                    let key = (pid, header.to_incarnation.0, datagram.from_address, call.0);
                    if frame.name.starts_with("request") {
                        ended.extend(self.begin(key, frame, &mut begun));
                    } else if frame.name == "cancel" {
                        ended.extend(self.end(key, json!({ "answer": "cancelled" }), false));
                    }
                }
                (Outcome::Sent, _, Party::Any) => {
                    let key = (pid, header.from_incarnation.0, datagram.to_address, call.0);
                    if frame.name.starts_with("reply") || frame.name == "call-refused" {
                        ended.extend(self.end(key, answer(frame), true));
                    }
                }
                _ => {}
            }
        }
        (begun, ended)
    }

    /// A request, unless it came before; gives the call that it takes the place of.
    fn begin(&mut self, key: Key, frame: &Frame, begun: &mut Vec<Begun>) -> Option<Ended> {
        if self.open.contains_key(&key) || self.answered.contains(&key) {
            return None;
        }
        let name = frame.kind.as_deref().unwrap_or("request").to_owned();
        let numbers: Value =
            frame.numbers.iter().map(|(name, number)| (name.to_string(), json!(number))).collect();
        let args = json!({ "client": key.2.to_string(), "call": key.3, "request": numbers });
        begun.push(Begun { id: id(key), name: name.clone(), args });
        self.open.insert(key, name);
        self.order.push_back(key);
        if self.order.len() <= CALLS_MAX {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.end(oldest, json!({ "answer": "too many to follow" }), false)
    }

    fn end(&mut self, key: Key, args: Value, is_answered: bool) -> Option<Ended> {
        let name = self.open.remove(&key)?;
        if self.answered.insert(key) {
            self.answered_order.push_back(key);
        }
        if self.answered_order.len() > CALLS_MAX
            && let Some(oldest) = self.answered_order.pop_front()
        {
            self.answered.remove(&oldest);
        }
        Some(Ended { id: id(key), name, args, is_answered })
    }

    /// The node is no more: nothing of it is answered.
    pub(super) fn forget(&mut self, pid: u32) -> Vec<Ended> {
        let keys: Vec<Key> = self.open.keys().filter(|key| key.0 == pid).copied().collect();
        self.order.retain(|key| key.0 != pid);
        keys.into_iter().filter_map(|key| self.end(key, json!({ "answer": "none" }), false)).collect()
    }
}

fn id((node, boot, client, call): Key) -> String {
    format!("{node}/{boot}/{client}/{call}")
}

fn answer(frame: &Frame) -> Value {
    let numbers: Value =
        frame.numbers.iter().map(|(name, number)| (name.to_string(), json!(number))).collect();
    let said = frame.answer.as_deref().or(frame.kind.as_deref()).unwrap_or(&frame.name);
    json!({ "answer": said, "reply": numbers })
}
