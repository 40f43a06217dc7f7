//! All names of a text that lead nowhere, not the first alone.
//!
//! The planner ends at its first mistake. So a name that is not known is taken for NULL in another planning, which ends at the
//! next one. What else is wrong once names are NULL may be a consequence of that, and is not told.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Ident, Statement, Value, VisitMut, VisitorMut};

use crate::catalog::Catalog;
use crate::refusal::Refusal;
use crate::sql;

/// How many mistakes of one text are looked for.
const MISTAKES_MAX: usize = 20;

/// Names of a text that are not known beside the one of its first refusal, in the order in which they are met.
pub fn further_mistakes(sql: &str, catalog: &dyn Catalog, first: &Refusal) -> Vec<Refusal> {
    let (mut masks, mut found) = (Vec::new(), Vec::new());
    let mut next = Mask::of(first);
    while let Some(mask) = next.take().filter(|mask| !masks.contains(mask) && masks.len() < MISTAKES_MAX) {
        masks.push(mask);
        if let Err(mut refusal) = sql::analysed_but_for(sql, catalog, &masks) {
            // What was taken for NULL is none of the names that are known.
            refusal.hint = refusal.hint.replace("NULL, ", "");
            next = Mask::of(&refusal);
            // What cannot be taken for NULL is met again.
            let is_further = next.as_ref().is_some_and(|mask| !masks.contains(mask));
            found.extend(is_further.then_some(refusal));
        }
    }
    found
}

/// A name that is taken for NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mask {
    /// A column's last name; at this line and column, where that is known, else wherever it stands.
    Column(String, Option<(usize, usize)>),
    /// A function.
    Function(String),
}

impl Mask {
    /// The name that a refusal is about; none of one that is about something else.
    fn of(refusal: &Refusal) -> Option<Self> {
        let (what, rest) = refusal.message.split_once(" \"")?;
        let name = rest.strip_suffix("\" does not exist")?;
        match what {
            "column" => Some(Self::Column(name.rsplit('.').next().unwrap_or(name).to_owned(), refusal.line)),
            "function" => Some(Self::Function(name.to_lowercase())),
            _ => None,
        }
    }

    fn is_of(&self, expr: &Expr) -> bool {
        let path = match (self, expr) {
            (Self::Function(name), Expr::Function(called)) => {
                let last = called.name.0.last().and_then(|part| part.as_ident());
                return last.is_some_and(|last| last.value.to_lowercase() == *name);
            }
            (Self::Column(..), Expr::Identifier(name)) => std::slice::from_ref(name),
            (Self::Column(..), Expr::CompoundIdentifier(path)) => path.as_slice(),
            _ => return false,
        };
        let Self::Column(name, place) = self else { return false };
        let is_named = path.last().is_some_and(|last| last.value.eq_ignore_ascii_case(name));
        is_named && place.is_none_or(|place| path.iter().any(|part| begins_at(part, place)))
    }
}

fn begins_at(part: &Ident, (line, column): (usize, usize)) -> bool {
    let start = part.span.start;
    usize::try_from(start.line) == Ok(line) && usize::try_from(start.column) == Ok(column)
}

/// Writes NULL for what is masked.
pub(crate) fn mask(statement: &mut Statement, masks: &[Mask]) {
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(&mut Masked(masks));
}

struct Masked<'a>(&'a [Mask]);

impl VisitorMut for Masked<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.0.iter().any(|mask| mask.is_of(expr)) {
            *expr = Expr::value(Value::Null);
        }
        ControlFlow::Continue(())
    }
}
