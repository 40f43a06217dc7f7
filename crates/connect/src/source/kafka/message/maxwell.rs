//! Maxwell's JSON: a row to a message, many tables to a topic.
//!
//! ```text
//! {"database":"shop","table":"orders","type":"update","ts":1700000000,"xid":7,"commit":true,"data":{…},"old":{…}}
//! ```
//!
//! `old` has the columns that changed, with their earlier values: a key that changed leaves its old one there, and nowhere else.
//! Rows of a bootstrap are rows like others. Times have no zone and are UTC's.

use std::borrow::Cow;

use super::super::declared::Topical;
use super::super::json::Json;
use super::super::logical::Fields;
use super::{Members, Read, gone, is_of, of_table, poison, update};

pub(super) fn read(table: &Topical, key: Option<&Json<'_>>, value: Option<&Json<'_>>) -> Read {
    let Some(json) = value else { return tombstone(table, key) };
    if !json.is_object() {
        return poison("The message is no object, as Maxwell's are.");
    }
    let text = |name: &str| json.get(name).and_then(Json::text);
    let kind = text("type").unwrap_or_default();
    if kind.starts_with("database-") || kind.starts_with("table-") {
        // What a statement did to columns is known of these as they are declared.
        return Read::Elsewhere;
    }
    let (database, name) = (text("database"), text("table"));
    if database.is_none() || name.is_none() {
        return poison(match json.get("encrypted") {
            Some(_) => "The message is encrypted.",
            None => "The message names no database and table, as Maxwell's do.",
        });
    }
    if !is_of(table, database, name) {
        return Read::Elsewhere;
    }
    of_table(row_of(table, kind, json))
}

fn row_of(table: &Topical, kind: &str, json: &Json<'_>) -> Read {
    if matches!(kind, "bootstrap-start" | "bootstrap-complete" | "heartbeat") {
        return Read::Elsewhere;
    }
    let Some(data) = json.get("data").filter(|data| data.is_object()) else {
        return poison(match json.get("encrypted") {
            Some(_) => "The row is encrypted.",
            None => "The message has no `data`.",
        });
    };
    let fields = Fields::new();
    let mut told = Vec::new();
    match kind {
        "insert" | "bootstrap-insert" => update(table, None, Members::alone(data), &fields, &mut told),
        "update" => {
            let old = json.get("old").filter(|old| old.is_object());
            let before = old.map(|of| Members { of, or: Some(data) });
            update(table, before, Members::alone(data), &fields, &mut told);
        }
        "delete" => told.push(gone(table, Members::alone(data), &fields)),
        other => {
            return Read::Poison(format!(
                "The message is of the unknown type `{}`.",
                super::super::value::shown(other)
            ));
        }
    }
    Read::Told(told)
}

/// A key without a row: `{"database":"shop","table":"orders","pk.id":1}`, or `["shop","orders",[{"id":1}]]`.
fn tombstone(table: &Topical, key: Option<&Json<'_>>) -> Read {
    const NO_KEY: &str = "The message has neither a value nor a key as Maxwell writes it.";
    let mut members: Vec<(Cow<'_, str>, Json<'_>)> = Vec::new();
    match key {
        Some(key @ Json::Object(pairs, _)) => {
            let text = |name: &str| key.get(name).and_then(Json::text);
            if text("database").is_none() || text("table").is_none() {
                return poison(NO_KEY);
            }
            if !is_of(table, text("database"), text("table")) {
                return Read::Elsewhere;
            }
            for (name, value) in pairs {
                if let Some(column) = name.strip_prefix("pk.").and_then(|name| column(table, name)) {
                    members.push((column, value.clone()));
                }
            }
        }
        Some(Json::Array(items, _)) => {
            let [database, name, columns] = &items[..] else { return poison(NO_KEY) };
            if !is_of(table, database.text(), name.text()) {
                return Read::Elsewhere;
            }
            for object in columns.items().unwrap_or_default() {
                let Json::Object(pairs, _) = object else { continue };
                for (name, value) in pairs {
                    members.extend(column(table, name).map(|column| (column, value.clone())));
                }
            }
        }
        _ => return poison(NO_KEY),
    }
    Read::Told(vec![gone(table, Members::alone(&Json::Object(members, "")), &Fields::new())])
}

/// The key's column of a name, which is written in small letters there.
fn column<'t>(table: &'t Topical, name: &str) -> Option<Cow<'t, str>> {
    let mut key = table.schema.key.iter().map(|&at| table.schema.columns[at].name.as_str());
    key.find(|column| column.to_lowercase() == name.to_lowercase()).map(Cow::Borrowed)
}
