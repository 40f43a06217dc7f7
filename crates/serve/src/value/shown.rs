//! A column as a client of the Postgres wire sees it, for tests of what SQL means.

use arrow::array::{Array as _, ArrayRef};
use arrow::datatypes::Field;
use bytes::BytesMut;

use super::Column;
use crate::pg::column as wire_type;
use crate::reader::SqlError;

/// The name of a column's type as `pg_type` has it, and its cells as text; none for NULL.
pub fn shown(field: &Field, array: &ArrayRef) -> Result<(String, Vec<Option<String>>), SqlError> {
    let column = Column::new(array)?;
    let cell = |row: usize| {
        if column.is_null(row) {
            return None;
        }
        let mut out = BytesMut::new();
        column.text(row, &mut out);
        Some(String::from_utf8_lossy(&out).into_owned())
    };
    Ok((wire_type(field).0.name().to_owned(), (0..array.len()).map(cell).collect()))
}
