//! `/syncs` and `/syncs/<name>`: where rows are delivered to, how that goes, and what to do where it does not.

use askama::Template;

use super::{Command, Frame, dash, document};
use crate::graph::Node;
use crate::grid::Grid;
use crate::{Live, Panel, number, url};

/// What the page knows a type of destination by; other types are called as they are.
const SYSTEMS: [(&str, &str); 8] = [
    ("postgres", "PostgreSQL"),
    ("mysql", "MySQL"),
    ("mariadb", "MariaDB"),
    ("redis", "Redis"),
    ("kafka", "Kafka"),
    ("clickhouse", "ClickHouse"),
    ("http", "HTTP"),
    ("file", "Files"),
];

/// A type of destination as people call it.
pub fn system_of(kind: &str) -> &str {
    SYSTEMS.iter().find(|(known, _)| *known == kind).map_or(kind, |(_, name)| name)
}

/// A sync: what its file says, and its figures. What whoever looks may not see is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sync {
    /// How it is in the graph.
    pub node: Node,
    /// Whether a source has its name: then orders call it `sync:NAME`.
    pub has_namesake: bool,
    /// What it is about.
    pub description: String,
    /// Where it is declared.
    pub path: String,
    /// Where its connection leads, without what is secret.
    pub address: String,
    /// What it writes to over there.
    pub target: String,
    /// `mirror` or `upsert`.
    pub mode: String,
    /// By what a row is found over there; empty: by its key.
    pub matched: String,
    /// What is delivered beside that; empty: all other columns.
    pub fields: String,
    /// What may go at once.
    pub guards: String,
    /// Bytes of the marks of rows that are to be delivered.
    pub backlog_bytes: Option<i64>,
    /// Rows and deletes that were delivered.
    pub sent_total: Option<i64>,
    /// Of these, the deletes.
    pub deleted_total: Option<i64>,
    /// Rows that were refused, each time.
    pub rejected_total: Option<i64>,
    /// Rows that are refused now.
    pub refused_rows: Option<i64>,
    /// The step up to which all is delivered.
    pub step: Option<i64>,
    /// Half of the changes took less from their commit until they were there, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 of a hundred took less.
    pub p99_ms: Option<f64>,
    /// Since when what it follows is out of date; empty where it is not.
    pub stale_since: String,
    /// When it stood still last; empty where it did not.
    pub last_error_at: String,
}

impl Sync {
    fn name(&self) -> &str {
        self.node.name()
    }

    /// What `tidemill pause` and `tidemill resume` call it.
    fn order(&self) -> String {
        let name = self.name();
        if self.has_namesake { format!("sync:{name}") } else { name.to_owned() }
    }

    fn tone(&self) -> &'static str {
        self.node.tone().word()
    }

    fn backlog_text(&self) -> String {
        dash(self.node.rows, number::count)
    }

    fn sent_text(&self) -> String {
        dash(self.sent_total, number::count)
    }

    fn error_text(&self) -> String {
        match (self.node.last_error.as_str(), self.last_error_at.as_str()) {
            ("", "") => "–".to_owned(),
            ("", at) => at.to_owned(),
            (error, at) => format!("{error} ({at})"),
        }
    }

    /// The figures that a page of it has beside those of its node: what each is called, its key, and its text.
    fn figures(&self) -> Vec<(&'static str, &'static str, String)> {
        let bytes = dash(self.backlog_bytes, |bytes| number::bytes(bytes as f64));
        vec![
            ("Rows to deliver", "backlog", self.backlog_text()),
            ("Bytes of their marks", "bytes", bytes),
            ("Oldest change waits", "lag", self.node.lag_text()),
            ("Rows a second", "rate", self.node.rate_text()),
            ("Sent", "sent", self.sent_text()),
            ("Deletes of these", "deleted", dash(self.deleted_total, number::count)),
            ("Refused, each time", "rejected", dash(self.rejected_total, number::count)),
            ("Refused now", "refused", dash(self.refused_rows, number::count)),
            ("Commit → there, half below", "p50", dash(self.p50_ms, number::milliseconds)),
            ("Commit → there, 99 % below", "p99", dash(self.p99_ms, number::milliseconds)),
            ("Delivered up to step", "step", dash(self.step, |step| step.to_string())),
        ]
    }

    /// What its file says, in words; what is not known is left out.
    fn said(&self) -> Vec<(&'static str, String)> {
        let mode = match self.mode.as_str() {
            "mirror" => "mirror: rows that leave here are deleted there",
            "upsert" => "upsert: rows that leave here stay there",
            other => other,
        };
        // Whoever is shown no target is not shown what else of it is not said.
        let default = |text: &str, default: &str| match (text, self.target.as_str()) {
            ("", "") => String::new(),
            ("", _) => default.to_owned(),
            (text, _) => text.to_owned(),
        };
        let all = [
            ("Destination", format!("{} ({})", self.node.destination, self.node.kind_text())),
            ("Where", self.address.clone()),
            ("Into", self.target.clone()),
            ("Mode", mode.to_owned()),
            ("Found by", default(&self.matched, "the key, under its own names")),
            ("Fields", default(&self.fields, "all other columns, under their own names")),
            ("Guard", self.guards.clone()),
            ("File", self.path.clone()),
        ];
        all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }

    /// The next move of whoever looks; empty where nothing is to be done about the sync itself.
    fn next(&self) -> String {
        let (name, order) = (self.name(), self.order());
        match (self.node.state.as_str(), self.refused_rows.unwrap_or(0)) {
            ("paused", _) => format!("Next: tidemill resume {order}"),
            ("failed", _) => format!(
                "Next: mend what is named, then tidemill apply for files, or tidemill resume {order} for what is over there"
            ),
            ("waiting", _) => {
                format!("Next: mend what is named; it is tried again by itself, and at once by tidemill resume {order}")
            }
            (_, refused) if refused > 0 => {
                format!("Next: mend the rows, or what they are written to; then tidemill sync {name} --retry")
            }
            ("stale", _) => "Next: what it follows is to be mended, nothing of the sync".to_owned(),
            _ => String::new(),
        }
    }

    fn live(&self) -> Live {
        let id = &self.node.id;
        let mut live: Live = self.figures().into_iter().map(|(_, key, text)| (format!("t/{id}/{key}"), text)).collect();
        live.insert(format!("s/{id}"), format!("{} {}", self.tone(), self.node.word()));
        live.insert(format!("t/{id}/message"), self.node.message.clone());
        live.insert(format!("t/{id}/next"), self.next());
        live.insert(format!("t/{id}/stale"), self.stale_since.clone());
        live.insert(format!("t/{id}/error"), self.error_text());
        live
    }
}

/// All syncs.
#[derive(Debug, Clone, Template)]
#[template(path = "syncs.html")]
pub struct SyncList {
    /// What stands around it.
    pub frame: Frame,
    /// The syncs.
    pub syncs: Panel<Vec<Sync>>,
}

impl SyncList {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves.
    pub fn live(syncs: &[Sync]) -> Live {
        syncs.iter().flat_map(Sync::live).collect()
    }

    fn section(&self) -> &'static str {
        "syncs"
    }

    fn title(&self) -> &'static str {
        "Destinations"
    }

    fn events(&self) -> String {
        "/events/syncs".to_owned()
    }
}

/// One sync.
#[derive(Debug, Clone, Template)]
#[template(path = "sync.html")]
pub struct SyncPage {
    /// What stands around it.
    pub frame: Frame,
    /// It.
    pub sync: Sync,
    /// What it follows; none where that is not there.
    pub follows: Option<Node>,
    /// Its last deliveries, the newest first.
    pub log: Panel<Grid>,
    /// The newest rows that its destination refuses; an error where whoever looks may not see any.
    pub refused: Panel<Grid>,
}

impl SyncPage {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves.
    pub fn live(&self) -> Live {
        let mut live = self.sync.live();
        let panels = [("h/log", &self.log, "Last deliveries"), ("h/refused", &self.refused, "Refused rows")];
        let shown = panels.into_iter().filter_map(|(key, panel, label)| Some((key, panel.as_ref().ok()?.html(label))));
        live.extend(shown.map(|(key, html)| (key.to_owned(), html)));
        live
    }

    fn section(&self) -> &'static str {
        "syncs"
    }

    fn title(&self) -> &str {
        &self.sync.node.id
    }

    fn events(&self) -> String {
        format!("/events{}", self.sync.node.href())
    }

    fn rejects_href(&self) -> String {
        format!("/rejects?node={}", url(&self.sync.node.id))
    }

    fn commands(&self) -> Vec<Command> {
        let (name, order) = (self.sync.name(), self.sync.order());
        vec![
            Command::new(format!("tidemill sync {name}"), "how it is, on a terminal"),
            Command::new(format!("tidemill sync {name} --retry"), "sends refused rows again"),
            Command::new(
                format!("tidemill resume {order}"),
                "goes on where it is paused, and tries at once where it waits",
            ),
            Command::new(format!("tidemill pause {order}"), "delivers nothing more, also over restarts"),
            Command::new(
                format!("tidemill sync {name} --refill"),
                "sends all rows again: the other side has lost what it had",
            ),
            Command::new("tidemill doctor", "can it be delivered to?"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeKind, sync_id};

    fn sync(state: &str, refused_rows: i64) -> Sync {
        let node = Node { id: sync_id("out"), kind: NodeKind::Sync, state: state.to_owned(), ..Node::default() };
        Sync { node, refused_rows: Some(refused_rows), ..Sync::default() }
    }

    #[test]
    fn the_next_move_names_commands_that_there_are() {
        assert_eq!(sync("live", 0).next(), "");
        assert_eq!(sync("filling", 0).next(), "");
        assert_eq!(sync("paused", 3).next(), "Next: tidemill resume out");
        let namesake = Sync { has_namesake: true, ..sync("paused", 0) };
        assert_eq!(namesake.next(), "Next: tidemill resume sync:out");
        assert!(sync("live", 1).next().ends_with("tidemill sync out --retry"));
        assert!(sync("stale", 1).next().ends_with("tidemill sync out --retry"));
        assert!(["failed", "waiting"].iter().all(|state| sync(state, 0).next().contains("tidemill resume out")));
    }

    /// Of a target that is not shown nothing is said, not even what would hold where nothing is said.
    #[test]
    fn what_is_not_shown_is_left_out() {
        let names = |sync: &Sync| sync.said().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let hidden = Sync { mode: "mirror".to_owned(), ..sync("live", 0) };
        assert_eq!(names(&hidden), ["Destination", "Mode"]);
        let shown = Sync { target: "table: t".to_owned(), ..hidden };
        assert_eq!(names(&shown), ["Destination", "Into", "Mode", "Found by", "Fields"]);
        assert_eq!(shown.error_text(), "–");
    }

    #[test]
    fn types_are_told_as_people_call_them() {
        assert_eq!(["postgres", "redis", "elsewhere"].map(system_of), ["PostgreSQL", "Redis", "elsewhere"]);
    }
}
