//! The extended protocol: parse, bind, describe, execute, in steps that a driver chooses.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::EmptyQueryResponse;

use super::connection::{Connection, Failure};
use super::frame::{Bind, Request, Target};
use super::parameter;
use super::session::{Parameter, Portal, PortalState, Prepared, Running, Transaction};
use super::simple::counted;
use super::statement::{Opened, no_statement};
use super::types::{description, description_without_scales, shape};
use crate::reader::{Param, SqlError};
use crate::sql::{Command, command, split};

impl Connection {
    /// Answers a message of the extended protocol.
    pub(super) async fn extended(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Parse { name, query, types } => {
                self.begin();
                let result = self.parse(name, query, &types).await;
                // The time of a statement is counted where it is executed.
                self.finish_parse(result.is_err());
                result
            }
            Request::Bind(bind) => self.bind(bind).map_err(Failure::from),
            Request::Describe(target) => self.describe(&target).map_err(Failure::from),
            Request::Execute { portal, rows_max } => {
                self.begin();
                let result = self.execute(&portal, rows_max).await;
                self.finish(result.is_err());
                result
            }
            Request::Close(target) => {
                self.close(&target);
                Ok(())
            }
            Request::Flush => self.flush().await,
            _ => Ok(()),
        }
    }

    /// The end of a batch of messages: outside a transaction its portals go.
    pub(super) async fn sync(&mut self) -> Result<(), Failure> {
        if self.session.transaction == Transaction::None {
            self.session.end();
        }
        self.ready();
        self.flush().await
    }

    async fn parse(&mut self, name: String, query: String, types: &[u32]) -> Result<(), Failure> {
        // The unnamed one gives way to the next.
        if name.is_empty() {
            self.session.statements.remove(&name);
        }
        self.room_for_statement(&name)?;
        let prepared = self.prepare(&query, types).await?;
        self.keep_statement(name, prepared)?;
        self.send(&Reply::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    fn room_for_statement(&self, name: &str) -> Result<(), SqlError> {
        if self.session.statements.contains_key(name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        let limit = self.service.limits.statements;
        if self.session.statements.len() < limit {
            return Ok(());
        }
        Err(SqlError::new("53400", format!("more than {limit} prepared statements"))
            .hint("Close statements that are no longer used (DEALLOCATE ALL)."))
    }

    /// Keeps a prepared statement under its name.
    pub(super) fn keep_statement(&mut self, name: String, mut prepared: Prepared) -> Result<(), SqlError> {
        self.room_for_statement(&name)?;
        let bytes = prepared.bytes().saturating_add(name.len());
        prepared.kept = Some(self.session.keep(bytes, &self.service.kept)?);
        self.session.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// Says what a statement is, what it needs and what it answers.
    pub(super) async fn prepare(&mut self, query: &str, types: &[u32]) -> Result<Prepared, Failure> {
        let mut statements = split(query);
        let Some(statement) = statements.next() else {
            return Ok(Prepared {
                sql: String::new(),
                offset: 0,
                command: None,
                parameters: Vec::new(),
                columns: None,
                kept: None,
            });
        };
        if statements.next().is_some() {
            return Err(SqlError::new("42601", "cannot insert multiple commands into a prepared statement").into());
        }
        let place = |failure: Failure| failure.within(Some(statement.offset));
        let command = command(statement.text).map_err(|error| place(error.into()))?;
        self.usable(&command)?;
        let (expected, columns) = match &command {
            Command::Read => {
                let declared: Vec<_> =
                    types.iter().map(|oid| declared(*oid).and_then(|wire| parameter::hint(&wire))).collect();
                let description = self.described(statement.text, &declared).await.map_err(place)?;
                (description.parameters, Some(description.columns))
            }
            other => (Vec::new(), self.own_columns(other)?),
        };
        let count = types.len().max(expected.len());
        let parameters = (0..count).map(|i| parameter(types.get(i), expected.get(i)));
        let parameters = parameters.collect();
        Ok(Prepared {
            sql: statement.text.to_owned(),
            offset: statement.offset,
            command: Some(command),
            parameters,
            columns,
            kept: None,
        })
    }

    fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let prepared =
            self.session.statements.get(&bind.statement).cloned().ok_or_else(|| no_statement(&bind.statement))?;
        if let Some(command) = &prepared.command {
            self.usable(command)?;
        }
        if !bind.portal.is_empty() && self.session.portals.contains_key(&bind.portal) {
            return Err(SqlError::new("42P03", format!("cursor \"{}\" already exists", bind.portal)));
        }
        self.session.portals.remove(&bind.portal);
        self.room_for_portal()?;
        let params = params(&prepared, &bind)?;
        let width = prepared.columns.as_ref().map_or(0, |columns| columns.fields().len());
        let binary = formats(&bind.result_formats, width, "result")?;
        let kept = self.session.keep(Portal::bytes(&params, &binary), &self.service.kept)?;
        let grants = self.grants();
        let portal = Portal { prepared, params, binary, state: PortalState::New, hold: false, grants, _kept: kept };
        self.session.portals.insert(bind.portal, portal);
        self.send(&Reply::BindComplete(BindComplete::new()));
        Ok(())
    }

    pub(super) fn room_for_portal(&self) -> Result<(), SqlError> {
        let limit = self.service.limits.portals;
        if self.session.portals.len() < limit {
            return Ok(());
        }
        Err(SqlError::new("53400", format!("more than {limit} open cursors")).hint("Close cursors that were read."))
    }

    fn describe(&mut self, target: &Target) -> Result<(), SqlError> {
        let takes_all_digits = |prepared: &Prepared| {
            let mut parameters = prepared.parameters.iter();
            parameters
                .any(|parameter| parameter.expected.as_ref().is_some_and(|field| parameter::takes_all_digits(field)))
        };
        let (columns, binary, is_open) = match target {
            Target::Statement(name) => {
                let prepared = self.session.statements.get(name).cloned().ok_or_else(|| no_statement(name))?;
                let types = prepared.parameters.iter().map(|parameter| parameter.wire.oid()).collect();
                self.send(&Reply::ParameterDescription(ParameterDescription::new(types)));
                (prepared.columns.clone(), Vec::new(), takes_all_digits(&prepared))
            }
            Target::Portal(name) => {
                let portal = self.session.portal(name)?;
                (portal.prepared.columns.clone(), portal.binary.clone(), takes_all_digits(&portal.prepared))
            }
        };
        match columns {
            Some(columns) if is_open => {
                self.send(&Reply::RowDescription(description_without_scales(&columns, &binary)));
            }
            Some(columns) => self.send(&Reply::RowDescription(description(&columns, &binary))),
            None => self.send(&Reply::NoData(NoData::new())),
        }
        Ok(())
    }

    fn close(&mut self, target: &Target) {
        match target {
            Target::Statement(name) => drop(self.session.statements.remove(name)),
            Target::Portal(name) => drop(self.session.portals.remove(name)),
        }
        self.send(&Reply::CloseComplete(CloseComplete::new()));
    }

    /// Runs a portal, or a piece of it.
    async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), Failure> {
        let now = self.grants();
        let portal = self.session.portal(name)?;
        portal.holds(name, now)?;
        let prepared = Arc::clone(&portal.prepared);
        let Some(command) = &prepared.command else {
            self.send(&Reply::EmptyQueryResponse(EmptyQueryResponse::new()));
            return Ok(());
        };
        let place = |failure: Failure| failure.within(Some(prepared.offset));
        let (params, binary) = (portal.params.clone(), portal.binary.clone());
        // Taken out while it runs: whatever fails leaves a portal that is finished.
        let (mut running, tag) = match std::mem::replace(&mut portal.state, PortalState::Finished) {
            PortalState::Running(running) => {
                self.usable(command)?;
                (running, row_tag(command))
            }
            PortalState::Finished if prepared.columns.is_some() => {
                self.usable(command)?;
                self.complete(counted(row_tag(command), 0));
                return Ok(());
            }
            PortalState::Finished => {
                return Err(SqlError::new("55000", format!("portal \"{name}\" cannot be run")).into());
            }
            PortalState::New => match self.open(&prepared.sql, command, &params).await.map_err(place)? {
                Opened::Done(tag) => {
                    self.complete(tag);
                    return Ok(());
                }
                Opened::Copy(running, copy) => return self.copy_out(running, &copy).await,
                Opened::Rows(running, tag) => {
                    same_columns(prepared.columns.as_ref(), &running)?;
                    (running, tag)
                }
            },
        };
        let limit = if rows_max == 0 { usize::MAX } else { rows_max };
        let (sent, finished) = self.rows(&mut running, &binary, limit).await.map_err(place)?;
        if finished {
            self.complete(counted(tag, sent));
            return Ok(());
        }
        if let Some(portal) = self.session.portals.get_mut(name) {
            portal.state = PortalState::Running(running);
        }
        self.send(&Reply::PortalSuspended(PortalSuspended::new()));
        Ok(())
    }
}

fn row_tag(command: &Command) -> &'static str {
    match command {
        Command::Show(_) | Command::ShowAll => "SHOW",
        Command::Fetch { .. } => "FETCH",
        _ => "SELECT",
    }
}

/// The type that a client named; none where it left it to us.
fn declared(oid: u32) -> Option<Type> {
    Type::from_oid(oid).filter(|known| *known != Type::UNKNOWN)
}

/// What a parameter is: as the client declared it, else as the reader expects it, else text.
fn parameter(oid: Option<&u32>, expected: Option<&FieldRef>) -> Parameter {
    let open = parameter::left_open(expected, Type::TEXT);
    match oid.and_then(|oid| declared(*oid)) {
        Some(known) => Parameter { wire: known, declared: true, expected: open.expected },
        None => open,
    }
}

fn params(prepared: &Prepared, bind: &Bind) -> Result<Vec<Param>, SqlError> {
    let (given, needed) = (bind.values.len(), prepared.parameters.len());
    if given != needed {
        let message = format!(
            "bind message supplies {given} parameters, but prepared statement \"{}\" requires {needed}",
            bind.statement
        );
        return Err(SqlError::new("08P01", message));
    }
    let binary = formats(&bind.formats, given, "parameter")?;
    let values = prepared.parameters.iter().zip(&bind.values).zip(binary);
    values.map(|((parameter, value), binary)| parameter::decode(parameter, binary, value.as_deref())).collect()
}

/// Formats per value from a client's list: none is all text, one is for all.
fn formats(codes: &[i16], count: usize, what: &str) -> Result<Vec<bool>, SqlError> {
    if codes.iter().any(|code| !(0..=1).contains(code)) {
        return Err(SqlError::new("08P01", format!("unsupported {what} format code")));
    }
    match codes {
        [] => Ok(vec![false; count]),
        [all] => Ok(vec![*all == 1; count]),
        each if each.len() == count => Ok(each.iter().map(|code| *code == 1).collect()),
        each => {
            let message = format!("bind message has {} {what} formats but the statement has {count}", each.len());
            Err(SqlError::new("08P01", message))
        }
    }
}

/// A model may be swapped between a statement's description and its run.
fn same_columns(described: Option<&SchemaRef>, running: &Running) -> Result<(), SqlError> {
    match described {
        Some(described) if shape(described) != shape(&running.schema) => {
            Err(SqlError::new("0A000", "cached plan must not change result type")
                .hint("A model changed since the statement was prepared: prepare it again."))
        }
        _ => Ok(()),
    }
}
