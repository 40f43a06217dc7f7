//! What lives under which [`TableId`]: tables, indexes, states, models, rejects and sources, by name and by identity.
//!
//! The catalog is itself a table, [`CATALOG`], so it is committed, folded and recovered with what it describes. A
//! number is an incarnation: it is never given out twice, also not after [`Catalog::remove`].

use std::collections::BTreeMap;
use std::fmt;

use relation::{Column, Schema, TableId};

use crate::record::{Input, put_bytes, put_var};
use crate::snapshot::Snapshot;
use crate::writes::Writes;
use crate::{Error, Result};

/// The table that holds the catalog.
pub const CATALOG: TableId = TableId(1);

/// The first number given out; those below are the store's.
pub const FIRST: TableId = TableId(16);

/// Key of the next free number; entries have keys of four bytes.
const NEXT: &[u8] = b"n";
const VERSION: u8 = 1;

/// What an entry of the catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Rows of a source's table.
    Table,
    /// Keys of a table, or of an intermediate result, in another order.
    Index,
    /// What an operator remembers.
    State,
    /// Rows of a kept model.
    Model,
    /// Rows that a model could not take.
    Rejects,
    /// A source and where it stands.
    Source,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Table, Self::Index, Self::State, Self::Model, Self::Rejects, Self::Source];

    fn code(self) -> u8 {
        match self {
            Self::Table => 1,
            Self::Index => 2,
            Self::State => 3,
            Self::Model => 4,
            Self::Rejects => 5,
            Self::Source => 6,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::State => "state",
            Self::Model => "model",
            Self::Rejects => "rejects",
            Self::Source => "source",
        })
    }
}

/// One thing that has entries in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: TableId,
    pub kind: Kind,
    pub name: String,
    /// What it was made from: what does not match is built again. Empty where nothing is compared.
    pub identity: String,
    pub schema: Schema,
    /// Further facts, in the words of whoever made it.
    pub detail: String,
}

/// The catalog at a step, and changes to it that travel in the writes of the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    entries: BTreeMap<TableId, Entry>,
    next: u32,
}

impl Catalog {
    /// The catalog as it was after the snapshot's step.
    pub fn load(snapshot: &Snapshot) -> Result<Self> {
        let mut catalog = Self { entries: BTreeMap::new(), next: FIRST.0 };
        for item in snapshot.scan(CATALOG, &[]) {
            let (key, value) = item?;
            let number: Option<[u8; 4]> = if *key == *NEXT { (*value).try_into().ok() } else { (*key).try_into().ok() };
            let bad = Error::Decode { what: "the catalog", reason: "a key or number of the wrong length" };
            let number = u32::from_be_bytes(number.ok_or(bad)?);
            if *key == *NEXT {
                catalog.next = catalog.next.max(number);
            } else {
                let id = TableId(number);
                catalog.next = catalog.next.max(number.saturating_add(1));
                catalog.entries.insert(id, decode(id, &value)?);
            }
        }
        Ok(catalog)
    }

    /// The entry of a number as it was after the snapshot's step, without the others.
    pub fn entry_at(snapshot: &Snapshot, id: TableId) -> Result<Option<Entry>> {
        let bytes = snapshot.get(CATALOG, &id.0.to_be_bytes())?;
        bytes.map(|bytes| decode(id, &bytes)).transpose()
    }

    /// All entries, by number.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of a number.
    pub fn get(&self, id: TableId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The entry of a kind and name; the newest where a successor is being built beside it.
    pub fn by_name(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.entries.values().rev().find(|entry| entry.kind == kind && entry.name == name)
    }

    /// The entry of an identity; the newest where there are several.
    pub fn by_identity(&self, identity: &str) -> Option<&Entry> {
        self.entries.values().rev().find(|entry| entry.identity == identity)
    }

    /// Gives out a number that was never used.
    pub fn allocate(
        &mut self,
        writes: &mut Writes,
        kind: Kind,
        name: &str,
        identity: &str,
        schema: &Schema,
        detail: &str,
    ) -> TableId {
        let id = TableId(self.next);
        self.next += 1;
        writes.put(CATALOG, NEXT, &self.next.to_be_bytes());
        let entry = Entry {
            id,
            kind,
            name: name.to_owned(),
            identity: identity.to_owned(),
            schema: schema.clone(),
            detail: detail.to_owned(),
        };
        self.update(writes, entry);
        id
    }

    /// Writes an entry anew.
    pub fn update(&mut self, writes: &mut Writes, entry: Entry) {
        put(writes, &entry);
        self.adopt(entry);
    }

    /// The entry of a number is now this one, which was written by [`put`].
    pub fn adopt(&mut self, entry: Entry) {
        self.entries.insert(entry.id, entry);
    }

    /// Removes an entry and everything stored under its number.
    pub fn remove(&mut self, writes: &mut Writes, id: TableId) {
        self.write_removal(writes, id);
        self.forget(id);
    }

    /// Writes that an entry goes, with everything stored under its number; it is here until [`Catalog::forget`].
    pub fn write_removal(&self, writes: &mut Writes, id: TableId) {
        if self.entries.contains_key(&id) {
            writes.delete(CATALOG, &id.0.to_be_bytes());
            writes.drop_table(id);
        }
    }

    /// An entry is gone, as was written.
    pub fn forget(&mut self, id: TableId) {
        self.entries.remove(&id);
    }
}

/// Writes an entry; the catalog has it with [`Catalog::adopt`].
pub fn put(writes: &mut Writes, entry: &Entry) {
    writes.put(CATALOG, &entry.id.0.to_be_bytes(), &encode(entry));
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut out = vec![VERSION, entry.kind.code()];
    for text in [&entry.name, &entry.identity, &entry.detail] {
        put_bytes(&mut out, text.as_bytes());
    }
    put_var(&mut out, entry.schema.columns.len() as u64);
    for column in &entry.schema.columns {
        put_bytes(&mut out, column.name.as_bytes());
        put_bytes(&mut out, column.data_type.to_string().as_bytes());
        out.push(u8::from(column.nullable));
    }
    put_var(&mut out, entry.schema.key.len() as u64);
    for column in &entry.schema.key {
        put_var(&mut out, *column as u64);
    }
    out
}

fn decode(id: TableId, bytes: &[u8]) -> Result<Entry> {
    let mut input = Input::new("an entry of the catalog", bytes);
    input.version(VERSION)?;
    let code = input.byte()?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code).ok_or_else(|| input.newer("a kind"))?;
    let (name, identity, detail) = (input.text()?, input.text()?, input.text()?);
    let mut columns = Vec::new();
    for _ in 0..input.count()? {
        let name = input.text()?;
        let data_type = input.text()?.parse().map_err(|_| input.newer("a type of a column"))?;
        columns.push(Column { name, data_type, nullable: input.flag()? });
    }
    let mut key = Vec::new();
    for _ in 0..input.count()? {
        let column = input.id()? as usize;
        if column >= columns.len() {
            return Err(input.bad("a key column that is not there"));
        }
        key.push(column);
    }
    input.end()?;
    Ok(Entry { id, kind, name, identity, schema: Schema::new(columns, key), detail })
}
