//! What is known of a relation's rows: a unique key, and columns that always hold the same value.
//!
//! A key of no columns says that there is at most one row. A [`relation::Schema`] cannot say that (its empty key is a
//! bag), so the planner keeps these facts beside the nodes. NULLs in a key are equal to each other, as in a group.

/// Facts about the rows of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// Columns that identify a row; empty: at most one row; none: unknown.
    pub unique: Option<Vec<usize>>,
    /// Per column the first one that it is always equal to.
    pub same: Vec<usize>,
}

impl Facts {
    /// Nothing known but the key.
    pub(crate) fn new(columns: usize, unique: Option<Vec<usize>>) -> Self {
        Self { unique, same: (0..columns).collect() }
    }

    /// Whether there is at most one row.
    pub(crate) fn single_row(&self) -> bool {
        self.unique.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether the unique key is among these columns, or columns equal to them.
    pub(crate) fn determined_by(&self, columns: &[usize]) -> bool {
        self.unique.as_ref().is_some_and(|key| key.iter().all(|&k| self.position(k, columns).is_some()))
    }

    /// Where a column, or one equal to it, stands in a list of columns.
    fn position(&self, column: usize, list: &[usize]) -> Option<usize> {
        list.iter().position(|&c| self.same[c] == self.same[column])
    }

    /// The key as far as it lies within `columns`, by columns of this relation.
    pub(crate) fn key_within(&self, columns: &[usize]) -> Option<Vec<usize>> {
        let key = self.unique.as_ref()?;
        key.iter().map(|&k| self.position(k, columns).map(|at| columns[at])).collect()
    }

    /// After a projection: per output the input column that it passes on unchanged.
    pub(crate) fn projected(&self, sources: &[Option<usize>]) -> Self {
        let find = |column: usize| sources.iter().position(|s| s.is_some_and(|s| self.same[s] == self.same[column]));
        let unique = self.unique.as_ref().and_then(|key| key.iter().map(|&k| find(k)).collect());
        let same = sources.iter().enumerate().map(|(i, source)| source.and_then(find).unwrap_or(i)).collect();
        Self { unique, same }
    }

    /// After an inner or a left join on `on`, pairs of a left and a right column.
    pub(crate) fn joined(&self, right: &Self, on: &[(usize, usize)], inner: bool) -> Self {
        let shift = self.same.len();
        let (left_on, right_on): (Vec<_>, Vec<_>) = on.iter().copied().unzip();
        let shifted = |key: &Vec<usize>| key.iter().map(|&k| k + shift).collect::<Vec<_>>();
        let unique = if right.determined_by(&right_on) {
            self.unique.clone()
        } else if inner && self.determined_by(&left_on) {
            right.unique.as_ref().map(shifted)
        } else {
            self.unique.as_ref().zip(right.unique.as_ref()).map(|(l, r)| [l.clone(), shifted(r)].concat())
        };
        let mut same: Vec<_> = self.same.iter().copied().chain(right.same.iter().map(|s| s + shift)).collect();
        if inner {
            on.iter().for_each(|&(l, r)| unite(&mut same, l, r + shift));
        }
        // Fewer columns say the same where the join made some equal.
        let unique = unique.map(|key| distinct(key, &same));
        Self { unique, same }
    }
}

/// Makes two columns equal: the whole group of the later one takes the representative of the earlier.
fn unite(same: &mut [usize], a: usize, b: usize) {
    let (keep, drop) = (same[a].min(same[b]), same[a].max(same[b]));
    same.iter_mut().filter(|s| **s == drop).for_each(|s| *s = keep);
}

fn distinct(key: Vec<usize>, same: &[usize]) -> Vec<usize> {
    let mut out: Vec<usize> = Vec::with_capacity(key.len());
    for column in key {
        if !out.iter().any(|&c| same[c] == same[column]) {
            out.push(column);
        }
    }
    out
}
