//! One statement, however it came: what the session does itself, what the reader is asked, rows on their way out.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::{BufMut, BytesMut};
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::response::CommandComplete;

use super::connection::{Connection, Failure};
use super::parameter;
use super::session::{Running, Transaction};
use super::settings::is_known;
use crate::reader::{Description, Param, SqlError};
use crate::sql::Command;
use crate::sql::command::{Copy, Scope, is_pinning};
use crate::sql::function::{Function, Item};
use crate::value::array::length_prefixed;
use crate::value::{Cells, Column, Form};

/// Rows written before the next look at what may end the statement.
const ROWS_AT_ONCE: usize = 1_024;

/// Replies of large rows that are collected at most.
const OUT_BYTES_MAX: usize = 1 << 20;

/// A statement that has begun.
pub(super) enum Opened {
    /// It has rows; the word is what its tag says.
    Rows(Running, &'static str),
    /// It is done; this is its tag.
    Done(String),
    /// Its rows go out as a COPY.
    Copy(Running, Copy),
}

impl Connection {
    /// Starts a statement.
    pub(super) async fn open(&mut self, sql: &str, command: &Command, params: &[Param]) -> Result<Opened, Failure> {
        self.usable(command)?;
        Ok(match command {
            Command::Read => Opened::Rows(self.ask(sql, params).await?, "SELECT"),
            Command::Copy(copy) => {
                let asked = self.ask(&copy.query.text, params).await;
                Opened::Copy(asked.map_err(|failure| failure.within(copy.query.offset))?, copy.clone())
            }
            Command::Show(_) | Command::ShowAll => Opened::Rows(Running::of(self.shown(command)?), "SHOW"),
            Command::Functions(items) => Opened::Rows(Running::of(self.functions(items)?), "SELECT"),
            Command::Prepare { name, types, query } => Opened::Done(self.prepare_named(name, types, query).await?),
            Command::Execute { name, values } => self.execute_named(name, values.as_ref()).await?,
            Command::Declare { name, hold, query } => Opened::Done(self.declare(name, *hold, query, params).await?),
            Command::Fetch { name, rows, show: true } => Opened::Rows(self.fetch(name, *rows).await?, "FETCH"),
            Command::Fetch { name, rows, show: false } => Opened::Done(self.move_on(name, *rows).await?),
            _ => Opened::Done(self.housekeeping(command)?.to_owned()),
        })
    }

    /// In a failed transaction only its end is accepted.
    pub(super) fn usable(&self, command: &Command) -> Result<(), SqlError> {
        let ends = matches!(command, Command::Commit | Command::Rollback | Command::RollbackTo);
        if self.session.transaction == Transaction::Failed && !ends {
            return Err(SqlError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// Asks the reader for rows.
    pub(super) async fn ask(&mut self, sql: &str, params: &[Param]) -> Result<Running, Failure> {
        self.admit().await?;
        let reader = Arc::clone(&self.service.reader);
        let context = self.session.context.clone();
        let mut answer = self.attend(reader.query(sql, params, &context)).await?;
        if let Some(warning) = answer.warning.take() {
            self.warn(&warning.error);
        }
        Ok(answer.into())
    }

    /// Asks the reader for types.
    pub(super) async fn described(&mut self, sql: &str, declared: &[Option<DataType>]) -> Result<Description, Failure> {
        self.admit().await?;
        let reader = Arc::clone(&self.service.reader);
        let context = self.session.context.clone();
        self.attend(reader.describe(sql, declared, &context)).await
    }

    /// Sends up to `rows_max` rows. Returns how many, and whether those were the last.
    pub(super) async fn rows(
        &mut self,
        running: &mut Running,
        binary: &[bool],
        rows_max: usize,
    ) -> Result<(usize, bool), Failure> {
        if running.asked {
            self.admit().await?;
        }
        let mut sent = 0;
        while sent < rows_max {
            let Some(batch) = self.attend(running.next((rows_max - sent).min(ROWS_AT_ONCE))).await? else {
                return Ok((sent, true));
            };
            let columns = columns(&batch)?;
            for row in 0..batch.num_rows() {
                data_row(&mut self.out, &columns, binary, row)?;
                if self.out.len() >= OUT_BYTES_MAX {
                    self.flush().await?;
                }
            }
            sent += batch.num_rows();
            self.flush_much().await?;
        }
        Ok((sent, false))
    }

    /// Says that a statement is done.
    pub(super) fn complete(&mut self, tag: impl Into<String>) {
        self.send(&Reply::CommandComplete(CommandComplete::new(tag.into())));
    }

    /// Columns that a command of the session answers with, without running it.
    pub(super) fn own_columns(&mut self, command: &Command) -> Result<Option<SchemaRef>, SqlError> {
        Ok(match command {
            Command::Show(_) | Command::ShowAll => Some(self.shown(command)?.schema()),
            Command::Functions(items) => {
                // A description must not yet change the setting.
                let described = items.iter().map(|item| match &item.function {
                    Function::SetConfig { .. } => Item { function: Function::Version, label: item.label.clone() },
                    _ => item.clone(),
                });
                Some(self.functions(&described.collect::<Vec<_>>())?.schema())
            }
            Command::Execute { name, .. } => {
                let prepared = self.session.statements.get(name).ok_or_else(|| no_statement(name))?;
                prepared.columns.clone()
            }
            Command::Fetch { name, show: true, .. } => self.session.portal(name)?.prepared.columns.clone(),
            _ => None,
        })
    }

    /// Transactions, settings, and what is accepted without effect. Returns the tag.
    fn housekeeping(&mut self, command: &Command) -> Result<&'static str, SqlError> {
        let open = self.session.transaction != Transaction::None;
        match command {
            Command::Begin { .. } if open => {
                self.warn(&SqlError::new("25001", "there is already a transaction in progress"))
            }
            Command::Begin { pinned } => {
                self.session.transaction = Transaction::Open;
                let default = || self.session.settings.get("default_transaction_isolation").is_some_and(is_pinning);
                self.session.context.at = pinned.unwrap_or_else(default).then(|| self.service.reader.pin());
            }
            Command::Isolate { pinned: false } if open => self.session.context.at = None,
            // A step that is kept already stays: statements before this one may have been answered at it.
            Command::Isolate { .. } if open => {
                self.session.context.at.get_or_insert_with(|| self.service.reader.pin());
            }
            Command::Isolate { .. } => {
                self.warn(&SqlError::new("25P01", "SET TRANSACTION can only be used in transaction blocks"));
            }
            Command::Commit | Command::Rollback => return Ok(self.end(command)),
            Command::Savepoint | Command::Release | Command::RollbackTo if !open => {
                return Err(SqlError::new("25P01", "savepoints can only be used in transaction blocks"));
            }
            Command::RollbackTo => self.session.transaction = Transaction::Open,
            Command::Set { name, value, scope } => self.set(name, value.clone(), *scope)?,
            Command::Become(Some(name)) if *name != self.session.context.user => return Err(nobody_else(name)),
            Command::ResetAll => self.reset(),
            Command::DiscardAll if open => {
                return Err(SqlError::new("25001", "DISCARD ALL cannot run inside a transaction block"));
            }
            Command::DiscardAll => {
                self.session.discard();
                self.reset();
            }
            Command::Deallocate(None) => self.session.statements.clear(),
            Command::Deallocate(Some(name)) => {
                self.session.statements.remove(name).ok_or_else(|| no_statement(name))?;
            }
            Command::Close(None) => self.session.portals.clear(),
            Command::Close(Some(name)) => {
                self.session.portal(name)?;
                self.session.portals.remove(name);
            }
            _ => {}
        }
        Ok(tag(command))
    }

    /// Ends the transaction. A COMMIT of a failed one is a ROLLBACK, and says so.
    fn end(&mut self, command: &Command) -> &'static str {
        let before = self.session.transaction;
        let changed = match (before, command) {
            (Transaction::Open, Command::Commit) => self.session.commit(),
            _ => self.session.roll_back(),
        };
        changed.iter().for_each(|status| self.send(status));
        match (before, command) {
            (Transaction::None, _) => {
                self.warn(&SqlError::new("25P01", "there is no transaction in progress"));
                tag(command)
            }
            (Transaction::Failed, _) => "ROLLBACK",
            (Transaction::Open, _) => tag(command),
        }
    }

    fn set(&mut self, name: &str, value: Option<String>, scope: Scope) -> Result<(), SqlError> {
        let key = name.to_lowercase();
        if key.starts_with("tidemill.") && !is_known(&key) {
            return Err(SqlError::new("55P02", format!("parameter \"{name}\" cannot be changed")));
        }
        let change = self.session.set(name, value, scope)?;
        if let Some(status) = change.status {
            self.send(&status);
        }
        if let Some(warning) = change.warning {
            self.warn(&warning);
        }
        Ok(())
    }

    fn reset(&mut self) {
        for status in self.session.reset() {
            self.send(&status);
        }
    }

    fn shown(&self, command: &Command) -> Result<RecordBatch, SqlError> {
        let Command::Show(name) = command else {
            let (names, values): (Vec<&str>, Vec<&str>) = self.session.settings.all().unzip();
            let columns: [(&str, ArrayRef); 2] =
                [("name", Arc::new(StringArray::from(names))), ("setting", Arc::new(StringArray::from(values)))];
            return batch(columns.map(|(name, array)| (name.to_owned(), array)).to_vec());
        };
        let value = self.setting(name)?;
        batch(vec![(super::settings::spelled(name).to_owned(), Arc::new(StringArray::from(vec![value])) as ArrayRef)])
    }

    fn setting(&self, name: &str) -> Result<String, SqlError> {
        match (name, &self.session.context.at) {
            ("tidemill.step", Some(pin)) => return Ok(pin.step.to_string()),
            ("tidemill.step", None) => return Ok(self.service.reader.pin().step.to_string()),
            ("transaction_isolation", Some(_)) => return Ok("repeatable read".to_owned()),
            // Of the next transaction, where none is open.
            ("transaction_isolation", None) if self.session.transaction == Transaction::None => {
                return self.setting("default_transaction_isolation");
            }
            _ => {}
        }
        self.session
            .settings
            .get(name)
            .map(str::to_owned)
            .ok_or_else(|| SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\"")))
    }

    /// The row of `SELECT version()` and its like.
    fn functions(&mut self, items: &[Item]) -> Result<RecordBatch, SqlError> {
        let columns = items.iter().map(|item| Ok((item.label.clone(), self.function(&item.function)?)));
        batch(columns.collect::<Result<_, SqlError>>()?)
    }

    fn function(&mut self, function: &Function) -> Result<ArrayRef, SqlError> {
        let text = |value: Option<String>| Ok(Arc::new(StringArray::from(vec![value])) as ArrayRef);
        match function {
            Function::Version => {
                let version = &self.service.site.version;
                text(Some(format!("PostgreSQL 16.0 (Tidemill {version}), a real-time warehouse")))
            }
            Function::Schema => {
                let own = self.session.context.search_path.first();
                text(Some(own.unwrap_or(&self.service.site.schema).clone()))
            }
            Function::Database => text(Some(self.session.context.database.clone())),
            Function::User => text(Some(self.session.context.user.clone())),
            Function::Pid => Ok(Arc::new(Int32Array::from(vec![self.session.context.pid]))),
            Function::InRecovery => Ok(Arc::new(BooleanArray::from(vec![false]))),
            Function::Setting { name, missing_ok } => match self.setting(name) {
                Err(_) if *missing_ok => text(None),
                value => text(Some(value?)),
            },
            Function::SetConfig { name, value, scope } => {
                // To the end of a transaction of this statement alone nothing else is asked.
                if *scope == Scope::Session || self.session.transaction != Transaction::None {
                    self.set(name, Some(value.clone()), *scope)?;
                }
                text(Some(value.clone()))
            }
        }
    }
}

pub(super) fn no_statement(name: &str) -> SqlError {
    SqlError::new("26000", format!("prepared statement \"{name}\" does not exist"))
}

/// Who somebody is was decided at the login.
fn nobody_else(name: &str) -> SqlError {
    SqlError::new("42501", format!("permission denied to set role \"{name}\""))
        .hint("A session is who has logged in: connect as the other user.")
}

fn tag(command: &Command) -> &'static str {
    match command {
        Command::Begin { .. } => "BEGIN",
        Command::Commit => "COMMIT",
        Command::Rollback | Command::RollbackTo => "ROLLBACK",
        Command::Savepoint => "SAVEPOINT",
        Command::Release => "RELEASE",
        Command::Set { value: None, .. } | Command::ResetAll => "RESET",
        Command::Set { .. } | Command::Isolate { .. } | Command::Become(_) => "SET",
        Command::DiscardAll => "DISCARD ALL",
        Command::Deallocate(None) => "DEALLOCATE ALL",
        Command::Deallocate(_) => "DEALLOCATE",
        Command::Close(None) => "CLOSE CURSOR ALL",
        Command::Close(_) => "CLOSE CURSOR",
        Command::Accepted(tag) => tag,
        _ => "OK",
    }
}

fn batch(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch, SqlError> {
    let fields = columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect())
        .map_err(|e| SqlError::internal(e.to_string()))
}

/// A batch's columns, ready to be written.
pub(super) fn columns(batch: &RecordBatch) -> Result<Vec<Column>, SqlError> {
    let schema = batch.schema();
    let column = |(array, field): (&ArrayRef, &FieldRef)| {
        let mut column = Column::new(array)?;
        let wire = super::types::column(field).0;
        column.form = match wire {
            Type::JSONB => Form::Jsonb,
            Type::UUID => Form::Uuid,
            Type::INT2_VECTOR | Type::OID_VECTOR => Form::Vector,
            ref array => parameter::element(array).map_or(Form::Plain, |element| Form::Array(element.oid())),
        };
        if let Cells::List(_, values) = &mut column.cells {
            match wire {
                Type::JSONB_ARRAY => values.form = Form::Jsonb,
                Type::UUID_ARRAY => values.form = Form::Uuid,
                _ => {}
            }
        }
        Ok(column)
    };
    batch.columns().iter().zip(schema.fields()).map(column).collect()
}

/// Writes a row: its kind, its length, the count of values, each behind its own length.
///
/// Written straight into the replies, since a message of its own per row would be copied twice.
fn data_row(out: &mut BytesMut, columns: &[Column], binary: &[bool], row: usize) -> Result<(), SqlError> {
    let too_large = || SqlError::new("54000", "a row is too large for the protocol");
    let start = out.len();
    out.put_u8(b'D');
    out.put_i32(0);
    out.put_i16(i16::try_from(columns.len()).map_err(|_| too_large())?);
    for (i, column) in columns.iter().enumerate() {
        length_prefixed(out, |out| {
            if column.is_null(row) {
                return false;
            }
            if binary.get(i).copied().unwrap_or(false) {
                column.binary(row, out)
            } else {
                column.text(row, out)
            }
            true
        });
    }
    let Ok(length) = i32::try_from(out.len() - start - 1) else {
        out.truncate(start);
        return Err(too_large());
    };
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}
