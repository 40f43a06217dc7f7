//! Trials against real servers that are reset, purged, switched and replaced, with `SLOW=1`: `mysql:first`, `mysql:second`,
//! `mariadb:first` and `mariadb:second` of `scripts/services`. What is done to them harms whoever else reads them, so they
//! are nobody else's.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use connect::source::mysql::{Control, MysqlConfig, MysqlSource, Tls, current_position, reached};
use connect::{Limits, SourceEvent, SourceState};
use libtest_mimic::{Failed, Trial};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::mpsc::Receiver;

use super::proxy::Proxy;
use super::server::{Mirror, Outcome, Shop, T, expect_equal, fill, port_of, run};

const PATIENCE: Duration = Duration::from_secs(120);
/// Within which a source must say that it does not go on.
const NOTICE: Duration = Duration::from_secs(5);
/// Within which it must be level again after a fault.
const LEVEL: Duration = Duration::from_secs(20);

/// What is done to a server is done by one trial at a time.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os("SLOW").is_none_or(|v| v != "1") {
        return Vec::new();
    }
    let mut out = Vec::new();
    for server in ["mysql", "mariadb"] {
        let Some(first) = port_of(&format!("{server}_first")) else { continue };
        out.push(trial(server, "reset_while_down", move || reset_while_down(server, first)));
        out.push(trial(server, "reset_while_it_is_read", move || reset_live(server, first, 1)));
        out.push(trial(server, "reset_and_more_than_before", move || reset_live(server, first, 500)));
        out.push(trial(server, "purged_while_down", move || purged(server, first)));
        out.push(trial(server, "half_open", move || half_open(server, first)));
        out.push(trial(server, "cut_in_the_midst_of_packets", move || cut(server, first)));
        out.push(trial(server, "slow", move || slow(server, first)));
        if let Some(second) = port_of(&format!("{server}_second")) {
            out.push(trial(server, "failover", move || failover(server, first, second)));
            out.push(trial(server, "failover_to_one_that_lags", move || lagging(server, first, second)));
            out.push(trial(server, "failover_without_all", move || errant(server, first, second)));
        }
        if let Some(foreign) = port_of(server) {
            out.push(trial(server, "a_foreign_server", move || foreign_server(server, first, foreign)));
        }
        if server == "mariadb" {
            out.push(trial(server, "numbers_that_fall", move || falling(server, first)));
        }
        if server == "mysql" {
            out.push(trial(server, "numbering_is_switched", move || switched(server, first)));
        }
    }
    out
}

fn trial<F: Future<Output = Outcome>>(server: &str, name: &str, run: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(format!("continuity/{name}_{server}"), move || {
        // A trial that has failed leaves nothing that the next one needs.
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let result = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, run()).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
        });
        result.map_err(Failed::from)
    })
}

/// A source, and the tables as its receiver has them.
struct Followed {
    mirror: Mirror,
    events: Receiver<SourceEvent>,
    control: Control,
}

impl Followed {
    /// From the start, until it is loaded.
    async fn start(shop: &Shop, port: u16) -> Result<Self, String> {
        let tables = shop.tables(&["t"]).await?;
        let mirror = Mirror::new(&tables);
        let mut followed = Self::of(shop, port, mirror);
        followed.mirror.follow(&mut followed.events, None).await?;
        Ok(followed)
    }

    /// Goes on with what was received.
    fn of(shop: &Shop, port: u16, mirror: Mirror) -> Self {
        let config = MysqlConfig { port, snapshot_delay: Duration::from_millis(100), ..shop.config(Tls::Disabled) };
        let tables = mirror.tables.iter().map(|t| t.table.clone()).collect();
        let position = Some(mirror.position.clone()).filter(|p| !p.0.is_empty());
        let (events, control) = MysqlSource::start(config, tables, position, Limits::default());
        Self { mirror, events, control }
    }

    async fn next(&mut self) -> Outcome {
        self.mirror.take(self.events.recv().await.ok_or("the source has ended")?)
    }

    async fn until_said(&mut self, wanted: SourceState, words: &str, patience: Duration) -> Outcome {
        let said = async {
            while self.mirror.states.last() != Some(&wanted) || !self.mirror.message.contains(words) {
                self.next().await?;
            }
            Ok(())
        };
        let result = tokio::time::timeout(patience, said).await;
        let (states, message) = (&self.mirror.states, &self.mirror.message);
        result.unwrap_or_else(|_| Err(format!("it does not say {wanted}, {words}: {states:?} {message}")))
    }

    /// Until all that is in the server's log now was received.
    async fn level(&mut self, shop: &Shop) -> Outcome {
        let end = current_position(&shop.config(Tls::Disabled)).await.map_err(|f| f.detail)?;
        let level = async {
            while !reached(&self.mirror.position, &end).map_err(|e| e.to_string())? || !self.is_loaded() {
                self.next().await?;
            }
            Ok(())
        };
        let result = tokio::time::timeout(LEVEL, level).await;
        let (states, message) = (&self.mirror.states, &self.mirror.message);
        result.unwrap_or_else(|_| Err(format!("it is not level: {states:?} {message} {}", self.mirror.position)))
    }

    fn is_loaded(&self) -> bool {
        self.mirror.tables.iter().all(|t| t.table.load == connect::Load::Complete)
    }

    async fn equal(&mut self, shop: &Shop) -> Outcome {
        self.level(shop).await?;
        expect_equal("t", &self.mirror.content(0), &shop.content("id, n", "t").await?)
    }

    /// As [`Self::equal`], where numbers do not say what is level.
    async fn until_equal(&mut self, shop: &Shop) -> Outcome {
        let wanted = shop.content("id, n", "t").await?;
        while self.mirror.content(0) != wanted {
            self.next().await?;
        }
        Ok(())
    }

    async fn stop(mut self) -> Mirror {
        self.events.close();
        self.control.stop().await;
        self.mirror
    }
}

async fn insert(conn: &mut Conn, ids: std::ops::Range<u32>) -> Outcome {
    for id in ids {
        run(conn, &format!("INSERT INTO t VALUES ({id}, {})", id % 5)).await?;
    }
    Ok(())
}

async fn reset(conn: &mut Conn, server: &str) -> Outcome {
    run(conn, if server == "mysql" { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" }).await
}

/// A source that has read all of a log that begins with it: what came before it and after it started.
async fn followed_in_a_new_log(shop: &Shop, server: &str, port: u16) -> Result<(Conn, Followed), String> {
    let mut conn = shop.conn().await?;
    reset(&mut conn, server).await?;
    insert(&mut conn, 0..5).await?;
    let mut source = Followed::start(shop, port).await?;
    insert(&mut conn, 5..10).await?;
    source.equal(shop).await?;
    Ok((conn, source))
}

/// The log is reset while nobody reads, and has more transactions than before when it is read again.
async fn reset_while_down(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "reset_down", &[T]).await?;
    let (mut conn, source) = followed_in_a_new_log(&shop, server, port).await?;
    let before = source.mirror.content(0);
    let mirror = source.stop().await;
    reset(&mut conn, server).await?;
    insert(&mut conn, 100..150).await?;
    let mut source = Followed::of(&shop, port, mirror);
    source.until_said(SourceState::Stalled, "another history", NOTICE).await?;
    expect_equal("what serves", &source.mirror.content(0), &before)?;
    begin_anew(&mut source, &shop).await?;
    insert(&mut conn, 200..205).await?;
    source.equal(&shop).await?;
    // And the position it has now is one to go on from.
    let mirror = source.stop().await;
    insert(&mut conn, 300..305).await?;
    Followed::of(&shop, port, mirror).equal(&shop).await
}

/// Without `gtid_strict_mode` a transaction of a smaller number may follow one of a greater, also while nobody reads: the log is the
/// one that was read all the same. One that was reset is not, whatever its numbers are.
async fn falling(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "falling", &[T]).await?;
    let (mut conn, mut source) = followed_in_a_new_log(&shop, server, port).await?;
    let number = |number: u32| format!("SET gtid_seq_no = {number}");
    run(&mut conn, "SET gtid_domain_id = 51").await?;
    run(&mut conn, &number(1_000)).await?;
    insert(&mut conn, 10..11).await?;
    source.until_equal(&shop).await?;
    let mirror = source.stop().await;
    run(&mut conn, &number(500)).await?;
    insert(&mut conn, 11..12).await?;
    let mut source = Followed::of(&shop, port, mirror);
    source.until_equal(&shop).await?;

    run(&mut conn, &number(400)).await?;
    insert(&mut conn, 12..13).await?;
    source.until_equal(&shop).await?;
    let mirror = source.stop().await;
    reset(&mut conn, server).await?;
    run(&mut conn, &number(300)).await?;
    insert(&mut conn, 100..150).await?;
    let mut source = Followed::of(&shop, port, mirror);
    source.until_said(SourceState::Stalled, "another history", NOTICE).await?;
    source.stop().await;
    run(&mut conn, "SET gtid_domain_id = 0").await?;
    reset(&mut conn, server).await
}

async fn begin_anew(source: &mut Followed, shop: &Shop) -> Outcome {
    if !source.control.restart_from_now() {
        return Err("it cannot begin anew".to_owned());
    }
    while source.mirror.reloads.is_empty() {
        source.next().await?;
    }
    source.equal(shop).await
}

/// The log is reset while it is read, and grows at once to this many transactions.
async fn reset_live(server: &str, port: u16, count: u32) -> Outcome {
    let shop = Shop::new(server, port, "reset_live", &[T]).await?;
    let (mut conn, mut source) = followed_in_a_new_log(&shop, server, port).await?;
    let before = source.mirror.content(0);
    reset(&mut conn, server).await?;
    let (written, said) = tokio::join!(
        insert(&mut conn, 1_000..1_000 + count),
        source.until_said(SourceState::Stalled, "another history", NOTICE)
    );
    written?;
    said?;
    expect_equal("what serves", &source.mirror.content(0), &before)?;
    begin_anew(&mut source, &shop).await
}

/// The log is purged behind what was read.
async fn purged(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "purge", &[T]).await?;
    let mut conn = shop.conn().await?;
    insert(&mut conn, 0..5).await?;
    let mut source = Followed::start(&shop, port).await?;
    insert(&mut conn, 5..10).await?;
    source.equal(&shop).await?;
    let mirror = source.stop().await;
    // All that was read is purged, and nothing else: it goes on.
    run(&mut conn, "FLUSH BINARY LOGS").await?;
    purge(&mut conn).await?;
    insert(&mut conn, 10..15).await?;
    let mut source = Followed::of(&shop, port, mirror);
    source.equal(&shop).await?;
    let mirror = source.stop().await;
    insert(&mut conn, 15..20).await?;
    run(&mut conn, "FLUSH BINARY LOGS").await?;
    insert(&mut conn, 20..25).await?;
    purge(&mut conn).await?;
    let mut source = Followed::of(&shop, port, mirror);
    source.until_said(SourceState::Stalled, "no longer has the log", NOTICE).await?;
    begin_anew(&mut source, &shop).await
}

/// Drops all log files but the one that is written.
async fn purge(conn: &mut Conn) -> Outcome {
    let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.map_err(|e| e.to_string())?;
    let last: String = files.last().and_then(|row| row.get(0)).ok_or("no log file")?;
    run(conn, &format!("PURGE BINARY LOGS TO '{last}'")).await
}

/// Makes the second server an empty replica of the first, which is emptied of its log.
async fn pair(server: &str, first: u16, second: u16, name: &str) -> Result<(Shop, Shop, Conn, Conn), String> {
    let standing = Shop { port: second, database: format!("connect_{name}_{server}") };
    let mut replica = standing.conn_to("").await?;
    stop_following(&mut replica, server).await?;
    run(&mut replica, "SET GLOBAL read_only = 0").await?;
    run(&mut replica, &format!("DROP DATABASE IF EXISTS {}", standing.database)).await?;
    let shop = Shop::new(server, first, name, &[]).await?;
    let mut conn = shop.conn().await?;
    reset(&mut replica, server).await?;
    if server == "mariadb" {
        run(&mut replica, "SET GLOBAL gtid_slave_pos = ''").await?;
    }
    // The replica gets the database too.
    run(&mut conn, &format!("DROP DATABASE {}", shop.database)).await?;
    reset(&mut conn, server).await?;
    run(&mut conn, &format!("CREATE DATABASE {}", shop.database)).await?;
    run(&mut conn, &format!("USE {}", shop.database)).await?;
    run(&mut conn, T).await?;
    let follow = match server {
        "mysql" => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {first}, SOURCE_USER = 'root', \
             SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_SSL = 0"
        ),
        _ => format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {first}, MASTER_USER = 'root', \
             MASTER_USE_GTID = slave_pos"
        ),
    };
    run(&mut replica, &follow).await?;
    run(&mut replica, "SET GLOBAL read_only = 1").await?;
    run(&mut replica, if server == "mysql" { "START REPLICA" } else { "START SLAVE" }).await?;
    Ok((shop, standing, conn, replica))
}

async fn stop_following(replica: &mut Conn, server: &str) -> Outcome {
    run(replica, if server == "mysql" { "STOP REPLICA" } else { "STOP SLAVE" }).await?;
    run(replica, if server == "mysql" { "RESET REPLICA ALL" } else { "RESET SLAVE ALL" }).await
}

async fn promote(replica: &mut Conn, server: &str) -> Outcome {
    stop_following(replica, server).await?;
    run(replica, "SET GLOBAL read_only = 0").await
}

/// Waits until the replica has so many rows.
async fn until_rows(shop: &Shop, rows: usize) -> Outcome {
    loop {
        if shop.content("id", "t").await.is_ok_and(|content| content.len() == rows) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The replica is promoted, and the address leads to it: nothing is lost, nothing doubled, and it says so.
async fn failover(server: &str, first: u16, second: u16) -> Outcome {
    let (shop, standing, mut conn, mut replica) = pair(server, first, second, "failover").await?;
    insert(&mut conn, 0..20).await?;
    let proxy = Proxy::start(first).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    insert(&mut conn, 20..40).await?;
    source.equal(&shop).await?;
    // Written last on the old one, and come to the new one; we have not read it yet.
    proxy.state.target.store(0, Ordering::Relaxed);
    proxy.cut();
    insert(&mut conn, 40..50).await?;
    until_rows(&standing, 50).await?;
    promote(&mut replica, server).await?;
    proxy.state.target.store(second, Ordering::Relaxed);
    source.until_said(SourceState::Streaming, "it has all that we have read", LEVEL).await?;
    let mut conn = standing.conn().await?;
    insert(&mut conn, 50..60).await?;
    run(&mut conn, "UPDATE t SET n = n + 1").await?;
    source.equal(&standing).await?;
    // After it, the new one is the one that was read.
    let mirror = source.stop().await;
    insert(&mut conn, 60..70).await?;
    let mut source = Followed::of(&standing, second, mirror);
    source.equal(&standing).await
}

/// The address leads to a replica that has not come as far as we have: it waits, and goes on when it has.
async fn lagging(server: &str, first: u16, second: u16) -> Outcome {
    let (shop, standing, mut conn, mut replica) = pair(server, first, second, "lag").await?;
    insert(&mut conn, 0..20).await?;
    until_rows(&standing, 20).await?;
    run(&mut replica, if server == "mysql" { "STOP REPLICA SQL_THREAD" } else { "STOP SLAVE SQL_THREAD" }).await?;
    let proxy = Proxy::start(first).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    insert(&mut conn, 20..40).await?;
    source.equal(&shop).await?;
    proxy.state.target.store(second, Ordering::Relaxed);
    proxy.cut();
    source.until_said(SourceState::Stalled, "lags behind", NOTICE).await?;
    run(&mut replica, if server == "mysql" { "START REPLICA" } else { "START SLAVE" }).await?;
    source.until_said(SourceState::Streaming, "", LEVEL).await?;
    insert(&mut conn, 40..45).await?;
    until_rows(&standing, 45).await?;
    source.equal(&standing).await
}

/// The promoted replica lacks what we have read: another history, and no row of it is taken.
async fn errant(server: &str, first: u16, second: u16) -> Outcome {
    let (shop, standing, mut conn, mut replica) = pair(server, first, second, "errant").await?;
    insert(&mut conn, 0..20).await?;
    until_rows(&standing, 20).await?;
    promote(&mut replica, server).await?;
    let proxy = Proxy::start(first).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    insert(&mut conn, 20..25).await?;
    source.equal(&shop).await?;
    let before = source.mirror.content(0);
    let mut conn = standing.conn().await?;
    insert(&mut conn, 100..140).await?;
    proxy.state.target.store(second, Ordering::Relaxed);
    proxy.cut();
    source.until_said(SourceState::Stalled, "another history", NOTICE).await?;
    expect_equal("what serves", &source.mirror.content(0), &before)?;
    begin_anew(&mut source, &standing).await
}

async fn foreign_server(server: &str, first: u16, foreign: u16) -> Outcome {
    let shop = Shop::new(server, first, "foreign", &[T]).await?;
    let mut conn = shop.conn().await?;
    insert(&mut conn, 0..20).await?;
    let other = Shop::new(server, foreign, "foreign", &[T]).await?;
    let mut elsewhere = other.conn().await?;
    insert(&mut elsewhere, 500..600).await?;
    let proxy = Proxy::start(first).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    insert(&mut conn, 20..25).await?;
    source.equal(&shop).await?;
    let before = source.mirror.content(0);
    proxy.state.target.store(foreign, Ordering::Relaxed);
    proxy.cut();
    source.until_said(SourceState::Stalled, "is another server than the one we have read", NOTICE).await?;
    expect_equal("what serves", &source.mirror.content(0), &before)?;
    // The right one again: it goes on.
    proxy.state.target.store(first, Ordering::Relaxed);
    insert(&mut conn, 25..30).await?;
    source.equal(&shop).await
}

const OFF: [&str; 3] = ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"];
const ON: [&str; 3] = ["OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];

async fn switch(conn: &mut Conn, steps: &[&str]) -> Outcome {
    for mode in steps {
        run(conn, &format!("SET GLOBAL gtid_mode = {mode}")).await?;
    }
    Ok(())
}

/// Numbering is switched off and on while the log is read, and while it is not.
async fn switched(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "switched", &[T]).await?;
    let mut conn = shop.conn().await?;
    insert(&mut conn, 0..5).await?;
    let mut source = Followed::start(&shop, port).await?;
    let mut at = 5;
    for steps in [OFF, ON, OFF, ON] {
        insert(&mut conn, at..at + 5).await?;
        followed_by_rows(&mut source, &shop).await?;
        switch(&mut conn, &steps).await?;
        insert(&mut conn, at + 5..at + 10).await?;
        at += 10;
        followed_by_rows(&mut source, &shop).await?;
    }
    // What was not read before the last step is not sent any more: it says what mends it.
    let mut mirror = source.stop().await;
    for (steps, remedy) in [(OFF, "OFF_PERMISSIVE"), (ON, "ON_PERMISSIVE")] {
        insert(&mut conn, at..at + 5).await?;
        switch(&mut conn, &steps).await?;
        insert(&mut conn, at + 5..at + 10).await?;
        at += 10;
        let mut source = Followed::of(&shop, port, mirror);
        source.until_said(SourceState::Stalled, &format!("SET GLOBAL gtid_mode = {remedy}"), NOTICE).await?;
        switch(&mut conn, &[remedy]).await?;
        followed_by_rows(&mut source, &shop).await?;
        switch(&mut conn, &steps[2..]).await?;
        mirror = source.stop().await;
    }
    insert(&mut conn, at..at + 5).await?;
    let mut source = Followed::of(&shop, port, mirror);
    followed_by_rows(&mut source, &shop).await?;
    // All is numbered again: after a while the position counts it, for the sake of a failover.
    let counted = async {
        while !source.mirror.position.0.contains("gtid=") {
            source.next().await?;
        }
        Ok(())
    };
    tokio::time::timeout(LEVEL, counted).await.unwrap_or_else(|_| Err("it does not count".to_owned()))
}

/// Until the rows are the server's: positions with and without numbers do not compare.
async fn followed_by_rows(source: &mut Followed, shop: &Shop) -> Outcome {
    let wanted = shop.content("id, n", "t").await?;
    let level = async {
        while source.mirror.content(0) != wanted {
            source.next().await?;
        }
        Ok(())
    };
    let result = tokio::time::timeout(LEVEL, level).await;
    let (states, message) = (&source.mirror.states, &source.mirror.message);
    result.unwrap_or_else(|_| Err(format!("it is not level: {states:?} {message} {}", source.mirror.position)))
}

/// All packets are dropped, and no socket is closed: it notices, and goes on with new connections.
async fn half_open(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "half_open", &[T]).await?;
    fill(&shop, 1_000).await?;
    let proxy = Proxy::start(port).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    proxy.state.frozen.fetch_add(1, Ordering::Relaxed);
    let mut conn = shop.conn().await?;
    run(&mut conn, "UPDATE t SET n = n + 1").await?;
    source.equal(&shop).await?;
    match source.mirror.states.contains(&SourceState::Stalled) {
        true => Ok(()),
        false => Err("the connection was not frozen".to_owned()),
    }
}

/// Connections end after so many bytes, again and again, while the table is loaded and changed.
async fn cut(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "cut", &[T]).await?;
    fill(&shop, 5_000).await?;
    let proxy = Proxy::start(port).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    let mut conn = shop.conn().await?;
    proxy.state.bytes_max.store(12_345, Ordering::Relaxed);
    proxy.cut();
    run(&mut conn, "UPDATE t SET n = n + 1 WHERE id < 3000").await?;
    for id in 0..40 {
        run(&mut conn, &format!("UPDATE t SET n = n + 1 WHERE id BETWEEN {id} AND {id} + 20")).await?;
    }
    source.until_said(SourceState::Stalled, "", NOTICE).await?;
    // Whole transactions of more bytes than a connection lives for come only when it lives longer.
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.state.bytes_max.store(usize::MAX, Ordering::Relaxed);
    source.equal(&shop).await
}

/// A few kilobytes a second are slow, and no reason to give up.
async fn slow(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "slow", &[T]).await?;
    fill(&shop, 2_000).await?;
    let proxy = Proxy::start(port).await?;
    let mut source = Followed::start(&shop, proxy.port).await?;
    proxy.state.slow.store(true, Ordering::Relaxed);
    let mut conn = shop.conn().await?;
    source.mirror.states.clear();
    run(&mut conn, "UPDATE t SET n = n + 1").await?;
    source.equal(&shop).await?;
    match source.mirror.states.contains(&SourceState::Stalled) {
        false => Ok(()),
        true => Err(format!("it gave up: {}", source.mirror.message)),
    }
}
