//! Configs of models: where they come from, which wins, and which words are known.
//!
//! Weakest first: folders of `dbt_project.yml` from the general to the special, `config:` in the YAML beside the model,
//! `config()` in its file. Tags and hooks add up, `meta` and its like merge by key, everything else is replaced, and
//! `null` takes an inherited value away.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::yaml::boolean_word;

/// The config keys of a model that dbt and its adapters know.
/// Those of other adapters are accepted without effect, so that one project runs on both.
pub(crate) const KNOWN: &[&str] = &[
    "access",
    "alias",
    "auto_refresh",
    "automatic_clustering",
    "backup",
    "batch_size",
    "begin",
    "bind",
    "buckets",
    "cluster_by",
    "column_types",
    "concurrent_batches",
    "contract",
    "copy_grants",
    "database",
    "delimiter",
    "description",
    "dist",
    "dist_style",
    "docs",
    "enabled",
    "engine",
    "event_time",
    "file_format",
    "freshness",
    "full_refresh",
    "grant_access_to",
    "grants",
    "group",
    "hours_to_expiration",
    "incremental_predicates",
    "incremental_strategy",
    "indexes",
    "inserts_only",
    "kms_key_name",
    "labels",
    "location_root",
    "lookback",
    "materialized",
    "merge_exclude_columns",
    "merge_update_columns",
    "meta",
    "on_configuration_change",
    "on_schema_change",
    "options",
    "order_by",
    "packages",
    "partition_by",
    "partition_expiration_days",
    "partitions",
    "persist_docs",
    "post_hook",
    "pre_hook",
    "predicates",
    "query_tag",
    "quote_columns",
    "quoting",
    "refresh_interval_minutes",
    "require_partition_filter",
    "schema",
    "secure",
    "snowflake_warehouse",
    "sort",
    "sort_type",
    "sql_header",
    "static_analysis",
    "tags",
    "target_lag",
    "tblproperties",
    "transient",
    "unique_key",
    "unlogged",
];

const ADDED: &[&str] = &["tags", "pre_hook", "post_hook", "packages"];
const MERGED: &[&str] = &["meta", "quoting", "column_types", "docs", "contract", "grants", "persist_docs"];

/// A model's configs, and where each was set last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    values: BTreeMap<String, Json>,
    places: BTreeMap<String, Place>,
}

impl Config {
    /// Lays one setting over what is there.
    pub(crate) fn set(&mut self, key: &str, value: Json, place: Place) {
        let key = normal(key);
        if value.is_null() {
            self.values.remove(&key);
            return;
        }
        let merged = match self.values.remove(&key) {
            Some(old) if ADDED.contains(&key.as_str()) => add(old, value),
            None if ADDED.contains(&key.as_str()) => add(Json::Array(Vec::new()), value),
            Some(old) if MERGED.contains(&key.as_str()) => merge(old, value),
            _ => value,
        };
        self.values.insert(key.clone(), merged);
        self.places.insert(key, place);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.values.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.values.get(key)? {
            Json::String(text) => Some(text.clone()),
            Json::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// A text or a list of texts.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        match self.values.get(key) {
            Some(Json::Array(items)) => items.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            Some(Json::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.values.get(key)? {
            Json::Bool(value) => Some(*value),
            Json::String(text) => boolean_word(text),
            _ => None,
        }
    }

    pub(crate) fn place(&self, key: &str) -> Option<&Place> {
        self.places.get(key)
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, Json> {
        &self.values
    }
}

/// A warning about a config key that nobody knows.
pub(crate) fn unknown_key(key: &str, place: Place) -> Option<Diagnostic> {
    let normal = normal(key);
    (!KNOWN.contains(&normal.as_str())).then(|| {
        Diagnostic::warning(place, format!("unknown config `{normal}`: it has no effect")).hint(
            did_you_mean(&normal, KNOWN.iter().copied())
                .unwrap_or_else(|| "Settings of your own belong under `meta`.".to_owned()),
        )
    })
}

/// `+pre-hook` and `pre_hook` are one key.
pub(crate) fn normal(key: &str) -> String {
    let key = key.trim_start_matches('+');
    if matches!(key, "pre-hook" | "post-hook") { key.replace('-', "_") } else { key.to_owned() }
}

fn add(old: Json, new: Json) -> Json {
    let mut items = listed(old);
    for item in listed(new) {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Json::Array(items)
}

fn listed(value: Json) -> Vec<Json> {
    match value {
        Json::Array(items) => items,
        other => vec![other],
    }
}

fn merge(old: Json, new: Json) -> Json {
    match (old, new) {
        (Json::Object(mut old), Json::Object(new)) => {
            old.extend(new);
            Json::Object(old)
        }
        (_, new) => new,
    }
}

/// The `models:` tree of `dbt_project.yml`: settings of a level, and the folders below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigTree {
    pub(crate) settings: Vec<(String, Json, Place)>,
    pub(crate) folders: BTreeMap<String, (Place, ConfigTree)>,
}

impl ConfigTree {
    /// Lays the settings of all levels on a path over a config, and notes which folders were met.
    pub(crate) fn apply(&self, path: &[String], config: &mut Config) {
        for (key, value, place) in &self.settings {
            config.set(key, value.clone(), place.clone());
        }
        if let Some((first, rest)) = path.split_first()
            && let Some((_, below)) = self.folders.get(first)
        {
            below.apply(rest, config);
        }
    }

    /// Folders of the tree that no path enters, with a name that was likely meant.
    pub(crate) fn unused(&self, paths: &[&[String]]) -> Vec<(String, Place, Option<String>)> {
        let mut unused = Vec::new();
        for (name, (place, below)) in &self.folders {
            let entering: Vec<&[String]> =
                paths.iter().filter(|p| p.first() == Some(name)).filter_map(|p| p.get(1..)).collect();
            if entering.is_empty() {
                let names = paths.iter().filter_map(|p| p.first()).map(String::as_str);
                unused.push((name.clone(), place.clone(), did_you_mean(name, names)));
            } else {
                unused.extend(below.unused(&entering));
            }
        }
        unused
    }
}

/// An object out of pairs.
pub(crate) fn object(pairs: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}
