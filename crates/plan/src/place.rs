//! Where in a text a mistake stands that the planner tells without a place.
//!
//! A plan does not say where its parts come from. So expressions of the text are taken for NULL, one at a time, and the text is planned
//! again: the mistake is in the one without which it is gone. Within that one it is looked for in the same way, until several parts
//! have it together, as the two sides of a comparison do.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Spanned as _, Statement, Value, Visit, VisitMut, Visitor, VisitorMut};

use crate::refusal::Refusal;

/// How often a text is planned to find a place.
const PLANNINGS_MAX: usize = 300;

/// An expression of a statement.
struct Part {
    /// How many expressions it stands in.
    depth: usize,
    line: Option<(usize, usize)>,
}

/// The place of a mistake, by how a statement is planned; none where no expression has it alone.
pub fn found(
    statement: &Statement,
    mistake: &Refusal,
    plan: &dyn Fn(Statement) -> Result<(), Refusal>,
) -> Option<(usize, usize)> {
    let mut parts = Parts::default();
    let ControlFlow::Continue(()) = Visit::visit(statement, &mut parts);
    let parts = parts.found;
    let mut plannings = 0;
    let mut is_gone_without = |at: usize| {
        plannings += 1;
        if plannings > PLANNINGS_MAX {
            return false;
        }
        let mut without = statement.clone();
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
            VisitMut::visit(&mut without, &mut Without { at, next: 0 });
        match plan(without) {
            Ok(()) => true,
            Err(other) => other.message != mistake.message && !other.message.contains("GROUP BY"),
        }
    };
    let inside = |of: Option<usize>| -> Vec<usize> {
        let (from, depth) = of.map_or((0, 0), |of| (of + 1, parts[of].depth + 1));
        let within = (from..parts.len()).take_while(|&at| of.is_none() || parts[at].depth >= depth);
        within.filter(|&at| parts[at].depth == depth).collect()
    };
    let mut place = None;
    let mut of = None;
    loop {
        let gone: Vec<usize> = inside(of).into_iter().filter(|&at| is_gone_without(at)).collect();
        // Of a whole text the first one that has it, of an expression the only one.
        let next = match (of, gone.as_slice()) {
            (None, [first, ..]) | (Some(_), [first]) => *first,
            _ => return place,
        };
        place = parts[next].line.or(place);
        of = Some(next);
    }
}

#[derive(Default)]
struct Parts {
    depth: usize,
    found: Vec<Part>,
}

impl Visitor for Parts {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let start = expr.span().start;
        let line =
            usize::try_from(start.line).ok().zip(usize::try_from(start.column).ok()).filter(|(line, _)| *line > 0);
        self.found.push(Part { depth: self.depth, line });
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Writes NULL for one expression, by its place in the order of a visit.
struct Without {
    at: usize,
    next: usize,
}

impl VisitorMut for Without {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.next == self.at {
            *expr = Expr::value(Value::Null);
            return ControlFlow::Break(());
        }
        self.next += 1;
        ControlFlow::Continue(())
    }
}
