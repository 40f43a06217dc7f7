//! The tables on disk: one fjall keyspace, written by nothing but sorted ingestions.
//!
//! What was learnt about fjall 3.1 the hard way, and holds here:
//!
//! - every ingestion carries `folded_step`, and nothing is ever written to the keyspace in another way: an ordinary
//!   insert, then an ingested tombstone, then a compaction brought deleted keys back;
//! - keys of an ingestion rise strictly, or it panics;
//! - `persist(SyncAll)` comes before an ingestion: it is what notices a poisoned database, ingestion does not;
//! - an error of an ingestion is final until the database is reopened, and an abandoned one leaves a file behind until then;
//! - nothing throttles ingestion, and each starts one round of compaction at most: the fold asks for more itself;
//! - `expect_point_read_hits` would leave ingested tables without a bloom filter.
//!
//! A dropped table has no range delete: its number is remembered as dead, files that hold nothing else are dropped at
//! once, compaction filters the rest away, and the memory of it goes when nothing is left.

use std::collections::BTreeSet;
use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fjall::compaction::Leveled;
use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::config::{HashRatioPolicy, PinningPolicy};
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use relation::TableId;

use crate::base::{Base, DEAD, FOLDED_STEP, Prefixed, Tables, after};
use crate::cursor::{Cursor, Merge};
use crate::part::Part;
use crate::{Error, META, Result, lock};

/// Name of the one keyspace.
const KEYSPACE: &str = "entries";

/// The open tables.
pub(crate) struct Disk {
    path: PathBuf,
    cache_bytes: u64,
    handles: Mutex<Option<Handles>>,
    purge: Arc<Purge>,
}

#[derive(Clone)]
struct Handles {
    database: Database,
    keyspace: Keyspace,
}

/// What one ingestion writes.
pub(crate) struct Fold<'a> {
    /// The step that the tables stand at afterwards.
    pub(crate) step: u64,
    /// Parts by table, each table's oldest first.
    pub(crate) tables: &'a [(TableId, Vec<Arc<Part>>)],
    /// Dead tables of which nothing is left.
    pub(crate) forget: &'a BTreeSet<TableId>,
}

impl Disk {
    /// Opens or creates the tables.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let disk = Self {
            path: path.to_owned(),
            cache_bytes,
            handles: Mutex::new(None),
            purge: Arc::new(Purge { tables: RwLock::default() }),
        };
        *lock(&disk.handles) = Some(disk.open_handles()?);
        Ok(disk)
    }

    fn open_handles(&self) -> Result<Handles> {
        let purge = Arc::clone(&self.purge);
        let builder = Database::builder(&self.path)
            .cache_size(self.cache_bytes)
            .worker_threads(1)
            .manual_journal_persist(true)
            .with_compaction_filter_factories(Arc::new(move |name| {
                (name == KEYSPACE).then(|| Arc::new(PurgeFactory(Arc::clone(&purge))) as Arc<dyn Factory>)
            }));
        let database = builder.open().map_err(Error::tables("open"))?;
        let options = || {
            // Every ingestion touches all tables, so level 0 is merged with the whole of level 1: twice as seldom as is the
            // default, with a level 1 of the same size.
            KeyspaceCreateOptions::default()
                .data_block_hash_ratio_policy(HashRatioPolicy::all(1.33))
                .index_block_pinning_policy(PinningPolicy::all(true))
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(8).with_table_target_size(32 << 20)))
        };
        let keyspace = database.keyspace(KEYSPACE, options).map_err(Error::tables("open"))?;
        Ok(Handles { database, keyspace })
    }

    fn handles(&self) -> Result<Handles> {
        lock(&self.handles).clone().ok_or(Error::TablesClosed)
    }

    /// The tables as they are now.
    pub(crate) fn tables(&self) -> Result<Tables> {
        let Handles { database, keyspace } = self.handles()?;
        Ok(Tables { snapshot: database.snapshot(), keyspace })
    }

    /// Closes everything. The caller has taken the handles out of every [`Base`] before.
    pub(crate) fn close(&self) {
        *lock(&self.handles) = None;
    }

    /// Opens the tables again after [`Disk::close`].
    pub(crate) fn reopen(&self) -> Result<()> {
        let handles = self.open_handles()?;
        *lock(&self.handles) = Some(handles);
        Ok(())
    }

    /// Writes a fold: all of it is durable when this returns, or none of it. The number of entries written.
    pub(crate) fn ingest(&self, fold: &Fold<'_>, stop: &AtomicBool) -> Result<u64> {
        let Handles { database, keyspace } = self.handles()?;
        database.persist(PersistMode::SyncAll).map_err(Error::tables("sync"))?;
        let failed = Error::tables("fold into");
        let mut out = keyspace.start_ingestion().map_err(&failed)?;
        for (dead, is_new) in self.markers(fold) {
            let key = Prefixed::new(META, &[DEAD, &dead.0.to_be_bytes()].concat());
            if is_new { out.write(key.bytes(), []) } else { out.write_tombstone(key.bytes()) }.map_err(&failed)?;
        }
        out.write(Prefixed::new(META, FOLDED_STEP).bytes(), fold.step.to_be_bytes()).map_err(&failed)?;
        let mut entries = 1;
        let mut key = Vec::new();
        for (table, parts) in fold.tables {
            key.clear();
            key.extend_from_slice(&table.0.to_be_bytes());
            let cursors = parts.iter().enumerate().filter_map(|(age, part)| Cursor::whole(part, age));
            let mut merge = Merge::forward(cursors.collect());
            while let Some((part, i)) = merge.next() {
                key.truncate(4);
                key.extend_from_slice(part.key(i));
                match part.value(i) {
                    Some(value) => out.write(&*key, value),
                    None => out.write_tombstone(&*key),
                }
                .map_err(&failed)?;
                entries += 1;
                if entries % 4096 == 0 && stop.load(Ordering::Relaxed) {
                    return Err(Error::Closed);
                }
            }
        }
        out.finish().map_err(&failed)?;
        Ok(entries)
    }

    /// Tables that this fold kills, and those it forgets, in key order.
    fn markers(&self, fold: &Fold<'_>) -> Vec<(TableId, bool)> {
        let dropped = fold.tables.iter().filter(|(_, parts)| parts.iter().any(|p| p.is_dropped()));
        let new = dropped.map(|(table, _)| (*table, true));
        let mut all: Vec<_> = new.chain(fold.forget.iter().map(|table| (*table, false))).collect();
        all.sort_unstable();
        all.dedup_by_key(|(table, _)| *table);
        all
    }

    /// Number of tables in level 0, where each ingestion adds one or more.
    pub(crate) fn level0_tables(&self) -> usize {
        self.handles().map_or(0, |h| h.keyspace.l0_table_count())
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.handles().map_or(0, |h| h.keyspace.disk_space())
    }

    /// One round of compaction on the caller's thread; whether it changed anything.
    pub(crate) fn compact_once(&self) -> Result<bool> {
        let Handles { database, keyspace } = self.handles()?;
        let before = keyspace.tree.current_version().id();
        let watermark = database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        let strategy = Arc::clone(&keyspace.config.compaction_strategy);
        let compacted = keyspace.tree.compact(strategy, watermark);
        compacted.map_err(|e| Error::tables("compact")(e.into()))?;
        Ok(keyspace.tree.current_version().id() != before)
    }

    /// Whether a compaction is under way in fjall's own threads.
    pub(crate) fn is_compacting(&self) -> bool {
        self.handles().is_ok_and(|h| h.database.active_compactions() > 0)
    }

    /// Merges everything into the last level.
    pub(crate) fn compact_all(&self) -> Result<()> {
        self.handles()?.keyspace.major_compact().map_err(Error::tables("compact"))
    }

    /// No reader sees these dropped tables any more: their entries may go.
    pub(crate) fn purge(&self, dead: &[TableId]) -> Result<()> {
        let keyspace = self.handles()?.keyspace;
        for table in dead {
            let first = Prefixed::new(*table, &[]);
            let end = after(*table);
            let range = (std::ops::Bound::Included(first.bytes()), end.as_ref().map(Prefixed::bytes));
            let dropped = keyspace.tree.drop_range::<&[u8], _>(range);
            dropped.map_err(|e| Error::tables("drop a table of")(e.into()))?;
        }
        self.purge.tables.write().unwrap_or_else(PoisonError::into_inner).extend(dead);
        Ok(())
    }

    /// Nothing is left of these: compaction need not look for them any more.
    pub(crate) fn forget(&self, dead: &BTreeSet<TableId>) {
        self.purge.tables.write().unwrap_or_else(PoisonError::into_inner).retain(|table| !dead.contains(table));
    }

    /// Dropped tables whose entries may go.
    pub(crate) fn purged(&self) -> BTreeSet<TableId> {
        self.purge.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tables as they are now, as a base.
    pub(crate) fn base(&self) -> Result<Base> {
        Base::new(self.tables()?)
    }
}

/// Dropped tables that no reader sees any more.
#[derive(Debug)]
struct Purge {
    tables: RwLock<BTreeSet<TableId>>,
}

struct PurgeFactory(Arc<Purge>);

impl RefUnwindSafe for PurgeFactory {}

impl Factory for PurgeFactory {
    fn name(&self) -> &str {
        "dropped tables"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let tables = self.0.tables.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(PurgeFilter(tables.iter().map(|table| table.0.to_be_bytes()).collect()))
    }
}

/// Prefixes of the tables to be removed, sorted.
struct PurgeFilter(Vec<[u8; 4]>);

impl CompactionFilter for PurgeFilter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let prefix = item.key().first_chunk::<4>();
        let dead = prefix.is_some_and(|prefix| self.0.binary_search(prefix).is_ok());
        // No tombstone is needed: nobody reads a dead table, so an older version may show through.
        Ok(if dead { Verdict::Destroy } else { Verdict::Keep })
    }
}
