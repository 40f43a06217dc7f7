//! What the engine asks of an operator, whatever it computes.
//!
//! One law for all: a rule reads states as they were before the step and answers with its output delta and the absolute
//! values to write. Nothing reads what its own step writes, so the order of writes within a step does not matter, the
//! shards of a large delta are independent, and a step is repeated after a crash with the same result. A rule moves no
//! fact and remembers nothing: that a step failed is seen before anything of it is kept.
//!
//! An operator is one file with one `impl Rule`, and one line in [`super::compile`].

use std::sync::Arc;

use relation::{Delta, TableId};
use store::Writes;

use super::States;
use crate::arrange::Side;
use crate::build::Builder;
use crate::error::Result;
use crate::expr::MapProgram;
use crate::graph::{Graph, Node, NodeIndex, Surroundings};
use crate::network::{Network, Scope};
use crate::pour::Portion;
use crate::rejects::Rejected;
use crate::step::RelationReport;

/// What a rule answers.
pub(crate) struct Ruled {
    pub(crate) delta: Delta,
    /// Rows that it could not take, with their weights.
    pub(crate) rejected: Rejected,
    /// What changed in the relation that it keeps.
    pub(crate) relation: Option<RelationReport>,
}

impl From<Delta> for Ruled {
    fn from(delta: Delta) -> Self {
        Self { delta, rejected: Rejected::none(), relation: None }
    }
}

/// What a rule may look at.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) network: &'a Network,
    pub(crate) states: States<'a>,
    /// Which states are to be kept.
    pub(crate) scope: Scope<'a>,
}

/// The deltas of a node's inputs: none where one did not change.
pub(crate) type Inputs<'a> = [Option<&'a Delta>];

/// An operator, compiled.
pub(crate) trait Rule: Send + Sync {
    /// What it is, in a word.
    fn word(&self) -> &'static str;

    /// The delta rule. It is asked only when some input changed.
    fn apply(&self, node: &Node, inputs: &Inputs<'_>, around: Around<'_>, writes: &mut Writes) -> Result<Ruled>;

    /// The states of its own, which a build fills.
    fn states(&self) -> Vec<TableId> {
        Vec::new()
    }

    /// Whether its states are buckets ([`crate::buckets`]).
    fn is_in_buckets(&self) -> bool {
        false
    }

    /// Fills the states of its own out of the rows of its inputs.
    fn build(&self, _at: NodeIndex, _node: &Node, _builder: &mut Builder) -> Result<()> {
        Ok(())
    }

    /// Hands over all its rows, out of what is kept below it or of its own states.
    fn pour(&self, at: NodeIndex, _node: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        builder.pour_query(at, each)
    }

    /// Whether it has to run although nobody reads it: it keeps something.
    fn keeps(&self) -> bool {
        false
    }

    /// Whether there are rows that it may not be able to take.
    fn rejects_rows(&self) -> bool {
        false
    }

    /// Relation and columns, if it is a stored relation.
    fn table(&self) -> Option<(TableId, &[usize])> {
        None
    }

    /// The program, if it maps rows one by one.
    fn map(&self) -> Option<&Arc<MapProgram>> {
        None
    }

    /// The number of the model, if it keeps one.
    fn sink(&self) -> Option<usize> {
        None
    }

    /// How these columns of its output must be ordered to be a key by which one read finds its row; none where they are
    /// no such key.
    fn point_key(&self, _graph: &Graph, _node: &Node, _columns: &[usize], _around: &Surroundings<'_>) -> PointKey {
        PointKey::None
    }

    /// How its rows are found by these columns of its output; none where nothing that is kept has them for a key.
    fn lookup(
        &self,
        _graph: &mut Graph,
        _at: NodeIndex,
        _columns: &[usize],
        _maps: Vec<Arc<MapProgram>>,
        _around: &mut Surroundings<'_>,
    ) -> Option<Side> {
        None
    }
}

/// By what one read finds a row.
pub(crate) enum PointKey {
    None,
    /// The columns of the key, in its order.
    Columns(Vec<usize>),
    /// As these columns of an input are.
    Of(NodeIndex, Vec<usize>),
}
