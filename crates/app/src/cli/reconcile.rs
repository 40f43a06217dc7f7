//! `reconcile source`: tables against their sources, and `reconcile history`: how that went before.

use std::sync::Arc;

use anyhow::bail;

use super::{Context, Outcome, interrupted, print};
use crate::clock::{Clock as _, WallClock};
use crate::control::{self, Order, Ordered, ReconcilePace, Reply};
use crate::counted::counted;
use crate::opening::{self, COMMAND_PATIENCE};
use crate::reconcile::ago;
use crate::reconcile::book::{Book, By};
use crate::reconcile::source::{self, Compared, Notes, Ours};
use crate::setup::Setup;
use crate::warehouse::Described;

#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// The connection's name [default: all]
    name: Option<String>,
    /// Load the tables that differ again
    #[arg(long)]
    repair: bool,
    /// Read tables with a key no faster than this
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    rows_per_second: Option<u64>,
    /// Of a hundred parts of the time, let the source work for it in so many at most; tables without a key are read at once
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    share: Option<u8>,
    /// Compare so many rows at one place of the log; after each the comparison can be interrupted and goes on from there
    /// [default: 1000000]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    portion: Option<u64>,
    /// Begin anew where an earlier comparison was interrupted
    #[arg(long)]
    restart: bool,
}

impl SourceArgs {
    fn pace(&self) -> ReconcilePace {
        ReconcilePace { rows_per_second: self.rows_per_second, share: self.share, portion_rows: self.portion }
    }
}

pub(super) async fn source(context: &Context, args: SourceArgs) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let begun_us = WallClock.now_us();
    let order = Order::ReconcileSource { source: args.name.clone(), pace: args.pace(), restart: args.restart };
    let comparing = async {
        match control::order_with(&setup.data, order, |text| context.progress(text)).await? {
            Ordered::Answered(Reply::Compared(compared)) => Ok(compared),
            Ordered::Answered(other) => Err(other.into_error()),
            Ordered::Nobody { .. } => of_stopped(context, &setup, &args).await,
        }
    };
    let compared = tokio::select! {
        compared = comparing => compared?,
        () = interrupted() => {
            let name = args.name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
            context.say(&format!(
                "interrupted: what was compared is kept\nHint: `tidemill reconcile source{name}` goes on from there, and with \
                 --restart it begins anew; `tidemill reconcile history` says how far it was."
            ));
            return Ok(Outcome::Interrupted);
        }
    };
    if context.json {
        print(&serde_json::to_string(&compared.iter().map(json).collect::<Result<Vec<_>, _>>()?)?);
    } else {
        texts(&compared, begun_us).iter().for_each(|text| print(text));
    }
    let differing: Vec<String> = compared
        .iter()
        .filter(|table| table.is_to_be_loaded())
        .map(|table| format!("{}.{}", table.schema, table.table))
        .collect();
    if args.repair && !differing.is_empty() {
        super::repair::order(context, Order::Resnapshot { tables: differing, source: None }).await?;
    }
    let is_equal = compared.iter().all(|table| table.equal == Some(true) || table.is_incomparable);
    Ok(if is_equal && !compared.is_empty() { Outcome::Ok } else { Outcome::Failed })
}

/// What was durable when the instance stopped, brought to the source's place by the log.
async fn of_stopped(context: &Context, setup: &Setup, args: &SourceArgs) -> anyhow::Result<Vec<Compared>> {
    if !setup.data.join("store").is_dir() {
        bail!("nothing was kept here yet, in {}\nHint: `tidemill up` loads the tables.", setup.data.display());
    }
    let waits = |text: &str| context.progress(text);
    let opened = opening::opened(setup, Described::default(), Arc::default(), COMMAND_PATIENCE, waits);
    let warehouse = Arc::new(opened.await?);
    let say = |text: String| context.progress(&text);
    let feeds = source::feeds(setup, args.name.as_deref()).await?;
    let mut compared = feeds.passed_over;
    for (name, of, places) in feeds.comparable {
        let store = warehouse.engine.store().clone();
        let ours = Ours {
            number: warehouse.engine.source(&name).unwrap_or_default(),
            tables: Ours::tables(&warehouse.engine, &name, &places),
            source: name,
            positions: warehouse.engine.positions(),
            view: Box::new(move || store.snapshot()),
            is_running: false,
        };
        let told = |_: &Book| ();
        let notes = Notes { data: &setup.data, clock: &WallClock, by: By::Hand, restart: args.restart, told: &told };
        compared.extend(source::compare(&of, &ours, &args.pace().telling(&say), &notes).await?);
    }
    tokio::task::spawn_blocking(move || drop(warehouse)).await?;
    Ok(compared)
}

/// `reconcile history`: comparisons that have ended, and what is left of one that has not.
pub(super) fn history(context: &Context) -> anyhow::Result<Outcome> {
    let setup = Setup::load(&context.global)?;
    let book = Book::read(&setup.data)?;
    if context.json {
        print(&serde_json::to_string(&book.sources)?);
        return Ok(Outcome::Ok);
    }
    let now_us = WallClock.now_us();
    for (source, of) in &book.sources {
        for run in &of.runs {
            let took = ago(run.ended_us - run.begun_us);
            let differing = match run.differing.is_empty() {
                true => String::new(),
                false => format!("  differing: {}", run.differing.join(", ")),
            };
            print(&format!(
                "{source}  by {}  {} equal, {} differ, {} unknown, {} rows  ended {} ago, took {took}{differing}",
                run.by.word(),
                run.equal,
                run.differing.len(),
                run.unknown,
                run.rows,
                ago(now_us - run.ended_us)
            ));
        }
        if let Some(unfinished) = of.unfinished.as_ref().filter(|unfinished| unfinished.has_found()) {
            let at = match unfinished.progress() {
                Some((table, rows)) => format!(", in {table} behind {rows} rows"),
                None => String::new(),
            };
            print(&format!("{source}  not finished: begun {} ago{at}", ago(now_us - unfinished.begun_us)));
        }
    }
    if book.sources.is_empty() {
        context.progress("nothing was compared yet\nHint: `tidemill reconcile source` does.");
    }
    Ok(Outcome::Ok)
}

/// How tables compare. What keeps several of a source from being compared is said once.
fn texts(compared: &[Compared], begun_us: i64) -> Vec<String> {
    let is_same = |one: &Compared, other: &Compared| {
        one.equal.is_none() && other.equal.is_none() && (&one.source, &one.message) == (&other.source, &other.message)
    };
    let text = |together: &[Compared]| match together {
        [alone] => text(alone, begun_us),
        [first, ..] => format!("{}  {} tables of {}  {}", word(first), together.len(), first.source, first.message),
        [] => String::new(),
    };
    compared.chunk_by(is_same).map(text).collect()
}

fn word(table: &Compared) -> &'static str {
    match table.equal {
        Some(true) => "equal",
        Some(false) => "DIFFERS",
        None if table.is_incomparable => "skipped",
        None => "unknown",
    }
}

/// How a table compares, for programs: rows that nobody has counted have no number.
fn json(table: &Compared) -> serde_json::Result<serde_json::Value> {
    let mut of = serde_json::to_value(table)?;
    if let Some(of) = of.as_object_mut() {
        if table.compared_us.is_none() {
            for rows in ["rows", "rows_expected"] {
                of.insert(rows.to_owned(), serde_json::Value::Null);
            }
        }
        of.remove("is_incomparable");
        of.insert("comparable".to_owned(), (!table.is_incomparable).into());
    }
    Ok(of)
}

/// How a table compares; what was compared before this command was given says so.
fn text(table: &Compared, begun_us: i64) -> String {
    let word = word(table);
    let counts = match table.equal {
        Some(_) => {
            let earlier = table.compared_from_us.filter(|from| *from < begun_us);
            let earlier = earlier.map_or_else(String::new, |from| {
                let what = if table.compared_us.is_some_and(|at| at < begun_us) { "all" } else { "the first" };
                format!(" ({what} of them compared {} before)", ago(begun_us - from))
            });
            format!("{}, {} in the source{earlier}", counted(table.rows, "row"), table.rows_expected)
        }
        None => String::new(),
    };
    let head = format!("{word:<8} {}.{}  {counts}", table.schema, table.table);
    let mut lines =
        vec![[head.trim_end(), table.message.as_str()].join(if table.message.is_empty() { "" } else { "  " })];
    let sides = [("only here", &table.only_kept), ("only in the source", &table.only_expected)];
    for (mark, rows) in sides {
        lines.extend(rows.iter().map(|row| format!("         {mark}: {row}")));
    }
    lines.join("\n")
}
