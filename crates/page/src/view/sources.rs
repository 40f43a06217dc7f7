//! `/sources` and `/sources/<name>`: where rows come from, how far behind, and what to do where it stands.

use askama::Template;

use super::{Command, Frame, dash, document};
use crate::graph::{Node, NodeKind, Tone};
use crate::{Live, Panel, number, url};

/// A source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its type: `mysql`, …
    pub kind: String,
    /// Its state's word.
    pub state: String,
    /// Where reading is.
    pub position: String,
    /// Seconds behind.
    pub lag_seconds: Option<f64>,
    /// Bytes of the log not read yet.
    pub lag_bytes: Option<i64>,
    /// What it says, with the remedy where there is one.
    pub message: String,
    /// Changes a second of late, of all its tables.
    pub rate: Option<f64>,
    /// Where its connection leads, without what is secret.
    pub address: String,
    /// Where that is declared.
    pub declared_at: String,
    /// The time of the newest commit that was read; empty before the first.
    pub last_commit_at: String,
    /// Why it stalled when it did so last, which may be over.
    pub last_error: String,
    /// When that was; empty where it was not.
    pub last_error_at: String,
    /// Its tables.
    pub tables: Vec<SourceTable>,
}

/// A table of a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceTable {
    /// Schema it is read under.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its state's word.
    pub state: String,
    /// Rows it holds.
    pub rows: Option<i64>,
    /// Rows copied so far by the snapshot.
    pub snapshot_rows: i64,
    /// Rows that the snapshot is expected to have.
    pub snapshot_rows_total: i64,
    /// Seconds behind.
    pub lag_seconds: Option<f64>,
    /// Changed rows since the start.
    pub changes_total: i64,
    /// What it says.
    pub message: String,
}

/// All sources.
#[derive(Debug, Clone, Template)]
#[template(path = "sources.html")]
pub struct Sources {
    /// What stands around it.
    pub frame: Frame,
    /// The sources.
    pub sources: Panel<Vec<Source>>,
}

impl Source {
    fn tone(&self) -> &'static str {
        Tone::of(&self.state).word()
    }

    fn lag_text(&self) -> String {
        dash(self.lag_seconds, number::seconds)
    }

    fn bytes_text(&self) -> String {
        dash(self.lag_bytes, |bytes| number::bytes(bytes as f64))
    }

    /// Share of the snapshot that is there, while one runs. Totals are the source's estimates, so a table that is done
    /// counts as whole.
    fn progress(&self) -> Option<f64> {
        if self.tables.iter().all(SourceTable::is_done) {
            return None;
        }
        let total: i64 = self.tables.iter().map(|table| table.snapshot_rows_total).sum();
        let done: i64 = self.tables.iter().map(SourceTable::snapshot_done).sum();
        (total > 0).then(|| done as f64 / total as f64)
    }

    fn progress_text(&self) -> String {
        self.progress().map_or_else(|| "done".to_owned(), number::percent)
    }

    fn progress_width(&self) -> String {
        format!("{:.1}", self.progress().unwrap_or(1.0) * 100.0)
    }

    fn rate_text(&self) -> String {
        dash(self.rate, number::rate)
    }

    fn commit_text(&self) -> &str {
        if self.last_commit_at.is_empty() { "–" } else { &self.last_commit_at }
    }

    fn error_text(&self) -> String {
        match (self.last_error.as_str(), self.last_error_at.as_str()) {
            ("", "") => "–".to_owned(),
            ("", at) => at.to_owned(),
            (error, at) => format!("{error} ({at})"),
        }
    }

    fn node(&self) -> Node {
        Node { id: self.name.clone(), kind: NodeKind::Source, ..Node::default() }
    }

    fn href(&self) -> String {
        self.node().href()
    }

    fn anchor(&self) -> String {
        format!("source-{}", url(&self.name))
    }
}

impl SourceTable {
    fn tone(&self) -> &'static str {
        Tone::of(&self.state).word()
    }

    fn id(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn href(&self) -> String {
        format!("/tables/{}/{}", url(&self.schema), url(&self.name))
    }

    fn rows_text(&self) -> String {
        dash(self.rows, number::count)
    }

    fn changes_text(&self) -> String {
        number::count(self.changes_total)
    }

    fn lag_text(&self) -> String {
        dash(self.lag_seconds, number::seconds)
    }

    /// Its snapshot is over.
    fn is_done(&self) -> bool {
        Tone::of(&self.state) == Tone::Good
    }

    fn snapshot_done(&self) -> i64 {
        if self.is_done() { self.snapshot_rows_total } else { self.snapshot_rows.min(self.snapshot_rows_total) }
    }

    fn snapshot_text(&self) -> String {
        match self.snapshot_rows_total {
            _ if self.is_done() => "done".to_owned(),
            0 => "–".to_owned(),
            total => number::percent(self.snapshot_done() as f64 / total as f64),
        }
    }
}

impl Sources {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves.
    pub fn live(sources: &[Source]) -> Live {
        let mut live = Live::new();
        for source in sources {
            let name = &source.name;
            live.insert(format!("s/{name}"), format!("{} {}", source.tone(), source.state));
            live.insert(format!("t/{name}/position"), source.position.clone());
            live.insert(format!("t/{name}/lag"), source.lag_text());
            live.insert(format!("t/{name}/bytes"), source.bytes_text());
            live.insert(format!("t/{name}/message"), source.message.clone());
            live.insert(format!("t/{name}/progress"), source.progress_text());
            live.insert(format!("w/{name}/progress"), source.progress_width());
            for table in &source.tables {
                let id = table.id();
                live.insert(format!("s/{id}"), format!("{} {}", table.tone(), table.state));
                live.insert(format!("t/{id}/rows"), table.rows_text());
                live.insert(format!("t/{id}/changes"), table.changes_text());
                live.insert(format!("t/{id}/lag"), table.lag_text());
                live.insert(format!("t/{id}/snapshot"), table.snapshot_text());
            }
        }
        live
    }

    fn section(&self) -> &'static str {
        "sources"
    }

    fn title(&self) -> &'static str {
        "Sources"
    }

    fn events(&self) -> String {
        "/events/sources".to_owned()
    }
}

/// One source.
#[derive(Debug, Clone, Template)]
#[template(path = "source.html")]
pub struct SourcePage {
    /// What stands around it.
    pub frame: Frame,
    /// It.
    pub source: Source,
    /// Whether a sync has its name.
    pub has_namesake: bool,
}

impl SourcePage {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves.
    pub fn live(source: &Source) -> Live {
        let name = &source.name;
        let mut live = Sources::live(std::slice::from_ref(source));
        live.insert(format!("t/{name}/rate"), source.rate_text());
        live.insert(format!("t/{name}/commit"), source.commit_text().to_owned());
        live.insert(format!("t/{name}/error"), source.error_text());
        live
    }

    fn section(&self) -> &'static str {
        "sources"
    }

    fn title(&self) -> &str {
        &self.source.name
    }

    fn events(&self) -> String {
        format!("/events{}", self.source.href())
    }

    fn around(&self) -> String {
        self.source.node().around()
    }

    fn commands(&self) -> Vec<Command> {
        let name = &self.source.name;
        let table = self.source.tables.first().map_or_else(|| format!("{name}.TABLE"), SourceTable::id);
        let mut commands = vec![
            Command::new("tidemill doctor", "can it be read?"),
            Command::new(
                format!("tidemill resnapshot {table}"),
                "loads a table again; what there is serves until then",
            ),
            Command::new(format!("tidemill reconcile source {name}"), "compares every table with it"),
        ];
        // Which of two is meant nobody could tell.
        if !self.has_namesake {
            commands.push(Command::new(format!("tidemill pause {name}"), "reads nothing more of it"));
            commands.push(Command::new(format!("tidemill resume {name}"), "reads on"));
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshots_progress_is_that_of_all_rows() {
        let table =
            |done, total| SourceTable { snapshot_rows: done, snapshot_rows_total: total, ..SourceTable::default() };
        let source = Source { tables: vec![table(50, 100), table(120, 100), table(0, 0)], ..Source::default() };
        assert_eq!(source.progress_text(), "75.0 %");
        let done = SourceTable { state: "streaming".to_owned(), ..table(22, 100) };
        assert_eq!((done.snapshot_done(), done.snapshot_text().as_str()), (100, "done"));
        assert_eq!(Source { tables: vec![done], ..Source::default() }.progress(), None);
    }
}
