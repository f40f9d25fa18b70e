//! The plain driver: one system call per sleep and wake.

use std::io;
use std::time::Duration;

use super::{Core, Turn};
use crate::io::clock::Clock;

/// Turns a core until it ends.
pub(super) fn drive(core: &mut dyn Core, clock: Clock) -> io::Result<()> {
    let mut events = 0;
    loop {
        events = match core.turn(events) {
            Turn::Done => return Ok(()),
            Turn::Busy => core.wait(Some(Duration::ZERO))?,
            Turn::Idle(deadline) => {
                let timeout = match core.bell().may_sleep(|| core.has_mail()) {
                    true => deadline.map(|deadline| clock.until(deadline)),
                    false => Some(Duration::ZERO),
                };
                let events = core.wait(timeout);
                core.bell().awake();
                events?
            }
        };
    }
}
