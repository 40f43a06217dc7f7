//! Bytes of a key or value, shared with where they came from: nothing is copied to hand them out.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::arena::Place;
use crate::part::Part;

/// Some bytes of the store. Cheap to clone; it keeps what it points into (a run of the overlay, a block) in memory, so
/// copy what is kept for long.
#[derive(Clone)]
pub struct Slice(Repr);

#[derive(Clone)]
enum Repr {
    /// Bytes of the tables, without the first `skip`.
    Table { bytes: fjall::Slice, skip: u32 },
    /// Bytes of a cached entry, without the first `skip`.
    Shared { bytes: Arc<[u8]>, skip: u32 },
    /// Bytes of an overlay part's arena.
    Part { part: Arc<Part>, place: Place, skip: u32, len: u32 },
}

impl Slice {
    /// Bytes of the tables, less a table prefix of `skip` bytes.
    #[inline]
    pub(crate) fn table(bytes: fjall::Slice, skip: u32) -> Self {
        Self(Repr::Table { bytes, skip })
    }

    #[inline]
    pub(crate) fn part(part: Arc<Part>, (place, skip, len): (Place, u32, u32)) -> Self {
        Self(Repr::Part { part, place, skip, len })
    }

    #[inline]
    pub(crate) fn shared(bytes: Arc<[u8]>, skip: u32) -> Self {
        Self(Repr::Shared { bytes, skip })
    }
}

impl Deref for Slice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Table { bytes, skip } => &bytes[*skip as usize..],
            Repr::Shared { bytes, skip } => &bytes[*skip as usize..],
            Repr::Part { part, place, skip, len } => part.bytes((*place, *skip, *len)),
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Slice {
    /// A copy.
    fn from(bytes: &[u8]) -> Self {
        Self::table(fjall::Slice::from(bytes), 0)
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
