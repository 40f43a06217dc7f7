//! `demo`: the built-in shop.

use super::{Context, Outcome};
use crate::demo::settings;

#[derive(Debug, clap::Args)]
#[command(after_help = settings::help())]
pub(super) struct DemoArgs {
    /// End by itself after so many seconds
    #[arg(long, hide = true)]
    seconds: Option<u64>,
}

pub(super) async fn run(context: &Context, args: DemoArgs) -> anyhow::Result<Outcome> {
    let refused = [("--project", context.global.project.is_some()), ("--target", context.global.target.is_some())];
    if let Some((option, _)) = refused.iter().find(|(_, is_given)| *is_given) {
        return Ok(context.misused(
            &format!("`demo` runs a project of its own: {option} says nothing to it"),
            "`tidemill up` runs a project; `tidemill demo --data DIR` keeps the demo's data.",
        ));
    }
    let options = crate::demo::DemoOptions {
        vars: context.global.vars.clone(),
        data: context.global.data.clone(),
        seconds: args.seconds,
        quiet: context.quiet,
        json: context.json,
    };
    crate::demo::run(options).await?;
    Ok(Outcome::Ok)
}
