//! How tables and models have been over the last minutes: what `tidemill.history` shows and the page draws.

use std::collections::{BTreeMap, VecDeque};

use plan::TableName;

/// Time between two samples.
pub const SAMPLE_US: i64 = 2_000_000;
/// Samples per node: ten minutes.
const SAMPLES_MAX: usize = 300;

/// A node at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub at_us: i64,
    pub rows: i64,
    /// Changed rows per second since the sample before.
    pub changes_per_second: f64,
    pub lag_seconds: Option<f64>,
}

/// What is sampled of a node.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub rows: i64,
    pub changes_total: u64,
    pub lag_seconds: Option<f64>,
}

/// Samples by node.
#[derive(Debug, Default)]
pub struct History {
    nodes: BTreeMap<TableName, Node>,
    last_us: Option<i64>,
}

#[derive(Debug, Default)]
struct Node {
    samples: VecDeque<Sample>,
    changes_total: u64,
}

impl History {
    /// Whether the next sample is due.
    pub fn is_due(&self, now_us: i64) -> bool {
        self.last_us.is_none_or(|last| now_us >= last + SAMPLE_US || now_us < last)
    }

    /// Takes a sample of every node.
    pub fn take(&mut self, now_us: i64, readings: impl Iterator<Item = (TableName, Reading)>) {
        let seconds = self.last_us.map(|last| (now_us - last).max(1) as f64 / 1e6);
        self.last_us = Some(now_us);
        for (name, reading) in readings {
            let node = self.nodes.entry(name).or_default();
            let changes = reading.changes_total.saturating_sub(node.changes_total);
            let first = node.samples.is_empty();
            node.changes_total = reading.changes_total;
            node.samples.push_back(Sample {
                at_us: now_us,
                rows: reading.rows,
                // What came before the first sample came at no known pace.
                changes_per_second: seconds.filter(|_| !first).map_or(0.0, |seconds| changes as f64 / seconds),
                lag_seconds: reading.lag_seconds,
            });
            if node.samples.len() > SAMPLES_MAX {
                node.samples.pop_front();
            }
        }
    }

    /// All samples, by node, oldest first: a copy, so that the facts can be let go before it is written out.
    pub fn samples(&self) -> Vec<(TableName, Vec<Sample>)> {
        self.nodes.iter().map(|(name, node)| (name.clone(), node.samples.iter().copied().collect())).collect()
    }

    /// The newest pace of a node, in changed rows per second.
    pub fn pace(&self, node: &TableName) -> f64 {
        self.nodes.get(node).and_then(|node| node.samples.back()).map_or(0.0, |sample| sample.changes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(history: &History) -> Vec<Sample> {
        history.samples().into_iter().flat_map(|(_, samples)| samples).collect()
    }

    #[test]
    fn pace_is_of_the_time_between_samples() {
        let mut history = History::default();
        let name = TableName::new("shop", "orders");
        for (i, total) in [100, 300, 300].into_iter().enumerate() {
            let now = i as i64 * SAMPLE_US;
            assert!(history.is_due(now));
            let reading = Reading { rows: 5, changes_total: total, lag_seconds: None };
            history.take(now, std::iter::once((name.clone(), reading)));
            assert!(!history.is_due(now + 1));
        }
        let paces: Vec<f64> = samples(&history).iter().map(|sample| sample.changes_per_second).collect();
        assert_eq!(paces, [0.0, 100.0, 0.0]);
        assert!(history.pace(&name).abs() < f64::EPSILON);
    }

    #[test]
    fn old_samples_go() {
        let mut history = History::default();
        for i in 0..400 {
            let reading = Reading { rows: i, changes_total: 0, lag_seconds: Some(0.1) };
            history.take(i * SAMPLE_US, std::iter::once((TableName::new("a", "b"), reading)));
        }
        let rows: Vec<i64> = samples(&history).iter().map(|sample| sample.rows).collect();
        assert_eq!((rows.len(), rows[0]), (300, 100));
    }
}
