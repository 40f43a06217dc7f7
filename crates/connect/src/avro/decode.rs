//! The bytes of a value, as the text of a JSON document.
//!
//! Records and maps are objects, the branch of a union is its value, bytes are base64, and NaN and the infinities are texts. What stays a
//! number and means a time is told by the schema. A decimal is a number with all its digits, a `uuid` and a `duration` of fixed bytes
//! are their texts.

use std::fmt::{self, Write as _};

use relation::Value;
use relation::json::quoted;
use relation::value::I256Bytes;

use super::schema::{Kind, Node, Schema};
use crate::base64;

/// How deep a value may be: a schema that names itself has no end of its own.
pub(crate) const DEPTH_MAX: usize = 64;
/// The longest document that is made of one: counts in the bytes may claim any number of elements that take none.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Bytes of a decimal's number.
const DECIMAL_BYTES_MAX: usize = 32;
/// Places of a decimal, as many as are shown of any.
const SCALE_MAX: i64 = 1000;

/// Why bytes are no value of a schema, a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoValue {
    at: usize,
    what: &'static str,
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// The document of a value, which is all of the bytes.
pub(crate) fn decode(schema: &Schema, bytes: &[u8]) -> Result<String, NoValue> {
    let mut decoder = Decoder { schema, bytes, at: 0, out: String::new() };
    decoder.value(schema.root(), 0)?;
    match decoder.at == bytes.len() {
        true => Ok(decoder.out),
        false => Err(decoder.bad("there is more behind the value")),
    }
}

struct Decoder<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    at: usize,
    out: String,
}

impl<'a> Decoder<'a> {
    fn bad(&self, what: &'static str) -> NoValue {
        NoValue { at: self.at, what }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], NoValue> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| self.bad("it ends too early"))?;
        self.at += length;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], NoValue> {
        let mut chunk = [0; N];
        chunk.copy_from_slice(self.take(N)?);
        Ok(chunk)
    }

    fn long(&mut self) -> Result<i64, NoValue> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.chunk()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            zigzag |= part << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Err(self.bad("a number has more than 64 bits"))
    }

    fn int(&mut self) -> Result<i32, NoValue> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| self.bad("a number has more than 32 bits"))
    }

    fn length(&mut self) -> Result<usize, NoValue> {
        let long = self.long()?;
        usize::try_from(long).map_err(|_| self.bad("a length is below zero"))
    }

    fn text(&mut self) -> Result<&'a str, NoValue> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.bad("a text is no UTF-8"))
    }

    /// Elements of a block; none: there is no further one.
    fn block(&mut self) -> Result<Option<u64>, NoValue> {
        let count = self.long()?;
        if count < 0 {
            // Behind it stand its bytes, for whoever passes it over.
            self.long()?;
        }
        Ok(Some(count.unsigned_abs()).filter(|count| *count > 0))
    }

    fn value(&mut self, at: usize, depth: usize) -> Result<(), NoValue> {
        if depth > DEPTH_MAX {
            return Err(self.bad("it is nested too deep"));
        }
        if self.out.len() > DOCUMENT_BYTES_MAX {
            return Err(self.bad("its document is larger than 64 MiB"));
        }
        let schema = self.schema;
        let node = schema.node(at);
        match &node.kind {
            Kind::Null => self.out.push_str("null"),
            Kind::Boolean => match self.chunk()? {
                [0] => self.out.push_str("false"),
                [1] => self.out.push_str("true"),
                _ => return Err(self.bad("a boolean is neither 0 nor 1")),
            },
            Kind::Int => {
                let number = self.int()?;
                self.put(format_args!("{number}"));
            }
            Kind::Long => {
                let number = self.long()?;
                self.put(format_args!("{number}"));
            }
            Kind::Float => {
                let number = f32::from_le_bytes(self.chunk()?);
                // The shortest digits of a single are not those of the double.
                self.float(f64::from(number), &format!("{number:?}"));
            }
            Kind::Double => {
                let number = f64::from_le_bytes(self.chunk()?);
                self.float(number, &format!("{number:?}"));
            }
            Kind::Text => {
                let text = self.text()?;
                quoted(text, &mut self.out);
            }
            Kind::Bytes => {
                let length = self.length()?;
                let bytes = self.take(length)?;
                self.bytes(node, bytes)?;
            }
            Kind::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.bytes(node, bytes)?;
            }
            Kind::Enum(symbols) => {
                let index = self.length()?;
                let symbol = symbols.get(index).ok_or_else(|| self.bad("an enum has no such symbol"))?;
                quoted(symbol, &mut self.out);
            }
            Kind::Union(branches) => {
                let index = self.length()?;
                let branch = branches.get(index).ok_or_else(|| self.bad("a union has no such branch"))?;
                self.value(*branch, depth + 1)?;
            }
            Kind::Array(items) => {
                self.out.push('[');
                let mut is_first = true;
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        self.comma(&mut is_first);
                        self.value(*items, depth + 1)?;
                    }
                }
                self.out.push(']');
            }
            Kind::Map(values) => {
                self.out.push('{');
                let mut is_first = true;
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        self.comma(&mut is_first);
                        let name = self.text()?;
                        quoted(name, &mut self.out);
                        self.out.push(':');
                        self.value(*values, depth + 1)?;
                    }
                }
                self.out.push('}');
            }
            Kind::Record(..) if node.connect.as_deref() == Some(VARIABLE_SCALE) => self.variable_scale(node)?,
            Kind::Record(_, fields) => {
                self.out.push('{');
                let mut is_first = true;
                for field in fields {
                    self.comma(&mut is_first);
                    quoted(&field.name, &mut self.out);
                    self.out.push(':');
                    self.value(field.node, depth + 1)?;
                }
                self.out.push('}');
            }
        }
        Ok(())
    }

    fn comma(&mut self, is_first: &mut bool) {
        if !std::mem::take(is_first) {
            self.out.push(',');
        }
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // A text takes everything.
        self.out.write_fmt(text).ok();
    }

    fn float(&mut self, number: f64, digits: &str) {
        match number {
            f64::INFINITY => self.out.push_str("\"Infinity\""),
            f64::NEG_INFINITY => self.out.push_str("\"-Infinity\""),
            number if number.is_nan() => self.out.push_str("\"NaN\""),
            _ => self.out.push_str(digits),
        }
    }

    fn bytes(&mut self, node: &Node, bytes: &[u8]) -> Result<(), NoValue> {
        let is_decimal = node.logical.as_deref() == Some("decimal") || node.connect.as_deref() == Some(DECIMAL);
        if is_decimal {
            return self.decimal(bytes, i64::from(node.scale));
        }
        match (&node.kind, node.logical.as_deref(), bytes) {
            (_, Some("uuid"), [_, ..]) if bytes.len() == 16 => {
                self.out.push('"');
                for (at, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                    self.put(format_args!("{dash}{byte:02x}"));
                }
                self.out.push('"');
            }
            (Kind::Fixed(12), Some("duration"), _) => {
                let part = |from: usize| bytes.get(from..from + 4).unwrap_or_default();
                let number = |from| part(from).iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
                let (months, days, ms) = (number(0), number(4), number(8));
                let (seconds, ms) = (ms / 1000, ms % 1000);
                let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                self.put(format_args!("\"{months} mons {days} days {hours:02}:{minutes:02}:{seconds:02}.{ms:03}\""));
            }
            _ => {
                self.out.push('"');
                self.out.push_str(&base64::text(bytes));
                self.out.push('"');
            }
        }
        Ok(())
    }

    fn decimal(&mut self, bytes: &[u8], scale: i64) -> Result<(), NoValue> {
        let digits = digits(bytes).ok_or_else(|| self.bad("a decimal has too many bytes"))?;
        if !(-SCALE_MAX..=SCALE_MAX).contains(&scale) {
            return Err(self.bad("a decimal has too many places"));
        }
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
        self.out.push_str(sign);
        match usize::try_from(scale) {
            Ok(0) => self.out.push_str(digits),
            Ok(places) => {
                let digits = format!("{digits:0>width$}", width = places + 1);
                let (whole, fraction) = digits.split_at_checked(digits.len() - places).unwrap_or((&digits, ""));
                self.put(format_args!("{whole}.{fraction}"));
            }
            Err(_) if digits == "0" => self.out.push('0'),
            Err(_) => self.put(format_args!("{digits}e{}", -scale)),
        }
        Ok(())
    }

    /// A decimal that says its own scale: its fields are that and the number's bytes.
    fn variable_scale(&mut self, node: &Node) -> Result<(), NoValue> {
        let Kind::Record(_, fields) = &node.kind else { return Ok(()) };
        let (mut scale, mut bytes) = (0, &[][..]);
        for field in fields {
            match self.schema.node(field.node).kind {
                Kind::Int | Kind::Long => scale = self.long()?,
                Kind::Bytes => {
                    let length = self.length()?;
                    bytes = self.take(length)?;
                }
                _ => return Err(self.bad("a decimal of any scale has fields of its own")),
            }
        }
        self.decimal(bytes, scale)
    }
}

/// What Kafka Connect and Debezium call decimals.
const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
const VARIABLE_SCALE: &str = "io.debezium.data.VariableScaleDecimal";

/// The digits of a whole number, the first bytes first; none where it has too many.
fn digits(bytes: &[u8]) -> Option<String> {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    if bytes.len() > DECIMAL_BYTES_MAX {
        return None;
    }
    let mut wide = [if is_negative { 0xff } else { 0 }; DECIMAL_BYTES_MAX];
    for (to, from) in wide.iter_mut().zip(bytes.iter().rev()) {
        *to = *from;
    }
    Some(Value::BigDecimal(I256Bytes(wide), 0).to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(schema: &str, bytes: &[u8]) -> String {
        let schema = Schema::read(schema, &[]).unwrap();
        decode(&schema, bytes).unwrap_or_else(|error| format!("! {error}"))
    }

    const ITSELF: &str = r#"{"type":"record","name":"n","fields":[{"name":"next","type":["null","n"]}]}"#;

    #[test]
    fn bytes_that_are_no_value_say_where() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("\"boolean\"", &[], "! it ends too early at byte 0"),
            ("\"boolean\"", &[2], "! a boolean is neither 0 nor 1 at byte 1"),
            ("\"string\"", &[4, b'a'], "! it ends too early at byte 1"),
            ("\"string\"", &[1], "! a length is below zero at byte 1"),
            ("\"string\"", &[2, 0xff], "! a text is no UTF-8 at byte 2"),
            ("\"long\"", &[0xff; 11], "! a number has more than 64 bits at byte 10"),
            ("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x20], "! a number has more than 32 bits at byte 5"),
            ("\"int\"", &[2, 2], "! there is more behind the value at byte 1"),
            (r#"["null","int"]"#, &[], "! it ends too early at byte 0"),
            (r#"["null","int"]"#, &[4], "! a union has no such branch at byte 1"),
            (r#"{"type":"enum","name":"e","symbols":["A"]}"#, &[2], "! an enum has no such symbol at byte 1"),
            (
                r#"{"type":"record","name":"r","fields":[{"name":"r","type":"r"}]}"#,
                &[],
                "! it is nested too deep at byte 0",
            ),
            (ITSELF, &[2, 2, 0], r#"{"next":{"next":{"next":null}}}"#),
            (ITSELF, &[2; 100_000], "! it is nested too deep at byte 32"),
        ];
        for (schema, bytes, answer) in cases {
            assert!(told(schema, bytes) == *answer, "{schema}: {}", told(schema, bytes));
        }
    }

    #[test]
    fn elements_that_take_no_bytes_are_bounded() {
        let mut bytes = Vec::new();
        crate::avro::push_long(&mut bytes, 1 << 40);
        let answer = told(r#"{"type":"array","items":"null"}"#, &bytes);
        assert_eq!(answer, "! its document is larger than 64 MiB at byte 6");
        let blocks = [&bytes[..], &[0]].concat();
        assert!(
            told(r#"{"type":"array","items":{"type":"record","name":"r","fields":[]}}"#, &blocks).starts_with("! its")
        );
    }

    #[test]
    fn a_block_may_say_its_bytes() {
        assert_eq!(told(r#"{"type":"array","items":"int"}"#, &[3, 4, 2, 4, 2, 6, 0]), "[1,2,3]");
        assert_eq!(told(r#"{"type":"map","values":"int"}"#, &[2, 2, b'"', 2, 0]), r#"{"\"":1}"#);
    }

    /// A schema of every kind, in which bytes of any kind find something.
    const EVERY: &str = r#"{"type":"record","name":"all","fields":[
        {"name":"a","type":["null","all",{"type":"array","items":"all"},{"type":"map","values":["null","double","all"]}]},
        {"name":"b","type":["null","boolean","int","long","float","string","bytes"]},
        {"name":"c","type":{"type":"enum","name":"e","symbols":["A","B"]}},
        {"name":"d","type":{"type":"fixed","name":"f","size":2,"logicalType":"decimal","precision":4,"scale":2}},
        {"name":"e","type":{"type":"array","items":"null"}}]}"#;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        /// Bytes of any kind are a document or an error, never a panic.
        #[test]
        fn any_bytes_are_a_document_or_an_error(bytes in prop::collection::vec(prop_oneof![3 => 0_u8..8, 1 => any::<u8>()], 0..200)) {
            let schema = Schema::read(EVERY, &[]).unwrap();
            if let Ok(document) = decode(&schema, &bytes) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&document).is_ok(), "{}", document);
            }
        }

        /// Texts of any kind are a schema or an error.
        #[test]
        fn any_text_is_a_schema_or_an_error(at in 0..EVERY.len(), with in "[\\[\\]{}\":,a-z]{0,3}") {
            let mut text = EVERY.to_owned();
            text.replace_range(at..(at + with.len()).min(EVERY.len()), &with);
            if let Ok(schema) = Schema::read(&text, &[]) {
                drop(decode(&schema, &[2, 0, 0]));
            }
        }

        /// What is written is read again.
        #[test]
        fn numbers_come_back(long in any::<i64>(), unscaled in any::<i128>(), scale in 0_i16..40) {
            let mut bytes = Vec::new();
            crate::avro::push_long(&mut bytes, long);
            prop_assert_eq!(told("\"long\"", &bytes), long.to_string());
            let mut bytes = Vec::new();
            crate::avro::push_bytes(&mut bytes, &crate::avro::unscaled(I256Bytes::from_i128(unscaled)));
            let schema = format!(r#"{{"type":"bytes","logicalType":"decimal","precision":76,"scale":{scale}}}"#);
            let wanted = Value::Decimal(unscaled, i8::try_from(scale).unwrap()).to_string();
            prop_assert_eq!(told(&schema, &bytes), wanted);
        }
    }
}
