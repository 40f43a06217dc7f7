//! Where rows come from: stored tables, and constants in the text.

use arrow::array::Array as _;
use datafusion_common::ScalarValue;
use datafusion_expr::logical_plan::{EmptyRelation, TableScan, Values};
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, TableSource};
use relation::value::{I256Bytes, Interval};
use relation::{Column, DataType, Value};

use super::expression::Scope;
use super::{Lowering, Result};
use crate::flow::{NodeId, Op};
use crate::refusal::Refusal;
use crate::sql::StoredTable;
use crate::unique::Facts;

impl Lowering<'_> {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<NodeId> {
        let source: &dyn TableSource = scan.source.as_ref();
        let Some(stored) = source.downcast_ref::<StoredTable>() else {
            return Err(Refusal::cannot_keep(format!("\"{}\" is no stored table.", scan.table_name)));
        };
        let all = || (0..stored.schema.columns.len()).collect();
        let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
        let schema: Vec<_> = columns.iter().map(|&i| stored.schema.columns[i].clone()).collect();
        let key = stored.schema.key.iter().map(|k| columns.iter().position(|c| c == k)).collect::<Option<Vec<_>>>();
        let facts = Facts::new(columns.len(), key.filter(|key| !key.is_empty()));
        let node = self.add(Op::Table { table: stored.name.clone(), columns }, vec![], schema, facts);
        match conjunction(scan.filters.clone()) {
            None => Ok(node),
            Some(condition) => {
                let condition = self.expression(&condition, &Scope::of(&scan.projected_schema, node))?;
                let outputs = self.all_columns(node);
                Ok(self.map(node, Some(condition), outputs))
            }
        }
    }

    /// `VALUES`.
    pub(super) fn values(&mut self, values: &Values) -> Result<NodeId> {
        let columns = self.canonical_columns(&values.schema)?;
        let row = |row: &Vec<Expr>| {
            row.iter().zip(&columns).map(|(expr, column)| self.constant(expr, column)).collect::<Result<Vec<_>>>()
        };
        let rows = values.values.iter().map(row).collect::<Result<Vec<_>>>()?;
        Ok(self.constants(rows, columns))
    }

    /// A SELECT without FROM has one row without columns; a condition that is never true leaves no row.
    pub(super) fn empty(&mut self, empty: &EmptyRelation) -> Result<NodeId> {
        let columns = self.canonical_columns(&empty.schema)?;
        let rows = if empty.produce_one_row { vec![vec![Value::Null; columns.len()]] } else { vec![] };
        Ok(self.constants(rows, columns))
    }

    pub(super) fn constants(&mut self, rows: Vec<Vec<Value>>, columns: Vec<Column>) -> NodeId {
        let facts = Facts::new(columns.len(), (rows.len() <= 1).then(Vec::new));
        self.add(Op::Values { rows }, vec![], columns, facts)
    }

    fn canonical_columns(&self, schema: &datafusion_common::DFSchema) -> Result<Vec<Column>> {
        let column = |field: &arrow::datatypes::Field| {
            let data_type = self.canonical(field)?;
            Ok(Column { name: field.name().clone(), data_type, nullable: field.is_nullable() })
        };
        schema.fields().iter().map(|field| column(field)).collect()
    }

    fn constant(&self, expr: &Expr, column: &Column) -> Result<Value> {
        let literal = match expr {
            Expr::Literal(value, _) => value,
            Expr::Alias(alias) => return self.constant(&alias.expr, column),
            other => {
                let detail = format!("VALUES holds {other}, which is no constant.");
                return Err(Refusal::cannot_keep(detail).with_hint("Compute it in a SELECT.").at(self.sql, "values"));
            }
        };
        let value = literal.cast_to(&column.data_type.to_arrow())?;
        scalar(&value, column.data_type)
            .ok_or_else(|| Refusal::cannot_keep(format!("VALUES holds {literal}, which no column can hold.")))
    }
}

/// A DataFusion value of one of our types.
fn scalar(value: &ScalarValue, data_type: DataType) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    Some(match value {
        ScalarValue::Boolean(Some(v)) => Value::Bool(*v),
        ScalarValue::Int16(Some(v)) => Value::Int(i64::from(*v)),
        ScalarValue::Int32(Some(v)) => Value::Int(i64::from(*v)),
        ScalarValue::Int64(Some(v)) => Value::Int(*v),
        ScalarValue::UInt64(Some(v)) => Value::UInt(*v),
        ScalarValue::Float32(Some(v)) => Value::Float(f64::from(*v)),
        ScalarValue::Float64(Some(v)) => Value::Float(*v),
        ScalarValue::Decimal128(Some(v), _, scale) => Value::Decimal(*v, *scale),
        ScalarValue::Decimal256(Some(v), _, scale) => Value::BigDecimal(I256Bytes(v.to_le_bytes()), *scale),
        ScalarValue::Utf8(Some(v)) => Value::Text(v.clone()),
        ScalarValue::Binary(Some(v)) => Value::Bytes(v.clone()),
        ScalarValue::Date32(Some(v)) => Value::Date(*v),
        ScalarValue::Time64Microsecond(Some(v)) => Value::Time(*v),
        ScalarValue::TimestampMicrosecond(Some(v), _) if data_type == DataType::TimestampTz => Value::TimestampTz(*v),
        ScalarValue::TimestampMicrosecond(Some(v), _) => Value::Timestamp(*v),
        ScalarValue::IntervalMonthDayNano(Some(v)) => Value::Interval(Interval::from_arrow(*v)),
        ScalarValue::List(list) => {
            let DataType::Array(element) = data_type else { return None };
            let elements = list.value(0);
            let element = |at| scalar(&ScalarValue::try_from_array(&elements, at).ok()?, *element);
            Value::Array((0..elements.len()).map(element).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
