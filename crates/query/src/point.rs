//! Rows by their whole key, without planning each time that one is asked for.
//!
//! What a statement means is the planner's word alone. A statement whose form may be that of such a read is planned once, with its
//! literals as parameters; if the optimised plan is columns of one stored table under one equality for each column of its key, it
//! is kept as a [`Point`], for as long as the catalogue is the same one. The next statement of that form reads the key.
//! Whatever is not as plain goes the general way: other conditions, values that the key's types cannot hold exactly, NULL, texts so
//! long that keys cut them. So do views of roles, whose condition stands under a limit.
//!
//! Descriptions of prepared statements are kept likewise, of whatever form: clients ask for them before each execution.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, SetExpr, TableFactor};
use relation::Layout;

use crate::catalog::{Catalog, StoredTable};
use crate::error::{Error, Result, code};
use crate::scan::{StoredProvider, pushdown};
use crate::session::Description;
use crate::statement::{Kind, Statement};
use crate::storage::Storage;

/// Bytes of a text that is kept; a longer one is planned each time.
pub(crate) const TEXT_BYTES_MAX: usize = 2048;
/// Texts that are kept of each kind: with what is known of each, some megabytes. When there are more, all are forgotten.
const TEXTS_MAX: usize = 1000;

/// What statements are known by: what names mean, the text, and the types of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question<T> {
    /// The catalogue's place in memory, which nobody else has while [`Known`] refers to it.
    catalog: usize,
    path: Option<Vec<String>>,
    text: String,
    types: Vec<T>,
}

impl<T> Question<T> {
    pub(crate) fn new(catalog: &Arc<Catalog>, path: Option<&Vec<String>>, text: &str, types: Vec<T>) -> Self {
        let catalog = Arc::as_ptr(catalog).addr();
        Self { catalog, path: path.cloned(), text: text.to_owned(), types }
    }

    pub(crate) fn types(&self) -> &[T] {
        &self.types
    }

    /// Whether nothing is kept of such a text.
    pub(crate) fn is_long(&self) -> bool {
        self.text.len() > TEXT_BYTES_MAX
    }
}

/// What is known of statements by their texts.
#[derive(Default)]
pub(crate) struct Memory {
    points: Mutex<BTreeMap<Question<DataType>, Known<Option<Arc<Point>>>>>,
    descriptions: Mutex<BTreeMap<Question<Option<DataType>>, Known<Description>>>,
}

struct Known<T> {
    /// Keeps the catalogue's place from being another one's.
    _of: Weak<Catalog>,
    what: T,
}

impl Memory {
    /// What is known: that a text reads a point, or that it does not. None: nothing.
    pub(crate) fn point(&self, question: &Question<DataType>) -> Option<Option<Arc<Point>>> {
        locked(&self.points).get(question).map(|known| known.what.clone())
    }

    pub(crate) fn keep_point(&self, catalog: &Arc<Catalog>, question: Question<DataType>, point: Option<Arc<Point>>) {
        keep(&self.points, catalog, question, point);
    }

    pub(crate) fn description(&self, question: &Question<Option<DataType>>) -> Option<Description> {
        locked(&self.descriptions).get(question).map(|known| known.what.clone())
    }

    pub(crate) fn keep_description(
        &self,
        catalog: &Arc<Catalog>,
        question: Question<Option<DataType>>,
        description: Description,
    ) {
        keep(&self.descriptions, catalog, question, description);
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep<Q: Ord, T>(of: &Mutex<BTreeMap<Q, Known<T>>>, catalog: &Arc<Catalog>, question: Q, what: T) {
    let mut known = locked(of);
    if known.len() >= TEXTS_MAX {
        known.clear();
    }
    known.insert(question, Known { _of: Arc::downgrade(catalog), what });
}

/// A statement whose form may be that of a read by key, with its literals as further parameters.
pub(crate) struct Form {
    pub(crate) statement: Statement,
    /// The values of the literals, behind those of the parameters that it has itself.
    pub(crate) literals: Vec<ScalarValue>,
}

impl Form {
    /// The form of a statement with so many parameters; none where it is another one.
    pub(crate) fn of(statement: &Statement, parameters: usize) -> Option<Self> {
        if statement.kind != Kind::Query || statement.reads_catalog() {
            return None;
        }
        let mut tree = statement.tree().clone();
        let condition = condition(&mut tree)?;
        let mut literals = Literals { before: parameters, values: Vec::new() };
        literals.lift(condition)?;
        Some(Self { statement: statement.with_tree(tree), literals: literals.values })
    }
}

/// The WHERE of a SELECT from one name, of nothing else that changes its rows but a LIMIT.
fn condition(tree: &mut ast::Statement) -> Option<&mut ast::Expr> {
    let ast::Statement::Query(query) = tree else { return None };
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let is_of_one = matches!(&select.from[..], [from] if from.joins.is_empty()
        && matches!(&from.relation, TableFactor::Table { args: None, .. }));
    let is_plain = is_plain && is_of_one && select.distinct.is_none() && select.having.is_none();
    select.selection.as_mut().filter(|_| is_plain)
}

/// Takes literals out of a condition.
struct Literals {
    /// Parameters that it has already.
    before: usize,
    values: Vec<ScalarValue>,
}

impl Literals {
    /// None: the condition is something else than equalities of names.
    fn lift(&mut self, condition: &mut ast::Expr) -> Option<()> {
        match condition {
            ast::Expr::Nested(inner) => self.lift(inner),
            ast::Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.lift(left)?;
                self.lift(right)
            }
            ast::Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (is_name(left), is_name(right)) {
                (true, false) => self.value(right),
                (false, true) => self.value(left),
                _ => None,
            },
            _ => None,
        }
    }

    fn value(&mut self, expr: &mut ast::Expr) -> Option<()> {
        let ast::Expr::Value(found) = expr else { return None };
        let value = match &found.value {
            ast::Value::Placeholder(_) => return Some(()),
            ast::Value::Number(digits, false) => ScalarValue::Int64(Some(digits.parse().ok()?)),
            ast::Value::SingleQuotedString(text) => ScalarValue::Utf8(Some(text.clone())),
            _ => return None,
        };
        self.values.push(value);
        found.value = ast::Value::Placeholder(format!("${}", self.before + self.values.len()));
        Some(())
    }
}

fn is_name(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_))
}

/// A read of one row of a table by its key.
#[derive(Debug)]
pub(crate) struct Point {
    table: Arc<StoredTable>,
    layout: Layout,
    /// Columns of the table that are answered.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// For each column of the key the parameter that it equals, from 0.
    key: Vec<usize>,
}

impl Point {
    /// What an optimised plan reads, if it is a point; its answer has these columns.
    pub(crate) fn of(plan: &LogicalPlan, answer: &SchemaRef) -> Option<Self> {
        let Read { table, columns, equalities } = Read::of(plan)?;
        let schema = &table.schema;
        let of_column = |column: &usize| {
            let mut found = equalities.iter().filter(|(of, _)| of == column);
            found.next().map(|(_, parameter)| *parameter)
        };
        let key: Vec<usize> = schema.key.iter().map(of_column).collect::<Option<_>>()?;
        let has_same_types = columns.len() == answer.fields().len()
            && columns
                .iter()
                .zip(answer.fields())
                .all(|(&column, field)| schema.columns[column].data_type.to_arrow() == *field.data_type());
        // A second equality of a column, or one of another column, is a condition more.
        let is_point = !key.is_empty() && key.len() == equalities.len() && !columns.is_empty() && has_same_types;
        let layout = Layout::new(schema.types());
        is_point.then_some(Self { table, layout, columns, schema: Arc::clone(answer), key })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The row with this key, if there is one. None: what the values equal is not said by a key alone.
    pub(crate) fn read(&self, storage: &dyn Storage, parameters: &[&ScalarValue]) -> Result<Option<Vec<RecordBatch>>> {
        let values: Option<Vec<&ScalarValue>> = self.key.iter().map(|&at| parameters.get(at).copied()).collect();
        let Some(key) = values.and_then(|values| pushdown::whole_key(&self.table.schema, &values)) else {
            return Ok(None);
        };
        let mut found = Vec::new();
        let mut failed = None;
        storage.get(self.table.id, &key, &mut |row| match relation::columns::decode(
            std::iter::once(row),
            &self.layout,
            &self.columns,
            &self.schema,
        ) {
            Ok(batch) => found.push(batch),
            Err(error) => failed = Some(error),
        })?;
        match failed {
            None => Ok(Some(found)),
            Some(error) => Err(Error::new(code::IO, format!("table {} cannot be read: {error}", self.table.name))),
        }
    }
}

/// Columns of a stored table under equalities with parameters.
struct Read {
    table: Arc<StoredTable>,
    /// Of the table, in the order of the plan's columns.
    columns: Vec<usize>,
    /// Columns of the table, and the parameters that they equal, from 0.
    equalities: Vec<(usize, usize)>,
}

impl Read {
    fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source).ok()?;
                let provider: &dyn std::any::Any = provider.as_ref();
                let table = provider.downcast_ref::<StoredProvider>()?.keyed()?;
                let all = || (0..table.schema.columns.len()).collect();
                let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
                let whole = DFSchema::try_from(table.schema.to_arrow()).ok()?;
                let mut read = Self { table: Arc::clone(table), columns: all(), equalities: Vec::new() };
                scan.filters.iter().try_for_each(|filter| read.narrow(&unqualified(filter), &whole))?;
                read.columns = columns;
                (scan.fetch != Some(0)).then_some(read)
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => {
                let mut read = Self::of(&filter.input)?;
                read.narrow(&filter.predicate, filter.input.schema())?;
                Some(read)
            }
            LogicalPlan::Projection(projection) => {
                let read = Self::of(&projection.input)?;
                let column = |expr: &Expr| {
                    let at = projection.input.schema().index_of_column(named(expr)?).ok()?;
                    read.columns.get(at).copied()
                };
                let columns = projection.expr.iter().map(column).collect::<Option<_>>()?;
                Some(Self { columns, ..read })
            }
            LogicalPlan::Limit(limit) => {
                let is_all = rows(limit.skip.as_deref()) == Some(0) && rows(limit.fetch.as_deref())? > 0;
                if is_all { Self::of(&limit.input) } else { None }
            }
            _ => None,
        }
    }

    /// None: the condition is more than equalities with parameters.
    fn narrow(&mut self, condition: &Expr, schema: &DFSchema) -> Option<()> {
        for part in split_conjunction(condition) {
            let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
            let equality = equality(left, right, schema).or_else(|| equality(right, left, schema));
            let (column, parameter) = equality?;
            self.equalities.push((*self.columns.get(column)?, parameter));
        }
        Some(())
    }
}

/// The number that a LIMIT or an OFFSET says; 0 where it says nothing.
fn rows(expr: Option<&Expr>) -> Option<i64> {
    match expr {
        None => Some(0),
        Some(Expr::Literal(ScalarValue::Int64(rows), _)) => *rows,
        Some(_) => None,
    }
}

/// A filter of a scan names columns with or without the table.
fn unqualified(filter: &Expr) -> Expr {
    use datafusion::common::tree_node::{Transformed, TreeNode as _};
    let plain = filter.clone().transform(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    });
    plain.map_or_else(|_| filter.clone(), |plain| plain.data)
}

/// The column that an expression is, under whatever name.
fn named(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => named(&alias.expr),
        _ => None,
    }
}

/// The column's place in the schema, and the parameter that it equals.
fn equality(column: &Expr, value: &Expr, schema: &DFSchema) -> Option<(usize, usize)> {
    let (column, as_type) = match column {
        Expr::Column(column) => (column, None),
        // All of a smaller integer's values are values of the larger one.
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Column(column) => (column, Some(cast.field.data_type())),
            _ => return None,
        },
        _ => return None,
    };
    let at = schema.index_of_column(column).ok()?;
    let own = schema.field(at).data_type();
    if as_type.is_some_and(|wider| !(own.is_signed_integer() && wider.is_signed_integer())) {
        return None;
    }
    let placeholder = match value {
        Expr::Placeholder(placeholder) => placeholder,
        // What it is cast to is held exactly, or it is not read by key.
        Expr::Cast(cast) if cast.field.data_type() == as_type.unwrap_or(own) && own.is_numeric() => {
            match cast.expr.as_ref() {
                Expr::Placeholder(placeholder) => placeholder,
                _ => return None,
            }
        }
        _ => return None,
    };
    let number = placeholder.id.strip_prefix('$')?.parse::<usize>().ok()?;
    Some((at, number.checked_sub(1)?))
}
