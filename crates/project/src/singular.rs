//! Singular data tests: statements of their own in the folder of tests, each of the rows that should not be.

use std::sync::Arc;

use crate::files::{Files, folder_of, stem};
use crate::jinja::Engine;
use crate::jinja::scope::World;
use crate::model::SingularTest;
use crate::settings::Settings;

/// Where tests are defined that are declared in YAML: those are no statements.
const GENERIC: &str = "generic/";

/// The singular tests of a project, and what they refer to. What is wrong with one is found when it is run.
pub(crate) fn read(files: &Files, settings: &Settings, engine: &Engine<'_>, world: &Arc<World>) -> Vec<SingularTest> {
    let folders = &settings.test_paths;
    let is_statement = |file: &str| folder_of(file, folders).is_some_and(|path| !path.starts_with(GENERIC));
    let of = files.below(folders, &["sql"]).into_iter().filter(|(file, _)| is_statement(file));
    let test = |(file, text): (&str, &str)| SingularTest {
        name: stem(file).to_owned(),
        file: file.to_owned(),
        depends_on: engine.statement(world, text).references,
    };
    of.map(test).collect()
}
