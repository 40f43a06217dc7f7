//! Bootstraps beside the log: one at a time, some of its rows between what the log brings.

use std::sync::Arc;

use super::super::bootstrap::{Bootstrap, Portion, Request, Writing};
use super::super::changed;
use super::super::follow::disk;
use super::tables::described;
use super::{ANSWER, BATCH_BYTES, Halt, Runner};
use crate::source::mysql::log::{Assembler, Met, Refused, WireError, connect_again};

impl Runner {
    /// Has some rows of a bootstrap come out, if one was asked for. Answers whether there are more at once.
    pub(super) async fn bootstrap(&mut self, met: &Met) -> Result<bool, Halt> {
        self.note_requests()?;
        let is_proven = self.assembler.as_ref().is_some_and(Assembler::is_proven);
        // Where there is an end to read up to, what was asked for on the way comes behind it.
        let is_time = self.target.is_none() || self.is_at_end();
        if self.active.is_none() && is_time && (is_proven || self.target.is_some()) {
            let Some(request) = self.requests.waiting.front().cloned() else { return Ok(false) };
            // It waits on where the connection is lost meanwhile.
            self.begin_bootstrap(met, request).await?;
            self.requests.waiting.pop_front();
        }
        let config = Arc::clone(&self.config);
        let wants_connection = |active: &Bootstrap| active.is_of_table() && active.wants_connection();
        let wire = match self.active.as_ref().is_some_and(wants_connection) {
            false => None,
            true => Some(self.answered(ANSWER, connect_again(&config, met)).await?),
        };
        let (Some(mut active), Some(touched)) = (self.active.take(), self.follower.touched.take()) else {
            return Ok(false);
        };
        let is_full = touched.is_full();
        let (settings, output, number) = self.follower.output();
        let writer = Writing { options: &settings.options, routing: settings.routing.as_ref(), number };
        let portion = match active.is_of_table() {
            false => Ok(Portion::Done),
            true => {
                let portion = active.portion(wire, &touched, &writer, output);
                tokio::select! {
                    biased;
                    portion = portion => portion,
                    () = changed(&mut self.stopped) => return Err(Halt::Done),
                }
            }
        };
        let table = format!("{}.{}", active.request.database, active.request.table);
        let given_up = match &portion {
            _ if is_full => {
                Some("too many of its rows change meanwhile; ask for parts of it, by where_clause".to_owned())
            }
            Err(error) if !is_passing(error, &table, &self.config.user) => Some(error.to_string()),
            _ => None,
        };
        match portion {
            Ok(Portion::More | Portion::Wait) if given_up.is_none() => {
                let is_more = matches!(portion, Ok(Portion::More));
                self.follower.touched = Some(touched);
                self.active = Some(active);
                if self.follower.waiting() >= BATCH_BYTES {
                    self.hand_on().await?;
                }
                return Ok(is_more);
            }
            Err(error) if given_up.is_none() => {
                self.teller.warn(&format!("the bootstrap of {table} was cut off, and begins anew: {error}"));
                active.begin_anew();
                self.follower.touched = Some(touched);
                self.active = Some(active);
                return Ok(false);
            }
            _ => {}
        }
        match &given_up {
            Some(reason) => self.teller.warn(&format!("the bootstrap of {table} was given up: {reason}")),
            None => {
                active.mark("bootstrap-complete", &writer, output);
                self.teller.tell(&format!("{table} was bootstrapped: {} rows", active.rows));
            }
        }
        let folder = settings.folder.clone();
        let sql = active.done_sql(&settings.own_database);
        // Another one may have its number, where their table is emptied.
        self.requests.end(&active.request);
        self.follower.count(active.rows + 2);
        self.follower.settle(active.request.path(&folder));
        self.hand_on().await?;
        if given_up.is_some() {
            return Ok(true);
        }
        // Who waits for it there may be told; whether we may write there is another question.
        let told = async {
            let mut wire = connect_again(&config, met).await?;
            wire.execute(&sql).await?;
            wire.close().await;
            Ok(())
        };
        if let Err(Halt::Wire(error)) = self.answered(ANSWER, told).await {
            tracing::debug!(%error, "the request is not marked as done");
        }
        Ok(true)
    }

    async fn begin_bootstrap(&mut self, met: &Met, request: Request) -> Result<(), Halt> {
        let (config, same) = (Arc::clone(&self.config), met.clone());
        let (database, name) = (request.database.clone(), request.table.clone());
        let table = self
            .answered(ANSWER, async move {
                let mut wire = connect_again(&config, &same).await?;
                let table = described(&mut wire, &database, &name).await?;
                wire.close().await;
                Ok(table)
            })
            .await?;
        let place = format!("{}.{}", request.database, request.table);
        if table.is_none() {
            self.teller
                .warn(&format!("{place} is to be bootstrapped, and there is no such table, or it may not be read"));
        }
        let (settings, output, number) = self.follower.output();
        let path = request.path(&settings.folder);
        match Bootstrap::new(request, table, &settings.options) {
            Ok(active) => {
                let writer = Writing { options: &settings.options, routing: settings.routing.as_ref(), number };
                active.mark("bootstrap-start", &writer, output);
                self.follower.touched = Some(active.touched());
                self.active = Some(active);
            }
            Err(reason) => {
                self.teller.warn(&format!("{place} cannot be bootstrapped: {reason}"));
                self.follower.settle(path);
            }
        }
        Ok(())
    }

    /// Requests are kept before the position passes them.
    pub(super) fn note_requests(&mut self) -> Result<(), Halt> {
        for request in self.follower.requests() {
            if self.sees_bootstraps {
                let folder = &self.follower.settings().folder;
                request.keep(folder).map_err(|error| disk(&error, folder))?;
                self.requests.add(request);
            }
        }
        Ok(())
    }
}

/// Whether a query that was broken off may get to its end at the next try.
fn is_passing(error: &WireError, table: &str, user: &str) -> bool {
    match error {
        WireError::Server(error) => matches!(Refused::of(error, table, user), Refused::ForNow),
        WireError::Protocol(_) => false,
        _ => true,
    }
}
