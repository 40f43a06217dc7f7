//! What a destination is to whoever runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use relation::{DataType, key};
use serde_json::Value as Json;

use crate::source::{Check, Failure, Settings, now_us};

use super::{Field, Mapping, Outcome, Portion, Seal};

/// A kind of destination: what connections of its `type:` are to who delivers.
#[async_trait]
pub trait DestinationKind: Send + Sync {
    /// The values of `type:` that mean it.
    fn types(&self) -> &'static [&'static str];

    /// Whether connections of a type are of this kind.
    fn is_of(&self, wanted: &str) -> bool {
        self.types().contains(&wanted)
    }

    /// The keys of `to:` beside `destination`.
    fn keys(&self) -> &'static [&'static str];

    /// What is wrong with a connection, without reaching for anybody. No secret is resolved.
    fn check_settings(&self, settings: &Settings) -> Result<(), Failure>;

    /// What is wrong with a sync, without reaching for anybody.
    fn check(&self, target: &Target) -> Vec<Problem>;

    /// What a sync needs of its connection's settings and does not find there, without reaching for anybody.
    fn lacks(&self, _: &Settings, _target: &Target) -> Vec<Problem> {
        Vec::new()
    }

    /// Where the rows of a sync go. None: that cannot be told without asking; then nobody is taken for a second one there.
    fn place(&self, _: &Settings, _to: &BTreeMap<String, Json>) -> Option<Place> {
        None
    }

    /// Whether the rows of a portion and its marker are there together or not at all, for what `to` says. Else rows of a portion that was
    /// cut off may be there without its marker.
    fn seals(&self, _to: &BTreeMap<String, Json>) -> bool {
        true
    }

    /// Rows that one portion may have: each costs what it costs, however many there are, and until it is there nothing newer of the sync is.
    fn rows_max(&self) -> usize {
        10_000
    }

    /// A destination of these settings, whose secrets are resolved here. It is not reached for yet. Errors also where
    /// [`DestinationKind::check`] finds a problem.
    async fn open(&self, settings: &Settings, target: Target) -> Result<Box<dyn Destination>, Failure>;

    /// Questions asked before it is used, about it and about these targets. Never fails, and changes nothing over there.
    async fn doctor(&self, settings: &Settings, targets: Vec<Target>) -> Vec<Check>;
}

/// Where one sync's rows go. It holds a connection of its own, and is used by one task.
///
/// A call that is dropped midway leaves it as a lost connection does: [`Destination::begin`] comes next.
#[async_trait]
pub trait Destination: Send {
    /// Connects, sees to the target (makes it, or the columns that lack, where the sync says `create: true`), takes it over from
    /// whoever delivered before, and reads the marker back. To be called first, and again after each [`Down`]. `rows` are there as
    /// far as the caller knows.
    async fn begin(&mut self, rows: u64) -> Result<Begun, Down>;

    /// Delivers a portion and what `seal` makes of its outcomes: one for each of its items, in their order. All of it is there when
    /// this returns. Databases write all of it in one transaction; others write the marker when the rows are there.
    async fn deliver(&mut self, portion: &Arc<Portion>, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down>;

    /// Whether the other side still has what it had, asked while there is nothing to deliver. Errors also where it has not:
    /// [`Destination::begin`] says then what that means.
    async fn look(&mut self) -> Result<(), Down> {
        Ok(())
    }

    /// Lets go of the other side.
    async fn close(self: Box<Self>);
}

/// Where the rows of a sync go, as far as it can be told without asking anybody: two syncs with the same one would write over each
/// other's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What holds it, over whichever connection: a database of a server.
    pub within: String,
    /// What it is, in one word.
    pub what: &'static str,
    /// Its name in there.
    pub name: String,
}

impl Place {
    /// Of a database. Hosts that are this machine itself are one.
    pub(crate) fn of_server(host: &str, port: u16, database: &str, what: &'static str, name: String) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_lowercase();
        let host = if matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1") { "localhost" } else { &host };
        Self { within: format!("{host}:{port}/{database}"), what, name }
    }

    /// A number for it, whatever holds it; never 0.
    pub fn number(&self) -> u64 {
        number_of(&format!("{}\0{}", self.what, self.name))
    }

    /// A number for what holds it; never 0.
    pub fn number_within(&self) -> u64 {
        number_of(&self.within)
    }
}

fn number_of(text: &str) -> u64 {
    let hash = key::hash128(text.as_bytes());
    hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1)
}

/// The schema and the name of the table in `to`; none where it is no name of one.
pub(crate) fn table_of(to: &BTreeMap<String, Json>) -> Option<(Option<&str>, &str)> {
    let text = to.get("table").and_then(Json::as_str)?;
    let (before, name) = text.split_once('.').map_or((None, text), |(before, name)| (Some(before), name));
    let is_bad = |part: &str| part.is_empty() || part.contains(['.', '\0']);
    (!is_bad(name) && !before.is_some_and(is_bad)).then_some((before, name))
}

/// What a sync delivers, and where to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The sync's name.
    pub sync: String,
    /// The keys of `to:` beside `destination`.
    pub to: BTreeMap<String, Json>,
    /// Which column goes where.
    pub mapping: Mapping,
    /// Whether deletes will be delivered.
    pub deletes: bool,
}

impl Target {
    /// A number for all that makes of a row what stands over there: where it goes, and under which names. With another one every row
    /// is to be sent again.
    pub fn identity(&self) -> u64 {
        let names: Vec<Json> = self.mapping.fields().iter().map(|field| Json::from(field.target.as_str())).collect();
        let to: Vec<Json> =
            self.to.iter().map(|(key, value)| Json::from(vec![Json::from(key.as_str()), value.clone()])).collect();
        let hash = key::hash128(Json::from(vec![Json::from(to), Json::from(names)]).to_string().as_bytes());
        hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A text of `to:`; none where it is absent or no text, which [`Target::problems`] tells.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.to.get(key).and_then(Json::as_str)
    }

    /// Whether a switch of `to:` is on.
    pub(crate) fn is_on(&self, key: &str) -> bool {
        self.to.get(key).and_then(Json::as_bool).unwrap_or(false)
    }

    /// The database or schema, and the name, of the table in `to`. Errors: there is none, or it is no name of one.
    pub(crate) fn table(&self) -> Result<(Option<&str>, &str), Problem> {
        let Some(text) = self.text("table") else {
            return Err(Problem::new(At::To("table".to_owned()), "`to` names no `table`"));
        };
        table_of(&self.to).ok_or_else(|| {
            let problem = Problem::new(At::To("table".to_owned()), format!("`{text}` is no name of a table"));
            problem.hint("Write `table`, or `schema.table`.")
        })
    }

    /// Columns of the key by which no database finds a row.
    pub(crate) fn unfit_keys(&self) -> Vec<Problem> {
        let is_unfit = |field: &&Field| {
            matches!(field.data_type, DataType::Json | DataType::Array(_)) || field.data_type.has_equal_forms()
        };
        let problem = |field: &Field| {
            let message = format!("rows cannot be found by `{}`, which is a {}", field.column, field.data_type);
            Problem::new(At::Match(field.target.clone()), message)
                .hint("Have the model identify its rows by numbers, texts or dates.")
        };
        self.mapping.key_fields().filter(is_unfit).map(problem).collect()
    }

    /// Keys of `to:` that nobody reads, and values that are not what they should be.
    pub(crate) fn problems(&self, texts: &[&str], switches: &[&str]) -> Vec<Problem> {
        self.problems_of(texts, switches, &[])
    }

    /// The same for a target with whole numbers in it.
    pub(crate) fn problems_of(&self, texts: &[&str], switches: &[&str], numbers: &[&str]) -> Vec<Problem> {
        let mut found = Vec::new();
        for (key, value) in &self.to {
            let (is_right, wanted) = match key.as_str() {
                key if texts.contains(&key) => (value.is_string(), "text"),
                key if switches.contains(&key) => (value.is_boolean(), "true or false"),
                key if numbers.contains(&key) => (value.is_i64() || value.is_u64(), "a whole number"),
                _ => {
                    let known: Vec<&str> = texts.iter().chain(switches).chain(numbers).copied().collect();
                    let problem = Problem::new(At::To(key.clone()), format!("unknown key `{key}` in `to`"));
                    found.push(problem.hint(format!("Known keys: destination, {}.", known.join(", "))));
                    continue;
                }
            };
            if !is_right {
                found.push(Problem::new(At::To(key.clone()), format!("`{key}` should be {wanted}")));
            }
        }
        found
    }
}

/// The part of a sync that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The sync as a whole.
    Sync,
    /// A key of `to`, or `to` itself where there is no such key.
    To(String),
    /// An entry of `fields`, by the target's name for it; `fields` or the sync where it is not written out.
    Field(String),
    /// An entry of `match`, by the target's name for it; `match` or the sync where it is not written out.
    Match(String),
}

/// What is wrong with a sync. The sync waits for its mending, and others do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: At,
    /// One line.
    pub message: String,
    /// A sentence, or empty.
    pub detail: String,
    /// The next move, or empty.
    pub hint: String,
}

impl Problem {
    pub(crate) fn new(at: At, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), detail: String::new(), hint: String::new() }
    }

    #[must_use]
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The same as a failure of a sync.
    pub(crate) fn failure(self) -> Failure {
        Failure { message: self.message, detail: self.detail, hint: self.hint }
    }
}

/// As `message`, `Detail: …`, `Hint: …`, a line each.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (label, part) in [("Detail", &self.detail), ("Hint", &self.hint)] {
            if !part.is_empty() {
                write!(f, "\n{label}: {part}")?;
            }
        }
        Ok(())
    }
}

/// All problems as the one failure of a sync; none where there are none.
pub(crate) fn failure_of(problems: Vec<Problem>) -> Option<Failure> {
    let mut problems = problems.into_iter();
    let first = problems.next()?;
    let others: Vec<String> = problems.map(|problem| problem.message).collect();
    let mut failure = first.failure();
    if !others.is_empty() {
        let gap = if failure.detail.is_empty() { "" } else { " " };
        failure.detail.push_str(&format!("{gap}Also: {}.", others.join("; ")));
    }
    Some(failure)
}

/// What a doctor says of one sync: that it can be delivered, `whereto` if there is more to say of it, or why not.
pub(crate) fn told_of(target: &Target, what: &'static str, whereto: &str, problem: Option<Failure>) -> Check {
    match problem {
        None => Check::ok(what, format!("sync \"{}\" can be delivered{whereto}", target.sync)),
        Some(failure) => {
            let message = format!("sync \"{}\": {}", target.sync, failure.message);
            Check::failed(what, message, failure.detail, failure.hint)
        }
    }
}

/// What the other side has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begun {
    /// What was written beside the last portion that it has of this sync ([`Seal`]), whoever has delivered it.
    pub marker: Option<Vec<u8>>,
    /// It has not what it had, for this reason (a clause): everything is to be sent again. There is no marker then, nor will there
    /// be one before a portion is delivered. Portions can be delivered without beginning once more.
    pub lost: Option<String>,
}

/// The other side takes nothing for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct Down {
    pub failure: Failure,
    /// It is of our own settings, or of the target as it is: trying again soon mends nothing, and may lock an account.
    pub is_ours: bool,
    /// Another instance has taken the sync over: whoever takes it back sends all rows.
    pub is_taken: bool,
}

impl Down {
    /// Somebody has to do something of which a failure tells.
    pub fn lasting(failure: Failure) -> Self {
        Self { failure, is_ours: true, is_taken: false }
    }

    /// It may be over at the next try.
    pub(crate) fn passing(message: impl Into<String>, detail: impl Into<String>) -> Self {
        let failure = Failure { message: message.into(), detail: detail.into(), hint: String::new() };
        Self { failure, is_ours: false, is_taken: false }
    }

    /// Somebody has to do something.
    pub(crate) fn ours(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::lasting(Failure { message: message.into(), detail: detail.into(), hint: hint.into() })
    }

    /// Beside the marker stands another token than this session's; or there is none any more, which nobody has taken over.
    pub(crate) fn of_session(found: Option<&str>, sync: &str) -> Self {
        if found.is_none() {
            return Self::not_as_left(&format!("the marker of the deliveries of sync \"{sync}\" is gone"));
        }
        let down = Self::passing(
            format!("the deliveries of sync \"{sync}\" were taken over"),
            "Another instance delivers under the same name.",
        );
        Self { is_taken: true, ..down }
    }

    /// What rows are delivered to is not as this session has left it.
    pub(crate) fn not_as_left(what: &str) -> Self {
        Self::passing(what, "What is there is looked at again, and all rows are sent where it has lost them.")
    }

    /// The columns of a table are not those that were held to the sync.
    pub(crate) fn altered(table: &str) -> Self {
        Self::passing(format!("the columns of table {table} were altered"), "They are held to the sync again.")
    }

    /// Names the table in a hint that does not know it.
    pub(crate) fn about_table(mut self, table: &str) -> Self {
        self.failure.hint = self.failure.hint.replace(SOME_TABLE, &format!(" ON {table} TO "));
        self
    }

    /// Every row is refused.
    pub(crate) fn all_refused(code: &str, reason: &str) -> Self {
        Self::ours(
            "every row is refused",
            format!("{reason} ({code})"),
            "It is no matter of single rows: change the target or the model.",
        )
    }
}

/// Stands in a hint for the table that a right is granted on.
pub(crate) const SOME_TABLE: &str = " ON … TO ";

/// What a destination has found beside its marker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) marker: Option<Vec<u8>>,
    /// The target is another one than that of the marker.
    pub(crate) is_another: bool,
    /// Nothing at all is in the target.
    pub(crate) is_empty: bool,
}

impl Found {
    /// What that means to who believes that so many rows are there.
    pub(crate) fn judge(self, rows: u64) -> Begun {
        let lost = |reason: &str| Begun { marker: None, lost: Some(reason.to_owned()) };
        match self.marker {
            Some(_) if self.is_another => lost("its table was made anew"),
            Some(_) if self.is_empty && rows > 0 => lost("its table is empty"),
            marker => Begun { marker, lost: None },
        }
    }
}

/// What a session leaves in a marker: no other one has it.
pub(crate) fn token() -> String {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    format!("{}/{}/{}", std::process::id(), now_us(), SESSIONS.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use relation::{Column, Schema};

    use super::*;

    #[test]
    fn what_was_marked_and_is_not_there_is_lost() {
        let marker = Some(vec![7]);
        let kept = Begun { marker: marker.clone(), lost: None };
        let found = |is_another, is_empty| Found { marker: marker.clone(), is_another, is_empty };
        assert_eq!(found(false, false).judge(3), kept);
        // Its rows have all gone by deletes.
        assert_eq!(found(false, true).judge(0), kept);
        assert_eq!(found(false, true).judge(3).lost.as_deref(), Some("its table is empty"));
        assert_eq!(found(true, false).judge(0).lost.as_deref(), Some("its table was made anew"));
        assert_eq!(Found { is_another: true, is_empty: true, marker: None }.judge(3), Begun::default());
        assert_ne!(token(), token());
    }

    #[test]
    fn one_place_is_one_however_it_is_written() {
        let place = |kind: &str, values: &[(&str, &str)], to: &[(&str, &str)]| {
            let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, Json> {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), Json::from(*value))).collect()
            };
            let values = pairs(values).into_iter().collect();
            let settings = Settings { connection: "c".to_owned(), kind: kind.to_owned(), values };
            super::super::kind_of(kind).and_then(|kind| kind.place(&settings, &pairs(to)))
        };
        let site = [("host", "Localhost"), ("user", "u"), ("database", "d")];
        let again = [("host", "127.0.0.1"), ("user", "v"), ("database", "d")];
        let t = place("postgres", &site, &[("table", "t")]).expect("a place");
        assert_eq!((t.within.as_str(), t.what, t.name.as_str()), ("localhost:5432/d", "table", "public.t"));
        assert_eq!(place("postgres", &again, &[("table", "public.t"), ("create", "x")]), Some(t.clone()));
        assert_ne!(place("postgres", &again, &[("table", "other.t")]), Some(t));
        assert_eq!(place("postgres", &site, &[("table", "a.b.c")]), None);
        let bare = place("mysql", &site, &[("table", "t")]).expect("a place");
        assert_eq!((bare.within.as_str(), bare.name.as_str()), ("localhost:3306/", "d.t"));
        assert_eq!(place("mariadb", &again, &[("table", "d.t")]), Some(bare));
        assert_eq!(place("mysql", &site[..2], &[("table", "t")]), None, "in no database");
        let cache = [("url", "redis://localhost:7000/1")];
        let keys = place("redis", &cache, &[("key", "user:{id}")]).expect("a place");
        assert_eq!((keys.within.as_str(), keys.name.as_str()), ("localhost:7000/1", "user:{}"));
        assert_eq!(place("redis", &cache, &[("key", "user:{user_id}"), ("as", "json")]), Some(keys));
        let member = place("redis", &cache, &[("key", "users"), ("member", "of:{id}")]).expect("a place");
        assert_eq!(member.name, "users of:{}");
        assert_ne!(member.number(), 0);
    }

    #[test]
    fn what_makes_a_row_another_one_over_there_makes_another_identity() {
        let of = |to: &[(&str, &str)], fields: &[(&str, &str)]| {
            let columns = vec![Column::new("id", DataType::Int64), Column::new("n", DataType::Int64)];
            let fields: Vec<(String, String)> =
                fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            let mapping = Mapping::of(&Schema::new(columns, vec![0]), &[], Some(&fields)).expect("a mapping");
            let to = to.iter().map(|(key, value)| ((*key).to_owned(), Json::from(*value))).collect();
            Target { sync: "s".to_owned(), to, mapping, deletes: true }.identity()
        };
        let first = of(&[("table", "t")], &[("n", "n")]);
        assert_eq!(first, of(&[("table", "t")], &[("n", "n")]));
        assert_ne!(first, of(&[("table", "u")], &[("n", "n")]));
        assert_ne!(first, of(&[("table", "t")], &[("m", "n")]));
        assert_ne!(first, of(&[("table", "t")], &[]));
    }
}
