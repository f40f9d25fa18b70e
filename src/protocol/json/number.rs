//! Numbers: RFC 8259 in, ECMA-262 `Number::toString` out, but integers stay exact.

use super::NotJson;

/// How a number is spelled anew.
pub(super) enum Spelling {
    /// As it stands there.
    Same,
    /// Otherwise.
    Other(String),
}

/// Reads the number in front: its length, and its new spelling.
pub(super) fn read(text: &[u8]) -> Result<(usize, Spelling), NotJson> {
    let (length, integer) = measure(text)?;
    let number = text.get(..length).unwrap_or_default();
    let spelling = match integer {
        true if number == b"-0" => Spelling::Other("0".to_owned()),
        true => Spelling::Same,
        false => spell_double(number)?,
    };
    Ok((length, spelling))
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
fn spell_double(number: &[u8]) -> Result<Spelling, NotJson> {
    let text = std::str::from_utf8(number).map_err(|_| NotJson)?;
    let double: f64 = text.parse().map_err(|_| NotJson)?;
    if !double.is_finite() {
        return Ok(Spelling::Other("null".to_owned()));
    }
    let mut buffer = ryu_js::Buffer::new();
    // Adding zero turns a negative zero into the other one, which JavaScript prints for both.
    let spelled = buffer.format_finite(double + 0.0);
    Ok(if spelled == text { Spelling::Same } else { Spelling::Other(spelled.to_owned()) })
}
