//! Laws of the assembler, on random logs: however the log's bytes are cut into reads, wherever the connection is lost,
//! and however small the limits are, the transactions are the same; and batches are cut at their borders, or are parts.

use std::collections::BTreeMap;

use connect::Limits;
use connect::source::mysql::testing::{Replay, Stream};
use connect::source::mysql::{Load, decode};
use libtest_mimic::{Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use relation::{Layout, SourceBatch};

use super::fake::{FILE, HEAD, Log, packet};
use super::table;

/// The changes of a transaction: rows by table.
pub(crate) type Changes = BTreeMap<u32, Vec<(i8, String)>>;

/// A transaction to be logged.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    /// Each is an event: its table (orders or bag) and how many rows of which kind.
    pub(crate) events: Vec<(bool, u8, usize)>,
    /// All its events are inside one, compressed.
    pub(crate) zipped: bool,
    pub(crate) rolled_back: bool,
}

/// A script and what must come out of it, transaction by transaction. Keys count up, so that no two rows are equal.
pub(crate) fn scripted(transactions: &[Transaction]) -> (Vec<String>, Vec<Changes>) {
    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    let mut key = 0_i64;
    for (number, transaction) in transactions.iter().enumerate() {
        lines.push(format!("anonymous {}", number + 1));
        let mut inside = vec!["begin".to_owned()];
        let mut changes = Changes::new();
        for &(in_bag, kind, rows) in &transaction.events {
            let (id, name) = if in_bag { (71, "bag") } else { (70, "orders") };
            inside.push(format!("map {id} shop.{name}"));
            let of_table = changes.entry(u32::from(in_bag)).or_default();
            let mut words = Vec::new();
            for _ in 0..rows {
                key += 1;
                let (old, new) = (format!("{key},old"), format!("{key},new"));
                match kind % 3 {
                    0 => of_table.push((1, new.clone())),
                    1 => of_table.push((-1, old.clone())),
                    _ => of_table.extend([(-1, old.clone()), (1, new.clone())]),
                }
                words.push(match kind % 3 {
                    0 => new,
                    1 => old,
                    _ => format!("{old}=>{new}"),
                });
            }
            let verb = ["insert", "delete", "update"][usize::from(kind % 3)];
            inside.push(format!("{verb} {id} {}", words.join(" ")));
        }
        let end = if transaction.rolled_back { "query ROLLBACK" } else { "xid" };
        inside.push(end.to_owned());
        match transaction.zipped {
            true => lines.push(format!("zipped {}", inside.join("; "))),
            false => lines.extend(inside),
        }
        changes.retain(|_, rows| !rows.is_empty());
        if !transaction.rolled_back && !changes.is_empty() {
            expected.push(changes);
        }
    }
    (lines, expected)
}

/// Puts batches together again and compares them with what was logged. Whoever receives them does the same.
pub(crate) struct Receiver<'a> {
    expected: &'a [Changes],
    layout: Layout,
    parts: Changes,
    /// The number of the last part, while more are to come.
    part: u32,
    pub(crate) received: usize,
    pub(crate) parted: usize,
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(expected: &'a [Changes]) -> Self {
        let schema = decode::relation_schema(&super::columns(true)).expect("the test's columns are plain");
        let layout = Layout::new(schema.types());
        Self { expected, layout, parts: Changes::new(), part: 0, received: 0, parted: 0 }
    }

    pub(crate) fn take(&mut self, batch: &SourceBatch) -> Result<(), String> {
        let mut rows = match batch.part {
            Some(part) if part.number != 1 && part.number != self.part + 1 => {
                return Err(format!("part {} after part {}", part.number, self.part));
            }
            Some(part) if part.number > 1 => std::mem::take(&mut self.parts),
            // What an unfinished transaction had sent is void.
            _ => Changes::new(),
        };
        self.part = 0;
        for (table, changes) in &batch.tables {
            let of_table = rows.entry(table.0).or_default();
            for (row, weight) in changes.rows.iter().zip(&changes.weights) {
                let values: Vec<_> = self.layout.values(row).iter().map(ToString::to_string).collect();
                of_table.push((*weight, values.join(",")));
            }
        }
        let is_open = batch.part.is_some_and(|part| !part.is_last);
        if is_open != batch.position.0.is_empty() {
            return Err(format!("{:?} with position \"{}\"", batch.part, batch.position));
        }
        if let (true, Some(part)) = (is_open, batch.part) {
            if !batch.transactions.is_empty() || !batch.chunks.is_empty() {
                return Err("a part with more than its rows".to_owned());
            }
            (self.parts, self.part) = (rows, part.number);
            return Ok(());
        }
        let count = batch.transactions.len();
        if batch.part.is_some() {
            self.parted += 1;
            if count != 1 {
                return Err(format!("a last part with {count} transactions"));
            }
        }
        let wanted =
            self.expected.get(self.received..self.received + count).ok_or("more transactions than were logged")?;
        let mut joined = Changes::new();
        for (table, rows) in wanted.iter().flatten() {
            joined.entry(*table).or_default().extend_from_slice(rows);
        }
        self.received += count;
        if rows != joined {
            return Err(format!("transactions up to {}: {rows:?}, logged were {joined:?}", self.received));
        }
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.received == self.expected.len()
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("splits/any_cut_gives_the_same_transactions", any_cut),
        Trial::test("splits/packets_of_16_mib_are_joined", large_packets),
    ]
}

pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    let event = (any::<bool>(), 0_u8..3, prop_oneof![4 => 0_usize..4, 1 => 4_usize..40]);
    (prop::collection::vec(event, 0..8), prop::bool::weighted(0.3), prop::bool::weighted(0.1))
        .prop_map(|(events, zipped, rolled_back)| Transaction { events, zipped, rolled_back })
}

/// How the bytes come: pieces, in turn, and after how many bytes the connection is lost.
#[derive(Debug, Clone)]
struct Arrival {
    pieces: Vec<usize>,
    lost: Vec<usize>,
    rows_max: usize,
    bytes_max: usize,
    /// A batch is taken after every so many pieces, as a receiver with room would.
    taken: usize,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let piece = prop_oneof![3 => 1_usize..60, 1 => 60_usize..5_000];
    let lost = prop::collection::vec(1_usize..6_000, 0..3);
    (prop::collection::vec(piece, 1..12), lost, 1_usize..9, prop_oneof![1_usize..400, Just(1 << 20)], 1_usize..30)
        .prop_map(|(pieces, lost, rows_max, bytes_max, taken)| Arrival { pieces, lost, rows_max, bytes_max, taken })
}

fn any_cut() -> Result<(), Failed> {
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let parted = std::cell::Cell::new(0);
    let wanted = (prop::collection::vec(transaction(), 1..12), arrival());
    runner
        .run(&wanted, |(transactions, arrival)| {
            let checked = runtime.block_on(check(&transactions, &arrival));
            parted.set(parted.get() + checked.map_err(TestCaseError::fail)?);
            Ok(())
        })
        .map_err(|e| e.to_string())?;
    let parted = parted.get();
    if parted < 100 { Err(format!("only {parted} transactions came in parts").into()) } else { Ok(()) }
}

/// Plays a log; answers how many transactions came in parts.
async fn check(transactions: &[Transaction], arrival: &Arrival) -> Result<usize, String> {
    let (lines, expected) = scripted(transactions);
    let log = Log::of(&lines)?;
    let tables = vec![table(0, "orders", true, Load::Complete), table(1, "bag", false, Load::Complete)];
    let (rows_max, bytes_max) = (arrival.rows_max, arrival.bytes_max);
    let limits = Limits { transactions_max: rows_max, rows_max, bytes_max, queue: 1 };
    let mut replay = Replay::with_limits(tables, &format!("{FILE}:{HEAD}"), limits)?;
    let mut receiver = Receiver::new(&expected);
    let mut pieces = arrival.pieces.iter().cycle();
    let mut untaken = 0;
    let lost = arrival.lost.iter().copied().map(Some).chain([None]);
    for lost in lost {
        let position = replay.position();
        let offset = position.rsplit_once(':').and_then(|(_, offset)| offset.parse().ok()).ok_or("no offset")?;
        let mut bytes = &log.stream_from(offset)[..];
        bytes = &bytes[..bytes.len().min(lost.unwrap_or(usize::MAX))];
        let mut stream = Stream::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((*pieces.next().unwrap_or(&1)).min(bytes.len()));
            bytes = rest;
            stream.bring(piece).await?;
            for batch in replay.walk(&mut stream)? {
                receiver.take(&batch)?;
            }
            untaken += 1;
            if untaken % arrival.taken == 0 && replay.is_ready() {
                receiver.take(&replay.take())?;
            }
        }
        if lost.is_some() {
            replay.abandon();
        }
    }
    while replay.is_ready() {
        receiver.take(&replay.take())?;
    }
    match receiver.is_done() {
        true => Ok(receiver.parted),
        false => Err(format!("{} of {} transactions", receiver.received, expected.len())),
    }
}

/// A packet of 16 MiB and more comes in parts of the protocol, whatever stands before and behind it, and may be given
/// once more.
fn large_packets() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    const PART: usize = 0xff_ff_ff;
    let lengths = [3, PART - 1, PART, 5, PART + 1, 2 * PART, 2 * PART + 77, 0, 9];
    let content = |length: usize| (0..length).map(|i| (i % 251).to_le_bytes()[0] ^ length.to_le_bytes()[0]).collect();
    runtime.block_on(async {
        let mut bytes = Vec::new();
        let mut sequence = 0;
        for length in lengths {
            let payload: Vec<u8> = content(length);
            packet(&mut bytes, &mut sequence, &payload);
        }
        let mut stream = Stream::new();
        let mut found: Vec<Vec<u8>> = Vec::new();
        for piece in bytes.chunks(3_000_001) {
            // The last one is asked for once more while the next bytes come.
            found.last().into_iter().for_each(|_| stream.unread());
            stream.bring(piece).await?;
            if !found.is_empty() && stream.packet()?.as_ref() != found.last() {
                return Err("given once more, it is another".to_owned());
            }
            while let Some(packet) = stream.packet()? {
                found.push(packet);
            }
        }
        let wanted: Vec<Vec<u8>> = lengths.into_iter().map(content).collect();
        if found == wanted { Ok(()) } else { Err("the packets are not those that were sent".to_owned()) }
    })?;
    Ok(())
}
