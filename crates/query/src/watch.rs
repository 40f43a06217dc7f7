//! What ends a query before its time, looked at by every part of it.
//!
//! Law: between two looks at a query's [`Watch`] none of its parts works longer than on one batch of rows, one block of pairs
//! or one rule of the planner. So a query whose reader has gone stops within a moment, whatever it computes.
//!
//! Operators carry the watch themselves ([`crate::watched`]). Functions and rules, which DataFusion calls without telling them
//! for whom, find it by the thread: [`Watch::over()`] puts it there while a part of the query runs.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::error::Result;

use crate::error::{Error, code};

/// Bytes that the functions of a query may make out of one batch, or of constants while it is planned.
const MADE_BYTES_MAX: usize = 128 << 20;

/// Whether a query is still wanted.
#[derive(Debug, Default)]
pub struct Watch {
    ended: AtomicBool,
}

impl Watch {
    /// A watch over a query that is wanted.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Nobody waits for the query any more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Errors: the query has been ended.
    pub(crate) fn look(&self) -> Result<()> {
        match self.ended.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::cancelled().into_datafusion()),
        }
    }

    /// Does a part of the query; what functions make in it is counted from nothing.
    pub(crate) fn over<T>(self: &Arc<Self>, part: impl FnOnce() -> T) -> T {
        let before = HERE.replace(Some(Here { watch: Arc::clone(self), made: 0 }));
        let restored = Restored(Some(before));
        let done = part();
        drop(restored);
        done
    }
}

/// The query that a thread works for.
struct Here {
    watch: Arc<Watch>,
    /// Bytes that functions have made in this part.
    made: usize,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Puts back what was there before, also when a part panics.
struct Restored(Option<Option<Here>>);

impl Drop for Restored {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            HERE.set(before);
        }
    }
}

/// Errors: the query that this thread works for has been ended. None, if it works for none that can be.
pub(crate) fn look() -> Result<()> {
    HERE.with_borrow(|here| here.as_ref().map_or(Ok(()), |here| here.watch.look()))
}

/// A new batch is begun: what was made of the one before is gone, or was taken into account by who kept it.
pub(crate) fn next_batch() {
    HERE.with_borrow_mut(|here| {
        if let Some(here) = here {
            here.made = 0;
        }
    });
}

/// A function is about to make so many bytes. Errors: with those it has made of this batch they are too many, or the query has
/// been ended.
pub(crate) fn make(function: &str, bytes: usize) -> Result<()> {
    look()?;
    let made = HERE.with_borrow_mut(|here| match here {
        None => bytes,
        Some(here) => {
            here.made = here.made.saturating_add(bytes);
            here.made
        }
    });
    if made <= MADE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(code::LIMIT_EXCEEDED, format!("{function} would make a value that is too large"))
        .detail(format!("It and what else the statement computes of the same rows come to {made} bytes; {MADE_BYTES_MAX} may be made at once."))
        .hint("Make shorter values, or fewer of them in one statement.")
        .into_datafusion())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_counted_by_batch_and_query() {
        let (outer, inner) = (Watch::new(), Watch::new());
        let half = MADE_BYTES_MAX / 2 + 1;
        outer.over(|| {
            assert!(make("repeat", half).is_ok());
            inner.over(|| assert!(make("repeat", half).is_ok()));
            assert!(make("repeat", half).is_err());
            next_batch();
            assert!(make("repeat", half).is_ok());
        });
        assert!(make("repeat", half).is_ok(), "by no query");
    }

    #[test]
    fn an_ended_query_makes_nothing() {
        let watch = Watch::new();
        watch.over(|| {
            assert!(look().is_ok());
            watch.end();
            assert!(look().is_err() && make("repeat", 1).is_err());
        });
        assert!(look().is_ok());
    }
}
