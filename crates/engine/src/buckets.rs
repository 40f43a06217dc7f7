//! An index by join key whose look-up is one point read.
//!
//! All entries under a key lie packed in one value, the *bucket*, as long as they are few and small: a look-up, also one
//! that finds nothing, is then a single read that a cache and a filter answer. A bucket that outgrows [`BUCKET_BYTES_MAX`]
//! *spills*: its entries become keys of their own, found by a scan, so that a key with a million rows costs no more per
//! change than one with ten.
//!
//! ```text
//! 0x00 key            → 0x00 (entry)*      entry: u32 length, entry key, u32 length, value
//! 0x00 key            → 0x01               spilled
//! 0x01 key entry-key  → value              one entry of a spilled key
//! ```
//!
//! A spilled bucket stays spilled until it is rebuilt.

use relation::TableId;
use store::Writes;

use crate::error::{Error, Result};
use crate::operator::States;

/// Packed bytes from which a bucket spills.
///
/// Every change of a packed bucket writes it whole: a few entries are cheaper so, dozens are not.
pub const BUCKET_BYTES_MAX: usize = 320;

const PACKED: u8 = 0;
const SPILLED: u8 = 1;

/// An index by join key; see the module.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    pub table: TableId,
}

/// What happens to one entry of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entry is there, with this value.
    Put(Vec<u8>),
    Delete,
    /// The entry's value is a weight and a row; add to the weight, and drop the entry at zero.
    Add(i64, Vec<u8>),
}

/// One change: join key, entry key, what happens.
pub type KeyChange = (Vec<u8>, Vec<u8>, Change);

/// The entries of one key, in order.
pub enum Ordered {
    Packed(std::vec::IntoIter<(Vec<u8>, Vec<u8>)>),
    Spilled { scan: store::Scan, prefix: usize },
}

impl Iterator for Ordered {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Packed(entries) => entries.next().map(Ok),
            Self::Spilled { scan, prefix } => {
                let entry = scan.next()?;
                Some(entry.map(|(key, value)| (key[*prefix..].to_vec(), value.to_vec())).map_err(Error::from))
            }
        }
    }
}

impl Buckets {
    /// Keys of the table that begin so name the join keys, one each.
    pub const KEYS: &'static [u8] = &[0];

    /// Calls `each` with entry key and value of the entries under a key, until it answers false.
    pub fn find(&self, states: States<'_>, key: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(0);
        full.extend_from_slice(key);
        let Some(bucket) = states.get(self.table, &full)? else { return Ok(()) };
        if bucket.first() == Some(&PACKED) {
            return unpack(&bucket[1..], each);
        }
        full[0] = 1;
        for entry in states.snapshot.scan(self.table, &full) {
            let (entry_key, value) = entry?;
            if !each(&entry_key[full.len()..], &value) {
                break;
            }
        }
        Ok(())
    }

    /// The entries under a key in the order of their entry keys, with their values.
    pub fn ordered(&self, states: States<'_>, key: &[u8]) -> Result<Ordered> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(0);
        full.extend_from_slice(key);
        let mut entries = Vec::new();
        let Some(bucket) = states.get(self.table, &full)? else { return Ok(Ordered::Packed(entries.into_iter())) };
        if bucket.first() == Some(&PACKED) {
            unpack(&bucket[1..], &mut |key, value| {
                entries.push((key.to_vec(), value.to_vec()));
                true
            })?;
            entries.sort_unstable();
            return Ok(Ordered::Packed(entries.into_iter()));
        }
        full[0] = 1;
        Ok(Ordered::Spilled { scan: states.snapshot.scan(self.table, &full), prefix: full.len() })
    }

    /// Calls `each` with the value of every entry of all keys.
    pub fn all(&self, states: States<'_>, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in states.snapshot.scan(self.table, &[]) {
            let (key, value) = entry?;
            match (key.first(), value.first()) {
                (Some(0), Some(&PACKED)) => unpack(&value[1..], &mut |_, value| {
                    each(value);
                    true
                })?,
                (Some(0), _) => {}
                _ => each(&value),
            }
        }
        Ok(())
    }

    /// Applies a step's changes; `states` is none while the index is built and known to be empty.
    ///
    /// Changes of one entry apply in their order.
    pub fn apply(&self, states: Option<States<'_>>, mut changes: Vec<KeyChange>, writes: &mut Writes) -> Result<()> {
        changes.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut of_keys = changes.chunk_by(|a, b| a.0 == b.0);
        of_keys.try_for_each(|changes| self.apply_key(states, changes, writes))
    }

    /// Changes of one key, in the order of their entries.
    fn apply_key(&self, states: Option<States<'_>>, changes: &[KeyChange], writes: &mut Writes) -> Result<()> {
        let mut full = vec![0];
        full.extend_from_slice(&changes[0].0);
        let bucket = match states {
            Some(states) => states.get(self.table, &full)?,
            None => None,
        };
        if bucket.as_ref().is_some_and(|b| b.first() == Some(&SPILLED)) {
            return self.apply_spilled(states, &mut full, changes, writes);
        }
        let mut old: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        if let Some(bucket) = &bucket {
            unpack(&bucket[1..], &mut |key, value| {
                old.push((key.to_vec(), value.to_vec()));
                true
            })?;
        }
        let entries = merged(old, changes)?;
        if entries.is_empty() {
            if bucket.is_some() {
                writes.delete(self.table, &full);
            }
            return Ok(());
        }
        let packed = pack(&entries);
        if packed.len() <= BUCKET_BYTES_MAX {
            if bucket.as_deref() != Some(&packed) {
                writes.put(self.table, &full, &packed);
            }
            return Ok(());
        }
        writes.put(self.table, &full, &[SPILLED]);
        full[0] = 1;
        let prefix = full.len();
        for (entry_key, value) in &entries {
            full.truncate(prefix);
            full.extend_from_slice(entry_key);
            writes.put(self.table, &full, value);
        }
        Ok(())
    }

    fn apply_spilled(
        &self,
        states: Option<States<'_>>,
        full: &mut Vec<u8>,
        changes: &[KeyChange],
        writes: &mut Writes,
    ) -> Result<()> {
        full[0] = 1;
        let prefix = full.len();
        for of_entry in changes.chunk_by(|a, b| a.1 == b.1) {
            full.truncate(prefix);
            full.extend_from_slice(&of_entry[0].1);
            // Puts and deletes do not depend on what is there.
            let reads = matches!(of_entry[0].2, Change::Add(..));
            let mut value = match states {
                Some(states) if reads => states.get(self.table, full)?.map(|v| v.to_vec()),
                _ => None,
            };
            for (.., change) in of_entry {
                value = changed(value.as_deref(), change)?;
            }
            match value {
                Some(value) => writes.put(self.table, full, &value),
                None => writes.delete(self.table, full),
            }
        }
        Ok(())
    }
}

/// The entries of a key after changes that are in the order of their entries.
fn merged(mut old: Vec<(Vec<u8>, Vec<u8>)>, changes: &[KeyChange]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    old.sort_unstable();
    let mut out = Vec::with_capacity(old.len() + changes.len());
    let mut old = old.into_iter().peekable();
    for of_entry in changes.chunk_by(|a, b| a.1 == b.1) {
        let entry_key = &of_entry[0].1;
        while let Some(before) = old.next_if(|(key, _)| key < entry_key) {
            out.push(before);
        }
        let mut value = old.next_if(|(key, _)| key == entry_key).map(|(_, value)| value);
        for (.., change) in of_entry {
            value = changed(value.as_deref(), change)?;
        }
        out.extend(value.map(|value| (entry_key.clone(), value)));
    }
    out.extend(old);
    Ok(out)
}

/// An entry's value after a change.
fn changed(old: Option<&[u8]>, change: &Change) -> Result<Option<Vec<u8>>> {
    match change {
        Change::Put(value) => Ok(Some(value.clone())),
        Change::Delete => Ok(None),
        Change::Add(weight, row) => {
            let before = old.map_or(Ok(0), weight_of)?;
            let after = before.checked_add(*weight).ok_or(relation::Error::Overflow("weight"))?;
            match after {
                0 => Ok(None),
                1.. => Ok(Some(weighted(after, row))),
                _ => Err(broken("a row counted fewer than no times")),
            }
        }
    }
}

/// A weight and a row as one value.
pub fn weighted(weight: i64, row: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + row.len());
    out.extend_from_slice(&weight.to_le_bytes());
    out.extend_from_slice(row);
    out
}

/// The weight in a value made by [`weighted`].
pub fn weight_of(value: &[u8]) -> Result<i64> {
    let weight = value.first_chunk::<8>().ok_or_else(|| broken("a weight cannot be read"))?;
    Ok(i64::from_le_bytes(*weight))
}

#[expect(clippy::cast_possible_truncation, reason = "no more than a bucket holds")]
fn pack(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let size: usize = entries.iter().map(|(k, v)| k.len() + v.len() + 8).sum();
    let mut out = Vec::with_capacity(size + 1);
    out.push(PACKED);
    for (key, value) in entries {
        for part in [key, value] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    out
}

fn unpack(mut bytes: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
    let mut part = || -> Result<Option<&[u8]>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| broken("a bucket cannot be read"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if rest.len() < length {
            return Err(broken("a bucket cannot be read"));
        }
        let (part, rest) = rest.split_at(length);
        bytes = rest;
        Ok(Some(part))
    };
    while let Some(key) = part()? {
        let value = part()?.ok_or_else(|| broken("a bucket cannot be read"))?;
        if !each(key, value) {
            break;
        }
    }
    Ok(())
}

fn broken(what: &'static str) -> Error {
    Error::Broken { node: "index".to_owned(), what }
}
