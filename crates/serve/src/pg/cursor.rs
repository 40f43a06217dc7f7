//! Cursors of SQL: DECLARE, FETCH, MOVE. They are portals with a name that a statement gave them.

use std::sync::Arc;

use arrow::array::Array as _;
use futures::StreamExt;

use super::connection::{Connection, Failure};
use super::session::{Portal, PortalState, Running, Transaction};
use crate::reader::{Param, SqlError};
use crate::sql::Command;
use crate::sql::command::{FetchRows, Inner};

/// Bytes of rows that a FETCH collects: it is known to succeed before its first row is sent.
const FETCHED_BYTES_MAX: usize = 64 << 20;

impl Connection {
    /// Makes a cursor; its rows are asked for at the first FETCH. Returns the tag.
    pub(super) async fn declare(
        &mut self,
        name: &str,
        hold: bool,
        query: &Inner,
        params: &[Param],
    ) -> Result<String, Failure> {
        if !hold && self.session.transaction == Transaction::None {
            return Err(SqlError::new("25P01", "DECLARE CURSOR can only be used in transaction blocks")
                .hint("Use BEGIN first, or DECLARE … CURSOR WITH HOLD.")
                .into());
        }
        if self.session.portals.contains_key(name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        self.room_for_portal()?;
        let prepared = Arc::new(self.prepare(&query.text, &[]).await.map_err(|failure| failure.within(query.offset))?);
        let bytes = prepared.bytes().saturating_add(Portal::bytes(params, &[]));
        let kept = self.session.keep(bytes, &self.service.kept)?;
        if prepared.command != Some(Command::Read) {
            return Err(SqlError::new("42601", "a cursor needs a query").into());
        }
        let portal = Portal {
            prepared,
            params: params.to_vec(),
            binary: Vec::new(),
            state: PortalState::New,
            hold,
            grants: self.grants(),
            _kept: kept,
        };
        self.session.portals.insert(name.to_owned(), portal);
        Ok("DECLARE CURSOR".to_owned())
    }

    /// The next rows of a cursor.
    pub(super) async fn fetch(&mut self, name: &str, rows: FetchRows) -> Result<Running, Failure> {
        let mut running = self.cursor(name).await?;
        let FetchRows::Count(count) = rows else { return Ok(running) };
        let schema = Arc::clone(&running.schema);
        let mut batches = Vec::new();
        let (mut left, mut bytes) = (count, 0_usize);
        while left > 0 {
            let Some(batch) = self.attend(running.next(left)).await? else { break };
            left -= batch.num_rows();
            let columns = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
            let columns = columns.sum::<Result<usize, _>>().map_err(|e| SqlError::internal(e.to_string()))?;
            bytes = bytes.saturating_add(columns);
            if bytes > FETCHED_BYTES_MAX {
                return Err(SqlError::new("54000", format!("{count} rows of cursor \"{name}\" are too many at once"))
                    .detail(format!("They have more than {FETCHED_BYTES_MAX} bytes."))
                    .hint("Fetch fewer rows at a time, or FETCH ALL, which sends them as they come.")
                    .into());
            }
            batches.push(Ok(batch));
        }
        self.keep(name, running);
        let stream = futures::stream::iter(batches).boxed();
        Ok(crate::reader::Answer { schema, stream, step: 0, warning: None }.into())
    }

    /// Passes over rows. Returns the tag.
    pub(super) async fn move_on(&mut self, name: &str, rows: FetchRows) -> Result<String, Failure> {
        let mut running = self.cursor(name).await?;
        let limit = match rows {
            FetchRows::Count(count) => count,
            FetchRows::All => usize::MAX,
        };
        let mut passed = 0;
        while passed < limit {
            let Some(batch) = self.attend(running.next(limit - passed)).await? else { break };
            passed += batch.num_rows();
        }
        self.keep(name, running);
        Ok(format!("MOVE {passed}"))
    }

    /// By which grants the client reads now.
    pub(super) fn grants(&self) -> u64 {
        self.service.reader.grants(&self.session.context.role)
    }

    /// Takes a cursor's rows out of it; what is not put back is finished.
    async fn cursor(&mut self, name: &str) -> Result<Running, Failure> {
        let now = self.grants();
        let portal = self.session.portal(name)?;
        portal.holds(name, now)?;
        let prepared = Arc::clone(&portal.prepared);
        let params = portal.params.clone();
        match std::mem::replace(&mut portal.state, PortalState::Finished) {
            PortalState::Running(running) => Ok(running),
            PortalState::New => self.ask(&prepared.sql, &params).await,
            PortalState::Finished => {
                let schema = prepared.columns.clone().ok_or_else(|| SqlError::new("55000", "a cursor without rows"))?;
                Ok(crate::reader::Answer { schema, stream: futures::stream::empty().boxed(), step: 0, warning: None }
                    .into())
            }
        }
    }

    fn keep(&mut self, name: &str, running: Running) {
        if let Some(portal) = self.session.portals.get_mut(name) {
            portal.state = PortalState::Running(running);
        }
    }
}
