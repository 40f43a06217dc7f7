//! How SQL is read, everywhere: models, tests, ad-hoc queries.
//!
//! The dialect is PostgreSQL's. Names are lower case unless quoted; NULLs sort as the largest value (last when
//! ascending, first when descending); `1.5` is a decimal, not a float; text is Arrow's `Utf8`; timestamps have
//! microseconds, since nanoseconds would end in 2262.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType as Arrow, Field, FieldRef};
use datafusion_common::Result;
use datafusion_common::config::{ConfigOptions, Dialect};
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::planner::ParserOptions;
use datafusion_sql::sqlparser::ast::{DataType as Sql, ExactNumberInfo, TimezoneInfo};
use relation::DataType;

use crate::dialect::PostgreSql;
use crate::postgres::types;

/// How deep expressions and subqueries may nest.
pub(crate) const NESTING_MAX: usize = 128;

/// How many operators of a model may stand inside one another: its upkeep computes them wherever there is a thread.
pub(crate) const DEPTH_MAX: usize = 300;

/// The dialect for the parser.
pub fn dialect() -> PostgreSql {
    PostgreSql::default()
}

/// DataFusion's settings for planning and running SQL.
pub fn config() -> ConfigOptions {
    let mut config = ConfigOptions::new();
    let parser = &mut config.sql_parser;
    parser.dialect = Dialect::PostgreSQL;
    parser.parse_float_as_decimal = true;
    parser.enable_ident_normalization = true;
    parser.map_string_types_to_utf8view = false;
    parser.support_varchar_with_length = true;
    parser.collect_spans = true;
    "nulls_max".clone_into(&mut parser.default_null_ordering);
    config.execution.time_zone = Some("UTC".to_owned());
    config
}

/// Settings of the planner that turns SQL into plans: made once, since every statement asks for them.
pub fn parser_options() -> ParserOptions {
    static OPTIONS: LazyLock<ParserOptions> = LazyLock::new(|| ParserOptions::from(&config().sql_parser));
    *OPTIONS
}

/// The types of SQL that are not what DataFusion takes them for.
#[derive(Debug)]
pub struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &Sql) -> Result<Option<FieldRef>> {
        let field = |data_type: Arrow| Field::new("", data_type, true);
        let named = match sql {
            Sql::JSON => Some(types::named(field(Arrow::Utf8), types::JSON)),
            Sql::JSONB => Some(types::named(field(Arrow::Utf8), types::JSONB)),
            _ => arrow_type(sql).map(field),
        };
        Ok(named.map(Arc::new))
    }
}

fn arrow_type(sql: &Sql) -> Option<Arrow> {
    let with_zone = |zone: &TimezoneInfo| matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz);
    let ours = match sql {
        Sql::Timestamp(_, zone) if with_zone(zone) => DataType::TimestampTz,
        Sql::Timestamp(_, _) | Sql::Datetime(_) => DataType::Timestamp,
        Sql::Time(_, zone) if !with_zone(zone) => DataType::Time,
        Sql::Float(ExactNumberInfo::None) => DataType::Float64,
        Sql::Float(ExactNumberInfo::Precision(bits)) if *bits > 24 => DataType::Float64,
        Sql::Float(ExactNumberInfo::Precision(_)) => DataType::Float32,
        Sql::Dec(ExactNumberInfo::Precision(precision)) => decimal(*precision, 0)?,
        Sql::Dec(ExactNumberInfo::PrecisionAndScale(precision, scale)) => decimal(*precision, *scale)?,
        _ => return None,
    };
    Some(ours.to_arrow())
}

fn decimal(precision: u64, scale: i64) -> Option<DataType> {
    let (precision, scale) = (u8::try_from(precision).ok()?, i8::try_from(scale).ok()?);
    (1..=76).contains(&precision).then_some(DataType::Decimal { precision, scale })
}
