//! Operators that keep nothing: constants, maps, unions. Law: linear.

use std::sync::Arc;

use relation::Delta;
use store::Writes;

use super::rule::{Around, Inputs, Rule, Ruled};
use crate::build::Builder;
use crate::error::Result;
use crate::expr::MapProgram;
use crate::graph::{Compiling, Node, NodeIndex};
use crate::pour::Portion;
use crate::rejects::Rejected;

/// Constant rows: they never change.
pub(crate) struct Values;

/// A filter, then outputs computed of what is left.
pub(crate) struct Map(Arc<MapProgram>);

/// All rows of all inputs.
pub(crate) struct Union;

pub(super) fn map(
    filter: Option<&datafusion_expr::Expr>,
    outputs: &[datafusion_expr::Expr],
    from: &Compiling<'_, '_>,
) -> Result<Arc<dyn Rule>> {
    let program = MapProgram::new(filter, outputs, &from.types(0), &from.node.schema)?;
    Ok(Arc::new(Map(Arc::new(program))))
}

impl Rule for Values {
    fn word(&self) -> &'static str {
        "values"
    }

    fn apply(&self, node: &Node, _: &Inputs<'_>, _: Around<'_>, _: &mut Writes) -> Result<Ruled> {
        Ok(Delta::empty(&node.arrow).into())
    }
}

impl Rule for Map {
    fn word(&self) -> &'static str {
        "map"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, _: &mut Writes) -> Result<Ruled> {
        let [Some(delta)] = inputs else { return Ok(Delta::empty(&node.arrow).into()) };
        let mut mapped = self.0.evaluate(&delta.batch)?;
        let mut rejected = Rejected::none();
        rejected.add(&around.network.graph, node, delta, &std::mem::take(&mut mapped.failures))?;
        Ok(Ruled { delta: mapped.weighted(&delta.weights), rejected, relation: None })
    }

    fn map(&self) -> Option<&Arc<MapProgram>> {
        Some(&self.0)
    }

    fn rejects_rows(&self) -> bool {
        self.0.is_fallible()
    }

    fn pour(&self, at: NodeIndex, node: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        if builder.network().graph.is_scan(at) {
            return builder.pour_query(at, each);
        }
        builder.pour_node(node.inputs[0], &mut |builder, delta| {
            let mut mapped = self.0.evaluate(&delta.batch)?;
            let mut rejected = Rejected::none();
            rejected.add(&builder.network().graph, node, &delta, &std::mem::take(&mut mapped.failures))?;
            builder.count_rejects(at, &rejected)?;
            each(builder, mapped.weighted(&delta.weights))
        })
    }
}

impl Rule for Union {
    fn word(&self) -> &'static str {
        "union"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, _: Around<'_>, _: &mut Writes) -> Result<Ruled> {
        let columns: Vec<usize> = (0..node.types.len()).collect();
        let parts = inputs.iter().flatten().map(|delta| delta.project(&columns, &node.arrow));
        Ok(Delta::concat(&node.arrow, &parts.collect::<relation::Result<Vec<_>>>()?)?.into())
    }

    fn pour(&self, _: NodeIndex, node: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        let columns: Vec<usize> = (0..node.types.len()).collect();
        for &input in &node.inputs {
            builder.pour_node(input, &mut |builder, delta| each(builder, delta.project(&columns, &node.arrow)?))?;
        }
        Ok(())
    }
}
