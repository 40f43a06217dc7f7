//! Keys and references: `pg_index`, `pg_constraint` and what their functions write, and `pg_description`.
//!
//! A table's key is its primary key, with an index of its own. A reference is a foreign key that nobody enforces: a
//! project's `relationships` test says that it holds, so it is `NOT VALID`.

use arrow::array::RecordBatch;
use datafusion::error::Result;

use plan::quoted_name;

use crate::pg_catalog::known::filled;
use crate::pg_catalog::relations::{Listed, ListedReference, Names};
use crate::pg_catalog::sheet::Kind::{
    Bool, Char, Int, Name, Oid, OidVector, Oids, Short, ShortVector, Shorts, Text, Tree,
};
use crate::pg_catalog::sheet::{Cell, row, sheet};

/// Oids of Postgres' own tables, by which `pg_description` says what is described.
const CLASS: i32 = 1259;

/// The tables of this file.
pub(crate) fn tables(names: &Names) -> Result<Vec<(&'static str, RecordBatch)>> {
    Ok(vec![
        ("pg_index", indexes(names)?),
        ("pg_indexes", indexes_view(names)?),
        ("pg_constraint", constraints(names)?),
        ("pg_description", descriptions(names)?),
    ])
}

impl Listed {
    /// The statement that would make its key's index.
    pub(crate) fn index_definition(&self) -> String {
        let (index, columns) = (quoted_name(&self.index_name()), self.names_of(&self.key));
        let (schema, name) = (quoted_name(&self.name.schema), quoted_name(&self.name.name));
        format!("CREATE UNIQUE INDEX {index} ON {schema}.{name} USING btree ({columns})")
    }

    /// The columns at these positions, as they stand in a definition.
    fn names_of(&self, positions: &[usize]) -> String {
        let names: Vec<_> = positions.iter().map(|&i| quoted_name(&self.columns[i].name)).collect();
        names.join(", ")
    }
}

impl Names {
    /// What `pg_get_indexdef` writes: the index, or the name of one of its columns, counted from 1.
    pub(crate) fn index_definition(&self, index: i32, column: i32) -> Option<String> {
        let table = self.indexed(index)?;
        if column == 0 {
            return Some(table.index_definition());
        }
        let position = usize::try_from(column).ok()?.checked_sub(1)?;
        table.key.get(position).map(|&at| quoted_name(&table.columns[at].name))
    }

    /// What `pg_get_constraintdef` writes.
    pub(crate) fn constraint_definition(&self, oid: i32) -> Option<String> {
        if let Some(table) = self.indexed(oid) {
            return Some(format!("PRIMARY KEY ({})", table.names_of(&table.key)));
        }
        let of_table = |table: &Listed| Some((table.references.iter().position(|of| of.oid == oid)?, table.oid));
        let (at, table) = self.tables.iter().find_map(of_table)?;
        let table = self.tables.iter().find(|listed| listed.oid == table)?;
        let reference = &table.references[at];
        let referred = self.tables.iter().find(|listed| listed.oid == reference.table)?;
        let name = match self.is_visible(referred.oid) {
            true => quoted_name(&referred.name.name),
            false => format!("{}.{}", quoted_name(&referred.name.schema), quoted_name(&referred.name.name)),
        };
        let (columns, others) = (table.names_of(&reference.columns), referred.names_of(&reference.referred));
        Some(format!("FOREIGN KEY ({columns}) REFERENCES {name}({others}) NOT VALID"))
    }

    /// What is said of a table (column 0) or of one of its columns, counted from 1.
    pub(crate) fn comment(&self, table: i32, column: i32) -> Option<String> {
        let table = self.tables.iter().find(|listed| listed.oid == table)?;
        match usize::try_from(column).ok()? {
            0 => table.comment.clone(),
            number => table.columns.get(number - 1)?.comment.clone(),
        }
    }

    /// The index of the key that a reference refers to; 0 where it is to other columns.
    fn referred_index(&self, reference: &ListedReference) -> i32 {
        let referred = self.tables.iter().find(|listed| listed.oid == reference.table);
        referred.filter(|listed| listed.key == reference.referred).and_then(Listed::index_oid).unwrap_or(0)
    }
}

/// Column numbers from 1.
fn numbers(positions: &[usize]) -> Vec<i16> {
    positions.iter().filter_map(|&at| i16::try_from(at + 1).ok()).collect()
}

/// The oid of the operator class by which a type is indexed in a btree.
fn operator_class(type_oid: i32) -> i32 {
    match type_oid {
        16 => 424,
        17 => 428,
        20 => 3124,
        21 => 1979,
        23 => 1978,
        25 => 3126,
        700 => 1970,
        701 => 3123,
        1082 => 3122,
        1083 => 4023,
        1114 => 3128,
        1184 => 3127,
        1700 => 3125,
        _ => 0,
    }
}

fn indexes(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("indexrelid", Oid),
        ("indrelid", Oid),
        ("indnatts", Short),
        ("indnkeyatts", Short),
        ("indisunique", Bool),
        ("indnullsnotdistinct", Bool),
        ("indisprimary", Bool),
        ("indisexclusion", Bool),
        ("indimmediate", Bool),
        ("indisclustered", Bool),
        ("indisvalid", Bool),
        ("indcheckxmin", Bool),
        ("indisready", Bool),
        ("indislive", Bool),
        ("indisreplident", Bool),
        ("indkey", ShortVector),
        ("indcollation", OidVector),
        ("indclass", OidVector),
        ("indoption", ShortVector),
        ("indexprs", Tree),
        ("indpred", Tree),
    ];
    let rows = names.tables.iter().filter_map(|table| {
        let index = table.index_oid()?;
        let natts = i32::try_from(table.key.len()).unwrap_or(i32::MAX);
        let types = || table.key.iter().map(|&at| table.columns[at].data_type.oid);
        let collations: Vec<i32> = types().map(|oid| if oid == 25 { 100 } else { 0 }).collect();
        let classes: Vec<i32> = types().map(operator_class).collect();
        Some(row![
            index,
            table.oid,
            natts,
            natts,
            true,
            false,
            true,
            false,
            true,
            false,
            true,
            false,
            true,
            true,
            false,
            numbers(&table.key),
            collations,
            classes,
            vec![0_i16; table.key.len()],
            Cell::Null,
            Cell::Null,
        ])
    });
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn indexes_view(names: &Names) -> Result<RecordBatch> {
    let rows = names.tables.iter().filter(|table| !table.key.is_empty()).map(|table| {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        row![schema, name, table.index_name(), table.index_definition()]
    });
    let said = ["schemaname", "tablename", "indexname", "indexdef"];
    filled("pg_catalog", "pg_indexes", &said, &rows.collect::<Vec<_>>())
}

fn constraints(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("oid", Oid),
        ("conname", Name),
        ("connamespace", Oid),
        ("contype", Char),
        ("condeferrable", Bool),
        ("condeferred", Bool),
        ("convalidated", Bool),
        ("conrelid", Oid),
        ("contypid", Oid),
        ("conindid", Oid),
        ("conparentid", Oid),
        ("confrelid", Oid),
        ("confupdtype", Char),
        ("confdeltype", Char),
        ("confmatchtype", Char),
        ("conislocal", Bool),
        ("coninhcount", Int),
        ("connoinherit", Bool),
        ("conkey", Shorts),
        ("confkey", Shorts),
        ("conpfeqop", Oids),
        ("conppeqop", Oids),
        ("conffeqop", Oids),
        ("confdelsetcols", Shorts),
        ("conexclop", Oids),
        ("conbin", Tree),
    ];
    let mut rows = Vec::new();
    for table in &names.tables {
        let namespace = names.schemas.get(&table.name.schema).copied().unwrap_or(0);
        if let Some(index) = table.index_oid() {
            rows.push(constraint(namespace, table, index, &table.index_name(), None, index, numbers(&table.key)));
        }
        for of in &table.references {
            let index = names.referred_index(of);
            rows.push(constraint(namespace, table, of.oid, &of.name, Some(of), index, numbers(&of.columns)));
        }
    }
    sheet(&columns, &rows)
}

/// A row of `pg_constraint`: a primary key, or a reference.
fn constraint(
    namespace: i32,
    table: &Listed,
    oid: i32,
    name: &str,
    reference: Option<&ListedReference>,
    index: i32,
    key: Vec<i16>,
) -> Vec<Cell> {
    // What a foreign key does when its row goes, and how its NULLs match; nothing of a primary key.
    let (kind, action, matching) = if reference.is_some() { ("f", "a", "s") } else { ("p", " ", " ") };
    row![
        oid,
        name,
        namespace,
        kind,
        false,
        false,
        reference.is_none(),
        table.oid,
        0,
        index,
        0,
        reference.map_or(0, |of| of.table),
        action,
        action,
        matching,
        true,
        0,
        true,
        key,
        reference.map(|of| numbers(&of.referred)),
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}

fn descriptions(names: &Names) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for table in &names.tables {
        rows.extend(table.comment.as_deref().map(|text| row![table.oid, CLASS, 0, text]));
        for (position, column) in table.columns.iter().enumerate() {
            let number = i32::try_from(position + 1).unwrap_or(i32::MAX);
            rows.extend(column.comment.as_deref().map(|text| row![table.oid, CLASS, number, text]));
        }
    }
    sheet(&[("objoid", Oid), ("classoid", Oid), ("objsubid", Int), ("description", Text)], &rows)
}
