//! Frames from clients.
//!
//! ```text
//!          ┌── a whole frame in the input and nothing open: no allocation ──┐
//!          │                                                                ▼
//!  idle ───┴─► header ──────► payload ───────────────────────────────► delivered ──► idle
//!  (None)     incomplete     incomplete        last frame, control          (None, or back to
//!                 ▲               │                                          the open message)
//!                 │               ▼  fragment
//!                 └─ next frame ─ message open
//! ```
//!
//! All but *idle* and *delivered* is a [`Partial`], in a box that is gone with the last byte of the
//! message.

use std::ops::Range;

use super::{CONTROL_BYTES_MAX, CloseCode, Control, Data, OpCode};

/// Two bytes, an extended length of at most eight, a mask (RFC 6455 section 5.2).
const HEADER_BYTES_MAX: usize = 14;

/// What a client said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound<'a> {
    /// A whole text message.
    Text(&'a str),
    /// The header of a binary message's first frame has come: a caller that refuses binary messages
    /// knows enough.
    BinaryBegins,
    /// A whole binary message, for callers that went on after `BinaryBegins`.
    Binary(&'a [u8]),
    /// A ping with its payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong, whatever its payload.
    Pong,
    /// A close frame with its code. Nothing after it is read (RFC 6455 section 5.5.1).
    Close(Option<u16>),
}

/// What a client did wrong. Answer with a close frame of [`ProtocolError::close_code`] and close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// Against the framing rules of RFC 6455 section 5.
    Frame,
    /// A text message or close reason that is not UTF-8 (RFC 6455 section 8.1).
    Utf8,
    /// A message longer than the bound, known from a frame's header.
    TooLong,
}

impl ProtocolError {
    /// The status code for the close frame (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Frame => 1002,
            Self::Utf8 => 1007,
            Self::TooLong => 1009,
        }
    }
}

/// An incomplete frame or an open fragmented message, kept between reads.
#[derive(Default)]
pub struct Partial {
    /// The first `header_length` bytes of a header that is not complete; 0 if a frame is open.
    header: [u8; HEADER_BYTES_MAX],
    header_length: usize,
    /// The frame whose payload is not complete.
    frame: Option<Frame>,
    /// The payload so far of that frame if it is a control frame: `control.len() ≤ 125`.
    control: Vec<u8>,
    /// The message whose frames are not complete: `bytes.len() ≤` the bound.
    message: Option<Message>,
}

impl Partial {
    /// Bytes of heap and box, for whoever counts what clients cost.
    pub fn bytes_held(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        size_of::<Self>() + self.control.capacity() + message
    }
}

struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    /// `bytes[..valid_length]` is UTF-8; at most three bytes follow. Unused in a binary message.
    valid_length: usize,
}

#[derive(Clone, Copy)]
struct Frame {
    is_final: bool,
    opcode: OpCode,
    /// For the next byte of the payload first.
    mask: [u8; 4],
    /// Bytes of the payload still to come.
    missing: u64,
}

/// Reads what one read of the socket brought. Use it up ([`Receiver::receive`] until `None`): bytes
/// that were not read are lost. That holds after a close frame of ours too: until the client's own
/// comes, the same state and the same receiver must go on, or the rest of a frame is taken for a
/// header.
pub struct Receiver<'a> {
    partial: &'a mut Option<Box<Partial>>,
    input: &'a mut [u8],
    /// `input[..position]` was read.
    position: usize,
    /// The payload of the last delivery that did not fit in one read.
    finished: Vec<u8>,
    message_bytes_max: usize,
    is_over: bool,
}

/// Where the payload of a delivery lies.
enum Payload {
    Input(Range<usize>),
    Finished,
}

/// What one step of the machine did.
enum Step {
    Starved,
    Quiet,
    Begins,
    Whole(OpCode, Payload),
}

impl<'a> Receiver<'a> {
    /// Takes a connection's state (`None` if idle) and the bytes read, which are unmasked in place.
    pub fn new(
        partial: &'a mut Option<Box<Partial>>,
        input: &'a mut [u8],
        message_bytes_max: usize,
    ) -> Self {
        Self {
            partial,
            input,
            position: 0,
            finished: Vec::new(),
            message_bytes_max,
            is_over: false,
        }
    }

    /// The next thing that the client said; `None` when the input is used up, and after a close
    /// frame.
    ///
    /// # Errors
    /// The first violation of the protocol, as early as its bytes allow. Afterwards there is
    /// nothing to read.
    pub fn receive(&mut self) -> Result<Option<Inbound<'_>>, ProtocolError> {
        if self.is_over {
            return Ok(None);
        }
        let step = loop {
            match self.step() {
                Ok(Step::Quiet) => {}
                Ok(step) => break step,
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        };
        match step {
            Step::Starved | Step::Quiet => Ok(None),
            Step::Begins => Ok(Some(Inbound::BinaryBegins)),
            Step::Whole(opcode, payload) => self.deliver(opcode, payload).map(Some),
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        *self.partial = None;
    }

    fn deliver(&mut self, opcode: OpCode, payload: Payload) -> Result<Inbound<'_>, ProtocolError> {
        if opcode == OpCode::Control(Control::Close) {
            self.end();
        }
        let bytes = match payload {
            Payload::Input(range) => &self.input[range],
            Payload::Finished => &self.finished[..],
        };
        match opcode {
            OpCode::Data(Data::Text) => match str::from_utf8(bytes) {
                Ok(text) => Ok(Inbound::Text(text)),
                Err(_) => {
                    self.is_over = true;
                    *self.partial = None;
                    Err(ProtocolError::Utf8)
                }
            },
            OpCode::Control(Control::Ping) => Ok(Inbound::Ping(bytes)),
            OpCode::Control(Control::Pong) => Ok(Inbound::Pong),
            OpCode::Control(_) => close_code(bytes).map(Inbound::Close),
            OpCode::Data(_) => Ok(Inbound::Binary(bytes)),
        }
    }

    fn step(&mut self) -> Result<Step, ProtocolError> {
        match self.partial.as_deref() {
            // An empty payload is complete without further input.
            Some(Partial { frame: Some(_), .. }) => self.step_payload(),
            _ if self.position == self.input.len() => Ok(Step::Starved),
            Some(Partial { frame: None, .. }) => self.step_header(),
            None => self.step_idle(),
        }
    }

    /// Nothing is open: the common case of one small whole frame ends here.
    fn step_idle(&mut self) -> Result<Step, ProtocolError> {
        let rest = &self.input[self.position..];
        let Some((frame, header_length)) = Frame::parse(rest, None, self.message_bytes_max)? else {
            *self.partial = Some(Box::default());
            return self.step_header();
        };
        let begin = self.position + header_length;
        let is_binary = frame.opcode == OpCode::Data(Data::Binary);
        if !frame.is_final || is_binary || frame.missing > (self.input.len() - begin) as u64 {
            *self.partial = Some(Box::default());
            self.position = begin;
            return Ok(self.open(frame));
        }
        let range = begin..begin + frame.missing as usize;
        self.position = range.end;
        unmask(&mut self.input[range.clone()], frame.mask);
        Ok(Step::Whole(frame.opcode, Payload::Input(range)))
    }

    /// A header that may have come in pieces.
    fn step_header(&mut self) -> Result<Step, ProtocolError> {
        let Some(partial) = self.partial.as_deref_mut() else { return Ok(Step::Quiet) };
        let had = partial.header_length;
        let rest = &self.input[self.position..];
        let taken = rest.len().min(HEADER_BYTES_MAX - had);
        partial.header[had..had + taken].copy_from_slice(&rest[..taken]);
        let seen = &partial.header[..had + taken];
        let open = partial.message.as_ref().map(|message| message.bytes.len());
        match Frame::parse(seen, open, self.message_bytes_max)? {
            None => {
                partial.header_length = had + taken;
                self.position += taken;
                Ok(Step::Starved)
            }
            Some((frame, length)) => {
                partial.header_length = 0;
                self.position += length - had;
                Ok(self.open(frame))
            }
        }
    }

    /// A header is complete: its payload comes next.
    fn open(&mut self, frame: Frame) -> Step {
        let Some(partial) = self.partial.as_deref_mut() else { return Step::Quiet };
        partial.frame = Some(frame);
        if let OpCode::Data(kind @ (Data::Text | Data::Binary)) = frame.opcode {
            let is_text = kind == Data::Text;
            partial.message = Some(Message { is_text, bytes: Vec::new(), valid_length: 0 });
            if !is_text {
                return Step::Begins;
            }
        }
        Step::Quiet
    }

    /// The payload of the open frame, as far as it has come.
    fn step_payload(&mut self) -> Result<Step, ProtocolError> {
        let Some(partial) = self.partial.as_deref_mut() else { return Ok(Step::Quiet) };
        let Some(mut frame) = partial.frame else { return Ok(Step::Quiet) };
        let rest = &mut self.input[self.position..];
        let taken = usize::try_from(frame.missing).map_or(rest.len(), |it| it.min(rest.len()));
        let bytes = &mut rest[..taken];
        unmask(bytes, frame.mask);
        frame.mask.rotate_left(taken % 4);
        frame.missing -= taken as u64;
        self.position += taken;
        match (frame.opcode, &mut partial.message) {
            (OpCode::Data(_), Some(message)) => message.extend(bytes)?,
            _ => partial.control.extend_from_slice(bytes),
        }
        if frame.missing > 0 {
            partial.frame = Some(frame);
            return Ok(Step::Starved);
        }
        partial.frame = None;
        Ok(self.close_frame(frame))
    }

    /// A frame is complete; so may be its message.
    fn close_frame(&mut self, frame: Frame) -> Step {
        let Some(partial) = self.partial.as_deref_mut() else { return Step::Quiet };
        let opcode = match frame.opcode {
            OpCode::Control(_) => {
                self.finished = std::mem::take(&mut partial.control);
                frame.opcode
            }
            OpCode::Data(_) if !frame.is_final => return Step::Quiet,
            OpCode::Data(_) => {
                let Some(message) = partial.message.take() else { return Step::Quiet };
                self.finished = message.bytes;
                OpCode::Data(if message.is_text { Data::Text } else { Data::Binary })
            }
        };
        if partial.message.is_none() {
            *self.partial = None;
        }
        Step::Whole(opcode, Payload::Finished)
    }
}

impl Message {
    /// Adds unmasked bytes; a text that no further byte can make UTF-8 is refused at once.
    fn extend(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.bytes.extend_from_slice(bytes);
        if !self.is_text {
            return Ok(());
        }
        match str::from_utf8(&self.bytes[self.valid_length..]) {
            Ok(_) => self.valid_length = self.bytes.len(),
            Err(error) if error.error_len().is_some() => return Err(ProtocolError::Utf8),
            Err(error) => self.valid_length += error.valid_up_to(),
        }
        Ok(())
    }
}

impl Frame {
    /// Reads a header from the front of `bytes`; `None` if it is incomplete. What is wrong is found
    /// with the byte that makes it wrong. `open` is the length so far of the fragmented message
    /// that is open.
    fn parse(
        bytes: &[u8],
        open: Option<usize>,
        message_bytes_max: usize,
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let [first, rest @ ..] = bytes else { return Ok(None) };
        let opcode = check_first_byte(*first, open.is_some())?;
        let [second, rest @ ..] = rest else { return Ok(None) };
        let Some((length, rest)) = parse_length(*second, opcode, rest)? else { return Ok(None) };
        // Control frames have their own bound and do not count towards the message they interrupt.
        let room = message_bytes_max.saturating_sub(open.unwrap_or(0));
        if matches!(opcode, OpCode::Data(_)) && length > room as u64 {
            return Err(ProtocolError::TooLong);
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let is_final = first & 0x80 != 0;
        let frame = Self { is_final, opcode, mask: *mask, missing: length };
        Ok(Some((frame, bytes.len() - rest.len())))
    }
}

/// FIN, RSV and opcode (RFC 6455 sections 5.2, 5.4 and 5.5).
fn check_first_byte(first: u8, is_message_open: bool) -> Result<OpCode, ProtocolError> {
    let (is_final, reserved, opcode) =
        (first & 0x80 != 0, first & 0x70, OpCode::from(first & 0x0f));
    let is_right = match opcode {
        OpCode::Data(Data::Continue) => is_message_open,
        OpCode::Data(Data::Text | Data::Binary) => !is_message_open,
        OpCode::Control(Control::Close | Control::Ping | Control::Pong) => is_final,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => false,
    };
    if is_right && reserved == 0 { Ok(opcode) } else { Err(ProtocolError::Frame) }
}

/// The payload length and what follows it; `None` if it is incomplete. Clients must mask (section
/// 5.1), control frames are short (5.5), a close frame is empty or has a whole code (5.5.1),
/// lengths take the fewest bytes (5.2).
fn parse_length(
    second: u8,
    opcode: OpCode,
    rest: &[u8],
) -> Result<Option<(u64, &[u8])>, ProtocolError> {
    let short = second & 0x7f;
    let is_control = matches!(opcode, OpCode::Control(_));
    if second & 0x80 == 0
        || is_control && usize::from(short) > CONTROL_BYTES_MAX
        || opcode == OpCode::Control(Control::Close) && short == 1
    {
        return Err(ProtocolError::Frame);
    }
    let (length, least, rest) = match short {
        126 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), 0x1_0000, rest),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, rest),
    };
    if length < least { Err(ProtocolError::Frame) } else { Ok(Some((length, rest))) }
}

/// The code of a close frame whose payload is not one byte long (RFC 6455 section 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else { return Ok(None) };
    let code = u16::from_be_bytes(*code);
    // 1014 was registered after the list that `CloseCode` knows.
    if !CloseCode::from(code).is_allowed() && code != 1014 {
        return Err(ProtocolError::Frame);
    }
    str::from_utf8(reason).map(|_| Some(code)).map_err(|_| ProtocolError::Utf8)
}

/// XORs with the mask (RFC 6455 section 5.3), eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}
