//! What is about whoever asks: roles, the database, their own session.
//!
//! Whatever name a client gives to the database is that of the one there is; whoever is let in is a role.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result;

use crate::pg_catalog::known::filled;
use crate::pg_catalog::relations::{DATABASE_OID, OWNER_OID, USER_OID};
use crate::pg_catalog::sheet::row;
use crate::pg_catalog::{DATABASE, OWNER};
use crate::session::Identity;

/// A table that is made for a session.
pub(crate) fn table(schema: &str, name: &str, identity: &Identity) -> Result<Option<RecordBatch>> {
    Ok(match (schema, name) {
        ("pg_catalog", "pg_roles") => Some(roles(identity)?),
        ("pg_catalog", "pg_user") => Some(users(identity)?),
        ("pg_catalog", "pg_stat_activity") => Some(activity(identity)?),
        ("pg_catalog", "pg_stat_gssapi") => {
            let said = ["pid", "gss_authenticated", "encrypted"];
            Some(filled("pg_catalog", "pg_stat_gssapi", &said, &[row![identity.pid, false, false]])?)
        }
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

/// The owner of everything, and whoever asks, with their oids.
fn known(identity: &Identity) -> Vec<(&str, i32)> {
    let asks = (identity.user != OWNER).then_some((identity.user.as_str(), USER_OID));
    std::iter::once((OWNER, OWNER_OID)).chain(asks).collect()
}

/// What stands for a password.
const HIDDEN: &str = "********";

fn roles(identity: &Identity) -> Result<RecordBatch> {
    let said = [
        "rolname",
        "rolsuper",
        "rolinherit",
        "rolcreaterole",
        "rolcreatedb",
        "rolcanlogin",
        "rolreplication",
        "rolconnlimit",
        "rolpassword",
        "rolbypassrls",
        "oid",
    ];
    let role = |(name, oid): (&str, i32)| row![name, false, true, false, false, true, false, -1, HIDDEN, false, oid];
    filled("pg_catalog", "pg_roles", &said, &known(identity).into_iter().map(role).collect::<Vec<_>>())
}

fn users(identity: &Identity) -> Result<RecordBatch> {
    let said = ["usename", "usesysid", "usecreatedb", "usesuper", "userepl", "usebypassrls", "passwd"];
    let user = |(name, oid): (&str, i32)| row![name, oid, false, false, false, false, HIDDEN];
    filled("pg_catalog", "pg_user", &said, &known(identity).into_iter().map(user).collect::<Vec<_>>())
}

/// The session that asks.
fn activity(identity: &Identity) -> Result<RecordBatch> {
    let said = ["datid", "datname", "pid", "usesysid", "usename", "state", "backend_type"];
    let (user, oid) = (identity.user.as_str(), if identity.user == OWNER { OWNER_OID } else { USER_OID });
    let rows = [row![DATABASE_OID, identity.database.as_str(), identity.pid, oid, user, "active", "client backend"]];
    filled("pg_catalog", "pg_stat_activity", &said, &rows)
}
