//! The end of a model: its rows, written into its relation.

use store::Writes;

use relation::TableId;

use super::rule::{Around, Inputs, Rule, Ruled};
use crate::build::Builder;
use crate::error::Result;
use crate::graph::{Node, NodeIndex};
use crate::step::RelationReport;
use crate::stored::{Index, Keeping};

/// Keeps a model's relation.
pub(crate) struct Sink {
    pub(crate) model: usize,
    pub(crate) relation: TableId,
}

impl Rule for Sink {
    fn word(&self) -> &'static str {
        "sink"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, writes: &mut Writes) -> Result<Ruled> {
        let [Some(delta)] = inputs else { return Ok(relation::Delta::empty(&node.arrow).into()) };
        let stored = &around.network.relations[&self.relation];
        let (delta, rows) = delta.consolidate_encoded(&stored.layout)?;
        if delta.is_empty() {
            return Ok(delta.into());
        }
        let keeps = |index: &Index| around.scope.keeps(index.buckets.table, index.built);
        stored.write_net(&rows, &delta.weights, &mut Keeping { states: around.states, keeps: &keeps, writes })?;
        let sum = |sign: i64| delta.weights.iter().filter(|w| **w * sign > 0).map(|w| w.unsigned_abs()).sum();
        let (first, weights) = around.network.reported(&rows, delta.weights.iter().copied());
        let report = RelationReport {
            name: around.network.models[self.model].name.clone(),
            id: self.relation,
            is_model: true,
            inserted: sum(1),
            deleted: sum(-1),
            rows: first,
            weights,
        };
        Ok(Ruled { relation: Some(report), ..Ruled::from(delta) })
    }

    fn states(&self) -> Vec<TableId> {
        vec![self.relation]
    }

    fn build(&self, _: NodeIndex, node: &Node, builder: &mut Builder) -> Result<()> {
        builder.build_relation(node.inputs[0], self.relation)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn sink(&self) -> Option<usize> {
        Some(self.model)
    }
}
