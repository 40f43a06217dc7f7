//! Where a connection leads, in words: hosts, ports and names, and nothing that lets anybody in.

use connect::Settings;
use serde_json::Value as Json;

/// The settings that are told, in this order: a list, so that a secret under a word that nobody has thought of is not told.
const TOLD: [&str; 12] = [
    "host",
    "port",
    "url",
    "brokers",
    "schema_registry",
    "path",
    "database",
    "user",
    "tls",
    "start",
    "profile",
    "speed",
];

/// `host 127.0.0.1, port 3306, database shop, …`; empty where nothing of it is told.
pub(crate) fn words(settings: &Settings) -> String {
    let told = TOLD.iter().filter_map(|key| {
        let value = settings.values.get(*key)?;
        let text = match value {
            // A user may be called as a mail address.
            Json::String(text) if *key == "user" => text.clone(),
            Json::String(text) => public(text),
            Json::Number(_) | Json::Bool(_) => value.to_string(),
            Json::Array(list) => list.iter().filter_map(Json::as_str).map(public).collect::<Vec<_>>().join(", "),
            // Of a mapping where it leads alone.
            Json::Object(of) if *key == "schema_registry" => of.get("url").and_then(Json::as_str).map(public)?,
            // Where a secret is to be had from, or a place to begin at.
            Json::Null | Json::Object(_) => return None,
        };
        (!text.is_empty()).then(|| format!("{key} {text}"))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A text without what stands in URLs for whoever logs in: all before the last `@`, and what is asked for behind `?`.
pub(crate) fn public(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest.split(['?', '#']).next().unwrap_or_default()),
        None => (String::new(), text),
    };
    // A password may have any letter in it that should have been written otherwise.
    let place = if text.contains('@') { text.rsplit('@').next().unwrap_or_default() } else { rest };
    let place = if scheme.is_empty() { place } else { place.split(['?', '#']).next().unwrap_or_default() };
    format!("{scheme}{place}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_lets_somebody_in_is_not_told() {
        for (text, told) in [
            ("127.0.0.1", "127.0.0.1"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:canary@h:6379/0", "redis://h:6379/0"),
            ("rediss://me:can/a?r#y@h:6379/0?password=canary", "rediss://h:6379/0"),
            ("https://h/p?token=canary", "https://h/p"),
            ("https://h/p#canary", "https://h/p"),
            ("me:canary@h1:9092,me:canary@h2:9092", "h2:9092"),
            ("user:{id}", "user:{id}"),
        ] {
            assert_eq!(public(text), told);
        }
    }

    #[test]
    fn settings_are_told_by_a_list() {
        let values = [
            ("user", json!("ann@shop")),
            ("host", json!("db")),
            ("port", json!(3306)),
            ("password", json!("canary")),
            ("new_word", json!("canary")),
            ("tls_key", json!("canary")),
            ("database", json!({"env": "CANARY"})),
            ("brokers", json!(["a:9092", "me:canary@b:9092"])),
            ("schema_registry", json!({"url": "https://me:canary@r", "user": "me", "password": {"env": "CANARY"}})),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value)).into();
        let settings = Settings { connection: "c".to_owned(), kind: "mysql".to_owned(), values };
        assert_eq!(
            words(&settings),
            "host db, port 3306, brokers a:9092, b:9092, schema_registry https://r, user ann@shop"
        );
    }
}
