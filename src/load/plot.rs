//! Pictures of runs, as SVG without any script: an HDR plot (latency over percentiles that come
//! ever closer to 100 %), and values over connections with their line.

use std::fmt::Write;

use serde_json::Value;

use super::measure::Line;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Colours that differ for eyes of every kind (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Points under a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// The latencies in JSON reports, as percentiles and milliseconds.
pub fn latencies(reports: &[Value]) -> Vec<Series> {
    let mut all = Vec::new();
    for report in reports {
        let run = report["name"].as_str().unwrap_or("run");
        for latency in report["latencies"].as_array().into_iter().flatten() {
            let point =
                |point: &Value| Some((point.get(0)?.as_f64()?, point.get(1)?.as_f64()? / 1e6));
            let points = latency["percentiles_nanos"].as_array().into_iter().flatten();
            let title = latency["title"].as_str().unwrap_or("");
            let name = if run == title { run.to_owned() } else { format!("{run}: {title}") };
            all.push(Series { name, points: points.filter_map(point).collect() });
        }
    }
    all.retain(|series| !series.points.is_empty());
    all
}

/// An HDR plot: both axes are logarithmic, the horizontal one in what is left to 100 %.
pub fn percentiles(title: &str, series: &[Series]) -> String {
    let values = || series.iter().flat_map(|series| &series.points);
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).max(1e-9).log10();
    let most_nines = values().map(|point| nines(point.0)).fold(1.0, f64::max).ceil();
    let low = values().map(|point| point.1.max(1e-3)).fold(f64::MAX, f64::min).log10().floor();
    let high = values().map(|point| point.1.max(1e-3)).fold(1e-3, f64::max).log10().ceil();
    let high = high.max(low + 1.0);
    let low = low.min(high - 1.0);
    let mut picture = Picture::new(title, "percentile", "milliseconds");
    for nine in 0..=most_nines as i32 {
        let percent = 100.0 * (1.0 - 10_f64.powi(-nine));
        let decimals = (nine - 2).max(0) as usize;
        picture.x_tick(f64::from(nine) / most_nines, &format!("{percent:.decimals$}"));
    }
    for power in low as i32..=high as i32 {
        let value = 10_f64.powi(power);
        picture.y_tick((f64::from(power) - low) / (high - low), &value.to_string());
    }
    for series in series {
        let points = series.points.iter().map(|(percentile, millis)| {
            let y = (millis.max(1e-3).log10() - low) / (high - low);
            (nines(*percentile) / most_nines, y)
        });
        picture.line(&series.name, points.collect());
    }
    picture.finish()
}

/// Values over connections, with the line through them.
pub fn slope(title: &str, unit: &str, points: &[(f64, f64)]) -> String {
    let right = nice(points.iter().map(|point| point.0).fold(1.0, f64::max));
    let top = nice(points.iter().map(|point| point.1).fold(1.0, f64::max));
    let mut picture = Picture::new(title, "connections", unit);
    for part in 0..=5 {
        let part = f64::from(part) / 5.0;
        picture.x_tick(part, &format!("{:.0}", part * right));
        picture.y_tick(part, &short(part * top));
    }
    if let Some(line) = Line::through(points) {
        let at = |x: f64| (x / right, (line.offset + line.slope * x) / top);
        let name = format!("{:.3} {unit} each, R² {:.4}", line.slope, line.r_squared);
        picture.line(&name, vec![at(0.0), at(right)]);
    }
    picture.dots(points.iter().map(|(x, y)| (x / right, y / top)));
    picture.finish()
}

/// The next of 1, 2, 5, 10 … above.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps.iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

struct Picture {
    svg: String,
    lines: usize,
}

/// Writing to a String does not fail.
macro_rules! draw {
    ($picture:expr, $($text:tt)+) => { let _ = write!($picture.svg, $($text)+); };
}

impl Picture {
    fn new(title: &str, x: &str, y: &str) -> Picture {
        let mut picture = Picture { svg: String::new(), lines: 0 };
        draw!(
            picture,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"26\" font-size=\"17\">{}</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            escaped(title),
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 14.0,
            escaped(x),
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escaped(y)
        );
        picture
    }

    fn x_tick(&mut self, part: f64, text: &str) {
        let (x, bottom) = (across(part), HEIGHT - BOTTOM);
        draw!(
            self,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>\n",
            bottom + 20.0
        );
    }

    fn y_tick(&mut self, part: f64, text: &str) {
        let (y, right) = (up(part), WIDTH - RIGHT);
        draw!(
            self,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
            LEFT - 8.0,
            y + 4.0
        );
    }

    fn line(&mut self, name: &str, points: Vec<(f64, f64)>) {
        let colour = COLOURS.get(self.lines % COLOURS.len()).copied().unwrap_or("#000");
        let legend = TOP + 18.0 + 18.0 * self.lines as f64;
        self.lines += 1;
        draw!(self, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"");
        for (x, y) in points {
            draw!(self, "{:.1},{:.1} ", across(x), up(y.clamp(0.0, 1.0)));
        }
        draw!(
            self,
            "\"/>\n<text x=\"{}\" y=\"{legend}\" fill=\"{colour}\">{}</text>\n",
            LEFT + 14.0,
            escaped(name)
        );
    }

    fn dots(&mut self, points: impl Iterator<Item = (f64, f64)>) {
        for (x, y) in points {
            draw!(self, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>\n", across(x), up(y));
        }
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

fn across(part: f64) -> f64 {
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

fn up(part: f64) -> f64 {
    HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_run_has_its_line_and_the_axis_ends_behind_the_last_nine() {
        let latency = json!({"title": "a<b", "percentiles_nanos": [[50.0, 1e6], [99.99, 9e6]]});
        let report = json!({"name": "run", "latencies": [latency, {"title": "empty"}]});
        let series = latencies(&[report.clone(), report]);
        assert_eq!(series.len(), 2);
        assert_eq!(series[0].points, [(50.0, 1.0), (99.99, 9.0)]);
        let svg = percentiles("A & B", &series);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("A &amp; B") && svg.contains("a&lt;b") && svg.contains(">99.99<"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(!percentiles("nothing", &[]).contains("NaN"));
    }

    #[test]
    fn a_slope_shows_its_points_and_its_figures() {
        let svg = slope("memory", "bytes", &[(2000.0, 2e6), (6000.0, 4e6), (10_000.0, 6e6)]);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("500.000 bytes each, R² 1.0000"));
        assert_eq!((nice(1.0), nice(1.1), nice(18_000.0)), (1.0, 2.0, 20_000.0));
    }
}
