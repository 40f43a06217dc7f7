//! What every surface of an instance says of a trouble, and that none of them says that all is well.
//!
//! Cases of `trouble/` have one shop: the source `shop`, its table `orders`, the model `revenue` over it, the view `today` over that, and a
//! dashboard `shop` with a tile over the view. `surfaces source` asks all of them; `surfaces table` and `surfaces model` leave out what
//! is below the trouble and may be well. Troubles of deliveries have a sync `revenue` of the model instead, and `surfaces sync` asks what tells
//! of that. Numbers are `N`: ages and ports differ from run to run. The answers are the text of `docs/troubles.md`, which `tidy` holds to them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Words, colours and lines by which something says that all is well with it.
const WELL: [&str; 8] =
    ["", "live", "streaming", "good", "ready", "running", "OK — running", "against the batch answer"];

/// Answers a statement: its rows and what was said beside them.
type Ask<'a> = &'a dyn Fn(&[&str]) -> Result<(String, String), String>;

type Lines = Vec<(&'static str, String)>;

/// A line for each surface.
pub(crate) fn surfaces(http: &str, level: &str, run: Ask<'_>) -> Result<String, String> {
    let lines = match level {
        "sync" => of_sync(http, run)?,
        _ => of_model(http, level, run)?,
    };
    let lines: Vec<(&str, String)> = lines.into_iter().map(|(surface, text)| (surface, normal(&text))).collect();
    for (surface, text) in &lines {
        let word = text.split(" — ").next().unwrap_or_default();
        if WELL.contains(&word) || WELL.contains(&text.as_str()) {
            return Err(format!("{surface} says that all is well: {text:?}, of {lines:#?}"));
        }
    }
    Ok(lines.iter().map(|(surface, text)| format!("{surface}: {text}")).collect::<Vec<_>>().join("\n"))
}

/// What tells of a sync.
fn of_sync(http: &str, run: Ask<'_>) -> Result<Lines, String> {
    let mut lines = Vec::new();
    let (rows, _) = run(&["query", "select state, message from tidemill.deliveries where sync = 'revenue'"])?;
    // It may deliver, and say what lacks: the word alone would say that all is well.
    lines.push(("tidemill.deliveries", cells(&rows).replacen(" — ", ": ", 1)));
    lines.push(("tidemill status", project(run)?));
    lines.push(("/health/readyz", readyz(http)?));
    let metrics = get(http, "/metrics")?.1;
    let is_state = |line: &&str| line.starts_with("tidemill_delivery_state{sync=\"revenue\"") && line.ends_with(" 1");
    let state = metrics.lines().find(is_state).and_then(|line| line.split('"').nth(3)).unwrap_or_default();
    let refused = between(&metrics, "tidemill_delivery_refused_rows{sync=\"revenue\"} ", "\n");
    let refused = if refused == "0" { String::new() } else { format!(", {refused} refused") };
    lines.push(("/metrics, state of the sync", format!("{state}{refused}")));
    let home = get(http, "/")?.1;
    lines.extend(header(&home));
    lines.push(("the sync in the graph", between(&home, "data-node=\"sync revenue\" data-tone=\"", "\"")));
    lines.push(("its word there", between(&home, "data-live=\"s/sync revenue\">", "<")));
    let list = get(http, "/syncs")?.1;
    lines.push(("the list of destinations", between(&list, "data-live=\"s/sync revenue\">", "<")));
    let page = get(http, "/syncs/revenue")?.1;
    lines.push(("the sync's page", between(&page, "data-live=\"t/sync revenue/message\">", "<")));
    lines.push(("the line below it there", between(&page, "data-live=\"t/sync revenue/next\">", "<")));
    let model = get(http, "/models/public/revenue")?.1;
    let read_by = "<a href=\"/syncs/revenue\">sync revenue</a> <span class=\"state\" data-tone=\"";
    lines.push(("it on the model's page", between(&model, read_by, "\"")));
    Ok(lines)
}

/// What `tidemill status` says of the project.
fn project(run: Ask<'_>) -> Result<String, String> {
    let status = run(&["status"])?.0;
    // What more there is to say stands below.
    let mut of_project = status.lines().skip(2).take_while(|line| !line.starts_with('('));
    let first = of_project.next().and_then(|line| line.split_once('|')).map_or("", |(_, message)| message.trim());
    let told = std::iter::once(first).chain(of_project.map(str::trim));
    Ok(told.collect::<Vec<_>>().join(" · "))
}

fn readyz(http: &str) -> Result<String, String> {
    let (code, body) = get(http, "/health/readyz")?;
    Ok(format!("{code} — {}", body.trim()))
}

/// What stands at the head of every page.
fn header(page: &str) -> Lines {
    vec![
        ("the page's header", between(page, "data-live=\"s//state\">", "<")),
        ("the line below it", between(page, "data-live=\"t//message\">", "<")),
    ]
}

/// What tells of a model, and of what is below and above it.
fn of_model(http: &str, level: &str, run: Ask<'_>) -> Result<Lines, String> {
    let sql = |sql: &str| run(&["query", sql]).map(|(rows, _)| cells(&rows));
    let mut lines: Lines = Vec::new();
    if level == "source" {
        let sources = "select state, message, detail, hint from tidemill.sources where source = 'shop'";
        lines.push(("tidemill.sources", sql(sources)?));
    }
    if level != "model" {
        let tables = "select state, message, detail, hint from tidemill.tables where \"table\" = 'orders'";
        lines.push(("tidemill.tables", sql(tables)?));
    }
    let model =
        |name: &str| sql(&format!("select state, message, detail, hint from tidemill.models where model = '{name}'"));
    lines.push(("tidemill.models", model("revenue")?));
    lines.push(("the view above", model("today")?));
    lines.push(("tidemill status", project(run)?));
    lines.push(("/health/readyz", readyz(http)?));
    let metrics = get(http, "/metrics")?.1;
    let is_state =
        |line: &&str| line.starts_with("tidemill_model_state{model=\"public.revenue\"") && line.ends_with(" 1");
    let state = metrics.lines().find(is_state).and_then(|line| line.split('"').nth(3)).unwrap_or_default();
    lines.push(("/metrics, state of the model", state.to_owned()));
    let home = get(http, "/")?.1;
    lines.extend(header(&home));
    lines.push(("the model in the graph", between(&home, "data-node=\"public.revenue\" data-tone=\"", "\"")));
    let page = get(http, "/models/public/revenue")?.1;
    lines.push(("the model's page", between(&page, "data-live=\"t/public.revenue/message\">", "<")));
    let board = get(http, "/dashboards/shop")?.1;
    // The tile itself has a line; this is where it is pointed at.
    let tile = between(&board, "<p class=\"stale\" role=\"note\" title=\"", "\"");
    lines.push(("the tile", if tile.is_empty() { between(&board, "<p class=\"trouble\">", "</p>") } else { tile }));
    let (compared, _) = run(&["reconcile", "models"])?;
    let compared = compared.lines().find(|line| line.contains("public.revenue")).unwrap_or("not compared");
    let told = compared.split_once("expected, ").or_else(|| compared.split_once("public.revenue  "));
    let compared = told.map_or(compared, |(_, message)| message);
    lines.push(("reconcile models", compared.to_owned()));
    let said = run(&["query", "select * from today"])?.1;
    lines.push(("query", said.lines().map(str::trim).collect::<Vec<_>>().join(" ")));
    Ok(lines)
}

/// The one row of an answer: its state and what is said of it, in three parts.
fn cells(rows: &str) -> String {
    let row = rows.lines().nth(2).unwrap_or_default();
    let (state, told) = row.split_once('|').unwrap_or((row, ""));
    let told: Vec<&str> = told.split(" |").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    [state.trim().to_owned(), told.join(" · ")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" — ")
}

fn get(http: &str, path: &str) -> Result<(String, String), String> {
    let mut stream = TcpStream::connect(http).map_err(crate::text_of)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/html\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(crate::text_of)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(crate::text_of)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer to {path}: {answer}"))?;
    // `OK`, `Service Unavailable`: the number would be masked.
    let status = head.lines().next().unwrap_or_default();
    Ok((status.splitn(3, ' ').nth(2).unwrap_or_default().to_owned(), body.to_owned()))
}

/// The text between two marks; empty where they are not there.
fn between(text: &str, from: &str, to: &str) -> String {
    let inside = text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(inside, _)| inside);
    let inside = inside.unwrap_or_default();
    [("<br>", " "), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
        .iter()
        .fold(inside.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The text with `N` for each number that is no part of a name.
fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut in_word = false;
    let mut digits = text.chars().peekable();
    while let Some(c) = digits.next() {
        if c.is_ascii_digit() && !in_word {
            while digits.peek().is_some_and(char::is_ascii_digit) {
                digits.next();
            }
            out.push('N');
            continue;
        }
        in_word = c.is_alphanumeric() || c == '_' || c == '$';
        out.push(c);
    }
    out.trim().to_owned()
}
