//! Plain JSON: a message is a row, as its columns are declared.
//!
//! With a key a message takes the place of the one before, and one without a value takes the row away. Columns of the key that the value
//! lacks are looked for in the message's key. Without a key each message is a row more. A message of Kafka Connect with its schema
//! is the payload in it.

use std::sync::Arc;

use super::super::declared::Topical;
use super::super::json::Json;
use super::super::logical;
use super::{Members, Read, Schemas, gone_by_key, poison, row};

pub(super) fn read(table: &Topical, key: Option<&Json<'_>>, value: Option<&Json<'_>>, schemas: &mut Schemas) -> Read {
    let (json, fields) = match value.map(|json| (json, logical::unwrapped(json))) {
        None => (None, Arc::default()),
        Some((_, Some((payload, schema)))) => (Some(payload), schemas.fields(schema, logical::fields)),
        Some((json, None)) => (Some(json), Arc::default()),
    };
    let Some(json) = json.filter(|json| !json.is_null()) else {
        return match table.is_keyed() {
            true => gone_by_key(table, key, schemas),
            false => Read::Elsewhere,
        };
    };
    if !json.is_object() {
        return poison("The message is no object.");
    }
    let of_key = key.map(|key| logical::unwrapped(key).map_or(key, |(payload, _)| payload));
    let scalar = match (of_key, &table.schema.key[..]) {
        (Some(Json::Object(..) | Json::Array(..) | Json::Null) | None, _) => None,
        (Some(scalar), [at]) => {
            let name = table.schema.columns[*at].name.as_str();
            Some(Json::Object(vec![(name.into(), scalar.clone())], ""))
        }
        _ => None,
    };
    let or = scalar.as_ref().or(of_key).filter(|_| table.is_keyed());
    Read::Told(vec![row(table, Members { of: json, or }, &fields)])
}
