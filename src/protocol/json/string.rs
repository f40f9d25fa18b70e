//! Strings: read, written anew, put inside another string, taken out again. Plain bytes are looked
//! at a word at a time.

use std::borrow::Cow;

use super::NotJson;

/// Bytes that are looked at in one step.
const WORD_BYTES: usize = 8;

/// A word and the one byte by which escaping its first special byte makes it longer.
const ROOM_BYTES: usize = WORD_BYTES + 1;

const ONES: u64 = u64::from_le_bytes([1; WORD_BYTES]);
const HIGHS: u64 = u64::from_le_bytes([0x80; WORD_BYTES]);

/// The new spelling of a JSON text as the content of a JSON string: quotes and backslashes get a
/// backslash. Only for what [`super::rewrite`] wrote: there, nothing else needs one.
pub fn escape(text: &[u8], output: &mut Vec<u8>) {
    // Room for the worst case, so that nothing below has to move what is there.
    output.reserve(2 * text.len() + ROOM_BYTES);
    let mut rest = text;
    while let Some(word) = rest.first_chunk::<WORD_BYTES>() {
        let found = marks(u64::from_le_bytes(*word));
        let plain = found.trailing_zeros() as usize / 8;
        if plain == WORD_BYTES {
            output.extend_from_slice(word);
            rest = &rest[WORD_BYTES..];
        } else {
            // Whatever is not plain is written over.
            let mut room = [0; ROOM_BYTES];
            room[..WORD_BYTES].copy_from_slice(word);
            room[plain] = b'\\';
            room[plain + 1] = word[plain];
            let length = output.len() + plain + 2;
            output.extend_from_slice(&room);
            output.truncate(length);
            rest = &rest[plain + 1..];
        }
    }
    for &byte in rest {
        if let b'"' | b'\\' = byte {
            output.push(b'\\');
        }
        output.push(byte);
    }
}

/// Appends `text` as a JSON string with its quotes, escaped as `JSON.stringify` does.
pub fn write_string(text: &str, output: &mut Vec<u8>) {
    output.push(b'"');
    let text = text.as_bytes();
    let mut at = 0;
    loop {
        let end = plain_end(text, at);
        output.extend_from_slice(text.get(at..end).unwrap_or_default());
        let Some(&special) = text.get(end) else { break };
        write_char(u32::from(special), output);
        at = end + 1;
    }
    output.push(b'"');
}

/// The content of a string in its new spelling (with quotes). Lone surrogates become U+FFFD, as in
/// everything that JavaScript encodes as UTF-8.
pub fn unescape(string: &[u8]) -> Cow<'_, [u8]> {
    let content = string.get(1..string.len().saturating_sub(1)).unwrap_or_default();
    let Some(mut escape) = memchr::memchr(b'\\', content) else { return Cow::Borrowed(content) };
    let mut output = Vec::with_capacity(content.len());
    let mut rest = content;
    loop {
        let (plain, escaped) = rest.split_at(escape);
        output.extend_from_slice(plain);
        rest = escaped.get(2..).unwrap_or_default();
        match escaped.get(1) {
            Some(b'b') => output.push(0x08),
            Some(b'f') => output.push(0x0c),
            Some(b'n') => output.push(b'\n'),
            Some(b'r') => output.push(b'\r'),
            Some(b't') => output.push(b'\t'),
            Some(b'u') => {
                let unit = hex(escaped.get(2..6)).unwrap_or(0xfffd);
                push_char(char::from_u32(unit).unwrap_or('\u{fffd}'), &mut output);
                rest = escaped.get(6..).unwrap_or_default();
            }
            Some(&byte) => output.push(byte),
            None => {}
        }
        match memchr::memchr(b'\\', rest) {
            Some(next) => escape = next,
            None => break,
        }
    }
    output.extend_from_slice(rest);
    Cow::Owned(output)
}

/// Where the bytes from `at` on that mean themselves end: at a quote, a backslash, a control
/// character, or the end.
#[inline]
pub(super) fn plain_end(input: &[u8], mut at: usize) -> usize {
    while let Some(word) = input.get(at..).and_then(<[u8]>::first_chunk::<WORD_BYTES>) {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += WORD_BYTES;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let tail = input.get(at..).unwrap_or_default();
    at + tail.iter().position(special).unwrap_or(tail.len())
}

/// Marks quotes, backslashes and control characters.
#[inline(always)]
fn specials(word: u64) -> u64 {
    let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    marks(word) | controls
}

/// Marks quotes and backslashes.
#[inline(always)]
fn marks(word: u64) -> u64 {
    zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))
}

/// Sets the high bit of the first byte that is zero; bytes behind it may be marked wrongly, none
/// before it.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// What an escape sequence is.
pub(super) enum Escape {
    /// Two bytes, spelled as `JSON.stringify` does.
    Kept,
    /// A code point (a lone surrogate may be one) that is spelled otherwise, and where the sequence
    /// ends.
    Char { code: u32, end: usize },
}

/// Reads the escape sequence at `at`.
pub(super) fn read_escape(input: &[u8], at: usize) -> Result<Escape, NotJson> {
    match input.get(at + 1) {
        Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(Escape::Kept),
        Some(b'/') => Ok(Escape::Char { code: u32::from(b'/'), end: at + 2 }),
        Some(b'u') => read_unit(input, at + 2),
        _ => Err(NotJson),
    }
}

/// Reads the four digits of a UTF-16 unit at `at`, and the second half of a surrogate pair if it
/// follows.
fn read_unit(input: &[u8], at: usize) -> Result<Escape, NotJson> {
    let unit = hex(input.get(at..at + 4)).ok_or(NotJson)?;
    if let 0xd800..0xdc00 = unit
        && input.get(at + 4..at + 6) == Some(b"\\u")
        && let Some(low @ 0xdc00..0xe000) = hex(input.get(at + 6..at + 10))
    {
        let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return Ok(Escape::Char { code, end: at + 10 });
    }
    Ok(Escape::Char { code: unit, end: at + 4 })
}

/// Appends a code point as `JSON.stringify` writes it inside a string.
#[inline]
pub(super) fn write_char(code: u32, output: &mut Vec<u8>) {
    // Rails writes `<`, `>` and `&` as escapes: some dozens in each status.
    if let Ok(byte @ (0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) = u8::try_from(code) {
        return output.push(byte);
    }
    let short = match code {
        0x08 => b'b',
        0x0c => b'f',
        0x0a => b'n',
        0x0d => b'r',
        0x09 => b't',
        0x22 => b'"',
        0x5c => b'\\',
        _ => {
            match char::from_u32(code).filter(|_| code >= 0x20) {
                Some(char) => push_char(char, output),
                None => write_unit(code, output),
            }
            return;
        }
    };
    output.extend_from_slice(&[b'\\', short]);
}

/// Control characters and lone surrogates.
fn write_unit(unit: u32, output: &mut Vec<u8>) {
    output.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let digit = ((unit >> shift) & 0xf) as u8;
        output.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}

fn push_char(char: char, output: &mut Vec<u8>) {
    output.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The value of four hexadecimal digits.
#[inline]
fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits: &[u8; 4] = digits?.first_chunk()?;
    let [a, b, c, d] = digits.map(|digit| u32::from(HEX[usize::from(digit)]));
    // Any bit above the four of a digit says that one was none.
    (a | b | c | d <= 0xf).then_some(a << 12 | b << 8 | c << 4 | d)
}

/// The values of hexadecimal digits; 255 for all other bytes.
const HEX: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut digit: u8 = 0;
    while digit < 16 {
        let lower = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        values[lower as usize] = digit;
        values[lower.to_ascii_uppercase() as usize] = digit;
        digit += 1;
    }
    values
};
