//! What a role may read: its own view of the catalogue, made once for each catalogue and given to the planner.
//!
//! There is no other check. What is not granted has no name for the role: not in SQL, not in `pg_catalog`, not in a hint. A
//! table that is granted in part is a view over the whole in the place of the table: its columns are those that are granted,
//! personal ones are NULL unless the role is shown them, and its rows are those of the condition.
//!
//! A condition stands below everything that the role writes: the limit that goes with it is larger than any table, and no
//! optimiser moves a filter below a limit. Otherwise the role's own filter could run first, on rows that it may not see, and
//! tell of them by an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use plan::{TableName, delimited};
use project::{Grant, Project};
use query::{Access, Catalog};
use serve::{Role, SqlError};

/// More than any table has.
const ALL_ROWS: i64 = 1 << 60;

/// The roles of a project.
#[derive(Default)]
pub struct Grants {
    roles: BTreeMap<String, project::Role>,
    personal: BTreeMap<(String, String), BTreeSet<String>>,
    /// Why it is not known which columns are personal; none where it is.
    half_read: Option<String>,
    /// The last view of each role, with the catalogue that it is of.
    made: Mutex<BTreeMap<String, (Arc<Catalog>, Arc<Catalog>)>>,
}

impl Grants {
    /// What a project grants. With a reason why not all of it is known which columns are personal, nothing is.
    pub fn of(project: &Project, half_read: Option<String>) -> Self {
        Self { roles: project.roles.clone(), personal: project.personal(), half_read, made: Mutex::default() }
    }

    /// The catalogue as a role sees it. Errors: there is no such role.
    pub fn view(&self, catalog: Arc<Catalog>, role: &Role) -> Result<Arc<Catalog>, SqlError> {
        let Role::Named(name) = role else { return Ok(catalog) };
        if let Some(reason) = &self.half_read {
            let refused = SqlError::new("42501", format!("the role \"{name}\" reads nothing for now"));
            let detail = format!("Which columns are personal is not known: {reason}.");
            return Err(refused.detail(detail).hint("Roles are read at the start, when that is mended."));
        }
        let Some(granted) = self.roles.get(name) else {
            return Err(SqlError::new("42501", format!("the role \"{name}\" is granted nothing"))
                .hint("roles.yml of the project declares roles; they are read at the start."));
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, view)) = made.get(name)
            && Arc::ptr_eq(of, &catalog)
        {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(catalog.granted(|table| self.access(granted, table, &catalog)));
        made.insert(name.clone(), (catalog, Arc::clone(&view)));
        Ok(view)
    }

    fn access(&self, role: &project::Role, table: &TableName, catalog: &Catalog) -> Access {
        let key = (table.schema.clone(), table.name.clone());
        let none = BTreeSet::new();
        let hidden = if role.shows_personal { &none } else { self.personal.get(&key).unwrap_or(&none) };
        let whole = Grant::default();
        let grant = match role.tables.get(&key) {
            Some(grant) => grant,
            None if role.schemas.contains(&table.schema) => &whole,
            None => return Access::None,
        };
        if hidden.is_empty() || !grant.columns.is_empty() {
            return through(table, &grant.columns, grant, hidden);
        }
        match catalog.table(table) {
            Some(stored) => {
                let columns: Vec<String> = stored.schema.columns.iter().map(|column| column.name.clone()).collect();
                through(table, &columns, grant, hidden)
            }
            // Which columns a view has is known when it is read alone: what cannot be masked is not granted.
            None => Access::None,
        }
    }
}

/// The part of a table that is granted, as SQL.
fn through(table: &TableName, columns: &[String], grant: &Grant, hidden: &BTreeSet<String>) -> Access {
    if columns.is_empty() && grant.condition.is_none() {
        return Access::All;
    }
    // However its YAML writes the name.
    let is_hidden = |name: &String| hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name));
    let part = |name: &String| match is_hidden(name) {
        // A NULL of the column's own type.
        true => format!("case when false then {0} end as {0}", delimited(name)),
        false => delimited(name),
    };
    let columns = match columns {
        [] => "*".to_owned(),
        columns => columns.iter().map(part).collect::<Vec<_>>().join(", "),
    };
    let mut sql = format!("select {columns} from {}.{}", delimited(&table.schema), delimited(&table.name));
    if let Some(condition) = &grant.condition {
        // The line's end ends a comment in it.
        write!(sql, " where ({condition}\n) limit {ALL_ROWS}").ok();
    }
    Access::Through(sql)
}
