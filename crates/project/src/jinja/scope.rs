//! What a template can name: the project's macros, dbt's functions and objects, and what one rendering notes down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::Value;
use minijinja::value::Object;
use serde_json::Value as Json;

use super::functions;
use super::macros::{MacroObject, Macros};
use super::objects::{Namespace, NamespaceKind, RelationObject};
use crate::model::Dependency;
use crate::profile::Profile;

/// What a `ref` can find.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// A model and where its rows are.
    Model(Relation),
    /// A model that is inlined under the name of its CTE.
    Ephemeral,
    /// A model or source that is switched off.
    Disabled,
}

/// Schema and name of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl Relation {
    /// The reference as SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

/// An SQL identifier in quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What all renderings of a project share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) project: String,
    pub(crate) profile: Profile,
    /// Variables: the command line's over the project's.
    pub(crate) vars: BTreeMap<String, Json>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) macros: Arc<Macros>,
    pub(crate) models: BTreeMap<String, Known>,
    pub(crate) sources: BTreeMap<(String, String), Known>,
    /// Names of files that `ref` could have meant if they were models: seeds and snapshots.
    pub(crate) no_models: BTreeSet<String>,
}

/// The node that is rendered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// dbt's `model`: name, fqn, config and so on.
    pub(crate) node: Json,
    /// `this`.
    pub(crate) this: Option<Relation>,
    pub(crate) config: BTreeMap<String, Json>,
}

/// What one rendering noted down.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) configs: Vec<(String, Json)>,
    pub(crate) references: Vec<Dependency>,
    pub(crate) warnings: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// One rendering of one node.
#[derive(Debug)]
pub(crate) struct Render {
    pub(crate) world: Arc<World>,
    pub(crate) subject: Subject,
    /// False in the first pass, which only collects references and configs.
    pub(crate) execute: bool,
    /// Mistakes that are already known and overlooked this time.
    pub(crate) overlooked: BTreeSet<String>,
    /// How deep macros are calling macros.
    pub(crate) depth: AtomicUsize,
    record: Mutex<Record>,
}

impl Render {
    pub(crate) fn new(world: Arc<World>, subject: Subject, execute: bool, overlooked: BTreeSet<String>) -> Arc<Self> {
        let (depth, record) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { world, subject, execute, overlooked, depth, record })
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The context of a template: names are looked up when they are used.
pub(crate) struct Scope {
    render: Arc<Render>,
    /// The package whose text is rendered.
    package: String,
    extra: BTreeMap<&'static str, Value>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<context of {}>", self.package)
    }
}

impl Scope {
    pub(crate) fn new(render: Arc<Render>, package: &str) -> Self {
        Self { render, package: package.to_owned(), extra: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        self.extra.insert(name, value);
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        if let Some(value) = self.extra.get(name) {
            return Some(value.clone());
        }
        let world = &self.render.world;
        if let Some(definition) = world.macros.visible(&self.package, name) {
            let (definition, render) = (Arc::clone(definition), Arc::clone(&self.render));
            return Some(Value::from_object(MacroObject { definition, render }));
        }
        functions::lookup(&self.render, &self.package, name).or_else(|| {
            let kind = NamespaceKind::Package(name.to_owned());
            world.macros.is_package(name).then(|| Namespace::value(kind, &self.render, &self.package))
        })
    }
}

/// `this` of a rendering; nothing outside of a model.
pub(crate) fn this(render: &Render) -> Value {
    match &render.subject.this {
        Some(relation) => RelationObject::this(relation, &render.world.profile.database),
        None => Value::from(()),
    }
}
