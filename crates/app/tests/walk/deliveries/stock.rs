//! The source: a stock of items on shelves, and the transactions by which it changes.
//!
//! Every statement takes a version that nothing has had, and gives it to each row that it touches. So a row that is delivered twice
//! is a pair of key and version that is there twice, and one that goes back has a smaller one behind a larger.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row};
use testkit::Rng;

use super::sides::Server;
use crate::Rows;
use crate::shop::texts;

/// Keys of items that statements choose from, and shelves.
const ITEMS: usize = 9_000;
const SHELVES: usize = 40;
/// Rows at the beginning.
const FIRST: usize = 4_000;
/// Rows of the largest statements: some portions of a delivery.
const MANY: usize = 12_000;
/// A source that is away is tried so often, and after so many milliseconds.
const TRIES_MAX: usize = 1_200;
const AGAIN_MS: usize = 250;

pub(super) const TABLES: &[&str] = &["items", "shelves", "marks", "flood"];

pub(super) struct Stock {
    server: Server,
    pub(super) database: String,
    connection: Option<Conn>,
    version: u64,
    marks: u64,
    /// Transactions that are there for sure.
    pub(super) done: u64,
}

impl Stock {
    /// A database of its own in a running server, with rows in it.
    pub(super) async fn open(server: Server, database: &str, flood: usize) -> Result<Self, String> {
        let mut stock = Self { server, database: database.to_owned(), connection: None, version: 0, marks: 0, done: 0 };
        let (items, shelves) = (FIRST, SHELVES);
        for sql in [
            format!("drop database if exists {database}"),
            format!("create database {database} character set utf8mb4 collate utf8mb4_bin"),
            format!("use {database}"),
            "create table items (id bigint primary key, version bigint not null, shelf int not null, grade int not null, \
             amount decimal(12,2), name varchar(40), key (shelf))"
                .to_owned(),
            "create table shelves (shelf int primary key, version bigint not null, label varchar(40))".to_owned(),
            "create table flood (id bigint primary key, version bigint not null, note varchar(40))".to_owned(),
            "create table marks (id int primary key, n bigint not null)".to_owned(),
            "create table numbers (n int primary key)".to_owned(),
            "insert into numbers values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)".to_owned(),
            "insert into numbers select a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n from numbers a, numbers b, numbers c, \
             numbers d, numbers e where a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n between 10 and 99999"
                .to_owned(),
            "insert into marks values (1, 0)".to_owned(),
            format!("insert into shelves select n, 1, concat('shelf ', n) from numbers where n < {shelves}"),
            format!(
                "insert into items select n + 1, 2, n % {shelves}, n % 7, (n * 37) % 9000 / 100, if(n % 9 = 0, null, concat('item ', n)) \
                 from numbers where n < {items}"
            ),
        ] {
            stock.once(&sql).await?;
        }
        for from in (0..flood).step_by(100_000) {
            let sql = format!(
                "insert into flood select {from} + n, 3, concat('note ', n) from numbers where {from} + n < {flood}"
            );
            stock.once(&sql).await?;
        }
        stock.version = 3;
        Ok(stock)
    }

    pub(super) async fn close(mut self) -> Result<(), String> {
        let sql = format!("drop database {}", self.database);
        self.once(&sql).await?;
        match self.connection.take() {
            Some(connection) => connection.disconnect().await.map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }

    async fn connection(&mut self) -> Result<&mut Conn, String> {
        if self.connection.is_none() {
            let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(self.server.port);
            let options = options.user(Some("root")).prefer_socket(false);
            let mut connection = Conn::new(options).await.map_err(|e| e.to_string())?;
            let there = format!("create database if not exists {0}; use {0}", self.database);
            for sql in there.split("; ") {
                connection.query_drop(sql).await.map_err(|e| e.to_string())?;
            }
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    async fn once(&mut self, sql: &str) -> Result<(), String> {
        self.connection().await?.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
    }

    /// Runs a transaction, and answers whether it is there for sure: where the server goes away in the midst of it, nobody knows. It is
    /// not run again: it would do something else under the versions that it has.
    async fn transaction(&mut self, statements: &[String], end: &str) -> Result<bool, String> {
        match self.try_transaction(statements, end).await {
            Ok(()) => {
                self.done += 1;
                Ok(true)
            }
            Err(mysql_async::Error::Server(error)) if !is_going(error.code) => {
                Err(format!("{}: {error}", statements.join("; ")))
            }
            Err(_) => {
                self.connection = None;
                crate::pause(AGAIN_MS).await;
                Ok(false)
            }
        }
    }

    /// The same of one that may be run twice, until it is there.
    async fn surely(&mut self, sql: String) -> Result<(), String> {
        let statements = [sql];
        for _ in 0..TRIES_MAX {
            if self.transaction(&statements, "commit").await? {
                return Ok(());
            }
        }
        Err("the source does not come back".to_owned())
    }

    async fn try_transaction(&mut self, statements: &[String], end: &str) -> Result<(), mysql_async::Error> {
        let away = |_| mysql_async::Error::Io(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        let connection = self.connection().await.map_err(away)?;
        connection.query_drop("begin").await?;
        for statement in statements {
            connection.query_drop(statement).await?;
        }
        connection.query_drop(end).await
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Something that shows how far the instance is.
    pub(super) async fn mark(&mut self) -> Result<u64, String> {
        self.marks += 1;
        let sql = format!("update marks set n = {}", self.marks);
        self.surely(sql).await?;
        Ok(self.marks)
    }

    /// One row changes, and is to be seen everywhere. Answers with its version.
    pub(super) async fn canary(&mut self) -> Result<u64, String> {
        let version = self.next();
        let sql = format!(
            "insert into items values (0, {version}, 0, 0, 1, 'canary') on duplicate key update version = {version}, amount = 1"
        );
        self.surely(sql).await?;
        Ok(version)
    }

    /// Every row of the large table changes at once.
    pub(super) async fn flood(&mut self) -> Result<(), String> {
        let version = self.next();
        self.surely(format!("update flood set version = {version}")).await
    }

    /// Some rows of items change, in one transaction.
    pub(super) async fn some(&mut self, rng: &mut Rng, rows: usize) -> Result<(), String> {
        let (version, from) = (self.next(), 1 + rng.below(FIRST - rows.min(FIRST - 1)));
        let sql = format!(
            "update items set amount = (id + {version}) % 9000 / 100, version = {version} where id between {from} and {}",
            from + rows - 1
        );
        self.surely(sql).await
    }

    /// A transaction at random.
    pub(super) async fn act(&mut self, rng: &mut Rng) -> Result<(), String> {
        let statements: Vec<String> = match rng.weighted(&[60, 20, 8, 1, 6]) {
            0 => vec![self.statement(rng)],
            1 => (0..rng.between(2, 5)).map(|_| self.statement(rng)).collect(),
            2 => {
                // Nothing of it is ever seen.
                let lost: Vec<String> = (0..rng.between(1, 3)).map(|_| self.statement(rng)).collect();
                return self.transaction(&lost, "rollback").await.map(drop);
            }
            3 => vec![self.large(rng)],
            _ => self.there_and_back(rng),
        };
        self.transaction(&statements, "commit").await.map(drop)
    }

    fn statement(&mut self, rng: &mut Rng) -> String {
        let (version, id, shelf) = (self.next(), 1 + rng.below(ITEMS), rng.below(SHELVES));
        let amount = format!("{}.{:02}", rng.below(90), rng.below(100));
        let few = format!("id between {id} and {}", id + rng.below(8));
        match rng.weighted(&[14, 10, 8, 8, 6, 4, 4, 3, 3, 3]) {
            0 => format!("update items set amount = {amount}, version = {version} where {few}"),
            1 => format!(
                "insert ignore into items select {id} + n, {version}, ({shelf} + n) % {SHELVES}, n % 7, {amount}, \
                 concat('new ', n) from numbers where n < {}",
                rng.between(1, 20)
            ),
            2 => format!("update items set grade = {}, shelf = {shelf}, version = {version} where {few}", rng.below(9)),
            3 => format!("delete from items where {few}"),
            // Rows leave a model, and come back by another statement.
            4 => format!("update items set amount = null, name = null, version = {version} where {few}"),
            5 => format!(
                "update items set amount = {amount}, version = {version} where id % {} = {}",
                rng.between(7, 40),
                rng.below(7)
            ),
            // Keys move to where nobody is.
            6 => {
                format!("update ignore items set id = id + {}, version = {version} where {few}", rng.between(1, ITEMS))
            }
            7 => format!("update shelves set label = 'label {version}', version = {version} where shelf = {shelf}"),
            8 => format!("delete from shelves where shelf = {shelf}"),
            _ => format!(
                "insert ignore into shelves select n, {version}, concat('label ', {version}) from numbers where n < {SHELVES}"
            ),
        }
    }

    /// More rows than a portion takes.
    fn large(&mut self, rng: &mut Rng) -> String {
        let version = self.next();
        match rng.below(3) {
            0 => format!(
                "insert ignore into items select {ITEMS} + n, {version}, n % {SHELVES}, n % 7, n % 100, 'many' from numbers \
                 where n < {MANY}"
            ),
            1 => format!("delete from items where id > {ITEMS}"),
            _ => format!("update items set amount = id % 100 + {}, version = {version} where id > 0", rng.below(9)),
        }
    }

    /// Rows that leave and come back within one transaction.
    fn there_and_back(&mut self, rng: &mut Rng) -> Vec<String> {
        let (first, second, id, shelf) = (self.next(), self.next(), 1 + rng.below(ITEMS), rng.below(SHELVES));
        match rng.below(3) {
            0 => vec![
                format!("replace into items values ({id}, {first}, {shelf}, 1, 1.00, 'fro')"),
                format!("delete from items where id = {id}"),
                format!("insert into items values ({id}, {second}, {shelf}, 2, 2.00, 'to')"),
            ],
            1 => vec![
                format!("delete from shelves where shelf = {shelf}"),
                format!("insert into shelves values ({shelf}, {first}, 'again')"),
                format!("update shelves set label = concat(label, '!'), version = {second} where shelf = {shelf}"),
            ],
            _ => vec![
                format!("update items set amount = -1, version = {first} where id = {id}"),
                format!("update items set amount = 1, version = {second} where id = {id}"),
            ],
        }
    }

    /// The rows of an answer as text, sorted.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Rows, String> {
        let rows: Vec<Row> = self.connection().await?.query(sql).await.map_err(|e| format!("{sql}: {e}"))?;
        Ok(texts(rows))
    }
}

/// What a server says that ends: shutdown in progress, and that a session was ended by it.
fn is_going(code: u16) -> bool {
    matches!(code, 1053 | 1077 | 1079 | 1152 | 1158..=1161 | 3169 | 1927)
}
