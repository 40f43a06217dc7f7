//! Text of any charset of the server as UTF-8.
//!
//! Single-byte charsets come from tables taken from the server (`charset_table`), East Asian ones from `encoding_rs`,
//! the Unicode ones are read here. A code without a character becomes what the server shows of it, a question mark, and bytes
//! that are no code at all U+FFFD, and the rest stays readable: one mangled name must not cost an order. Snapshot and stream
//! hand the same bytes to the same function, so that both show the same text.
//!
//! The law of keys: two texts that the server tells apart are never one here. So a text of a key is read only where each
//! of its codes is the one that the server writes for its character ([`Charset::decode_key`]).

use encoding_rs::Encoding;

use super::charset_table::{self as table, Doubles, Runs, Upper};

/// How the bytes of a text column are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charset {
    name: &'static str,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Utf8,
    /// ASCII below 0x80, a table above.
    Single(&'static Upper),
    Swe7,
    /// One to four bytes a character.
    Multi(&'static EastAsian),
    /// Two bytes a character, big endian, without surrogates.
    Ucs2,
    Utf16,
    Utf16Le,
    Utf32,
}

/// A charset of several bytes a character: as its encoding, but for where the server differs.
#[derive(Debug)]
struct EastAsian {
    encoding: &'static Encoding,
    runs: &'static Runs,
    doubles: &'static Doubles,
}

impl EastAsian {
    const fn new(encoding: &'static Encoding, runs: &'static Runs, doubles: &'static Doubles) -> Self {
        Self { encoding, runs, doubles }
    }
}

static BIG5: EastAsian = EastAsian::new(encoding_rs::BIG5, &table::BIG5, &table::BIG5_DOUBLES);
static CP932: EastAsian = EastAsian::new(encoding_rs::SHIFT_JIS, &table::CP932, &table::CP932_DOUBLES);
static EUCJPMS: EastAsian = EastAsian::new(encoding_rs::EUC_JP, &table::EUCJPMS, &table::EUCJPMS_DOUBLES);
static EUCKR: EastAsian = EastAsian::new(encoding_rs::EUC_KR, &table::EUCKR, &table::NO_DOUBLES);
static GB18030: EastAsian = EastAsian::new(encoding_rs::GB18030, &table::GB18030, &table::NO_DOUBLES);
static GB2312: EastAsian = EastAsian::new(encoding_rs::GBK, &table::GB2312, &table::NO_DOUBLES);
static GBK: EastAsian = EastAsian::new(encoding_rs::GBK, &table::GBK, &table::NO_DOUBLES);
static SJIS: EastAsian = EastAsian::new(encoding_rs::SHIFT_JIS, &table::SJIS, &table::SJIS_DOUBLES);
static UJIS: EastAsian = EastAsian::new(encoding_rs::EUC_JP, &table::UJIS, &table::UJIS_DOUBLES);

/// What becomes of a text with codes that have no character, or not one of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// It is shown as the server shows it.
    Shown,
    /// It is refused: in a key it could be taken for another one.
    Refused,
}

/// Why a text of a key is refused.
pub(crate) const UNCLEAR: &str =
    "It has bytes without a character of their own in its charset, and others could be the same text.";

impl PartialEq for Charset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Charset {}

/// Every charset that text can have in MySQL 9 and MariaDB 11; `binary` is no text.
static CHARSETS: &[Charset] = &[
    Charset { name: "utf8mb4", form: Form::Utf8 },
    Charset { name: "utf8mb3", form: Form::Utf8 },
    Charset { name: "latin1", form: Form::Single(&table::LATIN1) },
    Charset { name: "ascii", form: Form::Single(&table::LATIN1) },
    Charset { name: "armscii8", form: Form::Single(&table::ARMSCII8) },
    Charset { name: "big5", form: Form::Multi(&BIG5) },
    Charset { name: "cp1250", form: Form::Single(&table::CP1250) },
    Charset { name: "cp1251", form: Form::Single(&table::CP1251) },
    Charset { name: "cp1256", form: Form::Single(&table::CP1256) },
    Charset { name: "cp1257", form: Form::Single(&table::CP1257) },
    Charset { name: "cp850", form: Form::Single(&table::CP850) },
    Charset { name: "cp852", form: Form::Single(&table::CP852) },
    Charset { name: "cp866", form: Form::Single(&table::CP866) },
    Charset { name: "cp932", form: Form::Multi(&CP932) },
    Charset { name: "dec8", form: Form::Single(&table::DEC8) },
    Charset { name: "eucjpms", form: Form::Multi(&EUCJPMS) },
    Charset { name: "euckr", form: Form::Multi(&EUCKR) },
    Charset { name: "gb18030", form: Form::Multi(&GB18030) },
    Charset { name: "gb2312", form: Form::Multi(&GB2312) },
    Charset { name: "gbk", form: Form::Multi(&GBK) },
    Charset { name: "geostd8", form: Form::Single(&table::GEOSTD8) },
    Charset { name: "greek", form: Form::Single(&table::GREEK) },
    Charset { name: "hebrew", form: Form::Single(&table::HEBREW) },
    Charset { name: "hp8", form: Form::Single(&table::HP8) },
    Charset { name: "keybcs2", form: Form::Single(&table::KEYBCS2) },
    Charset { name: "koi8r", form: Form::Single(&table::KOI8R) },
    Charset { name: "koi8u", form: Form::Single(&table::KOI8U) },
    Charset { name: "latin2", form: Form::Single(&table::LATIN2) },
    Charset { name: "latin5", form: Form::Single(&table::LATIN5) },
    Charset { name: "latin7", form: Form::Single(&table::LATIN7) },
    Charset { name: "macce", form: Form::Single(&table::MACCE) },
    Charset { name: "macroman", form: Form::Single(&table::MACROMAN) },
    Charset { name: "sjis", form: Form::Multi(&SJIS) },
    Charset { name: "swe7", form: Form::Swe7 },
    Charset { name: "tis620", form: Form::Single(&table::TIS620) },
    Charset { name: "ucs2", form: Form::Ucs2 },
    Charset { name: "ujis", form: Form::Multi(&UJIS) },
    Charset { name: "utf16", form: Form::Utf16 },
    Charset { name: "utf16le", form: Form::Utf16Le },
    Charset { name: "utf32", form: Form::Utf32 },
];

impl Charset {
    /// The charset of a name as `information_schema` spells it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        // "utf8" is what servers before MySQL 8.0.28 and MariaDB 10.6 call utf8mb3.
        let name = if name.eq_ignore_ascii_case("utf8") { "utf8mb3" } else { name };
        CHARSETS.iter().find(|charset| charset.name.eq_ignore_ascii_case(name)).copied()
    }

    /// As `information_schema` spells it.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// Whether its bytes are already UTF-8.
    #[inline]
    pub(crate) fn is_utf8(self) -> bool {
        matches!(self.form, Form::Utf8)
    }

    /// Appends the text of `bytes` to `out`.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<u8>) {
        self.read(bytes, out);
    }

    /// As [`Self::decode`], for a text of a key. Returns whether it is one; if not, `out` has its bytes in digits, which are like
    /// those of no other text.
    pub(crate) fn decode_key(self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let is_clear = self.read(bytes, out);
        if !is_clear {
            out.truncate(start);
            push(0xfffd, out);
            out.extend(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
        }
        is_clear
    }

    /// Appends the text of `bytes`. Returns whether each of its codes has a character of its own.
    fn read(self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        match self.form {
            Form::Utf8 => utf8(bytes, out),
            Form::Single(upper) => single(bytes, upper, out),
            Form::Swe7 => swe7(bytes, out),
            Form::Multi(of) => multi(bytes, of, out),
            Form::Ucs2 => {
                all(bytes.chunks(2), |pair| push(u32::from(be16(pair)), out)) && bytes.len().is_multiple_of(2)
            }
            Form::Utf16 => utf16(bytes.chunks(2).map(be16), out) && bytes.len().is_multiple_of(2),
            Form::Utf16Le => {
                utf16(bytes.chunks(2).map(|pair| be16(pair).swap_bytes()), out) && bytes.len().is_multiple_of(2)
            }
            Form::Utf32 => all(bytes.chunks(4), |four| push(be32(four), out)) && bytes.len().is_multiple_of(4),
        }
    }

    /// The text of `bytes`.
    pub(crate) fn text(self, bytes: &[u8]) -> String {
        let mut out = Vec::with_capacity(bytes.len());
        self.decode(bytes, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// The text of bytes in a collation's charset, or none for `binary` and unknown numbers.
pub(crate) fn text_of_collation(id: u64, bytes: &[u8]) -> Option<String> {
    Some(of_collation(id)?.text(bytes))
}

/// The charset of a collation's number, as TABLE_MAP metadata names it; `binary` and unknown numbers have none.
pub(crate) fn of_collation(id: u64) -> Option<Charset> {
    // MariaDB numbers its NO PAD twins 1024 higher, and its UCA 14 collations from 2048 on in blocks per charset.
    let name = match id {
        1025..=2047 => return of_collation(id - 1024),
        2048..=2303 => "utf8mb3",
        2304..=2559 => "utf8mb4",
        2560..=2815 => "ucs2",
        2816..=3071 => "utf16",
        3072..=3327 => "utf32",
        1 | 84 => "big5",
        2 | 9 | 21 | 27 | 77 => "latin2",
        3 | 69 => "dec8",
        4 | 80 => "cp850",
        5 | 8 | 15 | 31 | 47..=49 | 94 => "latin1",
        6 | 72 => "hp8",
        7 | 74 => "koi8r",
        10 | 82 => "swe7",
        11 | 65 => "ascii",
        12 | 91 => "ujis",
        13 | 88 => "sjis",
        14 | 23 | 50..=52 => "cp1251",
        16 | 71 => "hebrew",
        18 | 89 => "tis620",
        19 | 85 => "euckr",
        20 | 41 | 42 | 79 => "latin7",
        22 | 75 => "koi8u",
        24 | 86 => "gb2312",
        25 | 70 => "greek",
        26 | 34 | 44 | 66 | 99 => "cp1250",
        28 | 87 => "gbk",
        29 | 58 | 59 => "cp1257",
        30 | 78 => "latin5",
        32 | 64 => "armscii8",
        33 | 76 | 83 | 192..=215 | 223 | 576..=578 => "utf8mb3",
        35 | 90 | 128..=151 | 159 | 640..=642 => "ucs2",
        36 | 68 => "cp866",
        37 | 73 => "keybcs2",
        38 | 43 => "macce",
        39 | 53 => "macroman",
        40 | 81 => "cp852",
        45 | 46 | 224..=247 | 255..=323 | 608..=610 => "utf8mb4",
        54 | 55 | 101..=124 | 672..=674 => "utf16",
        56 | 62 => "utf16le",
        57 | 67 => "cp1256",
        60 | 61 | 160..=183 | 736..=738 => "utf32",
        92 | 93 => "geostd8",
        95 | 96 => "cp932",
        97 | 98 => "eucjpms",
        248..=250 => "gb18030",
        _ => return None,
    };
    Charset::named(name)
}

/// What the server shows in the place of a code without a character.
const UNKNOWN: u8 = b'?';
/// The number of no character.
const NONE: u32 = u32::MAX;

/// The collation number of bytes that are no text.
pub(crate) const BINARY_COLLATION: u64 = 63;

/// Does something with each one, and says whether all of it was good.
fn all<T>(items: impl Iterator<Item = T>, mut each: impl FnMut(T) -> bool) -> bool {
    let mut is_good = true;
    for item in items {
        is_good &= each(item);
    }
    is_good
}

#[inline]
fn utf8(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let is_text = std::str::from_utf8(bytes).is_ok();
    match is_text {
        true => out.extend_from_slice(bytes),
        false => out.extend_from_slice(String::from_utf8_lossy(bytes).as_bytes()),
    }
    is_text
}

fn single(bytes: &[u8], upper: &Upper, out: &mut Vec<u8>) -> bool {
    if bytes.is_ascii() {
        out.extend_from_slice(bytes);
        return true;
    }
    all(bytes.iter(), |&byte| match byte.checked_sub(0x80) {
        None => {
            out.push(byte);
            true
        }
        Some(at) => {
            let character = u32::from(upper[usize::from(at)]);
            // The question mark of a byte without a character, or a double of ASCII's.
            push(character, out) && character >= 0x80 && character != 0xfffd
        }
    })
}

fn swe7(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    all(bytes.iter(), |&byte| match table::SWE7.iter().find(|(from, _)| *from == byte) {
        Some((_, to)) => push(u32::from(*to), out),
        None => {
            out.push(if byte < 0x7f { byte } else { UNKNOWN });
            byte < 0x7f
        }
    })
}

fn multi(bytes: &[u8], of: &EastAsian, out: &mut Vec<u8>) -> bool {
    let EastAsian { encoding, runs, doubles } = *of;
    let has_own = |byte: &u8| doubles.first().is_none_or(|(code, _)| *code != u32::from(*byte));
    if bytes.is_ascii() {
        out.extend_from_slice(bytes);
        return bytes.iter().all(has_own);
    }
    let (mut done, mut at, mut is_clear) = (0, 0, true);
    while at < bytes.len() {
        let end = bytes.len().min(at + character_bytes(encoding, &bytes[at..]));
        let code = bytes[at..end].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        is_clear &= !is_among(code, doubles);
        if end - at > 1
            && let Some(character) = exception(code, runs)
        {
            is_clear &= plain_multi(&bytes[done..at], encoding, out);
            match character {
                Some(character) => push(character, out),
                None => {
                    out.push(UNKNOWN);
                    is_clear = false;
                    true
                }
            };
            done = end;
        }
        at = end;
    }
    plain_multi(&bytes[done..], encoding, out) && is_clear
}

fn plain_multi(bytes: &[u8], encoding: &'static Encoding, out: &mut Vec<u8>) -> bool {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let start = out.len();
    out.resize(start + decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(0), 0);
    let (_, _, written, has_errors) = decoder.decode_to_utf8(bytes, &mut out[start..], true);
    out.truncate(start + written);
    !has_errors
}

/// The character that the server reads for a code, where it is a special one: none where it has none.
fn exception(code: u32, runs: &Runs) -> Option<Option<u32>> {
    let run = runs.partition_point(|(first, ..)| *first <= code).checked_sub(1)?;
    let (first, length, character) = runs[run];
    let is_within = code - first < u32::from(length);
    is_within.then(|| (character != 0).then(|| u32::from(character) + code - first))
}

fn is_among(code: u32, doubles: &Doubles) -> bool {
    let run = doubles.partition_point(|(first, _)| *first <= code).checked_sub(1);
    run.is_some_and(|run| code - doubles[run].0 < u32::from(doubles[run].1))
}

/// Bytes of the character that `bytes` begin with, by the rules of its encoding.
fn character_bytes(encoding: &'static Encoding, bytes: &[u8]) -> usize {
    let is = |other: &'static Encoding| std::ptr::eq(encoding, other);
    match (bytes[0], bytes.get(1).copied().unwrap_or(0)) {
        (0..=0x80 | 0xff, _) => 1,
        (0xa0..=0xdf, _) if is(encoding_rs::SHIFT_JIS) => 1,
        (0x8f, _) if is(encoding_rs::EUC_JP) => 3,
        (_, 0x30..=0x39) if is(encoding_rs::GB18030) => 4,
        _ => 2,
    }
}

fn utf16(units: impl Iterator<Item = u16>, out: &mut Vec<u8>) -> bool {
    all(char::decode_utf16(units), |unit| push(unit.map_or(NONE, u32::from), out))
}

/// Two bytes, or the rest of a text cut in the middle.
fn be16(bytes: &[u8]) -> u16 {
    match bytes {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0xfffd,
    }
}

fn be32(bytes: &[u8]) -> u32 {
    match bytes {
        [a, b, c, d] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0xfffd,
    }
}

/// Appends a character, U+FFFD in the place of a number that is none. Returns whether it is one.
fn push(code: u32, out: &mut Vec<u8>) -> bool {
    let character = char::from_u32(code);
    let shown = character.unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
    character.is_some()
}
