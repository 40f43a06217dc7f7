//! Columns that USING and NATURAL joins merge: every two joins of three relations, in every order of their names.
//!
//! Which of two equal columns is shown, and where `*` has it, must follow from the joins alone, and not from what the relations are
//! called. Rows have values of their own, so that a column at another place is another answer; names are compared as well.

use crate::{Contents, House, Outcome};

/// Three relations that are called otherwise: all have `id`, two have `n`.
const RELATIONS: [(&str, &str); 3] = [
    ("(values (1, 'r1'), (2, 'r2'), (3, 'r3'), (cast(null as int), 'r4'))", "(id, x)"),
    ("(values (1, 10, 's1'), (3, 30, 's3'), (5, 50, 's5'))", "(id, n, y)"),
    ("(values ('t1', 10, 1), ('t2', 20, 2), ('t5', 50, 5), ('t6', 60, 6), ('t0', 0, cast(null as int)))", "(z, n, id)"),
];

const ORDERS: [[&str; 3]; 6] =
    [["a", "b", "c"], ["a", "c", "b"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"], ["c", "b", "a"]];

const KINDS: [&str; 4] = ["join", "left join", "right join", "full join"];

/// How the two joins say what they join by.
const FORMS: [(&str, &str); 4] =
    [("using", "using"), ("natural", "using"), ("using", "natural"), ("natural", "natural")];

/// Results over them; `{1}` to `{3}` are their names.
const RESULTS: [&str; 8] = [
    "select * from {}",
    "select id, x, y, z from {} where id >= 2 or id is null",
    "select {3}.*, id as common from {}",
    "select id + 1 as next, count(*) as rows, max({2}.id) as second from {} where id < 6 group by id having id > 0",
    "select z, id from {} order by id desc nulls last, z limit 3",
    "select x, exists (select 1 from (values (2), (5)) as s(k) where k = id) as found from {}",
    "with c as (select * from {}) select c.* from c where id is not null",
    "select * from (select * from {}) as u union all select 0, 0, 'x', 'y', 'z'",
];

/// The difference to what PostgreSQL says, if there is one.
pub(crate) fn differences(house: &House) -> Result<(), String> {
    let nothing: Contents = crate::TABLES.iter().map(|_| Vec::new()).collect();
    let mut told = Vec::new();
    let mut asked = 0;
    for sql in questions() {
        asked += 1;
        match house.ask(&sql, &nothing) {
            Outcome::Different(what) => told.push(format!("{sql}\n  ours, by {}:\n{}", what.way, what.ours)),
            Outcome::Unanswered(why) if !why.starts_with("model") => told.push(format!("{sql}\n  {why}")),
            Outcome::Unanswered(_) | Outcome::Same => {}
        }
        let (theirs, ours) = house.names(&sql)?;
        if theirs != ours {
            told.push(format!("{sql}\n  columns: {}\n  PostgreSQL's: {}", ours.join(" "), theirs.join(" ")));
        }
    }
    let first: Vec<&String> = told.iter().take(12).collect();
    match first.is_empty() {
        true => Ok(()),
        false => Err(format!("{} of {asked} differ:\n{first:#?}", told.len())),
    }
}

/// All columns of every FROM, and one of the other results, each in its turn.
fn questions() -> Vec<String> {
    let joins = KINDS.iter().flat_map(|first| KINDS.iter().map(move |second| (*first, *second)));
    let forms = joins.flat_map(|kinds| FORMS.iter().map(move |forms| (kinds, *forms)));
    let froms = forms.flat_map(|(kinds, forms)| ORDERS.iter().map(move |names| (names, from(names, kinds, forms))));
    let mut out = Vec::new();
    for (at, (names, from)) in froms.enumerate() {
        for results in [RESULTS[0], RESULTS[1 + at % (RESULTS.len() - 1)]] {
            let sql = results.replace("{}", &from);
            out.push((1..).zip(names).fold(sql, |sql, (at, name)| sql.replace(&format!("{{{at}}}"), name)));
        }
    }
    out
}

fn from(names: &[&str; 3], kinds: (&str, &str), forms: (&str, &str)) -> String {
    let relation = |at: usize| {
        let (rows, columns) = RELATIONS[at];
        format!("{rows} as {}{columns}", names[at])
    };
    let joined = |kind: &str, form: &str, at: usize, columns: &str| match form {
        "natural" => format!("natural {kind} {}", relation(at)),
        _ => format!("{kind} {} using ({columns})", relation(at)),
    };
    let second = joined(kinds.1, forms.1, 2, "id, n");
    format!("{} {} {second}", relation(0), joined(kinds.0, forms.0, 1, "id"))
}
