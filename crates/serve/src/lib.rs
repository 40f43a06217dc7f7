//! Reading Tidemill: the Postgres wire and HTTP.
//!
//! A client connects, sends SQL, and gets the rows of one step. This crate knows the two protocols and nothing of what
//! answers: it stands on [`Reader`], which the application implements over a snapshot of the store.
//!
//! One question, followed from the socket and back:
//!
//! 1. [`bind`] opens the address, [`serve_pg`] accepts and gives every client a task of its own (`pg::accept`).
//! 2. `pg::startup` answers the TLS request, reads user and database, hands out the key for cancelling; [`Door`] says who
//!    may come in, and `pg::login` asks for the password where one is needed.
//! 3. `pg::frame` cuts the bytes into messages and refuses what is none.
//! 4. `sql` cuts a query into statements and says which are the session's own (`BEGIN`, `SET`, `SHOW`, …); the rest is
//!    for the reader.
//! 5. `pg::statement` runs one: the reader's batches become rows while a cancel, a timeout, the shutdown and the
//!    client's leaving are watched.
//! 6. `value` turns a cell into Postgres text, Postgres binary, JSON or CSV, exactly.
//!
//! Over HTTP the same reader answers `POST /sql` (`http`), and says how it is at `/health/*` and `/metrics`. The web page
//! (`http::page`) asks it in SQL too and has the `page` crate make HTML of the rows.
//!
//! What holds: a client that misbehaves, leaves or crashes its query costs itself alone; a statement is one step; money
//! never passes through a float.

#![allow(clippy::let_underscore_must_use, reason = "writing into a String or a buffer that grows cannot fail")]

mod door;
mod http;
mod listen;
pub mod metrics;
mod pg;
mod reader;
mod service;
mod sql;
mod value;

pub use ::page::{Dashboard, Filter, Format, Good, Tile, TileKind};
pub use door::{
    Clock, Door, Event, Happened, KEY_PREFIX, Key, OPERATOR, Tls, TlsError, User, Users, Verifier, VerifierError,
    Witness, generated_password, random_secret,
};
pub use http::page::dashboard::{is_statement, parameterised, unknown_filter};
pub use http::{Antechamber, Starting, serve_http};
pub use listen::{BindError, bind};
pub use pg::{serve_pg, wire_type};
pub use reader::{
    About, Answer, Description, Health, Lane, OnStale, Param, Pin, QueryContext, Reader, Role, SqlError, Warning,
};
pub use service::{Limits, Service, Site};
pub use value::shown::shown;
