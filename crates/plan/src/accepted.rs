//! Which functions may be written.
//!
//! The planner below brings many functions that PostgreSQL does not have, some under names that mean something else to whoever writes
//! them (`date_format` with other patterns than MySQL's). So a function is written by a name of these lists alone: a name that comes
//! with a new version of the library is no name here until it is put there.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, ObjectName, Statement, TableFactor, Visit as _, Visitor};

use crate::foreign::{instead_of_call, instead_of_function, instead_of_lacking};
use crate::functions::{Functions, functions};
use crate::refusal::{Refusal, suggestion};

/// The functions here that PostgreSQL does not have, and what they give.
pub const EXTENSIONS: &[(&str, &str)] = &[
    ("any_value", "a value of the group that is not NULL, as in PostgreSQL 16"),
    ("approx_distinct", "about how many distinct values there are"),
    ("levenshtein", "how many letters are changed, added or dropped, as in PostgreSQL's `fuzzystrmatch`"),
    ("median", "`percentile_cont(0.5) within group (order by a)`"),
];

/// What PostgreSQL has as syntax, and the planner as functions.
pub const SYNTAX: &[&str] = &[
    "coalesce",
    "current_date",
    "current_time",
    "current_timestamp",
    "greatest",
    "grouping",
    "least",
    "localtime",
    "localtimestamp",
    "nullif",
    "row",
    "trim",
];

/// Functions of PostgreSQL's that are known here, one a line.
const POSTGRESQL: &str = include_str!("accepted.txt");

/// Whether a function of this name, in lower case, may be written, if there is one.
pub fn is_accepted(name: &str) -> bool {
    EXTENSIONS.iter().any(|(known, _)| *known == name)
        || SYNTAX.contains(&name)
        || of_postgresql().any(|own| own == name)
}

/// Functions of PostgreSQL's that are known here.
pub fn of_postgresql() -> impl Iterator<Item = &'static str> {
    POSTGRESQL.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The functions that are known and may be written.
pub fn accepted_names() -> Vec<&'static str> {
    let known = functions();
    let names = of_postgresql().chain(SYNTAX.iter().copied()).chain(EXTENSIONS.iter().map(|(name, _)| *name));
    names.filter(|name| is_known(known, name)).collect()
}

/// Whether a function is not there, however it is called: some forms of `array_fill` are.
fn is_lacking(name: &str) -> bool {
    instead_of_lacking(name).is_some() && name != "array_fill"
}

fn is_known(known: &Functions, name: &str) -> bool {
    known.scalar.contains_key(name)
        || known.aggregate.contains_key(name)
        || known.window.contains_key(name)
        || known.higher_order.contains_key(name)
}

/// What is said of a function that is not there.
pub(crate) fn unknown(name: &str) -> Refusal {
    if let Some(instead) = instead_of_lacking(name) {
        return Refusal::new(format!("function \"{}\" is not supported", name.to_lowercase())).with_hint(instead);
    }
    let hint = instead_of_function(name).or_else(|| instead_of_call(name));
    let hint = hint.unwrap_or_else(|| suggestion(name, &accepted_names()));
    Refusal::new(format!("function \"{name}\" does not exist")).with_hint(hint)
}

/// The first function of a statement that is the library's and not PostgreSQL's, or that is MySQL's and nothing here.
pub fn refused_function(statement: &Statement) -> Option<Refusal> {
    match statement.visit(&mut Written) {
        ControlFlow::Break(refusal) => Some(refusal),
        ControlFlow::Continue(()) => None,
    }
}

struct Written;

impl Visitor for Written {
    type Break = Refusal;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        match expr {
            Expr::Function(function) => written(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => written(name),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn written(name: &ObjectName) -> ControlFlow<Refusal> {
    let part = match name.0.as_slice() {
        [part] => part,
        [schema, part] if schema.as_ident().is_some_and(|s| s.value.eq_ignore_ascii_case("pg_catalog")) => part,
        _ => return ControlFlow::Continue(()),
    };
    let Some(ident) = part.as_ident() else { return ControlFlow::Continue(()) };
    let name = ident.value.to_lowercase();
    let has_instead = || instead_of_function(&name).is_some() || is_lacking(&name);
    let is_refused = !is_accepted(&name) && (is_known(functions(), &name) || has_instead());
    if !is_refused {
        return ControlFlow::Continue(());
    }
    let mut refusal = unknown(&name);
    let start = ident.span.start;
    refusal.line =
        usize::try_from(start.line).ok().zip(usize::try_from(start.column).ok()).filter(|(line, _)| *line > 0);
    ControlFlow::Break(refusal)
}
