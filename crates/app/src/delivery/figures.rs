//! How deliveries are, for whoever asks: what the pump, the couriers and the outboxes know, put together.
//!
//! What stands in the outboxes is read from snapshots every second, beside the pump.

use std::sync::Arc;
use std::time::Duration;

use engine::outbox::{Outboxes, RefusedRow, Status as OutboxStatus};
use plan::TableName;
use tokio::sync::watch;

use super::declared::Declared;
use super::guard::is_of_guard;
use super::log::Log;
use super::moments::Moments;
use crate::clock::{Clock as _, WallClock};
use crate::output::json_row;
use crate::reason::Reason;
use crate::stale::{BEHIND_US, Doubt};
use crate::status::{Facts, RejectStatus, Status};

/// How often the outboxes are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// States in which a delivery can be.
pub const STATES: [&str; 6] = ["filling", "live", "stale", "waiting", "paused", "failed"];

/// Whether a sync in this state delivers what changes.
pub fn is_delivering_state(state: &str) -> bool {
    matches!(state, "live" | "stale" | "filling")
}

/// A sync and how it is.
#[derive(Debug, Clone, Default)]
pub struct DeliveryStatus {
    /// The connection that it delivers to; empty where its file does not say it.
    pub destination: String,
    /// The model or table that it follows; none where its file does not say it.
    pub relation: Option<TableName>,
    /// A mistake in its file, or in its connection.
    pub mistake: Option<String>,
    /// What it waits for on this side.
    pub waits: Option<String>,
    /// Why its destination takes nothing.
    pub trouble: Option<Trouble>,
    /// Its destination has let us in.
    pub is_connected: bool,
    /// How its outbox is; none before that was looked at.
    pub outbox: Option<OutboxStatus>,
    /// The step at which that was.
    pub step: u64,
    /// Since when the oldest change waits that is to be delivered.
    pub oldest_us: Option<i64>,
    /// Why what it follows is out of date: what is delivered is as old.
    pub old: Option<String>,
    /// Since when that is known; none where it is not out of date, or nobody knows.
    pub stale_since_us: Option<i64>,
    /// How long its oldest change waits, where that is longer than it may while all is delivered that changes.
    pub late_us: Option<i64>,
    /// What its file says.
    pub declared: Declared,
    /// What was delivered last.
    pub log: Log,
}

/// A destination that takes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub message: String,
    /// A person has to do something.
    pub is_ours: bool,
}

impl DeliveryStatus {
    /// Its state in the words of `tidemill.deliveries`, and what is said of it.
    pub fn told(&self) -> (&'static str, String) {
        let (state, message) = self.told_in_lines();
        (state, Reason::of(&message).line())
    }

    fn told_in_lines(&self) -> (&'static str, String) {
        let trouble = |is_ours: bool| self.trouble.as_ref().filter(|trouble| trouble.is_ours == is_ours);
        if let Some(mistake) = &self.mistake {
            return ("failed", mistake.clone());
        }
        if let Some((outbox, reason)) = self.outbox.as_ref().and_then(|of| Some((of, of.paused.as_ref()?))) {
            // The guard says itself how to go on.
            return (
                "paused",
                match is_of_guard(reason) {
                    true => reason.clone(),
                    false => format!("{reason}; `tidemill resume {}` goes on", outbox.name),
                },
            );
        }
        if let Some(trouble) = trouble(true) {
            return ("failed", trouble.message.clone());
        }
        if let Some(reason) = &self.waits {
            return ("waiting", reason.clone());
        }
        if let Some(trouble) = trouble(false) {
            return ("waiting", trouble.message.clone());
        }
        if !self.is_connected {
            return ("waiting", format!("connecting to {}", self.destination));
        }
        let state = match (self.is_filling(), &self.old) {
            (true, _) => "filling",
            (false, Some(_)) => "stale",
            (false, None) => "live",
        };
        let parts = [self.old.clone(), self.short()];
        (state, parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// What the destination lacks of what is here, though it is delivered to; none where it lacks nothing.
    pub fn short(&self) -> Option<String> {
        let parts: Vec<String> = [self.lacking(), self.late()].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Changes that wait for longer than they should, as people read it; none where none does.
    fn late(&self) -> Option<String> {
        let seconds = self.late_us? / 1_000_000;
        let rows = self.backlog_rows();
        let rows = if rows == 1 { "1 row waits".to_owned() } else { format!("{rows} rows wait") };
        Some(format!("{rows} to be delivered, the oldest change for {seconds} s"))
    }

    /// Whether it goes through all rows.
    pub fn is_filling(&self) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.filling.is_some())
    }

    /// Rows that its destination has refused, as people read it; none where there are none.
    pub fn lacking(&self) -> Option<String> {
        let refused = self.outbox.as_ref().map(|outbox| outbox.refused_rows).filter(|rows| *rows > 0)?;
        let rows = if refused == 1 { "1 row was".to_owned() } else { format!("{refused} rows were") };
        Some(format!("{rows} refused by {}; tidemill.rejects says why", self.destination))
    }

    /// Rows that are to be delivered, as far as is known: those that have changed, and those that it has not gone through.
    pub fn backlog_rows(&self) -> u64 {
        let Some(outbox) = &self.outbox else { return 0 };
        let ahead = outbox.filling.map_or(0, |filling| filling.rows.saturating_sub(filling.walked));
        outbox.pending_rows.saturating_add(ahead)
    }

    /// Bytes of the marks of rows that have changed.
    pub fn backlog_bytes(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.pending_bytes)
    }

    /// How long the oldest change waits to be delivered; over a restart, since then at least.
    pub fn oldest_us(&self, now_us: i64) -> i64 {
        self.oldest_us.map_or(0, |since| (now_us - since).max(0))
    }

    /// Rows and deletes that were delivered.
    pub fn sent_total(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.accepted_total + outbox.removed_total)
    }

    /// Of these, the deletes.
    pub fn deleted_total(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.removed_total)
    }

    /// Rows that are refused now.
    pub fn refused_rows(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.refused_rows)
    }

    /// Rows that were refused, each time.
    pub fn rejected_total(&self) -> u64 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.refused_total)
    }

    /// The step up to which all is delivered; none where that is not known.
    pub fn delivered_step(&self) -> Option<u64> {
        let outbox = self.outbox.as_ref().filter(|outbox| outbox.filling.is_none() && outbox.is_aimed)?;
        match outbox.oldest {
            None => Some(self.step),
            Some(oldest) if outbox.oldest_is_exact => Some(oldest.saturating_sub(1)),
            Some(_) => None,
        }
    }
}

/// What was read of all outboxes at one step.
struct Looked {
    step: u64,
    outboxes: Vec<OutboxStatus>,
}

fn look(status: &Status, outboxes: Outboxes) -> engine::Result<Looked> {
    let snapshot = status.store().snapshot();
    let all = outboxes.status(&snapshot)?;
    Ok(Looked { step: snapshot.step(), outboxes: all })
}

/// A refused row as `tidemill.rejects` shows it.
pub(crate) fn reject(outbox: &OutboxStatus, row: RefusedRow) -> RejectStatus {
    let key = row.key.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let names = row.schema.columns.iter().map(|column| &column.name);
    let shown = row.row.as_ref().map(|values| json_row(names.zip(values)));
    // As couriers write it: the reason, and the other side's code behind it.
    let (reason, code) = match row.reason.strip_suffix(')').and_then(|reason| reason.rsplit_once(" (")) {
        Some((reason, code)) => (reason.to_owned(), code.to_owned()),
        None => (row.reason, String::new()),
    };
    let hash = relation::key::hash128(format!("{}\0{key}", outbox.name).as_bytes());
    RejectStatus {
        id: hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
        node: format!("sync {}", outbox.name),
        reason: if row.is_delete { format!("it should be deleted: {reason}") } else { reason },
        code,
        key,
        row: shown.unwrap_or_default(),
        first_at_us: row.at_us,
        of: Some(outbox.relation.clone()),
        ..RejectStatus::default()
    }
}

/// Notes what was read of outboxes.
fn note(facts: &mut Facts, moments: &Moments, looked: Looked) {
    for outbox in looked.outboxes {
        let Some(delivery) = facts.deliveries.get_mut(&outbox.name) else { continue };
        delivery.step = looked.step;
        delivery.oldest_us = outbox.oldest.and_then(|step| moments.since(step));
        delivery.outbox = Some(outbox);
    }
}

/// Notes which syncs follow what is out of date.
fn note_old(facts: &mut Facts, now_us: i64) {
    let stale = facts.stale_tables(now_us);
    let Facts { deliveries, tables_of, .. } = facts;
    for delivery in deliveries.values_mut() {
        let doubt = |name: &TableName| {
            let below = tables_of.get(name).into_iter().flatten().chain([name]);
            Doubt::joined(below.filter_map(|table| stale.get(table)))
        };
        let doubt = delivery.relation.as_ref().and_then(|name| Some((name, doubt(name)?)));
        delivery.stale_since_us = doubt.as_ref().and_then(|(_, doubt)| doubt.since_us);
        delivery.old = doubt.map(|(name, doubt)| format!("{name} is out of date: {}", doubt.reason.line()));
        let waits_us = delivery.oldest_us(now_us);
        // What it goes through for the first time is no change that waits.
        delivery.late_us = (waits_us > BEHIND_US && !delivery.is_filling()).then_some(waits_us);
    }
}

/// Looks at the outboxes until stopped.
pub(crate) async fn keep(status: Arc<Status>, outboxes: Outboxes, mut stopped: watch::Receiver<bool>) {
    while tokio::time::timeout(LOOK, stopped.wait_for(|stop| *stop)).await.is_err() {
        if status.facts().deliveries.is_empty() {
            continue;
        }
        let of = Arc::clone(&status);
        match tokio::task::spawn_blocking(move || look(&of, outboxes)).await {
            Ok(Ok(looked)) => note_all(&status, looked),
            Ok(Err(error)) => tracing::warn!(%error, "what is to be delivered cannot be counted"),
            Err(_) => return,
        }
    }
}

/// Looks at the outboxes once.
pub(crate) fn look_once(status: &Status, outboxes: Outboxes) -> engine::Result<()> {
    let looked = look(status, outboxes)?;
    note_all(status, looked);
    Ok(())
}

fn note_all(status: &Status, looked: Looked) {
    // The pump takes the one after the other: nobody takes them the other way round.
    let moments = status.moments();
    let mut facts = status.facts();
    note(&mut facts, &moments, looked);
    note_old(&mut facts, WallClock.now_us());
}

#[cfg(test)]
mod tests {
    use engine::outbox::Filling;

    use super::*;

    fn outbox() -> OutboxStatus {
        OutboxStatus {
            name: "s".to_owned(),
            relation: TableName::new("public", "m"),
            place: 1,
            is_retired: false,
            is_aimed: true,
            paused: None,
            filling: None,
            generation: 0,
            pending_rows: 0,
            pending_bytes: 0,
            oldest: None,
            oldest_is_exact: true,
            there_rows: 7,
            refused_rows: 0,
            accepted_total: 7,
            removed_total: 2,
            refused_total: 1,
        }
    }

    fn delivery() -> DeliveryStatus {
        let (destination, outbox) = ("site".to_owned(), Some(outbox()));
        DeliveryStatus { destination, outbox, is_connected: true, step: 9, ..DeliveryStatus::default() }
    }

    /// What a person can mend is told before what mends itself.
    #[test]
    fn a_state_tells_the_next_move() {
        let mut of = delivery();
        assert_eq!(of.told(), ("live", String::new()));
        assert_eq!((of.sent_total(), of.rejected_total(), of.delivered_step()), (9, 1, Some(9)));
        of.is_connected = false;
        assert_eq!(of.told(), ("waiting", "connecting to site".to_owned()));
        of.trouble = Some(Trouble { message: "away".to_owned(), is_ours: false });
        assert_eq!(of.told(), ("waiting", "away".to_owned()));
        of.waits = Some("model public.m is being built".to_owned());
        assert_eq!(of.told().1, "model public.m is being built");
        of.trouble = Some(Trouble { message: "no table".to_owned(), is_ours: true });
        assert_eq!(of.told(), ("failed", "no table".to_owned()));
        of.outbox.as_mut().unwrap().paused = Some("by hand".to_owned());
        assert_eq!(of.told(), ("paused", "by hand; `tidemill resume s` goes on".to_owned()));
        of.mistake = Some("syncs/s.yml:1:1: no".to_owned());
        assert_eq!(of.told().0, "failed");
    }

    /// It delivers, and what is there is not what the source has, or not soon: both are told, and neither is `live`'s silence.
    #[test]
    fn what_is_old_or_late_is_told() {
        let mut of = delivery();
        of.outbox.as_mut().unwrap().pending_rows = 40;
        of.late_us = Some(31_400_000);
        let late = "40 rows wait to be delivered, the oldest change for 31 s";
        assert_eq!(of.told(), ("live", late.to_owned()));
        of.old = Some("public.m is out of date: source shop is stalled".to_owned());
        assert_eq!(of.told(), ("stale", format!("public.m is out of date: source shop is stalled; {late}")));
        assert!(STATES.iter().filter(|state| is_delivering_state(state)).eq(&["filling", "live", "stale"]));
    }

    /// Wherever health is told.
    #[test]
    fn what_is_old_or_late_is_a_trouble() {
        let mut facts = Facts { started: true, ..Facts::default() };
        facts.deliveries.insert("s".to_owned(), delivery());
        assert_eq!(facts.message(0).line(), "running");
        let of = facts.deliveries.get_mut("s").unwrap();
        (of.outbox.as_mut().unwrap().pending_rows, of.late_us) = (1, Some(20_000_000));
        let late = "sync s: 1 row waits to be delivered, the oldest change for 20 s";
        assert_eq!(facts.message(0).line(), late);
        facts.deliveries.get_mut("s").unwrap().old = Some("public.m is out of date: x".to_owned());
        let stale = "1 sync delivers what is stale; tidemill.deliveries says why";
        assert_eq!(facts.message(0).line(), format!("{late}; {stale}"));
        assert_eq!(facts.troubles(0).len(), 2);
    }

    /// What waits longer than a source may be behind is late; what a sync has still ahead of it is not.
    #[test]
    fn a_change_is_late_by_the_clock() {
        let mut facts = Facts::default();
        facts.deliveries.insert("s".to_owned(), delivery());
        let late = |facts: &mut Facts, oldest_us: Option<i64>, now_us: i64| {
            facts.deliveries.get_mut("s").unwrap().oldest_us = oldest_us;
            note_old(facts, now_us);
            facts.deliveries["s"].late_us
        };
        assert_eq!(late(&mut facts, None, 100_000_000), None);
        assert_eq!(late(&mut facts, Some(90_000_000), 100_000_000), None);
        assert_eq!(late(&mut facts, Some(80_000_000), 100_000_000), Some(20_000_000));
        let outbox = facts.deliveries.get_mut("s").unwrap().outbox.as_mut().unwrap();
        outbox.filling = Some(Filling { walked: 1, rows: 9 });
        assert_eq!(late(&mut facts, Some(80_000_000), 100_000_000), None);
    }

    #[test]
    fn what_is_ahead_is_backlog() {
        let mut of = delivery();
        let outbox = of.outbox.as_mut().unwrap();
        (outbox.pending_rows, outbox.pending_bytes, outbox.oldest) = (3, 48, Some(5));
        assert_eq!((of.backlog_rows(), of.backlog_bytes(), of.delivered_step()), (3, 48, Some(4)));
        of.outbox.as_mut().unwrap().filling = Some(Filling { walked: 40, rows: 100 });
        assert_eq!((of.told().0, of.backlog_rows(), of.delivered_step()), ("filling", 63, None));
        of.outbox.as_mut().unwrap().filling = Some(Filling { walked: 140, rows: 100 });
        assert_eq!(of.backlog_rows(), 3);
    }

    #[test]
    fn refused_rows_are_told() {
        let mut of = delivery();
        of.outbox.as_mut().unwrap().refused_rows = 1;
        assert_eq!(of.told(), ("live", "1 row was refused by site; tidemill.rejects says why".to_owned()));
        let schema = relation::Schema::new(vec![relation::Column::new("id", relation::DataType::Int64)], vec![0]);
        let row = RefusedRow {
            key: vec![relation::Value::Int(4)],
            at_us: 70,
            reason: "value too long (for it) (22001)".to_owned(),
            is_delete: false,
            row: Some(vec![relation::Value::Int(4)]),
            schema: Arc::new(schema),
        };
        let shown = reject(&outbox(), row);
        assert_eq!((shown.node.as_str(), shown.key.as_str(), shown.row.as_str()), ("sync s", "4", r#"{"id":4}"#));
        assert_eq!((shown.reason.as_str(), shown.code.as_str()), ("value too long (for it)", "22001"));
    }
}
