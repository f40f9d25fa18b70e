//! Names of hashtags as Redis channels spell them.

/// The spelling of `tag` in its channel (streaming-api.md, "SSE paths", `TAG`). May be empty.
pub fn normalise(tag: &str) -> String {
    let _ = tag;
    unimplemented!()
}
