//! A session: it takes the marker over, and writes portions in transactions of their own.

use async_trait::async_trait;

use crate::destination::bisect::{AllRefused, Bisect};
use crate::destination::cells::{Cells, Room};
use crate::destination::kind::{Found, token};
use crate::destination::session::Route;
use crate::destination::tables::{self, Dialect as _};
use crate::destination::text::{Words, bytes_of_hex, push_hex};
use crate::destination::{Begun, Down, Item, MARKERS, Outcome, Portion, Refusal, Seal, Target};
use crate::source::mysql::MysqlConfig;
use crate::source::mysql::client::{self, Wire, WireError};

use super::table::{Described, Literal, OnServer, Place, quoted, text};
use super::{Fault, down, fault, unreachable};

/// Rows of one statement.
const ROWS_MAX: usize = 1_000;
/// Bytes behind which a statement takes no further row.
const STATEMENT_BYTES: usize = 1 << 20;

/// Sessions that write refuse what a column cannot hold. Dates that no calendar has are held as MySQL holds them, and a 0 is no wish
/// for a number.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', \
                       foreign_key_checks = 1, unique_checks = 1, innodb_lock_wait_timeout = 30";
/// Old servers take a NULL for the time of now where a column is of the type TIMESTAMP; some users may not set it.
const NULL_IS_NULL: &str = "SET SESSION explicit_defaults_for_timestamp = 1";

/// A connection whose session writes.
pub(super) async fn connect(config: &MysqlConfig) -> Result<Wire, Down> {
    let told = |error: WireError| down(&error, config);
    let mut wire = client::connect(config).await.map_err(|error| unreachable(&error, config))?;
    wire.execute(SESSION).await.map_err(told)?;
    // Where it is not ours to set, columns that are affected are few, and refused values the same.
    wire.execute(NULL_IS_NULL).await.ok();
    Ok(wire)
}

/// A connection that has taken a sync over.
pub(super) struct Session {
    wire: Wire,
    statements: Statements,
    /// The table with the markers, quoted.
    markers: String,
    /// Which of its rows is ours: a condition.
    ours: String,
    token: String,
    /// Whether the table was empty behind the last transaction of ours.
    left_empty: bool,
    /// The table, quoted.
    place: String,
    /// Asks of our marker whose session it is, of the table whether it is empty, and which columns it has.
    asks: String,
    /// A digest of the columns that were held to the sync.
    columns: Option<String>,
    /// The server takes no statement of more bytes.
    bytes_max: usize,
}

/// Deliveries of one sync.
pub(super) struct Delivery {
    pub(super) config: MysqlConfig,
    pub(super) target: Target,
}

#[async_trait]
impl Route for Delivery {
    type Session = Session;

    /// Connects, sees to the table and takes the marker over.
    async fn begin(&self, rows: u64) -> Result<(Session, Begun), Down> {
        let Self { config, target } = self;
        let told = |error: WireError| down(&error, config);
        let place = Place::of(target, config)?;
        let mut wire = connect(config).await?;
        let described =
            tables::prepare(&mut OnServer { wire: &mut wire, target, place: &place, config }, target).await?;
        let columns = columns_sql(&place);
        let known = wire.query(&format!("SELECT {columns}")).await.map_err(told)?.single().map(str::to_owned);
        let again = OnServer { wire: &mut wire, target, place: &place, config }.describe().await?;
        if again.as_ref() != Some(&described) {
            return Err(Down::altered(&place.full_name()));
        }
        let markers = format!("{}.{}", quoted(&place.database), quoted(MARKERS));
        let asked = format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
            text(&place.database),
            text(MARKERS)
        );
        if wire.query(&asked).await.map_err(told)?.rows.is_empty() {
            wire.execute(&marker_sql(&markers)).await.map_err(told)?;
        }
        let limit = wire.query("SELECT @@max_allowed_packet").await.map_err(told)?;
        let bytes_max = limit.single().and_then(|text| text.parse::<usize>().ok()).unwrap_or(STATEMENT_BYTES);
        let mut session = Session {
            statements: Statements::new(&described, target, &place, &wire),
            wire,
            ours: format!("sync = {} AND target = {}", text(&target.sync), text(&place.full_name())),
            markers,
            token: token(),
            left_empty: false,
            place: place.full_name(),
            asks: format!("SELECT session, NOT EXISTS (SELECT 1 FROM {}), {columns}", place.full_name()),
            columns: known,
            // The command's byte and what else goes with a packet.
            bytes_max: bytes_max.saturating_sub(1_024),
        };
        let begun = session.take_over(target, rows, &place).await.map_err(told)?;
        Ok((session, begun))
    }

    async fn deliver(&self, session: &mut Session, portion: &Portion, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
        session.deliver(&self.config, &self.target, portion, seal).await
    }

    async fn look(&self, session: &mut Session) -> Result<(), Down> {
        session.look(&self.config, &self.target).await
    }

    fn table(&self, down: &Down) -> Option<String> {
        let place = Place::of(&self.target, &self.config).ok()?;
        match down.failure.detail.contains(MARKERS) {
            true => Some(format!("{}.{}", quoted(&place.database), quoted(MARKERS))),
            false => Some(place.full_name()),
        }
    }

    async fn close(&self, session: Session) {
        session.wire.close().await;
    }
}

fn marker_sql(markers: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {markers} (sync VARCHAR(190) NOT NULL, target VARCHAR(190) NOT NULL, \
         session VARCHAR(190) NOT NULL, marker LONGBLOB, step BIGINT UNSIGNED, refused BIGINT UNSIGNED, \
         delivered_at DATETIME(6), PRIMARY KEY (sync, target)) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )
}

/// A digest of the columns of a table, as an expression.
fn columns_sql(place: &Place) -> String {
    format!(
        "(SELECT CONCAT_WS(' ', COUNT(*), SUM(CRC32(CONCAT_WS(' ', ORDINAL_POSITION, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, \
         COLLATION_NAME)))) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {})",
        text(&place.database),
        text(&place.name)
    )
}

/// The parts of statements that are the same for all rows.
struct Statements {
    insert: String,
    on_duplicate: String,
    delete: String,
    /// How each field is written.
    fields: Vec<Literal>,
    keys: Vec<Literal>,
    fractions: Vec<Option<u8>>,
    rooms: Vec<Option<Room>>,
}

impl Statements {
    fn new(described: &Described, target: &Target, place: &Place, wire: &Wire) -> Self {
        let (name, fields) = (place.full_name(), target.mapping.fields());
        let names: Vec<String> = fields.iter().map(|field| quoted(&field.target)).collect();
        let has_alias = !wire.server.mariadb && wire.server.numbers() >= (8, 0, 19);
        let set = |name: &String| match has_alias {
            true => format!("{name} = fresh.{name}"),
            false => format!("{name} = VALUES({name})"),
        };
        let others = names.iter().enumerate().filter(|(at, _)| !target.mapping.key().contains(at));
        let mut sets: Vec<String> = others.map(|(_, name)| set(name)).collect();
        if sets.is_empty() {
            // What is there is as it should be.
            sets.extend(target.mapping.key().first().map(|&at| set(&names[at])));
        }
        let alias = if has_alias { " AS fresh" } else { "" };
        let keys: Vec<&str> = target.mapping.key().iter().map(|&at| names[at].as_str()).collect();
        Self {
            insert: format!("INSERT INTO {name} ({}) VALUES ", names.join(",")),
            on_duplicate: format!("{alias} ON DUPLICATE KEY UPDATE {}", sets.join(",")),
            delete: format!("DELETE FROM {name} WHERE ({}) IN (", keys.join(",")),
            fields: fields.iter().map(|field| described.literal(field)).collect(),
            keys: target.mapping.key_fields().map(|field| described.literal(field)).collect(),
            fractions: fields.iter().map(|field| described.fraction(field)).collect(),
            rooms: fields.iter().map(|field| described.room(field)).collect(),
        }
    }
}

/// Writes a row in parentheses.
fn push_row(sql: &mut Vec<u8>, cells: &Cells, item: usize, literals: &[Literal]) {
    for (i, literal) in literals.iter().enumerate() {
        sql.push(if i == 0 { b'(' } else { b',' });
        let Some(cell) = cells.get(item, i) else {
            sql.extend_from_slice(b"NULL");
            continue;
        };
        match literal {
            Literal::Number => sql.extend_from_slice(cell),
            Literal::Bytes => {
                sql.extend_from_slice(b"x'");
                sql.extend_from_slice(cell);
                sql.push(b'\'');
            }
            Literal::Text => {
                sql.push(b'\'');
                for part in cell.split_inclusive(|byte| *byte == b'\'') {
                    sql.extend_from_slice(part);
                    if part.ends_with(b"'") {
                        sql.push(b'\'');
                    }
                }
                sql.push(b'\'');
            }
        }
    }
    sql.push(b')');
}

/// Whether a time has other than zeros behind so many digits of its fraction.
fn is_cut(cell: &[u8], digits: u8) -> bool {
    let point = cell.iter().position(|byte| *byte == b'.');
    let kept = |at: usize| cell.get(at + 1 + usize::from(digits)..).unwrap_or_default();
    point.is_some_and(|at| kept(at).iter().any(|byte| *byte != b'0'))
}

impl Session {
    /// Leaves our token beside the marker, and says what stood there. Whoever holds it is waited for: what they commit is seen.
    async fn take_over(&mut self, target: &Target, rows: u64, place: &Place) -> Result<Begun, WireError> {
        let Self { markers, ours, token, wire, left_empty, .. } = self;
        let session = text(token);
        let made = format!(
            "INSERT IGNORE INTO {markers} (sync, target, session) VALUES ({}, {}, {session})",
            text(&target.sync),
            text(&place.full_name())
        );
        let asked = format!(
            "SELECT HEX(marker), NOT EXISTS (SELECT 1 FROM {}) FROM {markers} WHERE {ours} FOR UPDATE",
            place.full_name()
        );
        wire.execute("BEGIN").await?;
        wire.execute(&made).await?;
        let found = wire.query(&asked).await?.rows.into_iter().next().unwrap_or_default();
        let cell = |i: usize| found.get(i).and_then(Option::as_deref);
        let found = Found {
            marker: cell(0).and_then(bytes_of_hex),
            // Nothing tells a table that was made anew from one that was altered.
            is_another: false,
            is_empty: cell(1) == Some("1"),
        };
        *left_empty = found.is_empty;
        let begun = found.judge(rows);
        let forgotten = if begun.lost.is_some() { ", marker = NULL" } else { "" };
        wire.execute(&format!("UPDATE {markers} SET session = {session}{forgotten} WHERE {ours}")).await?;
        wire.execute("COMMIT").await?;
        Ok(begun)
    }

    /// Writes a portion and its mark.
    async fn deliver(
        &mut self,
        config: &MysqlConfig,
        target: &Target,
        portion: &Portion,
        seal: &Seal<'_>,
    ) -> Result<Vec<Outcome>, Down> {
        let told = |error: WireError| down(&error, config);
        let (cells, mut known) = Cells::of(portion, &target.mapping, Words::Mysql);
        self.refuse_what_is_cut(portion, &cells, &mut known);
        cells.refuse_what_loses_blanks(portion, &self.statements.rooms, &mut known);
        let found = self.fence().await.map_err(told)?;
        self.is_as_left(&found, target)?;
        let open: Vec<usize> = (0..portion.len()).filter(|&at| known[at].is_none()).collect();
        let mut search = Bisect::new(open.len());
        while let Some(range) = search.next() {
            match self.try_rows(portion, &cells, &open[range], config).await {
                Ok(()) => search.took(),
                Err(Fault::Down(down)) => return Err(down),
                Err(Fault::Row(refusal)) => {
                    search.refused(refusal).map_err(|AllRefused(of)| Down::all_refused(&of.code, &of.reason))?;
                }
            }
        }
        let mut outcomes: Vec<Outcome> =
            known.into_iter().enumerate().map(|(at, known)| known.unwrap_or_else(|| portion.taken(at))).collect();
        for (at, refusal) in search.end() {
            outcomes[open[at]] = Outcome::Refused(refusal);
        }
        self.left_empty = self.commit(portion, &outcomes, seal).await.map_err(told)?;
        Ok(outcomes)
    }

    /// Whether the table and its marker are there as this session has left them, and nobody else has taken over.
    async fn look(&mut self, config: &MysqlConfig, target: &Target) -> Result<(), Down> {
        let sql = format!("{} FROM {} WHERE {}", self.asks, self.markers, self.ours);
        let found = self.wire.query(&sql).await.map_err(|error| down(&error, config))?;
        self.is_as_left(&found.rows, target)
    }

    /// Errors: somebody else has taken over, or the table was altered, or emptied.
    fn is_as_left(&self, found: &[Vec<Option<String>>], target: &Target) -> Result<(), Down> {
        let cell = |i: usize| found.first().and_then(|row| row.get(i)?.as_deref());
        if cell(0) != Some(self.token.as_str()) {
            return Err(Down::of_session(cell(0), &target.sync));
        }
        if cell(2) != self.columns.as_deref() {
            return Err(Down::altered(&self.place));
        }
        match cell(1) == Some("1") && !self.left_empty {
            true => Err(Down::not_as_left(&format!("table {} was emptied", self.place))),
            false => Ok(()),
        }
    }

    /// A column without microseconds would round them.
    fn refuse_what_is_cut(&self, portion: &Portion, cells: &Cells, known: &mut [Option<Outcome>]) {
        let times: Vec<(usize, u8)> = (self.statements.fractions.iter().enumerate())
            .filter_map(|(i, digits)| digits.filter(|digits| *digits < 6).map(|digits| (i, digits)))
            .collect();
        // Of what leaves there are cells for the key alone, and one that is cut was never taken.
        let is_open =
            |at: usize, known: &Option<Outcome>| known.is_none() && matches!(portion.get(at), Item::Upsert(_));
        for (at, known) in known.iter_mut().enumerate().filter(|(at, known)| is_open(*at, known)) {
            let is_cut = |&&(i, digits): &&(usize, u8)| cells.get(at, i).is_some_and(|cell| is_cut(cell, digits));
            if let Some((_, digits)) = times.iter().find(is_cut) {
                let reason = format!("a time would be rounded: its column has {digits} digits of a second's fraction");
                *known = Some(Outcome::Refused(Refusal::new("rounded", reason)));
            }
        }
    }

    /// Begins, and holds the marker, and the table's definition: answers whose session it is, and what table is there.
    async fn fence(&mut self) -> Result<Vec<Vec<Option<String>>>, WireError> {
        self.wire.execute("BEGIN").await?;
        let sql = format!("{} FROM {} WHERE {} FOR UPDATE", self.asks, self.markers, self.ours);
        Ok(self.wire.query(&sql).await?.rows)
    }

    /// Writes the marker, and ends the transaction. Answers whether the table is empty behind it.
    async fn commit(&mut self, portion: &Portion, outcomes: &[Outcome], seal: &Seal<'_>) -> Result<bool, WireError> {
        let mut marker = Vec::new();
        push_hex(&mut marker, &seal(outcomes));
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_))).count();
        let sql = format!(
            "UPDATE {} SET marker = x'{}', step = {}, refused = {refused}, delivered_at = UTC_TIMESTAMP(6) WHERE {}",
            self.markers,
            String::from_utf8_lossy(&marker),
            portion.step(),
            self.ours
        );
        self.wire.execute(&sql).await?;
        let has = |wanted: &Outcome| outcomes.contains(wanted);
        let is_empty = match (has(&Outcome::Accepted), has(&Outcome::Removed)) {
            (true, _) => false,
            (false, false) => self.left_empty,
            (false, true) => {
                let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", self.place);
                self.wire.query(&sql).await?.single() == Some("1")
            }
        };
        self.wire.execute("COMMIT").await?;
        Ok(is_empty)
    }

    /// Some rows. What leaves goes first: it may free a value that comes. A statement that fails has changed nothing; those before it
    /// have, and do so again where rows are tried once more.
    async fn try_rows(
        &mut self,
        portion: &Portion,
        cells: &Cells,
        items: &[usize],
        config: &MysqlConfig,
    ) -> Result<(), Fault> {
        let (gone, put): (Vec<usize>, Vec<usize>) =
            items.iter().copied().partition(|&item| matches!(portion.get(item), Item::Delete(_)));
        self.run(Form::Delete, &gone, cells, config).await?;
        self.run(Form::Upsert, &put, cells, config).await
    }

    /// Statements of some hundred rows each.
    async fn run(&mut self, form: Form, items: &[usize], cells: &Cells, config: &MysqlConfig) -> Result<(), Fault> {
        let mut items = items.iter().peekable();
        while items.peek().is_some() {
            let (begin, end, literals) = match form {
                Form::Delete => (&self.statements.delete, ")", &self.statements.keys),
                Form::Upsert => {
                    (&self.statements.insert, self.statements.on_duplicate.as_str(), &self.statements.fields)
                }
            };
            let mut sql = begin.clone().into_bytes();
            let mut rows = 0;
            while let Some(&&item) = items.peek() {
                if rows >= ROWS_MAX || rows > 0 && sql.len() + 2 * cells.item_bytes(item) > STATEMENT_BYTES {
                    break;
                }
                if rows > 0 {
                    sql.push(b',');
                }
                push_row(&mut sql, cells, item, literals);
                rows += 1;
                items.next();
            }
            sql.extend_from_slice(end.as_bytes());
            if sql.len() > self.bytes_max {
                // Of several rows a half is tried; of one it is the row.
                return Err(Fault::Row(Refusal::new("1153", "it is larger than the server takes: max_allowed_packet")));
            }
            let sql = String::from_utf8(sql).map_err(|_| Fault::Row(Refusal::new("1366", "a text is not UTF-8")))?;
            self.wire.execute(&sql).await.map_err(|error| fault(&error, config))?;
        }
        Ok(())
    }
}

/// What statements do with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Delete,
    Upsert,
}

#[cfg(test)]
mod tests {
    use super::is_cut;

    #[test]
    fn a_time_is_cut_where_digits_would_go() {
        assert!(is_cut(b"2026-01-01 00:00:00.000001", 5));
        assert!(!is_cut(b"2026-01-01 00:00:00.000001", 6));
        assert!(!is_cut(b"2026-01-01 00:00:00.120000", 2));
        assert!(is_cut(b"2026-01-01 00:00:00.120000", 1));
        assert!(!is_cut(b"2026-01-01 00:00:00", 0));
    }
}
