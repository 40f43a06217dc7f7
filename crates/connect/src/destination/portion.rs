//! What is sent at once, and what becomes of it.

use relation::{Rows, Value};

use super::Mapping;

/// Rows to be there, and keys not to be there. A key occurs once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Portion {
    step: u64,
    rows: Rows,
    are_deletes: Vec<bool>,
}

/// One row of a portion, encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole row of the relation, by [`super::Mapping::layout`].
    Upsert(&'a [u8]),
    /// The values of a key, by [`super::Mapping::key_layout`].
    Delete(&'a [u8]),
}

impl Portion {
    /// Nothing yet. The step is that as of which its rows are: the other side shows it.
    pub fn new(step: u64) -> Self {
        Self { step, ..Self::default() }
    }

    /// A row that is to be there.
    pub fn upsert(&mut self, row: &[u8]) {
        self.rows.push(row);
        self.are_deletes.push(false);
    }

    /// A key that is not to be there.
    pub fn delete(&mut self, key: &[u8]) {
        self.rows.push(key);
        self.are_deletes.push(true);
    }

    /// A key that is not to be there, by its values in the order of the relation's key. Errors: they are none of its types.
    pub fn delete_values(&mut self, mapping: &Mapping, values: &[Value]) -> relation::Result<()> {
        self.rows.push_values(mapping.key_layout(), values)?;
        self.are_deletes.push(true);
        Ok(())
    }

    /// As of which step its rows are.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Rows and keys.
    pub fn len(&self) -> usize {
        self.are_deletes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.are_deletes.is_empty()
    }

    /// Bytes of all rows and keys together, by which a portion is to be bounded.
    pub fn byte_len(&self) -> usize {
        self.rows.byte_len()
    }

    /// A row or key by its position.
    pub fn get(&self, at: usize) -> Item<'_> {
        match self.are_deletes[at] {
            true => Item::Delete(self.rows.get(at)),
            false => Item::Upsert(self.rows.get(at)),
        }
    }

    /// What becomes of item `at` where it is taken.
    pub(crate) fn taken(&self, at: usize) -> Outcome {
        if self.are_deletes[at] { Outcome::Removed } else { Outcome::Accepted }
    }
}

/// Makes the bytes that are written beside a portion of what has become of its items, in their order. They are up to 1 MiB, and
/// opaque to destinations: [`super::Begun::marker`] gives them back.
pub type Seal<'a> = dyn Fn(&[Outcome]) -> Vec<u8> + Send + Sync + 'a;

/// What has become of an item of a portion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The row is there.
    Accepted,
    /// Nothing is there under the key.
    Removed,
    /// Neither, for this reason; trying the same again is of no use until something changes at the other side.
    Refused(Refusal),
}

/// Why a row is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The other side's code, such as `23503`, or a word of ours.
    pub code: String,
    /// A clause or sentence, without a value of ours in it; what the other side says may quote one.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }
}
