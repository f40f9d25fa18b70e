//! The targets under libFuzzer: one program, so that a change is linked once, and one target a run,
//! named by `TRUNKLINE_FUZZ_TARGET`. Started by `scripts/fuzz`.

#![no_main]

// The tests use more of it.
#[allow(dead_code)]
mod targets;

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::time::{ClockId, clock_gettime};
use targets::{EACH, Target};

/// What an input may cost, in processor time, under the address sanitizer.
const COST_MAX: Duration = Duration::from_millis(50);

fuzz_target!(init: { target(); }, |input: &[u8]| {
    let before = processor_time();
    (target().check)(input);
    let cost = processor_time() - before;
    assert!(cost <= COST_MAX, "takes {cost:?}");
});

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        trunkline::log::set_level(trunkline::log::Level::Fatal);
        let name = std::env::var("TRUNKLINE_FUZZ_TARGET").unwrap_or_default();
        let target = EACH.into_iter().find(|target| target.name == name);
        target.unwrap_or_else(|| panic!("TRUNKLINE_FUZZ_TARGET={name} names no target"))
    })
}

/// Of this thread: others may keep the machine busy.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
