//! The shop: a database in a real server, and the actions by which its rows come, change and go.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};

use crate::Rows;
use crate::server::open;
use testkit::Rng;

pub(crate) struct Table {
    pub(crate) name: &'static str,
    columns: &'static str,
}

/// Text compares by bytes, as it does in models.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "customers",
        columns: "id bigint primary key, name varchar(40) not null, city varchar(20), credit decimal(10,2), referrer bigint",
    },
    Table {
        name: "orders",
        columns: "id bigint primary key, customer_id bigint, status varchar(12) not null, amount decimal(10,2), \
                  placed datetime(6), note text",
    },
    Table {
        name: "order_items",
        columns: "order_id bigint not null, line int not null, product varchar(20) not null, qty int not null, \
                  price decimal(10,2) not null, primary key (order_id, line)",
    },
    Table {
        name: "events",
        columns: "kind varchar(12) not null, customer_id bigint, at datetime(3) not null, value double",
    },
    Table { name: "blocked", columns: "customer_id bigint" },
    Table { name: "marks", columns: "id int primary key, n bigint not null" },
];

pub(crate) struct Shop {
    connection: Conn,
    pub(crate) port: u16,
    pub(crate) database: String,
    marks: u64,
}

/// Rows of the largest statements.
const MANY: usize = 22_000;

impl Shop {
    /// A database of the walk's own in a running server, with rows in it.
    pub(crate) async fn open(server: &str, rng: &mut Rng) -> Result<Self, String> {
        let (connection, port, database) = open(server, "walk").await?;
        let mut shop = Self { connection, port, database, marks: 0 };
        for table in TABLES {
            shop.run(&format!("create table {} ({})", table.name, table.columns)).await?;
        }
        // Numbers to make rows of; not followed.
        shop.run("create table numbers (n int primary key)").await?;
        shop.run("insert into numbers values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)").await?;
        let digits = |n: u32| (0..n).map(|i| format!("d{i}.n * {}", 10_usize.pow(i))).collect::<Vec<_>>().join(" + ");
        let from = (0..5).map(|i| format!("numbers d{i}")).collect::<Vec<_>>().join(", ");
        shop.run(&format!(
            "insert into numbers select x from (select {} as x from {from}) t where x >= 10 and x < {MANY}",
            digits(5)
        ))
        .await?;
        shop.run("insert into marks values (1, 0)").await?;
        shop.customers(1, 2_000).await?;
        shop.orders(rng, 1, 15_000).await?;
        shop.items(1, 9_000).await?;
        shop.run("insert into events select elt(1 + n % 4, 'view', 'cart', 'pay', 'view'), n % 300, timestampadd(second, n * 7, '2026-02-01'), n % 9 / 4 from numbers where n < 4000").await?;
        shop.run("insert into blocked values (3), (4), (4), (77)").await?;
        Ok(shop)
    }

    pub(crate) async fn close(mut self) -> Result<(), String> {
        self.run(&format!("drop database {}", self.database.clone())).await?;
        self.connection.disconnect().await.map_err(|e| e.to_string())
    }

    async fn run(&mut self, sql: &str) -> Result<(), String> {
        self.connection.query_drop(sql).await.map_err(|e| format!("{sql}: {e}"))
    }

    async fn customers(&mut self, from: usize, count: usize) -> Result<(), String> {
        self.run(&format!(
            "insert ignore into customers select {from} + n, concat('name ', n % 97), elt(1 + n % 5, 'Bonn', 'Ulm', null, 'Köln', ''), \
             if(n % 7 = 0, null, (n * 37) % 400), if(n % 3 = 0, n % 50, null) from numbers where n < {count}"
        ))
        .await
    }

    async fn orders(&mut self, rng: &mut Rng, from: usize, count: usize) -> Result<(), String> {
        let salt = rng.below(1_000);
        self.run(&format!(
            "insert ignore into orders select {from} + n, if(n % 11 = 0, null, 1 + (n * 13 + {salt}) % 2400), \
             elt(1 + n % 4, 'new', 'paid', 'void', 'sent'), if(n % 17 = 0, null, ((n * 7919 + {salt}) % 20000) / 100), \
             timestampadd(microsecond, n * 1234567, '2026-01-01'), if(n % 50 = 0, repeat('note ', n % 400), null) \
             from numbers where n < {count}"
        ))
        .await
    }

    async fn items(&mut self, from: usize, count: usize) -> Result<(), String> {
        self.run(&format!(
            "insert ignore into order_items select {from} + n div 2, 1 + n % 2, concat('p', n % 40), n % 6, (n % 300) / 10 \
             from numbers where n < {count}"
        ))
        .await
    }

    /// Something that shows how far the instance is.
    pub(crate) async fn mark(&mut self) -> Result<u64, String> {
        self.marks += 1;
        self.run(&format!("update marks set n = {}", self.marks)).await?;
        Ok(self.marks)
    }

    /// One action at random: a transaction, or a statement that is one. Answers with what it was.
    pub(crate) async fn act(&mut self, rng: &mut Rng) -> Result<String, String> {
        let statements = match rng.weighted(&[40, 12, 4, 4, 12, 1, 1, 6]) {
            0 => vec![self.statement(rng)],
            1 => (0..rng.between(2, 6)).map(|_| self.statement(rng)).collect(),
            // Rolled back: nothing of it is ever seen.
            2 => {
                let lost: Vec<String> = (0..rng.between(1, 3)).map(|_| self.statement(rng)).collect();
                self.transaction(&lost, "rollback").await?;
                return Ok(format!("rolled back: {}", lost.join("; ")));
            }
            3 => self.large(rng),
            4 => self.there_and_back(rng),
            // More bytes than a batch has: it comes in parts, and so does the one that takes it back.
            5 => {
                let fat =
                    format!("update orders set note = repeat('n', {}) where id < 15000", rng.between(1_500, 2_500));
                self.run(&fat).await?;
                vec!["update orders set note = null where id < 15000".to_owned()]
            }
            // A table of many rows is emptied, and has others then.
            6 => {
                self.run("truncate table orders").await?;
                self.orders(rng, 1, 15_000).await?;
                return Ok("truncate table orders, and others".to_owned());
            }
            _ => {
                let sql = self.truncation(rng);
                self.run(&sql).await?;
                return Ok(sql);
            }
        };
        self.transaction(&statements, "commit").await?;
        Ok(statements.join("; "))
    }

    async fn transaction(&mut self, statements: &[String], end: &str) -> Result<(), String> {
        self.run("begin").await?;
        for statement in statements {
            self.run(statement).await?;
        }
        self.run(end).await
    }

    fn truncation(&self, rng: &mut Rng) -> String {
        format!("truncate table {}", rng.pick(&["order_items", "events", "blocked"]))
    }

    /// A statement over few rows, or over some thousands.
    fn statement(&self, rng: &mut Rng) -> String {
        let order = rng.between(1, 16_000);
        let customer = rng.between(1, 2_400);
        let many = rng.chance(7);
        let amount = format!("{}.{:02}", rng.between(0, 400), rng.below(100));
        let status = *rng.pick(&["new", "paid", "void", "sent"]);
        let some = if many {
            format!("id % {} = {}", rng.between(3, 9), rng.below(3))
        } else {
            format!("id between {order} and {}", order + rng.below(6))
        };
        match rng.weighted(&[12, 10, 8, 6, 6, 5, 5, 6, 5, 4, 4, 4, 3, 3]) {
            0 => format!("update orders set status = '{status}' where {some}"),
            1 => format!("update orders set amount = {amount}, customer_id = {customer} where {some}"),
            2 => format!(
                "insert ignore into orders values ({}, {customer}, '{status}', {amount}, '2026-03-01 10:00:00.{:06}', null)",
                rng.between(1, 40_000),
                rng.below(1_000_000)
            ),
            3 => format!("delete from orders where {some}"),
            // Keys move: to where nobody is, or on to a free place.
            4 => format!(
                "update ignore orders set id = id + {} where id between {order} and {}",
                rng.between(1, 30_000),
                order + rng.below(4)
            ),
            5 => format!(
                "update ignore order_items set line = line + {} where order_id = {}",
                rng.between(1, 4),
                rng.between(1, 4_500)
            ),
            6 => format!(
                "update order_items set qty = {}, product = 'p{}' where order_id between {} and {}",
                rng.below(6),
                rng.below(44),
                order / 4,
                order / 4 + rng.below(20)
            ),
            7 => format!(
                "update customers set city = nullif('{}', 'x'), credit = {amount} where id between {customer} and {}",
                rng.pick(&["Bonn", "Ulm", "x", "Trier"]),
                customer + rng.below(4)
            ),
            8 => format!("delete from customers where id between {customer} and {}", customer + rng.below(3)),
            9 => format!(
                "insert ignore into customers values ({customer}, 'name {}', null, {amount}, {})",
                rng.below(97),
                rng.between(1, 50)
            ),
            10 => format!(
                "insert into events values ('{}', {customer}, '2026-03-02 11:00:00.{:03}', {})",
                rng.pick(&["view", "cart", "pay"]),
                rng.below(1_000),
                rng.below(9)
            ),
            11 => format!("delete from events where customer_id = {} limit {}", rng.below(300), rng.between(1, 5)),
            12 => format!("update events set value = value + 1, kind = 'pay' where customer_id = {}", rng.below(300)),
            _ => format!(
                "insert into blocked values ({})",
                if rng.chance(15) { "null".to_owned() } else { customer.to_string() }
            ),
        }
    }

    /// A transaction of more rows than a step takes.
    fn large(&self, rng: &mut Rng) -> Vec<String> {
        let salt = rng.below(1_000);
        match rng.below(4) {
            0 => vec![format!(
                "insert ignore into orders select 16000 + n, 1 + (n * 13 + {salt}) % 2400, 'new', (n + {salt}) % 400, null, null from numbers"
            )],
            1 => vec![format!("update orders set amount = amount + 1, note = null where id % 5 <> {}", rng.below(5))],
            2 => vec![format!("delete from orders where id > {}", 14_000 + salt)],
            _ => vec![
                "delete from order_items where qty = 0".to_owned(),
                format!(
                    "insert ignore into order_items select 1 + n div 3, 1 + n % 3, concat('p', (n + {salt}) % 44), n % 6, 1.5 from numbers"
                ),
            ],
        }
    }

    /// Rows that leave and come back within one transaction.
    fn there_and_back(&self, rng: &mut Rng) -> Vec<String> {
        let order = rng.between(1, 16_000);
        match rng.below(4) {
            0 => vec![
                format!("update orders set amount = amount + 5 where id = {order}"),
                format!("update orders set amount = amount - 5 where id = {order}"),
            ],
            1 => vec![
                format!("replace into orders values ({order}, 7, 'paid', 1.00, null, null)"),
                format!("delete from orders where id = {order}"),
                format!("insert into orders values ({order}, 8, 'void', 2.00, null, 'again')"),
            ],
            2 => {
                let far = 900_000 + order;
                vec![
                    format!("delete from orders where id = {far}"),
                    format!("update orders set id = {far} where id = {order}"),
                    format!(
                        "insert ignore into orders select {order}, customer_id, status, amount, placed, note from orders where id = {far}"
                    ),
                ]
            }
            _ => vec![
                format!(
                    "insert into events values ('cart', {order}, '2026-03-03', 1), ('cart', {order}, '2026-03-03', 1)"
                ),
                format!("delete from events where customer_id = {order} limit 1"),
            ],
        }
    }

    /// The rows of an answer as text, sorted.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Rows, String> {
        let rows: Vec<Row> = self.connection.query(sql).await.map_err(|e| format!("{sql}: {e}"))?;
        Ok(texts(rows))
    }
}

/// Rows of a server as text, sorted.
pub(crate) fn texts(rows: Vec<Row>) -> Rows {
    let text = |value: Value| match value {
        Value::NULL => plain(None),
        Value::Bytes(bytes) => plain(Some(&String::from_utf8_lossy(&bytes))),
        other => format!("{other:?}"),
    };
    let mut rows: Rows = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect();
    rows.sort();
    rows
}

/// A value as both sides write it: without zeros at the end of a fraction.
pub(crate) fn plain(value: Option<&str>) -> String {
    let Some(text) = value else { return "NULL".to_owned() };
    let Some((whole, fraction)) = text.rsplit_once('.') else { return text.to_owned() };
    let is_number = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    if !is_number || !whole.ends_with(|c: char| c.is_ascii_digit()) {
        return text.to_owned();
    }
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}
