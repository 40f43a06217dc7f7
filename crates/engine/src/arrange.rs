//! How the rows of a join's side are found by key.
//!
//! A side that is a stored relation, seen through filters and projections, needs no state of its own: the relation's
//! primary key or a thin index finds its rows, and the filters and projections are applied to what was found. Any other
//! side (an aggregate, a join that is not kept) is kept as an arrangement of its own, rows and weights by join key.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use relation::columns::decode;
use relation::{DataType, Delta, Layout, Rows, TableId};
use store::Writes;

use crate::buckets::{Buckets, Change, weight_of};
use crate::error::Result;
use crate::expr::MapProgram;
use crate::operator::States;
use crate::operator::join::Found;
use crate::stored::Stored;

/// Old rows of one side of a join.
pub struct Side {
    access: Access,
    chain: Chain,
}

enum Access {
    /// The join key is the relation's whole key.
    Primary { table: TableId },
    /// A thin index of the relation finds the keys of its rows.
    Index { table: TableId, index: Buckets, keyed: bool },
    /// Rows and weights of the side itself.
    Own { buckets: Buckets },
}

/// Decodes stored rows and makes the side's rows of them.
struct Chain {
    layout: Layout,
    columns: Vec<usize>,
    base: SchemaRef,
    maps: Vec<Arc<MapProgram>>,
}

impl Side {
    /// A side read through a stored relation: `columns` of it, then `maps`. `index` none: by its primary key.
    pub fn stored(
        stored: &Stored,
        index: Option<Buckets>,
        columns: Vec<usize>,
        base: SchemaRef,
        maps: Vec<Arc<MapProgram>>,
    ) -> Self {
        let access = match index {
            None => Access::Primary { table: stored.id },
            Some(index) => Access::Index { table: stored.id, index, keyed: stored.is_keyed() },
        };
        Self { access, chain: Chain { layout: stored.layout.clone(), columns, base, maps } }
    }

    /// A side with rows of its own.
    pub fn own(state: TableId, types: Vec<DataType>, schema: SchemaRef) -> Self {
        let columns = (0..types.len()).collect();
        let chain = Chain { layout: Layout::new(types), columns, base: schema, maps: Vec::new() };
        Self { access: Access::Own { buckets: Buckets { table: state } }, chain }
    }

    /// The rows under each of some keys, as before the step.
    pub fn find<'k>(&self, states: States<'_>, keys: usize, key: impl Fn(usize) -> &'k [u8]) -> Result<Found> {
        let mut rows = Rows::new();
        let mut weights = Vec::new();
        let mut of_key = Vec::new();
        for i in 0..keys {
            self.find_rows(states, key(i), &mut rows, &mut weights)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "positions of keys in a batch, which holds fewer than 4 Gi"
            )]
            of_key.resize(rows.len(), i as u32);
        }
        self.chain.run(&rows, weights, of_key)
    }

    /// All rows, as before the step.
    pub fn all(&self, states: States<'_>) -> Result<Delta> {
        let mut rows = Rows::new();
        let mut weights = Vec::new();
        match &self.access {
            Access::Own { buckets } => buckets.all(states, &mut |value| {
                rows.push(value.get(8..).unwrap_or_default());
                weights.push(weight_of(value));
            })?,
            Access::Primary { table } | Access::Index { table, keyed: true, .. } => {
                for entry in states.snapshot.scan(*table, &[]) {
                    rows.push(&entry?.1);
                    weights.push(1);
                }
            }
            Access::Index { table, .. } => {
                for entry in states.snapshot.scan(*table, &[]) {
                    let value = entry?.1;
                    rows.push(value.get(8..).unwrap_or_default());
                    weights.push(weight_of(&value));
                }
            }
        }
        let none = vec![0; rows.len()];
        Ok(self.chain.run(&rows, weights, none)?.delta)
    }

    fn find_rows(&self, states: States<'_>, key: &[u8], rows: &mut Rows, weights: &mut Vec<i64>) -> Result<()> {
        match &self.access {
            Access::Primary { table } => {
                if let Some(row) = states.get(*table, key)? {
                    rows.push(&row);
                    weights.push(1);
                }
                Ok(())
            }
            Access::Own { buckets } => buckets.find(states, key, &mut |_, value| {
                rows.push(value.get(8..).unwrap_or_default());
                weights.push(weight_of(value));
            }),
            Access::Index { table, index, keyed } => {
                let mut failed = Ok(());
                index.find(states, key, &mut |row_key, _| {
                    if failed.is_err() {
                        return;
                    }
                    match states.get(*table, row_key) {
                        Ok(Some(value)) if *keyed => {
                            rows.push(&value);
                            weights.push(1);
                        }
                        Ok(Some(value)) => {
                            rows.push(value.get(8..).unwrap_or_default());
                            weights.push(weight_of(&value));
                        }
                        Ok(None) => {
                            failed = Err(crate::Error::Broken {
                                node: table.to_string(),
                                what: "an index names a row that is not there",
                            });
                        }
                        Err(error) => failed = Err(error),
                    }
                })?;
                failed
            }
        }
    }
}

impl Chain {
    fn run(&self, rows: &Rows, weights: Vec<i64>, keys: Vec<u32>) -> Result<Found> {
        let batch = decode((0..rows.len()).map(|i| rows.get(i)), &self.layout, &self.columns, &self.base)?;
        let mut delta = Delta::new(batch, weights);
        let mut keys = keys;
        for map in &self.maps {
            let mapped = map.evaluate(&delta.batch)?;
            // Rows that fail here were reported when they came in; they are in no result.
            if let Some(kept) = mapped.kept {
                keys = kept.iter().map(|&row| keys[row as usize]).collect();
                let weights = kept.iter().map(|&row| delta.weights[row as usize]).collect();
                delta = Delta::new(mapped.batch, weights);
            } else {
                delta = Delta::new(mapped.batch, delta.weights);
            }
        }
        Ok(Found { delta, key: keys })
    }
}

/// Keeps the rows of a side that has no stored relation behind it.
pub struct Arrangement {
    pub buckets: Buckets,
    pub keys: Vec<usize>,
    pub types: Vec<DataType>,
    /// Rows with a NULL key match nothing, but a `NOT IN` must know of them.
    pub keeps_nulls: bool,
}

impl Arrangement {
    /// Applies a delta of the side; `states` none while it is built.
    pub fn apply(&self, delta: &Delta, states: Option<States<'_>>, writes: &mut Writes) -> Result<()> {
        let layout = Layout::new(self.types.clone());
        let rows = relation::columns::encode(&layout, &delta.batch)?;
        let mut changes = Vec::with_capacity(rows.len());
        for (row, &weight) in rows.iter().zip(&delta.weights) {
            if weight == 0 || (!self.keeps_nulls && self.keys.iter().any(|&c| layout.is_null(row, c))) {
                continue;
            }
            let mut key = Vec::new();
            relation::key::push_row(&mut key, &layout, row, &self.keys);
            // A row is told from others under its join key by 128 bits of hash: it only has to be found again, never ordered.
            let entry = relation::key::hash128(row).to_vec();
            changes.push((key, entry, Change::Add(weight, row.to_vec())));
        }
        self.buckets.apply(states, net(changes), writes)
    }
}

/// Adds up the weights of equal rows: a row may leave and come back within one delta, in either order.
fn net(mut changes: Vec<crate::buckets::KeyChange>) -> Vec<crate::buckets::KeyChange> {
    changes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let mut out: Vec<crate::buckets::KeyChange> = Vec::with_capacity(changes.len());
    for change in changes {
        if let (Some(last), Change::Add(by, _)) = (out.last_mut(), &change.2)
            && last.0 == change.0
            && last.1 == change.1
        {
            if let Change::Add(total, _) = &mut last.2 {
                *total += by;
            }
            continue;
        }
        out.push(change);
    }
    out.retain(|c| !matches!(c.2, Change::Add(0, _)));
    out
}
