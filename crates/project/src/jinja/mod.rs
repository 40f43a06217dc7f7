//! Jinja: the texts of models and macros with `minijinja`, in dbt's two passes, and the Jinja within YAML.
//!
//! The first pass (`execute` is false) finds out what a model refers to and how it configures itself; the second, when
//! every model's schema and name are known, gives the text. Both note where each piece of the text came from.

pub(crate) mod failure;
pub(crate) mod functions;
pub(crate) mod macros;
pub(crate) mod objects;
pub(crate) mod scope;
pub(crate) mod tags;
mod yaml;

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};

use self::failure::{Problem, cause, diagnose};
use self::macros::{MacroObject, Macros};
use self::objects::{Refused, RelationObject, to_value};
use self::scope::{Record, Render, Scope, Subject, World};
pub(crate) use self::yaml::YamlJinja;
use crate::diagnostic::{Diagnostic, Place};
use crate::files::Files;
use crate::model::Dependency;
use crate::source_map::{Recorder, SourceMap};

/// How many mistakes of one file are looked for.
const MISTAKES_MAX: usize = 20;

/// The templates of a project.
pub(crate) struct Engine<'a> {
    environment: Environment<'a>,
    files: &'a Files,
    macros: Arc<Macros>,
}

/// What became of a model's text.
pub(crate) struct Rendered {
    /// The text and its origins; none where there were mistakes.
    pub(crate) text: Option<(String, SourceMap)>,
    pub(crate) record: Record,
    pub(crate) mistakes: Vec<Diagnostic>,
}

/// What became of a statement.
pub(crate) struct Statement {
    /// None where there were mistakes.
    pub(crate) text: Option<String>,
    pub(crate) references: Vec<Dependency>,
    pub(crate) mistakes: Vec<Diagnostic>,
}

impl<'a> Engine<'a> {
    /// Compiles all macros; what cannot be compiled is reported.
    pub(crate) fn new(files: &'a Files, macros: &'a Arc<Macros>, found: &mut Vec<Diagnostic>) -> Self {
        let mut engine = Self { environment: environment(), files, macros: Arc::clone(macros) };
        for (name, text) in macros.templates() {
            if let Err(error) = engine.environment.add_template(name, text) {
                found.push(engine.diagnose(&error));
            }
        }
        engine
    }

    /// Compiles a model's file; false where it cannot be compiled, which is reported.
    pub(crate) fn add_model(&mut self, file: &'a str, text: &'a str, found: &mut Vec<Diagnostic>) -> bool {
        match self.environment.add_template(file, text) {
            Ok(()) => true,
            Err(error) => {
                found.push(self.diagnose(&error));
                false
            }
        }
    }

    /// The first pass: references and configs of a model.
    pub(crate) fn collect(&self, world: &Arc<World>, file: &str, subject: Subject) -> Rendered {
        let render = Render::new(Arc::clone(world), subject, false, BTreeSet::new());
        let outcome = self.once(file, &render);
        let mistakes = outcome.err().map(|error| self.diagnose(&error));
        Rendered { text: None, record: std::mem::take(&mut *render.record()), mistakes: mistakes.into_iter().collect() }
    }

    /// The second pass: the text of a model, or all of its mistakes.
    ///
    /// A mistake ends a rendering. So that the author sees them all at once, each is overlooked in another rendering.
    pub(crate) fn render(&self, world: &Arc<World>, file: &str, subject: &Subject) -> Rendered {
        let mut overlooked = BTreeSet::new();
        let mut mistakes = Vec::new();
        loop {
            let render = Render::new(Arc::clone(world), subject.clone(), true, overlooked.clone());
            let outcome = self.once(file, &render);
            let record = std::mem::take(&mut *render.record());
            let error = match outcome {
                Ok(text) => {
                    return Rendered { text: mistakes.is_empty().then_some(text), record, mistakes };
                }
                Err(error) => error,
            };
            mistakes.push(self.diagnose(&error));
            let key = cause::<Problem>(&error).and_then(|problem| problem.overlook.clone());
            let more = key.is_some_and(|key| overlooked.insert(key));
            if !more || mistakes.len() >= MISTAKES_MAX {
                return Rendered { text: None, record, mistakes };
            }
        }
    }

    /// A statement that stands in no file of its own, such as a tile's, rendered as the text of a model is. Places of its
    /// mistakes are none of any file.
    pub(crate) fn statement(&self, world: &Arc<World>, text: &str) -> Statement {
        let mut overlooked = BTreeSet::new();
        let mut mistakes = Vec::new();
        loop {
            let render = Render::new(Arc::clone(world), Subject::default(), true, overlooked.clone());
            let scope = Scope::new(Arc::clone(&render), &world.project);
            let outcome = self.environment.render_str(text, Value::from_object(scope));
            let references = std::mem::take(&mut *render.record()).references;
            let error = match outcome {
                Ok(text) => return Statement { text: mistakes.is_empty().then_some(text), references, mistakes },
                Err(error) => error,
            };
            mistakes.push(self.diagnose(&error));
            let key = cause::<Problem>(&error).and_then(|problem| problem.overlook.clone());
            let more = key.is_some_and(|key| overlooked.insert(key));
            if !more || mistakes.len() >= MISTAKES_MAX {
                return Statement { text: None, references, mistakes };
            }
        }
    }

    fn once(&self, file: &str, render: &Arc<Render>) -> Result<(String, SourceMap), Error> {
        let template = self.environment.get_template(file)?;
        let text = self.files.get(file).unwrap_or_default();
        let mut recorder = Recorder::new(text);
        let scope = Scope::new(Arc::clone(render), &render.world.project);
        template.render_captured_to(Value::from_object(scope), &mut recorder)?;
        Ok(recorder.finish(file))
    }

    /// Calls a macro such as `generate_schema_name` and gives its text.
    pub(crate) fn call(
        &self,
        world: &Arc<World>,
        name: &str,
        args: &[serde_json::Value],
    ) -> Result<String, Diagnostic> {
        let Some(definition) = world.macros.visible(&world.project, name) else {
            return Err(Diagnostic::error(Place::file(""), format!("macro `{name}` is not defined")));
        };
        let render = Render::new(Arc::clone(world), Subject::default(), true, BTreeSet::new());
        let called = Value::from_object(MacroObject { definition: Arc::clone(definition), render });
        let args: Vec<Value> = args.iter().map(to_value).collect();
        let result = called.call(&mut self.environment.empty_state(), &args);
        result.map(|value| value.to_string().trim().to_owned()).map_err(|error| self.diagnose(&error))
    }

    fn diagnose(&self, error: &Error) -> Diagnostic {
        diagnose(error, &self.macros, &|file| self.files.get(file).map(str::to_owned))
    }
}

/// An environment that behaves as dbt's.
fn environment<'a>() -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_debug(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(format);
    environment
}

/// Writes a value in one piece, so that the recorder sees one expression, and refuses what must not be in a text.
fn format(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(refused) = value.downcast_object_ref::<Refused>() {
        return refused.problem().raise();
    }
    if value.downcast_object_ref::<RelationObject>().is_some_and(|relation| relation.is_this) {
        return Problem::new("a model cannot read itself")
            .detail("`this` stands in text that is part of the model.")
            .hint("is_incremental() is false here: keep `this` within {% if is_incremental() %}.")
            .raise();
    }
    out.write_str(&value.to_string())
        .map_err(|error| Error::new(ErrorKind::WriteFailure, "the text could not be written").with_source(error))
}
