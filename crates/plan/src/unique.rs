//! What is known of a relation's rows: a unique key, columns that always hold the same value, and which columns follow from others.
//!
//! A key of no columns says that there is at most one row. A [`relation::Schema`] cannot say that (its empty key is a
//! bag), so the planner keeps these facts beside the nodes. NULLs in a key are equal to each other, as in a group.
//!
//! A column of a key that holds one value in all rows (`where currency = 'EUR'`) tells no two rows apart: the key is one without it.
//! It stays in the key where it is there, so that a condition more does not change what identifies a model's rows.
//!
//! A join may multiply a table's rows, and its key is none of the join's any more; what is in the row still follows from it. So
//! groups of customers with their orders by `customer.id` and `customer.zone` are identified by the one of them.

/// Facts about the rows of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// Columns that identify a row; empty: at most one row; none: unknown.
    pub unique: Option<Vec<usize>>,
    /// Per column the first one that it is always equal to.
    pub same: Vec<usize>,
    /// Per column whether it holds one value in all rows.
    pub constant: Vec<bool>,
    /// What follows from other columns, beside all that follow from the key.
    pub follows: Vec<Follows>,
}

/// Columns that are equal in all rows in which others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follows {
    from: Vec<usize>,
    columns: Vec<usize>,
}

impl Facts {
    /// Nothing known but the key.
    pub(crate) fn new(columns: usize, unique: Option<Vec<usize>>) -> Self {
        Self { unique, same: (0..columns).collect(), constant: vec![false; columns], follows: Vec::new() }
    }

    /// Of rows in which these columns hold one value each.
    pub(crate) fn with_constants(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            let first = self.same[column];
            let equal = self.same.iter().zip(&mut self.constant).filter(|(same, _)| **same == first);
            equal.for_each(|(_, constant)| *constant = true);
        }
        self
    }

    /// Whether there is at most one row.
    pub(crate) fn single_row(&self) -> bool {
        self.unique.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether the unique key is among these columns, or columns equal to them.
    pub(crate) fn determined_by(&self, columns: &[usize]) -> bool {
        let is_given = |k: usize| self.constant[k] || self.position(k, columns).is_some();
        self.unique.as_ref().is_some_and(|key| key.iter().all(|&k| is_given(k)))
    }

    /// Where a column, or one equal to it, stands in a list of columns.
    fn position(&self, column: usize, list: &[usize]) -> Option<usize> {
        list.iter().position(|&c| self.same[c] == self.same[column])
    }

    /// The key as far as it lies within `columns`, by columns of this relation.
    pub(crate) fn key_within(&self, columns: &[usize]) -> Option<Vec<usize>> {
        let key = self.unique.as_ref()?;
        let within = key.iter().map(|&k| (k, self.position(k, columns).map(|at| columns[at])));
        within.filter(|(k, at)| at.is_some() || !self.constant[*k]).map(|(_, at)| at).collect()
    }

    /// The first of these columns that tell their values apart: without those that follow from the others.
    pub(crate) fn identifying(&self, columns: &[usize]) -> Vec<usize> {
        let mut kept = columns.to_vec();
        for &column in columns.iter().rev() {
            let others: Vec<usize> = kept.iter().copied().filter(|&other| other != column).collect();
            // One that holds one value stays where it is, as in every key.
            if !self.constant[column] && self.determined(&others)[column] {
                kept = others;
            }
        }
        kept
    }

    /// Per column whether it follows from these.
    fn determined(&self, columns: &[usize]) -> Vec<bool> {
        let count = self.same.len();
        let is_given = |column: usize| self.constant[column] || self.position(column, columns).is_some();
        let mut known: Vec<bool> = (0..count).map(is_given).collect();
        let mut rest: Vec<Follows> = self.dependencies().collect();
        loop {
            let (met, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|of| of.from.iter().all(|&c| known[c]));
            if met.is_empty() {
                return known;
            }
            rest = others;
            for column in met.into_iter().flat_map(|of| of.columns) {
                let equal = self.same.iter().zip(&mut known).filter(|(same, _)| **same == self.same[column]);
                equal.for_each(|(_, known)| *known = true);
            }
        }
    }

    /// After a projection: per output the input column that it passes on unchanged.
    pub(crate) fn projected(&self, sources: &[Option<usize>]) -> Self {
        let reads: Vec<_> = sources.iter().map(|source| source.map(|source| vec![source])).collect();
        self.computed(sources, &reads)
    }

    /// The same where it is known of outputs which columns they are computed of, and of nothing else.
    pub(crate) fn computed(&self, sources: &[Option<usize>], reads: &[Option<Vec<usize>>]) -> Self {
        let find = |column: usize| sources.iter().position(|s| s.is_some_and(|s| self.same[s] == self.same[column]));
        let unique = self.unique.as_ref().and_then(|key| {
            let found = key.iter().map(|&k| (k, find(k)));
            found.filter(|(k, at)| at.is_some() || !self.constant[*k]).map(|(_, at)| at).collect()
        });
        let same = sources.iter().enumerate().map(|(i, source)| source.and_then(find).unwrap_or(i)).collect();
        let constant = sources.iter().map(|source| source.is_some_and(|s| self.constant[s])).collect();
        let whole = self.unique.iter().map(|key| &key[..]);
        let follows = self.follows.iter().map(|of| &of.from[..]).chain(whole).filter_map(|from| {
            let kept = from.iter().copied().filter(|&column| !self.constant[column]);
            let from: Vec<usize> = kept.clone().map(find).collect::<Option<_>>()?;
            let known = self.determined(&kept.collect::<Vec<_>>());
            let is_known = |reads: &Option<Vec<usize>>| reads.as_ref().is_some_and(|all| all.iter().all(|&c| known[c]));
            let columns = (0..sources.len()).filter(|&at| !from.contains(&at) && is_known(&reads[at]));
            let columns: Vec<usize> = columns.collect();
            (!columns.is_empty()).then_some(Follows { from, columns })
        });
        Self { unique, same, constant, follows: follows.collect() }
    }

    /// All that follows, also from the key.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = Follows> {
        let whole =
            self.unique.iter().map(|key| Follows { from: key.clone(), columns: (0..self.same.len()).collect() });
        self.follows.iter().cloned().chain(whole)
    }

    /// After an inner or a left join on `on`, pairs of a left and a right column; `matched` are columns, of the left then the right
    /// side, that hold one value each wherever the join finds a match, and `nullable` is per column of the right side whether it may be
    /// NULL.
    pub(crate) fn joined(
        &self,
        right: &Self,
        on: &[(usize, usize)],
        matched: &[usize],
        (inner, nullable): (bool, &[bool]),
    ) -> Self {
        let shift = self.same.len();
        let (left_on, right_on): (Vec<_>, Vec<_>) = on.iter().copied().unzip();
        let shifted = |key: &Vec<usize>| key.iter().map(|&k| k + shift).collect::<Vec<_>>();
        let (of_left, of_right): (Vec<_>, Vec<_>) = matched.iter().copied().partition(|&column| column < shift);
        let of_right: Vec<_> = of_right.into_iter().map(|column| column - shift).collect();
        let left_matched = self.clone().with_constants(&of_left);
        let right = right.clone().with_constants(&of_right);
        let unique = if right.determined_by(&right_on) {
            self.unique.clone()
        } else if inner && left_matched.determined_by(&left_on) {
            right.unique.as_ref().map(shifted)
        } else {
            // Where a left row has no match its columns of the right are NULL, and it is there once: what is constant of the right
            // side tells none of its rows apart, but is not constant any more.
            let of_right = right.unique.as_ref().map(|key| {
                let kept = key.iter().copied().filter(|&k| inner || !right.constant[k]);
                shifted(&kept.collect())
            });
            self.unique.as_ref().zip(of_right).map(|(left, right)| [left.clone(), right].concat())
        };
        let mut same: Vec<_> = self.same.iter().copied().chain(right.same.iter().map(|s| s + shift)).collect();
        let constant: Vec<bool> = match inner {
            true => left_matched.constant.iter().chain(&right.constant).copied().collect(),
            false => self.constant.iter().copied().chain(right.constant.iter().map(|_| false)).collect(),
        };
        if inner {
            on.iter().for_each(|&(l, r)| unite(&mut same, l, r + shift));
        }
        // Fewer columns say the same where the join made some equal.
        let unique = unique.map(|key| distinct(key, &same));
        let constants: Vec<usize> = (0..same.len()).filter(|&column| constant[column]).collect();
        // Where a left row has no match all columns of the right are NULL, and so no row of the right side may be in what they follow
        // from. What is constant there is not, for rows without a match.
        let is_kept = |of: &Follows| inner || of.from.iter().any(|&column| !nullable[column]);
        let of_right = right.dependencies().filter(is_kept).map(|of| {
            let moved = |columns: Vec<usize>| columns.into_iter().map(|column| column + shift).collect();
            Follows { from: moved(of.from), columns: moved(of.columns) }
        });
        let follows = self.dependencies().chain(of_right).collect();
        Self { unique, same, constant, follows }.with_constants(&constants)
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
