//! From log events to batches of whole transactions. No I/O: bytes in, [`SourceBatch`]es out.
//!
//! A transaction's events are its GTID, BEGIN, table maps with their rows, and XID (or COMMIT). Rows are decoded straight
//! into the batch under construction; per table the place is kept where the open transaction begins, so that a broken
//! connection can take it back ([`Assembler::abandon`]) and a batch can be cut before it ([`Assembler::take`]).
//!
//! The law of room: [`Assembler::is_full`] only where [`Assembler::take`] gives something. A transaction that outgrows a
//! batch is therefore handed over in parts, whole transactions before it first, and the rows held here are never more than
//! two batches and one event: [`Limits::bytes_max`] and [`TRANSACTION_ROWS`] say how large an open transaction becomes.
//!
//! What the log cannot tell puts a table in doubt ([`Doubt`]): its columns are read again ([`Step::Describe`]) before the event
//! in question is taken, so that no position behind it goes out first, and then the table is loaded again
//! ([`Notice::Reload`]) or leaves in this shape ([`Notice::Altered`]). What the batch still held of it goes: the load shows it.
//!
//! Columns that are left out change without a doubt (`shape`).
//!
//! Rows that the log has before the place where a load begins are passed over without being read ([`Passing`]): the load shows
//! them, and they may have been logged with columns of before.
//!
//! The cost of an event decides the speed of the whole capture. A table map is compared with the last one of its table id,
//! byte by byte, and is understood only when it differs; nothing is allocated per event or per transaction.

mod batch;
mod cascade;
mod doubt;
mod listen;
mod outdated;
mod payload;
mod place;
mod rows;
mod shape;
mod transaction;
mod xa;

use std::collections::BTreeMap;
use std::mem;

use hashbrown::HashMap;
use relation::{Layout, Position, SourceBatch, TableChanges, TableId};

use crate::source::{Failure, Limits};

use super::cascade::Cascades;
use super::decode::{self, Plan};
use super::error::{LOAD_ALL_AGAIN, WireError};
use super::event::{self, Checksum, Header, damaged, kind};
use super::position::{GtidSet, Gtids, LogPoint, LogPosition, Origin};
use super::reach::Reach;
use super::statement::{Dialect, Xid};
use super::window::{BagLoad, KeyHasher, Window};
use super::{CaptureTable, Load};
use listen::Deaf;

pub(crate) use doubt::fits;
pub(crate) use listen::{Heard, Hearing, Listener};

/// A transaction stays whole up to so many times the rows of a batch, as long as its bytes fit: most receivers have less
/// to do for one batch of 200,000 short rows than for ten parts.
const TRANSACTION_ROWS: usize = 10;
/// Keys that may have been touched in all windows together, as a multiple of the rows of a batch.
const TOUCHED_ROWS: usize = 100;
/// Changes of tables without a key that may be kept back while these are read, all together.
const BAG_BYTES_MAX: usize = 512 << 20;
/// News that may wait until they are fetched; more come only out of one event.
pub(crate) const NOTICES_MAX: usize = 1_000;
/// Bytes of a rejected row that are shown.
const SHOWN_BYTES_MAX: usize = 1 << 10;
/// Table ids remembered; a server hands out a new one whenever it reopens a table.
const MAPS_MAX: usize = 16_384;

/// What the caller must do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: give the next event.
    Next,
    /// A transaction is complete.
    Committed,
    /// The open transaction is as large as a part may be, or many news wait: see to [`Assembler::is_full`] before the next
    /// event.
    Outgrown,
    /// As [`Step::Outgrown`], in the midst of an event: give the same one once more then.
    Paused,
    /// Read this table's columns again, call [`Assembler::described`], and give the same event once more.
    Describe(usize),
    /// Foreign keys may be others: read them again, call [`Assembler::set_cascades`], and give the same event once more.
    Keys,
    /// A statement was logged as text, which may reach other databases: ask for what is behind their objects, call
    /// [`Assembler::set_reach`], and give the same event once more.
    Reach,
    /// Who listens asks something: answer, and give the same event once more.
    Asked,
}

/// News beside batches. They go out before the next batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Parked {
        table: TableId,
        reason: String,
    },
    /// The table with this number among the captured ones is loaded again, as soon as [`Assembler::begin_load`] is called.
    Reload {
        index: usize,
        table: TableId,
        reason: String,
    },
    Altered {
        table: TableId,
        statement: String,
    },
    /// The columns of the table with this number among the captured ones are others now, though its rows are what they were.
    Learned {
        index: usize,
    },
}

/// What is in doubt about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Its columns; its rows are what they were.
    Columns,
    /// Its columns, since the log has another number for it.
    Number,
    Content,
    /// Whether it is the same table, or one at all.
    Identity,
}

/// A doubt that [`Assembler::described`] will resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    index: usize,
    doubt: Doubt,
    /// A sentence, or the statement.
    reason: String,
    /// The event being read raised it, and is given once more.
    is_of_event: bool,
    /// A statement changes the table itself, which may be in the log before a query shows it.
    is_of_statement: bool,
}

/// What a table is to the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Followed,
    /// It is not there, or may not be seen. It may come back.
    Gone,
    /// It cannot be followed, until a person asks for it.
    Parked,
    /// It has other columns, and is another table for whoever receives them.
    Altered,
}

/// Which of the log's rows of a table are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Passing {
    Nothing,
    /// Its load has not begun, or it is not followed.
    Everything,
    /// Those of events that end here or before: its load, which shows them, was begun behind them.
    Until(LogPoint),
}

/// How a table's first load stands.
#[derive(Debug)]
enum Loading {
    Complete,
    Keyed(Window),
    Bag(BagLoad),
}

#[derive(Debug)]
struct Table {
    capture: CaptureTable,
    loading: Loading,
    standing: Standing,
    passing: Passing,
    /// The readers whose chunks count.
    run: u64,
    /// Chunks were handed over: the position is behind the load's begin.
    has_chunks: bool,
    /// Rows of the log were handed over since the load began: it cannot begin anew as if nothing were known of the table.
    has_rows: bool,
    /// The transaction in which a doubt was resolved last; there is no further one in it.
    answered_in: u64,
    /// The transaction of which a part with its rows was taken.
    parted_in: u64,
    /// How often its rows could not be read since they last could.
    misfits: u32,
    /// The log's number for it when its columns were last known to be the server's; and when they were last asked for because of
    /// another number.
    map_id: Option<u64>,
    looked_us: i64,
    /// Rows of it were read under another number without a look.
    is_unlooked: bool,
    suspect: Option<shape::Suspect>,
    /// The transaction that has a mark for this table.
    marked_in: u64,
    /// What the order of its columns is worth.
    order: shape::Order,
    /// Rows of it were read by that order alone.
    is_read_by_order: bool,
    /// Why it is loaded once more when it was read to its end.
    outdated: Option<String>,
    /// Changes of the open transaction, while a bag is being loaded.
    kept: TableChanges,
}

/// What a table id of the log means.
#[derive(Debug)]
struct Mapped {
    /// The table map's bytes.
    bytes: Vec<u8>,
    /// The captured table and how to read its rows; none for a table that is not captured.
    target: Option<(usize, Plan)>,
    /// Its changes reach captured tables without a trace.
    watched: Option<Box<cascade::Watched>>,
}

/// The transaction being read.
#[derive(Debug, Default)]
struct Open {
    /// Counts up, so that marks of an earlier one are void.
    number: u64,
    active: bool,
    /// Within BEGIN … COMMIT; otherwise a statement ends the transaction.
    begun: bool,
    /// From before the time that was asked for: only its position counts.
    skipped: bool,
    commit_time_us: i64,
    changes: u32,
    /// What the batch holds of it.
    rows: usize,
    bytes: usize,
    /// Parts of it that were taken.
    parts: u32,
    /// Per table touched: where its rows begin in the batch.
    marks: Vec<(usize, usize)>,
    gtid: Option<OpenGtid>,
    /// It may be prepared only, and committed later by another.
    is_xa: bool,
    /// The server's connection that has made it; 0 where the log does not tell.
    connection: u32,
    /// Tables that it has changed, where it may be prepared only, by database and name.
    changed: Vec<(String, String)>,
    /// Tables whose rows of it were passed over, where it may be prepared only.
    passed: Vec<usize>,
    /// Parts that were taken hold rows of a table that has come into doubt since: it must be read again from its head.
    is_void: bool,
}

#[derive(Debug, Clone, Copy)]
enum OpenGtid {
    /// Of a server that could number it and does not.
    Anonymous,
    /// Of `Assembler::origin`.
    MySql(u64),
    MariaDb {
        domain: u32,
        server_id: u32,
        sequence: u64,
    },
}

/// See the module's story.
#[derive(Debug)]
pub(crate) struct Assembler {
    tables: Vec<Table>,
    by_name: BTreeMap<(String, String), usize>,
    maps: HashMap<u64, Mapped>,
    checksum: Checksum,
    /// The end of the last whole transaction.
    position: LogPosition,
    /// How far this connection's log was read, up to the last transaction's end or heartbeat.
    applied: LogPoint,
    file: String,
    offset: u64,
    /// When `file` was begun, in seconds since 1970; 0 if the log has not said it yet.
    begun: u32,
    /// Events up to the position are read once more, and passed over.
    is_passing: bool,
    /// This connection has brought an event that a server finds only by searching its log, or a heartbeat.
    has_come: bool,
    /// While the position counts none: all numbered transactions of the log up to it, once the log has told them.
    counted: Option<GtidSet>,
    origin: Origin,
    open: Open,
    batch: SourceBatch,
    /// The batch is the last part, of this number, of a transaction that was handed over in parts.
    last_part: Option<u32>,
    /// The compressed transaction being read, or the buffers of the last one.
    inflating: Option<payload::Inflating>,
    /// A compressed transaction was left in its midst.
    is_inside_event: bool,
    /// The position of the batch last taken.
    sent: Option<Position>,
    notices: Vec<Notice>,
    limits: Limits,
    /// Transactions committed before are passed over (`start: {since: …}`). Microseconds since 1970.
    since_us: i64,
    read_time_us: i64,
    server: Dialect,
    /// Names differ by more than the case of their letters (`lower_case_table_names` is 0).
    has_exact_names: bool,
    asked: Option<Asked>,
    /// Foreign keys whose actions the log does not have, once they were asked for; those of before among them.
    cascades: Option<Cascades>,
    /// The same without those that are no more, for when the log was read up to where it ended when they were asked for.
    keys_left: Option<Cascades>,
    /// The statement before which they were asked for last.
    keys_asked_at: Option<(String, u64)>,
    /// Where the log ended when they were read.
    keys_as_of: LogPoint,
    /// Those that were known before were read before that statement.
    has_old_keys: bool,
    /// When the columns of any table were last asked for because of its number.
    looked_us: i64,
    /// What is behind the objects of databases, as of when that was asked for.
    reach: Reach,
    /// The statement before which that was.
    reach_asked_at: Option<LogPoint>,
    /// And when; none where the log has told of a statement since that may have changed it.
    reach_asked_us: Option<i64>,
    /// Transactions that were prepared and neither committed nor rolled back.
    prepared: BTreeMap<Xid, xa::Prepared>,
    /// Tables without a key of which changes are to be handed over behind their rows.
    closing: usize,
    /// Tables whose loads have ended.
    ended: Vec<usize>,
}

impl Assembler {
    pub(crate) fn new(tables: Vec<CaptureTable>, position: LogPosition, limits: Limits, since_us: i64) -> Self {
        let by_name = tables.iter().enumerate().map(|(i, t)| ((t.database.clone(), t.name.clone()), i)).collect();
        let mut assembler = Self {
            tables: tables.into_iter().map(Table::new).collect(),
            by_name,
            maps: HashMap::new(),
            checksum: Checksum::Unknown,
            applied: position.point.clone(),
            file: position.point.file.clone(),
            offset: position.point.offset,
            begun: 0,
            is_passing: false,
            has_come: false,
            counted: None,
            position,
            origin: Origin::default(),
            open: Open::default(),
            batch: SourceBatch::default(),
            last_part: None,
            inflating: None,
            is_inside_event: false,
            sent: None,
            notices: Vec::new(),
            limits,
            since_us,
            read_time_us: 0,
            server: Dialect::default(),
            has_exact_names: true,
            asked: None,
            cascades: None,
            keys_left: None,
            keys_asked_at: None,
            keys_as_of: LogPoint::default(),
            has_old_keys: true,
            reach: Reach::default(),
            reach_asked_at: None,
            reach_asked_us: None,
            looked_us: 0,
            prepared: BTreeMap::new(),
            closing: 0,
            ended: Vec::new(),
        };
        assembler.recall_prepared();
        assembler.reload_broken_off();
        assembler
    }

    /// Says whose log it is.
    pub(crate) fn set_server(&mut self, server: Dialect, has_exact_names: bool) {
        self.server = server;
        self.has_exact_names = has_exact_names;
        let names = self.tables.iter().enumerate();
        self.by_name = names
            .map(|(i, table)| {
                let (database, name) = (table.capture.database.clone(), table.capture.name.clone());
                (folded(database, name, has_exact_names), i)
            })
            .collect();
    }

    /// The captured table of a name.
    fn named(&self, database: String, name: String) -> Option<usize> {
        self.by_name.get(&folded(database, name, self.has_exact_names)).copied()
    }

    /// Where to resume: the end of the last whole transaction.
    pub(crate) fn position(&self) -> &LogPosition {
        &self.position
    }

    pub(crate) fn table(&self, index: usize) -> &CaptureTable {
        &self.tables[index].capture
    }

    /// Tables that still need chunks.
    pub(crate) fn loading(&self) -> Vec<usize> {
        self.tables.iter().enumerate().filter(|(_, t)| t.is_loading()).map(|(i, _)| i).collect()
    }

    /// Those among them whose load has not begun.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        let waits = |t: &Table| t.is_loading() && t.passing == Passing::Everything;
        self.tables.iter().enumerate().filter(move |(_, t)| waits(t)).map(|(i, _)| i)
    }

    /// Those among them whose load has begun.
    pub(crate) fn begun(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.tables.len()).filter(|&index| self.is_begun(index))
    }

    /// Whether a table's load has begun and is not over.
    pub(crate) fn is_begun(&self, index: usize) -> bool {
        self.tables[index].is_loading() && self.tables[index].passing != Passing::Everything
    }

    /// Whether keys are remembered of the table that the log has changed since its load began.
    pub(crate) fn has_window(&self, index: usize) -> bool {
        matches!(self.tables[index].loading, Loading::Keyed(_))
    }

    /// All captured tables.
    pub(crate) fn captures(&self) -> Vec<CaptureTable> {
        self.tables.iter().map(|table| table.capture.clone()).collect()
    }

    /// The captured table of a number.
    pub(crate) fn index_of(&self, id: TableId) -> Option<usize> {
        self.tables.iter().position(|table| table.capture.id == id)
    }

    /// The time at which the events given from now on were read.
    pub(crate) fn set_read_time(&mut self, us: i64) {
        self.read_time_us = us;
    }

    /// News since the last call.
    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        self.note_settled();
        mem::take(&mut self.notices)
    }

    /// A new connection begins where [`Assembler::position`] stands: what it left half-done is taken back.
    pub(crate) fn abandon(&mut self) {
        self.rollback();
        self.end_transaction();
        self.asked = None;
        if self.is_passing {
            // Counted up to some place before the position.
            self.counted = None;
        }
        (0..self.tables.len()).for_each(|index| self.lose_load(index));
        self.forget_suspects();
        self.is_inside_event = false;
        self.is_passing = false;
        self.has_come = false;
        self.begun = 0;
        self.checksum = Checksum::Unknown;
        self.maps.clear();
        self.applied = self.position.point.clone();
        self.file.clone_from(&self.applied.file);
        self.offset = self.applied.offset;
    }

    /// Takes one event, as it came: header, body, checksum.
    #[inline]
    pub(crate) fn event(&mut self, event: &[u8]) -> Result<Step, WireError> {
        self.event_heard(event, &mut Deaf)
    }

    /// The same for somebody who listens beside.
    #[inline]
    pub(crate) fn event_heard(&mut self, event: &[u8], listener: &mut impl Listener) -> Result<Step, WireError> {
        self.take_event(event, listener).map_err(|error| self.unread(error))
    }

    /// What cannot be read of the log, with its place: whatever does not hold together there is damage.
    #[cold]
    pub(crate) fn unread(&self, error: WireError) -> WireError {
        match error {
            WireError::Damaged(what) | WireError::Protocol(what) => {
                WireError::Damaged(format!("{what}, at {}", self.here()))
            }
            other => other,
        }
    }

    #[inline]
    fn take_event(&mut self, event: &[u8], listener: &mut impl Listener) -> Result<Step, WireError> {
        let header = Header::parse(event)?;
        if header.kind == kind::FORMAT_DESCRIPTION {
            self.checksum = Checksum::of_format_description(event);
            return self.file_begun(header);
        }
        // An event given once more was found whole the first time.
        let body = if self.is_inside_event { self.checksum.known_body(event) } else { self.checksum.body(event)? };
        if header.log_pos != 0 && !header.is_artificial() && header.kind != kind::HEARTBEAT {
            self.offset = extend(self.offset, header.log_pos);
        }
        self.has_come |= !kind::is_of_head(header.kind);
        if self.is_passing {
            return self.pass(header, event, body);
        }
        let step = match header.kind {
            kind::ROTATE => self.rotate(header, body),
            kind::HEARTBEAT => self.heartbeat(header, body),
            kind::TRANSACTION_PAYLOAD => self.payload(body, event.len(), listener),
            _ => self.in_order(header, event, body, event.len(), listener),
        }?;
        if step == Step::Committed {
            self.note_last(event);
        }
        Ok(step)
    }

    /// Events that may also stand inside a compressed transaction; `length` is that of the event of the file.
    fn in_order(
        &mut self,
        header: Header,
        event: &[u8],
        body: &[u8],
        length: usize,
        listener: &mut impl Listener,
    ) -> Result<Step, WireError> {
        if !self.open.skipped {
            let start = self.offset.saturating_sub(length as u64);
            let heard = Heard { header, event, body, file: &self.file, start };
            if listener.hear(&heard)? == Hearing::Asks {
                return Ok(Step::Asked);
            }
        }
        match header.kind {
            k if self.open.skipped && kind::is_of_rows(k) => Ok(Step::Next),
            kind::TABLE_MAP => self.table_map(body),
            k if kind::is_rows(k) => self.rows(k, body),
            k if kind::MARIADB_ROWS_COMPRESSED.contains(&k) => self.compressed_rows(k, body),
            kind::XID => Ok(self.commit(header)),
            kind::GTID | kind::ANONYMOUS_GTID => {
                let head = event::gtid(body, header.kind == kind::ANONYMOUS_GTID, &mut self.origin)?;
                self.begin_mysql(header, head);
                Ok(Step::Next)
            }
            kind::GTID_TAGGED => {
                let head = event::gtid_tagged(body, &mut self.origin)?;
                self.begin_mysql(header, head);
                Ok(Step::Next)
            }
            kind::MARIADB_GTID => self.begin_mariadb(header, event, body),
            kind::QUERY => self.query(header, event::query(body)?),
            kind::MARIADB_QUERY_COMPRESSED => {
                let query = event::query(body)?;
                let text = decode::inflate_mariadb_block(query.text).map_err(|e| damaged(&e.to_string()))?;
                self.query(header, query.with_text(&text))
            }
            kind::EXECUTE_LOAD_QUERY => self.query(header, event::load_query(body)?),
            kind::PREVIOUS_GTIDS => self.count_previous(body),
            kind::XA_PREPARE => self.xa_prepare(header, body),
            kind::INCIDENT => Ok(self.incident(header)),
            kind::STOP
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::BEGIN_LOAD_QUERY
            | kind::IGNORABLE
            | kind::ROWS_QUERY
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::HEARTBEAT_V2
            | kind::MARIADB_ANNOTATE_ROWS
            | kind::MARIADB_BINLOG_CHECKPOINT
            | kind::MARIADB_GTID_LIST
            | kind::MARIADB_START_ENCRYPTION => Ok(Step::Next),
            _ if header.is_ignorable() => Ok(Step::Next),
            other => Err(unknown_event(other, &self.here())),
        }
    }

    fn rotate(&mut self, header: Header, body: &[u8]) -> Result<Step, WireError> {
        let (offset, file) = event::rotate(body)?;
        // The rotation that opens a stream tells where it starts, which is our position unless the server has chosen by
        // GTIDs; it must not move the position, for the transactions before it are not all ours.
        (self.file, self.offset, self.begun) = (file, offset, 0);
        if !self.open.active {
            self.applied = LogPoint::new(self.file.clone(), self.offset);
            if !header.is_artificial() {
                self.move_to_applied();
            }
        }
        Ok(Step::Next)
    }

    /// The server has nothing more to send up to this place.
    fn heartbeat(&mut self, header: Header, body: &[u8]) -> Result<Step, WireError> {
        if !self.open.active && header.log_pos != 0 && body == self.file.as_bytes() {
            self.offset = extend(self.offset, header.log_pos);
            self.applied.offset = self.offset;
            self.applied.file.clone_from(&self.file);
            self.move_to_applied();
        }
        Ok(Step::Next)
    }

    /// How far this connection's log was read, once it is known to be the one that was left.
    pub(crate) fn applied(&self) -> Option<&LogPoint> {
        (!self.is_passing).then_some(&self.applied)
    }

    /// The place of the event being read, and the transaction that it is of.
    pub(crate) fn being_read(&self) -> LogPosition {
        let gtids = match self.open.gtid {
            Some(OpenGtid::MySql(number)) => {
                let mut set = GtidSet::default();
                set.add(&self.origin, number);
                Gtids::MySql(set)
            }
            _ => Gtids::Off,
        };
        LogPosition::new(LogPoint::new(self.file.clone(), self.offset), gtids)
    }

    fn here(&self) -> String {
        format!("{}:{}", self.file, self.offset)
    }
}

impl Table {
    fn new(capture: CaptureTable) -> Self {
        let loading = Loading::of(&capture);
        let order = if capture.is_placed { shape::Order::Settled } else { shape::Order::Asked };
        let has_chunks = matches!(capture.load, Load::Pending { cursor: Some(_) });
        let passing = match capture.load {
            Load::Pending { cursor: None } => Passing::Everything,
            Load::Pending { .. } | Load::Complete => Passing::Nothing,
        };
        Self {
            capture,
            loading,
            standing: Standing::Followed,
            passing,
            run: 0,
            has_chunks,
            has_rows: false,
            answered_in: u64::MAX,
            parted_in: u64::MAX,
            misfits: 0,
            map_id: None,
            looked_us: 0,
            is_unlooked: false,
            suspect: None,
            marked_in: u64::MAX,
            order,
            is_read_by_order: false,
            outdated: None,
            kept: TableChanges::default(),
        }
    }

    fn has_left_out(&self) -> bool {
        let rule = &self.capture.rule;
        let may_come = !rule.left_out.is_empty() || rule.declared().is_some();
        may_come || self.capture.columns.iter().any(|column| column.left_out.is_some())
    }

    fn is_loading(&self) -> bool {
        self.standing == Standing::Followed && !matches!(self.loading, Loading::Complete)
    }

    /// The load begins from the start, once it is told where the log ends.
    fn load_anew(&mut self) {
        self.capture.load = Load::Pending { cursor: None };
        self.loading = Loading::of(&self.capture);
        self.passing = Passing::Everything;
        self.run = 0;
        self.has_chunks = false;
        self.has_rows = false;
        self.outdated = None;
        self.kept = TableChanges::default();
    }
}

impl Loading {
    fn of(capture: &CaptureTable) -> Self {
        match &capture.load {
            Load::Complete => Self::Complete,
            Load::Pending { .. } if capture.schema.key.is_empty() => Self::Bag(BagLoad::default()),
            Load::Pending { .. } => {
                let layout = Layout::new(capture.schema.types());
                Self::Keyed(Window::new(KeyHasher::new(layout, capture.schema.key.clone())))
            }
        }
    }
}

/// Names as they are compared.
fn folded(database: String, name: String, has_exact_names: bool) -> (String, String) {
    if has_exact_names { (database, name) } else { (database.to_lowercase(), name.to_lowercase()) }
}

/// The 64-bit offset behind an event whose header has its low 32 bits. Offsets only grow within a file.
fn extend(before: u64, low: u32) -> u64 {
    let offset = before & !0xffff_ffff | u64::from(low);
    if offset < before { offset + (1 << 32) } else { offset }
}

/// Raw bytes as messages show them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

/// The reverse of [`hex`].
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

/// What messages show of a row's bytes: the first of them where there are many.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN_BYTES_MAX) {
        None => hex(bytes),
        Some(first) => format!("{}… ({} bytes)", hex(first), bytes.len()),
    }
}

fn unknown_event(kind: u8, here: &str) -> WireError {
    WireError::Stalled(Box::new(Failure {
        message: format!("the log has an event of type {kind}, which is unknown"),
        detail: format!("It stands at {here} and is not marked as one that may be passed over."),
        hint: format!("A newer version may know it; or {LOAD_ALL_AGAIN}."),
    }))
}
