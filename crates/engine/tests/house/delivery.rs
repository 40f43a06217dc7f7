//! What a house delivers, and the other side of it: a table in memory that keeps rows and the marker of the last portion in one
//! transaction, as a database does. Its laws are asked after each portion, and at the end it has what the relation has.
//!
//! ```text
//! outbox NAME RELATION [column …]   is set up, with all columns where none is named
//! outbox NAME RELATION mapping=N    the same, with other words for them at the other side      bound=BYTES   of marks
//!                                   place=N   elsewhere at the other side: another table, which is empty
//!                                   within=N  the other side has another name      elsewhere=N   another one has, which is empty
//! deliver NAME [rows=N]             whatever there is, in portions of so many items: answers with `+ row` and `- key`
//! portion NAME [rows=N] [FATE]      one portion: done, or one of
//!     unanswered      it is there, with its marker, and nobody heard of it
//!     unmarked        it is there without a marker, and nobody heard of it
//!     unsent          it never came there
//!     unknown         it is there, and that is not known
//!     later           it is not there, and is to come later
//!     half            the first half is there, the rest is to come later
//!     refuse=KEY      the row of this key is refused
//! tell NAME WORD                    pause, resume, refill, lost (it has nothing any more), retry, detach, retire;
//!                                   allow=N: from here on it is paused before more than N rows go at once
//!                                   sealed: it has a portion with its marker or not at all      has=KEY: a row of somebody else is there
//!                                   ahead: while a portion is on its way the next one is read, and handed out when that is settled;
//!                                   ahead=late: it is read from what is there when that one has long been settled
//!                                   calm: what a person is asked for has not become less for long
//! target NAME                       what is there          delivered NAME     how the outbox is getting on
//! refused NAME                      what was refused        leaving NAME     of how many rows how many are to go
//! ```

use std::collections::{BTreeMap, BTreeSet};

use engine::Input;
use engine::outbox::{Definition, Leaving, Limits, Lookahead, Outcome, Portion, Read, Reader, Resumed, Told};
use plan::TableName;
use relation::{TableId, Value};
use store::{Catalog, Kind};

use super::{House, SCHEMA, text};

/// What becomes of a portion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    Unanswered,
    Unmarked,
    Unsent,
    Unknown,
    Later,
    Half,
    Refuse(String),
}

impl Fate {
    /// The words of a case file; none where there is none of these.
    pub(crate) fn of(word: &str) -> Result<Self, String> {
        Ok(match word {
            "done" => Self::Done,
            "unanswered" => Self::Unanswered,
            "unmarked" => Self::Unmarked,
            "unsent" => Self::Unsent,
            "unknown" => Self::Unknown,
            "later" => Self::Later,
            "half" => Self::Half,
            word => Self::Refuse(word.strip_prefix("refuse=").ok_or_else(|| format!("no fate: {word}"))?.to_owned()),
        })
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Unanswered => "unanswered".to_owned(),
            Self::Unmarked => "unmarked".to_owned(),
            Self::Unsent => "unsent".to_owned(),
            Self::Unknown => "unknown".to_owned(),
            Self::Later => "later".to_owned(),
            Self::Half => "half".to_owned(),
            Self::Refuse(key) => format!("refuse={key}"),
        }
    }
}

/// An outbox with its other side.
pub(crate) struct Delivery {
    definition: Definition,
    reader: Option<Reader>,
    /// Rows by their keys, as text.
    pub(crate) target: BTreeMap<String, String>,
    pub(crate) marker: Option<Vec<u8>>,
    /// Whether the reader has compared the marker since it was made.
    is_resumed: bool,
    /// Versions whose acknowledgement is durable: key and step of the change.
    acknowledged: BTreeSet<(String, u64)>,
    /// Keys of rows that a walk need not send again, with the row and its types: of another type it is another row.
    settled: BTreeMap<String, String>,
    /// It was filled by somebody else.
    pub(crate) is_foreign: bool,
    /// Rows that may go at once; none: all.
    allowed: Option<u64>,
    /// It has a portion as a whole, with its marker, or nothing of it.
    is_sealed: bool,
    /// Whether portions are read ahead, and what was.
    reads_ahead: bool,
    ahead: Option<Portion>,
    /// It is read ahead late: what does.
    is_late: bool,
    late: Option<Lookahead>,
    /// What is held has not become less for long.
    is_calm: bool,
    guard: Oracle,
    /// It is wanted no more.
    is_retired: bool,
}

/// What the other side itself tells of rows that go: never more than may, but for those that a person has let go.
#[derive(Default)]
struct Oracle {
    /// Rows that were to go when a person was asked, and those that were let go and have not gone.
    asked: u64,
    let_go: u64,
    /// By this state an outbox is known that knows of what it has delivered; another one begins from nothing.
    pending: Option<TableId>,
    /// Keys of rows that are nobody's: somebody else's, and those of an outbox that has begun from nothing.
    others: BTreeSet<String>,
}

/// A place of an outbox's own.
fn place_of(name: &str) -> u64 {
    name.bytes().fold(1, |number, byte| number << 8 | u64::from(byte))
}

/// What a row of somebody else ends with.
const THEIRS: &str = " of somebody else";

/// Portions after which it is taken for one that never ends.
const PORTIONS_MAX: usize = 10_000;

impl House {
    /// Sets up an outbox, new or known.
    pub(crate) fn attach(&mut self, definition: Definition) -> Result<(), String> {
        self.begun()?;
        self.life += 1;
        let life = self.life;
        self.engine().attach_outboxes(vec![definition.clone()], life).map_err(|e| e.to_string())?;
        let snapshot = self.engine().store().snapshot();
        let all = self.engine().outboxes().status(&snapshot).map_err(|e| e.to_string())?;
        // A retired one is forgotten when another one delivers at its place.
        self.deliveries.retain(|name, of| !of.is_retired || all.iter().any(|status| status.name == *name));
        match self.deliveries.get_mut(&definition.name) {
            Some(delivery) => {
                if delivery.definition != definition {
                    delivery.settled.clear();
                }
                if delivery.definition.place != definition.place {
                    delivery.target.clear();
                    (delivery.marker, delivery.is_resumed) = (None, false);
                }
                delivery.is_resumed &= delivery.definition.within == definition.within;
                (delivery.definition, delivery.is_retired) = (definition, false);
            }
            None => {
                let delivery = Delivery {
                    definition: definition.clone(),
                    reader: None,
                    target: BTreeMap::new(),
                    marker: None,
                    is_resumed: false,
                    acknowledged: BTreeSet::new(),
                    settled: BTreeMap::new(),
                    is_foreign: false,
                    allowed: None,
                    is_sealed: false,
                    reads_ahead: false,
                    ahead: None,
                    is_late: false,
                    late: None,
                    is_calm: false,
                    guard: Oracle::default(),
                    is_retired: false,
                };
                self.deliveries.insert(definition.name.clone(), delivery);
            }
        }
        Ok(())
    }

    /// Attaches the outboxes of a house that was opened again, as an instance does.
    pub(crate) fn attach_again(&mut self) -> Result<(), String> {
        let wanted = self.deliveries.values().filter(|of| !of.is_retired);
        let definitions: Vec<Definition> = wanted.map(|of| of.definition.clone()).collect();
        self.drop_readers();
        if definitions.is_empty() {
            return Ok(());
        }
        let life = self.life;
        self.engine().attach_outboxes(definitions, life).map_err(|e| e.to_string())
    }

    /// The definition that a line of a story says.
    pub(crate) fn definition(name: &str, words: &[String]) -> Result<Definition, String> {
        let (relation, rest) = words.split_first().ok_or("an outbox names its relation")?;
        let mut definition = Definition {
            name: name.to_owned(),
            relation: TableName::new(SCHEMA, relation.as_str()),
            columns: Vec::new(),
            mapping: 0,
            place: place_of(name),
            within: 1,
            pending_bytes_max: Definition::PENDING_BYTES_MAX,
        };
        for word in rest {
            match word.split_once('=') {
                Some(("mapping", number)) => definition.mapping = number.parse().map_err(|_| "mapping is a number")?,
                Some(("within" | "elsewhere", number)) => {
                    definition.within = number.parse().map_err(|_| "what holds it is a number")?
                }
                Some(("place", number)) => definition.place = number.parse().map_err(|_| "place is a number")?,
                Some(("bound", bytes)) => {
                    definition.pending_bytes_max = bytes.parse().map_err(|_| "bound is a number")?
                }
                _ => definition.columns.push(word.clone()),
            }
        }
        Ok(definition)
    }

    /// Sets up the outbox that a line of a story says.
    pub(crate) fn attach_words(&mut self, name: &str, words: &[String]) -> Result<(), String> {
        self.begun()?;
        let mut definition = Self::definition(name, words)?;
        if definition.columns.is_empty() {
            definition.columns = self.columns_of(&definition.relation);
        }
        self.attach(definition)?;
        if words.iter().any(|word| word.starts_with("elsewhere=")) {
            let delivery = self.delivery(name)?;
            delivery.target.clear();
            delivery.settled.clear();
            delivery.acknowledged.clear();
            delivery.marker = None;
        }
        Ok(())
    }

    /// The columns of what serves under a name.
    fn columns_of(&mut self, name: &TableName) -> Vec<String> {
        let engine = self.engine();
        let model = engine.models().into_iter().find(|model| model.name == *name).map(|model| model.schema.clone());
        let table = engine.tables().find(|table| table.name == *name).map(|table| table.id);
        let schema = model.or_else(|| table.and_then(|id| engine.relation(id).map(|stored| stored.schema.clone())));
        schema.map(|schema| schema.columns.into_iter().map(|column| column.name).collect()).unwrap_or_default()
    }

    /// What a person says to an outbox.
    pub(crate) fn tell(&mut self, name: &str, word: &str) -> Result<(), String> {
        self.begun()?;
        let told = match word {
            "pause" => {
                self.delivery(name)?.guard.asked = 0;
                Told::Pause { reason: "by hand".to_owned(), asked: None }
            }
            "resume" => {
                let guard = &mut self.delivery(name)?.guard;
                guard.let_go = guard.let_go.max(std::mem::take(&mut guard.asked));
                Told::Resume
            }
            "sealed" => {
                let delivery = self.delivery(name)?;
                (delivery.is_sealed, delivery.reader, delivery.is_resumed) = (true, None, false);
                return Ok(());
            }
            "ahead" | "ahead=late" => {
                let delivery = self.delivery(name)?;
                (delivery.reads_ahead, delivery.is_late) = (true, word == "ahead=late");
                return Ok(());
            }
            "calm" => {
                let delivery = self.delivery(name)?;
                delivery.is_calm = true;
                // What was counted by the reader is counted once more.
                (delivery.reader, delivery.is_resumed) = (None, false);
                return Ok(());
            }
            "refill" => Told::Refill { lost: false },
            "retry" => Told::Retry,
            "lost" => {
                let delivery = self.delivery(name)?;
                delivery.target.clear();
                (delivery.marker, delivery.is_resumed) = (None, false);
                delivery.settled.clear();
                return Ok(());
            }
            "retire" => {
                if !self.engine().retire_outbox(name).map_err(|e| e.to_string())? {
                    return Err(format!("no outbox {name}"));
                }
                match self.engine().outboxes().leaving(&self.engine().store().snapshot(), name) {
                    Ok(None) => {}
                    other => return Err(format!("a retired outbox has rows to go: {other:?}")),
                }
                let delivery = self.delivery(name)?;
                (delivery.reader, delivery.is_resumed, delivery.is_retired) = (None, false, true);
                let place = |of: &Delivery| (of.definition.within, of.definition.place);
                let own = place(delivery);
                let mut others = self.deliveries.iter().filter(|(other, of)| other.as_str() != name && !of.is_retired);
                let is_taken = others.any(|(_, of)| place(of) == own);
                let snapshot = self.engine().store().snapshot();
                let all = self.engine().outboxes().status(&snapshot).map_err(|e| e.to_string())?;
                if !all.iter().any(|status| status.name == name) {
                    // It has delivered nothing, or another one delivers at its place.
                    let target = self.deliveries.remove(name).map(|of| of.target).unwrap_or_default();
                    return if is_taken || target.is_empty() {
                        Ok(())
                    } else {
                        Err(format!("{name} is forgotten: {target:?}"))
                    };
                }
                return Ok(());
            }
            "detach" => {
                self.engine().detach_outbox(name).map_err(|e| e.to_string())?;
                self.deliveries.remove(name);
                return Ok(());
            }
            other if other.starts_with("has=") => {
                let key = other.trim_start_matches("has=");
                let delivery = self.delivery(name)?;
                delivery.target.insert(key.to_owned(), format!("{key}{THEIRS}"));
                delivery.guard.others.insert(key.to_owned());
                return Ok(());
            }
            other => {
                let rows = other.strip_prefix("allow=").and_then(|rows| rows.parse().ok());
                let delivery = self.delivery(name)?;
                delivery.allowed = Some(rows.ok_or_else(|| format!("an outbox is not told to {other}"))?);
                return Ok(());
            }
        };
        self.take(vec![Input::Outbox { name: name.to_owned(), told }]).map(|_| ())
    }

    pub(crate) fn delivery(&mut self, name: &str) -> Result<&mut Delivery, String> {
        self.deliveries.get_mut(name).ok_or_else(|| format!("no outbox {name}"))
    }

    /// Readers end with the process that they are of.
    pub(crate) fn drop_readers(&mut self) {
        for delivery in self.deliveries.values_mut() {
            (delivery.reader, delivery.is_resumed) = (None, false);
        }
    }

    /// The reader, which has compared what the other side has.
    fn reader(&mut self, name: &str) -> Result<Reader, String> {
        let delivery = self.deliveries.get_mut(name).ok_or_else(|| format!("no outbox {name}"))?;
        let reader = delivery.reader.take();
        let mut reader = match reader {
            Some(reader) => reader,
            None => {
                let reader = self.engine().outbox_reader(name).ok_or_else(|| format!("no reader of {name}"))?;
                if self.delivery(name)?.is_sealed { reader.sealed() } else { reader }
            }
        };
        while !self.delivery(name)?.is_resumed {
            let snapshot = self.engine().store().snapshot();
            let marker = self.delivery(name)?.marker.clone();
            match reader.resume(&snapshot, marker.as_deref()).map_err(|e| e.to_string())? {
                Resumed::Clean => {}
                Resumed::Foreign => self.delivery(name)?.is_foreign = true,
                Resumed::Applied(input) => self.take(vec![input]).map(|_| ())?,
                Resumed::Moved => {
                    self.engine().outbox_is_there(name).map_err(|e| e.to_string())?;
                    continue;
                }
                Resumed::Elsewhere => {
                    self.engine().outbox_is_elsewhere(name).map_err(|e| e.to_string())?;
                    continue;
                }
                Resumed::Lost => {
                    let told = Told::Refill { lost: true };
                    let delivery = self.delivery(name)?;
                    delivery.acknowledged.clear();
                    delivery.settled.clear();
                    self.take(vec![Input::Outbox { name: name.to_owned(), told }])?;
                }
            }
            self.delivery(name)?.is_resumed = true;
        }
        Ok(reader)
    }

    /// Delivers whatever there is, and answers with it in its order.
    pub(crate) fn deliver(&mut self, name: &str, rows: usize) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for _ in 0..PORTIONS_MAX {
            let (more, is_over) = self.one(name, rows, &Fate::Done)?;
            lines.extend(more);
            if is_over {
                return Ok(lines);
            }
        }
        Err(format!("{name} is never through"))
    }

    /// One portion with a fate.
    pub(crate) fn portion(&mut self, name: &str, rows: usize, fate: &Fate) -> Result<Vec<String>, String> {
        Ok(self.one(name, rows, fate)?.0)
    }

    /// Reads until there is a portion, and what there is instead; whether there is nothing to do now.
    fn one(&mut self, name: &str, rows: usize, fate: &Fate) -> Result<(Vec<String>, bool), String> {
        self.begun()?;
        for _ in 0..PORTIONS_MAX {
            let mut reader = self.reader(name)?;
            let snapshot = self.engine().store().snapshot();
            let limits = Limits { rows, looked_at: 3 * rows, ..Limits::default() };
            let allowed = self.delivery(name)?.allowed.unwrap_or(u64::MAX);
            if let Some(late) = self.delivery(name)?.late.take() {
                self.delivery(name)?.ahead = late.read(&snapshot, limits).map_err(|e| e.to_string())?;
            }
            let ahead = self.delivery(name)?.ahead.take().filter(|ahead| reader.lets_go(ahead, &|_| allowed));
            let ahead = ahead.map(|ahead| reader.hand_out(&snapshot, ahead)).transpose().map_err(|e| e.to_string())?;
            let ahead = ahead.flatten();
            let is_ahead = ahead.is_some();
            let read = match ahead {
                Some(ahead) => Read::Portion(ahead),
                None => reader.read(&snapshot, limits).map_err(|e| e.to_string())?,
            };
            let ended = match read {
                Read::Portion(portion) => {
                    let held = match is_ahead {
                        true => None,
                        false => reader.too_many(&snapshot, &portion, &|_| allowed).map_err(|e| e.to_string())?,
                    };
                    if let Some(leaving) = held {
                        let told = leaving.pause(asks(&leaving));
                        let asked = self.really_leaving(name)?;
                        self.delivery(name)?.guard.asked = asked;
                        self.delivery(name)?.reader = Some(reader);
                        self.take(vec![Input::Outbox { name: name.to_owned(), told }])?;
                        continue;
                    }
                    self.check_guard(name, &portion, fate)?;
                    let lookahead = reader.lookahead(&portion).filter(|_| self.deliveries[name].reads_ahead);
                    // It is kept whatever becomes of the portion before it: whether it is worth something is found out when it is taken.
                    if self.delivery(name)?.is_late {
                        self.delivery(name)?.late = lookahead;
                    } else {
                        let ahead = lookahead.map(|ahead| ahead.read(&snapshot, limits)).transpose();
                        self.delivery(name)?.ahead = ahead.map_err(|e| e.to_string())?.flatten();
                    }
                    let lines = self.meet(name, &mut reader, portion, fate)?;
                    self.delivery(name)?.reader = Some(reader);
                    self.check_counts(name)?;
                    return Ok((lines, false));
                }
                Read::Settle(input) => {
                    self.delivery(name)?.reader = Some(reader);
                    self.take(vec![input])?;
                    self.check_counts(name)?;
                    continue;
                }
                Read::Unstored => {
                    self.delivery(name)?.reader = Some(reader);
                    self.fold()?;
                    continue;
                }
                Read::Behind => return Err(format!("{name} is behind what was committed")),
                Read::Nothing => Vec::new(),
                Read::Unaimed => {
                    let reason = self.engine().outbox_waits().remove(name).unwrap_or_default();
                    vec![format!("waiting: {reason}")]
                }
                Read::Paused(reason) => {
                    let recounted = reader.recount(&snapshot).map_err(|e| e.to_string())?;
                    self.delivery(name)?.reader = Some(reader);
                    let is_asked = reason.ends_with(ARE_TO_GO);
                    if let Some(leaving) = recounted.filter(|_| is_asked)
                        && self.recounted(name, &reason, &leaving)?
                    {
                        continue;
                    }
                    return Ok((vec![format!("paused: {reason}")], true));
                }
                Read::Gone => return Err(format!("{name} is gone")),
            };
            self.delivery(name)?.reader = Some(reader);
            return Ok((ended, true));
        }
        Err(format!("{name} settles for ever"))
    }

    /// Tells an outbox that waits what is to go by now, if that is less than it waits for.
    fn recounted(&mut self, name: &str, reason: &str, leaving: &Leaving) -> Result<bool, String> {
        let allowed = self.delivery(name)?.allowed.unwrap_or(u64::MAX);
        let was = reason.to_owned();
        let is_calm = std::mem::take(&mut self.delivery(name)?.is_calm);
        let (told, asked) = if leaving.leaves == 0 || (is_calm && leaving.unasked <= allowed) {
            (leaving.go_on(was), 0)
        } else if leaving.is_another() && leaving.unasked > allowed {
            let anew = format!("asked anew as of step {}: {}", leaving.step(), asks(leaving));
            (leaving.pause_anew(was, anew), self.really_leaving(name)?)
        } else if leaving.is_less() && !leaving.is_another() {
            let asked = self.delivery(name)?.guard.asked.min(self.really_leaving(name)?);
            (leaving.pause_anew(was, asks(leaving)), asked)
        } else {
            return Ok(false);
        };
        self.delivery(name)?.guard.asked = asked;
        self.take(vec![Input::Outbox { name: name.to_owned(), told }])?;
        Ok(true)
    }

    /// How many rows that are there, and were delivered, are to go: what is over there is counted, and nothing that the outbox knows of it
    /// but what was refused, which is sent no more.
    fn really_leaving(&mut self, name: &str) -> Result<u64, String> {
        let snapshot = self.engine().store().snapshot();
        let catalog = Catalog::load(&snapshot).map_err(|e| e.to_string())?;
        let pending = catalog.by_name(Kind::State, &format!("outbox {name} pending")).map(|entry| entry.id);
        let delivery = self.delivery(name)?;
        if delivery.guard.pending != pending {
            if delivery.guard.pending.is_some() {
                delivery.guard.others.extend(delivery.target.keys().cloned());
            }
            delivery.guard.pending = pending;
        }
        // Nothing goes of what serves no more.
        let Ok(wanted) = self.wanted_there(name) else { return Ok(0) };
        let refused = self.engine().outboxes().refused(&snapshot, name, usize::MAX).map_err(|e| e.to_string())?;
        let refused: BTreeSet<String> = refused.iter().map(|of| text(&of.key)).collect();
        let delivery = self.delivery(name)?;
        let is_theirs = |key: &String| delivery.guard.others.contains(key) || refused.contains(key);
        Ok(delivery.target.keys().filter(|key| !wanted.contains_key(*key) && !is_theirs(key)).count() as u64)
    }

    /// No row goes of more than may go at once, unless a person has let them go.
    fn check_guard(&mut self, name: &str, portion: &Portion, fate: &Fate) -> Result<(), String> {
        let leaving = self.really_leaving(name)?;
        let delivery = self.delivery(name)?;
        let mut gone = 0;
        for item in &portion.items {
            let key = text(&portion.key_values(item));
            match item.row {
                Some(_) => {
                    delivery.guard.others.remove(&key);
                }
                None if delivery.guard.others.contains(&key) && !item.is_unheard => {
                    return Err(format!("{name} deletes {key}, which it has not delivered"));
                }
                None => gone += u64::from(delivery.target.contains_key(&key)),
            }
        }
        let (allowed, let_go) = (delivery.allowed.unwrap_or(u64::MAX), delivery.guard.let_go);
        if gone > 0 && leaving > allowed.saturating_add(let_go) {
            return Err(format!("{name} lets {gone} of {leaving} go, where {allowed} may and {let_go} were let go"));
        }
        if !matches!(fate, Fate::Unsent | Fate::Later | Fate::Half) {
            delivery.guard.let_go = if gone == leaving { 0 } else { let_go.saturating_sub(gone) };
        }
        Ok(())
    }

    /// A portion meets its fate.
    fn meet(&mut self, name: &str, reader: &mut Reader, portion: Portion, fate: &Fate) -> Result<Vec<String>, String> {
        let delivery = self.deliveries.get_mut(name).ok_or("no such outbox")?;
        let columns: Vec<usize> =
            delivery.definition.columns.iter().filter_map(|column| portion.schema.position(column)).collect();
        let types = columns.iter().map(|&column| portion.schema.columns[column].data_type.to_string());
        let types = types.collect::<Vec<_>>().join(" ");
        let half = portion.items.len() / 2;
        let (mut lines, mut outcomes, mut last) = (Vec::new(), Vec::new(), None);
        let mut changes = Vec::new();
        for (at, item) in portion.items.iter().enumerate() {
            if last.replace(&item.key).is_some_and(|last| *last >= item.key) {
                return Err("keys are not in their order".to_owned());
            }
            let key = text(&portion.key_values(item));
            let row = portion.values(item).map(|values| {
                let values: Vec<Value> = columns.iter().map(|&column| values[column].clone()).collect();
                text(&values)
            });
            lines.push(match &row {
                Some(row) => format!("+ {row}"),
                None => format!("- {key}"),
            });
            if item.step.is_some_and(|step| delivery.acknowledged.contains(&(key.clone(), step))) {
                return Err(format!("{key} of step {:?} is sent again though it was acknowledged", item.step));
            }
            let is_there = row.is_some() && delivery.target.get(&key) == row.as_ref();
            let typed = row.as_ref().map(|row| format!("{types} {row}"));
            if item.step.is_none() && is_there && delivery.settled.get(&key) == typed.as_ref() {
                return Err(format!("{key} is sent again as it is there"));
            }
            let outcome = match fate {
                Fate::Done | Fate::Unanswered | Fate::Unmarked => Outcome::Done,
                Fate::Unknown => Outcome::Unknown,
                Fate::Unsent | Fate::Later => Outcome::Later,
                Fate::Half if at < half.max(1) => Outcome::Done,
                Fate::Half => Outcome::Later,
                Fate::Refuse(refused) if *refused == key => Outcome::Refused { reason: "it does not fit".to_owned() },
                Fate::Refuse(_) => Outcome::Done,
            };
            let is_applied = matches!(outcome, Outcome::Done | Outcome::Unknown);
            changes.push((key, row, item.step, outcome.clone(), is_applied));
            outcomes.push(outcome);
        }
        // One transaction: the rows, and the marker.
        for (key, row, _, _, is_applied) in &changes {
            match row {
                _ if !is_applied => {}
                Some(row) => drop(delivery.target.insert(key.clone(), row.clone())),
                None => drop(delivery.target.remove(key)),
            }
        }
        let is_marked = !matches!(fate, Fate::Unsent | Fate::Unmarked | Fate::Unknown);
        if is_marked && outcomes.contains(&Outcome::Done) {
            delivery.marker = Some(portion.marker(&outcomes));
        }
        if matches!(fate, Fate::Unanswered | Fate::Unmarked | Fate::Unsent) {
            // A new connection, sooner or later.
            delivery.is_resumed = false;
            drop(portion);
            return Ok(lines);
        }
        let input = reader.settle(portion, outcomes, 7);
        self.take(vec![input])?;
        let delivery = self.delivery(name)?;
        for (key, row, step, outcome, _) in changes {
            match (&outcome, row) {
                (Outcome::Done, Some(row)) => drop(delivery.settled.insert(key.clone(), format!("{types} {row}"))),
                // In doubt, another row may be there whatever became of this one.
                _ => drop(delivery.settled.remove(&key)),
            }
            if matches!(outcome, Outcome::Done | Outcome::Refused { .. }) {
                delivery.acknowledged.extend(step.map(|step| (key, step)));
            }
        }
        Ok(lines)
    }

    /// What stands in a state of an outbox.
    fn outbox_entries(&mut self, name: &str, word: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        let snapshot = self.engine().store().snapshot();
        let catalog = Catalog::load(&snapshot).map_err(|e| e.to_string())?;
        let id: TableId =
            catalog.by_name(Kind::State, &format!("outbox {name} {word}")).ok_or("no state of the outbox")?.id;
        let entries = snapshot.scan(id, &[]).map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())));
        entries.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    /// All bytes of an outbox: its facts and states.
    pub(crate) fn outbox_bytes(&mut self, name: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        let mut all = Vec::new();
        for word in ["pending", "accepted", "refused"] {
            all.extend(self.outbox_entries(name, word)?);
        }
        let snapshot = self.engine().store().snapshot();
        let catalog = Catalog::load(&snapshot).map_err(|e| e.to_string())?;
        let facts = catalog.by_name(Kind::State, "facts").ok_or("no facts")?.id;
        for entry in snapshot.scan(facts, b"outbox") {
            let (key, value) = entry.map_err(|e| e.to_string())?;
            all.push((key.to_vec(), value.to_vec()));
        }
        Ok(all)
    }

    /// What is counted is there.
    pub(crate) fn check_counts(&mut self, name: &str) -> Result<(), String> {
        let snapshot = self.engine().store().snapshot();
        let all = self.engine().outboxes().status(&snapshot).map_err(|e| e.to_string())?;
        let status = all.into_iter().find(|status| status.name == name).ok_or("no status")?;
        let pending = self.outbox_entries(name, "pending")?;
        let bytes: usize = pending.iter().map(|(key, mark)| key.len() + mark.len()).sum();
        let (refused, accepted) =
            (self.outbox_entries(name, "refused")?.len(), self.outbox_entries(name, "accepted")?.len());
        let counted = (status.pending_rows, status.pending_bytes, status.refused_rows, status.there_rows);
        let there = (pending.len() as u64, bytes as u64, refused as u64, accepted as u64);
        if counted != there {
            return Err(format!("{name}: {counted:?} counted, {there:?} there"));
        }
        Ok(())
    }

    /// Everything is delivered: the other side has what the relation has, but for what it refused.
    pub(crate) fn check_delivered(&mut self, name: &str) -> Result<(), String> {
        if self.delivery(name)?.is_retired || self.engine().outbox_waits().contains_key(name) {
            return Ok(());
        }
        let lines = self.deliver(name, 3)?;
        if let Some(line) = lines.iter().find(|line| line.starts_with("waiting") || line.starts_with("paused")) {
            return Err(format!("{name} is {line}"));
        }
        self.check_counts(name)?;
        let wanted = self.wanted_there(name)?;
        let snapshot = self.engine().store().snapshot();
        let refused = self.engine().outboxes().refused(&snapshot, name, usize::MAX).map_err(|e| e.to_string())?;
        let refused: BTreeSet<String> = refused.iter().map(|of| text(&of.key)).collect();
        let delivery = self.delivery(name)?;
        let is_ours = |key: &String, row: &String| !refused.contains(key) && !row.ends_with(THEIRS);
        let there: BTreeMap<&String, &String> = delivery.target.iter().filter(|(key, row)| is_ours(key, row)).collect();
        let wanted: BTreeMap<&String, &String> = wanted.iter().filter(|(k, _)| !refused.contains(*k)).collect();
        if there == wanted { Ok(()) } else { Err(format!("{name}: there is {there:?}, wanted {wanted:?}")) }
    }

    /// The rows of what an outbox follows, by their keys.
    fn wanted_there(&mut self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let definition = self.delivery(name)?.definition.clone();
        let engine = self.engine();
        let model = engine.models().into_iter().find(|model| model.name == definition.relation);
        let model = model.map(|model| model.relation);
        let table = engine.tables().find(|table| table.name == definition.relation).map(|table| table.id);
        let id = model.or(table).ok_or("no such relation")?;
        let stored = engine.relation(id).ok_or("no such relation")?;
        let columns: Vec<usize> =
            definition.columns.iter().filter_map(|column| stored.schema.position(column)).collect();
        let mut wanted = BTreeMap::new();
        for entry in engine.store().snapshot().scan(id, &[]) {
            let values = stored.layout.values(&entry.map_err(|e| e.to_string())?.1);
            let pick = |of: &[usize]| text(&of.iter().map(|&column| values[column].clone()).collect::<Vec<_>>());
            wanted.insert(pick(&stored.schema.key), pick(&columns));
        }
        Ok(wanted)
    }

    /// How an outbox is getting on, in words.
    pub(crate) fn delivered(&mut self, name: &str) -> Result<String, String> {
        let snapshot = self.engine().store().snapshot();
        let all = self.engine().outboxes().status(&snapshot).map_err(|e| e.to_string())?;
        let status = all.into_iter().find(|status| status.name == name).ok_or_else(|| format!("no outbox {name}"))?;
        let state = match (&status.paused, status.filling) {
            (Some(reason), _) => format!("paused: {reason}"),
            (None, _) if !status.is_aimed => "waiting".to_owned(),
            (None, Some(filling)) => format!("filling, {} of {}", filling.walked, filling.rows),
            (None, None) => "live".to_owned(),
        };
        let mut lines = vec![
            state,
            format!("{} pending, {} bytes; {} refused", status.pending_rows, status.pending_bytes, status.refused_rows),
            format!(
                "{} accepted, {} removed, {} refused so far; generation {}",
                status.accepted_total, status.removed_total, status.refused_total, status.generation
            ),
        ];
        let waits = self.engine().outbox_waits();
        lines.extend(waits.get(name).map(|reason| format!("waits: {reason}")));
        Ok(lines.join("\n"))
    }

    /// What was refused, in words.
    pub(crate) fn refused(&mut self, name: &str) -> Result<String, String> {
        let snapshot = self.engine().store().snapshot();
        let refused = self.engine().outboxes().refused(&snapshot, name, 100).map_err(|e| e.to_string())?;
        let lines = refused.iter().map(|of| {
            let row = of.row.as_deref().map_or_else(|| "gone".to_owned(), text);
            format!("{} {}: {} [{row}]", if of.is_delete { "-" } else { "+" }, text(&of.key), of.reason)
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// What is there, and how much of it is to go.
    pub(crate) fn leaving(&mut self, name: &str) -> Result<String, String> {
        let snapshot = self.engine().store().snapshot();
        let outboxes = self.engine().outboxes();
        let leaving = outboxes.leaving(&snapshot, name).map_err(|e| e.to_string())?.ok_or("it follows nothing")?;
        if outboxes.has_rows(&snapshot, name).map_err(|e| e.to_string())? != (leaving.there > 0) {
            return Err(format!("whether any row is there: {leaving:?}"));
        }
        let let_go = match leaving.leaves - leaving.unasked {
            0 => String::new(),
            rows => format!(", {rows} of them let go"),
        };
        Ok(format!("{} of {}{let_go}", leaving.leaves, leaving.there))
    }

    /// All outboxes deliver all, whoever paused them.
    pub(crate) fn check_all_delivered(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.deliveries.keys().cloned().collect();
        for name in names {
            self.delivery(&name)?.allowed = None;
            self.tell(&name, "resume")?;
            self.check_delivered(&name)?;
        }
        Ok(())
    }
}

/// What a pause says where it asks for rows that are to go.
const ARE_TO_GO: &str = "are to go";

fn asks(leaving: &Leaving) -> String {
    format!("{} of {} {ARE_TO_GO}", leaving.to_ask(), leaving.there)
}
