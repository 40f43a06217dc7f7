//! All models as one graph: equal sub-plans are one node with several readers.
//!
//! Nodes stand in topological order, because a flow lists inputs first and models come in the order in which they read
//! one another. A node's identity is persistent: the hash of its plan and of the incarnations of the tables behind it. The
//! states of a node are found again by it after a restart; what nobody has an identity for any more is dropped.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use plan::{Flow, JoinKind, NodeId, Op, TableName};
use relation::key::hash128;
use relation::{DataType, Schema, TableId};

use crate::arrange::{Arrangement, Side};
use crate::buckets::Buckets;
use crate::error::{Error, Result};
use crate::expr::{Condition, MapProgram, arrow_schema};
use crate::operator::aggregate::{AggregateOp, multisets_of};
use crate::operator::join::{JoinOp, JoinSide};
use crate::operator::top_k::TopKOp;
use crate::states::StateCatalog;
use crate::stored::Stored;

/// Position of a node in the graph.
pub type NodeIndex = usize;

/// One operator of the graph.
pub struct Node {
    pub identity: String,
    pub rule: Rule,
    pub inputs: Vec<NodeIndex>,
    pub readers: Vec<NodeIndex>,
    pub types: Vec<DataType>,
    pub arrow: SchemaRef,
    /// Rows of this node kept by join key, for readers that look them up.
    pub arrangements: Vec<KeptArrangement>,
    /// States of its own.
    pub states: Vec<TableId>,
    /// Whether its states hold everything up to the last step; until then it does not run.
    pub built: bool,
    /// Why it was parked, and with it everything that reads it.
    pub parked: Option<String>,
    /// Where a query that answers it is found: a model and a node of its flow.
    pub origin: (usize, NodeId),
}

/// An arrangement of a node's rows.
pub struct KeptArrangement {
    pub arrangement: Arrangement,
    pub built: bool,
}

/// What a node does, compiled.
pub enum Rule {
    /// Some columns of a stored relation: a source table, or a model (then its sink is the input).
    Table {
        relation: TableId,
        columns: Vec<usize>,
    },
    Values,
    Map(Arc<MapProgram>),
    Join(Box<JoinOp>),
    Aggregate(Box<AggregateOp>),
    Union,
    TopK(Box<TopKOp>),
    /// Writes the rows of a model into its relation.
    Sink {
        model: usize,
    },
}

/// The graph, and what joins need of stored relations.
#[derive(Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// Table nodes by the relation that feeds them.
    pub feeds: std::collections::BTreeMap<TableId, Vec<NodeIndex>>,
}

/// What adding a flow may look up and change.
pub struct Surroundings<'a> {
    pub relations: &'a mut std::collections::BTreeMap<TableId, Stored>,
    /// Relation of a table or model by name, and the model's sink.
    pub resolve: &'a dyn Fn(&TableName) -> Option<(TableId, Option<NodeIndex>)>,
    pub(crate) states: &'a mut StateCatalog<'a>,
}

impl Graph {
    /// Adds a model's flow and answers with where its nodes stand. `model` is the model's number.
    pub fn add(
        &mut self,
        model: usize,
        name: &TableName,
        flow: &Flow,
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<NodeIndex>> {
        let mut placed: Vec<NodeIndex> = Vec::with_capacity(flow.nodes.len());
        for (i, node) in flow.nodes.iter().enumerate() {
            let inputs: Vec<NodeIndex> = node.inputs.iter().map(|input| placed[input.0]).collect();
            let identity = self.identity(node, &inputs, name, around)?;
            if let Some(known) = self.nodes.iter().position(|n| n.identity == identity) {
                placed.push(known);
                continue;
            }
            let origin = (model, NodeId(i));
            placed.push(self.compile(identity, node, inputs, origin, name, around)?);
        }
        Ok(placed)
    }

    /// Adds the sink of a model below its output.
    pub fn add_sink(
        &mut self,
        model: usize,
        name: &TableName,
        output: NodeIndex,
        origin: NodeId,
        relation: TableId,
    ) -> NodeIndex {
        let identity = format!("sink {name} {} {relation}", self.nodes[output].identity);
        let (types, arrow) = (self.nodes[output].types.clone(), Arc::clone(&self.nodes[output].arrow));
        self.push(Node {
            identity,
            rule: Rule::Sink { model },
            inputs: vec![output],
            readers: Vec::new(),
            types,
            arrow,
            arrangements: Vec::new(),
            states: Vec::new(),
            built: false,
            parked: None,
            origin: (model, origin),
        })
    }

    fn push(&mut self, node: Node) -> NodeIndex {
        let index = self.nodes.len();
        for &input in &node.inputs {
            if !self.nodes[input].readers.contains(&index) {
                self.nodes[input].readers.push(index);
            }
        }
        self.nodes.push(node);
        index
    }

    fn identity(
        &self,
        node: &plan::Node,
        inputs: &[NodeIndex],
        model: &TableName,
        around: &Surroundings<'_>,
    ) -> Result<String> {
        let mut text = node.identity.clone();
        for &input in inputs {
            text.push(' ');
            text.push_str(&self.nodes[input].identity);
        }
        if let Op::Table { table, .. } = &node.op {
            let found = (around.resolve)(table);
            let (relation, sink) =
                found.ok_or_else(|| Error::MissingInput { model: model.clone(), table: table.clone() })?;
            text.push_str(&format!(" {relation}"));
            if let Some(sink) = sink {
                text.push_str(&self.nodes[sink].identity);
            }
        }
        Ok(hash128(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect())
    }

    fn compile(
        &mut self,
        identity: String,
        node: &plan::Node,
        inputs: Vec<NodeIndex>,
        origin: (usize, NodeId),
        model: &TableName,
        around: &mut Surroundings<'_>,
    ) -> Result<NodeIndex> {
        let input_types = |i: usize| self.nodes[inputs[i]].types.clone();
        let mut states = Vec::new();
        let mut built = true;
        let mut inputs = inputs.clone();
        let mut feed = None;
        let rule = match &node.op {
            Op::Table { table, columns } => {
                let found = (around.resolve)(table);
                let (relation, sink) =
                    found.ok_or_else(|| Error::MissingInput { model: model.clone(), table: table.clone() })?;
                match sink {
                    Some(sink) => inputs = vec![sink],
                    None => feed = Some(relation),
                }
                Rule::Table { relation, columns: columns.clone() }
            }
            Op::Values { .. } => Rule::Values,
            Op::Map { filter, outputs } => {
                Rule::Map(Arc::new(MapProgram::new(filter.as_ref(), outputs, &input_types(0), &node.schema)?))
            }
            Op::Union => Rule::Union,
            Op::Aggregate { group, aggregates } => {
                let tables = 1 + multisets_of(aggregates).len();
                for part in 0..tables {
                    let (id, ready) = around.states.state(&format!("{identity} {part}"));
                    states.push(id);
                    built &= ready;
                }
                let types = input_types(0);
                let op = AggregateOp::new(identity.clone(), group, aggregates, types, &node.schema, &states);
                Rule::Aggregate(Box::new(op))
            }
            Op::TopK { partition, order, offset, limit, numbered } => {
                let (id, ready) = around.states.state(&identity);
                states.push(id);
                built &= ready;
                let window = (*offset, *limit);
                let types = input_types(0);
                let op = TopKOp::new(identity.clone(), partition, order, window, *numbered, types, &node.schema, id);
                Rule::TopK(Box::new(op))
            }
            Op::Join { kind, left_keys, right_keys, residual } => {
                let order = self.key_order(&inputs, left_keys, right_keys, around);
                let keys = |keys: &[usize]| order.iter().map(|&i| keys[i]).collect::<Vec<_>>();
                let (left_keys, right_keys) = (keys(left_keys), keys(right_keys));
                let residual = match residual {
                    None => None,
                    Some(condition) => {
                        let types = [input_types(0), input_types(1)].concat();
                        Some(Condition::new(condition, &types)?)
                    }
                };
                let whole = *kind == JoinKind::NullAwareAnti;
                let left = self.side(inputs[0], left_keys, whole, around);
                let right = self.side(inputs[1], right_keys, whole, around);
                Rule::Join(Box::new(JoinOp::new(*kind, left, right, residual, &node.schema)))
            }
        };
        let index = self.push(Node {
            identity,
            rule,
            inputs,
            readers: Vec::new(),
            types: node.schema.types(),
            arrow: arrow_schema(&node.schema),
            arrangements: Vec::new(),
            states,
            built,
            parked: None,
            origin,
        });
        if let Some(relation) = feed {
            self.feeds.entry(relation).or_default().push(index);
        }
        Ok(index)
    }

    /// The order of a join's key pairs that lets a side's primary key answer, if one can.
    fn key_order(
        &self,
        inputs: &[NodeIndex],
        left_keys: &[usize],
        right_keys: &[usize],
        around: &Surroundings<'_>,
    ) -> Vec<usize> {
        for (input, keys) in [(inputs[1], right_keys), (inputs[0], left_keys)] {
            let Some(source) = self.trace(input) else { continue };
            let Some(columns) = source.columns_of(keys) else { continue };
            let key = &around.relations[&source.relation].schema.key;
            let order: Option<Vec<usize>> = key.iter().map(|k| columns.iter().position(|c| c == k)).collect();
            if let Some(order) = order
                && order.len() == keys.len()
            {
                return order;
            }
        }
        (0..left_keys.len()).collect()
    }

    /// How a join finds the old rows of one input.
    fn side(&mut self, input: NodeIndex, keys: Vec<usize>, whole: bool, around: &mut Surroundings<'_>) -> JoinSide {
        let types = self.nodes[input].types.clone();
        let schema = Arc::clone(&self.nodes[input].arrow);
        let side = self.stored_side(input, &keys, whole, around).unwrap_or_else(|| {
            let state = self.arrangement(input, &keys, whole, around);
            Side::own(state, types.clone(), Arc::clone(&schema))
        });
        JoinSide { side, keys, types, schema }
    }

    fn stored_side(
        &self,
        input: NodeIndex,
        keys: &[usize],
        whole: bool,
        around: &mut Surroundings<'_>,
    ) -> Option<Side> {
        let source = self.trace(input)?;
        let columns = source.columns_of(keys)?;
        if keys.is_empty() || whole {
            return None;
        }
        let stored = around.relations.get_mut(&source.relation)?;
        let index = if columns == stored.schema.key {
            None
        } else if let Some(index) = stored.indexes.iter().find(|index| index.columns == columns) {
            Some(index.buckets)
        } else {
            let (id, built) = around.states.state(&format!("index {} {columns:?}", stored.id));
            let buckets = Buckets { table: id };
            stored.indexes.push(crate::stored::Index { columns, buckets, built });
            Some(buckets)
        };
        Some(Side::stored(stored, index, source.columns, source.base, source.maps))
    }

    fn arrangement(
        &mut self,
        input: NodeIndex,
        keys: &[usize],
        keeps_nulls: bool,
        around: &mut Surroundings<'_>,
    ) -> TableId {
        let node = &mut self.nodes[input];
        let known =
            node.arrangements.iter().find(|a| a.arrangement.keys == keys && a.arrangement.keeps_nulls == keeps_nulls);
        if let Some(known) = known {
            return known.arrangement.buckets.table;
        }
        let (id, built) = around.states.state(&format!("{} by {keys:?} {keeps_nulls}", node.identity));
        let types = node.types.clone();
        let arrangement = Arrangement { buckets: Buckets { table: id }, keys: keys.to_vec(), types, keeps_nulls };
        node.arrangements.push(KeptArrangement { arrangement, built });
        id
    }

    /// Follows maps down to a stored relation.
    fn trace(&self, input: NodeIndex) -> Option<Trace> {
        let mut maps = Vec::new();
        let mut sources: Vec<Option<usize>> = (0..self.nodes[input].types.len()).map(Some).collect();
        let mut at = input;
        loop {
            let node = &self.nodes[at];
            match &node.rule {
                Rule::Map(program) => {
                    let through = program.columns();
                    sources = sources.iter().map(|c| c.and_then(|c| through[c])).collect();
                    maps.push(Arc::clone(program));
                    at = node.inputs[0];
                }
                Rule::Table { relation, columns } => {
                    maps.reverse();
                    return Some(Trace {
                        relation: *relation,
                        columns: columns.clone(),
                        base: Arc::clone(&node.arrow),
                        sources: sources.iter().map(|c| c.map(|c| columns[c])).collect(),
                        maps,
                    });
                }
                _ => return None,
            }
        }
    }

    /// The node and everything above it, inputs first.
    pub fn ancestors(&self, output: NodeIndex) -> Vec<NodeIndex> {
        let mut found = std::collections::BTreeSet::from([output]);
        let mut open = vec![output];
        while let Some(node) = open.pop() {
            open.extend(self.nodes[node].inputs.iter().filter(|&&input| found.insert(input)));
        }
        found.into_iter().collect()
    }
}

/// A stored relation seen through maps.
struct Trace {
    relation: TableId,
    columns: Vec<usize>,
    base: SchemaRef,
    /// Per column of the node the column of the relation that it is, unchanged.
    sources: Vec<Option<usize>>,
    maps: Vec<Arc<MapProgram>>,
}

impl Trace {
    fn columns_of(&self, keys: &[usize]) -> Option<Vec<usize>> {
        keys.iter().map(|&k| self.sources[k]).collect()
    }
}

/// The relation in which a model's rows are kept: its output columns, and the key if there is one.
pub fn model_relation(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    schema.columns.iter_mut().for_each(|c| c.nullable = true);
    schema
}
