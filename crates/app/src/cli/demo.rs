//! `demo`: the built-in shop.

use std::path::PathBuf;

use project::ListenSpec;

use super::{Context, Outcome};
use crate::demo::settings;

#[derive(Debug, clap::Args)]
#[command(after_help = settings::help())]
pub(super) struct DemoArgs {
    /// End by itself after so many seconds
    #[arg(long, hide = true)]
    seconds: Option<u64>,
    /// Where psql and BI reach it: a port, or an address and a port [default: 127.0.0.1:5433, or the next free one]
    #[arg(long, value_name = "ADDRESS", value_parser = listened)]
    pg: Option<ListenSpec>,
    /// Where the page and the API are [default: 127.0.0.1:8080, or the next free one]
    #[arg(long, value_name = "ADDRESS", value_parser = listened)]
    http: Option<ListenSpec>,
    // Said to be nothing of the demo's, so its help does not offer them.
    #[arg(long, hide = true)]
    project: Option<PathBuf>,
    #[arg(long, hide = true)]
    target: Option<String>,
}

fn listened(text: &str) -> Result<ListenSpec, String> {
    ListenSpec::given(text).ok_or_else(|| "neither a port nor an address and a port, such as 127.0.0.1:5433".to_owned())
}

pub(super) async fn run(context: &Context, args: DemoArgs) -> anyhow::Result<Outcome> {
    let (project, target) = (context.global.project.as_ref(), context.global.target.as_ref());
    let refused = [
        ("--project", project.or(args.project.as_ref()).is_some()),
        ("--target", target.or(args.target.as_ref()).is_some()),
    ];
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
        pg: args.pg,
        http: args.http,
        quiet: context.quiet,
        json: context.json,
    };
    crate::demo::run(options).await?;
    Ok(Outcome::Ok)
}
