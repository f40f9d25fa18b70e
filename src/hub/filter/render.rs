//! The `filtered` array as JSON text.

use std::io::Write;

use crate::hub::question::CustomFilter;
use crate::protocol::json;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// The array of these entries: each the head of a filter (see [`head`]) and a match as JSON string.
pub(super) fn filtered<'entry>(
    entries: impl Iterator<Item = (&'entry [u8], &'entry [u8])>,
) -> Vec<u8> {
    let mut output = Vec::with_capacity(256);
    for (head, json) in entries {
        output.push(if output.is_empty() { b'[' } else { b',' });
        output.extend_from_slice(head);
        output.extend_from_slice(json);
        output.extend_from_slice(b"],\"status_matches\":null}");
    }
    output.push(b']');
    output
}

/// What does not depend on the match: `{"filter":{…},"keyword_matches":[`.
pub(super) fn head(filter: &CustomFilter) -> Vec<u8> {
    let mut output = Vec::with_capacity(128);
    // Writing to a `Vec` does not fail.
    let _ = write!(output, "{{\"filter\":{{\"id\":\"{}\",\"title\":", filter.id);
    json::write_string(&filter.title, &mut output);
    output.extend_from_slice(b",\"context\":[");
    for (place, context) in filter.context.iter().enumerate() {
        if place > 0 {
            output.push(b',');
        }
        json::write_string(context, &mut output);
    }
    output.extend_from_slice(b"],\"expires_at\":");
    match filter.expires_at_unix_millis {
        Some(millis) => write_date(millis, &mut output),
        None => output.extend_from_slice(b"null"),
    }
    let action = action(filter.action);
    let _ = write!(output, ",\"filter_action\":\"{action}\"}},\"keyword_matches\":[");
    output
}

/// A text as JSON string.
pub(super) fn string(text: &str) -> Vec<u8> {
    let mut output = Vec::with_capacity(text.len() + 2);
    json::write_string(text, &mut output);
    output
}

/// The names of Mastodon's REST API. A number that nobody knows yet warns, which clients
/// understand.
fn action(number: i32) -> &'static str {
    match number {
        1 => "hide",
        2 => "blur",
        _ => "warn",
    }
}

/// A date as `Date.prototype.toJSON` writes it (ECMA-262, 21.4.4.37).
fn write_date(unix_millis: i64, output: &mut Vec<u8>) {
    let (year, month, day) = civil_date(unix_millis.div_euclid(DAY_MILLIS));
    let millis = unix_millis.rem_euclid(DAY_MILLIS);
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, millis) = (millis / 1000 % 60, millis % 1000);
    let _ = match year {
        0..=9999 => write!(output, "\"{year:04}"),
        _ => write!(output, "\"{year:+07}"),
    };
    let _ =
        write!(output, "-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z\"");
}

/// The Gregorian year, month and day of a day since 1970-01-01. Counts in years that begin in
/// March, so that the leap day comes last, and in eras of 400 years = 146,097 days.
fn civil_date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_look_as_javascript_writes_them() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (4_071_006_245_678, "2099-01-02T03:04:05.678Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
            (-62_198_755_200_000, "-000001-01-01T00:00:00.000Z"),
        ] {
            let mut output = Vec::new();
            write_date(millis, &mut output);
            assert_eq!(String::from_utf8(output).unwrap(), format!("\"{expected}\""));
        }
        write_date(i64::MIN, &mut Vec::new());
        write_date(i64::MAX, &mut Vec::new());
    }
}
