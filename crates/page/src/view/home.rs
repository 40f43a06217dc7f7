//! `/`: the asset graph, and the same as a list: that is what a phone shows.

use askama::Template;

use super::{Frame, document};
use crate::graph::{Graph, Node};
use crate::{Live, Panel, url};

/// The asset graph.
#[derive(Debug, Clone, Template)]
#[template(path = "home.html")]
pub struct Home {
    /// What stands around it.
    pub frame: Frame,
    /// Everything there is.
    pub graph: Panel<Graph>,
    /// What the address asks for: `schema.name`, or a name alone.
    pub pick: Option<String>,
    /// Edges up and down that are shown of a pick.
    pub hops: usize,
}

impl Home {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves.
    pub fn live(graph: &Graph) -> Live {
        graph.live()
    }

    fn section(&self) -> &'static str {
        "graph"
    }

    fn events(&self) -> String {
        "/events/graph".to_owned()
    }

    fn title(&self) -> String {
        self.picked().map_or_else(|| "Graph".to_owned(), |node| node.id.clone())
    }

    fn picked(&self) -> Option<&Node> {
        self.graph.as_ref().ok()?.find(self.pick.as_deref()?)
    }

    /// A pick that names nothing.
    fn missed(&self) -> Option<&str> {
        let pick = self.pick.as_deref()?;
        self.picked().is_none().then_some(pick)
    }

    fn svg(&self, graph: &Graph) -> String {
        graph.svg(self.picked().map(|node| node.id.as_str()))
    }

    fn shown(&self, graph: &Graph) -> Graph {
        graph.shown(self.pick.as_deref(), self.hops)
    }

    fn found_text(&self, all: &Graph) -> String {
        let (shown, of) = (self.shown(all).nodes.len(), all.nodes.len());
        let nodes = if of == 1 { "node" } else { "nodes" };
        match (shown == of, self.picked().is_some()) {
            (true, _) => format!("{of} {nodes}"),
            (false, true) => format!("{shown} of {of} {nodes}"),
            (false, false) => format!("{shown} of {of} {nodes}: what is next to the sources"),
        }
    }

    fn hops_href(&self, hops: &usize) -> String {
        format!("/?node={}&hops={hops}", url(self.pick.as_deref().unwrap_or_default()))
    }
}
