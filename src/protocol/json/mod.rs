//! JSON written anew as JavaScript's `JSON.stringify(JSON.parse(text))` would write it, in one pass
//! and without a tree: whitespace and needless escapes go, keys keep their order, a repeated key
//! keeps its first place and its last value, numbers look as ECMA-262 prints them, lone surrogates
//! stay escaped.
//!
//! Two differences from a JavaScript engine are intended. Integers stay exact at any size (there
//! they are rounded beyond 2^53). Keys that look like array indices keep their place (there they
//! move to the front).
//!
//! Every event passes through here once, so this is hot: strings are looked at 64 bytes at a
//! time, what stays the same is copied in as few pieces as possible, and nothing is allocated but
//! the output and, per nesting level, nothing at all.

mod keys;
mod number;
mod specials;
mod string;

use std::borrow::Cow;
use std::ops::Range;

use keys::Members;
use number::Spelling;
use specials::{Ahead, append, append_then};
use string::Escape;
pub use string::{escape, unescape, write_string};

/// The text is no JSON (RFC 8259), or its arrays and objects are nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// What a JSON value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// Any number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// Writes a whole JSON text anew.
pub fn rewrite(text: &[u8], depth_max: usize) -> Result<Vec<u8>, NotJson> {
    let text = decode(text);
    let mut rewriter = Rewriter::new(&text, depth_max);
    rewriter.value()?;
    rewriter.finish()?;
    Ok(rewriter.into_output())
}

/// The text as UTF-8. What is none becomes U+FFFD, one for each maximal subpart, as Node decodes
/// it.
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    // Asked first because the replacing decoder goes byte by byte even where there is nothing to
    // replace.
    match std::str::from_utf8(text) {
        Ok(_) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(String::from_utf8_lossy(text).into_owned().into_bytes()),
    }
}

/// Reads JSON text from the front and spells it anew. Most of a message is in its new spelling
/// already, so what is the same is not copied piece by piece: it stays behind in the input until
/// something differs, and then goes over in one piece.
///
/// ```text
///   input   ……………… │ as it will be written │ not read yet
///                 copied                  at
///   output  what came of everything before `copied`
/// ```
pub struct Rewriter<'text> {
    /// UTF-8.
    input: &'text [u8],
    /// `copied <= at <= input.len()`; everything before it has been read.
    at: usize,
    /// What stands between here and `at` belongs to the new spelling, behind `output`.
    copied: usize,
    /// UTF-8.
    output: Vec<u8>,
    /// How many more arrays and objects may open.
    depth_left: usize,
    /// Of the objects that are open now.
    members: Members,
    /// Finds the ends of strings in `input`.
    ahead: Ahead,
}

impl<'text> Rewriter<'text> {
    /// Starts at the beginning of a text that must be UTF-8 (see [`decode`]).
    pub fn new(input: &'text [u8], depth_max: usize) -> Self {
        let output = Vec::with_capacity(input.len());
        Self {
            input,
            at: 0,
            copied: 0,
            output,
            depth_left: depth_max,
            members: Members::new(),
            ahead: Ahead::default(),
        }
    }

    /// The length of what has been spelled up to now.
    pub fn length(&self) -> usize {
        self.output.len() + self.at - self.copied
    }

    /// A part of what has been spelled up to now, by its place there.
    pub fn spelled(&mut self, range: Range<usize>) -> &[u8] {
        let output = self.output.len();
        let spelled = match range.start.checked_sub(output) {
            Some(start) => {
                self.input.get(self.copied + start..self.copied + range.end.saturating_sub(output))
            }
            None => {
                self.copy();
                self.output.get(range)
            }
        };
        spelled.unwrap_or_default()
    }

    /// Gives everything that was spelled away.
    pub fn into_output(mut self) -> Vec<u8> {
        self.copy();
        self.output
    }

    /// Takes back what was spelled from `start` on.
    pub fn discard_from(&mut self, start: usize) {
        self.copy();
        self.output.truncate(start);
    }

    /// Moves what has been read and stays as it is to the output.
    fn copy(&mut self) {
        append(&mut self.output, self.input, self.copied, self.at);
        self.copied = self.at;
    }

    /// Reads on up to `end`, where `spell` has written what belongs into the place of it.
    fn replace(&mut self, end: usize, spell: impl FnOnce(&mut Vec<u8>)) {
        self.copy();
        spell(&mut self.output);
        self.at = end;
        self.copied = end;
    }

    /// What the next value is, as far as its first byte says.
    #[inline]
    pub fn form(&mut self) -> Result<Form, NotJson> {
        self.skip_space();
        Ok(match self.peek() {
            Some(b'"') => Form::String,
            Some(b'{') => Form::Object,
            Some(b'[') => Form::Array,
            Some(b't') => Form::True,
            Some(b'f') => Form::False,
            Some(b'n') => Form::Null,
            Some(b'-' | b'0'..=b'9') => Form::Number,
            _ => return Err(NotJson),
        })
    }

    /// Reads one value and says what it was.
    pub fn value(&mut self) -> Result<Form, NotJson> {
        let form = self.form()?;
        match form {
            Form::Object => self.nested(Self::object)?,
            Form::Array => self.nested(Self::array)?,
            Form::String => self.string()?,
            Form::Number => self.number()?,
            Form::True => self.literal(b"true")?,
            Form::False => self.literal(b"false")?,
            Form::Null => self.literal(b"null")?,
        }
        Ok(form)
    }

    /// Reads an object, but leaves the members to `visit`: it gets the key's place (see
    /// [`Rewriter::spelled`]) and must read the value. Repeated keys are the visitor's affair.
    pub fn visit_object(
        &mut self,
        mut visit: impl FnMut(&mut Self, Range<usize>) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.nested(|this| {
            let mut open = this.open(b'{', b'}')?;
            while open {
                let key = this.key()?;
                visit(this, key)?;
                open = this.another(b'}')?;
            }
            Ok(())
        })
    }

    /// Nothing but whitespace may follow.
    pub fn finish(&mut self) -> Result<(), NotJson> {
        self.skip_space();
        if self.at == self.input.len() { Ok(()) } else { Err(NotJson) }
    }

    fn object(&mut self) -> Result<(), NotJson> {
        let mark = self.members.mark();
        let start = self.length();
        let mut open = self.open(b'{', b'}')?;
        while open {
            let from = self.at;
            let key = self.key()?;
            let hash = self.hash_of_key(from);
            self.value()?;
            self.members.add(hash, key.start..self.length(), key.len(), mark);
            open = self.another(b'}')?;
        }
        if self.members.is_suspicious() {
            self.copy();
        }
        self.members.close(&mut self.output, start, mark);
        Ok(())
    }

    fn array(&mut self) -> Result<(), NotJson> {
        let mut open = self.open(b'[', b']')?;
        while open {
            self.value()?;
            open = self.another(b']')?;
        }
        Ok(())
    }

    /// One level deeper while `read` runs.
    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(NotJson)?;
        read(self)?;
        self.depth_left += 1;
        Ok(())
    }

    /// Reads the opening bracket; whether there is anything before the closing one, which is read
    /// too if not.
    fn open(&mut self, opening: u8, closing: u8) -> Result<bool, NotJson> {
        self.expect(opening)?;
        self.skip_space();
        let empty = self.peek() == Some(closing);
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Reads the comma or the closing bracket: whether another element follows.
    fn another(&mut self, closing: u8) -> Result<bool, NotJson> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            Some(byte) if byte == closing => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(NotJson),
        }
    }

    /// Reads a key and its colon; the key's place, quotes included.
    fn key(&mut self) -> Result<Range<usize>, NotJson> {
        let start = self.length();
        self.string()?;
        let key = start..self.length();
        self.skip_space();
        self.expect(b':')?;
        Ok(key)
    }

    /// The hash of the key that was just read; `from`: where it begins in the input. `None` if it
    /// was spelled otherwise there.
    #[inline]
    fn hash_of_key(&self, from: usize) -> Option<u32> {
        let key = self.input.get(from..self.at.saturating_sub(":".len())).unwrap_or_default();
        (self.copied <= from).then(|| keys::hash(key))
    }

    #[inline(always)]
    fn string(&mut self) -> Result<(), NotJson> {
        self.expect(b'"')?;
        self.at = self.ahead.plain_end(self.input, self.at);
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(())
            }
            _ => self.string_with_escapes(),
        }
    }

    /// Reads on where a string has something else than plain bytes.
    fn string_with_escapes(&mut self) -> Result<(), NotJson> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                // A control character, which JSON wants escaped, or the end.
                _ => return Err(NotJson),
            }
            self.at = self.ahead.plain_end(self.input, self.at);
        }
    }

    #[inline]
    fn escape(&mut self) -> Result<(), NotJson> {
        // Rails writes `<`, `>` and `&` so: some dozens in each status.
        if let Some((byte, end)) = string::read_plain_escape(self.input, self.at) {
            append_then(&mut self.output, self.input, self.copied, self.at, byte);
            (self.at, self.copied) = (end, end);
            return Ok(());
        }
        match string::read_escape(self.input, self.at)? {
            Escape::Kept => self.at += 2,
            Escape::Char { code, end } => {
                self.replace(end, |output| string::write_char(code, output));
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        let number = self.input.get(self.at..).unwrap_or_default();
        let (length, spelling) = number::read(number)?;
        let end = self.at + length;
        match spelling {
            Spelling::Same => self.at = end,
            Spelling::Other(text) => {
                self.replace(end, |output| output.extend_from_slice(text.as_bytes()));
            }
        }
        Ok(())
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), NotJson> {
        if !self.input.get(self.at..).is_some_and(|rest| rest.starts_with(literal)) {
            return Err(NotJson);
        }
        self.at += literal.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn skip_space(&mut self) {
        if let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.drop_space();
        }
    }

    #[cold]
    fn drop_space(&mut self) {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let end = self.at + rest.iter().take_while(space).count();
        self.replace(end, |_| {});
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests;
