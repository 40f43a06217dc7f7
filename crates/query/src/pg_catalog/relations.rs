//! The `pg_catalog` tables that list our tables: `pg_namespace`, `pg_class`, `pg_attribute` and their like.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType as Arrow, Field, SchemaRef};
use datafusion::error::Result;
use plan::TableName;
use relation::DataType;
use relation::schema::{TYPE_NAME, registered_name};

use crate::catalog::{Catalog, Form, Reference};
use crate::pg_catalog::functions::settings;
use crate::pg_catalog::known::filled;
use crate::pg_catalog::sheet::Kind::{Acls, Bool, Char, Int, Name, Oid, Real, Short, Text, Texts, Tree, Xid};
use crate::pg_catalog::sheet::{Cell, row, sheet};
use crate::pg_catalog::{DATABASE, OWNER, SYSTEM_SCHEMAS};

/// First oid that Postgres gives to users' objects.
const FIRST_OID: u32 = 16_384;
/// Oid of the owner's role, as of Postgres' first user.
pub(crate) const OWNER_OID: i32 = 10;
/// Oid of whoever asks, where that is another.
pub(crate) const USER_OID: i32 = 16_384;
/// Oid of the one database.
pub(crate) const DATABASE_OID: i32 = 5;

/// A listed table.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) oid: i32,
    pub(crate) name: TableName,
    /// Postgres' letter: `r` a table, `v` a view.
    pub(crate) kind: char,
    pub(crate) columns: Vec<ListedColumn>,
    /// Positions of the key columns.
    pub(crate) key: Vec<usize>,
    pub(crate) rows: Option<u64>,
    pub(crate) definition: Option<String>,
    /// What it holds.
    pub(crate) comment: Option<String>,
    pub(crate) references: Vec<ListedReference>,
}

/// Columns of a listed table that refer to those of another.
#[derive(Debug)]
pub(crate) struct ListedReference {
    pub(crate) oid: i32,
    /// `orders_user_id_fkey`.
    pub(crate) name: String,
    /// Positions of its columns.
    pub(crate) columns: Vec<usize>,
    /// What it refers to: its oid, and the positions of the columns there.
    pub(crate) table: i32,
    pub(crate) referred: Vec<usize>,
}

/// A column of a listed table.
#[derive(Debug)]
pub(crate) struct ListedColumn {
    pub(crate) name: String,
    pub(crate) data_type: PgType,
    pub(crate) nullable: bool,
    /// What it holds.
    pub(crate) comment: Option<String>,
}

/// A type as `pg_attribute` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PgType {
    pub(crate) oid: i32,
    pub(crate) length: i32,
    /// Precision and scale of a number; −1: none.
    pub(crate) modifier: i32,
    pub(crate) name: &'static str,
}

/// All names of a catalog with their oids.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) schemas: BTreeMap<String, i32>,
    pub(crate) tables: Vec<Listed>,
    pub(crate) search_path: Vec<String>,
}

impl Names {
    pub(crate) fn new(catalog: &Catalog, view_schema: &dyn Fn(&TableName) -> Option<SchemaRef>) -> Self {
        let mut oids = Oids::default();
        let mut schemas: BTreeMap<String, i32> = BTreeMap::new();
        for schema in catalog.schemas().into_iter().chain(SYSTEM_SCHEMAS) {
            schemas.insert(schema.to_owned(), oids.schema(schema));
        }
        let mut tables = Vec::new();
        for table in catalog.tables() {
            let key = if table.form == Form::Keyed { table.schema.key.clone() } else { Vec::new() };
            let columns = table.schema.columns.iter().enumerate().map(|(at, column)| ListedColumn {
                name: column.name.clone(),
                data_type: pg_type(column.data_type),
                // A primary key has no NULLs, whatever its columns may hold.
                nullable: column.nullable && !key.contains(&at),
                comment: None,
            });
            let columns = columns.collect();
            let rows = catalog.rows(table.id);
            tables.push(Listed {
                oid: oids.table(&table.name),
                name: table.name.clone(),
                kind: 'r',
                columns,
                key,
                rows,
                definition: None,
                comment: None,
                references: Vec::new(),
            });
        }
        for (name, sql) in catalog.views() {
            let columns = view_schema(name).map_or_else(Vec::new, |schema| arrow_columns(&schema));
            // Who may read a part does not see what it is a part of.
            let definition = (!catalog.is_partial()).then(|| sql.clone());
            tables.push(view(oids.table(name), name, columns, definition));
        }
        for (name, table) in catalog.virtuals() {
            tables.push(view(oids.table(name), name, arrow_columns(&table.schema), None));
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        document(&mut tables, catalog, &mut oids);
        Self { schemas, tables, search_path: catalog.search_path().to_vec() }
    }

    /// Whether a table is found without writing its schema.
    pub(crate) fn is_visible(&self, oid: i32) -> bool {
        let Some(table) = self.tables.iter().find(|table| table.oid == oid) else { return true };
        let first = self.search_path.iter().find(|schema| {
            self.tables.iter().any(|other| other.name.schema == **schema && other.name.name == table.name.name)
        });
        first.is_some_and(|schema| *schema == table.name.schema)
    }

    /// The table whose key index has this oid.
    pub(crate) fn indexed(&self, index: i32) -> Option<&Listed> {
        self.tables.iter().find(|table| table.index_oid() == Some(index))
    }
}

fn view(oid: i32, name: &TableName, columns: Vec<ListedColumn>, definition: Option<String>) -> Listed {
    let (comment, references) = (None, Vec::new());
    Listed { oid, name: name.clone(), kind: 'v', columns, key: Vec::new(), rows: None, definition, comment, references }
}

/// Adds what is said of the tables, as far as they, their columns and what these refer to are listed.
fn document(tables: &mut [Listed], catalog: &Catalog, oids: &mut Oids) {
    let mut all: Vec<Vec<ListedReference>> = Vec::new();
    for table in tables.iter() {
        let said = catalog.documentation(&table.name);
        let references = said.iter().flat_map(|said| &said.references);
        all.push(references.filter_map(|reference| listed_reference(tables, table, reference, oids)).collect());
    }
    for (table, references) in tables.iter_mut().zip(all) {
        let Some(said) = catalog.documentation(&table.name) else { continue };
        table.comment.clone_from(&said.text);
        table.references = references;
        for column in &mut table.columns {
            column.comment = said.columns.get(&column.name).cloned();
        }
    }
}

fn listed_reference(
    tables: &[Listed],
    table: &Listed,
    reference: &Reference,
    oids: &mut Oids,
) -> Option<ListedReference> {
    // A view has no constraints.
    let referred = tables.iter().find(|other| other.name == reference.table && other.kind == 'r')?;
    let positions = |table: &Listed, names: &[String]| -> Option<Vec<usize>> {
        names.iter().map(|name| table.columns.iter().position(|column| column.name == *name)).collect()
    };
    let columns = positions(table, &reference.columns).filter(|_| table.kind == 'r')?;
    let name = format!("{}_{}_fkey", table.name.name, reference.columns.join("_"));
    let oid = oids.hashed(&format!("{}\0{}\0{name}", table.name.schema, table.name.name));
    let referred_columns = positions(referred, &reference.referred)?;
    Some(ListedReference { oid, name, columns, table: referred.oid, referred: referred_columns })
}

impl Listed {
    /// Oid of its key's index: that of the table with the highest bit of user oids set.
    pub(crate) fn index_oid(&self) -> Option<i32> {
        (!self.key.is_empty()).then_some(self.oid | 1 << 30)
    }

    /// `orders_pkey`.
    pub(crate) fn index_name(&self) -> String {
        format!("{}_pkey", self.name.name)
    }
}

/// Oids that stay the same from session to session and from start to start: hashes of names.
#[derive(Default)]
struct Oids {
    taken: BTreeSet<u32>,
}

impl Oids {
    fn schema(&mut self, name: &str) -> i32 {
        match name {
            "pg_catalog" => 11,
            "public" => 2200,
            "information_schema" => 13_000,
            _ => self.hashed(name),
        }
    }

    fn table(&mut self, name: &TableName) -> i32 {
        self.hashed(&format!("{}\0{}", name.schema, name.name))
    }

    fn hashed(&mut self, name: &str) -> i32 {
        let hash = relation::key::hash128(name.as_bytes());
        let seed = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        let room = (1 << 30) - FIRST_OID;
        let mut oid = FIRST_OID + seed % room;
        while !self.taken.insert(oid) {
            oid = FIRST_OID + (oid + 1 - FIRST_OID) % room;
        }
        i32::try_from(oid).unwrap_or(i32::MAX)
    }
}

fn arrow_columns(schema: &SchemaRef) -> Vec<ListedColumn> {
    let column = |field: &arrow::datatypes::FieldRef| ListedColumn {
        name: field.name().clone(),
        data_type: field_type(field),
        nullable: field.is_nullable(),
        comment: None,
    };
    schema.fields().iter().map(column).collect()
}

/// Types of fields that say by which name they go: the name, the oid, the length, and what `information_schema` calls it.
const NAMED: [(&str, i32, i32, &str); 29] = [
    ("json", 114, -1, "json"),
    ("jsonb", 3802, -1, "jsonb"),
    ("uuid", 2950, 16, "uuid"),
    ("varchar", 1043, -1, "character varying"),
    ("bpchar", 1042, -1, "character"),
    ("char", 18, 1, "\"char\""),
    ("name", 19, 64, "name"),
    ("void", 2278, 4, "void"),
    ("record", 2249, -1, "record"),
    ("pg_node_tree", 194, -1, "pg_node_tree"),
    ("pg_lsn", 3220, 8, "pg_lsn"),
    ("oid", 26, 4, "oid"),
    ("xid", 28, 4, "xid"),
    ("regclass", 2205, 4, "regclass"),
    ("regtype", 2206, 4, "regtype"),
    ("regproc", 24, 4, "regproc"),
    ("regnamespace", 4089, 4, "regnamespace"),
    ("int2vector", 22, -1, ARRAY),
    ("oidvector", 30, -1, ARRAY),
    ("_json", 199, -1, ARRAY),
    ("_jsonb", 3807, -1, ARRAY),
    ("_uuid", 2951, -1, ARRAY),
    ("_varchar", 1015, -1, ARRAY),
    ("_bpchar", 1014, -1, ARRAY),
    ("_char", 1002, -1, ARRAY),
    ("_name", 1003, -1, ARRAY),
    ("_oid", 1028, -1, ARRAY),
    ("_aclitem", 1034, -1, ARRAY),
    ("text", 25, -1, "text"),
];

/// The type of a column of an answer, as it is described to a client that asks for one.
pub(crate) fn field_type(field: &Field) -> PgType {
    let of_oids = registered_name(field.data_type());
    let name = of_oids.or_else(|| field.metadata().get(TYPE_NAME).map(String::as_str));
    let named = name.and_then(|name| NAMED.iter().find(|(known, ..)| *known == name));
    match named {
        Some(&(_, oid, length, name)) => PgType { oid, length, modifier: -1, name },
        None => arrow_type(field.data_type()),
    }
}

fn arrow_type(arrow: &Arrow) -> PgType {
    match DataType::from_arrow(arrow) {
        Ok(data_type) => pg_type(data_type),
        // Of what has fields the document is shown.
        Err(_) if arrow.is_nested() => pg_type(DataType::Json),
        Err(_) => pg_type(DataType::Text),
    }
}

/// The Postgres type of a column type. Unsigned 64-bit integers are `numeric(20,0)` to a client.
pub(crate) fn pg_type(data_type: DataType) -> PgType {
    let numeric = |precision: u8, scale: i8| (i32::from(precision) << 16 | i32::from(scale.max(0))) + 4;
    let (oid, length, modifier, name) = match data_type {
        DataType::Bool => (16, 1, -1, "boolean"),
        DataType::Int16 => (21, 2, -1, "smallint"),
        DataType::Int32 => (23, 4, -1, "integer"),
        DataType::Int64 => (20, 8, -1, "bigint"),
        DataType::UInt64 => (1700, -1, numeric(20, 0), "numeric"),
        DataType::Float32 => (700, 4, -1, "real"),
        DataType::Float64 => (701, 8, -1, "double precision"),
        DataType::Decimal { precision, scale } => (1700, -1, numeric(precision, scale), "numeric"),
        DataType::Text => (25, -1, -1, "text"),
        DataType::Json => (114, -1, -1, "json"),
        DataType::Bytes => (17, -1, -1, "bytea"),
        DataType::Date => (1082, 4, -1, "date"),
        DataType::Time => (1083, 8, -1, "time without time zone"),
        DataType::Timestamp => (1114, 8, -1, "timestamp without time zone"),
        DataType::TimestampTz => (1184, 8, -1, "timestamp with time zone"),
        DataType::Interval => (1186, 16, -1, "interval"),
        DataType::Array(element) => (array_oid(scalar(*element)), -1, -1, ARRAY),
    };
    PgType { oid, length, modifier, name }
}

/// What an array holds in the end: one of several dimensions has the type of one of one.
fn scalar(data_type: DataType) -> DataType {
    if let DataType::Array(element) = data_type { scalar(*element) } else { data_type }
}

/// The type of arrays of a scalar type.
fn array_oid(element: DataType) -> i32 {
    match element {
        DataType::Bool => 1000,
        DataType::Int16 => 1005,
        DataType::Int32 => 1007,
        DataType::Int64 => 1016,
        DataType::UInt64 | DataType::Decimal { .. } => 1231,
        DataType::Float32 => 1021,
        DataType::Float64 => 1022,
        DataType::Json => 199,
        DataType::Bytes => 1001,
        DataType::Date => 1182,
        DataType::Time => 1183,
        DataType::Timestamp => 1115,
        DataType::TimestampTz => 1185,
        DataType::Interval => 1187,
        DataType::Text | DataType::Array(_) => 1009,
    }
}

/// What `information_schema` calls every array.
pub(crate) const ARRAY: &str = "ARRAY";

/// The tables of this file.
pub(crate) fn tables(names: &Names) -> Result<Vec<(&'static str, RecordBatch)>> {
    let mut tables = statistics(names)?;
    tables.extend([
        ("pg_namespace", namespaces(names)?),
        ("pg_class", classes(names)?),
        ("pg_attribute", attributes(names)?),
        ("pg_tables", tables_view(names)?),
        ("pg_views", views_view(names)?),
        ("pg_database", database()?),
        ("pg_attrdef", attrdefs()?),
        ("pg_settings", settings_view(names)?),
    ]);
    Ok(tables)
}

fn namespaces(names: &Names) -> Result<RecordBatch> {
    let columns = [("oid", Oid), ("nspname", Name), ("nspowner", Oid), ("nspacl", Acls)];
    let rows: Vec<_> =
        names.schemas.iter().map(|(name, oid)| row![*oid, name.as_str(), OWNER_OID, Cell::Null]).collect();
    sheet(&columns, &rows)
}

fn classes(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("oid", Oid),
        ("relname", Name),
        ("relnamespace", Oid),
        ("reltype", Oid),
        ("reloftype", Oid),
        ("relowner", Oid),
        ("relam", Oid),
        ("relfilenode", Oid),
        ("reltablespace", Oid),
        ("relpages", Int),
        ("reltuples", Real),
        ("relallvisible", Int),
        ("reltoastrelid", Oid),
        ("relhasindex", Bool),
        ("relisshared", Bool),
        ("relpersistence", Char),
        ("relkind", Char),
        ("relnatts", Short),
        ("relchecks", Short),
        ("relhasrules", Bool),
        ("relhastriggers", Bool),
        ("relhassubclass", Bool),
        ("relrowsecurity", Bool),
        ("relforcerowsecurity", Bool),
        ("relispopulated", Bool),
        ("relreplident", Char),
        ("relispartition", Bool),
        ("relrewrite", Oid),
        ("relfrozenxid", Xid),
        ("relminmxid", Xid),
        ("relacl", Acls),
        ("reloptions", Texts),
        ("relpartbound", Tree),
    ];
    let mut rows = Vec::new();
    for table in &names.tables {
        let natts = i32::try_from(table.columns.len()).unwrap_or(i32::MAX);
        let tuples = table.rows.map_or(-1, |rows| i32::try_from(rows).unwrap_or(i32::MAX));
        let access = if table.kind == 'r' { HEAP } else { 0 };
        rows.push(class(names, table, table.oid, &table.name.name, &table.kind.to_string(), access, natts, tuples));
        if let Some(index) = table.index_oid() {
            let natts = i32::try_from(table.key.len()).unwrap_or(i32::MAX);
            rows.push(class(names, table, index, &table.index_name(), "i", BTREE, natts, tuples));
        }
    }
    sheet(&columns, &rows)
}

/// Oids of Postgres' access methods.
const HEAP: i32 = 2;
const BTREE: i32 = 403;

fn class(
    names: &Names,
    table: &Listed,
    oid: i32,
    name: &str,
    kind: &str,
    access: i32,
    natts: i32,
    tuples: i32,
) -> Vec<Cell> {
    let namespace = names.schemas.get(&table.name.schema).copied().unwrap_or(0);
    let indexed = kind == "r" && !table.key.is_empty();
    // psql looks for foreign keys only where there are the triggers that PostgreSQL enforces them by.
    let is_referred = |other: &Listed| other.references.iter().any(|of| of.table == table.oid);
    let refers = kind == "r" && (!table.references.is_empty() || names.tables.iter().any(is_referred));
    row![
        oid,
        name,
        namespace,
        0,
        0,
        OWNER_OID,
        access,
        oid,
        0,
        1,
        tuples,
        0,
        0,
        indexed,
        false,
        "p",
        kind,
        natts,
        0,
        false,
        refers,
        false,
        false,
        false,
        true,
        "d",
        false,
        0,
        0,
        0,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}

fn attributes(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("attrelid", Oid),
        ("attname", Name),
        ("atttypid", Oid),
        ("attstattarget", Int),
        ("attlen", Short),
        ("attnum", Short),
        ("attndims", Int),
        ("attcacheoff", Int),
        ("atttypmod", Int),
        ("attbyval", Bool),
        ("attstorage", Char),
        ("attalign", Char),
        ("attcompression", Char),
        ("attnotnull", Bool),
        ("atthasdef", Bool),
        ("atthasmissing", Bool),
        ("attidentity", Char),
        ("attgenerated", Char),
        ("attisdropped", Bool),
        ("attislocal", Bool),
        ("attinhcount", Int),
        ("attcollation", Oid),
        ("attacl", Acls),
        ("attoptions", Texts),
        ("attfdwoptions", Texts),
        ("attmissingval", Text),
    ];
    let mut rows = Vec::new();
    for table in &names.tables {
        let all = table.columns.iter().enumerate().map(|(i, column)| attribute(table.oid, i, column));
        rows.extend(all);
        if let Some(index) = table.index_oid() {
            let key = table.key.iter().enumerate().map(|(i, &at)| attribute(index, i, &table.columns[at]));
            rows.extend(key);
        }
    }
    sheet(&columns, &rows)
}

fn attribute(relation: i32, position: usize, column: &ListedColumn) -> Vec<Cell> {
    let number = i32::try_from(position + 1).unwrap_or(i32::MAX);
    let PgType { oid, length, modifier, name } = column.data_type;
    let collation = if matches!(name, "text" | "character varying" | "character") { 100 } else { 0 };
    let storage = if length < 0 { "x" } else { "p" };
    row![
        relation,
        column.name.as_str(),
        oid,
        -1,
        length,
        number,
        0,
        -1,
        modifier,
        length > 0,
        storage,
        "i",
        "",
        !column.nullable,
        false,
        false,
        "",
        "",
        false,
        true,
        0,
        collation,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}

fn tables_view(names: &Names) -> Result<RecordBatch> {
    let columns = [
        ("schemaname", Name),
        ("tablename", Name),
        ("tableowner", Name),
        ("tablespace", Name),
        ("hasindexes", Bool),
        ("hasrules", Bool),
        ("hastriggers", Bool),
        ("rowsecurity", Bool),
    ];
    let rows = names.tables.iter().filter(|table| table.kind == 'r').map(|table| {
        let indexed = !table.key.is_empty();
        row![table.name.schema.as_str(), table.name.name.as_str(), OWNER, Cell::Null, indexed, false, false, false]
    });
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn views_view(names: &Names) -> Result<RecordBatch> {
    let columns = [("schemaname", Name), ("viewname", Name), ("viewowner", Name), ("definition", Text)];
    let rows = names
        .tables
        .iter()
        .filter(|table| table.kind == 'v')
        .map(|table| row![table.name.schema.as_str(), table.name.name.as_str(), OWNER, table.definition.clone()]);
    sheet(&columns, &rows.collect::<Vec<_>>())
}

fn settings_view(names: &Names) -> Result<RecordBatch> {
    let rows = settings(&names.search_path).into_iter().map(|(name, value)| {
        row![name, value.clone(), "Preset Options", "internal", "string", "default", value.clone(), value, false]
    });
    let said =
        ["name", "setting", "category", "context", "vartype", "source", "boot_val", "reset_val", "pending_restart"];
    filled("pg_catalog", "pg_settings", &said, &rows.collect::<Vec<_>>())
}

/// The views of statistics that name each table.
const OF_TABLES: [&str; 4] =
    ["pg_stat_all_tables", "pg_stat_user_tables", "pg_statio_all_tables", "pg_statio_user_tables"];
/// And those that name each index.
const OF_INDEXES: [&str; 4] =
    ["pg_stat_all_indexes", "pg_stat_user_indexes", "pg_statio_all_indexes", "pg_statio_user_indexes"];

/// Nothing is counted but rows.
fn statistics(names: &Names) -> Result<Vec<(&'static str, RecordBatch)>> {
    let tables = || names.tables.iter().filter(|table| table.kind == 'r');
    let of_table = |table: &Listed| {
        let live = table.rows.map(|rows| i32::try_from(rows).unwrap_or(i32::MAX));
        row![table.oid, table.name.schema.as_str(), table.name.name.as_str(), live]
    };
    let of_index = |table: &Listed| {
        let (schema, name) = (table.name.schema.as_str(), table.name.name.as_str());
        Some(row![table.oid, table.index_oid()?, schema, name, table.index_name()])
    };
    let listed: Vec<_> = tables().map(of_table).collect();
    let indexed: Vec<_> = tables().filter_map(of_index).collect();
    let said = ["relid", "schemaname", "relname", "n_live_tup"];
    let mut out = Vec::new();
    for view in OF_TABLES {
        let said = if view.starts_with("pg_statio") { &said[..3] } else { &said[..] };
        out.push((view, filled("pg_catalog", view, said, &listed)?));
    }
    for view in OF_INDEXES {
        let said = ["relid", "indexrelid", "schemaname", "relname", "indexrelname"];
        out.push((view, filled("pg_catalog", view, &said, &indexed)?));
    }
    Ok(out)
}

fn database() -> Result<RecordBatch> {
    let columns = [
        ("oid", Oid),
        ("datname", Name),
        ("datdba", Oid),
        ("encoding", Int),
        ("datlocprovider", Char),
        ("datistemplate", Bool),
        ("datallowconn", Bool),
        ("datconnlimit", Int),
        ("datfrozenxid", Xid),
        ("datminmxid", Xid),
        ("dattablespace", Oid),
        ("datcollate", Text),
        ("datctype", Text),
        ("daticulocale", Text),
        ("daticurules", Text),
        ("datlocale", Text),
        ("datcollversion", Text),
        ("datacl", Acls),
    ];
    let rows = [row![
        DATABASE_OID,
        DATABASE,
        OWNER_OID,
        6,
        "c",
        false,
        true,
        -1,
        0,
        0,
        1663,
        "C",
        "C.UTF-8",
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]];
    sheet(&columns, &rows)
}

/// Columns have no defaults.
fn attrdefs() -> Result<RecordBatch> {
    sheet(&[("oid", Oid), ("adrelid", Oid), ("adnum", Short), ("adbin", Tree)], &[])
}
