//! What is about whoever asks: roles, the database, their own session.
//!
//! Whatever name a client gives to the database is that of the one there is; whoever is let in is a role.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result;

use crate::pg_catalog::known::filled;
use crate::pg_catalog::relations::{DATABASE_OID, OWNER_OID, USER_OID};
use crate::pg_catalog::sheet::Kind::{Bool, Int, Name, Oid, Text, Texts};
use crate::pg_catalog::sheet::{Cell, Kind, row, sheet};
use crate::pg_catalog::{DATABASE, OWNER};
use crate::session::Identity;

/// A table that is made for a session.
pub(crate) fn table(schema: &str, name: &str, identity: &Identity) -> Result<Option<RecordBatch>> {
    Ok(match (schema, name) {
        ("pg_catalog", "pg_roles") => Some(roles("rolname", "oid", identity)?),
        ("pg_catalog", "pg_user") => Some(roles("usename", "usesysid", identity)?),
        ("pg_catalog", "pg_stat_activity") => Some(activity(identity)?),
        _ => None,
    })
}

/// A table with the database's name as the client knows it.
pub(crate) fn of_database(batch: &RecordBatch, database: &str) -> Result<RecordBatch> {
    let names_it = |name: &str| name == "datname" || name == "catalog_name" || name.ends_with("_catalog");
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| -> ArrayRef {
        if database == DATABASE || *column.data_type() != DataType::Utf8 || !names_it(field.name()) {
            return Arc::clone(column);
        }
        let names = column.as_string::<i32>().iter();
        Arc::new(names.map(|name| if name == Some(DATABASE) { Some(database) } else { name }).collect::<StringArray>())
    });
    Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect())?)
}

/// The owner of everything, and whoever asks.
fn roles(name: &'static str, oid: &'static str, identity: &Identity) -> Result<RecordBatch> {
    let columns: [(&str, Kind); 14] = [
        (name, Name),
        ("rolsuper", Bool),
        ("rolinherit", Bool),
        ("rolcreaterole", Bool),
        ("rolcreatedb", Bool),
        ("rolcanlogin", Bool),
        ("rolreplication", Bool),
        ("rolconnlimit", Int),
        ("rolpassword", Text),
        ("rolvaliduntil", Text),
        ("rolbypassrls", Bool),
        ("rolconfig", Texts),
        (oid, Oid),
        ("usesuper", Bool),
    ];
    let role = |name: &str, oid: i32| {
        row![name, false, true, false, false, true, false, -1, Cell::Null, Cell::Null, false, Cell::Null, oid, false,]
    };
    let mut rows = vec![role(OWNER, OWNER_OID)];
    if identity.user != OWNER {
        rows.push(role(&identity.user, USER_OID));
    }
    sheet(&columns, &rows)
}

/// The session that asks.
fn activity(identity: &Identity) -> Result<RecordBatch> {
    let said = ["datid", "datname", "pid", "usesysid", "usename", "state", "backend_type"];
    let (user, oid) = (identity.user.as_str(), if identity.user == OWNER { OWNER_OID } else { USER_OID });
    let rows = [row![DATABASE_OID, identity.database.as_str(), identity.pid, oid, user, "active", "client backend"]];
    filled("pg_catalog", "pg_stat_activity", &said, &rows)
}
