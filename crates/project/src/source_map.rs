//! Where each byte of a rendered text came from.
//!
//! The template engine writes plain text as slices of the template itself: their address tells the place, exactly and
//! without touching the text. The output of an expression comes from elsewhere; it is given the place of the next
//! expression behind the last plain text.

use std::io;
use std::sync::Arc;

use crate::diagnostic::{Place, line_and_column};
use crate::jinja::tags::{TagKind, tags};

/// From offsets of a rendered text to places in files.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
struct Segment {
    /// Offset in the rendered text, bytes.
    start: usize,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    /// Text that stands in the file as it is, from this byte offset on.
    Verbatim { file: Arc<str>, text: Arc<str>, offset: usize },
    /// The output of an expression: all of it has one place.
    Made(Place),
}

impl SourceMap {
    /// The place in the user's files that a byte of the rendered text came from.
    pub fn locate(&self, offset: usize) -> Option<Place> {
        let after = self.segments.partition_point(|segment| segment.start <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        Some(match &segment.origin {
            Origin::Made(place) => place.clone(),
            Origin::Verbatim { file, text, offset: from } => {
                let (line, column) = line_and_column(text, from + (offset - segment.start));
                Place::new(file, line, column)
            }
        })
    }

    /// The place of a line and column (1-based, in characters) of the rendered text.
    pub fn locate_line(&self, text: &str, line: usize, column: usize) -> Option<Place> {
        let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
        let rest = text.get(start..)?;
        let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(offset, _)| offset);
        self.locate(start + within)
    }

    /// The whole text of a file, where some of it stands in the rendered text as it is.
    pub fn written(&self, of: &str) -> Option<&str> {
        self.segments.iter().find_map(|segment| match &segment.origin {
            Origin::Verbatim { file, text, .. } if **file == *of => Some(&**text),
            _ => None,
        })
    }

    /// The map of a piece of the text.
    pub(crate) fn piece(&self, start: usize, end: usize) -> Self {
        let mut segments = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            let segment_end = self.segments.get(at + 1).map_or(usize::MAX, |next| next.start);
            if segment_end <= start || segment.start >= end {
                continue;
            }
            let cut = start.saturating_sub(segment.start);
            let origin = match &segment.origin {
                Origin::Verbatim { file, text, offset } => {
                    Origin::Verbatim { file: Arc::clone(file), text: Arc::clone(text), offset: offset + cut }
                }
                made => made.clone(),
            };
            segments.push(Segment { start: segment.start.max(start) - start, origin });
        }
        Self { segments }
    }

    /// Puts another text's map behind this one, which covers `length` bytes.
    pub(crate) fn append(&mut self, length: usize, other: &Self) {
        let moved = other.segments.iter().cloned().map(|s| Segment { start: s.start + length, ..s });
        self.segments.extend(moved);
    }
}

/// Takes the output of the template engine and notes where it came from.
pub(crate) struct Recorder<'a> {
    template: &'a str,
    text: String,
    pieces: Vec<Piece>,
}

struct Piece {
    start: usize,
    /// Offset in the template; none for the output of an expression.
    offset: Option<usize>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(template: &'a str) -> Self {
        Self { template, text: String::new(), pieces: Vec::new() }
    }

    fn note(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let range = self.template.as_bytes().as_ptr_range();
        let offset = range.contains(&bytes.as_ptr()).then(|| bytes.as_ptr() as usize - range.start as usize);
        self.pieces.push(Piece { start: self.text.len(), offset });
        self.text.push_str(&String::from_utf8_lossy(bytes));
    }

    /// The text and its map.
    pub(crate) fn finish(self, file: &str) -> (String, SourceMap) {
        let (file, template): (Arc<str>, Arc<str>) = (Arc::from(file), Arc::from(self.template));
        let all = tags(self.template);
        let mut expressions =
            all.iter().filter(|tag| tag.kind == TagKind::Expression).map(|tag| tag.start).collect::<Vec<_>>();
        expressions.push(usize::MAX);
        let mut cursor = 0;
        let mut last = 0;
        let mut segments = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            let origin = match piece.offset {
                Some(offset) => {
                    let end = self.pieces.get(at + 1).map_or(self.text.len(), |next| next.start);
                    cursor = offset + (end - piece.start);
                    Origin::Verbatim { file: Arc::clone(&file), text: Arc::clone(&template), offset }
                }
                None => {
                    let next_text =
                        self.pieces.iter().skip(at).find_map(|p| p.offset).filter(|offset| *offset >= cursor);
                    let found = expressions.partition_point(|start| *start < cursor);
                    if expressions[found] < next_text.unwrap_or(self.template.len()) {
                        last = expressions[found];
                        cursor = last + 1;
                    }
                    Origin::Made(Place::at(&file, &template, last))
                }
            };
            segments.push(Segment { start: piece.start, origin });
        }
        (self.text, SourceMap { segments })
    }
}

impl io::Write for Recorder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
