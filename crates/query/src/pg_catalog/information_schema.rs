//! `information_schema`: the same lists in the SQL standard's words.

use arrow::array::RecordBatch;
use datafusion::error::Result;

use crate::pg_catalog::known::filled;
use crate::pg_catalog::relations::{ARRAY, Listed, ListedColumn, ListedReference, Names, PgType};
use crate::pg_catalog::sheet::{Cell, row};
use crate::pg_catalog::{DATABASE, OWNER};

/// The tables of this file.
pub(crate) fn tables(names: &Names) -> Result<Vec<(&'static str, RecordBatch)>> {
    let listed = |name: &'static str, said: &[&str], rows: &[Vec<Cell>]| {
        filled("information_schema", name, said, rows).map(|batch| (name, batch))
    };
    let table_grants = table_grants(names);
    Ok(vec![
        listed("information_schema_catalog_name", &["catalog_name"], &[row![DATABASE]])?,
        listed("enabled_roles", &["role_name"], &[row![OWNER]])?,
        listed("character_sets", &CHARACTER_SETS, &[row!["UTF8", "UCS", "UTF8", DATABASE, "pg_catalog", "C"]])?,
        listed("schemata", &["catalog_name", "schema_name", "schema_owner"], &schemata(names))?,
        listed("tables", &TABLES, &table_list(names))?,
        listed("columns", &COLUMNS, &column_list(names))?,
        listed("views", &VIEWS, &view_list(names))?,
        listed("table_constraints", &TABLE_CONSTRAINTS, &table_constraints(names))?,
        listed("referential_constraints", &REFERENTIAL_CONSTRAINTS, &referential_constraints(names))?,
        listed("key_column_usage", &KEY_COLUMN_USAGE, &key_column_usage(names))?,
        listed("constraint_column_usage", &CONSTRAINT_COLUMN_USAGE, &constraint_column_usage(names))?,
        listed("table_privileges", &TABLE_GRANTS, &table_grants)?,
        listed("role_table_grants", &TABLE_GRANTS, &table_grants)?,
    ])
}

const CHARACTER_SETS: [&str; 6] = [
    "character_set_name",
    "character_repertoire",
    "form_of_use",
    "default_collate_catalog",
    "default_collate_schema",
    "default_collate_name",
];

fn schemata(names: &Names) -> Vec<Vec<Cell>> {
    names.schemas.keys().map(|name| row![DATABASE, name.as_str(), OWNER]).collect()
}

const TABLES: [&str; 6] =
    ["table_catalog", "table_schema", "table_name", "table_type", "is_insertable_into", "is_typed"];

fn table_list(names: &Names) -> Vec<Vec<Cell>> {
    let row = |table: &Listed| {
        let kind = if table.kind == 'v' { "VIEW" } else { "BASE TABLE" };
        row![DATABASE, table.name.schema.as_str(), table.name.name.as_str(), kind, "NO", "NO"]
    };
    names.tables.iter().map(row).collect()
}

const COLUMNS: [&str; 21] = [
    "table_catalog",
    "table_schema",
    "table_name",
    "column_name",
    "ordinal_position",
    "is_nullable",
    "data_type",
    "character_octet_length",
    "numeric_precision",
    "numeric_precision_radix",
    "numeric_scale",
    "datetime_precision",
    "udt_catalog",
    "udt_schema",
    "udt_name",
    "dtd_identifier",
    "is_self_referencing",
    "is_identity",
    "identity_cycle",
    "is_generated",
    "is_updatable",
];

fn column_list(names: &Names) -> Vec<Vec<Cell>> {
    let rows = |table: &Listed| -> Vec<Vec<Cell>> {
        table.columns.iter().enumerate().map(|(at, column)| column_row(table, at, column)).collect()
    };
    names.tables.iter().flat_map(rows).collect()
}

fn column_row(table: &Listed, position: usize, column: &ListedColumn) -> Vec<Cell> {
    let number = i32::try_from(position + 1).unwrap_or(i32::MAX);
    let name = column.data_type.name;
    let numeric = column.data_type.modifier - 4;
    let (precision, radix, scale) = match name {
        "smallint" => (Some(16), Some(2), Some(0)),
        "integer" => (Some(32), Some(2), Some(0)),
        "bigint" => (Some(64), Some(2), Some(0)),
        "real" => (Some(24), Some(2), None),
        "double precision" => (Some(53), Some(2), None),
        "numeric" if numeric >= 0 => (Some(numeric >> 16), Some(10), Some(numeric & 0xffff)),
        _ => (None, None, None),
    };
    let time = match name {
        "date" => Some(0),
        _ => ["timestamp", "time ", "interval"].iter().any(|word| name.starts_with(word)).then_some(6),
    };
    row![
        DATABASE,
        table.name.schema.as_str(),
        table.name.name.as_str(),
        column.name.as_str(),
        number,
        if column.nullable { "YES" } else { "NO" },
        name,
        matches!(name, "text" | "character varying").then_some(1 << 30),
        precision,
        radix,
        scale,
        time,
        DATABASE,
        "pg_catalog",
        internal_name(column.data_type),
        number.to_string(),
        "NO",
        "NO",
        "NO",
        "NEVER",
        "NO",
    ]
}

/// Postgres' own name of a type: `int8` for `bigint`.
fn internal_name(data_type: PgType) -> &'static str {
    match data_type.name {
        ARRAY => internal_array_name(data_type.oid),
        "character varying" => "varchar",
        "character" => "bpchar",
        "\"char\"" => "char",
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

/// That of an array: `_int8`.
fn internal_array_name(oid: i32) -> &'static str {
    match oid {
        1000 => "_bool",
        1005 => "_int2",
        1007 => "_int4",
        1016 => "_int8",
        1231 => "_numeric",
        1021 => "_float4",
        1022 => "_float8",
        199 => "_json",
        3807 => "_jsonb",
        2951 => "_uuid",
        1015 => "_varchar",
        1014 => "_bpchar",
        1002 => "_char",
        1003 => "_name",
        1028 => "_oid",
        1034 => "_aclitem",
        22 => "int2vector",
        30 => "oidvector",
        1001 => "_bytea",
        1182 => "_date",
        1183 => "_time",
        1115 => "_timestamp",
        1185 => "_timestamptz",
        1187 => "_interval",
        _ => "_text",
    }
}

const VIEWS: [&str; 10] = [
    "table_catalog",
    "table_schema",
    "table_name",
    "view_definition",
    "check_option",
    "is_updatable",
    "is_insertable_into",
    "is_trigger_updatable",
    "is_trigger_deletable",
    "is_trigger_insertable_into",
];

fn view_list(names: &Names) -> Vec<Vec<Cell>> {
    let views = names.tables.iter().filter(|table| table.kind == 'v');
    let row = |table: &Listed| {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        row![DATABASE, schema, name, table.definition.clone(), "NONE", "NO", "NO", "NO", "NO", "NO"]
    };
    views.map(row).collect()
}

const TABLE_CONSTRAINTS: [&str; 10] = [
    "constraint_catalog",
    "constraint_schema",
    "constraint_name",
    "table_catalog",
    "table_schema",
    "table_name",
    "constraint_type",
    "is_deferrable",
    "initially_deferred",
    "enforced",
];

fn table_constraints(names: &Names) -> Vec<Vec<Cell>> {
    let of_table = |table: &Listed| -> Vec<Vec<Cell>> {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        let row = |constraint: &str, kind: &str, enforced: &str| {
            row![DATABASE, schema, constraint, DATABASE, schema, name, kind, "NO", "NO", enforced]
        };
        let key = (!table.key.is_empty()).then(|| row(&table.index_name(), "PRIMARY KEY", "YES"));
        let references = table.references.iter().map(|of| row(&of.name, "FOREIGN KEY", "NO"));
        key.into_iter().chain(references).collect()
    };
    names.tables.iter().flat_map(of_table).collect()
}

const REFERENTIAL_CONSTRAINTS: [&str; 9] = [
    "constraint_catalog",
    "constraint_schema",
    "constraint_name",
    "unique_constraint_catalog",
    "unique_constraint_schema",
    "unique_constraint_name",
    "match_option",
    "update_rule",
    "delete_rule",
];

fn referential_constraints(names: &Names) -> Vec<Vec<Cell>> {
    let of_table = |table: &Listed| -> Vec<Vec<Cell>> {
        let row = |of: &ListedReference| {
            let referred = names.tables.iter().find(|listed| listed.oid == of.table)?;
            // What refers to no key has no name there.
            let key = (referred.key == of.referred).then(|| referred.index_name());
            let schema = key.is_some().then_some(referred.name.schema.as_str());
            let catalog = key.is_some().then_some(DATABASE);
            let own = table.name.schema.as_str();
            Some(row![DATABASE, own, of.name.as_str(), catalog, schema, key, "NONE", "NO ACTION", "NO ACTION"])
        };
        table.references.iter().filter_map(row).collect()
    };
    names.tables.iter().flat_map(of_table).collect()
}

const KEY_COLUMN_USAGE: [&str; 9] = [
    "constraint_catalog",
    "constraint_schema",
    "constraint_name",
    "table_catalog",
    "table_schema",
    "table_name",
    "column_name",
    "ordinal_position",
    "position_in_unique_constraint",
];

fn key_column_usage(names: &Names) -> Vec<Vec<Cell>> {
    let of_table = |table: &Listed| -> Vec<Vec<Cell>> {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        let row = |constraint: &str, column: usize, number: usize, referred: Option<usize>| {
            let column = table.columns[column].name.as_str();
            let referred = referred.map(ordinal);
            row![DATABASE, schema, constraint, DATABASE, schema, name, column, ordinal(number), referred]
        };
        let of_key = |(number, &column): (usize, &usize)| row(&table.index_name(), column, number, None);
        let mut rows: Vec<_> = table.key.iter().enumerate().map(of_key).collect();
        for of in &table.references {
            let key = names.tables.iter().find(|listed| listed.oid == of.table).map(|listed| listed.key.as_slice());
            for (number, (&column, referred)) in of.columns.iter().zip(&of.referred).enumerate() {
                let place = key.and_then(|key| key.iter().position(|at| at == referred));
                rows.push(row(&of.name, column, number, place));
            }
        }
        rows
    };
    names.tables.iter().flat_map(of_table).collect()
}

/// A place as SQL counts it, from 1.
fn ordinal(at: usize) -> i32 {
    i32::try_from(at + 1).unwrap_or(i32::MAX)
}

const CONSTRAINT_COLUMN_USAGE: [&str; 7] = [
    "table_catalog",
    "table_schema",
    "table_name",
    "column_name",
    "constraint_catalog",
    "constraint_schema",
    "constraint_name",
];

/// The columns of keys, and those that references refer to.
fn constraint_column_usage(names: &Names) -> Vec<Vec<Cell>> {
    let row = |of: &Listed, column: usize, schema: &str, constraint: &str| {
        let (own, name, column) = (of.name.schema.as_str(), of.name.name.as_str(), of.columns[column].name.as_str());
        row![DATABASE, own, name, column, DATABASE, schema, constraint]
    };
    let mut rows = Vec::new();
    for table in &names.tables {
        let schema = table.name.schema.as_str();
        rows.extend(table.key.iter().map(|&column| row(table, column, schema, &table.index_name())));
        for of in &table.references {
            let Some(referred) = names.tables.iter().find(|listed| listed.oid == of.table) else { continue };
            rows.extend(of.referred.iter().map(|&column| row(referred, column, schema, &of.name)));
        }
    }
    rows
}

const TABLE_GRANTS: [&str; 8] = [
    "grantor",
    "grantee",
    "table_catalog",
    "table_schema",
    "table_name",
    "privilege_type",
    "is_grantable",
    "with_hierarchy",
];

fn table_grants(names: &Names) -> Vec<Vec<Cell>> {
    let row = |table: &Listed| {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        row![OWNER, OWNER, DATABASE, schema, name, "SELECT", "NO", "YES"]
    };
    names.tables.iter().map(row).collect()
}
