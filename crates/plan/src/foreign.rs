//! What MySQL says otherwise: its functions and words, with what PostgreSQL has for them.

use crate::refusal::distance;

/// What is written for a function of MySQL's that PostgreSQL does not have, as a sentence; none of any other.
pub fn instead_of_function(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if ["st_", "mbr"].iter().any(|family| lower.starts_with(family)) {
        return Some(GEOMETRY.to_owned());
    }
    if MYSQL_ALONE.contains(&lower.as_str()) {
        return Some(format!("{} is MySQL's, and PostgreSQL has nothing like it.", lower.to_uppercase()));
    }
    let (_, instead, note) = MYSQL_FUNCTIONS.iter().find(|(known, _, _)| *known == lower)?;
    let note = if note.is_empty() { String::new() } else { format!(", {note}") };
    Some(format!("{} is MySQL's: write {instead}{note}.", lower.to_uppercase()))
}

const GEOMETRY: &str = "Geometry is not there: longitude and latitude are numbers in columns of their own.";

/// What is written where a type is called like a function.
pub fn instead_of_call(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if ["point", "polygon", "linestring"].contains(&lower.as_str()) {
        return Some(GEOMETRY.to_owned());
    }
    let is_type = ["date", "time", "timestamp", "timestamptz", "text", "numeric", "json", "jsonb"];
    is_type.contains(&lower.as_str()).then(|| format!("Write a::{lower}."))
}

/// What is written for a type of MySQL's, or of others, that PostgreSQL does not have.
pub(crate) fn instead_of_type(name: &str) -> Option<String> {
    let name = name.split('(').next().unwrap_or(name).trim();
    let (_, instead) = MYSQL_TYPES.iter().find(|(known, _)| *known == name)?;
    Some(format!("Write {instead}."))
}

/// What is written for a function of PostgreSQL's, or of its extensions, that is not there; none of any other.
pub fn instead_of_lacking(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    LACKING.iter().find(|(known, _)| *known == lower).map(|(_, instead)| *instead)
}

/// What is written for what MySQL reads and PostgreSQL does not, where a text cannot be parsed, as a sentence: by the parser's own
/// words, and by what stands at the place of its error.
pub fn instead_of_syntax(sql: &str, line: usize, column: usize) -> Option<String> {
    let text = sql.lines().nth(line.checked_sub(1)?)?;
    let at: String = text.chars().skip(column.saturating_sub(1)).collect();
    let before: String = text.chars().take(column.saturating_sub(1)).collect();
    let word =
        |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_lowercase();
    let before = before.trim_end();
    let last = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    // The parser says where it stood when it gave up: at a word, or behind it.
    let is_behind_comma = before.strip_suffix(last).is_some_and(|text| text.trim_end().ends_with(','));
    let last = last.to_lowercase();
    let hint = match at.chars().next() {
        Some('`') => "Names with special letters stand in double quotes: \"order\".",
        Some('{') => "Jinja is rendered in models and dashboards alone.",
        Some('!') => "NOT is written out: not a.",
        Some(',') if before.to_lowercase().contains("limit ") => "LIMIT skips by OFFSET: limit 10 offset 20.",
        _ => match (last.as_str(), word(&at).as_str()) {
            (_, "div") | ("div", _) => "DIV is MySQL's: write a / b, which is whole between integers, or trunc(a / b).",
            (_, "rlike" | "regexp") | ("rlike" | "regexp", _) => {
                "REGEXP is MySQL's: write a ~ 'pattern', or a ~* 'pattern'."
            }
            (_, "charset" | "character") => "Texts are UTF-8: leave the character set out.",
            ("against", _) => "MATCH … AGAINST is MySQL's: write a ~* 'word'.",
            ("sounds", "like") => "SOUNDS LIKE is MySQL's: write levenshtein(a, b) < 3.",
            (_, "with") if at.to_lowercase().starts_with("with rollup") => {
                "WITH ROLLUP is MySQL's: write group by rollup (a, b)."
            }
            (_, "table") => "TABLE reads a whole table: with a condition it is select * from a where b = 1.",
            (_, "separator") => "GROUP_CONCAT is MySQL's: write string_agg(a, ',').",
            (_, "force" | "use" | "ignore") => "Index hints are MySQL's: leave them out.",
            (_, "xor") => "XOR is MySQL's: write a <> b over booleans.",
            ("from" | "where" | "group" | "order", _) | ("", "from" | "where" | "group" | "order")
                if is_behind_comma =>
            {
                "A comma stands before it: take that out, or write what should follow it."
            }
            (last, word) => return [last, word].into_iter().find_map(meant),
        },
    };
    Some(hint.to_owned())
}

/// The word of SQL that a misspelt one means, as a hint; none of a word that is like none.
fn meant(word: &str) -> Option<String> {
    const WORDS: [&str; 9] = ["select", "from", "where", "group", "order", "having", "join", "limit", "union"];
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let is_like = |known: &str| distance(word, known) == 1 || letters(word) == letters(known);
    let mut known = WORDS.iter().copied();
    let found = known.find(|known| word.len() > 2 && word != *known && is_like(known))?;
    Some(format!("Did you mean {}?", found.to_uppercase()))
}

/// A name that is no column, where MySQL takes it for something else: a text in double quotes, a variable behind @.
pub fn instead_of_text(sql: &str, line: usize, column: usize) -> Option<String> {
    let text = sql.lines().nth(line.checked_sub(1)?)?;
    let at: String = text.chars().skip(column.saturating_sub(1)).collect();
    if text.chars().take(column.saturating_sub(1)).last() == Some('@') {
        return Some("Variables of MySQL's are not there: {{ var('name') }} is written into the text.".to_owned());
    }
    let inside = at.strip_prefix('"')?.split('"').next()?;
    Some(format!("Double quotes are for names. A text stands in single ones: '{}'.", inside.replace('\'', "''")))
}

/// MySQL's functions, what is written instead, and what is to be said of that.
pub const MYSQL_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("add_months", "a + interval '1 month'", ""),
    ("adddate", "a + interval '1 day'", ""),
    ("addtime", "a + interval '1 hour'", ""),
    ("bin_to_uuid", "encode(a, 'hex')::uuid", ""),
    ("char", "chr(a)", ""),
    ("convert_tz", "a at time zone 'UTC' at time zone 'Asia/Shanghai'", ""),
    ("curdate", "current_date", ""),
    ("curtime", "current_time", ""),
    ("database", "'shop'", "the name itself"),
    ("date_add", "a + interval '1 day'", ""),
    ("date_format", "to_char(a, 'YYYY-MM-DD')", ""),
    ("date_sub", "a - interval '1 day'", ""),
    ("datediff", "a::date - b::date", ""),
    ("day", "extract(day from a)", ""),
    ("dayname", "to_char(a, 'Day')", ""),
    ("dayofmonth", "extract(day from a)", ""),
    ("dayofweek", "extract(dow from a) + 1", ""),
    ("dayofyear", "extract(doy from a)", ""),
    ("decode_oracle", "case a when b then c end", ""),
    ("elt", "(array['a', 'b'])[n]", ""),
    ("field", "array_position(array['a', 'b'], x)", ""),
    ("find_in_set", "array_position(string_to_array(b, ','), a)", ""),
    ("from_base64", "decode(a, 'base64')", ""),
    ("from_days", "date '0001-01-01' + n - 366", ""),
    ("from_unixtime", "to_timestamp(a)", ""),
    ("group_concat", "string_agg(a, ',')", ""),
    ("hex", "encode(a, 'hex')", ""),
    ("hour", "extract(hour from a)", ""),
    ("if", "case when a then b else c end", ""),
    ("ifnull", "coalesce(a, b)", ""),
    ("insert", "overlay(a placing b from 1 for 3)", ""),
    ("instr", "strpos(a, b)", ""),
    ("isnull", "a is null", ""),
    ("is_ipv4", "a ~ '^([0-9]{1,3}[.]){3}[0-9]{1,3}$'", ""),
    ("is_ipv6", "strpos(a, ':') > 0", ""),
    ("is_uuid", "a ~* '^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$'", ""),
    ("json_array", "json_build_array(a, b)", ""),
    ("json_array_append", "jsonb_insert(a::jsonb, '{name,-1}', to_jsonb(b), true)", ""),
    ("json_array_insert", "jsonb_insert(a::jsonb, '{name,0}', to_jsonb(b))", ""),
    ("json_arrayagg", "json_agg(a)", ""),
    ("json_compact", "a::jsonb::text", ""),
    ("json_contains", "a @> b", ""),
    ("json_contains_path", "a::jsonb ? 'name'", ""),
    ("json_detailed", "jsonb_pretty(a::jsonb)", ""),
    ("json_equals", "a::jsonb = b::jsonb", ""),
    ("json_exists", "jsonb_path_exists(a::jsonb, '$.name')", ""),
    ("json_extract", "a -> 'name'", "or a #> '{name,deeper}'"),
    ("json_insert", "jsonb_insert(a::jsonb, '{name}', to_jsonb(b))", ""),
    ("json_keys", "json_object_keys(a)", ""),
    ("json_length", "json_array_length(a)", ""),
    ("json_loose", "jsonb_pretty(a::jsonb)", ""),
    ("json_merge", "a::jsonb || b::jsonb", ""),
    ("json_merge_patch", "a::jsonb || b::jsonb", "of the outermost members"),
    ("json_normalize", "a::jsonb", ""),
    ("json_objectagg", "json_object_agg(a, b)", ""),
    ("json_pretty", "jsonb_pretty(a::jsonb)", ""),
    ("json_query", "a -> 'name'", ""),
    ("json_quote", "to_json(a)", ""),
    ("json_remove", "a #- '{name}'", ""),
    ("json_replace", "jsonb_set(a::jsonb, '{name}', to_jsonb(b), false)", ""),
    ("json_set", "jsonb_set(a::jsonb, '{name}', to_jsonb(b))", ""),
    ("json_table", "jsonb_array_elements(a::jsonb)", "in FROM"),
    ("json_type", "json_typeof(a)", ""),
    ("json_unquote", "a ->> 'name'", ""),
    ("json_value", "a ->> 'name'", ""),
    ("last_day", "(date_trunc('month', a) + interval '1 month' - interval '1 day')::date", ""),
    ("lcase", "lower(a)", ""),
    ("lengthb", "octet_length(a)", ""),
    ("locate", "strpos(b, a)", ""),
    ("log2", "log(2, a)", ""),
    ("makedate", "make_date(year, 1, 1) + n - 1", ""),
    ("maketime", "make_time(a, b, n)", ""),
    ("microsecond", "extract(microseconds from a)::integer % 1000000", ""),
    ("mid", "substring(a from 1 for 3)", ""),
    ("minute", "extract(minute from a)", ""),
    ("month", "extract(month from a)", ""),
    ("monthname", "to_char(a, 'Month')", ""),
    ("nvl", "coalesce(a, b)", ""),
    ("nvl2", "case when a is not null then b else c end", ""),
    ("ord", "ascii(a)", ""),
    ("period_add", "to_char(to_date(a::text, 'YYYYMM') + n * interval '1 month', 'YYYYMM')::integer", ""),
    ("period_diff", "(a / 100 - b / 100) * 12 + a % 100 - b % 100", ""),
    ("quarter", "extract(quarter from a)", ""),
    ("quote", "quote_literal(a)", ""),
    ("rand", "random()", ""),
    ("schema", "'shop'", "the name itself"),
    ("sec_to_time", "make_interval(secs => a)", ""),
    ("second", "extract(second from a)", ""),
    ("sformat", "format('%s', a)", ""),
    ("sha", "encode(sha256(a), 'hex')", "SHA-1 is not there"),
    ("sha1", "encode(sha256(a), 'hex')", "SHA-1 is not there"),
    ("sha2", "encode(sha256(a), 'hex')", ""),
    ("space", "repeat(' ', n)", ""),
    ("std", "stddev_pop(a)", ""),
    ("str_to_date", "to_date(a, 'YYYY-MM-DD')", "or to_timestamp(a, 'YYYY-MM-DD HH24:MI:SS')"),
    ("strcmp", "case when a < b then -1 when a > b then 1 else 0 end", ""),
    ("subdate", "a - interval '1 day'", ""),
    ("substring_index", "split_part(a, ',', 1)", ""),
    ("subtime", "a - interval '1 hour'", ""),
    ("sys_guid", "md5(random()::text)", ""),
    ("sysdate", "now()", ""),
    ("time_format", "to_char(a, 'HH24:MI')", ""),
    ("time_to_sec", "extract(epoch from a)", ""),
    ("timediff", "a - b", ""),
    ("timestampadd", "a + interval '1 day'", ""),
    ("timestampdiff", "extract(epoch from b - a)", "for seconds; b::date - a::date for days"),
    ("to_base64", "encode(a, 'base64')", ""),
    ("to_days", "a - date '0001-01-01' + 366", ""),
    ("to_seconds", "extract(epoch from a) + 62167219200", ""),
    ("trim_oracle", "trim(a)", ""),
    ("truncate", "trunc(a, 2)", ""),
    ("ucase", "upper(a)", ""),
    ("unhex", "decode(a, 'hex')", ""),
    ("unix_timestamp", "extract(epoch from a)", ""),
    ("utc_date", "(now() at time zone 'UTC')::date", ""),
    ("utc_time", "(now() at time zone 'UTC')::time", ""),
    ("utc_timestamp", "now() at time zone 'UTC'", ""),
    ("uuid", "md5(random()::text)", ""),
    ("uuid_to_bin", "decode(replace(a, '-', ''), 'hex')", ""),
    ("week", "extract(week from a)", ""),
    ("weekday", "extract(isodow from a) - 1", ""),
    ("weekofyear", "extract(week from a)", ""),
    ("year", "extract(year from a)", ""),
    ("yearweek", "extract(isoyear from a) * 100 + extract(week from a)", ""),
];

/// Functions of PostgreSQL's and of its extensions that are not supported, and what is written instead.
pub const LACKING: &[(&str, &str)] = &[
    ("array_fill", "Of one dimension it is: array_fill(0, array[3])."),
    ("crosstab", "Write one aggregate per column: sum(a) filter (where b = 'x')."),
    ("currval", "Write row_number() over (order by a)."),
    ("daterange", "Write two columns, of the beginning and of the end: day >= a and day < b."),
    ("digest", "Write sha256(a)."),
    ("hashtext", "Write md5(a)."),
    ("hstore", "Write jsonb."),
    ("int4range", "Write two columns, of the beginning and of the end: n >= a and n < b."),
    ("int8range", "Write two columns, of the beginning and of the end: n >= a and n < b."),
    ("nextval", "Write row_number() over (order by a)."),
    ("normalize", "Texts stay as they are written; translate(a, 'äö', 'ao') changes letters."),
    ("numrange", "Write two columns, of the beginning and of the end: n >= a and n < b."),
    ("plainto_tsquery", "Write a ~* 'word', or strpos(lower(a), 'word') > 0."),
    ("setseed", "random() has no seed; md5(id::text) is the same each time."),
    ("similarity", "Write levenshtein(a, b)."),
    ("soundex", "Write levenshtein(a, b)."),
    ("to_ascii", "Write translate(a, 'äö', 'ao')."),
    ("to_tsquery", "Write a ~* 'word', or strpos(lower(a), 'word') > 0."),
    ("to_tsvector", "Write a ~* 'word', or strpos(lower(a), 'word') > 0."),
    (
        "trim_scale",
        "A column of numerics has one number of digits behind the point: write round(a, 2), or to_char(a, 'FM999990.99').",
    ),
    ("tsrange", "Write two columns, of the beginning and of the end: (a, b) overlaps (c, d)."),
    ("tstzrange", "Write two columns, of the beginning and of the end: (a, b) overlaps (c, d)."),
    ("unaccent", "Write translate(a, 'äö', 'ao')."),
    ("uuid_generate_v4", "Write gen_random_uuid()."),
    ("uuid_generate_v5", "Write md5(a)::uuid."),
];

/// MySQL's functions that PostgreSQL has nothing like.
pub const MYSQL_ALONE: &[&str] = &[
    "aes_decrypt",
    "aes_encrypt",
    "benchmark",
    "bin",
    "charset",
    "coercibility",
    "collation",
    "compress",
    "conv",
    "crc32",
    "export_set",
    "extractvalue",
    "found_rows",
    "get_format",
    "inet6_aton",
    "inet6_ntoa",
    "inet_aton",
    "inet_ntoa",
    "is_ipv4_compat",
    "is_ipv4_mapped",
    "json_depth",
    "json_merge_preserve",
    "json_overlaps",
    "json_schema_valid",
    "json_schema_validation_report",
    "json_search",
    "json_storage_free",
    "json_storage_size",
    "json_valid",
    "last_insert_id",
    "load_file",
    "make_set",
    "name_const",
    "natural_sort_key",
    "oct",
    "random_bytes",
    "row_count",
    "statement_digest",
    "statement_digest_text",
    "uncompress",
    "uncompressed_length",
    "updatexml",
    "uuid_short",
    "weight_string",
];

/// Of MySQL's functions those for which something is written that models do not keep.
pub const NOT_KEPT: &[&str] = &[
    "curdate",
    "curtime",
    "group_concat",
    "json_arrayagg",
    "json_objectagg",
    "rand",
    "std",
    "sys_guid",
    "sysdate",
    "utc_date",
    "utc_time",
    "utc_timestamp",
    "uuid",
];

/// Types of MySQL's, and of other warehouses, that PostgreSQL does not have, and what is written instead.
pub const MYSQL_TYPES: &[(&str, &str)] = &[
    ("binary", "a::bytea"),
    ("bit", "a::integer"),
    ("blob", "a::bytea"),
    ("float64", "a::double precision"),
    ("int64", "a::bigint"),
    ("longblob", "a::bytea"),
    ("longtext", "a::text"),
    ("mediumblob", "a::bytea"),
    ("mediumint", "a::integer"),
    ("mediumtext", "a::text"),
    ("nchar", "a::text"),
    ("number", "a::numeric"),
    ("nvarchar", "a::text"),
    ("signed", "a::bigint"),
    ("signed integer", "a::bigint"),
    ("tinyblob", "a::bytea"),
    ("tinytext", "a::text"),
    ("unsigned", "a::numeric(20,0)"),
    ("unsigned integer", "a::numeric(20,0)"),
    ("varbinary", "a::bytea"),
    ("year", "extract(year from a)::integer"),
];
