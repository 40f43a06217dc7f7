//! Where the bytes of a part's entries lie: chunks that never move, so that growing copies nothing.
//!
//! One growing buffer was measured first: with 18 MB per step its reallocations and the page faults of ever fresh memory
//! cost more than the entries themselves. Chunks of [`CHUNK`] bytes come back from the allocator warm.

/// An entry begins within the first `CHUNK` bytes of its chunk; a large one makes its chunk longer.
const CHUNK: usize = 1 << 20;
/// Entries begin at multiples of this, so that 32 bits address 16 GiB.
const ALIGN: usize = 4;
/// Chunks per address: the upper bits of a place.
const SHIFT: u32 = (CHUNK / ALIGN).trailing_zeros();

/// Where an entry begins: number of its chunk above, offset in it, in units of [`ALIGN`], below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(u32);

/// The bytes of many entries.
#[derive(Debug, Default, Clone)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// Whether the entries of another surely fit into this one: each of its chunks fills two of ours at worst.
    pub(crate) fn has_room_for(&self, other: &Self) -> bool {
        Place::at(self.chunks.len() + 2 * other.chunks.len(), 0).is_some()
    }

    /// `len` bytes, `skip` bytes behind a place.
    #[inline]
    pub(crate) fn get(&self, place: Place, skip: u32, len: u32) -> &[u8] {
        let at = place.offset() + skip as usize;
        &self.chunks[place.chunk()][at..at + len as usize]
    }

    /// Writes over what is there already.
    pub(crate) fn overwrite(&mut self, place: Place, skip: u32, bytes: &[u8]) {
        let at = place.offset() + skip as usize;
        self.chunks[place.chunk()][at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Appends a key and a value; none where no place is left for them.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<Place> {
        let place = self.start(key.len() + value.len())?;
        let chunk = &mut self.chunks[place.chunk()];
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value);
        Some(place)
    }

    /// Appends the key that lies at a place already, and a value; none where no place is left for them.
    pub(crate) fn push_moved(&mut self, key: Place, key_len: u32, value: &[u8]) -> Option<Place> {
        let key = self.get(key, 0, key_len).to_vec();
        self.push(&key, value)
    }

    /// The place of the next entry, with room for it; none where all places are taken.
    #[inline]
    fn start(&mut self, bytes: usize) -> Option<Place> {
        let last = self.chunks.last().map_or(usize::MAX, |chunk| chunk.len().next_multiple_of(ALIGN));
        // The first chunk grows: most parts are small. Later ones are made whole.
        let fits = last < CHUNK && (last + bytes <= CHUNK || last == 0);
        let place = if fits { Place::at(self.chunks.len() - 1, last) } else { Place::at(self.chunks.len(), 0) }?;
        if !fits {
            let room = if self.chunks.is_empty() { bytes } else { bytes.max(CHUNK) };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks[place.chunk()].resize(place.offset(), 0);
        Some(place)
    }
}

impl Place {
    /// A place within a chunk; none where 32 bits do not reach it.
    #[inline]
    fn at(chunk: usize, offset: usize) -> Option<Self> {
        u32::try_from((chunk << SHIFT) | (offset / ALIGN)).ok().map(Self)
    }

    #[inline]
    fn chunk(self) -> usize {
        (self.0 >> SHIFT) as usize
    }

    #[inline]
    fn offset(self) -> usize {
        (self.0 as usize & ((1 << SHIFT) - 1)) * ALIGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last of all places is one, the one after it is not: nothing wraps round.
    #[test]
    fn places_end_at_16_gib() {
        let chunks = (16 << 30) / CHUNK;
        let last = Place::at(chunks - 1, CHUNK - ALIGN).unwrap();
        assert_eq!((last.chunk(), last.offset()), (chunks - 1, CHUNK - ALIGN));
        assert!(Place::at(chunks, 0).is_none());
    }
}
