//! Canal's flat messages: several rows to a message, with all values as texts.
//!
//! ```text
//! {"data":[{"id":"1","name":"a"}],"database":"shop","table":"t","type":"UPDATE","old":[{"name":"b"}],"isDdl":false,"es":…,"ts":…}
//! ```
//!
//! Bytes are the characters of their numbers. Times have the zone of Canal's own session.

use super::super::declared::Topical;
use super::super::json::Json;
use super::super::logical::Fields;
use super::{Members, Read, Told, gone, is_of, of_table, poison, update};

pub(super) fn read(table: &Topical, value: Option<&Json<'_>>) -> Read {
    let Some(json) = value else { return poison("The message has no value, as none of Canal's is.") };
    if !json.is_object() {
        return poison("The message is no object, as Canal's are.");
    }
    let text = |name: &str| json.get(name).and_then(Json::text);
    let (Some(kind), Some(database)) = (text("type"), text("database")) else {
        return poison("The message has no `type` and `database`, as Canal's have.");
    };
    if !is_of(table, Some(database), text("table")) {
        return Read::Elsewhere;
    }
    of_table(rows(table, kind, json))
}

fn rows(table: &Topical, kind: &str, json: &Json<'_>) -> Read {
    let is_ddl = json.get("isDdl") == Some(&Json::Bool(true));
    match kind {
        "INSERT" | "UPDATE" | "DELETE" if !is_ddl => {}
        "TRUNCATE" => return Read::Told(vec![Told::Emptied]),
        _ if is_ddl => return Read::Elsewhere,
        // Statements that were logged as text, and what they were.
        "QUERY" | "CREATE" | "ALTER" | "ERASE" | "RENAME" | "CINDEX" | "DINDEX" => return Read::Elsewhere,
        other => {
            return Read::Poison(format!(
                "The message is of the unknown type `{}`.",
                super::super::value::shown(other)
            ));
        }
    }
    let Some(data) = json.get("data").and_then(Json::items) else { return poison("The message has no `data`.") };
    let old = json.get("old").and_then(Json::items).unwrap_or_default();
    let fields = Fields::new();
    let mut told = Vec::new();
    for (at, row) in data.iter().enumerate() {
        match (kind, old.get(at).filter(|old| old.is_object())) {
            ("DELETE", _) => told.push(gone(table, Members::alone(row), &fields)),
            ("UPDATE", Some(of)) => {
                update(table, Some(Members { of, or: Some(row) }), Members::alone(row), &fields, &mut told);
            }
            _ => update(table, None, Members::alone(row), &fields, &mut told),
        }
    }
    Read::Told(told)
}
