//! Messages as they leave: rows with what the end of their transaction tells, and the records of Kafka.

use super::follow::Settings;
use super::transaction::RowsOf;
use super::value::write_unsigned;

/// Messages, one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    /// Keys and topics of records, one behind the other.
    pub(crate) names: Vec<u8>,
    /// One for each message, where places are known by keys.
    pub(crate) records: Vec<Record>,
}

/// Where a message and its names end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Behind the message's line end.
    pub(crate) message: usize,
    pub(crate) key: usize,
    pub(crate) topic: usize,
    pub(crate) hash: i32,
}

impl Output {
    /// The message that was written last is this record.
    pub(crate) fn record(&mut self, key: &[u8], topic: &[u8], hash: i32) {
        self.names.extend_from_slice(key);
        let end = self.names.len();
        self.names.extend_from_slice(topic);
        self.records.push(Record { message: self.bytes.len(), key: end, topic: self.names.len(), hash });
    }
}

/// Writes the rows of one transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    settings: &'a Settings,
    xid: Option<u64>,
    count: u64,
}

impl<'a> Writer<'a> {
    /// Of a transaction with this number and so many rows.
    pub(crate) fn new(settings: &'a Settings, xid: Option<u64>, count: u64) -> Self {
        Self { settings, xid, count }
    }

    /// Writes rows, the first of which is the one with this index. Answers how many.
    pub(crate) fn rows(&self, rows: &[u8], index: &mut u64, out: &mut Output) -> u64 {
        let options = &self.settings.options;
        let first = *index;
        let by_transaction = self.settings.routing.as_ref().filter(|routing| routing.is_by_transaction());
        let hash = by_transaction.map(|routing| routing.hash_of_transaction(self.xid));
        for row in (RowsOf { rest: rows }) {
            out.bytes.extend_from_slice(row.head);
            if options.commit_info {
                if let Some(xid) = self.xid {
                    out.bytes.extend_from_slice(b",\"xid\":");
                    write_unsigned(xid, &mut out.bytes);
                }
                if *index + 1 == self.count {
                    out.bytes.extend_from_slice(b",\"commit\":true");
                } else if options.xoffset {
                    out.bytes.extend_from_slice(b",\"xoffset\":");
                    write_unsigned(*index, &mut out.bytes);
                }
            }
            out.bytes.extend_from_slice(row.tail);
            out.bytes.push(b'\n');
            *index += 1;
            if self.settings.routing.is_some() {
                out.record(row.key, row.topic, hash.unwrap_or(row.hash));
            }
        }
        *index - first
    }
}
