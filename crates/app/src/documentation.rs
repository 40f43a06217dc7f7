//! What a project says of its tables and models, for whoever looks at the catalogue or the page: descriptions, what columns
//! refer to (`relationships` tests), tags, owners, and the tests that are declared.

use std::collections::BTreeMap;

use plan::{TableName, delimited};
use project::{Column, DataTest, Dependency, SingularTest};
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Who answers for it: `owner` of its `meta`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Declared>,
}

/// A data test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub column: String,
    /// `error` or `warn`.
    pub severity: String,
    /// A statement of the failing rows, of the four tests that dbt brings along; empty of any other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sql: String,
    /// dbt's `fail_calc`, `warn_if` and `error_if`, where they are said: what is counted of the failing rows, and what of that is too much.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fail_calc: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub warn_if: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_if: String,
    /// No more failing rows are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Why it cannot be run as it is written, with the place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mistake: String,
    /// The file of a statement of its own; empty of a test that YAML declares.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
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
        let said = documented(setup, name, table.description.as_ref(), &table.columns, &table.tests);
        Documented { tags: table.tags.clone(), owner: owner(&table.meta), ..said }
    });
    let models = setup.project.models.iter().map(|model| {
        let name = TableName::new(&model.schema, &model.alias);
        let said = documented(setup, name, model.description.as_ref(), &model.columns, &model.tests);
        Documented { tags: model.tags.clone(), owner: owner(&model.meta), ..said }
    });
    // One that has no text is tested all the same: that there is no answer is what came of it.
    let parked = setup.project.parked.iter().map(|model| {
        let name = TableName::new(&model.schema, &model.alias);
        documented(setup, name, model.description.as_ref(), &model.columns, &model.tests)
    });
    let says_something = |of: &Documented| {
        let lists = [of.columns.is_empty(), of.references.is_empty(), of.tags.is_empty(), of.tests.is_empty()];
        of.description.is_some() || !of.owner.is_empty() || lists.contains(&false)
    };
    let mut all: Vec<Documented> = tables.chain(models).collect();
    for of in parked {
        // Of two that want one name the one with a text has it.
        if !all.iter().any(|known| (&known.schema, &known.name) == (&of.schema, &of.name)) {
            all.push(of);
        }
    }
    for test in &setup.project.singular_tests {
        let name = tested(setup, test);
        let declared = Declared::singular(test);
        match all.iter_mut().find(|of| (&of.schema, &of.name) == (&name.schema, &name.name)) {
            Some(of) => of.tests.push(declared),
            None => all.push(Documented { tests: vec![declared], ..documented(setup, name, None, &[], &[]) }),
        }
    }
    all.retain(says_something);
    all
}

/// What a singular test is listed under: the first table or model that it refers to, and where it refers to none, its own name.
fn tested(setup: &Setup, test: &SingularTest) -> TableName {
    let mut referred = test.depends_on.iter().filter_map(|of| match of {
        Dependency::Model(name) => model_name(setup, name),
        Dependency::Source { source, table } => Some(TableName::new(source, table)),
    });
    referred.next().unwrap_or_else(|| TableName::new(&setup.project.profile.schema, &test.name))
}

/// The full name of a model, also of one that has no text.
fn model_name(setup: &Setup, name: &str) -> Option<TableName> {
    let parked = || setup.project.parked.iter().find(|model| model.model == name);
    let model = setup.project.model(name).map(|model| (&model.schema, &model.alias));
    let (schema, alias) = model.or_else(|| parked().map(|model| (&model.schema, &model.alias)))?;
    Some(TableName::new(schema, alias))
}

fn documented(
    setup: &Setup,
    name: TableName,
    description: Option<&String>,
    columns: &[Column],
    tests: &[DataTest],
) -> Documented {
    let tests: Vec<&DataTest> = tests.iter().filter(|test| test.is_enabled()).collect();
    let declared = tests.iter().map(|test| declared(setup, &name, test)).collect();
    let columns = columns.iter().filter_map(|column| Some((column.name.clone(), column.description.clone()?)));
    Documented {
        schema: name.schema,
        name: name.name,
        description: description.cloned(),
        columns: columns.collect(),
        references: tests.iter().filter_map(|test| referring(setup, test)).collect(),
        tags: Vec::new(),
        owner: String::new(),
        tests: declared,
    }
}

/// `owner` of a `meta`: a name, or a mapping with one.
fn owner(meta: &BTreeMap<String, Json>) -> String {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let said = meta.get("owner").and_then(|owner| text(owner).or_else(|| owner.get("name").and_then(text)));
    said.unwrap_or_default()
}

fn declared(setup: &Setup, name: &TableName, test: &DataTest) -> Declared {
    let said = |key: &str| test.config.get(key).and_then(Json::as_str).map(str::to_owned).unwrap_or_default();
    let severity = said("severity").to_lowercase();
    let full = test.package.iter().chain([&test.test]).cloned().collect::<Vec<_>>().join(".");
    Declared {
        name: test.name.clone().unwrap_or(full),
        column: test.column.clone().unwrap_or_default(),
        severity: if severity.is_empty() { "error".to_owned() } else { severity },
        sql: failing(setup, name, test).unwrap_or_default(),
        fail_calc: said("fail_calc"),
        warn_if: said("warn_if"),
        error_if: said("error_if"),
        limit: test.config.get("limit").and_then(Json::as_u64),
        mistake: test.mistake.clone().unwrap_or_default(),
        path: String::new(),
    }
}

impl Declared {
    /// A statement of its own, which is not run.
    fn singular(test: &SingularTest) -> Self {
        Self {
            name: test.name.clone(),
            column: String::new(),
            severity: "error".to_owned(),
            sql: String::new(),
            fail_calc: String::new(),
            warn_if: String::new(),
            error_if: String::new(),
            limit: None,
            mistake: String::new(),
            path: test.file.clone(),
        }
    }
}

/// A statement of a test's failing rows; none of a test that a macro would have to write.
fn failing(setup: &Setup, name: &TableName, test: &DataTest) -> Option<String> {
    let quoted = |name: &TableName| format!("{}.{}", delimited(&name.schema), delimited(&name.name));
    let column = delimited(test.column.as_deref()?);
    if test.package.as_deref().is_some_and(|package| package != "dbt") {
        return None;
    }
    let from = match test.config.get("where").map(Json::as_str) {
        None => quoted(name),
        Some(Some(rows)) if !rows.contains('{') => format!("(select * from {} where {rows}) as tested", quoted(name)),
        Some(_) => return None,
    };
    Some(match test.test.as_str() {
        "not_null" => format!("select * from {from} where {column} is null"),
        "unique" => format!(
            "select {column}, count(*) as row_count from {from} where {column} is not null group by {column} having count(*) > 1"
        ),
        "accepted_values" => {
            let is_quoted = test.arguments.get("quote").and_then(Json::as_bool).unwrap_or(true);
            let written = |value: &Json| match value {
                Json::String(text) if is_quoted => format!("'{}'", text.replace('\'', "''")),
                Json::String(text) => text.clone(),
                other if is_quoted => format!("'{other}'"),
                other => other.to_string(),
            };
            let values: Vec<String> = test.arguments.get("values")?.as_array()?.iter().map(written).collect();
            // As dbt counts: values, not rows.
            format!(
                "select {column}, count(*) as row_count from {from} where {column} not in ({}) group by {column}",
                values.join(", ")
            )
        }
        "relationships" => {
            let of = referring(setup, test)?;
            let field = delimited(&of.field);
            format!(
                "select child.* from (select * from {from}) as child left join {parent} as parent on child.{column} = parent.{field} where child.{column} is not null and parent.{field} is null",
                parent = quoted(&TableName::new(&of.schema, &of.table))
            )
        }
        _ => return None,
    })
}

/// What a `relationships` test says; none of any other test, and where it refers to nothing there is.
pub fn referring(setup: &Setup, test: &DataTest) -> Option<Referring> {
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
        (text, [.., name]) if text.starts_with("ref") => model_name(setup, name).map(|name| (name.schema, name.name)),
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
