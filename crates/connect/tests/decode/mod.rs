//! Cases of the decoder: what a real server wrote, and the rows that come of it.
//!
//! ```text
//! record mysql binlog_row_metadata=FULL   SQL, one statement a line, run on a real server against the table `t`
//! ----                                    the table's columns as information_schema tells them, the log's events, and
//!                                         the rows that a snapshot reads in the end; kept here, so that no server is needed
//! given                                   the same lines, written by hand
//! columns                                 other columns than the recorded ones, as a stale registry has them
//! keeps                                   the table keeps these columns from now on, `name type` each, the key first (`on_change: map`)
//! schema                                  prints the warehouse's columns
//! map                                     prints what the table maps tell
//! decode [without metadata]               prints the changes, after checking that they add up to the snapshot's rows
//! snapshot                                prints the snapshot's rows
//! select                                  prints the snapshot's expressions
//! ```
//!
//! With `SLOW=1` the servers of `scripts/services` run the SQL again: what they write must be what was recorded, byte for
//! byte. `SLOW=1 UPDATE=1` records anew.

#![allow(clippy::unwrap_used, reason = "test code: a panic fails the case")]

pub(crate) mod charsets;
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use connect::source::mysql::decode::{
    Plan, SnapshotPlan, SourceColumn, TableMap, inflate_mariadb, relation_schema, table_id,
};
use relation::{Column, Entry, Layout, Rows, Schema, TableChanges, Unread, Value};
use testkit::{Block, Driver};

/// What stands between the fields of a column line.
const SEPARATOR: &str = " | ";
const TABLE_MAP: u8 = 19;

/// A table as a server described and logged it.
#[derive(Default, Clone)]
pub(crate) struct Recording {
    pub(crate) columns: Vec<SourceColumn>,
    /// Event types and payloads, in order.
    pub(crate) events: Vec<(u8, Vec<u8>)>,
    /// Cells of a snapshot taken in the end.
    snapshot: Option<Vec<Vec<Option<Vec<u8>>>>>,
    /// The columns that the table keeps, where it does.
    keeps: Option<Schema>,
}

/// Runs one case.
pub(crate) struct DecodeDriver {
    /// The case's name: that of its database on a server.
    name: String,
    recording: Recording,
}

impl DecodeDriver {
    pub(crate) fn new(case: &Path) -> Self {
        let name = case.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
        Self { name, recording: Recording::default() }
    }
}

impl Driver for DecodeDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let arguments: Vec<&str> = block.arguments.iter().map(String::as_str).collect();
        match block.directive.as_str() {
            "record" => self.record(&arguments, block),
            "given" => {
                self.recording = parse(&block.body)?;
                Ok(String::new())
            }
            "columns" => {
                self.recording.columns = parse(&block.body)?.columns;
                // The snapshot was taken with the columns as they are.
                self.recording.snapshot = None;
                Ok(String::new())
            }
            "keeps" => {
                self.recording.keeps = Some(kept(&block.body)?);
                Ok(String::new())
            }
            "schema" => Ok(schema(&self.recording.columns)),
            "map" => self.recording.maps(),
            "decode" => self.recording.decode(arguments.contains(&"metadata")),
            "snapshot" => self.recording.print_snapshot(),
            "select" => Ok(SnapshotPlan::new(&self.recording.columns).map_err(|e| e.reason)?.select_list().join("\n")),
            other => Err(format!("unknown directive \"{other}\"")),
        }
    }
}

impl DecodeDriver {
    fn record(&mut self, arguments: &[&str], block: &Block) -> Result<String, String> {
        let recorded = block.answer.clone().unwrap_or_default();
        let text = match std::env::var("SLOW").as_deref() {
            Ok("1") => {
                let (product, settings) = arguments.split_first().ok_or("record needs mysql or mariadb")?;
                let recording = server::record(product, settings, &format!("decode_{}", self.name), &block.body)?;
                recording.print()
            }
            _ => recorded,
        };
        self.recording = parse(&text)?;
        Ok(text)
    }
}

impl Recording {
    fn print(&self) -> String {
        let mut out = String::new();
        for column in &self.columns {
            let mut flags = String::new();
            if !column.nullable {
                flags.push_str("not_null ");
            }
            if let Some(position) = column.key_position {
                write!(flags, "key={position} ").unwrap();
            }
            if column.is_mariadb_json {
                flags.push_str("json ");
            }
            if column.left_out.is_some() {
                flags.push_str("left_out ");
            }
            if !column.extra.is_empty() {
                write!(flags, "extra={}", column.extra).unwrap();
            }
            let charset = column.charset.as_deref().unwrap_or("-");
            let collation = column.collation.as_deref().unwrap_or("-");
            let fields = [&column.name, &column.data_type, &column.column_type, charset, collation, flags.trim()];
            writeln!(out, "column {}", fields.join(SEPARATOR)).unwrap();
        }
        for (kind, payload) in &self.events {
            writeln!(out, "event {kind} {}", hex(payload)).unwrap();
        }
        for row in self.snapshot.iter().flatten() {
            let cells = row.iter().map(|cell| cell.as_ref().map_or("-".to_owned(), |bytes| hex(bytes)));
            writeln!(out, "row {}", cells.collect::<Vec<_>>().join(",")).unwrap();
        }
        if self.snapshot.as_ref().is_some_and(Vec::is_empty) {
            out.push_str("no rows\n");
        }
        out.trim_end().to_owned()
    }

    fn maps(&self) -> Result<String, String> {
        let mut out = String::new();
        for (_, payload) in self.events.iter().filter(|(kind, _)| *kind == TABLE_MAP) {
            let map = TableMap::parse(payload).map_err(|e| e.to_string())?;
            writeln!(out, "table {}.{}", map.database, map.table).unwrap();
            for i in 0..map.column_types.len() {
                let name = map.names.as_ref().map_or("-", |names| names[i].as_str());
                let [low, high] = map.column_meta[i];
                write!(out, "{name}: type {} ({low}, {high})", map.column_types[i]).unwrap();
                let notes = [
                    (map.nullable[i], "nullable".to_owned()),
                    (map.unsigned.as_ref().is_some_and(|u| u[i]), "unsigned".to_owned()),
                    (map.collations[i].is_some(), format!("collation {}", map.collations[i].unwrap_or(0))),
                    (map.labels[i].is_some(), format!("{} labels", map.labels[i].as_ref().map_or(0, Vec::len))),
                    (map.primary_key.as_ref().is_some_and(|k| k.contains(&i)), "key".to_owned()),
                ];
                for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
                    write!(out, ", {note}").unwrap();
                }
                out.push('\n');
            }
        }
        Ok(out)
    }

    /// As [`Self::changes`]; and where all could be read, each column in its turn is left out: the others are as they were.
    fn decode(&self, without_metadata: bool) -> Result<String, String> {
        let (out, all) = self.changes(without_metadata)?;
        let Some(all) = all.filter(|_| self.keeps.is_none()) else { return Ok(out) };
        for (i, column) in self.columns.iter().enumerate() {
            let stored = |column: &&SourceColumn| column.is_stored();
            if !column.is_stored() || column.key_position.is_some() || self.columns.iter().filter(stored).count() == 1 {
                continue;
            }
            let place = self.columns[..i].iter().filter(stored).count();
            let mut less = Self { snapshot: None, ..self.clone() };
            less.columns[i].left_out = Some("left out".to_owned());
            // Nothing is asked of its type.
            "wormhole".clone_into(&mut less.columns[i].data_type);
            let (said, rest) = less.changes(without_metadata)?;
            let rest = rest.ok_or_else(|| format!("without {}: {said}", column.name))?;
            let layout = |columns: &[SourceColumn]| relation_schema(columns).map(|schema| Layout::new(schema.types()));
            let (whole, sparse) = (layout(&self.columns), layout(&less.columns));
            let (whole, sparse) = (whole.map_err(|e| e.reason)?, sparse.map_err(|e| e.reason)?);
            let without = |row: &[u8]| {
                let mut values = whole.values(row);
                values.remove(place);
                values
            };
            let wanted: Vec<_> = all.rows.iter().map(without).zip(&all.weights).collect();
            let found: Vec<_> = rest.rows.iter().map(|row| sparse.values(row)).zip(&rest.weights).collect();
            if wanted != found {
                return Err(format!("without {}: {found:?} instead of {wanted:?}", column.name));
            }
        }
        Ok(out)
    }

    /// Decodes all events, prints the changes, and compares what they add up to with the snapshot. Answers the changes where
    /// all could be read.
    fn changes(&self, without_metadata: bool) -> Result<(String, Option<TableChanges>), String> {
        let mut out = String::new();
        let mut plans: BTreeMap<u64, Result<Plan, String>> = BTreeMap::new();
        let mut all = TableChanges::default();
        let mut whole = true;
        for (kind, payload) in &self.events {
            if *kind == TABLE_MAP {
                let mut map = TableMap::parse(payload).map_err(|e| e.to_string())?;
                if without_metadata {
                    forget_metadata(&mut map);
                }
                let plan = Plan::new(&map, &self.columns);
                let plan = match &self.keeps {
                    None => plan,
                    Some(kept) => plan.and_then(|plan| plan.mapped(kept)),
                };
                let plan = plan.map_err(|e| format!("mismatch: {e}\nDetail: {}", e.reason));
                plans.insert(map.table_id, plan);
                continue;
            }
            match plans.get(&table_id(payload).ok_or("no table id")?) {
                Some(Ok(plan)) => {
                    let start = all.rows.len();
                    whole &= decode_event(plan, *kind, payload, &mut all, &mut out);
                    print_changes(plan.layout(), &all, start, &mut out);
                }
                Some(Err(mismatch)) => {
                    whole = false;
                    writeln!(out, "{mismatch}").unwrap();
                }
                None => return Err("rows without a table map".to_owned()),
            }
        }
        // What a snapshot reads is what the log says, also where not all of it is taken.
        if (whole || self.keeps.is_some())
            && let Some((layout, snapshot, _)) = self.snapshot_rows()?
        {
            same_rows(&layout, fold(&all), fold_rows(&snapshot))?;
        }
        Ok((out, whole.then_some(all)))
    }

    /// The rows of the snapshot, and what is said of those that are none.
    fn snapshot_rows(&self) -> Result<Option<(Layout, Rows, Vec<String>)>, String> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        let mut plan = SnapshotPlan::new(&self.columns).map_err(|e| e.reason)?;
        if let Some(kept) = &self.keeps {
            plan = plan.mapped(kept)?;
        }
        let (mut rows, mut rejected) = (Rows::new(), Vec::new());
        for cells in snapshot {
            let mut row = rows.start_row(plan.layout());
            match plan.write_row(cells.iter().map(Option::as_deref), &mut row) {
                Ok(()) => rows.finish_row(),
                Err(error) => {
                    rows.abandon_row();
                    rejected.push(format!("rejected: {error}"));
                }
            }
        }
        Ok(Some((plan.layout().clone(), rows, rejected)))
    }

    fn print_snapshot(&self) -> Result<String, String> {
        let (layout, rows, mut out) = self.snapshot_rows()?.ok_or("no snapshot was recorded")?;
        out.extend(rows.iter().map(|row| shown(&layout, row)));
        Ok(out.join("\n"))
    }
}

/// Decodes one event; false where not all of it became rows.
fn decode_event(plan: &Plan, kind: u8, payload: &[u8], all: &mut TableChanges, out: &mut String) -> bool {
    let inflated = match inflate_mariadb(kind, payload) {
        Ok(inflated) => inflated,
        Err(error) => {
            writeln!(out, "error: {error}").unwrap();
            return false;
        }
    };
    let (kind, payload) = inflated.as_ref().map_or((kind, payload), |(kind, payload)| (*kind, payload.as_slice()));
    let before = all.clone();
    match plan.decode_rows(kind, payload, all) {
        Ok(_) => !all.has_unread(before.rows.len()),
        Err(error) => {
            assert_eq!(before, *all, "an error leaves nothing behind");
            writeln!(out, "error: {error}\nHint: {}", error.hint()).unwrap();
            false
        }
    }
}

/// Columns as `keeps` has them: the first one is the key.
fn kept(text: &str) -> Result<Schema, String> {
    let column = |(at, line): (usize, &str)| {
        let (name, data_type) = line.split_once(' ').ok_or("name type")?;
        let data_type = data_type.parse().map_err(|_| format!("no type: {data_type}"))?;
        Ok(Column { name: name.to_owned(), data_type, nullable: at > 0 })
    };
    let columns = text.lines().enumerate().map(column).collect::<Result<Vec<_>, String>>()?;
    Ok(Schema::new(columns, vec![0]))
}

fn forget_metadata(map: &mut TableMap) {
    map.unsigned = None;
    map.names = None;
    map.primary_key = None;
    map.collations.fill(None);
    map.labels.fill(None);
}

fn schema(columns: &[SourceColumn]) -> String {
    match relation_schema(columns) {
        Ok(schema) => {
            let line = |c: &Column| format!("{} {}{}", c.name, c.data_type, if c.nullable { "" } else { " not null" });
            let mut lines: Vec<String> = schema.columns.iter().map(line).collect();
            if !schema.key.is_empty() {
                let names: Vec<_> = schema.key.iter().map(|&k| schema.columns[k].name.as_str()).collect();
                lines.push(format!("key {}", names.join(", ")));
            }
            lines.join("\n")
        }
        Err(error) => format!("{error}\nDetail: {}\nHint: {}", error.reason, error.hint()),
    }
}

fn print_changes(layout: &Layout, changes: &TableChanges, start: usize, out: &mut String) {
    for entry in changes.entries_from(start) {
        let (Entry::Row(_, weight) | Entry::Unread(_, weight)) = entry;
        let sign = if weight > 0 { '+' } else { '-' };
        match entry {
            Entry::Row(row, _) => {
                layout.check(row).unwrap();
                writeln!(out, "{sign} {}", shown(layout, row)).unwrap();
            }
            Entry::Unread(bytes, _) => {
                let Unread { key, row, reason, .. } = Unread::read(bytes).unwrap();
                let said = [reason, row, format!("key [{}]", hex(&key))];
                let said: Vec<String> = said.into_iter().filter(|said| !said.is_empty()).collect();
                writeln!(out, "{sign}? {}", said.join(" ")).unwrap();
            }
        }
    }
}

fn shown(layout: &Layout, row: &[u8]) -> String {
    let cell = |value: &Value| match value {
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        Value::Text(text) => text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"),
        other => other.to_string(),
    };
    layout.values(row).iter().map(cell).collect::<Vec<_>>().join(SEPARATOR)
}

/// Rows with the sum of their weights, where it is not zero.
fn fold(changes: &TableChanges) -> BTreeMap<Vec<u8>, i64> {
    let mut out = BTreeMap::new();
    for (row, weight) in changes.readable() {
        *out.entry(row.to_vec()).or_default() += i64::from(weight);
    }
    out.retain(|_, weight| *weight != 0);
    out
}

fn fold_rows(rows: &Rows) -> BTreeMap<Vec<u8>, i64> {
    let mut out = BTreeMap::new();
    rows.iter().for_each(|row| *out.entry(row.to_vec()).or_default() += 1);
    out
}

fn same_rows(layout: &Layout, log: BTreeMap<Vec<u8>, i64>, snapshot: BTreeMap<Vec<u8>, i64>) -> Result<(), String> {
    if log == snapshot {
        return Ok(());
    }
    let list = |rows: &BTreeMap<Vec<u8>, i64>, other: &BTreeMap<Vec<u8>, i64>| {
        let only = rows.iter().filter(|(row, weight)| other.get(*row) != Some(weight));
        only.map(|(row, weight)| format!("{weight} × {}\n", shown(layout, row))).collect::<String>()
    };
    Err(format!("log and snapshot differ\nlog:\n{}snapshot:\n{}", list(&log, &snapshot), list(&snapshot, &log)))
}

/// Reads what [`Recording::print`] writes.
pub(crate) fn parse(text: &str) -> Result<Recording, String> {
    let mut recording = Recording::default();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "column" => recording.columns.push(parse_column(rest)?),
            "event" => {
                let (kind, payload) = rest.split_once(' ').ok_or("event <type> <hex>")?;
                recording.events.push((kind.parse().map_err(|_| "event type")?, unhex(payload)?));
            }
            "row" => {
                let cell = |cell: &str| if cell == "-" { Ok(None) } else { unhex(cell).map(Some) };
                let cells = rest.split(',').map(cell).collect::<Result<_, _>>()?;
                recording.snapshot.get_or_insert_default().push(cells);
            }
            "no" => recording.snapshot = Some(Vec::new()),
            _ => return Err(format!("cannot read \"{line}\"")),
        }
    }
    Ok(recording)
}

fn parse_column(line: &str) -> Result<SourceColumn, String> {
    let fields: Vec<&str> = line.split(SEPARATOR.trim()).map(str::trim).collect();
    let [name, data_type, column_type, charset, collation, flags] = fields[..] else {
        return Err(format!("a column has six fields: {line}"));
    };
    let known = |text: &str| (text != "-").then(|| text.to_owned());
    let (flags, extra) = flags.split_once("extra=").unwrap_or((flags, ""));
    let key = flags.split_whitespace().find_map(|flag| flag.strip_prefix("key="));
    Ok(SourceColumn {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        column_type: column_type.to_owned(),
        charset: known(charset),
        collation: known(collation),
        nullable: !flags.contains("not_null"),
        is_mariadb_json: flags.contains("json"),
        key_position: key.map(|key| key.parse().map_err(|_| "key position")).transpose()?,
        left_out: flags.contains("left_out").then(|| "left out".to_owned()),
        extra: extra.to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).map_err(|e| e.to_string());
    digits.chunks(2).map(byte).collect()
}
