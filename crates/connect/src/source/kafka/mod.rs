//! Kafka: tables out of the messages of topics, with the offsets in the same commit as the rows.
//!
//! ```text
//!   meta, columns ──► declared: a table of a topic          (columns that are not declared ──► told: those of a registry's schema)
//!   bytes ──► json ──► message/{maxwell,debezium,canal,plain}: what becomes of rows ──► value: by the columns' types
//!          └► shelf: by a registry's schema (Avro), a document like those
//!   run: readers ──► lanes: how far each table is, and whether its topic leads on ──► batch ──► SourceEvent
//!                      ▲                     position: the same as text
//!        reader, ear: a client, how far it has fetched, and what it could not read
//!        ask: what topics there are, where they begin and end          doctor: the same as questions before the start
//! ```
//!
//! - **Offsets are ours.** No group is joined and nothing is committed to the brokers: a batch carries the offsets behind it, and
//!   whoever takes it keeps both or neither.
//! - **A key's last message is its row.** What was there before is not told, so a table with a key is told by key
//!   ([`relation::TableChanges::by_key`]); one without takes each message as a row more.
//! - **The order is a partition's.** Each message is a transaction of its own: rows that were changed together at their source may be
//!   in several partitions, and that is not undone. Of transactions of Kafka only what was committed is read.
//! - **What does not lead on is said.** A topic that has dropped what is next, was emptied or made anew stalls the tables that
//!   read it and no others, until a person has them read anew.
//! - **Poison is data.** A message that cannot be read is a reject with its topic, partition and offset; the rest flows.

mod ask;
mod batch;
mod declared;
mod doctor;
mod ear;
mod json;
mod kind;
mod lanes;
mod logical;
mod message;
mod position;
mod reader;
mod run;
mod shelf;
#[doc(hidden)]
pub mod testing;
mod told;
mod value;

pub use kind::Kind;
