//! What the file of a sync says, and where its connection leads, in words: what the page and `tidemill.syncs` show.

use project::{OnLeave, Removals};
use serde_json::Value as Json;

use super::WantedSync;
use crate::address;

/// See the module. Nothing in it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// What it is about.
    pub description: String,
    /// Where it is declared.
    pub path: String,
    /// The type of its connection: `postgres`, …; empty where that cannot be delivered to.
    pub kind: String,
    /// Where the connection leads.
    pub address: String,
    /// What it writes to over there, by the keys of `to`.
    pub target: String,
    /// `mirror` where rows that leave are deleted, else `upsert`.
    pub mode: &'static str,
    /// By what a row is found over there; empty: by its key.
    pub matched: String,
    /// What is delivered beside that; empty: all other columns.
    pub fields: String,
    /// What may go at once.
    pub guards: String,
}

impl Declared {
    /// What a sync says.
    pub(crate) fn of(wanted: &WantedSync) -> Self {
        let sync = &wanted.sync;
        let settings = wanted.settings.as_ref().ok();
        let target = sync.to.iter().filter_map(|(key, value)| Some(format!("{key}: {}", shown(value)?)));
        Self {
            description: sync.description.clone(),
            path: sync.place.to_string(),
            kind: settings.map(|settings| settings.kind.clone()).unwrap_or_default(),
            address: settings.map(address::words).unwrap_or_default(),
            target: target.collect::<Vec<_>>().join(", "),
            mode: match sync.on_leave {
                OnLeave::Delete => "mirror",
                OnLeave::Nothing => "upsert",
            },
            matched: pairs(&sync.matched),
            fields: match &sync.fields {
                None => String::new(),
                Some(fields) if fields.is_empty() => "none".to_owned(),
                Some(fields) => pairs(fields),
            },
            guards: match sync.removals {
                Removals::Percent(percent) => format!("removals: {percent}%"),
                Removals::Rows(rows) => format!("removals: {rows}"),
            },
        }
    }
}

/// A value of `to`; none of what is not one value.
fn shown(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if text.contains("://") => Some(address::public(text)),
        Json::String(text) => Some(text.clone()),
        Json::Bool(_) | Json::Number(_) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Target's names and columns; once where they are the same.
fn pairs(pairs: &[(String, String)]) -> String {
    let pair = |(target, column): &(String, String)| match target == column {
        true => target.clone(),
        false => format!("{target}: {column}"),
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::delivery::Wanted;
    use crate::setup::Setup;

    fn declared(sync: &str) -> Declared {
        let mut all = project::Files::default();
        for (path, text) in [
            ("dbt_project.yml", "name: shop\nprofile: shop\n"),
            ("models/sources.yml", "sources:\n  - name: shop\n    tables: [{name: users}]\n"),
            (
                "connections.yml",
                "shop: {type: simulator}\n\
                 site: {type: postgres, host: db, user: u, password: canary, database: d}\n\
                 cache: {type: redis, url: 'redis://h:6380/2', password: canary}\n",
            ),
            ("syncs/s.yml", sync),
        ] {
            all.insert(path, text);
        }
        let setup = Setup::from_files(PathBuf::from("p"), &all, &project::Options::default(), None);
        let wanted = Wanted::of(&setup);
        Declared::of(wanted.sync("s").unwrap())
    }

    #[test]
    fn a_file_is_told_in_words_and_nothing_secret_is_in_them() {
        let of = declared(
            "sync: s\ntable: shop.users\nto: {destination: site, table: crm.contact, create: true}\n\
             match: {external_id: id}\nfields: {name: name, mail: email}\nmode: mirror\nguards: {removals: 500}\n",
        );
        assert_eq!((of.kind.as_str(), of.path.as_str()), ("postgres", "syncs/s.yml:1:7"));
        assert_eq!(of.target, "create: true, table: crm.contact");
        assert_eq!(
            (of.matched.as_str(), of.fields.as_str(), of.mode),
            ("external_id: id", "name, mail: email", "mirror")
        );
        assert_eq!(of.guards, "removals: 500");
        assert!(of.address.contains("host db") && !of.address.contains("canary"), "{}", of.address);
        let of = declared("sync: s\ntable: shop.users\nto: {destination: cache, key: 'user:{id}'}\n");
        assert_eq!((of.target.as_str(), of.mode, of.guards.as_str()), ("key: user:{id}", "upsert", "removals: 20%"));
        assert!(of.address.contains("redis://h:6380/2") && !of.address.contains("canary"), "{}", of.address);
    }
}
