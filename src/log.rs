//! JSON lines on standard output, in the shape that the Node server's logger writes, so that
//! existing log pipelines keep working: `{"level":"info","time":<unix
//! ms>,"pid":…,"hostname":"…","name":"streaming", "msg":"…", …}`.
//!
//! A core must never stand still because somebody does not read the log. A line is one `write(2)`;
//! when standard output is full, closed or broken, the line is lost and counted ([`lines_lost`]).
//! No lock is taken. Access tokens stay out: targets go through [`redact`], `Token` and `Secret`
//! print placeholders.

use std::fmt::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::hub::moment::Moment;

/// Longest line in bytes, with its line break: `PIPE_BUF`, up to which lines of several threads
/// never mix and a pipe that polls as writable takes the whole line without blocking (pipe(7)).
pub const LINE_BYTES_MAX: usize = 4096;

/// Longest text of one field in bytes before escaping; the rest is cut off.
const TEXT_BYTES_MAX: usize = 1024;

/// Time between two lines of one kind that [`Sparingly`] lets through.
const SPARINGLY_PAUSE: Duration = Duration::from_secs(60);

/// How severe a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Trace,
    /// For developers.
    Debug,
    /// What an operator wants to know.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
    /// The process ends.
    Fatal,
    /// Log nothing.
    Silent,
}

impl Level {
    /// Every level, the least severe first.
    pub const ALL: [Level; 7] = [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Warn,
        Level::Error,
        Level::Fatal,
        Level::Silent,
    ];

    /// The name in `LOG_LEVEL` and in each line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
            Level::Silent => "silent",
        }
    }

    /// The level of this name, as `LOG_LEVEL` writes it.
    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// The value of a field. Nothing is formatted unless the line is really written.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A count, an id.
    Number(i64),
    /// A count that may not fit an `i64`.
    Count(u64),
    /// A measured number; what is not finite becomes `null`.
    Real(f64),
    /// Yes or no.
    Flag(bool),
    /// Anything that can be displayed: an error, an address, `format_args!(…)`.
    Shown(&'a dyn fmt::Display),
}

macro_rules! value_from {
    ($($kind:ty => $variant:ident as $target:ty),+ $(,)?) => {
        $(impl From<$kind> for Value<'_> {
            fn from(value: $kind) -> Self {
                Value::$variant(<$target>::from(value))
            }
        })+
    };
}

value_from!(u8 => Count as u64, u16 => Count as u64, u32 => Count as u64, u64 => Count as u64,
    i32 => Number as i64, i64 => Number as i64, f64 => Real as f64, bool => Flag as bool);

impl From<usize> for Value<'_> {
    fn from(value: usize) -> Self {
        Value::Count(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Value::Text(value)
    }
}

/// What is written until [`set_level`] is called: unit tests begin silent.
const LEVEL_AT_START: Level = if cfg!(test) { Level::Silent } else { Level::Info };

/// The least severe level that is written.
static LEVEL: AtomicU8 = AtomicU8::new(LEVEL_AT_START as u8);

/// See [`opened_anew`].
static OUTPUT: OnceLock<Option<OwnedFd>> = OnceLock::new();

/// Lines that could not be written.
static LINES_LOST: AtomicU64 = AtomicU64::new(0);

/// Sets the least severe level that is written, for the whole process.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Is a line of this level written? For callers whose fields are costly to gather.
pub fn enabled(level: Level) -> bool {
    level != Level::Silent && level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// Lines lost since the start because standard output was full, closed or broken.
pub fn lines_lost() -> u64 {
    LINES_LOST.load(Ordering::Relaxed)
}

macro_rules! level_functions {
    ($($(#[doc = $doc:literal])+ $name:ident => $level:ident;)+) => {
        $($(#[doc = $doc])+ pub fn $name(message: &str, fields: &[(&str, Value<'_>)]) {
            write(Level::$level, message, fields);
        })+
    };
}

level_functions! {
    /// Writes a line of level `trace`.
    trace => Trace;
    /// Writes a line of level `debug`.
    debug => Debug;
    /// Writes a line of level `info`.
    info => Info;
    /// Writes a line of level `warn`.
    warn => Warn;
    /// Writes a line of level `error`.
    error => Error;
    /// Writes a line of level `fatal`.
    fatal => Fatal;
}

/// Writes a line with a message and fields, if its level is enabled. Never fails, never blocks.
pub fn write(level: Level, message: &str, fields: &[(&str, Value<'_>)]) {
    if !enabled(level) {
        return;
    }
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = rustix::system::uname();
    let host = name.nodename().to_string_lossy();
    let line = render(level, unix.as_millis(), &host, message, fields);
    let anew = OUTPUT.get_or_init(|| opened_anew(std::io::stdout()));
    let is_written = match anew {
        Some(output) => put(output, line.as_bytes()),
        None => put(std::io::stdout(), line.as_bytes()),
    };
    if !is_written {
        LINES_LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets a repeated line through at most once a minute per kind, and counts what it held back. Owned
/// by the caller, so no core waits for another's.
///
/// ```
/// # use trunkline::{hub::moment::Moment, log::{self, Sparingly}};
/// let mut sparingly = Sparingly::default();
/// if let Some(held_back) = sparingly.allow("accept failed", Moment(0)) {
///     log::warn("Accepting failed", &[("heldBack", held_back.into())]);
/// }
/// assert_eq!(sparingly.allow("accept failed", Moment(1)), None);
/// ```
#[derive(Debug, Default)]
pub struct Sparingly {
    /// One entry per kind. Kinds are constants, so the list is as short as the code that names
    /// them.
    kinds: Vec<Repeated>,
}

#[derive(Debug)]
struct Repeated {
    kind: &'static str,
    last: Moment,
    held_back: u64,
}

impl Sparingly {
    /// May a line of this kind be written now? `Some` with the number of lines held back since the
    /// last one that was, or `None`.
    pub fn allow(&mut self, kind: &'static str, now: Moment) -> Option<u64> {
        let Some(repeated) = self.kinds.iter_mut().find(|repeated| repeated.kind == kind) else {
            self.kinds.push(Repeated { kind, last: now, held_back: 0 });
            return Some(0);
        };
        if now.since(repeated.last) < SPARINGLY_PAUSE {
            repeated.held_back += 1;
            return None;
        }
        repeated.last = now;
        Some(std::mem::take(&mut repeated.held_back))
    }
}

/// What takes the place of a token.
const REDACTED: &str = "[redacted]";

/// A request target fit for the log: the value of every `access_token` is replaced, however its
/// name is written (percent-encoded once or more, in capitals, as an array, inside another value).
pub fn redact(target: &str) -> String {
    let mut redacted = String::with_capacity(target.len());
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    redact_pairs(path, &mut redacted);
    if let Some(query) = query {
        redacted.push('?');
        redact_pairs(query, &mut redacted);
    }
    redacted
}

fn redact_pairs(text: &str, redacted: &mut String) {
    for (index, pair) in text.split('&').enumerate() {
        if index > 0 {
            redacted.push('&');
        }
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        if !mentions_token(pair) {
            redacted.push_str(pair);
        } else if name == "access_token" {
            redacted.push_str("access_token=");
            redacted.push_str(REDACTED);
        } else {
            redacted.push_str(REDACTED);
        }
    }
}

/// Is `access_token` in here, under at most three layers of percent encoding?
fn mentions_token(pair: &str) -> bool {
    let mut bytes = pair.to_ascii_lowercase().into_bytes();
    for _ in 0..=3 {
        if memchr::memmem::find(&bytes, b"access_token").is_some() {
            return true;
        }
        bytes = percent_decoded(&bytes);
        bytes.make_ascii_lowercase();
    }
    false
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        rest = match rest {
            [b'%', high, low, after @ ..] if hex(high).is_some() && hex(low).is_some() => {
                let value = hex(high).unwrap_or(0) * 16 + hex(low).unwrap_or(0);
                decoded.push(u8::try_from(value).unwrap_or(b'%'));
                after
            }
            _ => {
                decoded.push(*first);
                tail
            }
        };
    }
    decoded
}

/// The line with its line break; at most [`LINE_BYTES_MAX`] bytes, always whole JSON.
fn render(
    level: Level,
    unix_millis: u128,
    host: &str,
    message: &str,
    fields: &[(&str, Value<'_>)],
) -> String {
    const END: &str = ",\"cut\":true}\n";
    let mut line = String::with_capacity(256);
    let _ = write!(
        line,
        "{{\"level\":\"{}\",\"time\":{unix_millis},\"pid\":{},\"hostname\":",
        level.name(),
        std::process::id(),
    );
    append_text(&mut line, host);
    line.push_str(",\"name\":\"streaming\",\"msg\":");
    append_text(&mut line, message);
    for (key, value) in fields {
        let before = line.len();
        line.push(',');
        append_text(&mut line, key);
        line.push(':');
        append_value(&mut line, *value);
        if line.len() + END.len() > LINE_BYTES_MAX {
            line.truncate(before);
            line.push_str(END);
            return line;
        }
    }
    line.push_str("}\n");
    line
}

fn append_value(line: &mut String, value: Value<'_>) {
    let _ = match value {
        Value::Text(text) => {
            append_text(line, text);
            Ok(())
        }
        Value::Number(number) => write!(line, "{number}"),
        Value::Count(count) => write!(line, "{count}"),
        Value::Real(real) if real.is_finite() => write!(line, "{real}"),
        Value::Real(_) => write!(line, "null"),
        Value::Flag(flag) => write!(line, "{flag}"),
        Value::Shown(shown) => {
            append_text(line, &shown.to_string());
            Ok(())
        }
    };
}

/// A JSON string of at most [`TEXT_BYTES_MAX`] bytes before quoting, and never much longer after
/// it: control characters, which need six bytes each, are replaced by one.
fn append_text(line: &mut String, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    line.push('"');
    for character in text.get(..end).unwrap_or_default().chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            control if control < ' ' => line.push('\u{fffd}'),
            other => line.push(other),
        }
    }
    if end < text.len() {
        line.push('…');
    }
    line.push('"');
}

/// A pipe, opened once more so that writing to it never blocks. Asking first whether it has room is
/// not enough: another core may take the room between the question and the write. The descriptor
/// itself stays as it is, because others share it. `None` for what is no pipe, or cannot be opened:
/// sockets say that they are full long before they are, and files never are.
fn opened_anew(output: impl AsFd) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(&output).ok()?.st_mode);
    let path = format!("/proc/self/fd/{}", output.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if kind == FileType::Fifo { open(path, flags, Mode::empty()).ok() } else { None }
}

/// One `write(2)`, and only if the descriptor would take the line at once.
fn put(output: impl AsFd, line: &[u8]) -> bool {
    let mut descriptors = [PollFd::new(&output, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(1..) if descriptors[0].revents().contains(PollFlags::OUT) => {}
        _ => return false,
    }
    rustix::io::write(&output, line).is_ok_and(|written| written == line.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::protocol::ids::Token;
    use proptest::prelude::*;

    fn rendered(message: &str, fields: &[(&str, Value<'_>)]) -> serde_json::Value {
        let line = render(Level::Info, 1_795_405_071_115, "vm", message, fields);
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line:?}");
        assert!(line.len() <= LINE_BYTES_MAX);
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_line_looks_like_the_node_servers() {
        let line = render(
            Level::Info,
            1_795_405_071_115,
            "vm",
            "Streaming API now listening on 127.0.0.1:7402",
            &[("shards", 2_usize.into())],
        );
        let pid = std::process::id();
        assert_eq!(
            line,
            format!(
                "{{\"level\":\"info\",\"time\":1795405071115,\"pid\":{pid},\"hostname\":\"vm\",\
                 \"name\":\"streaming\",\
                 \"msg\":\"Streaming API now listening on 127.0.0.1:7402\",\"shards\":2}}\n"
            )
        );
    }

    #[test]
    fn every_kind_of_value_is_json() {
        let error = std::io::Error::other("a \"quoted\"\nline\u{0}");
        let fields: [(&str, Value<'_>); 6] = [
            ("text", "ü".into()),
            ("number", (-5_i64).into()),
            ("real", 0.25.into()),
            ("nan", f64::NAN.into()),
            ("flag", true.into()),
            ("error", Value::Shown(&error)),
        ];
        let line = rendered("m", &fields);
        assert_eq!(line["text"], "ü");
        assert_eq!(line["number"], -5);
        assert_eq!(line["real"], 0.25);
        assert!(line["nan"].is_null());
        assert_eq!(line["flag"], true);
        assert_eq!(line["error"], "a \"quoted\"\nline\u{fffd}");
    }

    #[test]
    fn levels_are_read_by_name_and_silent_writes_nothing() {
        for level in Level::ALL {
            assert_eq!(Level::parse(level.name()), Some(level));
        }
        assert_eq!(Level::parse("INFO"), None);
        assert!(Level::ALL.into_iter().all(|level| !enabled(level)), "unit tests are silent");
    }

    #[test]
    fn a_full_or_broken_output_loses_the_line_without_blocking() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        assert!(put(&writer, b"line\n"));
        let full = [b'x'; LINE_BYTES_MAX];
        while put(&writer, &full) {}
        assert!(!put(&writer, b"line\n"));
        drop(reader);
        assert!(!put(&writer, b"line\n"));
        let full_disk = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(!put(&full_disk, b"line\n"));
    }

    #[test]
    fn cores_that_write_at_once_never_wait_for_the_last_room_in_a_pipe() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let output = std::sync::Arc::new(opened_anew(&writer).unwrap());
        let full = [b'x'; LINE_BYTES_MAX];
        while put(&*output, &full) {}
        let (done, finished) = std::sync::mpsc::channel();
        for _ in 0..500 {
            rustix::io::read(&reader, &mut [0; LINE_BYTES_MAX]).unwrap();
            let start = std::sync::Arc::new(std::sync::Barrier::new(4));
            for _ in 0..4 {
                let (output, done, start) = (output.clone(), done.clone(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    done.send(put(&*output, &full)).unwrap();
                });
            }
            let patience = Duration::from_secs(30);
            let written = (0..4).filter(|_| finished.recv_timeout(patience).unwrap()).count();
            assert_eq!(written, 1, "there was room for one");
        }
    }

    #[test]
    fn a_repeated_line_passes_once_a_minute_with_the_count_of_the_others() {
        let mut sparingly = Sparingly::default();
        let start = Moment(7);
        assert_eq!(sparingly.allow("a", start), Some(0));
        assert_eq!(sparingly.allow("a", start + Duration::from_secs(59)), None);
        assert_eq!(sparingly.allow("b", start + Duration::from_secs(59)), Some(0));
        assert_eq!(sparingly.allow("a", start + Duration::from_secs(59)), None);
        assert_eq!(sparingly.allow("a", start + Duration::from_secs(60)), Some(2));
        assert_eq!(sparingly.allow("a", start + Duration::from_secs(61)), None);
    }

    #[test]
    fn a_target_keeps_everything_but_its_tokens() {
        for (target, expected) in [
            ("/api/v1/streaming/health", "/api/v1/streaming/health"),
            (
                "/api/v1/streaming?stream=user&access_token=abc&tag=x",
                "/api/v1/streaming?stream=user&access_token=[redacted]&tag=x",
            ),
            (
                "/?access_token=a&access_token=b=c",
                "/?access_token=[redacted]&access_token=[redacted]",
            ),
            ("/?access%5Ftoken=abc", "/?[redacted]"),
            ("/?access_token[]=abc", "/?[redacted]"),
            ("/?%2561ccess_TOKEN%3Dabc", "/?[redacted]"),
            ("/x&access_token=abc", "/x&access_token=[redacted]"),
            ("/?to=https%3A%2F%2Fx%2F%3Faccess_token%3Dabc&b=%zz%", "/?[redacted]&b=%zz%"),
        ] {
            assert_eq!(redact(target), expected);
        }
    }

    /// The name with each character either plain, in capitals, or percent-encoded one to three
    /// times.
    fn encoded_name() -> impl Strategy<Value = String> {
        let length = "access_token".len();
        proptest::collection::vec(0_u8..5, length).prop_map(|ways| {
            "access_token".chars().zip(ways).fold(String::new(), |mut name, (character, way)| {
                let code = u32::from(character);
                let _ = match way {
                    0 => write!(name, "{character}"),
                    1 => write!(name, "{}", character.to_ascii_uppercase()),
                    2 => write!(name, "%{code:02x}"),
                    3 => write!(name, "%25{code:02X}"),
                    _ => write!(name, "%2525{code:02x}"),
                };
                name
            })
        })
    }

    proptest! {
        #[test]
        fn no_token_is_in_any_rendered_line(
            name in encoded_name(),
            before in "[ -~]{0,20}",
            after in "(&[a-z]{1,5}=[a-z0-9;?#/]{0,9})?",
            array in "(\\[[0-9]?\\])?",
        ) {
            let secret = "s3cretT0kenOfSomebody";
            let target = format!("/api/v1/streaming?{before}&{name}{array}={secret}{after}");
            let token = Token::new(secret);
            let password = Secret::new(secret);
            let redacted = redact(&target);
            let line = render(Level::Warn, 0, "vm", &redacted, &[
                ("target", (&redacted).into()),
                ("token", Value::Shown(&format_args!("{token:?}"))),
                ("password", Value::Shown(&password)),
                ("again", Value::Shown(&format_args!("{password:?}"))),
            ]);
            prop_assert!(!line.contains(secret), "{line}");
            prop_assert!(redacted.ends_with(&after));
        }

        #[test]
        fn any_text_makes_one_whole_line_of_json(
            message in any::<String>(),
            texts in proptest::collection::vec(("\\PC{0,20}", ".{0,2000}"), 0..12),
        ) {
            let fields: Vec<(&str, Value<'_>)> =
                texts.iter().map(|(key, text)| (key.as_str(), text.into())).collect();
            rendered(&message, &fields);
        }
    }
}
