//! Does a server's log lead on from where we stopped? Asked before every connection to it, and now and then meanwhile.
//!
//! ```text
//! the server that we have read    its file is there, and holds our last event   by file and offset
//!                                 the file is gone                              by numbers, if it has all that we have seen
//! another one                     it has all transactions that we have seen     by numbers
//!                                 it is a replica, and has not                  wait
//! anything else                   another history                               stalled
//! ```
//!
//! Law: the log is read on only where it is the one that was read before. A file's name and a transaction's number mean
//! nothing by themselves: a server that was reset hands out both once more. That its file still holds our last event is
//! seen when the event comes (the assembler passes over it); what can be known before is judged here, from values alone.

use std::collections::BTreeMap;

use crate::source::Failure;

use super::MysqlConfig;
use super::error::{LOAD_ALL_AGAIN, WireError, purged};
use super::login::Met;
use super::position::{DomainGtids, GtidSet, Gtids, LogPoint, LogPosition, is_same_server};
use super::server::{Facts, log_files, unclear};
use super::wire::{ServerInfo, TextRows, Wire};

/// What a server is and has, as far as it matters for going on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ground {
    /// As [`identity`](super::server::identity) tells it.
    pub(crate) server: String,
    /// It can be asked for transactions by their numbers.
    pub(crate) is_numbered: bool,
    /// MySQL: the transactions it has executed, and those of them that its log no longer holds.
    pub(crate) executed: GtidSet,
    pub(crate) purged: GtidSet,
    /// MariaDB: per domain and server id the last transaction in its log.
    pub(crate) domains: BTreeMap<(u32, u32), u64>,
    /// Its log files and their sizes, oldest first.
    pub(crate) files: Vec<(String, u64)>,
    /// What it says of itself as a replica.
    pub(crate) follows: Follows,
    /// Its kind and age.
    pub(crate) info: ServerInfo,
}

/// Whom a server follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Follows {
    #[default]
    Nobody,
    Another(Replica),
    /// It does not tell us: missing is this right.
    Untold(&'static str),
}

/// How a server follows another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Replica {
    pub(crate) source: String,
    pub(crate) is_running: bool,
    /// It takes writes of its own: whoever does not follow any more and writes has been promoted.
    pub(crate) is_writable: bool,
    /// Seconds behind its source, where it says so.
    pub(crate) behind_s: Option<u64>,
}

/// Whether to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn(Way),
    /// Not as things are; the failure says whether time may heal it, or only a person.
    Stalled(Failure),
}

/// How the log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From this offset of the position's file, at or before the position.
    File(u64),
    Numbers,
}

impl Ground {
    /// Of the server that was met.
    pub(crate) async fn read(wire: &mut Wire, facts: &Facts, met: &Met) -> Result<Self, WireError> {
        let mut ground = match wire.server.mariadb {
            true => Self::of_mariadb(wire).await?,
            false => Self::of_mysql(wire, facts).await?,
        };
        ground.server.clone_from(&met.server);
        ground.files = log_files(wire).await?;
        ground.follows = follows(wire).await?;
        ground.info.clone_from(&wire.server);
        Ok(ground)
    }

    async fn of_mysql(wire: &mut Wire, facts: &Facts) -> Result<Self, WireError> {
        // MySQL 5.5 knows neither.
        if wire.server.numbers() < (5, 6, 5) {
            return Ok(Self::default());
        }
        let rows = wire.query("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged").await?;
        let row = rows.rows.into_iter().next().unwrap_or_default();
        let [Some(executed), Some(purged)] = &row[..] else { return Err(unclear("what it has executed")) };
        let set = |text: &str| text.parse::<GtidSet>().map_err(|e| WireError::Protocol(e.to_string()));
        let (executed, purged) = (set(executed)?, set(purged)?);
        Ok(Self { is_numbered: facts.gtid_mode, executed, purged, ..Self::default() })
    }

    async fn of_mariadb(wire: &mut Wire) -> Result<Self, WireError> {
        let rows = wire.query("SELECT @@GLOBAL.gtid_binlog_state").await?;
        let state = rows.single().ok_or_else(|| unclear("what it has logged"))?;
        let mut domains = BTreeMap::new();
        for gtid in state.split(',').map(str::trim).filter(|gtid| !gtid.is_empty()) {
            let one: DomainGtids = gtid.parse().map_err(|e| WireError::Protocol(format!("{e}")))?;
            domains.extend(one.iter().map(|(domain, (id, sequence))| ((domain, id), sequence)));
        }
        Ok(Self { is_numbered: true, domains, ..Self::default() })
    }

    /// Whether to go on from a position that was read before, and how.
    pub(crate) fn judge(&self, position: &LogPosition, config: &MysqlConfig) -> Verdict {
        let mark = &position.mark;
        if !mark.server.is_empty() && !is_same_server(&mark.server, &self.server) {
            // The file itself proves it: the same event in it, in the same file. A machine may have got another name.
            let is_proven = mark.last.is_some() && is_renamed(&mark.server, &self.server);
            return match self.can_number(position) {
                true => self.by_numbers(position, config),
                false if is_proven && matches!(self.place(position), Place::Here) => self.by_file(position, config),
                false => Verdict::Stalled(foreign(
                    config,
                    format!(
                        "It is {}, and what we have read is of {}. Without numbered transactions (GTIDs) a position in \
                         one server's log says nothing about another's.",
                        self.server, mark.server
                    ),
                )),
            };
        }
        // A position of before servers were remembered: its numbers are all that can be compared.
        if mark.server.is_empty() && self.can_number(position) {
            return self.by_numbers(position, config);
        }
        let is_proven = mark.last.is_some();
        // Numbers find what a file does not hold any more, and name what was committed while the position was taken.
        if self.can_number(position) && !(is_proven && self.proves_by_event(position)) {
            return match self.place(position) {
                Place::Beyond(detail) => Verdict::Stalled(history(config, detail)),
                Place::Here if is_proven && self.may_have_fallen(position) => self.by_file(position, config),
                _ => self.by_numbers(position, config),
            };
        }
        match self.place(position) {
            Place::Here => self.by_file(position, config),
            Place::Beyond(detail) => Verdict::Stalled(history(config, detail)),
            Place::Gone if self.can_number(position) => self.by_numbers(position, config),
            Place::Gone => Verdict::Stalled(purged(
                config,
                format!("{} is not among its log files, which begin with {}.", position.point.file, self.first_file()),
                &self.info,
            )),
        }
    }

    /// Whether the place of a position is one of this server's log, as it is now.
    pub(crate) fn holds(&self, position: &LogPosition) -> bool {
        is_same_server(&position.mark.server, &self.server) && matches!(self.place(position), Place::Here)
    }

    /// Whether the server can be asked for what is not in a position's set.
    fn can_number(&self, position: &LogPosition) -> bool {
        self.is_numbered && position.gtids != Gtids::Off
    }

    /// Whether the last event can be read again, and all behind it in the order of the file. Where MariaDB's transactions
    /// have several domains, the file is behind in one and ahead in another.
    fn proves_by_event(&self, position: &LogPosition) -> bool {
        let in_order = match &position.gtids {
            Gtids::MariaDb(set) => set.iter().count() <= 1,
            Gtids::MySql(_) | Gtids::Off => true,
        };
        in_order && u32::try_from(position.point.offset).is_ok()
    }

    /// Whether MariaDB's numbers say that transactions are missing, which proves nothing: where `gtid_strict_mode` is off, one of a
    /// smaller number may come after one of a greater. That what was read is there still, the event at the kept place says.
    fn may_have_fallen(&self, position: &LogPosition) -> bool {
        let is_missing = match &position.gtids {
            Gtids::MariaDb(seen) => !self.missing_of_mariadb(seen).0.is_empty(),
            Gtids::MySql(_) | Gtids::Off => false,
        };
        is_missing && u32::try_from(position.point.offset).is_ok()
    }

    fn first_file(&self) -> &str {
        self.files.first().map_or("none", |(name, _)| name)
    }

    /// Where a position is among the log files.
    fn place(&self, position: &LogPosition) -> Place {
        let point = &position.point;
        if point.file.is_empty() {
            return Place::Gone;
        }
        if let Some((_, bytes)) = self.files.iter().find(|(name, _)| *name == point.file) {
            return match *bytes < point.offset {
                true => Place::Beyond(format!("We have read up to {point}, and that file has {bytes} bytes.")),
                false => Place::Here,
            };
        }
        match self.files.last() {
            Some((last, _)) if LogPoint::new(last.clone(), 0).is_in_older_file(point) => {
                Place::Beyond(format!("We have read up to {point}, and its newest log file is {last}."))
            }
            _ => Place::Gone,
        }
    }

    fn by_file(&self, position: &LogPosition, config: &MysqlConfig) -> Verdict {
        let (mark, offset) = (&position.mark, position.point.offset.max(4));
        let is_within = |offset: &u64| u32::try_from(*offset).is_ok();
        let from = mark.last.map(|last| last.start).filter(is_within);
        match from.or(Some(offset).filter(is_within)).or(mark.below) {
            Some(from) => Verdict::GoOn(Way::File(from)),
            None => Verdict::Stalled(Failure {
                message: format!("{} cannot be asked for its log from where we stopped", config.address()),
                detail: format!("That is {}; servers can be asked for the first 4 GiB of a file.", position.point),
                hint: LOAD_ALL_AGAIN.to_owned(),
            }),
        }
    }

    fn by_numbers(&self, position: &LogPosition, config: &MysqlConfig) -> Verdict {
        let (missing, is_foreign) = match &position.gtids {
            Gtids::Off => return Verdict::Stalled(foreign(config, "It numbers no transactions.".to_owned())),
            Gtids::MySql(seen) => {
                let missing = seen.without(&self.executed);
                let is_foreign = !missing.is_empty() && !seen.shares_an_origin(&self.executed);
                if missing.is_empty() && !seen.covers(&self.purged) {
                    let gone = self.purged.without(seen);
                    return Verdict::Stalled(purged(
                        config,
                        format!("Transactions {gone} are purged, and we lack them."),
                        &self.info,
                    ));
                }
                (missing.to_string(), is_foreign)
            }
            Gtids::MariaDb(seen) => self.missing_of_mariadb(seen),
        };
        if missing.is_empty() {
            return Verdict::GoOn(Way::Numbers);
        }
        // A MariaDB replica may have executed it, and not logged it.
        let unless = if self.domains.is_empty() { "" } else { " (a replica needs log_slave_updates for that)" };
        let lacks = format!("Its log does not have {missing}, which we have read{unless}.");
        match &self.follows {
            Follows::Another(replica) if replica.is_running || !replica.is_writable => Verdict::Stalled(Failure {
                message: format!("{} lags behind what we have read", config.address()),
                detail: format!(
                    "{lacks} It is a replica of {}, and {}.",
                    replica.source,
                    if replica.is_running { "follows it" } else { "does not follow it at the moment" }
                ),
                hint: format!(
                    "We go on as soon as it has caught up. If its source does not have them either, it never will: {LOAD_ALL_AGAIN}"
                ),
            }),
            Follows::Untold(right) => Verdict::Stalled(Failure {
                message: format!("{} does not have all that we have read", config.address()),
                detail: format!("{lacks} Whether it is a replica that lags, it does not tell us."),
                hint: format!(
                    "GRANT {right} ON *.* TO '{}'@'%'. If it is one, we go on as soon as it has caught up; if not, its log has \
                     another history: {LOAD_ALL_AGAIN}",
                    config.user
                ),
            }),
            _ if is_foreign => Verdict::Stalled(foreign(config, lacks)),
            _ => Verdict::Stalled(history(config, lacks)),
        }
    }

    /// Transactions that a MariaDB server's log has not come to, and whether it knows none of their origins.
    fn missing_of_mariadb(&self, seen: &DomainGtids) -> (String, bool) {
        let mut missing = DomainGtids::default();
        let mut is_foreign = true;
        for (domain, (server_id, sequence)) in seen.iter() {
            let last = self.domains.get(&(domain, server_id)).copied();
            is_foreign &= last.is_none();
            if last.is_none_or(|last| last < sequence) {
                missing.set(domain, server_id, sequence);
            }
        }
        (missing.to_string(), is_foreign)
    }
}

/// Whether MariaDB servers have the same id, with another host name or port.
fn is_renamed(one: &str, other: &str) -> bool {
    let id = |server: &str| server.split_once('@').map(|(id, _)| id.to_owned());
    id(one).is_some() && id(one) == id(other)
}

enum Place {
    Here,
    /// The log no longer has that file, or the position names none.
    Gone,
    /// The log has not come so far.
    Beyond(String),
}

fn history(config: &MysqlConfig, detail: String) -> Failure {
    Failure {
        message: format!("the log of {} has another history than the one we have read", config.address()),
        detail: format!(
            "{detail} It was reset, or the server was restored from a backup, or transactions were lost in a failover."
        ),
        hint: LOAD_ALL_AGAIN.to_owned(),
    }
}

fn foreign(config: &MysqlConfig, detail: String) -> Failure {
    Failure {
        message: format!("{} is another server than the one we have read", config.address()),
        detail,
        hint: format!(
            "Correct host and port of the connection. Or, if this is the server from now on: {LOAD_ALL_AGAIN}"
        ),
    }
}

/// How the server follows another one. It may be that we have no right to ask.
pub(crate) async fn follows(wire: &mut Wire) -> Result<Follows, WireError> {
    let command = if wire.server.speaks_of_replicas() {
        "SHOW REPLICA STATUS"
    } else if wire.server.mariadb {
        "SHOW ALL SLAVES STATUS"
    } else {
        "SHOW SLAVE STATUS"
    };
    let rows = match wire.query(command).await {
        Err(WireError::Server(_)) => return Ok(Follows::Untold(wire.server.right_to_ask_for_source())),
        other => other?,
    };
    if rows.rows.is_empty() {
        return Ok(Follows::Nobody);
    }
    let read_only = wire.query("SELECT @@GLOBAL.read_only").await?;
    Ok(Follows::Another(replica_of(&rows, read_only.single() == Some("0"))))
}

fn replica_of(rows: &TextRows, is_writable: bool) -> Replica {
    let get = |names: [&str; 2]| names.iter().find_map(|name| rows.first(name)).unwrap_or_default();
    let runs = |names| get(names) == "Yes";
    Replica {
        source: format!("{}:{}", get(["Source_Host", "Master_Host"]), get(["Source_Port", "Master_Port"])),
        is_running: runs(["Replica_IO_Running", "Slave_IO_Running"])
            && runs(["Replica_SQL_Running", "Slave_SQL_Running"]),
        is_writable,
        behind_s: get(["Seconds_Behind_Source", "Seconds_Behind_Master"]).parse().ok(),
    }
}
