//! The kinds of sources that a connection may be of, and a project's connection as the settings of one.
//!
//! Nothing else matches on what a connection is: whoever needs a source opens it ([`open`]) and asks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use connect::{Failure, Settings, Source, SourceKind};
use project::{Connection, ConnectionKind, ShopProfile, SimulatedShop, Start, Tls};
use serde_json::{Value as Json, json};

/// Kinds that need more than `connect` may know.
static OWN: &[&dyn SourceKind] = &[&crate::demo::SimulatorKind];

/// All kinds.
pub fn kinds() -> impl Iterator<Item = &'static dyn SourceKind> {
    connect::source::KINDS.iter().chain(OWN).copied()
}

/// The kind of a connection. Errors: there is none of its type.
pub fn kind(connection: &Connection) -> anyhow::Result<&'static dyn SourceKind> {
    let wanted = type_of(connection);
    match kinds().find(|kind| kind.is_of(wanted)) {
        Some(kind) => Ok(kind),
        None => {
            let known: Vec<&str> = kinds().flat_map(|kind| kind.types()).copied().collect();
            bail!(
                "connection \"{}\" is of the type `{wanted}`, from which nothing can be read yet\nHint: One of: {}.",
                connection.name,
                known.join(", ")
            )
        }
    }
}

/// The source at a connection, which is not reached for yet. Errors: settings that its kind refuses, a secret that cannot
/// be read.
pub async fn open(connection: &Connection) -> anyhow::Result<Arc<dyn Source>> {
    let opened = kind(connection)?.open(&settings(connection)).await;
    opened.map_err(|failure| anyhow::anyhow!(said(&failure)))
}

/// A failure in one text.
pub fn said(failure: &Failure) -> String {
    let mut text = failure.message.clone();
    for (label, part) in [("Detail", &failure.detail), ("Hint", &failure.hint)] {
        if !part.is_empty() {
            text.push_str(&format!("\n{label}: {part}"));
        }
    }
    text
}

/// The `type:` of a connection.
pub fn type_of(connection: &Connection) -> &str {
    match &connection.kind {
        ConnectionKind::Mysql { .. } => "mysql",
        ConnectionKind::Simulator { .. } => "simulator",
        ConnectionKind::Other { kind, .. } => kind,
    }
}

/// What the project understood of a connection, in the words in which it was written.
fn settings(connection: &Connection) -> Settings {
    let values = match &connection.kind {
        ConnectionKind::Mysql { host, port, user, password, database, tls, tls_ca, server_public_key, start } => {
            object([
                ("host", json!(host)),
                ("port", json!(port)),
                ("user", json!(user)),
                ("password", password.as_ref().map_or(Json::Null, secret)),
                ("database", json!(database)),
                ("tls", json!(tls_word(*tls))),
                ("tls_ca", json!(tls_ca)),
                ("server_public_key", json!(server_public_key)),
                ("start", start_of(start)),
            ])
        }
        ConnectionKind::Simulator { shop, .. } => shop_of(shop),
        ConnectionKind::Other { settings, .. } => settings.clone(),
    };
    Settings { connection: connection.name.clone(), kind: type_of(connection).to_owned(), values }
}

fn object<const N: usize>(pairs: [(&str, Json); N]) -> BTreeMap<String, Json> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn secret(secret: &project::Secret) -> Json {
    match secret {
        project::Secret::Literal(text) => json!(text),
        project::Secret::Env(name) => json!({ "env": name }),
        project::Secret::File(path) => json!({ "file": path }),
        project::Secret::Command(command) => json!({ "command": command }),
    }
}

fn tls_word(tls: Tls) -> &'static str {
    match tls {
        Tls::Disabled => "disabled",
        Tls::Preferred => "preferred",
        Tls::Required => "required",
        Tls::Verify => "verify",
    }
}

fn start_of(start: &Start) -> Json {
    match start {
        Start::Snapshot => json!("snapshot"),
        Start::Now => json!("now"),
        Start::Since(time) => json!({ "since": time }),
        Start::Binlog { file, position } => json!({ "binlog": [file, position] }),
        Start::Gtid(set) => json!({ "gtid": set }),
    }
}

fn shop_of(shop: &SimulatedShop) -> BTreeMap<String, Json> {
    let profile = match shop.profile {
        ShopProfile::Standard => "standard",
        ShopProfile::Large => "large",
    };
    object([
        ("profile", json!(profile)),
        ("seed", json!(shop.seed)),
        ("users", json!(shop.users)),
        ("orders_per_day", json!(shop.orders_per_day)),
        ("events_per_user", json!(shop.events_per_user)),
        ("new_user_share", json!(shop.new_user_share)),
        ("speed", json!(shop.speed)),
        ("history_orders", json!(shop.history_orders)),
    ])
}
