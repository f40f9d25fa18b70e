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
            Turn::Busy => core.poller().wait(Some(Duration::ZERO))?,
            Turn::Idle(deadline) => {
                core.bell().arm();
                let timeout = match core.has_mail() {
                    true => Some(Duration::ZERO),
                    false => deadline.map(|deadline| clock.until(deadline)),
                };
                let events = core.poller().wait(timeout);
                core.bell().disarm();
                events?
            }
        };
    }
}
