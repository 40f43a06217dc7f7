//! Reading the log back, record by record, with every link of the chain checked.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::header::{self, Header};
use super::segment::{self, HEADER_BYTES};
use crate::{Error, Result};

/// Where in the log a reader stands, behind a record: who reads on from here does not read again what lies before.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// First step of the segment.
    segment: u64,
    at: u64,
    /// Step of the record before.
    step: u64,
}

/// The records of steps after a fold, oldest first, up to the newest when it was asked for.
///
/// An iterator of `(step, record)`; an error ends it.
#[derive(Debug)]
pub struct Replay {
    dir: PathBuf,
    /// First step and length of the segments to come, the next last.
    segments: Vec<(u64, u64)>,
    reader: Option<Reader>,
    folded: u64,
    /// Step of the record read last.
    previous: Option<u64>,
    place: Option<Place>,
    /// Bytes of the segments, and of those that were read to their ends.
    bytes: u64,
    passed: u64,
}

#[derive(Debug)]
struct Reader {
    /// First step of the segment.
    first: u64,
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    end: u64,
}

impl Replay {
    pub(super) fn new(dir: &Path, mut segments: Vec<(u64, u64)>, folded: u64, place: Option<Place>) -> Self {
        segments.retain(|(first, _)| place.is_none_or(|place| *first >= place.segment));
        segments.reverse();
        let bytes = segments.iter().map(|(_, end)| end).sum();
        let previous = place.map(|place| place.step);
        Self { dir: dir.to_owned(), segments, reader: None, folded, previous, place, bytes, passed: 0 }
    }

    /// How many bytes were read, and of how many.
    pub fn progress(&self) -> (u64, u64) {
        (self.passed + self.reader.as_ref().map_or(0, |reader| reader.at), self.bytes)
    }

    /// Behind the record that was read last; where reading began, before the first.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    fn read(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some((first, end)) = self.segments.pop() else { return Ok(None) };
                let mut reader = Reader::open(&self.dir, first, end)?;
                if let Some(place) = self.place.filter(|place| place.segment == first) {
                    reader.go_to(place.at)?;
                }
                self.reader = Some(reader);
                continue;
            };
            let Some((header, at)) = reader.header()? else {
                self.passed += reader.end;
                self.reader = None;
                continue;
            };
            // Steps up to the fold may be gone with their segments, and some never had a record (a build's): a log that
            // was opened behind such a fold goes on from the fold's step. After the fold the chain must hold.
            if let Some(previous) = self.previous
                && ((header.previous != previous && header.previous > self.folded) || header.step <= previous)
            {
                let what = format!("step {} does not follow step {previous}: part of the log is missing", header.step);
                return Err(reader.damaged(at, what));
            }
            if self.previous.is_none() && header.previous > self.folded {
                return Err(Error::LogGone { after: self.folded, next: header.step });
            }
            self.previous = Some(header.step);
            let record = reader.record(&header, at)?;
            self.place = Some(Place { segment: reader.first, at: reader.at, step: header.step });
            if header.step > self.folded {
                return Ok(Some((header.step, record)));
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read();
        if item.is_err() {
            self.segments.clear();
            self.reader = None;
        }
        item.transpose()
    }
}

impl Reader {
    fn open(dir: &Path, first: u64, end: u64) -> Result<Self> {
        let path = segment::path(dir, first);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let mut reader = Self { first, file: BufReader::with_capacity(1 << 20, file), path, at: 0, end };
        let mut head = [0; 28];
        reader.fill(&mut head)?;
        if segment::is_newer_header(&head) {
            return Err(segment::newer(&reader.path, 0));
        }
        if !segment::check_header(&head, first) {
            return Err(reader.damaged(0, "the head of a log segment".to_owned()));
        }
        debug_assert_eq!(reader.at, HEADER_BYTES);
        Ok(reader)
    }

    fn go_to(&mut self, at: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(at)).map_err(Error::io("read", &self.path))?;
        self.at = at;
        Ok(())
    }

    /// The next header and where it lies; none at the end.
    fn header(&mut self) -> Result<Option<(Header, u64)>> {
        let at = self.at;
        if at >= self.end {
            return Ok(None);
        }
        let mut bytes = [0; header::BYTES];
        self.fill(&mut bytes)?;
        match Header::read(&bytes) {
            Some(header) if self.at + u64::from(header.length) <= self.end => Ok(Some((header, at))),
            None if Header::is_newer(&bytes) => Err(segment::newer(&self.path, at)),
            _ => Err(self.damaged(at, "the head of a record does not match its checksum".to_owned())),
        }
    }

    fn record(&mut self, header: &Header, at: u64) -> Result<Vec<u8>> {
        let mut record = vec![0; header.length as usize];
        self.fill(&mut record)?;
        if header.fits(&record) {
            return Ok(record);
        }
        Err(self.damaged(at, format!("the record of step {} does not match its checksum", header.step)))
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let at = self.at;
        self.at += out.len() as u64;
        match self.file.read_exact(out) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(at, "the segment ends within a record".to_owned()))
            }
            Err(e) => Err(Error::io("read", &self.path)(e)),
        }
    }

    fn damaged(&self, offset: u64, what: String) -> Error {
        Error::Damaged { path: self.path.clone(), offset, what }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::files::{Files, System};
    use crate::log::Log;

    /// Who reads on from a place gets the same records as who begins anew, over borders of segments too, and reads nothing
    /// again.
    #[test]
    fn goes_on_from_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let files: Arc<dyn Files> = Arc::new(System);
        let log = Log::open(dir.path(), 200, 0, &files).unwrap();
        let record = |step: u64| format!("record of step {step}").into_bytes();
        let mut place = None;
        let mut read = Vec::new();
        for round in 1..=20_u64 {
            for step in round * 3 - 2..=round * 3 {
                log.append_unsynced(step, &record(step)).unwrap();
            }
            log.sync().unwrap();
            // Not always to the end: what was not taken comes the next time.
            let until = round * 3 - round % 3;
            // From a place on nothing else says what was read.
            let folded = if place.is_some() { 0 } else { read.len() as u64 };
            let mut replay = log.replay(folded, place);
            loop {
                place = replay.place();
                match replay.next().transpose().unwrap() {
                    Some((step, bytes)) if step <= until => {
                        assert_eq!(bytes, record(step));
                        read.push(step);
                    }
                    _ => break,
                }
            }
            assert_eq!(read, (1..=until).collect::<Vec<_>>());
            let (read, of) = replay.progress();
            assert!(read > 0 && read <= of, "{read} of {of}");
            // Nothing before the place is looked at.
            log.drop_through(until.saturating_sub(1)).unwrap();
        }
    }
}
