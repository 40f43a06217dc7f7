//! `table.column` in a subquery, where the table is one of the query around it and also the name of a column within:
//!
//! ```text
//! select id from category where exists (select 1 from products p where p.category_id = category.id)
//! ```
//!
//! The planner takes `category.id` for a field of the column `products.category`; in PostgreSQL that is written `(category).id`. So
//! such a name is written with what stands before a table's: its schema, or one that is nowhere, which a table without a schema goes
//! by as well.

use std::ops::ControlFlow;

use datafusion_expr::planner::ContextProvider;
use datafusion_sql::sqlparser::ast::{
    Expr, Ident, Query, Select, Statement, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::merged::Around;
use super::relations::Relations;
use super::whole_rows::normalised;

/// The schema of what has none.
const NOWHERE: &str = "\u{1}outer";

/// Writes such names out.
pub(super) fn outer_names(statement: &mut Statement, tables: &dyn ContextProvider) {
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
        statement.visit(&mut OuterNames { tables, around: Around::default(), selects: Vec::new() });
}

struct OuterNames<'a> {
    tables: &'a dyn ContextProvider,
    around: Around,
    /// What each of the queries that the visitor is in reads, outermost first.
    selects: Vec<Vec<TableWithJoins>>,
}

impl VisitorMut for OuterNames<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.around.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.around.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.selects.push(select.from.clone());
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.selects.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundIdentifier(path) = expr else { return ControlFlow::Continue(()) };
        let [table, _] = &path[..] else { return ControlFlow::Continue(()) };
        let Some((own, around)) = self.selects.split_last() else { return ControlFlow::Continue(()) };
        let name = normalised(table);
        if around.is_empty() || read_as(own, &name).is_some() {
            return ControlFlow::Continue(());
        }
        let Some(outer) = around.iter().rev().find_map(|from| read_as(from, &name)) else {
            return ControlFlow::Continue(());
        };
        if self.has_column(own, &name) {
            let schema = outer.unwrap_or_else(|| Ident::with_quote('"', NOWHERE));
            path.insert(0, schema);
        }
        ControlFlow::Continue(())
    }
}

impl OuterNames<'_> {
    fn has_column(&self, from: &[TableWithJoins], name: &str) -> bool {
        let (relations, levels) = (Relations::of(self.tables), self.around.levels());
        let has = |factor: &TableFactor| {
            let columns = relations.relation(factor, &levels, 0).and_then(|relation| relation.columns);
            columns.is_some_and(|columns| columns.iter().any(|column| column == name))
        };
        from.iter().any(|from| any_factor(from, &has))
    }
}

fn any_factor(from: &TableWithJoins, has: &impl Fn(&TableFactor) -> bool) -> bool {
    let mut factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    factors.any(|factor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => any_factor(table_with_joins, has),
        other => has(other),
    })
}

/// The schema that a relation of this name is written with, if there is such a relation.
fn read_as(from: &[TableWithJoins], name: &str) -> Option<Option<Ident>> {
    let of_factor = |factor: &TableFactor| match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => (normalised(&alias.name) == name).then_some(None),
        TableFactor::Table { name: written, alias: None, .. } => {
            let mut parts = written.0.iter().rev().map(|part| part.as_ident());
            let own = parts.next()??;
            (normalised(own) == name).then(|| parts.next().flatten().cloned())
        }
        _ => None,
    };
    from.iter().find_map(|from| {
        let mut factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
        factors.find_map(|factor| match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                read_as(std::slice::from_ref(table_with_joins.as_ref()), name)
            }
            other => of_factor(other),
        })
    })
}
