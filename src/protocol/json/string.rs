//! Strings: read, written anew, put inside another string, taken out again.

use std::borrow::Cow;

use super::NotJson;
use super::specials::{Ahead, BLOCK_BYTES, append, append_then, specials};

/// The new spelling of a JSON text as the content of a JSON string: quotes and backslashes get a
/// backslash. Only for what [`super::rewrite`] wrote: there, nothing else needs one.
pub fn escape(text: &[u8], output: &mut Vec<u8>) {
    // Room for the worst case, so that nothing below has to move what is there.
    output.reserve(2 * text.len() + BLOCK_BYTES);
    let mut copied = 0;
    for at in (0..text.len()).step_by(BLOCK_BYTES) {
        let mut found = specials(text, at);
        while found != 0 {
            let special = at + found.trailing_zeros() as usize;
            append_then(output, text, copied, special, b'\\');
            copied = special;
            found &= found - 1;
        }
    }
    append(output, text, copied, text.len());
}

/// Appends `text` as a JSON string with its quotes, escaped as `JSON.stringify` does.
pub fn write_string(text: &str, output: &mut Vec<u8>) {
    output.push(b'"');
    let text = text.as_bytes();
    let (mut at, mut ahead) = (0, Ahead::default());
    loop {
        let end = ahead.plain_end(text, at);
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

/// What an escape sequence is.
pub(super) enum Escape {
    /// Two bytes, spelled as `JSON.stringify` does.
    Kept,
    /// A code point (a lone surrogate may be one) that is spelled otherwise, and where the sequence
    /// ends.
    Char { code: u32, end: usize },
}

/// The printable ASCII character that the escape sequence at `at` stands for, if it needs none, and
/// where the sequence ends.
#[inline]
pub(super) fn read_plain_escape(input: &[u8], at: usize) -> Option<(u8, usize)> {
    let &[b'\\', b'u', b'0', b'0', high, low] = input.get(at..)?.first_chunk()? else {
        return None;
    };
    let (high, low) = (HEX[usize::from(high)], HEX[usize::from(low)]);
    let byte = high << 4 | low & 0xf;
    let is_plain = matches!(byte, 0x20..0x7f if byte != b'"' && byte != b'\\');
    (high < 8 && low < 16 && is_plain).then_some((byte, at + 6))
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
