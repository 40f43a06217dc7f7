//! Views that cannot be read, found before they take the place of those that can.
//!
//! A view is a text that is read whenever somebody asks: nothing is built of it, so nothing would fail when it is applied. It is
//! described as a query over what it reads would be, with nothing in the tables. So is what a dashboard asks ([`surface()`]).

use std::ops::Bound;
use std::sync::Arc;

use plan::{Refusal, TableName};
use query::{Catalog, Form, Runtime, Session, Settings, Storage, StoredTable, Visitor};
use relation::{Schema, TableId};

use crate::deep::deep;
use crate::definition::{Definition, PlannedModel};
use crate::reader::named;
use crate::system_tables;

/// The views of a definition that cannot be read over these tables and models, each after those it reads.
pub fn refused(
    definition: &Definition,
    tables: &[(TableName, Schema)],
    models: &[PlannedModel],
) -> Vec<(TableName, Refusal)> {
    if definition.views().next().is_none() {
        return Vec::new();
    }
    let session = match surface(definition, tables, models, Vec::new()) {
        Ok(session) => session,
        // Nothing can be queried then, here or elsewhere.
        Err(error) => return definition.views().map(|(name, _)| (name, refusal(error.clone(), ""))).collect(),
    };
    deep(|| {
        let found =
            definition.views().filter_map(|(name, sql)| Some((name, refusal(described(&session, sql).err()?, sql))));
        found.collect()
    })
}

/// What people read of a definition over tables of these columns, with nothing in them: models, views, system tables, and what is
/// known and cannot be read, with the reason.
pub fn surface(
    definition: &Definition,
    tables: &[(TableName, Schema)],
    models: &[PlannedModel],
    unreadable: Vec<(TableName, query::Error)>,
) -> query::Result<Session> {
    let mut catalog = Catalog::new(definition.search_path.clone());
    let models = models.iter().map(|model| (&model.name, &model.planned.schema));
    let known = tables.iter().map(|(name, schema)| (name, schema)).chain(models);
    for (number, (name, schema)) in (0..).zip(known) {
        let (name, schema) = (name.clone(), schema.clone());
        catalog.add_table(StoredTable { name, id: TableId(number), schema, form: Form::Bag });
    }
    for (name, sql) in definition.views() {
        catalog.add_view(name, sql);
    }
    for (name, why) in unreadable {
        catalog.add_unavailable(name, why);
    }
    system_tables::add_shapes(&mut catalog);
    Ok(Session::new(Nothing, Arc::new(catalog), Runtime::new(&Settings::default())?))
}

/// A text of several statements would be read as its first one, or not at all.
fn described(session: &Session, sql: &str) -> query::Result<()> {
    let statements = query::parse(sql)?;
    if let [_, _, ..] = statements.as_slice() {
        let error = query::Error::new("42601", "a view is one SELECT");
        return Err(error.detail(format!("The text holds {} statements.", statements.len())));
    }
    for statement in statements {
        session.describe(&statement, &[])?;
    }
    Ok(())
}

/// An error of a text in the words of a refusal.
pub fn refusal(error: query::Error, sql: &str) -> Refusal {
    let place = error.position.and_then(|(line, column)| Some((line.try_into().ok()?, column.try_into().ok()?)));
    // The planner does not always say where it read a name.
    let place = place.or_else(|| {
        let before: String = sql.chars().take(named(sql, &error.message)?.checked_sub(1)?).collect();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((before.matches('\n').count() + 1, column))
    });
    Refusal {
        message: error.message,
        detail: error.detail.unwrap_or_default(),
        hint: error.hint.unwrap_or_default(),
        line: place,
    }
}

/// Tables without a row.
struct Nothing;

impl Storage for Nothing {
    fn step(&self) -> u64 {
        0
    }

    fn get(&self, _table: TableId, _key: &[u8], _found: &mut dyn FnMut(&[u8])) -> query::Result<()> {
        Ok(())
    }

    fn visit(
        &self,
        _table: TableId,
        _from: Bound<&[u8]>,
        _to: Bound<&[u8]>,
        _visitor: Visitor<'_>,
    ) -> query::Result<()> {
        Ok(())
    }

    fn last_key(&self, _table: TableId, _from: Bound<&[u8]>, _to: Bound<&[u8]>) -> query::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
