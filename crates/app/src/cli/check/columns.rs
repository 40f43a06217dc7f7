//! Columns that YAML describes or tests, and that are not there: of models and views as they are planned, and of source tables whose
//! columns are known.
//!
//! A test of such a column has no answer, so that is an error; a description of one is shown to nobody, and may be of a column that
//! was renamed.

use std::collections::{BTreeMap, BTreeSet};

use plan::TableName;
use project::{Column, DataTest, Diagnostic, Severity};

use crate::deep::deep;
use crate::documentation::referring;
use crate::filters::column_left_out;
use crate::known::Known;
use crate::setup::Setup;
use crate::views;
use crate::warehouse::Contents;

/// Names that a hint lists.
const LISTED_MAX: usize = 30;

/// What is described and tested of something, and its name for people.
struct Said<'a> {
    name: TableName,
    what: String,
    columns: &'a [Column],
    tests: &'a [DataTest],
}

/// What is wrong with described and tested columns over what can be kept of the project's models.
pub(super) fn findings(setup: &Setup, known: &Known, contents: &Contents) -> Vec<Diagnostic> {
    let project = &setup.project;
    let models = project.models.iter().map(|model| Said {
        name: TableName::new(&model.schema, &model.alias),
        what: format!("model `{}`", model.name),
        columns: &model.columns,
        tests: &model.tests,
    });
    let tables = project.sources.iter().map(|table| Said {
        name: TableName::new(&table.source, &table.name),
        what: format!("source table `{}.{}`", table.source, table.name),
        columns: &table.columns,
        tests: &table.tests,
    });
    let all: Vec<Said<'_>> = models.chain(tables).filter(|of| !of.columns.is_empty() || !of.tests.is_empty()).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let is = Names::of(known, contents, &all);
    let mut found = Vec::new();
    for said in &all {
        let mut tested = BTreeSet::new();
        for test in said.tests.iter().filter(|test| test.is_enabled() && test.mistake.is_none()) {
            if let Some(column) = &test.column {
                tested.insert(column.as_str());
                found.extend(is.missing(&said.name, column, |has| {
                    let message = format!("test `{}`: {} has no column `{column}`", test.test, said.what);
                    has.told(Diagnostic::error(test.place.clone(), message))
                }));
            }
            if let Some(of) = referring(setup, test) {
                let parent = TableName::new(&of.schema, &of.table);
                found.extend(is.missing(&parent, &of.field, |has| {
                    let message = format!("test `{}`: {parent} has no column `{}`", test.test, of.field);
                    has.told(Diagnostic::error(test.place.clone(), message))
                }));
            }
        }
        let marks = project::marks(said.columns);
        // Of one that is tested too it is told once; of one that is called personal, among the grants.
        let is_told = |name: &str| tested.contains(name) || marks.get(name) == Some(&true);
        let is_left_out = |name: &str| column_left_out(project, &said.name, name).is_some();
        let columns = said.columns.iter().map(|column| (column, column.name.as_str()));
        for (column, _) in columns.filter(|(_, name)| !is_told(name) && !is_left_out(name)) {
            found.extend(is.missing(&said.name, &column.name, |has| {
                let message = format!("{} has no column `{}`: what is said of it is of none", said.what, column.name);
                has.told(Diagnostic::warning(column.place.clone(), message))
            }));
        }
    }
    found.iter_mut().for_each(|finding| finding.alone = true);
    found
}

/// The names of columns, as far as they are known.
struct Names {
    of: BTreeMap<TableName, Vec<String>>,
    /// What reads all columns of tables of which there may be more than are declared.
    may_have_more: BTreeMap<TableName, TableName>,
}

/// The columns that there are.
struct Has<'a> {
    column: &'a str,
    names: &'a [String],
    /// The table that there may be more of.
    declared: Option<&'a TableName>,
}

impl Names {
    fn of(known: &Known, contents: &Contents, asked: &[Said<'_>]) -> Self {
        let names = |schema: &relation::Schema| schema.columns.iter().map(|column| column.name.clone()).collect();
        // What is declared is what is described.
        let tables = known.tables.iter().filter(|(name, _)| !known.declared.contains(name));
        let tables = tables.map(|(name, schema)| (name.clone(), names(schema)));
        let models = contents.models.iter().map(|model| (model.name.clone(), names(&model.planned.schema)));
        let mut of: BTreeMap<TableName, Vec<String>> = tables.chain(models).collect();
        let is_asked = |name: &TableName| asked.iter().any(|said| said.name == *name);
        let views: Vec<(TableName, &str)> = contents.definition.views().filter(|(name, _)| is_asked(name)).collect();
        if !views.is_empty()
            && let Ok(session) = views::surface(&contents.definition, &known.tables, &contents.models, Vec::new())
        {
            let described = deep(|| {
                let columns = |sql: &str| session.describe_text(sql, &[]).ok().map(|described| described.schema);
                views.iter().map(|(name, sql)| (name.clone(), columns(sql))).collect::<Vec<_>>()
            });
            for (name, schema) in described.into_iter().filter_map(|(name, schema)| Some((name, schema?))) {
                of.insert(name, schema.fields().iter().map(|field| field.name().clone()).collect());
            }
        }
        let mut may_have_more = BTreeMap::new();
        for table in known.declared.iter().filter(|table| known.may_have_more(table)) {
            let readers = contents.definition.readers_of(std::iter::once(table.clone()));
            may_have_more.extend(readers.into_iter().map(|reader| (reader, table.clone())));
        }
        let takes_all = |name: &TableName| contents.definition.text(name).is_some_and(|text| text.sql.contains('*'));
        may_have_more.retain(|name, _| takes_all(name));
        Self { of, may_have_more }
    }

    /// What is told of a column that something does not have; none where it has it, or where that is not known.
    fn missing(&self, name: &TableName, column: &str, told: impl Fn(Has<'_>) -> Diagnostic) -> Option<Diagnostic> {
        let names = self.of.get(name)?;
        let has = Has { column, names, declared: self.may_have_more.get(name) };
        (!names.iter().any(|known| known == column)).then(|| told(has))
    }
}

impl Has<'_> {
    /// A finding with what there is instead. Where there may be more than what is declared it is a warning.
    fn told(&self, finding: Diagnostic) -> Diagnostic {
        let names = self.names.iter().map(String::as_str);
        let finding = match project::closest(self.column, names) {
            Some(meant) => finding.hint(format!("Did you mean `{meant}`?")),
            None if (1..=LISTED_MAX).contains(&self.names.len()) => {
                finding.hint(format!("It has: {}.", self.names.join(", ")))
            }
            None => finding,
        };
        match self.declared {
            Some(table) => Diagnostic { severity: Severity::Warning, ..finding }.detail(format!(
                "The columns of {table} are known as they are declared: `tidemill check --online` asks the source."
            )),
            None => finding,
        }
    }
}
