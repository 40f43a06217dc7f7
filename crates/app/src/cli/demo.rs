//! `demo`: the built-in shop.

use super::{Context, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// End by itself after so many seconds
    #[arg(long, hide = true)]
    seconds: Option<u64>,
}

pub(super) async fn run(context: &Context, args: DemoArgs) -> anyhow::Result<Outcome> {
    let options = crate::demo::DemoOptions {
        vars: context.global.vars.clone(),
        data: context.global.data.clone(),
        seconds: args.seconds,
        quiet: context.quiet,
    };
    crate::demo::run(options).await?;
    Ok(Outcome::Ok)
}
