//! The fuzz targets (promise R4): what comes from outside, and what must hold whatever it is.
//!
//! A target takes any bytes and panics if a promise is broken. Two programs use them:
//! `tests/fuzz_regressions.rs` replays every file of `tests/fuzz/corpus/` and tries variations of
//! them, on the stable toolchain; `scripts/fuzz` has libFuzzer search, guided by coverage.
//!
//! Where the bytes are cut, and whatever else is a matter of chance, follows from the bytes
//! themselves ([`cuts`]): a file alone replays what it found.

mod cuts;
mod event;
mod event_stream;
mod json_model;
// What a client of the simulation understands, and its wire: not all of it is of use here.
#[allow(dead_code)]
#[path = "../../simulation/parser.rs"]
mod parser;
mod postgres;
mod request_head;
mod resp;
mod shard;
mod websocket;
#[allow(dead_code)]
#[path = "../../simulation/wire.rs"]
mod wire;

/// Something that reads what others wrote.
pub struct Target {
    /// Of the target, its corpus and its dictionary.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub check: fn(&[u8]),
    /// Longer inputs reach nothing that shorter ones do not.
    pub input_bytes_max: usize,
    /// Variations that each run of the tests tries: a second or two.
    pub variations: u64,
}

/// All targets.
pub const EACH: [Target; 7] = [
    Target {
        name: "request_head",
        check: request_head::check,
        input_bytes_max: 800,
        variations: 8000,
    },
    Target { name: "websocket", check: websocket::check, input_bytes_max: 800, variations: 8000 },
    Target {
        name: "event_stream",
        check: event_stream::check,
        input_bytes_max: 1000,
        variations: 8000,
    },
    Target { name: "resp", check: resp::check, input_bytes_max: 800, variations: 8000 },
    Target { name: "event", check: event::check, input_bytes_max: 4000, variations: 8000 },
    Target { name: "postgres", check: postgres::check, input_bytes_max: 2000, variations: 4000 },
    Target { name: "shard", check: shard::check, input_bytes_max: 3000, variations: 400 },
];
