//! What a step writes: entries by table, the last write per key wins.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use relation::TableId;

use crate::part::{Part, hash};
use crate::{Error, KEY_BYTES_MAX, META, Result, VALUE_BYTES_MAX};

/// The writes of one step, collected by the engine and handed to [`crate::Store::commit`]. Values are absolute.
///
/// Entries of a table lie in one arena: no allocation per entry.
#[derive(Debug, Default, Clone)]
pub struct Writes {
    tables: Vec<(TableId, Part)>,
    /// Where each table stands, once there are more of them than [`LINEAR_MAX`]; empty until then.
    by_table: HashMap<u32, usize, FixedState>,
    /// The table written last, most often the one written next.
    last: usize,
    /// The first write that [`crate::Store::commit`] must refuse.
    refused: Option<Error>,
}

/// Up to so many tables are found by looking at all of them: a node of the engine writes a few.
const LINEAR_MAX: usize = 8;

/// What [`Writes::set_once`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// The place of the key's entry among those of its table: later entries have higher ones.
    pub place: u32,
    /// Whether nothing was said of the key before.
    pub is_new: bool,
}

/// Writes made ready on another thread than the one that commits: hashed, sorted and checked, so that
/// [`crate::Store::commit_with`] has nothing to do per entry.
///
/// For the portions of a build. Their tables should be ones that nobody reads through [`crate::Hot`] yet: a table that the
/// cache knows is forgotten there at the commit, which is right, but takes a walk through the cache.
#[derive(Debug)]
pub struct Prepared(Vec<(TableId, Arc<Part>)>);

impl Prepared {
    /// Makes writes ready. Errors: those of [`Writes::check`].
    pub fn new(writes: Writes) -> Result<Self> {
        let ready = |(table, mut part): (TableId, Part)| {
            part.prepare();
            (table, Arc::new(part))
        };
        Ok(Self(writes.into_parts()?.into_iter().map(ready).collect()))
    }

    /// Number of keys written or deleted.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, part)| part.len()).sum()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Memory that the entries take.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(_, part)| part.memory()).sum()
    }

    pub(crate) fn into_parts(self) -> Vec<(TableId, Arc<Part>)> {
        self.0
    }
}

impl Writes {
    /// No writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key's value.
    #[inline]
    pub fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) {
        self.set(table, key, Some(value));
    }

    /// Removes a key.
    #[inline]
    pub fn delete(&mut self, table: TableId, key: &[u8]) {
        self.set(table, key, None);
    }

    /// Sets a key's value, or deletes it, unless these writes say something of it already: then that stays.
    pub fn set_once(&mut self, table: TableId, key: &[u8], value: Option<&[u8]>) -> Once {
        // What is refused is refused as a whole, so whatever stands here is never used.
        let refused = Once { place: u32::MAX, is_new: true };
        if !self.is_takable(table, key, value) {
            return refused;
        }
        let part = self.part(table);
        if part.is_dropped() {
            self.refuse(Error::Dropped(table));
            return refused;
        }
        match part.set_once(hash(table, key), key, value) {
            Ok((place, is_new)) => Once { place, is_new },
            Err(_) => {
                self.refuse(Error::WritesTooLarge { table });
                refused
            }
        }
    }

    /// Removes all entries of a table for good: what was written before, here and in earlier steps, vanishes, and
    /// writing to it again is an error of [`crate::Store::commit`].
    pub fn drop_table(&mut self, table: TableId) {
        self.part(table).set_dropped();
    }

    /// What these writes say about a key: none where they do not touch it, `Some(None)` where they delete it.
    pub fn get(&self, table: TableId, key: &[u8]) -> Option<Option<&[u8]>> {
        let (_, part) = &self.tables[self.at(table)?];
        if part.is_dropped() {
            return Some(None);
        }
        part.find(hash(table, key), key).map(|i| part.value(i))
    }

    /// Whether a commit can take these writes, or the first of them that it must refuse. A table that an earlier step
    /// dropped is known to [`crate::Store::check`] alone.
    pub fn check(&self) -> Result<()> {
        match &self.refused {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// As [`Writes::append`], if a commit can take both together; otherwise nothing is taken over, and the error says
    /// what is wrong with the other: so one writer's mistake is left out alone.
    pub fn try_append(&mut self, other: Self) -> Result<()> {
        other.check()?;
        for (table, part) in &other.tables {
            let Some(at) = self.at(*table) else { continue };
            let mine = &self.tables[at].1;
            if part.is_dropped() {
                continue;
            }
            if mine.is_dropped() {
                return Err(Error::Dropped(*table));
            }
            if !mine.has_room_for(part) {
                return Err(Error::WritesTooLarge { table: *table });
            }
        }
        self.append(other);
        Ok(())
    }

    /// Takes over the writes of another, which count as later. What a shard wrote is moved where no other wrote the table.
    pub fn append(&mut self, other: Self) {
        if self.tables.is_empty() && self.refused.is_none() {
            *self = other;
            return;
        }
        if let Some(error) = other.refused {
            self.refuse(error);
        }
        for (table, part) in other.tables {
            if part.is_dropped() {
                self.drop_table(table);
            } else if self.at(table).is_some() {
                self.extend(table, &part);
            } else {
                self.add(table, part);
            }
        }
    }

    /// The keys of a table that are written or deleted.
    pub fn keys(&self, table: TableId) -> impl Iterator<Item = &[u8]> {
        let part = self.at(table).map(|at| &self.tables[at].1);
        part.into_iter().flat_map(|part| (0..u32::try_from(part.len()).unwrap_or(u32::MAX)).map(move |i| part.key(i)))
    }

    /// The tables written or dropped.
    pub(crate) fn tables(&self) -> impl Iterator<Item = TableId> {
        self.tables.iter().map(|(table, _)| *table)
    }

    /// Keeps the writes to tables for which this is true.
    pub fn retain(&mut self, keeps: impl Fn(TableId) -> bool) {
        if self.tables.iter().all(|(table, _)| keeps(*table)) {
            return;
        }
        self.tables.retain(|(table, _)| keeps(*table));
        self.by_table.clear();
        self.index_tables();
        self.last = 0;
    }

    /// Number of keys written or deleted.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|(_, part)| part.len()).sum()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Memory that the entries take.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|(_, part)| part.memory()).sum()
    }

    #[inline]
    fn set(&mut self, table: TableId, key: &[u8], value: Option<&[u8]>) {
        if !self.is_takable(table, key, value) {
            return;
        }
        let part = self.part(table);
        if part.is_dropped() {
            self.refuse(Error::Dropped(table));
            return;
        }
        if part.set(hash(table, key), key, value).is_err() {
            self.refuse(Error::WritesTooLarge { table });
        }
    }

    /// Whether a key and a value are of a size that can be stored; refuses them otherwise.
    #[inline]
    fn is_takable(&mut self, table: TableId, key: &[u8], value: Option<&[u8]>) -> bool {
        if key.len() > KEY_BYTES_MAX {
            self.refuse(Error::KeyTooLong { table, bytes: key.len() });
            return false;
        }
        if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            self.refuse(Error::ValueTooLong { table, bytes: value.map_or(0, <[u8]>::len) });
            return false;
        }
        true
    }

    fn extend(&mut self, table: TableId, more: &Part) {
        let part = self.part(table);
        if part.is_dropped() {
            self.refuse(Error::Dropped(table));
            return;
        }
        part.reserve(more.len());
        for i in 0..u32::try_from(more.len()).unwrap_or(u32::MAX) {
            if part.set(more.hash_of(i), more.key(i), more.value(i)).is_err() {
                self.refuse(Error::WritesTooLarge { table });
                return;
            }
        }
    }

    fn refuse(&mut self, error: Error) {
        self.refused.get_or_insert(error);
    }

    #[inline]
    fn part(&mut self, table: TableId) -> &mut Part {
        if self.tables.get(self.last).is_none_or(|(id, _)| *id != table) {
            self.last = self.find_or_add(table);
        }
        &mut self.tables[self.last].1
    }

    fn find_or_add(&mut self, table: TableId) -> usize {
        if table == META {
            self.refuse(Error::Reserved(table));
        }
        self.at(table).unwrap_or_else(|| self.add(table, Part::with_capacity(0)))
    }

    /// Where a table stands.
    #[inline]
    fn at(&self, table: TableId) -> Option<usize> {
        if self.by_table.is_empty() {
            return self.tables.iter().position(|(id, _)| *id == table);
        }
        self.by_table.get(&table.0).copied()
    }

    /// Adds a table that is not there yet.
    fn add(&mut self, table: TableId, part: Part) -> usize {
        let at = self.tables.len();
        self.tables.push((table, part));
        if self.by_table.is_empty() {
            self.index_tables();
        } else {
            self.by_table.insert(table.0, at);
        }
        at
    }

    fn index_tables(&mut self) {
        if self.tables.len() > LINEAR_MAX {
            self.by_table.extend(self.tables.iter().enumerate().map(|(i, (table, _))| (table.0, i)));
        }
    }

    /// The parts, sorted by table; or the first write that cannot be.
    pub(crate) fn into_parts(mut self) -> Result<Vec<(TableId, Part)>> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.tables.sort_unstable_by_key(|(id, _)| *id);
        Ok(self.tables)
    }
}
