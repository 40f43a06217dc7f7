//! What is told of the shop: whole transactions, their rows grouped by table.

use relation::TableChanges;

use crate::cells::Cells;
use crate::tables::Table;

/// One of the shop's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// When it committed, by the shop's clock.
    pub at_us: i64,
    /// Changed rows; an update counts once.
    pub changes: u32,
}

/// Transactions in order, and their changes by table, each table's in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    tables: [TableChanges; Table::ALL.len()],
    /// In the order of their times.
    pub transactions: Vec<Transaction>,
    rows: usize,
    /// Changed rows since the last transaction ended.
    changes: u32,
}

impl Told {
    /// Rows of all tables; an update has two.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The changes of a table.
    pub fn table(&self, table: Table) -> &TableChanges {
        &self.tables[table as usize]
    }

    /// The tables that changed, with their changes.
    pub fn into_tables(self) -> impl Iterator<Item = (Table, TableChanges)> {
        Table::ALL.into_iter().zip(self.tables).filter(|(_, changes)| !changes.rows.is_empty())
    }

    /// A row that is new.
    #[inline]
    pub(crate) fn insert(&mut self, table: Table, write: impl FnOnce(&mut Cells<'_>)) {
        self.row(table, 1, write);
        self.changes += 1;
    }

    /// A row as it was and as it is; nothing if that is the same.
    pub(crate) fn update(
        &mut self,
        table: Table,
        before: impl FnOnce(&mut Cells<'_>),
        after: impl FnOnce(&mut Cells<'_>),
    ) {
        self.row(table, -1, before);
        self.row(table, 1, after);
        let changes = &mut self.tables[table as usize];
        let rows = changes.rows.len();
        if changes.rows.get(rows - 2) == changes.rows.get(rows - 1) {
            changes.rows.truncate(rows - 2);
            changes.weights.truncate(rows - 2);
            self.rows -= 2;
            return;
        }
        self.changes += 1;
    }

    #[inline]
    fn row(&mut self, table: Table, weight: i8, write: impl FnOnce(&mut Cells<'_>)) {
        let changes = &mut self.tables[table as usize];
        write(&mut Cells::new(changes.rows.start_row(table.layout())));
        changes.rows.finish_row();
        changes.weights.push(weight);
        self.rows += 1;
    }

    /// Ends a transaction. One that changed nothing did not happen.
    pub(crate) fn commit(&mut self, at_us: i64) {
        if self.changes > 0 {
            self.transactions.push(Transaction { at_us, changes: self.changes });
            self.changes = 0;
        }
    }
}
