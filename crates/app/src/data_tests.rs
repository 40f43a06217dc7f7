//! Data tests: statements of the rows that should not be, which a project declares of its tables and models.
//!
//! They are run when somebody asks for it (`tidemill test`, the statement `test models`) and at the end of a build, all of them over one
//! step. What came of a test stands in `tidemill.tests` until it is run again, and the first of its rows in `tidemill.test_failures`.
//! The verdict is dbt's: `error_if` is looked at where the severity is `error`, and then `warn_if`.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use plan::TableName;
use query::Session;
use relation::Value;

use crate::documentation::{Declared, Documented};
use crate::output::{json_row, values_of};
use crate::reason::Reason;

/// Failing rows of a test that are remembered.
const ROWS_MAX: usize = 20;
/// Bytes of them, and of those of all tests.
const ROWS_BYTES_MAX: usize = 64 << 10;
const ALL_BYTES_MAX: usize = 4 << 20;

/// The statement that runs tests: all of them, or those of which the ids follow as a list in JSON.
pub const STATEMENT: &str = "test models";

/// A test of a table, model or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    pub node: TableName,
    pub declared: Declared,
}

/// What came of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
    /// Its statement failed, or it cannot be run as it is written.
    Error,
    /// It is of no kind that is known here.
    NotRun,
}

impl Verdict {
    /// The word of `tidemill.tests`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::NotRun => "not run",
        }
    }

    /// Whether it was answered.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Pass | Self::Warn | Self::Fail)
    }

    /// Whether there are rows that should not be.
    fn has_failures(self) -> bool {
        matches!(self, Self::Warn | Self::Fail)
    }
}

/// See [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    pub verdict: Verdict,
    /// None where that is not known.
    pub failures: Option<i64>,
    /// Why there is no answer.
    pub reason: Reason,
    /// The first failing rows, as JSON.
    pub rows: Vec<String>,
}

impl Tested {
    fn without_answer(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, failures: None, reason, rows: Vec::new() }
    }
}

/// What came of a test when it was run last.
#[derive(Debug, Clone)]
pub struct Noted {
    pub tested: Tested,
    pub at_us: i64,
    pub step: u64,
    /// Since when it has been found to fail; none where it does not.
    pub since_us: Option<i64>,
}

/// What came of the tests that were run, by their ids.
#[derive(Debug, Clone, Default)]
pub struct Results(BTreeMap<String, Noted>);

impl Results {
    /// What came of a test, if it was run as it is declared now.
    pub fn of(&self, test: &Test) -> Option<&Noted> {
        self.0.get(&test.key())
    }

    /// Takes what came of tests; those that are declared no more are forgotten.
    pub fn note(&mut self, ran: &[(Test, Tested)], declared: &[Test], step: u64, now_us: i64) {
        let known: BTreeSet<String> = declared.iter().map(Test::key).collect();
        self.0.retain(|key, _| known.contains(key));
        for (test, tested) in ran.iter().filter(|(test, _)| known.contains(&test.key())) {
            let before = self.0.get(&test.key()).and_then(|noted| noted.since_us);
            let since_us = tested.verdict.has_failures().then(|| before.unwrap_or(now_us));
            self.0.insert(test.key(), Noted { tested: tested.clone(), at_us: now_us, step, since_us });
        }
        let mut bytes = 0;
        for noted in self.0.values_mut() {
            bytes += noted.tested.rows.iter().map(String::len).sum::<usize>();
            if bytes > ALL_BYTES_MAX {
                noted.tested.rows = Vec::new();
            }
        }
    }
}

impl Test {
    /// All tests that are declared.
    pub fn all<'a>(documented: impl Iterator<Item = &'a Documented>) -> Vec<Self> {
        let of = |of: &Documented| {
            let node = TableName::new(&of.schema, &of.name);
            let tests = of.tests.iter().map(|declared| Self { node: node.clone(), declared: declared.clone() });
            tests.collect::<Vec<_>>()
        };
        documented.flat_map(of).collect()
    }

    /// What it is called by when it is to be run.
    pub fn id(&self) -> String {
        format!("{}|{}|{}", self.node, self.declared.name, self.declared.column)
    }

    /// The same, and what it says: another statement is another test.
    fn key(&self) -> String {
        format!("{}|{}", self.id(), self.declared.sql)
    }

    /// The statement that answers in one row how many failures there are, and whether that is too much.
    fn counting(&self) -> String {
        let Declared { sql, fail_calc, warn_if, error_if, limit, .. } = &self.declared;
        let or = |text: &'static str, said: &str| if said.is_empty() { text.to_owned() } else { said.to_owned() };
        let count = or("count(*)", fail_calc);
        let (warns, fails) = (or("<> 0", warn_if), or("<> 0", error_if));
        let limit = limit.map(|rows| format!(" limit {rows}")).unwrap_or_default();
        format!(
            "select {count} as failures, {count} {warns} as should_warn, {count} {fails} as should_error from ({sql}{limit}) as failing"
        )
    }

    /// Runs it over the step of a session.
    pub async fn run(&self, session: &Session) -> Tested {
        if !self.declared.mistake.is_empty() {
            return Tested::without_answer(Verdict::Error, Reason::of(&self.declared.mistake));
        }
        if !self.declared.path.is_empty() {
            let reason = "it is a statement of its own, and those are not run yet\nHint: The generic tests of YAML are: unique, not_null, \
                          accepted_values and relationships of a column.";
            return Tested::without_answer(Verdict::NotRun, Reason::of(reason));
        }
        if self.declared.sql.is_empty() {
            let reason = "it is of no kind that is known here\nHint: unique, not_null, accepted_values and relationships of a column \
                          are, with a `where` that is plain SQL.";
            return Tested::without_answer(Verdict::NotRun, Reason::of(reason));
        }
        self.answered(session).await.unwrap_or_else(|error| {
            let (detail, hint) = (error.detail.unwrap_or_default(), error.hint.unwrap_or_default());
            Tested::without_answer(Verdict::Error, Reason { message: error.message, detail, hint })
        })
    }

    async fn answered(&self, session: &Session) -> query::Result<Tested> {
        let (_, counted) = rows(session.sql(&self.counting()).await?).await?;
        // Of no rows some of what can be counted is NULL: nothing fails.
        let Some([failures, should_warn, should_error]) = counted.first().map(Vec::as_slice) else {
            return Err(query::Error::new("XX000", "a test has no answer"));
        };
        let failures = match failures {
            Value::Null => 0,
            // What `fail_calc` counts may be of any type; beyond all numbers it is too much in any case.
            number => number.to_string().split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(i64::MAX),
        };
        let is = |value: &Value| matches!(value, Value::Bool(true));
        let verdict = match self.declared.severity.as_str() {
            "error" if is(should_error) => Verdict::Fail,
            _ if is(should_warn) => Verdict::Warn,
            _ => Verdict::Pass,
        };
        let failures = if verdict.has_failures() { failures } else { 0 };
        let failing = if verdict.has_failures() { self.failing(session).await? } else { Vec::new() };
        Ok(Tested { verdict, failures: Some(failures), reason: Reason::default(), rows: failing })
    }

    /// The first failing rows.
    async fn failing(&self, session: &Session) -> query::Result<Vec<String>> {
        let sql = format!("select * from ({}) as failing limit {ROWS_MAX}", self.declared.sql);
        let (names, found) = rows(session.sql(&sql).await?).await?;
        let mut bytes = 0;
        let mut failing = Vec::new();
        for row in found {
            let text = json_row(names.iter().zip(&row));
            bytes += text.len();
            if bytes > ROWS_BYTES_MAX {
                break;
            }
            failing.push(text);
        }
        Ok(failing)
    }
}

/// The rows of an answer, and the names of their columns.
async fn rows(answer: query::Answer) -> query::Result<(Vec<String>, Vec<Vec<Value>>)> {
    let names = answer.schema.fields().iter().map(|field| field.name().clone()).collect();
    let batches: Vec<RecordBatch> = answer.stream.try_collect().await?;
    let mut found = Vec::new();
    for batch in &batches {
        found.extend(values_of(batch).map_err(|error| query::Error::new("XX000", error.to_string()))?);
    }
    Ok((names, found))
}

/// The tests that a statement wants run: none where it is another statement, else their ids, or none for all.
pub fn wanted(sql: &str) -> Option<Option<BTreeSet<String>>> {
    let text = sql.trim().trim_end_matches(';');
    let behind = STATEMENT.split(' ').try_fold(text, |text, word| {
        let (first, rest) = text.trim_start().split_once(char::is_whitespace).unwrap_or((text.trim_start(), ""));
        first.eq_ignore_ascii_case(word).then_some(rest)
    });
    match behind?.trim() {
        "" => Some(None),
        ids => serde_json::from_str(ids).ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, sql: &str) -> Test {
        let declared = Declared {
            name: name.to_owned(),
            column: "id".to_owned(),
            severity: "error".to_owned(),
            sql: sql.to_owned(),
            fail_calc: String::new(),
            warn_if: String::new(),
            error_if: String::new(),
            limit: None,
            mistake: String::new(),
            path: String::new(),
        };
        Test { node: TableName::new("public", "a"), declared }
    }

    fn tested(verdict: Verdict, rows: &[&str]) -> Tested {
        let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
        Tested { verdict, failures: i64::try_from(rows.len()).ok(), reason: Reason::default(), rows }
    }

    #[test]
    fn what_is_counted_is_what_dbt_counts() {
        let mut one = test("unique", "select 1");
        let counting = "select count(*) as failures, count(*) <> 0 as should_warn, count(*) <> 0 as should_error from (select 1) as failing";
        assert_eq!(one.counting(), counting);
        let of = &mut one.declared;
        (of.fail_calc, of.error_if, of.limit) = ("sum(n)".to_owned(), "> 10".to_owned(), Some(5));
        let counting = "select sum(n) as failures, sum(n) <> 0 as should_warn, sum(n) > 10 as should_error from (select 1 limit 5) as failing";
        assert_eq!(one.counting(), counting);
    }

    /// It fails since it was first seen to, until it passes; of another statement nothing is known.
    #[test]
    fn a_test_fails_since_it_was_first_seen_to() {
        let (one, mut results) = (test("unique", "select 1"), Results::default());
        let all = [one.clone()];
        let mut note = |verdict, at| {
            results.note(&[(one.clone(), tested(verdict, &["{}"]))], &all, 1, at);
            results.of(&one).and_then(|noted| noted.since_us)
        };
        assert_eq!([note(Verdict::Fail, 10), note(Verdict::Warn, 20)], [Some(10), Some(10)]);
        assert_eq!([note(Verdict::Pass, 30), note(Verdict::Fail, 40)], [None, Some(40)]);
        assert!(results.of(&test("unique", "select 2")).is_none());
        results.note(&[], &[test("unique", "select 2")], 1, 50);
        assert!(results.of(&one).is_none(), "it is declared no more");
    }

    #[test]
    fn what_is_remembered_of_failing_rows_has_a_bound() {
        let row = "x".repeat(ROWS_BYTES_MAX);
        let all: Vec<Test> = (0..100).map(|at| test(&format!("t{at}"), "select 1")).collect();
        let ran: Vec<_> = all.iter().map(|test| (test.clone(), tested(Verdict::Fail, &[&row]))).collect();
        let mut results = Results::default();
        results.note(&ran, &all, 1, 0);
        let kept: usize =
            all.iter().filter_map(|test| results.of(test)).flat_map(|noted| &noted.tested.rows).map(String::len).sum();
        assert_eq!(kept, ALL_BYTES_MAX);
    }

    #[test]
    fn the_statement_is_told_from_others() {
        assert_eq!([wanted("TEST\n models"), wanted("Test Models ;")], [Some(None), Some(None)]);
        assert_eq!(wanted("test models [\"a|b|c\"]"), Some(Some(["a|b|c".to_owned()].into())));
        assert_eq!(wanted("test models a, b"), None);
        assert_eq!(wanted("select 1"), None);
    }
}
