//! Named windows, written out where they are used.
//!
//! The planner knows a window by its name alone: of `over (w rows 1 preceding)` it takes the frame and leaves out what `w` says, of
//! `window w2 as (w order by x)` it takes the order. So the parts that one window has of another are written into it. One that has
//! parts that it must not have, or whose name nobody has, is left as a name, which the planner refuses.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, NamedWindowExpr, OrderByKind, Query, Select, SelectItem, SetExpr, VisitMut as _, VisitorMut,
    WindowSpec, WindowType,
};

use super::whole_rows::normalised;

/// What stands behind the name of a window that must not have the parts that it is given, before what is wrong.
pub(crate) const MISUSED: char = '\u{1}';

/// Windows by their names, written out, or by the name that the planner refuses.
type Known = Vec<(String, Result<WindowSpec, Ident>)>;

/// Writes out the windows of a query.
pub(super) fn written_out(query: &mut Query) {
    let Query { body, order_by, .. } = query;
    let Some(known) = of_rows(body) else { return };
    if let Some(OrderByKind::Expressions(order)) = order_by.as_mut().map(|order| &mut order.kind) {
        order.iter_mut().for_each(|by| calls(&mut by.expr, &known));
    }
}

/// Writes out the windows of what gives a query its rows; those that its order may name.
fn of_rows(body: &mut SetExpr) -> Option<Known> {
    match body {
        SetExpr::Select(select) => of_select(select),
        SetExpr::SetOperation { left, right, .. } => {
            of_rows(left);
            of_rows(right);
            None
        }
        // A query in brackets is one of its own.
        _ => None,
    }
}

fn of_select(select: &mut Select) -> Option<Known> {
    let mut known = Known::new();
    for window in &select.named_window {
        let name = normalised(&window.0);
        let made = match &window.1 {
            NamedWindowExpr::NamedWindow(other) => of_name(other, &known),
            NamedWindowExpr::WindowSpec(window) => with_base(window.clone(), &known),
        };
        // The planner says what is wrong with a name that there is twice.
        if known.iter().any(|(other, _)| *other == name) {
            return None;
        }
        known.push((name, made));
    }
    select.named_window.clear();
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            calls(expr, &known);
        }
    }
    Some(known)
}

/// The window of a name; the name itself if it stands for nothing.
fn of_name(name: &Ident, known: &Known) -> Result<WindowSpec, Ident> {
    let own = normalised(name);
    let found = known.iter().find(|(other, _)| *other == own);
    found.map_or_else(|| Err(name.clone()), |(_, window)| window.clone())
}

/// A window with the parts of the one that it begins with; the name of this where that cannot be.
fn with_base(mut window: WindowSpec, known: &Known) -> Result<WindowSpec, Ident> {
    let Some(name) = window.window_name.take() else { return Ok(window) };
    let base = of_name(&name, known)?;
    let misused = |part: &str| Err(Ident { value: format!("{}{MISUSED}{part}", normalised(&name)), ..name.clone() });
    if !window.partition_by.is_empty() {
        return misused("PARTITION BY");
    }
    if !window.order_by.is_empty() && !base.order_by.is_empty() {
        return misused("ORDER BY");
    }
    if base.window_frame.is_some() {
        return misused("");
    }
    window.partition_by = base.partition_by;
    if window.order_by.is_empty() {
        window.order_by = base.order_by;
    }
    Ok(window)
}

/// Writes out the windows of calls.
fn calls(expr: &mut Expr, known: &Known) {
    let ControlFlow::Continue(()) = expr.visit(&mut Calls { known, queries: 0 });
}

/// The calls of one query: those of queries within it have windows of their own.
struct Calls<'k> {
    known: &'k Known,
    /// How many queries deep the visit is.
    queries: usize,
}

impl VisitorMut for Calls<'_> {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expr
            && self.queries == 0
        {
            let made = match &function.over {
                Some(WindowType::NamedWindow(name)) => Some(of_name(name, self.known)),
                Some(WindowType::WindowSpec(window)) => Some(with_base(window.clone(), self.known)),
                None => None,
            };
            function.over = made.map(|made| made.map_or_else(WindowType::NamedWindow, WindowType::WindowSpec));
        }
        ControlFlow::Continue(())
    }
}
