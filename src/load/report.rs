//! What a run has found: for people and for programs.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::measure::Line;

/// The percentiles in every table.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// A run's findings, in the order in which they are told.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// What the run is called.
    pub name: String,
    /// What was asked for.
    pub settings: Vec<(String, String)>,
    /// Deliveries that were looked at: without any, there is nothing to say of them.
    pub deliveries: u64,
    /// What was found.
    pub figures: Vec<Figure>,
    /// Latencies: what was measured, in nanoseconds.
    pub latencies: Vec<(String, Histogram<u64>)>,
    /// Points that should lie on a line: title, unit of y, connections and values.
    pub slopes: Vec<Slope>,
    /// What went wrong.
    pub problems: Vec<String>,
    /// Why some figures say nothing about the server.
    pub no_verdict: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// For programs: words joined by `_`, the unit last.
    pub key: String,
    /// The number.
    pub value: f64,
    /// For people.
    pub text: String,
}

/// Values measured at different numbers of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Slope {
    /// For programs, the unit last.
    pub key: String,
    /// For people.
    pub title: String,
    /// The unit of the values.
    pub unit: String,
    /// Number of connections, value.
    pub points: Vec<(f64, f64)>,
}

impl Report {
    /// Adds a figure; `text` says what it is.
    pub fn figure(&mut self, key: &str, value: f64, text: &str) {
        self.figures.push(Figure { key: key.to_owned(), value, text: text.to_owned() });
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("\n== {} ({})\n", self.name, self.scenario);
        // Writing to a String does not fail.
        let _ = writeln!(out, "{}", self.settings_line());
        for figure in &self.figures {
            let _ = writeln!(out, "  {:<58} {:>14}", figure.text, rounded(figure.value));
        }
        for slope in &self.slopes {
            let _ = writeln!(out, "  {}:", slope.title);
            for (count, value) in &slope.points {
                let _ = writeln!(out, "    {count:>8} {:>16} {}", rounded(*value), slope.unit);
            }
            if let Some(line) = Line::through(&slope.points) {
                let _ = writeln!(
                    out,
                    "    slope {} {} each, R² {:.4}, at 0: {}",
                    rounded(line.slope),
                    slope.unit,
                    line.r_squared,
                    rounded(line.offset)
                );
            }
        }
        if !self.latencies.is_empty() {
            let _ = writeln!(
                out,
                "  {:<32}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
                "milliseconds", "p50", "p90", "p99", "p99.9", "p99.99", "max"
            );
        }
        for (title, histogram) in &self.latencies {
            let _ = write!(out, "  {title:<32}");
            for percentile in PERCENTILES {
                let nanos = histogram.value_at_percentile(percentile);
                let _ = write!(out, "{:>10.3}", nanos as f64 / 1e6);
            }
            let _ = writeln!(out);
        }
        for reason in &self.no_verdict {
            let _ = writeln!(out, "  NO VERDICT: {reason}");
        }
        for problem in &self.problems {
            let _ = writeln!(out, "  WRONG: {problem}");
        }
        if self.problems.is_empty() {
            let words = match self.deliveries {
                0 => "nothing was delivered, and nothing went wrong",
                _ => "every delivery once, in order and intact",
            };
            let _ = writeln!(out, "  {words}");
        }
        out
    }

    fn settings_line(&self) -> String {
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        settings.join(", ")
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| (figure.key.clone(), figure.value.into()));
        let settings = self.settings.iter().map(|(key, text)| (key.clone(), text.clone().into()));
        let latencies = self.latencies.iter().map(|(title, histogram)| {
            let points = curve(histogram);
            let points: Vec<Value> =
                points.iter().map(|(percentile, nanos)| json!([percentile, nanos])).collect();
            json!({
                "title": title,
                "count": histogram.len(),
                "mean_nanos": histogram.mean(),
                "p50_nanos": histogram.value_at_percentile(50.0),
                "p99_nanos": histogram.value_at_percentile(99.0),
                "max_nanos": histogram.max(),
                "percentiles_nanos": points,
            })
        });
        let slopes = self.slopes.iter().map(|slope| {
            let line = Line::through(&slope.points);
            json!({
                "key": slope.key,
                "title": slope.title,
                "unit": slope.unit,
                "points": slope.points,
                "slope": line.map(|line| line.slope),
                "offset": line.map(|line| line.offset),
                "r_squared": line.map(|line| line.r_squared),
            })
        });
        json!({
            "scenario": self.scenario,
            "name": self.name,
            "settings": Value::Object(settings.collect()),
            "figures": Value::Object(figures.collect()),
            "latencies": latencies.collect::<Vec<Value>>(),
            "slopes": slopes.collect::<Vec<Value>>(),
            "deliveries": self.deliveries,
            "problems": self.problems,
            "no_verdict": self.no_verdict,
        })
    }
}

/// Percentiles and nanoseconds, ever closer to 100: what an HDR plot shows.
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let mut points: Vec<(f64, u64)> = histogram
        .iter_quantiles(5)
        .map(|step| (step.quantile_iterated_to() * 100.0, step.value_iterated_to()))
        .filter(|(percentile, _)| *percentile < 100.0)
        .collect();
    // Where a curve that never reaches 100 % ends: at what one of all readings is worth.
    let last = 100.0 * (1.0 - 1.0 / (histogram.len() as f64 + 1.0));
    points.push((last, histogram.max()));
    points
}

/// As many digits as mean something.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => grouped(value),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::histogram;

    #[test]
    fn a_report_says_the_same_to_people_and_programs() {
        let mut report = Report { name: "a".to_owned(), ..Report::default() };
        report.figure("cpu_per_delivery_micros", 9.5, "µs of server CPU per delivery");
        let points = vec![(1.0, 10.0), (2.0, 20.0)];
        let (key, title) = ("rss_bytes".to_owned(), "memory".to_owned());
        report.slopes.push(Slope { key, title, unit: "bytes".to_owned(), points });
        let mut latency = histogram();
        (1..=1000).for_each(|millis| latency.saturating_record(millis * 1_000_000));
        report.latencies.push(("delivery".to_owned(), latency));
        let text = report.text();
        assert!(text.contains("9.50") && text.contains("R² 1.0000") && text.contains("990."));
        assert!(text.ends_with("  nothing was delivered, and nothing went wrong\n"), "{text}");
        report.deliveries = 1;
        assert!(report.text().ends_with("  every delivery once, in order and intact\n"));
        let json = report.json();
        assert_eq!(
            json["latencies"][0]["p50_nanos"].as_u64().map(|nanos| nanos / 5_000_000),
            Some(100)
        );
        assert_eq!(json["figures"]["cpu_per_delivery_micros"], 9.5);
        assert_eq!(json["slopes"][0]["slope"], 10.0);
        let points = json["latencies"][0]["percentiles_nanos"].as_array().unwrap();
        assert!(points.len() > 10);
        assert!(points.iter().all(|point| point[0].as_f64().unwrap() < 100.0));
        assert_eq!((rounded(1_234_567.0), rounded(-1000.0)), ("1,234,567".into(), "-1,000".into()));
    }
}
