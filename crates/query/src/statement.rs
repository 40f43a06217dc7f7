//! From text to statements, and what kind each is: queries are answered here, settings and transactions belong to the
//! connection, everything else would write and is refused.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, ObjectName, SetExpr, TableFactor, Visit, VisitMut, Visitor, VisitorMut};
use datafusion_pg_catalog::sql::rules::{SqlStatementRewriteRule as _, StripCallableQualifier, StripCollate};

use plan::call;
use plan::shape::Unparsed;

use crate::error::{Error, Result, code, syntax};
use crate::foreign;
use crate::names::Names;
use crate::output;
use crate::pg_catalog::{dialect, is_system_table};

/// Nested parentheses and the like that a statement may have.
const NESTING_MAX: usize = 250;
/// Operators that may stand inside one another.
const DEPTH_MAX: usize = 1_000;

/// Stack of the parser and of what walks its trees; a segment is added where less is left.
const PARSER_STACK_BYTES: usize = 16 << 20;

/// One statement of a query text.
#[derive(Debug, Clone)]
pub struct Statement {
    pub kind: Kind,
    tree: ast::Statement,
    /// Whether it reads the catalogue, whose columns are compared with literals as they are.
    reads_catalog: bool,
}

/// Who answers a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `SELECT`, `VALUES`, `WITH`, `EXPLAIN`: [`crate::Session`].
    Query,
    /// `SET`, `RESET`, `SHOW`, `DISCARD`: the connection.
    Setting,
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, savepoints: the connection.
    Transaction,
    /// Anything that would change data or names.
    Write,
}

impl Statement {
    /// The statement as SQL.
    pub fn text(&self) -> String {
        self.tree.to_string()
    }

    /// The statement with its columns named, whole rows written out and its literals meant, ready to be planned over
    /// these tables.
    pub(crate) fn named(&self, tables: &Names<'_>) -> ast::Statement {
        let mut tree = output::name_columns(self.tree.clone());
        let ControlFlow::Continue(()) = VisitMut::visit(&mut tree, &mut OneRow { tables });
        if !self.reads_catalog {
            plan::whole_rows(&mut tree, tables);
            plan::meant(&mut tree);
        }
        tree
    }

    pub(crate) fn tree(&self) -> &ast::Statement {
        &self.tree
    }

    /// The same of another tree.
    pub(crate) fn with_tree(&self, tree: ast::Statement) -> Self {
        Self { tree, ..self.clone() }
    }

    /// Whether it reads the catalogue.
    pub(crate) fn reads_catalog(&self) -> bool {
        self.reads_catalog
    }

    /// The same without subqueries, see [`dialect::without_subqueries`].
    pub(crate) fn without_subqueries(&self) -> Self {
        Self { tree: dialect::without_subqueries(&self.tree), ..self.clone() }
    }

    /// The statement with single values in the place of the parameters that are arrays (`= ANY($1)`), and the positions of
    /// these from 0; none if it has none.
    pub(crate) fn arrays_as_elements(&self) -> Option<(Self, Vec<usize>)> {
        let mut arrays = Arrays::default();
        let mut tree = self.tree.clone();
        let ControlFlow::Continue(()) = VisitMut::visit(&mut tree, &mut arrays);
        (!arrays.positions.is_empty()).then(|| (Self { tree, ..self.clone() }, arrays.positions))
    }

    /// The word that Postgres answers a finished statement with: `SELECT`, `SET`, `BEGIN`.
    pub fn verb(&self) -> String {
        verb(&self.tree)
    }

    /// `cannot execute INSERT in a read-only transaction`, or what is asked instead of what only MySQL has.
    pub fn refusal(&self) -> Error {
        if let Some(foreign) = foreign::statement(&self.tree) {
            return foreign;
        }
        match self.kind {
            Kind::Write => read_only(&self.verb()),
            _ => Error::new(code::NOT_SUPPORTED, format!("{} belongs to the connection", self.verb())),
        }
    }
}

fn verb(tree: &ast::Statement) -> String {
    match tree {
        ast::Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(_) => "INSERT".to_owned(),
            SetExpr::Update(_) => "UPDATE".to_owned(),
            SetExpr::Delete(_) => "DELETE".to_owned(),
            SetExpr::Merge(_) => "MERGE".to_owned(),
            SetExpr::Select(select) if select.into.is_some() => "SELECT INTO".to_owned(),
            _ => "SELECT".to_owned(),
        },
        ast::Statement::Explain { statement, .. } if kind(statement) == Kind::Write => verb(statement),
        other => {
            let text = other.to_string().to_uppercase();
            let mut words = text.split_whitespace();
            let first = words.next().unwrap_or_default();
            match first {
                "CREATE" | "DROP" | "ALTER" => format!("{first} {}", words.next().unwrap_or_default()),
                _ => first.to_owned(),
            }
        }
    }
}

/// Whether a query changes rows on the way: `WITH gone AS (DELETE …)`.
fn writes(query: &ast::Query) -> bool {
    let mut parts = query.with.iter().flat_map(|with| &with.cte_tables);
    let body = match query.body.as_ref() {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
        SetExpr::Select(select) => select.into.is_some(),
        SetExpr::Query(inner) => writes(inner),
        _ => false,
    };
    body || parts.any(|part| writes(&part.query))
}

pub(crate) fn read_only(verb: &str) -> Error {
    Error::new(code::READ_ONLY, format!("cannot execute {verb} in a read-only transaction"))
        .detail("Tables follow their sources and models follow their tables: they are read here.")
        .hint("Change the row at its source, or the model in the project.")
}

/// The statements of a query text; none in an empty one.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    stacker::maybe_grow(PARSER_STACK_BYTES, PARSER_STACK_BYTES, || parsed(sql))
}

fn parsed(sql: &str) -> Result<Vec<Statement>> {
    let trees = plan::shape::parsed(sql, NESTING_MAX, DEPTH_MAX).map_err(|unparsed| match unparsed {
        Unparsed::Syntax(error) => with_instead(syntax(&error), sql),
        Unparsed::TooComplex(what) => Error::new(code::TOO_COMPLEX, "the statement is too complex")
            .detail(what)
            .hint("Split it into several statements, or put what it lists into a table and join that."),
    })?;
    if let Some(refusal) = trees.iter().find_map(plan::refused_function) {
        return Err(unwritten(&refusal));
    }
    if let Some(refusal) = trees.iter().find_map(plan::refused_clause) {
        return Err(passed_over(&refusal));
    }
    if let Some(error) = trees.iter().find_map(foreign::operator) {
        return Err(error);
    }
    let statement = |mut tree: ast::Statement| {
        let (kind, reads_catalog) = (kind(&tree), reads_catalog(&tree));
        dialect::registered(&mut tree, reads_catalog);
        let tree = if reads_catalog { dialect::catalogue(tree) } else { tree };
        Statement { kind, reads_catalog, tree: adapted(tree) }
    };
    Ok(trees.into_iter().map(statement).collect())
}

/// An error of a text that cannot be parsed, with what PostgreSQL has for what only MySQL reads.
fn with_instead(error: Error, sql: &str) -> Error {
    let place =
        error.position.and_then(|(line, column)| Some((usize::try_from(line).ok()?, usize::try_from(column).ok()?)));
    match place.and_then(|(line, column)| plan::instead_of_syntax(sql, line, column)) {
        Some(instead) => error.hint(instead),
        None => error,
    }
}

/// A function that is none of PostgreSQL's.
fn unwritten(refusal: &plan::Refusal) -> Error {
    let is_lacking = refusal.message.ends_with("is not supported");
    let code = if is_lacking { code::NOT_SUPPORTED } else { code::UNKNOWN_FUNCTION };
    placed(code, &refusal.message.replace('"', ""), refusal)
}

/// A clause that the planner would pass over.
fn passed_over(refusal: &plan::Refusal) -> Error {
    let is_of_function = refusal.message.contains(" specified, but ");
    let code = if is_of_function { code::WRONG_OBJECT } else { code::NOT_SUPPORTED };
    placed(code, &refusal.message, refusal)
}

fn placed(code: &'static str, message: &str, refusal: &plan::Refusal) -> Error {
    let mut error = Error::new(code, message);
    if !refusal.hint.is_empty() {
        error = error.hint(refusal.hint.clone());
    }
    error.position =
        refusal.line.and_then(|(line, column)| Some((u64::try_from(line).ok()?, u64::try_from(column).ok()?)));
    error
}

/// The only statement of a query text.
pub(crate) fn parse_one(sql: &str) -> Result<Statement> {
    let mut statements = parse(sql)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (Some(_), false) => Err(Error::new(code::SYNTAX, "cannot insert multiple commands into a prepared statement")),
        (None, _) => Err(Error::new(code::SYNTAX, "the query is empty")),
    }
}

fn kind(tree: &ast::Statement) -> Kind {
    use ast::Statement as S;
    match tree {
        S::Query(query) if writes(query) => Kind::Write,
        S::Query(_) => Kind::Query,
        S::Explain { statement, .. } => kind(statement),
        S::Set(_)
        | S::Reset(_)
        | S::ShowVariable { .. }
        | S::ShowVariables { .. }
        | S::ShowStatus { .. }
        | S::Discard { .. }
        | S::Deallocate { .. }
        | S::Close { .. }
        | S::LISTEN { .. }
        | S::UNLISTEN { .. } => Kind::Setting,
        S::StartTransaction { .. }
        | S::Commit { .. }
        | S::Rollback { .. }
        | S::Savepoint { .. }
        | S::ReleaseSavepoint { .. } => Kind::Transaction,
        _ => Kind::Write,
    }
}

/// Rewrites that keep a statement's meaning and let DataFusion plan it.
fn adapted(tree: ast::Statement) -> ast::Statement {
    let tree = StripCallableQualifier.rewrite(tree);
    let mut tree = StripCollate.rewrite(tree);
    let ControlFlow::Continue(()) = VisitMut::visit(&mut tree, &mut CurrentSchema);
    tree
}

/// A function of one value in FROM as a table of one row, whose column goes by the table's alias, else by the function's name.
struct OneRow<'a> {
    tables: &'a Names<'a>,
}

impl VisitorMut for OneRow<'_> {
    type Break = Infallible;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        let TableFactor::Table { name, alias, args: Some(arguments), with_ordinality: false, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let function = match name.0.as_slice() {
            [function] => function,
            [schema, function] if schema.to_string().eq_ignore_ascii_case("pg_catalog") => function,
            _ => return ControlFlow::Continue(()),
        };
        let Some(function) = function.as_ident().cloned() else { return ControlFlow::Continue(()) };
        if !self.tables.is_of_one_value(&function.value.to_lowercase()) {
            return ControlFlow::Continue(());
        }
        let arguments: Vec<String> = arguments.args.iter().map(ToString::to_string).collect();
        let alias = alias.clone().unwrap_or_else(|| ast::TableAlias {
            explicit: true,
            name: function.clone(),
            columns: Vec::new(),
            at: None,
        });
        let made = format!("SELECT {function}({}) AS {}", arguments.join(", "), alias.name);
        if let Some(subquery) = dialect::query(&made) {
            *factor =
                TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: Some(alias), sample: None };
        }
        ControlFlow::Continue(())
    }
}

/// Takes ANY and ALL away from parameters.
#[derive(Default)]
struct Arrays {
    positions: Vec<usize>,
}

impl VisitorMut for Arrays {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Infallible> {
        let (ast::Expr::AnyOp { left, compare_op, right, .. } | ast::Expr::AllOp { left, compare_op, right }) = expr
        else {
            return ControlFlow::Continue(());
        };
        let ast::Expr::Value(value) = right.as_ref() else { return ControlFlow::Continue(()) };
        let ast::Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        if let Some(position) = number.and_then(|number| number.checked_sub(1)) {
            self.positions.push(position);
            *expr = ast::Expr::BinaryOp { left: left.clone(), op: compare_op.clone(), right: right.clone() };
        }
        ControlFlow::Continue(())
    }
}

/// `current_schema` without parentheses, which the parser takes for a column.
struct CurrentSchema;

impl VisitorMut for CurrentSchema {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Infallible> {
        if let ast::Expr::Identifier(name) = expr
            && name.quote_style.is_none()
            && name.value.eq_ignore_ascii_case("current_schema")
        {
            *expr = call("current_schema", Vec::new());
        }
        ControlFlow::Continue(())
    }
}

/// Whether a statement reads a table of the catalogue.
fn reads_catalog(tree: &ast::Statement) -> bool {
    Visit::visit(tree, &mut CatalogTables).is_break()
}

struct CatalogTables;

impl Visitor for CatalogTables {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        of_catalog(name)
    }
}

fn of_catalog(name: &ObjectName) -> ControlFlow<()> {
    let mut parts = name.0.iter().rev().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str());
    let (table, schema) = (parts.next().unwrap_or_default(), parts.next());
    let named = match schema {
        Some(schema) => schema.eq_ignore_ascii_case("pg_catalog") || schema.eq_ignore_ascii_case("information_schema"),
        None => is_system_table(&table.to_lowercase()),
    };
    if named { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
