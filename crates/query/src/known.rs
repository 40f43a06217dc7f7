//! What is known of statements by their texts, so that the next one of the same form is not planned again.
//!
//! Law: what is kept says nothing that the planner would not say of the same statement. So it is kept of one catalogue, which is
//! one role's; of one search path; of one text and the types of its parameters. What depends on more (who asks, the time, rows
//! that are computed while a statement is planned) is not kept ([`crate::asked`]).
//!
//! It is bounded in bytes, in two generations: when the younger one is full it becomes the older one, and what nobody has asked
//! for since is forgotten.
//!
//! Finding out how a form is answered takes as long as planning it, and of most forms there is only one statement: those of a person at
//! work, of a tool that writes values into its lists. So a form is only noted when it is seen first ([`Memory::was_seen`]), by its hash.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::datatypes::DataType;

use crate::catalog::Catalog;
use crate::point::Point;
use crate::session::Description;
use crate::template::Template;

/// Bytes of a text that is kept; a longer one is planned each time.
pub(crate) const TEXT_BYTES_MAX: usize = 8 << 10;
/// Bytes of a generation of either kind, as far as they are reckoned.
const GENERATION_BYTES: usize = 8 << 20;
/// About what an entry takes beside its text and its plan.
const ENTRY_BYTES: usize = 256;
/// About what a type or a column takes.
const COLUMN_BYTES: usize = 128;

/// What statements are known by: what names mean, the text, and the types of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Question<T> {
    /// The catalogue's place in memory, which nobody else has while [`Known`] refers to it.
    catalog: usize,
    path: Option<Vec<String>>,
    text: String,
    types: Vec<T>,
}

impl<T> Question<T> {
    pub(crate) fn new(catalog: &Arc<Catalog>, path: Option<&Vec<String>>, text: &str, types: Vec<T>) -> Self {
        let catalog = Arc::as_ptr(catalog).addr();
        Self { catalog, path: path.cloned(), text: text.to_owned(), types }
    }

    pub(crate) fn types(&self) -> &[T] {
        &self.types
    }

    /// Whether nothing is kept of such a text.
    pub(crate) fn is_long(&self) -> bool {
        self.text.len() > TEXT_BYTES_MAX
    }

    fn bytes(&self) -> usize {
        let path: usize = self.path.iter().flatten().map(String::len).sum();
        ENTRY_BYTES + self.text.len() + path + self.types.len() * COLUMN_BYTES
    }
}

/// How statements of a form are answered.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// One row is read by its key.
    Point(Arc<Point>),
    /// By a plan that is there.
    Plan(Arc<Template>),
    /// Each is planned.
    Planned,
}

impl Way {
    fn bytes(&self) -> usize {
        match self {
            Self::Point(point) => (point.schema().fields().len() + point.reads().len()) * COLUMN_BYTES,
            Self::Plan(template) => template.bytes(),
            Self::Planned => 0,
        }
    }
}

/// What is known of statements.
#[derive(Default)]
pub(crate) struct Memory {
    ways: Mutex<Kept<Question<DataType>, Way>>,
    descriptions: Mutex<Kept<Question<Option<DataType>>, Description>>,
    seen: Mutex<Seen>,
}

impl Memory {
    /// How such a statement is answered. None: nothing is known.
    pub(crate) fn way(&self, question: &Question<DataType>) -> Option<Way> {
        locked(&self.ways).get(question).cloned()
    }

    pub(crate) fn keep_way(&self, catalog: &Arc<Catalog>, question: Question<DataType>, way: Way) {
        let bytes = question.bytes() + way.bytes();
        locked(&self.ways).keep(catalog, question, way, bytes);
    }

    /// Whether such a statement was asked before, or one of the same hash; from now on it was.
    pub(crate) fn was_seen(&self, question: &Question<DataType>) -> bool {
        let mut hasher = DefaultHasher::new();
        question.hash(&mut hasher);
        locked(&self.seen).was_seen(hasher.finish())
    }

    pub(crate) fn description(&self, question: &Question<Option<DataType>>) -> Option<Description> {
        locked(&self.descriptions).get(question).cloned()
    }

    pub(crate) fn keep_description(
        &self,
        catalog: &Arc<Catalog>,
        question: Question<Option<DataType>>,
        description: Description,
    ) {
        let columns = description.parameters.len() + description.schema.fields().len();
        let bytes = question.bytes() + columns * COLUMN_BYTES;
        locked(&self.descriptions).keep(catalog, question, description, bytes);
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hashes of a generation of questions that were asked.
const SEEN_MAX: usize = 8_192;

/// What was asked: the younger generation and the older one.
#[derive(Default)]
struct Seen {
    young: BTreeSet<u64>,
    old: BTreeSet<u64>,
}

impl Seen {
    fn was_seen(&mut self, hash: u64) -> bool {
        if self.young.len() >= SEEN_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        !self.young.insert(hash) || self.old.contains(&hash)
    }
}

/// What is kept, the younger generation and the older one.
struct Kept<K, T> {
    young: Generation<K, T>,
    old: Generation<K, T>,
}

struct Generation<K, T> {
    entries: BTreeMap<K, Known<T>>,
    bytes: usize,
}

struct Known<T> {
    /// Keeps the catalogue's place from being another one's.
    of: Weak<Catalog>,
    what: T,
    bytes: usize,
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self { young: Generation::default(), old: Generation::default() }
    }
}

impl<K, T> Default for Generation<K, T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), bytes: 0 }
    }
}

impl<K: Ord, T> Kept<K, T> {
    fn get(&mut self, key: &K) -> Option<&T> {
        if let Some((key, known)) = self.old.entries.remove_entry(key) {
            self.old.bytes -= known.bytes;
            self.put(key, known);
        }
        self.young.entries.get(key).map(|known| &known.what)
    }

    fn keep(&mut self, catalog: &Arc<Catalog>, key: K, what: T, bytes: usize) {
        self.put(key, Known { of: Arc::downgrade(catalog), what, bytes });
    }

    fn put(&mut self, key: K, known: Known<T>) {
        if self.young.bytes + known.bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            // What is of a catalogue that is gone is never asked for.
            self.old.retain(|known| known.of.strong_count() > 0);
        }
        self.young.put(key, known);
    }
}

impl<K: Ord, T> Generation<K, T> {
    fn put(&mut self, key: K, known: Known<T>) {
        self.bytes += known.bytes;
        if let Some(before) = self.entries.insert(key, known) {
            self.bytes -= before.bytes;
        }
    }

    fn retain(&mut self, stays: impl Fn(&Known<T>) -> bool) {
        self.entries.retain(|_, known| stays(known));
        self.bytes = self.entries.values().map(|known| known.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_was_seen_from_its_second_time_on_and_few_are_kept_in_mind() {
        let mut seen = Seen::default();
        assert!(!seen.was_seen(0));
        for other in 1..100_000 {
            assert!(!seen.was_seen(other) && seen.was_seen(0), "{other}");
            assert!(seen.young.len() <= SEEN_MAX && seen.old.len() <= SEEN_MAX);
        }
        assert!(!seen.was_seen(1));
    }

    #[test]
    fn what_is_asked_for_outlives_what_is_not_and_all_of_it_is_bounded() {
        let (catalog, gone) = (Arc::new(Catalog::default()), Arc::new(Catalog::default()));
        let mut kept = Kept::default();
        let each = GENERATION_BYTES / 8;
        kept.keep(&gone, 1000, "of a catalogue that is gone", each);
        drop(gone);
        for number in 0..100 {
            kept.keep(&catalog, number, "seldom", each);
            assert!(kept.get(&0).is_some(), "after {number} others");
            assert!(kept.young.bytes + kept.old.bytes <= 2 * GENERATION_BYTES);
            let reckoned: usize = kept.young.entries.len() + kept.old.entries.len();
            assert_eq!(reckoned * each, kept.young.bytes + kept.old.bytes);
        }
        assert!(kept.get(&50).is_none() && kept.get(&1000).is_none());
        assert!(kept.get(&99).is_some());
        kept.keep(&catalog, 99, "anew", each);
        assert_eq!(kept.get(&99), Some(&"anew"));
    }
}
