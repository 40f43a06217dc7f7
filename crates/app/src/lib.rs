//! The binary `tidemill`: everything put together.
//!
//! ```text
//! cli ─► setup (project folder → models, sources, settings) ─► warehouse (store, engine, plans)
//!                                                                   ▲ step        │ published
//!        connect sources ─► follow ─► pump (one thread) ────────────┘             ▼
//!                                        │ status, latency ─► system tables ─► reader ─► serve (psql, HTTP)
//! ```
//!
//! One thread, the [`pump`], owns the engine: it takes what has arrived, makes a step of it, and publishes. Readers see
//! what was published last and never wait for it.

mod address;
pub mod ages;
mod atomic;
pub mod audit;
pub mod backlog;
pub mod bench;
mod beside;
pub mod change;
pub mod cli;
pub mod clock;
pub mod column_lineage;
pub mod control;
mod counted;
pub mod dashboards;
pub mod data_tests;
pub mod deep;
pub mod definition;
pub mod delivery;
pub mod demo;
pub mod documentation;
pub mod filters;
pub mod follow;
pub mod grants;
pub mod history;
pub mod hold;
pub mod instance;
pub mod known;
pub mod latency;
pub mod metrics;
pub mod opening;
pub mod output;
pub mod process;
pub mod pump;
pub mod reader;
pub mod reason;
pub mod recent;
pub mod reconcile;
pub mod rejected;
pub mod select;
pub mod setup;
pub mod shop_database;
pub mod source_status;
pub mod sources;
pub mod stale;
pub mod starter;
pub mod status;
pub mod system_tables;
pub mod unique_key;
pub mod users;
pub mod views;
pub mod warehouse;
