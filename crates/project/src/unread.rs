//! What a dbt project may have and nothing here obeys: folders, files, keys and configs. Each is said at its place, since silence reads
//! as obedience.
//!
//! What has no bearing on the rows, on who reads them or on what is told of them is passed over: labels, clusterings and the like of
//! other adapters.

use serde_json::Value as Json;

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Place};
use crate::files::{Files, folder_of, has_extension};
use crate::settings::{FILE, Settings};
use crate::yaml::{Data, Node, Reader};

/// Folders, and a file, that are described and not there yet.
const NOT_YET: [(&str, &str); 3] = [("apis/", "APIs"), ("jobs/", "jobs"), ("alerts.yml", "alerts")];

/// Files at the top of a dbt project that are not read.
const FILES: [(&str, &str, &str); 4] = [
    ("packages.yml", "packages are not installed or read", PACKAGES),
    ("dependencies.yml", "packages and other projects are not installed or read", PACKAGES),
    ("package-lock.yml", "packages are not installed or read", PACKAGES),
    (
        "selectors.yml",
        "selectors are not there yet: this is not read",
        "`--select` takes the same criteria, written out.",
    ),
];

const PACKAGES: &str =
    "Copy the macros that models use into `macros`; those of dbt_utils that are built in are there without it.";

/// Keys at the top of a file of properties: what is declared there and not read.
const TOP_KEYS: [(&str, &str); 9] = [
    ("seeds", "seeds are not there yet"),
    ("snapshots", "snapshots of dbt are not there yet"),
    ("unit_tests", "unit tests are not run"),
    ("exposures", "exposures are not read"),
    ("metrics", "metrics are not there"),
    ("semantic_models", "semantic models are not there"),
    ("saved_queries", "saved queries are not there"),
    ("functions", "functions are not made"),
    ("groups", "groups are not obeyed"),
];

/// Keys of `dbt_project.yml`.
const PROJECT_KEYS: [(&str, &str); 4] = [
    ("sources", "configs of sources are not obeyed here"),
    ("tests", "configs of tests are not obeyed here"),
    ("data_tests", "configs of tests are not obeyed here"),
    ("quoting", "`quoting` is not obeyed"),
];

/// What to do where a config of [`PROJECT_KEYS`] is meant, or what is so instead.
fn instead(key: &str, warning: Diagnostic) -> Diagnostic {
    match key {
        "sources" => warning.hint("Write them beside the source, in its own YAML."),
        "quoting" => warning.detail("Names are always quoted, as they are written."),
        _ => warning.hint("Write them beside each test: `config: {severity: warn}`."),
    }
}

/// Keys of a model or of its columns.
const MODEL_KEYS: [(&str, &str); 5] = [
    ("constraints", "`constraints` are not enforced"),
    ("versions", "versions of models are not there: this is the only one"),
    ("latest_version", "versions of models are not there: this is the only one"),
    ("freshness", "`freshness` of a model is not obeyed: it is kept up to date continuously"),
    ("deprecation_date", "`deprecation_date` is not obeyed"),
];

/// Keys of a source or of its tables, flat or under `config`.
const SOURCE_KEYS: [&str; 6] = ["freshness", "loaded_at_field", "loaded_at_query", "overrides", "quoting", "external"];

/// Configs of a model, wherever they are set, and what is so instead.
const CONFIGS: [(&str, &str, &str); 9] = [
    ("contract", "the contract is not enforced", "Columns and types are what the SELECT says, whatever is declared."),
    ("grants", "`grants` are not obeyed", "Who reads what is said in roles.yml."),
    ("access", "`access` is not obeyed", "Every model may be referred to by every other."),
    ("group", "`group` is not obeyed", "Every model may be referred to by every other."),
    ("freshness", "`freshness` of a model is not obeyed", "Models are kept up to date continuously."),
    (
        "sql_header",
        "`sql_header` is not run",
        "Models are maintained continuously: there is no run before which it could be.",
    ),
    ("merge_exclude_columns", "`merge_exclude_columns` is not obeyed", MERGED),
    ("merge_update_columns", "`merge_update_columns` is not obeyed", MERGED),
    ("incremental_predicates", "`incremental_predicates` are not obeyed", MERGED),
];

const MERGED: &str = "A row of the model is always what its SELECT says, in all its columns.";

/// Says of files that nobody reads that it is so.
pub(crate) fn files(files: &Files, settings: &Settings, found: &mut Vec<Diagnostic>) {
    let is_text = |file: &str| has_extension(file, "yml") || has_extension(file, "yaml");
    for (path, what) in NOT_YET {
        let of = files.iter().map(|(file, _)| file).filter(|file| file.starts_with(path) && is_text(file));
        found.extend(unread_folder(of, &format!("{what} are not there yet: this is not read"), path));
    }
    for (file, message, hint) in FILES.into_iter().filter(|(file, ..)| files.get(file).is_some()) {
        // One says it for all that there are of packages.
        if file == "package-lock.yml" && files.get("packages.yml").is_some() {
            continue;
        }
        found.push(Diagnostic::warning(Place::file(file), message).hint(hint));
    }
    let all = || files.others().chain(files.iter().map(|(file, _)| file));
    let of = all().filter(|file| {
        (has_extension(file, "csv") || is_text(file)) && folder_of(file, &settings.seed_paths).is_some()
    });
    found.extend(unread_folder(of, "seeds are not there yet: this is not read", "the folder"));
    let snapshots = &settings.snapshot_paths;
    let of = files.iter().map(|(file, _)| file);
    let of = of.filter(|file| (has_extension(file, "sql") || is_text(file)) && folder_of(file, snapshots).is_some());
    found.extend(unread_folder(of, "snapshots of dbt are not there yet: this is not read", "the folder"));
}

fn unread_folder<'a>(mut of: impl Iterator<Item = &'a str>, message: &str, folder: &str) -> Option<Diagnostic> {
    let warning = Diagnostic::warning(Place::file(of.next()?), message);
    Some(warning.maybe_hint((of.next().is_some()).then(|| format!("Nor is what else is in {folder}."))))
}

/// What a file of properties declares and nobody reads.
pub(crate) fn top(reader: &mut Reader<'_>, node: &Node) {
    said(reader, node, &TOP_KEYS, |_, warning| warning);
}

/// The same of `dbt_project.yml`.
pub(crate) fn project(node: &Node, found: &mut Vec<Diagnostic>) {
    said(&mut Reader { file: FILE, found }, node, &PROJECT_KEYS, instead);
}

/// The same of a model, or a column of one.
pub(crate) fn model(reader: &mut Reader<'_>, node: &Node) {
    said(reader, node, &MODEL_KEYS, |_, warning| warning);
}

fn said(
    reader: &mut Reader<'_>,
    node: &Node,
    known: &[(&'static str, &str)],
    more: impl Fn(&str, Diagnostic) -> Diagnostic,
) {
    for (key, value) in node.pairs() {
        let Some((word, message)) = known.iter().find(|(word, _)| *word == key.text) else { continue };
        if is_nothing(value) {
            continue;
        }
        let warning = Diagnostic::warning(key.place(reader.file), *message);
        reader.found.push(more(word, warning));
    }
}

/// The same of a source, or a table of one.
pub(crate) fn source(reader: &mut Reader<'_>, node: &Node) {
    for of in [Some(node), node.get("config")].into_iter().flatten() {
        for (key, value) in of.pairs() {
            if SOURCE_KEYS.contains(&key.text.as_str()) && !is_nothing(value) {
                let warning = Diagnostic::warning(key.place(reader.file), format!("`{}` is not obeyed", key.text));
                reader.found.push(match key.text.as_str() {
                    "freshness" | "loaded_at_field" | "loaded_at_query" => {
                        warning.hint("`tidemill status` says how far each source and table is behind.")
                    }
                    _ => warning,
                });
            }
        }
    }
}

/// The same of the configs of a model, as they are in the end.
pub(crate) fn configs(config: &Config, found: &mut Vec<Diagnostic>) {
    for (key, message, detail) in CONFIGS {
        let (Some(value), Some(place)) = (config.get(key), config.place(key)) else { continue };
        let is_on = match key {
            "contract" => value.get("enforced").is_some_and(is_true) || is_true(value),
            "access" => value.as_str() != Some("public"),
            _ => !matches!(value, Json::Null | Json::Bool(false)) && !is_empty(value),
        };
        if is_on {
            found.push(Diagnostic::warning(place.clone(), message).detail(detail));
        }
    }
}

fn is_true(value: &Json) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str().and_then(crate::yaml::boolean_word).unwrap_or(false))
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::String(text) => text.trim().is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(pairs) => pairs.is_empty(),
        _ => false,
    }
}

fn is_nothing(node: &Node) -> bool {
    match &node.data {
        Data::Null => true,
        Data::List(items) => items.is_empty(),
        Data::Map(pairs) => pairs.is_empty(),
        Data::Text(text) => text.is_empty(),
        Data::Other(..) => false,
    }
}
