//! `users`: who may log in, kept in the data folder. A running instance knows of a change at once.
//!
//! A password is never an argument: those are seen by whoever lists processes, and stay in a shell's history.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::{Context, Outcome, print, print_once};
use crate::audit::Audit;
use crate::clock::WallClock;
use crate::control::{self, Order, Ordered, Reply};
use crate::output::Table;
use crate::setup::Setup;
use crate::users::{self, OWNER};

/// Bytes of a password at most.
const PASSWORD_BYTES_MAX: usize = 1_024;
/// Characters of a password that people choose at least.
const PASSWORD_MIN: usize = 8;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum UsersCommand {
    /// Make a user. The password is generated and shown this once
    Add {
        /// What the user logs in as
        name: String,
        /// What the user reads: `owner` all there is, a role of roles.yml what it is granted
        #[arg(long, default_value = OWNER)]
        role: String,
        /// Take the password from stdin, up to the end of its first line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Who may log in
    List,
    /// Let a user in no more; sessions that are open end
    Remove {
        /// The user's name
        name: String,
    },
    /// Give a user another password; sessions that are open end
    Passwd {
        /// The user's name
        name: String,
        /// Take the password from stdin, up to the end of its first line
        #[arg(long)]
        password_stdin: bool,
    },
}

pub(super) async fn run(context: &Context, command: UsersCommand) -> anyhow::Result<Outcome> {
    // What is wrong with the project's files keeps nobody from mending who may log in.
    let setup = Setup::load(&context.global)?;
    let data = setup.data.clone();
    let (name, what) = match command {
        UsersCommand::List => return list(context, &data),
        UsersCommand::Add { name, role, password_stdin } => {
            known_role(&setup, &role)?;
            let password = Password::new(password_stdin)?;
            users::change(&data, |users| {
                users::add(users, &name, &password.text, &role)?;
                password.show(context, &name)
            })?;
            (name, "user added")
        }
        UsersCommand::Passwd { name, password_stdin } => {
            let password = Password::new(password_stdin)?;
            users::change(&data, |users| {
                users::change_password(users, &name, &password.text)?;
                password.show(context, &name)
            })?;
            (name, "password changed")
        }
        UsersCommand::Remove { name } => {
            users::change(&data, |users| users::remove(users, &name))?;
            (name, "user removed")
        }
    };
    tell(context, &data, what, &name).await
}

/// Errors: the project declares no such role.
pub(super) fn known_role(setup: &Setup, role: &str) -> anyhow::Result<()> {
    if setup.project.roles_unread && role != OWNER {
        bail!("no role is known: there is a mistake in roles.yml\nHint: `tidemill check` says which.");
    }
    // One with a mistake reads nothing until that is mended.
    let is_known = setup.project.roles.contains_key(role) || setup.project.broken_roles.contains(role);
    if role != OWNER && !is_known {
        let known: Vec<&str> = setup.project.roles.keys().map(String::as_str).collect();
        bail!("there is no role {role:?}\nHint: One of: {}.", [&[OWNER], known.as_slice()].concat().join(", "));
    }
    Ok(())
}

/// Tells a running instance, the audit, and whoever has given the command.
pub(super) async fn tell(context: &Context, data: &Path, what: &str, name: &str) -> anyhow::Result<Outcome> {
    match control::order(data, Order::Users { what: what.to_owned(), name: name.to_owned() }).await {
        Ok(Ordered::Nobody { .. }) => Audit::open(data, Arc::new(WallClock)).note(what, name, "", "command"),
        Ok(Ordered::Answered(Reply::Done(_))) => {}
        Ok(Ordered::Answered(other)) => return Err(unheard(&other.into_error())),
        Err(error) => return Err(unheard(&error)),
    }
    context.progress(&format!("{what}: {name}"));
    if users::read(data)?.is_empty() {
        context.say("warning: there are no users now: on this machine everybody is let in, from elsewhere nobody");
    }
    Ok(Outcome::Ok)
}

fn unheard(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "the users are changed, but the running instance did not take it up: {error:#}\n\
         Hint: Stop it and start it with `tidemill up`: it reads them at its start."
    )
}

fn list(context: &Context, data: &Path) -> anyhow::Result<Outcome> {
    let users = users::read(data)?;
    let rows = users.iter().map(|(name, user)| vec![Some(name.clone()), Some(user.role.clone())]).collect();
    let table = Table { columns: vec!["user".to_owned(), "role".to_owned()], rows, ..Table::default() };
    print(&if context.json { table.json() } else { table.aligned() });
    Ok(Outcome::Ok)
}

struct Password {
    text: String,
    is_generated: bool,
}

impl Password {
    /// Shows one that was generated, before it is kept: one that nobody has got lets nobody in.
    fn show(&self, context: &Context, name: &str) -> anyhow::Result<()> {
        if self.is_generated {
            print_once(&match context.json {
                true => serde_json::json!({"user": name, "password": self.text}).to_string(),
                false => self.text.clone(),
            })?;
            context.progress("this is the password; it is not shown again");
        }
        Ok(())
    }

    fn new(from_stdin: bool) -> anyhow::Result<Self> {
        if !from_stdin {
            return Ok(Self { text: serve::generated_password(), is_generated: true });
        }
        if std::io::stdin().is_terminal() {
            bail!(
                "stdin is a terminal, and would show the password\nHint: `… --password-stdin < FILE`, or leave it out."
            );
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(PASSWORD_BYTES_MAX + 2)?;
        std::io::stdin().take(limit).read_to_end(&mut bytes).context("cannot read the password from stdin")?;
        let text = String::from_utf8(bytes).ok().context("the password on stdin is not UTF-8")?;
        let text = text.lines().next().unwrap_or_default().to_owned();
        if text.chars().count() < PASSWORD_MIN || text.len() > PASSWORD_BYTES_MAX || text.contains('\0') {
            bail!(
                "this cannot be a password\nHint: One has {PASSWORD_MIN} characters to {PASSWORD_BYTES_MAX} bytes. \
                 Without --password-stdin a good one is generated."
            );
        }
        Ok(Self { text, is_generated: false })
    }
}
