//! Tables written down, for cases and messages: `shop.orders(id bigint primary key, day date, total decimal(10,2))`.

use relation::{Column, DataType, Schema};

use crate::flow::TableName;

/// The schema of a table that is written without one.
const DEFAULT_SCHEMA: &str = "public";

/// Reads `name(column type [not null] [primary key], …, [primary key (a, b)])`; the name may have a schema before it.
///
/// Types are those of [`DataType`]'s `FromStr`. Columns may be NULL unless they are `not null` or in the key. Errors:
/// what cannot be read, in words.
pub fn parse_table_definition(text: &str) -> Result<(TableName, Schema), String> {
    let (name, rest) = text.trim().split_once('(').ok_or_else(|| format!("no column list: {text}"))?;
    let body =
        rest.trim_end().trim_end_matches(';').strip_suffix(')').ok_or_else(|| format!("no closing bracket: {text}"))?;
    let mut columns: Vec<Column> = Vec::new();
    let mut key = Vec::new();
    for part in split_outside_brackets(body) {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        match part.strip_prefix("primary key") {
            Some(list) => key.extend(list.trim().trim_matches(['(', ')']).split(',').map(|n| n.trim().to_owned())),
            None => {
                let (column, in_key) = parse_column(&part)?;
                key.extend(in_key.then(|| column.name.clone()));
                columns.push(column);
            }
        }
    }
    let position = |name: &String| {
        columns.iter().position(|c| c.name == *name).ok_or_else(|| format!("no column {name} for the primary key"))
    };
    let key = key.iter().map(position).collect::<Result<Vec<_>, _>>()?;
    key.iter().for_each(|&k| columns[k].nullable = false);
    let name = name.trim();
    let (schema, name) = name.split_once('.').unwrap_or((DEFAULT_SCHEMA, name));
    Ok((TableName::new(schema, name), Schema::new(columns, key)))
}

/// `total decimal(10,2) not null`, and whether it is the primary key.
fn parse_column(text: &str) -> Result<(Column, bool), String> {
    let (name, rest) = text.split_once(' ').ok_or_else(|| format!("a column has a name and a type: {text}"))?;
    let (rest, in_key) = without(rest, "primary key");
    let (rest, required) = without(&rest, "not null");
    let data_type: DataType = rest.parse().map_err(|e| format!("column {name}: {e}"))?;
    Ok((Column { name: name.to_owned(), data_type, nullable: !required }, in_key))
}

fn without(text: &str, words: &str) -> (String, bool) {
    match text.split_once(words) {
        Some((before, after)) => (format!("{} {}", before.trim(), after.trim()).trim().to_owned(), true),
        None => (text.to_owned(), false),
    }
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let separators = text.char_indices().filter(|&(_, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    let mut parts = Vec::new();
    let mut rest = text;
    let mut taken = 0;
    for (at, _) in separators.collect::<Vec<_>>() {
        let (part, after) = rest.split_at(at - taken);
        parts.push(part.trim());
        rest = after.strip_prefix(',').unwrap_or(after);
        taken = at + 1;
    }
    parts.push(rest.trim());
    parts.retain(|part| !part.is_empty());
    parts
}
