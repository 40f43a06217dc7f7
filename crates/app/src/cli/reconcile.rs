//! `reconcile source`: tables against their sources.

use std::sync::Arc;

use anyhow::bail;

use super::{Context, Outcome, print};
use crate::control::{self, Order, Ordered, Reply};
use crate::reconcile::source::{self, Compared, Ours, Pace};
use crate::setup::Setup;
use crate::warehouse::{Described, Warehouse};

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
}

pub(super) async fn source(context: &Context, args: SourceArgs) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let order = Order::ReconcileSource { source: args.name.clone(), rows_per_second: args.rows_per_second };
    let compared = match control::order_with(&setup.data, order, |text| context.progress(text)).await? {
        Ordered::Answered(Reply::Compared(compared)) => compared,
        Ordered::Answered(other) => return Err(other.into_error()),
        Ordered::Nobody { .. } => of_stopped(context, &setup, &args).await?,
    };
    if context.json {
        print(&serde_json::to_string(&compared)?);
    } else {
        compared.iter().for_each(|table| print(&text(table)));
    }
    let differing: Vec<String> = compared
        .iter()
        .filter(|table| table.equal == Some(false))
        .map(|table| format!("{}.{}", table.schema, table.table))
        .collect();
    if args.repair && !differing.is_empty() {
        super::repair::order(context, Order::Resnapshot { tables: differing, source: None }).await?;
    }
    let is_equal = compared.iter().all(|table| table.equal == Some(true));
    Ok(if is_equal && !compared.is_empty() { Outcome::Ok } else { Outcome::Failed })
}

/// What was durable when the instance stopped, brought to the source's place by the log.
async fn of_stopped(context: &Context, setup: &Setup, args: &SourceArgs) -> anyhow::Result<Vec<Compared>> {
    if !setup.data.join("store").is_dir() {
        bail!("nothing was kept here yet, in {}\nHint: `tidemill up` loads the tables.", setup.data.display());
    }
    let opening = setup.clone();
    let opening = move || Warehouse::open(&opening, &Described::default());
    let warehouse = Arc::new(tokio::task::spawn_blocking(opening).await??);
    let say = |text: String| context.progress(&text);
    let mut compared = Vec::new();
    for (name, of, places) in source::feeds(setup, args.name.as_deref()).await? {
        let store = warehouse.engine.store().clone();
        let ours = Ours {
            number: warehouse.engine.source(&name).unwrap_or_default(),
            tables: Ours::tables(&warehouse.engine, &name, &places),
            source: name,
            positions: warehouse.engine.positions(),
            view: Box::new(move || store.snapshot()),
            is_running: false,
        };
        let pace = Pace { rows_per_second: args.rows_per_second, progress: &say };
        compared.extend(source::compare(&of, &ours, &pace).await);
    }
    tokio::task::spawn_blocking(move || drop(warehouse)).await?;
    Ok(compared)
}

fn text(table: &Compared) -> String {
    let word = match table.equal {
        Some(true) => "equal",
        Some(false) => "DIFFERS",
        None => "unknown",
    };
    let counts = match table.equal {
        Some(_) => format!("{} rows, {} in the source", table.rows, table.rows_expected),
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
