//! Statements and operators that people of MySQL write, which PostgreSQL does not have: what is asked instead.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, Spanned as _, UnaryOperator, Visit, Visitor};

use crate::error::{Error, code};

/// What is said of a statement that is MySQL's; none of any other.
pub(crate) fn statement(tree: &ast::Statement) -> Option<Error> {
    use ast::Statement as S;
    let (what, instead) = match tree {
        S::ShowTables { .. } | S::ShowViews { .. } => ("SHOW TABLES", TABLES.to_owned()),
        S::ShowDatabases { .. } | S::ShowSchemas { .. } => ("SHOW DATABASES", SCHEMAS.to_owned()),
        S::ShowColumns { show_options, .. } => {
            let table = show_options.show_in.as_ref().and_then(|of| of.parent_name.as_ref());
            ("SHOW COLUMNS", columns(table))
        }
        S::ExplainTable { table_name, .. } => ("DESCRIBE", columns(Some(table_name))),
        S::ShowCreate { obj_name, .. } => ("SHOW CREATE", columns(Some(obj_name))),
        S::ShowStatus { .. } | S::ShowVariables { .. } => ("SHOW VARIABLES", SETTINGS.to_owned()),
        S::ShowProcessList { .. } => ("SHOW PROCESSLIST", "Ask: select * from pg_stat_activity.".to_owned()),
        S::ShowFunctions { .. } => ("SHOW FUNCTIONS", "Ask: select proname from pg_proc. In psql: \\df.".to_owned()),
        S::Use(_) => ("USE", "There is one database: write schema.table, or set search_path to schema.".to_owned()),
        S::ShowVariable { variable } => match variable.first().map(|word| word.value.to_uppercase()).as_deref() {
            Some("INDEX" | "INDEXES" | "KEYS") => ("SHOW INDEX", KEYS.to_owned()),
            Some("GRANTS") => ("SHOW GRANTS", "What a role may read stands in roles.yml.".to_owned()),
            // The parser has taken the word itself away.
            None | Some("LIKE") => ("SHOW VARIABLES", SETTINGS.to_owned()),
            Some(_) => return None,
        },
        _ => return None,
    };
    Some(Error::new(code::SYNTAX, format!("{what} is MySQL's")).hint(instead))
}

const TABLES: &str = "Ask: select table_schema, table_name from information_schema.tables. In psql: \\d.";
const SCHEMAS: &str =
    "There is one database, with schemas: select schema_name from information_schema.schemata. In psql: \\dn.";
const SETTINGS: &str = "Ask: show all, or select * from tidemill.settings.";
const KEYS: &str = "Ask: select * from information_schema.key_column_usage. In psql: \\d with the table's name.";

/// Where the columns of a table are listed.
fn columns(table: Option<&ast::ObjectName>) -> String {
    let name = table.and_then(|name| name.0.last()?.as_ident()).map(|ident| ident.value.clone());
    let name = name.unwrap_or_else(|| "orders".to_owned());
    let quoted = name.replace('\'', "''");
    format!(
        "Ask: select column_name, data_type from information_schema.columns where table_name = '{quoted}'. In psql: \\d {name}."
    )
}

/// What is said of an operator that stands before its only side and is none of PostgreSQL's there: `@@version`, `~ 'pattern'`.
pub(crate) fn operator(tree: &ast::Statement) -> Option<Error> {
    match tree.visit(&mut Prefixes) {
        ControlFlow::Break(error) => Some(error),
        ControlFlow::Continue(()) => None,
    }
}

struct Prefixes;

impl Visitor for Prefixes {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let Expr::UnaryOp { op, expr: of } = expr else { return ControlFlow::Continue(()) };
        let mut error = match (op, of.as_ref()) {
            (UnaryOperator::DoubleAt, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => variable(&of.to_string()),
            (UnaryOperator::BitwiseNot, Expr::Value(value))
                if matches!(value.value, ast::Value::SingleQuotedString(_)) =>
            {
                one_sided("text")
            }
            _ => return ControlFlow::Continue(()),
        };
        // The operator itself has no place; what stands behind it has.
        let start = of.span().start;
        error.position = Some((start.line, start.column)).filter(|(line, _)| *line > 0);
        ControlFlow::Break(error)
    }
}

/// A variable of MySQL's.
fn variable(name: &str) -> Error {
    let hint = match name.to_lowercase().as_str() {
        "version" => "Variables of MySQL's are not there: write version().".to_owned(),
        "autocommit" | "tx_isolation" | "transaction_isolation" => {
            "Variables of MySQL's are not there: write current_setting('transaction_isolation').".to_owned()
        }
        _ => "Variables of MySQL's are not there: settings are in show all, and in tidemill.settings.".to_owned(),
    };
    Error::new(code::UNKNOWN_NAME, format!("variable \"@@{name}\" does not exist")).hint(hint)
}

/// A match without what is matched.
fn one_sided(data_type: &str) -> Error {
    Error::new(code::UNKNOWN_FUNCTION, format!("operator does not exist: ~ {data_type}"))
        .hint("A text stands before it: note ~ 'pattern'.")
}

/// An error of planning where all bits of what has none are to be turned over, in the words of the statement: that is computed by a
/// subtraction that nobody wrote.
pub(crate) fn in_own_words(error: Error, tree: &ast::Statement) -> Error {
    let Some(data_type) = error.message.strip_prefix("operator does not exist: integer - ") else { return error };
    match tree.visit(&mut Turned) {
        ControlFlow::Break(()) => one_sided(data_type),
        ControlFlow::Continue(()) => error,
    }
}

/// Whether a statement turns bits over.
struct Turned;

impl Visitor for Turned {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}
