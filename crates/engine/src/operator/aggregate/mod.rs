//! Aggregates of groups.
//!
//! Law: linear in the group. State `groups`: group key → rows, accumulators, and the group's own columns where the key
//! does not hold them. A step adds up its delta per group,
//! reads the group once, retracts the old row and emits the new one (nothing if they are equal): a group touched a
//! thousand times changes once.
//!
//! What is not linear (min, max, anything DISTINCT) stands on a multiset, state (group key, value key) → count, shared by
//! all aggregates over the same argument and filter. Its counts crossing zero drive the distinct aggregates; min and max
//! keep the present extreme in the group and look for the next one only when that one leaves.
//!
//! Sums of integers and decimals are exact in 128 or 256 bits; sums of floats are exact too ([`plan::float_sum`]), so that
//! a retraction gives back what was there.

mod columns;
mod groups;
mod multiset;
mod result;
mod rule;
mod sums;

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType as Arrow, Float32Type, Float64Type, Schema as ArrowSchema, SchemaRef};
use foldhash::fast::FixedState;
use plan::{Aggregate, AggregateFunction};
use relation::columns::decode;
use relation::key::{KeyEncoder, canonical_f32, canonical_f64};
use relation::{DataType, Delta, Layout, TableId};
use store::Writes;

pub use self::groups::Accumulation;
use self::multiset::Multiset;
pub use self::multiset::multisets_of;
use self::result::GroupRows;
pub(super) use self::rule::compile;
use super::join::{Found, KeyOf};
use super::{States, in_shards, shard_rows};
use crate::error::{Error, Result};
use crate::expr::arrow_schema;

/// The rule of one aggregate node.
pub struct AggregateOp {
    group: Vec<usize>,
    group_layout: Layout,
    input_types: Vec<DataType>,
    aggregates: Vec<Compiled>,
    multisets: Vec<Multiset>,
    groups: TableId,
    schema: SchemaRef,
    /// The first columns of it: those of the group.
    group_schema: SchemaRef,
    node: String,
}

/// An aggregate and how it is accumulated.
struct Compiled {
    argument: Option<usize>,
    filter: Option<usize>,
    output: DataType,
    kind: Kind,
    /// A distinct sum: it takes each value of this multiset once, when its count leaves or reaches zero.
    once: Option<usize>,
}

impl Compiled {
    fn uses(&self, i: usize) -> bool {
        let of_kind = match self.kind {
            Kind::DistinctCount { multiset } | Kind::Extreme { multiset, .. } => Some(multiset),
            _ => self.once,
        };
        of_kind == Some(i)
    }

    /// Rows of the values that a distinct sum takes once.
    fn once_layout(&self, types: &[DataType]) -> Option<Layout> {
        self.once.map(|_| Layout::new(self.argument.iter().map(|&c| types[c]).collect()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    /// Integers and decimals up to 38 digits; `average` divides at the end.
    Exact {
        average: bool,
    },
    /// Decimals beyond 38 digits.
    Wide {
        average: bool,
    },
    Float {
        average: bool,
    },
    Interval {
        average: bool,
    },
    /// True if all (`and`) or any are.
    Bool {
        and: bool,
    },
    /// Number of values in the multiset.
    DistinctCount {
        multiset: usize,
    },
    Extreme {
        multiset: usize,
        max: bool,
    },
}

impl AggregateOp {
    /// An aggregate over columns of `input_types`; `tables` are the states: groups first, then the multisets.
    pub fn new(
        node: String,
        group: &[usize],
        aggregates: &[Aggregate],
        input_types: Vec<DataType>,
        output: &relation::Schema,
        tables: &[TableId],
    ) -> Self {
        let wanted = multisets_of(aggregates);
        let multisets: Vec<_> = wanted
            .iter()
            .zip(&tables[1..])
            .map(|(&(argument, filter), &table)| Multiset { argument, filter, table })
            .collect();
        let aggregates = aggregates.iter().map(|a| accumulated(a, &input_types, &wanted)).collect();
        let group_types = group.iter().map(|&c| input_types[c]).collect();
        let schema = arrow_schema(output);
        let of_group: Vec<_> = schema.fields().iter().take(group.len()).cloned().collect();
        Self {
            group: group.to_vec(),
            group_layout: Layout::new(group_types),
            input_types,
            aggregates,
            multisets,
            groups: tables[0],
            group_schema: Arc::new(ArrowSchema::new(of_group)),
            schema,
            node,
        }
    }

    /// The delta rule.
    pub fn apply(&self, delta: &Delta, states: States<'_>, writes: &mut Writes) -> Result<Delta> {
        let shards = states.shards_for(delta.len());
        if shards == 1 || self.group.is_empty() {
            let mut accumulation = Accumulation::new(self);
            accumulation.add(delta, None)?;
            return accumulation.finish(Some(states), writes);
        }
        let keys = self.group_keys(delta);
        let mut buffer = Vec::new();
        let hasher = FixedState::default();
        let hashes: Vec<u64> = (0..delta.len())
            .map(|row| {
                buffer.clear();
                keys.push(row, &mut buffer);
                hasher.hash_one(buffer.as_slice())
            })
            .collect();
        let parts = shard_rows(&hashes, shards);
        let results = in_shards(shards, |i| {
            let mut accumulation = Accumulation::new(self);
            accumulation.add(delta, Some(&parts[i]))?;
            let mut writes = Writes::new();
            Ok((accumulation.finish(Some(states.within_shard()), &mut writes)?, writes))
        })?;
        let mut deltas = Vec::with_capacity(shards);
        for (delta, written) in results {
            deltas.push(delta);
            writes.append(written);
        }
        Ok(Delta::concat(&self.schema, &deltas)?)
    }

    /// Gathers a whole input, for a build: add its batches, then finish.
    pub fn accumulation(&self) -> Accumulation<'_> {
        Accumulation::new(self)
    }

    /// Number of columns of the group, the first ones of the output.
    pub fn group_columns(&self) -> usize {
        self.group.len()
    }

    /// Whether these columns of the output are the key of its groups, in its order.
    pub fn is_found_by(&self, columns: &[usize]) -> bool {
        columns.len() == self.group.len() && columns.iter().enumerate().all(|(i, &c)| i == c)
    }

    /// The table of the groups: its keys are theirs.
    pub fn groups_table(&self) -> TableId {
        self.groups
    }

    /// The output rows of groups by their keys, as before the step.
    pub fn find<'k>(&self, states: States<'_>, keys: usize, key: KeyOf<'_, 'k>) -> Result<Found> {
        let mut found = GroupRows::new(self);
        let mut of_key = Vec::new();
        for i in 0..keys {
            if let Some(group) = states.get(self.groups, key(i))? {
                found.push(key(i), &group)?;
                of_key.push(i as u32);
            }
        }
        Ok(Found { delta: found.finish()?, key: of_key })
    }

    /// The output rows of groups as they stand in [`AggregateOp::groups_table`]: keys and values.
    pub fn rows<'g>(&self, groups: impl Iterator<Item = (&'g [u8], &'g [u8])>) -> Result<Delta> {
        let mut rows = GroupRows::new(self);
        for (key, group) in groups {
            rows.push(key, group)?;
        }
        rows.finish()
    }

    fn group_arrays<'r>(&self, rows: impl ExactSizeIterator<Item = &'r [u8]> + Clone) -> Result<Vec<ArrayRef>> {
        let columns: Vec<usize> = (0..self.group.len()).collect();
        Ok(decode(rows, &self.group_layout, &columns, &self.group_schema)?.columns().to_vec())
    }

    fn group_keys(&self, delta: &Delta) -> KeyEncoder {
        let columns = self.group.iter().map(|&c| (Arc::clone(delta.batch.column(c)), self.input_types[c]));
        KeyEncoder::new(columns.collect())
    }

    fn broken(&self, what: &'static str) -> Error {
        Error::Broken { node: self.node.clone(), what }
    }
}

fn accumulated(aggregate: &Aggregate, types: &[DataType], multisets: &[(usize, Option<usize>)]) -> Compiled {
    let average = aggregate.function == AggregateFunction::Avg;
    let multiset = || {
        let wanted = (aggregate.argument.unwrap_or(0), aggregate.filter);
        multisets.iter().position(|m| *m == wanted).unwrap_or(0)
    };
    let kind = match aggregate.function {
        AggregateFunction::Count if aggregate.distinct => Kind::DistinctCount { multiset: multiset() },
        AggregateFunction::Count => Kind::Count,
        AggregateFunction::Min => Kind::Extreme { multiset: multiset(), max: false },
        AggregateFunction::Max => Kind::Extreme { multiset: multiset(), max: true },
        AggregateFunction::BoolAnd => Kind::Bool { and: true },
        AggregateFunction::BoolOr => Kind::Bool { and: false },
        AggregateFunction::Sum | AggregateFunction::Avg => match types[aggregate.argument.unwrap_or(0)] {
            DataType::Float32 | DataType::Float64 => Kind::Float { average },
            DataType::Decimal { precision: 39.., .. } => Kind::Wide { average },
            DataType::Interval => Kind::Interval { average },
            _ => Kind::Exact { average },
        },
    };
    let sums = matches!(kind, Kind::Exact { .. } | Kind::Wide { .. } | Kind::Float { .. });
    Compiled {
        argument: aggregate.argument,
        filter: aggregate.filter,
        output: aggregate.output,
        kind,
        once: (sums && aggregate.distinct).then(multiset),
    }
}

fn add_to(total: &mut i64, weight: i64) -> Result<()> {
    *total = total.checked_add(weight).ok_or(relation::Error::Overflow("weight"))?;
    Ok(())
}

/// An aggregate's filter.
fn filter_of(filter: Option<usize>, batch: &RecordBatch) -> Option<BooleanArray> {
    filter.map(|c| batch.column(c).as_boolean().clone())
}

/// A column with the one of equal floats that its key keeps, so that what a group answers does not depend on which of
/// them came first.
fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        Arrow::Float32 => Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical_f32)),
        Arrow::Float64 => Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical_f64)),
        _ => Arc::clone(column),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let out = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(out)
    }

    /// What was not read yet.
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        self.take(usize::try_from(length).ok()?)
    }
}
