//! The query string, read as Node's `url.parse(…, true)` reads it, so that clients need not change.

use std::borrow::Cow;

/// A raw query string (without the `?`) and the look-ups in it. Nothing is decoded before it is asked for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    raw: &'a str,
}

impl<'a> Query<'a> {
    /// Takes the raw text between `?` and the end of the target.
    pub fn new(raw: &'a str) -> Self {
        Self { raw }
    }

    /// The first value of a name, decoded; a name without `=` has an empty value.
    pub fn first(&self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).next()
    }

    /// Every value of a name, decoded, in the order given. `name[]` is another name.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = Cow<'a, str>> + use<'a, 'n> {
        self.raw.split('&').filter(|pair| !pair.is_empty()).filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// Whether a flag is set: present and not one of the spellings of "no" (streaming-api.md, SSE paths).
    pub fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| {
            !matches!(&*value, "" | "0" | "f" | "F" | "false" | "FALSE" | "off" | "OFF")
        })
    }
}

/// Undoes percent-encoding and `+`; a malformed `%` stays, bytes that are no UTF-8 become U+FFFD.
fn decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                let digits = [hex(*high), hex(*low)].map(Option::unwrap_or_default);
                decoded.push(digits[0] << 4 | digits[1]);
                tail
            }
            [b'+', tail @ ..] => {
                decoded.push(b' ');
                tail
            }
            [byte, tail @ ..] => {
                decoded.push(*byte);
                tail
            }
        };
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
