//! Which of our rows a condition of the source's SQL holds for, where that can be told without asking the source.
//!
//! It can of comparisons of whole-number columns of the key with numbers, joined by AND: such numbers compare alike
//! everywhere, are never NULL, and tell which rows are meant whatever else has become of them. Of anything else
//! (collations, time zones, functions, other columns, whose values may be what is wrong) only the source knows.

use relation::{DataType, Layout, Schema, Value};

/// A condition that can be evaluated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    parts: Vec<Comparison>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    column: usize,
    least: Option<i128>,
    most: Option<i128>,
}

impl Condition {
    /// Reads a condition over a table's columns; none where only the source can tell.
    pub(super) fn parse(text: &str, schema: &Schema) -> Option<Self> {
        let words = words(text)?;
        let mut rest = words.as_slice();
        let mut parts = Vec::new();
        loop {
            let (part, behind) = comparison(rest, schema)?;
            parts.push(part);
            rest = match behind {
                [] => return Some(Self { parts }),
                [and, behind @ ..] if and.eq_ignore_ascii_case("and") => behind,
                _ => return None,
            };
        }
    }

    /// Whether it holds for a row.
    pub(super) fn holds(&self, layout: &Layout, row: &[u8]) -> bool {
        self.parts.iter().all(|part| {
            let number = match layout.value(row, part.column) {
                Value::Int(number) => i128::from(number),
                Value::UInt(number) => i128::from(number),
                // A key's column is a number of its type.
                _ => return false,
            };
            part.least.is_none_or(|least| number >= least) && part.most.is_none_or(|most| number <= most)
        })
    }
}

/// Names, numbers and signs of comparison; none where there is anything else.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        let mut word = String::from(first);
        match first {
            _ if first.is_whitespace() => continue,
            '`' => {
                word.clear();
                loop {
                    match chars.next()? {
                        '`' => break,
                        char => word.push(char),
                    }
                }
                // So that a column may be called as a word of SQL is.
                word.insert(0, '`');
            }
            '<' | '>' => word.extend(chars.next_if(|next| *next == '=')),
            '=' => {}
            _ if first.is_ascii_digit() || first == '-' || first.is_alphabetic() || first == '_' => {
                let is_more = |next: &char| next.is_alphanumeric() || *next == '_';
                while let Some(next) = chars.next_if(is_more) {
                    word.push(next);
                }
            }
            _ => return None,
        }
        words.push(word);
    }
    Some(words)
}

/// One comparison, and the words behind it.
fn comparison<'a>(words: &'a [String], schema: &Schema) -> Option<(Comparison, &'a [String])> {
    let [name, sign, rest @ ..] = words else { return None };
    let column = column(name, schema)?;
    let (first, rest) = rest.split_first()?;
    let number: i128 = first.parse().ok()?;
    let (least, most, rest) = match sign.to_ascii_lowercase().as_str() {
        "=" => (Some(number), Some(number), rest),
        ">=" => (Some(number), None, rest),
        ">" => (Some(number.checked_add(1)?), None, rest),
        "<=" => (None, Some(number), rest),
        "<" => (None, Some(number.checked_sub(1)?), rest),
        "between" => {
            let [and, last, rest @ ..] = rest else { return None };
            if !and.eq_ignore_ascii_case("and") {
                return None;
            }
            (Some(number), Some(last.parse().ok()?), rest)
        }
        _ => return None,
    };
    Some((Comparison { column, least, most }, rest))
}

/// A whole-number column of the key, by its name.
fn column(name: &str, schema: &Schema) -> Option<usize> {
    let name = name.strip_prefix('`').unwrap_or(name);
    let mut key = schema.key.iter().copied();
    key.find(|&at| {
        let column = &schema.columns[at];
        let is_number =
            matches!(column.data_type, DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64);
        is_number && column.name.eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use relation::{Column, Rows};

    use super::*;

    fn schema() -> Schema {
        let columns = vec![
            Column::new("shop", DataType::Int32),
            Column::new("Id", DataType::UInt64),
            Column::new("word", DataType::Text),
            Column::new("total", DataType::Int64),
        ];
        Schema::new(columns, vec![0, 1, 2])
    }

    #[test]
    fn numbers_of_the_key_are_compared_here() {
        let schema = schema();
        let layout = Layout::new(schema.types());
        let mut rows = Rows::new();
        let word = || Value::Text("a".to_owned());
        for (shop, id) in [(-3, 5), (1, 5), (1, u64::MAX), (2, 7)] {
            rows.push_values(&layout, &[Value::Int(shop), Value::UInt(id), word(), Value::Int(0)]).unwrap();
        }
        let held = |text: &str| -> Vec<usize> {
            let condition = Condition::parse(text, &schema).unwrap();
            (0..rows.len()).filter(|&at| condition.holds(&layout, rows.get(at))).collect()
        };
        assert_eq!(held("shop = 1"), [1, 2]);
        assert_eq!(held("shop=-3"), [0]);
        assert_eq!(held("`shop`>=1 AND id < 18446744073709551615"), [1, 3]);
        assert_eq!(held("ID between 5 and 6 and shop > -3"), [1]);
        assert_eq!(held("id > 18446744073709551614"), [2]);
        assert_eq!(held("shop <= 1 and shop < 1"), [0]);
    }

    #[test]
    fn what_only_the_source_knows_is_not_guessed() {
        let not_ours = [
            "",
            "shop",
            "shop =",
            "total = 1",
            "word = 'a'",
            "word = 1",
            "shop = 1 or id = 2",
            "not shop = 1",
            "shop = 1.5",
            "shop = '1'",
            "shop = id",
            "shop = 1 and",
            "shop = 1 id = 2",
            "shop in (1, 2)",
            "shop = 1 -- id",
            "shop <> 1",
            "shop = 99999999999999999999999999999999999999999",
            "nothing = 1",
            "`shop = 1",
            "shop between 1 or 2",
        ];
        for text in not_ours {
            assert_eq!(Condition::parse(text, &schema()), None, "{text}");
        }
    }
}
