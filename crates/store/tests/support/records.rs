//! Records of a step as bytes and back, and what damage to them does.

use libtest_mimic::{Failed, Trial};
use relation::{ChunkDone, Position, SourceBatch, TransactionMark};
use store::{Error, Record, Store, TableId, Writes};

use super::Random;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("record/round_trip", round_trip),
        Trial::test("record/damage_is_an_error", damage),
        Trial::test("record/too_large", too_large),
    ]
}

fn record(seed: u64) -> Record {
    let mut random = Random::new(seed);
    let mut record = Record::default();
    for source in 0..random.below(3) {
        let mut batch = SourceBatch { position: Position(format!("binlog.{seed}:{source}")), ..SourceBatch::default() };
        for _ in 0..random.below(20) {
            let row = vec![b'r'; random.index(40)];
            let table = batch.table(TableId(16 + u32::try_from(random.below(3)).unwrap_or(0)));
            table.push(&row, [-2, -1, 1, 2][random.index(4)]);
            table.truncated |= random.below(9) == 0;
            table.by_key |= random.below(3) == 0;
        }
        for _ in 0..random.below(4) {
            batch.transactions.push(TransactionMark {
                commit_time_us: 1_700_000_000_000_000 - i64::try_from(random.below(1_000_000)).unwrap_or(0),
                read_time_us: i64::MIN + i64::try_from(random.below(100)).unwrap_or(0),
                changes: u32::MAX,
            });
        }
        let mut rows = relation::Rows::new();
        rows.push(b"");
        rows.push(b"chunk");
        let mut unread = relation::Rows::new();
        (0..random.below(3)).for_each(|_| unread.push(b"unread"));
        let complete = random.below(2) == 0;
        batch.chunks.push(ChunkDone {
            table: TableId(20),
            cursor: vec![0, 255],
            complete,
            rows,
            unread,
            rows_estimate: u64::MAX,
        });
        record.batches.push((u32::try_from(source).unwrap_or(0), batch));
    }
    record.notes.push(("schema".to_owned(), vec![1, 2, 3]));
    record
}

fn round_trip() -> Result<(), Failed> {
    for seed in 0..300 {
        let record = record(seed);
        let back = Record::decode(&record.encode())?;
        if back != record {
            return Err(format!("{record:?} came back as {back:?}").into());
        }
    }
    Ok(())
}

/// Cut or changed anywhere, a record decodes to an error or to another record, and never panics.
fn damage() -> Result<(), Failed> {
    let bytes = record(7).encode();
    for cut in 0..bytes.len() {
        if Record::decode(&bytes[..cut]).is_ok() {
            return Err(format!("cut at {cut} decodes").into());
        }
    }
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            drop(Record::decode(&damaged));
        }
    }
    let mut longer = bytes;
    longer.push(0);
    if Record::decode(&longer).is_ok() { Err("bytes left over are ignored".into()) } else { Ok(()) }
}

/// A record that the log's format cannot hold, and a value that the tables cannot, are refused before anything is written.
fn too_large() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path(), super::driver::options(&[])?)?;
    // Nobody reads these bytes, so they take no memory.
    let huge = vec![0; (4 << 30) + 5];
    match store.append(1, &huge) {
        Err(e @ Error::RecordTooLarge { bytes: 4_294_967_301, max: 4_294_967_295 }) if e.hint().is_some() => {}
        other => return Err(format!("{other:?}").into()),
    }
    if store.last_logged() != 0 || store.stats().log_segments != 0 {
        return Err("something was written".into());
    }
    let mut mine = Writes::new();
    mine.put(TableId(16), b"key", b"value");
    for (key, bytes) in [(&huge[..3], (1 << 30) + 1), (&huge[..65_532], 0)] {
        let mut writes = Writes::new();
        writes.put(TableId(16), key, &huge[..bytes]);
        if writes.check().is_ok() || mine.try_append(writes).is_ok() {
            return Err(format!("{} bytes of key, {bytes} of value are taken", key.len()).into());
        }
    }
    mine.check()?;
    store.append(1, b"small")?;
    Ok(store.commit(1, mine)?)
}
