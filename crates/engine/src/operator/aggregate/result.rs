//! What groups answer: their rows as columns, made of what is stored of them.

use relation::{Delta, Rows};

use super::columns::{Column, column_of, finish};
use super::{AggregateOp, Reader};
use crate::error::Result;

/// Output rows made of stored groups.
pub(super) struct GroupRows<'a> {
    op: &'a AggregateOp,
    columns: Vec<Box<dyn Column>>,
    rows: Rows,
}

impl<'a> GroupRows<'a> {
    pub(super) fn new(op: &'a AggregateOp) -> Self {
        let columns = op.aggregates.iter().map(|a| column_of(a, &op.input_types)).collect();
        Self { op, columns, rows: Rows::new() }
    }

    pub(super) fn push(&mut self, key: &[u8], group: &[u8]) -> Result<()> {
        let mut reader = Reader { bytes: group, at: 0 };
        self.columns.iter_mut().for_each(|column| column.grow());
        read_group(self.op, &mut reader, &mut self.columns, self.rows.len())?;
        match reader.rest() {
            [] => relation::key::read_row(key, &self.op.group_layout, &mut self.rows)?,
            row => {
                self.op.group_layout.check(row)?;
                self.rows.push(row);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Delta> {
        let slots: Vec<usize> = (0..self.rows.len()).collect();
        let mut arrays = self.op.group_arrays(self.rows.iter())?;
        for (column, aggregate) in self.columns.iter().zip(&self.op.aggregates) {
            arrays.push(finish(&**column, aggregate.output, &slots)?);
        }
        let batch = relation::columns::batch(&self.op.schema, arrays, slots.len())?;
        Ok(Delta::new(batch, vec![1; slots.len()]))
    }
}

/// Reads the accumulators of a group into a slot, and answers with how many rows the group has.
pub(super) fn read_group(
    op: &AggregateOp,
    reader: &mut Reader<'_>,
    columns: &mut [Box<dyn Column>],
    slot: usize,
) -> Result<i64> {
    let damaged = || op.broken("accumulators cannot be read");
    let rows = reader.i64().ok_or_else(damaged)?;
    for column in columns {
        column.read(slot, reader).ok_or_else(damaged)?;
    }
    Ok(rows)
}

/// The bytes of a group, but for its row.
pub(super) fn write_group(out: &mut Vec<u8>, rows: i64, columns: &[Box<dyn Column>], slot: usize) {
    out.extend_from_slice(&rows.to_le_bytes());
    columns.iter().for_each(|column| column.write(slot, out));
}
