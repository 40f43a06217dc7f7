//! Macros: cut out of their files, looked up as dbt looks them up, and called so that `return()` can hand back any value.
//!
//! Each macro is a template of its own. A call captures a fresh state of that template, with the caller's context, and
//! calls the macro in it; `return(v)` is an error that carries `v` and is caught here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use minijinja::value::{Kwargs, Object, ObjectRepr, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::failure::{Problem, Returned, cause};
use super::scope::{Render, Scope};
use super::tags::{Tag, TagKind, tags};
use crate::diagnostic::{Diagnostic, Place};
use crate::files::{Files, folder_of};

/// The package of the macros that are built in.
pub(crate) const BUILT_IN: &str = "dbt";
/// Prefixes that `adapter.dispatch` tries, the nearest first.
const PREFIXES: [&str; 3] = ["tidemill", "postgres", "default"];
/// Names within a macro's template: the macro itself, and the object that callers see.
const BARE: &str = "_bare_macro";
const WRAPPED: &str = "_this_macro";
/// How deep macros may call macros: a bound of the stack.
const DEPTH_MAX: usize = 48;

/// One macro.
#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) file: String,
    /// Name of its template.
    template: String,
    /// Its text at its place in the file, everything before it blanked out so that places stay true.
    source: String,
}

/// All macros, by package and name.
#[derive(Debug, Default)]
pub(crate) struct Macros {
    packages: BTreeMap<String, BTreeMap<String, Arc<Macro>>>,
    /// The project's own package.
    root: String,
    search_orders: BTreeMap<String, Vec<String>>,
}

impl Macros {
    /// Collects the project's macros and the built-in ones.
    pub(crate) fn read(
        files: &Files,
        root: &str,
        folders: &[String],
        search_orders: BTreeMap<String, Vec<String>>,
        found: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut macros = Self { root: root.to_owned(), search_orders, ..Self::default() };
        macros.add(BUILT_IN, "dbt.sql", include_str!("dbt.sql"), found);
        macros.add("dbt_utils", "dbt_utils.sql", include_str!("dbt_utils.sql"), found);
        for (file, text) in
            files.iter().filter(|(file, _)| file.ends_with(".sql") && folder_of(file, folders).is_some())
        {
            macros.add(root, file, text, found);
        }
        macros
    }

    fn add(&mut self, package: &str, file: &str, text: &str, found: &mut Vec<Diagnostic>) {
        for (name, start, end) in blocks(file, text, found) {
            let template = format!("macro {package}.{name}");
            let source = isolated(text, start, end);
            let definition = Macro { package: package.to_owned(), name, file: file.to_owned(), template, source };
            let package = self.packages.entry(package.to_owned()).or_default();
            if let Some(first) = package.get(&definition.name) {
                let message = format!("macro `{}` is defined twice", definition.name);
                let place = Place::at(file, text, start);
                found.push(Diagnostic::error(place, message).detail(format!("The other is in {}.", first.file)));
            } else {
                package.insert(definition.name.clone(), Arc::new(definition));
            }
        }
    }

    /// Template names and texts of all macros.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().map(|m| (m.template.as_str(), m.source.as_str()))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Macro>> {
        self.packages.values().flat_map(BTreeMap::values)
    }

    /// The user's file behind a template; none for what is built in.
    pub(crate) fn file_of_template<'a>(&'a self, template: &'a str) -> Option<&'a str> {
        let Some(name) = template.strip_prefix("macro ") else { return Some(template) };
        let (package, name) = name.split_once('.')?;
        let definition = self.find(package, name)?;
        (package == self.root).then_some(definition.file.as_str())
    }

    /// Names that a call could have meant.
    pub(crate) fn callable(&self) -> impl Iterator<Item = &str> {
        let packages = self.packages.keys().map(String::as_str);
        packages.chain(self.all().map(|m| m.name.as_str())).chain(super::functions::NAMES.iter().copied())
    }

    pub(crate) fn is_package(&self, name: &str) -> bool {
        self.packages.contains_key(name)
    }

    pub(crate) fn names_of<'a>(&'a self, package: &str) -> impl Iterator<Item = &'a str> {
        self.packages.get(package).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    pub(crate) fn find(&self, package: &str, name: &str) -> Option<&Arc<Macro>> {
        self.packages.get(package)?.get(name)
    }

    /// An unqualified call: the caller's package, the project, what is built in.
    pub(crate) fn visible(&self, from: &str, name: &str) -> Option<&Arc<Macro>> {
        [from, &self.root, BUILT_IN].into_iter().find_map(|package| self.find(package, name))
    }

    /// A call with a package in front. The project may replace a built-in one under a prefix.
    pub(crate) fn qualified(&self, package: &str, name: &str) -> Option<&Arc<Macro>> {
        let own = || PREFIXES.iter().find_map(|prefix| self.find(&self.root, &format!("{prefix}__{name}")));
        if package == BUILT_IN
            && let Some(own) = own()
        {
            return Some(own);
        }
        self.find(package, name)
    }

    /// `adapter.dispatch`: the first macro under one of the prefixes in one of the packages.
    pub(crate) fn dispatch(&self, from: &str, name: &str, namespace: Option<&str>) -> Result<Arc<Macro>, Problem> {
        if let Some((package, name)) = name.split_once('.') {
            return Err(Problem::new(format!("adapter.dispatch: `{package}.{name}` is no macro name"))
                .hint(format!("Give the package apart: adapter.dispatch('{name}', '{package}').")));
        }
        let mut tried = Vec::new();
        for package in self.search_order(from, namespace) {
            for prefix in PREFIXES {
                let full = format!("{prefix}__{name}");
                if let Some(found) = self.find(&package, &full) {
                    return Ok(Arc::clone(found));
                }
                tried.push(format!("{package}.{full}"));
            }
            if package == BUILT_IN
                && let Some(found) = self.find(BUILT_IN, name)
            {
                return Ok(Arc::clone(found));
            }
        }
        Err(Problem::new(format!("adapter.dispatch found no macro `{name}`"))
            .detail(format!("Searched for: {}.", tried.join(", "))))
    }

    fn search_order(&self, from: &str, namespace: Option<&str>) -> Vec<String> {
        if let Some(order) = namespace.and_then(|namespace| self.search_orders.get(namespace)) {
            return order.clone();
        }
        match namespace.filter(|namespace| self.is_package(namespace)) {
            Some(namespace) => vec![self.root.clone(), namespace.to_owned()],
            None if from == self.root => vec![self.root.clone(), BUILT_IN.to_owned()],
            None => vec![from.to_owned(), self.root.clone(), BUILT_IN.to_owned()],
        }
    }
}

/// The macros of a file: name, start and end.
fn blocks(file: &str, text: &str, found: &mut Vec<Diagnostic>) -> Vec<(String, usize, usize)> {
    let mut blocks = Vec::new();
    let mut open: Option<Tag<'_>> = None;
    for tag in tags(text).into_iter().filter(|tag| tag.kind == TagKind::Block) {
        match (tag.word(), open) {
            ("macro", None) => open = Some(tag),
            ("endmacro", Some(start)) => {
                blocks.push((start.second_word().to_owned(), start.start, tag.end));
                open = None;
            }
            _ => {}
        }
    }
    if let Some(open) = open {
        let place = Place::at(file, text, open.start);
        found.push(
            Diagnostic::error(place, format!("macro `{}` does not end", open.second_word()))
                .hint("Close it with {% endmacro %}."),
        );
    }
    blocks
}

/// A piece of a text at its own place, with blanks before it and nothing behind.
fn isolated(text: &str, start: usize, end: usize) -> String {
    let blank = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
    let isolated: String = text.bytes().take(start).map(blank).collect();
    let block = text.get(start..end).unwrap_or_default();
    let name = tags(block).first().map(Tag::second_word).unwrap_or_default();
    // A macro that calls itself has to find the object that catches `return()`, not the bare macro.
    isolated + block + &format!("{{% set {BARE} = {name} %}}{{% set {name} = {WRAPPED} %}}")
}

/// A macro as templates see it.
pub(crate) struct MacroObject {
    pub(crate) definition: Arc<Macro>,
    pub(crate) render: Arc<Render>,
}

impl fmt::Debug for MacroObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.definition.name)
    }
}

impl Object for MacroObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let depth = self.render.depth.fetch_add(1, Ordering::Relaxed);
        let result = if depth < DEPTH_MAX {
            self.call_in_own_state(state, args)
        } else {
            Problem::new(format!("macros call macros more than {DEPTH_MAX} deep"))
                .hint(format!("Does `{}` call itself?", self.definition.name))
                .raise()
        };
        self.render.depth.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

impl MacroObject {
    fn call_in_own_state(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, named): (&[Value], Kwargs) = from_args(args)?;
        let named = own_caller(state, &named)?;
        let template = state.env().get_template(&self.definition.template)?;
        let mut scope = Scope::new(Arc::clone(&self.render), &self.definition.package);
        scope.set(WRAPPED, Value::from_dyn_object(Arc::clone(self)));
        let (positional, named) = self.spare(&mut scope, template.source(), positional, named);
        let mut args = positional.to_vec();
        if !named.is_empty() {
            args.push(named.into_iter().collect::<Kwargs>().into());
        }
        let called = template.render_captured(Value::from_object(scope)).and_then(|mut captured| {
            captured.with_state_mut(|inner| match inner.lookup(BARE) {
                Some(found) => found.call(inner, &args),
                None => Err(Error::new(ErrorKind::UnknownFunction, format!("{} is unknown", self.definition.name))),
            })
        });
        match called {
            Ok(value) => Ok(value),
            Err(error) => match cause::<Returned>(&error) {
                Some(Returned(value)) => Ok(value.clone()),
                None if error.line().is_none() && error.kind() == ErrorKind::TooManyArguments => {
                    self.refused_arguments(&error).raise()
                }
                // A frame of its own: the engine adds the place of the call to it.
                None => Err(Error::new(error.kind(), format!("in macro {}", self.definition.name)).with_source(error)),
            },
        }
    }

    fn refused_arguments(&self, error: &Error) -> Problem {
        let name = &self.definition.name;
        let takes = parameters(&self.definition.source).join(", ");
        let problem = Problem::new(format!("macro `{name}` does not take these arguments"));
        let detail = error.detail().unwrap_or("There are too many.");
        problem.detail(detail).hint(if takes.is_empty() {
            "It takes none.".to_owned()
        } else {
            format!("It takes: {takes}.")
        })
    }

    /// Arguments beyond the declared ones go to `varargs` and `kwargs` where the macro speaks of them.
    fn spare<'a>(
        &self,
        scope: &mut Scope,
        source: &str,
        positional: &'a [Value],
        named: Vec<(String, Value)>,
    ) -> (&'a [Value], Vec<(String, Value)>) {
        let parameters = parameters(source);
        let mut positional = positional;
        if source.contains("varargs") {
            let (declared, spare) = positional.split_at(positional.len().min(parameters.len()));
            scope.set("varargs", Value::from(spare.to_vec()));
            positional = declared;
        }
        if !source.contains("kwargs") {
            return (positional, named);
        }
        let (declared, spare): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|(name, _)| name == "caller" || parameters.contains(&name.as_str()));
        scope.set("kwargs", Value::from_pairs(spare));
        (positional, declared)
    }
}

/// Names of the parameters in a macro's head.
fn parameters(source: &str) -> Vec<&str> {
    let Some(head) = tags(source).into_iter().find(|tag| tag.word() == "macro") else {
        return Vec::new();
    };
    let inside = head.inner.split_once('(').map_or("", |(_, rest)| rest);
    let mut names = Vec::new();
    let mut depth = 0_i32;
    let mut piece = 0;
    for (at, c) in inside.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                names.push(inside.get(piece..at).unwrap_or_default());
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(inside.get(piece..at).unwrap_or_default());
                piece = at + 1;
            }
            _ => {}
        }
    }
    names.iter().map(|n| n.split('=').next().unwrap_or_default().trim()).filter(|n| !n.is_empty()).collect()
}

/// A `caller` belongs to the calling state and cannot be called from another: it is rendered here, and its text handed on.
fn own_caller(state: &mut State<'_, '_>, named: &Kwargs) -> Result<Vec<(String, Value)>, Error> {
    let mut own = Vec::new();
    for name in named.args().map(str::to_owned).collect::<Vec<_>>() {
        let value: Value = named.get(&name)?;
        let value = if name == "caller" {
            let text = value.call(state, &[])?;
            Value::from_function(move || text.clone())
        } else {
            value
        };
        own.push((name, value));
    }
    Ok(own)
}
