//! A join as an operator of the graph.

use std::sync::Arc;

use plan::JoinKind;
use relation::TableId;
use store::Writes;

use super::{FailedPairs, JoinOp};
use crate::arrange::Side;
use crate::build::Builder;
use crate::error::{Error, Result};
use crate::expr::{Condition, MapProgram};
use crate::graph::{Compiling, Graph, Node, NodeIndex, Surroundings};
use crate::operator::rule::{Around, Inputs, PointKey, Rule, Ruled};
use crate::pour::{Portion, Slices};
use crate::rejects::Rejected;

/// The rule of a join, with the sides by which it finds the old rows of its inputs, and its counts.
pub(crate) fn compile(
    kind: JoinKind,
    left_keys: &[usize],
    right_keys: &[usize],
    residual: Option<&datafusion_expr::Expr>,
    from: &mut Compiling<'_, '_>,
) -> Result<Arc<dyn Rule>> {
    let order = from.graph.key_order(&from.inputs, left_keys, right_keys, from.around);
    let keys = |keys: &[usize]| order.iter().map(|&i| keys[i]).collect::<Vec<_>>();
    let residual = match residual {
        None => None,
        Some(condition) => Some(Condition::new(condition, &[from.types(0), from.types(1)].concat())?),
    };
    let state = JoinOp::is_counted(kind, residual.is_some()).then(|| from.state(" matches"));
    let left = from.graph.side(from.inputs[0], keys(left_keys), kind == JoinKind::NullAwareAnti, from.around);
    let right = from.graph.side(from.inputs[1], keys(right_keys), false, from.around);
    Ok(Arc::new(JoinRule(Arc::new(JoinOp::new(kind, left, right, residual, &from.node.schema, state)))))
}

/// A join in the graph: other joins look rows up through it too.
struct JoinRule(Arc<JoinOp>);

/// Pairs on which the condition failed, as rejected rows.
fn rejected(graph: &Graph, node: &Node, failed: &FailedPairs) -> Result<Rejected> {
    let mut rejected = Rejected::none();
    for (pairs, failures) in &failed.parts {
        rejected.add(graph, node, pairs, failures)?;
    }
    Ok(rejected)
}

impl Rule for JoinRule {
    fn word(&self) -> &'static str {
        "join"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, writes: &mut Writes) -> Result<Ruled> {
        let [left, right] = *inputs else {
            return Err(Error::Broken { node: node.identity.clone(), what: "a join has not two inputs" });
        };
        let joined = self.0.apply(left, right, around.states, writes)?;
        let rejected = rejected(&around.network.graph, node, &joined.failed)?;
        Ok(Ruled { delta: joined.delta, rejected, relation: None })
    }

    fn states(&self) -> Vec<TableId> {
        self.0.state.into_iter().collect()
    }

    fn rejects_rows(&self) -> bool {
        self.0.residual.is_some()
    }

    fn build(&self, at: NodeIndex, node: &Node, builder: &mut Builder) -> Result<()> {
        if self.0.state.is_none() {
            return Ok(());
        }
        let mut slices = Slices::default();
        builder.pour(node.inputs[self.0.counting() as usize], &mut |builder, delta| {
            slices.each(builder, &delta, &mut |builder, part| {
                let (mut failed, mut looked_at) = (FailedPairs::default(), 0);
                builder.portion(|_, states, writes| {
                    (failed, looked_at) = self.0.keep(&part, states, writes)?;
                    Ok(())
                })?;
                let rejected = rejected(&builder.network().graph, node, &failed)?;
                builder.count_rejects(at, &rejected)?;
                Ok(looked_at)
            })
        })?;
        // All pairs were seen: pouring the join tells of none of them again.
        builder.counted.insert(at);
        Ok(())
    }

    fn pour(&self, at: NodeIndex, node: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        if self.0.kind == JoinKind::NullAwareAnti {
            return builder.pour_query(at, each);
        }
        let mut slices = Slices::default();
        builder.pour_node(node.inputs[self.0.pouring() as usize], &mut |builder, delta| {
            slices.each(builder, &delta, &mut |builder, part| {
                let met = self.0.expand(self.0.pouring(), &super::Found::all(part), builder.states())?;
                let rejected = rejected(&builder.network().graph, node, &met.failed)?;
                builder.count_rejects(at, &rejected)?;
                if !met.found.delta.is_empty() {
                    each(builder, met.found.delta)?;
                }
                Ok(met.looked_at)
            })
        })
    }

    fn keeps(&self) -> bool {
        self.0.state.is_some()
    }

    fn point_key(&self, _: &Graph, node: &Node, columns: &[usize], _: &Surroundings<'_>) -> PointKey {
        match self.0.driving(columns) {
            Some((from, columns)) => PointKey::Of(node.inputs[from as usize], columns),
            None => PointKey::None,
        }
    }

    fn lookup(
        &self,
        graph: &mut Graph,
        at: NodeIndex,
        columns: &[usize],
        maps: Vec<Arc<MapProgram>>,
        around: &mut Surroundings<'_>,
    ) -> Option<Side> {
        let (from, columns) = self.0.driving(columns)?;
        let below = graph.nodes[at].inputs[from as usize];
        let driving = graph.lookup(below, &columns, around);
        let driving = driving.unwrap_or_else(|| graph.own_side(below, &columns, false, around));
        Some(Side::joined(driving, from, Arc::clone(&self.0), maps))
    }
}
