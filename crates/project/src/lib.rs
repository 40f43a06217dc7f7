//! A dbt project folder as a value: its models rendered to SQL, its sources and connections, and all that is wrong with it.
//!
//! [`load`] takes [`Files`] (paths and texts; only [`Files::read`] touches a disk) and [`Options`] and gives a [`Project`]
//! with every [`Diagnostic`], each at its file, line and column. It does not know what the SQL means, and nothing is
//! queried: a model's text is a function of the files, the variables and the environment.
//!
//! The way of a model: `load` leads it; `settings` and `profile` say how things are rendered; `properties` and `config` collect what is
//! said about it; `drafts` has `jinja` render it twice, as dbt does; `assemble` has `ephemeral` inline what has no table and
//! `graph` put each model behind what it reads; `source_map` remembers where each byte came from, so that an error in the SQL finds its file.
//!
//! Beside it `docs` has what descriptions refer to, `singular` the tests that are statements of their own, and `unread` says of what a
//! dbt project may have and nobody obeys that it is so.

mod assemble;
mod config;
mod connection;
mod dashboard;
mod data_test;
mod declared;
mod diagnostic;
mod docs;
#[cfg(test)]
mod documented;
mod drafts;
mod ephemeral;
mod files;
mod graph;
mod jinja;
mod load;
mod model;
mod profile;
mod properties;
mod role;
mod settings;
mod singular;
mod source_map;
mod sync;
mod unread;
mod yaml;

pub use connection::{Connection, ConnectionKind, Filter, Pattern, Secret, ShopProfile, SimulatedShop, Start, Tls};
pub use dashboard::{Dashboard, DashboardFilter, DashboardTile, TileFormat, TileGood, TileKind, is_of_dashboards};
pub use diagnostic::{Diagnostic, Place, Severity, closest};
pub use files::Files;
pub use load::{Options, load};
pub use model::{
    Column, DataTest, Dependency, Materialized, Model, Note, Parked, Project, SingularTest, SourceTable, UnreadTable,
};
pub use profile::{BacklogSpec, ListenSpec, Profile, ReconcileSpec, TlsSpec};
pub use role::{Grant, GrantPlace, Marks, Role, marks};
pub use source_map::SourceMap;
pub use sync::{OnLeave, Removals, Sync, SyncPart, is_of_syncs};
