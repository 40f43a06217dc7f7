//! `roles.yml`: who reads what. A role reads what it is granted and nothing else.
//!
//! What a condition means is not known here: it is read by whoever answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Place, Severity, alone, did_you_mean};
use crate::drafts::RESERVED_SCHEMAS;
use crate::files::Files;
use crate::jinja::YamlJinja;
use crate::model::{Column, Project};
use crate::yaml::{self, Node, Reader};

const FILE: &str = "roles.yml";
/// The role that reads all there is.
const OWNER: &str = "owner";

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Schemas of which all tables and models are read.
    pub schemas: BTreeSet<String>,
    /// Tables and models of which something is read: schema and name. They count before the schemas.
    pub tables: BTreeMap<(String, String), Grant>,
    /// Whether columns that are `personal` are read as they are; else they are NULL.
    pub shows_personal: bool,
}

/// What is read of a table or model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// These columns; all, if there are none.
    pub columns: Vec<String>,
    /// Rows of which this SQL condition holds.
    pub condition: Option<String>,
}

/// Where a grant of a table or model is written. It is no part of the grant, which stays the same one at another place.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantPlace {
    /// The role that is granted it.
    pub role: String,
    /// Schema and name of what is granted.
    pub table: (String, String),
    /// The grant as a whole.
    pub whole: Place,
    /// Its columns; nothing, if it is of all.
    pub columns: Option<Place>,
    /// Its condition.
    pub condition: Option<Place>,
}

/// Reads the file into the project, where there is one. The project has its models and sources already.
///
/// A role with a mistake reads nothing; where the file as a whole has one, none does. All else goes on.
pub(crate) fn read(files: &Files, jinja: &YamlJinja, project: &mut Project, found: &mut Vec<Diagnostic>) {
    let Some(text) = files.get(FILE) else { return };
    let before = found.len();
    let roles = known(text, jinja, found);
    project.roles_unread = alone(&mut found[before..]);
    let Some(roles) = roles.filter(|_| !project.roles_unread) else { return };
    let known = Grantable::of(project);
    for (name, node) in roles.pairs() {
        let (before, places) = (found.len(), project.grant_places.len());
        let mut reader = Reader { file: FILE, found: &mut *found };
        let mut read = Role::default();
        if name.text == OWNER {
            reader.error(node, "the role `owner` reads all there is, and is not declared");
        } else if reader.expect_map(node, "a role") {
            read = role(&mut reader, node, &known, (&name.text, &mut project.grant_places));
        }
        if alone(&mut found[before..]) {
            project.grant_places.truncate(places);
            project.broken_roles.insert(name.text.clone());
        } else {
            project.roles.insert(name.text.clone(), read);
        }
    }
}

/// The roles of the file, rendered; none where there are none, or it cannot be read.
fn known(text: &str, jinja: &YamlJinja, found: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut node = match yaml::parse(FILE, text) {
        Ok(node) => node,
        Err(error) => {
            found.push(error);
            return None;
        }
    };
    jinja.render(&mut node, FILE, &[], found);
    let mut reader = Reader { file: FILE, found };
    if !reader.expect_map(&node, "roles.yml") {
        return None;
    }
    reader.check_keys(&node, "roles.yml", &["roles"], Severity::Error);
    node.get("roles").filter(|all| reader.expect_map(all, "`roles`")).cloned()
}

/// What can be granted.
struct Grantable {
    /// Full names of tables and models; those with a mistake may serve as they were.
    relations: BTreeSet<String>,
    /// Their schemas, and the system's.
    schemas: BTreeSet<String>,
}

impl Grantable {
    fn of(project: &Project) -> Self {
        let relations = relations(project);
        let of_relations = relations.iter().filter_map(|name| Some(name.split_once('.')?.0));
        let others = RESERVED_SCHEMAS.iter().copied().chain([project.profile.schema.as_str()]);
        Self { schemas: of_relations.chain(others).map(str::to_owned).collect(), relations }
    }
}

fn relations(project: &Project) -> BTreeSet<String> {
    let models = project.models.iter().map(|model| format!("{}.{}", model.schema, model.alias));
    let parked = project.parked.iter().map(|model| format!("{}.{}", model.schema, model.alias));
    let tables = project.sources.iter().map(|table| format!("{}.{}", table.source, table.name));
    let unread = project.unread.iter().map(|table| format!("{}.{}", table.source, table.name));
    models.chain(parked).chain(tables).chain(unread).collect()
}

fn role(reader: &mut Reader<'_>, node: &Node, known: &Grantable, (name, places): (&str, &mut Vec<GrantPlace>)) -> Role {
    reader.check_keys(node, "a role", &["grants", "personal"], Severity::Error);
    let shows_personal = match reader.text(node, "personal").as_deref() {
        None | Some("masked") => false,
        Some("shown") => true,
        Some(other) => {
            reader.error(node, format!("`personal` should be `masked` or `shown`, not `{other}`"));
            false
        }
    };
    let mut role = Role { shows_personal, ..Role::default() };
    for item in reader.items(node, "grants") {
        if reader.expect_map(item, "a grant")
            && let Some(table) = grant(reader, item, known, &mut role)
        {
            let place = |key: &str| item.get(key).map(|node| node.place(FILE));
            places.push(GrantPlace {
                role: name.to_owned(),
                table,
                whole: item.place(FILE),
                columns: place("columns"),
                condition: place("where"),
            });
        }
    }
    role
}

/// Takes a grant up into the role. Returns the one table that it is of.
fn grant(reader: &mut Reader<'_>, node: &Node, known: &Grantable, role: &mut Role) -> Option<(String, String)> {
    reader.check_keys(node, "a grant", &["schema", "table", "columns", "where"], Severity::Error);
    let (schema, table) = (reader.text(node, "schema"), reader.text(node, "table"));
    let columns = reader.texts(node, "columns");
    let condition = reader.text(node, "where");
    match (schema, table) {
        (Some(schema), None) if columns.is_empty() && condition.is_none() => {
            if !known.schemas.contains(&schema) {
                let names = || known.schemas.iter().map(String::as_str);
                let hint = did_you_mean(&schema, names())
                    .unwrap_or_else(|| format!("There are: {}.", names().collect::<Vec<_>>().join(", ")));
                // It grants nothing as long as there is none, which stops nobody else.
                let message = format!("there is no schema `{schema}` that could be granted");
                let place = node.get("schema").unwrap_or(node).place(FILE);
                reader.found.push(Diagnostic::warning(place, message).hint(hint));
            }
            role.schemas.insert(schema);
        }
        (None, Some(table)) => {
            let Some((schema, name)) = table.split_once('.').filter(|_| known.relations.contains(&table)) else {
                let hint = did_you_mean(&table, known.relations.iter().map(String::as_str));
                // It grants nothing, which stops nobody else.
                let message = format!("there is no table or model `{table}` that could be granted");
                let hint = hint.unwrap_or_else(|| "Name it with its schema: `schema.name`.".to_owned());
                reader.found.push(Diagnostic::warning(node.place(FILE), message).hint(hint));
                return None;
            };
            let of = (schema.to_owned(), name.to_owned());
            if role.tables.insert(of.clone(), Grant { columns, condition }).is_some() {
                reader.error(node, format!("`{table}` is granted twice to this role"));
            }
            return Some(of);
        }
        _ => {
            let error = reader.error(node, "a grant is of a whole `schema`, or of a `table`");
            error.hint = Some("`columns` and `where` go with a `table`.".to_owned());
        }
    }
    None
}

/// What the YAML of a table or model says of its columns: whether they are personal. Of those that are not among them it says
/// nothing.
pub type Marks = BTreeMap<String, bool>;

/// What is said of these columns (`meta: {personal: true}`).
pub fn marks(columns: &[Column]) -> Marks {
    columns.iter().filter_map(|column| Some((column.name.clone(), mark(column)?))).collect()
}

fn mark(column: &Column) -> Option<bool> {
    match column.meta.get("personal")? {
        serde_json::Value::Bool(personal) => Some(*personal),
        serde_json::Value::Null => None,
        // Whatever else stands there: what is doubtful is hidden.
        _ => Some(true),
    }
}

impl Project {
    /// What is said of the columns of tables and models, by schema and name, where anything is. Those with a mistake are among
    /// them: they may serve as they were.
    pub fn personal(&self) -> BTreeMap<(String, String), Marks> {
        let models = self.models.iter().map(|model| (&model.schema, &model.alias, marks(&model.columns)));
        let parked = self.parked.iter().map(|model| (&model.schema, &model.alias, model.personal.clone()));
        let tables = self.sources.iter().map(|table| (&table.source, &table.name, marks(&table.columns)));
        let unread = self.unread.iter().map(|table| (&table.source, &table.name, table.personal.clone()));
        let all = models.chain(parked).chain(tables).chain(unread);
        let said = all.filter(|(.., marks)| !marks.is_empty());
        said.map(|(schema, name, marks)| ((schema.clone(), name.clone()), marks)).collect()
    }
}
