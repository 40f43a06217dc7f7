//! An aggregate as an operator of the graph.

use std::sync::Arc;

use plan::Aggregate;
use relation::{Delta, TableId};
use store::Writes;

use super::{AggregateOp, multisets_of};
use crate::arrange::Side;
use crate::build::Builder;
use crate::error::Result;
use crate::expr::MapProgram;
use crate::graph::{Compiling, Graph, Node, NodeIndex, Surroundings};
use crate::operator::rule::{Around, Inputs, PointKey, Rule, Ruled};
use crate::pour::Portion;

/// The rule of an aggregate, with its states: the groups, then the multisets.
pub(crate) fn compile(
    group: &[usize],
    aggregates: &[Aggregate],
    from: &mut Compiling<'_, '_>,
) -> Result<Arc<dyn Rule>> {
    let parts = 1 + multisets_of(aggregates).len();
    let states: Vec<TableId> = (0..parts).map(|part| from.state(&format!(" {part}"))).collect();
    let (node, types) = (from.identity.to_owned(), from.types(0));
    let operator = AggregateOp::new(node, group, aggregates, types, &from.node.schema, &states);
    Ok(Arc::new(AggregateRule(Arc::new(operator))))
}

/// An aggregate in the graph: joins find its groups too.
struct AggregateRule(Arc<AggregateOp>);

impl Rule for AggregateRule {
    fn word(&self) -> &'static str {
        "aggregate"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, writes: &mut Writes) -> Result<Ruled> {
        let [Some(delta)] = inputs else { return Ok(Delta::empty(&node.arrow).into()) };
        Ok(self.0.apply(delta, around.states, writes)?.into())
    }

    fn states(&self) -> Vec<TableId> {
        let multisets = self.0.multisets.iter().map(|multiset| multiset.table);
        std::iter::once(self.0.groups).chain(multisets).collect()
    }

    fn build(&self, _: NodeIndex, node: &Node, builder: &mut Builder) -> Result<()> {
        builder.build_aggregate(&self.0, node.inputs[0])
    }

    fn pour(&self, _: NodeIndex, _: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        builder.pour_groups(&self.0, each)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn point_key(&self, _: &Graph, _: &Node, _: &[usize], _: &Surroundings<'_>) -> PointKey {
        PointKey::Columns((0..self.0.group_columns()).collect())
    }

    fn lookup(
        &self,
        _: &mut Graph,
        _: NodeIndex,
        columns: &[usize],
        maps: Vec<Arc<MapProgram>>,
        _: &mut Surroundings<'_>,
    ) -> Option<Side> {
        self.0.is_found_by(columns).then(|| Side::groups(Arc::clone(&self.0), maps))
    }
}
