//! Objects that templates meet: relations, namespaces such as `adapter`, and words that are refused when they are used.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use serde_json::Value as Json;

use super::failure::Problem;
use super::functions;
use super::scope::{Relation, Render};

/// A table in SQL text.
#[derive(Debug)]
pub(crate) struct RelationObject {
    relation: Relation,
    database: String,
    text: String,
    /// `this`: a model that reads it would read itself.
    pub(crate) is_this: bool,
}

impl RelationObject {
    /// A reference to another table.
    pub(crate) fn reference(relation: &Relation, database: &str) -> Value {
        Self::value(relation, database, relation.quoted(), false)
    }

    /// A reference to an ephemeral model: the name of its CTE.
    pub(crate) fn ephemeral(name: &str, database: &str) -> Value {
        let name = format!("__dbt__cte__{name}");
        Self::value(&Relation { schema: String::new(), name: name.clone() }, database, name, false)
    }

    /// The model itself.
    pub(crate) fn this(relation: &Relation, database: &str) -> Value {
        Self::value(relation, database, relation.quoted(), true)
    }

    fn value(relation: &Relation, database: &str, text: String, is_this: bool) -> Value {
        Value::from_object(Self { relation: relation.clone(), database: database.to_owned(), text, is_this })
    }
}

impl Object for RelationObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "schema" => Some(Value::from(self.relation.schema.as_str())),
            "name" | "identifier" | "table" => Some(Value::from(self.relation.name.as_str())),
            "database" => Some(Value::from(self.database.as_str())),
            "type" => Some(Value::from("table")),
            "is_table" => Some(Value::from(true)),
            "is_view" | "is_cte" => Some(Value::from(false)),
            _ => None,
        }
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, _: &[Value]) -> Result<Value, Error> {
        match method {
            "include" | "quote" | "incorporate" => Ok(Value::from_dyn_object(Arc::clone(self))),
            "render" => Ok(Value::from(self.text.as_str())),
            "without_identifier" => Ok(Value::from(super::scope::quote(&self.relation.schema))),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which object with methods a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamespaceKind {
    /// `adapter`
    Adapter,
    /// `exceptions`
    Exceptions,
    /// `config`, which can be called too
    Config,
    /// `builtins`
    Builtins,
    /// A package of macros
    Package(String),
}

/// An object whose methods are functions of this crate or macros of a package.
pub(crate) struct Namespace {
    pub(crate) kind: NamespaceKind,
    pub(crate) render: Arc<Render>,
    /// The package whose text speaks.
    pub(crate) from: String,
}

impl Namespace {
    pub(crate) fn value(kind: NamespaceKind, render: &Arc<Render>, from: &str) -> Value {
        Value::from_object(Self { kind, render: Arc::clone(render), from: from.to_owned() })
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{:?}>", self.kind)
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        functions::member(self, key.as_str()?)
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        match self.kind {
            NamespaceKind::Config => functions::config(&self.render, state, args),
            _ => Err(Error::new(ErrorKind::InvalidOperation, "this is not callable")),
        }
    }

    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        functions::method(self, state, name, args)
    }
}

/// A word that is known but means nothing here: using it says why.
pub(crate) struct Refused {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) hint: &'static str,
}

impl Refused {
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(format!("`{}` is not available", self.name)).detail(self.reason).hint(self.hint)
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Object for Refused {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_dyn_object(Arc::clone(self)))
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        self.problem().raise()
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, _: &str, _: &[Value]) -> Result<Value, Error> {
        self.problem().raise()
    }
}

/// JSON as a template sees it.
pub(crate) fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::from(integer),
            None => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(to_value).collect::<Vec<_>>()),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(key, value)| (key.clone(), to_value(value)))),
    }
}

/// A template's value as JSON; what JSON cannot say becomes its text.
pub(crate) fn to_json(value: &Value) -> Json {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Json::Null,
        ValueKind::Bool => Json::from(value.is_true()),
        ValueKind::Number => match value.as_i64() {
            Some(integer) if value.is_integer() => Json::from(integer),
            _ => f64::try_from(value.clone()).map_or(Json::Null, Json::from),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().map(|items| items.map(|item| to_json(&item)).collect()).unwrap_or(Json::Null)
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let pairs = keys.map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                (key.to_string(), to_json(&item))
            });
            Json::Object(pairs.collect())
        }
        _ => Json::from(value.to_string()),
    }
}
