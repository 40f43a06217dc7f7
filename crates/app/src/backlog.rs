//! The alarm about a backlog: a source that is further behind than its project allows, in time or in bytes of its log.
//!
//! It is said once when it begins, in the log, and stands in the source's message and in that of the table that has brought
//! the most bytes since the source was last caught up, until the source is nearly caught up again. Whose the changes are that
//! are not even read is not known: they count for no table.

use std::collections::BTreeMap;

use plan::TableName;

use crate::source_status::SourceStatus;
use crate::status::{Facts, TableStatus};

/// How far a source may be behind before it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub age_us: i64,
    pub bytes: i64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { age_us: 60_000_000, bytes: 1 << 30 }
    }
}

/// An alarm that has just begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub source: String,
    /// The table with the most bytes; none where nothing was read.
    pub table: Option<TableName>,
    pub message: String,
}

/// Looks at every source; answers the alarms that begin.
pub fn look(facts: &mut Facts, now_us: i64) -> Vec<Alarm> {
    let (bounds, waits) = (facts.backlog_max, facts.waits_since_us);
    let mut begun = Vec::new();
    let Facts { sources, tables, .. } = facts;
    for (name, source) in sources {
        let (age_us, bytes) = (source.waited_us(waits, now_us), source.lag_bytes.unwrap_or(0));
        if age_us == 0 {
            of_source(tables, name).for_each(|(_, table)| table.backlog_bytes = 0);
        }
        of_source(tables, name).for_each(|(_, table)| table.backlog = None);
        // An alarm lasts until half of its bound: one that comes and goes says nothing.
        let of = if source.backlog.is_some() { 2 } else { 1 };
        if age_us <= bounds.age_us / of && bytes <= bounds.bytes / of {
            source.backlog = None;
            continue;
        }
        let brought = of_source(tables, name).filter(|(_, table)| table.backlog_bytes > 0);
        let most = brought.max_by_key(|(_, table)| table.backlog_bytes);
        let table = most.as_ref().map(|(name, _)| (*name).clone());
        let of_table = most.as_ref().map(|(name, table)| (name.to_string(), table.backlog_bytes));
        let message = said(source, age_us, bytes, of_table);
        if let Some((_, table)) = most {
            table.backlog = Some(message.clone());
        }
        if source.backlog.replace(message.clone()).is_none() {
            begun.push(Alarm { source: name.clone(), table, message });
        }
    }
    begun
}

fn of_source<'a>(
    tables: &'a mut BTreeMap<TableName, TableStatus>,
    source: &'a str,
) -> impl Iterator<Item = (&'a TableName, &'a mut TableStatus)> {
    tables.iter_mut().filter(move |(_, table)| table.source == source)
}

fn said(source: &SourceStatus, age_us: i64, bytes: i64, most: Option<(String, u64)>) -> String {
    let mut text = format!("backlog: {} s", age_us / 1_000_000);
    if source.lag_bytes.is_some() {
        text.push_str(&format!(" and {bytes} bytes of the log"));
    }
    match most {
        Some((table, bytes)) => text.push_str(&format!(" behind, most of it from table {table} ({bytes} bytes read)")),
        None => text.push_str(" behind; of which tables is not known before it is read"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A source that was caught up in second 10 and is cut off in second 11, and its two tables.
    fn shop() -> Facts {
        let mut facts = Facts::default();
        for (name, bytes) in [("orders", 0), ("events", 0)] {
            let table = facts.tables.entry(TableName::new("shop", name)).or_default();
            (table.source, table.state, table.backlog_bytes) = ("shop".to_owned(), "streaming".to_owned(), bytes);
        }
        let shop = facts.sources.entry("shop".to_owned()).or_default();
        shop.go_to("streaming", String::new(), 0);
        shop.note_end(10 * SECOND, "end".to_owned());
        shop.note_reached();
        shop.go_to("stalled", "cut".to_owned(), 11 * SECOND);
        facts
    }

    #[test]
    fn an_episode_is_said_once_and_ends_when_it_is_nearly_over() {
        let mut facts = shop();
        assert_eq!(look(&mut facts, 70 * SECOND), []);
        let begun = look(&mut facts, 71 * SECOND);
        let message = "backlog: 61 s behind; of which tables is not known before it is read";
        assert_eq!(begun, [Alarm { source: "shop".to_owned(), table: None, message: message.to_owned() }]);
        assert_eq!(look(&mut facts, 90 * SECOND), [], "said once");
        assert_eq!(
            facts.source_state(&facts.sources["shop"], 90 * SECOND).1.message.matches("backlog: 80 s").count(),
            1
        );
        // It goes on: what was committed up to second 50 is visible, then up to 70.
        let visible = |facts: &mut Facts, at: i64| {
            let shop = facts.sources.get_mut("shop").unwrap();
            shop.go_to("streaming", String::new(), at);
            (shop.last_commit_us, shop.visible_us) = (Some(at), Some(at));
            shop.note_end(at, "end".to_owned());
        };
        visible(&mut facts, 50 * SECOND);
        facts.tables.get_mut(&TableName::new("shop", "events")).unwrap().backlog_bytes = 700;
        facts.tables.get_mut(&TableName::new("shop", "orders")).unwrap().backlog_bytes = 30;
        assert_eq!(look(&mut facts, 95 * SECOND), [], "45 s are more than half of the bound");
        let of_table = "backlog: 45 s behind, most of it from table shop.events (700 bytes read)";
        assert_eq!(
            facts.table_state(&facts.tables[&TableName::new("shop", "events")], 51 * SECOND).1.message,
            of_table
        );
        assert_eq!(facts.table_state(&facts.tables[&TableName::new("shop", "orders")], 51 * SECOND).1.message, "");
        visible(&mut facts, 70 * SECOND);
        assert_eq!(look(&mut facts, 96 * SECOND), []);
        assert_eq!(facts.sources["shop"].backlog, None);
        // The next episode is said again.
        assert_eq!(look(&mut facts, 200 * SECOND).len(), 1);
    }

    #[test]
    fn bytes_alone_are_a_backlog_and_name_the_table_of_most() {
        let mut facts = shop();
        facts.backlog_max = Bounds { age_us: 60 * SECOND, bytes: 1_000 };
        facts.sources.get_mut("shop").unwrap().lag_bytes = Some(1_001);
        facts.tables.get_mut(&TableName::new("shop", "orders")).unwrap().backlog_bytes = 30;
        let begun = look(&mut facts, 12 * SECOND);
        assert_eq!(begun.len(), 1);
        assert_eq!(begun[0].table, Some(TableName::new("shop", "orders")));
        let said = "backlog: 2 s and 1001 bytes of the log behind, most of it from table shop.orders (30 bytes read)";
        assert_eq!(begun[0].message, said);
    }

    #[test]
    fn who_is_caught_up_begins_to_count_anew() {
        let mut facts = shop();
        facts.tables.get_mut(&TableName::new("shop", "orders")).unwrap().backlog_bytes = 30;
        facts.sources.get_mut("shop").unwrap().go_to("streaming", String::new(), 12 * SECOND);
        assert_eq!(look(&mut facts, 12 * SECOND), []);
        assert_eq!(facts.tables[&TableName::new("shop", "orders")].backlog_bytes, 0);
    }
}
