//! The form of a statement: its text with parameters in the place of literals.
//!
//! Only literals that a name is compared with in the outermost WHERE are taken out, and of them whole numbers and texts.
//! Statements of one form mean the same but for these values; that it is so of a certain form is looked at when it is planned
//! ([`crate::asked`]).

use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, SetExpr, visit_expressions};

use crate::statement::{Kind, Statement};

/// A statement with its literals as further parameters.
pub(crate) struct Form {
    pub(crate) statement: Statement,
    /// The values of the literals, behind those of the parameters that it has itself.
    pub(crate) literals: Vec<ScalarValue>,
}

impl Form {
    /// The form of a statement with so many parameters; none where nothing is kept of such statements.
    pub(crate) fn of(statement: &Statement, parameters: usize) -> Option<Self> {
        if statement.kind != Kind::Query || statement.reads_catalog() || lacks_values(statement.tree(), parameters) {
            return None;
        }
        let mut tree = statement.tree().clone();
        let ast::Statement::Query(query) = &mut tree else { return None };
        let mut literals = Literals { before: parameters, values: Vec::new() };
        if let SetExpr::Select(select) = query.body.as_mut()
            && let Some(condition) = &mut select.selection
        {
            literals.lift(condition);
        }
        Some(Self { statement: statement.with_tree(tree), literals: literals.values })
    }
}

/// Whether a statement has parameters beyond those that have values: a literal would take the place of one.
fn lacks_values(tree: &ast::Statement, parameters: usize) -> bool {
    let is_beyond = |expr: &ast::Expr| match expr {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Placeholder(name), .. }) => name
            .strip_prefix('$')
            .and_then(|number| number.parse().ok())
            .is_none_or(|number: usize| number > parameters),
        _ => false,
    };
    let walked = visit_expressions(tree, |expr| match is_beyond(expr) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    walked.is_break()
}

/// Takes literals out of a condition.
struct Literals {
    /// Parameters that it has already.
    before: usize,
    values: Vec<ScalarValue>,
}

impl Literals {
    fn lift(&mut self, condition: &mut ast::Expr) {
        use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
        match condition {
            ast::Expr::Nested(inner) => self.lift(inner),
            ast::Expr::BinaryOp { left, op: And | Or, right } => {
                self.lift(left);
                self.lift(right);
            }
            ast::Expr::BinaryOp { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right } => {
                match (is_name(left), is_name(right)) {
                    (true, false) => self.value(right),
                    (false, true) => self.value(left),
                    _ => {}
                }
            }
            ast::Expr::Between { expr, low, high, .. } if is_name(expr) => {
                self.value(low);
                self.value(high);
            }
            _ => {}
        }
    }

    fn value(&mut self, expr: &mut ast::Expr) {
        let ast::Expr::Value(found) = expr else { return };
        let value = match &found.value {
            ast::Value::Number(digits, false) => number(digits),
            ast::Value::SingleQuotedString(text) => Some(ScalarValue::Utf8(Some(text.clone()))),
            _ => None,
        };
        if let Some(value) = value {
            self.values.push(value);
            found.value = ast::Value::Placeholder(format!("${}", self.before + self.values.len()));
        }
    }
}

/// A whole number of the type that it has where it is written (`plan::meant`).
fn number(digits: &str) -> Option<ScalarValue> {
    match digits.parse::<i32>() {
        Ok(number) => Some(ScalarValue::Int32(Some(number))),
        Err(_) => Some(ScalarValue::Int64(Some(digits.parse().ok()?))),
    }
}

fn is_name(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_))
}
