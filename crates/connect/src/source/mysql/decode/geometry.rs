//! Geometries as well-known text, spelled as the JTS library does: `POINT (4 7)`, `LINESTRING (0 0, 6 1)`.
//!
//! A stored geometry is its SRID in four bytes, which is dropped, and well-known binary in either byte order.

/// Nesting of collections beyond which bytes are taken for damaged.
const DEPTH_MAX: usize = 100;

/// Appends the text of a stored geometry; none where the bytes are no geometry.
pub(crate) fn write(stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader { rest: stored.get(4..)?, little: true };
    reader.geometry(0, true, out)
}

struct Reader<'a> {
    rest: &'a [u8],
    little: bool,
}

impl Reader<'_> {
    /// Reads one geometry; `named` with its type in front, else only what stands in the parentheses.
    fn geometry(&mut self, depth: usize, named: bool, out: &mut Vec<u8>) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (order, rest) = self.rest.split_first()?;
        (self.rest, self.little) = (rest, *order == 1);
        let kind = self.u32()?;
        let name: &[u8] = match kind {
            1 => b"POINT",
            2 => b"LINESTRING",
            3 => b"POLYGON",
            4 => b"MULTIPOINT",
            5 => b"MULTILINESTRING",
            6 => b"MULTIPOLYGON",
            7 => b"GEOMETRYCOLLECTION",
            _ => return None,
        };
        if named {
            out.extend_from_slice(name);
            out.push(b' ');
        }
        match kind {
            1 => {
                out.push(b'(');
                self.point(out)?;
                out.push(b')');
                Some(())
            }
            2 => self.list(out, Self::point),
            3 => self.list(out, |reader, out| reader.list(out, Self::point)),
            _ => self.list(out, |reader, out| reader.geometry(depth + 1, kind == 7, out)),
        }
    }

    /// A count and that many items, in parentheses; `EMPTY` for none.
    fn list(&mut self, out: &mut Vec<u8>, mut item: impl FnMut(&mut Self, &mut Vec<u8>) -> Option<()>) -> Option<()> {
        let count = self.u32()?;
        if count == 0 {
            out.extend_from_slice(b"EMPTY");
            return Some(());
        }
        out.push(b'(');
        for i in 0..count {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            item(self, out)?;
        }
        out.push(b')');
        Some(())
    }

    fn point(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let (x, y) = (self.f64()?, self.f64()?);
        out.extend_from_slice(format!("{x} {y}").as_bytes());
        Some(())
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(if self.little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
    }

    fn f64(&mut self) -> Option<f64> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(if self.little { f64::from_le_bytes(*bytes) } else { f64::from_be_bytes(*bytes) })
    }
}
