//! Requests as clients of Redis write them: an array of bulk strings, or a line of words as a
//! person types it into a terminal. No nesting, so a narrower grammar than that of replies.

/// Most words in one request: the server subscribes to some hundred channels at a time.
const WORDS_MAX: usize = 4096;

/// Longest word in bytes; a status is 2 to 6 KB.
const WORD_BYTES_MAX: usize = 1024 * 1024;

/// Longest header line or typed line in bytes, as in Redis.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The bytes are no request; the connection is closed, as Redis does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Something read and the bytes behind it; `None` if it is not complete yet.
type Read<'a, T> = Result<Option<(T, &'a [u8])>, Malformed>;

/// The words of the first request in `input` and its length in bytes; `None` if it is not complete
/// yet.
pub(super) fn parse(input: &[u8]) -> Read<'_, Vec<&[u8]>> {
    let Some((line, rest)) = line(input)? else { return Ok(None) };
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Some((words.take(WORDS_MAX).collect(), rest)));
    };
    let count = number(count, WORDS_MAX).ok_or(Malformed("invalid multibulk length"))?;
    let mut words = Vec::with_capacity(count);
    let mut rest = rest;
    for _ in 0..count {
        match word(rest)? {
            Some((word, behind)) => {
                words.push(word);
                rest = behind;
            }
            None => return Ok(None),
        }
    }
    Ok(Some((words, rest)))
}

/// `$LENGTH\r\nBYTES\r\n`
fn word(input: &[u8]) -> Read<'_, &[u8]> {
    let Some((header, rest)) = line(input)? else { return Ok(None) };
    let length = header.strip_prefix(b"$").ok_or(Malformed("expected '$'"))?;
    let length = number(length, WORD_BYTES_MAX).ok_or(Malformed("invalid bulk length"))?;
    let Some((word, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    match rest {
        [b'\r', b'\n', behind @ ..] => Ok(Some((word, behind))),
        [] | [b'\r'] => Ok(None),
        _ => Err(Malformed("expected the end of a bulk string")),
    }
}

fn line(input: &[u8]) -> Read<'_, &[u8]> {
    match memchr::memchr(b'\n', input) {
        Some(end) if end <= LINE_BYTES_MAX => {
            let (line, rest) = input.split_at(end);
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default())))
        }
        None if input.len() <= LINE_BYTES_MAX => Ok(None),
        _ => Err(Malformed("too big a line")),
    }
}

fn number(text: &[u8], max: usize) -> Option<usize> {
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number <= max).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn typed_lines_and_arrays_are_the_same_request() {
        let words: Vec<&[u8]> = vec![b"GET", b"key"];
        assert_eq!(parse(b"GET  key\r\nrest"), Ok(Some((words.clone(), b"rest".as_slice()))));
        assert_eq!(
            parse(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\nrest"),
            Ok(Some((words, b"rest".as_slice())))
        );
        assert_eq!(parse(b"\r\n"), Ok(Some((vec![], b"".as_slice()))));
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_kept() {
        for bytes in [
            "*99999999999\r\n",
            "*-1\r\n",
            "*1\r\n$9999999999\r\n",
            "*1\r\n*1\r\n",
            "*1\r\n$1\r\nab\r\n",
        ] {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert!(parse(&[b'a'; LINE_BYTES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn a_request_reads_back_and_waits_at_every_cut(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
            for word in &words {
                bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
            let cut = cut.index(bytes.len());
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None));
            let expected: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(parse(&bytes), Ok(Some((expected, b"".as_slice()))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
