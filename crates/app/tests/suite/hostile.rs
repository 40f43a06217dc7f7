//! Statements and requests that mean harm, and what becomes of the instance meanwhile.
//!
//! A statement is answered by its first row or its SQLSTATE; that `/health/livez` and the page answered all the while, in
//! [`PATIENCE`], belongs to every answer. `$(3|x = #|or)` stands for `x = 0or x = 1or x = 2`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long health, the page, or a refusal may take, beside a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long any statement may take: it is over by itself, or by its timeout.
const STATEMENT: Duration = Duration::from_secs(60);

/// The text with `$(count|part|between)` written out; `#` is the number of the part.
pub(crate) fn written_out(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("$(") {
        let (inside, after) = from.split_once(')').ok_or("a $( without its )")?;
        // A parenthesis inside is written as a brace; two of them are dbt's.
        let inside = inside.replace("{{", "\u{1}").replace("}}", "\u{2}").replace('{', "(").replace('}', ")");
        let inside = inside.replace('\u{1}', "{{").replace('\u{2}', "}}");
        let mut words = inside.splitn(3, '|');
        let (count, part, between) = (words.next(), words.next(), words.next());
        let count: usize = count.and_then(|count| count.parse().ok()).ok_or("$(count|part|between)")?;
        let parts: Vec<String> =
            (0..count).map(|number| part.unwrap_or_default().replace('#', &number.to_string())).collect();
        out.push_str(before);
        out.push_str(&parts.join(between.unwrap_or_default()));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// What the instance answers to a statement that may take so many milliseconds.
pub(crate) fn statement(http: &str, sql: &str, timeout_ms: Option<&String>) -> Result<String, String> {
    let mut question = serde_json::json!({"sql": written_out(sql)?, "limit": 1});
    if let Some(timeout) = timeout_ms {
        question["timeout_ms"] = timeout.parse::<u64>().map_err(|e| e.to_string())?.into();
    }
    let body = question.to_string();
    let head =
        // This version takes no chunks.
        format!("POST /sql HTTP/1.0\r\nHost: {http}\r\nContent-Length: {}\r\n\r\n", body.len());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let healthy = scope.spawn(|| while_it_runs(http, &is_over));
        let answer = exchanged(http, &[head.as_bytes(), body.as_bytes()], STATEMENT);
        is_over.store(true, Ordering::Relaxed);
        let healthy = healthy.join().map_err(|_| "the watch over health failed")?;
        healthy?;
        shown(&answer?)
    })
}

/// Health and page answer until the statement is over.
fn while_it_runs(http: &str, is_over: &AtomicBool) -> Result<(), String> {
    while !is_over.load(Ordering::Relaxed) {
        for path in ["/health/livez", "/sources"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
            let answer = exchanged(http, &[request.as_bytes()], PATIENCE).map_err(|e| format!("{path}: {e}"))?;
            if !answer.starts_with("HTTP/1.1 200") {
                return Err(format!("{path}: {}", answer.lines().next().unwrap_or_default()));
            }
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Ok(())
}

/// Sends pieces and reads to the end.
fn exchanged(http: &str, pieces: &[&[u8]], patience: Duration) -> Result<String, String> {
    let mut socket = TcpStream::connect(http).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
    for piece in pieces {
        socket.write_all(piece).map_err(|e| format!("while sending: {e}"))?;
    }
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).map_err(|e| format!("while reading: {e}"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn shown(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let body: serde_json::Value = match serde_json::from_str(body) {
        Ok(body) => body,
        Err(_) => return Ok(format!("{status} {}", body.trim())),
    };
    let mut text = match (&body["error"]["code"], &body["rows"][0]) {
        (serde_json::Value::String(code), _) => {
            format!("{code} {}", body["error"]["message"].as_str().unwrap_or_default())
        }
        (_, row) => row.to_string(),
    };
    if text.len() > 200 {
        text = format!("{}…", text.chars().take(120).collect::<String>());
    }
    Ok(text)
}

/// What comes of a request as it stands, a point for an empty line; the connection is then left open. Answers with the status,
/// or with the end.
pub(crate) fn raw(http: &str, body: &str) -> Result<String, String> {
    let text = written_out(&body.replace("$HTTP", http))?;
    let text = text.lines().map(|line| if line == "." { "" } else { line }).collect::<Vec<_>>().join("\r\n");
    let begun = Instant::now();
    let mut socket = TcpStream::connect(http).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(STATEMENT)).map_err(|e| e.to_string())?;
    // What is refused early may not be taken to its end.
    let sent = socket.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let ended = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let took = begun.elapsed();
    if took > Duration::from_secs(20) {
        return Err(format!("it took {took:?}: {answer}"));
    }
    if answer.is_empty() {
        return Ok("closed".to_owned());
    }
    let status = answer.lines().next().unwrap_or_default().to_owned();
    match (sent, ended) {
        (Ok(()), Ok(_)) => Ok(status),
        (Err(error), _) | (_, Err(error)) => Ok(format!("{status}, then {error}")),
    }
}

/// The most memory that a process has had, against a bound in MiB.
pub(crate) fn peak(pid: u32, bound: &str) -> Result<String, String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| e.to_string())?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = peak.trim().trim_end_matches(" kB").trim().parse().map_err(|_| format!("no number: {peak}"))?;
    let bound: u64 = bound.parse().map_err(|_| format!("no number: {bound}"))?;
    Ok(if kib / 1024 <= bound { format!("at most {bound} MiB") } else { format!("{} MiB", kib / 1024) })
}
