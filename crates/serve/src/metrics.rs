//! Prometheus text from plain values.
//!
//! A metric is a name, a help text, a kind, labels and a value. [`render`] brings the samples of one name together, as
//! the format demands, in the order in which names first appear.
//! Labels must be bounded: never keys of rows, users or SQL.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a metric's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One sample of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `tidemill_…`, with its unit: `_seconds`, `_bytes`, `_total`.
    pub name: String,
    /// One sentence.
    pub help: String,
    /// Same for all samples of the name.
    pub kind: Kind,
    /// Name and value of each label.
    pub labels: Vec<(String, String)>,
    /// The sample.
    pub value: Value,
}

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A count, exact.
    Integer(u64),
    /// A measure.
    Number(f64),
    /// Counts by size.
    Histogram(Histogram),
}

/// Counts by size: `counts[i]` are those above `bounds[i - 1]` and up to `bounds[i]`; the last count has no bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending, in the unit of the name.
    pub bounds: Vec<f64>,
    /// One more than bounds, each alone (not cumulative).
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: f64,
}

/// The text that a Prometheus server reads.
pub fn render(metrics: &[Metric]) -> String {
    let mut out = String::new();
    let mut done: Vec<&str> = Vec::new();
    for first in metrics {
        if done.contains(&first.name.as_str()) {
            continue;
        }
        done.push(&first.name);
        head(&mut out, first);
        for metric in metrics.iter().filter(|m| m.name == first.name) {
            sample(&mut out, metric);
        }
    }
    out
}

fn head(out: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {} {help}\n# TYPE {} {kind}", metric.name, metric.name);
}

fn sample(out: &mut String, metric: &Metric) {
    match &metric.value {
        Value::Integer(count) => {
            let _ = writeln!(out, "{}{} {count}", metric.name, labels(&metric.labels, None));
        }
        Value::Number(number) => {
            let _ = writeln!(out, "{}{} {}", metric.name, labels(&metric.labels, None), decimal(*number));
        }
        Value::Histogram(histogram) => buckets(out, metric, histogram),
    }
}

fn buckets(out: &mut String, metric: &Metric, histogram: &Histogram) {
    let mut total: u64 = 0;
    for (i, count) in histogram.counts.iter().enumerate() {
        total = total.saturating_add(*count);
        let bound = histogram.bounds.get(i).map_or("+Inf".to_owned(), |bound| decimal(*bound));
        let _ = writeln!(out, "{}_bucket{} {total}", metric.name, labels(&metric.labels, Some(&bound)));
    }
    let plain = labels(&metric.labels, None);
    let _ = writeln!(out, "{}_sum{plain} {}", metric.name, decimal(histogram.sum));
    let _ = writeln!(out, "{}_count{plain} {total}", metric.name);
}

fn labels(labels: &[(String, String)], bound: Option<&str>) -> String {
    let mut inner: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    inner.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if inner.is_empty() { String::new() } else { format!("{{{}}}", inner.join(",")) }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn decimal(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        number.to_string()
    }
}

/// Bounds of durations in seconds: from half a millisecond to a minute.
pub const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// A histogram of durations that many tasks write at once.
#[derive(Debug, Default)]
pub struct Recorder {
    counts: [AtomicU64; SECONDS.len() + 1],
    /// Microseconds, so that adding stays exact.
    sum_us: AtomicU64,
}

impl Recorder {
    /// Adds a duration in seconds; negative ones count as zero.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates when it becomes an integer"
    )]
    pub fn record(&self, seconds: f64) {
        let bucket = SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(SECONDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
    }

    /// What was recorded so far.
    #[allow(clippy::cast_precision_loss, reason = "a sum of microseconds is exact for 285 years")]
    pub fn read(&self) -> Histogram {
        Histogram {
            bounds: SECONDS.to_vec(),
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}
