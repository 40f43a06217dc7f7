//! What the last steps changed, and how long each stage of them took: what `tidemill.steps` and `tidemill.step_changes`
//! show, within bounds.

use std::collections::VecDeque;
use std::sync::Arc;

use plan::TableName;
use relation::{Layout, Rows, Schema};

/// Steps that are remembered.
const STEPS_MAX: usize = 1_000;
/// Bytes of changed rows that are remembered.
const BYTES_MAX: usize = 16 << 20;

/// One of the last steps.
#[derive(Debug, Clone, Default)]
pub struct RecentStep {
    pub step: u64,
    /// Rows that the step's sources brought.
    pub rows: u64,
    /// Transactions that shared the step.
    pub transactions: u64,
    /// Newest commit time among them, and when that one was read; none where the step carried none.
    pub commit_us: Option<i64>,
    pub read_us: Option<i64>,
    /// When the step began, when it was on disk, and when it could be read.
    pub begun_us: i64,
    pub durable_us: i64,
    pub visible_us: i64,
    /// Where its sources were behind it, as far as it moved them.
    pub position: String,
    pub changes: Vec<RecentChange>,
}

/// The first changed rows of a table or model.
#[derive(Debug, Clone)]
pub struct RecentChange {
    pub node: TableName,
    /// How many rows came and went in all.
    pub inserted: u64,
    pub deleted: u64,
    pub schema: Arc<Schema>,
    pub rows: Rows,
    pub weights: Vec<i64>,
}

impl RecentChange {
    /// The rows as JSON objects, with their weights.
    pub fn json(&self) -> Vec<(i64, String)> {
        let layout = Layout::new(self.schema.types());
        let object = |row: &[u8]| {
            let values = layout.values(row);
            crate::output::json_row(self.schema.columns.iter().map(|column| &column.name).zip(&values))
        };
        self.weights.iter().zip(self.rows.iter()).map(|(&weight, row)| (weight, object(row))).collect()
    }
}

/// The last steps, oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    steps: VecDeque<Arc<RecentStep>>,
    bytes: usize,
}

impl Recent {
    /// Remembers a step, and forgets what is beyond the bounds.
    pub fn push(&mut self, step: Arc<RecentStep>) {
        self.bytes += bytes_of(&step);
        self.steps.push_back(step);
        while self.steps.len() > STEPS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.steps.pop_front() else { break };
            self.bytes -= bytes_of(&oldest);
        }
    }

    /// The steps, oldest first. They can be kept after the facts are let go.
    pub fn steps(&self) -> impl Iterator<Item = &Arc<RecentStep>> {
        self.steps.iter()
    }

    /// The step that made some number visible; none where it is forgotten.
    pub fn of(&self, number: u64) -> Option<&RecentStep> {
        let at = self.steps.partition_point(|step| step.step < number);
        let is_known = at > 0 || self.steps.front().is_some_and(|oldest| oldest.step == number);
        self.steps.get(at).filter(|_| is_known).map(|step| &**step)
    }
}

fn bytes_of(step: &RecentStep) -> usize {
    // Names and the step itself weigh something too; nobody counts on the exact number.
    let changes: usize =
        step.changes.iter().map(|change| change.rows.byte_len() + 16 * change.weights.len() + 256).sum();
    step.position.len() + changes
}

#[cfg(test)]
mod tests {
    use relation::{Column, DataType, Value};

    use super::*;

    fn step(number: u64, text: &str) -> Arc<RecentStep> {
        let schema = Schema::new(vec![Column::new("word", DataType::Text)], vec![]);
        let mut rows = Rows::new();
        rows.push_values(&Layout::new(schema.types()), &[Value::Text(text.to_owned())]).unwrap();
        let node = TableName::new("public", "words");
        let change = RecentChange { node, inserted: 1, deleted: 0, schema: Arc::new(schema), rows, weights: vec![1] };
        Arc::new(RecentStep { step: number, changes: vec![change], ..RecentStep::default() })
    }

    #[test]
    fn rows_are_objects() {
        assert_eq!(step(1, "tide").changes[0].json(), [(1, r#"{"word":"tide"}"#.to_owned())]);
    }

    /// Several numbers may become visible at once.
    #[test]
    fn a_number_is_of_the_step_that_made_it_visible() {
        let mut recent = Recent::default();
        [4, 7, 8].into_iter().for_each(|n| recent.push(step(n, "x")));
        let of = |number| recent.of(number).map(|step| step.step);
        assert_eq!([of(3), of(4), of(5), of(7), of(8), of(9)], [None, Some(4), Some(7), Some(7), Some(8), None]);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut recent = Recent::default();
        (0..2_000).for_each(|n| recent.push(step(n, "x")));
        let kept: Vec<u64> = recent.steps().map(|s| s.step).collect();
        assert_eq!((kept.len(), kept[0], kept[999]), (STEPS_MAX, 1_000, 1_999));
        let long = "x".repeat(6 << 20);
        (0..4).for_each(|n| recent.push(step(n, &long)));
        assert_eq!(recent.steps().count(), 2);
        assert!(recent.bytes <= BYTES_MAX);
    }
}
