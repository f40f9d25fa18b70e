//! Publishes statuses to Redis at their intended times, or as many at a time as are outstanding. It
//! never waits for an answer: answers are counted when they come.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::nanos;
use super::plan::{ChannelNumber, Plan};
use super::status::{Marker, TEMPLATES, Templates};
use super::tally::histogram;
use crate::protocol::resp::{encode_command, push_argument, start_command};

/// Bytes that may wait for Redis before the publisher counts as held up.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Statuses encoded before Redis is given them.
const BATCH_MAX: usize = 64;

/// Where Redis is.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// `host:port`, or the path of a Unix socket.
    pub place: String,
    /// User and password, if it wants one.
    pub login: Option<(String, String)>,
}

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Job {
    /// Channels to choose from.
    pub channels: Vec<ChannelNumber>,
    /// At random (as people write), or one after the other.
    pub is_random: bool,
    /// When.
    pub timing: Timing,
    /// Statuses in all.
    pub count: u64,
}

/// When statuses are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timing {
    /// So many a second, come what may.
    Rate(f64),
    /// As many as may be on their way at a time.
    Outstanding(u64),
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something at this time.
    At(u64),
    /// Something when a delivery has arrived.
    AfterDelivery,
    /// Nothing: the job is done.
    Nothing,
}

/// A connection to Redis with a job.
pub struct Publisher {
    link: Link,
    plan: Arc<Plan>,
    templates: Arc<Templates>,
    job: Job,
    /// When the job began.
    start: u64,
    /// Statuses of the job that are encoded.
    done: u64,
    /// The next sequence number of each channel.
    sequences: Vec<u32>,
    random: fastrand::Rng,
    waiting: Vec<u8>,
    /// Behind the intended time, for each status.
    lateness: Histogram<u64>,
    /// Statuses for which Redis had no subscriber.
    unheard: u64,
    /// The line of an answer so far: its kind and whether its number is zero.
    answer: Vec<u8>,
    name: Vec<u8>,
}

enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Publisher {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Redis cannot be reached, or refuses.
    pub fn connect(
        address: &RedisAddress,
        plan: Arc<Plan>,
        templates: Arc<Templates>,
    ) -> io::Result<Publisher> {
        let link = Link::connect(address)?;
        let sequences = vec![0; plan.channels()];
        let job =
            Job { channels: Vec::new(), is_random: false, timing: Timing::Rate(1.0), count: 0 };
        Ok(Publisher {
            link,
            plan,
            templates,
            job,
            start: 0,
            done: 0,
            sequences,
            random: fastrand::Rng::with_seed(7),
            waiting: Vec::new(),
            lateness: histogram(),
            unheard: 0,
            answer: Vec::new(),
            name: Vec::new(),
        })
    }

    /// Begins a job.
    pub fn begin(&mut self, job: Job) {
        self.job = job;
        self.start = nanos();
        self.done = 0;
        self.unheard = 0;
        self.lateness.reset();
    }

    /// Statuses of this job given to Redis.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Statuses of this job that nobody was subscribed to.
    pub fn unheard(&self) -> u64 {
        self.unheard
    }

    /// The next sequence number of each channel.
    pub fn sequences(&self) -> &[u32] {
        &self.sequences
    }

    /// How late statuses of this job were sent, in nanoseconds.
    pub fn lateness(&self) -> &Histogram<u64> {
        &self.lateness
    }

    /// Publishes what is due; `delivered` is how many of the job's deliveries have arrived.
    ///
    /// # Errors
    /// Redis is gone, or does not take what it is given.
    pub fn turn(&mut self, delivered: u64) -> io::Result<Next> {
        loop {
            let mut now = nanos();
            let mut next = self.next(now, delivered);
            let mut batch = 0;
            while next == Next::At(now) && batch < BATCH_MAX {
                if self.waiting.len() > WAITING_BYTES_MAX {
                    break;
                }
                self.push(now);
                batch += 1;
                now = nanos();
                next = self.next(now, delivered);
            }
            self.flush()?;
            self.read_answers()?;
            match next {
                Next::At(at) if at == now && self.waiting.is_empty() => {}
                _ if !self.waiting.is_empty() => return Ok(Next::At(now + 200_000)),
                other => return Ok(other),
            }
        }
    }

    /// Runs the job on a thread of its own.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn spawn(mut self) -> io::Result<thread::JoinHandle<io::Result<Publisher>>> {
        thread::Builder::new().name("load-publisher".to_owned()).spawn(move || {
            // Without it, sleeping ends 50 µs late.
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            loop {
                match self.turn(0)? {
                    Next::At(at) => {
                        thread::sleep(Duration::from_nanos(at.saturating_sub(nanos())));
                    }
                    Next::AfterDelivery | Next::Nothing => return Ok(self),
                }
            }
        })
    }

    /// `At(now)`: something is due.
    fn next(&self, now: u64, delivered: u64) -> Next {
        if self.done >= self.job.count {
            return Next::Nothing;
        }
        match self.job.timing {
            Timing::Rate(_) => Next::At(self.intended().max(now)),
            Timing::Outstanding(most) if self.done < delivered + most => Next::At(now),
            Timing::Outstanding(_) => Next::AfterDelivery,
        }
    }

    /// When the next status is meant to be sent.
    fn intended(&self) -> u64 {
        match self.job.timing {
            Timing::Rate(rate) => self.start + (self.done as f64 * 1e9 / rate) as u64,
            Timing::Outstanding(_) => nanos(),
        }
    }

    fn push(&mut self, now: u64) {
        let channels = &self.job.channels;
        let index = match self.job.is_random {
            true => self.random.usize(0..channels.len().max(1)),
            false => self.done as usize % channels.len().max(1),
        };
        let intended_nanos = self.intended();
        self.done += 1;
        let Some(&channel) = channels.get(index) else { return };
        let Some(sequence) = self.sequences.get_mut(channel.0 as usize) else { return };
        let template = (*sequence as usize * 7 + channel.0 as usize) % TEMPLATES;
        let marker = Marker { template, channel, sequence: *sequence, intended_nanos };
        *sequence += 1;
        self.name.clear();
        self.plan.push_channel_name(channel, &mut self.name);
        let Some(template) = self.templates.get(template) else { return };
        start_command(&mut self.waiting, 3);
        push_argument(&mut self.waiting, b"PUBLISH");
        push_argument(&mut self.waiting, &self.name);
        // Writing to a Vec does not fail.
        let _ = write!(self.waiting, "${}\r\n", template.length());
        template.push_message(&marker, &mut self.waiting);
        self.waiting.extend_from_slice(b"\r\n");
        self.lateness.saturating_record(now.saturating_sub(intended_nanos));
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.link.write(&self.waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_answers(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let count = match self.link.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        for byte in buffer.get(..count).unwrap_or_default() {
            if *byte != b'\n' {
                self.answer.push(*byte);
                continue;
            }
            if self.answer.starts_with(b"-") {
                let text = String::from_utf8_lossy(&self.answer).trim_end().to_owned();
                return Err(io::Error::other(text));
            }
            self.unheard += u64::from(self.answer.starts_with(b":0"));
            self.answer.clear();
        }
        Ok(())
    }
}

impl Link {
    fn connect(address: &RedisAddress) -> io::Result<Link> {
        let mut link = match address.place.starts_with('/') {
            true => Link::Unix(UnixStream::connect(&address.place)?),
            false => Link::Tcp(TcpStream::connect(&address.place)?),
        };
        if let Link::Tcp(stream) = &link {
            stream.set_nodelay(true)?;
        }
        if let Some((user, password)) = &address.login {
            let mut command = Vec::new();
            match user.as_str() {
                "" => encode_command(&mut command, &[b"AUTH", password.as_bytes()]),
                _ => encode_command(&mut command, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
            }
            link.write(&command)?;
            let mut answer = [0; 256];
            let count = link.read(&mut answer)?;
            if !answer.get(..count).unwrap_or_default().starts_with(b"+OK") {
                return Err(io::Error::other("Redis refuses the log-in"));
            }
        }
        match &link {
            Link::Tcp(stream) => stream.set_nonblocking(true)?,
            Link::Unix(stream) => stream.set_nonblocking(true)?,
        }
        Ok(link)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.write(bytes),
            Link::Unix(stream) => stream.write(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.read(buffer),
            Link::Unix(stream) => stream.read(buffer),
        }
    }
}
