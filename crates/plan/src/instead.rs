//! What is written instead where types do not meet.
//!
//! MySQL compares whatever stands there: flags are numbers, texts are the numbers that they begin with, and dates are numbers too.
//! PostgreSQL has an operator for two types or none, so what is written in one has no meaning in the other, and the next move differs
//! by the types.

use crate::postgres::castable::instead_of_cast;

/// What is written instead of what a message refuses for its types, as a sentence; none where the message is of something else.
pub fn instead_of_types(told: &str) -> Option<String> {
    if let Some(instead) = instead_of_cast(told) {
        return Some(instead.to_owned());
    }
    if let Some(operation) = told.strip_prefix("operator does not exist: ") {
        return Some(instead_of_operator(operation).unwrap_or(CAST).to_owned());
    }
    let lower = told.to_lowercase();
    if lower.starts_with("argument of ") && lower.contains(" must be type boolean") {
        return Some("A condition is a comparison: a = 1, a is not null.".to_owned());
    }
    if lower.starts_with("unary operator 'not' requires a boolean") {
        return Some("A condition is a comparison: a = 0, not (a > 1).".to_owned());
    }
    let call = told.strip_prefix("function ")?.strip_suffix(" does not exist")?;
    Some(
        match call {
            "sum(boolean)" => "Count the rows for which it holds: count(*) filter (where a = 1).",
            "avg(boolean)" => "Cast it: avg((a = 1)::integer).",
            _ if call.starts_with("format(") => "FORMAT of MySQL's is to_char(a, 'FM999,999,990.00').",
            _ => return None,
        }
        .to_owned(),
    )
}

/// What is said of a call that no function of its name takes, where it is told with the types of its arguments: an operator is not
/// told by the function that computes it.
pub fn no_such(call: &str) -> String {
    let operator = match call.split_once('(') {
        Some(("time_plus" | "checked_plus", _)) => "+",
        Some(("time_minus" | "checked_minus", _)) => "-",
        Some(("array_has_any", _)) => "&&",
        _ => return format!("function {call} does not exist"),
    };
    let sides = call.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')?.split_once(", "));
    match sides {
        Some((left, right)) => format!("operator does not exist: {left} {operator} {right}"),
        None => format!("function {call} does not exist"),
    }
}

const CAST: &str = "Cast one side.";

/// Types as far as the next move depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flag,
    /// MySQL's flags are of this type.
    Small,
    Number,
    Text,
    Moment,
}

const KINDS: [(&str, Kind); 12] = [
    ("boolean", Kind::Flag),
    ("smallint", Kind::Small),
    ("integer", Kind::Number),
    ("bigint", Kind::Number),
    ("numeric", Kind::Number),
    ("real", Kind::Number),
    ("double precision", Kind::Number),
    ("text", Kind::Text),
    ("character varying", Kind::Text),
    ("date", Kind::Moment),
    ("timestamp without time zone", Kind::Moment),
    ("timestamp with time zone", Kind::Moment),
];

/// The next move where an operation is told as `left operator right`.
fn instead_of_operator(operation: &str) -> Option<&'static str> {
    use Kind::{Flag, Moment, Number, Small, Text};
    // An array begins with the name of its elements' type.
    let left = KINDS.iter().find(|(name, _)| operation.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let right = KINDS.iter().find(|(name, _)| operation.strip_suffix(name).is_some_and(|rest| rest.ends_with(' ')));
    let (left_name, left) = left?;
    let (right_name, right) = right?;
    let operator = operation.strip_prefix(left_name)?.strip_suffix(right_name)?.trim();
    let is_comparison = matches!(operator, "=" | "<>" | "<" | ">" | "<=" | ">=") || operator.starts_with("IS ");
    Some(match (left, right) {
        _ if operator == "&&" => "AND is written out: a and b.",
        _ if operator == "||" => "OR is written out: a or b. Texts are joined: a::text || b.",
        (Flag, Small) | (Small, Flag) if is_comparison => {
            "MySQL's flags are numbers: write a = 1, or a::boolean in its place."
        }
        (Flag, Number) if is_comparison => "A boolean is compared with true or false: a = true, or a alone.",
        (Number, Flag) if is_comparison => "A number is compared with a number: a = 1.",
        (Text, Small | Number) | (Small | Number, Text) if is_comparison => {
            "A text is compared with a text: a = '1'; a text of digits is a number by a cast: a::numeric = 1."
        }
        (Moment, Small | Number) | (Small | Number, Moment) if is_comparison => {
            "A date stands in quotes: a = '2026-01-31'. Seconds since 1970 are a moment by to_timestamp(n)."
        }
        (Moment, Text) | (Text, Moment) if is_comparison => "Cast the text: a::date, or a::timestamp.",
        (Flag, Text) | (Text, Flag) if is_comparison => "Cast the text: a::boolean.",
        (Moment, Small | Number) | (Small | Number, Moment) if matches!(operator, "+" | "-") => {
            "Say how long it is: a + interval '1 day'."
        }
        (Text, Small | Number | Text) | (Small | Number, Text) if matches!(operator, "+" | "-" | "*" | "/" | "%") => {
            "Cast the text: a::numeric."
        }
        (Flag, _) | (_, Flag) if matches!(operator, "+" | "-" | "*" | "/" | "%") => "Cast the boolean: a::integer.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_move_is_told_by_the_types() {
        let hint = |told: &str| instead_of_types(told).unwrap_or_default();
        assert_eq!(
            hint("operator does not exist: smallint IS DISTINCT FROM boolean"),
            "MySQL's flags are numbers: write a = 1, or a::boolean in its place."
        );
        assert_eq!(
            hint("operator does not exist: timestamp without time zone + integer"),
            "Say how long it is: a + interval '1 day'."
        );
        // Of lists, and of types that are not listed, no more is known.
        for other in ["integer[] = integer", "integer = integer[]", "uuid = text", "text ~~ integer", "~ text"] {
            assert_eq!(hint(&format!("operator does not exist: {other}")), CAST, "{other}");
        }
        assert_eq!(instead_of_types("function md5(integer) does not exist"), None);
        assert_eq!(instead_of_types("column \"a\" does not exist"), None);
    }

    #[test]
    fn operators_are_told_as_they_are_written() {
        assert_eq!(no_such("time_plus(date, text)"), "operator does not exist: date + text");
        assert_eq!(no_such("array_has_any(numeric, integer)"), "operator does not exist: numeric && integer");
        assert_eq!(no_such("md5(integer)"), "function md5(integer) does not exist");
    }
}
