//! Deliveries: what `syncs/*.yml` say, carried out.
//!
//! ```text
//! Wanted (the project's syncs) ─► the pump: an outbox for each ─► Courier, a task of its own ─► Destination
//!                                     ▲        │ wakes                │ what became of a portion
//!                                     └────────┴──────────────────────┘ as an input of a step
//! ```
//!
//! Which rows are to go where, and what the other side has, is state of the engine ([`engine::outbox`]); how they get there is the
//! destination's ([`connect::destination`]). Here both are put together. The laws:
//!
//! - **One sync stops only itself.** Each has a task and a connection of its own ([`courier`]). One that is away, slow, or has a
//!   mistake delays no step and no other sync; while it waits, its changed keys are marked, and that is all.
//! - **What is said is known.** A portion counts when the step with its outcomes is on disk; until then the courier goes no further, so
//!   the marker that the other side keeps is never more than one portion ahead.
//! - **Nothing is forgotten by mistake.** An outbox is retired with its sync only where all files of syncs can be read, and knows then
//!   still what it has delivered; one whose file has a mistake is left as it is, and is handed out to nobody.
//! - **One target is of one sync.** Who delivers there already keeps it, whatever the files are called, and whatever mistake its own has.
//! - **Much does not go unasked.** A sync that would delete more than its guard lets go is paused before the first of it ([`guard`]).
//!
//! The project that was applied last says what is delivered. A rollback goes back with the models alone: a sync that has no model
//! then, or lacks a column, waits and says so.

pub(crate) mod check;
mod courier;
mod declared;
pub(crate) mod figures;
mod guard;
mod log;
mod moments;
mod wanted;

pub(crate) use courier::{Assignment, Courier, Line, Post};
pub use declared::Declared;
pub use figures::{DeliveryStatus, STATES, Trouble, is_delivering_state};
pub use log::{DELIVERIES_MAX, Ended, Log, Tried};
pub use moments::Moments;
pub use wanted::{Broken, Wanted, WantedSync, differences};
pub(crate) use wanted::{Places, in_one_line};

/// What a sync is paused for when a person has said so.
pub(crate) const BY_HAND: &str = "by hand";

#[cfg(test)]
mod tests {
    use engine::outbox::{Definition, Limits};
    use plan::TableName;

    use super::*;
    use crate::status::Status;

    const DOCS: &str = include_str!("../../../../docs/deliveries.md");

    /// What a person may meet is explained, with the next step.
    #[test]
    fn states_and_kinds_have_their_lines() {
        for state in STATES {
            assert!(DOCS.contains(&format!("\n| `{state}` | ")), "{state} has no line of its own");
        }
        for word in connect::destination::KINDS.iter().flat_map(|kind| kind.types()) {
            let is_told = DOCS.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{word}`")));
            assert!(is_told, "what exactly once means for {word} is not said");
        }
    }

    #[test]
    fn numbers_are_those_of_the_code() {
        let rows = |name| courier::limits(connect::destination::kind_of(name)).rows;
        assert_eq!(["kafka", "postgres", "mysql", "redis"].map(rows), [20_000, 10_000, 10_000, 10_000]);
        let Limits { bytes, looked_at, .. } = courier::limits(None);
        assert_eq!((bytes, looked_at, Definition::PENDING_BYTES_MAX), (8 << 20, 20_000, 1 << 30));
        for told in ["Up to 10,000 rows (20,000 to Kafka) or 8 MiB go at once", "more than 1 GiB of keys"] {
            assert!(DOCS.contains(told), "{told}");
        }
        let waits = [
            (courier::OURS_WAIT.as_secs(), "again every 60 s", 60),
            (courier::AWAY_LONGEST.as_secs(), "at last every 30 s", 30),
            (courier::SLOW.as_secs(), "longer than 20 s", 20),
            (courier::LOOK_AGAIN.as_secs(), "five minutes without anything", 300),
            (courier::LOOK.as_secs(), "every 15 seconds while", 15),
            (courier::TAKEN_FIRST.as_secs(), "at first for 5 s", 5),
            (courier::TAKEN_LONGEST.as_secs(), "at last for an hour", 3_600),
        ];
        for (is, told, wanted) in waits {
            assert!(is == wanted && DOCS.contains(told), "{is}: {told}");
        }
        assert!(guard::ROWS_MIN == 100 && DOCS.contains("more than a hundred rows"));
        assert!(DELIVERIES_MAX == 50 && DOCS.contains("the last 50 deliveries"));
        assert!(crate::stale::BEHIND_US == 15_000_000 && DOCS.contains("for more than 15 s"));
    }

    /// Every column of the table and every metric is named.
    #[test]
    fn columns_and_metrics_are_told() {
        let mut catalog = query::Catalog::new(Vec::new());
        crate::system_tables::add_shapes(&mut catalog);
        let name = TableName::new(crate::system_tables::SCHEMA, "deliveries");
        let columns = catalog.columns_of_system_table(&name).unwrap();
        assert!(columns.len() > 10, "{columns:?}");
        for column in columns {
            assert!(DOCS.contains(&format!("`{column}`")), "{column} is not told");
        }
        let dir = tempfile::tempdir().unwrap();
        let status = Status::new(store::Store::open(dir.path(), store::Options::default()).unwrap());
        status.facts().deliveries.insert("s".to_owned(), DeliveryStatus::default());
        let metrics = crate::metrics::of(&status, 0).into_iter().map(|metric| metric.name);
        let mut of_ours: Vec<String> = metrics.filter(|name| name.starts_with("tidemill_delivery_")).collect();
        of_ours.dedup();
        assert!(of_ours.len() > 5, "{of_ours:?}");
        for name in of_ours {
            assert!(DOCS.contains(&format!("`{name}`")), "{name} is not told");
        }
        assert!(DOCS.contains(crate::status::Stage::VisibleDelivered.word()));
    }
}
