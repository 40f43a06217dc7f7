//! From text to statements, and what kind each is: queries are answered here, settings and transactions belong to the
//! connection, everything else would write and is refused.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::logical_expr::planner::ContextProvider;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArguments, ObjectName, SelectItem, SetExpr, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{SqlStatementRewriteRule as _, StripCallableQualifier, StripCollate};

use plan::call;
use plan::shape::Unparsed;

use crate::error::{Error, Result, code, syntax};
use crate::output;
use crate::pg_catalog::is_system_table;

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
    pub(crate) fn named(&self, tables: &dyn ContextProvider) -> ast::Statement {
        let mut tree = output::name_columns(self.tree.clone());
        if !self.reads_catalog {
            plan::whole_rows(&mut tree, tables);
            plan::meant(&mut tree);
        }
        tree
    }

    /// The word that Postgres answers a finished statement with: `SELECT`, `SET`, `BEGIN`.
    pub fn verb(&self) -> String {
        verb(&self.tree)
    }

    /// `cannot execute INSERT in a read-only transaction`.
    pub fn refusal(&self) -> Error {
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
    let mut trees = plan::shape::parsed(sql, NESTING_MAX, DEPTH_MAX).map_err(|unparsed| match unparsed {
        Unparsed::Syntax(error) => syntax(&error),
        Unparsed::TooComplex(what) => Error::new(code::TOO_COMPLEX, "the statement is too complex")
            .detail(what)
            .hint("Split it into several statements, or put what it lists into a table and join that."),
    })?;
    for tree in trees.iter_mut().filter(|tree| Visit::visit(*tree, &mut CatalogTables).is_continue()) {
        let ControlFlow::Continue(()) = VisitMut::visit(tree, &mut Registered);
    }
    let trees = if trees.iter().any(reads_catalog) { rewritten(sql, trees) } else { trees };
    let statement = |tree| Statement { kind: kind(&tree), reads_catalog: reads_catalog(&tree), tree: adapted(tree) };
    Ok(trees.into_iter().map(statement).collect())
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

/// `'orders'::regclass` and `23::regtype`: the oid where it is compared, the name where it is shown.
struct Registered;

impl VisitorMut for Registered {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Infallible> {
        let ast::Expr::Cast { expr: inner, data_type, .. } = expr else { return ControlFlow::Continue(()) };
        let name = data_type.to_string().to_lowercase();
        let made = match name.as_str() {
            "regclass" | "regtype" => call(&format!("{name}in"), vec![inner.as_ref().clone()]),
            "text" | "varchar" | "name" => match shown(inner) {
                Some((_, made)) => made,
                None => return ControlFlow::Continue(()),
            },
            // It is one.
            "oid" if shown(inner).is_some() => ast::Expr::Nested(inner.clone()),
            _ => return ControlFlow::Continue(()),
        };
        *expr = made;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Infallible> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            for item in &mut select.projection {
                match item {
                    SelectItem::ExprWithAlias { expr, .. } => {
                        if let Some((_, made)) = shown(expr) {
                            *expr = made;
                        }
                    }
                    SelectItem::UnnamedExpr(expr) => {
                        if let Some((alias, expr)) = shown(expr).or_else(|| headed(expr)) {
                            *item = SelectItem::ExprWithAlias { expr, alias: ast::Ident::new(alias) };
                        }
                    }
                    _ => {}
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The type and the shown name of what names a table or a type.
fn shown(expr: &ast::Expr) -> Option<(&'static str, ast::Expr)> {
    let ast::Expr::Function(function) = expr else { return None };
    let (name, out) = match function.name.to_string().as_str() {
        "regclassin" => ("regclass", "regclassout"),
        "regtypein" => ("regtype", "regtypeout"),
        _ => return None,
    };
    Some((name, call(out, vec![expr.clone()])))
}

/// The heading of what is a name's oid or its text by a further cast.
fn headed(expr: &ast::Expr) -> Option<(&'static str, ast::Expr)> {
    let heading = match expr {
        ast::Expr::Nested(inner) => shown(inner).map(|_| "oid"),
        ast::Expr::Function(function) => match function.name.to_string().as_str() {
            "regclassout" => Some("regclass"),
            "regtypeout" => Some("regtype"),
            _ => None,
        },
        _ => None,
    };
    heading.map(|heading| (heading, expr.clone()))
}

/// Client programs' questions to the catalogue, brought into a form that DataFusion plans.
///
/// These rewrites may change an answer (a correlated subquery in a projection becomes NULL), so they are for statements
/// that read the catalogue only.
fn rewritten(sql: &str, plain: Vec<ast::Statement>) -> Vec<ast::Statement> {
    static CATALOG_PARSER: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);
    let mut trees = CATALOG_PARSER.parse(sql).unwrap_or(plain);
    for tree in &mut trees {
        let ControlFlow::Continue(()) = VisitMut::visit(tree, &mut CatalogSubqueries);
    }
    trees
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
            *expr = call("current_schema", vec![]);
        }
        ControlFlow::Continue(())
    }
}

/// Subqueries of catalogue questions in a form that DataFusion plans: `ARRAY(SELECT …)`, which lists what we never have
/// (privileges, options, members), is NULL; the one row of a correlated subquery is its greatest.
struct CatalogSubqueries;

impl VisitorMut for CatalogSubqueries {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Infallible> {
        match expr {
            ast::Expr::Function(function) if matches!(function.args, FunctionArguments::Subquery(_)) => {
                *expr = no_texts();
            }
            ast::Expr::Subquery(query) if query.limit_clause.is_none() => {
                if let SetExpr::Select(select) = query.body.as_mut()
                    && let [SelectItem::UnnamedExpr(value)] = select.projection.as_mut_slice()
                    && !matches!(value, ast::Expr::Function(_))
                {
                    *value = call("max", vec![value.clone()]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `NULL::text[]`.
fn no_texts() -> ast::Expr {
    ast::Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(ast::Expr::Value(ast::Value::Null.with_empty_span())),
        data_type: ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(ast::DataType::Text), None)),
        array: false,
        format: None,
    }
}

/// Whether a statement reads `pg_catalog` or casts to one of its types.
fn reads_catalog(tree: &ast::Statement) -> bool {
    tree.visit(&mut CatalogReads).is_break()
}

struct CatalogReads;

impl Visitor for CatalogReads {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        of_catalog(name)
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::Cast { data_type, .. } if data_type.to_string().to_lowercase().contains("reg") => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether a statement reads a table of the catalogue.
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
