//! Trials against real servers of what the log cannot tell: whatever statements shops run, live or while nobody looks, a
//! receiver that keeps the rules of the events ends with what the server's own SELECT shows.

use std::time::Duration;

use connect::source::mysql::{Control, MysqlConfig, MysqlSource, Tls, current_position, reached};
use connect::{Limits, SourceEvent};
use libtest_mimic::Trial;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use relation::TableId;
use tokio::sync::mpsc::Receiver;

use super::server::{Mirror, MirrorTable, Outcome, Shop, expect_equal, run, trial};

/// A script of one trial (`§` stands for its name): tables, those captured, and rounds of statements; after each round all is equal.
struct Script {
    name: &'static str,
    tables: &'static [&'static str],
    captured: &'static [&'static str],
    rounds: &'static [&'static [&'static str]],
    /// At least so many loads again, and so many times other columns, on a server that was followed all the time.
    reloads: usize,
    altered: usize,
}

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, c INT)";
const ROWS: &str = "INSERT INTO t VALUES (1, 10, 100), (2, 20, 200), (3, 30, 300)";
const PARTED: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT) PARTITION BY RANGE (id) \
                      (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), \
                      PARTITION p2 VALUES LESS THAN MAXVALUE)";

const SCRIPTS: &[Script] = &[
    Script {
        name: "renamed",
        tables: &[T, ROWS],
        captured: &["t"],
        rounds: &[
            &[
                "CREATE TABLE t_new LIKE t",
                "INSERT INTO t_new VALUES (7, 7, 7)",
                "RENAME TABLE t TO t_old, t_new TO t",
                "INSERT INTO t VALUES (8, 8, 8)",
                "INSERT INTO t_old VALUES (9, 9, 9)",
            ],
            &["DROP TABLE t", "CREATE TABLE t (id INT PRIMARY KEY, a INT, c INT)", "INSERT INTO t VALUES (5, 5, 5)"],
            &["ALTER TABLE t RENAME TO u, ADD INDEX (a)", "ALTER TABLE t_old RENAME t"],
        ],
        reloads: 3,
        altered: 0,
    },
    Script {
        name: "partitions",
        tables: &[
            PARTED,
            "INSERT INTO t VALUES (1, 1), (2, 2), (11, 11), (12, 12), (21, 21), (22, 22)",
            "CREATE TABLE x (id INT PRIMARY KEY, a INT)",
            "INSERT INTO x VALUES (15, 15), (16, 16)",
        ],
        captured: &["t", "x"],
        rounds: &[
            &["ALTER TABLE t DROP PARTITION p0", "INSERT INTO t VALUES (3, 3)"],
            &["ALTER TABLE t EXCHANGE PARTITION p1 WITH TABLE x", "UPDATE t SET a = a + 1", "UPDATE x SET a = a + 1"],
            &["ALTER TABLE t TRUNCATE PARTITION p1"],
            &["ALTER TABLE t TRUNCATE PARTITION p2", "INSERT INTO t VALUES (30, 30)"],
        ],
        reloads: 5,
        altered: 0,
    },
    Script {
        name: "altered",
        tables: &[
            T,
            ROWS,
            "CREATE TABLE e (id INT PRIMARY KEY, s ENUM('a', 'b'))",
            "INSERT INTO e VALUES (1, 'a'), (2, 'b')",
        ],
        captured: &["t", "e"],
        rounds: &[
            &[
                "INSERT INTO t VALUES (4, 40, 400)",
                "ALTER TABLE t ADD COLUMN b INT DEFAULT 5 FIRST",
                "INSERT INTO t (id) VALUES (5)",
            ],
            &["ALTER TABLE t DROP COLUMN b", "UPDATE t SET a = a + 1"],
            &["ALTER TABLE t CHANGE a aa BIGINT", "UPDATE t SET aa = 5000000000 WHERE id = 1"],
            &["ALTER TABLE t MODIFY c INT UNSIGNED", "UPDATE t SET c = 4000000000 WHERE id = 1"],
            &["ALTER TABLE t ADD INDEX (c), COMMENT = 'DROP COLUMN c'", "INSERT INTO t (id) VALUES (6)"],
            &[
                "INSERT INTO t VALUES (40, 4, 900)",
                "ALTER TABLE t MODIFY aa BIGINT AFTER c",
                "INSERT INTO t VALUES (41, 900, 4)",
            ],
            &["ALTER TABLE e MODIFY s ENUM('a', 'b', 'c')", "INSERT INTO e VALUES (3, 'c')"],
            &[
                "INSERT INTO e VALUES (4, 'a')",
                "ALTER TABLE e MODIFY s ENUM('c', 'b', 'a')",
                "INSERT INTO e VALUES (5, 'a')",
            ],
            &["ALTER TABLE e MODIFY s VARCHAR(10) CHARACTER SET latin1", "INSERT INTO e VALUES (6, 'é')"],
        ],
        reloads: 0,
        altered: 7,
    },
    Script {
        name: "written_as_text",
        tables: &[
            "CREATE TABLE a (id INT PRIMARY KEY, n INT)",
            "CREATE TABLE b (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE c (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
            "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)",
            "INSERT INTO b VALUES (1, 1), (2, 2)",
            "CREATE TRIGGER ai AFTER INSERT ON a FOR EACH ROW INSERT INTO c (v) VALUES (NEW.n)",
        ],
        captured: &["b", "c"],
        rounds: &[
            &[
                "SET SESSION binlog_format = STATEMENT",
                "UPDATE a JOIN b ON a.id = b.id SET b.v = 100",
                "SET SESSION binlog_format = ROW",
            ],
            &[
                "SET SESSION binlog_format = STATEMENT",
                "INSERT INTO a VALUES (7, 7)",
                "SET SESSION binlog_format = ROW",
            ],
            &[
                "SET SESSION binlog_format = STATEMENT",
                "DELETE x FROM b x WHERE x.id = 1",
                "SET SESSION binlog_format = ROW",
            ],
            &["INSERT INTO b VALUES (9, 9)", "INSERT INTO a VALUES (9, 9)"],
        ],
        reloads: 4,
        altered: 0,
    },
    Script {
        name: "truncated",
        tables: &[T, ROWS, "CREATE TABLE `größe` (id INT PRIMARY KEY)", "CREATE TABLE `订单` (id INT PRIMARY KEY)"],
        captured: &["t", "größe", "订单"],
        rounds: &[
            &["--\nTRUNCATE t", "INSERT INTO t VALUES (1, 1, 1)"],
            &["INSERT INTO `größe` VALUES (1)", "SET NAMES latin1", "TRUNCATE `gr\u{1}e`", "SET NAMES utf8mb4"],
            &["INSERT INTO `订单` VALUES (1)", "SET NAMES gbk", "TRUNCATE `\u{2}`", "SET NAMES utf8mb4"],
            &["INSERT INTO t VALUES (2, 2, 2)", "/*! TRUNCATE */ /* x */ TABLE # y\n t"],
            &["DROP TABLE `größe`", "CREATE TABLE `größe` (id INT PRIMARY KEY)", "INSERT INTO `größe` VALUES (3)"],
        ],
        reloads: 1,
        altered: 0,
    },
    Script {
        name: "xa",
        tables: &[T, ROWS],
        captured: &["t"],
        rounds: &[
            &["XA START 'x§'", "UPDATE t SET a = 7 WHERE id = 1", "XA END 'x§'", "XA PREPARE 'x§'", "XA COMMIT 'x§'"],
            &["XA START 'y§'", "UPDATE t SET a = 8 WHERE id = 2", "XA END 'y§'", "XA PREPARE 'y§'", "XA ROLLBACK 'y§'"],
            &["XA START 'z§'", "UPDATE t SET a = 9 WHERE id = 3", "XA END 'z§'", "XA COMMIT 'z§' ONE PHASE"],
            &["XA START 'w§'", "UPDATE t SET a = 11", "XA END 'w§'", "XA PREPARE 'w§'"],
            &["XA COMMIT 'w§'", "INSERT INTO t VALUES (9, 9, 9)"],
        ],
        reloads: 0,
        altered: 0,
    },
    Script {
        name: "keys",
        tables: &[
            "CREATE TABLE u (id INT NOT NULL UNIQUE, n INT)",
            "CREATE TABLE f (k DOUBLE PRIMARY KEY, n INT) PARTITION BY KEY (k) PARTITIONS 2",
            "CREATE TABLE e (id INT PRIMARY KEY, s ENUM('ü', 'b'))",
            "INSERT INTO u VALUES (1, 1)",
            "INSERT INTO f VALUES (1.5, 1), (2.5, 2)",
            "INSERT INTO e VALUES (1, 'ü')",
        ],
        captured: &["u", "f", "e"],
        rounds: &[
            &[
                "INSERT INTO u VALUES (2, 2)",
                "UPDATE u SET n = 5 WHERE id = 1",
                "INSERT INTO e VALUES (2, 'ü'), (3, 'b')",
                "INSERT INTO f VALUES (0.1, 3)",
                "UPDATE f SET n = 9 WHERE k > 1",
                "DELETE FROM f WHERE k = 2.5",
            ],
            // Loaded again along a key of doubles, whose cursors must come out as they went in.
            &["ALTER TABLE f ADD PARTITION PARTITIONS 1", "INSERT INTO f VALUES (-12345.25, 4)"],
            &["ALTER TABLE u ADD PRIMARY KEY (id)", "INSERT INTO u VALUES (3, 3)"],
        ],
        reloads: 0,
        altered: 1,
    },
];

pub(super) fn trials(server: &'static str, port: u16) -> Vec<Trial> {
    let mut out = Vec::new();
    for script in SCRIPTS {
        for live in [true, false] {
            let name = format!("repair_{}_{}", script.name, if live { "live" } else { "down" });
            out.push(trial(server, &name, move || play(server, port, script, live)));
        }
    }
    out.push(trial(server, "repair_dropped", move || dropped(server, port)));
    out.push(trial(server, "repair_cascades", move || cascades(server, port)));
    out.push(trial(server, "repair_keys_that_went", move || keys_that_went(server, port)));
    out.push(trial(server, "repair_partial_rows", move || partial(server, port)));
    out.push(trial(server, "repair_labels", move || labels(server, port)));
    if server == "mariadb" {
        out.push(trial(server, "repair_versioned", move || versioned(server, port)));
    }
    out.push(trial(server, "repair_ghosts", move || ghosts(server, port)));
    out
}

/// A source that is followed, by the rules of its events.
struct Followed {
    config: MysqlConfig,
    mirror: Mirror,
    names: Vec<&'static str>,
    running: Option<(Receiver<SourceEvent>, Control)>,
}

impl Followed {
    async fn start(shop: &Shop, names: &[&'static str]) -> Result<Self, String> {
        Self::start_by(shop, names, shop.config(Tls::Disabled)).await
    }

    /// The same, with the settings of somebody else.
    async fn start_by(shop: &Shop, names: &[&'static str], config: MysqlConfig) -> Result<Self, String> {
        let config = MysqlConfig { snapshot_delay: Duration::from_millis(200), ..config };
        let mirror = Mirror::new(&shop.tables(names).await?);
        let mut followed = Self { config, mirror, names: names.to_vec(), running: None };
        followed.resume(shop).await?;
        Ok(followed)
    }

    /// Describes the tables and goes on. A table with another schema is another one, and is loaded.
    async fn resume(&mut self, shop: &Shop) -> Outcome {
        let described = shop.tables(&self.names).await?;
        for (table, now) in self.mirror.tables.iter_mut().zip(described) {
            if now.schema == table.table.schema && !self.mirror.altered.iter().any(|(id, _)| *id == now.id) {
                table.table.columns = now.columns;
                continue;
            }
            *table = MirrorTable::of(&now);
        }
        self.mirror.altered.clear();
        let tables = self.mirror.tables.iter().map(|t| t.table.clone()).collect();
        let position = Some(self.mirror.position.clone()).filter(|p| !p.0.is_empty());
        self.running = Some(MysqlSource::start(self.config.clone(), tables, position, Limits::default()));
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some((events, control)) = self.running.take() {
            drop(events);
            control.stop().await;
        }
    }

    /// Follows until all that is in the log now has come, and everything is loaded. Answers how often columns changed.
    async fn settle(&mut self, shop: &Shop) -> Result<usize, String> {
        let target = current_position(&shop.config(Tls::Disabled)).await.map_err(|f| f.detail)?;
        let mut altered = 0;
        loop {
            if !self.mirror.altered.is_empty() {
                altered += self.mirror.altered.len();
                self.stop().await;
                self.resume(shop).await?;
            }
            if self.mirror.is_loaded() && reached(&self.mirror.position, &target).unwrap_or(false) {
                return Ok(altered);
            }
            let (events, _) = self.running.as_mut().ok_or("it does not run")?;
            let event = events.recv().await.ok_or("the source has ended")?;
            self.mirror.take(event)?;
        }
    }

    async fn compare(&self, shop: &Shop, after: &str) -> Outcome {
        for (i, name) in self.names.iter().enumerate() {
            let columns = &self.mirror.tables[i].table.schema.columns;
            let list: Vec<String> = columns.iter().map(|c| format!("COALESCE(`{}`, 'NULL')", c.name)).collect();
            let wanted = shop.content(&list.join(", "), &format!("`{name}`")).await?;
            expect_equal(&format!("{name} after {after}"), &self.mirror.content(i), &wanted)?;
        }
        Ok(())
    }
}

async fn play(server: &str, port: u16, script: &Script, live: bool) -> Outcome {
    let name = format!("{}_{}", script.name, if live { "live" } else { "down" });
    let shop = Shop::new(server, port, &name, script.tables).await?;
    let mut followed = Followed::start(&shop, script.captured).await?;
    followed.settle(&shop).await?;
    followed.compare(&shop, "the load").await?;
    let mut conn = shop.conn().await?;
    let mut altered = 0;
    for (round, statements) in script.rounds.iter().enumerate() {
        if !live {
            followed.stop().await;
        }
        for sql in *statements {
            // Transactions that are prepared are the server's, not a database's.
            execute(&mut conn, &sql.replace('§', &name)).await?;
        }
        if !live {
            followed.resume(&shop).await?;
        }
        altered += followed.settle(&shop).await?;
        if !followed.mirror.parked.is_empty() {
            return Err(format!("parked: {:?}", followed.mirror.parked));
        }
        // What is prepared only is seen by nobody.
        followed.compare(&shop, &format!("round {}", round + 1)).await?;
    }
    followed.stop().await;
    let reloads = followed.mirror.reloads.len();
    if live && (reloads < script.reloads || altered < script.altered) {
        return Err(format!("{reloads} loads again, {altered} times altered: {:?}", followed.mirror.reloads));
    }
    Ok(())
}

/// Runs a statement; these stand for text in another charset, as bytes.
async fn execute(conn: &mut Conn, sql: &str) -> Outcome {
    let mut bytes = Vec::new();
    for c in sql.chars() {
        match c {
            '\u{1}' => bytes.extend_from_slice(&[0xf6, 0xdf]),
            '\u{2}' => bytes.extend_from_slice(&[0xb6, 0xa9, 0xb5, 0xa5]),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    conn.query_drop(bytes).await.map_err(|e| format!("{sql}: {e}"))
}

/// A table that is dropped waits, the others go on; when it comes back it is loaded.
async fn dropped(server: &str, port: u16) -> Outcome {
    let u = "CREATE TABLE u (id INT PRIMARY KEY)";
    let shop = Shop::new(server, port, "dropped", &[T, ROWS, u]).await?;
    let mut followed = Followed::start(&shop, &["t", "u"]).await?;
    followed.settle(&shop).await?;
    let mut conn = shop.conn().await?;
    run(&mut conn, "DROP TABLE t").await?;
    run(&mut conn, "INSERT INTO u VALUES (1)").await?;
    followed.settle(&shop).await?;
    match &followed.mirror.parked[..] {
        [(TableId(0), reason)] if reason.contains("dropped") => {}
        other => return Err(format!("parked: {other:?}")),
    }
    expect_equal("u", &followed.mirror.content(1), &["1".to_owned()])?;
    run(&mut conn, "CREATE TABLE x LIKE u").await?;
    run(&mut conn, "ALTER TABLE x ADD a INT, ADD c INT").await?;
    run(&mut conn, "INSERT INTO x VALUES (5, 5, 5)").await?;
    run(&mut conn, "RENAME TABLE x TO t").await?;
    followed.settle(&shop).await?;
    followed.stop().await;
    followed.compare(&shop, "it came back").await
}

/// Foreign keys delete and change rows of tables that refer to others: MySQL logs it, MariaDB does not.
async fn cascades(server: &str, port: u16) -> Outcome {
    let tables = [
        "CREATE TABLE par (id INT PRIMARY KEY, n INT)",
        "CREATE TABLE chi (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES par (id) ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE grand (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES chi (id) ON DELETE SET NULL)",
        "CREATE TABLE tree (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE)",
        "CREATE TABLE late (id INT PRIMARY KEY, p INT)",
        "INSERT INTO par VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)",
        "INSERT INTO chi VALUES (10, 1), (20, 2), (30, 3), (40, 4)",
        "INSERT INTO grand VALUES (100, 10), (200, 20)",
        "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, NULL)",
        "INSERT INTO late VALUES (1, 5), (2, 6)",
    ];
    let shop = Shop::new(server, port, "cascades", &tables).await?;
    let mut followed = Followed::start(&shop, &["chi", "grand", "tree", "late"]).await?;
    followed.settle(&shop).await?;
    let mut conn = shop.conn().await?;
    let is_logged = server == "mysql";
    let at_least = |least: usize| if is_logged { 0..=0 } else { least..=2 * least };
    let rounds: [(&[&str], usize); 6] = [
        (&["UPDATE par SET n = n + 1", "INSERT INTO par VALUES (7, 7)"], 0),
        (&["DELETE FROM par WHERE id = 1", "UPDATE par SET id = 22 WHERE id = 2"], 2),
        (&["DELETE FROM tree WHERE id = 1"], 1),
        (&["SET foreign_key_checks = 0", "DELETE FROM par WHERE id = 4", "SET foreign_key_checks = 1"], 0),
        (
            &[
                "ALTER TABLE late ADD FOREIGN KEY (p) REFERENCES par (id) ON DELETE CASCADE",
                "DELETE FROM par WHERE id = 5",
            ],
            1,
        ),
        (&["DELETE c FROM par c WHERE id IN (3, 6)", "INSERT INTO chi VALUES (77, 7)"], 1),
    ];
    for (round, (statements, least)) in rounds.into_iter().enumerate() {
        let before = followed.mirror.reloads.len();
        for sql in statements {
            run(&mut conn, sql).await?;
        }
        followed.settle(&shop).await?;
        followed.compare(&shop, &format!("round {}", round + 1)).await?;
        let reloads = &followed.mirror.reloads[before..];
        let wanted = if least == 0 { 0..=0 } else { at_least(least) };
        if !(wanted.contains(&reloads.len()) || least > 0 && !is_logged && reloads.len() > least) {
            return Err(format!("round {}: {reloads:?}", round + 1));
        }
    }
    // Many deletes are one load, or a few: some come while it is under way.
    run(&mut conn, "INSERT INTO par SELECT 1000 + a.id * 10 + b.id, 0 FROM tree a, tree b").await?;
    run(&mut conn, "INSERT INTO par WITH RECURSIVE s AS (SELECT 2000 n UNION ALL SELECT n + 1 FROM s WHERE n < 2300) SELECT n, n FROM s").await?;
    run(&mut conn, "INSERT INTO chi SELECT id, id FROM par WHERE id >= 2000").await?;
    let before = followed.mirror.reloads.len();
    for id in 2000..2300 {
        run(&mut conn, &format!("DELETE FROM par WHERE id = {id}")).await?;
    }
    followed.settle(&shop).await?;
    // While the source is stopped, too.
    followed.stop().await;
    run(&mut conn, "DELETE FROM par WHERE id = 2300").await?;
    followed.resume(&shop).await?;
    followed.settle(&shop).await?;
    followed.stop().await;
    followed.compare(&shop, "many").await?;
    let reloads = followed.mirror.reloads.len() - before;
    if reloads > 30 { Err(format!("{reloads} loads for 300 deletes")) } else { Ok(()) }
}

/// Foreign keys that have acted, and are gone or others before that is read; by a user who may do no more than follow, to whom
/// MariaDB does not tell what keys do.
async fn keys_that_went(server: &str, port: u16) -> Outcome {
    let acting = "FOREIGN KEY (p) REFERENCES par (id) ON DELETE CASCADE ON UPDATE CASCADE";
    let child = |name: &str| format!("CREATE TABLE {name} (id INT PRIMARY KEY, p INT, CONSTRAINT k_{name} {acting})");
    let tables = [
        "CREATE TABLE par (id INT PRIMARY KEY)",
        &child("dropped"),
        &child("refusing"),
        &child("moved"),
        "CREATE TABLE passing (id INT PRIMARY KEY, p INT)",
        "INSERT INTO par VALUES (1), (2), (3), (4), (5), (6)",
        "INSERT INTO dropped VALUES (1, 1), (2, 2)",
        "INSERT INTO refusing VALUES (1, 2), (2, 3)",
        "INSERT INTO moved VALUES (1, 3), (2, 4)",
        "INSERT INTO passing VALUES (1, 5), (2, 6)",
    ];
    let shop = Shop::new(server, port, "keys_that_went", &tables).await?;
    let user = format!("follower_{server}");
    let mut conn = shop.conn().await?;
    run(&mut conn, &format!("DROP USER IF EXISTS '{user}'@'%'")).await?;
    run(&mut conn, &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'geheim'")).await?;
    run(&mut conn, &format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%'")).await?;
    if server == "mariadb" {
        run(&mut conn, &format!("GRANT REPLICA MONITOR ON *.* TO '{user}'@'%'")).await?;
    }
    let tls = Tls::Preferred;
    let config = MysqlConfig { user, password: Some("geheim".to_owned()), ..shop.config(tls) };
    let mut followed = Followed::start_by(&shop, &["dropped", "refusing", "moved", "passing"], config).await?;
    followed.settle(&shop).await?;
    // Known keys act as ever.
    run(&mut conn, "DELETE FROM par WHERE id = 1").await?;
    followed.settle(&shop).await?;
    followed.compare(&shop, "known").await?;
    // One that comes, acts and goes at once.
    let at_once = format!(
        "ALTER TABLE passing ADD CONSTRAINT k_passing {acting}; DELETE FROM par WHERE id = 5; \
         ALTER TABLE passing DROP FOREIGN KEY k_passing"
    );
    run(&mut conn, &at_once).await?;
    followed.settle(&shop).await?;
    followed.compare(&shop, "at once").await?;
    followed.stop().await;
    let meanwhile = [
        "UPDATE par SET id = 22 WHERE id = 2",
        "ALTER TABLE dropped DROP FOREIGN KEY k_dropped",
        "DELETE FROM par WHERE id = 3",
        "ALTER TABLE refusing DROP FOREIGN KEY k_refusing",
        "ALTER TABLE refusing ADD CONSTRAINT k_refusing FOREIGN KEY (p) REFERENCES par (id) ON DELETE RESTRICT",
        "DELETE FROM par WHERE id = 4",
        "RENAME TABLE par TO elsewhere",
    ];
    for sql in meanwhile {
        run(&mut conn, sql).await?;
    }
    followed.resume(&shop).await?;
    followed.settle(&shop).await?;
    followed.stop().await;
    followed.compare(&shop, "stopped").await
}

/// One session writes rows without all columns: the table is loaded again as often as need be, and everything else flows.
async fn partial(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "partial", &[T, ROWS, "CREATE TABLE u (id INT PRIMARY KEY)"]).await?;
    let mut followed = Followed::start(&shop, &["t", "u"]).await?;
    followed.settle(&shop).await?;
    let (mut conn, mut whole) = (shop.conn().await?, shop.conn().await?);
    run(&mut conn, "SET SESSION binlog_row_image = MINIMAL").await?;
    for round in 0..6 {
        run(&mut conn, &format!("UPDATE t SET a = {round} WHERE id = 1")).await?;
        run(&mut whole, &format!("INSERT INTO t VALUES (1{round}, {round}, 7)")).await?;
        run(&mut conn, &format!("DELETE FROM t WHERE id = 1{round} AND a > 3")).await?;
        run(&mut whole, &format!("INSERT INTO u VALUES ({round})")).await?;
        if round % 2 == 1 {
            followed.settle(&shop).await?;
            followed.compare(&shop, &format!("round {round}")).await?;
        }
    }
    followed.stop().await;
    match (&followed.mirror.parked[..], &followed.mirror.reloads[..]) {
        ([], [(TableId(0), reason), _, _, ..]) if reason.contains("binlog_row_image") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Labels with characters that `information_schema` does not know, and with those that it puts a backslash before.
async fn labels(server: &str, port: u16) -> Outcome {
    let tables = [
        "CREATE TABLE e (id INT PRIMARY KEY, s ENUM('ü😀', 'x?', 'it''s', 'a\\\\b'), z SET('😀', 'q', '👍🏽') NOT NULL)",
        "INSERT INTO e VALUES (1, 1, 1), (2, 2, 2), (3, 3, 7), (4, 4, '')",
    ];
    let shop = Shop::new(server, port, "labels", &tables).await?;
    let mut followed = Followed::start(&shop, &["e"]).await?;
    followed.settle(&shop).await?;
    followed.compare(&shop, "the load").await?;
    let mut conn = shop.conn().await?;
    run(&mut conn, "INSERT INTO e VALUES (5, 1, 5), (6, 4, 4), (7, 2, 3), (8, NULL, '')").await?;
    followed.settle(&shop).await?;
    followed.compare(&shop, "the log").await?;
    run(&mut conn, "ALTER TABLE e MODIFY s ENUM('😇', 'ü😀', 'x?', 'it''s', 'a\\\\b')").await?;
    run(&mut conn, "INSERT INTO e VALUES (9, 1, 1)").await?;
    followed.settle(&shop).await?;
    followed.stop().await;
    followed.compare(&shop, "the alter").await
}

/// A table that keeps its history is captured as what its current rows are.
async fn versioned(server: &str, port: u16) -> Outcome {
    let tables = [
        "CREATE TABLE v (id INT PRIMARY KEY, a INT) WITH SYSTEM VERSIONING",
        "CREATE TABLE w (id INT PRIMARY KEY, rs TIMESTAMP(6) GENERATED ALWAYS AS ROW START, \
         re TIMESTAMP(6) GENERATED ALWAYS AS ROW END, a INT, PERIOD FOR SYSTEM_TIME (rs, re)) WITH SYSTEM VERSIONING",
        "CREATE TABLE later (id INT PRIMARY KEY, a INT)",
        "CREATE TABLE bag (a INT) WITH SYSTEM VERSIONING",
        "INSERT INTO v VALUES (1, 1), (2, 2), (3, 3)",
        "UPDATE v SET a = 20 WHERE id = 2",
        "INSERT INTO w (id, a) VALUES (1, 1), (2, 2)",
        "UPDATE w SET a = 20 WHERE id = 2",
        "INSERT INTO later VALUES (1, 1)",
        "INSERT INTO bag VALUES (1), (1), (2)",
        "UPDATE bag SET a = 3 WHERE a = 2",
    ];
    let shop = Shop::new(server, port, "versioned", &tables).await?;
    let mut followed = Followed::start(&shop, &["v", "w", "later", "bag"]).await?;
    followed.settle(&shop).await?;
    followed.compare(&shop, "the load").await?;
    let mut conn = shop.conn().await?;
    let rounds: [&[&str]; 4] = [
        &[
            "UPDATE v SET a = a + 1",
            "DELETE FROM v WHERE id = 1",
            "REPLACE INTO v VALUES (2, 7)",
            "UPDATE v SET id = 9 WHERE id = 3",
        ],
        &[
            "UPDATE w SET a = a + 1",
            "DELETE FROM w WHERE id = 1",
            "INSERT INTO w (id, a) VALUES (1, 5)",
            "DELETE HISTORY FROM w",
        ],
        &["UPDATE bag SET a = 4 WHERE a = 3", "DELETE FROM bag WHERE a = 1 LIMIT 1", "UPDATE later SET a = 2"],
        &[
            "ALTER TABLE later ADD SYSTEM VERSIONING",
            "UPDATE later SET a = 3",
            "ALTER TABLE v DROP SYSTEM VERSIONING",
            "UPDATE v SET a = 8",
        ],
    ];
    for (round, statements) in rounds.into_iter().enumerate() {
        for sql in statements {
            run(&mut conn, sql).await?;
        }
        followed.settle(&shop).await?;
        followed.compare(&shop, &format!("round {}", round + 1)).await?;
        if round < 3 && !followed.mirror.reloads.is_empty() {
            return Err(format!("loaded again: {:?}", followed.mirror.reloads));
        }
    }
    followed.stop().await;
    if followed.mirror.parked.is_empty() { Ok(()) } else { Err(format!("parked: {:?}", followed.mirror.parked)) }
}

/// Rows are deleted in ranges and inserted elsewhere, over and over, while the table is loaded, and loaded again by hand: no
/// ghost stays.
async fn ghosts(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "ghosts", &[super::server::T]).await?;
    super::server::fill(&shop, 20_000).await?;
    let mut followed = Followed::start(&shop, &["t"]).await?;
    let mut conn = shop.conn().await?;
    for round in 0..300 {
        let from = round * 61 % 20_000;
        run(&mut conn, &format!("DELETE FROM t WHERE id BETWEEN {from} AND {}", from + 3)).await?;
        run(&mut conn, &format!("INSERT IGNORE INTO t VALUES ({from}, {round})")).await?;
        if round == 100
            && let Some((_, control)) = &followed.running
            && !control.reload([TableId(0)], "by hand")
        {
            return Err("it takes no requests".to_owned());
        }
    }
    followed.settle(&shop).await?;
    followed.stop().await;
    if followed.mirror.reloads.is_empty() {
        return Err("it was not loaded again".to_owned());
    }
    followed.compare(&shop, "all").await
}
