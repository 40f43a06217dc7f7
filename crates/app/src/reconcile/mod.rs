//! What is kept against what it should be: models against the batch engine ([`models`]), tables against their source
//! ([`source`]).

pub mod models;
pub mod source;
mod sums;
