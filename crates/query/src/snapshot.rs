//! The store's snapshots as [`Storage`].

use std::ops::{Bound, ControlFlow};

use relation::TableId;

use crate::error::{Error, Result, code};
use crate::storage::{Storage, Visitor};

impl Storage for store::Snapshot {
    fn step(&self) -> u64 {
        Self::step(self)
    }

    fn get(&self, table: TableId, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = Self::get(self, table, key).map_err(unreadable)? {
            found(&value);
        }
        Ok(())
    }

    fn visit(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>, visitor: Visitor<'_>) -> Result<()> {
        for entry in self.range(table, from, to) {
            let (key, value) = entry.map_err(unreadable)?;
            if let ControlFlow::Break(()) = visitor(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Vec<u8>>> {
        let last = self.range_rev(table, from, to).next().transpose().map_err(unreadable)?;
        Ok(last.map(|(key, _)| key.to_vec()))
    }
}

fn unreadable(error: store::Error) -> Error {
    let told = Error::new(code::IO, format!("the store cannot be read: {error}"));
    match error.hint() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
