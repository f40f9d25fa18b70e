//! The query string, read as Node's `url.parse(…, true)` reads it, so that clients need not change.

use std::borrow::Cow;

/// A raw query string (without the `?`) and the look-ups in it. Nothing is decoded before it is
/// asked for.
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
        self.raw.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// Whether a flag is set: present and not one of the spellings of "no" that the Node server
    /// knows.
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
    while let [byte, tail @ ..] = rest {
        let (byte, tail) = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            (b'+', _) => (b' ', tail),
            _ => (*byte, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(raw: &str, name: &str) -> Option<String> {
        Query::new(raw).first(name).map(Cow::into_owned)
    }

    #[test]
    fn values_are_decoded_as_node_decodes_them() {
        for (raw, value) in [
            ("tag=caf%C3%A9", "café"),
            ("tag=a+b%20c%2B", "a b c+"),
            ("tag=100%", "100%"),
            ("tag=%zz%4", "%zz%4"),
            ("tag=%4z%z4%%41", "%4z%z4%A"),
            ("tag=%E9", "\u{fffd}"),
            ("tag=%c3%A9%ff", "é\u{fffd}"),
            ("tag=a=b", "a=b"),
            ("tag", ""),
            ("&&x=1&tag=y&", "y"),
            ("t%61g=z", "z"),
            ("tag=Müller", "Müller"),
            ("tag=a%00b", "a\0b"),
        ] {
            assert_eq!(first(raw, "tag").as_deref(), Some(value), "{raw}");
        }
    }

    #[test]
    fn the_first_value_counts_and_all_can_be_seen() {
        assert_eq!(first("stream=nope&stream=user", "stream").as_deref(), Some("nope"));
        assert_eq!(Query::new("a=1&b=2&a=&a").all("a").collect::<Vec<_>>(), ["1", "", ""]);
        assert_eq!(first("access_token[]=x&TAG=y", "access_token"), None);
        assert_eq!(first("access_token[]=x&TAG=y", "tag"), None);
    }

    #[test]
    fn a_flag_is_set_unless_it_says_no() {
        for value in ["", "0", "f", "F", "false", "FALSE", "off", "OFF"] {
            assert!(!Query::new(&format!("only_media={value}")).flag("only_media"), "{value}");
        }
        for value in ["1", "true", "t", "False", "Off", "no", "%30x", "+"] {
            assert!(Query::new(&format!("only_media={value}")).flag("only_media"), "{value}");
        }
        assert!(!Query::new("").flag("only_media"));
        assert!(!Query::new("only_media").flag("only_media"));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(value in "\\PC{0,20}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(first(&format!("a=1&tag={encoded}"), "tag"), Some(value));
        }
    }
}
