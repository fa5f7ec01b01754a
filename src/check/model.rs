//! What a key may do when operations take effect one at a time.

use std::fmt;

/// The sequential behaviour of one key.
pub trait Model {
    /// What can be asked of a key. Equal calls must be interchangeable.
    type Call: Clone + Ord + fmt::Debug + fmt::Display;
    /// What comes back.
    type Answer: Clone + fmt::Debug + fmt::Display;
    /// What a key holds.
    type State: Clone + Ord + fmt::Debug;

    /// What every key holds at first.
    fn initial(&self) -> Self::State;

    /// What the key holds after this call took effect, or `None` where the call cannot take effect with this answer.
    /// Without an answer it is unknown, and a call that would change nothing should be `None`.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// What is known of this call whatever the state. [`Effect::default`] is always right, and slow.
    fn effect(&self, _call: &Self::Call, _answer: Option<&Self::Answer>) -> Effect<Self::State> {
        Effect::default()
    }
}

/// What is known of a call before the state is: the search leaves out orders by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<S> {
    /// It changes nothing. With `needs` it is possible in that state only.
    Observes {
        /// The only state in which it is possible.
        needs: Option<S>,
    },
    /// It is possible in every state, and all lead to this one.
    Overwrites {
        /// The state after it.
        leaves: S,
    },
    /// It may change the state and depend on it.
    Depends {
        /// The only state in which it is possible.
        needs: Option<S>,
        /// The only state to which it leads.
        leaves: Option<S>,
    },
}

impl<S> Default for Effect<S> {
    fn default() -> Self {
        Self::Depends { needs: None, leaves: None }
    }
}

/// A register that is read, written, compared and set, deleted and appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    initial: Option<String>,
}

impl Register {
    /// A key that does not exist until it is written: reads say that it is absent.
    #[must_use]
    pub const fn absent() -> Self {
        Self { initial: None }
    }

    /// A key that holds the empty text until it is written, as in a store of get, put and append.
    #[must_use]
    pub const fn empty() -> Self {
        Self { initial: Some(String::new()) }
    }
}

/// What can be asked of a [`Register`]; no text at all is an absent key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Says what the key holds.
    Read,
    /// Makes the key hold this.
    Write(String),
    /// Makes the key absent.
    Delete,
    /// Makes the key hold `new` if it holds `old`. That it did not is an operation that failed.
    Cas {
        /// What the key must hold.
        old: Option<String>,
        /// What it holds afterwards.
        new: Option<String>,
    },
    /// Adds this to the end of what the key holds.
    Append(String),
}

/// What a [`Register`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call took effect; nothing else is said.
    Done,
    /// A read found this.
    Value(Option<String>),
}

impl Model for Register {
    type Call = Call;
    type Answer = Answer;
    type State = Option<String>;

    fn initial(&self) -> Self::State {
        self.initial.clone()
    }

    fn step(&self, state: &Self::State, call: &Call, answer: Option<&Answer>) -> Option<Self::State> {
        match call {
            Call::Read => match answer {
                Some(Answer::Value(value)) if value != state => None,
                _ => Some(state.clone()),
            },
            Call::Write(value) => Some(Some(value.clone())),
            Call::Delete => Some(None),
            Call::Cas { old, new } => (old == state).then(|| new.clone()),
            Call::Append(more) => {
                let held = state.as_deref().unwrap_or_default();
                Some(Some([held, more].concat()))
            }
        }
    }

    fn effect(&self, call: &Call, answer: Option<&Answer>) -> Effect<Self::State> {
        match call {
            Call::Read => match answer {
                Some(Answer::Value(value)) => Effect::Observes { needs: Some(value.clone()) },
                Some(Answer::Done) | None => Effect::Observes { needs: None },
            },
            Call::Write(value) => Effect::Overwrites { leaves: Some(value.clone()) },
            Call::Delete => Effect::Overwrites { leaves: None },
            Call::Cas { old, new } => Effect::Depends { needs: Some(old.clone()), leaves: Some(new.clone()) },
            Call::Append(_) => Effect::default(),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Write(value) => write!(f, "write {value}"),
            Self::Delete => f.write_str("delete"),
            Self::Cas { old, new } => write!(f, "cas {} {}", Held(old), Held(new)),
            Self::Append(more) => write!(f, "append {more}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Value(value) => Held(value).fmt(f),
        }
    }
}

/// What a key holds, for people.
struct Held<'a>(&'a Option<String>);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => f.write_str(value),
            None => f.write_str("absent"),
        }
    }
}
