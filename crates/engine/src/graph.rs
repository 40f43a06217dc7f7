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
    /// Whether something that is kept needs its rows now: see [`Graph::refresh_active`].
    pub active: bool,
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
    Join(Arc<JoinOp>),
    Aggregate(Arc<AggregateOp>),
    Union,
    TopK(Arc<TopKOp>),
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
            active: false,
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
                Rule::Aggregate(Arc::new(op))
            }
            Op::TopK { partition, order, offset, limit, numbered } => {
                let (id, ready) = around.states.state(&identity);
                states.push(id);
                built &= ready;
                let window = (*offset, *limit);
                let types = input_types(0);
                let op = TopKOp::new(partition, order, window, *numbered, types, &node.schema, id);
                Rule::TopK(Arc::new(op))
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
                let state = JoinOp::is_counted(*kind, residual.is_some()).then(|| {
                    let (id, ready) = around.states.state(&format!("{identity} matches"));
                    states.push(id);
                    built &= ready;
                    id
                });
                let left = self.side(inputs[0], left_keys, *kind == JoinKind::NullAwareAnti, around);
                let right = self.side(inputs[1], right_keys, false, around);
                Rule::Join(Arc::new(JoinOp::new(*kind, left, right, residual, &node.schema, state)))
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
            active: false,
            parked: None,
            origin,
        });
        if let Some(relation) = feed {
            self.feeds.entry(relation).or_default().push(index);
        }
        Ok(index)
    }

    /// The order of a join's key pairs that lets one read find a side's row, if there is one.
    fn key_order(
        &self,
        inputs: &[NodeIndex],
        left_keys: &[usize],
        right_keys: &[usize],
        around: &Surroundings<'_>,
    ) -> Vec<usize> {
        let right = self.point_order(inputs[1], right_keys, around);
        let order = right.or_else(|| self.point_order(inputs[0], left_keys, around));
        order.unwrap_or_else(|| (0..left_keys.len()).collect())
    }

    /// How columns of a node must be ordered to be the key of a point read; none where they are no such key.
    fn point_order(&self, node: NodeIndex, keys: &[usize], around: &Surroundings<'_>) -> Option<Vec<usize>> {
        let (at, columns, _) = self.below_maps(node, keys)?;
        let key = match &self.nodes[at].rule {
            Rule::Table { relation, columns: of_relation } => {
                let key = &around.relations[relation].schema.key;
                key.iter().map(|k| of_relation.iter().position(|c| c == k)).collect::<Option<Vec<_>>>()?
            }
            Rule::Aggregate(aggregate) => (0..aggregate.group_columns()).collect(),
            Rule::Join(join) => {
                let (from, columns) = join.driving(&columns)?;
                return self.point_order(self.nodes[at].inputs[from as usize], &columns, around);
            }
            _ => return None,
        };
        let order: Vec<usize> = key.iter().map(|k| columns.iter().position(|c| c == k)).collect::<Option<_>>()?;
        (!order.is_empty() && order.len() == keys.len()).then_some(order)
    }

    /// How a join finds the old rows of one input.
    fn side(&mut self, input: NodeIndex, keys: Vec<usize>, whole: bool, around: &mut Surroundings<'_>) -> JoinSide {
        let types = self.nodes[input].types.clone();
        let schema = Arc::clone(&self.nodes[input].arrow);
        let found = if whole || keys.is_empty() { None } else { self.lookup(input, &keys, around) };
        let side = found.unwrap_or_else(|| self.own_side(input, &keys, whole, around));
        JoinSide { side, keys, types, schema }
    }

    fn own_side(&mut self, input: NodeIndex, keys: &[usize], whole: bool, around: &mut Surroundings<'_>) -> Side {
        let state = self.arrangement(input, keys, whole, around);
        Side::own(state, self.nodes[input].types.clone(), Arc::clone(&self.nodes[input].arrow))
    }

    /// How rows of a node are found in what is kept below it; none where nothing below has these columns for a key.
    fn lookup(&mut self, node: NodeIndex, keys: &[usize], around: &mut Surroundings<'_>) -> Option<Side> {
        let (at, columns, maps) = self.below_maps(node, keys)?;
        match &self.nodes[at].rule {
            Rule::Table { relation, columns: of_relation } => {
                let key: Vec<usize> = columns.iter().map(|&c| of_relation[c]).collect();
                let schema = Arc::clone(&self.nodes[at].arrow);
                let stored = around.relations.get_mut(relation)?;
                let index = if key == stored.schema.key {
                    None
                } else if let Some(index) = stored.indexes.iter().find(|index| index.columns == key) {
                    Some(index.buckets)
                } else {
                    let (id, built) = around.states.state(&format!("index {} {key:?}", stored.id));
                    let buckets = Buckets { table: id };
                    stored.indexes.push(crate::stored::Index { columns: key, buckets, built });
                    Some(buckets)
                };
                Some(Side::stored(stored, index, of_relation.clone(), schema, maps))
            }
            Rule::Aggregate(aggregate) if aggregate.is_found_by(&columns) => {
                Some(Side::groups(Arc::clone(aggregate), maps))
            }
            Rule::Join(join) => {
                let join = Arc::clone(join);
                let (from, columns) = join.driving(&columns)?;
                let below = self.nodes[at].inputs[from as usize];
                let driving = self.lookup(below, &columns, around);
                let driving = driving.unwrap_or_else(|| self.own_side(below, &columns, false, around));
                Some(Side::joined(driving, from, join, maps))
            }
            _ => None,
        }
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

    /// The node under a chain of maps, what these columns are there, and the maps from below upwards; none where a
    /// column is computed on the way.
    fn below_maps(&self, node: NodeIndex, columns: &[usize]) -> Option<(NodeIndex, Vec<usize>, Vec<Arc<MapProgram>>)> {
        let mut maps = Vec::new();
        let mut columns = columns.to_vec();
        let mut at = node;
        while let Rule::Map(program) = &self.nodes[at].rule {
            let through = program.columns();
            columns = columns.iter().map(|&c| through[c]).collect::<Option<_>>()?;
            maps.push(Arc::clone(program));
            at = self.nodes[at].inputs[0];
        }
        maps.reverse();
        Some((at, columns, maps))
    }

    /// Notes which nodes have to run: those that keep a built state, and those whose rows reach one.
    ///
    /// A model that is not built yet needs no rows: its build reads what is stored by then.
    pub fn refresh_active(&mut self) {
        // Readers stand behind what they read.
        for index in (0..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            let keeps = matches!(node.rule, Rule::Sink { .. }) || !node.states.is_empty();
            let is_needed =
                if keeps { node.built } else { node.readers.iter().any(|&reader| self.nodes[reader].active) };
            self.nodes[index].active = is_needed || self.nodes[index].arrangements.iter().any(|kept| kept.built);
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

/// The relation in which a model's rows are kept: its output columns, and the key if there is one.
pub fn model_relation(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    schema.columns.iter_mut().for_each(|c| c.nullable = true);
    schema
}
