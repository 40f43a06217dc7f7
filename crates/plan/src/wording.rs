//! What the planner below says of its own insides, in the words of SQL.

use crate::foreign::instead_of_type;
use crate::instead::instead_of_types;
use crate::postgres::types::in_sql;
use crate::postgres::windows::MISUSED;

/// A message in the words of SQL, with PostgreSQL's code for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reworded {
    pub code: &'static str,
    pub message: String,
    /// Empty where there is none.
    pub hint: String,
}

const SYNTAX: &str = "42601";
const NOT_SUPPORTED: &str = "0A000";
const NO_OPERATOR: &str = "42883";
const MISMATCH: &str = "42804";
const GROUPING: &str = "42803";
const NO_NAME: &str = "42704";
const WINDOWING: &str = "42P20";
const NO_COLUMN_THERE: &str = "42P10";

/// The message of a text that shows the planner's insides, or that PostgreSQL has other words for; none of any other text.
pub fn reworded(text: &str) -> Option<Reworded> {
    let line = text.lines().next().unwrap_or_default();
    if let Some((_, node)) = line.split_once("Unsupported ast node ") {
        return Some(form(node.trim_start_matches("in sqltorel: ")));
    }
    if let Some((_, name)) = line.split_once("Unsupported SQL type ") {
        let name = name.trim_end_matches('.').to_lowercase();
        let hint = instead_of_type(&name).unwrap_or_default();
        return Some(of(NO_NAME, format!("type \"{name}\" does not exist"), &hint));
    }
    if let Some((before, _)) = line.split_once(" not supported by ExprPlanner") {
        return Some(form(before.rsplit(' ').next().unwrap_or_default()));
    }
    if let Some((_, value)) = line.split_once("Unsupported Value ") {
        return Some(match value.contains("ByteString") {
            true => of(NOT_SUPPORTED, "bit strings are not supported", "Write an integer, or a bytea: '\\x05'::bytea."),
            false => {
                of(NOT_SUPPORTED, "a constant of this form is not supported", "A text stands in quotes alone: 'text'.")
            }
        });
    }
    if let Some(name) = line.split_once("variable [\"").and_then(|(_, rest)| rest.split('"').next()) {
        let hint = match name.to_lowercase().as_str() {
            "@@version" => "Variables of MySQL's are not there: write version().",
            _ => "Variables that begin with @ are MySQL's.",
        };
        return Some(of(NO_NAME, format!("variable \"{name}\" does not exist"), hint));
    }
    if let Some((_, operation)) = line.split_once("Cannot infer common argument type for logical boolean operation ") {
        let operation = in_sql(operation);
        let word = if operation.contains(" OR ") { "OR" } else { "AND" };
        let (left, right) = operation.split_once(&format!(" {word} "))?;
        let other = if left == "boolean" { right } else { left };
        return Some(of(MISMATCH, no_boolean(word, other), "A condition is a comparison: a = 1, a is not null."));
    }
    if let Some((_, rest)) = line.split_once("Cannot create filter with non-boolean predicate") {
        let (_, data_type) = rest.rsplit_once(" returning ")?;
        let message = no_boolean("WHERE", &in_sql(data_type));
        return Some(of(MISMATCH, message, "A condition is a comparison: a = 1, a is not null."));
    }
    for (before, after) in [
        ("Cannot infer common argument type for comparison operation ", ""),
        ("Cannot coerce arithmetic expression ", " to valid types"),
        ("Cannot infer common string type for string concat operation ", ""),
    ] {
        if let Some((_, operation)) = line.split_once(before) {
            let operation = operation.split_once(after).filter(|_| !after.is_empty()).map_or(operation, |(own, _)| own);
            let message = format!("operator does not exist: {}", in_sql(operation));
            let hint = instead_of_types(&message).unwrap_or_default();
            return Some(of(NO_OPERATOR, message, &hint));
        }
    }
    if let Some((_, operator)) = line.split_once("Unsupported binary operator: ") {
        return Some(operator_of(&words(operator)));
    }
    if line.ends_with("Unsupported SQL unary operator PGPostfixFactorial") {
        return Some(of(SYNTAX, "syntax error at or near \"!\"", "Write factorial(5)."));
    }
    if let Some((_, operator)) = line.split_once("Unsupported SQL unary operator ") {
        return Some(operator_of(&words(operator)));
    }
    if let Some((_, expression)) = line.split_once("does not support logical expression ") {
        if expression.starts_with("WindowFunction") {
            let hint = "Compute it in a query in FROM, and filter what that gives.";
            return Some(of(WINDOWING, "window functions are not allowed in WHERE", hint));
        }
        let is_tied = ["ScalarSubquery", "OuterReferenceColumn"].iter().any(|kind| expression.starts_with(kind));
        return Some(match is_tied {
            true => {
                let message = "a subquery that is tied to the outer query by more than equalities is not supported";
                of(NOT_SUPPORTED, message, "Tie it by a = o.a, or write it as a join.")
            }
            false => {
                of(NOT_SUPPORTED, "this form of subquery is not supported here", "Write it in WHERE, or as a join.")
            }
        });
    }
    if let Some(told) = of_lists(line) {
        return Some(told);
    }
    if line.contains("compound identifier") {
        return Some(of(
            SYNTAX,
            "a name has more parts than a column's",
            "Write table.column, or schema.table.column.",
        ));
    }
    let at = insides(line)?;
    let told = line.get(..at).unwrap_or_default().trim_end_matches([' ', ':', '(', '[', '\'']);
    Some(match told.is_empty() {
        true => of(NOT_SUPPORTED, "this form of SQL is not supported", ""),
        false => of(NOT_SUPPORTED, format!("not supported: {}", in_sql(told)), ""),
    })
}

/// Whether a text shows a value of the planner's or the parser's as these keep it.
pub fn shows_insides(text: &str) -> bool {
    text.lines().any(|line| insides(line).is_some())
}

/// What is said of the lists of a statement: its results, groups, orders, rows and windows.
fn of_lists(line: &str) -> Option<Reworded> {
    let behind = |words: &str| line.split_once(words).map(|(_, rest)| rest);
    if behind("HAVING clause references: ").is_some() {
        let message = "columns of HAVING must appear in the GROUP BY clause or be used in an aggregate function";
        return Some(of(GROUPING, message, ""));
    }
    let position = |clause: &str, rest: &str| {
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
        of(NO_COLUMN_THERE, format!("{clause} position {number} is not in select list"), "")
    };
    if let Some(rest) = behind("Cannot find column with position ") {
        return Some(position("GROUP BY", rest));
    }
    if let Some(rest) = behind("Order by column out of bounds, specified: ") {
        return Some(position("ORDER BY", rest));
    }
    if behind("Order by index starts at 1").is_some() {
        return Some(position("ORDER BY", "0"));
    }
    if let Some(rest) = behind("For SELECT DISTINCT, ORDER BY expressions ") {
        let missing = in_sql(rest.split_once(" must appear in").map_or(rest, |(missing, _)| missing));
        let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
        return Some(of(NO_COLUMN_THERE, message, &format!("Select {missing} as well.")));
    }
    if let Some((operator, _)) = line.split_once(" queries have different number of columns") {
        let operator = operator.rsplit(' ').next().unwrap_or(operator).to_uppercase();
        return Some(of(SYNTAX, format!("each {operator} query must have the same number of columns"), ""));
    }
    if behind("Inconsistent data length across values list").is_some() {
        return Some(of(SYNTAX, "VALUES lists must all be the same length", ""));
    }
    let window = behind("The window ").and_then(|rest| rest.split_once(" is not defined"));
    window.map(|(name, _)| {
        let name = name.trim_matches('"');
        match name.split_once(MISUSED) {
            Some((name, "")) => {
                let message = format!("cannot copy window \"{name}\" because it has a frame clause");
                of(WINDOWING, message, "Write OVER w without brackets, or a window of its own.")
            }
            Some((name, part)) => of(WINDOWING, format!("cannot override {part} clause of window \"{name}\""), ""),
            None => of(NO_NAME, format!("window \"{name}\" does not exist"), ""),
        }
    })
}

fn of(code: &'static str, message: impl Into<String>, hint: &str) -> Reworded {
    Reworded { code, message: message.into(), hint: hint.to_owned() }
}

fn no_boolean(of: &str, data_type: &str) -> String {
    format!("argument of {of} must be type boolean, not type {}", data_type.trim_end_matches('.'))
}

/// A node of the parser's.
fn form(node: &str) -> Reworded {
    let name = words(node);
    match name.as_str() {
        "R LIKE" => {
            let hint = "REGEXP and RLIKE are MySQL's: write a ~ 'pattern', or a ~* 'pattern'.";
            of(SYNTAX, "this form of SQL is not supported: REGEXP", hint)
        }
        _ => {
            let hint = match name.as_str() {
                "CONVERT" => "CONVERT is MySQL's: write cast(a as text), or another type.",
                "COLLATE" => "Texts are compared by their bytes: leave COLLATE out, or compare lower(a).",
                "PREFIXED" => "Texts are UTF-8: leave the character set out.",
                "MEMBER OF" => "MEMBER OF is MySQL's: write b::jsonb @> to_jsonb(a).",
                _ => "",
            };
            of(NOT_SUPPORTED, format!("this form of SQL is not supported: {name}"), hint)
        }
    }
}

/// An operator that is none here.
fn operator_of(name: &str) -> Reworded {
    let hint = match name {
        "DOUBLE AT" => "Variables of MySQL's are not there.",
        "ASSIGNMENT" => "Variables of MySQL's are not there: rows are numbered by row_number() over (order by a).",
        _ => "",
    };
    of(NOT_SUPPORTED, format!("this operator is not supported: {name}"), hint)
}

/// `TypedString { …` as `TYPED STRING`.
fn words(node: &str) -> String {
    let mut out = String::new();
    for letter in node.chars().take_while(|c| c.is_ascii_alphanumeric()) {
        if letter.is_ascii_uppercase() && !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

/// Where a line begins to show a value as the planner or the parser keeps it: `Name { field: …`, `Name(Name { …`, `Some(…`.
fn insides(line: &str) -> Option<usize> {
    const SIGNS: [&str; 8] =
        [" { value: ", " { span: ", "(Word(", "Ident {", "Some(", "Span(", "ValueWithSpan", "sqltorel"];
    let sign = SIGNS.iter().filter_map(|sign| line.find(sign)).min();
    let fields = line.match_indices(" { ").find_map(|(at, _)| {
        let rest = line.get(at + 3..)?;
        let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let owner = line.get(..at)?.chars().next_back()?;
        (!name.is_empty() && owner.is_ascii_alphanumeric() && rest.get(name.len()..)?.starts_with(": ")).then_some(at)
    });
    let at = sign.into_iter().chain(fields).min()?;
    // From the word on that it belongs to.
    let before = line.get(..at)?;
    let begins = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '(').map_or(0, |found| found + 1);
    Some(begins)
}

#[cfg(test)]
mod tests {
    use super::{insides, reworded, shows_insides};

    #[test]
    fn texts_of_users_are_no_insides() {
        for text in ["invalid input syntax for type json: \"{ a: 1}\"", "column \"x { y\" does not exist", "a {b: 1}"] {
            assert_eq!(insides(text), None, "{text}");
        }
    }

    #[test]
    fn values_of_the_parser_are_cut_off() {
        let text = "Interval of BinaryOp { left: Value(ValueWithSpan { value: Number(\"1\", false)";
        assert!(shows_insides(text));
        assert_eq!(reworded(text).map(|told| told.message), Some("not supported: Interval of".to_owned()));
    }
}
