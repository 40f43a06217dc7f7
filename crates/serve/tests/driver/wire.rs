//! A client that speaks frames, and prints them.
//!
//! A line is a message; `-` is the name without letters:
//!
//! ```text
//! query select 1
//! parse s1 int4,0 : select $1, $2        types by name, 0 leaves it to the server
//! bind p1 s1 | 5 | NULL | hex:00000005 => binary     values in text or binary; format of the results
//! describe s s1      describe p p1       execute p1 100      close s s1     close p p1
//! sasl SCRAM-SHA-256 n,,n=,r=abc         begins a login      proof c=biws,r=abc,p=AAAA     ends it
//! sync    flush    terminate    raw 51000000    eof
//! ```

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Outcome;
use super::table::hex;

pub(super) struct Client {
    socket: TcpStream,
    /// Number and secret for a cancel request.
    pub(super) key: (i32, i32),
}

impl Client {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        Ok(Self { socket, key: (0, 0) })
    }

    /// Logs in with `name=value` parameters; `version=3.2` is the protocol's, `user=` leaves the name out, `+` is a
    /// blank.
    pub(super) async fn login(&mut self, parameters: &[&str]) -> Outcome {
        let mut version = 196_608_i32;
        let mut body = Vec::new();
        let (mut user, mut until) = ("ann", "Z");
        for parameter in parameters {
            let (name, value) = parameter.split_once('=').ok_or("parameters are name=value")?;
            match name {
                "version" => {
                    let (major, minor) = value.split_once('.').ok_or("version=3.0")?;
                    version = (major.parse::<i32>().unwrap() << 16) + minor.parse::<i32>().unwrap();
                }
                "user" => user = value,
                "until" => until = value,
                _ => body.extend([name.as_bytes(), b"\0", value.replace('+', " ").as_bytes(), b"\0"].concat()),
            }
        }
        if !user.is_empty() {
            body.extend([b"user\0", user.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        let mut message = i32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        message.extend(version.to_be_bytes());
        message.extend(body);
        self.socket.write_all(&message).await.map_err(|e| e.to_string())?;
        self.read_until(until, 1).await
    }

    /// Sends the lines; returns how many of them end in a ReadyForQuery.
    pub(super) async fn write(&mut self, lines: &str) -> Result<usize, String> {
        let (mut bytes, mut ready) = (Vec::new(), 0);
        for line in lines.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            // A raw message of kind Q is answered like a query, broken or not.
            ready += usize::from(word == "query" || word == "sync" || line.starts_with("raw 51"));
            match word {
                "raw" => bytes.extend(hex(rest)),
                "eof" => {
                    self.socket.write_all(&std::mem::take(&mut bytes)).await.map_err(|e| e.to_string())?;
                    self.socket.shutdown().await.map_err(|e| e.to_string())?;
                }
                _ => bytes.extend(message(word, rest)?),
            }
        }
        // The other side may have closed already; what it said before is what a case is about.
        let _ = self.socket.write_all(&bytes).await;
        Ok(ready)
    }

    /// Prints frames up to the `count`th of a kind, or to the end.
    pub(super) async fn read_until(&mut self, kind: &str, count: usize) -> Outcome {
        let mut out = String::new();
        let mut left = if kind == "end" { usize::MAX } else { count };
        while left > 0 {
            let Some((found, body)) = self.frame().await else {
                out.push_str("(closed)\n");
                break;
            };
            if found == 'K' {
                self.key = (int(&body, 0), int(&body, 4));
            }
            let _ = writeln!(out, "{}", printed(found, &body));
            left -= usize::from(kind.starts_with(found));
        }
        Ok(out)
    }

    async fn frame(&mut self) -> Option<(char, Vec<u8>)> {
        let kind = self.socket.read_u8().await.ok()?;
        // The answer to a request for TLS has no length.
        if kind == b'N' && self.key == (0, 0) {
            return Some(('N', Vec::new()));
        }
        let len = self.socket.read_i32().await.ok()?;
        let mut body = vec![0; usize::try_from(len).ok()? - 4];
        self.socket.read_exact(&mut body).await.ok()?;
        Some((char::from(kind), body))
    }
}

fn name(word: &str) -> &str {
    if word == "-" { "" } else { word }
}

fn cstring(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn message(word: &str, rest: &str) -> Result<Vec<u8>, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let word_at = |i: usize| words.get(i).copied().map(name).unwrap_or_default();
    let (kind, body) = match word {
        "query" => (b'Q', cstring(&rest.replace("\\n", "\n"))),
        "parse" => {
            let (head, sql) = rest.split_once(" : ").ok_or("parse NAME TYPES : SQL")?;
            let mut words = head.split_whitespace();
            let statement = name(words.next().unwrap_or_default());
            let types: Vec<&str> = words.next().map(|list| list.split(',').collect()).unwrap_or_default();
            let mut body = [cstring(statement), cstring(sql)].concat();
            body.extend(i16::try_from(types.len()).unwrap().to_be_bytes());
            for kind in types {
                body.extend(oid(kind)?.to_be_bytes());
            }
            (b'P', body)
        }
        "sasl" => {
            let (mechanism, first) = rest.split_once(' ').ok_or("sasl MECHANISM MESSAGE")?;
            let length = i32::try_from(first.len()).unwrap().to_be_bytes();
            (b'p', [cstring(mechanism), length.to_vec(), first.as_bytes().to_vec()].concat())
        }
        "proof" => (b'p', rest.as_bytes().to_vec()),
        "bind" => (b'B', bind(rest)),
        "describe" => (b'D', [word_at(0).to_uppercase().as_bytes(), &cstring(word_at(1))].concat()),
        "close" => (b'C', [word_at(0).to_uppercase().as_bytes(), &cstring(word_at(1))].concat()),
        "execute" => {
            let rows: i32 = words.get(1).map_or(Ok(0), |n| n.parse()).map_err(|_| "execute PORTAL ROWS")?;
            (b'E', [cstring(word_at(0)), rows.to_be_bytes().to_vec()].concat())
        }
        "sync" => (b'S', Vec::new()),
        "flush" => (b'H', Vec::new()),
        "terminate" => (b'X', Vec::new()),
        other => return Err(format!("no message {other:?}")),
    };
    let mut message = vec![kind];
    message.extend(i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    Ok(message)
}

fn bind(rest: &str) -> Vec<u8> {
    let (rest, results) = rest.split_once(" => ").unwrap_or((rest, ""));
    let mut parts = rest.split(" | ");
    let mut names = parts.next().unwrap_or_default().split_whitespace().map(name);
    let mut body = [cstring(names.next().unwrap_or_default()), cstring(names.next().unwrap_or_default())].concat();
    let values: Vec<&str> = parts.collect();
    let count = i16::try_from(values.len()).unwrap().to_be_bytes();
    body.extend(count);
    for value in &values {
        body.extend(i16::from(value.starts_with("hex:")).to_be_bytes());
    }
    body.extend(count);
    for value in values {
        let bytes = match value.strip_prefix("hex:") {
            _ if value == "NULL" => {
                body.extend((-1_i32).to_be_bytes());
                continue;
            }
            Some(digits) => hex(digits),
            None => value.as_bytes().to_vec(),
        };
        body.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(bytes);
    }
    let formats: Vec<i16> = results.split(',').filter(|f| !f.is_empty()).map(|f| i16::from(f == "binary")).collect();
    body.extend(i16::try_from(formats.len()).unwrap().to_be_bytes());
    for format in formats {
        body.extend(format.to_be_bytes());
    }
    body
}

const OIDS: [(&str, i32); 27] = [
    ("0", 0),
    ("bool", 16),
    ("bytea", 17),
    ("int8", 20),
    ("int2", 21),
    ("int4", 23),
    ("text", 25),
    ("json", 114),
    ("float4", 700),
    ("float8", 701),
    ("unknown", 705),
    ("bool[]", 1000),
    ("int2[]", 1005),
    ("int4[]", 1007),
    ("text[]", 1009),
    ("int8[]", 1016),
    ("float8[]", 1022),
    ("varchar", 1043),
    ("date", 1082),
    ("time", 1083),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("interval", 1186),
    ("timestamptz[]", 1185),
    ("numeric[]", 1231),
    ("numeric", 1700),
    ("uuid", 2950),
];

fn oid(name: &str) -> Result<i32, String> {
    OIDS.iter().find(|(known, _)| *known == name).map(|(_, oid)| *oid).ok_or_else(|| format!("no type {name:?}"))
}

fn type_name(oid: i32) -> String {
    OIDS.iter().find(|(_, known)| *known == oid).map_or_else(|| oid.to_string(), |(name, _)| (*name).to_owned())
}

fn int(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).map_or(0, |b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn short(bytes: &[u8], at: usize) -> i16 {
    bytes.get(at..at + 2).map_or(0, |b| i16::from_be_bytes([b[0], b[1]]))
}

/// A value: its text if it can be read, else its bytes.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "''".to_owned(),
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.iter().fold("\\x".to_owned(), |out, byte| format!("{out}{byte:02x}")),
    }
}

fn strings(body: &[u8]) -> Vec<String> {
    body.split(|b| *b == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

fn printed(kind: char, body: &[u8]) -> String {
    match kind {
        'N' if body.is_empty() => "N (no TLS)".to_owned(),
        'R' => format!("R {}", int(body, 0)),
        'S' => {
            let parts = strings(body);
            format!("S {}={}", parts[0], parts[1])
        }
        'K' => format!("K {}", int(body, 0)),
        'Z' | 'C' => format!("{kind} {}", String::from_utf8_lossy(body).trim_end_matches('\0')),
        'T' => columns(body),
        'D' => values(body),
        'E' | 'N' => fields(kind, body),
        't' => (0..short(body, 0)).fold("t".to_owned(), |out, i| {
            format!("{out} {}", type_name(int(body, 2 + 4 * usize::try_from(i).unwrap())))
        }),
        'd' => format!("d {}", String::from_utf8_lossy(body).escape_debug()),
        'H' => format!("H format {} columns {}", body[0], short(body, 1)),
        'v' => format!("v {} {:?}", int(body, 0), strings(&body[8..])),
        other => other.to_string(),
    }
}

fn columns(body: &[u8]) -> String {
    let mut out = "T".to_owned();
    let mut at = 2;
    for i in 0..short(body, 0) {
        let end = at + body[at..].iter().position(|b| *b == 0).unwrap();
        let name = String::from_utf8_lossy(&body[at..end]).into_owned();
        at = end + 1;
        let (kind, size) = (type_name(int(body, at + 6)), short(body, at + 10));
        let (modifier, format) = (int(body, at + 12), short(body, at + 16));
        let modifier =
            if modifier < 0 { String::new() } else { format!("({},{})", (modifier - 4) >> 16, (modifier - 4) & 0x7ff) };
        let format = if format == 1 { " binary" } else { "" };
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(out, "{comma} {name}:{kind}{modifier}/{size}{format}");
        at += 18;
    }
    out
}

fn values(body: &[u8]) -> String {
    let mut cells = Vec::new();
    let mut at = 2;
    for _ in 0..short(body, 0) {
        let len = int(body, at);
        at += 4;
        let Ok(len) = usize::try_from(len) else {
            cells.push("NULL".to_owned());
            continue;
        };
        cells.push(shown(&body[at..at + len]));
        at += len;
    }
    assert_eq!(at, body.len(), "a row's length is wrong");
    format!("D {}", cells.join(" | "))
}

/// `E ERROR 22012 message`, then the other fields on lines of their own.
fn fields(kind: char, body: &[u8]) -> String {
    let parts = strings(body);
    let get = |key: char| parts.iter().find_map(|part| part.strip_prefix(key)).unwrap_or_default().to_owned();
    assert_eq!(get('S'), get('V'), "both severities");
    let mut out = format!("{kind} {} {} {}", get('S'), get('C'), get('M'));
    for (key, word) in [('D', "detail"), ('H', "hint"), ('P', "position")] {
        if !get(key).is_empty() {
            let _ = write!(out, "\n  {word}: {}", get(key));
        }
    }
    out
}
