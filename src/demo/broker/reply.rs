//! Replies in RESP2, appended to a buffer.

/// `+TEXT`
pub(super) fn simple(output: &mut Vec<u8>, text: &str) {
    line(output, '+', text);
}

/// `-TEXT`: begins with a code such as `ERR`.
pub(super) fn error(output: &mut Vec<u8>, text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line(output, '-', &text);
}

/// `:NUMBER`
pub(super) fn integer(output: &mut Vec<u8>, number: i64) {
    line(output, ':', &number.to_string());
}

/// A count as an integer.
pub(super) fn count(output: &mut Vec<u8>, count: usize) {
    integer(output, i64::try_from(count).unwrap_or(i64::MAX));
}

/// A string of any bytes.
pub(super) fn bulk(output: &mut Vec<u8>, bytes: &[u8]) {
    line(output, '$', &bytes.len().to_string());
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

/// No string.
pub(super) fn null(output: &mut Vec<u8>) {
    line(output, '$', "-1");
}

/// The head of an array; its `length` elements follow.
pub(super) fn array(output: &mut Vec<u8>, length: usize) {
    line(output, '*', &length.to_string());
}

fn line(output: &mut Vec<u8>, kind: char, text: &str) {
    output.push(u8::try_from(kind).unwrap_or(b'-'));
    output.extend_from_slice(text.as_bytes());
    output.extend_from_slice(b"\r\n");
}
