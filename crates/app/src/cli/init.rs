//! `init`: a new project, over the simulated shop or over the tables of a database. No file that is there is written over.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use connect::{OnUnsupported, Source, TablePlace};
use mysql_async::Opts;
use project::{Connection, ConnectionKind, Filter, Place, Secret, SimulatedShop, Start, Tls};

use super::{Context, Outcome, check, print};
use crate::counted::counted;
use crate::sources;
use crate::starter::names::plain;
use crate::starter::{Origin, Table, project_of};

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The folder of the project, made if it is not there [default: here]
    folder: Option<PathBuf>,
    /// A database whose tables it is made of: mysql://user:password@host:port/database. The password is not written down
    #[arg(long, value_name = "URL", env = "TIDEMILL_INIT_FROM", hide_env_values = true)]
    from: Option<String>,
    /// The project's name [default: the folder's, or the database's]
    #[arg(long)]
    name: Option<String>,
}

/// Settings of a shop that is small enough to start with.
const SHOP: [(&str, &str); 3] = [("users", "10000"), ("orders_per_day", "1000"), ("history_orders", "10000")];

/// Schemas that no source may have: those of the system, and that of the models.
const TAKEN: [&str; 4] = ["public", "tidemill", "information_schema", "pg_catalog"];

pub(super) async fn run(context: &Context, args: InitArgs) -> anyhow::Result<Outcome> {
    let folder = args.folder.or_else(|| context.global.project.clone()).unwrap_or_else(|| PathBuf::from("."));
    if folder.join("dbt_project.yml").exists() {
        bail!("there is a project already in {}\nHint: Name another folder: `tidemill init FOLDER`.", folder.display());
    }
    let mut from = Given::of(args.from.as_deref())?;
    let name = args.name.or_else(|| name_of(&folder)).unwrap_or_else(|| from.source.clone());
    let tables = from.tables().await?;
    let is_empty = tables.is_empty();
    let origin =
        Origin { project: ascii(&name), source: from.source.clone(), connection: from.written.clone(), tables };
    let starter = project_of(&origin);
    write(&folder, &starter.files)?;
    let left_out = from.left_out.iter().chain(&starter.left_out);
    if context.json {
        let files: Vec<&String> = starter.files.iter().map(|(path, _)| path).collect();
        let left_out: Vec<&String> = left_out.collect();
        let answer = serde_json::json!({
            "folder": folder, "project": origin.project, "tables": origin.tables.len(), "files": files, "left_out": left_out,
        });
        print(&answer.to_string());
        return Ok(Outcome::Ok);
    }
    for (path, _) in starter.files.iter().filter(|(path, _)| !path.starts_with("models/staging/")) {
        print(&folder.join(path).display().to_string());
    }
    let staged = starter.files.iter().filter(|(path, _)| path.starts_with("models/staging/") && path.ends_with(".sql"));
    let tables = counted(staged.count(), "table");
    context.progress(&format!("{tables}, a staging view of each in models/staging"));
    left_out.for_each(|what| context.progress(&format!("left out: {what}")));
    if is_empty {
        context.say("warning: there is no table to be read in this database");
    }
    let mut global = context.global.clone();
    global.project = Some(folder.clone());
    let checked = check::run(&context.with(global), false).await?;
    let mut next = Vec::new();
    if folder != Path::new(".") {
        next.push(format!("cd {}", folder.display()));
    }
    next.extend(from.variable.iter().map(|name| format!("export {name}=…")));
    context.progress(&format!(
        "next: {}",
        [next, vec!["tidemill doctor".into(), "tidemill up".into()]].concat().join(" && ")
    ));
    Ok(checked)
}

/// The database that is given, or the shop where none is.
struct Given {
    source: String,
    /// As connections.yml says it.
    written: Vec<String>,
    connection: Connection,
    database: String,
    /// The variable that is to have the password.
    variable: Option<String>,
    left_out: Vec<String>,
}

impl Given {
    fn of(url: Option<&str>) -> anyhow::Result<Self> {
        let Some(url) = url else { return Ok(Self::shop()) };
        const FORM: &str = "Hint: A database is named as mysql://user:password@host:port/database.";
        let rest = url.strip_prefix("mysql://").or_else(|| url.strip_prefix("mariadb://"));
        let Some(rest) = rest else {
            let kind = url.split("://").next().filter(|kind| url.contains("://") && !kind.is_empty());
            match kind {
                Some(kind) => bail!("nothing can be read from `{kind}` yet\n{FORM}"),
                None => bail!("this is no URL of a database\n{FORM}"),
            }
        };
        if rest.matches('@').count() > 1 {
            bail!(
                "this URL has a second `@`\nHint: Signs in a user's name or password are written with their numbers: @ is %40, / is \
                 %2F, : is %3A."
            );
        }
        // What is wrong with it may have the password in it.
        let Ok(opts) = Opts::from_url(&format!("mysql://{rest}")) else { bail!("this URL cannot be read\n{FORM}") };
        let Some(database) = opts.db_name().filter(|name| !name.is_empty()).map(str::to_owned) else {
            bail!("the URL names no database\n{FORM}")
        };
        let user = opts.user().unwrap_or("root").to_owned();
        let (host, port) = (opts.ip_or_hostname().to_owned(), opts.tcp_port());
        let mut source = plain(&database);
        if TAKEN.contains(&source.as_str()) {
            source.push_str("_db");
        }
        let variable = opts.pass().map(|_| format!("{}_PASSWORD", ascii(&source).to_uppercase()));
        let quoted = crate::starter::names::yaml;
        let mut written = vec![
            "type: mysql".to_owned(),
            format!("host: {}", quoted(&host)),
            format!("port: {port}"),
            format!("user: {}", quoted(&user)),
        ];
        written.extend(variable.iter().map(|name| format!("password: {{env: {name}}}")));
        written.push(format!("database: {}", quoted(&database)));
        let kind = ConnectionKind::Mysql {
            host,
            port,
            user,
            password: opts.pass().map(|password| Secret::Literal(password.to_owned())),
            database: Some(database.clone()),
            tls: Tls::Preferred,
            tls_ca: None,
            server_public_key: None,
            start: Start::Snapshot,
        };
        let connection = Connection { name: source.clone(), kind, filter: Filter::default(), place: Place::file("") };
        Ok(Self { source, written, connection, database, variable, left_out: Vec::new() })
    }

    fn shop() -> Self {
        let source = "shop".to_owned();
        let mut written = vec![
            "type: simulator             # the built-in shop; `tidemill init --from URL` reads a MySQL".to_owned(),
        ];
        written.extend(SHOP.iter().map(|(key, value)| format!("{key}: {value}")));
        let kind = ConnectionKind::Simulator { database: None, shop: SimulatedShop::default() };
        let connection = Connection { name: source.clone(), kind, filter: Filter::default(), place: Place::file("") };
        Self { source, written, connection, database: String::new(), variable: None, left_out: Vec::new() }
    }

    /// The tables, without columns that cannot be held.
    async fn tables(&mut self) -> anyhow::Result<Vec<Table>> {
        let source = sources::try_open(&self.connection).await.map_err(|failure| anyhow::anyhow!(failure.text()))?;
        let names = source.tables(&self.database).await.map_err(|failure| anyhow::anyhow!(failure.text()))?;
        let place =
            |name: &String| TablePlace { database: self.database.clone(), name: name.clone(), ..TablePlace::default() };
        let places: Vec<TablePlace> = names.iter().map(place).collect();
        let mut tables = Vec::new();
        for (place, facts) in places.iter().zip(described(&*source, &places).await?) {
            let facts = match facts {
                Ok(facts) => Ok(facts),
                Err(_) => {
                    let mut place = place.clone();
                    place.columns.on_unsupported = OnUnsupported::LeaveOut;
                    described(&*source, &[place]).await?.remove(0)
                }
            };
            match facts {
                Ok(facts) => tables.push(Table {
                    name: place.name.clone(),
                    schema: facts.schema,
                    left_out: facts.left_out,
                    rows_estimate: facts.rows_estimate,
                }),
                Err(connect::Absence(reason)) => self.left_out.push(format!("table {:?}: {reason}", place.name)),
            }
        }
        Ok(tables)
    }
}

async fn described(
    source: &dyn Source,
    places: &[TablePlace],
) -> anyhow::Result<Vec<Result<connect::TableFacts, connect::Absence>>> {
    source.describe(places).await.map_err(|unanswered| anyhow::anyhow!(unanswered.failure.text()))
}

/// The name of a folder, as far as it has one.
fn name_of(folder: &Path) -> Option<String> {
    let full = std::path::absolute(folder).ok()?;
    full.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// A name that dbt takes for a project, and a shell for a variable.
fn ascii(name: &str) -> String {
    let ascii: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    plain(&ascii)
}

/// Writes the files. Errors: one of them is there; then nothing is written.
fn write(folder: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    if let Some((path, _)) = files.iter().find(|(path, _)| folder.join(path).exists()) {
        bail!(
            "{} is there already, and is not written over\nHint: Name an empty folder: `tidemill init FOLDER`.",
            folder.join(path).display()
        );
    }
    for (path, text) in files {
        let full = folder.join(path);
        let parent = full.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        std::fs::write(&full, text).with_context(|| format!("cannot write {}", full.display()))?;
    }
    Ok(())
}
