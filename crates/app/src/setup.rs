//! From a project folder to what is to be run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use connect::{Source, TablePlace};
use plan::TableName;
use project::{Diagnostic, Files, Materialized, Options, Project};
use relation::Schema;

use crate::filters::{rule, table_left_out};
use crate::warehouse::AbsentTable;

/// Files of a project with the settings of connections.
const MAY_HAVE_SECRETS: [&str; 2] = ["connections.yml", "profiles.yml"];

/// Global options of the command line.
#[derive(Debug, Clone, Default)]
pub struct Global {
    pub project: Option<PathBuf>,
    pub target: Option<String>,
    pub vars: BTreeMap<String, serde_json::Value>,
    pub data: Option<PathBuf>,
}

/// A loaded project and where it is.
#[derive(Debug, Clone)]
pub struct Setup {
    pub folder: PathBuf,
    pub data: PathBuf,
    pub project: Project,
    pub findings: Vec<Diagnostic>,
}

impl Setup {
    /// Loads the project that the options name: the folder given, or here or the nearest parent with a project.
    pub fn load(global: &Global) -> anyhow::Result<Self> {
        let folder = match &global.project {
            Some(folder) => folder.clone(),
            None => nearest_project(&std::env::current_dir().context("there is no current folder")?),
        };
        let files =
            Files::read(&folder).with_context(|| format!("cannot read the project folder {}", folder.display()))?;
        let options =
            Options { target: global.target.clone(), vars: global.vars.clone(), env: std::env::vars().collect() };
        Ok(Self::from_files(folder, &files, &options, global.data.clone()))
    }

    /// The same for files that are at hand.
    pub fn from_files(folder: PathBuf, files: &Files, options: &Options, data: Option<PathBuf>) -> Self {
        let (mut project, mut findings) = project::load(files, options);
        findings.extend(crate::filters::findings(&project));
        findings.extend(crate::sources::findings(&project));
        leave_out_broken(&mut project, &findings);
        let data = data.unwrap_or_else(|| folder.join(&project.profile.data));
        Self { folder, data, project, findings }
    }

    /// The data folder that the options name, with the profile of the project where that can be read, and nothing else of it.
    pub fn of_data(global: &Global) -> anyhow::Result<Self> {
        let folder = match &global.project {
            Some(folder) => folder.clone(),
            None => nearest_project(&std::env::current_dir().context("there is no current folder")?),
        };
        let bare = Self { folder, data: PathBuf::new(), project: Project::default(), findings: Vec::new() };
        let loaded = if bare.is_project() { Self::load(global).ok() } else { None };
        if let (Some(target), Some(loaded)) = (&global.target, &loaded) {
            loaded.refuse_unknown_target(target)?;
        }
        let profile = loaded.map(|loaded| loaded.project.profile).unwrap_or_default();
        let data = global.data.clone().unwrap_or_else(|| bare.folder.join(&profile.data));
        Ok(Self { data, project: Project { profile, ..Project::default() }, ..bare })
    }

    /// A target that is named and is not there names no data folder, and not that of another one.
    fn refuse_unknown_target(&self, target: &str) -> anyhow::Result<()> {
        if self.project.profile.is_found {
            return Ok(());
        }
        let is_of_profile = |finding: &&Diagnostic| finding.place.file.ends_with("profiles.yml");
        match self.errors().find(is_of_profile) {
            Some(finding) => {
                let hint = finding.hint.as_ref().map(|hint| format!("\nHint: {hint}")).unwrap_or_default();
                bail!("{}: {}{hint}", finding.place, finding.message)
            }
            None => bail!("no profile of this project has an output `{target}`"),
        }
    }

    /// Whether its folder is a project's.
    pub fn is_project(&self) -> bool {
        ["dbt_project.yml", "connections.yml"].iter().any(|file| self.folder.join(file).is_file())
    }

    /// Whether something must be mended. What of the project has no part in it runs all the same, unless it [is
    /// stopped](Self::is_stopped).
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(Diagnostic::is_error)
    }

    /// What must be mended.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.findings.iter().filter(|finding| finding.is_error())
    }

    /// Whether something must be mended before anything of the project can run.
    pub fn is_stopped(&self) -> bool {
        self.findings.iter().any(|finding| self.project.is_stopped_by(finding))
    }

    /// Why it is not known what is to be read of the sources and what of it is personal; none where it is.
    pub fn half_read(&self) -> Option<String> {
        let files: Vec<&str> = self.project.half_read.iter().map(String::as_str).collect();
        (!files.is_empty()).then(|| format!("{} cannot be read: `tidemill check` says why", files.join(", ")))
    }

    /// A finding as people read it: with the line that it is about, where the file can be read. Not those of files that
    /// may have passwords in them: what is said ends in logs.
    pub fn shown(&self, finding: &Diagnostic) -> String {
        if MAY_HAVE_SECRETS.contains(&finding.place.file.as_str()) {
            return finding.to_string();
        }
        let text = std::fs::read_to_string(self.folder.join(&finding.place.file));
        text.map_or_else(|_| finding.to_string(), |text| finding.over(&text))
    }

    /// Whether a source of the project has a table of this name that is read, as far as is known: where YAML cannot be read, any
    /// table may be meant, and none is dropped.
    pub fn has_table(&self, name: &TableName) -> bool {
        let is_unread = |table: &project::UnreadTable| table.source == name.schema && table.name == name.name;
        self.reads_table(name) || !self.project.half_read.is_empty() || self.project.unread.iter().any(is_unread)
    }

    /// Whether a source of the project has a table of this name that is read.
    pub fn reads_table(&self, name: &TableName) -> bool {
        self.read_tables().any(|table| table.source == name.schema && table.name == name.name)
    }

    /// Tables that sources declare and no filter leaves out.
    fn read_tables(&self) -> impl Iterator<Item = &project::SourceTable> {
        self.project.sources.iter().filter(|table| table_left_out(&self.project, table).is_none())
    }

    /// What an instance reads at its start alone, as far as it is not what it was then: each as people read it. With what of
    /// its sources it is.
    pub fn needs_restart(&self, started: &Self, mut sources: Vec<String>) -> Vec<String> {
        let (old, new) = (&started.project, &self.project);
        let mut found = Vec::new();
        let profile = [
            ("pg", old.profile.pg != new.profile.pg),
            ("http", old.profile.http != new.profile.http),
            ("tls", old.profile.tls != new.profile.tls),
            ("workers", old.profile.workers != new.profile.workers),
            ("memory", old.profile.memory != new.profile.memory),
            ("backlog", old.profile.backlog != new.profile.backlog),
            ("reconcile", old.profile.reconcile != new.profile.reconcile),
            ("data", self.data != started.data),
        ];
        found
            .extend(profile.iter().filter(|(_, changed)| *changed).map(|(key, _)| format!("profile: `{key}` changed")));
        found.append(&mut sources);
        found
    }

    /// Tables that models have to wait for: those known to be absent, and those of the project that are not followed.
    pub fn not_followed(&self, known: &[(TableName, Schema)], mut absent: Vec<AbsentTable>) -> Vec<AbsentTable> {
        for table in self.read_tables() {
            let name = TableName::new(&table.source, &table.name);
            let is_known = known.iter().any(|(known, _)| *known == name);
            if !is_known && !absent.iter().any(|absent| absent.name == name) {
                let reason = format!(
                    "source table {name} is not followed yet: `tidemill apply` takes it up, and so does a start"
                );
                let source = table.connection.clone();
                absent.push(AbsentTable { source, name, reason, is_unasked: false });
            }
        }
        for table in self.unread_tables() {
            let is_known = known.iter().any(|(known, _)| *known == table.name);
            if !is_known && !absent.iter().any(|absent| absent.name == table.name) {
                absent.push(table);
            }
        }
        absent
    }

    /// Tables that the project declares where there is a mistake.
    pub fn unread_tables(&self) -> impl Iterator<Item = AbsentTable> {
        self.project.unread.iter().map(|table| AbsentTable {
            source: table.source.clone(),
            name: TableName::new(&table.source, &table.name),
            reason: format!("its source is declared with a mistake ({}): `tidemill check` says which", table.place),
            is_unasked: false,
        })
    }

    /// The connections that sources read from, with the tables wanted of each.
    pub fn feeds(&self) -> anyhow::Result<Vec<Feed<'_>>> {
        let mut feeds: Vec<Feed<'_>> = Vec::new();
        // Every table that a source declares is captured, also one that no model reads: it can be queried.
        for table in self.read_tables() {
            let Some(connection) = self.project.connection(&table.connection) else {
                bail!(
                    "source \"{}\" reads from the connection \"{}\", which connections.yml does not have",
                    table.source,
                    table.connection
                );
            };
            match feeds.iter_mut().find(|feed| feed.connection.name == connection.name) {
                Some(feed) => feed.tables.push(table),
                None => feeds.push(Feed { connection, tables: vec![table] }),
            }
        }
        Ok(feeds)
    }

    /// Models whose rows are kept.
    pub fn kept_models(&self) -> impl Iterator<Item = &project::Model> {
        self.project.models.iter().filter(|model| model.materialized.is_kept())
    }

    /// Models that are inlined but can be queried by name.
    pub fn views(&self) -> impl Iterator<Item = &project::Model> {
        self.project.models.iter().filter(|model| model.materialized == Materialized::View)
    }

    /// Where unqualified names are looked for: the models' schemas, then the sources'.
    pub fn search_path(&self) -> Vec<String> {
        let mut path = vec![self.project.profile.schema.clone()];
        let project = &self.project;
        let models = project.models.iter().map(|m| &m.schema).chain(project.parked.iter().map(|m| &m.schema));
        let sources = project.sources.iter().map(|s| &s.source).chain(project.unread.iter().map(|s| &s.source));
        for schema in models.chain(sources) {
            if !path.contains(schema) {
                path.push(schema.clone());
            }
        }
        path
    }
}

/// A model with a mistake in its own file is parked. Of tables whose filter cannot be gone by, or whose declaration has a mistake,
/// nothing is read.
fn leave_out_broken(project: &mut Project, findings: &[Diagnostic]) {
    let broken: BTreeSet<&str> =
        findings.iter().filter(|finding| finding.is_error()).map(|finding| finding.place.file.as_str()).collect();
    for model in project.models.extract_if(.., |model| broken.contains(model.file.as_str())) {
        let mistake = findings.iter().find(|finding| finding.is_error() && finding.place.file == model.file).cloned();
        project.parked.push(project::Parked {
            model: model.name,
            schema: model.schema,
            alias: model.alias,
            materialized: model.materialized,
            file: model.file,
            reason: "there is a mistake in it".to_owned(),
            mistake,
            personal: project::marks(&model.columns),
            description: model.description,
            columns: model.columns,
            tests: model.tests,
        });
    }
    let is_broken = |table: &project::SourceTable| {
        crate::filters::is_not_filtered(project, table) || !crate::sources::faults(project, table).is_empty()
    };
    let is_broken: Vec<bool> = project.sources.iter().map(is_broken).collect();
    let mut is_broken = is_broken.into_iter();
    for table in project.sources.extract_if(.., |_| is_broken.next().unwrap_or(false)) {
        let personal = project::marks(&table.columns);
        let (source, name, place) = (table.source, table.name, table.place);
        project.unread.push(project::UnreadTable { source, name, place, personal });
    }
}

/// A connection and the tables read from it.
#[derive(Debug)]
pub struct Feed<'a> {
    pub connection: &'a project::Connection,
    pub tables: Vec<&'a project::SourceTable>,
}

impl Feed<'_> {
    /// Where its tables are in the source.
    pub fn wanted(&self) -> Vec<TablePlace> {
        self.tables.iter().map(|table| place(self.connection, table)).collect()
    }

    /// The source itself. One of a kind that is not known, whose settings are refused or whose secret cannot be read says so when it
    /// is asked.
    pub async fn source(&self) -> Arc<dyn Source> {
        crate::sources::open_by_and_by(self.connection).await
    }
}

/// Where a table of a connection is in its source.
pub(crate) fn place(connection: &project::Connection, table: &project::SourceTable) -> TablePlace {
    let default = connection.database().unwrap_or_default();
    TablePlace {
        database: table.schema.clone().unwrap_or_else(|| default.to_owned()),
        name: table.identifier.clone(),
        columns: rule(connection, table),
        declared: crate::sources::declared(connection, table),
    }
}

fn nearest_project(from: &Path) -> PathBuf {
    let found = from.ancestors().find(|folder| folder.join("dbt_project.yml").is_file());
    found.unwrap_or(from).to_path_buf()
}
