//! libFuzzer's end of the harnesses in `tests/fuzz`: `FUZZ_TARGET` names the one to run.

#![no_main]

#[path = "../tests/fuzz/mod.rs"]
mod fuzz;

use std::sync::OnceLock;

use fuzz::{TARGETS, Target};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (target().run)(data);
});

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?} and must be one of those in tests/fuzz/mod.rs"))
    })
}
