//! A reader of event streams as the standards have it (WHATWG HTML section 9.2.6, RFC 9112 section
//! 7.1), which insists on more: on what this server promises never to send.

/// An event: its name and its data.
pub type Event = (String, String);

/// Reads a whole body in HTTP's chunked coding.
pub fn read(chunks: &[u8]) -> Result<Vec<Event>, String> {
    let body = String::from_utf8(dechunked(chunks)?).map_err(|error| error.to_string())?;
    if body.contains('\r') {
        return Err("a CR, which readers take for the end of a line".to_string());
    }
    let lines = body.strip_prefix(":)\n").ok_or("no greeting")?;
    let lines = lines.strip_suffix('\n').ok_or("the last line has no end")?;
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), String::new());
    for line in lines.split('\n') {
        match line.split_once(": ") {
            _ if line == ":thump" => {}
            // Dispatched only if there is data, without the last line end.
            None if line.is_empty() => {
                let (name, data) = (std::mem::take(&mut name), std::mem::take(&mut data));
                events.extend(data.strip_suffix('\n').map(|data| (name, data.to_string())));
            }
            Some(("event", value)) => name = value.to_string(),
            Some(("data", value)) => data.extend([value, "\n"]),
            _ => return Err(format!("a line that real clients choke on: {line:?}")),
        }
    }
    match name.is_empty() && data.is_empty() {
        true => Ok(events),
        false => Err(format!("half an event: {name:?}, {data:?}")),
    }
}

fn dechunked(mut chunks: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let end = chunks.iter().position(|byte| *byte == b'\r').ok_or("half a chunk")?;
        let digits = std::str::from_utf8(&chunks[..end]).unwrap_or_default();
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
        let size = size.ok_or(format!("no size of a chunk: {digits:?}"))?;
        let rest = chunks[end..].strip_prefix(b"\r\n").ok_or("a bare CR")?;
        let (chunk, rest) = rest.split_at_checked(size).ok_or("half a chunk")?;
        body.extend_from_slice(chunk);
        chunks = rest.strip_prefix(b"\r\n").ok_or("no end of a chunk")?;
        if size == 0 {
            let behind = chunks.escape_ascii();
            let nothing = chunks.is_empty();
            return nothing.then_some(body).ok_or(format!("behind the last chunk: {behind}"));
        }
    }
}
