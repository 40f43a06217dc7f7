//! The type uuid: a text in one form, so that equal ones are equal texts, and are sorted as PostgreSQL sorts them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::calls::Kind::{Text, Uuid};
use super::calls::{Overload, over};
use super::types;

/// A text as a uuid.
pub(crate) const UUID: &[Overload] = &[over(&[Text], Uuid, |row, out| {
    let written = row.text(0);
    match uuid(written) {
        Some(uuid) => out.text(&uuid),
        None => exec_err!("invalid input syntax for type uuid: \"{written}\""),
    }
})];

/// A uuid as it is, of which a column does not say that it is one.
pub(crate) const AS_IT_IS: &[Overload] = &[over(&[Text], Uuid, |row, out| out.text(row.text(0)))];

/// Thirty-two hexadecimal digits, a hyphen behind any group of four of them, in braces or not.
fn uuid(written: &str) -> Option<String> {
    let inner = match written.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => written,
    };
    let mut digits = String::with_capacity(36);
    let mut count = 0;
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        if !c.is_ascii_hexdigit() || count == 32 {
            return None;
        }
        if matches!(count, 8 | 12 | 16 | 20) {
            digits.push('-');
        }
        digits.push(c.to_ascii_lowercase());
        count += 1;
        if count % 4 == 0 && count < 32 {
            chars.next_if_eq(&'-');
        }
    }
    (count == 32).then_some(digits)
}

/// `gen_random_uuid()`: another one for each row.
pub(crate) fn random() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Random {
        made_by: datafusion_functions::string::uuid(),
        signature: Signature::nullary(Volatility::Volatile),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Random {
    made_by: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Random {
    fn name(&self) -> &str {
        "gen_random_uuid"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(types::named(Field::new(self.name(), DataType::Utf8, false), types::UUID)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.made_by.invoke_with_args(args)?.cast_to(&DataType::Utf8, None)
    }
}
