//! Trials against real servers, with `SLOW=1`: the address is `TIDEMILL_TEST_MYSQL_PORT` and `TIDEMILL_TEST_MARIADB_PORT`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use connect::source::mysql::{
    CaptureTable, Control, Load, MysqlConfig, MysqlSource, Start, Tls, current_position, describe, doctor, reached,
};
use connect::{CheckOutcome, ColumnRule, Limits, Pattern, SourceEvent, SourceState};
use libtest_mimic::{Failed, Trial};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use relation::{Layout, Position, SourceBatch, TableId};
use tokio::sync::mpsc::Receiver;

use super::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(90);
const SERVERS: [&str; 2] = ["mysql", "mariadb"];

pub(crate) type Outcome = Result<(), String>;

/// All trials, for every server that there is; none without `SLOW=1`.
pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os("SLOW").is_none_or(|v| v != "1") {
        return Vec::new();
    }
    let mut out = Vec::new();
    for server in SERVERS {
        let Some(port) = port_of(server) else { continue };
        out.push(trial(server, "snapshot_under_writes", move || snapshot_under_writes(server, port, Tls::Disabled)));
        out.push(trial(server, "snapshot_under_writes_tls", move || {
            snapshot_under_writes(server, port, Tls::Required)
        }));
        out.push(trial(server, "text_keys_by_collation", move || text_keys(server, port)));
        out.push(trial(server, "table_without_key", move || bag_under_writes(server, port)));
        out.push(trial(server, "connection_killed", move || connection_killed(server, port)));
        out.push(trial(server, "resume", move || resume(server, port)));
        out.push(trial(server, "columns_of_before", move || columns_of_before(server, port)));
        out.extend(super::repair::trials(server, port));
        out.extend(super::rights::trials(server, port));
        out.extend(crate::decode::charsets::trials(server, port));
        out.push(trial(server, "doctor", move || doctored(server, port)));
        out.push(trial(server, "sessions_that_a_server_limits", move || limited(server, port)));
        out.push(trial(server, "server_gone", move || server_gone(server, port)));
        out.push(trial(server, "log_purged", move || log_purged(server, port)));
        out.push(trial(server, "start_since", move || start_since(server, port)));
        out.push(trial(server, "large_transactions", move || large_transactions(server, port)));
        out.push(trial(server, "large_transaction_while_loading", move || large_while_loading(server, port)));
        out.push(trial(server, "large_rows", move || large_rows(server, port)));
        if let Some(port) = port_of(&format!("{server}_nobinlog")) {
            out.push(trial(server, "binlog_off", move || binlog_off(port)));
        }
        if server == "mysql" {
            out.push(trial(server, "compressed_and_tagged", move || compressed(server, port)));
        }
    }
    out
}

pub(crate) fn port_of(server: &str) -> Option<u16> {
    std::env::var(format!("TIDEMILL_TEST_{}_PORT", server.to_ascii_uppercase())).ok()?.parse().ok()
}

pub(crate) fn trial<F: Future<Output = Outcome>>(
    server: &str,
    name: &str,
    run: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    Trial::test(format!("server/{name}_{server}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let result = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, run()).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
        });
        result.map_err(Failed::from)
    })
}

/// A database of its own on a server.
pub(crate) struct Shop {
    pub(crate) port: u16,
    pub(crate) database: String,
}

impl Shop {
    pub(crate) async fn new(server: &str, port: u16, name: &str, tables: &[&str]) -> Result<Self, String> {
        let shop = Self { port, database: format!("connect_{name}_{server}") };
        let mut conn = shop.conn_to("").await?;
        let database = &shop.database;
        run(&mut conn, &format!("DROP DATABASE IF EXISTS {database}")).await?;
        run(&mut conn, &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4")).await?;
        run(&mut conn, &format!("USE {database}")).await?;
        for table in tables {
            run(&mut conn, table).await?;
        }
        Ok(shop)
    }

    pub(crate) async fn conn_to(&self, database: &str) -> Result<Conn, String> {
        let database = (!database.is_empty()).then(|| database.to_owned());
        let opts = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("root"))
            .prefer_socket(false)
            .db_name(database);
        Conn::new(opts).await.map_err(|e| e.to_string())
    }

    pub(crate) async fn conn(&self) -> Result<Conn, String> {
        self.conn_to(&self.database).await
    }

    pub(crate) fn config(&self, tls: Tls) -> MysqlConfig {
        MysqlConfig { port: self.port, database: self.database.clone(), tls, ..MysqlConfig::default() }
    }

    pub(crate) async fn tables(&self, names: &[&str]) -> Result<Vec<CaptureTable>, String> {
        let wanted: Vec<_> = names.iter().map(|n| (self.database.clone(), (*n).to_owned())).collect();
        let described = describe(&self.config(Tls::Disabled), &wanted).await.map_err(|f| f.detail)?;
        let table = |(id, d): (usize, connect::source::mysql::Described)| {
            let facts = d.facts?;
            let id = TableId(u32::try_from(id).unwrap_or(0));
            let (columns, schema) = (facts.columns, facts.schema);
            Ok(CaptureTable {
                id,
                database: d.database,
                name: d.name,
                columns,
                is_placed: false,
                rule: ColumnRule::default(),
                schema,
                load: Load::Pending { cursor: None },
            })
        };
        described.into_iter().enumerate().map(table).collect()
    }

    /// The rows of a table as text, sorted.
    pub(crate) async fn content(&self, columns: &str, table: &str) -> Result<Vec<String>, String> {
        let mut conn = self.conn().await?;
        let rows: Vec<String> =
            conn.query(format!("SELECT CONCAT_WS(',', {columns}) FROM {table}")).await.map_err(|e| e.to_string())?;
        let mut rows = rows;
        rows.sort();
        Ok(rows)
    }
}

pub(crate) async fn run(conn: &mut Conn, sql: &str) -> Outcome {
    conn.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
}

/// A column that is left out has moved between the question for the columns and the place from which on the log is read: no row
/// is read by what was known of before, neither those of the log nor those of the load.
async fn columns_of_before(server: &str, port: u16) -> Outcome {
    let table = "CREATE TABLE t (id INT PRIMARY KEY, a INT, secret INT, b INT)";
    let shop = Shop::new(server, port, "before", &[table]).await?;
    let mut conn = shop.conn().await?;
    run(&mut conn, "INSERT INTO t VALUES (1, 11, 666, 12)").await?;
    let mut tables = shop.tables(&["t"]).await?;
    tables[0].columns[2].left_out = Some("left out".to_owned());
    tables[0].schema.columns.remove(2);
    let secret = "secret".to_owned();
    tables[0].rule.left_out.push(Pattern { column: secret.clone(), text: secret, place: String::new() });
    run(&mut conn, "ALTER TABLE t MODIFY secret INT AFTER b").await?;
    let mut mirror = Mirror::new(&tables);
    let (mut events, control) = MysqlSource::start(shop.config(Tls::Disabled), tables, None, Limits::default());
    while !mirror.states.contains(&SourceState::Snapshot) {
        mirror.take(events.recv().await.ok_or("the source has ended")?)?;
    }
    run(&mut conn, "INSERT INTO t VALUES (2, 21, 22, 666)").await?;
    let target = current_position(&shop.config(Tls::Disabled)).await.map_err(|f| f.detail)?;
    mirror.follow(&mut events, Some(&target)).await?;
    drop(events);
    control.stop().await;
    expect_equal("rows", &mirror.content(0), &["1,11,12".to_owned(), "2,21,22".to_owned()])
}

/// What a receiver makes of the events: the tables, as the store would have them.
pub(crate) struct Mirror {
    pub(crate) tables: Vec<MirrorTable>,
    pub(crate) position: Position,
    /// Changes received.
    pub(crate) changes: u64,
    pub(crate) states: Vec<SourceState>,
    /// What was said with the last of them.
    pub(crate) message: String,
    pub(crate) parked: Vec<(TableId, String)>,
    pub(crate) reloads: Vec<(TableId, String)>,
    pub(crate) altered: Vec<(TableId, String)>,
    /// Parts of a transaction whose last one has not come.
    pub(crate) staged: Vec<SourceBatch>,
    /// Transactions that came in parts.
    pub(crate) parted: usize,
}

pub(crate) struct MirrorTable {
    pub(crate) table: CaptureTable,
    pub(crate) layout: Layout,
    /// While it is loaded again: keys that chunks or changes have brought since. The others go when it is complete.
    pub(crate) brought: Option<BTreeSet<Vec<u8>>>,
    /// By key bytes, or by whole row where there is no key; with a count.
    pub(crate) rows: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
}

impl Mirror {
    /// Whoever starts a load from the start has nothing of the table: the log up to where it begins is passed over.
    pub(crate) fn forget_what_begins_anew(&mut self) {
        let begins = |table: &&mut MirrorTable| table.table.load == Load::Pending { cursor: None };
        self.tables.iter_mut().filter(begins).for_each(|table| table.rows.clear());
    }

    pub(crate) fn new(tables: &[CaptureTable]) -> Self {
        let tables = tables.iter().map(MirrorTable::of).collect();
        Self {
            tables,
            position: Position::default(),
            changes: 0,
            states: Vec::new(),
            message: String::new(),
            parked: Vec::new(),
            reloads: Vec::new(),
            altered: Vec::new(),
            staged: Vec::new(),
            parted: 0,
        }
    }

    pub(crate) fn take(&mut self, event: SourceEvent) -> Outcome {
        match event {
            SourceEvent::Batch(batch) => {
                if batch.part.is_none_or(|part| part.is_first()) {
                    self.staged.clear();
                }
                self.staged.push(batch);
                let part = self.staged.last().and_then(|batch| batch.part);
                if part.is_none_or(|part| part.is_last) {
                    self.parted += usize::from(part.is_some());
                    std::mem::take(&mut self.staged).into_iter().try_for_each(|batch| self.apply(batch))?;
                }
            }
            SourceEvent::State(state, message) => {
                self.states.push(state);
                self.message = message;
            }
            SourceEvent::Parked { table, reason } => self.parked.push((table, reason)),
            SourceEvent::Reload { table, reason } => {
                self.parked.retain(|(parked, _)| *parked != table);
                self.reloads.push((table, reason));
                let table = &mut self.tables[table.0 as usize];
                table.table.load = Load::Pending { cursor: None };
                table.brought = Some(BTreeSet::new());
            }
            SourceEvent::Altered { table, statement } => self.altered.push((table, statement)),
            SourceEvent::Delayed { .. } => {}
            SourceEvent::Learned { table, facts } => {
                if let Some(columns) = connect::source::mysql::testing::columns_of(&facts) {
                    self.tables[table.0 as usize].table.columns.clone_from(columns);
                }
            }
            SourceEvent::Failed(failure) => {
                return Err(format!("{}: {}", failure.message, failure.detail));
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: SourceBatch) -> Outcome {
        for (id, changes) in &batch.tables {
            let table = &mut self.tables[id.0 as usize];
            if changes.truncated {
                table.rows.clear();
                if matches!(table.table.load, Load::Pending { .. }) {
                    table.table.load = Load::Pending { cursor: Some(Vec::new()) };
                }
            }
            if changes.has_unread(0) {
                return Err("a row cannot be read".into());
            }
            for (row, weight) in changes.readable() {
                table.add(row, i64::from(weight))?;
            }
        }
        self.changes += batch.transactions.iter().map(|t| u64::from(t.changes)).sum::<u64>();
        for chunk in batch.chunks {
            let table = &mut self.tables[chunk.table.0 as usize];
            if table.table.schema.key.is_empty() && table.table.load == (Load::Pending { cursor: None }) {
                // Its first portion.
                table.rows.clear();
            }
            for row in chunk.rows.iter() {
                table.add(row, 1)?;
            }
            if chunk.complete
                && let Some(brought) = table.brought.take()
                && !table.table.schema.key.is_empty()
            {
                table.rows.retain(|key, _| brought.contains(key));
            }
            let cursor = Some(chunk.cursor);
            table.table.load = if chunk.complete { Load::Complete } else { Load::Pending { cursor } };
        }
        if batch.part.is_none_or(|part| part.is_last) {
            self.position = batch.position;
        }
        Ok(())
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.tables.iter().all(|t| t.table.load == Load::Complete)
    }

    /// Takes events until everything is loaded and `target` is reached.
    pub(crate) async fn follow(&mut self, events: &mut Receiver<SourceEvent>, target: Option<&Position>) -> Outcome {
        loop {
            let there = target.is_none_or(|t| reached(&self.position, t).unwrap_or(false));
            if self.is_loaded() && there {
                return Ok(());
            }
            let event = events.recv().await.ok_or("the source has ended")?;
            self.take(event)?;
        }
    }

    pub(crate) fn content(&self, table: usize) -> Vec<String> {
        let table = &self.tables[table];
        let mut out = Vec::new();
        for (row, count) in table.rows.values() {
            let text: Vec<String> = table.layout.values(row).iter().map(ToString::to_string).collect();
            out.extend(std::iter::repeat_n(text.join(","), usize::try_from(*count).unwrap_or(0)));
        }
        out.sort();
        out
    }
}

impl MirrorTable {
    pub(crate) fn of(table: &CaptureTable) -> Self {
        let layout = Layout::new(table.schema.types());
        Self { table: table.clone(), layout, brought: None, rows: BTreeMap::new() }
    }

    /// While a table is loading, a change meets rows that are not there yet: the newest wins by key, as in the store.
    fn add(&mut self, row: &[u8], weight: i64) -> Outcome {
        let mut key = Vec::new();
        let keyed = !self.table.schema.key.is_empty();
        if keyed {
            relation::key::push_row(&mut key, &self.layout, row, &self.table.schema.key);
        } else {
            key.extend_from_slice(row);
        }
        if !keyed {
            let entry = self.rows.entry(key).or_insert_with(|| (row.to_vec(), 0));
            entry.1 += weight;
            return if entry.1 < 0 {
                Err("a row of a bag was taken away that was not there".to_owned())
            } else {
                Ok(())
            };
        }
        if let Some(brought) = &mut self.brought {
            brought.insert(key.clone());
        }
        if weight > 0 {
            let before = self.rows.insert(key, (row.to_vec(), 1));
            if before.is_some() && self.table.load == Load::Complete {
                return Err("a row was inserted twice".to_owned());
            }
            return Ok(());
        }
        let before = self.rows.remove(&key);
        match (&self.table.load, before) {
            (Load::Complete, None) => Err("a row was deleted that was not there".to_owned()),
            (Load::Complete, Some((before, _))) if before != row => {
                Err("a row before differs from the stored".to_owned())
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn expect_equal(what: &str, got: &[String], wanted: &[String]) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    let missing: Vec<_> = wanted.iter().filter(|w| !got.contains(w)).take(5).collect();
    let extra: Vec<_> = got.iter().filter(|g| !wanted.contains(g)).take(5).collect();
    Err(format!("{what}: {} rows, {} at the source; missing {missing:?}, too many {extra:?}", got.len(), wanted.len()))
}

/// A number from a seed: tests repeat.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Writes random changes to `t(id, n)` over few keys until told to stop.
async fn write(shop: &Shop, seed: u64, stop: tokio::sync::watch::Receiver<bool>) -> Outcome {
    const KEYS: u64 = 64;
    let mut conn = shop.conn().await?;
    let mut seed = seed;
    while !*stop.borrow() {
        let (id, n) = (random(&mut seed) % KEYS * 157, random(&mut seed) % 1_000);
        let sql = match random(&mut seed) % 4 {
            0 => format!("DELETE FROM t WHERE id = {id}"),
            1 => format!("UPDATE t SET n = {n} WHERE id = {id}"),
            2 => format!("UPDATE IGNORE t SET id = {} WHERE id = {id}", random(&mut seed) % KEYS * 157),
            _ => format!("INSERT IGNORE INTO t VALUES ({id}, {n})"),
        };
        // Deadlocks among the writers are their own affair.
        conn.query_drop(sql).await.ok();
    }
    Ok(())
}

/// Runs eight writers while `work` runs.
async fn under_writes<T>(shop: &Shop, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers = futures::future::join_all((1..=8).map(|seed| write(shop, seed, stopped.clone())));
    let work = async {
        let result = work.await;
        stop.send(true).ok();
        result
    };
    let (results, value) = tokio::join!(writers, work);
    results.into_iter().collect::<Outcome>()?;
    value
}

pub(crate) async fn fill(shop: &Shop, rows: usize) -> Outcome {
    let mut conn = shop.conn().await?;
    for from in (0..rows).step_by(1_000) {
        let values: Vec<String> = (from..rows.min(from + 1_000)).map(|i| format!("({i}, {})", i % 7)).collect();
        run(&mut conn, &format!("INSERT INTO t VALUES {}", values.join(","))).await?;
    }
    Ok(())
}

pub(crate) const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)";

/// A table is loaded while eight writers change it on 64 keys; in the end both are equal.
async fn snapshot_under_writes(server: &str, port: u16, tls: Tls) -> Outcome {
    let name = if tls == Tls::Disabled { "writes" } else { "writes_tls" };
    let shop = Shop::new(server, port, name, &[T]).await?;
    fill(&shop, 20_000).await?;
    let tables = shop.tables(&["t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::from_millis(300), ..shop.config(tls) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    under_writes(&shop, async {
        mirror.follow(&mut events, None).await?;
        let more = tokio::time::sleep(Duration::from_millis(500));
        tokio::pin!(more);
        loop {
            tokio::select! {
                () = &mut more => return Ok(()),
                event = events.recv() => mirror.take(event.ok_or("the source has ended")?)?,
            }
        }
    })
    .await?;
    finish(&shop, &mut mirror, &mut events, control).await?;
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// Reads to the end of the log and stops.
pub(crate) async fn finish(
    shop: &Shop,
    mirror: &mut Mirror,
    events: &mut Receiver<SourceEvent>,
    control: Control,
) -> Outcome {
    let end = current_position(&shop.config(Tls::Disabled)).await.map_err(|f| f.detail)?;
    mirror.follow(events, Some(&end)).await?;
    events.close();
    control.stop().await;
    Ok(())
}

/// Keys in the order of a collation, of several columns, and of bytes are walked to their end.
async fn text_keys(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(
        server,
        port,
        "keys",
        &[
            "CREATE TABLE a (k VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci, n INT, d DATE, PRIMARY KEY (k, d))",
            "CREATE TABLE b (k VARBINARY(20) PRIMARY KEY, e ENUM('z', 'y', 'x') NOT NULL)",
            "CREATE TABLE c (e ENUM('z', 'y', 'x'), t DATETIME(3), u BIGINT UNSIGNED, m DECIMAL(20,4), PRIMARY KEY (e, t, u, m))",
        ],
    )
    .await?;
    let mut conn = shop.conn().await?;
    let mut seed = 7;
    for _ in 0..40 {
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..200 {
            let n = random(&mut seed);
            let letters: [&str; 8] = ["a", "A", "ä", "Ö", "z", "ß", "'", "\\\\"];
            let word: String =
                (0..4).map(|i| letters[usize::try_from(n >> (3 * i)).unwrap_or(0) % 8].replace('\'', "''")).collect();
            a.push(format!("('{word}{}', {n}, '2026-03-{:02}')", n % 50, n % 28 + 1));
            b.push(format!("(x'{:016x}', {})", n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n % 3 + 1));
            c.push(format!(
                "({}, '2026-01-01 00:00:{:02}.{:03}', {}, {}.5)",
                n % 3 + 1,
                n % 60,
                n % 999,
                u64::MAX - n,
                n % 9
            ));
        }
        run(&mut conn, &format!("INSERT IGNORE INTO a VALUES {}", a.join(","))).await?;
        run(&mut conn, &format!("INSERT IGNORE INTO b VALUES {}", b.join(","))).await?;
        run(&mut conn, &format!("INSERT IGNORE INTO c VALUES {}", c.join(","))).await?;
    }
    let tables = shop.tables(&["a", "b", "c"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::ZERO, ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    finish(&shop, &mut mirror, &mut events, control).await?;
    expect_equal("a", &mirror.content(0), &shop.content("k, n, d", "a").await?)?;
    let b = shop.content("CONCAT('\\\\x', LOWER(HEX(k))), e", "b").await?;
    expect_equal("b", &mirror.content(1), &b)?;
    if mirror.content(2).len() != shop.content("e", "c").await?.len() {
        return Err("c has another number of rows than at the source".to_owned());
    }
    Ok(())
}

/// A table without a key, with equal rows, is loaded while it changes.
async fn bag_under_writes(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "bag", &["CREATE TABLE t (id INT, n INT)"]).await?;
    fill(&shop, 5_000).await?;
    fill(&shop, 2_500).await?;
    let tables = shop.tables(&["t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::from_millis(300), ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    under_writes(&shop, mirror.follow(&mut events, None)).await?;
    finish(&shop, &mut mirror, &mut events, control).await?;
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// Our connections are killed again and again while tables are loaded and changed: nothing is lost and nothing doubled.
async fn connection_killed(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "kill", &[T]).await?;
    fill(&shop, 20_000).await?;
    let tables = shop.tables(&["t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::from_millis(300), ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    under_writes(&shop, async {
        let mut killed = 0;
        let mut killer = shop.conn().await?;
        let mut tick = tokio::time::interval(Duration::from_millis(700));
        while killed < 5 {
            tokio::select! {
                event = events.recv() => mirror.take(event.ok_or("the source has ended")?)?,
                _ = tick.tick() => killed += kill_dumps(&mut killer).await?,
            }
        }
        mirror.follow(&mut events, None).await
    })
    .await?;
    finish(&shop, &mut mirror, &mut events, control).await?;
    if !mirror.states.contains(&SourceState::Stalled) {
        return Err(format!("no connection was lost: {:?}", mirror.states));
    }
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// Kills all connections that read the log. Returns whether there were any.
async fn kill_dumps(conn: &mut Conn) -> Result<u32, String> {
    let ids: Vec<u64> = conn
        .query("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")
        .await
        .map_err(|e| e.to_string())?;
    for id in &ids {
        // It may be gone already.
        conn.query_drop(format!("KILL CONNECTION {id}")).await.ok();
    }
    Ok(u32::from(!ids.is_empty()))
}

/// A source that is stopped at any moment goes on where it was, with the positions and cursors that were received.
async fn resume(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "resume", &[T]).await?;
    fill(&shop, 20_000).await?;
    let mut mirror = Mirror::new(&shop.tables(&["t"]).await?);
    under_writes(&shop, async {
        for round in 0..12 {
            mirror.forget_what_begins_anew();
            let tables = mirror.tables.iter().map(|t| t.table.clone()).collect();
            let position = Some(mirror.position.clone()).filter(|p| !p.0.is_empty());
            let config = MysqlConfig { snapshot_delay: Duration::from_millis(200), ..shop.config(Tls::Disabled) };
            let (mut events, control) = MysqlSource::start(config, tables, position, Limits::default());
            let moment = tokio::time::sleep(Duration::from_millis(150 + 60 * round));
            tokio::pin!(moment);
            loop {
                tokio::select! {
                    () = &mut moment => break,
                    event = events.recv() => mirror.take(event.ok_or("the source has ended")?)?,
                }
            }
            // What waits in the channel is lost with it, as in a crash.
            drop(events);
            control.stop().await;
        }
        Ok(())
    })
    .await?;
    mirror.forget_what_begins_anew();
    let tables = mirror.tables.iter().map(|t| t.table.clone()).collect();
    let position = Some(mirror.position.clone());
    let (mut events, control) = MysqlSource::start(shop.config(Tls::Disabled), tables, position, Limits::default());
    finish(&shop, &mut mirror, &mut events, control).await?;
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// The server cannot be reached for a while, twice: the source waits, says so, and goes on.
async fn server_gone(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "gone", &[T]).await?;
    fill(&shop, 1_000).await?;
    let tables = shop.tables(&["t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let mut proxy = Proxy::start(port).await?;
    let config = MysqlConfig { port: proxy.port, snapshot_delay: Duration::ZERO, ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    mirror.follow(&mut events, None).await?;
    let mut conn = shop.conn().await?;
    for round in 0..2 {
        let port = proxy.port;
        proxy.stop().await;
        run(&mut conn, &format!("UPDATE t SET n = n + 1 WHERE id % 2 = {round}")).await?;
        mirror.states.clear();
        while mirror.states.last() != Some(&SourceState::Stalled) {
            mirror.take(events.recv().await.ok_or("the source has ended")?)?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy = Proxy::start_at(shop.port, port).await?;
        while mirror.states.last() != Some(&SourceState::Streaming) {
            mirror.take(events.recv().await.ok_or("the source has ended")?)?;
        }
    }
    finish(&shop, &mut mirror, &mut events, control).await?;
    proxy.stop().await;
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// A position that the log does not have is a person's affair: it says so at once, and goes on looking.
async fn log_purged(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "purged", &[T]).await?;
    for (position, words) in [("binlog.000000:4", "no longer has the log"), ("binlog.999999:4", "another history")] {
        let position = Some(Position(position.to_owned()));
        expect_stall(shop.config(Tls::Disabled), position, words, "tidemill resnapshot --all").await?;
    }
    Ok(())
}

/// The source stalls with this message and remedy, and does not end.
async fn expect_stall(config: MysqlConfig, position: Option<Position>, message: &str, remedy: &str) -> Outcome {
    let (mut events, control) = MysqlSource::start(config, Vec::new(), position, Limits::default());
    loop {
        match events.recv().await.ok_or("the source has ended without a word")? {
            SourceEvent::State(SourceState::Stalled, said) if said.contains(message) && said.contains(remedy) => break,
            SourceEvent::State(SourceState::Stalled, said) => return Err(said),
            SourceEvent::State(..) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    control.stop().await;
    Ok(())
}

/// The source ends with this message.
async fn expect_failure(config: MysqlConfig, position: Option<Position>, message: &str) -> Outcome {
    let (mut events, control) = MysqlSource::start(config, Vec::new(), position, Limits::default());
    loop {
        match events.recv().await.ok_or("the source has ended without a word")? {
            SourceEvent::Failed(failure) if failure.message.contains(message) => break,
            SourceEvent::State(..) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    control.stop().await;
    Ok(())
}

/// Without a log there is nothing to follow.
async fn binlog_off(port: u16) -> Outcome {
    let config = MysqlConfig { port, ..MysqlConfig::default() };
    expect_check(&doctor(&config, &[]).await, "log_bin", CheckOutcome::Failed, "no binary log")?;
    expect_stall(config, None, "writes no binary log", "log_bin").await
}

/// A start in the past takes the transactions from that time on, and no earlier ones.
async fn start_since(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "since", &[T]).await?;
    let mut conn = shop.conn().await?;
    run(&mut conn, "INSERT INTO t VALUES (1, 1)").await?;
    // MariaDB tells commit times in seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let now: Option<i64> = conn.query_first("SELECT UNIX_TIMESTAMP() * 1000000").await.map_err(|e| e.to_string())?;
    run(&mut conn, "INSERT INTO t VALUES (2, 2)").await?;
    let mut tables = shop.tables(&["t"]).await?;
    for table in &mut tables {
        table.load = Load::Complete;
    }
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { start: Start::Since(now.unwrap_or(0)), ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    while mirror.content(0) != ["2,2"] {
        mirror.take(events.recv().await.ok_or("the source has ended")?)?;
    }
    drop(events);
    control.stop().await;
    Ok(())
}

const THOUSAND: &str = "CREATE TABLE s (id INT PRIMARY KEY, n INT NOT NULL)";

/// A table `s` of a thousand rows, from which large transactions are made.
async fn fill_thousand(shop: &Shop) -> Result<Conn, String> {
    let mut conn = shop.conn().await?;
    let values: Vec<String> = (0..1_000).map(|i| format!("({i}, {})", i % 7)).collect();
    run(&mut conn, &format!("INSERT INTO s VALUES {}", values.join(","))).await?;
    Ok(conn)
}

/// One transaction of 300,000 rows, and one that changes them all: both come, in parts.
async fn large_transactions(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "large", &[T, THOUSAND]).await?;
    let mut conn = fill_thousand(&shop).await?;
    let tables = shop.tables(&["t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::ZERO, ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    mirror.follow(&mut events, None).await?;
    run(&mut conn, "INSERT INTO t SELECT a.id * 1000 + b.id, a.n FROM s a, s b WHERE a.id < 300").await?;
    run(&mut conn, "UPDATE t SET n = n + 1").await?;
    // As one event of the log where the server can.
    conn.query_drop("SET SESSION binlog_transaction_compression = ON").await.ok();
    run(&mut conn, "UPDATE t SET n = n + 1 WHERE id >= 100000").await?;
    finish(&shop, &mut mirror, &mut events, control).await?;
    if mirror.parted != 3 || mirror.changes != 800_000 {
        return Err(format!("{} transactions in parts, {} changes", mirror.parted, mirror.changes));
    }
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// While a table is being loaded one transaction changes all its rows, more than the window remembers.
async fn large_while_loading(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "large_load", &[T, THOUSAND]).await?;
    let mut conn = fill_thousand(&shop).await?;
    run(&mut conn, "INSERT INTO t SELECT a.id * 1000 + b.id, a.n FROM s a, s b WHERE a.id < 200").await?;
    let tables = shop.tables(&["t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::from_millis(300), ..shop.config(Tls::Disabled) };
    let limits = Limits { rows_max: 1_000, ..Limits::default() };
    let (mut events, control) = MysqlSource::start(config, tables, None, limits);
    let changed = async {
        run(&mut conn, "UPDATE t SET n = n + 1").await?;
        run(&mut conn, "UPDATE t SET n = n * 2 WHERE id % 3 = 0").await
    };
    let (changed, followed) = tokio::join!(changed, mirror.follow(&mut events, None));
    changed?;
    followed?;
    finish(&shop, &mut mirror, &mut events, control).await?;
    expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
}

/// Rows of 48 MiB, which come in several packets: loaded, inserted, updated (both images in one event).
async fn large_rows(server: &str, port: u16) -> Outcome {
    const BYTES: usize = 48 << 20;
    let shop = Shop::new(server, port, "wide", &["CREATE TABLE w (id INT PRIMARY KEY, v LONGTEXT)"]).await?;
    let mut root = shop.conn().await?;
    run(&mut root, "SET GLOBAL max_allowed_packet = 1073741824").await?;
    // A row may take a tenth of the redo log, which is small at first; each server knows one of these.
    root.query_drop("SET GLOBAL innodb_redo_log_capacity = 2147483648").await.ok();
    root.query_drop("SET GLOBAL innodb_log_file_size = 2147483648").await.ok();
    let mut conn = shop.conn().await?;
    for id in 1..=3 {
        run(&mut conn, &format!("INSERT INTO w VALUES ({id}, REPEAT('{id}', {BYTES}))")).await?;
    }
    let tables = shop.tables(&["w"]).await?;
    let mut mirror = Mirror::new(&tables);
    let config = MysqlConfig { snapshot_delay: Duration::ZERO, ..shop.config(Tls::Disabled) };
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    mirror.follow(&mut events, None).await?;
    run(&mut conn, &format!("INSERT INTO w VALUES (4, REPEAT('4', {BYTES}))")).await?;
    run(&mut conn, "UPDATE w SET v = REPEAT('x', LENGTH(v)) WHERE id = 2").await?;
    finish(&shop, &mut mirror, &mut events, control).await?;
    let table = &mirror.tables[0];
    let mut found = Vec::new();
    for (row, _) in table.rows.values() {
        let text = table.layout.bytes(row, 1);
        let first = text.first().copied().unwrap_or_default();
        found.push((char::from(first), text.len(), text.iter().all(|byte| *byte == first)));
    }
    let wanted: Vec<_> = ['1', 'x', '3', '4'].map(|letter| (letter, BYTES, true)).to_vec();
    let mut conn = shop.conn().await?;
    run(&mut conn, "DROP TABLE w").await?;
    if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
}

/// Compressed transactions, and transactions with a tag, live and after a restart from a position that holds the tag.
async fn compressed(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "zipped", &[T]).await?;
    let mut mirror = Mirror::new(&shop.tables(&["t"]).await?);
    let mut conn = shop.conn().await?;
    run(&mut conn, "SET SESSION binlog_transaction_compression = ON").await?;
    run(&mut conn, "SET GTID_NEXT = 'AUTOMATIC:tidemill_test'").await?;
    for round in 0..3 {
        let tables = mirror.tables.iter().map(|t| t.table.clone()).collect();
        let position = Some(mirror.position.clone()).filter(|p| !p.0.is_empty());
        let config = MysqlConfig { snapshot_delay: Duration::ZERO, ..shop.config(Tls::Disabled) };
        let (mut events, control) = MysqlSource::start(config, tables, position, Limits::default());
        mirror.follow(&mut events, None).await?;
        let values: Vec<String> = (0..2_000).map(|i| format!("({}, 7)", round * 10_000 + i)).collect();
        run(&mut conn, &format!("INSERT INTO t VALUES {}", values.join(","))).await?;
        run(&mut conn, &format!("UPDATE t SET n = n + {round}")).await?;
        finish(&shop, &mut mirror, &mut events, control).await?;
        expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)?;
    }
    if !mirror.position.0.contains("tidemill_test") {
        return Err(format!("no tag in {}", mirror.position));
    }
    Ok(())
}

/// Settings of the server that cut or end the queries of every session: ours set what they need.
async fn limited(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "limited", &[T]).await?;
    fill(&shop, 3_000).await?;
    let mut conn = shop.conn().await?;
    let user = format!("limited_{server}");
    run(&mut conn, &format!("DROP USER IF EXISTS '{user}'@'%'")).await?;
    run(&mut conn, &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'geheim'")).await?;
    run(&mut conn, &format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%'")).await?;
    // Run for each session of who may not do everything, and of these it changes nothing for anybody else.
    let settings = [
        ("sql_select_limit", "1000"),
        ("sql_big_selects", "0"),
        ("max_join_size", "10"),
        ("autocommit", "0"),
        ("time_zone", "'+05:00'"),
        ("sql_mode", "'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"),
    ];
    let of_user = |(name, value): &(&str, &str)| {
        let own = format!("IF(CURRENT_USER() LIKE 'limited%', {value}, @@SESSION.{name})");
        match value.starts_with('\'') {
            true => format!("SESSION {name} = {own}"),
            false => format!("SESSION {name} = CAST({own} AS UNSIGNED)"),
        }
    };
    let hostile = format!("SET {}", settings.iter().map(of_user).collect::<Vec<_>>().join(", "));
    run(&mut conn, &format!("SET GLOBAL init_connect = \"{hostile}\"")).await?;
    let config = MysqlConfig {
        user: user.clone(),
        password: Some("geheim".to_owned()),
        snapshot_delay: Duration::ZERO,
        ..shop.config(Tls::Disabled)
    };
    let captured = async {
        let wanted = [(shop.database.clone(), "t".to_owned())];
        let described = describe(&config, &wanted).await.map_err(|f| f.detail)?;
        let columns = described.into_iter().next().ok_or("t")?.facts?.columns.len();
        if columns != 2 {
            return Err(format!("{columns} columns"));
        }
        let tables = shop.tables(&["t"]).await?;
        let mut mirror = Mirror::new(&tables);
        let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
        mirror.follow(&mut events, None).await?;
        run(&mut conn, "UPDATE t SET n = n + 1").await?;
        finish(&shop, &mut mirror, &mut events, control).await?;
        expect_equal("t", &mirror.content(0), &shop.content("id, n", "t").await?)
    };
    let result = captured.await;
    let mut conn = shop.conn().await?;
    run(&mut conn, "SET GLOBAL init_connect = ''").await?;
    run(&mut conn, &format!("DROP USER '{user}'@'%'")).await?;
    result
}

/// The doctor names what is wrong, with the statement that mends it.
async fn doctored(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "doctor", &[T, "CREATE TABLE bag (n INT)"]).await?;
    let mut conn = shop.conn().await?;
    let user = format!("connect_{server}");
    run(&mut conn, &format!("DROP USER IF EXISTS '{user}'@'%'")).await?;
    run(&mut conn, &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'geheim'")).await?;
    run(&mut conn, &format!("GRANT SELECT ON {}.* TO '{user}'@'%'", shop.database)).await?;
    let tables: Vec<_> = ["t", "bag", "gone"].iter().map(|t| (shop.database.clone(), (*t).to_owned())).collect();
    let config = |password: &str, tls| MysqlConfig {
        user: user.clone(),
        password: Some(password.to_owned()),
        ..shop.config(tls)
    };

    let wrong = doctor(&config("falsch", Tls::Preferred), &tables).await;
    expect_check(&wrong, "connection", CheckOutcome::Failed, "refuses user")?;

    let poor = doctor(&config("geheim", Tls::Disabled), &tables).await;
    expect_check(&poor, "grants", CheckOutcome::Failed, "may not read the log")?;
    expect_check(&poor, "replica", CheckOutcome::Warning, "it does not tell")?;
    let grants = poor.iter().find(|c| c.name == "grants").ok_or("grants")?;
    expect_check(&poor, "primary_key", CheckOutcome::Warning, "no primary key")?;
    expect_check(&poor, "table", CheckOutcome::Failed, "gone")?;
    expect_check(&poor, "binlog_format", CheckOutcome::Ok, "")?;

    // A key that does not tell rows apart, and a table that is seen and may not be read.
    run(&mut conn, "CREATE TABLE f (x DOUBLE PRIMARY KEY)").await?;
    run(&mut conn, "CREATE TABLE z (d DATE PRIMARY KEY)").await?;
    run(&mut conn, "SET SESSION sql_mode = ''").await?;
    run(&mut conn, "INSERT INTO z VALUES ('2020-00-00'), ('2020-01-01')").await?;
    let keys: Vec<_> = ["f", "z"].iter().map(|t| (shop.database.clone(), (*t).to_owned())).collect();
    let told = doctor(&config("geheim", Tls::Disabled), &keys).await;
    expect_check(&told, "key", CheckOutcome::Warning, "has a double (x)")?;
    expect_check(&told, "key", CheckOutcome::Warning, "has dates that no calendar has (d)")?;
    // 30 February has no zero part.
    run(&mut conn, "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'").await?;
    run(&mut conn, "UPDATE z SET d = '2020-02-30' WHERE d = '2020-00-00'").await?;
    let told = doctor(&config("geheim", Tls::Disabled), &keys).await;
    expect_check(&told, "key", CheckOutcome::Warning, "has dates that no calendar has (d)")?;
    run(&mut conn, &format!("REVOKE SELECT ON {}.* FROM '{user}'@'%'", shop.database)).await?;
    run(&mut conn, &format!("GRANT INSERT ON {}.t TO '{user}'@'%'", shop.database)).await?;
    let told = doctor(&config("geheim", Tls::Disabled), &tables).await;
    let unread = told.iter().find(|c| c.message.contains(".t\" cannot be read")).ok_or(format!("{told:#?}"))?;
    run(&mut conn, &unread.hint).await?;
    run(&mut conn, &format!("GRANT SELECT ON {}.* TO '{user}'@'%'", shop.database)).await?;

    // The hint is SQL that works.
    run(&mut conn, &grants.hint).await?;
    let rich = doctor(&config("geheim", Tls::Required), &tables).await;
    expect_check(&rich, "grants", CheckOutcome::Ok, "may read the log")?;
    expect_check(&rich, "clock", CheckOutcome::Ok, "")?;
    if let Some(untold) = rich.iter().find(|check| check.name == "replica") {
        return Err(format!("with all rights: {untold:?}"));
    }

    // Who the server is, is asked only if asked for: its certificate is not one of the web's.
    let strange = doctor(&config("geheim", Tls::Verify), &tables).await;
    expect_check(&strange, "connection", CheckOutcome::Failed, "encrypted connection")?;
    if let Some(ca) = std::env::var_os("TIDEMILL_TEST_CA") {
        let known = MysqlConfig { tls_ca: Some(ca.into()), ..config("geheim", Tls::Verify) };
        expect_check(&doctor(&known, &tables).await, "connection", CheckOutcome::Ok, "")?;
    }

    // The source itself says the same of a wrong password, and ends.
    expect_failure(config("falsch", Tls::Disabled), None, "refuses user").await?;
    run(&mut conn, &format!("DROP USER '{user}'@'%'")).await
}

fn expect_check(checks: &[connect::Check], name: &str, outcome: CheckOutcome, message: &str) -> Outcome {
    let found = checks.iter().any(|c| c.name == name && c.outcome == outcome && c.message.contains(message));
    if found { Ok(()) } else { Err(format!("no {outcome:?} of {name} with \"{message}\" in {checks:#?}")) }
}
