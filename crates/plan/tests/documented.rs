//! What docs/sql.md says that models refuse, and what is written for MySQL's functions, held to what is so.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use plan::{TableInfo, TableName, parse_table_definition, plan_model};

const TABLES: [&str; 2] = [
    "orders(id bigint primary key, customer bigint, day date, status text, total decimal(10,2), placed timestamp)",
    "items(order_id bigint, line int, price decimal(10,2), primary key (order_id, line))",
];

struct Shop(Vec<TableInfo>);

impl plan::Catalog for Shop {
    fn table(&self, _schema: Option<&str>, name: &str) -> Option<TableInfo> {
        self.0.iter().find(|table| table.name.name == name).cloned()
    }

    fn view(&self, _schema: Option<&str>, _name: &str) -> Option<String> {
        None
    }
}

fn shop() -> Shop {
    let tables = TABLES.iter().map(|text| {
        let (name, schema) = parse_table_definition(text).unwrap();
        TableInfo { name: TableName::new("shop", name.name), schema }
    });
    Shop(tables.collect())
}

/// The examples of the table below a heading, each with its way out.
fn examples(text: &str) -> Vec<(String, String)> {
    let section = text.split("\n## What models refuse\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains(" | `"));
    let example = |row: &str| {
        let (example, instead) = row.split_once(" | `")?.1.split_once("` |")?;
        Some((example.to_owned(), instead.to_owned()))
    };
    rows.filter_map(example).collect()
}

#[test]
fn every_example_of_what_is_refused_is_refused_for_its_form() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md")).unwrap();
    let examples = examples(&text);
    assert!(examples.len() >= 22, "the table is not read: {examples:?}");
    for (sql, instead) in examples {
        match plan_model(&sql, &shop()) {
            Ok(_) => panic!("it is kept: {sql}"),
            // It is right SQL that has no form of upkeep: no name in it is unknown.
            Err(refusal) => {
                let is_of_form =
                    refusal.message == "cannot keep model up to date" || refusal.message.contains("no parameters");
                assert!(is_of_form, "{sql}\n{refusal}");
                assert!(refusal.line.is_some(), "no place: {sql}\n{refusal}");
                // The way out by a view is told where it is documented, and there alone.
                let documented = instead.contains("a view over the model");
                assert_eq!(refusal.hint.contains(plan::IN_A_VIEW), documented, "{sql}\n{refusal}");
            }
        }
    }
}

/// A table of columns `a` and `b` of these types, and of what else the examples name.
fn any(a: &str, b: &str) -> Shop {
    let text = format!("t(a {a}, b {b}, c text, x text, list text, n integer, year integer)");
    let (name, schema) = parse_table_definition(&text).unwrap();
    Shop(vec![TableInfo { name: TableName::new("shop", name.name), schema }])
}

const TYPES: [&str; 8] = ["timestamp", "text", "integer", "json", "decimal(10,2)", "date", "boolean", "bytea"];

/// Whether an expression is SQL over columns of some types: planned, or refused for its form alone.
fn is_sql(expression: &str) -> bool {
    let statements = ["", " group by n"].map(|group| format!("select {expression} as v from t{group}"));
    let mut tables = TYPES.iter().flat_map(|a| TYPES.iter().map(move |b| any(a, b)));
    tables.any(|table| {
        statements.iter().any(|sql| match plan_model(sql, &table) {
            Ok(_) => true,
            Err(refusal) => refusal.message == "cannot keep model up to date",
        })
    })
}

#[test]
fn what_is_written_for_functions_of_mysql_is_sql_here_and_documented() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md")).unwrap();
    let mut wrong = Vec::new();
    for (name, instead, note) in plan::MYSQL_FUNCTIONS {
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        let row = format!("| `{name}` | `{}`{note} |", instead.replace('|', "\\|"));
        if !text.contains(&row) {
            wrong.push(format!("docs/sql.md does not have: {row}"));
        }
        if plan::is_accepted(name) {
            wrong.push(format!("{name} is a function here"));
        }
        if !is_sql(instead) {
            wrong.push(format!("instead of {name}: {instead}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Whether an expression is SQL over columns of some types that a model keeps.
fn is_kept(expression: &str) -> bool {
    let statements = ["", " group by n"].map(|group| format!("select {expression} as v from t{group}"));
    let mut tables = TYPES.iter().flat_map(|a| TYPES.iter().map(move |b| any(a, b)));
    tables.any(|table| statements.iter().any(|sql| plan_model(sql, &table).is_ok()))
}

#[test]
fn what_is_written_for_functions_of_mysql_and_is_not_kept_has_the_way_out_of_a_view() {
    let lost = plan::MYSQL_FUNCTIONS.iter().filter(|(_, instead, _)| !is_kept(instead));
    let lost: Vec<&str> = lost.map(|(name, ..)| *name).collect();
    assert_eq!(lost, plan::NOT_KEPT);
    for name in plan::NOT_KEPT {
        let refusal = plan_model(&format!("select {name}(status) as v from orders"), &shop()).unwrap_err();
        assert!(refusal.hint.contains(plan::IN_A_VIEW), "{refusal}");
    }
}

/// Functions of MySQL's that queries have, and models do not.
const OF_QUERIES: [&str; 5] = ["current_role", "current_user", "session_user", "user", "version"];

#[test]
fn every_function_of_mysql_is_one_here_or_has_a_hint() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mysql_functions.txt")).unwrap();
    let names = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut wrong = Vec::new();
    for name in names.filter(|name| !OF_QUERIES.contains(name)) {
        let calls = ["status", "id, id"].map(|arguments| format!("select {name}({arguments}) as v from orders"));
        let refusals = calls.iter().map(|sql| plan_model(sql, &shop()).err());
        let is_without_hint = |refusal: &plan::Refusal| {
            let is_unknown = refusal.message == format!("function \"{name}\" does not exist");
            is_unknown && (refusal.hint.is_empty() || refusal.hint.starts_with("Did you mean"))
        };
        // Some are taken for what they are by the number of their arguments.
        let refused: Option<Vec<_>> = refusals.map(|refusal| refusal.filter(is_without_hint)).collect();
        wrong.extend(refused.map(|refusals| refusals[0].to_string()));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_is_written_for_types_of_mysql_is_sql_here_and_documented() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md")).unwrap();
    for (name, instead) in plan::MYSQL_TYPES {
        let row = format!("| `{name}` | `{instead}` |");
        assert!(text.contains(&row), "docs/sql.md does not have: {row}");
        assert!(is_sql(instead), "instead of {name}: {instead}");
        let refusal = plan_model(&format!("select cast(status as {name}) as v from orders"), &shop()).unwrap_err();
        assert_eq!(
            (refusal.message, refusal.hint),
            (format!("type \"{name}\" does not exist"), format!("Write {instead}."))
        );
    }
}

/// All names of functions that are registered.
fn registered() -> BTreeSet<String> {
    let known = plan::functions();
    let names = known.scalar.keys().chain(known.aggregate.keys()).chain(known.window.keys());
    names.chain(known.higher_order.keys()).cloned().collect()
}

#[test]
fn functions_that_may_be_written_are_those_of_the_list() {
    let registered = registered();
    let accepted: BTreeSet<&str> = plan::accepted_names().into_iter().collect();
    let written: BTreeSet<&str> = plan::of_postgresql().collect();
    // Reads have it of their own.
    let lacking: Vec<_> = written.difference(&accepted).filter(|name| **name != "gen_random_uuid").collect();
    assert_eq!(lacking, Vec::<&&str>::new(), "listed, and no function here");
    for name in registered.iter().filter(|name| !accepted.contains(name.as_str())) {
        let refusal = plan_model(&format!("select {name}(id) as v from orders"), &shop());
        let refusal = refusal.err().unwrap_or_else(|| panic!("{name} is planned"));
        let what = if plan::instead_of_lacking(name).is_some() { "is not supported" } else { "does not exist" };
        assert_eq!(refusal.message, format!("function \"{name}\" {what}"));
        assert_eq!(refusal.line, Some((1, 8)), "{name}");
    }
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md")).unwrap();
    for (name, meaning) in plan::EXTENSIONS {
        let row = format!("| `{name}` | {meaning} |");
        assert!(text.contains(&row), "docs/sql.md does not have: {row}");
    }
    for (name, instead) in plan::LACKING {
        let row = format!("| `{name}` | {instead} |");
        assert!(text.contains(&row), "docs/sql.md does not have: {row}");
        assert!(!plan::is_accepted(name), "{name} is a function here");
    }
}
