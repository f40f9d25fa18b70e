//! A case: bytes, and the answers to them.

/// Sent behind every case. It asks for the end, so that every connection has one.
pub const PROBE: &[u8] =
    b"GET /api/v1/streaming/health?probe HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";

/// The path that is always answered 200.
pub const HEALTH: &str = "/api/v1/streaming/health";

/// Cases up to this many bytes are cut at every byte.
const BYTES_CUT_EVERYWHERE: usize = 1024;

/// Bytes that a client may send, and what they come to.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it tries.
    pub name: String,
    /// The rule that decides, or the capture that shows it.
    pub rule: &'static str,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// The answers: `200 | 400 close`.
    pub answers: &'static str,
    /// What Node's parser reads.
    pub node: Node,
}

/// How Node's parser reads the bytes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// As many requests as this server.
    Same,
    /// More requests, and why this server reads fewer.
    ReadsMore(&'static str),
    /// More requests before version 20, when its parser became stricter.
    OldReadsMore,
}

impl Case {
    /// The answers when [`PROBE`] stands behind the case: it is answered only where the connection
    /// stays open.
    pub fn expected_with_probe(&self) -> String {
        match self.answers.ends_with("close") {
            true => self.answers.to_string(),
            false => format!("{} | 200 close", self.answers),
        }
    }

    /// Is the first request a `HEAD`?
    pub fn is_head(&self) -> bool {
        self.bytes.starts_with(b"HEAD ")
    }

    /// Where to cut the bytes with the probe behind them.
    pub fn cuts(&self) -> Vec<usize> {
        let length = self.bytes.len();
        if length <= BYTES_CUT_EVERYWHERE {
            return (1..=length + 1).collect();
        }
        let ends = (1..64).chain(length - 64..=length + 1);
        ends.chain((64..length - 64).step_by(1021)).collect()
    }

    /// Says why Node's parser reads more requests in these bytes.
    pub fn node_reads_more(mut self, why: &'static str) -> Case {
        self.node = Node::ReadsMore(why);
        self
    }
}

/// A case of these bytes.
pub fn raw(
    name: impl Into<String>,
    rule: &'static str,
    bytes: impl Into<Vec<u8>>,
    answers: &'static str,
) -> Case {
    let bytes = bytes.into();
    Case { name: name.into(), rule, bytes, answers, node: Node::Same }
}

/// A request for the health check with these header lines, each with its line end, and what stands
/// behind the head.
pub fn lines(name: &str, rule: &'static str, lines: &str, answers: &'static str) -> Case {
    let bytes = format!("GET {HEALTH} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    raw(name, rule, bytes, answers)
}

/// A request with this request line and a host.
pub fn request_line(name: &str, rule: &'static str, line: &str, answers: &'static str) -> Case {
    raw(name, rule, format!("{line}\r\nHost: x\r\n\r\n"), answers)
}
