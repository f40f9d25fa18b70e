//! Instructions of the hot paths, without sockets, threads, clocks or chance: `callgrind` counts
//! what happens within [`section`], so that a change of a few per cent shows on any machine,
//! however busy. `scripts/count-instructions` runs it and compares with `benches/instructions.txt`.
//!
//! Each section stands for one line on standard output: a name, the units of work that it
//! completes, and what a unit is. Lines of one name are added up.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod measures;
mod world;

/// What is counted: `callgrind` starts here and stops at the end, and writes a file of its own for
/// each call.
#[inline(never)]
fn section(work: &mut dyn FnMut()) {
    work();
}

/// Counts work that completes so many units; 0: it is a part of what another section completes.
fn count<R>(name: &str, units: usize, unit: &str, work: impl FnOnce() -> R) -> R {
    let (mut work, mut result) = (Some(work), None);
    section(&mut || result = work.take().map(|work| work()));
    println!("{name} {units} {unit}");
    result.unwrap()
}

fn main() {
    // `cargo bench` and `cargo test --benches` only see that it runs.
    measures::messages();
    measures::deliveries();
    measures::connections();
    measures::verdicts();
}
