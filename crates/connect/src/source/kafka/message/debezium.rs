//! Debezium's envelopes, with their schema or without.
//!
//! ```text
//! {"before":{…},"after":{…},"source":{"db":"shop","table":"orders",…},"op":"u","ts_ms":1700000000000}
//! {"schema":{…},"payload":{"before":…,"after":…,…}}
//! ```
//!
//! `op` is c (created), r (read by a snapshot), u (updated), d (deleted) or t (truncated). A key that changes comes as a deletion, a
//! tombstone and a creation.

use std::sync::Arc;

use super::super::declared::Topical;
use super::super::json::Json;
use super::super::logical::{self, Fields};
use super::{Key, Members, Read, Schemas, Told, gone, gone_by_key, is_of, of_table, poison, update};

/// `beside` is what a registry's schema says of the rows' fields.
pub(super) fn read(
    table: &Topical,
    key: &Key<'_>,
    value: Option<&Json<'_>>,
    beside: Option<&Arc<Fields>>,
    schemas: &mut Schemas,
) -> Read {
    let Some(json) = value else { return tombstone(table, key, schemas) };
    let (json, fields) = schemas.opened(json, beside, logical::fields_of_rows);
    if json.is_null() {
        return tombstone(table, key, schemas);
    }
    if !json.is_object() {
        return poison("The message is no object, as Debezium's are.");
    }
    let Some(op) = json.get("op").and_then(Json::text) else {
        return poison(
            "The message has no `op`. Rows alone, as Debezium's flattened messages are, are of the format `json`.",
        );
    };
    let source = json.get("source");
    let said = |name: &str| source.and_then(|source| source.get(name)).and_then(Json::text);
    if !(is_of(table, said("db"), said("table")) || is_of(table, said("schema"), said("table"))) {
        return Read::Elsewhere;
    }
    let part = |name: &str| json.get(name).filter(|row| row.is_object());
    of_table(rows(table, (op, part("before"), part("after")), key, &fields, schemas))
}

fn rows(
    table: &Topical,
    (op, before, after): (&str, Option<&Json<'_>>, Option<&Json<'_>>),
    key: &Key<'_>,
    fields: &Fields,
    schemas: &mut Schemas,
) -> Read {
    let mut told = Vec::new();
    match (op, after) {
        ("c" | "r" | "u", Some(after)) => {
            update(table, before.map(Members::alone), Members::alone(after), fields, &mut told);
        }
        ("c" | "r" | "u", None) => return poison("The message has no `after`."),
        ("d", _) => match before.map(|before| gone(table, Members::alone(before), fields)) {
            Some(gone @ Told::Gone(_)) => told.push(gone),
            _ => return gone_by_key(table, key, schemas),
        },
        ("t", _) => told.push(Told::Emptied),
        // A message of the application's own.
        ("m", _) => return Read::Elsewhere,
        (other, _) => {
            return Read::Poison(format!("The message has the unknown `op` `{}`.", super::super::value::shown(other)));
        }
    }
    Read::Told(told)
}

/// The message behind a deletion, by which the topic forgets the key. Of which table it is where a topic has several is not said, and
/// the deletion has said all.
fn tombstone(table: &Topical, key: &Key<'_>, schemas: &mut Schemas) -> Read {
    match table.is_shared() {
        true => Read::Elsewhere,
        false => gone_by_key(table, key, schemas),
    }
}
