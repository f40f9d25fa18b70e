//! Publishes through the broker what Rails would: over the same protocol, with the same regard for
//! `subscribed:` keys, at a steady average rate that does not wait for anybody.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::story::{Publication, World};
use crate::hub::moment::UnixMillis;

/// Events a second that are allowed at most: a demonstration, not a load test.
pub const RATE_MAX: f64 = 1000.0;

/// Longest pause between two events.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long the broker may take for an answer.
const ANSWER_SECS_MAX: Duration = Duration::from_secs(5);

/// A running publisher. Dropping it ends its thread.
pub struct Publisher {
    /// Closing it tells the thread to end.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Publishes about `rate` events a second (at most [`RATE_MAX`]) to the broker at `address`,
    /// from a thread of its own. If the broker goes away, it ends.
    ///
    /// Errors: the broker cannot be reached, or the kernel refuses a pipe or a thread.
    pub fn start(address: SocketAddr, rate: f64) -> io::Result<Publisher> {
        let mut line = Line::connect(address)?;
        let (told, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let rate = if rate.is_finite() { rate.clamp(0.02, RATE_MAX) } else { 1.0 };
        let thread = Builder::new().name("demo-publisher".into()).spawn(move || {
            let mut world = World::new(fastrand::u64(..));
            let mut due = Instant::now();
            while !told_within(&told, due.saturating_duration_since(Instant::now())) {
                if line.publish(&world.next(unix_now())).is_err() {
                    return;
                }
                due += pause(rate);
            }
        })?;
        Ok(Publisher { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It ends because its pipe has closed; a panic over there was reported there.
            let _ = thread.join();
        }
    }
}

/// A connection to the broker.
struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    fn connect(address: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_SECS_MAX))?;
        stream.set_write_timeout(Some(ANSWER_SECS_MAX))?;
        Ok(Line { stream: BufReader::new(stream) })
    }

    /// Publishes an event on all its channels; on those of one reader only if their key exists.
    fn publish(&mut self, publications: &[Publication]) -> io::Result<()> {
        let keys: Vec<String> = publications
            .iter()
            .filter(|publication| publication.needs_key())
            .map(|publication| format!("subscribed:{}", publication.channel))
            .collect();
        let asked: Vec<[&str; 2]> = keys.iter().map(|key| ["EXISTS", key.as_str()]).collect();
        let mut exists = self.round_trip(&asked)?.into_iter();
        let names: Vec<(String, &str)> = publications
            .iter()
            .filter(|publication| !publication.needs_key() || exists.next() == Some(1))
            .map(|publication| (publication.channel.redis_name(), &*publication.message))
            .collect();
        let commands: Vec<[&str; 3]> =
            names.iter().map(|(channel, message)| ["PUBLISH", channel.as_str(), message]).collect();
        self.round_trip(&commands)?;
        Ok(())
    }

    /// Sends the commands together and reads an integer for each.
    fn round_trip<const WORDS: usize>(
        &mut self,
        commands: &[[&str; WORDS]],
    ) -> io::Result<Vec<i64>> {
        let mut bytes = Vec::new();
        for command in commands {
            write!(bytes, "*{WORDS}\r\n")?;
            for word in command {
                write!(bytes, "${}\r\n{word}\r\n", word.len())?;
            }
        }
        self.stream.get_mut().write_all(&bytes)?;
        commands.iter().map(|_| self.integer()).collect()
    }

    fn integer(&mut self) -> io::Result<i64> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let number = line.trim_end().strip_prefix(':').and_then(|number| number.parse().ok());
        number.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Waits; true if told to end meanwhile.
fn told_within(told: &OwnedFd, time: Duration) -> bool {
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // An interrupted wait publishes a little early; any other failure ends the thread.
    match poll(&mut [PollFd::new(told, PollFlags::IN)], Some(&time)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => false,
        Ok(_) | Err(_) => true,
    }
}

/// Time to the next event: exponentially distributed, as of many people who know nothing of each
/// other.
fn pause(rate: f64) -> Duration {
    let secs = -(1.0 - fastrand::f64()).ln() / rate;
    Duration::from_secs_f64(secs.clamp(0.0, PAUSE_MAX.as_secs_f64()))
}

fn unix_now() -> UnixMillis {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(unix.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::broker::Broker;
    use std::io::Read;

    /// A subscriber to these channels that has been confirmed on all of them.
    fn subscribed(broker: &Broker, channels: &[&str]) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(broker.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut reader = BufReader::new(stream);
        writeln!(reader.get_mut(), "SUBSCRIBE {}", channels.join(" ")).unwrap();
        for _ in channels {
            let mut lines = String::new();
            while !lines.contains("\n:") {
                reader.read_line(&mut lines).unwrap();
            }
        }
        reader
    }

    /// The next message as JSON, behind its channel.
    fn message(reader: &mut BufReader<TcpStream>) -> (String, serde_json::Value) {
        let mut words = Vec::new();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        for _ in 0..3 {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let mut word = vec![0; line.trim_end()[1..].parse::<usize>().unwrap() + 2];
            reader.read_exact(&mut word).unwrap();
            words.push(String::from_utf8(word).unwrap().trim_end().to_owned());
        }
        let [_, channel, json] = <[String; 3]>::try_from(words).unwrap();
        (channel, serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn public_channels_come_alive() {
        let broker = Broker::start().unwrap();
        let mut reader = subscribed(&broker, &["timeline:public"]);
        let publisher = Publisher::start(broker.address(), 500.0).unwrap();
        for _ in 0..20 {
            let (channel, json) = message(&mut reader);
            assert_eq!(channel, "timeline:public");
            assert!(json["event"].is_string());
        }
        drop(publisher);
        drop(broker);
    }

    #[test]
    fn a_reader_without_a_key_is_told_nothing() {
        let broker = Broker::start().unwrap();
        let home = "timeline:110000000000000000";
        let mut reader = subscribed(&broker, &[home, "timeline:public"]);
        let _publisher = Publisher::start(broker.address(), 500.0).unwrap();
        for _ in 0..100 {
            assert_eq!(message(&mut reader).0, "timeline:public");
        }
        let mut terminal = TcpStream::connect(broker.address()).unwrap();
        write!(terminal, "SET subscribed:{home} 1 EX 1080\r\n").unwrap();
        while message(&mut reader).0 != home {}
    }

    #[test]
    fn it_ends_with_its_broker() {
        let broker = Broker::start().unwrap();
        let mut publisher = Publisher::start(broker.address(), RATE_MAX).unwrap();
        drop(broker);
        publisher.thread.take().unwrap().join().unwrap();
    }
}
