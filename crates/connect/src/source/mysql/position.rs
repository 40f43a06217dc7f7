//! Where we stand in a server's log: file and offset, the set of transactions seen where the server numbers them, and by
//! what the log is known again.
//!
//! ```text
//! binlog.000007:154                                     file and offset
//! binlog.000007:154 gtid=3e11fa47-…-1:1-5:7,…:tag:1-3   MySQL with gtid_mode=ON: the executed set
//! binlog.000007:154 gtid=0-1-270,1-3-9                  MariaDB: the last transaction of each domain
//!                   xa=1/6f6e65/:73686f70.74   what is prepared and not ended: FORMAT/NAME/BRANCH:DATABASE.TABLE,…;…, in
//!                                         hexadecimal digits, with the tables that it has changed
//!                   server=3e11fa47-…                   whose log it is: server_uuid, on MariaDB server_id@host:port
//!                   begun=1764321543                    when the file was begun, in seconds since 1970
//!                   last=123/89abcdef                   the event before the offset: where it begins, its checksum
//!                   below=4294967280                    the last place below 4 GiB, for an offset beyond
//! ```
//!
//! The words between the place and `gtid=` come in this order, and each may be missing: positions of before they were
//! known are read too. File and offset order events of one server ([`LogPoint`] compares so); the set finds the place
//! again on any server of the same history. A position is only ever taken at the end of a transaction.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use relation::Position;

use super::assemble::{hex, unhex};
use super::statement::Xid;

/// A place in one server's log. Compares by the files' numbers, then by offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogPoint {
    pub(crate) file: String,
    pub(crate) offset: u64,
}

impl LogPoint {
    pub(crate) fn new(file: impl Into<String>, offset: u64) -> Self {
        Self { file: file.into(), offset }
    }

    /// Whether both are in files of one name but for its number: others do not compare.
    pub(crate) fn compares_with(&self, other: &Self) -> bool {
        let stem = |file: &str| file.rsplit_once('.').map(|(stem, _)| stem.to_owned());
        stem(&self.file) == stem(&other.file)
    }

    /// Whether the other one's file came after this one's.
    pub(crate) fn is_in_older_file(&self, other: &Self) -> bool {
        self.compares_with(other) && self.file_number() < other.file_number()
    }

    /// The number at the end of a log file's name.
    fn file_number(&self) -> u64 {
        self.file.rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

impl PartialOrd for LogPoint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LogPoint {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.file == other.file {
            return self.offset.cmp(&other.offset);
        }
        // Numbers grow beyond six digits, so names do not compare as text.
        (self.file_number(), &self.file, self.offset).cmp(&(other.file_number(), &other.file, other.offset))
    }
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// What cannot be taken for a position, or not be compared with another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPosition {
    #[error("\"{0}\" is no position in a MySQL log")]
    NoPosition(String),
    /// Files of one server mean nothing on another.
    #[error("places in the logs of two servers do not compare: {0} and {1}")]
    OtherServer(String, String),
}

/// The transactions we have seen, in the server's own numbering.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Gtids {
    /// The server does not number transactions.
    #[default]
    Off,
    MySql(GtidSet),
    MariaDb(DomainGtids),
}

/// Whether two servers are one. Of MariaDB's, only the id was remembered at first, without host and port.
pub(crate) fn is_same_server(one: &str, other: &str) -> bool {
    let has_id = |id: &str, full: &str| full.split_once('@').is_some_and(|(of, _)| of == id);
    one == other || has_id(one, other) || has_id(other, one)
}

/// The event that ends at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastEvent {
    /// Where it begins in its file.
    pub(crate) start: u64,
    pub(crate) checksum: u32,
}

/// By what a log is known again: another one may have files of the same names, and the same numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogMark {
    /// Whose log it is; empty if unknown. Compared by [`is_same_server`].
    pub(crate) server: String,
    /// When the position's file was begun, in seconds since 1970; 0 if unknown.
    pub(crate) begun: u32,
    pub(crate) last: Option<LastEvent>,
    /// Where the position is beyond 4 GiB of its file: the last transaction's end before, which a server can be asked for.
    pub(crate) below: Option<u64>,
}

/// A position that can be resumed from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogPosition {
    pub(crate) point: LogPoint,
    pub(crate) gtids: Gtids,
    pub(crate) mark: LogMark,
    /// Transactions that were prepared before, and may be committed behind it.
    pub(crate) prepared: Vec<PreparedNote>,
}

impl LogPosition {
    /// A place in a log of which nothing else is known.
    pub(crate) fn new(point: LogPoint, gtids: Gtids) -> Self {
        Self { point, gtids, mark: LogMark::default(), prepared: Vec::new() }
    }

    /// As everybody else keeps it.
    pub(crate) fn to_position(&self) -> Position {
        Position(self.to_string())
    }
}

/// A transaction that was prepared: its name, and the tables that it has changed, by database and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PreparedNote {
    pub(crate) xid: Xid,
    pub(crate) tables: Vec<(String, String)>,
}

impl fmt::Display for PreparedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Xid { format, transaction, branch } = &self.xid;
        write!(f, "{format}/{}/{}:", hex(transaction), hex(branch))?;
        for (i, (database, name)) in self.tables.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}.{}", hex(database.as_bytes()), hex(name.as_bytes()))?;
        }
        Ok(())
    }
}

impl PreparedNote {
    /// The reverse of its text.
    fn read(text: &str) -> Option<Self> {
        let (xid, tables) = text.split_once(':')?;
        let mut parts = xid.split('/');
        let format = parts.next()?.parse().ok()?;
        let (transaction, branch) = (unhex(parts.next()?)?, unhex(parts.next()?)?);
        let name = |digits: &str| String::from_utf8(unhex(digits)?).ok();
        let table = |text: &str| {
            let (database, table) = text.split_once('.')?;
            Some((name(database)?, name(table)?))
        };
        let tables = tables.split(',').filter(|text| !text.is_empty()).map(table).collect::<Option<_>>()?;
        Some(Self { xid: Xid { format, transaction, branch }, tables })
    }
}

impl fmt::Display for LogMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.server.is_empty() {
            write!(f, " server={}", self.server)?;
        }
        if self.begun != 0 {
            write!(f, " begun={}", self.begun)?;
        }
        if let Some(last) = &self.last {
            write!(f, " last={}/{:08x}", last.start, last.checksum)?;
        }
        self.below.map_or(Ok(()), |below| write!(f, " below={below}"))
    }
}

impl LogMark {
    /// Takes the marks off the end of a text, and leaves the rest. None if a mark cannot be read.
    fn take_from(text: &mut &str) -> Option<Self> {
        let mut mark = Self::default();
        // A file's name may have spaces and signs of equality, but no word of ours behind its offset.
        while let Some((before, word)) = text.rsplit_once(' ') {
            match word.split_once('=') {
                Some(("server", server)) if !server.is_empty() => server.clone_into(&mut mark.server),
                Some(("begun", seconds)) => mark.begun = seconds.parse().ok()?,
                Some(("below", offset)) => mark.below = Some(offset.parse().ok()?),
                Some(("last", event)) => {
                    let (start, checksum) = event.split_once('/')?;
                    let checksum = u32::from_str_radix(checksum, 16).ok()?;
                    mark.last = Some(LastEvent { start: start.parse().ok()?, checksum });
                }
                _ => break,
            }
            *text = before;
        }
        Some(mark)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.point)?;
        for (i, note) in self.prepared.iter().enumerate() {
            write!(f, "{}{note}", if i == 0 { " xa=" } else { ";" })?;
        }
        write!(f, "{}", self.mark)?;
        match &self.gtids {
            Gtids::Off => Ok(()),
            Gtids::MySql(set) => write!(f, " gtid={set}"),
            Gtids::MariaDb(set) => write!(f, " gtid={set}"),
        }
    }
}

impl FromStr for LogPosition {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let bad = || BadPosition::NoPosition(text.to_owned());
        let (mut place, set) = match text.split_once(" gtid=") {
            None => (text, None),
            Some((place, set)) => (place, Some(set)),
        };
        let mark = LogMark::take_from(&mut place).ok_or_else(bad)?;
        let mut prepared = Vec::new();
        if let Some((before, notes)) = place.rsplit_once(" xa=") {
            prepared = notes.split(';').map(PreparedNote::read).collect::<Option<_>>().ok_or_else(bad)?;
            place = before;
        }
        let of_mariadb = mark.server.split('@').next().is_some_and(|id| id.parse::<u64>().is_ok());
        let gtids = match set {
            None => Gtids::Off,
            // A UUID has hyphens in fixed places and colons before its numbers; a MariaDB GTID has no colon at all.
            Some(set) if set.contains(':') || set.is_empty() && !of_mariadb => Gtids::MySql(set.parse()?),
            Some(set) => Gtids::MariaDb(set.parse()?),
        };
        let (file, offset) = place.rsplit_once(':').ok_or_else(bad)?;
        let offset = offset.parse().map_err(|_| bad())?;
        Ok(Self { point: LogPoint::new(file, offset), gtids, mark, prepared })
    }
}

/// Who numbered a MySQL transaction: a server's UUID and, from 8.4 on, a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Origin {
    pub(crate) uuid: [u8; 16],
    pub(crate) tag: String,
}

impl Origin {
    /// One of its transactions, as the server writes it: `uuid:1`, `uuid:tag:1`.
    pub(crate) fn transaction(&self, number: u64) -> String {
        let colon = if self.tag.is_empty() { "" } else { ":" };
        format!("{}{colon}{}:{number}", Uuid(&self.uuid), self.tag)
    }
}

/// A MySQL GTID set: per origin the numbers seen, as ascending, disjoint, non-adjacent ranges (first, last).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GtidSet {
    origins: BTreeMap<Origin, Vec<(u64, u64)>>,
}

impl GtidSet {
    /// Adds one transaction. Cheap where it continues the last range, which is the rule.
    pub(crate) fn add(&mut self, origin: &Origin, number: u64) {
        match self.origins.get_mut(origin) {
            Some(ranges) => add_number(ranges, number),
            None => {
                self.origins.insert(origin.clone(), vec![(number, number)]);
            }
        }
    }

    /// Whether all of `other` is in this set.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.origins.iter().all(|(origin, ranges)| {
            let mine = self.origins.get(origin).map_or(&[][..], Vec::as_slice);
            ranges.iter().all(|&(first, last)| mine.iter().any(|&(f, l)| f <= first && last <= l))
        })
    }

    /// Whether one transaction is in this set. Cheap where it is newer than all, which is the rule.
    pub(crate) fn contains(&self, origin: &Origin, number: u64) -> bool {
        let Some(ranges) = self.origins.get(origin) else { return false };
        ranges.iter().rev().take_while(|range| range.1 >= number).any(|range| range.0 <= number)
    }

    /// Whether any origin has transactions in both.
    pub(crate) fn shares_an_origin(&self, other: &Self) -> bool {
        self.origins.keys().any(|origin| other.origins.contains_key(origin))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// What is in this set and not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (origin, ranges) in &self.origins {
            let theirs = other.origins.get(origin).map_or(&[][..], Vec::as_slice);
            let mut rest = Vec::new();
            for &(first, last) in ranges {
                // Both are ascending and disjoint: what is left of this range begins behind each of theirs.
                let mut from = Some(first);
                for &(f, l) in theirs.iter().filter(|theirs| theirs.1 >= first && theirs.0 <= last) {
                    if let Some(begin) = from.filter(|&begin| begin < f) {
                        rest.push((begin, f - 1));
                    }
                    from = l.checked_add(1).filter(|&next| next <= last);
                }
                rest.extend(from.map(|begin| (begin, last)));
            }
            if !rest.is_empty() {
                out.origins.insert(origin.clone(), rest);
            }
        }
        out
    }

    /// As COM_BINLOG_DUMP_GTID takes it; tags need the newer form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        const TAGGED: u64 = 1 << 56;
        let tagged = self.origins.keys().any(|o| !o.tag.is_empty());
        let count = self.origins.len() as u64;
        let mut out = Vec::new();
        out.extend_from_slice(&if tagged { count << 8 | TAGGED } else { count }.to_le_bytes());
        for (origin, ranges) in &self.origins {
            out.extend_from_slice(&origin.uuid);
            if tagged {
                // A tag has at most 32 letters: its length is a one-byte integer of the serialisation library.
                out.push(u8::try_from(origin.tag.len() << 1).unwrap_or(0));
                out.extend_from_slice(origin.tag.as_bytes());
            }
            out.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
            for &(first, last) in ranges {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&(last + 1).to_le_bytes());
            }
        }
        out
    }
}

impl GtidSet {
    /// Reads what [`GtidSet::encode`] writes: the form in which a log file begins with the transactions before it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at_checked(count)?;
            rest = tail;
            Some(head)
        };
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(*bytes.first_chunk::<8>()?));
        let head = number(take(8)?)?;
        let is_tagged = head >> 56 == 1;
        let count = if is_tagged { head << 8 >> 16 } else { head };
        let mut set = Self::default();
        for _ in 0..count {
            let mut origin = Origin { uuid: *take(16)?.first_chunk::<16>()?, tag: String::new() };
            if is_tagged {
                let length = usize::from(take(1)?.first()? >> 1);
                origin.tag = String::from_utf8(take(length)?.to_vec()).ok()?;
            }
            let ranges = number(take(8)?)?;
            let mine = set.origins.entry(origin).or_default();
            for _ in 0..ranges {
                let (first, end) = (number(take(8)?)?, number(take(8)?)?);
                let last = end.checked_sub(1).filter(|&last| first > 0 && first <= last)?;
                match mine.last_mut() {
                    Some(before) if before.1.checked_add(1)? >= first => return None,
                    _ => mine.push((first, last)),
                }
            }
        }
        set.origins.retain(|_, ranges| !ranges.is_empty());
        rest.is_empty().then_some(set)
    }
}

fn add_number(ranges: &mut Vec<(u64, u64)>, number: u64) {
    if let Some(last) = ranges.last_mut()
        && last.1 + 1 == number
    {
        last.1 = number;
        return;
    }
    add_range(ranges, number, number);
}

/// Adds a range anywhere and joins what touches.
fn add_range(ranges: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    ranges.push((first, last));
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(first, last) in ranges.iter() {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    *ranges = joined;
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&[u8; 16]> = None;
        for (origin, ranges) in &self.origins {
            if before == Some(&origin.uuid) {
                f.write_str(":")?;
            } else {
                write!(f, "{}{}:", if before.is_some() { "," } else { "" }, Uuid(&origin.uuid))?;
            }
            before = Some(&origin.uuid);
            if !origin.tag.is_empty() {
                write!(f, "{}:", origin.tag)?;
            }
            for (i, (first, last)) in ranges.iter().enumerate() {
                write!(f, "{}{first}", if i == 0 { "" } else { ":" })?;
                if first != last {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = BadPosition;

    /// Reads `uuid:1-5:7:tag:1-3,uuid:…`, with any white space between.
    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let bad = || BadPosition::NoPosition(text.to_owned());
        let mut set = Self::default();
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        for part in compact.split(',').filter(|p| !p.is_empty()) {
            let mut words = part.split(':');
            let uuid = words.next().and_then(parse_uuid).ok_or_else(bad)?;
            let mut origin = Origin { uuid, tag: String::new() };
            for word in words {
                if !word.starts_with(|c: char| c.is_ascii_digit()) {
                    origin.tag = word.to_ascii_lowercase();
                    continue;
                }
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
                if first == 0 || first > last {
                    return Err(bad());
                }
                add_range(set.origins.entry(origin.clone()).or_default(), first, last);
            }
        }
        Ok(set)
    }
}

struct Uuid<'a>(&'a [u8; 16]);

impl fmt::Display for Uuid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text.chars().filter(|&c| c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let mut out = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    Some(out)
}

/// MariaDB's position: per domain the last transaction, (server id, sequence number).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DomainGtids {
    domains: BTreeMap<u32, (u32, u64)>,
}

impl DomainGtids {
    /// The domain's last transaction is now this one.
    pub(crate) fn set(&mut self, domain: u32, server_id: u32, sequence: u64) {
        self.domains.insert(domain, (server_id, sequence));
    }

    /// Per domain: its number, and server id and sequence number of the last transaction.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, (u32, u64))> + '_ {
        self.domains.iter().map(|(domain, last)| (*domain, *last))
    }

    /// Whether each domain of `other` has come as far.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let far = |domain| self.domains.get(domain).map_or(0, |&(_, sequence)| sequence);
        other.domains.iter().all(|(domain, &(_, sequence))| far(domain) >= sequence)
    }
}

impl fmt::Display for DomainGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (domain, (server_id, sequence))) in self.domains.iter().enumerate() {
            write!(f, "{}{domain}-{server_id}-{sequence}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for DomainGtids {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let bad = || BadPosition::NoPosition(text.to_owned());
        let mut out = Self::default();
        for gtid in text.split(',').map(str::trim).filter(|g| !g.is_empty()) {
            let parts: Vec<&str> = gtid.split('-').collect();
            let [domain, server_id, sequence] = parts[..] else { return Err(bad()) };
            out.set(
                domain.parse().map_err(|_| bad())?,
                server_id.parse().map_err(|_| bad())?,
                sequence.parse().map_err(|_| bad())?,
            );
        }
        Ok(out)
    }
}

/// Whether a source that stands at `current` has seen everything up to `target`. Both are positions of one source.
pub fn reached(current: &Position, target: &Position) -> Result<bool, BadPosition> {
    let current: LogPosition = current.0.parse()?;
    let target: LogPosition = target.0.parse()?;
    Ok(match (&current.gtids, &target.gtids) {
        (Gtids::MySql(seen), Gtids::MySql(wanted)) => seen.covers(wanted),
        (Gtids::MariaDb(seen), Gtids::MariaDb(wanted)) => seen.covers(wanted),
        _ => {
            let (one, other) = (current.mark.server, target.mark.server);
            if !one.is_empty() && !other.is_empty() && !is_same_server(&one, &other) {
                return Err(BadPosition::OtherServer(one, other));
            }
            current.point >= target.point
        }
    })
}
