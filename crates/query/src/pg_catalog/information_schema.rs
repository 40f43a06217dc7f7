//! `information_schema`: the same lists in the SQL standard's words.

use arrow::array::RecordBatch;
use datafusion::error::Result;

use crate::pg_catalog::relations::{Listed, ListedColumn, Names};
use crate::pg_catalog::sheet::Kind::{Int, Text};
use crate::pg_catalog::sheet::{Cell, row, sheet};
use crate::pg_catalog::{DATABASE, OWNER};

/// The tables of this file.
pub(crate) fn tables(names: &Names) -> Result<Vec<(&'static str, RecordBatch)>> {
    Ok(vec![
        ("schemata", schemata(names)?),
        ("tables", table_list(names)?),
        ("columns", column_list(names)?),
        ("views", view_list(names)?),
        ("table_constraints", table_constraints(names)?),
        ("key_column_usage", key_column_usage(names)?),
        ("routines", sheet(&[("routine_schema", Text), ("routine_name", Text), ("routine_type", Text)], &[])?),
        ("referential_constraints", sheet(&[("constraint_schema", Text), ("constraint_name", Text)], &[])?),
    ])
}

fn schemata(names: &Names) -> Result<RecordBatch> {
    let columns = [("catalog_name", Text), ("schema_name", Text), ("schema_owner", Text)];
    let rows: Vec<_> = names.schemas.keys().map(|name| row![DATABASE, name.as_str(), OWNER]).collect();
    sheet(&columns, &rows)
}

fn table_list(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("table_type", Text),
        ("is_insertable_into", Text),
    ];
    let rows = names.tables.iter().map(|table| {
        let kind = if table.kind == 'v' { "VIEW" } else { "BASE TABLE" };
        row![DATABASE, table.name.schema.as_str(), table.name.name.as_str(), kind, "NO"]
    });
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn column_list(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
        ("ordinal_position", Int),
        ("column_default", Text),
        ("is_nullable", Text),
        ("data_type", Text),
        ("character_maximum_length", Int),
        ("numeric_precision", Int),
        ("numeric_scale", Int),
        ("datetime_precision", Int),
        ("udt_schema", Text),
        ("udt_name", Text),
        ("is_identity", Text),
        ("is_generated", Text),
    ];
    let rows = names
        .tables
        .iter()
        .flat_map(|table| table.columns.iter().enumerate().map(|(i, column)| column_row(table, i, column)));
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn column_row(table: &Listed, position: usize, column: &ListedColumn) -> Vec<Cell> {
    let number = i32::try_from(position + 1).unwrap_or(i32::MAX);
    let numeric = column.data_type.modifier - 4;
    let (precision, scale) = if numeric >= 0 { (Some(numeric >> 16), Some(numeric & 0xffff)) } else { (None, None) };
    let time = ["timestamp", "time "].iter().any(|word| column.data_type.name.starts_with(word));
    row![
        DATABASE,
        table.name.schema.as_str(),
        table.name.name.as_str(),
        column.name.as_str(),
        number,
        Cell::Null,
        if column.nullable { "YES" } else { "NO" },
        column.data_type.name,
        Cell::Null,
        precision,
        scale,
        time.then_some(6),
        "pg_catalog",
        internal_name(column.data_type.name),
        "NO",
        "NEVER",
    ]
}

/// Postgres' own name of a type: `int8` for `bigint`.
fn internal_name(name: &str) -> &str {
    match name {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "time without time zone" => "time",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        other => other,
    }
}

fn view_list(names: &Names) -> Result<RecordBatch> {
    let columns = [("table_catalog", Text), ("table_schema", Text), ("table_name", Text), ("view_definition", Text)];
    let rows =
        names.tables.iter().filter(|table| table.kind == 'v').map(|table| {
            row![DATABASE, table.name.schema.as_str(), table.name.name.as_str(), table.definition.clone()]
        });
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn table_constraints(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("constraint_type", Text),
    ];
    let rows = names.tables.iter().filter(|table| !table.key.is_empty()).map(|table| {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        row![DATABASE, schema, table.index_name(), DATABASE, schema, name, "PRIMARY KEY"]
    });
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn key_column_usage(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
        ("ordinal_position", Int),
    ];
    let rows = names.tables.iter().flat_map(|table| {
        table.key.iter().enumerate().map(|(i, &at)| {
            let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
            let column = table.columns[at].name.as_str();
            let number = i32::try_from(i + 1).unwrap_or(i32::MAX);
            row![DATABASE, schema, table.index_name(), DATABASE, schema, name, column, number]
        })
    });
    sheet(&columns, &rows.collect::<Vec<_>>())
}
