//! What MySQL says otherwise: its functions and words, with what PostgreSQL has for them.

use crate::refusal::distance;

/// What is written for a function of MySQL's that PostgreSQL does not have, as a sentence; none of any other.
pub fn instead_of_function(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if MYSQL_ALONE.contains(&lower.as_str()) {
        return Some(format!("{} is MySQL's, and PostgreSQL has nothing like it.", lower.to_uppercase()));
    }
    let (_, instead, note) = MYSQL_FUNCTIONS.iter().find(|(known, _, _)| *known == lower)?;
    let note = if note.is_empty() { String::new() } else { format!(", {note}") };
    Some(format!("{} is MySQL's: write {instead}{note}.", lower.to_uppercase()))
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
        Some(',') if before.to_lowercase().contains("limit ") => "LIMIT skips by OFFSET: limit 10 offset 20.",
        _ => match (last.as_str(), word(&at).as_str()) {
            (_, "div") | ("div", _) => "DIV is MySQL's: write a / b, which is whole between integers, or trunc(a / b).",
            (_, "rlike" | "regexp") | ("rlike" | "regexp", _) => {
                "REGEXP is MySQL's: write a ~ 'pattern', or a ~* 'pattern'."
            }
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

/// A name in double quotes that is no column: MySQL takes it for a text.
pub fn instead_of_text(sql: &str, line: usize, column: usize) -> Option<String> {
    let text = sql.lines().nth(line.checked_sub(1)?)?;
    let at: String = text.chars().skip(column.saturating_sub(1)).collect();
    let inside = at.strip_prefix('"')?.split('"').next()?;
    Some(format!("Double quotes are for names. A text stands in single ones: '{}'.", inside.replace('\'', "''")))
}

/// MySQL's functions, what is written instead, and what is to be said of that.
pub const MYSQL_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("adddate", "a + interval '1 day'", ""),
    ("addtime", "a + interval '1 hour'", ""),
    ("char", "chr(a)", ""),
    ("convert_tz", "a at time zone 'UTC' at time zone 'Asia/Shanghai'", ""),
    ("curdate", "current_date", ""),
    ("curtime", "current_time", ""),
    ("date_add", "a + interval '1 day'", ""),
    ("date_format", "to_char(a, 'YYYY-MM-DD')", ""),
    ("date_sub", "a - interval '1 day'", ""),
    ("datediff", "a::date - b::date", ""),
    ("day", "extract(day from a)", ""),
    ("dayname", "to_char(a, 'Day')", ""),
    ("dayofmonth", "extract(day from a)", ""),
    ("dayofweek", "extract(dow from a) + 1", ""),
    ("dayofyear", "extract(doy from a)", ""),
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
    ("json_array", "json_build_array(a, b)", ""),
    ("json_arrayagg", "json_agg(a)", ""),
    ("json_contains", "a @> b", ""),
    ("json_extract", "a -> 'name'", "or a #> '{name,deeper}'"),
    ("json_keys", "json_object_keys(a)", ""),
    ("json_length", "json_array_length(a)", ""),
    ("json_objectagg", "json_object_agg(a, b)", ""),
    ("json_quote", "to_json(a)", ""),
    ("json_remove", "a #- '{name}'", ""),
    ("json_set", "jsonb_set(a::jsonb, '{name}', to_jsonb(b))", ""),
    ("json_type", "json_typeof(a)", ""),
    ("json_unquote", "a ->> 'name'", ""),
    ("json_value", "a ->> 'name'", ""),
    ("last_day", "(date_trunc('month', a) + interval '1 month' - interval '1 day')::date", ""),
    ("lcase", "lower(a)", ""),
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
    ("ord", "ascii(a)", ""),
    ("period_add", "to_char(to_date(a::text, 'YYYYMM') + n * interval '1 month', 'YYYYMM')::integer", ""),
    ("period_diff", "(a / 100 - b / 100) * 12 + a % 100 - b % 100", ""),
    ("quarter", "extract(quarter from a)", ""),
    ("quote", "quote_literal(a)", ""),
    ("rand", "random()", ""),
    ("sec_to_time", "make_interval(secs => a)", ""),
    ("second", "extract(second from a)", ""),
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
    ("sysdate", "now()", ""),
    ("time_format", "to_char(a, 'HH24:MI')", ""),
    ("time_to_sec", "extract(epoch from a)", ""),
    ("timediff", "a - b", ""),
    ("timestampadd", "a + interval '1 day'", ""),
    ("timestampdiff", "extract(epoch from b - a)", "for seconds; b::date - a::date for days"),
    ("to_base64", "encode(a, 'base64')", ""),
    ("to_days", "a - date '0001-01-01' + 366", ""),
    ("truncate", "trunc(a, 2)", ""),
    ("ucase", "upper(a)", ""),
    ("unhex", "decode(a, 'hex')", ""),
    ("unix_timestamp", "extract(epoch from a)", ""),
    ("utc_date", "(now() at time zone 'UTC')::date", ""),
    ("utc_time", "(now() at time zone 'UTC')::time", ""),
    ("utc_timestamp", "now() at time zone 'UTC'", ""),
    ("uuid", "md5(random()::text)", ""),
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
    "bin",
    "compress",
    "conv",
    "crc32",
    "export_set",
    "found_rows",
    "inet_aton",
    "inet_ntoa",
    "json_contains_path",
    "json_merge_patch",
    "json_merge_preserve",
    "json_overlaps",
    "json_search",
    "json_valid",
    "last_insert_id",
    "make_set",
    "name_const",
    "oct",
    "uuid_short",
];
