//! Loading: from files to a project, all findings at once.
//!
//! Settings and profile come first, since everything else is rendered with them; then connections, macros and the YAML
//! beside the models; then each model twice, once for its configs and references, once for its text; then the graph, and what
//! reads the models: dashboards, roles and syncs. What is broken is parked, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::connection::ConnectionKind;
use crate::diagnostic::{Diagnostic, Place, did_you_mean, tidy};
use crate::docs::Docs;
use crate::drafts::{Loader, RESERVED_SCHEMAS};
use crate::files::{Files, folder_of, has_extension, stem};
use crate::jinja::macros::Macros;
use crate::jinja::scope::{Known, Relation, Render, Subject, World};
use crate::jinja::{Engine, YamlJinja, functions};
use crate::model::{Materialized, Parked, Project, SourceTable, UnreadTable};
use crate::properties::{self, Properties};
use crate::{connection, dashboard, data_test, profile, role, settings, singular, sync, unread, yaml};

/// What is not in the files: the command line and the environment.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--target`: an output of the profile.
    pub target: Option<String>,
    /// `--vars`: they win over the project's.
    pub vars: BTreeMap<String, Json>,
    /// The environment's variables.
    pub env: BTreeMap<String, String>,
}

/// Loads and renders a project. Findings are sorted by place; the project holds what could be loaded despite them.
pub fn load(files: &Files, options: &Options) -> (Project, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let project = match files.get(settings::FILE) {
        Some(text) => load_project(files, text, options, &mut found),
        None => {
            let error = Diagnostic::error(Place::file(settings::FILE), "there is no dbt_project.yml in this folder");
            found.push(
                error.hint("Run this in a dbt project (a folder with dbt_project.yml), or give one with --project."),
            );
            Project::default()
        }
    };
    for (file, reason) in files.unreadable() {
        found.push(Diagnostic::error(Place::file(file), "this file cannot be read").detail(reason));
    }
    tidy(&mut found);
    (project, found)
}

fn load_project(files: &Files, text: &str, options: &Options, found: &mut Vec<Diagnostic>) -> Project {
    let mut node = match yaml::parse(settings::FILE, text) {
        Ok(node) => node,
        Err(error) => {
            found.push(error);
            return Project::default();
        }
    };
    let mut vars = settings::variables(&node);
    vars.extend(options.vars.clone());
    let jinja = YamlJinja::new(vars.clone(), options.env.clone());
    let name = rendered_profile_name(&node, &jinja);
    let profile = profile::read(files, name.as_deref(), options.target.as_deref(), &jinja, found);
    let mut world = World { profile, vars, env: options.env.clone(), ..World::default() };
    let project_name = node.get("name").and_then(yaml::Node::text).unwrap_or_default().to_owned();
    world.project = project_name.clone();
    let jinja = jinja.with_target(target(&world), &project_name);
    jinja.render(&mut node, settings::FILE, settings::UNRENDERED, found);
    let settings = settings::read(&node, found);

    let (connections, broken_connections) = connection::read(files, &jinja, found);
    let before = found.len();
    let docs = Docs::read(files, &settings.docs_paths, &project_name, found);
    let properties = properties::read(files, &settings.model_paths, &jinja, &docs, found);
    let mut half_read: BTreeSet<String> =
        // A test that cannot be read says nothing of what is kept, or of who reads it.
        found[before..]
            .iter()
            .filter(|finding| finding.is_error() && !finding.alone)
            .map(|finding| finding.place.file.clone())
            .collect();
    half_read.extend(properties::unreadable(files, &settings.model_paths));
    let macros = Macros::read(files, &settings.name, &settings.macro_paths, settings.dispatch.clone(), found);
    world.macros = Arc::new(macros);
    let seeds = files.others().filter(|path| has_extension(path, "csv"));
    let folders: Vec<String> = settings.model_paths.iter().chain(&settings.macro_paths).cloned().collect();
    let snapshots = files.iter().map(|(path, _)| path).filter(|path| !has_extension(path, "md"));
    let snapshots = snapshots.filter(|path| folder_of(path, &folders).is_none());
    world.no_models = seeds.chain(snapshots).map(stem).map(str::to_owned).collect();

    let (profile, vars) = (world.profile.clone(), world.vars.clone());
    let mut project =
        Project { name: settings.name.clone(), profile, vars, connections, broken_connections, ..Project::default() };
    let own = [dashboard::FOLDER, sync::FOLDER].map(str::to_owned);
    project.parts = [&settings.model_paths[..], &settings.macro_paths, &own].concat();
    project.half_read = half_read;
    (project.sources, project.unread) = sources(&properties, &project, &mut world, found);
    let macros = Arc::clone(&world.macros);
    let engine = Engine::new(files, &macros, found);
    let mut loader = Loader { files, settings, properties, engine, world, found, project };
    let world = loader.models();
    let Loader { found, mut project, settings, properties, engine, .. } = loader;
    let is_ephemeral = |name: &str| matches!(world.models.get(name), Some(Known::Ephemeral));
    let statements = dashboard::Statements { engine: &engine, world: &world, is_ephemeral: &is_ephemeral };
    project.dashboards = dashboard::read(files, &jinja, &statements, found);
    let unreadable = files.unreadable().map(|(file, _)| file);
    for file in unreadable.filter(|file| has_extension(file, "sql") && folder_of(file, &settings.model_paths).is_some())
    {
        let patch = properties.models.get(stem(file));
        project.parked.push(Parked {
            model: stem(file).to_owned(),
            schema: project.profile.schema.clone(),
            alias: stem(file).to_owned(),
            materialized: Materialized::Table,
            file: file.to_owned(),
            reason: "its file cannot be read".to_owned(),
            mistake: None,
            personal: patch.map(|patch| role::marks(&patch.columns)).unwrap_or_default(),
            description: patch.and_then(|patch| patch.description.clone()),
            columns: patch.map(|patch| patch.columns.clone()).unwrap_or_default(),
            tests: patch.map(|patch| patch.tests.clone()).unwrap_or_default(),
        });
    }
    let mistakes = data_test::check(files, &settings, &properties, &world, found);
    let of_models = project.models.iter_mut().flat_map(|model| &mut model.tests);
    let of_parked = project.parked.iter_mut().flat_map(|model| &mut model.tests);
    for test in of_models.chain(of_parked).chain(project.sources.iter_mut().flat_map(|table| &mut table.tests)) {
        test.mistake = mistakes.get(&test.place).cloned();
    }
    project.singular_tests = singular::read(files, &settings, &engine, &world);
    unread::files(files, &settings, found);
    role::read(files, &jinja, &mut project, found);
    project.syncs = sync::read(files, &jinja, &project, found);
    project
}

/// The profile's name is needed before anything else can be rendered.
fn rendered_profile_name(node: &yaml::Node, jinja: &YamlJinja) -> Option<String> {
    let mut name = node.get("profile")?.clone();
    jinja.render(&mut name, settings::FILE, &[], &mut Vec::new());
    name.text().map(str::to_owned)
}

fn target(world: &World) -> minijinja::Value {
    let world = World { profile: world.profile.clone(), ..World::default() };
    functions::target(&Render::new(Arc::new(world), Subject::default(), false, BTreeSet::new()))
}

/// Source tables that are switched on, with their connections, and those of which it is not known what is to be read; notes for
/// `source()` what there is.
fn sources(
    properties: &Properties,
    project: &Project,
    world: &mut World,
    found: &mut Vec<Diagnostic>,
) -> (Vec<SourceTable>, Vec<UnreadTable>) {
    let (mut tables, mut unread) = (Vec::new(), Vec::new());
    let mut complained = BTreeSet::new();
    for declared in &properties.tables {
        let mut table = declared.table.clone();
        let key = (table.source.clone(), table.name.clone());
        if !declared.enabled {
            world.sources.insert(key, Known::Disabled);
            continue;
        }
        let relation = Relation { schema: table.source.clone(), name: table.name.clone() };
        world.sources.insert(key, Known::Model(relation));
        match project.connection(&table.connection) {
            Some(connection) => {
                table.schema = table.schema.or_else(|| connection.database().map(str::to_owned));
                let needed = matches!(connection.kind, ConnectionKind::Mysql { .. });
                if needed
                    && table.schema.is_none()
                    && complained.insert((table.source.clone(), table.connection.clone()))
                {
                    found.push(no_database(&table));
                }
            }
            // Of one that has a mistake it is told already.
            None if complained.insert((table.source.clone(), table.connection.clone()))
                && !project.broken_connections.contains_key(&table.connection) =>
            {
                found.push(no_connection(&table, project));
            }
            None => {}
        }
        let is_nowhere = complained.contains(&(table.source.clone(), table.connection.clone()));
        let is_reserved = RESERVED_SCHEMAS.contains(&table.source.as_str());
        if is_reserved {
            let message = format!("`{}` is a schema of the system: a source cannot have its name", table.source);
            found.push(Diagnostic::error(table.place.clone(), message));
        }
        if is_nowhere || is_reserved || project.half_read.contains(&table.place.file) {
            let personal = role::marks(&table.columns);
            let of_connection = project.broken_connections.get(&table.connection).cloned();
            let place = of_connection.unwrap_or(table.place);
            unread.push(UnreadTable { source: table.source, name: table.name, place, personal });
            continue;
        }
        tables.push(table);
    }
    tables.sort_by(|a, b| (&a.source, &a.name).cmp(&(&b.source, &b.name)));
    (tables, unread)
}

fn no_connection(table: &SourceTable, project: &Project) -> Diagnostic {
    let wanted = &table.connection;
    let names = project.connections.iter().map(|connection| connection.name.as_str());
    let hint = did_you_mean(wanted, names).unwrap_or_else(|| {
        format!(
            "Add `{wanted}:` to connections.yml, or name another in the source's `config: {{meta: {{connection: …}}}}`."
        )
    });
    Diagnostic::error(table.place.clone(), format!("source `{}` has no connection", table.source))
        .detail(format!("connections.yml has no entry `{wanted}`."))
        .hint(hint)
}

fn no_database(table: &SourceTable) -> Diagnostic {
    Diagnostic::error(table.place.clone(), format!("source `{}` names no database", table.source)).hint(format!(
        "Give connection `{}` a `database`, or the source a `schema`: that is the database in the server.",
        table.connection
    ))
}
