//! What a query needs of the store: point reads and ordered reads, all at one step.
//!
//! The trait keeps the scan free of how the store lays things out; a test can put rows in memory behind it.

use std::ops::{Bound, ControlFlow};

use relation::TableId;

use crate::error::Result;

/// What [`Storage::visit`] calls per entry, with its key and value.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// The tables at one step. Reads see that step however long they take, and block no writer.
pub trait Storage: Send + Sync + 'static {
    /// The step that is seen.
    fn step(&self) -> u64;

    /// The value under a key, handed to `found`.
    fn get(&self, table: TableId, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Walks the entries between two keys in key order until the visitor breaks.
    fn visit(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>, visitor: Visitor<'_>) -> Result<()>;

    /// The last key between two keys.
    fn last_key(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Vec<u8>>>;
}
