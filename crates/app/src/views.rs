//! Views that cannot be read, found before they take the place of those that can.
//!
//! A view is a text that is read whenever somebody asks: nothing is built of it, so nothing would fail when it is applied. It is
//! described as a query over what it reads would be, with nothing in the tables. So is what a dashboard asks ([`surface()`]).

use std::ops::Bound;
use std::sync::Arc;

use plan::{Refusal, TableName};
use query::{Catalog, Form, Runtime, Session, Settings, Storage, StoredTable, Visitor};
use relation::{Schema, TableId};

use crate::deep::deep;
use crate::definition::{Definition, PlannedModel};
use crate::reader::named;
use crate::system_tables;

/// The views of a definition that cannot be read over these tables and models, each after those it reads.
pub fn refused(
    definition: &Definition,
    tables: &[(TableName, Schema)],
    models: &[PlannedModel],
) -> Vec<(TableName, Refusal)> {
    if definition.views().next().is_none() {
        return Vec::new();
    }
    let session = match surface(definition, tables, models, Vec::new()) {
        Ok(session) => session,
        // Nothing can be queried then, here or elsewhere.
        Err(error) => return definition.views().map(|(name, _)| (name, refusal(error.clone(), ""))).collect(),
    };
    deep(|| {
        let found = definition.views().filter_map(|(name, sql)| Some((name, placed(&session, sql)?)));
        found.collect()
    })
}

/// What people read of a definition over tables of these columns, with nothing in them: models, views, system tables, and what is
/// known and cannot be read, with the reason.
pub fn surface(
    definition: &Definition,
    tables: &[(TableName, Schema)],
    models: &[PlannedModel],
    unreadable: Vec<(TableName, query::Error)>,
) -> query::Result<Session> {
    let mut catalog = Catalog::new(definition.search_path.clone());
    let models = models.iter().map(|model| (&model.name, &model.planned.schema));
    let known = tables.iter().map(|(name, schema)| (name, schema)).chain(models);
    for (number, (name, schema)) in (0..).zip(known) {
        let (name, schema) = (name.clone(), schema.clone());
        catalog.add_table(StoredTable { name, id: TableId(number), schema, form: Form::Bag });
    }
    for (name, sql) in definition.views() {
        catalog.add_view(name, sql);
    }
    for (name, why) in unreadable {
        catalog.add_unavailable(name, why);
    }
    system_tables::add_shapes(&mut catalog);
    Ok(Session::new(Nothing, Arc::new(catalog), Runtime::new(&Settings::default())?))
}

/// What is wrong with a view, at its place; none where nothing is.
fn placed(session: &Session, sql: &str) -> Option<Refusal> {
    let error = described(session, sql).err()?;
    let mut refusal = refusal(error.clone(), sql);
    // What is wrong with a view below it stands in that one's text.
    if refusal.line.is_none() && !refusal.message.starts_with("view ") {
        let statements = query::parse(sql).unwrap_or_default();
        let found = match statements.as_slice() {
            [statement] => session.place(statement, &error),
            _ => plan::locate(sql, ";"),
        };
        refusal.line = found.or_else(|| plan::place_told(sql, &refusal.message));
    }
    Some(refusal)
}

/// A text of several statements would be read as its first one, or not at all.
fn described(session: &Session, sql: &str) -> query::Result<()> {
    let statements = query::parse(sql)?;
    if let [_, _, ..] = statements.as_slice() {
        let error = query::Error::new("42601", "a view is one SELECT");
        return Err(error.detail(format!("The text holds {} statements.", statements.len())));
    }
    for statement in statements {
        session.check(&statement)?;
    }
    Ok(())
}

/// An error of a text in the words of a refusal.
pub fn refusal(error: query::Error, sql: &str) -> Refusal {
    let place = error.position.and_then(|(line, column)| Some((line.try_into().ok()?, column.try_into().ok()?)));
    // The planner does not always say where it read a name.
    let place = place.or_else(|| {
        let before: String = sql.chars().take(named(sql, &error.message)?.checked_sub(1)?).collect();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((before.matches('\n').count() + 1, column))
    });
    Refusal {
        message: error.message,
        detail: error.detail.unwrap_or_default(),
        hint: error.hint.unwrap_or_default(),
        line: place,
    }
}

/// Tables without a row.
struct Nothing;

impl Storage for Nothing {
    fn step(&self) -> u64 {
        0
    }

    fn get(&self, _table: TableId, _key: &[u8], _found: &mut dyn FnMut(&[u8])) -> query::Result<()> {
        Ok(())
    }

    fn visit(
        &self,
        _table: TableId,
        _from: Bound<&[u8]>,
        _to: Bound<&[u8]>,
        _visitor: Visitor<'_>,
    ) -> query::Result<()> {
        Ok(())
    }

    fn last_key(&self, _table: TableId, _from: Bound<&[u8]>, _to: Bound<&[u8]>) -> query::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int32Type;
    use futures::TryStreamExt as _;
    use relation::{Column, DataType};

    use super::*;

    /// What columns of views are made of, beside columns of tables.
    const MADE: [&str; 40] = [
        "'{}'::json",
        "'{}'::jsonb",
        "c10 -> 'a'",
        "c10 ->> 'a'",
        "c10::jsonb -> 'a'",
        "json_build_object('a', 1)",
        "'x'::varchar(3)",
        "'x'::char(3)",
        "'x'::text",
        "'x'",
        "null",
        "'2020-01-01'::timestamp(3)",
        "'2020-01-01'::timestamptz",
        "'10:00'::time(0)",
        "interval '1 day'",
        "current_date",
        "now()",
        "'8f14e45f-ceea-467f-a8fc-0a9c2c1f5a10'::uuid",
        "1",
        "3000000000",
        "1.50",
        "1::numeric(7,3)",
        "1::numeric",
        "1.5::real",
        "1.5::double precision",
        "c2 + c3",
        "c8 * c8",
        "coalesce(c2, 1.5)",
        "case when c0 then c2 else c3 end",
        "count(*) over ()",
        "row(1, 'a')",
        "'t'::regclass",
        "'integer'::regtype",
        "'x'::name",
        "array[1, 2]",
        "array[array[1.5]]",
        "array['{}'::jsonb]",
        "array['x'::varchar(3)]",
        "array(select c10 from t)",
        "'\\x00'::bytea",
    ];

    fn all_types() -> Vec<DataType> {
        use DataType::{
            Bool, Bytes, Date, Decimal, Float32, Float64, Int16, Int32, Int64, Interval, Json, Text, Time, Timestamp,
            TimestampTz, UInt64,
        };
        let (money, large) = (Decimal { precision: 10, scale: 2 }, Decimal { precision: 60, scale: 5 });
        let scalars = [
            Bool,
            Int16,
            Int32,
            Int64,
            UInt64,
            Float32,
            Float64,
            Text,
            money,
            large,
            Json,
            Bytes,
            Date,
            Time,
            Timestamp,
            TimestampTz,
            Interval,
        ];
        let arrays = scalars.map(|scalar| scalar.array().unwrap());
        let tables = arrays.map(|array| array.array().unwrap());
        scalars.into_iter().chain(arrays).chain(tables).collect()
    }

    /// The types that the catalogue lists of a view's columns are those of the answer to whoever reads it.
    #[tokio::test]
    async fn the_catalogue_has_the_types_of_answers() {
        let column = |(at, data_type)| Column { name: format!("c{at}"), data_type, nullable: true };
        let columns: Vec<Column> = all_types().into_iter().enumerate().map(column).collect();
        let of_table = columns.iter().map(|column| column.name.clone());
        let exprs: Vec<String> = of_table.chain(MADE.map(str::to_owned)).collect();
        let named = |name: &str| TableName::new("public", name);
        let mut catalog = Catalog::new(vec!["public".to_owned()]);
        let schema = Schema::new(columns, Vec::new());
        catalog.add_table(StoredTable { name: named("t"), id: TableId(1), schema, form: Form::Bag });
        for (at, expr) in exprs.iter().enumerate() {
            catalog.add_view(named(&format!("below{at}")), format!("select {expr} as x from t"));
            catalog.add_view(named(&format!("v{at}")), format!("select * from below{at}"));
        }
        // What a set operation is of is known when its parts have agreed.
        catalog.add_view(named("v_union"), "select c2 as x from t union all select c8 from t union all select 1.5");
        let runtime = Runtime::new(&Settings::default()).unwrap();
        let session = Session::new(Nothing, Arc::new(catalog), runtime);
        let listed = session
            .sql(
                "select c.relname, a.atttypid, a.atttypmod from pg_attribute a join pg_class c on c.oid = a.attrelid \
                 where c.relname like 'v%' and a.attname = 'x'",
            )
            .await
            .unwrap();
        let batches: Vec<_> = listed.stream.try_collect().await.unwrap();
        let mut wrong = Vec::new();
        let mut seen = 0;
        for batch in &batches {
            let names = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
            let numbers = |at: usize| batch.column(at).as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                let view = names.as_string::<i32>().value(row);
                let listed = (u32::try_from(numbers(1).value(row)).unwrap(), numbers(2).value(row));
                let statement = query::parse(&format!("select x from {view}")).unwrap().pop().unwrap();
                let answer = session.describe(&statement, &[]).unwrap();
                let wire = serve::wire_type(answer.schema.field(0));
                seen += 1;
                if listed != wire {
                    let expr = view.trim_start_matches('v').parse::<usize>().ok().map(|at| exprs[at].as_str());
                    wrong.push(format!("{}: listed as {listed:?}, answered as {wire:?}", expr.unwrap_or(view)));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(seen, exprs.len() + 1);
    }
}
