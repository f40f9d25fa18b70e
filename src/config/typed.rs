//! Small parsers of single values. Their errors say what is wanted; the caller adds name and value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// A whole number in a range.
pub(super) fn number<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    number
        .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

/// Seconds, with a fraction if need be.
pub(super) fn seconds(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse().ok().filter(|_| plain);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.filter(|duration| range.contains(duration)).ok_or_else(|| {
        let (least, most) = (show_seconds(range.start()), show_seconds(range.end()));
        format!("must be a number of seconds from {least} to {most}")
    })
}

/// Seconds as [`seconds`] reads them.
pub(super) fn show_seconds(duration: &Duration) -> String {
    duration.as_secs_f64().to_string()
}

/// A port that something listens on.
pub(super) fn port(text: &str) -> Result<u16, String> {
    number(text, &(1..=u16::MAX))
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", known.join(", "))
    })
}

/// The first word that means a value.
pub(super) fn show_word<T: Copy + PartialEq>(value: T, words: &[(&'static str, T)]) -> String {
    let found = words.iter().find(|(_, known)| *known == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

/// A host name or address without the square brackets of an IPv6 address.
pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

/// A host name or address, with or without brackets. Whoever puts a URL here is told so.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    let host = without_brackets(text);
    let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | ',');
    if host.is_empty() || host.contains(wrong) {
        return Err("must be a host name or an address");
    }
    Ok(host.to_owned())
}
