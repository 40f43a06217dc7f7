//! Whether columns tell the rows of a flow apart: what is proven, not what happens to be so.

use std::collections::BTreeSet;

use plan::{Flow, JoinKind, NodeId, Op};

use crate::expr::plain_column;

/// Whether a flow has one row at most for each value of these columns of its output.
pub fn is_unique_by(flow: &Flow, columns: impl IntoIterator<Item = usize>) -> bool {
    is_unique(flow, flow.output, columns.into_iter().collect())
}

fn is_unique(flow: &Flow, at: NodeId, columns: BTreeSet<usize>) -> bool {
    let node = flow.node(at);
    let has = |of: &[usize]| of.iter().all(|column| columns.contains(column));
    let key = &node.schema.key;
    if !key.is_empty() && has(key) {
        return true;
    }
    match (&node.op, &node.inputs[..]) {
        // A column of the input that is among the outputs is among the columns.
        (Op::Map { outputs, .. }, [input]) => {
            let plain = columns.iter().filter_map(|&column| plain_column(outputs.get(column)?));
            is_unique(flow, *input, plain.collect())
        }
        (Op::Aggregate { group, .. }, _) => (0..group.len()).all(|column| columns.contains(&column)),
        (Op::TopK { partition, limit, .. }, [input]) => {
            *limit <= 1 && has(partition) || is_unique(flow, *input, columns)
        }
        (Op::Join { kind: JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti, .. }, [left, _]) => {
            is_unique(flow, *left, columns)
        }
        (Op::Values { rows }, _) => rows.len() <= 1,
        (Op::Table { .. } | Op::Join { .. } | Op::Unnest { .. } | Op::Union | Op::Map { .. } | Op::TopK { .. }, _) => {
            false
        }
    }
}
