//! `sync`: the project's syncs, and orders about one of them.

use super::{Context, Outcome, ask, repair};
use crate::control::{Order, SyncOrder};

#[derive(Debug, clap::Args)]
pub(crate) struct SyncArgs {
    /// Its name [default: all]
    name: Option<String>,
    /// Send all rows again: the other side has lost what it had. By itself that is noticed where its marker is gone too
    #[arg(long, requires = "name")]
    refill: bool,
    /// Send refused rows again: the other side takes them by now
    #[arg(long, requires = "name", conflicts_with = "refill")]
    retry: bool,
}

pub(super) async fn run(context: &Context, args: SyncArgs) -> anyhow::Result<Outcome> {
    let order = match (args.refill, args.retry) {
        (true, _) => Some(SyncOrder::Refill),
        (_, true) => Some(SyncOrder::Retry),
        (false, false) => None,
    };
    match (args.name, order) {
        (Some(name), Some(order)) => repair::order(context, Order::Sync { name, order }).await,
        (name, _) => ask::syncs(context, name.as_deref()).await,
    }
}
