//! Strings: read, written anew, put inside another string, taken out again. Plain bytes are copied
//! a word at a time: the word is appended whole and what lies behind a special byte is cut off
//! again.

use std::borrow::Cow;

use super::NotJson;

/// Bytes that are looked at in one step.
pub(super) const WORD_BYTES: usize = 8;

/// A word and the one byte by which escaping its first special byte makes it longer.
const ROOM_BYTES: usize = WORD_BYTES + 1;

const ONES: u64 = u64::from_le_bytes([1; WORD_BYTES]);
const HIGHS: u64 = u64::from_le_bytes([0x80; WORD_BYTES]);

/// The new spelling of a JSON text as the content of a JSON string: quotes and backslashes get a
/// backslash. Only for what [`super::rewrite`] wrote: there, nothing else needs one.
pub fn escape(text: &[u8], output: &mut Vec<u8>) {
    let start = output.len();
    // Room for the worst case, so that the loop below never has to ask for more.
    output.resize(start + 2 * text.len() + ROOM_BYTES, 0);
    let mut length = start;
    let mut rest = text;
    while let Some(word) = rest.first_chunk::<WORD_BYTES>()
        && let Some(room) = output.get_mut(length..).and_then(<[u8]>::first_chunk_mut::<ROOM_BYTES>)
    {
        let found = marks(u64::from_le_bytes(*word));
        let plain = found.trailing_zeros() as usize / 8;
        // Whatever is not plain is written over.
        room[..WORD_BYTES].copy_from_slice(word);
        if plain == WORD_BYTES {
            length += WORD_BYTES;
            rest = &rest[WORD_BYTES..];
        } else {
            room[plain] = b'\\';
            room[plain + 1] = word[plain];
            length += plain + 2;
            rest = &rest[plain + 1..];
        }
    }
    output.truncate(length);
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
    let mut at = 0;
    loop {
        at = copy_plain(text.as_bytes(), at, output);
        let Some(&special) = text.as_bytes().get(at) else { break };
        write_char(u32::from(special), output);
        at += 1;
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

/// Reads a string whose opening quote stands before `at` and appends it; the place behind its
/// closing quote.
pub(super) fn rewrite(input: &[u8], mut at: usize, output: &mut Vec<u8>) -> Result<usize, NotJson> {
    output.push(b'"');
    loop {
        at = copy_plain(input, at, output);
        match input.get(at) {
            Some(b'"') => {
                output.push(b'"');
                return Ok(at + 1);
            }
            Some(b'\\') => at = rewrite_escape(input, at, output)?,
            // A control character, which JSON wants escaped, or the end.
            _ => return Err(NotJson),
        }
    }
}

/// Appends bytes until one that is special (see [`specials`]), or the end; where that is.
#[inline(always)]
fn copy_plain(input: &[u8], mut at: usize, output: &mut Vec<u8>) -> usize {
    while let Some(word) = input.get(at..).and_then(<[u8]>::first_chunk::<WORD_BYTES>) {
        output.extend_from_slice(word);
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            let plain = found.trailing_zeros() as usize / 8;
            output.truncate(output.len() - (WORD_BYTES - plain));
            return at + plain;
        }
        at += WORD_BYTES;
    }
    // Less than a word is left: fill it up with a byte that is never special.
    let tail = input.get(at..).unwrap_or_default();
    let mut word = [b' '; WORD_BYTES];
    for (place, byte) in word.iter_mut().zip(tail) {
        *place = *byte;
    }
    let found = specials(u64::from_le_bytes(word)).trailing_zeros() as usize / 8;
    let plain = found.min(tail.len());
    output.extend_from_slice(tail.get(..plain).unwrap_or_default());
    at + plain
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

/// Reads the escape sequence at `at`; the place behind it.
fn rewrite_escape(input: &[u8], at: usize, output: &mut Vec<u8>) -> Result<usize, NotJson> {
    match input.get(at + 1) {
        Some(b'/') => output.push(b'/'),
        Some(&byte @ (b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')) => {
            output.extend_from_slice(&[b'\\', byte]);
        }
        Some(b'u') => return rewrite_unit(input, at + 2, output),
        _ => return Err(NotJson),
    }
    Ok(at + 2)
}

/// Reads the four digits of a UTF-16 unit at `at`, and the second half of a surrogate pair if it
/// follows.
fn rewrite_unit(input: &[u8], at: usize, output: &mut Vec<u8>) -> Result<usize, NotJson> {
    let unit = hex(input.get(at..at + 4)).ok_or(NotJson)?;
    if let 0xd800..0xdc00 = unit
        && input.get(at + 4..at + 6) == Some(b"\\u")
        && let Some(low @ 0xdc00..0xe000) = hex(input.get(at + 6..at + 10))
    {
        write_char(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00), output);
        return Ok(at + 10);
    }
    write_char(unit, output);
    Ok(at + 4)
}

/// Appends a code point as `JSON.stringify` writes it inside a string.
fn write_char(code: u32, output: &mut Vec<u8>) {
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
fn hex(digits: Option<&[u8]>) -> Option<u32> {
    digits?.iter().try_fold(0, |value, &byte| Some(value << 4 | char::from(byte).to_digit(16)?))
}
