//! A range of a table at a step: the overlay's entries over the tables' own.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::PREFIX;
use crate::cursor::{Cursor, Merge};
use crate::part::Part;
use crate::slice::Slice;
use crate::{Error, Result};

/// Entries in key order, rising or falling: an iterator of `(key without the table's prefix, value)`. An error ends it.
pub struct Scan {
    overlay: Merge,
    overlay_next: Option<(Arc<Part>, u32)>,
    base: Option<fjall::Iter>,
    base_next: Option<fjall::KvPair>,
    failed: Option<Error>,
    reverse: bool,
}

impl Scan {
    pub(crate) fn new(cursors: Vec<Cursor>, base: Result<Option<fjall::Iter>>, reverse: bool) -> Self {
        let mut overlay = Merge::new(cursors, reverse);
        let overlay_next = overlay.next();
        let (base, failed) = match base {
            Ok(base) => (base, None),
            Err(e) => (None, Some(e)),
        };
        let mut scan = Self { overlay, overlay_next, base, base_next: None, failed, reverse };
        scan.advance_base();
        scan
    }

    fn advance_base(&mut self) {
        self.base_next = None;
        let Some(base) = &mut self.base else { return };
        let next = if self.reverse { base.next_back() } else { base.next() };
        match next.map(fjall::Guard::into_inner).transpose() {
            Ok(next) => self.base_next = next,
            Err(e) => self.failed = Some(Error::tables("read")(e)),
        }
    }

    /// Which side has the next key: less is the overlay, greater the tables, equal means the overlay hides the tables.
    fn compare(&self) -> Option<Ordering> {
        match (&self.overlay_next, &self.base_next) {
            (None, None) => None,
            (Some(_), None) => Some(Ordering::Less),
            (None, Some(_)) => Some(Ordering::Greater),
            (Some((part, i)), Some((key, _))) => {
                let order = part.key(*i).cmp(&key[PREFIX as usize..]);
                Some(if self.reverse { order.reverse() } else { order })
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.failed.take() {
                (self.base, self.base_next, self.overlay_next) = (None, None, None);
                return Some(Err(error));
            }
            let order = self.compare()?;
            if order == Ordering::Greater {
                let entry = self.base_next.take();
                self.advance_base();
                return entry.map(|(key, value)| Ok((Slice::table(key, PREFIX), Slice::table(value, 0))));
            }
            let (part, i) = self.overlay_next.take()?;
            self.overlay_next = self.overlay.next();
            if order == Ordering::Equal {
                self.advance_base();
            }
            // A tombstone hides what the tables have and is no entry itself.
            if let Some(value) = part.value_range(i) {
                let key = Slice::part(Arc::clone(&part), part.key_range(i));
                return Some(Ok((key, Slice::part(part, value))));
            }
        }
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scan")
    }
}
