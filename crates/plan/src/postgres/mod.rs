//! What SQL means in PostgreSQL, where DataFusion means something else.
//!
//! 1. [`whole_rows`] writes rows out by their columns, [`syntax`] goes over a statement once its columns have names: literals get PostgreSQL's types, lengths of types and
//!    syntax of its own become calls.
//! 2. [`operators`] plans operators by the types of their operands.
//! 3. [`functions`] are in the one registry that models, their upkeep, reads and the oracle share.
//! 4. [`forms`] reads and writes texts as PostgreSQL does, after types were agreed on.
//!
//! Every function here is a function of its arguments alone, never panics, and makes no more than a bounded number of
//! bytes of a batch.

pub(crate) mod arithmetic;
pub(crate) mod blanks;
mod build_json;
pub(crate) mod calendar;
mod calls;
pub(crate) mod castable;
mod casts_apart;
pub(crate) mod choices;
mod document;
mod documents;
mod doubles;
mod fields;
pub(crate) mod forms;
mod json_path;
mod lists;
mod merged;
pub(crate) mod moment;
mod numbers;
pub(crate) mod operators;
mod orders;
mod outer_names;
mod own;
mod patterns;
mod powers;
pub(crate) mod quantified;
mod queries;
pub(crate) mod refused;
pub(crate) mod regexps;
mod relations;
mod sign;
pub(crate) mod syntax;
pub(crate) mod texts;
pub(crate) mod times;
pub(crate) mod types;
mod uuids;
pub(crate) mod whole_rows;
pub(crate) mod windows;

use std::sync::Arc;

use datafusion_expr::ScalarUDF;

use calls::function;

pub(crate) use build_json::builds_documents;

/// The functions that are ours, which take the names that DataFusion's have.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        fields::extract(),
        fields::date_part(),
        fields::numeric(),
        sign::function(),
        lists::array_or_empty(),
        lists::array_dims(),
        lists::array_places(),
        lists::array_contains(),
        lists::array_overlaps(),
        lists::series(),
        lists::ranges(),
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
        function("digits_of", patterns::DIGITS_OF),
        function("text", texts::TEXT),
        function("varchar", texts::VARCHAR),
        function("bpchar", texts::BPCHAR),
        function("one_char", texts::ONE_CHAR),
        function("uuid", uuids::UUID),
        function("uuid_as_it_is", uuids::AS_IT_IS),
        uuids::random(),
        function("substring", texts::SUBSTRING),
        function("substr", texts::SUBSTRING),
        function("length", texts::LENGTH),
        function("upper", texts::UPPER),
        function("lower", texts::LOWER),
        function("initcap", texts::INITCAP),
        function("get_byte", texts::GET_BYTE),
        function("set_byte", texts::SET_BYTE),
        function("get_bit", texts::GET_BIT),
        function("set_bit", texts::SET_BIT),
        function("in_lines", texts::IN_LINES),
        function("escaped_bytes", texts::ESCAPED_BYTES),
        function("chr", texts::CHR),
        function("to_hex", texts::TO_HEX),
        function("string_to_array", texts::STRING_TO_ARRAY),
        function("regexp_replace", regexps::REGEXP_REPLACE),
        function("regexp_match", regexps::REGEXP_MATCH),
        function("regexp_all_matches", regexps::REGEXP_ALL_MATCHES),
        function("regexp_split_to_array", regexps::REGEXP_SPLIT),
        function("regexp_count", regexps::REGEXP_COUNT),
        function("regexp_substr", regexps::REGEXP_SUBSTR),
        function("regexp_instr", regexps::REGEXP_INSTR),
        function("regexp_like", regexps::REGEXP_LIKE),
        function("similar_to", regexps::SIMILAR_TO),
        function("quote_ident", texts::QUOTE_IDENT),
        function("quote_literal", texts::QUOTE_LITERAL),
        function("quote_nullable", texts::QUOTE_NULLABLE),
        function("format", texts::FORMATTED),
        function("unistr", texts::UNISTR),
        choices::choice(datafusion_functions::core::coalesce()),
        choices::choice(datafusion_functions::core::nvl()),
        numbers::whole(datafusion_functions::math::ceil()),
        numbers::whole(datafusion_functions::math::floor()),
        numbers::whole(datafusion_functions::math::trunc()),
        numbers::rounded(datafusion_functions::math::round()),
        function("asin", numbers::ASIN),
        function("acos", numbers::ACOS),
        function("acosh", numbers::ACOSH),
        function("atanh", numbers::ATANH),
        function("gcd", numbers::GCD),
        function("lcm", numbers::LCM),
        powers::of_numerics(function("sqrt", numbers::SQRT), powers::Work::Sqrt),
        powers::of_numerics(function("power", numbers::POWER), powers::Work::Power),
        powers::of_numerics(function("pow", numbers::POWER), powers::Work::Power),
        powers::of_numerics(function("exp", numbers::EXP), powers::Work::Exp),
        powers::of_numerics(function("ln", numbers::LN), powers::Work::Ln),
        powers::of_numerics(function("log", numbers::LOG), powers::Work::Log),
        numbers::buckets(function("width_bucket", numbers::WIDTH_BUCKET)),
        numbers::digits("scale", false),
        numbers::digits("min_scale", true),
        function("bit_count", texts::BIT_COUNT),
        function("convert_from", texts::CONVERT_FROM),
        function("convert_to", texts::CONVERT_TO),
        function("json", documents::JSON),
        function("jsonb", documents::JSONB),
        function("json_as_it_is", documents::AS_IT_IS),
        function("jsonb_as_it_is", documents::AS_IT_IS_B),
        function("json_get", documents::GET),
        function("json_get_text", documents::GET_TEXT),
        function("json_path", documents::PATH),
        function("json_path_text", documents::PATH_TEXT),
        function("json_extract_path", documents::EXTRACT_PATH),
        function("jsonb_extract_path", documents::EXTRACT_PATH_B),
        function("json_extract_path_text", documents::EXTRACT_PATH_TEXT),
        function("jsonb_extract_path_text", documents::EXTRACT_PATH_TEXT),
        function("jsonb_exists", documents::EXISTS),
        function("jsonb_exists_any", documents::EXISTS_ANY),
        function("jsonb_exists_all", documents::EXISTS_ALL),
        function("jsonb_contains", documents::CONTAINS),
        function("jsonb_concat", documents::CONCAT),
        function("jsonb_delete", documents::DELETE),
        function("jsonb_delete_path", documents::DELETE_PATH),
        function("jsonb_set", documents::SET),
        function("jsonb_insert", documents::INSERT),
        function("json_object", documents::OBJECT),
        function("jsonb_object", documents::OBJECT_B),
        function("json_typeof", documents::TYPEOF),
        function("jsonb_typeof", documents::TYPEOF),
        function("json_array_length", documents::ARRAY_LENGTH),
        function("jsonb_array_length", documents::ARRAY_LENGTH),
        function("json_elements", documents::ELEMENTS),
        function("json_elements_text", documents::ELEMENTS_TEXT),
        function("json_keys", documents::KEYS),
        function("json_values", documents::VALUES),
        function("json_values_text", documents::VALUES_TEXT),
        function("json_strip_nulls", documents::STRIP_NULLS),
        function("jsonb_strip_nulls", documents::STRIP_NULLS_B),
        function("jsonb_pretty", documents::PRETTY),
        function("jsonb_path_exists", json_path::PATH_EXISTS),
        function("jsonb_path_match", json_path::PATH_MATCH),
        function("jsonb_path_match_opr", json_path::HOLDS),
        function("jsonb_path_query_array", json_path::QUERY_ARRAY),
        function("jsonb_path_query_first", json_path::QUERY_FIRST),
        function("json_path_values", json_path::QUERY),
    ];
    all.extend(build_json::functions());
    all.extend(quantified::functions());
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::new_null_array;
    use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit};
    use datafusion_common::ScalarValue;
    use datafusion_common::config::ConfigOptions;
    use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};

    /// Values at the edges of each type.
    fn extremes() -> Vec<(DataType, Vec<ScalarValue>)> {
        let utc = || Some(Arc::from("UTC"));
        let texts = [
            "",
            "x",
            "\\",
            "%",
            "'",
            "{1,{",
            "{\"a\":[1,null]}",
            "[",
            "(",
            "-1e400",
            "day",
            "year",
            "UTC",
            "é\u{10ffff}",
            "9999999999999999999999999999999999999999",
            "-infinity",
            "YYYY-MM-DD HH24:MI:SS.US",
            "%s%$",
            "\u{0}",
        ];
        let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        let interval = |months, days, nanos| {
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos)))
        };
        vec![
            (DataType::Utf8, texts.iter().map(|text| ScalarValue::from(*text)).collect()),
            (DataType::Int32, [i32::MIN, -1, 0, 1, i32::MAX].map(ScalarValue::from).to_vec()),
            (
                DataType::Float64,
                [f64::MIN, -0.5, 0.0, 1.5, f64::MAX, f64::INFINITY, f64::NAN].map(ScalarValue::from).to_vec(),
            ),
            (DataType::Date32, [i32::MIN, -1, 0, i32::MAX].map(|days| ScalarValue::Date32(Some(days))).to_vec()),
            (
                DataType::Time64(TimeUnit::Microsecond),
                [0, 86_400_000_000, i64::MAX].map(|us| ScalarValue::Time64Microsecond(Some(us))).to_vec(),
            ),
            (
                DataType::Timestamp(TimeUnit::Microsecond, None),
                times.map(|us| ScalarValue::TimestampMicrosecond(Some(us), None)).to_vec(),
            ),
            (
                DataType::Timestamp(TimeUnit::Microsecond, utc()),
                times.map(|us| ScalarValue::TimestampMicrosecond(Some(us), utc())).to_vec(),
            ),
            (
                DataType::Interval(IntervalUnit::MonthDayNano),
                vec![
                    interval(i32::MIN, i32::MIN, i64::MIN),
                    interval(0, 0, 0),
                    interval(1, -1, 1_000),
                    interval(i32::MAX, i32::MAX, i64::MAX),
                ],
            ),
            (DataType::Binary, vec![ScalarValue::Binary(Some(vec![])), ScalarValue::Binary(Some(vec![0, 255]))]),
        ]
    }

    /// Calls a function; an error is as good as a value.
    fn call(function: &ScalarUDF, types: &[DataType], values: &[ScalarValue]) {
        let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("x", t.clone(), true))).collect();
        let scalars: Vec<Option<&ScalarValue>> = values.iter().map(Some).collect();
        let args = ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars };
        let Ok(return_field) = function.return_field_from_args(args) else { return };
        let args = values.iter().cloned().map(ColumnarValue::Scalar).collect();
        let config_options = Arc::new(ConfigOptions::default());
        let made = function.invoke_with_args(ScalarFunctionArgs {
            args,
            arg_fields: fields,
            number_rows: 1,
            return_field: Arc::clone(&return_field),
            config_options,
        });
        if let Ok(made) = made {
            assert_eq!(made.data_type(), *return_field.data_type(), "{} of {types:?}", function.name());
        }
    }

    #[test]
    fn no_value_makes_a_function_panic() {
        let extremes = extremes();
        let null = |data_type: &DataType| ScalarValue::try_from_array(&new_null_array(data_type, 1), 0).unwrap();
        for function in super::functions() {
            // Each list of up to three types that an overload takes as they are.
            let mut lists: Vec<Vec<usize>> = vec![vec![]];
            for _ in 0..3 {
                let longer = lists
                    .iter()
                    .flat_map(|list| (0..extremes.len()).map(move |kind| [list.clone(), vec![kind]].concat()));
                let longer: Vec<Vec<usize>> = longer.collect();
                lists.extend(longer);
                lists.sort();
                lists.dedup();
            }
            for list in lists.iter().filter(|list| !list.is_empty()) {
                let types: Vec<DataType> = list.iter().map(|kind| extremes[*kind].0.clone()).collect();
                if function.coerce_types(&types).ok().as_ref() != Some(&types) {
                    continue;
                }
                call(&function, &types, &types.iter().map(null).collect::<Vec<_>>());
                let counts: Vec<usize> = list.iter().map(|kind| extremes[*kind].1.len()).collect();
                for at in 0..counts.iter().product::<usize>() {
                    let mut rest = at;
                    let values = list.iter().zip(&counts).map(|(kind, count)| {
                        let value = extremes[*kind].1[rest % count].clone();
                        rest /= count;
                        value
                    });
                    call(&function, &types, &values.collect::<Vec<_>>());
                }
            }
        }
    }
}
