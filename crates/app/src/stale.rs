//! Staleness spreads: what is known to be out of date, and all that stands on it.
//!
//! The law: nothing is shown as right that is not known to be. A table is stale while it is parked or loaded again, and while its
//! source is not read, is silent, or is further behind than [`BEHIND_US`]; a model or view is stale while any table below it is, however far
//! below. Each says why, and since when. A model over one that is *held* in an older text is not stale, but is not what the project
//! says either: it says so likewise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plan::TableName;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::reason::Reason;
use crate::source_status::SourceStatus;
use crate::status::{Facts, ModelStatus, Status, TableStatus, rows_of};

/// How often it is looked what the clock alone has made stale.
const LOOK: Duration = Duration::from_secs(1);

/// A source that is read and further behind than this is not up to date.
pub const BEHIND_US: i64 = 15_000_000;

/// What a table's message begins with that is loaded again.
pub const AGAIN: &str = "loaded again: ";

/// What is not as it should be of all that can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// Tables, models and views that are out of date.
    pub old: BTreeMap<TableName, Doubt>,
    /// Models and views that serve in an older text than the project has, or stand on such, and what is said of that.
    pub held: BTreeMap<TableName, Reason>,
}

impl Stale {
    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.old.is_empty() && self.held.is_empty()
    }

    /// What is said of an answer that was read from these: the message, and how old it is.
    pub fn told<'a>(&self, read: impl Iterator<Item = &'a TableName> + Clone, now_us: i64) -> Option<Told> {
        let old: Vec<_> = read.clone().filter_map(|name| Some((name.to_string(), self.old.get(name)?))).collect();
        if let Some(doubt) = Doubt::joined(old.iter().map(|(_, doubt)| *doubt)) {
            let names: Vec<String> = old.into_iter().map(|(name, _)| name).collect();
            let verb = if names.len() > 1 { "are" } else { "is" };
            let what = format!("{} {verb} out of date", names.join(", "));
            let age_us = doubt.age_us(now_us);
            return Some(Told { what, why: doubt.reason.clone(), age: Some(doubt.aged(now_us)), age_us });
        }
        let held: Vec<_> = read.filter_map(|name| Some((name.to_string(), self.held.get(name)?))).collect();
        let (_, why) = held.first()?;
        let names: Vec<&str> = held.iter().map(|(name, _)| name.as_str()).collect();
        let what = format!("{}: not as the project says", names.join(", "));
        Some(Told { what, why: (*why).clone(), age: None, age_us: None })
    }
}

/// What is said beside an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub what: String,
    /// It may name what whoever asks does not read.
    pub why: Reason,
    /// A sentence about how old it is; none where it is not old, but of an older text.
    pub age: Option<String>,
    /// The same in microseconds, where that is known.
    pub age_us: Option<i64>,
}

/// Why what is shown of a table, or of a model over it, may not be what the source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubt {
    /// With the table's name, or the source's.
    pub reason: Reason,
    /// Since when that is known; none where it is not.
    pub since_us: Option<i64>,
    /// Whether the table is of another moment than other tables of its source.
    pub mixes: bool,
}

impl Doubt {
    /// The doubt about a table; none where it is followed and whole.
    fn of_table(name: &TableName, table: &TableStatus) -> Option<Self> {
        let state = match table.state.as_str() {
            "parked" => "parked",
            "resnapshot" => "loaded again",
            "altered" => "loaded anew",
            _ => return None,
        };
        let mut reason = table.message.clone();
        if let Some(said) = reason.message.strip_prefix(AGAIN) {
            reason.message = said.to_owned();
        }
        let reason = reason.behind(&format!("table {name} is {state}: "));
        Some(Self { reason, since_us: table.doubted_since_us, mixes: true })
    }

    /// All of these as one: as old as the oldest, and of no known age where one is.
    pub fn joined<'a>(doubts: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut doubts: Vec<&Self> = doubts.collect();
        // A table's own trouble is told before what it has in common with others.
        doubts.sort_by_key(|doubt| !doubt.mixes);
        let since_us = doubts.iter().map(|doubt| doubt.since_us).reduce(|one, other| Some(one?.min(other?)))?;
        let mixes = doubts.iter().any(|doubt| doubt.mixes);
        let mut reasons: Vec<&Reason> = Vec::new();
        for doubt in &doubts {
            // Tables of one source have one reason, some beside one of their own.
            if !reasons.iter().any(|told| told.message.contains(doubt.reason.message.as_str())) {
                reasons.push(&doubt.reason);
            }
        }
        Some(Self { reason: Reason::joined(reasons.into_iter().cloned()), since_us, mixes })
    }

    /// How old what is shown is at least; none where that is not known.
    pub fn age_us(&self, now_us: i64) -> Option<i64> {
        self.since_us.map(|since| (now_us - since).max(0))
    }

    /// The same for people.
    pub fn aged(&self, now_us: i64) -> String {
        self.age_us(now_us).map_or_else(
            || "For how long is not known.".to_owned(),
            |age| format!("What there is was true {} s ago.", age / 1_000_000),
        )
    }
}

impl ModelStatus {
    /// Its state in the words of `tidemill.models`: one that serves may be `mixed` (its tables are of different moments), `stale` (all of
    /// them are old) or `held` (it, or what it reads, serves in an older text than the project has).
    pub fn word(&self) -> &str {
        match &self.doubt {
            _ if self.state != "live" => &self.state,
            Some(doubt) if doubt.mixes => "mixed",
            Some(_) => "stale",
            None if self.held.is_some() || self.over_held.is_some() => "held",
            None => "live",
        }
    }

    /// What is said of it: why it is not `live`, and what it lacks.
    pub fn told(&self) -> Reason {
        if self.state != "live" {
            return self.message.clone();
        }
        let lacks = (self.rejects > 0).then(|| {
            format!("lacks {} on which an expression failed: tidemill.rejects has them", rows_of(self.rejects))
        });
        let doubt = self.doubt.as_ref().map(|doubt| doubt.reason.clone());
        let parts = [doubt, self.held.clone(), self.over_held.clone(), lacks.map(Reason::from)];
        Reason::joined(parts.into_iter().flatten())
    }

    /// How old what it shows is: since the newest transaction in it, or since the doubt about a table below it. None where that
    /// is not known.
    pub fn age_us(&self, now_us: i64) -> Option<i64> {
        let of_commit = self.last_commit_us.map(|commit| (now_us - commit).max(0));
        match &self.doubt {
            None => of_commit,
            Some(doubt) => Some(doubt.age_us(now_us)?.max(of_commit.unwrap_or(0))),
        }
    }

    /// Since when it is stale, where it is and that is known.
    pub fn stale_since_us(&self) -> Option<i64> {
        self.doubt.as_ref()?.since_us
    }
}

impl Facts {
    /// The doubt about each table that is stale.
    pub fn stale_tables(&self, now_us: i64) -> BTreeMap<TableName, Doubt> {
        let of_sources: BTreeMap<&str, Doubt> =
            self.sources.keys().filter_map(|source| Some((source.as_str(), self.unread(source, now_us)?))).collect();
        let of_table = |(name, table): (&TableName, &TableStatus)| {
            let own = Doubt::of_table(name, table);
            let all = own.iter().chain(of_sources.get(table.source.as_str()));
            Some((name.clone(), Doubt::joined(all)?))
        };
        self.tables.iter().filter_map(of_table).collect()
    }

    /// Works out which models and views are stale, or stand on what is held. Answers all of that, tables among it.
    pub fn spread(&mut self, now_us: i64) -> Stale {
        let mut stale = self.stale_tables(now_us);
        let mut held = BTreeMap::new();
        let mut over_held = self.over_held();
        let Self { models, views, tables_of, .. } = self;
        let mut above = Vec::new();
        for (name, status) in models.iter_mut().chain(views) {
            status.over_held = over_held.remove(name);
            let below = tables_of.get(name).into_iter().flatten();
            status.doubt = match stale.is_empty() {
                true => None,
                false => Doubt::joined(below.filter_map(|table| stale.get(table))),
            };
            above.extend(status.doubt.clone().map(|doubt| (name.clone(), doubt)));
            let why = status.held.clone().or_else(|| status.over_held.clone());
            held.extend(why.map(|why| (name.clone(), why)));
        }
        stale.extend(above);
        self.note_ready();
        Stale { old: stale, held }
    }

    /// Queries are answered from when something is there to be answered: what was loaded before serves from the start, and otherwise
    /// all that can be loaded comes first. What cannot stops itself alone; what is old is answered with its age.
    fn note_ready(&mut self) {
        let is_empty = !self.tables.values().any(|table| table.was_whole);
        if self.ready || !self.started || (is_empty && !self.tables.is_empty()) {
            return;
        }
        let is_read = |table: &TableStatus| self.sources.get(&table.source).is_some_and(SourceStatus::is_read);
        let is_loading = |table: &TableStatus| table.state == "snapshot";
        let loads = self.tables.values().any(|table| is_loading(table) && is_read(table));
        let builds = self.models.iter().any(|(name, model)| {
            let mut below = self.tables_of.get(name).into_iter().flatten().filter_map(|table| self.tables.get(table));
            model.state == "building" && !below.any(is_loading)
        });
        self.ready = self.was_loaded || (!loads && !builds);
    }

    /// Models and views that stand on others which are held in older texts, and what is said of that.
    fn over_held(&self) -> BTreeMap<TableName, Reason> {
        let mut found: BTreeMap<TableName, Reason> = BTreeMap::new();
        let held = self.models.iter().chain(&self.views).filter(|(_, status)| status.held.is_some());
        let held: Vec<&TableName> = held.map(|(name, _)| name).collect();
        for name in held {
            let mut open = vec![name];
            while let Some(below) = open.pop() {
                for (_, reader) in self.lineage.iter().filter(|(upstream, _)| upstream == below) {
                    if !found.contains_key(reader) && reader != name {
                        let told = format!("model {name} below it serves in an older text");
                        found.insert(reader.clone(), Reason::from(told));
                        open.push(reader);
                    }
                }
            }
        }
        found
    }

    /// Why nothing of a source is read or taken, or it is far behind, and since when all of it was visible; none where it is up to date.
    pub fn unread(&self, name: &str, now_us: i64) -> Option<Doubt> {
        let source = self.sources.get(name)?;
        let is_behind = source.is_behind(now_us);
        let is_taken = source.is_read() && self.waits_since_us.is_none() && !is_behind;
        let since_us = match source.is_read() {
            true if is_behind => self.complete_us(source),
            true => source.untaken_us.or(self.waits_since_us),
            false => self.complete_us(source),
        };
        let (state, message) = self.source_state(source, now_us);
        let state = if matches!(state, "snapshot" | "streaming") { "behind" } else { state };
        let colon = if message.message.is_empty() { "" } else { ": " };
        let reason = message.behind(&format!("source {name} is {state}{colon}"));
        (!is_taken).then_some(Doubt { reason, since_us, mixes: false })
    }

    /// The state of a source and what is said of it. While the disk is full, nothing is taken of any.
    pub fn source_state<'a>(&'a self, source: &'a SourceStatus, now_us: i64) -> (&'a str, Reason) {
        let mut parts = Vec::new();
        let state = match source.state.as_str() {
            // Whoever has stopped it knows why.
            "paused" | "stopped" => source.state.as_str(),
            _ if self.waits_since_us.is_some() => "stalled",
            // A try is no success.
            "connecting" if source.stalled_since_us.is_some() => "stalled",
            "streaming" if source.is_behind(now_us) => "behind",
            state => state,
        };
        if self.waits_since_us.is_some() {
            parts.push(Reason::from(format!("waiting for room on the disk: {}", self.waits)));
        }
        parts.extend(source.said(now_us));
        if source.is_read() && source.is_behind(now_us) {
            parts.push(Reason::from(source.told_behind(now_us)));
        }
        parts.extend(source.backlog.clone().map(Reason::from));
        (state, Reason::joined(parts))
    }

    /// The state of a table and what is said of it. One whose source is not read is as that is.
    pub fn table_state<'a>(&'a self, table: &'a TableStatus, now_us: i64) -> (&'a str, Reason) {
        let mut parts = vec![table.message.clone()];
        let Some(source) = self.sources.get(&table.source) else {
            return (table.state.as_str(), Reason::joined(parts));
        };
        let mut state = table.state.as_str();
        // Of one that its source could not be asked for, that is said already.
        if let Some(unread) = self.unread(&table.source, now_us).filter(|_| !table.is_unasked) {
            parts.push(unread.reason);
            if state == "streaming" {
                state = match self.source_state(source, now_us).0 {
                    // Others of its source are loaded; what is there of this one is behind.
                    "snapshot" | "streaming" => "behind",
                    state => state,
                };
            }
        }
        parts.extend(table.backlog.clone().map(Reason::from));
        (state, Reason::joined(parts))
    }
}

/// Works out what is stale by the clock, also while the pump is busy, until stopped.
pub async fn keep(status: Arc<Status>, clock: Arc<dyn Clock>, mut stopped: watch::Receiver<bool>) {
    while tokio::time::timeout(LOOK, stopped.wait_for(|stop| *stop)).await.is_err() {
        status.spread(clock.now_us());
    }
}

/// A moment as people read it beside what lasts since then.
pub fn since(us: i64, now_us: i64) -> String {
    const DAY: i64 = 86_400;
    let second = us.div_euclid(1_000_000);
    let days = now_us.div_euclid(1_000_000).saturating_sub(second) / DAY;
    let of_day = second.rem_euclid(DAY);
    let time = format!("{:02}:{:02}:{:02} UTC", of_day / 3_600, of_day / 60 % 60, of_day % 60);
    match days {
        0 => format!("since {time}"),
        1 => format!("since {time}, a day ago"),
        days => format!("since {time}, {days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A source with two tables, a model over one of them, a view over that model, and a model over the other table.
    fn shop() -> Facts {
        let mut facts = Facts { started: true, ..Facts::default() };
        let shop = facts.sources.entry("shop".to_owned()).or_default();
        shop.go_to("streaming", String::new(), 0);
        shop.note_end(10 * SECOND, "end".to_owned());
        shop.note_reached();
        for name in ["orders", "items"] {
            let table = facts.tables.entry(TableName::new("shop", name)).or_default();
            (table.source, table.state) = ("shop".to_owned(), "streaming".to_owned());
        }
        let of = |name: &str| TableName::new("public", name);
        let table = |name: &str| TableName::new("shop", name);
        for (name, upstream, below) in [
            ("trade", table("orders"), "orders"),
            ("today", of("trade"), "orders"),
            ("baskets", table("items"), "items"),
        ] {
            let models = if name == "today" { &mut facts.views } else { &mut facts.models };
            models.entry(of(name)).or_default().state = "live".to_owned();
            facts.lineage.push((upstream, of(name)));
            facts.tables_of.insert(of(name), BTreeSet::from([table(below)]));
        }
        facts
    }

    fn words(facts: &mut Facts, now_us: i64) -> Vec<String> {
        facts.spread(now_us);
        let all = facts.models.iter().chain(&facts.views);
        all.map(|(name, status)| {
            format!("{} {} {}", name.name, status.word(), status.told().line()).trim_end().to_owned()
        })
        .collect()
    }

    #[test]
    fn what_is_read_is_live() {
        assert_eq!(words(&mut shop(), 11 * SECOND), ["baskets live", "trade live", "today live"]);
    }

    /// Its tables are of one time still: what stands on them is stale, says why, and is as old as what it shows.
    #[test]
    fn what_stands_on_a_source_that_is_not_read_is_stale() {
        for (state, message) in [("stalled", "cut"), ("paused", ""), ("connecting", "")] {
            let mut facts = shop();
            facts.sources.get_mut("shop").unwrap().go_to(state, message.to_owned(), 12 * SECOND);
            let told = words(&mut facts, 70 * SECOND);
            assert!(told.iter().all(|line| line.contains(&format!(" stale source shop is {state}"))), "{told:?}");
            assert_eq!(facts.models[&TableName::new("public", "trade")].age_us(70 * SECOND), Some(60 * SECOND));
            assert_eq!(facts.views[&TableName::new("public", "today")].stale_since_us(), Some(10 * SECOND));
        }
    }

    /// Nobody says that it is cut off: only time tells.
    #[test]
    fn a_source_that_is_silent_is_behind_by_the_clock() {
        let mut facts = shop();
        assert_eq!(words(&mut facts, 24 * SECOND)[1], "trade live");
        let told =
            "source shop is behind: 16 s behind: nothing has come, and where its log ends is not known to be reached";
        assert_eq!(words(&mut facts, 26 * SECOND)[1], format!("trade stale {told}"));
        assert_eq!(facts.source_state(&facts.sources["shop"], 26 * SECOND).0, "behind");
        assert_eq!(facts.table_state(&facts.tables[&TableName::new("shop", "items")], 26 * SECOND).0, "behind");
    }

    #[test]
    fn a_table_that_is_parked_makes_what_stands_on_it_mixed_and_nothing_else() {
        let mut facts = shop();
        let orders = facts.tables.get_mut(&TableName::new("shop", "orders")).unwrap();
        (orders.state, orders.message) = ("parked".to_owned(), Reason::of("gone"));
        let told = "mixed table shop.orders is parked: gone";
        assert_eq!(
            words(&mut facts, 11 * SECOND),
            ["baskets live", &format!("trade {told}"), &format!("today {told}")]
        );
        assert_eq!(
            facts.models[&TableName::new("public", "trade")].age_us(11 * SECOND),
            None,
            "since when is not known"
        );
        // Both at once: its own trouble first.
        facts.sources.get_mut("shop").unwrap().go_to("paused", String::new(), 12 * SECOND);
        assert_eq!(words(&mut facts, 13 * SECOND)[1], format!("trade {told}; source shop is paused"));
    }

    #[test]
    fn what_stands_on_a_model_that_is_held_says_so() {
        let mut facts = shop();
        facts.models.get_mut(&TableName::new("public", "trade")).unwrap().held = Some(Reason::of("as before"));
        let above = "today held model public.trade below it serves in an older text";
        assert_eq!(words(&mut facts, 11 * SECOND), ["baskets live", "trade held as before", above]);
        let stale = facts.spread(11 * SECOND);
        assert_eq!(stale.old, BTreeMap::new(), "it is not out of date");
        let today = [TableName::new("public", "today")];
        let told = stale.told(today.iter(), 11 * SECOND).unwrap();
        assert_eq!(told.what, "public.today: not as the project says");
        assert_eq!(stale.told([TableName::new("public", "baskets")].iter(), 0), None);
    }

    #[test]
    fn moments_are_told_with_the_day_where_it_is_another() {
        let noon = 12 * 3_600 * SECOND + 3 * 60 * SECOND + 10 * SECOND;
        assert_eq!(since(noon, noon + 59 * SECOND), "since 12:03:10 UTC");
        assert_eq!(since(noon, noon + 3 * 86_400 * SECOND), "since 12:03:10 UTC, 3 days ago");
    }
}
