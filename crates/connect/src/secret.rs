//! Secrets in settings are references, resolved only where they are used: `{env: NAME}`, `{file: PATH}`, `{command: …}`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::source::Failure;

/// How long a command may take to tell a secret.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// More than this is no secret but a mistake.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Written into the settings themselves: accepted, with a warning of whoever reads them.
    Literal(String),
    /// An environment variable.
    Env(String),
    /// A file's content, without the line end.
    File(PathBuf),
    /// What a shell command prints, without the line end.
    Command(String),
}

/// Shows the reference, never the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(…)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Command(_) => f.write_str("Command(…)"),
        }
    }
}

impl Secret {
    /// Whether it stands in the settings in plain words.
    pub fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }

    /// Reads the secret. Errors name the reference.
    pub async fn resolve(&self) -> Result<String, Failure> {
        match self {
            Self::Literal(text) => Ok(text.clone()),
            Self::Env(name) => std::env::var(name).map_err(|_| Failure {
                message: format!("environment variable \"{name}\" is not set"),
                detail: "A secret of connections.yml is taken from it.".to_owned(),
                hint: format!(
                    "export {name}=… where it is read: a running instance has the environment that it was started with."
                ),
            }),
            Self::File(path) => {
                let bytes = tokio::fs::read(path).await.map_err(|error| Failure {
                    message: format!("secret file \"{}\" cannot be read", path.display()),
                    detail: error.to_string(),
                    hint: "Check the path and its rights.".to_owned(),
                })?;
                text(bytes, &format!("secret file \"{}\"", path.display()))
            }
            Self::Command(command) => run(command).await,
        }
    }
}

async fn run(command: &str) -> Result<String, Failure> {
    let failed = |detail: String| Failure {
        message: "the command that tells a secret has failed".to_owned(),
        detail,
        hint: "Run it by hand: it must print the secret and end with 0.".to_owned(),
    };
    let mut process = tokio::process::Command::new("/bin/sh");
    process.arg("-c").arg(command).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(COMMAND_PATIENCE, process.output()).await {
        Err(_) => {
            return Err(failed(format!("It took longer than {} s.", COMMAND_PATIENCE.as_secs())));
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        // Its error output may quote the secret's surroundings, so only the status is shown.
        return Err(failed(format!("It ended with {}.", output.status)));
    }
    text(output.stdout, "the command's output")
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String, Failure> {
    let bad = |detail: &str| Failure {
        message: format!("{what} is no secret"),
        detail: detail.to_owned(),
        hint: "One line of text is expected.".to_owned(),
    };
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(bad("It is longer than 64 KiB."));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("It is no UTF-8."))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
