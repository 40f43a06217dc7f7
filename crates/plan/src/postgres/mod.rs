//! What SQL means in PostgreSQL, where DataFusion means something else.
//!
//! 1. [`syntax`] goes over a statement once its columns have names: literals get PostgreSQL's types, lengths of types and
//!    syntax of its own become calls.
//! 2. [`operators`] plans operators by the types of their operands.
//! 3. [`functions`] are in the one registry that models, their upkeep, reads and the oracle share.
//! 4. [`totals`] gives sums and averages of integers their types, before types are agreed on.
//! 5. [`forms`] reads and writes texts as PostgreSQL does, after types were agreed on.
//!
//! Every function here is a function of its arguments alone, never panics, and makes no more than a bounded number of
//! bytes of a batch.

mod arithmetic;
mod build_json;
mod calendar;
mod calls;
mod document;
mod documents;
mod fields;
pub(crate) mod forms;
mod numbers;
pub(crate) mod operators;
mod patterns;
pub(crate) mod syntax;
mod texts;
mod times;
pub(crate) mod totals;
pub(crate) mod types;

use std::sync::Arc;

use datafusion_expr::ScalarUDF;

use calls::function;

/// The functions that are ours, which take the names that DataFusion's have.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        fields::extract(),
        fields::date_part(),
        fields::numeric(),
        function("time_plus", times::PLUS),
        function("time_minus", times::MINUS),
        function("time_times", times::TIMES),
        function("time_over", times::OVER),
        function("interval_length", times::LENGTH),
        function("age", times::AGE),
        function("timezone", times::TIMEZONE),
        function("date_trunc", times::TRUNC),
        function("date_bin", times::BIN),
        function("to_precision", times::PRECISION),
        function("isfinite", times::ISFINITE),
        function("justify_days", times::JUSTIFY_DAYS),
        function("justify_hours", times::JUSTIFY_HOURS),
        function("justify_interval", times::JUSTIFY),
        function("make_interval", times::MAKE_INTERVAL),
        function("make_date", times::MAKE_DATE),
        function("make_time", times::MAKE_TIME),
        function("make_timestamp", times::MAKE_TIMESTAMP),
        function("make_timestamptz", times::MAKE_TIMESTAMPTZ),
        function("to_date", patterns::TO_DATE),
        function("to_timestamp", patterns::TO_TIMESTAMP),
        function("varchar", texts::VARCHAR),
        function("bpchar", texts::BPCHAR),
        function("substring", texts::SUBSTRING),
        function("substr", texts::SUBSTRING),
        function("length", texts::LENGTH),
        function("get_byte", texts::GET_BYTE),
        function("regexp_replace", texts::REGEXP_REPLACE),
        function("regexp_match", texts::REGEXP_MATCH),
        function("regexp_split_to_array", texts::REGEXP_SPLIT),
        function("regexp_count", texts::REGEXP_COUNT),
        function("regexp_substr", texts::REGEXP_SUBSTR),
        function("regexp_like", texts::REGEXP_LIKE),
        function("similar_to", texts::SIMILAR_TO),
        function("quote_ident", texts::QUOTE_IDENT),
        function("quote_literal", texts::QUOTE_LITERAL),
        function("quote_nullable", texts::QUOTE_NULLABLE),
        function("format", texts::FORMATTED),
        function("unistr", texts::UNISTR),
        function("sign", numbers::SIGN),
        function("sqrt", numbers::SQRT),
        function("power", numbers::POWER),
        function("pow", numbers::POWER),
        function("exp", numbers::EXP),
        function("ln", numbers::LN),
        function("log", numbers::LOG),
        function("width_bucket", numbers::WIDTH_BUCKET),
        function("json", documents::JSON),
        function("jsonb", documents::JSONB),
        function("json_get", documents::GET),
        function("json_get_text", documents::GET_TEXT),
        function("json_path", documents::PATH),
        function("json_path_text", documents::PATH_TEXT),
        function("json_extract_path", documents::EXTRACT_PATH),
        function("jsonb_extract_path", documents::EXTRACT_PATH),
        function("json_extract_path_text", documents::EXTRACT_PATH_TEXT),
        function("jsonb_extract_path_text", documents::EXTRACT_PATH_TEXT),
        function("jsonb_exists", documents::EXISTS),
        function("jsonb_exists_any", documents::EXISTS_ANY),
        function("jsonb_exists_all", documents::EXISTS_ALL),
        function("jsonb_contains", documents::CONTAINS),
        function("jsonb_concat", documents::CONCAT),
        function("jsonb_delete", documents::DELETE),
        function("json_typeof", documents::TYPEOF),
        function("jsonb_typeof", documents::TYPEOF),
        function("json_array_length", documents::ARRAY_LENGTH),
        function("jsonb_array_length", documents::ARRAY_LENGTH),
        function("json_strip_nulls", documents::STRIP_NULLS),
        function("jsonb_strip_nulls", documents::STRIP_NULLS),
        function("jsonb_pretty", documents::PRETTY),
    ];
    all.extend(build_json::functions());
    all
}
