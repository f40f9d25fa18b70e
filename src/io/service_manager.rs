//! Tells the service manager how things stand (sd_notify(3)): datagrams to a Unix socket, sent by
//! the control core, which never waits for it. What it could not take is told the next time.
//!
//! The watchdog is fed only while every core turns: a shard that hangs is missed by its signs of
//! life, the control core by its silence, and the service manager starts us anew.

use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::service_manager::{NotifySocket, ServiceManager as Wanted};
use crate::hub::moment::Moment;
use crate::hub::readiness::Report;

/// The service manager's end of the conversation, or nobody.
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    told: Told,
}

/// What it has heard so far.
#[derive(Clone, Debug, Default)]
struct Told {
    is_started: bool,
    status: String,
    /// Half of what it waits for, so that one sign of life may be late.
    feed_interval: Option<Duration>,
    fed: Option<Moment>,
    /// What it has not taken yet of a stop.
    stopping: Option<String>,
}

impl ServiceManager {
    /// Prepares to tell whoever wants to know.
    ///
    /// # Errors
    /// It wants to know, but does not listen.
    pub fn connect(wanted: &Wanted) -> io::Result<ServiceManager> {
        let told =
            Told { feed_interval: wanted.watchdog.map(|patience| patience / 2), ..Told::default() };
        let Some(address) = &wanted.socket else {
            return Ok(ServiceManager::nobody());
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match address {
            NotifySocket::Path(path) => socket.connect(path)?,
            NotifySocket::Abstract(name) => {
                socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
            }
        }
        Ok(ServiceManager { socket: Some(socket), told })
    }

    /// Nobody wants to know.
    pub fn nobody() -> ServiceManager {
        ServiceManager { socket: None, told: Told::default() }
    }

    /// Tells how things stand, as far as that is news, and feeds the watchdog.
    ///
    /// # Errors
    /// The service manager does not take it; it will be told again.
    pub fn tell(&mut self, report: &Report, now: Moment) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let (text, told) = self.told.news(report, now);
        if !text.is_empty() {
            socket.send(text.as_bytes())?;
            self.told = told;
        }
        Ok(())
    }

    /// Says that clients will be sent away over `window`: that long it takes, whatever the unit's
    /// `TimeoutStopSec=` says.
    ///
    /// # Errors
    /// The service manager does not take it; it will be told with the next report.
    pub fn tell_stopping(&mut self, window: Duration) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let text = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", window.as_micros());
        let told = socket.send(text.as_bytes()).map(drop);
        self.told.stopping = told.is_err().then_some(text);
        told
    }

    /// The watchdog wants to be fed.
    pub fn is_feeding_due(&self, now: Moment) -> bool {
        self.told.feeding_due().is_some_and(|due| due <= now)
    }

    /// When the watchdog wants to be fed, if that is to come.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        self.told.feeding_due().filter(|due| *due > now)
    }
}

impl Told {
    fn feeding_due(&self) -> Option<Moment> {
        Some(self.fed? + self.feed_interval?)
    }

    /// What there is to tell, and what will have been told then.
    fn news(&self, report: &Report, now: Moment) -> (String, Told) {
        let mut told = self.clone();
        let mut text = told.stopping.take().unwrap_or_default();
        if report.has_started && !self.is_started {
            text.push_str("READY=1\n");
            told.is_started = true;
        }
        let status = report.to_string();
        if status != self.status {
            // Writing to a string does not fail.
            let _ = writeln!(text, "STATUS={status}");
            told.status = status;
        }
        let is_due = self.feeding_due().is_none_or(|due| due <= now);
        if self.feed_interval.is_some() && is_due && report.is_turning() {
            text.push_str("WATCHDOG=1\n");
            told.fed = Some(now);
        }
        (text, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(shards_turning: usize, has_started: bool) -> Report {
        Report {
            redis: true,
            postgres: true,
            shards_turning,
            shards_accepting: shards_turning,
            shards: 2,
            has_started,
            is_stopping: false,
        }
    }

    /// What is told at a second.
    fn tell(told: &mut Told, report: &Report, second: u64) -> String {
        let (text, then) = told.news(report, Moment(second * 1_000_000_000));
        *told = then;
        text
    }

    #[test]
    fn it_is_told_once_that_every_shard_accepts_and_of_each_change() {
        let mut told = Told::default();
        let starting = tell(&mut told, &report(1, false), 0);
        assert!(starting.starts_with("STATUS=Not ready") && !starting.contains("READY=1"));
        let started = tell(&mut told, &report(2, true), 0);
        assert!(started.starts_with("READY=1\nSTATUS=Ready: "), "{started}");
        assert_eq!(tell(&mut told, &report(2, true), 1), "");
        let hung = tell(&mut told, &report(1, true), 2);
        assert!(hung.starts_with("STATUS=Not ready: ") && hung.contains("1 of 2"), "{hung}");
    }

    #[test]
    fn a_stop_that_was_not_taken_is_told_with_the_next_report() {
        let stopping = Some("STOPPING=1\n".to_owned());
        let mut told = Told { stopping, ..Told::default() };
        assert!(tell(&mut told, &report(2, true), 0).starts_with("STOPPING=1\nREADY=1\n"));
        assert_eq!(tell(&mut told, &report(2, true), 1), "");
    }

    #[test]
    fn the_watchdog_is_fed_in_half_its_time_while_every_shard_turns() {
        let feed_interval = Some(Duration::from_secs(15));
        let mut told = Told { feed_interval, ..Told::default() };
        let fed = |told: &mut Told, turning, second| {
            tell(told, &report(turning, true), second).contains("WATCHDOG=1")
        };
        let healthy: Vec<u64> = (0..=60).filter(|second| fed(&mut told, 2, *second)).collect();
        assert_eq!(healthy, [0, 15, 30, 45, 60]);
        assert_eq!(told.feeding_due(), Some(Moment(75_000_000_000)));
        assert!((61..=600).all(|second| !fed(&mut told, 1, second)), "a shard hangs");
        assert!(fed(&mut told, 2, 601), "it turns again");
    }

    #[test]
    fn a_socket_in_the_abstract_name_space_is_reached_and_silence_is_an_error() {
        let name = format!("trunkline-notify-{}", std::process::id()).into_bytes();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let wanted = Wanted { socket: Some(NotifySocket::Abstract(name)), watchdog: None };
        let mut manager = ServiceManager::connect(&wanted).unwrap();
        manager.tell_stopping(Duration::from_secs(2)).unwrap();
        let mut buffer = [0; 100];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\n");
        drop(listener);
        assert!(manager.tell(&report(2, true), Moment(0)).is_err());
        assert!(ServiceManager::connect(&wanted).is_err());
    }
}
