//! MySQL and MariaDB: rows are upserted into a table by its unique key, exactly once.
//!
//! ```text
//! BEGIN; SELECT … FROM _tidemill_deliveries … FOR UPDATE;      the fence
//! DELETE … WHERE key IN (…); INSERT … VALUES (…), (…) ON DUPLICATE KEY UPDATE …;
//! UPDATE _tidemill_deliveries …; COMMIT                        the portion's marker
//! ```
//!
//! Statements carry values as literals, some hundred rows each, over the connection that the source speaks too. The session is
//! strict, so that what a column cannot hold is an error and no other value; what even a strict one changes silently, as digits
//! beyond a scale, is refused before (`table`).
//!
//! `ON DUPLICATE KEY UPDATE` takes the row of any unique key that is in the way. So there may be none but the one that rows are
//! found by, and such as the server fills itself: else a row would be written over another one.

mod table;
mod write;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::source::mysql::MysqlConfig;
use crate::source::mysql::client::{self, ServerError, WireError};
use crate::source::{Check, Failure, Settings};

use super::kind::{SOME_TABLE, failure_of, table_of};
use super::session::Sessions;
use super::{At, Destination, DestinationKind, Down, Place, Problem, Refusal, Target, tables};

/// Connections of the types `mysql` and `mariadb`.
#[derive(Debug, Clone, Copy)]
pub struct Kind;

#[async_trait]
impl DestinationKind for Kind {
    fn types(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["table", "create"]
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), Failure> {
        settings.secret("password")?;
        client::config(settings).map(|_| ())
    }

    fn check(&self, target: &Target) -> Vec<Problem> {
        let mut found = target.problems(&["table"], &["create"]);
        if found.is_empty() {
            found.extend(target.table().err());
        }
        found.extend(target.unfit_keys());
        for field in target.mapping.fields() {
            if let Err(reason) = table::made(field.data_type) {
                found.push(Problem::new(At::Field(field.target.clone()), format!("`{}`: {reason}", field.column)));
            }
        }
        found
    }

    fn place(&self, settings: &Settings, to: &BTreeMap<String, Json>) -> Option<Place> {
        let config = client::config(settings).ok()?;
        let (database, name) = table_of(to)?;
        let database = database.unwrap_or(&config.database);
        let name = (!database.is_empty()).then(|| format!("{database}.{name}"))?;
        Some(Place::of_server(&config.host, config.port, "", "table", name))
    }

    async fn open(&self, settings: &Settings, target: Target) -> Result<Box<dyn Destination>, Failure> {
        if let Some(failure) = failure_of(self.check(&target)) {
            return Err(failure);
        }
        let config = config(settings).await?;
        Ok(Sessions::of(config.address(), write::Delivery { config, target }))
    }

    async fn doctor(&self, settings: &Settings, targets: Vec<Target>) -> Vec<Check> {
        let connected = async {
            let config = config(settings).await.map_err(Down::lasting)?;
            let wire = write::connect(&config).await?;
            Ok::<_, Down>((config, wire))
        };
        let (config, mut wire) = match Box::pin(connected).await {
            Ok(connected) => connected,
            Err(Down { failure, .. }) => {
                return vec![Check::failed("connection", failure.message, failure.detail, failure.hint)];
            }
        };
        let mut checks = vec![Check::ok("connection", format!("{} lets us in", config.address()))];
        for target in targets {
            let looked = match self.check(&target) {
                found if found.is_empty() => look(&mut wire, &target, &config).await,
                found => Ok((found, Vec::new())),
            };
            checks.extend(tables::told(&target, looked));
        }
        wire.close().await;
        checks
    }
}

async fn config(settings: &Settings) -> Result<MysqlConfig, Failure> {
    let mut config = client::config(settings)?;
    if let Some(secret) = settings.secret("password")? {
        config.password = Some(secret.resolve().await?);
    }
    Ok(config)
}

async fn look(
    wire: &mut client::Wire,
    target: &Target,
    config: &MysqlConfig,
) -> Result<(Vec<Problem>, Vec<Check>), Down> {
    let place = table::Place::of(target, config)?;
    tables::look(&mut table::OnServer { wire, target, place: &place, config }, target).await
}

/// What a statement with rows in it came to.
#[derive(Debug)]
enum Fault {
    /// It is of one of the rows.
    Row(Refusal),
    Down(Down),
}

/// Values that a column cannot hold, constraints, and what triggers raise.
const OF_ROWS: [u16; 36] = [
    1048, 1062, 1118, 1138, 1216, 1217, 1263, 1264, 1265, 1292, 1300, 1301, 1364, 1365, 1366, 1367, 1406, 1411, 1416,
    1441, 1451, 1452, 1525, 1526, 1557, 1586, 1644, 1690, 1761, 1762, 3140, 3141, 3156, 3819, 3988, 4025,
];

fn fault(error: &WireError, config: &MysqlConfig) -> Fault {
    match error {
        WireError::Server(ServerError { code, message }) if OF_ROWS.contains(code) => {
            Fault::Row(Refusal::new(code.to_string(), message))
        }
        error => Fault::Down(down(error, config)),
    }
}

/// Why nothing goes on.
fn down(error: &WireError, config: &MysqlConfig) -> Down {
    const NO_RIGHT: [u16; 4] = [1142, 1143, 1227, 1370];
    const READ_ONLY: [u16; 3] = [1290, 1792, 1836];
    const LOCKED: [u16; 2] = [1205, 1213];
    const ANOTHER_TABLE: [u16; 5] = [1054, 1136, 1146, 1051, 1109];
    let address = config.address();
    let detail = client::told(error, &address);
    match error.code() {
        Some(code) if NO_RIGHT.contains(&code) => {
            let makes = ["CREATE command", "ALTER command"].iter().any(|what| detail.contains(what));
            let rights = if makes { ", CREATE, ALTER" } else { "" };
            let hint = format!("GRANT SELECT, INSERT, UPDATE, DELETE{rights}{SOME_TABLE}'{}'@'%'", config.user);
            Down::ours(format!("user \"{}\" lacks a privilege", config.user), detail, hint)
        }
        Some(client::NO_DATABASE) if !config.database.is_empty() => Down::ours(
            format!("user \"{}\" may not enter database \"{}\"", config.user, config.database),
            detail,
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER ON {}.* TO '{}'@'%'",
                table::quoted(&config.database),
                config.user
            ),
        ),
        Some(code) if READ_ONLY.contains(&code) => {
            Down::passing(format!("{address} takes no writes: it is read-only"), detail)
        }
        Some(code) if LOCKED.contains(&code) => Down::passing("another session holds what is to be written", detail),
        Some(code) if ANOTHER_TABLE.contains(&code) => Down::passing("the table is not as it was", detail),
        Some(_) | None => match client::failure(error, config) {
            Some(failure) => Down::lasting(failure),
            None if error.code().is_some() => Down::passing(format!("{address} takes no writes for now"), detail),
            None => Down::passing(format!("lost the connection to {address}"), detail),
        },
    }
}

/// Why there is no connection.
fn unreachable(error: &WireError, config: &MysqlConfig) -> Down {
    let mut down = down(error, config);
    if error.code().is_none() && !down.is_ours {
        down.failure.message = format!("cannot reach {}", config.address());
        down.failure.hint = "Check host and port of the connection, and that the server runs.".to_owned();
    }
    down
}
