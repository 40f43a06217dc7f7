//! Blocks of documentation: `{% docs name %} … {% enddocs %}` in Markdown files, which descriptions take by `{{ doc('name') }}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Error;

use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::files::Files;
use crate::jinja::failure::Problem;
use crate::jinja::tags::{TagKind, tags};

/// The blocks of a project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Docs {
    /// The project's name: its own blocks may be named with it.
    project: String,
    blocks: Arc<BTreeMap<String, Block>>,
}

#[derive(Debug)]
struct Block {
    text: String,
    file: String,
}

impl Docs {
    /// Reads the Markdown files in these folders.
    pub(crate) fn read(files: &Files, folders: &[String], project: &str, found: &mut Vec<Diagnostic>) -> Self {
        let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
        for (file, text) in files.below(folders, &["md"]) {
            let mut open: Option<(&str, usize, usize)> = None;
            for tag in tags(text).into_iter().filter(|tag| tag.kind == TagKind::Block) {
                match (tag.word(), open.take()) {
                    ("docs", before) => open = before.or(Some((tag.second_word(), tag.start, tag.end))),
                    ("enddocs", Some((name, start, begin))) => {
                        if let Some(first) = blocks.get(name) {
                            let message = format!("there are two docs blocks `{name}`: this one is not read");
                            let warning = Diagnostic::warning(Place::at(file, text, start), message);
                            found.push(warning.detail(format!("The other is in {}.", first.file)));
                            continue;
                        }
                        let text = text.get(begin..tag.start).unwrap_or_default().trim().to_owned();
                        blocks.insert(name.to_owned(), Block { text, file: file.to_owned() });
                    }
                    (_, before) => open = before,
                }
            }
            if let Some((name, start, _)) = open {
                let message = format!("the docs block `{name}` has no end: it is not read");
                let warning = Diagnostic::warning(Place::at(file, text, start), message);
                found.push(warning.hint("Close it by {% enddocs %}."));
            }
        }
        Self { project: project.to_owned(), blocks: Arc::new(blocks) }
    }

    /// The text of `doc('name')`, or of `doc('package', 'name')`.
    pub(crate) fn find(&self, first: &str, second: Option<&str>) -> Result<String, Error> {
        let name = match second {
            Some(name) if first == self.project => name,
            Some(name) => {
                return Problem::new(format!("there is no docs block `{first}.{name}`"))
                    .hint("Blocks of packages are not read.")
                    .raise();
            }
            None => first,
        };
        match self.blocks.get(name) {
            Some(block) => Ok(block.text.clone()),
            None => Problem::new(format!("there is no docs block `{name}`"))
                .hint("Blocks are looked for in Markdown files of `docs-paths`, else of the folders of models, macros and tests.")
                .maybe_hint(did_you_mean(name, self.blocks.keys().map(String::as_str)))
                .raise(),
        }
    }
}
