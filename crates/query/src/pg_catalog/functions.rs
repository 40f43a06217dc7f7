//! Functions that client programs call around the catalogue: who am I, is this table visible, how is that type written.
//!
//! They answer from the names of one session, so they are made when a statement calls them, not registered once.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion_pg_catalog::pg_catalog::{array_bounds_udf, format_type, has_privilege_udf, quote_ident_udf};

use relation::schema::TYPE_NAME;

use crate::error::Error;
use crate::pg_catalog::registered::{class_in, class_oid, class_out, type_in, type_oid, type_out};
use crate::pg_catalog::relations::Listed;
use crate::pg_catalog::{DATABASE, Names, OWNER};

/// What the connection says about itself.
const VERSION: &str = "PostgreSQL 15.0 (Tidemill)";

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

type Eval = Arc<dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync>;

/// The function of a name, for a user and the names of a catalog; none where SQL's own functions are meant.
pub(crate) fn function(name: &str, user: &str, names: &dyn Fn() -> Option<Arc<Names>>) -> Option<Arc<ScalarUDF>> {
    let udf = match name {
        "current_user" | "session_user" | "current_role" | "user" => text(name, user),
        "version" => text(name, VERSION),
        "current_database" | "current_catalog" => text(name, DATABASE),
        "current_schema" => text(name, names()?.search_path.first().map_or("public", String::as_str)),
        "current_schemas" => current_schemas(names()?),
        "current_setting" => current_setting(names()?),
        "to_regclass" => registered(name, names()?, |names, name| Ok(class_oid(names, name))),
        "regclassin" => registered(name, names()?, |names, name| class_in(names, name).map(Some)),
        "regclassout" => by_oid(name, DataType::Utf8, names()?, |names, oid| Found::Text(Some(class_out(names, oid)))),
        "to_regtype" => registered(name, names()?, |_, name| Ok(type_oid(name))),
        "regtypein" => registered(name, names()?, |_, name| type_in(name).map(Some)),
        "regtypeout" => by_oid(name, DataType::Utf8, names()?, |_, oid| Found::Text(Some(type_out(oid)))),
        "pg_get_userbyid" => text(name, OWNER),
        "pg_table_is_visible" => by_oid(name, DataType::Boolean, names()?, visible),
        "pg_get_indexdef" => by_oid(name, DataType::Utf8, names()?, index_definition),
        "pg_get_constraintdef" => by_oid(name, DataType::Utf8, names()?, constraint_definition),
        "pg_get_viewdef" => by_oid(name, DataType::Utf8, names()?, view_definition),
        "pg_type_is_visible"
        | "pg_function_is_visible"
        | "pg_operator_is_visible"
        | "pg_collation_is_visible"
        | "pg_relation_is_publishable" => flag(name, true),
        "pg_is_in_recovery" | "pg_is_other_temp_schema" => flag(name, false),
        "pg_encoding_to_char" | "pg_client_encoding" => text(name, "UTF8"),
        "pg_backend_pid" => number(name, 1),
        "pg_my_temp_schema" => number(name, 0),
        "pg_relation_size"
        | "pg_total_relation_size"
        | "pg_table_size"
        | "pg_indexes_size"
        | "pg_stat_get_numscans" => size(name),
        "pg_size_pretty" => size_pretty(),
        "pg_sleep" => super::sleep::function(),
        "pg_get_expr"
        | "obj_description"
        | "col_description"
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
        "has_table_privilege"
        | "has_schema_privilege"
        | "has_database_privilege"
        | "has_any_column_privilege"
        | "has_function_privilege"
        | "has_column_privilege" => has_privilege_udf::create_has_privilege_udf(name),
        _ => return None,
    };
    Some(Arc::new(udf))
}

fn visible(names: &Names, oid: i32) -> Found {
    Found::Flag(names.is_visible(oid))
}

fn index_definition(names: &Names, oid: i32) -> Found {
    Found::Text(names.indexed(oid).map(Listed::index_definition))
}

fn constraint_definition(names: &Names, oid: i32) -> Found {
    Found::Text(names.indexed(oid).map(|table| format!("PRIMARY KEY ({})", table.key_names())))
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

/// The first argument as oids, whatever type it came in.
fn oids(arguments: &[ArrayRef], rows: usize) -> Result<Int32Array> {
    let Some(first) = arguments.first() else { return Ok(Int32Array::new_null(rows)) };
    Ok(cast(first, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
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

fn current_schemas(names: Arc<Names>) -> ScalarUDF {
    let output = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let eval = move |arguments: &[ArrayRef], rows: usize| {
        let implicit =
            arguments.first().and_then(|all| all.as_boolean_opt()).is_some_and(|all| !all.is_empty() && all.value(0));
        let mut out = ListBuilder::new(StringBuilder::new());
        for _ in 0..rows {
            let system = implicit.then_some("pg_catalog").into_iter();
            out.append_value(system.chain(names.search_path.iter().map(String::as_str)).map(Some));
        }
        Ok(Arc::new(out.finish()) as ArrayRef)
    };
    udf("current_schemas", output, eval)
}

/// Settings that clients look at; the connection keeps those that can be changed.
pub(crate) fn settings(names: &Names) -> Vec<(&'static str, String)> {
    let fixed = [
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("default_transaction_isolation", "repeatable read"),
        ("default_transaction_read_only", "on"),
        ("integer_datetimes", "on"),
        ("lc_collate", "C"),
        ("lc_ctype", "C.UTF-8"),
        ("max_identifier_length", "63"),
        ("max_index_keys", "32"),
        ("server_encoding", "UTF8"),
        ("server_version", "15.0"),
        ("server_version_num", "150000"),
        ("standard_conforming_strings", "on"),
        ("transaction_isolation", "repeatable read"),
        ("transaction_read_only", "on"),
    ];
    let path = ("search_path", names.search_path.join(", "));
    fixed.into_iter().map(|(name, value)| (name, value.to_owned())).chain([path]).collect()
}

fn current_setting(names: Arc<Names>) -> ScalarUDF {
    let known = settings(&names);
    let find = move |name: &str| {
        let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    udf("current_setting", DataType::Utf8, move |arguments, rows| {
        let Some(asked) = arguments.first() else { return Ok(new_null_array(&DataType::Utf8, rows)) };
        let asked = cast(asked, &DataType::Utf8)?;
        let found = asked.as_string::<i32>().iter().map(|name| name.and_then(&find));
        Ok(Arc::new(found.collect::<StringArray>()))
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

/// Sizes on disk are not kept per table.
fn size(name: &str) -> ScalarUDF {
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
        let named = match self.name.as_str() {
            "regclassout" => "regclass",
            "regtypeout" => "regtype",
            "regclassin" | "to_regclass" | "regtypein" | "to_regtype" => "oid",
            name if NAMES.contains(&name) => "name",
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
