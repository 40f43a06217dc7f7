//! What a project says of who reads what, and means nothing by: told at its place, before somebody reads by it.
//!
//! A condition over a column that is not there grants nothing, which a role would find at its first read. A column that is called personal
//! and is not there hides nothing, which nobody would find.

use std::collections::BTreeSet;

use plan::{TableName, delimited};
use project::{Diagnostic, GrantPlace, Place, SourceTable};
use query::Session;
use relation::Schema;

use crate::deep::deep;
use crate::definition::{Definition, PlannedModel};
use crate::filters::column_left_out;
use crate::setup::Setup;
use crate::views;

/// The grants that cannot be read over these tables and models, and personal columns that are not there. Of what is not known
/// nothing is said.
pub fn findings(
    setup: &Setup,
    definition: &Definition,
    tables: &[(TableName, Schema)],
    models: &[PlannedModel],
) -> Vec<Diagnostic> {
    let project = &setup.project;
    if project.grant_places.is_empty() && project.personal().is_empty() {
        return Vec::new();
    }
    let Ok(session) = views::surface(definition, tables, models, Vec::new()) else { return Vec::new() };
    deep(|| {
        let granted = project.grant_places.iter().flat_map(|place| of_grant(setup, &session, place));
        let of_models =
            project.models.iter().map(|model| (TableName::new(&model.schema, &model.alias), model.columns.as_slice()));
        let table_of = |table: &SourceTable| TableName::new(&table.source, &table.name);
        let of_tables = project.sources.iter().map(|table| (table_of(table), table.columns.as_slice()));
        let personal = of_models.chain(of_tables).flat_map(|(name, columns)| of_marks(setup, &session, &name, columns));
        granted.chain(personal).collect()
    })
}

fn of_grant(setup: &Setup, session: &Session, at: &GrantPlace) -> Vec<Diagnostic> {
    let (schema, name) = &at.table;
    let table = TableName::new(schema, name);
    let grant = setup.project.roles.get(&at.role).and_then(|role| role.tables.get(&at.table));
    let (Some(grant), Some(known)) = (grant, columns(session, &table)) else { return Vec::new() };
    let place = |part: &Option<Place>| part.clone().unwrap_or_else(|| at.whole.clone());
    let mut found: Vec<Diagnostic> = Vec::new();
    for column in grant.columns.iter().filter(|column| !known.contains(column)) {
        let message = format!("role \"{}\": {table} has no column \"{column}\" that could be granted", at.role);
        found.push(Diagnostic::error(place(&at.columns), message).hint(there_are(&known)));
    }
    if let Some(sql) = super::part_of(&table, &[], grant, &BTreeSet::new())
        && let Err(error) = described(session, &sql)
    {
        let message = format!("role \"{}\": the condition on {table} cannot be read: {}", at.role, error.message);
        let told = Diagnostic::error(place(&at.condition), message);
        let told = error.detail.into_iter().fold(told, Diagnostic::detail);
        found.push(error.hint.into_iter().fold(told, Diagnostic::hint));
    }
    found
}

/// Personal columns of a table or model that are not there. Letters may be of another case.
fn of_marks(setup: &Setup, session: &Session, table: &TableName, said: &[project::Column]) -> Vec<Diagnostic> {
    let marks = project::marks(said);
    let personal = said.iter().filter(|column| marks.get(&column.name) == Some(&true));
    let personal: Vec<&project::Column> =
        personal.filter(|column| column_left_out(&setup.project, table, &column.name).is_none()).collect();
    if personal.is_empty() {
        return Vec::new();
    }
    let Some(known) = columns(session, table) else { return Vec::new() };
    let is_there =
        |column: &project::Column| known.iter().any(|known| known.to_lowercase() == column.name.to_lowercase());
    let absent = personal.into_iter().filter(|column| !is_there(column));
    let told = absent.map(|column| {
        let message = format!("{table} has no column \"{}\", which is called personal", column.name);
        Diagnostic::error(column.place.clone(), message).detail("It hides nothing.").hint(there_are(&known))
    });
    told.collect()
}

fn described(session: &Session, sql: &str) -> query::Result<query::Description> {
    let mut described = Err(query::Error::internal("no statement"));
    for statement in query::parse(sql)? {
        described = session.describe(&statement, &[]);
    }
    described
}

/// The columns of what has this name; none where that is not known, or cannot be read.
fn columns(session: &Session, table: &TableName) -> Option<Vec<String>> {
    let sql = format!("select * from {}.{}", delimited(&table.schema), delimited(&table.name));
    let described = described(session, &sql).ok()?;
    Some(described.schema.fields().iter().map(|field| field.name().clone()).collect())
}

fn there_are(columns: &[String]) -> String {
    format!("There are: {}.", columns.join(", "))
}
