//! The instance: the binary over a project folder of its own, started, killed and asked.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use crate::Rows;
use crate::models::{Project, for_project};
use crate::shop::{Shop, TABLES};

/// How long a checkpoint waits for the instance to catch up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Instance {
    folder: tempfile::TempDir,
    running: Option<Child>,
    /// What is on disk.
    pub(crate) project: Project,
}

impl Instance {
    /// A project over the shop's tables.
    pub(crate) fn new(shop: &Shop) -> Result<Self, String> {
        let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        let mut instance = Self::over(shop.port, &shop.database, &tables)?;
        instance.put(Project::first())?;
        Ok(instance)
    }

    /// A project over tables of a database, without models.
    pub(crate) fn over(port: u16, database: &str, tables: &[&str]) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let instance = Self { folder, running: None, project: Project::first() };
        let address = "'127.0.0.1:0'";
        let project = "name: walk\nprofile: walk\nmodels:\n  walk:\n    +materialized: table\n";
        let profile = format!(
            "walk:\n  target: dev\n  outputs:\n    dev: {{type: tidemill, schema: public, pg: {address}, http: {address}}}\n"
        );
        let connection =
            format!("shop: {{type: mysql, host: 127.0.0.1, port: {port}, user: root, database: {database}}}\n");
        let tables: Vec<String> = tables.iter().map(|table| format!("{{name: {table}}}")).collect();
        let sources = format!("sources:\n  - name: shop\n    tables: [{}]\n", tables.join(", "));
        instance.write("dbt_project.yml", project)?;
        instance.write("profiles.yml", &profile)?;
        instance.write("connections.yml", &connection)?;
        instance.write("models/sources.yml", &sources)?;
        Ok(instance)
    }

    /// Puts a model on disk.
    pub(crate) fn put_model(&self, name: &str, sql: &str) -> Result<(), String> {
        self.write(&format!("models/{name}.sql"), &for_project(sql))
    }

    /// Puts a project on disk.
    pub(crate) fn put(&mut self, project: Project) -> Result<(), String> {
        for (name, sql, _) in project.models() {
            self.put_model(name, &sql)?;
        }
        for name in project.absent() {
            // It may not be there already.
            std::fs::remove_file(self.folder.path().join(format!("models/{name}.sql"))).ok();
        }
        self.project = project;
        Ok(())
    }

    fn command(&self) -> Command {
        let binary = std::env::var("TIDEMILL").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tidemill").to_owned());
        let mut command = Command::new(binary);
        command.current_dir(self.folder.path()).args(["--log", "warn"]).env("DBT_PROFILES_DIR", self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Begins to give an order (`apply`, `rollback`).
    pub(crate) fn order(&self, order: &str) -> Result<Child, String> {
        let mut command = self.command();
        command.args(order.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|e| e.to_string())
    }

    /// Gives an order, and waits until it is carried out.
    pub(crate) fn ordered(&self, order: &str) -> Result<(), String> {
        let output = self.order(order)?.wait_with_output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Err(format!("{order} of version {}: {said}\n{}", self.project.version, self.log_end()))
    }

    /// Waits until what is on disk serves.
    pub(crate) async fn wait_for_version(&mut self) -> Result<(), String> {
        let wanted = self.project.version.to_string();
        let begun = Instant::now();
        loop {
            let seen = self.rows("select version from m_version").await;
            if seen.as_ref().is_ok_and(|rows| rows.first().is_some_and(|row| row[0] == wanted)) {
                return Ok(());
            }
            self.is_running()?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("version {wanted} does not serve: {seen:?}\n{}", self.log_end()));
            }
            crate::pause(50).await;
        }
    }

    pub(crate) fn is_running(&mut self) -> Result<(), String> {
        let child = self.running.as_mut().ok_or("nothing runs")?;
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => Err(format!("it ended by itself with {status}\n{}", self.log_end())),
            None => Ok(()),
        }
    }

    /// Puts a file of the project on disk.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).map_err(|e| e.to_string())?;
        // Moved into place: an instance that starts reads one text or the other.
        let half = self.folder.path().join(".half");
        std::fs::write(&half, text).map_err(|e| e.to_string())?;
        std::fs::rename(half, path).map_err(|e| e.to_string())
    }

    pub(crate) fn start(&mut self) -> Result<(), String> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("up.log"));
        let mut command = self.command();
        command.arg("up").stdout(Stdio::null()).stderr(log.map_err(|e| e.to_string())?);
        self.running = Some(command.spawn().map_err(|e| e.to_string())?);
        Ok(())
    }

    /// SIGKILL, whatever it is doing.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let mut child = self.running.take().ok_or("nothing runs")?;
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Err(format!("it ended by itself with {status}\n{}", self.log_end()));
        }
        child.kill().map_err(|e| e.to_string())?;
        child.wait().map_err(|e| e.to_string())?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended well.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let mut child = self.running.take().ok_or("nothing runs")?;
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().map_err(|e| e.to_string())?;
        let status = child.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("it ended with {status}\n{}", self.log_end())) }
    }

    /// Waits until what the shop did last is visible, and all models are live.
    pub(crate) async fn wait_for_mark(&mut self, mark: u64) -> Result<(), String> {
        let begun = Instant::now();
        let states = "select count(*) as n from tidemill.models where state = 'building'";
        loop {
            let seen = self.rows("select n from shop.marks").await;
            let building = self.rows(states).await;
            let (seen, building) = match (seen, building) {
                (Ok(seen), Ok(building)) => (seen, building),
                (Err(e), _) | (_, Err(e)) => (vec![], vec![vec![e]]),
            };
            let there = seen.first().is_some_and(|row| row[0] == mark.to_string());
            if there && building.first().is_some_and(|row| row[0] == "0") {
                return Ok(());
            }
            self.is_running()?;
            if begun.elapsed() > PATIENCE {
                let mut told = Vec::new();
                for system in ["tidemill.sources", "tidemill.tables"] {
                    let rows = self.rows(&format!("select * from {system}")).await.unwrap_or_default();
                    told.extend(rows.iter().map(|row| row.join(" | ")));
                }
                return Err(format!(
                    "it does not catch up with mark {mark}: {seen:?}, building {building:?}\n{}\n{}",
                    told.join("\n"),
                    self.log_end()
                ));
            }
            crate::pause(50).await;
        }
    }

    /// The rows of an answer as both sides write them, sorted.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Rows, String> {
        let rows = self.rows_as_they_are(sql).await?;
        let text = |text: &String| crate::shop::plain(Some(text));
        let mut rows: Rows = rows.iter().map(|row| row.iter().map(text).collect()).collect();
        rows.sort();
        Ok(rows)
    }

    /// The rows of an answer as text.
    pub(crate) async fn rows_as_they_are(&self, sql: &str) -> Result<Rows, String> {
        let note = self.folder.path().join(".tidemill/instance.json");
        let note = std::fs::read_to_string(note).map_err(|e| e.to_string())?;
        let note: serde_json::Value = serde_json::from_str(&note).map_err(|e| e.to_string())?;
        let pid = self.running.as_ref().map(|child| u64::from(child.id()));
        if note["pid"].as_u64() != pid {
            return Err("it has not noted its address yet".to_owned());
        }
        let (host, port) = note["pg"].as_str().and_then(|pg| pg.rsplit_once(':')).ok_or("no address")?;
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port.parse().map_err(|_| "no port")?).user("tidemill").dbname("tidemill");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let answer = client.simple_query(sql).await;
        drop(client);
        driver.await.ok();
        let answer = answer.map_err(|e| match e.as_db_error() {
            Some(said) => format!("{}: {}", sql, said.message()),
            None => format!("{sql}: {e}"),
        })?;
        let mut rows: Rows = Vec::new();
        for message in answer {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect());
            }
        }
        Ok(rows)
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// Bytes of its data folder.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let (mut bytes, mut folders) = (0, vec![self.folder.path().join(".tidemill")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                // A file may have gone since it was listed.
                match entry.metadata() {
                    Ok(about) if about.is_dir() => folders.push(entry.path()),
                    Ok(about) => bytes += about.len(),
                    Err(_) => {}
                }
            }
        }
        bytes
    }

    /// The last lines that it said.
    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its log ends:\n{}", lines[lines.len().saturating_sub(12)..].join("\n"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
