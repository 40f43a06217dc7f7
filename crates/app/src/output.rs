//! Printing answers: aligned columns for people, JSON for programs.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use relation::schema::TYPE_NAME;
use relation::{DataType, Layout, Value};

use crate::reason::Reason;

/// Columns and rows as text; none is NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// What was said beside them.
    pub notices: Vec<Reason>,
    /// What the texts of each column are; text where nothing is said.
    pub forms: Vec<Form>,
}

/// What the texts of a column are to a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    /// Written with all its digits, whatever a reader makes of them; what JSON has no number for is a text.
    Number,
    /// `t` and `f`, or in words.
    Boolean,
    /// A document, as it is.
    Document,
    /// An array, of one dimension or more, of what is of this form.
    Array(&'static Self),
}

impl Form {
    /// The form of an Arrow column, which may say by which name its type goes.
    fn of(field: &arrow::datatypes::Field) -> Self {
        if let Some(name) = field.metadata().get(TYPE_NAME) {
            return Self::named(name);
        }
        DataType::from_arrow(field.data_type()).map_or(Self::Text, Self::of_type)
    }

    fn of_type(data_type: DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Boolean,
            DataType::Json => Self::Document,
            DataType::Array(element) => Self::array_of(Self::of_type(*element)),
            DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal { .. } => Self::Number,
            _ => Self::Text,
        }
    }

    fn array_of(element: Self) -> Self {
        Self::Array(match element {
            Self::Array(inner) => inner,
            Self::Text => &Self::Text,
            Self::Number => &Self::Number,
            Self::Boolean => &Self::Boolean,
            Self::Document => &Self::Document,
        })
    }

    /// The form of a type of the Postgres wire, by its name.
    pub fn named(name: &str) -> Self {
        match name {
            "bool" => Self::Boolean,
            "json" | "jsonb" => Self::Document,
            "int2" | "int4" | "int8" | "oid" | "float4" | "float8" | "numeric" => Self::Number,
            _ => name.strip_prefix('_').map_or(Self::Text, |element| Self::array_of(Self::named(element))),
        }
    }

    fn json(self, text: &str) -> String {
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        match (self, text) {
            (Self::Boolean, "t" | "true") => "true".to_owned(),
            (Self::Boolean, "f" | "false") => "false".to_owned(),
            (Self::Number | Self::Document, _) if is_json() => text.to_owned(),
            (Self::Array(element), _) => match array(text) {
                Some(value) => element.json_of(&value),
                // With bounds of its own: `[0:1]={1,2}`.
                None => quoted(text),
            },
            _ => quoted(text),
        }
    }

    /// The same of an array of texts, which may be one of arrays.
    fn json_of(self, value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Array(values) => {
                let items: Vec<String> = values.iter().map(|value| self.json_of(value)).collect();
                format!("[{}]", items.join(","))
            }
            other => self.json(&other.to_string()),
        }
    }
}

/// An array as PostgreSQL writes it, whose values are texts; none where it is no such text.
fn array(text: &str) -> Option<Value> {
    let dimensions = text.chars().take_while(|c| *c == '{').count().max(1);
    let mut data_type = DataType::Text;
    for _ in 0..dimensions {
        data_type = DataType::array(data_type).ok()?;
    }
    Value::parse(data_type, text).ok()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Table {
    /// The rows of batches, as text.
    pub fn from_batches(schema: &arrow::datatypes::Schema, batches: &[RecordBatch]) -> anyhow::Result<Self> {
        let columns = schema.fields().iter().map(|f| f.name().clone()).collect();
        let forms = schema.fields().iter().map(|field| Form::of(field)).collect();
        let mut rows = Vec::new();
        for batch in batches {
            for values in values_of(batch)? {
                rows.push(values.iter().map(|v| (!v.is_null()).then(|| v.to_string())).collect());
            }
        }
        Ok(Self { columns, rows, forms, notices: Vec::new() })
    }

    /// The same where columns say why rows are as they are: `detail` and `hint` stand on lines of their own, below their rows.
    pub fn explained(&self) -> String {
        let of = |name: &str| self.columns.iter().position(|column| column == name);
        let below: Vec<(&str, usize)> = [("Detail", of("detail")), ("Hint", of("hint"))]
            .into_iter()
            .filter_map(|(label, at)| Some((label, at?)))
            .collect();
        let is_shown = |at: &usize| !below.iter().any(|(_, hidden)| hidden == at);
        let shown: Vec<usize> = (0..self.columns.len()).filter(is_shown).collect();
        let table = Self {
            columns: shown.iter().map(|at| self.columns[*at].clone()).collect(),
            // A row is one line.
            rows: self
                .rows
                .iter()
                .map(|row| shown.iter().map(|at| row[*at].as_ref().map(|cell| cell.replace('\n', " "))).collect())
                .collect(),
            ..Self::default()
        };
        let told = |row: usize| -> Vec<Option<&String>> {
            self.rows.get(row).map(|row| below.iter().map(|(_, at)| row[*at].as_ref()).collect()).unwrap_or_default()
        };
        // A header and a line, then each row. What rows one after the other have in common is said once, below the last.
        let mut lines: Vec<String> = Vec::new();
        for (at, line) in table.aligned().lines().enumerate() {
            lines.push(line.to_owned());
            let Some((at, row)) = at.checked_sub(2).and_then(|at| Some((at, self.rows.get(at)?))) else { continue };
            if told(at) == told(at + 1) {
                continue;
            }
            for (label, at) in &below {
                let text = row[*at].iter().flat_map(|text| text.lines());
                lines.extend(text.map(|text| format!("   {label}: {text}")));
            }
        }
        lines.join("\n")
    }

    /// As psql would: a header, a line, right-padded columns.
    pub fn aligned(&self) -> String {
        let cell = |value: &Option<String>| value.clone().unwrap_or_default();
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| cell(&row[i]).chars().count());
            cells.chain(std::iter::once(self.columns[i].chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: Vec<String>| {
            let padded: Vec<_> = cells.iter().zip(&widths).map(|(c, w)| format!(" {c:<w$} ")).collect();
            padded.join("|").trim_end().to_owned()
        };
        let mut out = vec![line(self.columns.clone())];
        out.push(widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("+"));
        out.extend(self.rows.iter().map(|row| line(row.iter().map(cell).collect())));
        let plural = if self.rows.len() == 1 { "row" } else { "rows" };
        out.push(format!("({} {plural})", self.rows.len()));
        out.join("\n")
    }

    /// An array of objects: numbers as numbers, documents as documents.
    pub fn json(&self) -> String {
        let keys = keys(&self.columns);
        let object = |row: &Vec<Option<String>>| {
            let cells = keys.iter().zip(row).enumerate().map(|(at, (column, cell))| {
                let form = self.forms.get(at).copied().unwrap_or_default();
                let cell = cell.as_deref().map_or_else(|| "null".to_owned(), |text| form.json(text));
                format!("{}:{cell}", quoted(column))
            });
            format!("{{{}}}", cells.collect::<Vec<_>>().join(","))
        };
        format!("[{}]", self.rows.iter().map(object).collect::<Vec<_>>().join(","))
    }
}

/// Names of columns as keys of one object: a reader keeps one value of a key, so the second `sum` is `sum_2`.
fn keys(columns: &[String]) -> Vec<String> {
    let mut taken: BTreeSet<String> = columns.iter().cloned().collect();
    let mut seen = BTreeSet::new();
    let mut key_of = |column: &String| {
        if seen.insert(column.clone()) {
            return column.clone();
        }
        let free = (2..).map(|n| format!("{column}_{n}")).find(|key| !taken.contains(key));
        let key = free.unwrap_or_else(|| column.clone());
        taken.insert(key.clone());
        key
    };
    columns.iter().map(&mut key_of).collect()
}

/// The rows of a batch as values.
pub fn values_of(batch: &RecordBatch) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut types = Vec::new();
    let mut arrays = Vec::new();
    for array in batch.columns() {
        // What has no type of ours (rows, maps) is shown as text.
        let data_type = DataType::from_arrow(array.data_type()).unwrap_or(DataType::Text);
        arrays.push(arrow::compute::cast(array, &data_type.to_arrow())?);
        types.push(data_type);
    }
    let layout = Layout::new(types);
    let encoder = relation::columns::RowEncoder::new(layout.clone(), arrays);
    let mut rows = Vec::with_capacity(batch.num_rows());
    let mut bytes = Vec::new();
    for row in 0..batch.num_rows() {
        bytes.clear();
        encoder.push(row, &mut bytes)?;
        rows.push(layout.values(&bytes));
    }
    Ok(rows)
}

/// A row as a JSON object in one text: its values by their columns' names.
pub fn json_row<'a>(row: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let object = row.into_iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
    serde_json::Value::Object(object).to_string()
}

/// A value as JSON; numbers beyond what JSON readers keep exactly are text.
pub fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(v) => (*v).into(),
        Value::UInt(v) => (*v).into(),
        Value::Float(v) => serde_json::Number::from_f64(*v).map_or(serde_json::Value::Null, Into::into),
        Value::Array(values) => values.iter().map(json_of).collect(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_what_they_are_to_programs() {
        let texts = |row: &[&str]| row.iter().map(|text| Some((*text).to_owned())).collect();
        let table = Table {
            columns: ["n", "b", "d", "t", "none"].map(str::to_owned).to_vec(),
            rows: vec![
                texts(&["12345678901234567890.50", "t", r#"{"a": 1}"#, "7", ""]),
                [texts(&["NaN", "f", "{", "\""]), vec![None]].concat(),
            ],
            forms: vec![Form::Number, Form::Boolean, Form::Document, Form::Text],
            notices: Vec::new(),
        };
        let wanted = [
            r#"{"n":12345678901234567890.50,"b":true,"d":{"a": 1},"t":"7","none":""}"#,
            r#"{"n":"NaN","b":false,"d":"{","t":"\"","none":null}"#,
        ];
        assert_eq!(table.json(), format!("[{}]", wanted.join(",")));
    }

    #[test]
    fn arrays_are_arrays_of_what_they_hold() {
        let of = |name: &str, text: &str| Form::named(name).json(text);
        assert_eq!(of("_int4", "{1,NULL,3}"), "[1,null,3]");
        assert_eq!(of("_numeric", "{{1.50,2},{3,4}}"), "[[1.50,2],[3,4]]");
        assert_eq!(of("_text", r#"{a,"b, \"c\"","NULL",NULL,""}"#), r#"["a","b, \"c\"","NULL",null,""]"#);
        assert_eq!(of("_bool", "{t,f}"), "[true,false]");
        assert_eq!(of("_jsonb", r#"{"{\"a\": 1}"}"#), r#"[{"a": 1}]"#);
        assert_eq!(of("_int4", "{}"), "[]");
        assert_eq!(of("_int4", "[0:1]={1,2}"), r#""[0:1]={1,2}""#);
        assert_eq!(of("record", "(1,a)"), r#""(1,a)""#);
    }

    /// As `select sum(a), sum(b), c as sum_2` names them.
    #[test]
    fn no_value_is_lost_to_another_of_its_name() {
        let table = Table {
            columns: ["sum", "sum", "sum_2", "sum"].map(str::to_owned).to_vec(),
            rows: vec![["1", "2", "3", "4"].map(|text| Some(text.to_owned())).to_vec()],
            ..Table::default()
        };
        assert_eq!(table.json(), r#"[{"sum":"1","sum_3":"2","sum_2":"3","sum_4":"4"}]"#);
    }

    #[test]
    fn why_a_row_is_as_it_is_stands_below_it() {
        let text = |text: &str| Some(text.to_owned());
        let table = Table {
            columns: ["table", "message", "detail", "hint"].map(str::to_owned).to_vec(),
            rows: vec![
                vec![text("orders"), text("it is gone"), text("It was dropped."), text("Make it.\nOr not.")],
                vec![text("items"), text(""), None, None],
            ],
            ..Table::default()
        };
        let wanted = [
            " table  | message    ".trim_end(),
            "--------+------------",
            " orders | it is gone",
            "   Detail: It was dropped.",
            "   Hint: Make it.",
            "   Hint: Or not.",
            " items  |",
            "(2 rows)",
        ];
        assert_eq!(table.explained().lines().collect::<Vec<_>>(), wanted);
    }
}
