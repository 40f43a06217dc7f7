//! All models as one graph: equal sub-plans are one node with several readers.
//!
//! Nodes stand in topological order, because a flow lists inputs first and models come in the order in which they read
//! one another. A node's identity is persistent: the hash of its plan and of the incarnations of the tables behind it. The
//! states of a node are found again by it after a restart; what nobody has an identity for any more is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use plan::{Flow, NodeId, Op, TableName};
use relation::key::hash128;
use relation::{DataType, Schema, TableId};

use crate::arrange::{Arrangement, Side};
use crate::buckets::Buckets;
use crate::error::{Error, Result};
use crate::expr::{MapProgram, arrow_schema};
use crate::operator::join::JoinSide;
use crate::operator::sink::Sink;
use crate::operator::{self, PointKey, Rule};
use crate::states::StateCatalog;
use crate::stored::Stored;

/// Position of a node in the graph.
pub type NodeIndex = usize;

/// One operator of the graph.
#[derive(Clone)]
pub struct Node {
    pub identity: String,
    /// Its identity, were it not begun again.
    pub(crate) base: String,
    pub(crate) rule: Arc<dyn Rule>,
    pub inputs: Vec<NodeIndex>,
    pub readers: Vec<NodeIndex>,
    pub types: Vec<DataType>,
    pub arrow: SchemaRef,
    /// Rows of this node kept by join key, for readers that look them up.
    pub arrangements: Vec<KeptArrangement>,
    /// States of its own.
    pub states: Vec<TableId>,
    /// Where the rows that it cannot take are kept.
    pub rejects: Option<TableId>,
    /// Whether those are all there.
    pub rejects_built: bool,
    /// All that was asked for when it was compiled: its own states, and what it finds the rows of its inputs by.
    pub(crate) asked: BTreeSet<TableId>,
    /// Whether its states hold everything up to the last step; until then it does not run.
    pub built: bool,
    /// Whether something that is kept needs its rows now: see [`Graph::refresh_active`].
    pub active: bool,
    /// Why it was parked, and with it everything that reads it.
    pub parked: Option<String>,
    /// Whether a model still stands on it; else it waits for the next start to be gone.
    pub wanted: bool,
    /// Where a query that answers it is found: a model and a node of its flow.
    pub origin: (usize, NodeId),
}

/// An arrangement of a node's rows.
#[derive(Clone)]
pub struct KeptArrangement {
    pub arrangement: Arc<Arrangement>,
    pub built: bool,
}

/// The graph.
#[derive(Clone, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// Table nodes by the relation that feeds them.
    pub feeds: BTreeMap<TableId, Vec<NodeIndex>>,
}

/// What adding a flow may look up and change.
pub struct Surroundings<'a> {
    pub relations: &'a mut BTreeMap<TableId, Stored>,
    /// Relation of a table or model by name, and the model's sink.
    pub resolve: &'a dyn Fn(&TableName) -> Option<(TableId, Option<NodeIndex>)>,
    pub(crate) states: &'a mut StateCatalog<'a>,
    /// How often the nodes of these identities were begun again, since their states had become wrong.
    pub again: &'a BTreeMap<String, u64>,
}

/// An operator being compiled: what it may look up, and what it asks for.
pub(crate) struct Compiling<'c, 'a> {
    pub(crate) graph: &'c mut Graph,
    pub(crate) identity: &'c str,
    pub(crate) node: &'c plan::Node,
    pub(crate) inputs: Vec<NodeIndex>,
    pub(crate) model: &'c TableName,
    pub(crate) around: &'c mut Surroundings<'a>,
    /// The relation that feeds it from outside of the graph.
    pub(crate) feed: Option<TableId>,
    /// Whether all states asked for are built.
    pub(crate) built: bool,
}

impl Compiling<'_, '_> {
    /// Types of an input's columns.
    pub(crate) fn types(&self, input: usize) -> Vec<DataType> {
        self.graph.nodes[self.inputs[input]].types.clone()
    }

    /// A state of its own, told from its others by a suffix.
    pub(crate) fn state(&mut self, suffix: &str) -> TableId {
        let (id, built) = self.around.states.state(&format!("{}{suffix}", self.identity));
        self.built &= built;
        id
    }

    /// The stored relation of a name; for a model with its sink.
    pub(crate) fn relation(&self, table: &TableName) -> Result<(TableId, Option<NodeIndex>)> {
        let missing = || Error::MissingInput { model: self.model.clone(), table: table.clone() };
        (self.around.resolve)(table).ok_or_else(missing)
    }
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
            let base = self.identity(node, &inputs, name, around)?;
            let identity = match around.again.get(&base) {
                Some(times) => hex(format!("{base} again {times}").as_bytes()),
                None => base.clone(),
            };
            if let Some(known) = self.nodes.iter().position(|n| n.wanted && n.identity == identity) {
                placed.push(known);
                continue;
            }
            let origin = (model, NodeId(i));
            let index = self.compile(identity, node, inputs, origin, name, around)?;
            self.nodes[index].base = base;
            placed.push(index);
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
        let rule = Arc::new(Sink { model, relation });
        self.push(Node {
            base: identity.clone(),
            identity,
            rule,
            inputs: vec![output],
            readers: Vec::new(),
            types,
            arrow,
            arrangements: Vec::new(),
            states: vec![relation],
            rejects: None,
            rejects_built: false,
            asked: BTreeSet::from([relation]),
            built: false,
            active: false,
            parked: None,
            wanted: true,
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
        Ok(hex(text.as_bytes()))
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
        let mut compiling =
            Compiling { graph: self, identity: &identity, node, inputs, model, around, feed: None, built: true };
        let rule = operator::compile(&mut compiling)?;
        let Compiling { inputs, feed, built, .. } = compiling;
        let rejects = rule.rejects_rows().then(|| around.states.rejects(&format!("{identity} rejects")));
        let asked = std::mem::take(&mut around.states.wanted);
        let index = self.push(Node {
            states: rule.states(),
            base: identity.clone(),
            identity,
            rule,
            inputs,
            readers: Vec::new(),
            types: node.schema.types(),
            arrow: arrow_schema(&node.schema),
            arrangements: Vec::new(),
            rejects: rejects.map(|(id, _)| id),
            rejects_built: rejects.is_some_and(|(_, built)| built),
            asked,
            built,
            active: false,
            parked: None,
            wanted: true,
            origin,
        });
        if let Some(relation) = feed {
            self.feeds.entry(relation).or_default().push(index);
        }
        Ok(index)
    }

    /// The order of a join's key pairs that lets one read find a side's row, if there is one.
    pub(crate) fn key_order(
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
        let node = &self.nodes[at];
        let key = match node.rule.point_key(self, node, &columns, around) {
            PointKey::None => return None,
            PointKey::Columns(key) => key,
            PointKey::Of(input, columns) => return self.point_order(input, &columns, around),
        };
        let order: Vec<usize> = key.iter().map(|k| columns.iter().position(|c| c == k)).collect::<Option<_>>()?;
        (!order.is_empty() && order.len() == keys.len()).then_some(order)
    }

    /// How a join finds the old rows of one input.
    pub(crate) fn side(
        &mut self,
        input: NodeIndex,
        keys: Vec<usize>,
        whole: bool,
        around: &mut Surroundings<'_>,
    ) -> JoinSide {
        let types = self.nodes[input].types.clone();
        let schema = Arc::clone(&self.nodes[input].arrow);
        let found = if whole || keys.is_empty() { None } else { self.lookup(input, &keys, around) };
        let side = found.unwrap_or_else(|| self.own_side(input, &keys, whole, around));
        JoinSide { side, keys, types, schema }
    }

    pub(crate) fn own_side(
        &mut self,
        input: NodeIndex,
        keys: &[usize],
        whole: bool,
        around: &mut Surroundings<'_>,
    ) -> Side {
        let state = self.arrangement(input, keys, whole, around);
        Side::own(state, self.nodes[input].types.clone(), Arc::clone(&self.nodes[input].arrow))
    }

    /// How rows of a node are found in what is kept below it; none where nothing below has these columns for a key.
    pub(crate) fn lookup(&mut self, node: NodeIndex, keys: &[usize], around: &mut Surroundings<'_>) -> Option<Side> {
        let (at, columns, maps) = self.below_maps(node, keys)?;
        let rule = Arc::clone(&self.nodes[at].rule);
        rule.lookup(self, at, &columns, maps, around)
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
            around.states.want(known.arrangement.buckets.table);
            return known.arrangement.buckets.table;
        }
        let (id, built) = around.states.state(&format!("{} by {keys:?} {keeps_nulls}", node.identity));
        let types = node.types.clone();
        let arrangement = Arrangement { buckets: Buckets { table: id }, keys: keys.to_vec(), types, keeps_nulls };
        let arrangement = Arc::new(arrangement);
        node.arrangements.push(KeptArrangement { arrangement, built });
        id
    }

    /// The node under a chain of maps, what these columns are there, and the maps from below upwards; none where a
    /// column is computed on the way.
    fn below_maps(&self, node: NodeIndex, columns: &[usize]) -> Option<(NodeIndex, Vec<usize>, Vec<Arc<MapProgram>>)> {
        let mut maps = Vec::new();
        let mut columns = columns.to_vec();
        let mut at = node;
        while let Some(program) = self.nodes[at].rule.map() {
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
            let is_read = || node.readers.iter().any(|&reader| self.nodes[reader].active);
            let is_needed = if node.rule.keeps() { node.built } else { is_read() };
            let active = is_needed || node.arrangements.iter().any(|kept| kept.built);
            self.nodes[index].active = active && self.nodes[index].wanted;
        }
    }

    /// Keeps these nodes, and of what is found by join key what stands in these tables; the others are no longer run.
    pub(crate) fn keep(&mut self, nodes: &BTreeSet<NodeIndex>, tables: &BTreeSet<TableId>) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.wanted &= nodes.contains(&index);
            node.active &= node.wanted;
            node.built &= node.wanted;
            node.readers.retain(|reader| nodes.contains(reader));
            node.arrangements.retain(|kept| tables.contains(&kept.arrangement.buckets.table));
        }
        self.feeds.values_mut().for_each(|fed| fed.retain(|node| nodes.contains(node)));
    }

    /// The node and everything that it stands on, inputs first.
    pub fn ancestors(&self, output: NodeIndex) -> Vec<NodeIndex> {
        let mut found = BTreeSet::from([output]);
        let mut open = vec![output];
        while let Some(node) = open.pop() {
            open.extend(self.nodes[node].inputs.iter().filter(|&&input| found.insert(input)));
        }
        found.into_iter().collect()
    }

    /// The node and everything that stands on it.
    pub fn descendants(&self, node: NodeIndex) -> BTreeSet<NodeIndex> {
        let mut found = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            open.extend(self.nodes[node].readers.iter().filter(|&&reader| found.insert(reader)));
        }
        found
    }

    /// Whether a node is a table, or constants, seen through filters and projections: one scan answers it.
    pub(crate) fn is_scan(&self, mut node: NodeIndex) -> bool {
        while self.nodes[node].rule.map().is_some() {
            node = self.nodes[node].inputs[0];
        }
        self.nodes[node].inputs.is_empty() || self.nodes[node].rule.table().is_some()
    }
}

fn hex(bytes: &[u8]) -> String {
    hash128(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The relation in which a model's rows are kept: its output columns, and the key if there is one.
pub fn model_relation(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    schema.columns.iter_mut().for_each(|c| c.nullable = true);
    schema
}
