//! The system tables as a role sees them: how what it reads is, and nothing of what it does not.
//!
//! Texts, messages, positions and columns that are left out name what is beneath, and rows are of anybody: they are not shown, and
//! neither is a column that is not listed here. How many rows there are is told of what is read whole; of a part it would tell of the others.

use std::collections::BTreeSet;

use plan::{TableName, delimited};
use query::{Access, Catalog};

use crate::system_tables::SCHEMA;

/// What a role reads.
pub(super) struct Readable {
    all: BTreeSet<String>,
    /// With all their rows.
    whole: BTreeSet<String>,
}

impl Readable {
    pub(super) fn of(
        catalog: &Catalog,
        access: impl Fn(&TableName) -> Access,
        has_all_rows: impl Fn(&TableName) -> bool,
    ) -> Self {
        let readable: Vec<&TableName> = catalog.names().filter(|name| access(name) != Access::None).collect();
        let whole = readable.iter().filter(|name| has_all_rows(name));
        Self {
            whole: whole.map(ToString::to_string).collect(),
            all: readable.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A system table of which each row is about one table or model, and how a role sees it.
struct Fact {
    name: &'static str,
    /// Which rows: `{in}` stands for the list of what is read.
    of: &'static str,
    /// By which name a row counts rows; empty where none does.
    counted: &'static str,
    counts: &'static [&'static str],
    /// What else is shown; all other columns are NULL.
    shown: &'static [&'static str],
}

const FACTS: [Fact; 9] = [
    Fact {
        name: "models",
        of: "schema || '.' || model in {in}",
        counted: "schema || '.' || model",
        counts: &["rows", "changes_total", "state_bytes", "rejects"],
        shown: &[
            "schema",
            "model",
            "materialized",
            "state",
            "freshness_seconds",
            "stale_since",
            "description",
            "tags",
            "owner",
        ],
    },
    Fact {
        name: "tables",
        of: "schema || '.' || \"table\" in {in}",
        counted: "schema || '.' || \"table\"",
        counts: &["rows", "snapshot_rows", "snapshot_rows_total", "changes_total", "lag_bytes", "rejects"],
        shown: &[
            "source",
            "schema",
            "table",
            "state",
            "last_commit_at",
            "lag_seconds",
            "stale_since",
            "description",
            "tags",
            "owner",
        ],
    },
    Fact {
        name: "sources",
        of: "source in (select source from tidemill.tables where schema || '.' || \"table\" in {in})",
        counted: "",
        counts: &[],
        shown: &["source", "type", "state", "lag_seconds", "last_commit_at", "last_error_at"],
    },
    Fact {
        name: "lineage",
        of: "upstream in {in} and downstream in {in}",
        counted: "",
        counts: &[],
        shown: &["upstream", "downstream"],
    },
    Fact {
        name: "latency",
        of: "node in {in}",
        counted: "node",
        counts: &["count"],
        shown: &["node", "stage", "p50_ms", "p99_ms", "max_ms"],
    },
    Fact {
        name: "history",
        of: "node in {in}",
        counted: "node",
        counts: &["rows", "changes_per_second"],
        shown: &["node", "at", "lag_seconds"],
    },
    Fact {
        name: "deliveries",
        of: "model in {in}",
        counted: "model",
        counts: &[
            "backlog_rows",
            "backlog_bytes",
            "sent_total",
            "rejected_total",
            "sent_per_second",
            "deleted_total",
            "refused_rows",
        ],
        shown: &[
            "sync",
            "destination",
            "model",
            "state",
            "oldest_seconds",
            "step",
            "type",
            "p50_ms",
            "p99_ms",
            "stale_since",
            "last_error_at",
        ],
    },
    Fact {
        name: "syncs",
        of: "model in {in}",
        counted: "",
        counts: &[],
        shown: &["sync", "model", "destination", "type", "mode"],
    },
    Fact {
        name: "delivery_log",
        of: "model in {in}",
        counted: "model",
        counts: &["rows", "deletes", "refused"],
        shown: &["sync", "model", "at", "step", "took_ms", "outcome", "tries"],
    },
];

/// What tells nothing of any table, for a role that is granted the schema.
const OF_THE_INSTANCE: [&str; 1] = ["settings"];

/// What a role sees of a system table; `of_instance`: it is granted the schema.
pub(super) fn access(name: &str, catalog: &Catalog, readable: &Readable, of_instance: bool) -> Access {
    if of_instance && OF_THE_INSTANCE.contains(&name) {
        return Access::All;
    }
    let Some(fact) = FACTS.iter().find(|fact| fact.name == name) else { return Access::None };
    let Some(columns) = catalog.columns_of_system_table(&TableName::new(SCHEMA, name)) else { return Access::None };
    let column = |column: String| {
        let quoted = delimited(&column);
        if fact.shown.contains(&column.as_str()) {
            quoted
        } else if fact.counts.contains(&column.as_str()) {
            format!("case when {} in {} then {quoted} end as {quoted}", fact.counted, listed(&readable.whole))
        } else {
            format!("case when false then {quoted} end as {quoted}")
        }
    };
    let columns: Vec<String> = columns.into_iter().map(column).collect();
    let rows = fact.of.replace("{in}", &listed(&readable.all));
    Access::Through(format!("select {} from {SCHEMA}.{name} where {rows}", columns.join(", ")))
}

/// `('public.a', 'shop.b')`; of nothing a list that nothing is in.
fn listed(names: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    if quoted.is_empty() { "('')".to_owned() } else { format!("({})", quoted.join(", ")) }
}
