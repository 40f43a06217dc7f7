//! The shop's tables and rows as MySQL's SQL.

use std::fmt::Write as _;

use relation::{DataType, Rows, TableChanges, Value};
use simulate::{Table, Told};

/// Rows of one statement at most.
const ROWS_MAX: usize = 1_000;

/// The statement that makes a table.
pub(super) fn create(table: Table) -> String {
    let schema = table.schema();
    let mut columns: Vec<String> = Vec::new();
    for column in &schema.columns {
        let nullable = if column.nullable { "" } else { " not null" };
        columns.push(format!("`{}` {}{nullable}", column.name, type_name(column.data_type)));
    }
    let key: Vec<String> = schema.key.iter().map(|&k| format!("`{}`", schema.columns[k].name)).collect();
    columns.push(format!("primary key ({})", key.join(", ")));
    format!("create table `{}` ({}) character set utf8mb4", table.name(), columns.join(", "))
}

fn type_name(data_type: DataType) -> String {
    match data_type {
        DataType::Text => "varchar(200)".to_owned(),
        DataType::Timestamp => "datetime(6)".to_owned(),
        other => other.to_string(),
    }
}

/// The statements that write new rows of a table.
pub(super) fn inserts(table: Table, rows: &Rows) -> Vec<String> {
    let rows: Vec<&[u8]> = rows.iter().collect();
    rows.chunks(ROWS_MAX).map(|rows| insert(table, rows)).collect()
}

/// The statements of what was told, in the order of the tables, each after those it refers to.
pub(super) fn changes(told: &Told) -> Vec<String> {
    Table::ALL.into_iter().flat_map(|table| changes_of(table, told.table(table))).collect()
}

fn changes_of(table: Table, changes: &TableChanges) -> Vec<String> {
    let weighted = changes.rows.iter().zip(&changes.weights);
    let after: Vec<&[u8]> = weighted.filter(|(_, weight)| **weight > 0).map(|(row, _)| row).collect();
    let has_updates = after.len() < changes.rows.len();
    let statement = |rows: &[&[u8]]| {
        let mut sql = insert(table, rows);
        if has_updates {
            // Logged as updates: the rows are there. New rows among them are inserted.
            let schema = table.schema();
            let columns = schema.columns.iter().map(|column| format!("`{0}` = values(`{0}`)", column.name));
            sql.push_str(" on duplicate key update ");
            sql.push_str(&columns.collect::<Vec<_>>().join(", "));
        }
        sql
    };
    after.chunks(ROWS_MAX).map(statement).collect()
}

fn insert(table: Table, rows: &[&[u8]]) -> String {
    let mut sql = format!("insert into `{}` values ", table.name());
    for (i, row) in rows.iter().enumerate() {
        sql.push_str(if i == 0 { "(" } else { ",(" });
        for (j, value) in table.layout().values(row).iter().enumerate() {
            if j > 0 {
                sql.push(',');
            }
            literal(&mut sql, value);
        }
        sql.push(')');
    }
    sql
}

fn literal(sql: &mut String, value: &Value) {
    let written = match value {
        Value::Text(text) => write!(sql, "'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        Value::Timestamp(_) | Value::Date(_) => write!(sql, "'{value}'"),
        other => write!(sql, "{other}"),
    };
    debug_assert!(written.is_ok(), "a String takes whatever is written");
}

#[cfg(test)]
mod tests {
    use relation::{Rows, Value};
    use simulate::{Settings, Simulation, Table, Told};

    use super::{changes, create, inserts};

    #[test]
    fn a_table_as_mysql_makes_it() {
        assert_eq!(
            create(Table::OrderItems),
            "create table `order_items` (`order_id` bigint not null, `line` integer not null, `product_id` bigint not null, \
             `quantity` integer not null, `price` decimal(12,2) not null, `amount` decimal(12,2) not null, \
             primary key (`order_id`, `line`)) character set utf8mb4"
        );
        let categories = create(Table::Categories);
        assert!(categories.contains("`parent_id` bigint, `name` varchar(200) not null"), "{categories}");
        assert!(create(Table::PageEvents).contains("`occurred_at` datetime(6) not null"));
    }

    #[test]
    fn texts_are_quoted() {
        let mut rows = Rows::new();
        let text = |text: &str| Value::Text(text.to_owned());
        rows.push_values(Table::Brands.layout(), &[Value::Int(1), text("O'Hara"), text("a\\b")]).unwrap();
        rows.push_values(Table::Brands.layout(), &[Value::Int(2), text("x"), text("")]).unwrap();
        assert_eq!(inserts(Table::Brands, &rows), ["insert into `brands` values (1,'O''Hara','a\\\\b'),(2,'x','')"]);
    }

    #[test]
    fn an_order_is_inserted_and_then_updated() {
        let settings = Settings { users: 40, orders_per_day: 40, history_orders: 0, ..Settings::default() };
        let mut simulation = Simulation::new(settings);
        let (mut placed, mut updated) = (None, None);
        while placed.is_none() || updated.is_none() {
            let mut told = Told::default();
            simulation.advance(i64::MAX, 1, &mut told);
            let statements = changes(&told);
            let of_orders = statements.into_iter().find(|sql| sql.starts_with("insert into `orders` "));
            match of_orders {
                Some(sql) if sql.contains("on duplicate key update") => updated = Some(sql),
                Some(sql) => placed = Some(sql),
                None => {}
            }
        }
        assert!(placed.unwrap().contains("'created','2026-06-01 "));
        assert!(updated.unwrap().ends_with("`refunded` = values(`refunded`)"));
    }

    #[test]
    fn long_lists_are_cut() {
        let simulation = Simulation::new(Settings { users: 40, history_orders: 0, ..Settings::default() });
        let chunk = simulation.chunk(Table::Products, None);
        let statements = inserts(Table::Products, &chunk.rows);
        assert_eq!(statements.len(), chunk.rows.len().div_ceil(1_000));
        assert!(statements.len() > 1);
    }
}
