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

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::source::{Check, Failure, Settings};

use super::kind::{failure_of, table_of};
use super::session::Sessions;
use super::{Destination, DestinationKind, Down, Place, Problem, Target, tables};
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

    /// Without a schema it is in the one that every database has.
    fn place(&self, settings: &Settings, to: &BTreeMap<String, Json>) -> Option<Place> {
        let Config { host, port, database, .. } = Config::read(settings).ok()?;
        let (schema, name) = table_of(to)?;
        let name = format!("{}.{name}", schema.unwrap_or("public"));
        Some(Place::of_server(&host, port, &database, "table", name))
    }

    async fn open(&self, settings: &Settings, target: Target) -> Result<Box<dyn Destination>, Failure> {
        if let Some(failure) = failure_of(self.check(&target)) {
            return Err(failure);
        }
        let config = Config::open(settings).await?;
        Ok(Sessions::of(config.address(), write::Delivery { config, target }))
    }

    async fn doctor(&self, settings: &Settings, targets: Vec<Target>) -> Vec<Check> {
        let client = async {
            let config = Config::open(settings).await.map_err(Down::lasting)?;
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
            let mut on_server = table::OnServer { client: &connected.client, target: &target, config: &config };
            let looked = match self.check(&target) {
                found if found.is_empty() => tables::look(&mut on_server, &target).await,
                found => Ok((found, Vec::new())),
            };
            checks.extend(tables::told(&target, looked));
        }
        checks
    }
}
