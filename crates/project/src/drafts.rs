//! Models on their way from file to text: configs, names, and the two passes of rendering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::config::{self, Config};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::ephemeral::Mapped;
use crate::files::{Files, folder_of, stem};
use crate::jinja::Engine;
use crate::jinja::scope::{Known, Relation, Subject, World};
use crate::model::{Dependency, Materialized, Note, Project};
use crate::properties::Properties;
use crate::settings::Settings;

/// Schemas that belong to the system.
pub(crate) const RESERVED_SCHEMAS: &[&str] = &["tidemill", "information_schema", "pg_catalog"];

/// A model on its way.
pub(crate) struct Draft<'a> {
    pub(crate) name: String,
    pub(crate) file: &'a str,
    pub(crate) fqn: Vec<String>,
    /// Whether its text can be made: its Jinja is read, and it has a place of its own.
    pub(crate) compiled: bool,
    pub(crate) config: Config,
    pub(crate) references: Vec<Dependency>,
    pub(crate) materialized: Materialized,
    pub(crate) relation: Relation,
    /// What went wrong in the first pass; told only if the second one finds nothing.
    pub(crate) first_pass: Option<Diagnostic>,
    /// The first mistake for which it has no text, wherever that stands.
    pub(crate) mistake: Option<Diagnostic>,
    pub(crate) text: Option<Mapped>,
}

pub(crate) struct Loader<'a> {
    pub(crate) files: &'a Files,
    pub(crate) settings: Settings,
    pub(crate) properties: Properties,
    pub(crate) engine: Engine<'a>,
    pub(crate) world: World,
    pub(crate) found: &'a mut Vec<Diagnostic>,
    pub(crate) project: Project,
}

impl<'a> Loader<'a> {
    /// Loads all models into the project. Answers what other texts, such as those of dashboards, are rendered with.
    pub(crate) fn models(&mut self) -> Arc<World> {
        let first = Arc::new(self.first_pass_world());
        let mut drafts = self.drafts(&first);
        self.check_folders(&drafts);
        self.check_patches(&drafts);
        drafts.retain(|draft| {
            let enabled = draft.config.flag("enabled").unwrap_or(true);
            if !enabled {
                self.world.models.insert(draft.name.clone(), Known::Disabled);
            }
            enabled
        });
        self.remove_duplicates(&mut drafts);
        for draft in &mut drafts {
            let before = self.found.len();
            self.settle(draft, &first);
            draft.stop(self.error_since(before));
        }
        for (clashing, mistake) in self.check_clashes(&drafts) {
            drafts[clashing].stop(Some(mistake));
        }
        self.world.models.extend(drafts.iter().map(|draft| (draft.name.clone(), known(draft))));
        let world = Arc::new(std::mem::take(&mut self.world));
        for draft in &mut drafts {
            let before = self.found.len();
            self.second_pass(draft, &world);
            if draft.text.is_none() {
                draft.mistake = draft.mistake.take().or_else(|| self.error_since(before));
            }
        }
        self.finish(drafts);
        world
    }

    /// The first error among what was found since there were so many findings.
    fn error_since(&self, before: usize) -> Option<Diagnostic> {
        self.found.get(before..)?.iter().find(|finding| finding.is_error()).cloned()
    }

    /// In the first pass a reference to any file finds a model.
    fn first_pass_world(&self) -> World {
        let mut world = World {
            project: self.world.project.clone(),
            profile: self.world.profile.clone(),
            vars: self.world.vars.clone(),
            env: self.world.env.clone(),
            macros: Arc::clone(&self.world.macros),
            sources: self.world.sources.clone(),
            ..World::default()
        };
        let schema = &self.world.profile.schema;
        for (file, _) in self.files.below(&self.settings.model_paths, &["sql"]) {
            let name = stem(file).to_owned();
            world.models.insert(name.clone(), Known::Model(Relation { schema: schema.clone(), name }));
        }
        world
    }

    fn drafts(&mut self, world: &Arc<World>) -> Vec<Draft<'a>> {
        let files = self.files;
        let folders = self.settings.model_paths.clone();
        for path in files.others().filter(|path| path.ends_with(".py") && folder_of(path, &folders).is_some()) {
            let error = Diagnostic::error(Place::file(path), "Python models are not supported");
            self.found.push(error.hint("Write the model in SQL."));
        }
        let files = files.below(&folders, &["sql"]);
        files.into_iter().map(|(file, text)| self.draft(world, &folders, file, text)).collect()
    }

    fn draft(&mut self, world: &Arc<World>, folders: &[String], file: &'a str, text: &'a str) -> Draft<'a> {
        let name = stem(file).to_owned();
        let path = folder_of(file, folders).unwrap_or(file);
        let mut fqn = vec![self.settings.name.clone()];
        fqn.extend(path.split('/').map(str::to_owned));
        fqn.pop();
        fqn.push(name.clone());
        let mut config = self.outer_config(&name, &fqn);
        let before = self.found.len();
        let compiled = self.engine.add_model(file, text, self.found);
        let mistake = self.error_since(before);
        let mut references = Vec::new();
        let mut first_pass = None;
        if compiled {
            let relation = Relation { schema: self.world.profile.schema.clone(), name: name.clone() };
            let subject = subject(&name, file, &fqn, &relation, &config);
            let collected = self.engine.collect(world, file, subject);
            for (key, value) in collected.record.configs {
                let place = place_of_word(file, text, &key);
                self.found.extend(config::unknown_key(&key, place.clone()));
                config.set(&key, value, place);
            }
            references = collected.record.references;
            first_pass = collected.mistakes.into_iter().next();
        }
        let (materialized, relation) = (Materialized::View, Relation { schema: String::new(), name: String::new() });
        Draft { name, file, fqn, compiled, config, references, materialized, relation, first_pass, mistake, text: None }
    }

    /// The configs from outside of the file: folders, then the YAML beside it.
    fn outer_config(&self, name: &str, fqn: &[String]) -> Config {
        let mut config = Config::default();
        let models = &self.settings.models;
        models.apply(fqn, &mut config);
        for (key, value, place) in self.properties.models.get(name).iter().flat_map(|patch| &patch.configs) {
            config.set(key, value.clone(), place.clone());
        }
        config
    }

    fn check_folders(&mut self, drafts: &[Draft<'_>]) {
        // Of a project without models nothing can be said that helps.
        if drafts.is_empty() {
            return self.check_paths();
        }
        let paths: Vec<&[String]> = drafts.iter().map(|draft| &draft.fqn[..]).collect();
        for (name, place, hint) in self.settings.models.unused(&paths) {
            let warning = Diagnostic::warning(place, format!("`{name}` under `models` fits no model"));
            let folder = drafts.iter().any(|draft| draft.fqn.get(1) == Some(&name));
            let nested = folder.then(|| format!("Put it below `{}:`, the project's name.", self.settings.name));
            self.found.push(warning.detail("Its configs have no effect.").maybe_hint(nested.or(hint)));
        }
    }

    /// Where there are no models, whether there is SQL in a folder that is not read.
    fn check_paths(&mut self) {
        let read = [&self.settings.model_paths[..], &self.settings.macro_paths[..]].concat();
        let aside = ["tests", "analyses", "snapshots", "seeds"].map(str::to_owned);
        let is_aside = |path: &str| folder_of(path, &read).is_some() || folder_of(path, &aside).is_some();
        let files = self.files;
        let sql = files.iter().map(|(path, _)| path).filter(|path| path.ends_with(".sql"));
        let Some(unread) = sql.filter(|path| !is_aside(path)).find_map(|path| path.split_once('/')) else { return };
        let place = Place::file(crate::settings::FILE);
        let message = format!("there is no model in {}", self.settings.model_paths.join(", "));
        let hint = format!("There is SQL in {0}: `model-paths: [{0}]` has it read.", unread.0);
        self.found.push(Diagnostic::warning(place, message).hint(hint));
    }

    fn check_patches(&mut self, drafts: &[Draft<'_>]) {
        let names: BTreeSet<&str> = drafts.iter().map(|draft| draft.name.as_str()).collect();
        for (name, patch) in self.properties.models.iter().filter(|(name, _)| !names.contains(name.as_str())) {
            let warning = Diagnostic::warning(patch.place.clone(), format!("there is no model `{name}` to describe"));
            self.found.push(warning.maybe_hint(did_you_mean(name, names.iter().copied())));
        }
    }

    fn remove_duplicates(&mut self, drafts: &mut Vec<Draft<'_>>) {
        let mut first: BTreeMap<String, &str> = BTreeMap::new();
        drafts.retain(|draft| match first.get(&draft.name) {
            None => {
                first.insert(draft.name.clone(), draft.file);
                true
            }
            Some(other) => {
                let error =
                    Diagnostic::error(Place::new(draft.file, 1, 1), format!("there are two models `{}`", draft.name));
                self.found.push(error.detail(format!("The other is {other}.")).hint("Rename one, or disable it."));
                false
            }
        });
    }

    /// Decides how a model is kept and what it is called.
    fn settle(&mut self, draft: &mut Draft<'_>, world: &Arc<World>) {
        draft.materialized = self.materialized(draft);
        for hook in ["pre_hook", "post_hook"] {
            if let Some(place) = draft.config.get(hook).and_then(|_| draft.config.place(hook)) {
                let warning = Diagnostic::warning(place.clone(), format!("`{hook}` is not run"));
                self.found.push(warning.detail("Models are maintained continuously: there is no run around them."));
            }
        }
        crate::unread::configs(&draft.config, self.found);
        let default = Relation { schema: self.world.profile.schema.clone(), name: draft.name.clone() };
        let node = node(&draft.name, draft.file, &draft.fqn, &default, &draft.config);
        let custom = |key: &str| draft.config.text(key).map_or(Json::Null, Json::from);
        let schema = self.engine.call(world, "generate_schema_name", &[custom("schema"), node.clone()]);
        let alias = self.engine.call(world, "generate_alias_name", &[custom("alias"), node]);
        let mut checked = |name: Result<String, Diagnostic>, default: String, what: &str| match name {
            Ok(name) if !name.is_empty() => name,
            Ok(_) => {
                let message = format!("the macro gives model `{}` no {what}", draft.name);
                self.found.push(Diagnostic::error(Place::new(draft.file, 1, 1), message));
                default
            }
            Err(error) => {
                self.found.push(error);
                default
            }
        };
        let schema = checked(schema, default.schema, "schema");
        draft.relation = Relation { schema, name: checked(alias, default.name, "name") };
    }

    fn materialized(&mut self, draft: &Draft<'_>) -> Materialized {
        let Some(word) = draft.config.text("materialized") else { return Materialized::View };
        if let Some(found) = Materialized::ALL.into_iter().find(|m| m.word() == word) {
            return found;
        }
        let place = draft.config.place("materialized").cloned().unwrap_or_else(|| Place::file(draft.file));
        let words = Materialized::ALL.map(Materialized::word);
        let hint = did_you_mean(&word, words).unwrap_or_else(|| format!("One of: {}.", words.join(", ")));
        self.found.push(Diagnostic::error(place, format!("unknown materialization `{word}`")).hint(hint));
        Materialized::View
    }

    /// Two things of one name in one schema, and models in schemas that are not the user's. Answers which models have no place of their own.
    fn check_clashes(&mut self, drafts: &[Draft<'_>]) -> Vec<(usize, Diagnostic)> {
        let mut clashing = Vec::new();
        let mut taken: BTreeMap<Relation, String> = BTreeMap::new();
        let read = self.project.sources.iter().map(|table| (&table.source, &table.name));
        let unread = self.project.unread.iter().map(|table| (&table.source, &table.name));
        for (source, name) in read.chain(unread) {
            let relation = Relation { schema: source.clone(), name: name.clone() };
            taken.insert(relation, format!("source table `{source}.{name}`"));
        }
        let named = drafts.iter().enumerate().filter(|(_, draft)| draft.materialized != Materialized::Ephemeral);
        for (at, draft) in named {
            let relation = &draft.relation;
            let place = || {
                let named = ["alias", "schema"].into_iter().find_map(|key| draft.config.place(key));
                named.cloned().unwrap_or_else(|| Place::new(draft.file, 1, 1))
            };
            if RESERVED_SCHEMAS.contains(&relation.schema.as_str()) {
                let message = format!("`{}` is a schema of the system: no model can be in it", relation.schema);
                clashing.push((at, Diagnostic::error(place(), message)));
            }
            let this = format!("model `{}`", draft.name);
            if let Some(other) = taken.insert(relation.clone(), this.clone()) {
                let message = format!("{this} and {other} are both {}", relation.quoted());
                let hint = "Give one of them another schema or alias.";
                clashing.push((at, Diagnostic::error(place(), message).hint(hint)));
            }
        }
        self.found.extend(clashing.iter().map(|(_, mistake)| mistake.clone()));
        clashing
    }

    fn second_pass(&mut self, draft: &mut Draft<'_>, world: &Arc<World>) {
        if !draft.compiled {
            return;
        }
        let subject = subject(&draft.name, draft.file, &draft.fqn, &draft.relation, &draft.config);
        let mut rendered = self.engine.render(world, draft.file, &subject);
        if self.properties.incomplete {
            // The file that could not be read may declare the source.
            let unknown = |message: &str| message.starts_with("there is no source") || message.starts_with("source `");
            rendered.mistakes.retain(|mistake| !unknown(&mistake.message));
        }
        self.found.append(&mut rendered.mistakes);
        for warning in rendered.record.warnings {
            self.found.push(Diagnostic::warning(Place::new(draft.file, 1, 1), warning));
        }
        let notes = rendered.record.notes.into_iter().map(|text| Note { model: draft.name.clone(), text });
        self.project.notes.extend(notes);
        for reference in rendered.record.references {
            if !draft.references.contains(&reference) {
                draft.references.push(reference);
            }
        }
        let Some((text, map)) = rendered.text else { return };
        // A config behind the point where the first pass stopped was never seen.
        let configured =
            rendered.record.configs.iter().all(|(key, _)| draft.config.get(&config::normal(key)).is_some());
        if let Some(error) = draft.first_pass.take().filter(|_| !configured) {
            self.found.push(error);
            return;
        }
        let text = text.trim_end().trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_owned();
        if text.trim().is_empty() {
            let error = Diagnostic::error(Place::new(draft.file, 1, 1), format!("model `{}` has no text", draft.name));
            self.found.push(error.hint("A model is one SELECT."));
            return;
        }
        draft.text = Some(Mapped { text, map });
    }
}

impl Draft<'_> {
    /// It has no text, because of this, where it is anything.
    fn stop(&mut self, mistake: Option<Diagnostic>) {
        self.compiled &= mistake.is_none();
        self.mistake = self.mistake.take().or(mistake);
    }
}

fn known(draft: &Draft<'_>) -> Known {
    match draft.materialized {
        Materialized::Ephemeral => Known::Ephemeral,
        _ => Known::Model(draft.relation.clone()),
    }
}

fn subject(name: &str, file: &str, fqn: &[String], relation: &Relation, config: &Config) -> Subject {
    let node = node(name, file, fqn, relation, config);
    Subject { node, this: Some(relation.clone()), config: config.values().clone() }
}

/// dbt's view of a model, for macros.
fn node(name: &str, file: &str, fqn: &[String], relation: &Relation, config: &Config) -> Json {
    let project = fqn.first().cloned().unwrap_or_default();
    let values = config.values().clone().into_iter().collect();
    config::object([
        ("name", Json::from(name)),
        ("resource_type", Json::from("model")),
        ("package_name", Json::from(project.as_str())),
        ("unique_id", Json::from(format!("model.{project}.{name}"))),
        ("original_file_path", Json::from(file)),
        ("path", Json::from(file)),
        ("fqn", Json::from(fqn.to_vec())),
        ("schema", Json::from(relation.schema.as_str())),
        ("alias", Json::from(relation.name.as_str())),
        ("tags", Json::from(config.texts("tags"))),
        ("meta", config.get("meta").cloned().unwrap_or_else(|| config::object([]))),
        ("config", Json::Object(values)),
        ("version", Json::Null),
    ])
}

/// The place of a word in a file: where a config of that name most likely stands.
fn place_of_word(file: &str, text: &str, word: &str) -> Place {
    let bounded = |at: usize| {
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        !joined(before) && !joined(after)
    };
    match text.match_indices(word).map(|(at, _)| at).find(|at| bounded(*at)) {
        Some(at) => Place::at(file, text, at),
        None => Place::file(file),
    }
}
