//! Documents made of values: `json_build_object`, `json_build_array`, `to_json`, and the aggregates `json_agg` and
//! `json_object_agg`, which are the documents of arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;

use super::document::{parse, quoted};
use super::forms::to_text;
use super::types;

/// Bytes that the documents of one batch may take.
const BATCH_BYTES_MAX: usize = 1 << 28;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// Of keys and values in turn.
    Object,
    Array,
    Value,
    /// Of the elements of an array, which are documents.
    Elements,
    /// Of the elements of two arrays, keys and documents.
    Pairs,
    /// Of keys and values in turn, without blanks.
    Row,
    /// Of the elements of an array, which are documents of rows.
    Rows,
    /// No document: a row, `(1,"a b",)`.
    Record,
}

const FUNCTIONS: [(&str, Shape, bool); 15] = [
    ("json_build_object", Shape::Object, false),
    ("jsonb_build_object", Shape::Object, true),
    ("json_build_array", Shape::Array, false),
    ("jsonb_build_array", Shape::Array, true),
    ("to_json", Shape::Value, false),
    ("to_jsonb", Shape::Value, true),
    ("json_of_elements", Shape::Elements, false),
    ("jsonb_of_elements", Shape::Elements, true),
    ("json_of_pairs", Shape::Pairs, false),
    ("jsonb_of_pairs", Shape::Pairs, true),
    ("record_of", Shape::Record, false),
    ("json_of_row", Shape::Row, false),
    ("jsonb_of_row", Shape::Row, true),
    ("json_of_row_elements", Shape::Rows, false),
    ("jsonb_of_row_elements", Shape::Rows, true),
];

/// Whether a function makes documents of values.
pub(crate) fn builds_documents(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _, _)| *known == name)
}

/// All of them.
pub(crate) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    FUNCTIONS.into_iter().map(|(name, shape, jsonb)| {
        let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
        let signature = Signature::new(any, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Build { name, shape, jsonb, signature }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Build {
    name: &'static str,
    shape: Shape,
    jsonb: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Build {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let name = match self.shape {
            Shape::Record => types::RECORD,
            _ if self.jsonb => types::JSONB,
            _ => types::JSON,
        };
        Ok(Arc::new(types::named(Field::new(self.name, DataType::Utf8, true), name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let documents: Vec<bool> =
            args.arg_fields.iter().map(|field| types::own_name(field).is_some_and(is_json)).collect();
        // Without arguments it is a constant.
        let made = |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            Ok(Arc::new(self.made(arrays, &documents, arrays.first().map_or(1, |array| array.len()))?))
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

fn is_json(name: &str) -> bool {
    name == types::JSON || name == types::JSONB
}

impl Build {
    fn made(&self, arrays: &[ArrayRef], documents: &[bool], rows: usize) -> Result<StringArray> {
        let is_document = |at: usize| documents.get(at).copied().unwrap_or_default();
        let columns = arrays.iter().enumerate().map(|(at, array)| Values::of(array, is_document(at)));
        let columns = columns.collect::<Result<Vec<Values>>>()?;
        let mut out = StringBuilder::new();
        let mut bytes = 0_usize;
        for row in 0..rows {
            let text = match self.shape {
                Shape::Object => Some(object(&columns, row, (" : ", ", "))?),
                Shape::Row => Some(object(&columns, row, (":", ","))?),
                Shape::Array => Some(joined(columns.iter().map(|column| column.json(row)), ("[", ", ", "]"))),
                Shape::Value => columns.first().filter(|column| !column.is_null(row)).map(|column| column.json(row)),
                Shape::Elements => elements(arrays.first(), row, ", ")?,
                Shape::Rows => elements(arrays.first(), row, ", \n ")?,
                Shape::Pairs => pairs(arrays, row)?,
                Shape::Record => Some(record(arrays, &columns, row)),
            };
            let text = match text {
                Some(text) if self.jsonb => Some(parse(&text)?.written(true)),
                text => text,
            };
            bytes = bytes.saturating_add(text.as_ref().map_or(0, String::len));
            if bytes > BATCH_BYTES_MAX {
                return exec_err!("out of memory: {}() makes documents that are too large", self.name);
            }
            out.append_option(text);
        }
        Ok(out.finish())
    }
}

/// The values of a column as texts, and how they are written in a document.
struct Values {
    texts: StringArray,
    /// Whether a text stands in a document as it is.
    bare: bool,
    /// Whether the text is a time, whose day and hour are joined by a T.
    instant: bool,
    lists: Option<ArrayRef>,
    document: bool,
}

impl Values {
    fn of(array: &ArrayRef, document: bool) -> Result<Self> {
        let data_type = array.data_type();
        let lists = matches!(data_type, DataType::List(_)).then(|| Arc::clone(array));
        let texts = if data_type.is_null() { StringArray::new_null(array.len()) } else { to_text(array)? };
        let bare = document || data_type.is_numeric() || *data_type == DataType::Boolean;
        let instant = matches!(data_type, DataType::Timestamp(..));
        Ok(Self { texts, bare, instant, lists, document })
    }

    fn is_null(&self, row: usize) -> bool {
        self.texts.is_null(row)
    }

    fn json(&self, row: usize) -> String {
        if self.texts.is_null(row) {
            return "null".to_owned();
        }
        let text = self.texts.value(row);
        if let Some(lists) = &self.lists {
            let values = lists.as_list::<i32>().value(row);
            let values = Self::of(&values, self.document)
                .map(|column| joined((0..column.texts.len()).map(|at| column.json(at)), ("[", ",", "]")));
            return values.unwrap_or_else(|_| "null".to_owned());
        }
        // A float that is no number has no number in JSON.
        if self.bare && !matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return text.to_owned();
        }
        let mut out = String::new();
        match self.instant {
            true => quoted(&text.replacen(' ', "T", 1).replace("+00", "+00:00"), &mut out),
            false => quoted(text, &mut out),
        }
        out
    }
}

fn joined(parts: impl Iterator<Item = String>, (open, between, close): (&str, &str, &str)) -> String {
    let parts: Vec<String> = parts.collect();
    format!("{open}{}{close}", parts.join(between))
}

fn object(columns: &[Values], row: usize, (is, and): (&str, &str)) -> Result<String> {
    if !columns.len().is_multiple_of(2) {
        return exec_err!("argument list must have even number of elements");
    }
    let mut parts = Vec::with_capacity(columns.len() / 2);
    for (at, pair) in columns.chunks_exact(2).enumerate() {
        let [key, value] = pair else { continue };
        if columns.get(at * 2).is_none_or(|column| column.is_null(row)) {
            return exec_err!("argument {} cannot be null", at * 2 + 1);
        }
        let mut text = String::new();
        quoted(key.texts.value(row), &mut text);
        parts.push(format!("{text}{is}{}", value.json(row)));
    }
    Ok(format!("{{{}}}", parts.join(and)))
}

fn record(arrays: &[ArrayRef], columns: &[Values], row: usize) -> String {
    let fields = arrays.iter().zip(columns).map(|(array, column)| match array.as_boolean_opt() {
        _ if column.is_null(row) => String::new(),
        Some(flags) => if flags.value(row) { "t" } else { "f" }.to_owned(),
        None => field(column.texts.value(row)),
    });
    joined(fields, ("(", ",", ")"))
}

/// A field of a record, between quotes where it would be read as something else.
fn field(text: &str) -> String {
    let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || c.is_whitespace();
    if !text.is_empty() && !text.contains(special) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
}

fn elements(array: Option<&ArrayRef>, row: usize, between: &str) -> Result<Option<String>> {
    let Some(array) = array else { return Ok(None) };
    let Some(lists) = array.as_list_opt::<i32>() else { return exec_err!("a list of elements is an array") };
    if lists.is_null(row) {
        return Ok(None);
    }
    let values = Values::of(&lists.value(row), true)?;
    Ok(Some(joined((0..values.texts.len()).map(|at| values.json(at)), ("[", between, "]"))))
}

fn pairs(arrays: &[ArrayRef], row: usize) -> Result<Option<String>> {
    let [keys, values] = arrays else { return exec_err!("pairs are made of two arrays") };
    let (Some(keys), Some(values)) = (keys.as_list_opt::<i32>(), values.as_list_opt::<i32>()) else {
        return exec_err!("pairs are made of two arrays");
    };
    if keys.is_null(row) || values.is_null(row) {
        return Ok(None);
    }
    let (keys, values) = (Values::of(&keys.value(row), false)?, Values::of(&values.value(row), true)?);
    let mut parts = Vec::with_capacity(keys.texts.len());
    for at in 0..keys.texts.len().min(values.texts.len()) {
        if keys.is_null(at) {
            return exec_err!("field name must not be null");
        }
        let mut text = String::new();
        quoted(keys.texts.value(at), &mut text);
        parts.push(format!("{text} : {}", values.json(at)));
    }
    Ok(Some(format!("{{ {} }}", parts.join(", "))))
}
