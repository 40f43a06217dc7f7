//! An HTTP reply as a case prints it.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Status, headers that matter, body; an Arrow body as its rows, a chunked one put together.
pub(super) fn printed_reply(reply: &[u8], address: SocketAddr) -> String {
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(reply.len());
    let head = String::from_utf8_lossy(&reply[..end]).into_owned();
    let raw = reply.get(end + 4..).unwrap_or_default();
    let lower = head.to_lowercase();
    let (body, whole) = if lower.contains("transfer-encoding: chunked") { unchunk(raw) } else { (raw.to_vec(), true) };
    let mut out = head.lines().next().unwrap_or_default().to_owned();
    for line in head.lines() {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        if ["content-type", "tidemill-step", "allow"].contains(&name.as_str()) {
            let _ = write!(out, "\n{}", line.to_lowercase());
        }
    }
    let body = match lower.contains("arrow.stream") {
        true => super::table::arrow_stream(&body),
        false if lower.contains("text/html") => main_of(&String::from_utf8_lossy(&body)),
        false if body.len() > 10_000 => "(a long body)".to_owned(),
        false => String::from_utf8_lossy(&body).replace(&address.to_string(), "ADDRESS"),
    };
    let _ = write!(out, "\n{}", body.trim_end_matches('\n'));
    if !whole {
        out.push_str("\n(cut off)");
    }
    out
}

/// Status and the headers that say what a browser may do with an answer.
pub(super) fn printed_headers(reply: &[u8]) -> String {
    let head = String::from_utf8_lossy(reply).into_owned();
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let told = head.lines().filter(|line| !line.starts_with("date") && !line.starts_with("content-length"));
    told.collect::<Vec<_>>().join("\n")
}

/// What stands in `<main>`, without empty lines.
fn main_of(html: &str) -> String {
    let main = html.split_once("<main id=\"main\">").and_then(|(_, rest)| rest.split_once("</main>"));
    let lines = main.map_or(html, |(main, _)| main).lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// The chunks' content, and whether the last one came.
fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&raw[..end]), 16).unwrap_or(0);
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(raw.get(end + 2..end + 2 + size).unwrap_or_default());
        raw = raw.get(end + 4 + size..).unwrap_or_default();
    }
    (body, false)
}
