//! A node of the graph: what it is, how it is, and where its page is.

use crate::{escape, number, url};

/// What the `id` of a sync begins with: no table or model has a blank before its first point.
const SYNC: &str = "sync ";

/// A change that waits longer to be delivered is told of, where all else is well.
const LATE_SECONDS: f64 = 15.0;

/// How something is, as a colour; a word always stands beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing is known.
    #[default]
    Quiet,
    /// All is well.
    Good,
    /// On its way.
    Busy,
    /// Look at it.
    Warn,
    /// Broken.
    Bad,
}

impl Tone {
    /// The tone of a state's word, of sources, tables, models and syncs alike.
    pub fn of(state: &str) -> Self {
        match state {
            "live" | "streaming" | "ready" => Self::Good,
            "building" | "snapshot" | "connecting" | "starting" | "waiting" | "filling" => Self::Busy,
            "stalled" | "paused" | "stopped" | "behind" | "resnapshot" | "altered" | "stale" | "mixed" | "held"
            | "degraded" => Self::Warn,
            "failed" | "parked" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Its word in the style sheet.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// A connection that is read.
    Source,
    /// A table of a source.
    Table,
    /// A model.
    #[default]
    Model,
    /// Where rows are delivered to.
    Sync,
}

impl NodeKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Table => "table",
            Self::Model => "model",
            Self::Sync => "sync",
        }
    }
}

/// Words that begin the names of a layer's models where they stand in no folder of it.
const LAYER_WORDS: [&str; 11] = ["ods", "stg", "base", "int", "dwd", "dim", "fct", "dws", "dm", "mart", "ads"];

/// The layer of a model: the folder below that of all models, else the word that its name begins with.
pub fn layer_of(path: &str, name: &str) -> String {
    let word = name.split('_').next().filter(|word| LAYER_WORDS.contains(word) && word.len() < name.len());
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [_, folder, .., _] => (*folder).to_owned(),
        _ => word.unwrap_or("models").to_owned(),
    }
}

/// One thing and how it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// `schema.name`; a source's name alone; [`sync_id`] of a sync.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its state's word.
    pub state: String,
    /// Rows it holds; of a sync those that are to be delivered.
    pub rows: Option<i64>,
    /// Changes a second of late; of a sync rows that were delivered.
    pub rate: Option<f64>,
    /// Behind the source, seconds; of a sync the age of the oldest change that is to be delivered.
    pub lag_seconds: Option<f64>,
    /// Rows it could not take.
    pub rejects: i64,
    /// What it says of itself.
    pub message: String,
    /// Layer of the warehouse: `ods`, `dws`, …
    pub layer: String,
    /// What a model is kept as: `table`, `view`, …; empty for anything else.
    pub materialized: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What a sync delivers to, as people call it: `PostgreSQL`, `Redis`, …; empty for anything else.
    pub system: String,
    /// The connection that a sync delivers to; empty for anything else.
    pub destination: String,
    /// Why a source or sync stood still when it did last: it may be over.
    pub last_error: String,
}

/// The `id` of a sync's node, and its name in `tidemill.rejects`.
pub fn sync_id(name: &str) -> String {
    format!("{SYNC}{name}")
}

impl Node {
    /// Its colour: that of the state, and at least a warning where rows were rejected, or a sync says that something lacks.
    pub fn tone(&self) -> Tone {
        let is_late = self.lag_seconds.is_some_and(|seconds| seconds > LATE_SECONDS);
        let tone = match (self.kind, self.state.as_str()) {
            (NodeKind::Sync, "waiting") => Tone::Warn,
            (NodeKind::Sync, "live") if is_late || !self.message.is_empty() => Tone::Warn,
            (_, state) => Tone::of(state),
        };
        if self.rejects > 0 { tone.max(Tone::Warn) } else { tone }
    }

    /// Its state in words.
    pub fn word(&self) -> String {
        let state = if self.state.is_empty() { "unknown" } else { &self.state };
        match self.rejects {
            0 => state.to_owned(),
            1 => format!("{state}, 1 reject"),
            n => format!("{state}, {} rejects", number::short(n as f64)),
        }
    }

    /// Whether it is asked anew by whoever reads it: such a one has no rows, rate and lag of its own.
    pub fn is_view(&self) -> bool {
        self.materialized == "view"
    }

    /// What it is, as people call it.
    pub fn kind_text(&self) -> &str {
        let words = [self.system.as_str(), self.materialized.as_str()];
        words.into_iter().find(|word| !word.is_empty()).unwrap_or_else(|| self.kind.word())
    }

    /// Its name without the schema.
    pub fn name(&self) -> &str {
        let id = self.id.as_str();
        match self.kind {
            NodeKind::Sync => id.strip_prefix(SYNC).unwrap_or(id),
            _ => id.split_once('.').map_or(id, |(_, name)| name),
        }
    }

    /// What is said of it where it is pointed at.
    pub fn title(&self) -> String {
        let told = if self.message.is_empty() { self.word() } else { self.message.clone() };
        match self.last_error.as_str() {
            error if !error.is_empty() && !told.contains(error) => format!("{told}. Last error: {error}"),
            _ => told,
        }
    }

    /// What is told of it in figures: what each is called, its key, and its text. None of a view, which is asked anew.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, String)> {
        let names = match self.kind {
            _ if self.is_view() => return Vec::new(),
            NodeKind::Sync => ["Backlog", "Sent", "Oldest"],
            _ => ["Rows", "Changes", "Lag"],
        };
        let texts = [("rows", self.rows_text()), ("rate", self.rate_text()), ("lag", self.lag_text())];
        let figures = names.into_iter().zip(texts).map(|(name, (key, text))| (name, key, text));
        let error = match (self.kind, self.last_error.as_str()) {
            (NodeKind::Source | NodeKind::Sync, "") => Some("–".to_owned()),
            (NodeKind::Source | NodeKind::Sync, error) => Some(error.to_owned()),
            _ => None,
        };
        figures.chain(error.map(|error| ("Last error", "error", error))).collect()
    }

    /// The same as HTML that a narrow page breaks between its words.
    pub fn breakable_name(&self) -> String {
        escape(self.name()).replace('_', "_<wbr>")
    }

    /// Its tags as the script compares them.
    pub fn tags_text(&self) -> String {
        self.tags.join(" ")
    }

    /// Where its page is.
    pub fn href(&self) -> String {
        let page = match self.kind {
            NodeKind::Source => return format!("/sources/{}", url(&self.id)),
            NodeKind::Sync => return format!("/syncs/{}", url(self.name())),
            NodeKind::Table => "tables",
            NodeKind::Model => "models",
        };
        let (schema, name) = self.id.split_once('.').unwrap_or(("", &self.id));
        format!("/{page}/{}/{}", url(schema), url(name))
    }

    /// Where the graph around it is.
    pub fn around(&self) -> String {
        format!("/?node={}", url(&self.id))
    }

    /// Its rows in short.
    pub fn rows_text(&self) -> String {
        self.rows.map_or_else(|| "–".to_owned(), |rows| number::short(rows as f64))
    }

    /// Its rate in short.
    pub fn rate_text(&self) -> String {
        self.rate.map_or_else(|| "–".to_owned(), number::rate)
    }

    /// Its lag in short.
    pub fn lag_text(&self) -> String {
        self.lag_seconds.map_or_else(|| "–".to_owned(), number::seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_a_warning_at_least() {
        let node = |state: &str, rejects| Node { state: state.to_owned(), rejects, ..Node::default() };
        assert_eq!(
            [node("live", 0), node("live", 2), node("failed", 1)].map(|n| n.tone()),
            [Tone::Good, Tone::Warn, Tone::Bad]
        );
        assert_eq!(node("live", 2).word(), "live, 2 rejects");
    }

    #[test]
    fn a_model_is_of_the_layer_of_its_folder_or_name() {
        assert_eq!(layer_of("models/dws/trade/dws_day.sql", "dws_day"), "dws");
        assert_eq!(layer_of("models/marts/orders.sql", "orders"), "marts");
        assert_eq!(layer_of("models/ads_today.sql", "ads_today"), "ads");
        assert_eq!(["", "models/orders.sql"].map(|path| layer_of(path, "orders")), ["models", "models"]);
    }

    /// None of them is green, and one that delivers is.
    #[test]
    fn a_sync_in_trouble_is_no_good() {
        let sync =
            |state: &str| Node { id: sync_id("out"), kind: NodeKind::Sync, state: state.to_owned(), ..Node::default() };
        let tones = ["live", "filling", "stale", "waiting", "paused", "failed"].map(|state| sync(state).tone());
        assert_eq!(tones, [Tone::Good, Tone::Busy, Tone::Warn, Tone::Warn, Tone::Warn, Tone::Bad]);
        assert_eq!(Node { rejects: 1, ..sync("live") }.tone(), Tone::Warn);
        assert_eq!(Node { message: "40 rows wait".to_owned(), ..sync("live") }.tone(), Tone::Warn);
        assert_eq!(
            Node { lag_seconds: Some(16.0), ..sync("live") }.tone(),
            Tone::Warn,
            "whoever may not read the message"
        );
        assert_eq!(Node { lag_seconds: Some(14.0), ..sync("live") }.tone(), Tone::Good);
    }

    #[test]
    fn what_went_wrong_last_is_told_where_nothing_is_wrong_now() {
        let node = |message: &str| Node {
            kind: NodeKind::Source,
            state: "streaming".to_owned(),
            message: message.to_owned(),
            last_error: "it closed the connection".to_owned(),
            ..Node::default()
        };
        assert_eq!(node("").title(), "streaming. Last error: it closed the connection");
        assert_eq!(node("cut: it closed the connection").title(), "cut: it closed the connection");
        assert_eq!(node("").figures().len(), 4);
    }
}
