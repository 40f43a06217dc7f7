//! Redis: rows become hashes, JSON documents, members of sets or of sorted sets, under keys made of what identifies them.
//!
//! ```text
//! EVALSHA apply 1 marker token  REPLACE k f v … | REMOVE k | PEXPIRE … | SREM …      some hundred commands, many in flight
//! EVALSHA mark  1 marker token  marker …                                        when all were answered
//! ```
//!
//! A marker, the hash `_tidemill_deliveries:SYNC`, holds the token of the session that delivers and the last portion that is whole.
//! Every script looks for its token first, in the same breath as it writes: a connection of before, whose commands are still on
//! their way, changes nothing any more, and a Redis that was emptied meanwhile is found out. A portion that was cut off is sent again; its commands set values and do not add to
//! them, so that they have the effect of once.
//!
//! A hash is made anew with each change of its row, so that it has the fields of the sync as it is and no others: its key is the
//! sync's alone.
//!
//! A Redis that is started empty, or a replica that took over and lags behind, has no marker or an older one: then everything is
//! sent again ([`super::Begun::lost`]). Keys that Redis itself lets go of, by `expire` or by its `maxmemory-policy`, are not
//! missed; doctor says so.
//!
//! All commands of a script go to one server: a Redis Cluster is refused.

mod config;
mod form;
mod wire;
mod write;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::source::{Check, Failure, Settings};

use super::kind::{failure_of, told_of};
use super::session::Sessions;
use super::{Destination, DestinationKind, Down, Place, Problem, Target};
use config::Config;
use form::Form;

/// Connections of the type `redis`.
#[derive(Debug, Clone, Copy)]
pub struct Kind;

#[async_trait]
impl DestinationKind for Kind {
    fn types(&self) -> &'static [&'static str] {
        &["redis"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &form::KEYS
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), Failure> {
        Config::read(settings).map(|_| ())
    }

    fn check(&self, target: &Target) -> Vec<Problem> {
        let mut found = target.problems(&form::KEYS, &[]);
        if found.is_empty() {
            found.extend(Form::of(target).err().unwrap_or_default());
        }
        found
    }

    /// A pattern of keys, and of members, whatever the columns in it are called.
    fn place(&self, settings: &Settings, to: &BTreeMap<String, Json>) -> Option<Place> {
        let Config { host, port, database, .. } = Config::read(settings).ok()?;
        let text = |key: &str| to.get(key).and_then(Json::as_str);
        let parts: Vec<String> = text("key").into_iter().chain(text("member")).map(form::pattern).collect();
        let name = text("key").map(|_| parts.join(" "))?;
        Some(Place::of_server(&host, port, &database.to_string(), "key", name))
    }

    fn seals(&self, _: &BTreeMap<String, Json>) -> bool {
        false
    }

    async fn open(&self, settings: &Settings, target: Target) -> Result<Box<dyn Destination>, Failure> {
        let form = match failure_of(self.check(&target)) {
            Some(failure) => return Err(failure),
            None => Form::of(&target).map_err(|problems| {
                let none = || Problem::new(super::At::Sync, "the sync cannot be understood").failure();
                failure_of(problems).unwrap_or_else(none)
            })?,
        };
        let config = Config::open(settings).await?;
        Ok(Sessions::of(config.address(), write::Delivery { config, target, form }))
    }

    async fn doctor(&self, settings: &Settings, targets: Vec<Target>) -> Vec<Check> {
        let asked = async {
            let config = Config::open(settings).await.map_err(Down::lasting)?;
            let mut wire = write::connect(&config).await?;
            let policy = write::policy(&mut wire).await;
            Ok::<_, Down>((config, policy))
        };
        let (config, policy) = match Box::pin(asked).await {
            Ok(asked) => asked,
            Err(Down { failure, .. }) => {
                return vec![Check::failed("connection", failure.message, failure.detail, failure.hint)];
            }
        };
        let mut checks = vec![Check::ok("connection", format!("{} lets us in", config.address()))];
        if let Some(policy) = policy.filter(|policy| policy.starts_with("allkeys")) {
            checks.push(Check::warning(
                "maxmemory_policy",
                format!("{} lets go of any key when its memory is full ({policy})", config.address()),
                "A row that is let go of comes back when it changes; without the marker everything is sent again.",
                "CONFIG SET maxmemory-policy noeviction",
            ));
        }
        for target in targets {
            checks.push(told_of(&target, "keys", "", failure_of(self.check(&target))));
        }
        checks
    }
}
