//! Numbers: RFC 8259 in, ECMA-262 `Number::toString` out, but integers stay exact.

use super::NotJson;

/// Reads the number at `at` and appends its new spelling; the place behind it.
pub(super) fn rewrite(input: &[u8], at: usize, output: &mut Vec<u8>) -> Result<usize, NotJson> {
    let number = input.get(at..).unwrap_or_default();
    let (length, integer) = measure(number)?;
    let number = number.get(..length).unwrap_or_default();
    if integer {
        output.extend_from_slice(if number == b"-0" { b"0" } else { number });
    } else {
        write_double(number, output)?;
    }
    Ok(at + length)
}

/// The length of the number in front, and whether it has neither fraction nor exponent.
fn measure(number: &[u8]) -> Result<(usize, bool), NotJson> {
    let mut at = usize::from(number.first() == Some(&b'-'));
    let whole = digits(number, at);
    if whole == 0 || (whole > 1 && number.get(at) == Some(&b'0')) {
        return Err(NotJson);
    }
    at += whole;
    let mut integer = true;
    if number.get(at) == Some(&b'.') {
        integer = false;
        at = at_least_one_digit(number, at + 1)?;
    }
    if let Some(b'e' | b'E') = number.get(at) {
        integer = false;
        at += 1;
        at += usize::from(matches!(number.get(at), Some(b'+' | b'-')));
        at = at_least_one_digit(number, at)?;
    }
    Ok((at, integer))
}

fn at_least_one_digit(number: &[u8], at: usize) -> Result<usize, NotJson> {
    match digits(number, at) {
        0 => Err(NotJson),
        count => Ok(at + count),
    }
}

fn digits(number: &[u8], at: usize) -> usize {
    number.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// What does not fit a double is infinite, and `JSON.stringify` writes that as `null`.
fn write_double(number: &[u8], output: &mut Vec<u8>) -> Result<(), NotJson> {
    let text = std::str::from_utf8(number).map_err(|_| NotJson)?;
    let double: f64 = text.parse().map_err(|_| NotJson)?;
    if double.is_finite() {
        // Adding zero turns a negative zero into the other one, which JavaScript prints for both.
        output.extend_from_slice(ryu_js::Buffer::new().format_finite(double + 0.0).as_bytes());
    } else {
        output.extend_from_slice(b"null");
    }
    Ok(())
}
