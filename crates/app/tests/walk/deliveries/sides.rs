//! The servers: which they are, and how they are frozen, killed, stopped and brought back.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server of `scripts/services`.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// What it is called there.
    pub(super) name: String,
    pub(super) port: u16,
    folder: PathBuf,
}

/// How a server goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    /// SIGSTOP: its connections are open, and silent.
    Frozen,
    /// SIGKILL.
    Killed,
    /// As its own command stops it.
    Stopped,
}

impl Server {
    pub(super) fn of(name: &str) -> Result<Self, String> {
        let variable = |what: &str| {
            let name = name.to_uppercase().replace([':', '-'], "_");
            std::env::var(format!("TIDEMILL_TEST_{name}_{what}"))
                .map_err(|_| format!("no server {name}: start it with scripts/services start {name}"))
        };
        let port = variable("PORT")?;
        let port = port.parse().map_err(|_| format!("no port: {port}"))?;
        Ok(Self { name: name.to_owned(), port, folder: PathBuf::from(variable("DIR")?) })
    }

    pub(super) fn leave(&self, away: Away) -> Result<(), String> {
        match away {
            Away::Frozen => self.signal("-STOP"),
            Away::Killed => self.signal("-KILL"),
            Away::Stopped => self.services("stop"),
        }
    }

    pub(super) fn come_back(&self, from: Away) -> Result<(), String> {
        match from {
            Away::Frozen => self.signal("-CONT"),
            Away::Killed | Away::Stopped => self.services("start"),
        }
    }

    /// To it and the processes that it has made: one that is frozen makes no other ones meanwhile.
    fn signal(&self, signal: &str) -> Result<(), String> {
        let text = std::fs::read_to_string(self.folder.join("pid")).map_err(|e| format!("{}: {e}", self.name))?;
        let pid = text.split(' ').next().unwrap_or_default().to_owned();
        said(Command::new("kill").args([signal, &pid]))?;
        let children = Command::new("pgrep").args(["-P", &pid]).output().map_err(|e| format!("pgrep: {e}"))?;
        for child in String::from_utf8_lossy(&children.stdout).split_whitespace() {
            // One that has ended by itself meanwhile is as good.
            said(Command::new("kill").args([signal, child])).ok();
        }
        Ok(())
    }

    fn services(&self, verb: &str) -> Result<(), String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/services");
        said(Command::new(script).args([verb, &self.name]))
    }
}

/// What a command says on stdout; its stderr where it fails.
pub(super) fn told(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}

fn said(command: &mut Command) -> Result<(), String> {
    told(command).map(drop)
}
