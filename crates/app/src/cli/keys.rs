//! `keys`: what programs say over HTTP instead of a password, kept in the data folder. A running instance knows of a change at
//! once.

use std::path::Path;

use anyhow::bail;

use super::users::{known_role, tell};
use super::{Context, Outcome, print, print_once};
use crate::clock::{Clock as _, WallClock};
use crate::output::Table;
use crate::setup::Setup;
use crate::users;

/// Days that a key lasts at most, where it ends at all.
const DAYS_MAX: u32 = 3_650;
const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key, which is shown this once: `Authorization: Bearer KEY`
    Add {
        /// What it is called, in the list and in tidemill.audit
        name: String,
        /// What is read by it: a role of roles.yml, or `owner` for all there is
        #[arg(long)]
        role: String,
        /// Days after which it ends [default: it stays until it is removed]
        #[arg(long, value_name = "DAYS")]
        expires: Option<u32>,
    },
    /// The keys there are
    List,
    /// Let nobody in by a key any more
    Remove {
        /// The key's name
        name: String,
    },
}

pub(super) async fn run(context: &Context, command: KeysCommand) -> anyhow::Result<Outcome> {
    let setup = Setup::load(&context.global)?;
    match command {
        KeysCommand::List => list(context, &setup.data),
        KeysCommand::Add { name, role, expires } => {
            known_role(&setup, &role)?;
            if expires.is_some_and(|days| days == 0 || days > DAYS_MAX) {
                bail!("a key lasts 1 to {DAYS_MAX} days\nHint: Without --expires it stays until it is removed.");
            }
            let now = WallClock.now_us();
            let ends = expires.map(|days| now + i64::from(days) * DAY_US);
            users::change(&setup.data, |users| {
                let word = users::add_key(users, &name, &role, now, ends)?;
                // Shown before it is kept: it is nowhere else, and one that nobody has got lets nobody in.
                print_once(&match context.json {
                    true => serde_json::json!({"key": name, "token": word}).to_string(),
                    false => word,
                })?;
                context.progress("this is the key; it is not shown again");
                Ok(())
            })?;
            tell(context, &setup.data, "key added", &name).await
        }
        KeysCommand::Remove { name } => {
            users::change(&setup.data, |users| users::remove_key(users, &name))?;
            tell(context, &setup.data, "key removed", &name).await
        }
    }
}

fn list(context: &Context, data: &Path) -> anyhow::Result<Outcome> {
    let (users, now) = (users::read(data)?, WallClock.now_us());
    let rows = users.keys().map(|(name, key)| {
        let ends = key.expires_us.map(|end| match (end - now) / DAY_US {
            _ if end <= now => "ended".to_owned(),
            0 => "today".to_owned(),
            days => format!("in {days} days"),
        });
        vec![Some(name.clone()), Some(key.role.clone()), ends]
    });
    let table = Table {
        columns: ["key", "role", "ends"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
        ..Table::default()
    };
    print(&if context.json { table.json() } else { table.aligned() });
    Ok(Outcome::Ok)
}
