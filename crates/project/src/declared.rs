//! Things that a project declares one a file, each under a name of its own: dashboards and syncs.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Place};
use crate::files::{Files, has_extension};
use crate::yaml::{self, Node};

/// The YAML files of a folder.
pub(crate) fn yaml_files<'f>(files: &'f Files, folder: &str) -> impl Iterator<Item = (&'f str, &'f str)> {
    let is_yaml = |path: &str| has_extension(path, "yml") || has_extension(path, "yaml");
    files.iter().filter(move |(path, _)| path.starts_with(folder) && is_yaml(path))
}

/// What a file says; none where it is no YAML, which is told.
pub(crate) fn parsed(file: &str, text: &str, found: &mut Vec<Diagnostic>) -> Option<Node> {
    yaml::parse(file, text).map_err(|error| found.push(error)).ok()
}

/// Names that are taken, and where.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<String, Place>);

impl Names {
    /// Takes a name for what stands at a place. False, and told: it is taken.
    pub(crate) fn take(&mut self, what: &str, name: &str, place: &Place, found: &mut Vec<Diagnostic>) -> bool {
        if let Some(first) = self.0.get(name) {
            let error = Diagnostic::error(place.clone(), format!("a second {what} `{name}`"));
            found.push(error.detail(format!("The first one is at {first}.")));
            return false;
        }
        self.0.insert(name.to_owned(), place.clone());
        true
    }
}
