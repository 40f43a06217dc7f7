//! What a FROM has: its relations with their columns, as far as that is known before a statement is planned.
//!
//! A name is looked up as SQL does: among the queries of the WITH clauses around its place, of each those before the one that it
//! stands in, then among tables and views. So `with orders as (select * from orders)` reads the table.

use std::cell::RefCell;
use std::collections::BTreeMap;

use datafusion_common::TableReference;
use datafusion_expr::planner::ContextProvider;
use datafusion_sql::sqlparser::ast::{
    Cte, Expr, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias,
    TableFactor, WildcardAdditionalOptions, With,
};

use super::merged::Sides;
use super::syntax::value_of_rows;
use super::whole_rows::normalised;

/// How deep names are followed through queries, and how many columns a relation may have.
const DEPTH_MAX: usize = 24;
const COLUMNS_MAX: usize = 4_096;

/// A WITH clause around a place, and how many of its queries can be named there.
#[derive(Clone, Copy)]
pub(super) struct Level<'w> {
    pub(super) with: &'w With,
    pub(super) before: usize,
}

/// One relation of a FROM.
#[derive(Clone)]
pub(super) struct Relation {
    /// What its columns are written with: its alias, or its name as it is written.
    pub(super) path: Vec<Ident>,
    /// None: not known.
    pub(super) columns: Option<Vec<String>>,
}

impl Relation {
    /// Whether `path` names it: by its last name, or by more of them.
    pub(super) fn is_called(&self, path: &[Ident]) -> bool {
        let (own, given) = (self.path.iter().rev(), path.iter().rev());
        path.len() <= self.path.len() && own.zip(given).all(|(own, given)| normalised(own) == normalised(given))
    }

    pub(super) fn column(&self, name: &str) -> Expr {
        let column = Ident::with_quote('"', name);
        Expr::CompoundIdentifier(self.path.iter().cloned().chain([column]).collect())
    }
}

/// Looks up what the relations of one statement have.
pub(super) struct Relations<'w> {
    tables: &'w dyn ContextProvider,
    /// Columns of queries of WITH by where they stand: each of many that read one another is followed once.
    known: RefCell<BTreeMap<usize, Option<Vec<String>>>>,
}

impl<'w> Relations<'w> {
    pub(super) fn of(tables: &'w dyn ContextProvider) -> Self {
        Self { tables, known: RefCell::default() }
    }

    /// A relation that is no join; none of what cannot be named.
    pub(super) fn relation(&self, factor: &TableFactor, levels: &[Level<'_>], depth: usize) -> Option<Relation> {
        if let Some(column) = function_column(factor) {
            return Some(column);
        }
        let (path, alias, columns) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let path = name.0.iter().map(|part| part.as_ident().cloned()).collect::<Option<Vec<_>>>()?;
                (path, alias, self.columns_of(name, levels, depth))
            }
            TableFactor::Derived { subquery, alias: alias @ Some(named), .. } => {
                (vec![named.name.clone()], alias, self.results(subquery, levels, depth))
            }
            TableFactor::Table { alias: alias @ Some(named), .. }
            | TableFactor::Function { alias: alias @ Some(named), .. }
            | TableFactor::UNNEST { alias: alias @ Some(named), .. } => (vec![named.name.clone()], alias, None),
            _ => return None,
        };
        let Some(alias) = alias else { return Some(Relation { path, columns }) };
        Some(Relation { path: vec![alias.name.clone()], columns: columns.and_then(|own| renamed(own, alias)) })
    }

    fn columns_of(&self, name: &ObjectName, levels: &[Level<'_>], depth: usize) -> Option<Vec<String>> {
        let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(normalised)).collect();
        let reference = match &parts?[..] {
            [table] => match found(table, levels) {
                Some((part, around)) => return self.of_with(part, &around, depth),
                None => TableReference::bare(table.clone()),
            },
            [schema, table] => TableReference::partial(schema.clone(), table.clone()),
            _ => return None,
        };
        let source = self.tables.get_table_source(reference).ok()?;
        Some(source.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    fn of_with(&self, part: &Cte, levels: &[Level<'_>], depth: usize) -> Option<Vec<String>> {
        let place = std::ptr::from_ref(part).addr();
        if let Some(known) = self.known.borrow().get(&place) {
            return known.clone();
        }
        let columns = self.results(&part.query, levels, depth + 1).and_then(|own| renamed(own, &part.alias));
        self.known.borrow_mut().insert(place, columns.clone());
        columns
    }

    /// The names of a query's results.
    fn results(&self, query: &Query, levels: &[Level<'_>], depth: usize) -> Option<Vec<String>> {
        let mut levels = levels.to_vec();
        levels.extend(query.with.as_ref().map(|with| Level { with, before: with.cte_tables.len() }));
        self.of_body(&query.body, &levels, depth + 1)
    }

    fn of_body(&self, body: &SetExpr, levels: &[Level<'_>], depth: usize) -> Option<Vec<String>> {
        if depth > DEPTH_MAX {
            return None;
        }
        match body {
            SetExpr::Select(select) => self.of_select(select, levels, depth),
            SetExpr::Query(query) => self.results(query, levels, depth),
            SetExpr::SetOperation { left, .. } => self.of_body(left, levels, depth + 1),
            SetExpr::Values(values) => {
                Some((1..=values.rows.first()?.content.len()).map(|at| format!("column{at}")).collect())
            }
            _ => None,
        }
    }

    fn of_select(&self, select: &Select, levels: &[Level<'_>], depth: usize) -> Option<Vec<String>> {
        let sides = || -> Option<Vec<Sides>> {
            let mut sides = Vec::new();
            for from in &select.from {
                sides.push(self.joined(&mut from.clone(), &[], levels, depth)?);
            }
            Some(sides)
        };
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => names.push(normalised(alias)),
                SelectItem::UnnamedExpr(Expr::Identifier(name)) => names.push(normalised(name)),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => names.push(normalised(path.last()?)),
                SelectItem::Wildcard(options) if is_plain(options) => {
                    for side in sides()? {
                        names.extend(side.listed()?.iter().map(|(name, _)| name.clone()));
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if is_plain(options) =>
                {
                    let sides = sides()?;
                    names.extend(named(&sides, name)?.columns.clone()?);
                }
                _ => return None,
            }
            if names.len() > COLUMNS_MAX {
                return None;
            }
        }
        Some(names)
    }
}

/// The relation of a FROM that `name.*` lists.
pub(super) fn named<'s>(sides: &'s [Sides], name: &ObjectName) -> Option<&'s Relation> {
    let path = name.0.iter().map(|part| part.as_ident().cloned()).collect::<Option<Vec<_>>>()?;
    sides.iter().flat_map(|side| &side.relations).find(|relation| relation.is_called(&path))
}

/// Whether `*` lists all columns under their own names.
pub(super) fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// The query of WITH that a name stands for, and what can be named in it.
fn found<'w>(name: &str, levels: &[Level<'w>]) -> Option<(&'w Cte, Vec<Level<'w>>)> {
    levels.iter().enumerate().rev().find_map(|(at, level)| {
        let queries = level.with.cte_tables.iter().take(level.before);
        let (before, part) = queries.enumerate().find(|(_, part)| normalised(&part.alias.name) == name)?;
        let before = if level.with.recursive { level.before } else { before };
        let around = levels[..at].iter().copied().chain([Level { with: level.with, before }]);
        Some((part, around.collect()))
    })
}

/// The columns where an alias gives the first ones other names.
fn renamed(columns: Vec<String>, alias: &TableAlias) -> Option<Vec<String>> {
    let given: Vec<String> = alias.columns.iter().map(|column| normalised(&column.name)).collect();
    let rest = (given.len() <= columns.len()).then(|| columns.into_iter().skip(given.len()))?;
    Some(given.into_iter().chain(rest).collect())
}

/// A function in FROM whose rows are single values.
fn function_column(factor: &TableFactor) -> Option<Relation> {
    let one = |alias: &Ident, column: String| Relation { path: vec![alias.clone()], columns: Some(vec![column]) };
    match factor {
        TableFactor::UNNEST { alias: Some(alias), array_exprs, with_ordinality: false, with_offset: false, .. }
            if array_exprs.len() == 1 =>
        {
            let column = alias.columns.first().map_or(&alias.name, |column| &column.name);
            Some(one(&alias.name, normalised(column)))
        }
        TableFactor::Table { args: Some(_), with_ordinality: false, .. }
        | TableFactor::Function { with_ordinality: false, .. } => {
            let (alias, column) = value_of_rows(factor)?;
            Some(one(alias, column))
        }
        _ => None,
    }
}
