//! What names mean: stored tables, views, system tables, and what is not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use plan::{TableName, quoted_name};
use relation::{Schema, TableId};

use crate::barrier::redacted;
use crate::error::{Error, closest, code};
use crate::pg_catalog::SystemTables;

/// How the entries of a stored table are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Key: the key encoding of the schema's key columns. Value: the row.
    Keyed,
    /// Key: anything. Value: a weight (i64, little endian), then the row, which counts `weight` times.
    Bag,
}

/// A table of the store: a source's, or a kept model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTable {
    pub name: TableName,
    pub id: TableId,
    pub schema: Schema,
    pub form: Form,
}

/// A table computed when it is read: `tidemill.models` and its like.
#[derive(Clone)]
pub struct VirtualTable {
    pub name: TableName,
    pub schema: SchemaRef,
    pub rows: VirtualRows,
}

/// The rows of a [`VirtualTable`], in columns of its schema.
#[derive(Clone)]
pub enum VirtualRows {
    /// Few: all of them when a query names the table.
    Whole(Arc<dyn Fn() -> RecordBatch + Send + Sync>),
    /// Any number: batches that are made as a query asks for them.
    Batches(Arc<dyn Fn() -> Batches + Send + Sync>),
}

/// Batches that are made as they are asked for; an error ends them.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

impl fmt::Debug for VirtualTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is said of a relation: shown by the catalogue, and nothing is checked by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documentation {
    /// What it holds.
    pub text: Option<String>,
    /// What its columns hold, by name.
    pub columns: BTreeMap<String, String>,
    /// Columns that refer to others: foreign keys.
    pub references: Vec<Reference>,
}

/// Columns whose values are found in columns of another relation, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub columns: Vec<String>,
    pub table: TableName,
    pub referred: Vec<String>,
}

/// All names at one moment. A value: build a new one when something changes, share it behind an `Arc`.
#[derive(Debug, Default)]
pub struct Catalog {
    search_path: Vec<String>,
    tables: BTreeMap<TableName, Arc<StoredTable>>,
    views: BTreeMap<TableName, String>,
    virtuals: BTreeMap<TableName, VirtualTable>,
    unavailable: BTreeMap<TableName, Error>,
    rows: BTreeMap<TableId, u64>,
    documentation: BTreeMap<TableName, Documentation>,
    /// What views are made of, where that is more than may be read by name.
    beneath: Option<Arc<Catalog>>,
    /// `pg_catalog` and `information_schema` of these names, made when first asked for.
    system: OnceLock<Arc<SystemTables>>,
}

/// What of a relation may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the name is not known.
    None,
    /// All of it.
    All,
    /// What this SQL answers, over all there is.
    Through(String),
}

/// What a name stands for.
pub(crate) enum Relation<'a> {
    Stored(&'a Arc<StoredTable>),
    View(&'a TableName, &'a str),
    Virtual(&'a VirtualTable),
}

impl Catalog {
    /// An empty catalog; unqualified names are looked for in these schemas, in this order.
    pub fn new(search_path: Vec<String>) -> Self {
        Self { search_path, ..Self::default() }
    }

    /// The same as somebody sees it who may read a part. What is not granted is not there: no name, no column, no hint. Views,
    /// their own and those that stand in the place of tables, are made of all there is.
    #[must_use]
    pub fn granted(self: &Arc<Self>, access: impl Fn(&TableName) -> Access) -> Self {
        let mut own = Self::new(self.search_path.clone());
        own.rows.clone_from(&self.rows);
        for (name, table) in &self.tables {
            match access(name) {
                Access::None => {}
                Access::All => _ = own.tables.insert(name.clone(), Arc::clone(table)),
                Access::Through(sql) => _ = own.views.insert(name.clone(), sql),
            }
        }
        for (name, sql) in &self.views {
            match access(name) {
                Access::None => {}
                Access::All => _ = own.views.insert(name.clone(), sql.clone()),
                Access::Through(part) => _ = own.views.insert(name.clone(), part),
            }
        }
        for (name, table) in &self.virtuals {
            match access(name) {
                Access::None => {}
                Access::All => _ = own.virtuals.insert(name.clone(), table.clone()),
                Access::Through(sql) => _ = own.views.insert(name.clone(), sql),
            }
        }
        let unavailable = self.unavailable.iter().filter(|(name, _)| access(name) != Access::None);
        // Why it is so is told with what it is made of.
        own.unavailable = unavailable.map(|(name, error)| (name.clone(), redacted(error, &name.to_string()))).collect();
        // A schema of which nothing is read has no name either; the first is the project's own, and every client's default.
        let held: BTreeSet<&str> = own.names().map(|name| name.schema.as_str()).collect();
        let path =
            self.search_path.iter().enumerate().filter(|(at, schema)| *at == 0 || held.contains(schema.as_str()));
        own.search_path = path.map(|(_, schema)| schema.clone()).collect();
        // Of what is not there, by name or by column, nothing is said: see `pg_catalog`.
        own.documentation.clone_from(&self.documentation);
        own.beneath = Some(Arc::clone(self));
        own
    }

    /// What views are made of.
    pub(crate) fn beneath(&self) -> &Self {
        self.beneath.as_deref().unwrap_or(self)
    }

    /// Whether only a part of all there is may be read.
    pub(crate) fn is_partial(&self) -> bool {
        self.beneath.is_some()
    }

    /// Adds a stored table.
    pub fn add_table(&mut self, table: StoredTable) {
        self.system = OnceLock::new();
        self.tables.insert(table.name.clone(), Arc::new(table));
    }

    /// Adds a view: SQL whose tables are found as in any query.
    pub fn add_view(&mut self, name: TableName, sql: impl Into<String>) {
        self.system = OnceLock::new();
        self.views.insert(name, sql.into());
    }

    /// Adds a system table.
    pub fn add_virtual(&mut self, table: VirtualTable) {
        self.system = OnceLock::new();
        self.virtuals.insert(table.name.clone(), table);
    }

    /// Notes that a table cannot be read now; reading it fails with this ([`Error::not_ready`]), whatever is stored of it.
    pub fn add_unavailable(&mut self, name: TableName, error: Error) {
        self.unavailable.insert(name, error);
    }

    /// Notes about how many rows a table has: joins then build on their smaller side.
    pub fn set_rows(&mut self, table: TableId, rows: u64) {
        self.rows.insert(table, rows);
    }

    /// Notes what is said of a relation.
    pub fn document(&mut self, name: TableName, documentation: Documentation) {
        self.system = OnceLock::new();
        self.documentation.insert(name, documentation);
    }

    /// What is said of a relation.
    pub(crate) fn documentation(&self, name: &TableName) -> Option<&Documentation> {
        self.documentation.get(name)
    }

    /// Rows of a table as last noted.
    pub fn rows(&self, table: TableId) -> Option<u64> {
        self.rows.get(&table).copied()
    }

    /// Where unqualified names are looked for.
    pub fn search_path(&self) -> &[String] {
        &self.search_path
    }

    /// The stored tables.
    pub fn tables(&self) -> impl Iterator<Item = &StoredTable> {
        self.tables.values().map(Arc::as_ref)
    }

    /// A stored table by its qualified name.
    pub fn table(&self, name: &TableName) -> Option<&StoredTable> {
        self.tables.get(name).map(Arc::as_ref)
    }

    /// The columns of a system table by its qualified name; none if there is none.
    pub fn columns_of_system_table(&self, name: &TableName) -> Option<Vec<String>> {
        let table = self.virtuals.get(name)?;
        Some(table.schema.fields().iter().map(|field| field.name().clone()).collect())
    }

    pub(crate) fn views(&self) -> &BTreeMap<TableName, String> {
        &self.views
    }

    pub(crate) fn virtuals(&self) -> &BTreeMap<TableName, VirtualTable> {
        &self.virtuals
    }

    pub(crate) fn system(&self) -> &OnceLock<Arc<SystemTables>> {
        &self.system
    }

    /// Schemas that hold something, and those of the search path.
    pub(crate) fn schemas(&self) -> Vec<&str> {
        let tables = self.names().map(|name| name.schema.as_str());
        let mut schemas: Vec<&str> = tables.chain(self.search_path.iter().map(String::as_str)).collect();
        schemas.sort_unstable();
        schemas.dedup();
        schemas
    }

    /// What a name means, with the schema if one was written, else by the first schema of `path` that has it.
    pub(crate) fn resolve(&self, path: &[String], schema: Option<&str>, name: &str) -> Result<Relation<'_>, Error> {
        match schema {
            Some(schema) => self.lookup(schema, name)?.ok_or_else(|| self.unknown(path, Some(schema), name)),
            None => {
                for schema in path {
                    if let Some(found) = self.lookup(schema, name)? {
                        return Ok(found);
                    }
                }
                Err(self.unknown(path, None, name))
            }
        }
    }

    fn lookup(&self, schema: &str, name: &str) -> Result<Option<Relation<'_>>, Error> {
        let name = TableName::new(schema, name);
        if let Some(error) = self.unavailable.get(&name) {
            return Err(error.clone());
        }
        if let Some(table) = self.tables.get(&name) {
            return Ok(Some(Relation::Stored(table)));
        }
        if let Some(table) = self.virtuals.get(&name) {
            return Ok(Some(Relation::Virtual(table)));
        }
        Ok(self.views.get_key_value(&name).map(|(name, sql)| Relation::View(name, sql)))
    }

    /// The SQL of a view by its qualified name.
    pub fn view(&self, name: &TableName) -> Option<&str> {
        self.views.get(name).map(String::as_str)
    }

    /// All that has a name: tables, views, system tables, and what cannot be read now.
    pub fn names(&self) -> impl Iterator<Item = &TableName> {
        self.tables.keys().chain(self.views.keys()).chain(self.virtuals.keys()).chain(self.unavailable.keys())
    }

    fn unknown(&self, path: &[String], schema: Option<&str>, name: &str) -> Error {
        let written = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
        let missing = Error::new(code::UNKNOWN_TABLE, format!("relation \"{written}\" does not exist"));
        let known: Vec<&TableName> = self.names().collect();
        let plain: Vec<&str> = known.iter().map(|table| table.name.as_str()).collect();
        let Some(at) = closest(name, &plain) else { return missing };
        let found = known[at];
        let on_path = schema.is_none() && path.contains(&found.schema);
        let own = quoted_name(&found.name);
        let found = if on_path { own } else { format!("{}.{own}", quoted_name(&found.schema)) };
        missing.hint(format!("Perhaps you meant {found}."))
    }
}
