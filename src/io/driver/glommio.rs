//! The default driver: a glommio executor awaits the core's epoll descriptor through its ring.
//!
//! Only that: client sockets stay out of glommio's own network code, whose defects and costs are
//! measured (one 496-byte source per socket, lost accepts, late FINs). Deadlines are a timer
//! descriptor in the same epoll instance, so that the executor has one thing to wait for and
//! nothing is ever cancelled.

use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::time::Duration;

use futures_lite::AsyncRead;
use glommio::net::UnixStream;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::{Core, Turn};
use crate::hub::moment::Moment;
use crate::io::clock::Clock;

/// Memory that the executor registers with the kernel. Its own default of 10 MiB, three times over,
/// counts against the locked memory of the process and buys nothing here.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// How long a task may go on before the executor interrupts it: never. The core is its only task. A
/// timer that fires while glommio cancels it takes a later operation with it, our poll among them,
/// and the core then sleeps for ever: seen every other minute with two milliseconds.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a core whose last sleep was shorter than this waits in `epoll_wait` before it sleeps in
/// the ring. A sleep there takes some eight system calls and a wake-up of twice the cost
/// (io_uring's `poll` of the epoll descriptor, the executor's own eventfd and its memory barrier);
/// for a core that is woken a thousand times a second that was more than all its work.
const LINGER: Duration = Duration::from_millis(20);

/// The timer's key; its event needs no handling, it has ended the wait.
const TIMER_KEY: u64 = u64::MAX - 2;

/// Turns a core until it ends.
pub(super) fn drive(core: &mut dyn Core, clock: Clock) -> io::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(turn_around(core, clock))
}

async fn turn_around(core: &mut dyn Core, clock: Clock) -> io::Result<()> {
    let mut timer = Timer::new()?;
    core.poller().add(&timer.descriptor, TIMER_KEY)?;
    let mut events = 0;
    let mut is_lively = false;
    loop {
        events = match core.turn(events) {
            Turn::Done => return Ok(()),
            Turn::Busy => core.wait(Some(Duration::ZERO))?,
            Turn::Idle(deadline) => {
                let slept_at = clock.now();
                let events = match core.bell().may_sleep(|| core.has_mail()) {
                    false => core.wait(Some(Duration::ZERO)),
                    true if is_lively => linger(core, &mut timer, deadline, clock).await,
                    true => park(core, &mut timer, deadline, clock).await,
                };
                core.bell().awake();
                is_lively = clock.now().since(slept_at) < LINGER;
                events?
            }
        };
    }
}

/// Sleeps in the epoll instance at first, in the ring only when nothing has come.
async fn linger(
    core: &mut dyn Core,
    timer: &mut Timer,
    deadline: Option<Moment>,
    clock: Clock,
) -> io::Result<usize> {
    let until = clock.now() + LINGER;
    let until = deadline.map_or(until, |deadline| deadline.min(until));
    loop {
        let events = core.wait(Some(clock.until(until)))?;
        if events > 0 || core.has_mail() {
            return Ok(events);
        }
        if clock.now() >= until {
            break;
        }
    }
    if deadline == Some(until) {
        return Ok(0);
    }
    park(core, timer, deadline, clock).await
}

/// Sleeps in the ring.
async fn park(
    core: &mut dyn Core,
    timer: &mut Timer,
    deadline: Option<Moment>,
    clock: Clock,
) -> io::Result<usize> {
    timer.set(deadline, clock)?;
    until_readable(core.poller()).await;
    core.wait(Some(Duration::ZERO))
}

/// Waits until an epoll descriptor is readable. Must not be cancelled: a wait that is dropped
/// leaves its operation in the ring behind.
async fn until_readable(descriptor: &impl AsFd) {
    let raw = descriptor.as_fd().as_raw_fd();
    // SAFETY: the stream is never dropped, so it does not close the descriptor, which its owner
    // keeps open beyond this call. Glommio polls the descriptor and then tries `recv`, which fails
    // on anything that is no socket.
    let mut stream = ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(raw) });
    let mut byte = [0; 1];
    let answer = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut byte)).await;
    debug_assert!(answer.is_err(), "an epoll descriptor has no bytes");
}

/// A timer in the epoll instance.
struct Timer {
    descriptor: OwnedFd,
    /// What it is set to.
    set: Option<Moment>,
}

impl Timer {
    fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Timer { descriptor, set: None })
    }

    fn set(&mut self, deadline: Option<Moment>, clock: Clock) -> io::Result<()> {
        let is_ahead = self.set.is_none_or(|set| set > clock.now());
        if self.set == deadline && is_ahead {
            return Ok(());
        }
        // Zero would switch the timer off.
        let after = deadline
            .map_or(Duration::ZERO, |deadline| clock.until(deadline).max(Duration::from_nanos(1)));
        let value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: after.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        self.set = deadline;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::bell::Bell;
    use crate::io::poller::Poller;

    /// Pins what [`until_readable`] takes for granted: glommio reports a readable epoll descriptor
    /// and leaves it open, more often than its counters of 15 bits reach.
    #[test]
    fn an_epoll_descriptor_can_be_awaited_again_and_again() {
        if crate::io::driver::preflight::refusal(1).is_some() {
            return;
        }
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY_BYTES)
            .make()
            .unwrap();
        executor.run(async {
            let mut poller = Poller::new(8).unwrap();
            let bell = Bell::new().unwrap();
            poller.add(&bell, 1).unwrap();
            assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 1, "writable at first");
            for _ in 0..40_000 {
                assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 0);
                assert!(bell.may_sleep(|| false));
                bell.ring();
                until_readable(&poller).await;
                assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 1);
            }
        });
    }
}
