//! Between which keys the other side may have rows of which no answer tells.

/// Keys of portions whose answers were lost: all between two keys, so that it takes no more memory however many there are. Of others the
/// other side has what is accepted of them, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unheard {
    Nothing,
    /// Behind a key, which is before all where it is empty, up to another one; none: to the end.
    Between(Vec<u8>, Option<Vec<u8>>),
}

impl Unheard {
    /// Any key: nothing is known of what was sent.
    pub(super) const ANY: Self = Self::Between(Vec::new(), None);

    /// Those of one more portion.
    pub(super) fn add(&mut self, other: Self) {
        *self = match (std::mem::replace(self, Self::Nothing), other) {
            (Self::Nothing, of) | (of, Self::Nothing) => of,
            (Self::Between(after, through), Self::Between(its, end)) => {
                let through = through.zip(end).map(|(one, other)| one.max(other));
                Self::Between(after.min(its), through)
            }
        };
    }

    /// Whether a key is one of them.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Between(after, through) => {
                key > after.as_slice() && through.as_ref().is_none_or(|through| key <= through.as_slice())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_taken_together() {
        let between = |after: &[u8], through: &[u8]| Unheard::Between(after.to_vec(), Some(through.to_vec()));
        let mut unheard = Unheard::Nothing;
        assert!(!unheard.has(&[1]));
        unheard.add(between(&[3], &[5]));
        assert_eq!([2, 3, 4, 5, 6].map(|key| unheard.has(&[key])), [false, false, true, true, false]);
        unheard.add(Unheard::Nothing);
        unheard.add(between(&[], &[1]));
        assert_eq!([1, 2, 5, 6].map(|key| unheard.has(&[key])), [true, true, true, false]);
        unheard.add(Unheard::ANY);
        assert_eq!(unheard, Unheard::ANY);
        assert!(unheard.has(&[255, 255]));
    }
}
