//! The tables at one fold: what lies under the overlay of a snapshot.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fjall::{Keyspace, Readable as _};
use relation::TableId;

use crate::disk::Home;
use crate::slice::Slice;
use crate::{Error, META, Result};

/// Key of the step that the tables stand at, in [`META`].
pub(crate) const FOLDED_STEP: &[u8] = b"folded_step";
/// Before the big-endian number of a dropped table, in [`META`]. Sorts before [`FOLDED_STEP`].
pub(crate) const DEAD: &[u8] = b"dead";
/// Bytes of a table's prefix.
pub(crate) const PREFIX: u32 = 4;

/// The tables as one fold left them. Alive as long as a reader holds it.
pub(crate) struct Base {
    /// Every step up to this one is in it, none after.
    pub(crate) folded: u64,
    /// Dropped tables whose entries may still lie about.
    pub(crate) dead: BTreeSet<TableId>,
    /// Nothing was ever folded.
    pub(crate) is_new: bool,
    tables: RwLock<Access>,
}

/// Whether a base can be read.
pub(crate) enum Access {
    Open(Tables),
    /// The tables are being reopened after a failed fold.
    Closed,
    /// This base did not survive that.
    Ended,
}

/// fjall's handles.
pub(crate) struct Tables {
    pub(crate) keyspace: Keyspace,
    pub(crate) snapshot: fjall::Snapshot,
    /// Keeps the database open, and its folder in place, as long as somebody reads from it.
    pub(crate) _home: Home,
}

/// A prefixed key; short ones need no allocation.
pub(crate) enum Prefixed {
    Short([u8; 132], usize),
    Long(Vec<u8>),
}

impl Prefixed {
    pub(crate) fn new(table: TableId, key: &[u8]) -> Self {
        let prefix = table.0.to_be_bytes();
        let len = prefix.len() + key.len();
        let mut short = [0; 132];
        if len > short.len() {
            return Self::Long([&prefix, key].concat());
        }
        short[..4].copy_from_slice(&prefix);
        short[4..len].copy_from_slice(key);
        Self::Short(short, len)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes, len) => &bytes[..*len],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Tables {
    /// The step that these tables stand at; none before the first fold.
    fn folded_once(&self) -> Result<Option<u64>> {
        let key = Prefixed::new(META, FOLDED_STEP);
        let value = self.snapshot.get(&self.keyspace, key.bytes()).map_err(Error::tables("read"))?;
        let Some(value) = value else { return Ok(None) };
        let bytes: Option<[u8; 8]> = value.as_ref().try_into().ok();
        let step = bytes.map(u64::from_be_bytes);
        step.ok_or(Error::Decode { what: "the folded step", reason: "not 8 bytes" }).map(Some)
    }

    /// The same; 0 before the first fold.
    pub(crate) fn folded(&self) -> Result<u64> {
        Ok(self.folded_once()?.unwrap_or(0))
    }

    /// The dropped tables that these tables remember.
    pub(crate) fn dead(&self) -> Result<BTreeSet<TableId>> {
        let prefix = Prefixed::new(META, DEAD);
        let mut dead = BTreeSet::new();
        for guard in self.snapshot.prefix(&self.keyspace, prefix.bytes()) {
            let key = guard.key().map_err(Error::tables("read"))?;
            let id: Option<[u8; 4]> = key[prefix.bytes().len()..].try_into().ok();
            let id = id.ok_or(Error::Decode { what: "a dropped table", reason: "not 4 bytes" })?;
            dead.insert(TableId(u32::from_be_bytes(id)));
        }
        Ok(dead)
    }
}

impl Base {
    pub(crate) fn new(tables: Tables) -> Result<Self> {
        let folded = tables.folded_once()?;
        let (is_new, folded) = (folded.is_none(), folded.unwrap_or(0));
        Ok(Self { folded, dead: tables.dead()?, is_new, tables: RwLock::new(Access::Open(tables)) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Access> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles, to be taken away or replaced; readers wait meanwhile.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Access> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key.
    pub(crate) fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        if self.dead.contains(&table) {
            return Ok(None);
        }
        let guard = self.read();
        let tables = self.open(&guard)?;
        let key = Prefixed::new(table, key);
        let value = tables.snapshot.get(&tables.keyspace, key.bytes()).map_err(Error::tables("read"))?;
        Ok(value.map(|value| Slice::table(value, 0)))
    }

    /// The entries of a table between two bounds; none where the table was dropped.
    pub(crate) fn range(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<fjall::Iter>> {
        if self.dead.contains(&table) {
            return Ok(None);
        }
        self.range_of_any(table, from, to).map(Some)
    }

    /// The keys of all tables that were not dropped, with their tables.
    pub(crate) fn keys(&self) -> Result<impl Iterator<Item = Result<(TableId, Slice)>>> {
        let first = TableId(META.0 + 1);
        let entries = {
            let guard = self.read();
            let tables = self.open(&guard)?;
            let from = Prefixed::new(first, &[]);
            let bounds = (Bound::Included(from.bytes()), Bound::Unbounded);
            tables.snapshot.range::<&[u8], _>(&tables.keyspace, bounds)
        };
        let keys = entries.map(|entry| {
            let key = entry.key().map_err(Error::tables("read"))?;
            let table = key.first_chunk::<4>().ok_or(Error::Decode { what: "a key", reason: "it names no table" })?;
            Ok((TableId(u32::from_be_bytes(*table)), Slice::table(key, PREFIX)))
        });
        Ok(keys.filter(|key| !key.as_ref().is_ok_and(|(table, _)| self.dead.contains(table))))
    }

    /// How many entries there are about, with what is written over or deleted and not compacted away yet.
    pub(crate) fn entries(&self) -> Result<u64> {
        let guard = self.read();
        Ok(self.open(&guard)?.keyspace.approximate_len() as u64)
    }

    /// Whether anything is left of a dropped table.
    pub(crate) fn is_empty(&self, table: TableId) -> Result<bool> {
        let mut left = self.range_of_any(table, Bound::Unbounded, Bound::Unbounded)?;
        Ok(left.next().map(fjall::Guard::key).transpose().map_err(Error::tables("read"))?.is_none())
    }

    fn range_of_any(&self, table: TableId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<fjall::Iter> {
        let guard = self.read();
        let tables = self.open(&guard)?;
        let from = match from {
            Bound::Included(key) => Bound::Included(Prefixed::new(table, key)),
            Bound::Excluded(key) => Bound::Excluded(Prefixed::new(table, key)),
            Bound::Unbounded => Bound::Included(Prefixed::new(table, &[])),
        };
        let to = match to {
            Bound::Included(key) => Bound::Included(Prefixed::new(table, key)),
            Bound::Excluded(key) => Bound::Excluded(Prefixed::new(table, key)),
            Bound::Unbounded => after(table),
        };
        let bounds = (from.as_ref().map(Prefixed::bytes), to.as_ref().map(Prefixed::bytes));
        Ok(tables.snapshot.range::<&[u8], _>(&tables.keyspace, bounds))
    }

    fn open<'a>(&self, access: &'a Access) -> Result<&'a Tables> {
        match access {
            Access::Open(tables) => Ok(tables),
            Access::Closed => Err(Error::TablesClosed),
            Access::Ended => Err(Error::SnapshotEnded { step: self.folded }),
        }
    }
}

/// The end of a table's entries.
pub(crate) fn after(table: TableId) -> Bound<Prefixed> {
    match table.0.checked_add(1) {
        Some(next) => Bound::Excluded(Prefixed::new(TableId(next), &[])),
        None => Bound::Unbounded,
    }
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base({})", self.folded)
    }
}
