//! Log events made from the lines of a case, as a server writes them.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of a case are small")]

use connect::source::mysql::decode;
use relation::{Layout, Rows, Value};

const HEADER_BYTES: usize = 19;
const TABLE_MAP: u8 = 19;
const UUID: [u8; 16] = [0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62];

/// Counts offsets and knows whether events have checksums.
#[derive(Default)]
pub(crate) struct EventBuilder {
    offset: u64,
    before: u64,
    crc32: bool,
    session: Session,
}

/// What a statement's event tells of its session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    pub(crate) database: Option<String>,
    pub(crate) sql_mode: Option<u64>,
    pub(crate) charset: Option<String>,
    /// Databases that the statement has changed something in.
    pub(crate) databases: Vec<String>,
}

/// Rows of the test's tables from `1,a 2,b`; `NULL` is NULL.
pub(crate) fn rows_of<'a>(words: impl Iterator<Item = &'a str>) -> Result<Rows, String> {
    let schema = decode::relation_schema(&super::columns(true)).map_err(|e| e.to_string())?;
    let layout = Layout::new(schema.types());
    let mut rows = Rows::new();
    for word in words {
        let (id, name) = word.split_once(',').ok_or("ID,NAME")?;
        let id = Value::Int(id.parse().map_err(|_| "ID")?);
        let name = if name == "NULL" { Value::Null } else { Value::Text(name.to_owned()) };
        rows.push_values(&layout, &[id, name]).map_err(|e| e.to_string())?;
    }
    Ok(rows)
}

impl EventBuilder {
    pub(crate) fn new(offset: u64) -> Self {
        Self { offset, before: offset, crc32: false, session: Session::default() }
    }

    pub(crate) fn set_session(&mut self, words: &str) -> Result<(), String> {
        let mut session = Session::default();
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("db", name)) => session.database = Some(name.to_owned()),
                Some(("mode", mode)) => session.sql_mode = Some(mode.parse().map_err(|_| "mode=N")?),
                Some(("charset", name)) => session.charset = Some(name.to_owned()),
                Some(("dbs", names)) => session.databases = names.split(',').map(str::to_owned).collect(),
                _ => return Err(format!("session {word}")),
            }
        }
        self.session = session;
        Ok(())
    }

    pub(crate) fn set_checksums(&mut self, crc32: bool) {
        self.crc32 = crc32;
    }

    /// Where the log ends now.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The last event will be given once more.
    pub(crate) fn step_back(&mut self) {
        self.offset = self.before;
    }

    /// The event that tells about checksums. It stands in no file.
    pub(crate) fn format_description(&self) -> Vec<u8> {
        let mut body = vec![0; 57];
        body.push(u8::from(self.crc32));
        let mut event = header(15, 0x20, body.len() + 4, 0);
        event.extend_from_slice(&body);
        let sum = crc(&event);
        event.extend_from_slice(&sum);
        event
    }

    /// An event of a type and a payload.
    pub(crate) fn raw(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        self.before = self.offset;
        self.offset += (HEADER_BYTES + payload.len()) as u64;
        let mut event = header(kind, 0, payload.len(), self.offset as u32);
        event.extend_from_slice(payload);
        event
    }

    /// The event of one line.
    pub(crate) fn event(&mut self, line: &str) -> Result<Vec<u8>, String> {
        let (kind, flags, body) = if let Some(lines) = line.strip_prefix("payload ") {
            (40, 0, payload(lines, false)?)
        } else if let Some(lines) = line.strip_prefix("zipped ") {
            (40, 0, payload(lines, true)?)
        } else {
            event_body(line, self.offset, &self.session)?
        };
        self.before = self.offset;
        let size = HEADER_BYTES + body.len() + if self.crc32 { 4 } else { 0 };
        // A heartbeat is at the end of what was read and takes no place itself.
        if kind != 27 {
            self.offset += size as u64;
        }
        let low = (self.offset & 0xffff_ffff) as u32;
        if kind == 4 {
            self.offset = 4;
        }
        let mut event = header(kind, flags, size - HEADER_BYTES, low);
        event.extend_from_slice(&body);
        if self.crc32 {
            let sum = crc(&event);
            event.extend_from_slice(&sum);
        }
        Ok(event)
    }
}

/// CRC-32 as in zlib.
pub(crate) fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    (!crc).to_le_bytes()
}

fn header(kind: u8, flags: u16, body: usize, log_pos: u32) -> Vec<u8> {
    const SECONDS: u32 = 1_700_000_000;
    let mut out = SECONDS.to_le_bytes().to_vec();
    out.push(kind);
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&((HEADER_BYTES + body) as u32).to_le_bytes());
    out.extend_from_slice(&log_pos.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out
}

/// Type, flags and body of a line's event.
fn event_body(line: &str, offset: u64, session: &Session) -> Result<(u8, u16, Vec<u8>), String> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let mut number = |what: &str| -> Result<u64, String> {
        words.next().ok_or_else(|| what.to_owned())?.parse().map_err(|_| what.to_owned())
    };
    Ok(match verb {
        "gtid" => (33, 0, gtid(number("N")?, number("TIME").unwrap_or(0))),
        "anonymous" => (34, 0, gtid(0, number("TIME").unwrap_or(0))),
        "tagged" => {
            let tag = words.next().ok_or("TAG")?;
            let mut number = || words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            (42, 0, tagged(tag, number(), number()))
        }
        "mariadb" => (162, 0, mariadb(words.next().ok_or("D-S-N")?, words.next())?),
        "begin" => (2, 0, query("BEGIN", session)?),
        "rows-query" => (29, 0, [&[9], line.strip_prefix("rows-query ").unwrap_or_default().as_bytes()].concat()),
        "annotate" => (160, 0, line.strip_prefix("annotate ").unwrap_or_default().as_bytes().to_vec()),
        "query" => (2, 0, query(&line.strip_prefix("query ").unwrap_or_default().replace('⏎', "\n"), session)?),
        "xid" => (16, 0, number("N").unwrap_or(0).to_le_bytes().to_vec()),
        "xa-prepare" => {
            let digits = words.next().ok_or("HEX")?;
            let name: Vec<u8> = (0..digits.len() / 2)
                .map(|i| u8::from_str_radix(digits.get(2 * i..2 * i + 2).unwrap_or_default(), 16).map_err(|_| "HEX"))
                .collect::<Result<_, _>>()?;
            let mut body = vec![u8::from(words.next() == Some("one-phase"))];
            for number in [1, name.len() as u32, 0] {
                body.extend_from_slice(&number.to_le_bytes());
            }
            body.extend_from_slice(&name);
            (38, 0, body)
        }
        "rotate" => {
            let mut body = 4_u64.to_le_bytes().to_vec();
            body.extend_from_slice(words.next().ok_or("FILE")?.as_bytes());
            (4, 0, body)
        }
        "heartbeat" => {
            let _ = offset;
            (27, 0, words.next().ok_or("FILE")?.as_bytes().to_vec())
        }
        "previous" => (35, 0, connect::source::mysql::testing::previous_gtids(words.next().unwrap_or_default())?),
        "incident" => (26, 0, vec![1, 0, 0]),
        "unknown" => {
            let kind = u8::try_from(number("N")?).map_err(|_| "N")?;
            (kind, if words.next() == Some("ignorable") { 0x80 } else { 0 }, Vec::new())
        }
        "map" => {
            let id = number("ID")?;
            let table = words.next().ok_or("TABLE")?;
            let word = words.next().unwrap_or_default();
            let columns = word.strip_prefix("columns=").and_then(|n| n.parse().ok()).unwrap_or(2);
            let types: String = (0..columns).map(|i| if i == 1 { 'v' } else { 'i' }).collect();
            (TABLE_MAP, 0, table_map(id, table, word.strip_prefix("types=").unwrap_or(&types)))
        }
        "insert" | "delete" | "update" => {
            let id = number("ID")?;
            rows_event(verb, id, words)?
        }
        "garbage" => {
            let id = number("ID")?;
            let mut body = id.to_le_bytes()[..6].to_vec();
            body.extend_from_slice(&[0, 0, 2, 0, 2, 0xff, 0, 1, 2]);
            (30, 0, body)
        }
        other => return Err(format!("unknown event \"{other}\"")),
    })
}

fn gtid(number: u64, time_us: u64) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&UUID);
    body.extend_from_slice(&number.to_le_bytes());
    body.push(2);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&time_us.to_le_bytes()[..7]);
    body
}

/// Numbers below 128 take one byte of the serialisation library, larger ones nine here.
fn varint(out: &mut Vec<u8>, number: u64) {
    if number < 128 {
        out.push((number << 1) as u8);
    } else {
        out.push(0xff);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn tagged(tag: &str, number: u64, time_us: u64) -> Vec<u8> {
    let mut body = vec![2];
    varint(&mut body, 90);
    varint(&mut body, 0);
    varint(&mut body, 0);
    varint(&mut body, 0);
    varint(&mut body, 1);
    for byte in UUID {
        // Bytes from 128 on take two of the library's.
        if byte < 128 {
            body.push(byte << 1);
        } else {
            body.extend_from_slice(&(u16::from(byte) << 2 | 1).to_le_bytes());
        }
    }
    varint(&mut body, 2);
    varint(&mut body, number << 1);
    varint(&mut body, 3);
    varint(&mut body, tag.len() as u64);
    body.extend_from_slice(tag.as_bytes());
    varint(&mut body, 6);
    varint(&mut body, time_us);
    body
}

fn mariadb(gtid: &str, kind: Option<&str>) -> Result<Vec<u8>, String> {
    let parts: Vec<u64> = gtid.split('-').map(|p| p.parse().map_err(|_| "D-S-N")).collect::<Result<_, _>>()?;
    let [domain, _, sequence] = parts[..] else { return Err("D-S-N".to_owned()) };
    let mut body = sequence.to_le_bytes().to_vec();
    body.extend_from_slice(&(domain as u32).to_le_bytes());
    body.push(match kind {
        None => 0,
        Some("ddl") => 1,
        Some("xa") => 64,
        Some("done") => 128,
        Some(other) => return Err(other.to_owned()),
    });
    body.extend_from_slice(&[0; 6]);
    Ok(body)
}

/// Collations by which a client says its charset.
const COLLATIONS: [(&str, u16); 5] = [("latin1", 8), ("gbk", 28), ("sjis", 13), ("big5", 1), ("utf8mb4", 45)];

/// The body of a statement's event.
pub(crate) fn query(sql: &str, session: &Session) -> Result<Vec<u8>, String> {
    // A session that nothing is said of tells nothing.
    let is_plain = session.sql_mode.is_none() && session.charset.is_none() && session.databases.is_empty();
    let mut variables = if is_plain { Vec::new() } else { vec![0, 0, 0, 0, 0] };
    if let Some(mode) = session.sql_mode {
        variables.push(1);
        variables.extend_from_slice(&mode.to_le_bytes());
    }
    if !is_plain {
        variables.extend_from_slice(b"\x06\x03std");
    }
    let mut text = sql.as_bytes().to_vec();
    if let Some(charset) = &session.charset {
        let known = COLLATIONS.iter().find(|(name, _)| name == charset);
        let &(_, collation) = known.ok_or_else(|| charset.clone())?;
        variables.push(4);
        variables.extend_from_slice(&collation.to_le_bytes());
        variables.extend_from_slice(&[45, 0, 45, 0]);
        let label = if charset == "utf8mb4" { "utf8" } else { charset };
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).ok_or_else(|| charset.clone())?;
        text = vec![0; sql.len() * 4];
        let (_, _, length) = encoding.new_encoder().encode_from_utf8_without_replacement(sql, &mut text, true);
        text.truncate(length);
    }
    if !session.databases.is_empty() {
        variables.extend_from_slice(&[12, session.databases.len() as u8]);
        for name in &session.databases {
            variables.extend_from_slice(name.as_bytes());
            variables.push(0);
        }
    }
    let database = session.database.as_deref().unwrap_or("shop");
    let database = if database == "-" { "" } else { database };
    let mut body = vec![0; 8];
    body.push(database.len() as u8);
    body.extend_from_slice(&[0; 2]);
    body.extend_from_slice(&(variables.len() as u16).to_le_bytes());
    body.extend_from_slice(&variables);
    body.extend_from_slice(database.as_bytes());
    body.push(0);
    body.extend_from_slice(&text);
    Ok(body)
}

/// A table map of columns that are `i` an int, `v` a varchar(20); of `shop.labels`, the latter is an enum('good').
fn table_map(id: u64, table: &str, types: &str) -> Vec<u8> {
    let columns = types.len();
    let (database, name) = table.split_once('.').unwrap_or(("shop", table));
    let mut body = id.to_le_bytes()[..6].to_vec();
    body.extend_from_slice(&[1, 0]);
    for text in [database, name] {
        body.push(text.len() as u8);
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(columns as u8);
    let (kind, metadata) = if name == "labels" { (0xfe, [0xf7, 1]) } else { (15, [80, 0]) };
    body.extend(types.chars().map(|of| if of == 'v' { kind } else { 3 }));
    let with_metadata = types.matches('v').count();
    body.push(2 * with_metadata as u8);
    (0..with_metadata).for_each(|_| body.extend_from_slice(&metadata));
    body.extend(std::iter::repeat_n(0xfe, columns.div_ceil(8)));
    body
}

fn rows_event<'a>(verb: &str, id: u64, words: impl Iterator<Item = &'a str>) -> Result<(u8, u16, Vec<u8>), String> {
    let mut body = id.to_le_bytes()[..6].to_vec();
    body.extend_from_slice(&[1, 0, 2, 0, 2, 0xff]);
    let kind = match verb {
        "insert" => 30,
        "delete" => 32,
        _ => {
            body.push(0xff);
            31
        }
    };
    let mut is_minimal = false;
    for word in words {
        if word.contains('|') {
            let cells: Vec<&str> = word.split('|').collect();
            body[10] = cells.len() as u8;
            body.push(0);
            cells.into_iter().for_each(|cell| match cell.parse::<i32>() {
                Ok(number) => body.extend_from_slice(&number.to_le_bytes()),
                Err(_) => {
                    body.push(cell.len() as u8);
                    body.extend_from_slice(cell.as_bytes());
                }
            });
            continue;
        }
        match word {
            "unchecked" => body[6] |= 2,
            // The first column alone is there, it says.
            "partial" => body[11..].fill(1),
            // Of an update: the first column is in the image before, the second in the one after.
            "minimal" => {
                body[11..].copy_from_slice(&[1, 2]);
                is_minimal = true;
            }
            _ => {}
        }
        if !word.contains(',') {
            continue;
        }
        for (at, image) in word.split("=>").enumerate() {
            let (id, name) = image.split_once(',').ok_or("ID,NAME")?;
            if is_minimal {
                match at {
                    0 => {
                        body.push(0);
                        body.extend_from_slice(&id.parse::<i32>().map_err(|_| "ID")?.to_le_bytes());
                    }
                    _ => {
                        body.extend_from_slice(&[0, name.len() as u8]);
                        body.extend_from_slice(name.as_bytes());
                    }
                }
                continue;
            }
            body.push(if name == "NULL" { 0b10 } else { 0 });
            body.extend_from_slice(&id.parse::<i32>().map_err(|_| "ID")?.to_le_bytes());
            match name {
                "NULL" => {}
                // Of the table of labels: the number of a label, of which it has one.
                _ if name.starts_with('#') => {
                    let number = name.strip_prefix('#').unwrap_or_default();
                    body.push(number.parse().map_err(|_| "#N")?);
                }
                _ => {
                    body.push(name.len() as u8);
                    body.extend_from_slice(name.as_bytes());
                }
            }
        }
    }
    Ok((kind, 0, body))
}

/// A transaction payload: without compression its type says 255, with zstd 0.
fn payload(lines: &str, zipped: bool) -> Result<Vec<u8>, String> {
    let mut inner = Vec::new();
    for line in lines.split(';') {
        let (kind, flags, body) = event_body(line.trim(), 0, &Session::default())?;
        inner.extend_from_slice(&header(kind, flags, body.len(), 0));
        inner.extend_from_slice(&body);
    }
    let length = |n: usize| [&[0xfe][..], &(n as u64).to_le_bytes()].concat();
    let stored = if zipped { zstd::bulk::compress(&inner, 3).map_err(|e| e.to_string())? } else { inner.clone() };
    let mut body = if zipped { vec![2, 1, 0, 3, 9] } else { vec![2, 3, 0xfc, 255, 0] };
    if zipped {
        body.extend_from_slice(&length(inner.len()));
    }
    body.extend_from_slice(&[1, 9]);
    body.extend_from_slice(&length(stored.len()));
    body.push(0);
    body.extend_from_slice(&stored);
    Ok(body)
}
