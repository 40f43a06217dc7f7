//! Avro: schemas as their writers registered them, the bytes of a value to JSON text, and back to bytes.
//!
//! ```text
//!   text of a schema ──► Schema: nodes that name one another by number
//!   bytes, by the writer's Schema ──► decode ──► the text of a JSON document         encode: the primitives that a row is written in
//! ```
//!
//! - **The writer's schema is the only one.** Columns are found by their fields' names, so nothing is resolved against a second one.
//! - **Hostile bytes cost what they weigh.** A value is at most [`decode::DEPTH_MAX`] deep and its document at most [`decode::DOCUMENT_BYTES_MAX`] long,
//!   whatever counts the bytes claim; bytes that end too early, or have more behind the value, are no value.
//! - **Digits stay.** A decimal is written with all of them, never as a float.
//!
//! Why no library: what Debezium says of its numbers stands beside primitive types (`connect.name`), which `apache-avro` drops when it
//! reads a schema; it takes a text or a union that is cut off for NULL, and follows a value into any depth, which ends the process.

mod decode;
mod encode;
mod schema;

pub(crate) use decode::decode;
pub(crate) use encode::{push_bytes, push_int, push_long, push_text, unscaled};
pub(crate) use schema::{Kind, Node, Schema, is_name};

/// The parts of a message in the wire format of schema registries: the schema's number, and the bytes behind it. None: it is none.
pub(crate) fn framed(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (magic, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk::<4>()?;
    (*magic == MAGIC).then(|| (u32::from_be_bytes(*id), rest))
}

/// What a message in that format begins with.
pub(crate) fn push_frame(out: &mut Vec<u8>, id: u32) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}

const MAGIC: u8 = 0;
