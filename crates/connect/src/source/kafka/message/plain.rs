//! Plain rows: a message is a row, as its columns are declared.
//!
//! With a key a message takes the place of the one before, and one without a value takes the row away. Columns of the key that the value
//! lacks are looked for in the message's key. Without a key each message is a row more. A message of Kafka Connect with its schema
//! is the payload in it.

use std::sync::Arc;

use super::super::declared::Topical;
use super::super::json::Json;
use super::super::logical::{self, Fields};
use super::{Key, Members, Read, Schemas, gone_by_key, poison, row};

/// `beside` is what a registry's schema says of the row's fields.
pub(super) fn read(
    table: &Topical,
    key: &Key<'_>,
    value: Option<&Json<'_>>,
    beside: Option<&Arc<Fields>>,
    schemas: &mut Schemas,
) -> Read {
    let opened = value.map(|json| schemas.opened(json, beside, logical::fields));
    let Some((json, mut fields)) = opened.filter(|(json, _)| !json.is_null()) else {
        return match table.is_keyed() {
            true => gone_by_key(table, key, schemas),
            false => Read::Elsewhere,
        };
    };
    if !json.is_object() {
        return poison("The message is no object.");
    }
    let lacks = || table.schema.columns.iter().any(|column| json.get(&column.name).is_none());
    let Some(of_key) = key.json.as_ref().filter(|_| table.is_keyed() && lacks()) else {
        return Read::Told(vec![row(table, Members::alone(json), &fields)]);
    };
    let (of_key, key_fields) = schemas.opened(of_key, key.fields, logical::fields);
    if !key_fields.is_empty() {
        // What both have is the value's.
        fields = Arc::new(key_fields.iter().chain(&*fields).map(|(name, logical)| (name.clone(), *logical)).collect());
    }
    let scalar = match (of_key, &table.schema.key[..]) {
        (Json::Object(..) | Json::Array(..) | Json::Null, _) => None,
        (scalar, [at]) => {
            let name = table.schema.columns[*at].name.as_str();
            Some(Json::Object(vec![(name.into(), scalar.clone())], ""))
        }
        _ => None,
    };
    let or = scalar.as_ref().unwrap_or(of_key);
    Read::Told(vec![row(table, Members { of: json, or: Some(or) }, &fields)])
}
