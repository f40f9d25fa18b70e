//! Waiting for what must happen. No test asserts a time: the deadline only turns a hang into a
//! failure.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take before the test counts it as never happening. Generous: the machine
/// is shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `attempt` until it gives a value; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "did not happen in {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}
