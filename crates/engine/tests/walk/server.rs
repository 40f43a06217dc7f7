//! A shop's server, made up: tables with rows, and what it does to them, as the source of its log tells it.

use std::collections::BTreeSet;

use relation::{Column, DataType, Schema};

use crate::Without;
use crate::house::story::{Act, Batch, Change, Piece};
use crate::ledger::Row;
use testkit::Rng;

/// How far a table's first load is.
enum Load {
    /// Nobody follows the table yet.
    Absent,
    /// Read by chunks in key order: up to a key, and the keys that the log has touched meanwhile.
    Chunks {
        after: Option<Row>,
        touched: BTreeSet<Row>,
    },
    Done,
}

pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) schema: Schema,
    /// Whether it is loaded by chunks while its changes flow.
    pub(crate) in_chunks: bool,
    rows: Vec<Row>,
    /// Rows that were deleted once: they come back.
    gone: Vec<Row>,
    load: Load,
    /// Of one without a key: rows of its load that have not been handed over yet, and what has changed since its place.
    portions: Option<Vec<Row>>,
    kept: Vec<(Row, i8)>,
    /// It was loaded again, and may not be swept yet.
    unswept: bool,
    /// Its columns have changed once.
    altered: bool,
    /// It is not followed until it is loaded again.
    parked: bool,
}

pub(crate) struct Server {
    pub(crate) tables: Vec<Table>,
    /// Chance of its own for what a log cannot tell: a walk in which nothing is in doubt is what it would be without it.
    doubts: Option<Rng>,
    without: Without,
}

const LONG: usize = 1_100;

/// What stands for a value that the source cannot read: the row that has it is told of as such.
const UNREADABLE: &str = "unreadable";

/// A row that comes or goes, as the log tells it: of one that cannot be read its key is known, or what it looks like.
fn told(table: &str, key: &[usize], values: Row, weight: i8) -> Piece {
    let table = table.to_owned();
    match is_readable(&values) {
        true => Piece::Row(Change { table, values, weight }),
        false => Piece::Unread { table, key: known_by(key, values), weight },
    }
}

/// Rows of a load.
fn chunk(table: &str, key: &[usize], rows: Vec<Row>, complete: bool) -> Piece {
    let (rows, others): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_readable);
    let unread = others.into_iter().map(|row| known_by(key, row)).collect();
    Piece::Chunk { table: table.to_owned(), rows, unread, complete }
}

fn is_readable(row: &Row) -> bool {
    row.iter().all(|value| value != UNREADABLE)
}

fn known_by(key: &[usize], row: Row) -> Row {
    if key.is_empty() { row } else { key.iter().map(|&k| row[k].clone()).collect() }
}

impl Table {
    fn change_rows(&mut self, change: &mut dyn FnMut(&mut Row)) {
        self.rows.iter_mut().chain(&mut self.gone).for_each(change);
    }

    fn load_anew(&mut self) {
        self.load = Load::Chunks { after: None, touched: BTreeSet::new() };
        self.portions = None;
        self.kept.clear();
    }

    /// The next portion of a table without a key, which is read at one place of the log; behind the last one comes what has
    /// changed since.
    fn portion(&mut self, rng: &mut Rng) -> Batch {
        let mut rows = self.portions.take().unwrap_or_else(|| self.rows.clone());
        let later = rows.split_off(rng.between(1, 6).min(rows.len()));
        let is_last = later.is_empty() && (rows.is_empty() || self.kept.is_empty());
        let name = self.name.clone();
        let mut batch = Batch::new();
        if is_last {
            self.load = Load::Done;
            let kept = std::mem::take(&mut self.kept).into_iter();
            batch.extend(kept.map(|(values, weight)| told(&name, &[], values, weight)));
        } else {
            self.portions = Some(later);
        }
        batch.push(chunk(&name, &[], rows, is_last));
        batch
    }
}

impl Server {
    pub(crate) fn new(rng: &mut Rng, doubts: Option<Rng>, without: &Without) -> Self {
        let count = rng.between(2, 4);
        let mut server = Self { tables: Vec::new(), doubts, without: without.clone() };
        for i in 0..count {
            let schema = server.schema(rng);
            let in_chunks = !without.has("loading") && rng.chance(35);
            let (name, load) = (format!("t{i}"), Load::Absent);
            let table = Table {
                name,
                schema,
                in_chunks,
                rows: Vec::new(),
                gone: Vec::new(),
                load,
                portions: None,
                kept: Vec::new(),
                unswept: false,
                altered: false,
                parked: false,
            };
            server.tables.push(table);
            for _ in 0..rng.between(0, 12) {
                server.insert(rng, i);
            }
        }
        server
    }

    /// Columns are named alike in all tables, so that models find partners for joins.
    fn schema(&self, rng: &mut Rng) -> Schema {
        let mut columns: Vec<Column> = Vec::new();
        let key = match rng.weighted(&[5, 2, 2, if self.without.has("bags") { 0 } else { 3 }]) {
            0 => vec![("id", DataType::Int64)],
            1 => vec![("a", DataType::Int32), ("b", DataType::Int32)],
            2 => vec![("a", DataType::Int32), ("s", DataType::Text)],
            _ => vec![],
        };
        let key_names: Vec<&str> = key.iter().map(|(name, _)| *name).collect();
        columns.extend(key.iter().map(|&(name, data_type)| Column {
            name: name.to_owned(),
            data_type,
            nullable: false,
        }));
        let others = [
            ("a", DataType::Int32, 70),
            ("b", DataType::Int32, 40),
            ("k", DataType::Int64, 60),
            ("s", DataType::Text, 50),
            ("u", DataType::Text, 20),
            ("m", DataType::Decimal { precision: 10, scale: 2 }, 45),
            ("d", DataType::Date, 30),
            ("w", DataType::Timestamp, 15),
            ("f", DataType::Float64, 25),
            ("p", DataType::Bool, 20),
        ];
        for (name, data_type, percent) in others {
            if rng.chance(percent) && !key_names.contains(&name) {
                columns.push(Column::new(name, data_type));
            }
        }
        if columns.len() < 2 {
            columns.push(Column::new("n", DataType::Int32));
        }
        // A key need not stand first, nor in the order of the columns.
        if rng.chance(25) {
            columns.reverse();
        }
        let place = |name: &&str| columns.iter().position(|c| c.name == **name).expect("a key column");
        let key = key_names.iter().map(place).collect();
        Schema::new(columns, key)
    }

    /// How a table is told of.
    pub(crate) fn told(&self, table: usize) -> Act {
        let table = &self.tables[table];
        Act::Table { name: table.name.clone(), schema: table.schema.clone(), loading: table.in_chunks }
    }

    /// The source follows a table from here on; rows that it is loaded with at once.
    pub(crate) fn follow(&mut self, table: usize) -> Vec<Change> {
        let table = &mut self.tables[table];
        if table.in_chunks {
            table.load_anew();
            return Vec::new();
        }
        table.load = Load::Done;
        // What is loaded at once can be read.
        table
            .rows
            .iter_mut()
            .flatten()
            .filter(|value| value.as_str() == UNREADABLE)
            .for_each(|value| "NULL".clone_into(value));
        table.rows.iter().map(|row| Change { table: table.name.clone(), values: row.clone(), weight: 1 }).collect()
    }

    /// After a restart the source knows no more which keys the log has touched; a table without a key of which portions have
    /// come is loaded again.
    pub(crate) fn restarted(&mut self) -> Option<Act> {
        let mut broken_off = Vec::new();
        for table in &mut self.tables {
            if table.portions.is_some() {
                table.load_anew();
                table.unswept = true;
                broken_off.push(vec![Piece::Reload(table.name.clone())]);
            }
            if let Load::Chunks { touched, .. } = &mut table.load {
                touched.clear();
            }
        }
        (!broken_off.is_empty()).then_some(Act::Step(broken_off))
    }

    /// What a log cannot tell has happened to a table, and it is loaded again: rows went, came and changed that nobody heard
    /// of. Or it is not followed from here on, until that.
    pub(crate) fn doubt(&mut self, rng: &mut Rng) -> Option<Piece> {
        let table = rng.below(self.tables.len());
        let Table { load, altered, parked, .. } = &self.tables[table];
        if matches!(load, Load::Absent) {
            return None;
        }
        if !altered && !parked && !self.without.has("park") && rng.chance(25) {
            let table = &mut self.tables[table];
            table.load_anew();
            (table.parked, table.unswept) = (true, false);
            return Some(Piece::Park(table.name.clone()));
        }
        for _ in 0..rng.below(4) {
            self.event(rng, table);
        }
        let table = &mut self.tables[table];
        table.load_anew();
        table.in_chunks = true;
        (table.unswept, table.parked) = (true, false);
        Some(Piece::Reload(table.name.clone()))
    }

    /// All tables are followed that are not: they are loaded again, one batch each.
    pub(crate) fn follow_all(&mut self) -> Vec<Batch> {
        let parked = self.tables.iter_mut().filter(|table| table.parked);
        let reloads = parked.map(|table| {
            table.load_anew();
            table.in_chunks = true;
            (table.unswept, table.parked) = (true, false);
            vec![Piece::Reload(table.name.clone())]
        });
        reloads.collect()
    }

    /// The columns of a table change: one comes, one goes, or one is of another type. It is loaded anew from there on.
    pub(crate) fn alter(&mut self) -> Option<Act> {
        let mut rng = self.doubts.take()?;
        let act = if rng.chance(6) { self.altered(&mut rng) } else { None };
        self.doubts = Some(rng);
        act
    }

    fn altered(&mut self, rng: &mut Rng) -> Option<Act> {
        let at = rng.below(self.tables.len());
        let table = &self.tables[at];
        if table.altered || table.parked || matches!(table.load, Load::Absent) {
            return None;
        }
        let mut schema = table.schema.clone();
        let payload: Vec<usize> = (0..schema.columns.len()).filter(|i| !schema.key.contains(i)).collect();
        match rng.below(3) {
            0 if !payload.is_empty() && schema.columns.len() > 2 => {
                let gone = *rng.pick(&payload);
                schema.columns.remove(gone);
                schema.key.iter_mut().filter(|k| **k > gone).for_each(|k| *k -= 1);
                self.tables[at].change_rows(&mut |row| drop(row.remove(gone)));
            }
            1 if payload.iter().any(|&i| schema.columns[i].data_type == DataType::Int32) => {
                let column = payload.into_iter().find(|&i| schema.columns[i].data_type == DataType::Int32)?;
                schema.columns[column].data_type = if rng.chance(50) { DataType::Int64 } else { DataType::Text };
            }
            _ => {
                let column = Column::new("x", DataType::Int32);
                let value = self.value(rng, &column);
                schema.columns.push(column);
                self.tables[at].change_rows(&mut |row| row.push(value.clone()));
            }
        }
        let table = &mut self.tables[at];
        table.schema = schema.clone();
        table.load_anew();
        (table.in_chunks, table.altered, table.unswept) = (true, true, false);
        Some(Act::Altered { name: table.name.clone(), schema })
    }

    /// A portion of a table that was loaded again is swept.
    pub(crate) fn sweep(&self, rng: &mut Rng) -> Option<Piece> {
        let waiting: Vec<&Table> = self.tables.iter().filter(|table| table.unswept).collect();
        if waiting.is_empty() {
            return None;
        }
        Some(Piece::Sweep { table: rng.pick(&waiting).name.clone(), whole: false })
    }

    /// All that waits is swept.
    pub(crate) fn sweep_all(&mut self) -> Batch {
        let waiting = self.tables.iter_mut().filter(|table| table.unswept);
        let swept = waiting.map(|table| {
            table.unswept = false;
            Piece::Sweep { table: table.name.clone(), whole: true }
        });
        swept.collect()
    }

    pub(crate) fn is_loading(&self) -> bool {
        self.tables.iter().any(|table| !table.parked && matches!(table.load, Load::Chunks { .. }))
    }

    /// A batch: some transactions, and sometimes chunks.
    pub(crate) fn batch(&mut self, rng: &mut Rng) -> Batch {
        let mut batch = Batch::new();
        let mut emptied = Vec::new();
        if let Some(mut doubts) = self.doubts.take() {
            let doubt = doubts.chance(8).then(|| self.doubt(&mut doubts)).flatten();
            let sweep = doubts.chance(30).then(|| self.sweep(&mut doubts)).flatten();
            self.doubts = Some(doubts);
            // Behind what came before, alone in its batch.
            if let Some(doubt) = doubt {
                return vec![doubt];
            }
            batch.extend(sweep);
        }
        for _ in 0..rng.between(1, 3) {
            if rng.chance(6) && !self.without.has("truncate") {
                let table = rng.below(self.tables.len());
                self.truncate(table, &mut batch, &mut emptied);
                continue;
            }
            for _ in 0..rng.between(1, 4) {
                let table = rng.below(self.tables.len());
                let changes = self.event(rng, table);
                self.send(table, changes, &mut batch);
            }
        }
        batch.extend(emptied);
        if self.is_loading() && rng.chance(60) {
            batch.extend(self.chunk(rng));
        }
        batch
    }

    fn truncate(&mut self, table: usize, batch: &mut Batch, chunks: &mut Batch) {
        let table = &mut self.tables[table];
        table.gone.append(&mut table.rows);
        table.portions = None;
        table.kept.clear();
        match &table.load {
            Load::Absent => return,
            _ if table.parked => return,
            Load::Done => {}
            // All that will ever be in it comes by the log.
            Load::Chunks { .. } => {
                let (table, rows) = (table.name.clone(), Vec::new());
                chunks.push(Piece::Chunk { table, rows, unread: Vec::new(), complete: true });
            }
        }
        table.load = Load::Done;
        let is_row = |piece: &Piece| matches!(piece, Piece::Row(_) | Piece::Unread { .. });
        batch.retain(|piece| !is_row(piece) || piece.table() != Some(table.name.as_str()));
        batch.push(Piece::Truncate(table.name.clone()));
    }

    /// Hands changes over as far as the load lets them through.
    fn send(&mut self, table: usize, changes: Vec<(Row, i8)>, batch: &mut Batch) {
        let table = &mut self.tables[table];
        let key = table.schema.key.clone();
        match &mut table.load {
            Load::Absent => return,
            _ if table.parked => return,
            // A table without a key is loaded at one place of the log: what comes before is in the load, and what comes behind
            // it is kept back.
            Load::Chunks { .. } if key.is_empty() => {
                if table.portions.is_some() {
                    table.kept.extend(changes);
                }
                return;
            }
            Load::Chunks { touched, .. } => {
                touched.extend(changes.iter().map(|(row, _)| key.iter().map(|&k| row[k].clone()).collect::<Row>()));
            }
            Load::Done => {}
        }
        batch.extend(changes.into_iter().map(|(values, weight)| told(&table.name, &key, values, weight)));
    }

    /// The next chunk of a loading table.
    pub(crate) fn chunk(&mut self, rng: &mut Rng) -> Batch {
        let loading: Vec<usize> = (0..self.tables.len())
            .filter(|&i| !self.tables[i].parked && matches!(self.tables[i].load, Load::Chunks { .. }))
            .collect();
        if loading.is_empty() {
            return Batch::new();
        }
        let table = &mut self.tables[*rng.pick(&loading)];
        let key = table.schema.key.clone();
        let key_of = |row: &Row| key.iter().map(|&k| row[k].clone()).collect::<Row>();
        if key.is_empty() {
            return table.portion(rng);
        }
        let Load::Chunks { after, touched } = &mut table.load else { return Batch::new() };
        let mut rows: Vec<Row> = table.rows.clone();
        rows.retain(|row| after.as_ref().is_none_or(|after| key_of(row) > *after));
        rows.sort_by_key(key_of);
        let size = rng.between(1, 6);
        let complete = rows.len() <= size;
        rows.truncate(size);
        if let Some(last) = rows.last() {
            *after = Some(key_of(last));
        }
        rows.retain(|row| !touched.contains(&key_of(row)));
        if complete {
            table.load = Load::Done;
        }
        vec![chunk(&table.name, &key, rows, complete)]
    }

    /// What one statement does to a table.
    fn event(&mut self, rng: &mut Rng, table: usize) -> Vec<(Row, i8)> {
        let rows = self.tables[table].rows.len();
        let insert = if rows < 10 { 30 } else { 12 };
        let moves = if self.tables[table].schema.key.is_empty() || self.without.has("moves") { 0 } else { 12 };
        match rng.weighted(&[insert, 22, moves, 16, 5, 6]) {
            _ if rows == 0 => self.insert(rng, table),
            0 => self.insert(rng, table),
            1 => self.update(rng, table, false),
            2 => self.update(rng, table, true),
            3 => self.delete(rng, table),
            4 => self.bulk(rng, table),
            _ => self.there_and_back(rng, table),
        }
    }

    fn insert(&mut self, rng: &mut Rng, table: usize) -> Vec<(Row, i8)> {
        for _ in 0..6 {
            let table = &self.tables[table];
            let row = match rng.below(10) {
                0..3 if !table.gone.is_empty() => rng.pick(&table.gone).clone(),
                3..6 if table.schema.key.is_empty() && !table.rows.is_empty() => rng.pick(&table.rows).clone(),
                _ => self.row(rng, &table.schema),
            };
            if !self.is_taken(&row, self.number(table)) {
                let at = self.number(table);
                self.tables[at].rows.push(row.clone());
                return vec![(row, 1)];
            }
        }
        Vec::new()
    }

    fn number(&self, table: &Table) -> usize {
        self.tables.iter().position(|t| t.name == table.name).expect("one of ours")
    }

    fn is_taken(&self, row: &Row, table: usize) -> bool {
        let Table { schema, rows, .. } = &self.tables[table];
        !schema.key.is_empty() && rows.iter().any(|other| schema.key.iter().all(|&k| other[k] == row[k]))
    }

    fn update(&mut self, rng: &mut Rng, table: usize, moved: bool) -> Vec<(Row, i8)> {
        let at = rng.below(self.tables[table].rows.len());
        let before = self.tables[table].rows[at].clone();
        let schema = self.tables[table].schema.clone();
        let mut after = before.clone();
        let payload: Vec<usize> = (0..after.len()).filter(|i| !schema.key.contains(i)).collect();
        if !payload.is_empty() && (!moved || rng.chance(50)) {
            for _ in 0..rng.between(1, 2) {
                let column = *rng.pick(&payload);
                after[column] = self.value(rng, &schema.columns[column]);
            }
        }
        if moved {
            let column = *rng.pick(&schema.key);
            after[column] = self.value(rng, &schema.columns[column]);
        }
        let same_key = !schema.key.is_empty() && schema.key.iter().all(|&k| before[k] == after[k]);
        // A server does not log an update that changes nothing.
        if after == before || (!same_key && self.is_taken(&after, table)) {
            return Vec::new();
        }
        self.tables[table].rows[at] = after.clone();
        vec![(before, -1), (after, 1)]
    }

    fn delete(&mut self, rng: &mut Rng, table: usize) -> Vec<(Row, i8)> {
        let table = &mut self.tables[table];
        let row = table.rows.swap_remove(rng.below(table.rows.len()));
        table.gone.push(row.clone());
        vec![(row, -1)]
    }

    /// One statement over many rows.
    fn bulk(&mut self, rng: &mut Rng, table: usize) -> Vec<(Row, i8)> {
        let schema = self.tables[table].schema.clone();
        if rng.chance(25) {
            let share = rng.between(2, 3);
            let mut changes = Vec::new();
            for i in (0..self.tables[table].rows.len()).rev() {
                if i % share == 0 {
                    let row = self.tables[table].rows.swap_remove(i);
                    self.tables[table].gone.push(row.clone());
                    changes.push((row, -1));
                }
            }
            return changes;
        }
        let payload: Vec<usize> = (0..schema.columns.len()).filter(|i| !schema.key.contains(i)).collect();
        if payload.is_empty() {
            return Vec::new();
        }
        let column = *rng.pick(&payload);
        let value = self.value(rng, &schema.columns[column]);
        let share = rng.between(1, 3);
        let mut changes = Vec::new();
        for (i, row) in self.tables[table].rows.iter_mut().enumerate() {
            if i % share == 0 && row[column] != value {
                changes.push((row.clone(), -1));
                row[column].clone_from(&value);
                changes.push((row.clone(), 1));
            }
        }
        changes
    }

    /// Rows that leave and come, or come and leave, within one transaction.
    fn there_and_back(&mut self, rng: &mut Rng, table: usize) -> Vec<(Row, i8)> {
        let mut changes = Vec::new();
        match rng.below(4) {
            // Deleted, and inserted anew with another payload or the same.
            0 => {
                changes = self.delete(rng, table);
                let mut row = changes[0].0.clone();
                let schema = self.tables[table].schema.clone();
                for (i, column) in schema.columns.iter().enumerate() {
                    if !schema.key.contains(&i) && rng.chance(30) {
                        row[i] = self.value(rng, column);
                    }
                }
                self.tables[table].rows.push(row.clone());
                changes.push((row, 1));
            }
            // Inserted and deleted.
            1 => {
                changes = self.insert(rng, table);
                if let Some((row, _)) = changes.first().cloned() {
                    self.tables[table].rows.pop();
                    changes.push((row, -1));
                }
            }
            // Updated, and updated back.
            2 => {
                changes = self.update(rng, table, false);
                if let [(before, _), (after, _)] = changes.clone().as_slice() {
                    let rows = &mut self.tables[table].rows;
                    let at = rows.iter().position(|row| row == after).expect("the row just written");
                    rows[at].clone_from(before);
                    changes.extend([(after.clone(), -1), (before.clone(), 1)]);
                }
            }
            // Two updates, one after the other.
            _ => {
                changes.extend(self.update(rng, table, false));
                changes.extend(self.update(rng, table, false));
            }
        }
        changes
    }

    fn row(&self, rng: &mut Rng, schema: &Schema) -> Row {
        schema.columns.iter().map(|column| self.value(rng, column)).collect()
    }

    /// A value out of few, so that rows meet.
    fn value(&self, rng: &mut Rng, column: &Column) -> String {
        if column.nullable && rng.chance(15) {
            return "NULL".to_owned();
        }
        if column.nullable && rng.chance(2) && !self.without.has("unread") {
            return UNREADABLE.to_owned();
        }
        let is_big = rng.chance(2) && !self.without.has("big");
        let pick = |rng: &mut Rng, of: &[&str]| (*rng.pick(of)).to_owned();
        match column.data_type {
            DataType::Int64 if column.name == "id" => format!("{}", rng.between(1, 16)),
            DataType::Int32 if is_big => pick(rng, &["2147483647", "-2147483648"]),
            DataType::Int64 if is_big => pick(rng, &["9223372036854775807", "-9223372036854775808"]),
            DataType::Float64 if is_big => format!("1{}", "0".repeat(308)),
            DataType::Decimal { .. } if is_big => "99999999.99".to_owned(),
            DataType::Int32 | DataType::Int64 => pick(rng, &["0", "1", "2", "2", "3", "4", "5", "-1"]),
            DataType::Decimal { .. } => pick(rng, &["0.00", "0.50", "1.25", "-1.25", "10.00", "3.33", "99.99"]),
            DataType::Text if rng.chance(3) && !self.without.has("long") => {
                format!("{}{}", "x".repeat(LONG), rng.below(3))
            }
            DataType::Text => pick(rng, &["a", "b", "B", "ab", "c", "", "ü", "a b", "zz", "3"]),
            DataType::Date => pick(rng, &["2026-01-31", "2026-02-01", "2026-02-28", "1969-12-31"]),
            DataType::Timestamp => pick(
                rng,
                &["2026-01-31 23:59:59.999999", "2026-02-01 00:00:00", "2026-02-01 08:30:00", "1969-12-31 12:00:00"],
            ),
            DataType::Float64 if self.without.has("negzero") => {
                pick(rng, &["0", "0.1", "1.5", "-2.25", "10000000000000000", "3"])
            }
            DataType::Float64 => pick(rng, &["0", "-0", "0.1", "1.5", "-2.25", "10000000000000000", "3"]),
            DataType::Bool => pick(rng, &["true", "false"]),
            _ => "NULL".to_owned(),
        }
    }
}
