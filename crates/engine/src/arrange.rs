//! How the rows of a join's side are found by key.
//!
//! A side that is a stored relation, seen through filters and projections, needs no state of its own: the relation's
//! primary key or a thin index finds its rows, and the filters and projections are applied to what was found. Nor does an
//! aggregate that is joined by its groups: they are in its state. Nor a join: its rows under a key are those of its
//! driving side under that key, each met with the join's other side, by look-ups all the way down; so a chain of joins
//! keeps no wide row anywhere between its tables and its end (the look-ups of a delta query, as in McSherry et al.,
//! "Shared Arrangements", VLDB 2020). Any other side is kept as an arrangement of its own, rows and weights by join key.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use relation::columns::decode;
use relation::{DataType, Delta, Layout, Rows, TableId};
use store::Writes;

use crate::buckets::{Buckets, Change, KeyChange, read_weighted};
use crate::error::{Error, Result};
use crate::expr::MapProgram;
use crate::operator::aggregate::AggregateOp;
use crate::operator::join::{Driving, Found, JoinOp, KeyOf};
use crate::operator::{States, in_shards, shard_range};
use crate::stored::Stored;

/// Rows of a key that are read first where only their number matters.
const FIRST_LOOK: usize = 4;

/// Old rows of one side of a join.
pub struct Side {
    source: Source,
    /// What lies between the source and the side, from below upwards.
    maps: Vec<Arc<MapProgram>>,
}

/// Where the rows of a side come from.
enum Source {
    Rows(Lookup),
    /// The groups of an aggregate: the join key is their key.
    Groups(Arc<AggregateOp>),
    /// A join below, made anew for the rows asked for: those of one of its sides, met with the other.
    Joined {
        driving: Box<Side>,
        from: Driving,
        join: Arc<JoinOp>,
    },
}

/// Rows in the store, found by key and decoded.
struct Lookup {
    access: Access,
    layout: Layout,
    columns: Vec<usize>,
    schema: SchemaRef,
}

enum Access {
    /// The join key is the relation's whole key.
    Primary { table: TableId },
    /// A thin index of the relation finds the keys of its rows.
    Index { table: TableId, index: Buckets, keyed: bool },
    /// Rows and weights of the side itself.
    Own { buckets: Buckets },
}

impl Side {
    /// A side read through a stored relation: `columns` of it, then `maps`. `index` none: by its primary key.
    pub fn stored(
        stored: &Stored,
        index: Option<Buckets>,
        columns: Vec<usize>,
        schema: SchemaRef,
        maps: Vec<Arc<MapProgram>>,
    ) -> Self {
        let access = match index {
            None => Access::Primary { table: stored.id },
            Some(index) => Access::Index { table: stored.id, index, keyed: stored.is_keyed() },
        };
        let source = Source::Rows(Lookup { access, layout: stored.layout.clone(), columns, schema });
        Self { source, maps }
    }

    /// A side with rows of its own.
    pub fn own(state: TableId, types: Vec<DataType>, schema: SchemaRef) -> Self {
        let columns = (0..types.len()).collect();
        let access = Access::Own { buckets: Buckets { table: state } };
        let source = Source::Rows(Lookup { access, layout: Layout::new(types), columns, schema });
        Self { source, maps: Vec::new() }
    }

    /// A side read from the groups of an aggregate.
    pub fn groups(aggregate: Arc<AggregateOp>, maps: Vec<Arc<MapProgram>>) -> Self {
        Self { source: Source::Groups(aggregate), maps }
    }

    /// A side read through a join: `driving` finds rows of one of its sides.
    pub fn joined(driving: Self, from: Driving, join: Arc<JoinOp>, maps: Vec<Arc<MapProgram>>) -> Self {
        Self { source: Source::Joined { driving: Box::new(driving), from, join }, maps }
    }

    /// Whether there is at most one row under a key.
    pub fn is_unique(&self) -> bool {
        match &self.source {
            Source::Rows(lookup) => matches!(lookup.access, Access::Primary { .. }),
            Source::Groups(_) => true,
            Source::Joined { .. } => false,
        }
    }

    /// The rows under each of some keys, as before the step.
    pub fn find<'k>(&self, states: States<'_>, keys: usize, key: KeyOf<'_, 'k>) -> Result<Found> {
        let shards = states.shards_for(keys);
        if shards == 1 {
            return self.find_part(states, keys, key);
        }
        let parts = in_shards(shards, |i| {
            let range = shard_range(keys, shards, i);
            let mut found = self.find_part(states.within_shard(), range.len(), &|k| key(range.start + k))?;
            #[expect(clippy::cast_possible_truncation, reason = "a batch holds fewer than 4 Gi keys")]
            found.key.iter_mut().for_each(|k| *k += range.start as u32);
            Ok(found)
        })?;
        let (deltas, keys): (Vec<_>, Vec<_>) = parts.into_iter().map(|found| (found.delta, found.key)).unzip();
        let schema = deltas[0].batch.schema();
        Ok(Found { delta: Delta::concat(&schema, &deltas)?, key: keys.concat() })
    }

    /// How many rows there are under each of some keys, as before the step: exact below a key's limit, and at least the
    /// limit otherwise. So a key with many rows costs no more than a few of them, if they pass the maps.
    pub fn count_up_to<'k>(&self, states: States<'_>, key: KeyOf<'_, 'k>, limits: &[i64]) -> Result<Vec<i64>> {
        let shards = states.shards_for(limits.len());
        if shards == 1 {
            return self.count_part(states, key, limits);
        }
        let parts = in_shards(shards, |i| {
            let range = shard_range(limits.len(), shards, i);
            self.count_part(states.within_shard(), &|k| key(range.start + k), &limits[range.clone()])
        })?;
        Ok(parts.concat())
    }

    fn count_part<'k>(&self, states: States<'_>, key: KeyOf<'_, 'k>, limits: &[i64]) -> Result<Vec<i64>> {
        let mut counts = vec![0; limits.len()];
        let mut open: Vec<usize> = (0..limits.len()).filter(|&k| limits[k] > 0).collect();
        let mut rows_max = FIRST_LOOK;
        while !open.is_empty() {
            let (found, is_cut) = self.find_some(states, open.len(), &|i| key(open[i]), rows_max)?;
            open.iter().for_each(|&k| counts[k] = 0);
            for (&i, weight) in found.key.iter().zip(&found.delta.weights) {
                let count: &mut i64 = &mut counts[open[i as usize]];
                *count = count.checked_add(*weight).ok_or(relation::Error::Overflow("weight"))?;
            }
            let unsure = open.iter().zip(is_cut).filter(|&(&k, is_cut)| is_cut && counts[k] < limits[k]);
            open = unsure.map(|(&k, _)| k).collect();
            rows_max = rows_max.saturating_mul(8);
        }
        Ok(counts)
    }

    fn find_part<'k>(&self, states: States<'_>, keys: usize, key: KeyOf<'_, 'k>) -> Result<Found> {
        Ok(self.find_some(states, keys, key, usize::MAX)?.0)
    }

    /// Rows under each key, and whether they may not be all of its: no more than `rows_max` were read of it then, where
    /// rows are read, for every row that they are met with.
    pub fn find_some<'k>(
        &self,
        states: States<'_>,
        keys: usize,
        key: KeyOf<'_, 'k>,
        rows_max: usize,
    ) -> Result<(Found, Vec<bool>)> {
        let (found, is_cut) = match &self.source {
            Source::Rows(lookup) => {
                let found = lookup.find_some(states, keys, key, rows_max)?;
                let mut read = vec![0; keys];
                found.key.iter().for_each(|&k| read[k as usize] += 1);
                (found, read.into_iter().map(|read| read >= rows_max).collect())
            }
            Source::Groups(aggregate) => (aggregate.find(states, keys, key)?, vec![false; keys]),
            Source::Joined { driving, from, join } => {
                let (found, mut is_cut) = driving.find_some(states, keys, key, rows_max)?;
                let (met, cut_rows) = join.expand_some(*from, &found, states, rows_max)?;
                cut_rows.into_iter().for_each(|row| is_cut[found.key[row as usize] as usize] = true);
                (met, is_cut)
            }
        };
        Ok((self.through_maps(found)?, is_cut))
    }

    /// All rows, as before the step: for sides with rows of their own.
    pub fn all(&self, states: States<'_>) -> Result<Delta> {
        let Source::Rows(lookup @ Lookup { access: Access::Own { buckets }, .. }) = &self.source else {
            return Err(broken("join".to_owned(), "a side is not kept as a whole"));
        };
        let mut rows = Rows::new();
        let mut weights = Vec::new();
        buckets.all(states, &mut |value| {
            let (weight, row) = read_weighted(value)?;
            rows.push(row);
            weights.push(weight);
            Ok(())
        })?;
        lookup.decode(&rows, weights)
    }

    fn through_maps(&self, found: Found) -> Result<Found> {
        let Found { mut delta, mut key } = found;
        for map in &self.maps {
            let mapped = map.evaluate(&delta.batch)?;
            // Rows that fail here were reported when they came in; they are in no result.
            if let Some(kept) = &mapped.kept {
                key = kept.iter().map(|&row| key[row as usize]).collect();
            }
            delta = mapped.weighted(&delta.weights);
        }
        Ok(Found { delta, key })
    }
}

impl Lookup {
    /// At most so many rows under each key.
    fn find_some<'k>(&self, states: States<'_>, keys: usize, key: KeyOf<'_, 'k>, rows_max: usize) -> Result<Found> {
        let mut rows = Rows::new();
        let mut weights = Vec::new();
        let mut of_key = Vec::new();
        for i in 0..keys {
            self.find_rows(states, key(i), rows_max, &mut rows, &mut weights)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "positions of keys in a batch, which holds fewer than 4 Gi"
            )]
            of_key.resize(rows.len(), i as u32);
        }
        Ok(Found { delta: self.decode(&rows, weights)?, key: of_key })
    }

    fn decode(&self, rows: &Rows, weights: Vec<i64>) -> Result<Delta> {
        Ok(Delta::new(decode(rows.iter(), &self.layout, &self.columns, &self.schema)?, weights))
    }

    fn find_rows(
        &self,
        states: States<'_>,
        key: &[u8],
        rows_max: usize,
        rows: &mut Rows,
        weights: &mut Vec<i64>,
    ) -> Result<()> {
        let end = rows.len().saturating_add(rows_max);
        match &self.access {
            Access::Primary { table } => {
                if let Some(row) = states.get(*table, key)? {
                    rows.push(&row);
                    weights.push(1);
                }
                Ok(())
            }
            Access::Own { buckets } => buckets.find(states, key, &mut |_, value| {
                let (weight, row) = read_weighted(value)?;
                rows.push(row);
                weights.push(weight);
                states.bounds.check_bytes(rows.byte_len())?;
                Ok(rows.len() < end)
            }),
            Access::Index { table, index, keyed } => index.find(states, key, &mut |row_key, _| {
                let Some(value) = states.get(*table, row_key)? else {
                    return Err(broken(table.to_string(), "an index names a row that is not there"));
                };
                let (weight, row) = if *keyed { (1, &*value) } else { read_weighted(&value)? };
                rows.push(row);
                weights.push(weight);
                states.bounds.check_bytes(rows.byte_len())?;
                Ok(rows.len() < end)
            }),
        }
    }
}

fn broken(node: String, what: &'static str) -> Error {
    Error::Broken { node, what }
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
        self.buckets.apply(states, net(changes)?, writes)
    }
}

/// Adds up the weights of equal rows: a row may leave and come back within one delta, in either order.
fn net(mut changes: Vec<KeyChange>) -> Result<Vec<KeyChange>> {
    changes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let mut out: Vec<KeyChange> = Vec::with_capacity(changes.len());
    for change in changes {
        match (out.last_mut(), &change.2) {
            (Some((key, entry, Change::Add(total, row))), Change::Add(by, more))
                if *key == change.0 && *entry == change.1 =>
            {
                if row != more {
                    return Err(broken("arrangement".to_owned(), "two rows under one entry"));
                }
                *total = total.checked_add(*by).ok_or(relation::Error::Overflow("weight"))?;
            }
            _ => out.push(change),
        }
    }
    out.retain(|c| !matches!(c.2, Change::Add(0, _)));
    Ok(out)
}
