//! `resnapshot`, `pause`, `resume`: orders about sources, their tables, and syncs.

use anyhow::bail;

use super::apply::given;
use super::{Context, Outcome, print};
use crate::control::{Order, Ordered, Reply};
use crate::setup::Setup;

#[derive(Debug, clap::Args)]
pub(crate) struct ResnapshotArgs {
    /// Tables, with or without the schema
    #[arg(required_unless_present = "all")]
    tables: Vec<String>,
    /// All tables, from where the source's log ends now: whatever has happened to its log before does not matter any more
    #[arg(long, conflicts_with = "tables")]
    all: bool,
    /// With --all: of this connection only
    #[arg(long, value_name = "NAME", requires = "all")]
    source: Option<String>,
    /// Of one table: only the rows for which this holds, in the source's own SQL. Rows that only are here go as well where it
    /// compares whole-number columns of the key with numbers, joined by AND
    #[arg(long = "where", value_name = "CONDITION", conflicts_with = "all")]
    condition: Option<String>,
}

pub(super) async fn resnapshot(context: &Context, args: ResnapshotArgs) -> anyhow::Result<Outcome> {
    let Some(condition) = args.condition else {
        return order(context, Order::Resnapshot { tables: args.tables, source: args.source }).await;
    };
    match <[String; 1]>::try_from(args.tables) {
        Ok([table]) => order(context, Order::ResnapshotRows { table, condition }).await,
        Err(_) => bail!("--where is about one table\nHint: `tidemill resnapshot TABLE --where 'CONDITION'`."),
    }
}

/// Gives an order to the running instance and says what it answers.
pub(super) async fn order(context: &Context, order: Order) -> anyhow::Result<Outcome> {
    let setup = Setup::load(&context.global)?;
    let Some(ordered) = given(context, &setup.data, order, |text| context.progress(text)).await? else {
        return Ok(Outcome::Interrupted);
    };
    match ordered {
        Ordered::Nobody { .. } => bail!("nothing runs here\nHint: `tidemill up` starts it."),
        Ordered::Answered(Reply::Done(lines)) if context.json => print(&serde_json::to_string(&lines)?),
        Ordered::Answered(Reply::Done(lines)) => lines.iter().for_each(|line| print(line)),
        Ordered::Answered(Reply::Refused(reason)) => bail!(reason),
        Ordered::Answered(other) => bail!("an answer to another order: {other:?}"),
    }
    Ok(Outcome::Ok)
}
