//! The models and views of a project as texts that can be planned again without it.
//!
//! What serves is kept with the data: after a restart it serves again, whatever the project says by then, and what the
//! project says is built beside it. Two definitions are compared by what their texts plan to, so that a comment or a blank is no
//! change.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use plan::{Planned, Refusal, TableInfo, TableName};
use project::{Dependency, Materialized, Place, SourceMap};
use relation::Schema;
use serde::{Deserialize, Serialize};

use crate::deep::deep;
use crate::documentation::{self, Documented};
use crate::reason::Reason;
use crate::setup::Setup;

/// Models and views, each after those it reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub models: Vec<ModelText>,
    /// Where unqualified names are looked for.
    pub search_path: Vec<String>,
    /// Why it is not known how its models are kept; empty where it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub half_read: String,
    /// What is said of tables, models and views.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documentation: Vec<Documented>,
}

/// What serves, as the engine keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub definition: Definition,
    /// What a rollback gave up: a start does not take it again while the project says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<Definition>,
    /// By what statements tables came to have other columns, as long as models wait for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<Altered>,
}

/// See [`Kept::altered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Altered {
    pub schema: String,
    pub table: String,
    pub statement: String,
}

impl Altered {
    /// The table's full name.
    pub fn table_name(&self) -> TableName {
        TableName::new(&self.schema, &self.table)
    }
}

impl Kept {
    /// As the engine keeps it.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec(self).context("cannot write the definition of the models down")
    }

    /// The reverse of [`Kept::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes).context("the definition of the models that serve cannot be read")
    }
}

/// A model or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelText {
    pub schema: String,
    pub name: String,
    /// dbt's word.
    pub materialized: String,
    pub is_view: bool,
    /// After Jinja.
    pub sql: String,
    pub file: String,
    /// Before Jinja, as far as that is known.
    #[serde(default, skip_serializing_if = "Written::is_empty")]
    pub written: Written,
    pub description: String,
    /// Tables and models that it reads: schema and name.
    pub reads: Vec<(String, String)>,
    /// Why it has no text, and so reads nothing; none where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Where its text came from.
    #[serde(skip)]
    pub origin: Origin,
}

/// The text of a file. What a model says is its text after Jinja: this one is for people, and makes no difference.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Written(pub String);

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl Written {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// From the places of a text to those of its files. It is no part of what a text says, and is not kept.
#[derive(Debug, Clone, Default)]
pub struct Origin(SourceMap);

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

/// A model with its plan.
#[derive(Debug, Clone)]
pub struct PlannedModel {
    pub name: TableName,
    pub materialized: String,
    pub planned: Planned,
}

/// What planning a definition comes to.
#[derive(Debug, Default)]
pub struct Plans {
    pub models: Vec<PlannedModel>,
    /// Models that cannot be planned, once for each mistake. Those over them are left out without a word.
    pub refused: Vec<(TableName, Refusal)>,
}

impl ModelText {
    /// Its full name.
    pub fn table_name(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }

    /// Where a refusal of it stands in the project.
    pub fn place(&self, refusal: &Refusal) -> Place {
        let place = refusal.line.and_then(|(line, column)| self.origin.0.locate_line(&self.sql, line, column));
        place.unwrap_or_else(|| Place::file(&self.file))
    }

    /// A refusal of it as text, with its place: see [`Reason`].
    pub fn told(&self, refusal: &Refusal) -> String {
        at_place(&self.place(refusal), &refusal.message, &refusal.detail, &refusal.hint)
    }

    /// Whether it says the same, wherever it stands.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.sql, self.is_view, &self.broken) == (&other.sql, other.is_view, &other.broken)
    }

    /// Full names of what it reads.
    pub fn upstream(&self) -> impl Iterator<Item = TableName> {
        self.reads.iter().map(|(schema, name)| TableName::new(schema, name))
    }
}

impl Definition {
    /// The models and views of a project.
    pub fn of(setup: &Setup) -> Self {
        let named = |model: &project::Model| (model.schema.clone(), model.alias.clone());
        let models = setup.project.models.iter().filter(|model| model.materialized != Materialized::Ephemeral);
        let texts = models.map(|model| {
            let reads = model.reads.iter().filter_map(|read| match read {
                Dependency::Model(of) => setup.project.model(of).map(named).or_else(|| {
                    let parked = setup.project.parked.iter().find(|model| model.model == *of)?;
                    Some((parked.schema.clone(), parked.alias.clone()))
                }),
                Dependency::Source { source, table } => Some((source.clone(), table.clone())),
            });
            ModelText {
                schema: model.schema.clone(),
                name: model.alias.clone(),
                materialized: model.materialized.word().to_owned(),
                is_view: model.materialized == Materialized::View,
                sql: model.sql.clone(),
                file: model.file.clone(),
                written: Written(model.spans.written(&model.file).unwrap_or_default().to_owned()),
                description: model.description.clone().unwrap_or_default(),
                reads: reads.collect(),
                broken: None,
                origin: Origin(model.spans.clone()),
            }
        });
        let texts: Vec<ModelText> = texts.collect();
        // Of two that want one name the one with a text has it.
        let is_taken = |model: &&project::Parked| {
            texts.iter().any(|text| (&text.schema, &text.name) == (&model.schema, &model.alias))
        };
        let broken = setup.project.parked.iter().filter(|model| model.materialized != Materialized::Ephemeral);
        let broken = broken.filter(|model| !is_taken(model));
        let broken = broken.map(|model| ModelText {
            schema: model.schema.clone(),
            name: model.alias.clone(),
            materialized: model.materialized.word().to_owned(),
            is_view: model.materialized == Materialized::View,
            sql: String::new(),
            file: model.file.clone(),
            written: Written::default(),
            description: String::new(),
            reads: Vec::new(),
            broken: Some(why_broken(setup, model)),
            origin: Origin::default(),
        });
        Self {
            models: broken.collect::<Vec<_>>().into_iter().chain(texts).collect(),
            search_path: setup.search_path(),
            half_read: setup.half_read().unwrap_or_default(),
            documentation: documentation::of(setup),
        }
    }

    /// A model or view by its name.
    pub fn text(&self, name: &TableName) -> Option<&ModelText> {
        self.models.iter().find(|text| text.table_name() == *name)
    }

    /// Views by name: their SQL.
    pub fn views(&self) -> impl Iterator<Item = (TableName, &str)> {
        self.models.iter().filter(|text| text.is_view).map(|text| (text.table_name(), text.sql.as_str()))
    }

    /// The same without these models and views.
    pub fn without(&self, left_out: &BTreeSet<TableName>) -> Self {
        let models = self.models.iter().filter(|text| !left_out.contains(&text.table_name())).cloned();
        Self { models: models.collect(), half_read: String::new(), ..self.clone() }
    }

    /// These models and views with all that reads them, however far above.
    pub fn readers_of(&self, of: impl Iterator<Item = TableName>) -> BTreeSet<TableName> {
        let mut found: BTreeSet<TableName> = of.collect();
        // As often as the longest way is long: readers may stand before what they read.
        loop {
            let before = found.len();
            for text in &self.models {
                if text.upstream().any(|upstream| found.contains(&upstream)) {
                    found.insert(text.table_name());
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// Relations that a model's text reads and that are nowhere: none of these tables, whose columns need not be known, and no model or
    /// view.
    pub fn unknown_relations<'a>(&self, sql: &str, tables: impl Iterator<Item = &'a TableName>) -> Vec<Refusal> {
        let models = self.models.iter().map(ModelText::table_name);
        let info = |name: TableName| (name.clone(), TableInfo { name, schema: Schema::new(Vec::new(), Vec::new()) });
        let tables = tables.cloned().chain(models).map(info).collect();
        let names = Names { path: self.search_path.clone(), tables, ..Names::default() };
        deep(|| plan::unknown_relations(sql, &names))
    }

    /// Plans all models over tables of these schemas.
    pub fn plan(&self, tables: &[(TableName, Schema)]) -> Plans {
        deep(|| self.plan_here(tables))
    }

    fn plan_here(&self, tables: &[(TableName, Schema)]) -> Plans {
        let mut names = Names { path: self.search_path.clone(), ..Names::default() };
        for (name, schema) in tables {
            names.tables.insert(name.clone(), TableInfo { name: name.clone(), schema: schema.clone() });
        }
        let mut plans = Plans::default();
        let mut missing: BTreeSet<TableName> = BTreeSet::new();
        for text in self.models.iter().filter(|text| text.broken.is_none()) {
            let name = text.table_name();
            if text.is_view {
                names.views.insert(name, text.sql.clone());
                continue;
            }
            match plan::plan_model(&text.sql, &names) {
                Ok(planned) => {
                    let info = TableInfo { name: name.clone(), schema: planned.schema.clone() };
                    names.tables.insert(name.clone(), info);
                    plans.models.push(PlannedModel { name, materialized: text.materialized.clone(), planned });
                }
                Err(refusal) => {
                    // A model over one that failed would only say so again.
                    if !text.upstream().any(|upstream| missing.contains(&upstream)) {
                        let further = plan::further_mistakes(&text.sql, &names, &refusal);
                        let mut mistakes: Vec<Refusal> = [refusal].into_iter().chain(further).collect();
                        mistakes.sort_by_key(|refusal| refusal.line);
                        plans.refused.extend(mistakes.into_iter().map(|refusal| (name.clone(), refusal)));
                    }
                    missing.insert(name);
                }
            }
        }
        plans
    }
}

/// Why a model has no text: the first mistake in its file, or in what it calls or is made of, or what its loader says.
fn why_broken(setup: &Setup, model: &project::Parked) -> String {
    let of_file = setup.errors().find(|finding| finding.place.file == model.file);
    match of_file.or(model.mistake.as_ref()) {
        Some(found) => {
            let of = |part: &Option<String>| part.clone().unwrap_or_default();
            at_place(&found.place, &found.message, &of(&found.detail), &of(&found.hint))
        }
        None => {
            let reasons = [Some(model.reason.clone()), setup.half_read()];
            format!("{}: {}", model.file, reasons.into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
    }
}

/// What is wrong at a place of the project, as text: see [`Reason`].
pub fn at_place(place: &Place, message: &str, detail: &str, hint: &str) -> String {
    let in_one_line = |text: &str| text.replace('\n', " ");
    let reason = Reason { message: in_one_line(message), detail: in_one_line(detail), hint: in_one_line(hint) };
    reason.behind(&format!("{place}: ")).to_string()
}

/// Names for the planner.
#[derive(Default)]
pub struct Names {
    path: Vec<String>,
    tables: BTreeMap<TableName, TableInfo>,
    views: BTreeMap<TableName, String>,
}

impl Names {
    /// The tables and views of a catalogue.
    pub fn of(catalog: &query::Catalog) -> Self {
        let table = |table: &query::StoredTable| {
            (table.name.clone(), TableInfo { name: table.name.clone(), schema: table.schema.clone() })
        };
        let view = |name: &TableName| Some((name.clone(), catalog.view(name)?.to_owned()));
        Self {
            path: catalog.search_path().to_vec(),
            tables: catalog.tables().map(table).collect(),
            views: catalog.names().filter_map(view).collect(),
        }
    }

    fn find<'a, T>(&'a self, of: &'a BTreeMap<TableName, T>, schema: Option<&str>, name: &str) -> Option<&'a T> {
        match schema {
            Some(schema) => of.get(&TableName::new(schema, name)),
            None => self.path.iter().find_map(|schema| of.get(&TableName::new(schema, name))),
        }
    }
}

impl plan::Catalog for Names {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<TableInfo> {
        self.find(&self.tables, schema, name).cloned()
    }

    fn view(&self, schema: Option<&str>, name: &str) -> Option<String> {
        self.find(&self.views, schema, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.tables.keys().chain(self.views.keys()).map(ToString::to_string).collect()
    }
}
