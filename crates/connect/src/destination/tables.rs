//! A target's table over there, looked at, made and completed: the same run for all databases. What differs is a [`Dialect`].

use async_trait::async_trait;

use super::columns::Table;
use super::kind::{At, failure_of, told_of};
use super::{Down, Problem, Target};
use crate::source::Check;

/// One target's table on one server: what is asked of the server, and in which words it is mended.
#[async_trait]
pub(super) trait Dialect: Send {
    type Table: Table + Send + Sync;

    /// The table's name, quoted, as messages and statements have it.
    fn name(&self) -> Result<String, Down>;

    /// The table, if there is one.
    async fn describe(&mut self) -> Result<Option<Self::Table>, Down>;

    /// Even what the table would be in is not there.
    async fn no_home(&mut self) -> Result<Option<Problem>, Down>;

    /// What is to be made beside or within what is there may not be made.
    async fn may_not_make(&mut self, _: Option<&Self::Table>) -> Result<Option<Problem>, Down> {
        Ok(None)
    }

    /// The statement that makes the table.
    fn creation(&self) -> Result<String, Down>;

    /// Carries statements out, one after the other.
    async fn execute(&mut self, statements: Vec<String>) -> Result<(), Down>;

    /// What keeps the target's rows out.
    fn problems(&self, table: &Self::Table) -> Vec<Problem>;

    /// Columns lack that are to be made, and the table is not ours.
    fn not_ours(&self, _: &Self::Table) -> Option<Problem> {
        None
    }

    /// What is worth knowing.
    fn notes(&self, _: &Self::Table) -> Vec<Check> {
        Vec::new()
    }
}

/// What keeps a target from being delivered to, and what is worth knowing. Changes nothing.
pub(super) async fn look<D: Dialect>(dialect: &mut D, target: &Target) -> Result<(Vec<Problem>, Vec<Check>), Down> {
    let is_made = target.is_on("create");
    let described = dialect.describe().await?;
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    match &described {
        None => {
            if let Some(problem) = dialect.no_home().await? {
                return Ok((vec![problem], notes));
            }
            if !is_made {
                return Ok((vec![missing(dialect)?], notes));
            }
            notes.push(Check::ok("create", format!("{} will be made", dialect.name()?)));
        }
        Some(table) => {
            problems.extend(dialect.problems(table));
            if is_made {
                table.but_for_made(target, &mut problems);
                problems.extend(dialect.not_ours(table));
            }
            notes.extend(dialect.notes(table));
        }
    }
    problems.extend(dialect.may_not_make(described.as_ref()).await?);
    Ok((problems, notes))
}

fn missing<D: Dialect>(dialect: &D) -> Result<Problem, Down> {
    let problem = Problem::new(At::To("table".to_owned()), format!("table {} does not exist", dialect.name()?));
    Ok(problem.hint(format!("Set `create: true`, or: {}", dialect.creation()?)))
}

/// The table of a target, made or completed where it may be. Errors: what keeps its rows out.
pub(super) async fn prepare<D: Dialect>(dialect: &mut D, target: &Target) -> Result<D::Table, Down> {
    let is_made = target.is_on("create");
    let ours = |problem: Problem| Down::lasting(problem.failure());
    let mut found = dialect.describe().await?;
    if found.is_none()
        && let Some(problem) = dialect.no_home().await?
    {
        return Err(ours(problem));
    }
    if found.is_some() || is_made {
        // Before anything is made, so that nothing is left half made.
        if let Some(problem) = dialect.may_not_make(found.as_ref()).await? {
            return Err(ours(problem));
        }
    }
    if found.is_none() && is_made {
        let creation = dialect.creation()?;
        dialect.execute(vec![creation]).await?;
        found = dialect.describe().await?;
    }
    let Some(mut table) = found else {
        return Err(ours(missing(dialect)?));
    };
    if is_made && let Some(problem) = dialect.not_ours(&table) {
        return Err(ours(problem));
    }
    let additions: Vec<String> = table.missing(target).into_iter().map(|field| table.addition(field)).collect();
    if is_made && !additions.is_empty() {
        dialect.execute(additions).await?;
        table = dialect.describe().await?.unwrap_or(table);
    }
    match failure_of(dialect.problems(&table)) {
        Some(failure) => Err(Down::lasting(failure)),
        None => Ok(table),
    }
}

/// What a doctor says of a target's table by what was found.
pub(super) fn told(target: &Target, looked: Result<(Vec<Problem>, Vec<Check>), Down>) -> Vec<Check> {
    let (problem, notes) = match looked {
        Ok((problems, notes)) => (failure_of(problems), notes),
        Err(down) => (Some(down.failure), Vec::new()),
    };
    let whereto = format!(" to \"{}\"", target.text("table").unwrap_or_default());
    std::iter::once(told_of(target, "table", &whereto, problem)).chain(notes).collect()
}
