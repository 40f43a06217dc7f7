//! Named windows, written out where they are used.
//!
//! The planner knows a window by its name alone: of `over (w rows 1 preceding)` it takes the frame and leaves out what `w` says, of
//! `window w2 as (w order by x)` it takes the order. So the parts that one window has of another are written into it. One that has
//! parts that it must not have, or whose name nobody has, is left as a name, which the planner refuses.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, NamedWindowExpr, OrderByKind, Query, SelectItem, SetExpr, WindowSpec, WindowType,
    visit_expressions_mut,
};

use super::whole_rows::normalised;

/// Windows by their names, written out.
type Known = Vec<(String, WindowSpec)>;

/// Writes out the windows of a query.
pub(super) fn written_out(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut known = Known::new();
    for window in &select.named_window {
        let name = normalised(&window.0);
        let made = match &window.1 {
            NamedWindowExpr::NamedWindow(other) => of_name(other, &known),
            NamedWindowExpr::WindowSpec(window) => with_base(window.clone(), &known),
        };
        // The planner says what is wrong with a name that there is twice.
        if known.iter().any(|(other, _)| *other == name) {
            return;
        }
        // A name that stands for nothing is nobody's.
        known.extend(made.map(|made| (name, made)));
    }
    select.named_window.clear();
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            calls(expr, &known);
        }
    }
    if let Some(OrderByKind::Expressions(order)) = query.order_by.as_mut().map(|order| &mut order.kind) {
        order.iter_mut().for_each(|by| calls(&mut by.expr, &known));
    }
}

fn of_name(name: &Ident, known: &Known) -> Option<WindowSpec> {
    let name = normalised(name);
    known.iter().find(|(other, _)| *other == name).map(|(_, window)| window.clone())
}

/// A window with the parts of the one that it begins with; none where that cannot be.
fn with_base(mut window: WindowSpec, known: &Known) -> Option<WindowSpec> {
    let Some(name) = window.window_name.take() else { return Some(window) };
    let base = of_name(&name, known)?;
    let has_room = window.partition_by.is_empty() && (window.order_by.is_empty() || base.order_by.is_empty());
    if !has_room || base.window_frame.is_some() {
        return None;
    }
    window.partition_by = base.partition_by;
    if window.order_by.is_empty() {
        window.order_by = base.order_by;
    }
    Some(window)
}

/// Writes out the windows of calls.
fn calls(expr: &mut Expr, known: &Known) {
    let ControlFlow::Continue(()) = visit_expressions_mut(expr, |part| {
        if let Expr::Function(function) = part {
            let made = match &function.over {
                Some(WindowType::NamedWindow(name)) => of_name(name, known),
                Some(WindowType::WindowSpec(window)) => match (&window.window_name, with_base(window.clone(), known)) {
                    (Some(name), None) => {
                        function.over = Some(WindowType::NamedWindow(name.clone()));
                        None
                    }
                    (_, made) => made,
                },
                None => None,
            };
            if let Some(made) = made {
                function.over = Some(WindowType::WindowSpec(made));
            }
        }
        ControlFlow::<std::convert::Infallible>::Continue(())
    });
}
