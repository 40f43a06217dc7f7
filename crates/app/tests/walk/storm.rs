//! The storm: tables that are altered, swapped, emptied, dropped and made again among the changes of their rows.
//!
//! Nobody keeps a list of what the tables look like: each action asks the server, as a person would. At checkpoints every
//! table that exists equals the server's own, column by column, and so does the model that selects all of it.

use std::collections::BTreeSet;
use std::time::Instant;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use testkit::Rng;

use crate::instance::{Instance, PATIENCE};
use crate::server::open;
use crate::shop::plain;
use crate::{Rows, Walk, compare, kill_points, pause};

/// The storm from its beginning to its end.
pub(crate) async fn storm(walk: &Walk) -> Result<(), String> {
    let mut rng = Rng::new(walk.seed);
    let mut storm = Storm::open(walk.server, &mut rng).await?;
    let mut instance = Instance::over(storm.port, &storm.database, TABLES)?;
    for (name, sql) in models() {
        instance.put_model(&name, &sql)?;
    }
    instance.start()?;
    let mut kills = kill_points(&mut rng, walk.actions, walk.kills);
    let every = (walk.actions / 10).clamp(10, 100);
    for action in 0..walk.actions {
        let done = storm.act(&mut rng).await.map_err(|e| format!("action {action}: {e}"))?;
        if std::env::var_os("WALK_TRACE").is_some() {
            eprintln!("storm: {action}: {done}");
        }
        while kills.last() == Some(&action) {
            kills.pop();
            pause(rng.below(400)).await;
            instance.kill()?;
            for _ in 0..rng.below(4) {
                let done = storm.act(&mut rng).await.map_err(|e| format!("down after action {action}: {e}"))?;
                if std::env::var_os("WALK_TRACE").is_some() {
                    eprintln!("storm: down after {action}: {done}");
                }
            }
            instance.start()?;
        }
        if rng.chance(15) {
            pause(rng.below(150)).await;
        }
        if action % every == every - 1 {
            let place = format!("after {} actions", action + 1);
            check(&mut storm, &mut instance).await.map_err(|e| format!("{place}: {e}"))?;
            eprintln!("storm: {place}: equal");
        }
    }
    check(&mut storm, &mut instance).await.map_err(|e| format!("at the end: {e}"))?;
    instance.stop()?;
    instance.start()?;
    check(&mut storm, &mut instance).await.map_err(|e| format!("after a clean restart: {e}"))?;
    instance.stop()?;
    storm.close().await
}

/// Of each table all of it and how much it is, and one over two of them.
fn models() -> Vec<(String, String)> {
    let mut models = vec![("both".to_owned(), "select count(*) as n from $t0 a join $p0 b on a.id = b.id".to_owned())];
    for table in TABLES.iter().filter(|table| **table != "marks") {
        models.push((format!("all_{table}"), format!("select * from ${table}")));
        models.push((format!("n_{table}"), format!("select count(*) as n from ${table}")));
    }
    models
}

/// Waits until all that was done is seen and no table is in doubt any more; then all must be equal.
async fn check(storm: &mut Storm, instance: &mut Instance) -> Result<(), String> {
    let mark = storm.mark().await?;
    instance.wait_for_mark(mark).await?;
    let there = storm.tables().await?;
    wait_until_settled(&there, instance).await?;
    let mut trouble = String::new();
    for table in &there {
        let names: BTreeSet<String> = storm.columns(table).await?.into_iter().map(|column| column.name).collect();
        let (theirs, ours) = storm.list(table).await?;
        let theirs = storm.rows(&format!("select {theirs} from {table}")).await?;
        for relation in [format!("shop.{table}"), format!("public.all_{table}")] {
            if *table == "marks" && relation.starts_with("public") {
                continue;
            }
            match instance.rows(&format!("select {ours} from {relation}")).await {
                Ok(ours) => compare(&relation, &theirs, &ours, &mut trouble),
                Err(error) => trouble.push_str(&format!("{relation}: {error}\n")),
            }
            let (schema, name) = relation.split_once('.').unwrap_or_default();
            let columns = format!(
                "select column_name from information_schema.columns where table_schema = '{schema}' and table_name = '{name}'"
            );
            let ours: BTreeSet<String> = instance.rows(&columns).await?.into_iter().flatten().collect();
            if ours != names {
                trouble.push_str(&format!("{relation} has columns {ours:?}, in the server {names:?}\n"));
            }
        }
        if *table != "marks" {
            let n = instance.rows(&format!("select n from public.n_{table}")).await;
            if n.as_ref().map(|rows| rows.concat()) != Ok(vec![theirs.len().to_string()]) {
                trouble.push_str(&format!("n_{table}: {n:?}, in the server {}\n", theirs.len()));
            }
        }
    }
    if there.contains(&"t0") && there.contains(&"p0") {
        let theirs = storm.rows("select count(*) as n from t0 a join p0 b on a.id = b.id").await?;
        compare("both", &theirs, &instance.rows("select n from both").await?, &mut trouble);
    }
    for row in instance.rows("reconcile models").await? {
        if !row[2].starts_with('t') {
            trouble.push_str(&format!("reconcile models: {}\n", row.join(" | ")));
        }
    }
    if !trouble.is_empty() {
        return Err(format!("{trouble}{}", instance.log_end()));
    }
    if there.len() == TABLES.len() {
        instance.ordered("reconcile source")?;
    }
    Ok(())
}

/// Every table that is there is followed again, and the models over them are live.
async fn wait_until_settled(there: &[&str], instance: &mut Instance) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let tables = instance.rows("select \"table\", state, message from tidemill.tables").await?;
        let models = instance.rows("select model, state, message from tidemill.models").await?;
        let is_streaming = |name: &&str| tables.iter().any(|row| row[0] == **name && row[1] == "streaming");
        let is_there = |name: &str| there.contains(&name);
        let is_live = |row: &Vec<String>| {
            let name = row[0].trim_start_matches("public.");
            let wanted = match name.split_once('_') {
                Some((_, table)) => is_there(table),
                None => is_there("t0") && is_there("p0"),
            };
            !wanted || row[1] == "live"
        };
        if there.iter().all(is_streaming) && models.iter().all(is_live) {
            return Ok(());
        }
        instance.is_running()?;
        if begun.elapsed() > PATIENCE {
            let rows: Vec<String> = tables.iter().chain(&models).map(|row| row.join(" | ")).collect();
            return Err(format!("it does not settle:\n{}\n{}", rows.join("\n"), instance.log_end()));
        }
        pause(50).await;
    }
}

/// Tables that are followed.
pub(crate) const TABLES: &[&str] = &["t0", "t1", "t2", "t3", "p0", "marks"];

fn made(table: &str) -> &'static str {
    match table {
        "t0" => "id int primary key, a int, b varchar(20) default 'x', c decimal(10,2)",
        "t1" => {
            "id bigint not null, sub int not null, e enum('a','b','c'), d datetime(3), txt text, primary key (id, sub)"
        }
        "t2" => "code varchar(20) primary key, n bigint unsigned, f double, j json",
        "t3" => "kind varchar(12), v int, at timestamp null",
        _ => {
            "id int primary key, v varchar(20)) partition by range (id) (partition q0 values less than (1000), \
             partition q1 values less than (2000), partition q2 values less than maxvalue"
        }
    }
}

pub(crate) struct Storm {
    connection: Conn,
    pub(crate) port: u16,
    pub(crate) database: String,
    is_mariadb: bool,
    marks: u64,
}

/// A column as the server has it now.
struct Column {
    name: String,
    kind: String,
    is_key: bool,
}

impl Storm {
    pub(crate) async fn open(server: &str, rng: &mut Rng) -> Result<Self, String> {
        let (connection, port, database) = open(server, "storm").await?;
        let is_mariadb = server == "mariadb";
        let mut storm = Self { connection, port, database, is_mariadb, marks: 0 };
        storm.run("set sql_mode = ''").await?;
        storm.run("create table marks (id int primary key, n bigint not null)").await?;
        storm.run("insert into marks values (1, 0)").await?;
        storm.run("create table numbers (n int primary key)").await?;
        let digits = "(select 0 n union select 1 union select 2 union select 3 union select 4 union select 5 union select 6 \
                      union select 7 union select 8 union select 9)";
        storm
            .run(&format!(
                "insert into numbers select a.n + 10 * b.n + 100 * c.n + 1000 * d.n from {digits} a, {digits} b, {digits} c, {digits} d"
            ))
            .await?;
        for table in TABLES.iter().filter(|table| **table != "marks") {
            storm.run(&format!("create table {table} ({})", made(table))).await?;
            storm.insert(rng, table, 300).await?;
        }
        Ok(storm)
    }

    pub(crate) async fn close(mut self) -> Result<(), String> {
        self.run(&format!("drop database {}", self.database.clone())).await?;
        self.connection.disconnect().await.map_err(|e| e.to_string())
    }

    async fn run(&mut self, sql: &str) -> Result<(), String> {
        self.connection.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
    }

    /// A statement that the server may refuse, since rows or columns are as they happen to be.
    async fn attempt(&mut self, sql: String) -> Result<String, String> {
        match self.connection.query_drop(&sql).await {
            Ok(()) => Ok(sql),
            Err(mysql_async::Error::Server(refused)) => Ok(format!("{sql}: refused: {}", refused.message)),
            Err(error) => Err(format!("{sql}: {error}")),
        }
    }

    /// The columns of a table; none where it is not there.
    async fn columns(&mut self, table: &str) -> Result<Vec<Column>, String> {
        let sql = format!(
            "select column_name, column_type, column_key from information_schema.columns where table_schema = '{}' \
             and table_name = '{table}' order by ordinal_position",
            self.database
        );
        let rows: Vec<(String, String, String)> =
            self.connection.query(&sql).await.map_err(|e| format!("{sql}: {e}"))?;
        Ok(rows.into_iter().map(|(name, kind, key)| Column { name, kind, is_key: key == "PRI" }).collect())
    }

    /// The tables that are there now.
    pub(crate) async fn tables(&mut self) -> Result<Vec<&'static str>, String> {
        let mut there = Vec::new();
        for table in TABLES {
            if !self.columns(table).await?.is_empty() {
                there.push(*table);
            }
        }
        Ok(there)
    }

    pub(crate) async fn mark(&mut self) -> Result<u64, String> {
        self.marks += 1;
        self.run(&format!("update marks set n = {} where id = 1", self.marks)).await?;
        Ok(self.marks)
    }

    /// Does one thing, and says what.
    pub(crate) async fn act(&mut self, rng: &mut Rng) -> Result<String, String> {
        let table = TABLES[rng.below(TABLES.len() - 1)];
        if self.columns(table).await?.is_empty() {
            return self.attempt(format!("create table {table} ({})", made(table))).await;
        }
        match rng.below(100) {
            0..25 => {
                let count = rng.between(1, 60);
                self.insert(rng, table, count).await
            }
            25..50 => self.update(rng, table).await,
            50..60 => self.delete(rng, table).await,
            60..85 => self.alter(rng, table).await,
            85..92 => self.swap(rng, table).await,
            92..95 => self.attempt(format!("truncate table {table}")).await,
            95..97 => self.again(rng, table).await,
            _ => self.statement(rng, table).await,
        }
    }

    async fn insert(&mut self, rng: &mut Rng, table: &str, count: usize) -> Result<String, String> {
        let columns = self.columns(table).await?;
        let names: Vec<String> = columns.iter().map(|c| format!("`{}`", c.name)).collect();
        let (base, salt) = (rng.below(3_000), rng.below(1_000));
        let values: Vec<String> = columns.iter().map(|c| made_up(c, base, salt)).collect();
        let sql = format!(
            "insert ignore into {table} ({}) select {} from numbers where n < {count}",
            names.join(", "),
            values.join(", ")
        );
        self.attempt(sql).await
    }

    async fn update(&mut self, rng: &mut Rng, table: &str) -> Result<String, String> {
        let columns = self.columns(table).await?;
        let free: Vec<&Column> = columns.iter().filter(|c| !c.is_key).collect();
        if free.is_empty() {
            return Ok("nothing to update".to_owned());
        }
        let column = free[rng.below(free.len())];
        let value = value(&column.kind, rng.below(5_000));
        let limit = [1, 5, 40, 100_000][rng.below(4)];
        self.attempt(format!("update ignore {table} set `{}` = {value} limit {limit}", column.name)).await
    }

    async fn delete(&mut self, rng: &mut Rng, table: &str) -> Result<String, String> {
        let columns = self.columns(table).await?;
        let column = &columns[rng.below(columns.len())];
        self.attempt(format!("delete from {table} order by `{}` limit {}", column.name, rng.between(1, 40))).await
    }

    async fn alter(&mut self, rng: &mut Rng, table: &str) -> Result<String, String> {
        let columns = self.columns(table).await?;
        let free: Vec<&Column> = columns.iter().filter(|c| !c.is_key).collect();
        let fresh = format!("c{}", rng.below(1_000));
        let place = match rng.below(3) {
            0 => String::new(),
            1 => " first".to_owned(),
            _ => format!(" after `{}`", columns[rng.below(columns.len())].name),
        };
        let kinds = [
            "int",
            "bigint unsigned",
            "tinyint",
            "varchar(30)",
            "varchar(30) character set latin1",
            "decimal(12,3)",
            "datetime",
            "double",
            "text",
            "enum('x','y')",
            "int default 5",
            "varchar(10) default 'new'",
            "decimal(6,2) not null default 1.5",
        ];
        let kind = kinds[rng.below(kinds.len())];
        if free.is_empty() || columns.len() < 3 || (rng.chance(35) && columns.len() < 9) {
            return self.attempt(format!("alter table {table} add column {fresh} {kind}{place}")).await;
        }
        let column = free[rng.below(free.len())];
        let change = match rng.below(9) {
            0 | 1 => format!("drop column `{}`", column.name),
            2 => format!("change `{}` {fresh} {}", column.name, column.kind),
            3 => format!("modify `{}` {kind}", column.name),
            4 => format!("modify `{}` {}{place}", column.name, column.kind),
            5 if column.kind.starts_with("enum") => format!("modify `{}` enum('z','b','a','c','x','y')", column.name),
            5 => format!("add index i{} (`{}`)", rng.below(100_000), columns[0].name),
            6 => "comment = 'altered'".to_owned(),
            7 => format!("modify `{}` varchar(40)", column.name),
            _ => return self.partition(rng).await,
        };
        self.attempt(format!("alter table {table} {change}")).await
    }

    async fn partition(&mut self, rng: &mut Rng) -> Result<String, String> {
        match rng.below(3) {
            0 => self.attempt(format!("alter table p0 truncate partition q{}", rng.below(3))).await,
            1 => {
                let drop = self.attempt("alter table p0 drop partition q0".to_owned()).await?;
                Ok(drop)
            }
            _ => {
                self.attempt("drop table if exists exchanged".to_owned()).await?;
                self.attempt("create table exchanged like p0".to_owned()).await?;
                self.attempt("alter table exchanged remove partitioning".to_owned()).await?;
                self.attempt("insert ignore into exchanged (id) values (1500), (1501)".to_owned()).await?;
                let done = self.attempt("alter table p0 exchange partition q1 with table exchanged".to_owned()).await?;
                self.attempt("drop table if exists exchanged".to_owned()).await?;
                Ok(done)
            }
        }
    }

    /// As tools for online changes do it: a table beside, filled, and the names exchanged.
    async fn swap(&mut self, rng: &mut Rng, table: &str) -> Result<String, String> {
        self.attempt(format!("drop table if exists _{table}_new, _{table}_old")).await?;
        self.attempt(format!("create table _{table}_new like {table}")).await?;
        if rng.chance(50) {
            self.attempt(format!("alter table _{table}_new add column s{} int default 7", rng.below(100_000))).await?;
        } else {
            let columns = self.columns(table).await?;
            let names: Vec<String> = columns.iter().map(|c| format!("`{}`", c.name)).collect();
            let names = names.join(", ");
            self.attempt(format!("insert into _{table}_new ({names}) select {names} from {table}")).await?;
        }
        let done = self.attempt(format!("rename table {table} to _{table}_old, _{table}_new to {table}")).await?;
        if rng.chance(70) {
            self.attempt(format!("drop table if exists _{table}_old")).await?;
        }
        Ok(done)
    }

    /// Dropped, and made again at once or some actions later.
    async fn again(&mut self, rng: &mut Rng, table: &str) -> Result<String, String> {
        let mut done = self.attempt(format!("drop table {table}")).await?;
        if rng.chance(60) {
            done.push_str("; ");
            done.push_str(&self.attempt(format!("create table {table} ({})", made(table))).await?);
            self.insert(rng, table, 20).await?;
        }
        Ok(done)
    }

    /// Rows written as a statement, where the server still can.
    async fn statement(&mut self, rng: &mut Rng, table: &str) -> Result<String, String> {
        if !self.is_mariadb {
            self.attempt("set binlog_format = 'STATEMENT'".to_owned()).await?;
        } else {
            self.run("set binlog_format = 'STATEMENT'").await?;
        }
        let columns = self.columns(table).await?;
        let column = &columns[columns.len() - 1];
        let done = self
            .attempt(format!("update ignore {table} set `{}` = {}", column.name, value(&column.kind, rng.below(90))))
            .await;
        self.attempt("set binlog_format = 'ROW'".to_owned()).await?;
        done
    }

    /// The rows of an answer as text, sorted.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Rows, String> {
        let rows: Vec<Row> = self.connection.query(sql).await.map_err(|e| format!("{sql}: {e}"))?;
        let text = |value: Value| match value {
            Value::NULL => plain(None),
            Value::Bytes(bytes) => plain(Some(&String::from_utf8_lossy(&bytes))),
            other => format!("{other:?}"),
        };
        let mut rows: Rows = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect();
        rows.sort();
        Ok(rows)
    }

    /// What to select to have a table's values as both sides write them.
    pub(crate) async fn list(&mut self, table: &str) -> Result<(String, String), String> {
        let columns = self.columns(table).await?;
        let theirs = columns.iter().map(|c| match c.kind.as_str() {
            kind if kind.starts_with("double") || kind.starts_with("json") || kind.starts_with("longtext") => {
                format!("`{}` is null", c.name)
            }
            // Dates that no calendar has are NULL here.
            kind if kind.starts_with("datetime") || kind.starts_with("timestamp") => {
                format!("if(month(`{0}`) = 0 or dayofmonth(`{0}`) = 0, null, `{0}`)", c.name)
            }
            // So is a word that an enum no longer has.
            kind if kind.starts_with("enum") => format!("nullif(`{}`, '')", c.name),
            _ => format!("`{}`", c.name),
        });
        let ours = columns.iter().map(|c| match c.kind.as_str() {
            kind if kind.starts_with("double") || kind.starts_with("json") || kind.starts_with("longtext") => {
                format!("case when \"{}\" is null then 1 else 0 end", c.name)
            }
            kind if kind.starts_with("timestamp") => format!("cast(\"{}\" as timestamp)", c.name),
            _ => format!("\"{}\"", c.name),
        });
        Ok((theirs.collect::<Vec<_>>().join(", "), ours.collect::<Vec<_>>().join(", ")))
    }
}

/// An expression over `n` for a column of an inserted row.
fn made_up(column: &Column, base: usize, salt: usize) -> String {
    let n = format!("({base} + n)");
    if column.is_key {
        return match column.kind.starts_with("varchar") {
            true => format!("concat('k', {n})"),
            false if column.name == "sub" => "n % 3".to_owned(),
            false => n,
        };
    }
    match column.kind.as_str() {
        kind if kind.starts_with("enum") => "1 + n % 2".to_owned(),
        kind if kind.starts_with("datetime") || kind.starts_with("timestamp") => {
            format!("timestampadd(second, n + {salt}, '2026-02-01')")
        }
        kind if kind.starts_with("json") || kind.starts_with("longtext") => "concat('[', n, ']')".to_owned(),
        kind if kind.starts_with("tinyint") => "n % 100".to_owned(),
        kind if kind.contains("char") || kind.starts_with("text") => {
            format!("if(n % 9 = 0, null, concat('w', (n * 7 + {salt}) % 90))")
        }
        _ => format!("if(n % 11 = 0, null, (n * 13 + {salt}) % 700)"),
    }
}

/// A literal that fits a type.
fn value(kind: &str, n: usize) -> String {
    match kind {
        kind if kind.starts_with("enum") => (1 + n % 2).to_string(),
        kind if kind.starts_with("datetime") || kind.starts_with("timestamp") => {
            format!("'2026-03-0{} 10:00:00'", 1 + n % 8)
        }
        kind if kind.starts_with("json") || kind.starts_with("longtext") => format!("'[{n}, null]'"),
        kind if kind.starts_with("tinyint") => (n % 120).to_string(),
        kind if kind.contains("char") || kind.starts_with("text") => format!("'wörd {}'", n % 60),
        _ => (n % 999).to_string(),
    }
}
