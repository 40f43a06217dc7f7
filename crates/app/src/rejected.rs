//! Rejected rows as they are shown: without what is personal in them, to whomever.
//!
//! A row that could not be taken is looked at by those who mend it, is copied into tickets, and is nobody's data to read: what the
//! project calls personal is left out of it. Of a table's row these columns are; of a row in the middle of a model, which has
//! names of the model's own, all are but those that are called as other columns of the tables below are. What a reason quotes may
//! be of any of them.

use std::collections::{BTreeMap, BTreeSet};

use plan::TableName;
use query::Catalog;
use serde_json::Value as Json;

use crate::status::{Facts, RejectStatus};

/// Stands where a value is not shown.
const MASK: &str = "***";

/// Rejected rows as they are shown.
pub fn shown(rejects: Vec<RejectStatus>, facts: &Facts, catalog: &Catalog) -> Vec<RejectStatus> {
    let mut below: BTreeMap<String, Option<Below>> = BTreeMap::new();
    let shown = |reject: RejectStatus| {
        let node = reject.of.as_ref().map_or_else(|| reject.node.clone(), ToString::to_string);
        let below = below.entry(node).or_insert_with_key(|node| Below::of(node, facts, catalog));
        match below {
            Some(below) => below.masked(&reject),
            None => reject,
        }
    };
    rejects.into_iter().map(shown).collect()
}

/// A row of a table or model, as JSON, as it is shown to people.
pub fn shown_row(node: &str, row: &str, facts: &Facts, catalog: &Catalog) -> String {
    match Below::of(node, facts, catalog) {
        Some(below) => below.masked(&RejectStatus { row: row.to_owned(), ..RejectStatus::default() }).row,
        None => row.to_owned(),
    }
}

/// What a rejected row is made of, where anything of that is personal.
struct Below {
    personal: BTreeSet<String>,
    /// Columns of the tables below that are not; none where the row is a table's own.
    others: Option<BTreeSet<String>>,
    /// Whether a key says nothing of a person.
    shows_key: bool,
}

impl Below {
    fn of(node: &str, facts: &Facts, catalog: &Catalog) -> Option<Self> {
        let (schema, name) = node.split_once('.')?;
        let node = TableName::new(schema, name);
        let below = facts.tables_of.get(&node);
        let is_table = facts.tables.contains_key(&node);
        let names: BTreeSet<&TableName> = below.into_iter().flatten().chain([&node]).collect();
        let personal: BTreeSet<String> =
            names.iter().filter_map(|name| facts.personal.get(*name)).flatten().cloned().collect();
        if personal.is_empty() {
            return None;
        }
        let is_known = |column: &String| !personal.contains(column);
        let schemas = || names.iter().filter_map(|name| catalog.table(name)).map(|table| &table.schema);
        let columns_of = |schema: &relation::Schema| -> Vec<String> {
            schema.columns.iter().map(|column| column.name.to_lowercase()).collect()
        };
        let others: BTreeSet<String> = names
            .iter()
            .filter(|name| facts.tables.contains_key(**name))
            .filter_map(|name| catalog.table(name))
            .flat_map(|table| columns_of(&table.schema))
            .filter(is_known)
            .collect();
        let keys: BTreeSet<String> =
            schemas().flat_map(|schema| schema.key.iter().map(|&at| schema.columns[at].name.to_lowercase())).collect();
        let shows_key =
            if is_table { keys.is_disjoint(&personal) } else { keys.iter().all(|key| others.contains(key)) };
        Some(Self { personal, others: (!is_table).then_some(others), shows_key })
    }

    fn is_shown(&self, column: &str) -> bool {
        let column = column.to_lowercase();
        self.others.as_ref().map_or_else(|| !self.personal.contains(&column), |others| others.contains(&column))
    }

    fn masked(&self, reject: &RejectStatus) -> RejectStatus {
        let row = match serde_json::from_str::<Json>(&reject.row) {
            Ok(Json::Object(mut fields)) => {
                for (column, value) in &mut fields {
                    if !value.is_null() && !self.is_shown(column) {
                        *value = MASK.into();
                    }
                }
                Json::Object(fields).to_string()
            }
            // What could be read of it, in whatever form.
            _ if reject.row.is_empty() => String::new(),
            _ => MASK.to_owned(),
        };
        let key = if self.shows_key || reject.key.is_empty() { reject.key.clone() } else { MASK.to_owned() };
        RejectStatus { row, key, reason: without_quoted(&reject.reason), ..reject.clone() }
    }
}

/// A reason up to where it quotes a value.
fn without_quoted(reason: &str) -> String {
    // A source begins with the column: `Column "name" (type): what is wrong`.
    if let Some((column, what)) = reason.split_once("): ").filter(|(column, _)| column.starts_with("Column \"")) {
        return format!("{column}): {}", without_quoted(what));
    }
    let end = reason.find([':', '"', '\'', '`', '(']).unwrap_or(reason.len());
    reason.get(..end).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let users = TableName::new("shop", "users");
        let mut facts = Facts::default();
        facts.tables.entry(users.clone()).or_default();
        for name in [users.clone(), TableName::new("public", "mails")] {
            facts.tables_of.insert(name, BTreeSet::from([users.clone()]));
        }
        facts.personal.insert(users, BTreeSet::from(["email".to_owned()]));
        facts
    }

    fn rejected(node: &str, row: &str, reason: &str) -> RejectStatus {
        let (node, row, reason) = (node.to_owned(), row.to_owned(), reason.to_owned());
        RejectStatus { node, row, reason, key: "7".to_owned(), ..RejectStatus::default() }
    }

    fn catalog() -> Catalog {
        let columns = ["id", "Email", "city"].map(|name| relation::Column::new(name, relation::DataType::Text));
        let schema = relation::Schema::new(columns.to_vec(), vec![0]);
        let mut catalog = Catalog::new(Vec::new());
        let name = TableName::new("shop", "users");
        catalog.add_table(query::StoredTable { name, id: relation::TableId(1), schema, form: query::Form::Keyed });
        catalog
    }

    fn one(node: &str, row: &str, reason: &str) -> (String, String, String) {
        let reject = shown(vec![rejected(node, row, reason)], &facts(), &catalog()).remove(0);
        (reject.row, reject.key, reject.reason)
    }

    #[test]
    fn what_is_personal_is_not_shown() {
        let reason = "invalid input syntax for type integer: \"ann@x\"";
        let (row, key, reason) = one("shop.users", r#"{"id":"7","Email":"ann@x","city":"Bern"}"#, reason);
        assert_eq!(row, r#"{"id":"7","Email":"***","city":"Bern"}"#);
        assert_eq!((key.as_str(), reason.as_str()), ("7", "invalid input syntax for type integer"));
    }

    /// What a destination has refused is a row of what the sync follows.
    #[test]
    fn what_a_sync_was_to_deliver_is_as_personal() {
        let row = r#"{"id":"7","Email":"ann@x","city":"Bern"}"#;
        let mut refused = rejected("sync crm", row, "duplicate key (email)=(ann@x)");
        refused.of = Some(TableName::new("shop", "users"));
        let reject = shown(vec![refused], &facts(), &catalog()).remove(0);
        assert_eq!(reject.row, r#"{"id":"7","Email":"***","city":"Bern"}"#);
        assert_eq!((reject.node.as_str(), reject.reason.as_str()), ("sync crm", "duplicate key"));
    }

    #[test]
    fn a_source_names_the_column() {
        let (.., reason) = one("shop.users", "616e", "Column \"Email\" (text): not UTF-8: 616e");
        assert_eq!(reason, "Column \"Email\" (text): not UTF-8");
    }

    #[test]
    fn names_of_a_model_tell_nothing() {
        let (row, ..) = one("public.mails", r#"{"id":"7","mail":"ann@x","city":null}"#, "");
        assert_eq!(row, r#"{"id":"7","mail":"***","city":null}"#);
    }

    #[test]
    fn a_text_is_of_anything() {
        assert_eq!(one("shop.users", "7, ann@x", "division by zero").0, "***");
        assert_eq!(one("shop.orders", "7, ann@x", "of 'x'"), ("7, ann@x".into(), "7".into(), "of 'x'".into()));
    }
}
