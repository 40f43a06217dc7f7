//! One type a page: what was read as fields, the document as `html`, what moves as `live`.

mod console;
mod dashboards;
mod home;
mod login;
mod node;
mod sources;
mod syncs;
mod system;
mod trace;

pub use console::Console;
pub use dashboards::{Answered, DashboardList, DashboardPage, Drill, FilterChoice, Stale};
pub use home::Home;
pub use login::Login;
pub use node::{LatencyRow, NodeColumn, NodePage, NodeTest, Origin, newest_first};
pub use sources::{Source, SourcePage, SourceTable, Sources};
pub use syncs::{Sync, SyncList, SyncPage, system_of};
pub use system::{Rejects, System};
pub use trace::{Touch, Trace, TraceStep};

use askama::Template;

use crate::graph::Tone;
use crate::{Live, Trouble, asset};

/// What stands around every page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Name of the project.
    pub project: String,
    /// Version of Tidemill.
    pub version: String,
    /// How the process is: `starting`, `ready`, `waiting`, or `degraded` where something of it is not as it should be.
    pub state: String,
    /// What is not; empty where all is well.
    pub message: String,
    /// Whether whoever looks has logged in, and so can log out.
    pub asks_passwords: bool,
}

impl Frame {
    /// The address of an asset.
    fn asset(&self, name: &str) -> String {
        asset::href(name)
    }

    fn tone(&self) -> &'static str {
        Tone::of(&self.state).word()
    }

    /// What moves of it, on every page.
    pub fn live(&self) -> Live {
        let state = format!("{} {}", self.tone(), self.state);
        [("s//state".to_owned(), state), ("t//message".to_owned(), self.message.clone())].into()
    }
}

/// A command that a person may give, to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    text: String,
    /// What it does.
    does: &'static str,
}

impl Command {
    fn new(text: impl Into<String>, does: &'static str) -> Self {
        Self { text: text.into(), does }
    }
}

/// A value's text, or a dash where there is none.
fn dash<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

/// A page that says why there is nothing else.
#[derive(Debug, Clone, Template)]
#[template(path = "trouble.html")]
pub struct TroublePage {
    /// What stands around it.
    pub frame: Frame,
    /// The heading.
    pub heading: String,
    /// What went wrong.
    pub trouble: Trouble,
}

impl TroublePage {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    fn section(&self) -> &'static str {
        ""
    }

    fn title(&self) -> &str {
        &self.heading
    }

    fn events(&self) -> String {
        String::new()
    }
}

/// A template as text; templates of this crate write into memory, so that an error is a fault of ours.
fn document(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        format!("<!doctype html><title>Tidemill</title><p>{}</p>", crate::escape(&error.to_string()))
    })
}
