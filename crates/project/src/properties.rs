//! The YAML files beside the models: what they say about models, columns, tests and sources.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::config;
use crate::connection::Pattern;
use crate::diagnostic::{Diagnostic, Place, Severity, alone, did_you_mean};
use crate::docs::Docs;
use crate::files::{Files, folder_of, has_extension};
use crate::jinja::YamlJinja;
use crate::model::{Column, DataTest, SourceTable};
use crate::unread;
use crate::yaml::{self, Data, Node, Reader};

const TOP_KEYS: &[&str] = &[
    "version",
    "models",
    "sources",
    "seeds",
    "snapshots",
    "analyses",
    "exposures",
    "macros",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
    "groups",
    "data_tests",
    "tests",
    "functions",
    "anchors",
];
const MODEL_KEYS: &[&str] = &[
    "name",
    "description",
    "config",
    "meta",
    "tags",
    "columns",
    "tests",
    "data_tests",
    "docs",
    "latest_version",
    "versions",
    "constraints",
    "access",
    "group",
    "deprecation_date",
    "time_spine",
    "freshness",
    "quote_columns",
    "primary_key",
];
const COLUMN_KEYS: &[&str] = &[
    "name",
    "description",
    "data_type",
    "quote",
    "meta",
    "tags",
    "tests",
    "data_tests",
    "constraints",
    "config",
    "policy_tags",
    "granularity",
    "encoding",
    "docs",
];
const SOURCE_KEYS: &[&str] = &[
    "name",
    "description",
    "schema",
    "database",
    "connection",
    "loader",
    "loaded_at_field",
    "loaded_at_query",
    "freshness",
    "meta",
    "tags",
    "config",
    "overrides",
    "quoting",
    "tables",
    "tests",
    "data_tests",
];
const TABLE_KEYS: &[&str] = &[
    "name",
    "description",
    "identifier",
    "loader",
    "loaded_at_field",
    "loaded_at_query",
    "freshness",
    "meta",
    "tags",
    "config",
    "quoting",
    "columns",
    "tests",
    "data_tests",
    "external",
    "docs",
];
const SOURCE_CONFIG_KEYS: &[&str] =
    &["enabled", "meta", "tags", "freshness", "loaded_at_field", "loaded_at_query", "event_time"];
/// Configs of a test that may stand flat beside its arguments.
const TEST_CONFIG_KEYS: &[&str] = &[
    "severity",
    "tags",
    "enabled",
    "where",
    "limit",
    "warn_if",
    "error_if",
    "fail_calc",
    "store_failures",
    "store_failures_as",
    "sql_header",
    "meta",
    "database",
    "schema",
    "alias",
    "group",
];
/// Keys below which Jinja is rendered later or never; descriptions are rendered with the project's docs.
const UNRENDERED: &[&str] = &["description", "tests", "data_tests", "loaded_at_query", "pre-hook", "post-hook"];

/// What a YAML file says about a model.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    pub(crate) place: Place,
    pub(crate) description: Option<String>,
    pub(crate) configs: Vec<(String, Json, Place)>,
    pub(crate) columns: Vec<Column>,
    pub(crate) tests: Vec<DataTest>,
}

/// A table of a source as declared, before its connection is known to exist.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredTable {
    pub(crate) table: SourceTable,
    pub(crate) enabled: bool,
}

/// All properties of a project.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    pub(crate) models: BTreeMap<String, Patch>,
    pub(crate) tables: Vec<DeclaredTable>,
    /// Whether some file could not be read: then a missing source proves nothing.
    pub(crate) incomplete: bool,
}

/// Reads all YAML files in the models' folders.
pub(crate) fn read(
    files: &Files,
    folders: &[String],
    jinja: &YamlJinja,
    docs: &Docs,
    found: &mut Vec<Diagnostic>,
) -> Properties {
    let mut properties = Properties { incomplete: !unreadable(files, folders).is_empty(), ..Properties::default() };
    for (file, text) in files.below(folders, &["yml", "yaml"]) {
        match yaml::parse(file, text) {
            Ok(mut node) => {
                jinja.render(&mut node, file, UNRENDERED, found);
                jinja.describe(&mut node, file, docs, found);
                properties.file(&mut Reader { file, found }, &node);
            }
            Err(error) => {
                properties.incomplete = true;
                found.push(error);
            }
        }
    }
    properties
}

/// YAML files of the folders, and folders in them, that could not be read at all.
pub(crate) fn unreadable(files: &Files, folders: &[String]) -> Vec<String> {
    let is_yaml = |path: &str| !has_extension(path, "sql") && folder_of(path, folders).is_some();
    files.unreadable().map(|(path, _)| path.to_owned()).filter(|path| is_yaml(path)).collect()
}

impl Properties {
    fn file(&mut self, reader: &mut Reader<'_>, node: &Node) {
        if node.is_null() || !reader.expect_map(node, "a file of properties") {
            return;
        }
        reader.check_keys(node, "a file of properties", TOP_KEYS, Severity::Warning);
        unread::top(reader, node);
        for model in reader.items(node, "models") {
            self.model(reader, model);
        }
        for source in reader.items(node, "sources") {
            self.source(reader, source);
        }
    }

    fn model(&mut self, reader: &mut Reader<'_>, node: &Node) {
        if !reader.expect_map(node, "an entry of `models`") {
            return;
        }
        let Some(name) = reader.name(node, "name", "the model") else { return };
        reader.check_keys(node, &format!("model `{name}`"), MODEL_KEYS, Severity::Warning);
        unread::model(reader, node);
        let place = name_place(reader, node);
        if let Some(first) = self.models.get(&name) {
            let error = Diagnostic::error(place, format!("model `{name}` is described twice"));
            reader.found.push(error.detail(format!("The other description is at {}.", first.place)));
            return;
        }
        let (columns, mut tests) = columns(reader, node);
        tests.extend(self::tests(reader, node, None));
        let description = reader.text(node, "description");
        let configs = configs(reader, node);
        self.models.insert(name, Patch { place, description, configs, columns, tests });
    }

    fn source(&mut self, reader: &mut Reader<'_>, node: &Node) {
        if !reader.expect_map(node, "an entry of `sources`") {
            return;
        }
        let Some(name) = reader.name(node, "name", "the source") else { return };
        reader.check_keys(node, &format!("source `{name}`"), SOURCE_KEYS, Severity::Warning);
        unread::source(reader, node);
        if let Some(database) = node.get("database").filter(|n| !n.is_null()) {
            let warning = Diagnostic::warning(database.place(reader.file), "`database` of a source has no effect");
            reader.found.push(warning.hint("Name the server's database in `schema`."));
        }
        if let Some(connection) = node.get("connection") {
            let error = reader.error(connection, format!("source `{name}`: dbt knows no `connection` here"));
            error.hint = Some("Write `config: {meta: {connection: …}}`.".to_owned());
        }
        check_source_meta(reader, node);
        for table in reader.items(node, "tables") {
            self.table(reader, &name, node, table);
        }
    }

    fn table(&mut self, reader: &mut Reader<'_>, source_name: &str, source: &Node, node: &Node) {
        if !reader.expect_map(node, "an entry of `tables`") {
            return;
        }
        let Some(name) = reader.name(node, "name", "the table") else { return };
        reader.check_keys(node, &format!("table `{source_name}.{name}`"), TABLE_KEYS, Severity::Warning);
        unread::source(reader, node);
        let place = name_place(reader, node);
        let same = |d: &&DeclaredTable| d.table.source == source_name && d.table.name == name;
        if let Some(first) = self.tables.iter().find(same) {
            let error = Diagnostic::error(place, format!("source table `{source_name}.{name}` is declared twice"));
            reader.found.push(error.detail(format!("The other declaration is at {}.", first.table.place)));
            return;
        }
        check_source_meta(reader, node);
        let (columns, mut tests) = columns(reader, node);
        tests.extend(self::tests(reader, node, None));
        let (outer, inner) = (SourceConfig::read(reader, source), SourceConfig::read(reader, node));
        let mut meta = outer.meta;
        meta.extend(inner.meta);
        let connection = meta.get("connection").and_then(Json::as_str).unwrap_or(source_name).to_owned();
        let left_out = [source, node].into_iter().flat_map(|of| left_out(reader, of)).collect();
        let table = SourceTable {
            left_out,
            source: source_name.to_owned(),
            identifier: reader.text(node, "identifier").unwrap_or_else(|| name.clone()),
            name,
            schema: reader.text(source, "schema"),
            connection,
            description: reader.text(node, "description"),
            columns,
            tests,
            tags: outer.tags.into_iter().chain(inner.tags).collect(),
            meta,
            freshness: inner.freshness.unwrap_or(outer.freshness.flatten()),
            loaded_at_field: inner.loaded_at_field.or(outer.loaded_at_field),
            place,
        };
        self.tables.push(DeclaredTable { table, enabled: inner.enabled.or(outer.enabled).unwrap_or(true) });
    }
}

/// The settings that a source and its tables share; each may stand flat or under `config`.
struct SourceConfig {
    enabled: Option<bool>,
    meta: BTreeMap<String, Json>,
    tags: Vec<String>,
    /// None: not said; `Some(None)`: switched off with `null`.
    freshness: Option<Option<Json>>,
    loaded_at_field: Option<String>,
}

impl SourceConfig {
    fn read(reader: &mut Reader<'_>, node: &Node) -> Self {
        let empty = Node::new(node.mark, Data::Null);
        let config = node.get("config").unwrap_or(&empty);
        if !config.is_null() && reader.expect_map(config, "`config`") {
            reader.check_keys(config, "the config of a source", SOURCE_CONFIG_KEYS, Severity::Warning);
        }
        let mut meta = object(node.get("meta"));
        meta.extend(object(config.get("meta")));
        let mut tags = reader.texts(node, "tags");
        tags.extend(reader.texts(config, "tags"));
        let freshness = config.get("freshness").or(node.get("freshness"));
        Self {
            enabled: reader.boolean(config, "enabled"),
            meta,
            tags,
            freshness: freshness.map(|node| (!node.is_null()).then(|| node.json())),
            loaded_at_field: reader.text(config, "loaded_at_field").or_else(|| reader.text(node, "loaded_at_field")),
        }
    }
}

/// What may happen to a table whose columns become others.
const ON_CHANGE: [&str; 3] = ["apply", "park", "map"];
/// What may happen to a table with a column that cannot be held.
const ON_UNSUPPORTED: [&str; 2] = ["park", "leave_out"];

/// The words of ours in the `meta` of a source or table: everything else there is somebody else's.
fn check_source_meta(reader: &mut Reader<'_>, node: &Node) {
    metas(node).for_each(|meta| check_meta(reader, meta));
}

/// `meta` may stand flat or under `config`.
fn metas(node: &Node) -> impl Iterator<Item = &Node> {
    [node.get("meta"), node.get("config").and_then(|config| config.get("meta"))].into_iter().flatten()
}

fn check_meta(reader: &mut Reader<'_>, meta: &Node) {
    reader.text(meta, "connection");
    check_on_unsupported(reader, meta);
    let Some(policy) = meta.get("on_change").filter(|node| !node.is_null()) else { return };
    let Some(word) = reader.text(meta, "on_change") else { return };
    if ON_CHANGE.contains(&word.as_str()) {
        return;
    }
    let error = reader.error(policy, format!("unknown `on_change` policy `{word}`"));
    error.hint = Some(did_you_mean(&word, ON_CHANGE).unwrap_or_else(|| {
        "One of: apply (the table is loaded anew with its columns of then), park (it waits for `tidemill resnapshot`), map (it \
         keeps its columns)."
            .to_owned()
    }));
}

fn check_on_unsupported(reader: &mut Reader<'_>, meta: &Node) {
    let Some(policy) = meta.get("on_unsupported").filter(|node| !node.is_null()) else { return };
    let Some(word) = reader.text(meta, "on_unsupported") else { return };
    if ON_UNSUPPORTED.contains(&word.as_str()) {
        return;
    }
    let error = reader.error(policy, format!("unknown `on_unsupported` policy `{word}`"));
    error.hint =
        Some(did_you_mean(&word, ON_UNSUPPORTED).unwrap_or_else(|| {
            "One of: park (the table waits), leave_out (it is read without the column).".to_owned()
        }));
}

/// The columns that the `meta` of a source or table leaves out.
fn left_out(reader: &mut Reader<'_>, node: &Node) -> Vec<Pattern> {
    let mut found = Vec::new();
    for columns in metas(node).filter_map(|meta| meta.get("columns")) {
        for item in reader.items(columns, "exclude") {
            match item.text().map(str::trim).filter(|text| !text.is_empty()) {
                Some(text) => found.push(Pattern {
                    text: text.to_owned(),
                    database: None,
                    table: "*".to_owned(),
                    column: text.to_owned(),
                    place: item.place(reader.file),
                }),
                None => {
                    reader.error(item, "a column to be left out has no name").hint =
                        Some("Name columns of the table; `*` stands for any characters.".to_owned());
                }
            }
        }
    }
    found
}

fn name_place(reader: &Reader<'_>, node: &Node) -> Place {
    node.get("name").unwrap_or(node).place(reader.file)
}

fn object(node: Option<&Node>) -> BTreeMap<String, Json> {
    node.into_iter().flat_map(Node::pairs).map(|(key, value)| (key.text.clone(), value.json())).collect()
}

/// Configs of a model: those under `config:`, and the few that may stand flat.
fn configs(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, Json, Place)> {
    let mut configs = Vec::new();
    for flat in ["meta", "tags", "docs", "access", "group"] {
        configs.extend(node.get(flat).map(|value| (flat.to_owned(), value.json(), value.place(reader.file))));
    }
    let Some(config) = node.get("config").filter(|node| !node.is_null()) else { return configs };
    if reader.expect_map(config, "`config`") {
        for (key, value) in config.pairs() {
            reader.found.extend(config::unknown_key(&key.text, key.place(reader.file)));
            configs.push((key.text.clone(), value.json(), value.place(reader.file)));
        }
    }
    configs
}

fn columns(reader: &mut Reader<'_>, node: &Node) -> (Vec<Column>, Vec<DataTest>) {
    let (mut columns, mut tests) = (Vec::new(), Vec::new());
    for column in reader.items(node, "columns") {
        if !reader.expect_map(column, "an entry of `columns`") {
            continue;
        }
        let Some(name) = reader.name(column, "name", "the column") else { continue };
        reader.check_keys(column, &format!("column `{name}`"), COLUMN_KEYS, Severity::Warning);
        unread::model(reader, column);
        tests.extend(self::tests(reader, column, Some(&name)));
        let config = column.get("config");
        let mut meta = object(column.get("meta"));
        meta.extend(object(config.and_then(|config| config.get("meta"))));
        columns.push(Column {
            data_type: reader.text(column, "data_type"),
            data_type_place: column.get("data_type").unwrap_or(column).place(reader.file),
            description: reader.text(column, "description"),
            meta,
            tags: reader.texts(column, "tags"),
            place: column.place(reader.file),
            name,
        });
    }
    (columns, tests)
}

/// The tests of a node, under either of the two keys.
fn tests(reader: &mut Reader<'_>, node: &Node, column: Option<&str>) -> Vec<DataTest> {
    let before = reader.found.len();
    if let (Some(_), Some(second)) = (node.get("data_tests"), node.get("tests")) {
        let error = reader.error(second, "`tests` is the old name of `data_tests`; only one of them may be given");
        error.hint = Some("Move the entries to `data_tests`.".to_owned());
    }
    let mut tests = Vec::new();
    for key in ["data_tests", "tests"] {
        for entry in reader.items(node, key) {
            tests.extend(test(reader, entry, column));
        }
    }
    alone(&mut reader.found[before..]);
    tests
}

/// One test: a name alone, a name with arguments, or a flat mapping with `test_name`.
fn test(reader: &mut Reader<'_>, entry: &Node, column: Option<&str>) -> Option<DataTest> {
    let place = entry.place(reader.file);
    let (full, body): (&str, &[_]) = match (&entry.data, entry.get("test_name").and_then(Node::text)) {
        (Data::Text(name), _) => (name, &[]),
        (Data::Map(pairs), Some(name)) => (name, pairs),
        (Data::Map(pairs), None) if pairs.len() == 1 => (&pairs[0].0.text, pairs[0].1.pairs()),
        _ => {
            let error = reader.error(entry, "this is no test");
            error.hint = Some("A test is `not_null`, or `accepted_values: {arguments: {values: […]}}`.".to_owned());
            return None;
        }
    };
    let (package, test) = match full.split_once('.') {
        Some((package, test)) => (Some(package.to_owned()), test.to_owned()),
        None => (None, full.to_owned()),
    };
    let mut found = DataTest {
        test,
        package,
        name: None,
        column: column.map(str::to_owned),
        arguments: BTreeMap::new(),
        config: BTreeMap::new(),
        place,
        mistake: None,
    };
    for (key, value) in body {
        match key.text.as_str() {
            "test_name" | "description" => {}
            "name" => found.name = value.text().map(str::to_owned),
            "column_name" => found.column = value.text().map(str::to_owned),
            "arguments" => found.arguments.extend(object(Some(value))),
            "config" => found.config.extend(object(Some(value))),
            "model" => {
                reader.error(value, "a test has no argument `model`: it is the model that the test is declared on");
            }
            flat if TEST_CONFIG_KEYS.contains(&flat) => _ = found.config.insert(flat.to_owned(), value.json()),
            argument => _ = found.arguments.insert(argument.to_owned(), value.json()),
        }
    }
    Some(found)
}
