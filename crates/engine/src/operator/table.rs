//! Some columns of a stored relation: a source's table, or a model.
//!
//! Law: linear. What reaches it from a source's table are the changes of the step ([`table_delta`]); from a model, what its
//! sink wrote.

use std::sync::Arc;

use plan::TableName;
use relation::columns::decode;
use relation::{Delta, TableId};
use store::Writes;

use super::rule::{Around, Inputs, PointKey, Rule, Ruled};
use crate::arrange::Side;
use crate::buckets::Buckets;
use crate::error::{Error, Result};
use crate::expr::MapProgram;
use crate::graph::{Compiling, Graph, Node, NodeIndex, Surroundings};
use crate::network::Change;
use crate::stored::{Index, Stored};

pub(crate) struct Table {
    relation: TableId,
    columns: Vec<usize>,
}

pub(super) fn compile(table: &TableName, columns: &[usize], from: &mut Compiling<'_, '_>) -> Result<Arc<dyn Rule>> {
    let (relation, sink) = from.relation(table)?;
    match sink {
        Some(sink) => from.inputs = vec![sink],
        None => from.feed = Some(relation),
    }
    Ok(Arc::new(Table { relation, columns: columns.to_vec() }))
}

impl Rule for Table {
    fn word(&self) -> &'static str {
        "table"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, _around: Around<'_>, _writes: &mut Writes) -> Result<Ruled> {
        match inputs {
            [Some(delta)] => Ok(delta.project(&self.columns, &node.arrow)?.into()),
            _ => Ok(Delta::empty(&node.arrow).into()),
        }
    }

    fn table(&self) -> Option<(TableId, &[usize])> {
        Some((self.relation, &self.columns))
    }

    fn point_key(&self, _: &Graph, _: &Node, _: &[usize], around: &Surroundings<'_>) -> PointKey {
        let key = &around.relations[&self.relation].schema.key;
        let key: Option<Vec<usize>> = key.iter().map(|k| self.columns.iter().position(|c| c == k)).collect();
        key.map_or(PointKey::None, PointKey::Columns)
    }

    fn lookup(
        &self,
        graph: &mut Graph,
        at: NodeIndex,
        columns: &[usize],
        maps: Vec<Arc<MapProgram>>,
        around: &mut Surroundings<'_>,
    ) -> Option<Side> {
        let key: Vec<usize> = columns.iter().map(|&c| self.columns[c]).collect();
        let schema = Arc::clone(&graph.nodes[at].arrow);
        let stored = around.relations.get_mut(&self.relation)?;
        let index = if key == stored.schema.key {
            None
        } else if let Some(index) = stored.indexes.iter().find(|index| index.columns == key) {
            around.states.want(index.buckets.table);
            Some(index.buckets)
        } else {
            let (id, built) = around.states.state(&format!("index {} {key:?}", stored.id));
            let buckets = Buckets { table: id };
            stored.indexes.push(Index { columns: key, buckets, built });
            Some(buckets)
        };
        Some(Side::stored(stored, index, self.columns.clone(), schema, maps))
    }
}

/// The delta of a table's node: the columns it needs. Updates that leave all of them as they were are no change.
pub(crate) fn table_delta(stored: &Stored, node: &Node, change: &Change) -> Result<Delta> {
    let Some((_, columns)) = node.rule.table() else {
        return Err(Error::Broken { node: node.identity.clone(), what: "a table feeds what is no table" });
    };
    let layout = &stored.layout;
    let same = |a: &[u8], b: &[u8]| {
        columns.iter().all(|&c| match (layout.is_null(a, c), layout.is_null(b, c)) {
            (false, false) => layout.bytes(a, c) == layout.bytes(b, c),
            (a_null, b_null) => a_null && b_null,
        })
    };
    let mut kept = Vec::with_capacity(change.rows.len());
    let mut i = 0;
    while i < change.rows.len() {
        let pair = change.weights[i] < 0 && i + 1 < change.rows.len() && change.weights[i + 1] > 0;
        if pair && same(change.rows.get(i), change.rows.get(i + 1)) {
            i += 2;
            continue;
        }
        kept.push(i);
        i += 1;
    }
    let rows = kept.iter().map(|&i| change.rows.get(i));
    let batch = decode(rows, layout, columns, &node.arrow)?;
    Ok(Delta::new(batch, kept.iter().map(|&i| i64::from(change.weights[i])).collect()))
}
