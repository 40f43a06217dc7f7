//! An index by join key whose look-up is one point read.
//!
//! All entries under a key lie packed in one value, the *bucket*, as long as they are few and small: a look-up, also one
//! that finds nothing, is then a single read that a cache and a filter answer. A bucket that outgrows [`BUCKET_BYTES_MAX`]
//! *spills*: its entries become keys of their own, found by a scan, so that a key with a million rows costs no more per
//! change than one with ten.
//!
//! ```text
//! 0x00 key            → 0x00 (entry)*      entry: u32 length, entry key, u32 length, value
//! 0x00 key            → 0x01 size          spilled; size: the bytes that its entries would take if packed, u64
//! 0x01 key entry-key  → value              one entry of a spilled key
//! ```
//!
//! Law: a bucket's bytes are a function of its entries, whatever way they came. Packed entries lie in key order, and a
//! bucket is packed if, and only if, it fits; so a spilled one knows its size, and shrinks back when it fits again.

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
    /// An entry comes that was not there, with this value.
    Put(Vec<u8>),
    /// One goes that was there.
    Delete,
    /// The entry's value is a weight and a row; add to the weight, and drop the entry at zero.
    Add(i64, Vec<u8>),
}

/// One change: join key, entry key, what happens.
pub type KeyChange = (Vec<u8>, Vec<u8>, Change);

/// What is called with the entries of a key, key and value, until it answers false.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool> + 'a;

/// What stands under a join key.
enum Bucket<'a> {
    Packed(&'a [u8]),
    /// The bytes its entries would take if packed.
    Spilled(u64),
}

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
    pub fn find(&self, states: States<'_>, key: &[u8], each: &mut Each<'_>) -> Result<()> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(0);
        full.extend_from_slice(key);
        let Some(bucket) = states.get(self.table, &full)? else { return Ok(()) };
        if let Bucket::Packed(entries) = read(&bucket)? {
            return unpack(entries, each);
        }
        full[0] = 1;
        for entry in states.snapshot.scan(self.table, &full) {
            let (entry_key, value) = entry?;
            if !each(&entry_key[full.len()..], &value)? {
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
        let Some(bucket) = states.get(self.table, &full)? else { return Ok(Ordered::Packed(Vec::new().into_iter())) };
        if let Bucket::Packed(entries) = read(&bucket)? {
            return Ok(Ordered::Packed(entries_of(entries)?.into_iter()));
        }
        full[0] = 1;
        Ok(Ordered::Spilled { scan: states.snapshot.scan(self.table, &full), prefix: full.len() })
    }

    /// Calls `each` with the value of every entry of all keys.
    pub fn all(&self, states: States<'_>, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for entry in states.snapshot.scan(self.table, &[]) {
            let (key, value) = entry?;
            if key.first() == Some(&1) {
                each(&value)?;
            } else if let Bucket::Packed(entries) = read(&value)? {
                unpack(entries, &mut |_, value| each(value).map(|()| true))?;
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
        let Some(states) = states else {
            let entries = merged(Vec::new(), changes)?;
            return if entries.is_empty() { Ok(()) } else { self.write(&mut full, &entries, writes) };
        };
        let bucket = states.get(self.table, &full)?;
        let old = match bucket.as_deref().map(read).transpose()? {
            None => Vec::new(),
            Some(Bucket::Packed(entries)) => entries_of(entries)?,
            Some(Bucket::Spilled(size)) => return self.apply_spilled(states, full, size, changes, writes),
        };
        let entries = merged(old, changes)?;
        if entries.is_empty() {
            if bucket.is_some() {
                writes.delete(self.table, &full);
            }
            return Ok(());
        }
        self.write(&mut full, &entries, writes)
    }

    /// Writes all entries of a key, packed if they fit.
    fn write(&self, full: &mut Vec<u8>, entries: &[(Vec<u8>, Vec<u8>)], writes: &mut Writes) -> Result<()> {
        let size = packed_bytes(entries);
        if size <= BUCKET_BYTES_MAX as u64 {
            writes.put(self.table, full, &pack(entries)?);
            return Ok(());
        }
        writes.put(self.table, full, &spilled(size));
        full[0] = 1;
        let prefix = full.len();
        for (entry_key, value) in entries {
            full.truncate(prefix);
            full.extend_from_slice(entry_key);
            writes.put(self.table, full, value);
        }
        Ok(())
    }

    fn apply_spilled(
        &self,
        states: States<'_>,
        mut full: Vec<u8>,
        before: u64,
        changes: &[KeyChange],
        writes: &mut Writes,
    ) -> Result<()> {
        full[0] = 1;
        let prefix = full.len();
        let mut size = before;
        let mut new: Vec<(&[u8], Option<Vec<u8>>)> = Vec::with_capacity(changes.len());
        for of_entry in changes.chunk_by(|a, b| a.1 == b.1) {
            let entry_key = of_entry[0].1.as_slice();
            full.truncate(prefix);
            full.extend_from_slice(entry_key);
            let old = states.get_seldom(self.table, &full)?;
            let value = after(old.as_deref(), of_entry)?;
            if old.as_deref() == value.as_deref() {
                continue;
            }
            let gone = old.as_deref().map_or(0, |old| entry_bytes(entry_key, old));
            let come = value.as_deref().map_or(0, |value| entry_bytes(entry_key, value));
            size = size.checked_sub(gone).ok_or_else(|| broken(SIZE))?;
            size = size.checked_add(come).ok_or_else(|| broken(SIZE))?;
            new.push((entry_key, value));
        }
        if size <= BUCKET_BYTES_MAX as u64 {
            full.truncate(prefix);
            return self.shrink(states, full, size, changes, writes);
        }
        for (entry_key, value) in new {
            full.truncate(prefix);
            full.extend_from_slice(entry_key);
            match value {
                Some(value) => writes.put(self.table, &full, &value),
                None => writes.delete(self.table, &full),
            }
        }
        if size != before {
            full.truncate(prefix);
            full[0] = 0;
            writes.put(self.table, &full, &spilled(size));
        }
        Ok(())
    }

    /// Packs what is left of a spilled bucket.
    fn shrink(
        &self,
        states: States<'_>,
        mut full: Vec<u8>,
        size: u64,
        changes: &[KeyChange],
        writes: &mut Writes,
    ) -> Result<()> {
        let prefix = full.len();
        let mut old = Vec::new();
        for entry in states.snapshot.scan(self.table, &full) {
            let (key, value) = entry?;
            writes.delete(self.table, &key);
            old.push((key[prefix..].to_vec(), value.to_vec()));
        }
        let entries = merged(old, changes)?;
        if packed_bytes(&entries) != size {
            return Err(broken(SIZE));
        }
        full[0] = 0;
        if entries.is_empty() {
            writes.delete(self.table, &full);
            return Ok(());
        }
        writes.put(self.table, &full, &pack(&entries)?);
        Ok(())
    }
}

/// The entries of a key after changes that are in the order of their entries.
fn merged(old: Vec<(Vec<u8>, Vec<u8>)>, changes: &[KeyChange]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut out = Vec::with_capacity(old.len() + changes.len());
    let mut old = old.into_iter().peekable();
    for of_entry in changes.chunk_by(|a, b| a.1 == b.1) {
        let entry_key = &of_entry[0].1;
        while let Some(before) = old.next_if(|(key, _)| key < entry_key) {
            out.push(before);
        }
        let before = old.next_if(|(key, _)| key == entry_key).map(|(_, value)| value);
        let value = after(before.as_deref(), of_entry)?;
        out.extend(value.map(|value| (entry_key.clone(), value)));
    }
    out.extend(old);
    Ok(out)
}

/// An entry's value after its changes.
fn after(old: Option<&[u8]>, changes: &[KeyChange]) -> Result<Option<Vec<u8>>> {
    let [(.., first), rest @ ..] = changes else { return Ok(old.map(<[u8]>::to_vec)) };
    let mut value = changed(old, first)?;
    for (.., change) in rest {
        value = changed(value.as_deref(), change)?;
    }
    Ok(value)
}

fn changed(old: Option<&[u8]>, change: &Change) -> Result<Option<Vec<u8>>> {
    match change {
        Change::Put(_) if old.is_some() => Err(broken("an entry comes that is there")),
        Change::Put(value) => Ok(Some(value.clone())),
        Change::Delete if old.is_none() => Err(broken("an entry goes that is not there")),
        Change::Delete => Ok(None),
        Change::Add(weight, row) => {
            let before = match old.map(read_weighted).transpose()? {
                None => 0,
                Some((before, there)) if there == row => before,
                Some(_) => return Err(broken("two rows under one entry")),
            };
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

/// Weight and row in a value made by [`weighted`]. What is kept is there at least once.
pub fn read_weighted(value: &[u8]) -> Result<(i64, &[u8])> {
    let (weight, row) = value.split_first_chunk::<8>().ok_or_else(|| broken("a weight cannot be read"))?;
    match i64::from_le_bytes(*weight) {
        weight @ 1.. => Ok((weight, row)),
        _ => Err(broken("a row is kept no times")),
    }
}

const SIZE: &str = "the size of a spilled bucket is not that of its entries";

fn read(bucket: &[u8]) -> Result<Bucket<'_>> {
    match bucket.split_first() {
        Some((&PACKED, entries)) => Ok(Bucket::Packed(entries)),
        Some((&SPILLED, size)) => match size.try_into() {
            Ok(size) => Ok(Bucket::Spilled(u64::from_le_bytes(size))),
            Err(_) => Err(broken(UNREADABLE)),
        },
        _ => Err(broken(UNREADABLE)),
    }
}

fn spilled(size: u64) -> [u8; 9] {
    let mut out = [SPILLED; 9];
    out[1..].copy_from_slice(&size.to_le_bytes());
    out
}

/// Bytes of an entry in a packed bucket.
fn entry_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len() + 8) as u64
}

fn packed_bytes(entries: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    1 + entries.iter().map(|(key, value)| entry_bytes(key, value)).sum::<u64>()
}

fn pack(entries: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(BUCKET_BYTES_MAX);
    out.push(PACKED);
    for (key, value) in entries {
        for part in [key, value] {
            let length = u32::try_from(part.len()).map_err(|_| relation::Error::Overflow("bytes of an entry"))?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    Ok(out)
}

fn entries_of(packed: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut entries = Vec::new();
    unpack(packed, &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        Ok(true)
    })?;
    Ok(entries)
}

fn unpack(mut bytes: &[u8], each: &mut Each<'_>) -> Result<()> {
    let mut part = || -> Result<Option<&[u8]>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| broken(UNREADABLE))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (part, rest) = rest.split_at_checked(length).ok_or_else(|| broken(UNREADABLE))?;
        bytes = rest;
        Ok(Some(part))
    };
    while let Some(key) = part()? {
        let value = part()?.ok_or_else(|| broken(UNREADABLE))?;
        if !each(key, value)? {
            break;
        }
    }
    Ok(())
}

const UNREADABLE: &str = "a bucket cannot be read";

fn broken(what: &'static str) -> Error {
    Error::Broken { node: "index".to_owned(), what }
}
