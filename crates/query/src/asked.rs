//! Statements that are looked up before they are planned, and kept in mind when they have been.
//!
//! A text comes in on a thread that must not be held up ([`Session::asked`]): it is known to read a row by its key, and is answered there; or a
//! plan of its form is there, or it is parsed at least, and it is answered elsewhere ([`Session::answer`]).
//!
//! What is kept of a statement that was planned ([`Session::learn`]), which is found out from the second one of its form on
//! ([`crate::known`]), when its answer has been handed over ([`Session::answer_first`]):
//! - a [`Point`], where its form reads a row by its key;
//! - the form's optimised plan with parameters, if the plan depends on their types alone ([`template::is_by_types`]) and, with the values of
//!   this statement put in, is the very plan that was made of it;
//! - else the statement's own plan, where it has no parameters: the next one must have the same text;
//! - nothing of what also depends on who asks, on the time, or on rows of system tables, and where statements over stale tables
//!   are refused.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as PlannerResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::error::Result;
use crate::form::Form;
use crate::known::{Question, TEXT_BYTES_MAX, Way};
use crate::output;
use crate::point::Point;
use crate::session::{Answer, Description, Reads, Session, Written, renamed};
use crate::statement::{self, Statement};
use crate::template::{self, Template};
use crate::watch;

/// A statement that was looked up.
pub enum Asked {
    /// It is answered.
    Row(Answer),
    /// It is answered by [`Session::answer`].
    Statement(Asking),
}

/// What has been found of a statement that is still to be answered.
#[derive(Default)]
pub struct Asking {
    /// None: it has not been parsed, or cannot be.
    statement: Option<Box<Statement>>,
    /// A plan of its form, and the values of its literals.
    plan: Option<(Arc<Template>, Vec<ScalarValue>)>,
    /// Whether it is to be found out how such statements are answered: it is not the first of them.
    is_learned: bool,
}

impl Asking {
    /// Whether a plan is there.
    pub fn is_planned(&self) -> bool {
        self.plan.is_some()
    }
}

/// A statement that was planned, of which is still to be found out how the next one of its form is answered.
pub struct Lesson {
    pub(crate) statement: Statement,
    pub(crate) parameters: Vec<ScalarValue>,
    /// What the statement was optimised to.
    pub(crate) planned: LogicalPlan,
    pub(crate) schema: SchemaRef,
    pub(crate) reads: Reads,
}

impl Session {
    /// Looks a text up, and answers it at once if it is known to read one row by its key; that takes microseconds, and no planner.
    pub fn asked(&self, sql: &str, parameters: &[ScalarValue]) -> Result<Asked> {
        if !self.keeps(sql) {
            return Ok(Asked::Statement(Asking::default()));
        }
        let given: Vec<DataType> = parameters.iter().map(ScalarValue::data_type).collect();
        let as_given = self.question(sql, given.clone());
        if let Some(way) = self.runtime.memory.way(&as_given) {
            return self.by(way, None, parameters, Vec::new());
        }
        let Ok(statement) = statement::parse_one(sql) else { return Ok(Asked::Statement(Asking::default())) };
        let Some(form) = Form::of(&statement, parameters.len()) else { return Ok(unknown(statement)) };
        let memory = &self.runtime.memory;
        let mut question = self.question_of(&form, given);
        let mut way = memory.way(&question);
        let mut literals = form.literals;
        if matches!(way, Some(Way::Planned)) && parameters.is_empty() && !literals.is_empty() {
            question = self.question(&statement.text(), Vec::new());
            way = memory.way(&question);
            literals.clear();
        }
        let Some(way) = way else {
            let is_learned = !question.is_long() && memory.was_seen(&question);
            return Ok(Asked::Statement(Asking { statement: Some(Box::new(statement)), plan: None, is_learned }));
        };
        if literals.is_empty() && !matches!(way, Way::Planned) {
            memory.keep_way(&self.catalog, as_given, way.clone());
        }
        self.by(way, Some(statement), parameters, literals)
    }

    fn by(
        &self,
        way: Way,
        statement: Option<Statement>,
        parameters: &[ScalarValue],
        literals: Vec<ScalarValue>,
    ) -> Result<Asked> {
        let plan = match way {
            Way::Point(point) => match self.read(&point, parameters, &literals)? {
                Some(answer) => return Ok(Asked::Row(answer)),
                None => None,
            },
            Way::Plan(template) => Some((template, literals)),
            Way::Planned => None,
        };
        // That one row is not read by its key, or that each statement is planned, has been found out.
        Ok(Asked::Statement(Asking { statement: statement.map(Box::new), plan, is_learned: false }))
    }

    fn read(&self, point: &Point, parameters: &[ScalarValue], literals: &[ScalarValue]) -> Result<Option<Answer>> {
        let values: Vec<&ScalarValue> = parameters.iter().chain(literals).collect();
        let Some(batches) = point.read(self.storage.as_ref(), &values)? else { return Ok(None) };
        let schema = Arc::clone(point.schema());
        let batches = futures::stream::iter(batches.into_iter().map(Ok));
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), batches));
        Ok(Some(Answer { schema, stream, reads: Arc::clone(point.reads()) }))
    }

    /// Answers a statement that was looked up, with values for its parameters.
    pub async fn answer(&self, sql: &str, asking: Asking, parameters: &[ScalarValue]) -> Result<Answer> {
        let (answer, lesson) = self.answer_first(sql, asking, parameters).await?;
        if let Some(lesson) = lesson {
            self.learn(&lesson);
        }
        Ok(answer)
    }

    /// The same for who hands the answer over before there is anything learned of the statement ([`Session::learn`]).
    pub async fn answer_first(
        &self,
        sql: &str,
        asking: Asking,
        parameters: &[ScalarValue],
    ) -> Result<(Answer, Option<Lesson>)> {
        let Some((template, literals)) = asking.plan else {
            let statement = asking.statement.map_or_else(|| statement::parse_one(sql), |statement| Ok(*statement))?;
            let (answer, lesson) = self.executed(&statement, parameters).await?;
            return Ok((answer, lesson.filter(|_| asking.is_learned)));
        };
        let plan = self.finished(&template, &[parameters, &literals].concat())?;
        let (schema, reads) = (Arc::clone(template.schema()), Arc::clone(template.reads()));
        Ok((Answer { stream: renamed(self.run(&plan).await?, &schema, None), schema, reads }, None))
    }

    /// A plan as it is run at this step with these values.
    fn finished(&self, template: &Template, values: &[ScalarValue]) -> PlannerResult<LogicalPlan> {
        let plan = template.at(&self.storage, values)?;
        if !template.is_open() {
            return Ok(plan);
        }
        match template.is_plain() {
            true => self.runtime.finishing_plain().optimize(plan, &self.rules_once(), |_, _| {}),
            false => self.runtime.finishing().optimize(plan, &self.rules(), |_, _| {}),
        }
    }

    /// Keeps in mind how statements of a form are answered, of which one was planned.
    pub fn learn(&self, lesson: &Lesson) {
        let Lesson { statement, parameters, planned, schema, reads } = lesson;
        if !self.refused.is_empty() || output::shows_names(schema) {
            return;
        }
        let Some(form) = Form::of(statement, parameters.len()) else { return };
        let question = self.question_of(&form, parameters.iter().map(ScalarValue::data_type).collect());
        if question.is_long() {
            return;
        }
        let memory = &self.runtime.memory;
        let has_values = !question.types().is_empty();
        let way = memory.way(&question).unwrap_or_else(|| {
            let way = match has_values {
                true => self.way(&form, parameters, question.types(), planned).unwrap_or(Way::Planned),
                false => itself(planned, schema, reads),
            };
            // Of a statement that nobody waits for any more it was not found out.
            if watch::look().is_ok() {
                memory.keep_way(&self.catalog, question, way.clone());
            }
            way
        });
        if matches!(way, Way::Planned) && parameters.is_empty() && has_values {
            let question = self.question(&statement.text(), Vec::new());
            if memory.way(&question).is_none() {
                memory.keep_way(&self.catalog, question, itself(planned, schema, reads));
            }
        }
    }

    /// How statements of a form are answered, of which one was optimised to `planned`. None: each is planned.
    fn way(&self, form: &Form, parameters: &[ScalarValue], types: &[DataType], planned: &LogicalPlan) -> Option<Way> {
        let types: Vec<_> = types.iter().cloned().map(Some).collect();
        let Written { plan, reads, .. } = self.written(&form.statement, &types).ok()?;
        let analysed = self.analysed(plan).ok()?;
        let schema = output::schema(analysed.schema().inner());
        let optimised = self.optimised_analysed(analysed.clone()).ok()?;
        if let Some(point) = Point::of(&optimised, &schema, &reads) {
            return Some(Way::Point(Arc::new(point)));
        }
        if !template::is_by_types(&analysed).ok()? {
            return None;
        }
        let template = Template::of(&optimised, &schema, &reads)?;
        let finished = self.finished(&template, &[parameters, &form.literals].concat()).ok()?;
        (finished == *planned).then(|| Way::Plan(Arc::new(template)))
    }

    /// What a text takes and yields, if it was described before.
    pub fn described(&self, sql: &str, hints: &[Option<DataType>]) -> Option<Description> {
        self.keeps(sql).then(|| self.runtime.memory.description(&self.question(sql, hints.to_vec())))?
    }

    /// What the only statement of a text takes and yields; kept in mind for the next time.
    pub fn describe_text(&self, sql: &str, hints: &[Option<DataType>]) -> Result<Description> {
        let description = self.describe(&statement::parse_one(sql)?, hints)?;
        if self.keeps(sql) {
            let question = self.question(sql, hints.to_vec());
            self.runtime.memory.keep_description(&self.catalog, question, description.clone());
        }
        Ok(description)
    }

    /// Whether anything is kept of such a text.
    fn keeps(&self, sql: &str) -> bool {
        self.refused.is_empty() && sql.len() <= TEXT_BYTES_MAX
    }

    fn question<T>(&self, sql: &str, types: Vec<T>) -> Question<T> {
        Question::new(&self.catalog, self.search_path.as_ref(), sql, types)
    }

    fn question_of(&self, form: &Form, mut types: Vec<DataType>) -> Question<DataType> {
        types.extend(form.literals.iter().map(ScalarValue::data_type));
        self.question(&form.statement.text(), types)
    }
}

fn unknown(statement: Statement) -> Asked {
    Asked::Statement(Asking { statement: Some(Box::new(statement)), ..Asking::default() })
}

/// A statement's own plan, for the next one of its text.
fn itself(planned: &LogicalPlan, schema: &SchemaRef, reads: &Reads) -> Way {
    Template::of(planned, schema, reads).map_or(Way::Planned, |template| Way::Plan(Arc::new(template)))
}
