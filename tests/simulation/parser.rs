//! What a client understands of the server's bytes: HTTP answers, frames, chunks. Written without
//! the server's own code, and strict: whatever a real client could stumble over is a panic.

/// Something that the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An HTTP answer with its status and body; 101 and event streams come without a body.
    Answer(u16, String),
    /// A text message.
    Text(String),
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// A close frame.
    Close(Option<u16>),
    /// An event of an event stream.
    Event(String, String),
    /// The last chunk of an event stream.
    End,
}

/// Takes bytes in any portions.
#[derive(Default)]
pub struct Parser {
    input: Vec<u8>,
    mode: Mode,
    lines: String,
    event: String,
}

#[derive(Default, PartialEq, Eq, Debug)]
enum Mode {
    #[default]
    Http,
    Frames,
    Chunks,
    Over,
}

impl Parser {
    /// Bytes came; what is complete is returned.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.input.extend_from_slice(bytes);
        let mut heard = Vec::new();
        loop {
            let taken = match self.mode {
                Mode::Http => self.answer(&mut heard),
                Mode::Frames => self.frame(&mut heard),
                Mode::Chunks => self.chunk(&mut heard),
                Mode::Over => {
                    assert!(self.input.is_empty(), "bytes behind the end: {:?}", self.input);
                    0
                }
            };
            if taken == 0 {
                return heard;
            }
            self.input.drain(..taken);
        }
    }

    fn answer(&mut self, heard: &mut Vec<Heard>) -> usize {
        let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else {
            return 0;
        };
        let head = std::str::from_utf8(&self.input[..end]).unwrap().to_ascii_lowercase();
        let status = head.strip_prefix("http/1.1 ").unwrap()[..3].parse().unwrap();
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let is_malformed = [400, 405, 408, 426, 431, 503, 505].contains(&status);
        assert!(is_malformed || header("x-request-id").is_some(), "{head}");
        if status == 101 {
            self.mode = Mode::Frames;
            heard.push(Heard::Answer(101, String::new()));
            return end + 4;
        }
        if header("content-type") == Some("text/event-stream") {
            self.mode = Mode::Chunks;
            heard.push(Heard::Answer(status, String::new()));
            return end + 4;
        }
        let length: usize = header("content-length").map_or(0, |text| text.parse().unwrap());
        let Some(body) = self.input.get(end + 4..end + 4 + length) else { return 0 };
        let body = String::from_utf8(body.to_vec()).unwrap();
        if header("connection") == Some("close") {
            self.mode = Mode::Over;
        }
        heard.push(Heard::Answer(status, body));
        end + 4 + length
    }

    fn frame(&mut self, heard: &mut Vec<Heard>) -> usize {
        let input = &self.input;
        let [first, second, ..] = input[..] else { return 0 };
        assert!(first & 0x70 == 0 && first & 0x80 != 0, "extension bits or a fragment: {first:x}");
        assert!(second & 0x80 == 0, "a masked frame");
        let (start, length) = match second {
            126 => match input.get(2..4) {
                Some(bytes) => (4, usize::from(u16::from_be_bytes(bytes.try_into().unwrap()))),
                None => return 0,
            },
            127 => match input.get(2..10) {
                Some(bytes) => (10, u64::from_be_bytes(bytes.try_into().unwrap()) as usize),
                None => return 0,
            },
            short => (2, usize::from(short)),
        };
        let Some(payload) = input.get(start..start + length) else { return 0 };
        heard.push(match first & 0x0f {
            1 => Heard::Text(String::from_utf8(payload.to_vec()).unwrap()),
            8 => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                assert!(payload.is_empty() || code.is_some());
                self.mode = Mode::Over;
                Heard::Close(code)
            }
            9 => Heard::Ping,
            10 => Heard::Pong,
            opcode => panic!("opcode {opcode}"),
        });
        start + length
    }

    fn chunk(&mut self, heard: &mut Vec<Heard>) -> usize {
        let Some(line) = self.input.windows(2).position(|two| two == b"\r\n") else { return 0 };
        let size = std::str::from_utf8(&self.input[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(data) = self.input.get(line + 2..line + 4 + size) else { return 0 };
        let data = data.strip_suffix(b"\r\n").unwrap();
        self.lines.push_str(std::str::from_utf8(data).unwrap());
        let taken = line + 4 + size;
        if size == 0 {
            self.mode = Mode::Over;
            heard.push(Heard::End);
        }
        while let Some(end) = self.lines.find('\n') {
            let line: String = self.lines.drain(..=end).collect();
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", name)) => self.event = name.to_owned(),
                Some(("data", data)) => {
                    heard.push(Heard::Event(std::mem::take(&mut self.event), data.to_owned()));
                }
                _ if matches!(line.as_str(), "\n" | ":)\n" | ":thump\n") => {}
                _ => panic!("a line that real clients choke on: {line:?}"),
            }
        }
        taken
    }
}

/// A client's frame: final, masked.
pub fn masked(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
