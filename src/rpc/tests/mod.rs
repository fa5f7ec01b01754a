//! Tests of the whole room over virtual time.

/// Each of these holds plain and sealed.
macro_rules! in_both_modes {
    ($($name:ident,)*) => {
        mod plain {
            $(#[test]
            fn $name() {
                super::$name(super::Mode::Plain);
            })*
        }
        #[cfg(feature = "seal")]
        mod sealed {
            $(#[test]
            fn $name() {
                super::$name(super::Mode::Sealed);
            })*
        }
    };
}

mod bounds;
mod exchange;
mod figures;
mod hostile;
mod laws;
mod scenarios;
#[cfg(feature = "seal")]
mod sealed;
mod tables;
mod world;
