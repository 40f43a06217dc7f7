//! Rows for which an expression failed: data, not an end of the model.
//!
//! A rejected row is kept with its weight, so that its correction, the row's retraction, takes it out again.

use std::collections::BTreeMap;

use relation::{Delta, Layout, Value};
use store::Writes;

use crate::buckets::{weight_of, weighted};
use crate::engine::Engine;
use crate::error::Result;
use crate::expr::Failure;
use crate::graph::{Node, NodeIndex};
use crate::operator::States;

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
        for (key, (weight, body)) in net {
            let before = states.get(self.rejects, &key)?;
            let count = before.as_ref().map_or(0, |v| weight_of(v)) + weight;
            if count <= 0 {
                writes.delete(self.rejects, &key);
                continue;
            }
            let body = before.as_ref().map_or(body.as_slice(), |value| value.get(8..).unwrap_or_default());
            writes.put(self.rejects, &key, &weighted(count, body));
        }
        Ok(())
    }

    /// Adds failures of a map to those before.
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
        let layout = Layout::new(self.graph.nodes[node.inputs[0]].types.clone());
        let rows = relation::columns::encode(&layout, &input.batch)?;
        for failure in failures {
            let row = rows.get(failure.row as usize);
            let body = || self.reject_body(node, row, &failure.reason);
            let entry = net.entry(reject_key(node, &layout, row)).or_insert_with(|| (0, body()));
            entry.0 += input.weights[failure.row as usize];
        }
        Ok(())
    }

    /// Writes the failures of a map that saw all its rows: their counts are absolute, and there are no others.
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
            let layout = Layout::new(self.graph.nodes[node.inputs[0]].types.clone());
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
            if let Some(reject) = self.read_reject(&key, &value) {
                found.push(reject);
            }
        }
        Ok(found)
    }

    fn read_reject(&self, key: &[u8], value: &[u8]) -> Option<Reject> {
        let identity = std::str::from_utf8(key.split(|b| *b == 0).next()?).ok()?;
        let step = u64::from_le_bytes(value.get(8..16)?.try_into().ok()?);
        let mut rest = value.get(16..)?;
        let mut part = || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = tail;
            Some(part)
        };
        let model = String::from_utf8_lossy(part()?).into_owned();
        let reason = String::from_utf8_lossy(part()?).into_owned();
        let row = part()?;
        let node = self.graph.nodes.iter().find(|n| n.identity == identity)?;
        let input = &self.graph.nodes[node.inputs[0]];
        let layout = Layout::new(input.types.clone());
        layout.check(row).ok()?;
        let names = input.arrow.fields().iter().map(|f| f.name().clone());
        let id = relation::key::hash128(key).iter().map(|b| format!("{b:02x}")).collect();
        Some(Reject { id, model, reason, row: names.zip(layout.values(row)).collect(), step })
    }
}
