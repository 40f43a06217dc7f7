//! Functions that client programs call around the catalogue: who am I, is this table visible, how is that type written.
//!
//! They answer from the names of one session, so they are made when a statement calls them, not registered once.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int32Builder, Int64Array, ListBuilder, StringArray, StringBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{and_kleene, cast};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion_pg_catalog::pg_catalog::{array_bounds_udf, format_type, quote_ident_udf};

use relation::schema::TYPE_NAME;

use crate::error::{Error, code};
use crate::pg_catalog::arrays;
use crate::pg_catalog::registered::{
    class_in, class_oid, class_out, function_in, is_seen, namespace_in, namespace_oid, namespace_out, type_in,
    type_oid, type_out,
};
use crate::pg_catalog::shipped::{function_name, function_oid};
use crate::pg_catalog::{Names, OWNER, REGISTERED};
use crate::session::Identity;

/// What the connection says about itself.
const VERSION: &str = concat!("PostgreSQL 16.0 (Tidemill ", env!("CARGO_PKG_VERSION"), "), a real-time warehouse");

/// Functions whose texts are of the type `name`.
const NAMES: [&str; 10] = [
    "current_user",
    "session_user",
    "current_role",
    "user",
    "current_database",
    "current_catalog",
    "current_schema",
    "pg_get_userbyid",
    "pg_encoding_to_char",
    "pg_client_encoding",
];

/// Names of encodings by PostgreSQL's numbers of them.
const ENCODINGS: [&str; 42] = [
    "SQL_ASCII",
    "EUC_JP",
    "EUC_CN",
    "EUC_KR",
    "EUC_TW",
    "EUC_JIS_2004",
    "UTF8",
    "MULE_INTERNAL",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "WIN1256",
    "WIN1258",
    "WIN866",
    "WIN874",
    "KOI8R",
    "WIN1251",
    "WIN1252",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "WIN1250",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1257",
    "KOI8U",
    "SJIS",
    "BIG5",
    "GBK",
    "UHC",
    "GB18030",
    "JOHAB",
    "SHIFT_JIS_2004",
];
/// The number of the one that is used.
const UTF8: usize = 6;

fn encoding(number: i32) -> String {
    let known = usize::try_from(number).ok().and_then(|number| ENCODINGS.get(number));
    known.copied().unwrap_or_default().to_owned()
}

type Eval = Arc<dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync>;

/// The function of a name, for whom this is, their search path and the names of a catalog; none where SQL's own functions
/// are meant.
pub(crate) fn function(
    name: &str,
    identity: &Identity,
    path: &[String],
    names: &dyn Fn() -> Option<Arc<Names>>,
) -> Option<Arc<ScalarUDF>> {
    let udf = match name {
        "current_user" | "session_user" | "current_role" | "user" => text(name, &identity.user),
        "version" => text(name, VERSION),
        "current_database" | "current_catalog" => text(name, &identity.database),
        "current_schema" => text(name, path.first().map_or("public", String::as_str)),
        "current_schemas" => current_schemas(path.to_vec()),
        "current_setting" => current_setting(settings(path)),
        "set_config" => set_config(settings(path)),
        "to_regclass" => registered(name, names()?, |names, name| Ok(class_oid(names, name))),
        "regclassin" => registered(name, names()?, |names, name| class_in(names, name).map(Some)),
        "to_regtype" => registered(name, names()?, |_, name| Ok(type_oid(name))),
        "regtypein" => registered(name, names()?, |_, name| type_in(name).map(Some)),
        "pg_get_userbyid" => text(name, OWNER),
        "pg_table_is_visible" => by_oid(name, DataType::Boolean, names()?, visible),
        "pg_get_indexdef" => by_part(name, names()?, Names::index_definition),
        "pg_get_constraintdef" => by_part(name, names()?, |names, oid, _| names.constraint_definition(oid)),
        "obj_description" => by_part(name, names()?, |names, oid, _| names.comment(oid, 0)),
        "col_description" => by_part(name, names()?, Names::comment),
        "pg_get_viewdef" => by_oid(name, DataType::Utf8, names()?, view_definition),
        "pg_type_is_visible"
        | "pg_function_is_visible"
        | "pg_operator_is_visible"
        | "pg_collation_is_visible"
        | "pg_opclass_is_visible"
        | "pg_opfamily_is_visible"
        | "pg_conversion_is_visible"
        | "pg_statistics_obj_is_visible"
        | "pg_ts_config_is_visible"
        | "pg_ts_dict_is_visible"
        | "pg_ts_parser_is_visible"
        | "pg_ts_template_is_visible"
        | "pg_relation_is_publishable" => flag(name, true),
        "pg_is_in_recovery" | "pg_is_other_temp_schema" => flag(name, false),
        "pg_client_encoding" => text(name, ENCODINGS[UTF8]),
        "pg_encoding_to_char" => by_number(name, encoding),
        "pg_backend_pid" => number(name, identity.pid),
        "xid" => number(name, 0),
        "xid_age" => number(name, 0),
        // Nobody else's session is shown, so there is none to end.
        "pg_terminate_backend" | "pg_cancel_backend" => flag(name, false),
        "pg_expanded_array" => ScalarUDF::new_from_impl(arrays::Expanded::new()),
        "txid_current" => long(name, 1),
        "pg_postmaster_start_time" | "pg_conf_load_time" => started(name),
        "pg_advisory_unlock_all" => text(name, ""),
        "regprocin" => registered(name, names()?, |_, name| function_in(name).map(Some)),
        "to_regproc" => registered(name, names()?, |_, name| Ok(function_oid(name))),
        "regnamespacein" => registered(name, names()?, |names, name| namespace_in(names, name).map(Some)),
        "to_regnamespace" => registered(name, names()?, |names, name| Ok(namespace_oid(names, name))),
        "regclassout" | "regtypeout" | "regprocout" | "regnamespaceout" => registered_out(name, names()?),
        "pg_my_temp_schema" => number(name, 0),
        "pg_blocking_pids" => no_numbers(name),
        "pg_relation_size"
        | "pg_total_relation_size"
        | "pg_table_size"
        | "pg_indexes_size"
        | "pg_database_size"
        | "pg_tablespace_size" => size(name),
        "pg_stat_get_numscans" => scans(name),
        "pg_size_pretty" => size_pretty(),
        "pg_sleep" => super::sleep::function(),
        "pg_typeof" => super::type_of::function(),
        "pg_get_expr"
        | "shobj_description"
        | "pg_get_partkeydef"
        | "pg_get_statisticsobjdef_columns"
        | "pg_get_function_result"
        | "pg_get_function_arguments"
        | "pg_get_function_identity_arguments"
        | "pg_get_functiondef"
        | "pg_get_triggerdef"
        | "pg_get_ruledef"
        | "pg_get_serial_sequence"
        | "pg_tablespace_location"
        | "inet_server_addr" => nothing(name),
        "format_type" => format_type::create_format_type_udf(),
        "quote_ident" => quote_ident_udf::create_quote_ident_udf(),
        "parse_ident" => quote_ident_udf::create_parse_ident_udf(),
        "array_upper" => array_bounds_udf::create_array_upper_udf(),
        "array_lower" => array_bounds_udf::create_array_lower_udf(),
        "has_table_privilege" | "has_any_column_privilege" => has_privilege(name, Some((names()?, 2))),
        "has_column_privilege" => has_privilege(name, Some((names()?, 3))),
        "has_schema_privilege" | "has_database_privilege" | "has_function_privilege" => has_privilege(name, None),
        _ => return None,
    };
    Some(Arc::new(udf))
}

/// How an oid of one of the types of [`REGISTERED`] is shown.
pub(crate) fn shown(names: &Names, data_type: &str, oid: i32) -> String {
    match data_type {
        "regclass" => class_out(names, oid),
        "regtype" => type_out(oid),
        "regproc" => function_name(oid),
        "regnamespace" => namespace_out(names, oid),
        _ => oid.to_string(),
    }
}

fn visible(names: &Names, oid: i32) -> Found {
    Found::Flag(names.is_visible(oid))
}

fn view_definition(names: &Names, oid: i32) -> Found {
    Found::Text(names.tables.iter().find(|table| table.oid == oid).and_then(|table| table.definition.clone()))
}

/// What a function of an oid yields.
enum Found {
    Flag(bool),
    Text(Option<String>),
}

fn by_oid(name: &str, output: DataType, names: Arc<Names>, find: fn(&Names, i32) -> Found) -> ScalarUDF {
    let to_flags = output == DataType::Boolean;
    let eval = move |arguments: &[ArrayRef], rows: usize| {
        let oids = oids(arguments, rows)?;
        let found = oids.iter().map(|oid| oid.map(|oid| find(&names, oid)));
        Ok(if to_flags {
            let flags = found.map(|found| match found {
                Some(Found::Flag(flag)) => Some(flag),
                _ => None,
            });
            Arc::new(flags.collect::<BooleanArray>()) as ArrayRef
        } else {
            let texts = found.map(|found| match found {
                Some(Found::Text(text)) => text,
                _ => None,
            });
            Arc::new(texts.collect::<StringArray>()) as ArrayRef
        })
    };
    udf(name, output, eval)
}

/// The text of a number.
fn by_number(name: &str, find: fn(i32) -> String) -> ScalarUDF {
    udf(name, DataType::Utf8, move |arguments, rows| {
        let found = oids(arguments, rows)?;
        Ok(Arc::new(found.iter().map(|number| number.map(find)).collect::<StringArray>()))
    })
}

/// The names of oids, for `::regclass::text`.
fn registered_out(name: &str, names: Arc<Names>) -> ScalarUDF {
    let data_type = name.trim_end_matches("out").to_owned();
    udf(name, DataType::Utf8, move |arguments, rows| {
        let oids = oids(arguments, rows)?;
        let found = oids.iter().map(|oid| oid.map(|oid| shown(&names, &data_type, oid)));
        Ok(Arc::new(found.collect::<StringArray>()))
    })
}

/// The text of an object and of a part of it, which is numbered; without a number it is 0.
fn by_part(name: &str, names: Arc<Names>, find: fn(&Names, i32, i32) -> Option<String>) -> ScalarUDF {
    udf(name, DataType::Utf8, move |arguments, rows| {
        let oids = oids(arguments, rows)?;
        let parts = match arguments.get(1) {
            Some(second) if second.data_type().is_integer() => oids_of(second)?,
            _ => Int32Array::from(vec![0; rows]),
        };
        let found = oids.iter().zip(&parts).map(|(oid, part)| find(&names, oid?, part?));
        Ok(Arc::new(found.collect::<StringArray>()))
    })
}

/// The first argument as oids, whatever type it came in.
fn oids(arguments: &[ArrayRef], rows: usize) -> Result<Int32Array> {
    let Some(first) = arguments.first() else { return Ok(Int32Array::new_null(rows)) };
    oids_of(first)
}

fn oids_of(array: &ArrayRef) -> Result<Int32Array> {
    Ok(cast(array, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
}

/// The oids of names; what is an oid already stays one.
fn registered(name: &str, names: Arc<Names>, find: fn(&Names, &str) -> crate::error::Result<Option<i32>>) -> ScalarUDF {
    udf(name, DataType::Int32, move |arguments, rows| {
        let Some(first) = arguments.first() else { return Ok(new_null_array(&DataType::Int32, rows)) };
        if first.data_type().is_integer() {
            return Ok(Arc::new(oids(arguments, rows)?));
        }
        let asked = cast(first, &DataType::Utf8)?;
        let found = asked.as_string::<i32>().iter().map(|name| match name {
            Some(name) => find(&names, name).map_err(Error::into_datafusion),
            None => Ok(None),
        });
        Ok(Arc::new(found.collect::<Result<Int32Array>>()?))
    })
}

fn current_schemas(path: Vec<String>) -> ScalarUDF {
    let output = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let eval = move |arguments: &[ArrayRef], rows: usize| {
        let implicit =
            arguments.first().and_then(|all| all.as_boolean_opt()).is_some_and(|all| !all.is_empty() && all.value(0));
        let mut out = ListBuilder::new(StringBuilder::new());
        for _ in 0..rows {
            let system = implicit.then_some("pg_catalog").into_iter();
            out.append_value(system.chain(path.iter().map(String::as_str)).map(Some));
        }
        Ok(Arc::new(out.finish()) as ArrayRef)
    };
    udf("current_schemas", output, eval)
}

/// Settings that clients look at; the connection keeps those that can be changed.
pub(crate) fn settings(path: &[String]) -> Vec<(&'static str, String)> {
    let fixed = [
        ("application_name", ""),
        ("bytea_output", "hex"),
        ("client_min_messages", "notice"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "on"),
        ("extra_float_digits", "1"),
        ("integer_datetimes", "on"),
        ("jit", "off"),
        ("lc_collate", "C"),
        ("lc_ctype", "C.UTF-8"),
        ("max_identifier_length", "63"),
        ("max_index_keys", "32"),
        ("server_encoding", "UTF8"),
        ("server_version", "16.0"),
        ("server_version_num", "160000"),
        ("standard_conforming_strings", "on"),
        ("transaction_isolation", "read committed"),
        ("transaction_read_only", "on"),
    ];
    let path = ("search_path", path.join(", "));
    fixed.into_iter().map(|(name, value)| (name, value.to_owned())).chain([path]).collect()
}

type KnownSettings = Vec<(&'static str, String)>;

fn known_setting(known: &KnownSettings, name: &str) -> Option<String> {
    let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone())
}

fn current_setting(known: KnownSettings) -> ScalarUDF {
    udf("current_setting", DataType::Utf8, move |arguments, rows| {
        let Some(asked) = arguments.first() else { return Ok(new_null_array(&DataType::Utf8, rows)) };
        let asked = cast(asked, &DataType::Utf8)?;
        let found = asked.as_string::<i32>().iter().map(|name| known_setting(&known, name?));
        Ok(Arc::new(found.collect::<StringArray>()))
    })
}

/// A setting to what it is; the connection itself takes `SELECT set_config(…)`, and nothing beside it.
fn set_config(known: KnownSettings) -> ScalarUDF {
    udf("set_config", DataType::Utf8, move |arguments, rows| {
        let [name, value, ..] = arguments else { return Ok(new_null_array(&DataType::Utf8, rows)) };
        let (names, values) = (cast(name, &DataType::Utf8)?, cast(value, &DataType::Utf8)?);
        let set = names.as_string::<i32>().iter().zip(values.as_string::<i32>()).map(|(name, value)| {
            let (Some(name), Some(value)) = (name, value) else { return Ok(None) };
            if known_setting(&known, name).is_some_and(|is| is.eq_ignore_ascii_case(value)) {
                return Ok(Some(value.to_owned()));
            }
            let refused = Error::new(code::NOT_SUPPORTED, format!("\"{name}\" cannot be set within a query"))
                .hint("Give SET, or SELECT set_config(…) alone.");
            Err(refused.into_datafusion())
        });
        Ok(Arc::new(set.collect::<Result<StringArray>>()?))
    })
}

fn text(name: &str, value: &str) -> ScalarUDF {
    let value = value.to_owned();
    udf(name, DataType::Utf8, move |_, rows| Ok(Arc::new(StringArray::from(vec![value.as_str(); rows]))))
}

fn flag(name: &str, value: bool) -> ScalarUDF {
    udf(name, DataType::Boolean, move |_, rows| Ok(Arc::new(BooleanArray::from(vec![value; rows]))))
}

fn number(name: &str, value: i32) -> ScalarUDF {
    udf(name, DataType::Int32, move |_, rows| Ok(Arc::new(Int32Array::from(vec![value; rows]))))
}

fn long(name: &str, value: i64) -> ScalarUDF {
    udf(name, DataType::Int64, move |_, rows| Ok(Arc::new(Int64Array::from(vec![value; rows]))))
}

/// Whoever sees a thing may read it, and nobody may do more. Of a relation, which is named so many arguments before the end, it
/// is asked whether it is seen.
fn has_privilege(name: &str, of: Option<(Arc<Names>, usize)>) -> ScalarUDF {
    const READS: [&str; 4] = ["select", "usage", "connect", "execute"];
    let is_read = |asked: &str| {
        let asked = asked.trim().to_lowercase();
        READS.contains(&asked.strip_suffix(" with grant option").unwrap_or(&asked))
    };
    udf(name, DataType::Boolean, move |arguments, rows| {
        let Some(asked) = arguments.last() else { return Ok(new_null_array(&DataType::Boolean, rows)) };
        let asked = cast(asked, &DataType::Utf8)?;
        // Of several named any will do.
        let has = asked.as_string::<i32>().iter().map(|asked| asked.map(|asked| asked.split(',').any(is_read)));
        let has: BooleanArray = has.collect();
        let relation = of.as_ref().and_then(|(names, before)| {
            let relation = arguments.get(arguments.len().checked_sub(*before)?)?;
            (!relation.data_type().is_integer()).then_some((names, relation))
        });
        let Some((names, relation)) = relation else { return Ok(Arc::new(has)) };
        let relation = cast(relation, &DataType::Utf8)?;
        let seen = relation.as_string::<i32>().iter().map(|name| name.map(|name| is_seen(names, name)));
        Ok(Arc::new(and_kleene(&has, &seen.collect())?))
    })
}

/// When the process began, as near as its first question tells.
fn started(name: &str) -> ScalarUDF {
    static STARTED_US: LazyLock<i64> = LazyLock::new(|| chrono::Utc::now().timestamp_micros());
    let output = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    udf(name, output, |_, rows| {
        Ok(Arc::new(TimestampMicrosecondArray::from(vec![*STARTED_US; rows]).with_timezone("UTC")))
    })
}

/// Bytes on disk, which are NULL: tables share the files of the store, so nobody knows how many are whose.
fn size(name: &str) -> ScalarUDF {
    udf(name, DataType::Int64, move |_, rows| Ok(new_null_array(&DataType::Int64, rows)))
}

fn scans(name: &str) -> ScalarUDF {
    udf(name, DataType::Int64, move |_, rows| Ok(Arc::new(Int64Array::from(vec![0; rows]))))
}

/// `12 kB`.
fn size_pretty() -> ScalarUDF {
    udf("pg_size_pretty", DataType::Utf8, |arguments, rows| {
        let Some(bytes) = arguments.first() else { return Ok(new_null_array(&DataType::Utf8, rows)) };
        let bytes = cast(bytes, &DataType::Int64)?;
        let texts = bytes.as_primitive::<Int64Type>().iter().map(|bytes| bytes.map(pretty));
        Ok(Arc::new(texts.collect::<StringArray>()))
    })
}

fn pretty(bytes: i64) -> String {
    let mut size = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        // Postgres changes the unit at ten thousand of it.
        if size.abs() < 10 * 1024 {
            return format!("{size} {unit}");
        }
        size /= 1024;
    }
    format!("{size} TB")
}

/// An array without a number: nobody waits for anybody.
fn no_numbers(name: &str) -> ScalarUDF {
    udf(name, DataType::new_list(DataType::Int32, true), |_, rows| {
        let mut out = ListBuilder::new(Int32Builder::new());
        (0..rows).for_each(|_| out.append(true));
        Ok(Arc::new(out.finish()))
    })
}

fn nothing(name: &str) -> ScalarUDF {
    udf(name, DataType::Utf8, |_, rows| Ok(new_null_array(&DataType::Utf8, rows)))
}

fn udf(
    name: &str,
    output: DataType,
    eval: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync + 'static,
) -> ScalarUDF {
    let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
    let signature = Signature::new(any, Volatility::Stable);
    ScalarUDF::new_from_impl(SessionFunction { name: name.to_owned(), output, signature, eval: Arc::new(eval) })
}

/// A function of any arguments.
struct SessionFunction {
    name: String,
    output: DataType,
    signature: Signature,
    eval: Eval,
}

impl fmt::Debug for SessionFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFunction").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Within one statement there is one function of a name.
impl PartialEq for SessionFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for SessionFunction {}

impl Hash for SessionFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for SessionFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.output.clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = Field::new(&self.name, self.output.clone(), true);
        let name = self.name.as_str();
        let registered = name.strip_suffix("in").or_else(|| name.strip_prefix("to_"));
        let named = match registered.filter(|registered| REGISTERED.contains(registered)) {
            Some(registered) => registered,
            None if NAMES.contains(&name) => "name",
            _ => return Ok(Arc::new(field)),
        };
        Ok(Arc::new(field.with_metadata([(TYPE_NAME.to_owned(), named.to_owned())].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array((self.eval)(&arrays, rows)?))
    }
}
