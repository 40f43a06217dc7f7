//! PostgreSQL: rows are upserted into a table by its unique key, exactly once.
//!
//! ```text
//! BEGIN; UPDATE _tidemill_deliveries … WHERE session = ours;      the fence
//! SAVEPOINT; DELETE … USING unnest($1, …); INSERT … SELECT … FROM unnest($1, …) ON CONFLICT … DO UPDATE;
//! UPDATE _tidemill_deliveries …; COMMIT                           the portion's marker
//! ```
//!
//! Values travel as one array of texts per column, which the server reads as the column's own type: so any type can be delivered to
//! that reads the text (enums, uuid, inet), a statement is the same for any number of rows, and what does not fit is told in the
//! server's words. What it would take silently and change, as digits beyond a scale, is refused before ([`table`]).
//!
//! All statements of a portion but COMMIT are sent without waiting for answers. Where rows are refused, the savepoint is gone back
//! to and halves are tried ([`super::bisect`]).

mod client;
mod config;
mod table;
mod write;

use async_trait::async_trait;

use crate::source::{Check, Failure, Settings};

use super::kind::{failure_of, told_of};
use super::link::PORTION_PATIENCE;
use super::{Begun, Destination, DestinationKind, Down, Outcome, Portion, Problem, Seal, Target};
use config::Config;

/// Connections of the type `postgres`.
#[derive(Debug, Clone, Copy)]
pub struct Kind;

#[async_trait]
impl DestinationKind for Kind {
    fn types(&self) -> &'static [&'static str] {
        &["postgres"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["table", "create"]
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), Failure> {
        Config::read(settings).map(|_| ())
    }

    fn check(&self, target: &Target) -> Vec<Problem> {
        let mut found = target.problems(&["table"], &["create"]);
        if found.is_empty() {
            found.extend(target.table().err());
        }
        found.extend(target.unfit_keys());
        found
    }

    async fn open(&self, settings: &Settings, target: Target) -> Result<Box<dyn Destination>, Failure> {
        if let Some(failure) = failure_of(self.check(&target)) {
            return Err(failure);
        }
        let config = Config::open(settings).await?;
        Ok(Box::new(Postgres { config, target, session: None }))
    }

    async fn doctor(&self, settings: &Settings, targets: Vec<Target>) -> Vec<Check> {
        let client = async {
            let config = Config::open(settings).await.map_err(|failure| Down { failure, is_ours: true })?;
            let connected = client::connect(&config).await?;
            Ok::<_, Down>((config, connected))
        };
        let (config, connected) = match client.await {
            Ok(connected) => connected,
            Err(Down { failure, .. }) => {
                return vec![Check::failed("connection", failure.message, failure.detail, failure.hint)];
            }
        };
        let mut checks = vec![Check::ok("connection", format!("{} lets us in", config.address()))];
        for target in targets {
            let (problems, notes) = match failure_of(self.check(&target)) {
                Some(failure) => (Some(failure), Vec::new()),
                None => match table::look(&connected.client, &target, &config).await {
                    Ok((problems, notes)) => (failure_of(problems), notes),
                    Err(down) => (Some(down.failure), Vec::new()),
                },
            };
            let whereto = format!(" to \"{}\"", target.text("table").unwrap_or_default());
            checks.push(told_of(&target, "table", &whereto, problems));
            checks.extend(notes);
        }
        checks
    }
}

/// One sync's table.
struct Postgres {
    config: Config,
    target: Target,
    session: Option<write::Session>,
}

#[async_trait]
impl Destination for Postgres {
    async fn begin(&mut self, rows: u64) -> Result<Begun, Down> {
        self.session = None;
        let (session, begun) = Box::pin(write::begin(&self.config, &self.target, rows)).await?;
        self.session = Some(session);
        Ok(begun)
    }

    async fn deliver(&mut self, portion: &Portion, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
        // It comes back only when all went well: whatever else happens ends the connection, and its transaction with it.
        let Some(session) = self.session.take() else {
            return Err(Down::passing("the delivery has not begun", "A connection was lost."));
        };
        let work = Box::pin(write::deliver(&session, &self.config, &self.target, portion, seal));
        let outcomes = match tokio::time::timeout(PORTION_PATIENCE, work).await {
            Ok(outcomes) => outcomes?,
            Err(_) => {
                let seconds = PORTION_PATIENCE.as_secs();
                return Err(Down::passing(format!("no sign of life of {} for {seconds} s", self.config.address()), ""));
            }
        };
        self.session = Some(session);
        Ok(outcomes)
    }

    async fn close(self: Box<Self>) {
        if let Some(session) = self.session {
            session.connected.close().await;
        }
    }
}
