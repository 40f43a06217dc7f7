//! From an optimised [`LogicalPlan`] to a [`Flow`], node by node, inputs first.
//!
//! The law of every function here: the node that a plan is lowered to has the plan's columns, in the plan's order, each
//! in its canonical type ([`DataType::from_arrow`]). Where DataFusion planned another type for a column (an `Int8` is
//! kept as `Int16`), expressions above cast it back, so that they compute what they would have computed.
//!
//! A node is found again by its identity: equal sub-plans within a flow are one node.

mod aggregate;
mod expression;
mod join;
mod map;
mod source;
mod top;
mod unnest;

use std::collections::BTreeMap;

use datafusion_expr::logical_plan::{Distinct, Union};
use datafusion_expr::{Expr, LogicalPlan};
use relation::{Column, DataType, Schema};

use crate::flow::{Flow, Node, NodeId, Op, column_name};
use crate::identity::identity;
use crate::optimise::optimised;
use crate::refusal::Refusal;
use crate::unique::Facts;

type Result<T> = std::result::Result<T, Refusal>;

/// The flow of an optimised plan. `sql` is only used to say where trouble is.
pub(crate) fn lower(plan: &LogicalPlan, sql: &str) -> Result<Flow> {
    let mut lowering = Lowering::new(sql);
    let output = lowering.plan(plan)?;
    Ok(lowering.finish(output))
}

/// Columns that identify a row of a plan, if that can be proven; none too if the plan cannot be lowered by itself.
pub(crate) fn unique_columns(plan: &LogicalPlan) -> Option<Vec<usize>> {
    let mut lowering = Lowering::new("");
    let node = lowering.plan(&optimised(plan.clone()).ok()?).ok()?;
    lowering.facts(node).unique.clone()
}

/// Column `i` of the input, as an expression.
pub(crate) fn column(i: usize) -> Expr {
    Expr::Column(datafusion_common::Column::from_name(column_name(i)))
}

struct Lowering<'a> {
    sql: &'a str,
    nodes: Vec<Node>,
    facts: Vec<Facts>,
    by_identity: BTreeMap<String, NodeId>,
}

impl<'a> Lowering<'a> {
    fn new(sql: &'a str) -> Self {
        Self { sql, nodes: Vec::new(), facts: Vec::new(), by_identity: BTreeMap::new() }
    }

    fn plan(&mut self, plan: &LogicalPlan) -> Result<NodeId> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty),
            LogicalPlan::Projection(projection) => {
                let input = self.plan(&projection.input)?;
                self.projection(projection, input)
            }
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Window(window) => Err(self.unbounded(window)),
            other => Err(self.unsupported(other)),
        }
    }

    fn unsupported(&self, plan: &LogicalPlan) -> Refusal {
        let (what, word) = match plan {
            LogicalPlan::RecursiveQuery(_) => ("A recursive query", "recursive"),
            LogicalPlan::Subquery(_) => ("A LATERAL subquery that cannot be turned into a join", "lateral"),
            _ => {
                return Refusal::cannot_keep(format!("This part of the plan is not supported yet: {}", plan.display()));
            }
        };
        Refusal::cannot_keep(format!("{what} is not supported yet.")).at(self.sql, word)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    fn columns(&self, id: NodeId) -> &[Column] {
        &self.node(id).schema.columns
    }

    fn facts(&self, id: NodeId) -> &Facts {
        &self.facts[id.0]
    }

    /// Adds a node, or finds the one that is equal.
    fn add(&mut self, op: Op, inputs: Vec<NodeId>, columns: Vec<Column>, facts: Facts) -> NodeId {
        debug_assert_eq!(columns.len(), facts.same.len(), "facts of every column of {op}");
        let schema = Schema::new(columns, facts.unique.clone().unwrap_or_default());
        let hashes: Vec<_> = inputs.iter().map(|&i| self.node(i).identity.as_str()).collect();
        let identity = identity(&op, &schema, &hashes);
        if let Some(&known) = self.by_identity.get(&identity) {
            return known;
        }
        let id = NodeId(self.nodes.len());
        self.by_identity.insert(identity.clone(), id);
        self.nodes.push(Node { op, inputs, schema, identity });
        self.facts.push(facts);
        id
    }

    /// The flow of what the output reads; nodes that were fused into others are left behind.
    fn finish(self, output: NodeId) -> Flow {
        let mut used = vec![false; self.nodes.len()];
        used[output.0] = true;
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if used[id] {
                node.inputs.iter().for_each(|input| used[input.0] = true);
            }
        }
        let mut position = vec![NodeId(0); self.nodes.len()];
        let mut nodes = Vec::new();
        for (id, mut node) in self.nodes.into_iter().enumerate().filter(|(id, _)| used[*id]) {
            node.inputs.iter_mut().for_each(|input| *input = position[input.0]);
            position[id] = NodeId(nodes.len());
            nodes.push(node);
        }
        Flow { nodes, output: position[output.0] }
    }

    fn union(&mut self, union: &Union) -> Result<NodeId> {
        let inputs = union.inputs.iter().map(|input| self.plan(input)).collect::<Result<Vec<_>>>()?;
        let mut columns = Vec::new();
        for (i, field) in union.schema.fields().iter().enumerate() {
            let kinds: Vec<DataType> = inputs.iter().map(|&input| self.columns(input)[i].data_type).collect();
            let same = kinds.iter().all(|kind| *kind == kinds[0]);
            // A union of documents and other texts is one of texts.
            let texts = kinds.iter().all(|kind| matches!(kind, DataType::Text | DataType::Json));
            let data_type = match (same, texts) {
                (true, _) => kinds[0],
                (false, true) => DataType::Text,
                (false, false) => self.canonical(field)?,
            };
            let nullable = inputs.iter().any(|&input| self.columns(input)[i].nullable);
            columns.push(Column { name: field.name().clone(), data_type, nullable });
        }
        let inputs: Vec<_> = inputs.into_iter().map(|input| self.in_types(input, &columns)).collect();
        let facts = Facts::new(columns.len(), None);
        Ok(self.add(Op::Union, inputs, columns, facts))
    }
}
