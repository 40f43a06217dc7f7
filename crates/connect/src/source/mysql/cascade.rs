//! Foreign keys whose actions the log does not have: MariaDB, and MySQL before 9.6, do them in the storage engine, below it.
//!
//! The law: whatever a logged change of one table may do to a captured table by such keys is known before the change is read.
//! A deleted row deletes the rows that refer to it, or sets their columns; a changed key does so to the columns that refer to
//! it; and what was done to those rows goes on to the rows that refer to them, through tables that nobody captures, too.
//! Which rows are meant nobody says, so the table is in doubt as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::SourceColumn;
use super::describe::{self, literal, quoted};
use super::error::WireError;
use super::server::Facts;
use super::wire::Wire;
use super::{CaptureTable, ColumnRule};

/// A table: database and name.
type Place = (String, String);

/// What becomes of the rows that refer to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The change is refused while there are any.
    Refused,
    /// They are deleted with it, or follow its change.
    Cascade,
    /// Their columns are set to something else.
    Set,
}

impl Action {
    fn read(rule: &str) -> Self {
        match rule {
            "CASCADE" => Self::Cascade,
            "RESTRICT" | "NO ACTION" => Self::Refused,
            _ => Self::Set,
        }
    }
}

/// A foreign key that does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    child: Place,
    /// The child's columns, and those that they refer to, in the same order.
    columns: Vec<String>,
    pub(super) parent: Place,
    referenced: Vec<String>,
    on_delete: Action,
    on_update: Action,
}

impl ForeignKey {
    /// `CHILD(COLUMN,…) PARENT(COLUMN,…) ON_DELETE ON_UPDATE`, each action a word as `set-null`.
    fn written(line: &str) -> Option<Self> {
        let place = |word: &str| -> Option<(Place, Vec<String>)> {
            let (table, columns) = word.strip_suffix(')')?.split_once('(')?;
            Some(((String::new(), table.to_owned()), columns.split(',').map(str::to_owned).collect()))
        };
        let action = |word: &str| Action::read(&word.to_uppercase().replace('-', " "));
        let words: Vec<&str> = line.split(' ').collect();
        let &[child, parent, on_delete, on_update] = &words[..] else { return None };
        let ((child, columns), (parent, referenced)) = (place(child)?, place(parent)?);
        let (on_delete, on_update) = (action(on_delete), action(on_update));
        Some(Self { name: String::new(), child, columns, parent, referenced, on_delete, on_update })
    }
}

/// Captured tables, by their numbers.
pub(crate) type Tables = BTreeSet<usize>;

/// A table whose changes reach captured tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Its columns now.
    pub(crate) columns: Vec<SourceColumn>,
    /// What a deleted row reaches.
    pub(crate) deleted: Tables,
    /// What a change of one of these columns reaches.
    pub(crate) updated: Vec<(Vec<String>, Tables)>,
}

impl Parent {
    /// What any change of it reaches.
    pub(crate) fn reached(&self) -> impl Iterator<Item = usize> + '_ {
        self.deleted.iter().chain(self.updated.iter().flat_map(|(_, tables)| tables)).copied()
    }
}

/// All tables whose changes reach captured ones without a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cascades {
    pub(crate) parents: BTreeMap<Place, Parent>,
    /// Those in which keys were looked for: of captured tables, and of what they refer to, however far.
    pub(crate) databases: BTreeSet<String>,
    /// Tables among the parents that the user may not see, with what they reach: what they refer to themselves nobody tells.
    pub(crate) unseen: BTreeMap<Place, Tables>,
}

impl Cascades {
    /// Asks for the keys that reach these tables, of a server that does not log what they do.
    pub(crate) async fn read(wire: &mut Wire, facts: &Facts, tables: &[CaptureTable]) -> Result<Self, WireError> {
        let (keys, databases) = keys_above(wire, tables.iter().map(|table| table.database.clone())).await?;
        let mut found = Self::of(&keys, |place| tables.iter().position(|t| facts.is_same_place(place, t)));
        found.databases = databases;
        for ((database, name), parent) in &mut found.parents {
            match describe::columns(wire, database, name, &ColumnRule::default()).await? {
                Some(columns) => parent.columns = columns,
                None => _ = found.unseen.insert((database.clone(), name.clone()), parent.reached().collect()),
            }
        }
        Ok(found)
    }

    /// What is said of captured tables that may be reached by way of tables that the user may not see: one word for all, so that it
    /// fits a source. None where all can be seen.
    pub(crate) fn untold(&self, tables: &[CaptureTable], user: &str) -> Option<String> {
        let name = |(database, name): &Place| format!("{database}.{name}");
        let reached: BTreeSet<usize> = self.unseen.values().flatten().copied().collect();
        let reached: Vec<&str> = reached.iter().filter_map(|&at| Some(tables.get(at)?.name.as_str())).collect();
        let grants: Vec<String> = self.unseen.keys().map(|place| grant_select(place, user)).collect();
        let unseen: Vec<String> = self.unseen.keys().map(name).collect();
        (!unseen.is_empty()).then(|| {
            format!(
                "foreign keys may change rows of {} without a trace: they lead to {}, which the user may not SELECT from, so that \
                 nobody can tell what changes these. {}",
                reached.join(", "),
                unseen.join(", "),
                grants.join("; ")
            )
        })
    }

    /// What follows from keys, given the captured table of a place.
    fn of(keys: &[ForeignKey], captured: impl Fn(&Place) -> Option<usize>) -> Self {
        let mut parents: BTreeMap<Place, Parent> = BTreeMap::new();
        let reach = Reach { keys, captured: &captured };
        for key in keys {
            let mut deleted = Tables::new();
            reach.delete(key, &mut deleted, &mut BTreeSet::new());
            let mut updated = Tables::new();
            reach.update(key, &mut updated, &mut BTreeSet::new());
            if deleted.is_empty() && updated.is_empty() {
                continue;
            }
            let parent = parents.entry(key.parent.clone()).or_default();
            parent.deleted.append(&mut deleted);
            if !updated.is_empty() {
                parent.updated.push((key.referenced.clone(), updated));
            }
        }
        Self { parents, ..Self::default() }
    }

    /// The same with places as they are compared.
    pub(crate) fn with_places(self, compared: impl Fn(Place) -> Place) -> Self {
        let databases = self.databases.into_iter().map(|database| compared((database, String::new())).0).collect();
        let parents = self.parents.into_iter().map(|(place, parent)| (compared(place), parent)).collect();
        Self { parents, databases, unseen: self.unseen }
    }

    /// What follows from keys that are written down, a line each, for tables whose databases are all the same.
    pub(crate) fn written(lines: &str, tables: &[CaptureTable]) -> Option<Self> {
        let keys = lines.lines().map(ForeignKey::written).collect::<Option<Vec<_>>>()?;
        let at = |place: &Place| tables.iter().position(|table| table.name == place.1);
        let mut found = Self::of(&keys, at);
        for (place, parent) in &mut found.parents {
            if let Some(at) = at(place) {
                parent.columns.clone_from(&tables[at].columns);
            }
        }
        let database = tables.first().map_or_else(String::new, |table| table.database.clone());
        let found = found.with_places(|(_, name)| (database.clone(), name));
        Some(Self { databases: BTreeSet::from([database]), ..found })
    }

    /// These keys, and those that were known before: the log that is read may be older than their end.
    pub(crate) fn and_before(mut self, before: Self) -> Self {
        self.databases.extend(before.databases);
        for (place, old) in before.parents {
            let parent =
                self.parents.entry(place).or_insert_with(|| Parent { columns: old.columns, ..Parent::default() });
            parent.deleted.extend(old.deleted);
            let is_new = |of: &(Vec<String>, Tables), known: &Parent| !known.updated.contains(of);
            let more: Vec<_> = old.updated.into_iter().filter(|of| is_new(of, parent)).collect();
            parent.updated.extend(more);
        }
        self
    }
}

/// Follows keys from table to table.
struct Reach<'a, F> {
    keys: &'a [ForeignKey],
    captured: &'a F,
}

impl<F: Fn(&Place) -> Option<usize>> Reach<'_, F> {
    /// A row that is referred to by `key` was deleted.
    fn delete(&self, key: &ForeignKey, out: &mut Tables, seen: &mut BTreeSet<Place>) {
        if key.on_delete == Action::Refused {
            return;
        }
        out.extend((self.captured)(&key.child));
        match key.on_delete {
            Action::Cascade if seen.insert(key.child.clone()) => {
                self.keys.iter().filter(|next| next.parent == key.child).for_each(|next| self.delete(next, out, seen));
            }
            Action::Set => self.changed(key, out, &mut BTreeSet::new()),
            Action::Cascade | Action::Refused => {}
        }
    }

    /// Columns that are referred to by `key` were changed.
    fn update(&self, key: &ForeignKey, out: &mut Tables, seen: &mut BTreeSet<Place>) {
        if key.on_update == Action::Refused || !seen.insert(key.child.clone()) {
            return;
        }
        out.extend((self.captured)(&key.child));
        self.changed(key, out, seen);
    }

    /// The columns of `key` were changed in its own table.
    fn changed(&self, key: &ForeignKey, out: &mut Tables, seen: &mut BTreeSet<Place>) {
        let is_next = |next: &&ForeignKey| {
            next.parent == key.child && next.referenced.iter().any(|column| key.columns.contains(column))
        };
        self.keys.iter().filter(is_next).for_each(|next| self.update(next, out, seen));
    }
}

/// All keys with an action in the databases of these tables, and in those of the tables that they refer to, and so on; and those
/// databases.
async fn keys_above(
    wire: &mut Wire,
    databases: impl Iterator<Item = String>,
) -> Result<(Vec<ForeignKey>, BTreeSet<String>), WireError> {
    let mut asked = BTreeSet::new();
    let mut ask: BTreeSet<String> = databases.collect();
    let mut keys = Vec::new();
    while !ask.is_empty() {
        let found = keys_of(wire, &ask).await?;
        asked.append(&mut ask);
        ask = found.iter().map(|key| key.parent.0.clone()).filter(|database| !asked.contains(database)).collect();
        keys.extend(found);
    }
    Ok((keys, asked))
}

/// What may act on the rows of a table: its own keys that do something, and the tables on the way up that the user may not see.
pub(super) async fn keys_of_table(
    wire: &mut Wire,
    database: &str,
    name: &str,
) -> Result<(Vec<ForeignKey>, Vec<(String, String)>), WireError> {
    let (mut keys, _) = keys_above(wire, std::iter::once(database.to_owned())).await?;
    let is_it = |place: &Place| place.0.eq_ignore_ascii_case(database) && place.1.eq_ignore_ascii_case(name);
    let above = Cascades::of(&keys, |place| is_it(place).then_some(0));
    let mut unseen = Vec::new();
    for place in above.parents.into_keys() {
        if describe::columns(wire, &place.0, &place.1, &ColumnRule::default()).await?.is_none() {
            unseen.push(place);
        }
    }
    keys.retain(|key| is_it(&key.child));
    Ok((keys, unseen))
}

/// The statement that lets a user see a table.
pub(super) fn grant_select((database, name): &(String, String), user: &str) -> String {
    format!("GRANT SELECT ON {}.{} TO '{user}'@'%'", quoted(database), quoted(name))
}

/// Keys of tables in these databases that do something. The columns of a key are told to whoever may SELECT; what it does is not:
/// MariaDB's `REFERENTIAL_CONSTRAINTS` leaves keys out without an error, and then the table's own definition says it.
async fn keys_of(wire: &mut Wire, databases: &BTreeSet<String>) -> Result<Vec<ForeignKey>, WireError> {
    let list = databases.iter().map(|database| literal(database)).collect::<Vec<_>>().join(", ");
    let columns = wire
        .query(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, \
             REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE TABLE_SCHEMA IN ({list}) AND REFERENCED_TABLE_NAME IS NOT NULL \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION"
        ))
        .await?;
    let mut keys: BTreeMap<[String; 3], ForeignKey> = BTreeMap::new();
    for row in columns.rows {
        let Ok([database, table, name, column, parent_database, parent, referenced]) = <[_; 7]>::try_from(told(row)?)
        else {
            return Err(super::server::unclear("its foreign keys"));
        };
        let key = keys.entry([database.clone(), table.clone(), name.clone()]).or_insert_with(|| ForeignKey {
            name,
            child: (database, table),
            columns: Vec::new(),
            parent: (parent_database, parent),
            referenced: Vec::new(),
            on_delete: Action::Refused,
            on_update: Action::Refused,
        });
        key.columns.push(column);
        key.referenced.push(referenced);
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rules = wire
        .query(&format!(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE \
             FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ({list})"
        ))
        .await?;
    let mut out = Vec::new();
    for row in rules.rows {
        let Ok([database, table, name, on_delete, on_update]) = <[_; 5]>::try_from(told(row)?) else {
            return Err(super::server::unclear("its foreign keys"));
        };
        // Dropped between the two questions: the log will tell.
        let Some(mut key) = keys.remove(&[database, table, name]) else { continue };
        (key.on_delete, key.on_update) = (Action::read(&on_delete), Action::read(&on_update));
        out.push(key);
    }
    let mut shown: BTreeMap<Place, String> = BTreeMap::new();
    for (_, mut key) in keys {
        if !shown.contains_key(&key.child) {
            let text = describe::definition(wire, &key.child.0, &key.child.1).await?.unwrap_or_default();
            shown.insert(key.child.clone(), text);
        }
        let definition = shown.get(&key.child).map_or("", String::as_str);
        (key.on_delete, key.on_update) = actions_of(definition, &key.name);
        out.push(key);
    }
    out.retain(|key| key.on_delete != Action::Refused || key.on_update != Action::Refused);
    Ok(out)
}

/// What a key does when a row is deleted, and when one changes, by `SHOW CREATE TABLE`. One that is not in it may do anything.
fn actions_of(definition: &str, key: &str) -> (Action, Action) {
    let begin = format!("CONSTRAINT {} FOREIGN KEY ", quoted(key));
    let line = definition.lines().map(str::trim_start).find(|line| line.starts_with(&begin));
    let Some((_, rules)) = line.and_then(|line| line.rsplit_once("`)")) else {
        return (Action::Cascade, Action::Cascade);
    };
    let action = |on: &str| {
        let rule = rules.split_once(on).map_or("", |(_, rule)| rule.trim_start());
        let words = ["CASCADE", "SET NULL", "SET DEFAULT"];
        Action::read(words.into_iter().find(|word| rule.starts_with(word)).unwrap_or("NO ACTION"))
    };
    (action("ON DELETE"), action("ON UPDATE"))
}

/// A row without NULLs.
fn told(row: Vec<Option<String>>) -> Result<Vec<String>, WireError> {
    row.into_iter().collect::<Option<_>>().ok_or_else(|| super::server::unclear("its foreign keys"))
}

#[cfg(test)]
mod tests {
    use super::{Action, Cascades, ForeignKey, actions_of};

    fn key(text: &str) -> ForeignKey {
        ForeignKey::written(text).expect("a key")
    }

    /// What is reached of the captured tables, in a line for each parent.
    fn reached(keys: &[&str], captured: &[&str]) -> String {
        let keys: Vec<ForeignKey> = keys.iter().map(|text| key(text)).collect();
        let found = Cascades::of(&keys, |place| captured.iter().position(|name| *name == place.1));
        let names = |tables: &super::Tables| tables.iter().map(|&i| captured[i]).collect::<Vec<_>>().join(",");
        let mut out = String::new();
        for ((_, name), parent) in &found.parents {
            out += &format!("{name}: delete [{}]", names(&parent.deleted));
            for (columns, tables) in &parent.updated {
                out += &format!(" update({}) [{}]", columns.join(","), names(tables));
            }
            out.push('\n');
        }
        out
    }

    /// As MariaDB and MySQL write it.
    #[test]
    fn a_definition_says_what_keys_do() {
        let definition = "CREATE TABLE `c` (\n  `p``)` int,\n  CONSTRAINT `a``b` FOREIGN KEY (`p``)`) REFERENCES `x`.`p` (`id`) ON DELETE \
                          CASCADE ON UPDATE SET NULL,\n  CONSTRAINT `k` FOREIGN KEY (`q`) REFERENCES `p` (`ON DELETE CASCADE`)\n)";
        let of = |key: &str| actions_of(definition, key);
        assert_eq!(of("a`b"), (Action::Cascade, Action::Set));
        assert_eq!(of("k"), (Action::Refused, Action::Refused));
        assert_eq!(of("unseen"), (Action::Cascade, Action::Cascade), "nobody says what it does");
    }

    #[test]
    fn a_key_reaches_its_table() {
        assert_eq!(reached(&["c(p) p(id) cascade cascade"], &["c"]), "p: delete [c] update(id) [c]\n");
        assert_eq!(reached(&["c(p) p(id) set-null no-action"], &["c"]), "p: delete [c]\n");
        assert_eq!(reached(&["c(p) p(id) restrict no-action"], &["c"]), "");
        assert_eq!(reached(&["c(p) p(id) cascade cascade"], &["p"]), "", "nobody captures what is reached");
    }

    #[test]
    fn what_is_reached_reaches_further_through_tables_that_nobody_captures() {
        let keys = ["b(a) a(id) cascade cascade", "c(b) b(id) cascade no-action", "d(c) c(id) set-null no-action"];
        let wanted = "a: delete [d]\nb: delete [d]\nc: delete [d]\n";
        assert_eq!(reached(&keys, &["d"]), wanted, "the id of b is not what follows the id of a");
        let keys = ["b(id) a(id) no-action cascade", "c(id) b(id) no-action cascade"];
        assert_eq!(reached(&keys, &["c"]), "a: delete [] update(id) [c]\nb: delete [] update(id) [c]\n");
        let keys = ["b(x) a(id) set-null no-action", "c(x) b(x) no-action cascade", "e(y) b(y) no-action cascade"];
        let wanted = "a: delete [c]\nb: delete [] update(x) [c] update(y) [e]\n";
        assert_eq!(reached(&keys, &["c", "e"]), wanted);
    }

    #[test]
    fn tables_that_refer_to_themselves_and_to_each_other_come_to_an_end() {
        assert_eq!(reached(&["t(up) t(id) cascade no-action"], &["t"]), "t: delete [t]\n");
        let keys = ["a(b) b(id) cascade cascade", "b(a) a(id) cascade cascade"];
        assert_eq!(reached(&keys, &["a", "b"]), "a: delete [a,b] update(id) [b]\nb: delete [a,b] update(id) [a]\n");
    }

    #[test]
    fn a_key_that_was_dropped_is_still_told_of_by_the_log_before() {
        let of = |text: &str| Cascades::of(&[key(text)], |_| Some(0));
        let both = of("c(p) p(id) restrict cascade").and_before(of("c(p) p(id) cascade no-action"));
        let parent = both.parents.values().next().expect("there is one");
        assert_eq!((parent.deleted.len(), parent.updated.len(), both.parents.len()), (1, 1, 1));
    }
}
