//! Data tests that cannot be run as they are written: names that nothing defines, arguments that are missing or that a test does
//! not take, tables that are not there. dbt finds these when it compiles.
//!
//! Of a test that a package brings along nothing is known here, and nothing is said. Nor is anything of what Jinja says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Place, alone, did_you_mean};
use crate::files::{Files, folder_of};
use crate::jinja::scope::{Known, World};
use crate::jinja::tags::{TagKind, has_jinja, tags};
use crate::model::DataTest;
use crate::properties::Properties;
use crate::settings::Settings;

/// A test that dbt brings along.
struct BuiltIn {
    name: &'static str,
    /// Arguments that it cannot do without.
    needs: &'static [&'static str],
    /// Others that it takes.
    takes: &'static [&'static str],
}

const BUILT_IN: [BuiltIn; 4] = [
    BuiltIn { name: "unique", needs: &[], takes: &[] },
    BuiltIn { name: "not_null", needs: &[], takes: &[] },
    BuiltIn { name: "accepted_values", needs: &["values"], takes: &["quote"] },
    BuiltIn { name: "relationships", needs: &["to", "field"], takes: &[] },
];

/// Severities, in any case.
const SEVERITIES: [&str; 2] = ["error", "warn"];

/// Finds the mistakes in the tests of models and source tables that are switched on, and notes each: with its text, by the place of
/// its test.
pub(crate) fn check(
    files: &Files,
    settings: &Settings,
    properties: &Properties,
    world: &World,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<Place, String> {
    let folders: Vec<String> = settings
        .macro_paths
        .iter()
        .cloned()
        .chain(settings.test_paths.iter().map(|folder| format!("{}/generic", folder.trim_end_matches('/'))))
        .collect();
    let is_of_them = |path: &str| folder_of(path, &folders).is_some() || folders.iter().any(|folder| folder == path);
    let knows = Knows {
        own: files.below(&folders, &["sql"]).into_iter().flat_map(|(_, text)| defined(text)).collect(),
        is_all: !files.unreadable().any(|(path, _)| is_of_them(path)),
        are_all_sources: !properties.incomplete,
        world,
    };
    let is_on = |known: Option<&Known>| known.is_some_and(|known| !matches!(known, Known::Disabled));
    let models = properties.models.iter().filter(|(name, _)| is_on(world.models.get(*name)));
    let tables = properties.tables.iter().filter(|declared| declared.enabled);
    let tests = models.flat_map(|(_, patch)| &patch.tests).chain(tables.flat_map(|declared| &declared.table.tests));
    let mut mistakes = BTreeMap::new();
    for test in tests.filter(|test| test.is_enabled()) {
        let Some(mistake) = knows.mistake(test) else { continue };
        let mut lines = vec![format!("{}: {}", mistake.place, mistake.message)];
        lines.extend(mistake.hint.iter().map(|hint| format!("Hint: {hint}")));
        mistakes.insert(test.place.clone(), lines.join("\n"));
        found.push(mistake);
        let last = found.len() - 1;
        alone(&mut found[last..]);
    }
    mistakes
}

/// Names of the tests that a file of macros defines: `{% test name(…) %}`, or a macro of the name with `test_` before it.
fn defined(text: &str) -> Vec<String> {
    let blocks = tags(text).into_iter().filter(|tag| tag.kind == TagKind::Block);
    let names = blocks.filter_map(|tag| match tag.word() {
        "test" | "data_test" => Some(tag.second_word().to_owned()),
        "macro" => tag.second_word().strip_prefix("test_").map(str::to_owned),
        _ => None,
    });
    names.collect()
}

/// What tests may name.
struct Knows<'a> {
    /// Tests of the project itself.
    own: BTreeSet<String>,
    /// Whether these are all of them: some file may be unreadable.
    is_all: bool,
    are_all_sources: bool,
    world: &'a World,
}

impl Knows<'_> {
    fn mistake(&self, test: &DataTest) -> Option<Diagnostic> {
        let error = |message: String| Diagnostic::error(test.place.clone(), message);
        if test.package.as_deref().is_some_and(|package| package != "dbt" && package != self.world.project) {
            return None;
        }
        if let Some(severity) = test.config.get("severity").and_then(Json::as_str)
            && !has_jinja(severity)
            && !SEVERITIES.contains(&severity.to_lowercase().as_str())
        {
            let hint = did_you_mean(severity, SEVERITIES).unwrap_or_else(|| "It is `error` or `warn`.".to_owned());
            return Some(error(format!("a test has no severity `{severity}`")).hint(hint));
        }
        let name = test.test.as_str();
        let is_own = test.package.as_deref() != Some("dbt") && self.own.contains(name);
        let built_in = BUILT_IN.iter().find(|known| known.name == name).filter(|_| !is_own);
        match built_in {
            Some(built_in) => self.misused(built_in, test),
            None if is_own || !self.is_all || has_jinja(name) => None,
            None => {
                let names = BUILT_IN.iter().map(|known| known.name).chain(self.own.iter().map(String::as_str));
                let hint = did_you_mean(name, names).unwrap_or_else(|| {
                    "There are unique, not_null, accepted_values and relationships; a test of a package is named with it, as in \
                     `dbt_utils.not_empty_string`, and one of the project's own is a `{% test … %}` in tests/generic or macros."
                        .to_owned()
                });
                Some(error(format!("there is no data test `{name}`")).hint(hint))
            }
        }
    }

    /// What is wrong with a test that is known.
    fn misused(&self, test: &BuiltIn, declared: &DataTest) -> Option<Diagnostic> {
        let error = |message: String| Diagnostic::error(declared.place.clone(), message);
        let name = test.name;
        if declared.column.is_none() {
            return Some(
                error(format!("`{name}` tests a column, and names none"))
                    .hint("Declare it below a column, or give it a `column_name`."),
            );
        }
        let takes = || test.needs.iter().chain(test.takes).copied();
        if let Some(unknown) = declared.arguments.keys().find(|key| !takes().any(|known| known == key.as_str())) {
            let known: Vec<&str> = takes().collect();
            let hint = did_you_mean(unknown, takes()).unwrap_or_else(|| match known.is_empty() {
                true => "It takes none.".to_owned(),
                false => format!("It takes {}.", known.join(" and ")),
            });
            return Some(error(format!("`{name}` has no argument `{unknown}`")).hint(hint));
        }
        let said = |key: &str| declared.arguments.get(key).filter(|value| !value.is_null());
        if let Some(missing) = test.needs.iter().find(|key| said(key).is_none()) {
            let example = match name {
                "accepted_values" => "{accepted_values: {arguments: {values: [new, paid]}}}",
                _ => "{relationships: {arguments: {to: \"ref('users')\", field: user_id}}}",
            };
            return Some(error(format!("`{name}` has no `{missing}`")).hint(format!("As in {example}.")));
        }
        let is_rendered_later = |value: &Json| value.as_str().is_some_and(has_jinja);
        if let Some(values) = said("values").filter(|values| !values.is_array() && !is_rendered_later(values)) {
            return Some(error(format!("`values` should be a list, not {values}")));
        }
        self.unknown_table(said("to").and_then(Json::as_str)?).map(|message| error(message.0).maybe_hint(message.1))
    }

    /// What is said of a `ref('…')` or `source('…', '…')` of which there is none, and a hint.
    fn unknown_table(&self, to: &str) -> Option<(String, Option<String>)> {
        let call = to.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
        let (function, rest) = call.split_once('(')?;
        let arguments = rest.trim_end().strip_suffix(')')?;
        let text = |argument: &str| -> Option<String> {
            let argument = argument.trim();
            let inner = ['\'', '"'].iter().find_map(|q| argument.strip_prefix(*q)?.strip_suffix(*q))?;
            Some(inner.to_owned()).filter(|inner| !inner.contains(['\'', '"']))
        };
        let arguments: Vec<String> = arguments.split(',').map(text).collect::<Option<_>>()?;
        let world = self.world;
        match (function.trim(), arguments.as_slice()) {
            ("ref", [name]) if !world.models.contains_key(name) && !world.no_models.contains(name) => {
                let hint = did_you_mean(name, world.models.keys().map(String::as_str));
                Some((format!("there is no model `{name}` to relate to"), hint))
            }
            ("source", [source, table]) if self.are_all_sources => {
                let key = (source.clone(), table.clone());
                if world.sources.contains_key(&key) {
                    return None;
                }
                let names: Vec<String> = world.sources.keys().map(|(s, t)| format!("{s}.{t}")).collect();
                let hint = did_you_mean(&format!("{source}.{table}"), names.iter().map(String::as_str));
                Some((format!("there is no source table `{source}.{table}` to relate to"), hint))
            }
            _ => None,
        }
    }
}
