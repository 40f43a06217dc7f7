//! dbt's selectors over what is in place: which tests are meant by `--select` and `--exclude`.
//!
//! A criterion is `[@][n+][method:]value[+n]`: `+x` takes what `x` reads along, `x+` what reads it, `@x` both, with all that the readers
//! read. A space is a union, a comma an intersection. A test is meant with the table or model that it is declared on.

use std::collections::BTreeSet;

use connect::source::is_match;

/// A table, model or view.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// `schema.name`.
    pub name: String,
    /// Its file; empty for a source table.
    pub path: String,
    pub tags: Vec<String>,
    pub is_source: bool,
}

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// What is read, and by which.
    pub edges: Vec<(String, String)>,
}

/// A test, by the node that it is declared on, by its name, and by its file where it is a statement of its own.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    pub node: String,
    pub test: String,
    pub path: String,
}

/// How far a criterion goes along the graph; none where it does not.
type Reach = Option<usize>;

/// What a selection comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Which of the tests are meant.
    pub tests: Vec<bool>,
    /// Criteria that fit nothing, each with what was likely meant.
    pub unfit: Vec<(String, Option<String>)>,
}

/// Which of these tests are meant; all of them where nothing is selected. Errors: what of it is not understood.
pub fn select(graph: &Graph, tests: &[Candidate], select: &[String], exclude: &[String]) -> Result<Selected, String> {
    let mut unfit = Vec::new();
    let mut of = |lists: &[String]| -> Result<BTreeSet<usize>, String> {
        let unions = lists.iter().flat_map(|list| list.split_whitespace());
        unions.map(|criteria| intersection(graph, tests, criteria, &mut unfit)).try_fold(
            BTreeSet::new(),
            |mut all, more| {
                all.extend(more?);
                Ok(all)
            },
        )
    };
    let selected = if select.is_empty() { (0..tests.len()).collect() } else { of(select)? };
    let excluded = of(exclude)?;
    let tests = (0..tests.len()).map(|at| selected.contains(&at) && !excluded.contains(&at)).collect();
    Ok(Selected { tests, unfit })
}

type Unfit = Vec<(String, Option<String>)>;

fn intersection(
    graph: &Graph,
    tests: &[Candidate],
    criteria: &str,
    unfit: &mut Unfit,
) -> Result<BTreeSet<usize>, String> {
    let mut all: Option<BTreeSet<usize>> = None;
    for criterion in criteria.split(',') {
        let meant = meant(graph, tests, criterion, unfit)?;
        all = Some(all.map_or(meant.clone(), |all| all.intersection(&meant).copied().collect()));
    }
    Ok(all.unwrap_or_default())
}

/// The tests that one criterion means. One that fits no table, model and test is noted.
fn meant(graph: &Graph, tests: &[Candidate], criterion: &str, unfit: &mut Unfit) -> Result<BTreeSet<usize>, String> {
    let (up, rest) = match criterion.strip_prefix('@') {
        Some(rest) => (None, rest),
        None => before(criterion),
    };
    let is_at = criterion.starts_with('@');
    let (value, down) = behind(rest);
    let (method, value) = value.split_once(':').unwrap_or((method_of(value), value));
    let of_tests = |is_meant: &dyn Fn(&Candidate) -> bool| {
        (0..tests.len()).filter(|at| is_meant(&tests[*at])).collect::<BTreeSet<usize>>()
    };
    let is_meant: Box<dyn Fn(&Node) -> bool> = match method {
        "test_name" => {
            let found = of_tests(&|test| is_match(value, &test.test));
            if found.is_empty() {
                unfit.push((criterion.to_owned(), likely(graph, tests, method, value)));
            }
            return Ok(found);
        }
        "test_type" => {
            return Ok(of_tests(&|test| match value {
                "data" => true,
                "generic" => test.path.is_empty(),
                "singular" => !test.path.is_empty(),
                _ => false,
            }));
        }
        "fqn" => Box::new(|node| {
            let short = node.name.split_once('.').map_or(node.name.as_str(), |(_, short)| short);
            !node.is_source && (is_match(value, short) || is_match(value, &node.name))
        }),
        "tag" => Box::new(|node| node.tags.iter().any(|tag| is_match(value, tag))),
        "path" | "file" => Box::new(|node| is_at_path(method, value, &node.path)),
        "source" => Box::new(|node| {
            let source = node.name.split_once('.').map_or("", |(source, _)| source);
            node.is_source && (is_match(value, source) || is_match(value, &node.name))
        }),
        other => {
            return Err(format!(
                "`{other}:` is no way to select that is known here\nHint: One of: fqn, tag, path, file, source, test_name, test_type."
            ));
        }
    };
    let mut nodes: BTreeSet<&str> =
        graph.nodes.iter().filter(|node| is_meant(node)).map(|node| node.name.as_str()).collect();
    let (own, all) = (nodes.clone(), Some(usize::MAX));
    match is_at {
        true => {
            let readers = graph.reached(&own, all, false);
            nodes = graph.reached(&readers, all, true);
        }
        false => {
            nodes.extend(graph.reached(&own, up, true));
            nodes.extend(graph.reached(&own, down, false));
        }
    }
    // Of a test alone, by its name, as dbt does.
    let is_named = |test: &Candidate| match method {
        "fqn" => own.is_empty() && is_match(value, &test.test),
        "path" | "file" => is_at_path(method, value, &test.path),
        _ => false,
    };
    if own.is_empty() && !tests.iter().any(is_named) {
        unfit.push((criterion.to_owned(), likely(graph, tests, method, value)));
    }
    Ok(of_tests(&|test| nodes.contains(test.node.as_str()) || is_named(test)))
}

/// What is likely meant by a value that fits nothing: what a method looks at and is called much alike; or the source table of that name.
fn likely(graph: &Graph, tests: &[Candidate], method: &str, value: &str) -> Option<String> {
    let short = |node: &Node| node.name.split_once('.').map_or(node.name.clone(), |(_, short)| short.to_owned());
    let of = |is_source: bool| graph.nodes.iter().filter(move |node| node.is_source == is_source);
    let test_names = || tests.iter().map(|test| test.test.clone());
    let names: Vec<String> = match method {
        "tag" => graph.nodes.iter().flat_map(|node| node.tags.clone()).collect(),
        "source" => {
            let sources = of(true).filter_map(|node| node.name.split_once('.')).map(|(source, _)| source.to_owned());
            sources.chain(of(true).map(|node| node.name.clone())).collect()
        }
        "path" | "file" => {
            let file = |node: &Node| node.path.rsplit('/').next().unwrap_or_default().to_owned();
            of(false).flat_map(|node| [node.path.clone(), file(node)]).collect()
        }
        "test_name" => test_names().collect(),
        _ => of(false).flat_map(|node| [short(node), node.name.clone()]).chain(test_names()).collect(),
    };
    if let Some(meant) = project::closest(value, names.iter().map(String::as_str)) {
        return Some(meant.to_owned());
    }
    let is_it = |node: &&Node| value == node.name || value == short(node);
    of(true).find(is_it).filter(|_| method == "fqn").map(|node| format!("source:{}", node.name))
}

/// Whether a file is the one that is meant, or below the folder that is.
fn is_at_path(method: &str, value: &str, path: &str) -> bool {
    let folder = value.trim_end_matches('/');
    let is_below = path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let is_file = method == "file" && path.rsplit('/').next() == Some(folder);
    !path.is_empty() && (is_below || is_file || is_match(folder, path))
}

/// The method of a value that names none.
fn method_of(value: &str) -> &'static str {
    let is_file = [".sql", ".yml", ".csv"].iter().any(|end| value.ends_with(end));
    match (value.contains('/'), is_file) {
        (true, _) => "path",
        (false, true) => "file",
        (false, false) => "fqn",
    }
}

/// What stands before a value: `+` for all that it reads, `2+` for two levels of that.
fn before(text: &str) -> (Reach, &str) {
    match text.split_once('+') {
        Some((levels, rest)) if levels.is_empty() && !rest.is_empty() => (Some(usize::MAX), rest),
        Some((levels, rest)) if !rest.is_empty() && levels.chars().all(|c| c.is_ascii_digit()) => {
            (levels.parse().ok(), rest)
        }
        _ => (None, text),
    }
}

/// What stands behind a value, likewise for what reads it.
fn behind(text: &str) -> (&str, Reach) {
    match text.rsplit_once('+') {
        Some((value, "")) => (value, Some(usize::MAX)),
        Some((value, levels)) if levels.chars().all(|c| c.is_ascii_digit()) => (value, levels.parse().ok()),
        _ => (text, None),
    }
}

impl Graph {
    /// These, and what is so many levels up or down from them.
    fn reached<'a>(&'a self, from: &BTreeSet<&'a str>, levels: Reach, up: bool) -> BTreeSet<&'a str> {
        let mut found = from.clone();
        let mut last = from.clone();
        for _ in 0..levels.unwrap_or(0) {
            let next = self.edges.iter().filter_map(|(below, reader)| {
                let (here, there) = if up { (reader, below) } else { (below, reader) };
                last.contains(here.as_str()).then_some(there.as_str())
            });
            last = next.filter(|name| !found.contains(name)).collect();
            if last.is_empty() {
                break;
            }
            found.extend(&last);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// shop.orders → public.trade → public.today; shop.users → public.people.
    fn shop() -> (Graph, Vec<Candidate>) {
        let node = |name: &str, path: &str, tags: &[&str]| Node {
            name: name.to_owned(),
            path: path.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            is_source: path.is_empty(),
        };
        let nodes = vec![
            node("shop.orders", "", &[]),
            node("shop.users", "", &["personal"]),
            node("public.trade", "models/dws/trade.sql", &["nightly"]),
            node("public.today", "models/ads/today.sql", &["nightly"]),
            node("public.people", "models/dws/people.sql", &[]),
        ];
        let edges =
            [("shop.orders", "public.trade"), ("public.trade", "public.today"), ("shop.users", "public.people")];
        let edges = edges.map(|(below, reader)| (below.to_owned(), reader.to_owned())).to_vec();
        let test = |node: &str, test: &str| Candidate {
            node: node.to_owned(),
            test: test.to_owned(),
            path: if test == "people_are_known" { format!("tests/{test}.sql") } else { String::new() },
        };
        let tests = vec![
            test("shop.orders", "unique"),
            test("shop.users", "unique"),
            test("public.trade", "not_null"),
            test("public.today", "unique"),
            test("public.people", "people_are_known"),
        ];
        (Graph { nodes, edges }, tests)
    }

    fn chosen(selected: &str, excluded: &str) -> String {
        let (graph, tests) = shop();
        let list = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
        match select(&graph, &tests, &list(selected), &list(excluded)) {
            Ok(chosen) => {
                let names = tests.iter().zip(chosen.tests).filter(|(_, is)| *is);
                names.map(|(test, _)| test.node.split('.').next_back().unwrap()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error,
        }
    }

    #[test]
    fn what_fits_nothing_is_told() {
        let (graph, tests) = shop();
        for (selected, wanted) in [
            ("trade+1 tradee", "tradee: trade"),
            ("foo", "foo: -"),
            ("+trade people_are_known", ""),
            ("tag:nightlyy,trade", "tag:nightlyy: nightly"),
            ("orders", "orders: source:shop.orders"),
            ("test_name:uniqe", "test_name:uniqe: unique"),
        ] {
            let unfit = select(&graph, &tests, &[selected.to_owned()], &[]).unwrap().unfit;
            let told = unfit.iter().map(|(what, meant)| format!("{what}: {}", meant.as_deref().unwrap_or("-")));
            assert_eq!(told.collect::<Vec<_>>().join(", "), wanted, "{selected}");
        }
    }

    #[test]
    fn dbts_criteria_are_understood() {
        for (selected, excluded, wanted) in [
            ("", "", "orders users trade today people"),
            ("trade", "", "trade"),
            ("public.tr*", "", "trade"),
            ("+trade", "", "orders trade"),
            ("trade+", "", "trade today"),
            ("1+today", "", "trade today"),
            ("@trade", "", "orders trade today"),
            ("tag:nightly", "", "trade today"),
            ("tag:nightly,test_name:unique", "", "today"),
            ("source:shop", "", "orders users"),
            ("source:shop.orders+1", "", "orders trade"),
            ("path:models/dws", "", "trade people"),
            ("models/ads/today.sql", "", "today"),
            ("today.sql people", "", "today people"),
            ("people_are_known", "", "people"),
            ("tests", "", ""),
            ("path:tests", "", "people"),
            ("tests/people_are_known.sql", "", "people"),
            ("test_type:singular", "", "people"),
            ("test_type:generic,tag:nightly", "", "trade today"),
            ("", "source:shop tag:nightly", "people"),
            ("nothing", "", ""),
        ] {
            assert_eq!(chosen(selected, excluded), wanted, "{selected:?} without {excluded:?}");
        }
        assert!(chosen("state:modified", "").starts_with("`state:` is no way to select"));
    }
}
