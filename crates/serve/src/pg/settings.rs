//! Settings of a session: what `SET` keeps and `SHOW` says.
//!
//! Drivers set many; few matter here. A value that would change how answers look (another date style, encoding, time
//! zone) is refused or warned of, never silently ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::startup::ParameterStatus;

use crate::reader::SqlError;
use crate::service::Site;
use crate::sql::command::Scope;

/// A setting that PostgreSQL knows: name, value at the start, and what changing it does.
struct Known {
    name: &'static str,
    default: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Kept; the client hears of each change.
    Reported,
    /// Kept.
    Kept,
    /// Kept, reported, cannot be set.
    Fixed,
    /// Cannot be set, not reported.
    Inner,
}

use Kind::{Fixed, Inner, Kept, Reported};

const fn known(name: &'static str, default: &'static str, kind: Kind) -> Known {
    Known { name, default, kind }
}

static KNOWN: &[Known] = &[
    known("application_name", "", Reported),
    known("bytea_output", "hex", Kept),
    known("client_encoding", "UTF8", Reported),
    known("client_min_messages", "notice", Kept),
    known("DateStyle", "ISO, MDY", Reported),
    known("default_transaction_isolation", "read committed", Kept),
    known("default_transaction_read_only", "on", Reported),
    known("extra_float_digits", "1", Kept),
    known("idle_in_transaction_session_timeout", "0", Kept),
    known("in_hot_standby", "off", Fixed),
    known("integer_datetimes", "on", Fixed),
    known("IntervalStyle", "postgres", Reported),
    known("is_superuser", "off", Fixed),
    known("lock_timeout", "0", Kept),
    known("max_identifier_length", "63", Inner),
    known("max_index_keys", "32", Inner),
    known("role", "none", Inner),
    known("row_security", "on", Kept),
    known("search_path", "", Kept),
    known("server_encoding", "UTF8", Fixed),
    known("server_version", "", Fixed),
    known("server_version_num", "160000", Inner),
    known("session_authorization", "", Fixed),
    known("standard_conforming_strings", "on", Reported),
    known("statement_timeout", "0", Kept),
    known("synchronous_commit", "on", Kept),
    known("tidemill.on_stale", "warn", Kept),
    known("TimeZone", "UTC", Reported),
    known("transaction_isolation", "read committed", Kept),
    known("transaction_read_only", "on", Kept),
    known("wal_level", "replica", Inner),
];

/// Values by the setting's name in lower case.
pub(super) struct Settings {
    defaults: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
    /// What the end of the open transaction brings; none where nothing was set in it.
    after: Option<After>,
}

/// The values behind the end of a transaction.
struct After {
    committed: BTreeMap<String, String>,
    rolled_back: BTreeMap<String, String>,
}

/// Bytes of the names and values that a session may set: a client gives any name with a point in it a value.
const VALUES_BYTES_MAX: usize = 64 << 10;

/// What a change asks the connection to tell its client.
#[derive(Default)]
pub(super) struct Change {
    pub(super) status: Option<Reply>,
    pub(super) warning: Option<SqlError>,
}

impl Settings {
    pub(super) fn new(site: &Site, user: &str, timeout: Duration) -> Self {
        let mut defaults: BTreeMap<String, String> =
            KNOWN.iter().map(|known| (known.name.to_lowercase(), known.default.to_owned())).collect();
        defaults.insert("server_version".to_owned(), format!("16.0 (Tidemill {})", site.version));
        defaults.insert("search_path".to_owned(), site.schema.clone());
        defaults.insert("statement_timeout".to_owned(), shown(timeout));
        defaults.insert("session_authorization".to_owned(), user.to_owned());
        Self { values: defaults.clone(), defaults, after: None }
    }

    /// A value by name in any case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_lowercase()).map(String::as_str)
    }

    /// All, with the names as PostgreSQL writes them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (spelled(name), value.as_str()))
    }

    /// What a client is told when it comes.
    pub(super) fn reported(&self) -> Vec<Reply> {
        let reported = KNOWN.iter().filter(|known| matches!(known.kind, Reported | Fixed));
        reported.map(|known| status(known.name, self.get(known.name).unwrap_or_default())).collect()
    }

    /// Sets a value, or its default. Errors: values that would change answers in a way we do not have.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) -> Result<Change, SqlError> {
        let key = name.to_lowercase();
        let known = KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(&key));
        if known.is_some_and(|known| matches!(known.kind, Fixed | Inner)) {
            return Err(SqlError::new("55P02", format!("parameter \"{}\" cannot be changed", spelled(&key))));
        }
        let Some(value) = value.or_else(|| self.defaults.get(&key).cloned()) else {
            self.values.remove(&key);
            return Ok(Change::default());
        };
        check(&key, &value)?;
        self.has_room(&key, &value)?;
        let mut change = Change { status: None, warning: warning(&key, &value, known.is_some()) };
        // The zone of answers stays UTC, and so does what SHOW says of it.
        if key != "timezone" {
            change.status = known.filter(|known| known.kind == Reported).map(|known| status(known.name, &value));
            self.values.insert(key, value);
        }
        Ok(change)
    }

    fn has_room(&self, key: &str, value: &str) -> Result<(), SqlError> {
        let others = self.values.iter().filter(|(known, _)| *known != key);
        let bytes = others.map(|(known, value)| known.len() + value.len()).fold(key.len(), usize::saturating_add);
        if bytes.saturating_add(value.len()) <= VALUES_BYTES_MAX {
            return Ok(());
        }
        Err(SqlError::new(
            "53400",
            format!("the settings of this session would take more than {VALUES_BYTES_MAX} bytes"),
        )
        .hint("RESET ALL forgets them."))
    }

    /// The same inside of a transaction, whose end may bring back what was before.
    pub(super) fn set_within(&mut self, name: &str, value: Option<String>, scope: Scope) -> Result<Change, SqlError> {
        let before = if self.after.is_none() { Some(self.values.clone()) } else { None };
        let change = self.set(name, value)?;
        if let Some(before) = before {
            self.after = Some(After { committed: before.clone(), rolled_back: before });
        }
        if let (Some(after), Scope::Session) = (&mut self.after, scope) {
            let key = name.to_lowercase();
            match self.values.get(&key) {
                Some(value) => _ = after.committed.insert(key, value.clone()),
                None => _ = after.committed.remove(&key),
            }
        }
        Ok(change)
    }

    /// A transaction ends well: what was set for it alone is gone. Returns what the client is told.
    pub(super) fn commit(&mut self) -> Vec<Reply> {
        self.after.take().map_or_else(Vec::new, |after| self.go_to(after.committed))
    }

    /// A transaction is undone: so is all that was set in it. Returns what the client is told.
    pub(super) fn roll_back(&mut self) -> Vec<Reply> {
        self.after.take().map_or_else(Vec::new, |after| self.go_to(after.rolled_back))
    }

    /// What the login set is what RESET goes back to.
    pub(super) fn settle(&mut self) {
        self.defaults.clone_from(&self.values);
    }

    /// Sets all defaults again.
    pub(super) fn reset(&mut self) -> Vec<Reply> {
        let defaults = self.defaults.clone();
        if let Some(after) = &mut self.after {
            after.committed.clone_from(&defaults);
        }
        self.go_to(defaults)
    }

    fn go_to(&mut self, values: BTreeMap<String, String>) -> Vec<Reply> {
        let before = std::mem::replace(&mut self.values, values);
        let reported = KNOWN.iter().filter(|known| known.kind == Reported);
        let changed = reported.filter(|known| {
            let key = known.name.to_lowercase();
            self.values.get(&key) != before.get(&key)
        });
        changed.map(|known| status(known.name, self.get(known.name).unwrap_or_default())).collect()
    }

    /// The client's own timeout; none where it is 0.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        self.get("statement_timeout").and_then(duration).filter(|timeout| !timeout.is_zero())
    }
}

/// Whether there is such a setting, by its name in lower case.
pub(super) fn is_known(key: &str) -> bool {
    KNOWN.iter().any(|known| known.name.eq_ignore_ascii_case(key))
}

/// The name as PostgreSQL writes it.
pub(super) fn spelled(key: &str) -> &str {
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(key)).map_or(key, |known| known.name)
}

fn status(name: &str, value: &str) -> Reply {
    Reply::ParameterStatus(ParameterStatus::new(name.to_owned(), value.replace('\0', "")))
}

fn check(key: &str, value: &str) -> Result<(), SqlError> {
    let lower = value.to_lowercase();
    let first = lower.split(',').next().unwrap_or_default().trim().to_owned();
    let (right, hint) = match key {
        "client_encoding" => {
            let plain: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
            (["utf8", "unicode", "sqlascii"].contains(&plain.as_str()), "Answers are UTF8.")
        }
        "datestyle" => {
            let order = ["iso", "mdy", "dmy", "ymd", "us", "euro", "european", "noneuropean"];
            (order.contains(&first.as_str()), "Dates are written in the ISO style.")
        }
        "intervalstyle" => (lower == "postgres", "Intervals are written in the postgres style."),
        "bytea_output" => (lower == "hex", "Bytes are written in hex."),
        "standard_conforming_strings" => {
            (["on", "true", "1", "yes"].contains(&lower.as_str()), "A backslash in a string is a backslash.")
        }
        "tidemill.on_stale" => (
            ["warn", "serve", "error"].contains(&lower.as_str()),
            "warn: what is out of date is read, and said to be; serve: it is read; error: a statement that reads it fails.",
        ),
        "statement_timeout" => (duration(value).is_some(), "Milliseconds, or a number with us, ms, s, min, h, d."),
        _ => return Ok(()),
    };
    if right {
        return Ok(());
    }
    let message = format!("invalid value for parameter \"{}\": \"{value}\"", spelled(key));
    Err(SqlError::new("22023", message).hint(hint))
}

fn warning(key: &str, value: &str, known: bool) -> Option<SqlError> {
    let lower = value.to_lowercase();
    if key == "timezone" && !["utc", "etc/utc", "gmt", "etc/gmt", "z", "0", "universal"].contains(&lower.as_str()) {
        let warning =
            SqlError::new("01000", format!("time zone \"{value}\" is not used: timestamps are answered in UTC"));
        return Some(warning.hint("Convert in the query: ts at time zone 'Asia/Shanghai'."));
    }
    if key == "datestyle" && lower.split(',').any(|part| ["dmy", "ymd", "euro", "european"].contains(&part.trim())) {
        let warning =
            SqlError::new("01000", format!("date style \"{value}\" is not used: 3/5/2026 is read as March 5"));
        return Some(warning.hint("Write dates as 2026-03-05."));
    }
    let ours = known || key == "timezone" || key.contains('.');
    (!ours).then(|| SqlError::new("01000", format!("parameter \"{key}\" has no effect here")))
}

/// As PostgreSQL shows it: in the largest unit that leaves no rest.
fn shown(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0".to_owned(),
        _ if ms.is_multiple_of(60_000) => format!("{}min", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// `500`, `500ms`, `5s`, `1 min`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at_checked(end)?;
    let count: u64 = count.parse().ok()?;
    let us = match unit.trim() {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    count.checked_mul(us).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_sets_has_a_bound_whatever_it_is_called() {
        let site = Site {
            version: "0".to_owned(),
            project: "shop".to_owned(),
            schema: "public".to_owned(),
            pg: String::new(),
        };
        let mut settings = Settings::new(&site, "ann", Duration::from_secs(30));
        let half = || Some("x".repeat(VALUES_BYTES_MAX / 2));
        let set = |settings: &mut Settings, name| settings.set(name, half()).map(|_| ()).map_err(|error| error.code);
        assert_eq!(set(&mut settings, "my.one"), Ok(()));
        assert_eq!(set(&mut settings, "my.one"), Ok(()));
        assert_eq!(set(&mut settings, "my.other"), Err("53400"));
        settings.reset();
        assert_eq!(set(&mut settings, "my.other"), Ok(()));
    }
}
