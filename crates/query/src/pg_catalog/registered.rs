//! Oids for names and names for oids: `'shop.orders'::regclass`, `23::regtype` and the functions behind them.

use plan::{TableName, quoted_name};

use crate::error::{Error, Result, code};
use crate::pg_catalog::shipped::{function_oid, types};
use crate::pg_catalog::{Names, SYSTEM_SCHEMAS};

/// Types by oid: the name that PostgreSQL shows, then what else it is called.
const TYPES: [(i32, &[&str]); 37] = [
    (16, &["boolean", "bool"]),
    (17, &["bytea"]),
    (18, &["\"char\""]),
    (19, &["name"]),
    (20, &["bigint", "int8"]),
    (21, &["smallint", "int2"]),
    (23, &["integer", "int4", "int"]),
    (24, &["regproc"]),
    (25, &["text"]),
    (26, &["oid"]),
    (114, &["json"]),
    (700, &["real", "float4"]),
    (705, &["unknown"]),
    (701, &["double precision", "float8", "float"]),
    (1042, &["character", "bpchar", "char"]),
    (1043, &["character varying", "varchar"]),
    (1082, &["date"]),
    (1083, &["time without time zone", "time"]),
    (1114, &["timestamp without time zone", "timestamp"]),
    (1184, &["timestamp with time zone", "timestamptz"]),
    (1186, &["interval"]),
    (1700, &["numeric", "decimal"]),
    (2205, &["regclass"]),
    (2206, &["regtype"]),
    (2249, &["record"]),
    (2278, &["void"]),
    (2950, &["uuid"]),
    (3802, &["jsonb"]),
    (1000, &["boolean[]", "bool[]", "_bool"]),
    (1005, &["smallint[]", "int2[]", "_int2"]),
    (1007, &["integer[]", "int4[]", "int[]", "_int4"]),
    (1009, &["text[]", "_text"]),
    (1016, &["bigint[]", "int8[]", "_int8"]),
    (1022, &["double precision[]", "float8[]", "_float8"]),
    (1115, &["timestamp without time zone[]", "timestamp[]", "_timestamp"]),
    (1182, &["date[]", "_date"]),
    (1231, &["numeric[]", "_numeric"]),
];

/// Tables of PostgreSQL's own by oid, of which some programs ask.
const SYSTEM_TABLES: [(i32, &str); 34] = [
    (1213, "pg_tablespace"),
    (1247, "pg_type"),
    (1249, "pg_attribute"),
    (1255, "pg_proc"),
    (1259, "pg_class"),
    (1260, "pg_authid"),
    (1262, "pg_database"),
    (1417, "pg_foreign_server"),
    (2224, "pg_sequence"),
    (2328, "pg_foreign_data_wrapper"),
    (2601, "pg_am"),
    (2604, "pg_attrdef"),
    (2605, "pg_cast"),
    (2606, "pg_constraint"),
    (2607, "pg_conversion"),
    (2608, "pg_depend"),
    (2609, "pg_description"),
    (2610, "pg_index"),
    (2611, "pg_inherits"),
    (2612, "pg_language"),
    (2615, "pg_namespace"),
    (2616, "pg_opclass"),
    (2617, "pg_operator"),
    (2618, "pg_rewrite"),
    (2620, "pg_trigger"),
    (2753, "pg_opfamily"),
    (3079, "pg_extension"),
    (3256, "pg_policy"),
    (3381, "pg_statistic_ext"),
    (3456, "pg_collation"),
    (3466, "pg_event_trigger"),
    (3501, "pg_enum"),
    (3541, "pg_range"),
    (6104, "pg_publication"),
];

fn bare(name: &str) -> String {
    let name = name.trim().to_lowercase();
    // It is another type without its quotes.
    let name = if name.ends_with("\"char\"") { name } else { name.replace('"', "") };
    name.strip_prefix("pg_catalog.").map_or_else(|| name.clone(), str::to_owned)
}

/// The oid of a type; none if there is no such type.
pub(crate) fn type_oid(name: &str) -> Option<i32> {
    let name = bare(name);
    // A length is no part of the name.
    let name = match name.split_once('(') {
        Some((name, rest)) => format!("{}{}", name.trim_end(), rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => name,
    };
    if let Some((oid, _)) = TYPES.iter().find(|(_, names)| names.contains(&name.as_str())) {
        return Some(*oid);
    }
    let own = name.strip_suffix("[]").map_or_else(|| name.clone(), |element| format!("_{element}"));
    types().get(&own).copied().or_else(|| name.parse().ok())
}

/// The type of a name, for `::regtype`.
pub(crate) fn type_in(name: &str) -> Result<i32> {
    type_oid(name).ok_or_else(|| Error::new(code::UNKNOWN_NAME, format!("type \"{}\" does not exist", name.trim())))
}

/// A type's name as it is shown.
pub(crate) fn type_out(oid: i32) -> String {
    if let Some((_, names)) = TYPES.iter().find(|(known, _)| *known == oid) {
        return names[0].to_owned();
    }
    match types().iter().find(|(_, known)| **known == oid) {
        Some((name, _)) => name.strip_prefix('_').map_or_else(|| name.clone(), |element| format!("{element}[]")),
        None if oid == 0 => "-".to_owned(),
        None => oid.to_string(),
    }
}

/// Parts of a name as it is written: `"Shop".orders`.
fn parts(name: &str) -> Vec<String> {
    let (mut out, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = name.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => out.push(std::mem::take(&mut part)),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    out.push(part);
    out
}

/// The oid of a table, a view or a key's index; none if there is none of that name.
pub(crate) fn class_oid(names: &Names, name: &str) -> Option<i32> {
    let parts = parts(name);
    let (schema, name) = match &parts[..] {
        [name] => (None, name),
        // Whatever the database is called, it is the one there is.
        [schema, name] | [_, schema, name] => (Some(schema), name),
        _ => return None,
    };
    if schema.is_none_or(|schema| schema == "pg_catalog")
        && let Some((oid, _)) = SYSTEM_TABLES.iter().find(|(_, known)| known == name)
    {
        return Some(*oid);
    }
    let of_schema = |schema: &String| {
        names.tables.iter().filter(|table| table.name.schema == *schema).find_map(|table| {
            if table.name.name == *name {
                return Some(table.oid);
            }
            table.index_oid().filter(|_| table.index_name() == *name)
        })
    };
    let found = match schema {
        Some(schema) => of_schema(schema),
        None => names.search_path.iter().find_map(of_schema),
    };
    found.or_else(|| name.parse().ok())
}

/// Whether a relation of this name is there for whoever asks. PostgreSQL's own all are.
pub(crate) fn is_seen(names: &Names, name: &str) -> bool {
    let parts = parts(name);
    let of_system = parts.len() > 1 && SYSTEM_SCHEMAS.contains(&parts[parts.len() - 2].as_str());
    of_system || class_oid(names, name).is_some()
}

/// The table of a name, for `::regclass`.
pub(crate) fn class_in(names: &Names, name: &str) -> Result<i32> {
    if let Some(oid) = class_oid(names, name) {
        return Ok(oid);
    }
    let parts = parts(name);
    Err(match &parts[..] {
        [schema, _] if !names.schemas.contains_key(schema) => {
            Error::new(code::UNKNOWN_SCHEMA, format!("schema \"{schema}\" does not exist"))
        }
        _ => Error::new(code::UNKNOWN_TABLE, format!("relation \"{}\" does not exist", name.trim())),
    })
}

/// A table's name as it is shown: with its schema where it would not be found without.
pub(crate) fn class_out(names: &Names, oid: i32) -> String {
    if let Some((_, name)) = SYSTEM_TABLES.iter().find(|(known, _)| *known == oid) {
        return (*name).to_owned();
    }
    let shown = |name: &TableName, own: &str, visible: bool| {
        if visible { quoted_name(own) } else { format!("{}.{}", quoted_name(&name.schema), quoted_name(own)) }
    };
    let table = names.tables.iter().find(|table| table.oid == oid || table.index_oid() == Some(oid));
    table.map_or_else(
        || if oid == 0 { "-".to_owned() } else { oid.to_string() },
        |table| {
            let visible = names.is_visible(table.oid);
            if table.oid == oid {
                shown(&table.name, &table.name.name, visible)
            } else {
                shown(&table.name, &table.index_name(), visible)
            }
        },
    )
}

/// The function of a name, for `::regproc`.
pub(crate) fn function_in(name: &str) -> Result<i32> {
    let unknown = || Error::new(code::UNKNOWN_FUNCTION, format!("function \"{}\" does not exist", name.trim()));
    function_oid(name).ok_or_else(unknown)
}

/// The oid of a schema; none if there is none of that name.
pub(crate) fn namespace_oid(names: &Names, name: &str) -> Option<i32> {
    let parts = parts(name);
    let [name] = &parts[..] else { return None };
    names.schemas.get(name).copied().or_else(|| name.parse().ok())
}

/// The schema of a name, for `::regnamespace`.
pub(crate) fn namespace_in(names: &Names, name: &str) -> Result<i32> {
    let unknown = || Error::new(code::UNKNOWN_SCHEMA, format!("schema \"{}\" does not exist", name.trim()));
    namespace_oid(names, name).ok_or_else(unknown)
}

/// A schema's name as it is shown.
pub(crate) fn namespace_out(names: &Names, oid: i32) -> String {
    let found = names.schemas.iter().find(|(_, known)| **known == oid);
    found.map_or_else(|| if oid == 0 { "-".to_owned() } else { oid.to_string() }, |(name, _)| quoted_name(name))
}

#[cfg(test)]
mod tests {
    use super::{parts, type_oid, type_out};

    #[test]
    fn types_go_by_all_their_names() {
        assert_eq!(type_oid("pg_catalog.INT4"), Some(23));
        assert_eq!(type_oid("character varying(20)"), Some(1043));
        assert_eq!(type_oid("numeric(10,2)[]"), Some(1231));
        assert_eq!(type_oid("hstore"), None);
        assert_eq!((type_oid("inet"), type_oid("inet[]")), (Some(869), Some(1041)));
        assert_eq!((type_out(869).as_str(), type_out(1041).as_str()), ("inet", "inet[]"));
        assert_eq!((type_out(1700).as_str(), type_out(0).as_str(), type_out(99).as_str()), ("numeric", "-", "99"));
    }

    #[test]
    fn a_quoted_part_keeps_its_case_and_its_points() {
        assert_eq!(parts("\"My.Shop\".Orders"), ["My.Shop", "orders"]);
    }
}
