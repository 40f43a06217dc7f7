//! Which databases a statement may reach that is logged as text, beyond those that it names: by views, triggers, functions and
//! procedures of these.
//!
//! Law: what an object of a database does is in the databases that any name in its definition may mean, and where these have objects
//! again, in theirs. A definition that the user may not see may mean any. Objects of which a server tells a user nothing at all
//! (triggers and routines, without a right on them) are not known to be there.

use std::collections::{BTreeMap, BTreeSet};

use super::error::WireError;
use super::statement::{Dialect, databases};
use super::wire::Wire;

/// What is behind the objects of databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// By their databases; none: nobody knows.
    known: BTreeMap<String, Option<BTreeSet<String>>>,
    /// The server could not be asked.
    is_unknown: bool,
}

impl Reach {
    /// Anything may be behind them.
    pub(crate) fn unknown() -> Self {
        Self { is_unknown: true, ..Self::default() }
    }

    /// Asks for all objects that the user may see.
    pub(crate) async fn read(wire: &mut Wire) -> Result<Self, WireError> {
        const QUESTIONS: [&str; 3] = [
            "SELECT TABLE_SCHEMA, VIEW_DEFINITION FROM information_schema.VIEWS",
            "SELECT TRIGGER_SCHEMA, ACTION_STATEMENT FROM information_schema.TRIGGERS",
            "SELECT ROUTINE_SCHEMA, ROUTINE_DEFINITION FROM information_schema.ROUTINES",
        ];
        let dialect = Dialect { mariadb: wire.server.mariadb, version: u32::MAX, ..Dialect::default() };
        let mut reach = Self::default();
        for question in QUESTIONS {
            let own = "('sys', 'mysql', 'information_schema', 'performance_schema')";
            let of = question.split_whitespace().nth(1).unwrap_or_default().trim_end_matches(',');
            // One after the other: all the texts of a server may be many.
            let mut add = |values: &[Option<&[u8]>]| {
                let text = |at: usize| values.get(at).copied().flatten().map(String::from_utf8_lossy);
                if let Some(database) = text(0) {
                    reach.add(database.into_owned(), text(1).as_deref(), dialect);
                }
                Ok(())
            };
            wire.query_with(&format!("{question} WHERE {of} NOT IN {own}"), &mut add).await?;
        }
        Ok(reach)
    }

    /// An object of a database, by its definition.
    fn add(&mut self, database: String, definition: Option<&str>, dialect: Dialect) {
        let named = definition.filter(|text| !text.is_empty()).and_then(|text| databases(text, dialect));
        match (self.known.entry(database).or_insert_with(|| Some(BTreeSet::new())), named) {
            (Some(known), Some(named)) => known.extend(named),
            (known, _) => *known = None,
        }
    }

    /// All that a statement on these databases may reach; none where that may be any.
    pub(crate) fn of<'a>(
        &self,
        wanted: impl Iterator<Item = &'a str>,
        is_same: impl Fn(&str, &str) -> bool,
    ) -> Option<Vec<String>> {
        if self.is_unknown {
            return None;
        }
        let mut found: Vec<String> = wanted.map(str::to_owned).collect();
        let mut next = 0;
        while let Some(database) = found.get(next).cloned() {
            next += 1;
            for (_, named) in self.known.iter().filter(|(known, _)| is_same(known, &database)) {
                for name in named.as_ref()? {
                    if !found.iter().any(|known| is_same(known, name)) {
                        found.push(name.clone());
                    }
                }
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(objects: &[(&str, Option<&str>)]) -> Reach {
        let mut reach = Reach::default();
        objects.iter().for_each(|(of, text)| reach.add((*of).to_owned(), *text, Dialect::default()));
        reach
    }

    fn of(reach: &Reach, wanted: &[&str]) -> Option<Vec<String>> {
        let mut found = reach.of(wanted.iter().copied(), |one, other| one == other)?;
        found.sort();
        Some(found)
    }

    #[test]
    fn what_is_behind_a_view_is_reached_however_far_it_is() {
        let reach = reach(&[
            ("y", Some("select `x`.`t`.`id` AS `id` from `x`.`t`")),
            ("x", Some("begin insert into shop.orders values (1); end")),
            ("z", Some("select 1")),
        ]);
        let found = of(&reach, &["y"]).unwrap();
        assert!(["x", "shop", "y"].iter().all(|name| found.iter().any(|found| found == name)), "{found:?}");
        assert_eq!(of(&reach, &["z"]), Some(vec!["z".to_owned()]));
    }

    #[test]
    fn what_may_not_be_seen_may_reach_anything() {
        let reach = reach(&[("y", Some("")), ("z", None), ("x", Some("select y.v.id from y.v"))]);
        assert_eq!(of(&reach, &["y"]), None);
        assert_eq!(of(&reach, &["z"]), None);
        assert_eq!(of(&reach, &["x"]), None, "by way of it");
        assert_eq!(of(&reach, &["shop"]), Some(vec!["shop".to_owned()]));
        assert_eq!(of(&Reach::unknown(), &["shop"]), None);
    }
}
