//! The id that ties an answer to a log line.

use std::fmt;

/// What `X-Request-Id` carries: prints as a version 4 UUID (RFC 9562 section 5.4) whatever the
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Takes sixteen random bytes and sets the version and variant bits.
    pub fn new(mut random: [u8; 16]) -> Self {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        Self(random)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_print_as_a_version_4_uuid() {
        assert_eq!(RequestId::new([0; 16]).to_string(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(RequestId::new([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
