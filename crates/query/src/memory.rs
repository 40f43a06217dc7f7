//! The memory that queries may use together, and the part of it that one may.
//!
//! Operators ask before they grow. A query that reaches its own limit spills where it can and fails alone where it
//! cannot; the rest of the budget stays for the others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};

use crate::watch::Watch;

/// One query may use this many quarters of what all may.
const QUERY_QUARTERS: usize = 3;

/// What all queries have reserved.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Bytes reserved now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The pool of one query.
    pub(crate) fn query(self: &Arc<Self>, watch: Option<&Arc<Watch>>) -> Arc<dyn MemoryPool> {
        let limit = self.limit / 4 * QUERY_QUARTERS;
        let watch = watch.map(Arc::clone);
        Arc::new(QueryPool { own: FairSpillPool::new(limit), limit, shared: Arc::clone(self), watch })
    }

    fn take(&self, bytes: usize) -> Result<()> {
        let fits = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(|_| ()).map_err(|used| {
            DataFusionError::ResourcesExhausted(format!(
                "{} more are needed, and queries use {} of {} already",
                human_readable_size(bytes),
                human_readable_size(used),
                human_readable_size(self.limit)
            ))
        })
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The reservations of one query: fair among its operators that can spill, and counted in the common budget.
#[derive(Debug)]
struct QueryPool {
    own: FairSpillPool,
    limit: usize,
    shared: Arc<Budget>,
    /// A query that was ended grows no more.
    watch: Option<Arc<Watch>>,
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({} of {})", human_readable_size(self.own.reserved()), human_readable_size(self.limit))
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &'static str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.shared.used.fetch_add(additional, Ordering::Relaxed);
        self.own.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.shared.give_back(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.look())?;
        self.shared.take(additional)?;
        self.own.try_grow(reservation, additional).map_err(|_| {
            self.shared.give_back(additional);
            DataFusionError::ResourcesExhausted(format!(
                "{} needs {} more, and one query may use {}",
                reservation.consumer().name(),
                human_readable_size(additional),
                human_readable_size(self.limit)
            ))
        })
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}
