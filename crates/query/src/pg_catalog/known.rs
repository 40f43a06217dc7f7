//! What PostgreSQL's tables and views are made of (`postgres15.txt`), so that those that list nothing here are empty and
//! not unknown, and so that the others have all the columns that programs ask for.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use arrow::array::RecordBatch;
use datafusion::common::internal_err;
use datafusion::error::Result;

use crate::pg_catalog::sheet::{Cell, Kind, sheet};

/// A column by its name and its type.
type Columns = Vec<(&'static str, Kind)>;

/// The tables by schema and name.
fn known() -> &'static BTreeMap<(&'static str, &'static str), Columns> {
    static KNOWN: LazyLock<BTreeMap<(&'static str, &'static str), Columns>> =
        LazyLock::new(|| include_str!("postgres15.txt").lines().filter_map(line).collect());
    &KNOWN
}

fn line(line: &'static str) -> Option<((&'static str, &'static str), Columns)> {
    let (table, columns) = line.split_once(": ").filter(|_| !line.starts_with('#'))?;
    let columns = columns.split(", ").filter_map(|column| {
        let (name, word) = column.split_once(' ')?;
        Some((name, kind(word)?))
    });
    Some((table.split_once('.')?, columns.collect()))
}

fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "bool" => Kind::Bool,
        "int2" => Kind::Short,
        "int4" => Kind::Int,
        "int8" => Kind::Long,
        "float4" => Kind::Real,
        "float8" => Kind::Double,
        "float4[]" => Kind::Reals,
        "interval" => Kind::Interval,
        "name" => Kind::Name,
        "name[]" => Kind::Names,
        "text[]" => Kind::Texts,
        "oid" => Kind::Oid,
        "oid[]" => Kind::Oids,
        "text" => Kind::Text,
        "timestamptz" => Kind::Instant,
        "varchar" => Kind::Varchar,
        "xid" => Kind::Xid,
        _ => return None,
    })
}

/// Whether `pg_catalog` has a table that is listed here.
pub(crate) fn is_known(name: &str) -> bool {
    known().contains_key(&("pg_catalog", name))
}

/// The table without rows; none if it is not listed here.
pub(crate) fn empty(schema: &str, name: &str) -> Result<Option<RecordBatch>> {
    known().get(&(schema, name)).map(|columns| sheet(columns, &[])).transpose()
}

/// The table with rows that say some of its columns; the others are NULL.
pub(crate) fn filled(schema: &str, name: &str, said: &[&str], rows: &[Vec<Cell>]) -> Result<RecordBatch> {
    let Some(columns) = known().get(&(schema, name)) else { return internal_err!("{schema}.{name} is not listed") };
    let places: Vec<Option<usize>> =
        columns.iter().map(|(column, _)| said.iter().position(|said| said == column)).collect();
    if places.iter().flatten().count() != said.len() {
        return internal_err!("{schema}.{name} has no such columns: {}", said.join(", "));
    }
    let whole = |row: &Vec<Cell>| {
        let cell = |place: &Option<usize>| place.and_then(|at| row.get(at)).cloned().unwrap_or(Cell::Null);
        places.iter().map(cell).collect()
    };
    sheet(columns, &rows.iter().map(whole).collect::<Vec<Vec<Cell>>>())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_line_is_read_whole() {
        let lines: Vec<&str> = include_str!("postgres15.txt").lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(super::known().len(), lines.len());
        for line in lines {
            let (_, columns) = super::line(line).unwrap();
            assert_eq!(columns.len(), line.split(", ").count(), "{line}");
        }
    }
}
