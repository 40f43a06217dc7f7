//! What a role may read: its own view of the catalogue, made once for each catalogue and given to the planner.
//!
//! There is no other check. What is not granted has no name for the role: not in SQL, not in `pg_catalog`, not in a hint. A
//! table that is granted in part is a view over the whole in the place of the table: its columns are those that are granted,
//! personal ones are NULL unless the role is shown them, and its rows are those of the condition. The view stands behind a
//! barrier (`query`), so nothing that the role writes is computed before the condition has been.
//!
//! A column that is made of a personal one is personal (`personal`). Of the system tables a role sees those that tell how what
//! it reads is, and of these what concerns that alone (`own_facts`).
//!
//! Grants change while they are read by ([`Grants::set`]): the next statement goes by the new ones, and an answer that is still
//! being sent ends where they are others for its role.

pub mod faults;
mod own_facts;
mod personal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plan::{TableName, delimited};
use project::{Grant, Marks, Project};
use query::{Access, Catalog, Session};
use serve::SqlError;

use self::own_facts::Readable;
use self::personal::Personal;
use crate::definition::PlannedModel;
use crate::system_tables;

/// The roles of a project.
pub struct Grants {
    now: Mutex<Arc<Said>>,
    /// How often it has become another.
    version: AtomicU64,
    made: Mutex<Made>,
    /// Held while something is made, which takes long where there are many models; `made` is not.
    making: Mutex<()>,
}

/// What a project says of who reads what.
#[derive(Debug, Default, PartialEq)]
struct Said {
    roles: BTreeMap<String, project::Role>,
    marks: BTreeMap<(String, String), Marks>,
    /// Why it is not known which columns are personal; none where it is.
    half_read: Option<String>,
    /// Roles with a mistake, and whether there is one by which none is known.
    broken: BTreeSet<String>,
    unread: bool,
}

/// What was made of one catalogue.
#[derive(Default)]
struct Made {
    of: Option<(Arc<Said>, Arc<Catalog>)>,
    personal: Arc<Personal>,
    views: BTreeMap<String, Arc<Catalog>>,
}

impl Made {
    /// This, if it is of what is said now and of this catalogue.
    fn of(&self, said: &Arc<Said>, catalog: &Arc<Catalog>) -> Option<&Self> {
        let (of, known) = self.of.as_ref()?;
        (Arc::ptr_eq(of, said) && Arc::ptr_eq(known, catalog)).then_some(self)
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The grants that an answer was begun by.
#[derive(Clone)]
pub struct Begun {
    said: Arc<Said>,
    role: String,
}

impl Said {
    fn of(project: &Project, half_read: Option<String>) -> Self {
        let (broken, unread) = (project.broken_roles.clone(), project.roles_unread);
        Self { roles: project.roles.clone(), marks: project.personal(), half_read, broken, unread }
    }

    /// The role of a name. Errors: it reads nothing.
    fn role(&self, name: &str) -> Result<&project::Role, SqlError> {
        if let Some(reason) = &self.half_read {
            let refused = SqlError::new("42501", format!("the role \"{name}\" reads nothing for now"));
            let detail = format!("Which columns are personal is not known: {reason}.");
            return Err(refused.detail(detail).hint("`tidemill apply` reads it anew when that is mended."));
        }
        if self.is_broken(name) {
            let refused = SqlError::new("42501", format!("the role \"{name}\" reads nothing for now"));
            let detail = "There is a mistake in roles.yml: `tidemill check` says which.";
            return Err(refused.detail(detail).hint("`tidemill apply` reads it anew when that is mended."));
        }
        self.roles.get(name).ok_or_else(|| {
            SqlError::new("42501", format!("the role \"{name}\" is granted nothing"))
                .hint("roles.yml of the project declares roles; `tidemill apply` reads it anew.")
        })
    }

    fn is_broken(&self, role: &str) -> bool {
        self.unread || self.broken.contains(role)
    }

    /// Whether a role reads by these as by others.
    fn is_same_for(&self, other: &Self, role: &str) -> bool {
        let of = |said: &Self| (said.roles.get(role).cloned(), said.half_read.clone(), said.is_broken(role));
        let shows_personal = self.roles.get(role).is_some_and(|role| role.shows_personal);
        of(self) == of(other) && (shows_personal || self.marks == other.marks)
    }
}

impl Grants {
    /// What a project grants. With a reason why not all of it is known which columns are personal, nothing is.
    pub fn of(project: &Project, half_read: Option<String>) -> Self {
        let now = Mutex::new(Arc::new(Said::of(project, half_read)));
        Self { now, version: AtomicU64::new(1), made: Mutex::default(), making: Mutex::default() }
    }

    /// From now on what this project grants.
    pub fn set(&self, project: &Project, half_read: Option<String>) {
        let said = Said::of(project, half_read);
        let mut now = locked(&self.now);
        if **now != said {
            *now = Arc::new(said);
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A number that is another one when what is granted has become another.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Roles and personal columns that another project has otherwise, as people read it.
    pub fn differences(&self, project: &Project) -> Vec<String> {
        let now = self.said();
        let mut found = Vec::new();
        differing(&now.roles, &project.roles, &mut |mark, name| found.push(format!("{mark} role {name}")));
        differing(&now.marks, &project.personal(), &mut |_, (schema, name)| {
            found.push(format!("~ personal columns of {schema}.{name}"));
        });
        found
    }

    fn said(&self) -> Arc<Said> {
        Arc::clone(&locked(&self.now))
    }

    /// The catalogue as a role sees it, and by what; none if it has not been made yet. Errors: there is no such role.
    pub fn known_view(&self, catalog: &Arc<Catalog>, name: &str) -> Result<Option<(Arc<Catalog>, Begun)>, SqlError> {
        let said = self.said();
        said.role(name)?;
        let view = locked(&self.made).of(&said, catalog).and_then(|made| made.views.get(name).cloned());
        Ok(view.map(|view| (view, Begun { said, role: name.to_owned() })))
    }

    /// The same, made where it has not been. `owner` is a session that reads all of it, and `models` are those that serve in it.
    pub fn view(
        &self,
        (catalog, models): (&Arc<Catalog>, &[PlannedModel]),
        owner: &dyn Fn() -> Session,
        name: &str,
    ) -> Result<(Arc<Catalog>, Begun), SqlError> {
        let _making = locked(&self.making);
        if let Some(known) = self.known_view(catalog, name)? {
            return Ok(known);
        }
        let said = self.said();
        let granted = said.role(name)?;
        let begun = Begun { said: Arc::clone(&said), role: name.to_owned() };
        let known = locked(&self.made).of(&said, catalog).map(|made| Arc::clone(&made.personal));
        let personal = known.unwrap_or_else(|| Arc::new(Personal::of(&said.marks, catalog, models, owner)));
        let view = Arc::new(granted_view(granted, catalog, &personal));
        tell_faults(name, granted, catalog, &personal, &owner());
        let mut made = locked(&self.made);
        if made.of(&said, catalog).is_none() {
            let of = Some((Arc::clone(&said), Arc::clone(catalog)));
            *made = Made { of, personal, views: BTreeMap::new() };
        }
        made.views.insert(name.to_owned(), Arc::clone(&view));
        Ok((view, begun))
    }

    /// Whether an answer that was begun may be gone on with. Errors: its role reads something else now.
    pub fn holds(&self, begun: &Begun) -> Result<(), SqlError> {
        let now = self.said();
        if Arc::ptr_eq(&now, &begun.said) || now.is_same_for(&begun.said, &begun.role) {
            return Ok(());
        }
        let ended =
            SqlError::new("42501", format!("what the role \"{}\" is granted has changed meanwhile", begun.role));
        Err(ended.hint("Give the statement again."))
    }
}

/// The columns that a project itself calls personal, in lower case.
pub fn declared(project: &Project) -> BTreeMap<TableName, BTreeSet<String>> {
    let personal = |marks: Marks| {
        marks.into_iter().filter(|(_, personal)| *personal).map(|(name, _)| name.to_lowercase()).collect()
    };
    let all = project.personal().into_iter();
    all.map(|((schema, name), marks)| (TableName::new(schema, name), personal(marks))).collect()
}

/// What differs between two lists by name: with `+`, `~` or `-`.
fn differing<K: Ord, T: PartialEq>(old: &BTreeMap<K, T>, new: &BTreeMap<K, T>, found: &mut dyn FnMut(char, &K)) {
    for (name, now) in new {
        match old.get(name) {
            None => found('+', name),
            Some(before) if before != now => found('~', name),
            Some(_) => {}
        }
    }
    old.keys().filter(|name| !new.contains_key(*name)).for_each(|name| found('-', name));
}

fn granted_view(role: &project::Role, catalog: &Arc<Catalog>, personal: &Personal) -> Catalog {
    let own = |table: &TableName| match table.schema.as_str() {
        system_tables::SCHEMA => Access::None,
        _ => access(role, table, catalog, personal),
    };
    let has_all_rows = |table: &TableName| {
        let grant = role.tables.get(&(table.schema.clone(), table.name.clone()));
        grant.is_none_or(|grant| grant.condition.is_none())
    };
    let readable = Readable::of(catalog, own, has_all_rows);
    let of_facts = role.schemas.contains(system_tables::SCHEMA);
    catalog.granted(|table| match table.schema.as_str() {
        system_tables::SCHEMA => own_facts::access(&table.name, catalog, &readable, of_facts),
        _ => own(table),
    })
}

/// A grant that cannot be read is told to whoever runs the instance: its role hears no more than that it cannot.
fn tell_faults(name: &str, role: &project::Role, catalog: &Catalog, personal: &Personal, owner: &Session) {
    for (schema, table) in role.tables.keys() {
        let table = TableName::new(schema, table);
        let Access::Through(sql) = access(role, &table, catalog, personal) else { continue };
        let described = query::parse(&sql).and_then(|statements| {
            statements.iter().try_for_each(|statement| owner.describe(statement, &[]).map(|_| ()))
        });
        if let Err(error) = described {
            tracing::warn!(role = name, %table, %error, "what is granted cannot be read");
        }
    }
}

fn access(role: &project::Role, table: &TableName, catalog: &Catalog, personal: &Personal) -> Access {
    let whole = Grant::default();
    let grant = match role.tables.get(&(table.schema.clone(), table.name.clone())) {
        Some(grant) => grant,
        None if role.schemas.contains(&table.schema) => &whole,
        None => return Access::None,
    };
    if !role.shows_personal && personal.is_unknown_view(table, catalog) {
        return Access::None;
    }
    let none = BTreeSet::new();
    let hidden = if role.shows_personal { &none } else { personal.columns(table) };
    if hidden.is_empty() || !grant.columns.is_empty() {
        return through(table, &grant.columns, grant, hidden);
    }
    if let Some(stored) = catalog.table(table) {
        let columns: Vec<String> = stored.schema.columns.iter().map(|column| column.name.clone()).collect();
        return through(table, &columns, grant, hidden);
    }
    match personal.columns_of_view(table) {
        Some(columns) => through(table, columns, grant, hidden),
        // What cannot be masked is not granted.
        None => Access::None,
    }
}

/// The part of a table that is granted, as SQL.
fn through(table: &TableName, columns: &[String], grant: &Grant, hidden: &BTreeSet<String>) -> Access {
    part_of(table, columns, grant, hidden).map_or(Access::All, Access::Through)
}

/// The same; none, if it is all.
fn part_of(table: &TableName, columns: &[String], grant: &Grant, hidden: &BTreeSet<String>) -> Option<String> {
    if columns.is_empty() && grant.condition.is_none() {
        return None;
    }
    let part = |name: &String| match hidden.contains(&name.to_lowercase()) {
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
        write!(sql, " where ({condition}\n)").ok();
    }
    Some(sql)
}
