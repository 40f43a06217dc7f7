//! What a project says of its tables and models, for whoever looks at the catalogue: descriptions, and what columns refer
//! to (`relationships` tests).

use std::collections::BTreeMap;

use plan::TableName;
use project::{Column, DataTest};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::setup::Setup;

/// What is said of one table, model or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documented {
    pub schema: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Descriptions of its columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Referring>,
}

/// A column whose values are those of a column of another table or model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referring {
    pub column: String,
    pub schema: String,
    pub table: String,
    pub field: String,
}

/// What the project says of anything, in the order of its source tables and models.
pub fn of(setup: &Setup) -> Vec<Documented> {
    let tables = setup.project.sources.iter().map(|table| {
        let name = TableName::new(&table.source, &table.name);
        documented(setup, name, table.description.as_ref(), &table.columns, &table.tests)
    });
    let models = setup.project.models.iter().map(|model| {
        let name = TableName::new(&model.schema, &model.alias);
        documented(setup, name, model.description.as_ref(), &model.columns, &model.tests)
    });
    let says_something =
        |of: &Documented| of.description.is_some() || !of.columns.is_empty() || !of.references.is_empty();
    tables.chain(models).filter(says_something).collect()
}

fn documented(
    setup: &Setup,
    name: TableName,
    description: Option<&String>,
    columns: &[Column],
    tests: &[DataTest],
) -> Documented {
    let columns = columns.iter().filter_map(|column| Some((column.name.clone(), column.description.clone()?)));
    Documented {
        schema: name.schema,
        name: name.name,
        description: description.cloned(),
        columns: columns.collect(),
        references: tests.iter().filter_map(|test| referring(setup, test)).collect(),
    }
}

/// What a `relationships` test says; none of any other test, and where it refers to nothing there is.
fn referring(setup: &Setup, test: &DataTest) -> Option<Referring> {
    let argument = |name: &str| match test.arguments.get(name) {
        Some(Json::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (column, to, field) = (test.column.clone()?, argument("to")?, argument("field")?);
    if test.test != "relationships" {
        return None;
    }
    let (schema, table) = referred(setup, to)?;
    Some(Referring { column, schema, table, field: field.to_owned() })
}

/// The schema and name behind `ref('model')` or `source('source', 'table')`.
fn referred(setup: &Setup, to: &str) -> Option<(String, String)> {
    let names: Vec<&str> = to.split(['\'', '"']).skip(1).step_by(2).collect();
    match (to.trim_start_matches(['{', ' ']), names.as_slice()) {
        (text, [.., name]) if text.starts_with("ref") => {
            setup.project.model(name).map(|model| (model.schema.clone(), model.alias.clone()))
        }
        (_, [source, table]) => Some(((*source).to_owned(), (*table).to_owned())),
        _ => None,
    }
}

impl Documented {
    /// Its full name, and what the catalogue shows of it.
    pub fn shown(&self) -> (TableName, query::Documentation) {
        let references = self.references.iter().map(|of| query::Reference {
            columns: vec![of.column.clone()],
            table: TableName::new(&of.schema, &of.table),
            referred: vec![of.field.clone()],
        });
        let said = query::Documentation {
            text: self.description.clone(),
            columns: self.columns.clone(),
            references: references.collect(),
        };
        (TableName::new(&self.schema, &self.name), said)
    }
}
