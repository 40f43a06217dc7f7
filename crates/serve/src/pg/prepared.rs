//! PREPARE and EXECUTE: prepared statements by SQL. They are the protocol's own, under the same names.

use std::sync::Arc;

use pgwire::api::Type;

use super::connection::{Connection, Failure};
use super::parameter;
use super::statement::{Opened, no_statement};
use crate::reader::{Param, SqlError};
use crate::sql::Command;
use crate::sql::command::Inner;

impl Connection {
    /// Keeps a query under a name. Returns the tag.
    pub(super) async fn prepare_named(
        &mut self,
        name: &str,
        types: &[String],
        query: &Inner,
    ) -> Result<String, Failure> {
        let oids = types.iter().map(|name| oid(name)).collect::<Result<Vec<_>, _>>()?;
        let prepared = self.prepare(&query.text, &oids).await.map_err(|failure| failure.within(query.offset))?;
        if prepared.command != Some(Command::Read) {
            return Err(SqlError::new("42601", "PREPARE needs a query").into());
        }
        self.keep_statement(name.to_owned(), prepared)?;
        Ok("PREPARE".to_owned())
    }

    /// Starts what was prepared, with values.
    pub(super) async fn execute_named(&mut self, name: &str, values: Option<&Inner>) -> Result<Opened, Failure> {
        let prepared = self.session.statements.get(name).cloned().ok_or_else(|| no_statement(name))?;
        if prepared.command != Some(Command::Read) {
            return Err(SqlError::new("0A000", format!("prepared statement \"{name}\" is no query")).into());
        }
        let given = match values {
            Some(values) => self.values(values).await?,
            None => Vec::new(),
        };
        let needed = prepared.parameters.len();
        if given.len() != needed {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let detail = format!("Expected {needed} parameters but got {}.", given.len());
            return Err(SqlError::new("42601", message).detail(detail).into());
        }
        let params = prepared.parameters.iter().zip(given);
        let params = params.map(|(parameter, value)| parameter::converted(parameter, value));
        let params = params.collect::<Result<Vec<_>, _>>()?;
        Ok(Opened::Rows(self.ask(&prepared.sql, &params).await?, "SELECT"))
    }

    /// The values of a list: the one row of a SELECT of them.
    async fn values(&mut self, list: &Inner) -> Result<Vec<Param>, Failure> {
        const SELECT: &str = "select ";
        let offset = list.offset.and_then(|offset| offset.checked_sub(SELECT.len()));
        let asked = self.ask(&format!("{SELECT}{}", list.text), &[]).await;
        let mut running = asked.map_err(|failure| failure.within(offset))?;
        let row = self.attend(running.next(1)).await?;
        let row = row.ok_or_else(|| SqlError::internal("a SELECT without FROM has no row"))?;
        Ok(row.columns().iter().map(|column| Param(Arc::clone(column))).collect())
    }
}

/// The oid of a type by its name; 0 where it is left to the query.
fn oid(name: &str) -> Result<u32, SqlError> {
    let unknown = || SqlError::new("42704", format!("type \"{name}\" does not exist"));
    let plain = name.split('(').next().unwrap_or_default().trim();
    if let Some(element) = name.trim().strip_suffix("[]") {
        let element = Type::from_oid(oid(element.trim())?);
        let array = element.and_then(|element| parameter::array_of(&element)).ok_or_else(unknown)?;
        return Ok(array.oid());
    }
    let known = match plain {
        "boolean" | "bool" => Type::BOOL,
        "smallint" | "int2" => Type::INT2,
        "integer" | "int" | "int4" => Type::INT4,
        "bigint" | "int8" => Type::INT8,
        "real" | "float4" => Type::FLOAT4,
        "double precision" | "float8" | "float" => Type::FLOAT8,
        "numeric" | "decimal" => Type::NUMERIC,
        "text" => Type::TEXT,
        "varchar" | "character varying" => Type::VARCHAR,
        "character" | "char" | "bpchar" => Type::BPCHAR,
        "bytea" => Type::BYTEA,
        "date" => Type::DATE,
        "time" | "time without time zone" => Type::TIME,
        "timestamp" | "timestamp without time zone" => Type::TIMESTAMP,
        "timestamptz" | "timestamp with time zone" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        "uuid" => Type::UUID,
        "oid" => Type::OID,
        "name" => Type::NAME,
        "unknown" => Type::UNKNOWN,
        _ => return Err(unknown()),
    };
    Ok(known.oid())
}
