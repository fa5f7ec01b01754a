//! Known bugs that can be switched on, to show that the simulator's checks catch them.
//!
//! Each is the bug of a scenario that has broken another system, at the very place where the rule is kept. Without
//! the feature `mutants` no switch exists: [`is`] is the constant `false` and the compiler removes the bug. No check
//! and no fault plan may ask which mutant runs.
//!
//! The switch is a thread's own, because a bug sits deep inside rooms that have no settings in common; a simulation
//! runs on one thread from its start to its end.

use core::fmt;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A bug that can be switched on, named after its scenario.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// Every mutant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The scenario's id.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What goes wrong, in one line.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

mutants! {
    /// A candidate asks for votes before its own term and vote are durable.
    E2,
}

impl Mutant {
    /// The mutant of this name, in any case of letters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use core::cell::Cell;

    std::thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Switches one mutant on in this thread, and every other off.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    /// True while this mutant is on.
    pub(crate) fn is(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(not(feature = "mutants"))]
mod switch {
    use super::Mutant;

    /// False: this build has no mutants.
    pub(crate) const fn is(_: Mutant) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
pub use switch::activate;

pub(crate) use switch::is;
