//! `pg_catalog` and `information_schema`: what psql, drivers and tools ask to learn which tables there are.
//!
//! Five layers. What does not depend on the catalog (`pg_type`, `pg_proc`, `pg_am`, …) are Postgres' own rows
//! ([`shipped`]). What has no rows here has its columns ([`known`]). What lists our tables ([`relations`], [`constraints`],
//! [`information_schema`]) is made once per [`Catalog`] when it is first asked for, and kept with it. What is about whoever
//! asks is made for them ([`sessions`]). Functions ([`functions`]) answer from the same.

mod arrays;
mod constraints;
pub(crate) mod dialect;
mod functions;
mod information_schema;
mod known;
mod registered;
mod relations;
mod sessions;
mod sheet;
mod shipped;
mod sleep;
mod type_of;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType as Arrow, Field, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::DataType as SqlType;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use plan::TableName;
use relation::schema::TYPE_NAME;

use crate::catalog::Catalog;
use crate::session::Identity;

pub(crate) use arrays::of_named_types;
pub(crate) use functions::{function, shown};
pub(crate) use relations::Names;

/// The name under which the one database there is appears.
pub(crate) const DATABASE: &str = "tidemill";
/// The owner of everything.
pub(crate) const OWNER: &str = "tidemill";
/// Schemas that clients expect and no project has.
pub(crate) const SYSTEM_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// The system tables that list the tables of one catalog.
#[derive(Debug)]
pub(crate) struct SystemTables {
    tables: BTreeMap<(&'static str, &'static str), RecordBatch>,
    pub(crate) names: Arc<Names>,
}

impl SystemTables {
    /// Lists a catalog; `view_schema` plans a view to learn its columns.
    pub(crate) fn new(catalog: &Catalog, view_schema: &dyn Fn(&TableName) -> Option<SchemaRef>) -> Result<Self> {
        let names = Names::new(catalog, view_schema);
        let mut tables = BTreeMap::new();
        for (name, batch) in relations::tables(&names)?.into_iter().chain(constraints::tables(&names)?) {
            tables.insert(("pg_catalog", name), batch);
        }
        for (name, batch) in information_schema::tables(&names)? {
            tables.insert(("information_schema", name), batch);
        }
        Ok(Self { tables, names: Arc::new(names) })
    }

    /// A system table by name, as it is shown to whom this is.
    pub(crate) fn table(
        &self,
        schema: &str,
        name: &str,
        identity: &Identity,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let found = self.tables.iter().find(|((s, n), _)| *s == schema && *n == name);
        let batch = match (found, sessions::table(schema, name, identity)?) {
            (_, Some(batch)) => Some(batch),
            (Some((_, batch)), None) => Some(sessions::of_database(batch, &identity.database)?),
            (None, None) => match known::empty(schema, name)? {
                Some(batch) => Some(batch),
                None if schema == "pg_catalog" => shipped::table(name)?,
                None => None,
            },
        };
        let provider = |batch: RecordBatch| -> Result<Arc<dyn TableProvider>> {
            Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
        };
        batch.map(provider).transpose()
    }
}

/// Whether an unqualified name is one of `pg_catalog`, which every search path begins with.
pub(crate) fn is_system_table(name: &str) -> bool {
    known::is_known(name) || datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES.contains(&name)
}

/// The table of `pg_catalog` that shows what a function yields.
pub(crate) fn table_of_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "pg_available_extensions" => "pg_available_extensions",
        "pg_cursor" => "pg_cursors",
        "pg_get_keywords" => "pg_get_keywords",
        "pg_lock_status" => "pg_locks",
        "pg_prepared_statement" => "pg_prepared_statements",
        "pg_show_all_settings" => "pg_settings",
        "pg_stat_get_activity" => "pg_stat_activity",
        "pg_timezone_abbrevs" => "pg_timezone_abbrevs",
        "pg_timezone_names" => "pg_timezone_names",
        _ => return None,
    })
}

/// The types that are an oid and are shown as a name.
pub(crate) const REGISTERED: [&str; 4] = ["regclass", "regtype", "regproc", "regnamespace"];

/// Postgres' type names beyond those of `plan`: `regclass`, `oid`, `pg_catalog.text`.
#[derive(Debug)]
pub(crate) struct TypeNames {
    /// Whether the catalogue is read, much of which goes by other types: a cast to a text or to a number ends that.
    pub(crate) of_catalog: bool,
}

impl TypePlanner for TypeNames {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<Arc<Field>>> {
        if let Some(field) = plan::settings::Types.plan_type_field(sql_type)? {
            return Ok(Some(field));
        }
        let (data_type, name) = match dialect::bare(&sql_type.to_string()).as_str() {
            "name" => (Arrow::Utf8, "name"),
            "name[]" => (Arrow::new_list(Arrow::Utf8, true), "_name"),
            "oid" => (Arrow::Int32, "oid"),
            "oid[]" => (Arrow::new_list(Arrow::Int32, true), "_oid"),
            "text" if self.of_catalog => (Arrow::Utf8, "text"),
            "varchar" | "character varying" if self.of_catalog => (Arrow::Utf8, "varchar"),
            "int" | "integer" | "int4" if self.of_catalog => (Arrow::Int32, "int4"),
            // The elements of an array have no name.
            "text[]" if self.of_catalog => (Arrow::new_list(Arrow::Utf8, true), "_text"),
            "varchar[]" | "character varying[]" if self.of_catalog => (Arrow::new_list(Arrow::Utf8, true), "_varchar"),
            "int[]" | "integer[]" | "int4[]" if self.of_catalog => (Arrow::new_list(Arrow::Int32, true), "_int4"),
            _ => return PgOidTypePlanner.plan_type_field(sql_type),
        };
        let named = [(TYPE_NAME.to_owned(), name.to_owned())];
        Ok(Some(Arc::new(Field::new("", data_type, true).with_metadata(named.into()))))
    }
}
