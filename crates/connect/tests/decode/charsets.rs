//! Trials against real servers, with `SLOW=1`: what all codes of one and two bytes, and of three in Japanese charsets, mean in each
//! charset, as the server itself converts them.

use std::collections::BTreeMap;

use connect::source::mysql::decode::SnapshotPlan;
use connect::source::mysql::{Tls, describe};
use libtest_mimic::Trial;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use relation::Rows;

use super::super::capture::server::{Outcome, Shop, run, trial};

/// Charsets that hold Unicode: their codes are no question of tables. In ascii bytes beyond it are shown, which MariaDB keeps and
/// does not show.
const OTHERS: [&str; 9] = ["binary", "utf8", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32", "ascii"];
/// Rows of one statement.
const ROWS: usize = 5_000;

pub(crate) fn trials(server: &'static str, port: u16) -> Vec<Trial> {
    vec![trial(server, "codes_of_charsets", move || codes(server, port))]
}

/// All codes of one and two bytes, and the Japanese ones of three.
fn all_codes() -> Vec<Vec<u8>> {
    let mut codes: Vec<Vec<u8>> = (1..=0xff).map(|byte| vec![byte]).collect();
    codes.extend((0x80..=0xff).flat_map(|first| (0x21..=0xff).map(move |second| vec![first, second])));
    codes.extend((0xa1..=0xfe).flat_map(|second| (0xa1..=0xfe).map(move |third| vec![0x8f, second, third])));
    codes
}

async fn codes(server: &str, port: u16) -> Outcome {
    let shop = Shop::new(server, port, "codes", &["CREATE TABLE raw (code VARBINARY(4) PRIMARY KEY)"]).await?;
    let mut conn = shop.conn().await?;
    for statement in ["SET sql_log_bin = 0", "SET sql_mode = ''"].iter().chain(&SnapshotPlan::SESSION[2..]) {
        run(&mut conn, statement).await?;
    }
    for codes in all_codes().chunks(ROWS) {
        let values: Vec<String> = codes.iter().map(|code| format!("(x'{}')", super::hex(code))).collect();
        run(&mut conn, &format!("INSERT INTO raw VALUES {}", values.join(","))).await?;
    }
    let charsets: Vec<Row> = conn.query("SHOW CHARACTER SET").await.map_err(|e| e.to_string())?;
    let mut seen = 0;
    for row in charsets {
        let (charset, bytes_max): (String, u32) = (row.get(0).ok_or("a name")?, row.get(3).ok_or("a length")?);
        if !OTHERS.contains(&charset.as_str()) {
            of_charset(&shop, &mut conn, &charset, bytes_max)
                .await
                .map_err(|difference| format!("{charset}: {difference}"))?;
            seen += 1;
        }
    }
    run(&mut conn, &format!("DROP DATABASE {}", shop.database)).await?;
    match seen {
        0..30 => Err(format!("the server has {seen} charsets of its own alone")),
        _ => Ok(()),
    }
}

/// Outside of a key each code is what the server makes of it. In a key no two are one: those that could be are refused.
async fn of_charset(shop: &Shop, conn: &mut Conn, charset: &str, bytes_max: u32) -> Outcome {
    let text = format!("VARCHAR(6) CHARACTER SET {charset} COLLATE {charset}_bin");
    run(conn, "DROP TABLE IF EXISTS t").await?;
    run(conn, &format!("CREATE TABLE t (k {text} PRIMARY KEY, s {text}, code VARBINARY(4))")).await?;
    let of = "SELECT CAST(code AS BINARY), CAST(CONCAT('a', code, 'z') AS BINARY), code FROM raw";
    run(conn, &format!("INSERT IGNORE INTO t {of} WHERE LENGTH(code) <= {bytes_max}")).await?;
    // What is no text of the charset the server has cut off, or replaced.
    run(conn, "DELETE FROM t WHERE CAST(k AS BINARY) <> code OR CAST(s AS BINARY) <> CONCAT('a', code, 'z')").await?;
    if matches!(charset, "ujis" | "eucjpms") {
        // MySQL lets it in as one code, and reads it as two.
        run(conn, "DELETE FROM t WHERE code = x'8EA0'").await?;
    }
    let described = describe(&shop.config(Tls::Disabled), &[(shop.database.clone(), "t".to_owned())]).await;
    let facts = described.map_err(|f| f.detail)?.remove(0).facts?;
    let of_key = SnapshotPlan::new(&facts.columns).map_err(|e| e.reason)?;
    let mut columns = facts.columns.clone();
    columns[0].key_position = None;
    let plain = SnapshotPlan::new(&columns).map_err(|e| e.reason)?;
    let list = plain.select_list().join(", ");
    let sql = format!("SELECT {list}, CONVERT(k USING utf8mb4), CONVERT(s USING utf8mb4) FROM t ORDER BY code");
    let rows: Vec<Row> = conn.query(sql).await.map_err(|e| e.to_string())?;
    let mut keys: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut read = 0;
    for row in rows {
        let cells: Vec<Option<Vec<u8>>> = row.unwrap().into_iter().map(bytes).collect::<Result<_, _>>()?;
        let (cells, told) = cells.split_at(3);
        let cells = || cells.iter().map(Option::as_deref);
        let mut rows = Rows::new();
        plain.write_row(cells(), &mut rows.start_row(plain.layout())).map_err(|error| error.to_string())?;
        rows.finish_row();
        let values = plain.layout().values(rows.get(0));
        for (value, told) in values.iter().zip(told) {
            let told = String::from_utf8_lossy(told.as_deref().unwrap_or_default()).into_owned();
            if value.to_string() != told {
                return Err(format!("{} is {value:?} here, and {told:?} at the server", values[2]));
            }
        }
        let code = values[2].to_string();
        let key = of_key.key_of(cells()).ok_or_else(|| format!("{code} has no key"))?;
        if let Some(other) = keys.insert(key, code.clone().into_bytes()) {
            return Err(format!("{code} and {} are one key", String::from_utf8_lossy(&other)));
        }
        let mut rows = Rows::new();
        let is_read = of_key.write_row(cells(), &mut rows.start_row(of_key.layout())).is_ok();
        rows.abandon_row();
        read += usize::from(is_read);
    }
    // Letters are read whatever else is not.
    if read < 90 || keys.len() < read { Err(format!("{read} of {} keys are read", keys.len())) } else { Ok(()) }
}

fn bytes(value: Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => Ok(Some(bytes)),
        other => Err(format!("no text: {other:?}")),
    }
}
