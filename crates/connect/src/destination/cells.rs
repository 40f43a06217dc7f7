//! The texts of a portion's values, made once: what they are put into may be tried many times.

use super::mapping::Mapping;
use super::portion::{Item, Outcome, Portion, Refusal};
use super::text::{self, Words};

/// A row with more bytes than this is refused: what carries it would not fit into messages of the other side.
const ROW_BYTES_MAX: usize = 128 << 20;

/// How long a text a column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Chars(usize),
    /// Of UTF-8; where a column has another encoding, it is about as many.
    Bytes(usize),
}

impl Room {
    /// Whether a text is too long by blanks alone.
    fn cuts_blanks_of(self, cell: &[u8]) -> bool {
        let (Self::Chars(max) | Self::Bytes(max)) = self;
        if cell.len() <= max {
            return false;
        }
        let length = |text: &str| match self {
            Self::Chars(_) => text.chars().count(),
            Self::Bytes(_) => text.len(),
        };
        std::str::from_utf8(cell).is_ok_and(|text| length(text) > max && length(text.trim_end()) <= max)
    }
}

/// A text, or NULL, for each field of a row that is to be there, and for each key column of one that is not.
#[derive(Debug, Default)]
pub(super) struct Cells {
    bytes: Vec<u8>,
    /// The end of each cell in `bytes`, and whether it is NULL.
    ends: Vec<(usize, bool)>,
    /// The first cell of each item.
    starts: Vec<usize>,
}

impl Cells {
    /// Of all items of a portion, and what is known already to become of some: a row whose key has a NULL is found by nobody, and
    /// some values have no word over there.
    pub(super) fn of(portion: &Portion, mapping: &Mapping, words: Words) -> (Self, Vec<Option<Outcome>>) {
        let mut cells = Self::default();
        let mut known = Vec::with_capacity(portion.len());
        for at in 0..portion.len() {
            let item = portion.get(at);
            let (bytes, ends) = (cells.bytes.len(), cells.ends.len());
            cells.starts.push(ends);
            let refusal = match (mapping.null_key(item), item) {
                // It was never taken, so nothing is there.
                (Some(_), Item::Delete(_)) => {
                    known.push(Some(Outcome::Removed));
                    continue;
                }
                (Some(column), Item::Upsert(_)) => {
                    Some(Refusal::new("null_key", format!("`{column}`, by which it would be found, is NULL")))
                }
                (None, item) => cells.push(mapping, item, words).err(),
            };
            let refusal = refusal.or_else(|| {
                let taken = cells.bytes.len() - bytes;
                let reason = || format!("a row of {taken} bytes is larger than what is sent ({ROW_BYTES_MAX} bytes)");
                (taken > ROW_BYTES_MAX).then(|| Refusal::new("too_large", reason()))
            });
            if refusal.is_some() {
                cells.bytes.truncate(bytes);
                cells.ends.truncate(ends);
            }
            known.push(refusal.map(Outcome::Refused));
        }
        cells.starts.push(cells.ends.len());
        (cells, known)
    }

    fn push(&mut self, mapping: &Mapping, item: Item<'_>, words: Words) -> Result<(), Refusal> {
        let count = match item {
            Item::Upsert(_) => mapping.fields().len(),
            Item::Delete(_) => mapping.key().len(),
        };
        for i in 0..count {
            let (layout, row, at) = match item {
                Item::Upsert(row) => (mapping.layout(), row, mapping.fields()[i].at),
                Item::Delete(row) => (mapping.key_layout(), row, i),
            };
            let is_null = layout.is_null(row, at);
            if !is_null {
                text::push(&mut self.bytes, layout, row, at, words)?;
            }
            self.ends.push((self.bytes.len(), is_null));
        }
        Ok(())
    }

    /// Cell `i` of an item; none where it is NULL.
    pub(super) fn get(&self, item: usize, i: usize) -> Option<&[u8]> {
        let at = self.starts[item] + i;
        let (end, is_null) = self.ends[at];
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (!is_null).then(|| &self.bytes[start..end])
    }

    /// Refuses rows with a text that is too long by blanks alone. Servers cut those off without a word, and refuse themselves what
    /// is too long by more. Rooms are those of the fields' columns.
    pub(super) fn refuse_what_loses_blanks(
        &self,
        portion: &Portion,
        rooms: &[Option<Room>],
        known: &mut [Option<Outcome>],
    ) {
        let rooms: Vec<(usize, Room)> =
            rooms.iter().enumerate().filter_map(|(i, room)| room.map(|room| (i, room))).collect();
        for (at, known) in known.iter_mut().enumerate() {
            // Of what leaves there are cells for the key alone, and one that is too long was never taken.
            if known.is_some() || matches!(portion.get(at), Item::Delete(_)) {
                continue;
            }
            let is_cut = |&&(i, room): &&(usize, Room)| self.get(at, i).is_some_and(|cell| room.cuts_blanks_of(cell));
            if let Some((_, room)) = rooms.iter().find(is_cut) {
                let taken = match room {
                    Room::Chars(max) => format!("{max} characters"),
                    Room::Bytes(max) => format!("{max} bytes"),
                };
                let reason = format!("a text would lose blanks at its end: its column takes {taken}");
                *known = Some(Outcome::Refused(Refusal::new("too_long", reason)));
            }
        }
    }

    /// Bytes of all cells of an item.
    pub(super) fn item_bytes(&self, item: usize) -> usize {
        let end = |cell: usize| cell.checked_sub(1).map_or(0, |before| self.ends[before].0);
        end(self.starts[item + 1]) - end(self.starts[item])
    }
}

#[cfg(test)]
mod tests {
    use super::Room;

    #[test]
    fn a_text_loses_blanks_where_they_are_all_that_is_too_long() {
        let is_cut = |room: Room, text: &str| room.cuts_blanks_of(text.as_bytes());
        assert!(is_cut(Room::Chars(2), "ab  "));
        assert!(is_cut(Room::Chars(2), "é \n\t"));
        for whole in ["ab", "a ", "éé", "abc", "ab c", ""] {
            assert!(!is_cut(Room::Chars(2), whole), "{whole}");
        }
        assert!(is_cut(Room::Bytes(2), "é "));
        assert!(!is_cut(Room::Bytes(2), "éa "));
    }
}
