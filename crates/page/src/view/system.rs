//! `/system` and `/rejects`: what the process takes, how it is set, what it did last, and what it could not take.

use askama::Template;

use super::{Frame, document};
use crate::grid::Grid;
use crate::{Live, Panel, url};

/// The process.
#[derive(Debug, Clone, Template)]
#[template(path = "system.html")]
pub struct System {
    /// What stands around it.
    pub frame: Frame,
    /// Address of the Postgres wire.
    pub pg: String,
    /// Figures: a name, a key, a text.
    pub figures: Vec<(String, String, String)>,
    /// Settings in force.
    pub settings: Panel<Grid>,
    /// The last steps.
    pub steps: Panel<Grid>,
}

impl System {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves.
    pub fn live(figures: &[(String, String, String)], steps: &Panel<Grid>) -> Live {
        let mut live: Live = figures.iter().map(|(_, key, text)| (format!("t/{key}"), text.clone())).collect();
        if let Ok(steps) = steps {
            live.insert("h/steps".to_owned(), steps.html("Last steps"));
        }
        live
    }

    fn section(&self) -> &'static str {
        "system"
    }

    fn title(&self) -> &'static str {
        "System"
    }

    fn events(&self) -> String {
        "/events/system".to_owned()
    }

    fn host(&self) -> &str {
        self.pg.rsplit_once(':').map_or(&self.pg, |(host, _)| host)
    }

    fn port(&self) -> &str {
        self.pg.rsplit_once(':').map_or("5433", |(_, port)| port)
    }
}

/// Rows that a table or model could not take.
#[derive(Debug, Clone, Template)]
#[template(path = "rejects.html")]
pub struct Rejects {
    /// What stands around it.
    pub frame: Frame,
    /// Only those of this node.
    pub node: String,
    /// How many there are, by node.
    pub counts: Panel<Grid>,
    /// The newest ones.
    pub rejects: Panel<Grid>,
}

impl Rejects {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves. A panel that fails keeps what it showed.
    pub fn live(counts: &Panel<Grid>, rejects: &Panel<Grid>) -> Live {
        let panels = [("h/counts", counts, "Rejects by node"), ("h/rejects", rejects, "Rejected rows")];
        let shown = panels.into_iter().filter_map(|(key, panel, label)| Some((key, panel.as_ref().ok()?.html(label))));
        shown.map(|(key, html)| (key.to_owned(), html)).collect()
    }

    fn section(&self) -> &'static str {
        "rejects"
    }

    fn title(&self) -> &'static str {
        "Rejects"
    }

    fn events(&self) -> String {
        format!("/events/rejects?node={}", url(&self.node))
    }
}
