//! Accumulators: a column of them per aggregate, one of them per group.
//!
//! Law: what a column writes for a group is a function of the multiset of values that the group has now, so a change and
//! its reverse leave the bytes that were there.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use relation::columns::decode;
use relation::key::Order;
use relation::{Column as Named, DataType, Layout, Rows, Schema};

use super::sums::{FloatSums, IntervalSums, Sums};
use super::{Compiled, Kind, Reader, add_to, filter_of};
use crate::error::{Error, Result};
use crate::expr::arrow_schema;

/// The accumulators of one aggregate, by group slot.
pub(super) trait Column: Send + Sync {
    /// One more group, of which nothing was seen.
    fn grow(&mut self);

    /// Adds rows of a delta to their slots. What stands on a multiset takes nothing here.
    fn add(&mut self, _rows: &Rated<'_>) -> Result<()> {
        Ok(())
    }

    /// A value of the multiset came into a group that had none of it (`sign` 1), or its last one left (−1).
    fn cross(&mut self, _slot: usize, _value: &[u8], _sign: i64) -> Result<()> {
        Err(broken("a value of a multiset that no aggregate counts"))
    }

    /// Slots whose extreme left, with nothing that came being as good: the next best value has to be looked for.
    fn searched(&mut self) -> Vec<usize> {
        Vec::new()
    }

    /// Offers the best value that a group had and still has.
    fn found(&mut self, _slot: usize, _value: Option<Vec<u8>>) {}

    /// Adds what a delta gathered to what was there, slot by slot.
    fn merge(&mut self, added: &dyn Column) -> Result<()>;

    fn write(&self, slot: usize, out: &mut Vec<u8>);

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()>;

    /// The results of some slots.
    fn finish(&self, slots: &[usize]) -> Result<ArrayRef>;

    fn copy(&self) -> Box<dyn Column>;

    fn as_any(&self) -> &dyn Any;
}

/// The column of an aggregate over an input of these types.
pub(super) fn column_of(aggregate: &Compiled, types: &[DataType]) -> Box<dyn Column> {
    match aggregate.kind {
        Kind::Count => Box::new(Counts::default()),
        Kind::DistinctCount { .. } => Box::new(DistinctCounts::default()),
        Kind::Exact { average } => Box::new(Sums::<i128>::new(aggregate, average, types)),
        Kind::Wide { average } => Box::new(Sums::<arrow::datatypes::i256>::new(aggregate, average, types)),
        Kind::Float { average } => Box::new(FloatSums::new(aggregate, average, types)),
        Kind::Interval { average } => Box::new(IntervalSums::new(average)),
        Kind::Bool { and } => Box::new(Bools { and, yes: Vec::new(), no: Vec::new() }),
        Kind::Extreme { max, .. } => Box::new(Extremes::new(aggregate.output, max)),
    }
}

/// The results of some slots as an array of the aggregate's output type.
pub(super) fn finish(column: &dyn Column, output: DataType, slots: &[usize]) -> Result<ArrayRef> {
    let result = column.finish(slots)?;
    let wanted = output.to_arrow();
    if *result.data_type() == wanted { Ok(result) } else { Ok(arrow::compute::cast(&result, &wanted)?) }
}

/// The same type behind another column: what a delta gathers has the columns of what was there.
pub(super) fn same<C: Column + 'static>(column: &dyn Column) -> Result<&C> {
    column.as_any().downcast_ref().ok_or_else(|| broken("accumulators of another aggregate"))
}

pub(super) fn broken(what: &'static str) -> Error {
    Error::Broken { node: "aggregate".to_owned(), what }
}

/// Rows of a delta with their weights and group slots, as one aggregate sees them.
pub(super) struct Rated<'a> {
    pub(super) argument: Option<&'a ArrayRef>,
    filter: Option<BooleanArray>,
    weights: &'a [i64],
    positions: &'a [u32],
    slots: &'a [u32],
}

impl<'a> Rated<'a> {
    pub(super) fn new(
        aggregate: &Compiled,
        batch: &'a RecordBatch,
        weights: &'a [i64],
        positions: &'a [u32],
        slots: &'a [u32],
    ) -> Self {
        let argument = aggregate.argument.map(|c| batch.column(c));
        Self { argument, filter: filter_of(aggregate.filter, batch), weights, positions, slots }
    }

    /// The argument of an aggregate that has one.
    pub(super) fn argument(&self) -> Result<&'a ArrayRef> {
        self.argument.ok_or_else(|| broken("an aggregate without its argument"))
    }

    /// Position, slot and weight of the rows that pass the filter and whose argument is not NULL.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, usize, i64)> + '_ {
        let rows = self.positions.iter().zip(self.slots).map(|(&row, &slot)| (row as usize, slot as usize));
        let counts = |row: usize| {
            self.filter.as_ref().is_none_or(|mask| mask.is_valid(row) && mask.value(row))
                && self.argument.is_none_or(|argument| argument.is_valid(row))
        };
        rows.filter(move |&(row, _)| counts(row)).map(|(row, slot)| (row, slot, self.weights[row]))
    }
}

/// Adds what a delta counted to how many there were, slot by slot.
pub(super) fn add_all(totals: &mut [i64], added: &[i64]) -> Result<()> {
    totals.iter_mut().zip(added).try_for_each(|(total, by)| {
        add_to(total, *by)?;
        if *total < 0 { Err(broken("a value counted fewer than no times")) } else { Ok(()) }
    })
}

/// `count(…)`.
#[derive(Clone, Default)]
struct Counts(Vec<i64>);

impl Column for Counts {
    fn grow(&mut self) {
        self.0.push(0);
    }

    fn add(&mut self, rows: &Rated<'_>) -> Result<()> {
        rows.rows().try_for_each(|(_, slot, weight)| add_to(&mut self.0[slot], weight))
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        add_all(&mut self.0, &same::<Self>(added)?.0)
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0[slot].to_le_bytes());
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.0[slot] = from.i64()?;
        Some(())
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|&slot| self.0[slot]))))
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `count(distinct …)`: how many values the multiset has.
#[derive(Clone, Default)]
struct DistinctCounts(Counts);

impl Column for DistinctCounts {
    fn grow(&mut self) {
        self.0.grow();
    }

    fn cross(&mut self, slot: usize, _value: &[u8], sign: i64) -> Result<()> {
        add_to(&mut self.0.0[slot], sign)
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        self.0.merge(&same::<Self>(added)?.0)
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        self.0.write(slot, out);
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.0.read(slot, from)
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        self.0.finish(slots)
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// True if all (`and`) or any of a group's values are.
#[derive(Clone)]
struct Bools {
    and: bool,
    yes: Vec<i64>,
    no: Vec<i64>,
}

impl Column for Bools {
    fn grow(&mut self) {
        self.yes.push(0);
        self.no.push(0);
    }

    fn add(&mut self, rows: &Rated<'_>) -> Result<()> {
        let values = rows.argument()?.as_boolean();
        rows.rows().try_for_each(|(row, slot, weight)| {
            add_to(if values.value(row) { &mut self.yes[slot] } else { &mut self.no[slot] }, weight)
        })
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        let added = same::<Self>(added)?;
        add_all(&mut self.yes, &added.yes)?;
        add_all(&mut self.no, &added.no)
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.yes[slot].to_le_bytes());
        out.extend_from_slice(&self.no[slot].to_le_bytes());
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.yes[slot] = from.i64()?;
        self.no[slot] = from.i64()?;
        Some(())
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        let of_slot = |&slot: &usize| {
            let (yes, no) = (self.yes[slot] > 0, self.no[slot] > 0);
            (yes || no).then_some(if self.and { !no } else { yes })
        };
        Ok(Arc::new(BooleanArray::from_iter(slots.iter().map(of_slot))))
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `min` and `max`: the present extreme of a group, an encoded row of one column.
#[derive(Clone)]
struct Extremes {
    layout: Layout,
    max: bool,
    values: Vec<Option<Vec<u8>>>,
    /// What this delta brought and took, by slot.
    moved: BTreeMap<usize, Moved>,
}

/// What a delta does to the extreme of one group.
#[derive(Clone, Default)]
struct Moved {
    /// The best value that came.
    came: Option<Vec<u8>>,
    /// Whether the extreme left.
    left: bool,
}

impl Extremes {
    fn new(output: DataType, max: bool) -> Self {
        Self { layout: Layout::new(vec![output]), max, values: Vec::new(), moved: BTreeMap::new() }
    }

    /// Greater: nearer to the extreme.
    fn rank(&self, a: &[u8], b: &[u8]) -> Ordering {
        let ordering = relation::key::compare(&self.layout, a, b, &[(0, Order::PLAIN)]);
        if self.max { ordering } else { ordering.reverse() }
    }

    fn better(&self, a: Option<Vec<u8>>, b: Option<Vec<u8>>) -> Option<Vec<u8>> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if self.rank(&a, &b).is_lt() { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

impl Column for Extremes {
    fn grow(&mut self) {
        self.values.push(None);
    }

    fn cross(&mut self, slot: usize, value: &[u8], sign: i64) -> Result<()> {
        let mut moved = self.moved.remove(&slot).unwrap_or_default();
        if sign > 0 {
            if moved.came.as_deref().is_none_or(|came| self.rank(value, came).is_gt()) {
                moved.came = Some(value.to_vec());
            }
        } else if self.values[slot].as_deref().is_some_and(|extreme| self.rank(extreme, value).is_eq()) {
            moved.left = true;
        }
        self.moved.insert(slot, moved);
        Ok(())
    }

    fn searched(&mut self) -> Vec<usize> {
        let mut searched = Vec::new();
        for (slot, Moved { came, left }) in std::mem::take(&mut self.moved) {
            let extreme = self.values[slot].take();
            let is_beaten = match (&came, &extreme) {
                (Some(came), Some(extreme)) => self.rank(came, extreme).is_gt(),
                _ => false,
            };
            if left && !is_beaten {
                self.values[slot] = came;
                searched.push(slot);
            } else {
                self.values[slot] = self.better(extreme, came);
            }
        }
        searched
    }

    fn found(&mut self, slot: usize, value: Option<Vec<u8>>) {
        let came = self.values[slot].take();
        self.values[slot] = self.better(came, value);
    }

    fn merge(&mut self, added: &dyn Column) -> Result<()> {
        // Extremes move by what crosses in their multiset alone.
        same::<Self>(added).map(|_| ())
    }

    fn write(&self, slot: usize, out: &mut Vec<u8>) {
        match &self.values[slot] {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                write_sized(out, value);
            }
        }
    }

    fn read(&mut self, slot: usize, from: &mut Reader<'_>) -> Option<()> {
        self.values[slot] = match from.take(1)? {
            [0] => None,
            [1] => {
                let value = from.sized()?;
                self.layout.check(value).ok()?;
                Some(value.to_vec())
            }
            _ => return None,
        };
        Some(())
    }

    fn finish(&self, slots: &[usize]) -> Result<ArrayRef> {
        let mut null = Rows::new();
        null.push_values(&self.layout, &[relation::Value::Null])?;
        let rows = slots.iter().map(|&slot| self.values[slot].as_deref().unwrap_or(null.get(0)));
        let schema = arrow_schema(&Schema::new(vec![Named::new("value", self.layout.types()[0])], vec![]));
        Ok(Arc::clone(decode(rows, &self.layout, &[0], &schema)?.column(0)))
    }

    fn copy(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Bytes behind their length.
pub(super) fn write_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}
