//! Frames of WebSocket clients. Whatever the bytes:
//!
//! * in one piece, in pieces and byte by byte the same is read, up to the same error;
//! * it is what a second decoder reads, which looks at one byte at a time and keeps everything:
//!   so nothing unmasked, reserved, too long or ill-encoded is ever accepted, and what is wrong is
//!   found with the byte that makes it wrong;
//! * a connection never holds more than its bound;
//! * what was read, written anew with other masks and other fragments, is read again.

use trunkline::protocol::websocket::{Inbound, Partial, ProtocolError, Receiver};

use super::cuts;

/// Small enough to be reached, and longer than a control frame.
const MESSAGE_BYTES_MAX: usize = 150;

pub fn check(input: &[u8]) {
    let mut dice = cuts::dice(input);
    let expected = Decoder::default().read(input);
    for pieces in [vec![input], cuts::bytes(input), cuts::pieces(input, &mut dice)] {
        assert_eq!(read(&pieces), expected);
    }
    let anew = written_anew(&expected.0, &mut dice);
    let complete = |said: &&Said| !matches!(said, Said::BinaryBegins);
    let again = read(&cuts::pieces(&anew, &mut dice));
    assert_eq!(again.1, None);
    let told: Vec<&Said> = expected.0.iter().filter(complete).collect();
    assert_eq!(again.0.iter().filter(complete).collect::<Vec<_>>(), told);
}

/// What a client said, to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    BinaryBegins,
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

type Read = (Vec<Said>, Option<ProtocolError>);

fn read(pieces: &[&[u8]]) -> Read {
    let mut said = Vec::new();
    let mut partial: Option<Box<Partial>> = None;
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut receiver = Receiver::new(&mut partial, &mut piece, MESSAGE_BYTES_MAX);
        loop {
            match receiver.receive() {
                Ok(Some(inbound)) => said.push(owned(inbound)),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(receiver.receive(), Ok(None), "goes on after an error");
                    return (said, Some(error));
                }
            }
        }
        let held = partial.as_ref().map_or(0, |partial| partial.bytes_held());
        // A vector that grows holds up to twice what is in it.
        let most = size_of::<Partial>() + 2 * MESSAGE_BYTES_MAX + 2 * 125;
        assert!(held <= most, "{held} bytes held");
        if matches!(said.last(), Some(Said::Close(_))) {
            assert!(partial.is_none(), "holds something after the end");
            break;
        }
    }
    (said, None)
}

fn owned(inbound: Inbound<'_>) -> Said {
    match inbound {
        Inbound::Text(text) => Said::Text(text.to_owned()),
        Inbound::BinaryBegins => Said::BinaryBegins,
        Inbound::Binary(bytes) => Said::Binary(bytes.to_vec()),
        Inbound::Ping(bytes) => Said::Ping(bytes.to_vec()),
        Inbound::Pong => Said::Pong,
        Inbound::Close(code) => Said::Close(code),
    }
}

/// RFC 6455 sections 5 to 8, one byte after the other.
#[derive(Default)]
struct Decoder {
    header: Vec<u8>,
    /// The frame whose header is complete: its payload so far.
    payload: Option<Vec<u8>>,
    /// The message whose frames are not complete: its opcode and payload so far.
    message: Option<(u8, Vec<u8>)>,
    said: Vec<Said>,
}

impl Decoder {
    fn read(mut self, input: &[u8]) -> Read {
        for byte in input {
            if let Err(error) = self.take(*byte) {
                return (self.said, Some(error));
            }
            if matches!(self.said.last(), Some(Said::Close(_))) {
                break;
            }
        }
        (self.said, None)
    }

    fn take(&mut self, byte: u8) -> Result<(), ProtocolError> {
        match &mut self.payload {
            None => {
                self.header.push(byte);
                self.check_header()?;
                if self.header.len() == self.header_length() {
                    self.payload = Some(Vec::new());
                    self.begin();
                }
            }
            Some(payload) => {
                let mask = self.header[self.header.len() - 4 + payload.len() % 4];
                payload.push(byte ^ mask);
                self.check_text()?;
            }
        }
        let length = self.length().unwrap_or(0) as usize;
        if self.payload.as_ref().is_some_and(|payload| payload.len() == length) {
            self.finish()?;
        }
        Ok(())
    }

    fn opcode(&self) -> u8 {
        self.header[0] & 15
    }

    /// Length bytes, and with a mask always.
    fn header_length(&self) -> usize {
        let extended = match self.header.get(1).map(|byte| byte & 127) {
            Some(126) => 2,
            Some(127) => 8,
            _ => 0,
        };
        2 + extended + 4
    }

    fn length(&self) -> Option<u64> {
        let extended = self.header_length() - 6;
        let short = u64::from(self.header.get(1)? & 127);
        if extended == 0 {
            return Some(short);
        }
        let bytes = self.header.get(2..2 + extended)?;
        Some(bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
    }

    fn check_header(&self) -> Result<(), ProtocolError> {
        let wrong = |is_wrong: bool| if is_wrong { Err(ProtocolError::Frame) } else { Ok(()) };
        let (first, opcode) = (self.header[0], self.opcode());
        let is_control = opcode >= 8;
        wrong(first & 0x70 != 0 || ![0, 1, 2, 8, 9, 10].contains(&opcode))?;
        wrong(is_control && first & 0x80 == 0)?;
        wrong(!is_control && (opcode == 0) != self.message.is_some())?;
        let Some(second) = self.header.get(1) else { return Ok(()) };
        wrong(second & 0x80 == 0)?;
        let short = second & 127;
        wrong(is_control && short > 125 || opcode == 8 && short == 1)?;
        let Some(length) = self.length() else { return Ok(()) };
        wrong(short == 126 && length < 126 || short == 127 && length < 65_536)?;
        let open = self.message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        if !is_control && length.saturating_add(open) > MESSAGE_BYTES_MAX as u64 {
            return Err(ProtocolError::TooLong);
        }
        Ok(())
    }

    fn begin(&mut self) {
        if self.opcode() == 2 {
            self.said.push(Said::BinaryBegins);
        }
        if let opcode @ (1 | 2) = self.opcode() {
            self.message = Some((opcode, Vec::new()));
        }
    }

    /// A text that nothing can make UTF-8 any more.
    fn check_text(&self) -> Result<(), ProtocolError> {
        let (Some((1, message)), Some(payload)) = (&self.message, &self.payload) else {
            return Ok(());
        };
        if self.opcode() >= 8 {
            return Ok(());
        }
        match std::str::from_utf8(&[&message[..], payload].concat()) {
            Err(error) if error.error_len().is_some() => Err(ProtocolError::Utf8),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), ProtocolError> {
        let payload = self.payload.take().unwrap();
        let (opcode, is_final) = (self.opcode(), self.header[0] & 0x80 != 0);
        self.header.clear();
        match opcode {
            8 => self.said.push(Said::Close(close_code(&payload)?)),
            9 => self.said.push(Said::Ping(payload)),
            10 => self.said.push(Said::Pong),
            _ => {
                let (_, bytes) = self.message.as_mut().unwrap();
                bytes.extend_from_slice(&payload);
                let Some((kind, bytes)) = self.message.take_if(|_| is_final) else { return Ok(()) };
                self.said.push(match kind {
                    1 => Said::Text(String::from_utf8(bytes).map_err(|_| ProtocolError::Utf8)?),
                    _ => Said::Binary(bytes),
                });
            }
        }
        Ok(())
    }
}

/// RFC 6455 section 7.4, and what IANA has registered since.
fn close_code(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let [high, low, reason @ ..] = payload else { return Ok(None) };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Frame);
    }
    std::str::from_utf8(reason).map(|_| Some(code)).map_err(|_| ProtocolError::Utf8)
}

/// The same from another client: other masks, other fragments.
fn written_anew(said: &[Said], dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for said in said {
        match said {
            Said::Text(text) => fragments(1, text.as_bytes(), dice, &mut out),
            Said::BinaryBegins => {}
            Said::Binary(bytes) => fragments(2, bytes, dice, &mut out),
            Said::Ping(payload) => frame(0x89, payload, dice, &mut out),
            Said::Pong => frame(0x8a, b"whatever", dice, &mut out),
            Said::Close(None) => frame(0x88, b"", dice, &mut out),
            Said::Close(Some(code)) => frame(0x88, &code.to_be_bytes(), dice, &mut out),
        }
    }
    out
}

/// A message in up to three frames, with pongs in between.
fn fragments(opcode: u8, bytes: &[u8], dice: &mut fastrand::Rng, out: &mut Vec<u8>) {
    let (head, rest) = bytes.split_at(dice.usize(0..=bytes.len()));
    if dice.bool() {
        return frame(0x80 | opcode, bytes, dice, out);
    }
    frame(opcode, head, dice, out);
    let (middle, tail) = rest.split_at(dice.usize(0..=rest.len()));
    frame(0, middle, dice, out);
    frame(0x80, tail, dice, out);
}

fn frame(first: u8, payload: &[u8], dice: &mut fastrand::Rng, out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    let mask: [u8; 4] = dice.u32(..).to_ne_bytes();
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
