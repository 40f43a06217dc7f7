//! dbt's functions: `ref`, `source`, `config`, `var`, `env_var` and their like, and the methods of its objects.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use serde_json::Value as Json;

use super::failure::{Problem, Returned};
use super::macros::MacroObject;
use super::objects::{Namespace, NamespaceKind, Refused, RelationObject, to_json, to_value};
use super::scope::{Known, Render, Scope, quote, this};
use super::tags::has_jinja;
use crate::config;
use crate::diagnostic::did_you_mean;
use crate::model::Dependency;

/// Names of this module that a misspelt word could have meant.
pub(crate) const NAMES: &[&str] = &[
    "ref",
    "source",
    "config",
    "var",
    "env_var",
    "is_incremental",
    "return",
    "log",
    "print",
    "this",
    "target",
    "execute",
    "adapter",
    "exceptions",
    "model",
    "flags",
    "schema",
    "database",
    "project_name",
    "tojson",
    "fromjson",
    "zip",
    "set",
    "run_query",
    "statement",
    "builtins",
];

/// Arguments of a call.
struct Arguments<'a> {
    positional: &'a [Value],
    named: Kwargs,
}

impl Arguments<'_> {
    fn get(&self, index: usize, name: &str) -> Option<Value> {
        self.positional.get(index).cloned().or_else(|| self.named.get(name).ok())
    }

    fn text(&self, index: usize, name: &str, function: &str) -> Result<String, Error> {
        match self.get(index, name) {
            Some(value) if value.as_str().is_some() => Ok(value.to_string()),
            Some(other) => Problem::new(format!("{function}() wants a text, not {}", other.kind())).raise(),
            None => Problem::new(format!("{function}() has no argument `{name}`")).raise(),
        }
    }
}

type Body = fn(&Arc<Render>, &mut State<'_, '_>, &Arguments<'_>) -> Result<Value, Error>;

/// A function that knows the rendering it is called in.
struct Function {
    name: &'static str,
    render: Arc<Render>,
    body: Body,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<function {}>", self.name)
    }
}

impl Object for Function {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, named) = from_args(args)?;
        (self.body)(&self.render, state, &Arguments { positional, named })
    }
}

/// A name of dbt's context.
pub(crate) fn lookup(render: &Arc<Render>, from: &str, name: &str) -> Option<Value> {
    let function = |name, body| Some(Value::from_object(Function { name, render: Arc::clone(render), body }));
    let namespace = |kind| Some(Namespace::value(kind, render, from));
    match name {
        "ref" => function("ref", reference),
        "source" => function("source", source),
        "var" => function("var", var),
        "env_var" => function("env_var", env_var),
        "is_incremental" => function("is_incremental", |_, _, _| Ok(Value::from(false))),
        "return" => function("return", return_value),
        "log" | "print" => function("log", log),
        "tojson" => function("tojson", |_, _, args| Ok(Value::from(python_json(&to_json(&first(args)))))),
        "fromjson" => function("fromjson", from_json),
        "zip" => function("zip", zip),
        "set" => function("set", unique),
        "run_query" => function("run_query", run_query),
        "statement" => function("statement", run_query),
        "load_result" => function("load_result", |_, _, _| Ok(Value::from(()))),
        "config" => namespace(NamespaceKind::Config),
        "adapter" => namespace(NamespaceKind::Adapter),
        "exceptions" => namespace(NamespaceKind::Exceptions),
        "builtins" => namespace(NamespaceKind::Builtins),
        "this" => Some(this(render)),
        "execute" => Some(Value::from(render.execute)),
        "model" | "node" => Some(to_value(&render.subject.node)),
        "target" => Some(target(render)),
        "schema" => Some(Value::from(render.world.profile.schema.as_str())),
        "database" => Some(Value::from(render.world.profile.database.as_str())),
        "project_name" => Some(Value::from(render.world.project.as_str())),
        "dbt_version" => Some(Value::from("1.10.0")),
        "flags" => Some(to_value(&config::object([("FULL_REFRESH", Json::from(false)), ("WHICH", Json::from("run"))]))),
        other => refused(other),
    }
}

/// Words of dbt that have no meaning while a model is rendered here.
fn refused(name: &str) -> Option<Value> {
    const CHANGING: &str =
        "A model's text is rendered once and then maintained: text that differs each time has no meaning.";
    const TIME: &str = "Use current_timestamp in the SQL: it moves by itself.";
    let (name, reason, hint) = match name {
        "run_started_at" => ("run_started_at", CHANGING, TIME),
        "invocation_id" => ("invocation_id", CHANGING, "Leave it out."),
        "modules" => ("modules", "Python's modules are not part of the templates.", "Write it in SQL."),
        "graph" => {
            ("graph", "The project's graph cannot be read while it is being made.", "Name the models with ref().")
        }
        _ => return None,
    };
    Some(Value::from_object(Refused { name, reason, hint }))
}

/// dbt's `target`: what the profile says, without secrets.
pub(crate) fn target(render: &Render) -> Value {
    let profile = &render.world.profile;
    let text = |text: &str| Json::from(text);
    to_value(&config::object([
        ("name", text(&profile.target)),
        ("target_name", text(&profile.target)),
        ("profile_name", text(&profile.name)),
        ("schema", text(&profile.schema)),
        ("database", text(&profile.database)),
        ("dbname", text(&profile.database)),
        // Macros compare this with the adapters they know; ours speaks Postgres.
        ("type", text("postgres")),
        ("threads", Json::from(profile.threads)),
        ("host", text(&profile.pg.addr.ip().to_string())),
        ("port", Json::from(profile.pg.addr.port())),
        ("user", text("tidemill")),
    ]))
}

fn first(args: &Arguments<'_>) -> Value {
    args.positional.first().cloned().unwrap_or_default()
}

fn reference(render: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let world = &render.world;
    if args.named.has("version") || args.named.has("v") {
        return Problem::new("model versions are not supported").hint("Give the version a name of its own.").raise();
    }
    let name = match args.positional.len() {
        2 => {
            let package = args.text(0, "package", "ref")?;
            if package != world.project {
                return Problem::new(format!("ref() names package `{package}`, which is not installed"))
                    .detail(format!("This project is `{}`.", world.project))
                    .overlook(format!("package {package}"))
                    .raise();
            }
            args.text(1, "model_name", "ref")?
        }
        _ => args.text(0, "model_name", "ref")?,
    };
    let key = format!("ref {name}");
    let database = &world.profile.database;
    match world.models.get(&name) {
        Some(Known::Model(relation)) => {
            note(render, Dependency::Model(name.clone()));
            Ok(RelationObject::reference(relation, database))
        }
        Some(Known::Ephemeral) => {
            note(render, Dependency::Model(name.clone()));
            Ok(RelationObject::ephemeral(&name, database))
        }
        _ if render.overlooked.contains(&key) => Ok(Value::from(quote(&name))),
        Some(Known::Disabled) => Problem::new(format!("model `{name}` is disabled"))
            .hint("Set its `enabled` to true, or remove the reference.")
            .overlook(key)
            .raise(),
        None => unknown_model(render, &name).overlook(key).raise(),
    }
}

fn unknown_model(render: &Render, name: &str) -> Problem {
    let problem = Problem::new(format!("there is no model `{name}`"));
    if render.world.no_models.contains(name) {
        return problem.detail("There is a seed or snapshot of that name; they are not loaded.");
    }
    let models = render.world.models.keys().map(String::as_str);
    problem.maybe_hint(did_you_mean(name, models))
}

fn source(render: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let source = args.text(0, "source_name", "source")?;
    let table = args.text(1, "table_name", "source")?;
    let sources = &render.world.sources;
    let key = format!("source {source}.{table}");
    match sources.get(&(source.clone(), table.clone())) {
        Some(Known::Model(relation)) => {
            note(render, Dependency::Source { source, table });
            Ok(RelationObject::reference(relation, &render.world.profile.database))
        }
        _ if render.overlooked.contains(&key) => Ok(Value::from(format!("{}.{}", quote(&source), quote(&table)))),
        Some(_) => Problem::new(format!("source table `{source}.{table}` is disabled")).overlook(key).raise(),
        None => {
            let names = || sources.keys().map(|(source, _)| source.as_str());
            let tables = sources.keys().filter(|(s, _)| *s == source).map(|(_, table)| table.as_str());
            let problem = if names().any(|name| name == source) {
                Problem::new(format!("source `{source}` has no table `{table}`"))
                    .maybe_hint(did_you_mean(&table, tables))
            } else {
                Problem::new(format!("there is no source `{source}`"))
                    .hint("Declare it under `sources:` in a YAML file beside the models.")
                    .maybe_hint(did_you_mean(&source, names()))
            };
            problem.overlook(key).raise()
        }
    }
}

fn note(render: &Render, dependency: Dependency) {
    let references = &mut render.record().references;
    if !references.contains(&dependency) {
        references.push(dependency);
    }
}

fn var(render: &Arc<Render>, state: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let name = args.text(0, "name", "var")?;
    let key = format!("var {name}");
    if let Some(found) = render.world.vars.get(&name) {
        return match found.as_str().filter(|text| has_jinja(text)) {
            Some(text) => {
                let scope = Scope::new(Arc::clone(render), &render.world.project);
                state.env().render_str(text, Value::from_object(scope)).map(Value::from)
            }
            None => Ok(to_value(found)),
        };
    }
    match args.get(1, "default") {
        Some(default) => Ok(default),
        None if !render.execute || render.overlooked.contains(&key) => Ok(Value::from(())),
        None => Problem::new(format!("variable `{name}` is not set"))
            .hint("Set it under `vars:` in dbt_project.yml or with --vars, or give var() a default.")
            .maybe_hint(did_you_mean(&name, render.world.vars.keys().map(String::as_str)))
            .overlook(key)
            .raise(),
    }
}

/// A variable of the environment: also for YAML, where no rendering is under way.
pub(crate) fn environment(
    env: &std::collections::BTreeMap<String, String>,
    name: &str,
    default: Option<Value>,
) -> Result<Value, Problem> {
    match (env.get(name), default) {
        (Some(found), _) => Ok(Value::from(found.as_str())),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(Problem::new(format!("environment variable `{name}` is not set"))
            .hint(format!("Set it, or give a default: env_var('{name}', '…')."))
            .overlook(format!("env {name}"))),
    }
}

fn env_var(render: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let name = args.text(0, "name", "env_var")?;
    if name.starts_with("DBT_ENV_SECRET") {
        return Problem::new(format!("the secret `{name}` may not be rendered into a model"))
            .hint("Variables named DBT_ENV_SECRET… are for profiles.yml and connections.yml.")
            .raise();
    }
    if render.overlooked.contains(&format!("env {name}")) {
        return Ok(Value::from(""));
    }
    Ok(environment(&render.world.env, &name, args.get(1, "default"))?)
}

fn return_value(_: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let returned = Returned(args.get(0, "data").unwrap_or_else(|| Value::from(())));
    Err(Error::new(ErrorKind::InvalidOperation, returned.to_string()).with_source(returned))
}

fn log(render: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let shown = args.get(1, "info").is_some_and(|info| info.is_true());
    if shown && render.execute {
        let text = first(args).to_string();
        render.record().notes.push(text);
    }
    Ok(Value::from(""))
}

fn from_json(_: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    match (serde_json::from_str::<Json>(&args.text(0, "string", "fromjson")?), args.get(1, "default")) {
        (Ok(json), _) => Ok(to_value(&json)),
        (Err(_), Some(default)) => Ok(default),
        (Err(error), None) => Problem::new("fromjson() got no JSON").detail(error.to_string()).raise(),
    }
}

/// JSON with the blanks that Python puts in.
fn python_json(json: &Json) -> String {
    match json {
        Json::Array(items) => {
            format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", "))
        }
        Json::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{}: {}", Json::from(key.as_str()), python_json(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn zip(_: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let lists = args.positional.iter().map(|list| Ok(list.try_iter()?.collect::<Vec<_>>()));
    let lists = lists.collect::<Result<Vec<_>, Error>>()?;
    let length = lists.iter().map(Vec::len).min().unwrap_or(0);
    let row = |at: usize| Value::from(lists.iter().filter_map(|list| list.get(at).cloned()).collect::<Vec<_>>());
    Ok(Value::from((0..length).map(row).collect::<Vec<_>>()))
}

fn unique(_: &Arc<Render>, _: &mut State<'_, '_>, args: &Arguments<'_>) -> Result<Value, Error> {
    let mut seen: Vec<Value> = Vec::new();
    for item in first(args).try_iter()? {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    Ok(Value::from(seen))
}

fn run_query(render: &Arc<Render>, _: &mut State<'_, '_>, _: &Arguments<'_>) -> Result<Value, Error> {
    if !render.execute {
        return Ok(Value::from(()));
    }
    Problem::new("nothing can be queried while a model is rendered")
        .detail("The text of a model is made before any table is there.")
        .hint("Write the values into the model or a variable, or join the table in SQL.")
        .raise()
}

/// `config(…)`: noted in the first pass, nothing in the text.
pub(crate) fn config(render: &Arc<Render>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let (positional, named): (&[Value], Kwargs) = from_args(args)?;
    let mut record = render.record();
    for map in positional {
        if let Json::Object(map) = to_json(map) {
            record.configs.extend(map);
        }
    }
    for key in named.args() {
        record.configs.push((key.to_owned(), to_json(&named.get(key)?)));
    }
    Ok(Value::from(""))
}

/// A namespace's member that is used without being called at once.
pub(crate) fn member(namespace: &Namespace, name: &str) -> Option<Value> {
    let render = &namespace.render;
    match &namespace.kind {
        NamespaceKind::Package(package) => {
            let definition = Arc::clone(render.world.macros.qualified(package, name)?);
            Some(Value::from_object(MacroObject { definition, render: Arc::clone(render) }))
        }
        NamespaceKind::Builtins => lookup(render, &namespace.from, name),
        _ => None,
    }
}

/// A method of a namespace.
pub(crate) fn method(
    namespace: &Namespace,
    state: &mut State<'_, '_>,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(found) = member(namespace, name) {
        return found.call(state, args);
    }
    let (positional, named) = from_args(args)?;
    let args = Arguments { positional, named };
    match &namespace.kind {
        NamespaceKind::Adapter => adapter(namespace, name, &args),
        NamespaceKind::Exceptions => exceptions(&namespace.render, name, &args),
        NamespaceKind::Config => config_method(&namespace.render, name, &args),
        NamespaceKind::Builtins => Problem::new(format!("there is no built-in `{name}`")).raise(),
        NamespaceKind::Package(package) => {
            let names = namespace.render.world.macros.names_of(package);
            Problem::new(format!("package `{package}` has no macro `{name}`"))
                .maybe_hint(did_you_mean(name, names))
                .raise()
        }
    }
}

fn adapter(namespace: &Namespace, name: &str, args: &Arguments<'_>) -> Result<Value, Error> {
    let render = &namespace.render;
    match name {
        "dispatch" => {
            let wanted = args.text(0, "macro_name", "adapter.dispatch")?;
            let package = args.get(1, "macro_namespace").filter(|value| !value.is_none());
            let package = package.as_ref().and_then(Value::as_str);
            let definition = render.world.macros.dispatch(&namespace.from, &wanted, package)?;
            Ok(Value::from_object(MacroObject { definition, render: Arc::clone(render) }))
        }
        "quote" => Ok(Value::from(quote(&args.text(0, "identifier", "adapter.quote")?))),
        "quote_as_configured" => Ok(Value::from(quote(&args.text(0, "identifier", "adapter.quote_as_configured")?))),
        "type" => Ok(Value::from("postgres")),
        "get_relation" | "load_relation" if !render.execute => Ok(Value::from(())),
        "get_columns_in_relation" if !render.execute => Ok(Value::from(Vec::<Value>::new())),
        _ => Problem::new(format!("`adapter.{name}` is not available"))
            .detail("The text of a model is made before any table is there.")
            .raise(),
    }
}

fn exceptions(render: &Render, name: &str, args: &Arguments<'_>) -> Result<Value, Error> {
    let message = args.get(0, "msg").unwrap_or_default().to_string();
    match name {
        "warn" => {
            if render.execute {
                render.record().warnings.push(message);
            }
            Ok(Value::from(""))
        }
        "raise_compiler_error" | "raise_not_implemented" | "raise_parsing_error" | "raise_database_error" => {
            Problem::new(message).raise()
        }
        _ => Problem::new(format!("`exceptions.{name}` is not available")).raise(),
    }
}

fn config_method(render: &Render, name: &str, args: &Arguments<'_>) -> Result<Value, Error> {
    let key = config::normal(&args.text(0, "name", "config.get")?);
    let found = render.subject.config.get(&key).map(to_value);
    match (name, found) {
        ("get" | "require", Some(found)) => Ok(found),
        ("get", None) => Ok(args.get(1, "default").unwrap_or_else(|| Value::from(()))),
        ("require", None) if !render.execute => Ok(Value::from(())),
        ("require", None) => Problem::new(format!("config `{key}` is required and not set")).raise(),
        _ => Problem::new(format!("`config.{name}` is not available")).raise(),
    }
}
