//! Prometheus text format 0.0.4: families of samples.

use std::fmt::Write;

use super::latency::Latency;

/// Upper bounds of the buckets of every histogram, in microseconds and as Prometheus is told
/// (seconds).
const BUCKETS: [(u64, &str); 18] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
];

/// Name and value of a label.
pub(super) type Label<'a> = (&'static str, &'a str);

/// The page as it grows.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Begins a family that may fall.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    /// Begins a family that only rises.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    /// Begins a family of histograms.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "histogram")
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> Family<'_> {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.text, name }
    }
}

/// The samples of one name.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// A sample without labels.
    pub(super) fn value(self, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{} {value}", self.name);
    }

    /// A sample with labels.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl std::fmt::Display) {
        self.suffixed("", labels, value);
    }

    /// A histogram in fixed buckets, with labels.
    pub(super) fn latency(&mut self, labels: &[Label<'_>], latency: &Latency) {
        for (micros, bound) in BUCKETS {
            let labels = [labels, &[("le", bound)]].concat();
            self.suffixed("_bucket", &labels, latency.count_within(micros));
        }
        let all = [labels, &[("le", "+Inf")]].concat();
        self.suffixed("_bucket", &all, latency.count());
        self.suffixed("_sum", labels, latency.sum_secs());
        self.suffixed("_count", labels, latency.count());
    }

    fn suffixed(&mut self, suffix: &str, labels: &[Label<'_>], value: impl std::fmt::Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"");
            self.escaped(value);
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}
