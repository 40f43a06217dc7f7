//! Arrow's types as PostgreSQL's.

use arrow::datatypes::{DataType, Field, Schema};
use pgwire::api::Type;
use pgwire::messages::data::{FieldDescription, RowDescription};
use relation::schema::registered_name;

use super::parameter::array_of;
use crate::value::{is_array, is_scalar};

/// Type of a column and its modifier (precision and scale of a numeric, -1 for none).
pub(super) fn wire(data_type: &DataType) -> (Type, i32) {
    let decimal = |precision: &u8, scale: &i8| {
        // Scales below zero are held in eleven bits.
        (Type::NUMERIC, ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4)
    };
    if let Some(registered) = registered_name(data_type) {
        let wire = match registered {
            "regtype" => Type::REGTYPE,
            "regproc" => Type::REGPROC,
            "regnamespace" => Type::REGNAMESPACE,
            _ => Type::REGCLASS,
        };
        return (wire, -1);
    }
    let plain = match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => {
            return decimal(p, s);
        }
        DataType::UInt64 => return decimal(&20, &0),
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => Type::INT2,
        DataType::UInt16 | DataType::Int32 => Type::INT4,
        DataType::UInt32 | DataType::Int64 => Type::INT8,
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Dictionary(_, values) => return wire(values),
        DataType::RunEndEncoded(_, values) => return wire(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _)
            if is_scalar(item.data_type()) =>
        {
            return (array_of(&wire(item.data_type()).0).unwrap_or(Type::TEXT_ARRAY), -1);
        }
        // An array of more dimensions has the type of one of one.
        DataType::List(item) if is_array(item.data_type()) => return wire(item.data_type()),
        nested if nested.is_nested() => Type::JSON,
        _ => Type::TEXT,
    };
    (plain, -1)
}

/// A column's type: by its values, unless the field says that its text is JSON.
pub(crate) fn column(field: &Field) -> (Type, i32) {
    let json = field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.json");
    let named = field.metadata().get("tidemill.type").map(String::as_str);
    match wire(field.data_type()) {
        (Type::TEXT, _) if named == Some("jsonb") => (Type::JSONB, -1),
        (Type::TEXT, _) if named == Some("uuid") => (Type::UUID, -1),
        (Type::TEXT, _) if named == Some("varchar") => (Type::VARCHAR, -1),
        (Type::TEXT, _) if named == Some("bpchar") => (Type::BPCHAR, -1),
        (Type::TEXT, _) if named == Some("name") => (Type::NAME, -1),
        (Type::TEXT, _) if named == Some("char") => (Type::CHAR, -1),
        (Type::TEXT, _) if named == Some("void") => (Type::VOID, -1),
        (Type::TEXT, _) if named == Some("pg_node_tree") => (Type::PG_NODE_TREE, -1),
        (Type::TEXT, _) if named == Some("pg_lsn") => (Type::PG_LSN, -1),
        // Its text is shown; its binary form would have those of its fields.
        (Type::TEXT, _) if named == Some("record") => (Type::RECORD, -1),
        (Type::INT2_ARRAY, _) if named == Some("int2vector") => (Type::INT2_VECTOR, -1),
        (Type::INT4_ARRAY, _) if named == Some("oidvector") => (Type::OID_VECTOR, -1),
        (Type::INT4_ARRAY, _) if named == Some("_oid") => (Type::OID_ARRAY, -1),
        (Type::TEXT_ARRAY, _) => (texts(named), -1),
        (Type::INT4, _) if named == Some("oid") => (Type::OID, -1),
        (Type::INT4, _) if named == Some("xid") => (Type::XID, -1),
        (Type::TEXT, _) if json => (Type::JSON, -1),
        known => known,
    }
}

/// The oid of the type as which a column of an answer is described to a client, and its modifier.
pub fn wire_type(field: &Field) -> (u32, i32) {
    let (wire, modifier) = column(field);
    (wire.oid(), modifier)
}

/// The type of an array of texts that go by a name, which is that of the array.
fn texts(named: Option<&str>) -> Type {
    match named {
        Some("_json") => Type::JSON_ARRAY,
        Some("_jsonb") => Type::JSONB_ARRAY,
        Some("_uuid") => Type::UUID_ARRAY,
        Some("_varchar") => Type::VARCHAR_ARRAY,
        Some("_bpchar") => Type::BPCHAR_ARRAY,
        Some("_name") => Type::NAME_ARRAY,
        Some("_char") => Type::CHAR_ARRAY,
        Some("_aclitem") => Type::ACLITEM_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}

/// Bytes of a value, -1 where they vary.
fn width(wire: &Type) -> i16 {
    match *wire {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID | Type::XID => 4,
        Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::REGNAMESPACE => 4,
        Type::NAME => 64,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        _ => -1,
    }
}

/// Names and types of an answer's columns; two answers with equal ones are read alike, whatever their decimals' scales.
pub(super) fn shape(schema: &Schema) -> Vec<(&str, Type)> {
    schema.fields().iter().map(|field| (field.name().as_str(), column(field).0)).collect()
}

/// The message that describes an answer. `binary` has a format per column.
pub(super) fn description(schema: &Schema, binary: &[bool]) -> RowDescription {
    described(schema, binary, |_, modifier| modifier)
}

/// The same where the scales of numerics depend on values that are not there yet.
pub(super) fn description_without_scales(schema: &Schema, binary: &[bool]) -> RowDescription {
    described(schema, binary, |wire, modifier| if *wire == Type::NUMERIC { -1 } else { modifier })
}

fn described(schema: &Schema, binary: &[bool], modified: fn(&Type, i32) -> i32) -> RowDescription {
    let fields = schema.fields().iter().enumerate().map(|(i, field)| {
        let (wire, modifier) = column(field);
        let name = field.name().replace('\0', "");
        let format = i16::from(binary.get(i).copied().unwrap_or(false));
        FieldDescription::new(name, 0, 0, wire.oid(), width(&wire), modified(&wire, modifier), format)
    });
    RowDescription::new(fields.collect())
}
