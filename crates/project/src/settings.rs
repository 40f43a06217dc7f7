//! `dbt_project.yml`: the project's name, folders, variables and the configs of its folders.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::config::{self, ConfigTree};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::yaml::{Data, Node, Reader};

/// The file without which a folder is no project.
pub(crate) const FILE: &str = "dbt_project.yml";

const KEYS: &[&str] = &[
    "name",
    "version",
    "config-version",
    "profile",
    "models",
    "model-paths",
    "source-paths",
    "macro-paths",
    "seed-paths",
    "data-paths",
    "test-paths",
    "analysis-paths",
    "snapshot-paths",
    "docs-paths",
    "asset-paths",
    "function-paths",
    "target-path",
    "log-path",
    "packages-install-path",
    "clean-targets",
    "vars",
    "seeds",
    "tests",
    "data_tests",
    "unit_tests",
    "snapshots",
    "sources",
    "exposures",
    "metrics",
    "semantic-models",
    "saved-queries",
    "functions",
    "flags",
    "quoting",
    "on-run-start",
    "on-run-end",
    "dispatch",
    "query-comment",
    "require-dbt-version",
    "restrict-access",
    "dbt-cloud",
];

/// Blocks whose Jinja is not rendered when the file is read, as dbt has it.
pub(crate) const UNRENDERED: &[&str] =
    &["vars", "on-run-start", "on-run-end", "query-comment", "pre-hook", "post-hook", "+pre-hook", "+post-hook"];

/// What `dbt_project.yml` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) model_paths: Vec<String>,
    pub(crate) macro_paths: Vec<String>,
    pub(crate) test_paths: Vec<String>,
    pub(crate) seed_paths: Vec<String>,
    pub(crate) snapshot_paths: Vec<String>,
    /// Where `{% docs … %}` are looked for.
    pub(crate) docs_paths: Vec<String>,
    pub(crate) models: ConfigTree,
    /// Search orders of `adapter.dispatch` by namespace.
    pub(crate) dispatch: BTreeMap<String, Vec<String>>,
}

/// The project's variables, before anything is rendered: those for all, then those under the project's own name.
pub(crate) fn variables(file: &Node) -> BTreeMap<String, Json> {
    let name = file.get("name").and_then(Node::text).unwrap_or_default();
    let Some(vars) = file.get("vars") else { return BTreeMap::new() };
    let own = vars.get(name).filter(|node| matches!(node.data, Data::Map(_)));
    let general = vars.pairs().iter().filter(|(key, _)| own.is_none() || key.text != name);
    let pairs = general.chain(own.map(Node::pairs).unwrap_or_default());
    pairs.map(|(key, value)| (key.text.clone(), value.json())).collect()
}

/// Reads the rendered file.
pub(crate) fn read(file: &Node, found: &mut Vec<Diagnostic>) -> Settings {
    let mut reader = Reader { file: FILE, found };
    if !reader.expect_map(file, "dbt_project.yml") {
        return Settings { model_paths: vec!["models".to_owned()], ..Settings::default() };
    }
    reader.check_keys(file, "dbt_project.yml", KEYS, Severity::Warning);
    let name = reader.name(file, "name", "dbt_project.yml").unwrap_or_default();
    crate::unread::project(file, reader.found);
    for hook in ["on-run-start", "on-run-end"] {
        if let Some(node) = file.get(hook).filter(|node| !node.is_null()) {
            let warning = Diagnostic::warning(node.place(FILE), format!("`{hook}` is not run"))
                .detail("Models are maintained continuously: there is no run to start or end.");
            reader.found.push(warning);
        }
    }
    let model_paths = paths(&mut reader, file, "model-paths", "source-paths", "models");
    let macro_paths = paths(&mut reader, file, "macro-paths", "macro-paths", "macros");
    let test_paths = paths(&mut reader, file, "test-paths", "test-paths", "tests");
    let seed_paths = paths(&mut reader, file, "seed-paths", "data-paths", "seeds");
    let snapshot_paths = paths(&mut reader, file, "snapshot-paths", "snapshot-paths", "snapshots");
    let analysis_paths = paths(&mut reader, file, "analysis-paths", "analysis-paths", "analyses");
    let mut docs_paths = reader.texts(file, "docs-paths");
    if docs_paths.is_empty() {
        docs_paths = [&model_paths, &macro_paths, &test_paths, &seed_paths, &snapshot_paths, &analysis_paths]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
    }
    Settings {
        model_paths,
        macro_paths,
        test_paths,
        seed_paths,
        snapshot_paths,
        docs_paths,
        models: file.get("models").map(|node| tree(&mut reader, node)).unwrap_or_default(),
        dispatch: dispatch(&mut reader, file),
        name,
    }
}

fn paths(reader: &mut Reader<'_>, file: &Node, key: &str, old: &str, default: &str) -> Vec<String> {
    if key != old
        && file.get(key).is_some()
        && let Some(node) = file.get(old)
    {
        reader.error(node, format!("`{old}` is the old name of `{key}`; only one of them may be given"));
    }
    let mut paths = reader.texts(file, key);
    if paths.is_empty() {
        paths = reader.texts(file, old);
    }
    if paths.is_empty() { vec![default.to_owned()] } else { paths }
}

fn dispatch(reader: &mut Reader<'_>, file: &Node) -> BTreeMap<String, Vec<String>> {
    let mut orders = BTreeMap::new();
    for entry in reader.items(file, "dispatch") {
        if let Some(namespace) = reader.name(entry, "macro_namespace", "an entry of `dispatch`") {
            orders.insert(namespace, reader.texts(entry, "search_order"));
        }
    }
    orders
}

/// Keys with `+` and keys whose value is no mapping are settings of the level; other mappings are folders.
fn tree(reader: &mut Reader<'_>, node: &Node) -> ConfigTree {
    let mut tree = ConfigTree::default();
    if !reader.expect_map(node, "`models`") {
        return tree;
    }
    for (key, value) in node.pairs() {
        let place = key.place(reader.file);
        if !key.text.starts_with('+') && matches!(value.data, Data::Map(_)) {
            tree.folders.insert(key.text.clone(), (place, self::tree(reader, value)));
        } else if !value.is_null() || key.text.starts_with('+') {
            reader.found.extend(config::unknown_key(&key.text, place));
            let place: Place = value.place(reader.file);
            tree.settings.push((key.text.clone(), value.json(), place));
        }
    }
    tree
}
