//! Postgres' own rows, of the tables that depend on no catalog: types, functions, operators, collations.
//!
//! `datafusion-pg-catalog` ships them. It has texts and integers alone; here their columns get Postgres' types: names,
//! letters, oids, and oids of functions (`regproc`), which are shown by their names.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int32Array, Int32Builder, ListBuilder, RecordBatch, StringBuilder,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::error::Result;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable};
use relation::schema::TYPE_NAME;

/// Columns that hold a function, by their names.
pub(crate) const REGPROCS: [&str; 33] = [
    "aggcombinefn",
    "aggdeserialfn",
    "aggfinalfn",
    "aggfnoid",
    "aggmfinalfn",
    "aggminvtransfn",
    "aggmtransfn",
    "aggserialfn",
    "aggtransfn",
    "amproc",
    "oprjoin",
    "oprrest",
    "prsend",
    "prsheadline",
    "prslextype",
    "prsstart",
    "prstoken",
    "tmplinit",
    "tmpllexize",
    "typsubscript",
    "typinput",
    "typoutput",
    "typreceive",
    "typsend",
    "typmodin",
    "typmodout",
    "typanalyze",
    "prosupport",
    "amhandler",
    "rngcanonical",
    "rngsubdiff",
    "oprcode",
    "conproc",
];

/// Columns of one letter, by their names.
const LETTERS: [&str; 27] = [
    "aggfinalmodify",
    "aggkind",
    "aggmfinalmodify",
    "amoppurpose",
    "defaclobjtype",
    "ev_enabled",
    "ev_type",
    "partstrat",
    "polcmd",
    "privtype",
    "srsubstate",
    "typtype",
    "typcategory",
    "typdelim",
    "typalign",
    "typstorage",
    "prokind",
    "provolatile",
    "proparallel",
    "amtype",
    "collprovider",
    "castcontext",
    "castmethod",
    "oprkind",
    "deptype",
    "tgenabled",
    "evtenabled",
];

/// Expressions as PostgreSQL keeps them, by their names.
const TREES: [&str; 12] = [
    "ev_action",
    "ev_qual",
    "partexprs",
    "polqual",
    "polwithcheck",
    "proargdefaults",
    "prosqlbody",
    "prqual",
    "stxexprs",
    "tgqual",
    "typdefaultbin",
    "adbin",
];

/// Texts of the type `name` whose own names do not say so.
const NAMES: [&str; 4] = ["enumlabel", "evtevent", "tgnewtable", "tgoldtable"];

/// Lists of oids, by their names; `proargtypes` is a vector.
const OIDS: [&str; 4] = ["polroles", "proallargtypes", "proargtypes", "stxkeys"];

/// Lists of texts, by the ends of their names.
const TEXTS: [&str; 7] = ["acl", "options", "stxkind", "proargmodes", "proargnames", "config", "evttags"];

/// What the metadata of a shipped column says if it is an oid.
const OID_KEY: &str = "pg.oid_alias";

/// A table of `pg_catalog`.
pub(crate) fn table(name: &str) -> Result<Option<RecordBatch>> {
    let Some(tables) = &*TABLES else { return Ok(None) };
    if name == "pg_get_keywords" {
        let keywords = &tables.pg_get_keywords;
        return typed(&concat_batches(&keywords.schema(), keywords.data())?).map(Some);
    }
    let nothing: Arc<dyn datafusion::catalog::CatalogProviderList> =
        Arc::new(datafusion::catalog::MemoryCatalogProviderList::new());
    let provider = PgCatalogSchemaProvider::try_new(nothing, Arc::clone(tables), EmptyContextProvider)?;
    match provider.build_table_by_name(name)? {
        Some(PgCatalogTable::Static(table)) => typed(&concat_batches(&table.schema(), table.data())?).map(Some),
        // What there is none of.
        Some(other) => typed(&RecordBatch::new_empty(other.schema())).map(Some),
        None => Ok(None),
    }
}

static TABLES: LazyLock<Option<Arc<PgCatalogStaticTables>>> =
    LazyLock::new(|| PgCatalogStaticTables::try_new().ok().map(Arc::new));

/// Functions by name, the first of those that share it.
fn functions() -> &'static BTreeMap<String, i32> {
    static FUNCTIONS: LazyLock<BTreeMap<String, i32>> =
        LazyLock::new(|| by_name(TABLES.iter().flat_map(|tables| tables.pg_proc.data()), "proname"));
    &FUNCTIONS
}

/// Types by the name that `pg_type` has of them.
pub(crate) fn types() -> &'static BTreeMap<String, i32> {
    static TYPES: LazyLock<BTreeMap<String, i32>> =
        LazyLock::new(|| by_name(TABLES.iter().flat_map(|tables| tables.pg_type.data()), "typname"));
    &TYPES
}

fn by_name<'a>(batches: impl Iterator<Item = &'a RecordBatch>, column: &str) -> BTreeMap<String, i32> {
    let mut found = BTreeMap::new();
    for batch in batches {
        let (Some(oids), Some(names)) = (batch.column_by_name("oid"), batch.column_by_name(column)) else {
            continue;
        };
        let (Some(oids), Some(names)) = (oids.as_primitive_opt::<Int32Type>(), names.as_string_opt::<i32>()) else {
            continue;
        };
        for (oid, name) in oids.iter().zip(names) {
            if let (Some(oid), Some(name)) = (oid, name) {
                found.entry(name.to_owned()).or_insert(oid);
            }
        }
    }
    found
}

/// The oid of a function; none if Postgres has none of that name.
pub(crate) fn function_oid(name: &str) -> Option<i32> {
    let name = name.trim();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let name = name.split('(').next().unwrap_or_default();
    functions().get(name).copied().or_else(|| if name == "-" { Some(0) } else { name.parse().ok() })
}

/// A function's name as it is shown.
pub(crate) fn function_name(oid: i32) -> String {
    let known = functions().iter().find(|(_, known)| **known == oid);
    known.map_or_else(|| if oid == 0 { "-".to_owned() } else { oid.to_string() }, |(name, _)| name.clone())
}

fn typed(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name = field.name().as_str();
        let is_text = *column.data_type() == DataType::Utf8;
        let (column, named) = match name {
            _ if is_text && REGPROCS.contains(&name) => {
                let oids = column.as_string::<i32>().iter().map(|function| function.and_then(function_oid));
                (Arc::new(oids.collect::<Int32Array>()) as ArrayRef, Some("regproc"))
            }
            "proargtypes" if is_text => (oids(column), Some("oidvector")),
            _ if is_text && OIDS.contains(&name) => (oids(column), Some("_oid")),
            "stxkind" | "proargmodes" if is_text => (texts(column), Some("_char")),
            _ if is_text && name.ends_with("acl") => (texts(column), Some("_aclitem")),
            _ if is_text && TEXTS.iter().any(|end| name.ends_with(end)) => (texts(column), None),
            _ if is_text && LETTERS.contains(&name) => (Arc::clone(column), Some("char")),
            _ if is_text && TREES.contains(&name) => (Arc::clone(column), Some("pg_node_tree")),
            _ if is_text && name.ends_with("lsn") => (Arc::clone(column), Some("pg_lsn")),
            _ if is_text && NAMES.contains(&name) => (Arc::clone(column), Some("name")),
            _ if is_text && name.ends_with("name") => (Arc::clone(column), Some("name")),
            "oid" => (Arc::clone(column), Some("oid")),
            _ if field.metadata().contains_key(OID_KEY) => (Arc::clone(column), Some("oid")),
            _ => (Arc::clone(column), None),
        };
        let typed = Field::new(name, column.data_type().clone(), true);
        let metadata = named.map(|named| (TYPE_NAME.to_owned(), named.to_owned()));
        fields.push(typed.with_metadata(metadata.into_iter().collect()));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The parts of a list as it is written: `{a,"b"}`, `1 2`.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let parts = list.trim_matches(['{', '}']).split([',', ' ']).filter(|part| !part.is_empty());
    parts.map(|part| part.trim_matches('"'))
}

fn oids(lists: &ArrayRef) -> ArrayRef {
    let mut out = ListBuilder::new(Int32Builder::new());
    for list in lists.as_string::<i32>() {
        out.append_option(list.map(|list| parts(list).map(|part| part.parse().ok()).collect::<Vec<Option<i32>>>()));
    }
    Arc::new(out.finish())
}

fn texts(lists: &ArrayRef) -> ArrayRef {
    let mut out = ListBuilder::new(StringBuilder::new());
    for list in lists.as_string::<i32>() {
        out.append_option(list.map(|list| parts(list).map(Some)));
    }
    Arc::new(out.finish())
}

#[cfg(test)]
mod tests {
    use super::{function_name, function_oid};

    #[test]
    fn a_function_goes_by_its_name() {
        assert_eq!(function_oid("pg_catalog.array_in"), Some(750));
        assert_eq!(function_name(750), "array_in");
        assert_eq!((function_oid("-"), function_name(0).as_str()), (Some(0), "-"));
        assert_eq!(function_oid("no_such_function"), None);
    }
}
