//! The machine's monotonic clock, the same for every process: a status may be published by one and
//! received by another.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started.
pub fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    secs * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
