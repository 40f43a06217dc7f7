//! Incarnations of a table: what has its name, and how one with other columns takes its place.
//!
//! A [`TableId`] is an incarnation: its columns never change. A table that is registered with other columns is not that
//! table any more; it is *coming*: it is loaded beside the one that serves, which serves on as it was, with all models over
//! it. Models are proposed over what is coming ([`Engine::propose`]) and built like any others, and put in place together with
//! their tables in one commit ([`Engine::swap`]), which drops the old incarnation.
//!
//! ```text
//! register, other columns:     serving ── frozen (Load::Altered)         coming ── Loading … Complete
//! swap:                        gone                                      serving
//! register, columns as before: serving ── give Input::Reload             gone
//! register, third columns:     serving ── frozen                         gone; another is coming
//! Input::Park for what comes:  serving ── parked for that reason         gone, by Engine::give_up_parked
//! ```
//!
//! A table that nobody wants any more is dropped when no model that serves or is coming reads it ([`Engine::drop_tables`]).
//!
//! Of two entries of the catalogue with one name the older one serves, so that the catalogue alone says which is which, in
//! whatever moment the folder was left.

use std::collections::{BTreeMap, BTreeSet};

use plan::TableName;
use relation::{Schema, TableId};
use store::{Kind, Writes};

use crate::engine::{Engine, SourceTable};
use crate::error::Result;
use crate::load::Load;
use crate::network::edit;
use crate::step::fact_key;
use crate::stored::Stored;

impl Engine {
    /// A table of a source, new or known, by the incarnation that has these columns. With other columns than the table of
    /// that name it is an incarnation beside it, to be loaded from the start; one that was coming before is dropped, and with
    /// it a version that was proposed over it.
    ///
    /// Where the load of what is answered is [`Load::Altered`], the columns are again what they were: changes have been
    /// missed meanwhile, so give [`crate::Input::Reload`] for it before anything of it.
    ///
    /// Nothing may be logged of a new one before it is durable: [`Engine::recover`] sees to that for those registered
    /// before, [`Engine::registered_step`] tells it for those that come later.
    pub fn register_table(&mut self, source: u32, name: &TableName, schema: &Schema) -> Result<TableId> {
        let of_name = |is_coming: bool| {
            let mut tables = self.network.tables.values();
            tables.find(|table| table.name == *name && table.is_coming == is_coming).map(|table| table.id)
        };
        let (serving, coming) = (of_name(false), of_name(true));
        let is_it = |id: &TableId| {
            let entry = self.catalog.get(*id);
            entry.is_some_and(|entry| entry.schema == *schema && entry.detail == source.to_string())
        };
        if let Some(known) = coming.filter(is_it) {
            return Ok(known);
        }
        let known = serving.filter(is_it);
        if let Some(coming) = coming {
            self.drop_coming(coming)?;
        }
        if let Some(known) = known {
            return Ok(known);
        }
        let label = format!("{}\0{}", name.schema, name.name);
        let mut writes = Writes::new();
        let id = self.catalog.allocate(&mut writes, Kind::Table, &label, &label, schema, &source.to_string());
        self.defer(writes);
        self.must_fold = true;
        let table = SourceTable {
            id,
            source,
            name: name.clone(),
            load: Load::Loading { cursor: None },
            is_coming: serving.is_some(),
            marks: None,
            snapshot_rows: 0,
            snapshot_rows_total: 0,
        };
        let network = edit(&mut self.network);
        network.relations.insert(id, Stored::new(id, schema.clone()));
        network.tables.insert(id, table);
        if self.recovered {
            self.freeze_altered();
        }
        Ok(id)
    }

    /// The tables of all sources as they will be: where an incarnation with other columns is coming, that one. Over these
    /// models are to be planned that are proposed, and these are what the sources are followed for.
    pub fn tables_to_come(&self) -> impl Iterator<Item = &SourceTable> {
        let tables = &self.network.tables;
        let is_succeeded =
            |table: &SourceTable| tables.values().any(|other| other.is_coming && other.name == table.name);
        tables.values().filter(move |table| table.is_coming || !is_succeeded(table))
    }

    /// Tables beside which another incarnation is coming are followed no more. Not before the log's tail is replayed: it may
    /// tell of them as they were.
    pub(crate) fn freeze_altered(&mut self) {
        let tables = &self.network.tables;
        let succeeded = tables.values().filter(|table| table.is_coming).filter_map(|coming| {
            let mut serving = tables.values();
            serving.find(|table| table.name == coming.name && !table.is_coming)
        });
        let is_open = |table: &&SourceTable| !matches!(table.load, Load::Altered { .. });
        let frozen: Vec<(TableId, bool)> =
            succeeded.filter(is_open).map(|table| (table.id, table.load.was_whole())).collect();
        for (id, whole) in frozen {
            let reason = "its columns have changed".to_owned();
            self.set_load(id, Load::Altered { reason, since_us: 0, whole });
        }
    }

    /// Sets a table's load between two steps.
    fn set_load(&mut self, id: TableId, load: Load) {
        let mut writes = Writes::new();
        writes.put(self.facts, &fact_key("load", id), &load.to_bytes());
        if let Some(table) = edit(&mut self.network).tables.get_mut(&id) {
            table.load = load;
            if let Some(marks) = table.marks.take() {
                self.catalog.remove(&mut writes, marks);
            }
        }
        self.defer(writes);
    }

    /// Incarnations that are coming and were parked will never be whole: they are dropped, and what serves in their places is
    /// parked for the same reason. A version that was proposed over one of them is given up: propose it again over the others,
    /// that they do not wait for ever. Answers which tables these are.
    pub fn give_up_parked(&mut self) -> Result<Vec<TableName>> {
        let parked = self.network.tables.values().filter(|table| table.is_coming);
        let parked = parked.filter_map(|table| match &table.load {
            Load::Parked { reason, .. } => Some((table.id, table.name.clone(), reason.clone())),
            _ => None,
        });
        let mut given_up = Vec::new();
        for (id, name, reason) in parked.collect::<Vec<_>>() {
            self.drop_coming(id)?;
            let mut others = self.network.tables.values().filter(|table| table.name == name);
            if let Some((serving, whole)) = others.next().map(|table| (table.id, table.load.was_whole())) {
                self.set_load(serving, Load::Parked { reason, whole });
            }
            given_up.push(name);
        }
        if !given_up.is_empty() {
            self.commit_unlogged(Writes::new())?;
        }
        Ok(given_up)
    }

    /// An incarnation that is coming is not wanted any more, nor is a version over it.
    fn drop_coming(&mut self, id: TableId) -> Result<()> {
        if self.versions.coming_over(id) {
            self.withdraw();
        }
        self.drop_table(id)
    }

    /// These incarnations take the places of those that have served, which are dropped.
    pub(crate) fn put_in_place(&mut self, coming: &[TableId]) -> Result<()> {
        for id in coming {
            let tables = &self.network.tables;
            let name = tables.get(id).map(|table| table.name.clone());
            let mut serving = tables.values().filter(|table| Some(&table.name) == name.as_ref() && !table.is_coming);
            if let Some(old) = serving.next().map(|table| table.id) {
                self.drop_table(old)?;
            }
            if let Some(table) = edit(&mut self.network).tables.get_mut(id) {
                table.is_coming = false;
            }
        }
        Ok(())
    }

    /// Drops tables of these names, with the version before where that stands on one of them. Those stay that a model reads
    /// which serves or is coming. Answers which are gone.
    pub fn drop_tables(&mut self, unwanted: &BTreeSet<TableName>) -> Result<Vec<TableName>> {
        self.settle()?;
        let read = self.tables_read(false);
        let tables = self.network.tables.values();
        let gone = tables.filter(|table| unwanted.contains(&table.name) && !read.contains(&table.name));
        let gone: BTreeMap<TableId, TableName> = gone.map(|table| (table.id, table.name.clone())).collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let read_before = self.tables_read(true);
        if gone.values().any(|name| read_before.contains(name)) {
            self.forget_before();
        }
        for id in gone.keys() {
            self.drop_table(*id)?;
        }
        self.write_versions()?;
        let names: BTreeSet<TableName> = gone.into_values().collect();
        Ok(names.into_iter().collect())
    }

    /// Drops a table with all that is known of it. No model may read it any more.
    fn drop_table(&mut self, id: TableId) -> Result<()> {
        let mut writes = Writes::new();
        for key in self.reject_keys(id)? {
            writes.delete(self.rejects, &key);
        }
        ["load", "rows", "rejected"].iter().for_each(|name| writes.delete(self.facts, &fact_key(name, id)));
        self.catalog.remove(&mut writes, id);
        self.rows.remove(&id);
        self.rejected.remove(&id);
        let network = edit(&mut self.network);
        if let Some(marks) = network.tables.remove(&id).and_then(|table| table.marks) {
            self.catalog.remove(&mut writes, marks);
        }
        network.relations.remove(&id);
        self.defer(writes);
        self.leave_relations(&[id]);
        Ok(())
    }
}
