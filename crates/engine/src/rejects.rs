//! Rows for which an expression failed: data, not an end of the model.
//!
//! A rejected row is kept with its weight, so that its correction, the row's retraction, takes it out again.

use std::collections::BTreeMap;

use relation::{Delta, Layout, Value};
use store::Writes;

use crate::buckets::{read_weighted, weighted};
use crate::engine::Engine;
use crate::error::Result;
use crate::expr::Failure;
use crate::graph::{Node, NodeIndex, Rule};
use crate::operator::States;
use crate::operator::join::FailedPairs;

/// A row that is missing in a model because an expression failed on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Stable over restarts.
    pub id: String,
    /// The model in which it failed first; other models over the same sub-plan miss it too.
    pub model: String,
    pub reason: String,
    /// The input row of the failed expression, by column name.
    pub row: Vec<(String, Value)>,
    /// Step of the first failure.
    pub step: u64,
}

/// Failed rows by their key: how often, and what is kept of each.
pub(crate) type NetRejects = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

fn reject_prefix(node: &Node) -> Vec<u8> {
    let mut prefix = node.identity.clone().into_bytes();
    prefix.push(0);
    prefix
}

fn reject_key(node: &Node, layout: &Layout, row: &[u8]) -> Vec<u8> {
    let mut key = reject_prefix(node);
    crate::stored::bag_key(layout, row, &mut key);
    key
}

impl Engine {
    /// Counts the failures of one step.
    pub(crate) fn note_rejects(
        &self,
        node: &Node,
        input: &Delta,
        failures: &[Failure],
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        let mut net = NetRejects::new();
        self.gather_rejects(node, input, failures, &mut net)?;
        self.add_rejects(net, states, writes)
    }

    /// Counts the pairs of one step on which a join's condition failed.
    pub(crate) fn note_failed_pairs(
        &self,
        node: &Node,
        failed: &FailedPairs,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        let mut net = NetRejects::new();
        self.gather_failed_pairs(node, failed, &mut net)?;
        self.add_rejects(net, states, writes)
    }

    fn add_rejects(&self, net: NetRejects, states: States<'_>, writes: &mut Writes) -> Result<()> {
        for (key, (weight, body)) in net {
            let before = states.get(self.rejects, &key)?;
            let (count, body) = match before.as_deref() {
                None => (0, body.as_slice()),
                Some(value) => read_weighted(value)?,
            };
            let count = count.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
            if count <= 0 {
                writes.delete(self.rejects, &key);
                continue;
            }
            writes.put(self.rejects, &key, &weighted(count, body));
        }
        Ok(())
    }

    /// Adds pairs on which a join's condition failed to those before.
    pub(crate) fn gather_failed_pairs(&self, node: &Node, failed: &FailedPairs, net: &mut NetRejects) -> Result<()> {
        failed.parts.iter().try_for_each(|(pairs, failures)| self.gather_rejects(node, pairs, failures, net))
    }

    /// Adds failures on rows, those of a map's input or pairs of a join, to those before.
    pub(crate) fn gather_rejects(
        &self,
        node: &Node,
        input: &Delta,
        failures: &[Failure],
        net: &mut NetRejects,
    ) -> Result<()> {
        if failures.is_empty() {
            return Ok(());
        }
        let (layout, _) = self.failing(node);
        let rows = relation::columns::encode(&layout, &input.batch)?;
        for failure in failures {
            let row = rows.get(failure.row as usize);
            let body = || self.reject_body(node, row, &failure.reason);
            let entry = net.entry(reject_key(node, &layout, row)).or_insert_with(|| (0, body()));
            let weight = input.weights[failure.row as usize];
            entry.0 = entry.0.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
        }
        Ok(())
    }

    /// Layout and column names of the rows on which a node can fail: those of its input, or a join's pairs.
    fn failing(&self, node: &Node) -> (Layout, Vec<String>) {
        let inputs = if matches!(node.rule, Rule::Join(_)) { &node.inputs[..] } else { &node.inputs[..1] };
        let inputs = || inputs.iter().map(|&input| &self.graph.nodes[input]);
        let names = inputs().flat_map(|input| input.arrow.fields().iter().map(|field| field.name().clone()));
        (Layout::new(inputs().flat_map(|input| input.types.clone()).collect()), names.collect())
    }

    /// Writes the failures of a node that saw all its rows: their counts are absolute, and there are no others. What
    /// failed before keeps the step of its first failure.
    pub(crate) fn settle_rejects(
        &self,
        node: &Node,
        net: &NetRejects,
        states: States<'_>,
        writes: &mut Writes,
    ) -> Result<()> {
        for entry in states.snapshot.scan(self.rejects, &reject_prefix(node)) {
            let (key, _) = entry?;
            if !net.contains_key(&*key) {
                writes.delete(self.rejects, &key);
            }
        }
        for (key, (weight, body)) in net {
            if *weight <= 0 {
                writes.delete(self.rejects, key);
                continue;
            }
            let before = states.get(self.rejects, key)?;
            let body = match before.as_deref() {
                None => body.as_slice(),
                Some(value) => read_weighted(value)?.1,
            };
            writes.put(self.rejects, key, &weighted(*weight, body));
        }
        Ok(())
    }

    /// The rows that a query left out, each once per occurrence, by the map on which they failed.
    pub(crate) fn rejects_of_query(
        &self,
        model: usize,
        rejected: Vec<query::Reject>,
    ) -> Result<BTreeMap<NodeIndex, NetRejects>> {
        let mut nets: BTreeMap<NodeIndex, NetRejects> = BTreeMap::new();
        for reject in rejected {
            let index = self.models[model].placed[reject.node.0];
            let node = &self.graph.nodes[index];
            let (layout, _) = self.failing(node);
            let mut rows = relation::Rows::new();
            rows.push_values(&layout, &reject.row)?;
            let body = || self.reject_body(node, rows.get(0), &reject.error.to_string());
            let net = nets.entry(index).or_default();
            net.entry(reject_key(node, &layout, rows.get(0))).or_insert_with(|| (0, body())).0 += 1;
        }
        Ok(nets)
    }

    /// `step, model, reason, row`, the parts separated by their lengths.
    #[expect(clippy::cast_possible_truncation, reason = "a row of MySQL is at most 1 GiB")]
    fn reject_body(&self, node: &Node, row: &[u8], reason: &str) -> Vec<u8> {
        let (model, _) = node.origin;
        let mut body = (self.step + 1).to_le_bytes().to_vec();
        for part in [self.models[model].name.to_string().as_bytes(), reason.as_bytes(), row] {
            body.extend_from_slice(&(part.len() as u32).to_le_bytes());
            body.extend_from_slice(part);
        }
        body
    }

    /// All rejects at the present step, at most `limit`.
    pub fn rejects(&self, limit: usize) -> Result<Vec<Reject>> {
        let snapshot = self.store.snapshot();
        let mut found = Vec::new();
        for entry in snapshot.scan(self.rejects, &[]).take(limit) {
            let (key, value) = entry?;
            found.extend(self.read_reject(&key, &value)?);
        }
        Ok(found)
    }

    /// None where nothing in the graph has this node any more.
    fn read_reject(&self, key: &[u8], value: &[u8]) -> Result<Option<Reject>> {
        let identity = key.split(|b| *b == 0).next().unwrap_or_default();
        let Some(node) = self.graph.nodes.iter().find(|n| n.identity.as_bytes() == identity) else { return Ok(None) };
        let (_, body) = read_weighted(value)?;
        let body = Body::read(body).ok_or(relation::Error::Damaged("a rejected row cannot be read"))?;
        let (layout, names) = self.failing(node);
        layout.check(body.row)?;
        Ok(Some(Reject {
            id: relation::key::hash128(key).iter().map(|b| format!("{b:02x}")).collect(),
            model: String::from_utf8_lossy(body.model).into_owned(),
            reason: String::from_utf8_lossy(body.reason).into_owned(),
            row: names.into_iter().zip(layout.values(body.row)).collect(),
            step: body.step,
        }))
    }
}

/// What is kept of a failure: see [`Engine::reject_body`].
struct Body<'a> {
    step: u64,
    model: &'a [u8],
    reason: &'a [u8],
    row: &'a [u8],
}

impl<'a> Body<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (step, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut part = || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = tail;
            Some(part)
        };
        let (model, reason, row) = (part()?, part()?, part()?);
        Some(Self { step: u64::from_le_bytes(*step), model, reason, row })
    }
}
