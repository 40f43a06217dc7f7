//! What can go wrong while keeping models true.

use plan::TableName;

/// Errors of the engine, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed: stop, nothing of this step is visible.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A value or an encoding failed: park what touches it.
    #[error(transparent)]
    Relation(#[from] relation::Error),
    /// A batch query failed: the build fails, the rest runs on.
    #[error("{0}")]
    Query(String),
    /// A build was told to end.
    #[error("the build was given up")]
    Cancelled,
    /// What changed while a build was running cannot be caught up with: it begins again.
    #[error("too much has changed while it was being built; it is begun again")]
    CannotCatchUp,
    /// DataFusion refused an expression that the planner let through.
    #[error("cannot compile the expression {expression}: {reason}")]
    Expression { expression: String, reason: String },
    /// A state contradicts its input: a bug, or a damaged state. Park the node and rebuild it.
    #[error("state of {node} contradicts its input: {what}")]
    Broken { node: String, what: &'static str },
    /// A change comes to more than one step may hold: park what would make it, and build that beside the steps.
    #[error("{0}")]
    TooMuch(String),
    /// A model reads something that is not there.
    #[error("model {model} reads {table}, which is neither a table nor a model")]
    MissingInput { model: TableName, table: TableName },
    /// An Arrow kernel failed on data that was checked before: a bug.
    #[error("columns do not fit: {0}")]
    Columns(#[from] arrow::error::ArrowError),
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;
