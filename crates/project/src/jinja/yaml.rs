//! Jinja in YAML: `{{ env_var('X') }}`, `{{ var('x') }}` and `{{ target.name }}` within values.
//!
//! A value that is one expression keeps the expression's type; anything else becomes text.

use std::collections::BTreeMap;

use minijinja::{Environment, Error, Value};
use serde_json::Value as Json;

use super::failure::{Problem, diagnose};
use super::functions;
use super::macros::Macros;
use super::objects::{to_json, to_value};
use super::tags::{TagKind, has_jinja, tags};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::docs::Docs;
use crate::yaml::{Data, Node};

/// Renders the Jinja of YAML files.
pub(crate) struct YamlJinja {
    environment: Environment<'static>,
}

impl YamlJinja {
    pub(crate) fn new(vars: BTreeMap<String, Json>, env: BTreeMap<String, String>) -> Self {
        let mut environment = super::environment();
        environment.add_function("env_var", move |name: &str, default: Option<Value>| {
            functions::environment(&env, name, default).map_err(Error::from)
        });
        environment.add_function("var", move |name: &str, default: Option<Value>| match (vars.get(name), default) {
            (Some(found), _) => Ok(to_value(found)),
            (None, Some(default)) => Ok(default),
            (None, None) => Problem::new(format!("variable `{name}` is not set"))
                .hint("Set it under `vars:` in dbt_project.yml or with --vars, or give var() a default.")
                .maybe_hint(did_you_mean(name, vars.keys().map(String::as_str)))
                .raise(),
        });
        environment.add_filter("as_text", |value: &Value| value.to_string());
        environment.add_filter("as_native", |value: &Value| native(&value.to_string()));
        environment.add_filter("as_bool", |value: &Value| native(&value.to_string()));
        environment.add_filter("as_number", |value: &Value| native(&value.to_string()));
        Self { environment }
    }

    /// Adds what is known once the profile has been read.
    pub(crate) fn with_target(mut self, target: Value, project: &str) -> Self {
        self.environment.add_global("target", target);
        self.environment.add_global("project_name", Value::from(project));
        self
    }

    /// Renders all texts of a tree in place, except below the keys named.
    pub(crate) fn render(&self, node: &mut Node, file: &str, except: &[&str], found: &mut Vec<Diagnostic>) {
        match &mut node.data {
            Data::List(items) => items.iter_mut().for_each(|item| self.render(item, file, except, found)),
            Data::Map(pairs) => {
                for (_, value) in pairs.iter_mut().filter(|(key, _)| !except.contains(&key.text.as_str())) {
                    self.render(value, file, except, found);
                }
            }
            Data::Text(text) if has_jinja(text) => match self.value(text) {
                Ok(data) => node.data = data,
                Err(error) => {
                    let diagnostic = diagnose(&error, &Macros::default(), &|_| None);
                    found.push(Diagnostic { place: node.place(file), ..diagnostic });
                    node.data = Data::Null;
                }
            },
            Data::Null | Data::Text(_) | Data::Other(..) => {}
        }
    }

    /// Renders the descriptions of a tree in place, as dbt does when all its docs are known. One that cannot be rendered is shown as it is
    /// written, and stops nothing.
    pub(crate) fn describe(&self, node: &mut Node, file: &str, docs: &Docs, found: &mut Vec<Diagnostic>) {
        match &mut node.data {
            Data::List(items) => items.iter_mut().for_each(|item| self.describe(item, file, docs, found)),
            Data::Map(pairs) => {
                for (key, value) in pairs {
                    match (key.text.as_str(), &value.data) {
                        ("description", Data::Text(text)) if has_jinja(text) => match self.described(text, docs) {
                            Ok(text) => value.data = Data::Text(text),
                            Err(error) => {
                                let reason = diagnose(&error, &Macros::default(), &|_| None);
                                let message = format!("a description is not rendered: {}", reason.message);
                                let warning = Diagnostic::warning(value.place(file), message);
                                found.push(warning.maybe_hint(reason.hint));
                            }
                        },
                        // What is in there is none of the project's descriptions.
                        ("meta" | "config" | "arguments" | "vars", _) => {}
                        _ => self.describe(value, file, docs, found),
                    }
                }
            }
            Data::Null | Data::Text(_) | Data::Other(..) => {}
        }
    }

    fn described(&self, text: &str, docs: &Docs) -> Result<String, Error> {
        let docs = docs.clone();
        let doc = Value::from_function(move |first: &str, second: Option<&str>| docs.find(first, second));
        self.environment.render_str(text, minijinja::context! { doc }).map(|text| text.trim().to_owned())
    }

    fn value(&self, text: &str) -> Result<Data, Error> {
        let trimmed = text.trim();
        if let [only] = tags(trimmed).as_slice()
            && only.kind == TagKind::Expression
            && (only.start, only.end) == (0, trimmed.len())
        {
            let value = self.environment.compile_expression(only.inner)?.eval(())?;
            return Ok(data(&value));
        }
        self.environment.render_str(text, ()).map(Data::Text)
    }
}

fn data(value: &Value) -> Data {
    match to_json(value) {
        Json::Null => Data::Null,
        Json::String(text) => Data::Text(text),
        other => Data::Other(other.clone(), other.to_string()),
    }
}

/// A text read as a boolean or a number where it is one.
fn native(text: &str) -> Value {
    match text.trim() {
        "True" | "true" => Value::from(true),
        "False" | "false" => Value::from(false),
        other => match (other.parse::<i64>(), other.parse::<f64>()) {
            (Ok(integer), _) => Value::from(integer),
            (_, Ok(float)) => Value::from(float),
            _ => Value::from(text),
        },
    }
}
