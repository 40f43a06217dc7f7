//! Rows that could not be taken: data, not an end of the model.
//!
//! Every operator that may fail on a row has a state of such rows: what was rejected, counted, so that the row's
//! correction, its retraction, takes it out again. What a source could not read stands among the rows of its table
//! ([`relation::TableChanges`]) and is kept in a state of the engine: under the row's key, where that could be read, until
//! something is known of the key again, which is a change or a chunk that brings it, or that it went; without one, counted
//! under the row's image, until it goes; until the table is emptied; or until it has been loaded again, which brings anew what
//! is there still. Of a step whose rows contradict what is stored of their table nothing is taken, and no reject comes or goes.
//!
//! ```text
//! key    the row by all its columns (of a join: of both sides)
//! value  weight, step of the first failure, model, reason, row, code
//!
//! key    the table's number, 1, the row's key as it would be stored; or 0, a hash of its image
//! value  weight, step, table, reason, row, position, time
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{Flow, NodeId, Op, TableName};
use relation::{DataType, Delta, Entry, Layout, Rows, SourceBatch, TableId, Unread, Value};
use store::{Snapshot, Writes};

use crate::buckets::{read_weighted, weighted};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::expr::{Failure, plain_column};
use crate::graph::{Graph, Node, NodeIndex};
use crate::load::Load;
use crate::network::Network;
use crate::operator::States;
use crate::step::Moves;

/// A row that is missing in a model or table because it could not be taken. Rows that are equal in all that their expression read are
/// as many rejects.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Stable over restarts. Of equal rows each has its own.
    pub id: String,
    /// The model in which it failed first, where other models over the same sub-plan miss it too; or the source's table.
    pub node: String,
    pub reason: String,
    /// The SQLSTATE of the reason: that with which a query fails on the row.
    pub code: String,
    /// The values of the row's key. Of a model's reject: of the model's key, where that is among the columns of the rejected row;
    /// else of the key of the rows that it was made of. Empty where there is none, or the source could not read it.
    pub key: Vec<Value>,
    pub row: RejectedRow,
    /// Step of the first failure.
    pub step: u64,
    /// Where in the source's log it stands; empty for a model's.
    pub position: String,
    /// When the source said so, in microseconds since 1970; 0 for a model's.
    pub at_us: i64,
}

/// What is known of a rejected row.
#[derive(Debug, Clone, PartialEq)]
pub enum RejectedRow {
    /// The input of the failed expression, by column name.
    Columns(Vec<(String, Value)>),
    /// What could be read of it.
    Text(String),
}

/// A row that a source could not read, as records have told of it that were written before such rows stood among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceReject {
    pub(crate) table: TableId,
    /// The row's key as the table stores it; empty where it could not be read, or the table has none.
    pub(crate) key: Vec<u8>,
    pub(crate) row: String,
    pub(crate) reason: String,
    pub(crate) position: String,
    pub(crate) at_us: i64,
}

/// Rows that a rule could not take, by the layout of its inputs' columns one after the other.
pub(crate) struct Rejected {
    pub(crate) rows: Rows,
    pub(crate) weights: Vec<i64>,
    pub(crate) errors: Vec<query::Error>,
}

impl Rejected {
    /// No rows yet.
    pub(crate) fn none() -> Self {
        Self { rows: Rows::new(), weights: Vec::new(), errors: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Adds the rows of a delta on which a node failed.
    pub(crate) fn add(&mut self, graph: &Graph, node: &Node, delta: &Delta, failures: &[Failure]) -> Result<()> {
        if failures.is_empty() {
            return Ok(());
        }
        let positions: Vec<u32> = failures.iter().map(|failure| failure.row).collect();
        let failed = delta.take(&positions)?;
        self.rows.append(&relation::columns::encode(&Layout::new(types(graph, node)), &failed.batch)?);
        self.weights.extend(failed.weights);
        self.errors.extend(failures.iter().map(|failure| failure.error.clone()));
        Ok(())
    }
}

/// Types of the rows that a node may reject: the columns of all its inputs.
pub(crate) fn types(graph: &Graph, node: &Node) -> Vec<DataType> {
    node.inputs.iter().flat_map(|&input| graph.nodes[input].types.iter().copied()).collect()
}

fn names(graph: &Graph, node: &Node) -> Vec<String> {
    let fields = node.inputs.iter().flat_map(|&input| graph.nodes[input].arrow.fields().iter());
    // Of what is computed the planner makes a name: people read it as SQL.
    fields.map(|field| plan::in_sql(field.name())).collect()
}

impl Network {
    /// Counts what a node rejected, in the state that it has for that.
    pub(crate) fn note_rejects(
        &self,
        node: &Node,
        table: TableId,
        rejected: &Rejected,
        states: States<'_>,
        step: u64,
        writes: &mut Writes,
    ) -> Result<()> {
        let layout = Layout::new(types(&self.graph, node));
        let mut net: BTreeMap<Vec<u8>, (i64, usize)> = BTreeMap::new();
        for (i, row) in rejected.rows.iter().enumerate() {
            let mut key = Vec::new();
            crate::stored::bag_key(&layout, row, &mut key);
            let entry = net.entry(key).or_insert((0, i));
            entry.0 = entry.0.checked_add(rejected.weights[i]).ok_or(relation::Error::Overflow("weight"))?;
        }
        let model = self.models[node.origin.0].name.to_string();
        for (key, (weight, i)) in net {
            let before = states.get(table, &key)?;
            let (count, kept) = match before.as_deref().map(read_weighted).transpose()? {
                Some((count, body)) => (count, Some(body)),
                None => (0, None),
            };
            let count = count.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
            match count {
                0 => writes.delete(table, &key),
                1.. => {
                    let error = &rejected.errors[i];
                    let row = rejected.rows.get(i);
                    let new = || body(step, &[model.as_bytes(), error.message.as_bytes(), row, error.code.as_bytes()]);
                    let body = kept.map_or_else(new, <[u8]>::to_vec);
                    writes.put(table, &key, &weighted(count, &body));
                }
                _ => {
                    let what = "a rejected row counted fewer than no times";
                    return Err(Error::Broken { node: node.identity.clone(), what });
                }
            }
        }
        Ok(())
    }
}

const KEYED: u8 = 1;
const UNKEYED: u8 = 0;

/// Where the reject of a table's row is kept, by the row's key.
pub(crate) fn reject_key(table: TableId, key: &[u8]) -> Vec<u8> {
    [&table.0.to_be_bytes()[..], &[KEYED], key].concat()
}

/// The same of one without a key that can be read, by the hash of its image.
pub(crate) fn image_key(table: TableId, image: &[u8; 16]) -> Vec<u8> {
    [&table.0.to_be_bytes()[..], &[UNKEYED], image].concat()
}

impl SourceReject {
    fn kept_under(&self) -> Vec<u8> {
        if !self.key.is_empty() {
            return reject_key(self.table, &self.key);
        }
        let hash = relation::key::hash128(format!("{}\0{}", self.position, self.row).as_bytes());
        image_key(self.table, &hash)
    }
}

impl Engine {
    /// The key under which a table stores the row of these key values, in the order of its key's columns; none where the
    /// table is not known, has no key, or has another.
    pub fn row_key(&self, table: TableId, values: &[Value]) -> Option<Vec<u8>> {
        let stored = self.network.relations.get(&table).filter(|stored| stored.is_keyed())?;
        let columns = &stored.schema.key;
        if columns.len() != values.len() {
            return None;
        }
        let types = columns.iter().map(|&column| stored.layout.types()[column]).collect();
        let layout = Layout::new(types);
        let mut rows = Rows::new();
        rows.push_values(&layout, values).ok()?;
        let mut key = Vec::new();
        relation::key::push_row(&mut key, &layout, rows.get(0), &(0..values.len()).collect::<Vec<_>>());
        Some(key)
    }

    /// Rows of a table that its source could not read, as readers see it.
    pub fn reject_count(&self, table: TableId) -> u64 {
        let rejected = self.shown.as_ref().map_or(&self.rejected, |shown| &shown.rejected);
        rejected.get(&table).copied().unwrap_or(0)
    }

    /// Where the rejects of a table are kept.
    pub(crate) fn reject_keys(&self, table: TableId) -> Result<Vec<Vec<u8>>> {
        if !self.rejected.contains_key(&table) {
            return Ok(Vec::new());
        }
        let snapshot = self.store.working();
        let keys = snapshot.scan(self.rejects, &table.0.to_be_bytes());
        keys.map(|entry| Ok(entry?.0.to_vec())).collect()
    }

    /// Writes a row that a source could not read, as an older record has it.
    pub(crate) fn take_reject(
        &self,
        reject: &SourceReject,
        states: States<'_>,
        step: u64,
        moves: &mut Moves,
        writes: &mut Writes,
    ) -> Result<()> {
        let key = reject.kept_under();
        if !self.is_rejected(&key, states, writes)? {
            *moves.rejected(self, reject.table) += 1;
        }
        let SourceReject { row, reason, position, .. } = reject.clone();
        let unread = Unread { row, reason, position, at_us: reject.at_us, ..Unread::default() };
        writes.put(self.rejects, &key, &weighted(1, &self.body_of(reject.table, &unread, step)));
        moves.new_rejects.entry(reject.table).or_default().push(key);
        Ok(())
    }

    /// What is kept of a row that could not be read.
    fn body_of(&self, table: TableId, unread: &Unread, step: u64) -> Vec<u8> {
        let name = self.network.tables.get(&table);
        let name = name.map_or_else(|| table.to_string(), |table| table.name.to_string());
        let Unread { row, reason, position, at_us, .. } = unread;
        body(step, &[name.as_bytes(), reason.as_bytes(), row.as_bytes(), position.as_bytes(), &at_us.to_le_bytes()])
    }

    fn is_rejected(&self, key: &[u8], states: States<'_>, writes: &Writes) -> Result<bool> {
        match writes.get(self.rejects, key) {
            Some(written) => Ok(written.is_some()),
            None => Ok(states.get_seldom(self.rejects, key)?.is_some()),
        }
    }

    /// What a batch brings of a key takes the key's reject out; rows that could not be read come and go in their order.
    pub(crate) fn take_unread(
        &self,
        batch: &SourceBatch,
        states: States<'_>,
        step: u64,
        moves: &mut Moves,
        writes: &mut Writes,
    ) -> Result<()> {
        for (id, changes) in &batch.tables {
            let has_rejects = moves.rejected.contains_key(id) || self.rejected.contains_key(id);
            if !has_rejects && !changes.has_unread(0) {
                continue;
            }
            let Some(stored) = self.network.relations.get(id) else { continue };
            for entry in changes.entries() {
                match entry {
                    Entry::Row(row, _) if stored.is_keyed() && *moves.rejected(self, *id) > 0 => {
                        let mut key = Vec::with_capacity(48);
                        stored.push_key(row, &mut key);
                        let key = reject_key(*id, &key);
                        if self.is_rejected(&key, states, writes)? {
                            writes.delete(self.rejects, &key);
                            moves.rejected_more(self, *id, -1)?;
                        }
                    }
                    Entry::Row(..) => {}
                    Entry::Unread(bytes, weight) => {
                        let unread = Unread::read(bytes)?;
                        self.count_unread(*id, (&unread, weight), states, step, moves, writes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A row that could not be read comes or goes: under a key there is one at most. One without a key that can be read, of a
    /// table that is loaded again, is brought anew where it was there before that: it is no further one.
    fn count_unread(
        &self,
        id: TableId,
        (unread, weight): (&Unread, i8),
        states: States<'_>,
        step: u64,
        moves: &mut Moves,
        writes: &mut Writes,
    ) -> Result<()> {
        let is_keyed = self.network.relations.get(&id).is_some_and(crate::stored::Stored::is_keyed);
        let has_key = is_keyed && !unread.key.is_empty();
        let key = if has_key { reject_key(id, &unread.key) } else { image_key(id, &unread.image) };
        let kept = self.kept(&key, states, writes)?;
        let kept = kept.as_deref().map(read_weighted).transpose()?;
        let before = kept.map_or(0, |(count, _)| count);
        let since = moves.load(self, id).and_then(Load::again).map_or(0, |again| again.since_step);
        let is_older = kept.and_then(|(_, body)| step_of(body)).is_some_and(|step| step < since);
        let is_anew = is_keyed && weight > 0 && is_older;
        let is_one = has_key || is_anew;
        let after = if is_one { i64::from(weight.max(0)) } else { (before + i64::from(weight)).max(0) };
        moves.rejected_more(self, id, after - before)?;
        if after == 0 {
            writes.delete(self.rejects, &key);
            return Ok(());
        }
        let body = match kept {
            Some((_, body)) if !is_one => body.to_vec(),
            _ => self.body_of(id, unread, step),
        };
        writes.put(self.rejects, &key, &weighted(after, &body));
        if weight > 0 {
            moves.new_rejects.entry(id).or_default().push(key);
        }
        Ok(())
    }

    /// What is kept under a key after what was written so far.
    fn kept(&self, key: &[u8], states: States<'_>, writes: &Writes) -> Result<Option<Vec<u8>>> {
        Ok(match writes.get(self.rejects, key) {
            Some(written) => written.map(<[u8]>::to_vec),
            None => states.get_seldom(self.rejects, key)?.map(|value| value.to_vec()),
        })
    }

    /// Takes out the rejects of a table from before a step: all that was so then has been looked at anew.
    pub(crate) fn heal_older(
        &self,
        table: TableId,
        than: u64,
        states: States<'_>,
        moves: &mut Moves,
        writes: &mut Writes,
    ) -> Result<()> {
        let is_all = than == u64::MAX;
        let mut gone: Vec<Vec<u8>> = Vec::new();
        if self.rejected.contains_key(&table) {
            for entry in states.snapshot.scan(self.rejects, &table.0.to_be_bytes()) {
                let (key, value) = entry?;
                let (step, _) = parts(&value).ok_or_else(|| damaged("source"))?;
                // What this step has said of one is newer, but where all go.
                if step < than && (is_all || writes.get(self.rejects, &key).is_none()) {
                    gone.push(key.to_vec());
                }
            }
        }
        // Those of this step have its number, which nothing is loaded again after.
        let new = if is_all { moves.new_rejects.remove(&table) } else { None };
        gone.extend(new.into_iter().flatten());
        for key in gone {
            if let Some(value) = self.kept(&key, states, writes)? {
                writes.delete(self.rejects, &key);
                moves.rejected_more(self, table, -read_weighted(&value)?.0)?;
            }
        }
        Ok(())
    }

    /// Leaves the rejects of a table as they were before the step: none of its changes is taken.
    pub(crate) fn leave_rejects(
        &self,
        table: TableId,
        states: States<'_>,
        moves: &mut Moves,
        writes: &mut Writes,
    ) -> Result<()> {
        let of_table = table.0.to_be_bytes();
        let written = writes.keys(self.rejects).filter(|key| key.starts_with(&of_table));
        let written: Vec<Vec<u8>> = written.map(<[u8]>::to_vec).collect();
        for key in written {
            match states.get_seldom(self.rejects, &key)? {
                Some(before) => writes.put(self.rejects, &key, &before),
                None => writes.delete(self.rejects, &key),
            }
        }
        moves.rejected.remove(&table);
        moves.new_rejects.remove(&table);
        Ok(())
    }
}

impl Moves {
    /// How many rows of a table are rejected after the inputs so far.
    fn rejected(&mut self, engine: &Engine, table: TableId) -> &mut u64 {
        self.rejected.entry(table).or_insert_with(|| engine.rejected.get(&table).copied().unwrap_or(0))
    }

    fn rejected_more(&mut self, engine: &Engine, table: TableId, more: i64) -> Result<()> {
        let count = self.rejected(engine, table);
        *count = count.checked_add_signed(more).ok_or(relation::Error::Overflow("number of rejects"))?;
        Ok(())
    }
}

/// A step and some parts.
fn body(step: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut body = step.to_le_bytes().to_vec();
    crate::parts::join(&mut body, parts);
    body
}

/// The step of a [`body`]; none where it has none.
fn step_of(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|step| u64::from_le_bytes(*step))
}

/// The reverse of [`body`], behind a weight.
fn parts(value: &[u8]) -> Option<(u64, Vec<&[u8]>)> {
    let step = u64::from_le_bytes(value.get(8..16)?.try_into().ok()?);
    Some((step, crate::parts::split(value.get(16..)?)?))
}

impl Engine {
    /// All rejects at the present step, at most `limit`: those of sources first.
    pub fn rejects(&self, limit: usize) -> Result<Vec<Reject>> {
        self.reject_reader().read(self.store.snapshot()).take(limit).collect()
    }

    /// Reads rejects as long as the models are those of now.
    pub fn reject_reader(&self) -> RejectReader {
        let keyed = self.network.relations.iter().filter(|(_, stored)| stored.is_keyed());
        let keys = keyed.map(|(id, stored)| {
            let types = stored.schema.key.iter().map(|&column| stored.layout.types()[column]).collect();
            (*id, Layout::new(types))
        });
        let nodes = self.network.graph.nodes.iter().filter(|node| node.wanted && node.rejects_built);
        let nodes = nodes.filter_map(|node| {
            Some(Rejecting {
                table: node.rejects?,
                identity: node.identity.clone(),
                names: names(&self.network.graph, node),
                layout: Layout::new(types(&self.network.graph, node)),
                key: self.network.key_of_rejects(node),
            })
        });
        let nodes = nodes.map(Arc::new).collect();
        RejectReader { of_sources: self.rejects, keys: Arc::new(keys.collect()), nodes }
    }

    /// What models lack because rows could not be taken; counted up to `max` at each place where they failed.
    pub fn reject_counts(&self, max: u64) -> Result<RejectCounts> {
        let snapshot = self.store.snapshot();
        let mut counts = RejectCounts::default();
        let mut of_nodes: BTreeMap<NodeIndex, u64> = BTreeMap::new();
        for (index, node) in self.network.graph.nodes.iter().enumerate() {
            let Some(table) = node.rejects.filter(|_| node.wanted && node.rejects_built) else { continue };
            let mut count = 0;
            for entry in snapshot.scan(table, &[]) {
                let (_, value) = entry?;
                count += u64::try_from(read_weighted(&value)?.0).unwrap_or(0);
                if counts.failed_in.len() < FAILED_IN_MAX {
                    let (step, parts) = parts(&value).ok_or_else(|| damaged(&node.identity))?;
                    let model = parts.first().ok_or_else(|| damaged(&node.identity))?;
                    counts.failed_in.insert((String::from_utf8_lossy(model).into_owned(), step));
                }
                if count >= max {
                    break;
                }
            }
            if count > 0 {
                counts.all += count;
                of_nodes.insert(index, count);
            }
        }
        if of_nodes.is_empty() {
            return Ok(counts);
        }
        let counted = self.models().into_iter().map(|model| {
            let below = self.network.graph.ancestors(model.sink).into_iter();
            (model.name.clone(), below.filter_map(|node| of_nodes.get(&node)).sum())
        });
        counts.of_models = counted.filter(|(_, count)| *count > 0).collect();
        Ok(counts)
    }
}

/// Steps in which rows failed that are told apart.
const FAILED_IN_MAX: usize = 10_000;

/// What models lack because rows could not be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RejectCounts {
    /// Rows that each model that serves lacks, in it or below it. Models that lack none are left out.
    pub of_models: BTreeMap<TableName, u64>,
    /// Rows that failed, each once.
    pub all: u64,
    /// The models in which rows failed first, and in which steps.
    pub failed_in: BTreeSet<(String, u64)>,
}

/// Reads rejects one after the other, any number of them: for who holds a snapshot and not the engine.
#[derive(Clone)]
pub struct RejectReader {
    of_sources: TableId,
    /// How the keys of tables are laid out.
    keys: Arc<BTreeMap<TableId, Layout>>,
    nodes: Arc<[Arc<Rejecting>]>,
}

/// A node that has rejects.
struct Rejecting {
    table: TableId,
    identity: String,
    names: Vec<String>,
    layout: Layout,
    /// The columns of its rejected rows by which people know them.
    key: Vec<usize>,
}

impl std::fmt::Debug for RejectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RejectReader").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl RejectReader {
    /// The rejects that a snapshot has, read as they are asked for: those of sources first. What is kept once with a number is read
    /// as so many rows: [`Engine::reject_counts`] and [`Engine::reject_count`] count them so.
    pub fn read(&self, snapshot: Snapshot) -> impl Iterator<Item = Result<Reject>> + Send + use<> {
        let keys = Arc::clone(&self.keys);
        let of_sources = snapshot.scan(self.of_sources, &[]).map(move |entry| {
            let (key, value) = entry?;
            let reject = read_source_reject(&keys, &key, &value).ok_or_else(|| damaged("source"))?;
            Ok((reject, read_weighted(&value)?.0))
        });
        let nodes = Arc::clone(&self.nodes);
        let of_nodes = (0..nodes.len()).flat_map(move |at| {
            let node = Arc::clone(&nodes[at]);
            snapshot.scan(node.table, &[]).map(move |entry| {
                let (key, value) = entry?;
                let reject = node.read(&key, &value).ok_or_else(|| damaged(&node.identity))?;
                Ok((reject, read_weighted(&value)?.0))
            })
        });
        of_sources.chain(of_nodes).flat_map(|kept: Result<(Reject, i64)>| {
            let (rows, error) = kept.map_or_else(|error| (None, Some(error)), |kept| (Some(kept), None));
            let rows = rows.into_iter().flat_map(|(reject, count)| each(reject, count));
            error.into_iter().map(Err).chain(rows.map(Ok))
        })
    }
}

/// As many rejects as there are rows of this one.
fn each(reject: Reject, count: i64) -> impl Iterator<Item = Reject> {
    let further = reject.clone();
    let further = (1..count).map(move |at| {
        let id = id_of(format!("{} {at}", further.id).as_bytes());
        Reject { id, ..further.clone() }
    });
    std::iter::once(reject).chain(further)
}

impl Rejecting {
    fn read(&self, kept_under: &[u8], value: &[u8]) -> Option<Reject> {
        let (step, parts) = parts(value)?;
        let [model, reason, row, ref code @ ..] = parts[..] else { return None };
        self.layout.check(row).ok()?;
        let values = self.layout.values(row);
        Some(Reject {
            id: id_of(&[self.identity.as_bytes(), kept_under].concat()),
            node: String::from_utf8_lossy(model).into_owned(),
            reason: String::from_utf8_lossy(reason).into_owned(),
            // None stands behind rows of older folders.
            code: code.first().map_or(Cow::Borrowed(UNDECODED), |code| String::from_utf8_lossy(code)).into_owned(),
            key: self.key.iter().filter_map(|&column| values.get(column).cloned()).collect(),
            row: RejectedRow::Columns(self.names.iter().cloned().zip(values).collect()),
            step,
            position: String::new(),
            at_us: 0,
        })
    }
}

impl Network {
    /// The columns of a node's rejected rows by which people know them: see [`Reject::key`].
    fn key_of_rejects(&self, node: &Node) -> Vec<usize> {
        let Some(model) = self.models.get(node.origin.0) else { return Vec::new() };
        let of_model: Option<Vec<usize>> = match &model.schema.key[..] {
            [] => None,
            key => key.iter().map(|&column| origin_of(&model.flow, column, node.origin.1)).collect(),
        };
        of_model.or_else(|| key_of_inputs(&model.flow, node.origin.1)).unwrap_or_default()
    }
}

/// Which column of a node's inputs, one after the other, is a column of the model as it stands; none where it is computed.
fn origin_of(flow: &Flow, column: usize, wanted: NodeId) -> Option<usize> {
    let (mut at, mut column) = (flow.output, column);
    loop {
        let node = flow.node(at);
        // Its place among the columns of all inputs.
        let place = match &node.op {
            Op::Map { outputs, .. } => plain_column(outputs.get(column)?)?,
            Op::Join { .. } => column,
            Op::Aggregate { group, .. } => *group.get(column)?,
            Op::TopK { .. } if column < width(flow, *node.inputs.first()?) => column,
            Op::Unnest { lists, .. } if !lists.contains(&column) => column,
            Op::Table { .. } | Op::Values { .. } | Op::Union | Op::Unnest { .. } | Op::TopK { .. } => return None,
        };
        if at == wanted {
            return Some(place);
        }
        let mut behind = place;
        let input = node.inputs.iter().find(|&&input| {
            let width = width(flow, input);
            let is_here = behind < width;
            behind -= if is_here { 0 } else { width };
            is_here
        });
        (at, column) = (*input?, behind);
    }
}

/// The keys of a node's inputs among their columns; none where an input has none that can be told.
fn key_of_inputs(flow: &Flow, node: NodeId) -> Option<Vec<usize>> {
    let mut columns = Vec::new();
    let mut before = 0;
    for &input in &flow.node(node).inputs {
        let key = &flow.node(input).schema.key;
        if key.is_empty() {
            return None;
        }
        columns.extend(key.iter().map(|&column| before + column));
        before += width(flow, input);
    }
    Some(columns)
}

fn width(flow: &Flow, node: NodeId) -> usize {
    flow.node(node).schema.columns.len()
}

fn read_source_reject(keys: &BTreeMap<TableId, Layout>, kept_under: &[u8], value: &[u8]) -> Option<Reject> {
    let (step, parts) = parts(value)?;
    let text = |i: usize| Some(String::from_utf8_lossy(parts.get(i)?).into_owned());
    let (table, key) = kept_under.split_first_chunk::<4>()?;
    let key = match key.split_first()? {
        (&KEYED, key) => key_values(keys.get(&TableId(u32::from_be_bytes(*table))), key),
        _ => Vec::new(),
    };
    Some(Reject {
        id: id_of(kept_under),
        node: text(0)?,
        reason: text(1)?,
        code: UNDECODED.to_owned(),
        key,
        row: RejectedRow::Text(text(2)?),
        step,
        position: text(3)?,
        at_us: i64::from_le_bytes((*parts.get(4)?).try_into().ok()?),
    })
}

/// The values of a stored key. Of a long one only a hash is kept, and of a table that is gone nobody knows the columns: they
/// have none.
fn key_values(layout: Option<&Layout>, key: &[u8]) -> Vec<Value> {
    let Some(layout) = layout else { return Vec::new() };
    let mut rows = Rows::new();
    match relation::key::read_row(key, layout, &mut rows) {
        Ok(()) if rows.len() == 1 => layout.values(rows.get(0)),
        _ => Vec::new(),
    }
}

/// The code of what a source could not decode: its data are not as they should be.
const UNDECODED: &str = query::error::code::DATA;

fn id_of(key: &[u8]) -> String {
    relation::key::hash128(key).iter().map(|b| format!("{b:02x}")).collect()
}

fn damaged(node: &str) -> Error {
    Error::Broken { node: node.to_owned(), what: "a rejected row cannot be read" }
}
