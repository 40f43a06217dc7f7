//! A stored table as DataFusion reads it: [`provider`] plans a read, [`pushdown`] finds the keys that a condition
//! names, [`split`] shares them among threads, [`exec`] reads them at one step and decodes the columns that are asked
//! for.

mod exec;
mod provider;
pub(crate) mod pushdown;
mod split;

pub(crate) use provider::StoredProvider;
