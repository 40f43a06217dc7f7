//! What a loaded project consists of: models, source tables, and what was said about them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::connection::{Connection, Pattern};
use crate::dashboard::Dashboard;
use crate::diagnostic::{Diagnostic, Place};
use crate::files::folder_of;
use crate::profile::Profile;
use crate::role::{GrantPlace, Marks, Role};
use crate::source_map::SourceMap;
use crate::sync::Sync;

/// A dbt project, loaded and rendered.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// The chosen output of its profile.
    pub profile: Profile,
    /// Models whose text could be made, each behind all of these that it depends on; ephemeral ones too.
    pub models: Vec<Model>,
    /// Tables of sources, by source and name.
    pub sources: Vec<SourceTable>,
    /// Tables that are declared where there is a mistake: what is to be read of them is not known, so they are not among the
    /// sources.
    pub unread: Vec<UnreadTable>,
    /// Entries of `connections.yml`.
    pub connections: Vec<Connection>,
    /// Entries of it with a mistake, and where they are: nothing is read of these, and of no other for that.
    pub broken_connections: BTreeMap<String, Place>,
    /// Dashboards, by file and place in it.
    pub dashboards: Vec<Dashboard>,
    /// Syncs, by file.
    pub syncs: Vec<Sync>,
    /// Models left out, because of a mistake in them or in an ephemeral one that they are made of.
    pub parked: Vec<Parked>,
    /// YAML files beside the models with a mistake: what they say of models, sources and personal columns is not all known.
    pub half_read: BTreeSet<String>,
    /// Folders of which a file with a mistake stops what is in it, and nothing else.
    pub parts: Vec<String>,
    /// Data tests that are statements of their own, by file.
    pub singular_tests: Vec<SingularTest>,
    /// What macros logged with `log(…, info=True)`.
    pub notes: Vec<Note>,
    /// Variables in force.
    pub vars: BTreeMap<String, Json>,
    /// Who reads what, by the role's name.
    pub roles: BTreeMap<String, Role>,
    /// Roles with a mistake: they read nothing.
    pub broken_roles: BTreeSet<String>,
    /// Whether there is a mistake in `roles.yml` by which no role is known.
    pub roles_unread: bool,
    /// Where its grants are written.
    pub grant_places: Vec<GrantPlace>,
}

impl Project {
    /// The model of a name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// Whether a finding keeps the project as a whole from running: a mistake in a file that says how everything is run.
    pub fn is_stopped_by(&self, finding: &Diagnostic) -> bool {
        finding.is_error() && !finding.alone && folder_of(&finding.place.file, &self.parts).is_none()
    }

    /// The connection of a name.
    pub fn connection(&self, name: &str) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.name == name)
    }
}

/// A model that is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// Its name.
    pub model: String,
    /// Schema and name that it would appear under, as far as they are known.
    pub schema: String,
    /// See `schema`.
    pub alias: String,
    /// How it would be kept.
    pub materialized: Materialized,
    /// Its file.
    pub file: String,
    /// Why.
    pub reason: String,
    /// The first mistake for which it has no text, in its own file, in a macro that it calls or in an ephemeral model that it is made
    /// of; none where it is told elsewhere.
    pub mistake: Option<Diagnostic>,
    /// What its YAML says of its columns: it may serve as it was.
    pub personal: Marks,
    /// What the YAML says about it.
    pub description: Option<String>,
    /// What the YAML says about its columns.
    pub columns: Vec<Column>,
    /// Tests of the model and of its columns: they have no answer.
    pub tests: Vec<DataTest>,
}

/// A table of a source that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadTable {
    /// Name of the source.
    pub source: String,
    /// Name in the project.
    pub name: String,
    /// Where it is declared.
    pub place: Place,
    /// What is said of its columns all the same.
    pub personal: Marks,
}

/// A line that a macro logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The model being rendered.
    pub model: String,
    /// The line.
    pub text: String,
}

/// How a model is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Materialized {
    /// Kept up to date.
    Table,
    /// Kept up to date; the text is the full definition.
    Incremental,
    /// Kept up to date.
    MaterializedView,
    /// Inlined where it is used; can be queried by name.
    View,
    /// Inlined where it is used; has no name of its own.
    Ephemeral,
}

impl Materialized {
    pub(crate) const ALL: [Self; 5] =
        [Self::Table, Self::Incremental, Self::MaterializedView, Self::View, Self::Ephemeral];

    /// dbt's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Incremental => "incremental",
            Self::MaterializedView => "materialized_view",
            Self::View => "view",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// Whether its rows are kept.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Table | Self::Incremental | Self::MaterializedView)
    }
}

/// What a model refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// `ref('name')`
    Model(String),
    /// `source('source', 'table')`
    Source {
        /// Name of the source: the schema of its tables.
        source: String,
        /// Name of the table in the project.
        table: String,
    },
}

/// One model.
#[derive(Debug, Clone)]
pub struct Model {
    /// dbt's name: the file's name.
    pub name: String,
    /// Schema it appears in.
    pub schema: String,
    /// Name it appears under in that schema.
    pub alias: String,
    /// How it is kept.
    pub materialized: Materialized,
    /// Its file.
    pub file: String,
    /// Project, folders and name.
    pub fqn: Vec<String>,
    /// Rendered text: references are `"schema"."name"`, ephemeral models CTEs named `__dbt__cte__<name>`; no `;` at the end.
    pub sql: String,
    /// Where each byte of `sql` came from.
    pub spans: SourceMap,
    /// What its own text refers to, in order of appearance, ephemeral models included.
    pub depends_on: Vec<Dependency>,
    /// What `sql` reads: as `depends_on`, but through ephemeral models instead of them.
    pub reads: Vec<Dependency>,
    /// What the YAML says about it.
    pub description: Option<String>,
    /// What the YAML says about its columns.
    pub columns: Vec<Column>,
    /// Tests of the model and of its columns.
    pub tests: Vec<DataTest>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its `meta`.
    pub meta: BTreeMap<String, Json>,
    /// Columns that identify a row, if the model says so.
    pub unique_key: Vec<String>,
    /// Where it says so; else its file.
    pub unique_key_place: Place,
    /// All its configs.
    pub config: BTreeMap<String, Json>,
}

/// A column as the YAML describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub place: Place,
    /// Its type, if declared.
    pub data_type: Option<String>,
    /// Where that is said; else as `place`.
    pub data_type_place: Place,
    /// What it holds.
    pub description: Option<String>,
    /// Its `meta`.
    pub meta: BTreeMap<String, Json>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// A data test as the YAML declares it; its Jinja is not rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct DataTest {
    /// Name of the test, such as `not_null`.
    pub test: String,
    /// Package it comes from, as in `dbt_utils.equality`.
    pub package: Option<String>,
    /// A name of its own.
    pub name: Option<String>,
    /// Column it is declared on.
    pub column: Option<String>,
    /// Arguments of the test.
    pub arguments: BTreeMap<String, Json>,
    /// Severity, where, limit and so on.
    pub config: BTreeMap<String, Json>,
    /// Where it is declared.
    pub place: Place,
    /// Why it cannot be run, with the place; none where nothing was found to be wrong with it.
    pub mistake: Option<String>,
}

impl DataTest {
    /// Whether it is to be run: `enabled: false` switches it off.
    pub fn is_enabled(&self) -> bool {
        self.config.get("enabled").and_then(Json::as_bool).unwrap_or(true)
    }
}

/// A data test that is a statement of its own, in the folder of tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingularTest {
    /// The file's name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// What it refers to, in order of appearance, as far as that was found out.
    pub depends_on: Vec<Dependency>,
}

/// A table of a source.
#[derive(Debug, Clone)]
pub struct SourceTable {
    /// dbt's name of the source, and the schema its tables appear in.
    pub source: String,
    /// Name in the project.
    pub name: String,
    /// Name in the server.
    pub identifier: String,
    /// Database in the server: the source's `schema`, else the connection's `database`.
    pub schema: Option<String>,
    /// Name of the connection it is read from.
    pub connection: String,
    /// What it holds.
    pub description: Option<String>,
    /// What the YAML says about its columns.
    pub columns: Vec<Column>,
    /// Tests of the table and of its columns.
    pub tests: Vec<DataTest>,
    /// Tags of the source and the table.
    pub tags: Vec<String>,
    /// `meta` of the source and the table.
    pub meta: BTreeMap<String, Json>,
    /// Columns that are not read, by `meta: {columns: {exclude: […]}}` of the source and the table.
    pub left_out: Vec<Pattern>,
    /// `freshness`, the table's over the source's.
    pub freshness: Option<Json>,
    /// Column that tells a row's age.
    pub loaded_at_field: Option<String>,
    /// Where it is declared.
    pub place: Place,
}
