//! Printing answers: aligned columns for people, JSON for programs.

use arrow::array::RecordBatch;
use relation::{DataType, Layout, Value};

/// Columns and rows as text; none is NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// What was said beside them.
    pub notices: Vec<String>,
}

impl Table {
    /// The rows of batches, as text.
    pub fn from_batches(schema: &arrow::datatypes::Schema, batches: &[RecordBatch]) -> anyhow::Result<Self> {
        let columns = schema.fields().iter().map(|f| f.name().clone()).collect();
        let mut rows = Vec::new();
        for batch in batches {
            for values in values_of(batch)? {
                rows.push(values.iter().map(|v| (!v.is_null()).then(|| v.to_string())).collect());
            }
        }
        Ok(Self { columns, rows, notices: Vec::new() })
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

    /// An array of objects.
    pub fn json(&self) -> serde_json::Value {
        let object = |row: &Vec<Option<String>>| {
            let cells = self.columns.iter().zip(row);
            let cells =
                cells.map(|(c, v)| (c.clone(), v.clone().map_or(serde_json::Value::Null, serde_json::Value::String)));
            serde_json::Value::Object(cells.collect())
        };
        serde_json::Value::Array(self.rows.iter().map(object).collect())
    }
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
