//! The cases of the planner.
//!
//! ```text
//! table          tables of the catalog, one definition per line: shop.orders(id bigint primary key, …)
//! view NAME      the SQL of a view
//! model          SQL → the flow as a tree and the columns of the model, or the refusal
//! explain        SQL → the flow as people read it
//! logical        SQL → the plan that builds and oracles run, before optimisation
//! same           two models, separated by a line `;`: which nodes they share, by identity
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, EmitTo};
use libtest_mimic::{Failed, Trial};
use plan::float_sum::FloatSum;
use plan::{Catalog, TableInfo, TableName, functions, parse_table_definition, plan_model};
use testkit::{Block, Driver};

fn main() {
    testkit::run_with(env!("CARGO_MANIFEST_DIR"), "tests/cases", |_: &Path| Cases::default(), laws());
}

#[derive(Default)]
struct Cases {
    tables: BTreeMap<TableName, relation::Schema>,
    views: BTreeMap<String, String>,
}

impl Catalog for Cases {
    fn table(&self, schema: Option<&str>, name: &str) -> Option<TableInfo> {
        let found = self.tables.iter().find(|(n, _)| n.name == name && schema.is_none_or(|s| s == n.schema));
        found.map(|(name, schema)| TableInfo { name: name.clone(), schema: schema.clone() })
    }

    fn view(&self, _schema: Option<&str>, name: &str) -> Option<String> {
        self.views.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.tables.keys().map(|n| n.name.clone()).chain(self.views.keys().cloned()).collect()
    }
}

impl Driver for Cases {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        match block.directive.as_str() {
            "table" => {
                for line in block.body.lines() {
                    let (name, schema) = parse_table_definition(line)?;
                    self.tables.insert(name, schema);
                }
                Ok(String::new())
            }
            "view" => {
                let name = block.arguments.first().ok_or("a view has a name")?;
                self.views.insert(name.clone(), block.body.clone());
                Ok(String::new())
            }
            "model" => match plan_model(&block.body, self) {
                Ok(planned) => Ok(format!("{}columns: {}", planned.flow, planned.schema)),
                // What is wrong with a view stands in another text, and what is too large stands everywhere.
                Err(refusal)
                    if refusal.line.is_none()
                        && !["view ", "the model's SQL is too complex"]
                            .iter()
                            .any(|of| refusal.message.starts_with(of)) =>
                {
                    Err(format!("a refusal without a place: {refusal}"))
                }
                Err(refusal) => Ok(refusal.to_string()),
            },
            "explain" => Ok(match plan_model(&block.body, self) {
                Ok(planned) => plan::explained(&planned.flow).join("\n"),
                Err(refusal) => refusal.to_string(),
            }),
            "logical" => Ok(match plan_model(&block.body, self) {
                Ok(planned) => planned.logical.display_indent().to_string(),
                Err(refusal) => refusal.to_string(),
            }),
            "same" => self.shared(&block.body),
            other => Err(format!("unknown directive {other}")),
        }
    }
}

impl Cases {
    fn shared(&self, models: &str) -> Result<String, String> {
        let (first, second) = models.split_once("\n;\n").ok_or("two models, separated by a line `;`")?;
        let plan = |sql| plan_model(sql, self).map_err(|refusal| refusal.to_string());
        let (first, second) = (plan(first)?, plan(second)?);
        let known: Vec<_> = first.flow.nodes.iter().map(|n| &n.identity).collect();
        let shared = second.flow.nodes.iter().filter(|n| known.contains(&&n.identity));
        Ok(shared.map(|n| format!("{} -> ({})\n", n.op, n.schema)).collect())
    }
}

/// Laws that are no cases: of float sums.
fn laws() -> Vec<Trial> {
    let law = |name: &str, check: fn(&mut Random) -> Result<(), String>| {
        let seeds = 0..2_000_u64;
        Trial::test(format!("laws/{name}"), move || {
            seeds.clone().try_for_each(|seed| {
                check(&mut Random(testkit::Rng::new(seed))).map_err(|e| Failed::from(format!("seed {seed}: {e}")))
            })
        })
    };
    vec![
        law("a sum of two floats rounds as the processor does", sum_of_two),
        law("a sum does not depend on the order", any_order),
        law("what was added can be taken back", taken_back),
        law("a weight is so many additions", weighted),
        law("a merged sum is the sum of all", merged),
        law("bytes give back the sum", bytes),
        law("sum and avg of a column are exact", of_column),
        law("sum and avg of groups are exact", of_groups),
    ]
}

/// Chance that a seed decides, and floats of it.
struct Random(testkit::Rng);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.bits()
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit)
    }

    /// Any finite float, near ones and prices often, NaN and infinities never.
    fn float(&mut self) -> f64 {
        let any = f64::from_bits(self.next());
        match self.next() % 4 {
            0 if any.is_finite() => any,
            1 => f64::from_bits(any.to_bits() & 0x800f_ffff_ffff_ffff),
            2 => (self.next() % 1_000_000) as f64 / 100.0,
            _ => f64::from_bits(any.to_bits() & 0x83ff_ffff_ffff_ffff | 0x3c00_0000_0000_0000),
        }
    }

    fn floats(&mut self) -> Vec<f64> {
        let count = self.next() % 40;
        (0..count).map(|_| self.float()).collect()
    }
}

fn sum(values: &[f64]) -> FloatSum {
    let mut sum = FloatSum::new();
    values.iter().for_each(|&v| sum.add(v));
    sum
}

fn equal<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{got:?} instead of {wanted:?}")) }
}

/// IEEE addition is the exact sum, rounded once to nearest even: what `value` promises of any number of terms.
fn sum_of_two(random: &mut Random) -> Result<(), String> {
    let (a, b) = (random.float(), random.float());
    equal(sum(&[a]).value(), a)?;
    equal(sum(&[a, b]).value(), a + b)
}

fn any_order(random: &mut Random) -> Result<(), String> {
    let mut values = random.floats();
    let first = sum(&values);
    for i in (1..values.len()).rev() {
        values.swap(i, random.below(i + 1));
    }
    equal(sum(&values).to_bytes(), first.to_bytes())
}

fn taken_back(random: &mut Random) -> Result<(), String> {
    let (kept, mut gone) = (random.floats(), random.floats());
    gone.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    let mut both = sum(&gone);
    equal(both.value().is_nan(), true)?;
    kept.iter().for_each(|&v| both.add(v));
    gone.iter().for_each(|&v| both.subtract(v));
    equal(both.to_bytes(), sum(&kept).to_bytes())
}

fn weighted(random: &mut Random) -> Result<(), String> {
    let value = random.float();
    let times = random.below(50);
    let weight = times as i64;
    let mut by_weight = FloatSum::new();
    by_weight.add_weighted(value, weight);
    equal(&by_weight, &sum(&vec![value; times]))?;
    let large = (random.next() >> 1).cast_signed();
    by_weight.add_weighted(value, large);
    by_weight.add_weighted(value, -large - weight);
    equal(by_weight.to_bytes(), FloatSum::new().to_bytes())
}

fn merged(random: &mut Random) -> Result<(), String> {
    let (a, b) = (random.floats(), random.floats());
    let mut both = sum(&a);
    both.merge(&sum(&b));
    equal(both.to_bytes(), sum(&[a, b].concat()).to_bytes())
}

fn bytes(random: &mut Random) -> Result<(), String> {
    let mut original = sum(&random.floats());
    if random.below(2) == 0 {
        original.add(f64::INFINITY);
    }
    let copy = FloatSum::from_bytes(&original.to_bytes()).ok_or("unreadable")?;
    equal(copy.value(), original.value())?;
    equal(copy.to_bytes(), original.to_bytes())?;
    equal(FloatSum::from_bytes(&[9]), None)
}

/// `sum` or `avg` over a column of floats, as a query runs it.
fn over_floats<T>(
    name: &str,
    distinct: bool,
    make: impl FnOnce(&AggregateUDF, AccumulatorArgs<'_>) -> datafusion_common::Result<T>,
) -> Result<T, String> {
    let field: FieldRef = Arc::new(Field::new("x", DataType::Float64, true));
    let args = AccumulatorArgs {
        return_field: Arc::clone(&field),
        schema: &Schema::new(vec![Arc::clone(&field)]),
        ignore_nulls: false,
        order_bys: &[],
        is_reversed: false,
        name,
        is_distinct: distinct,
        exprs: &[],
        expr_fields: &[field],
    };
    make(&functions().aggregate[name], args).map_err(|e| e.to_string())
}

fn accumulator(name: &str, distinct: bool) -> Result<Box<dyn Accumulator>, String> {
    over_floats(name, distinct, |function, args| function.accumulator(args))
}

/// Half of the values in one accumulator, half in another; some values in and out again.
fn of_column(random: &mut Random) -> Result<(), String> {
    let (values, gone) = (random.floats(), random.floats());
    let (left, right) = values.split_at(values.len() / 2);
    let array = |values: &[f64]| -> Vec<ArrayRef> {
        vec![Arc::new(values.iter().map(|v| Some(*v)).chain([None]).collect::<Float64Array>())]
    };
    for (name, distinct) in [("sum", false), ("avg", false), ("sum", true), ("avg", true)] {
        let (mut first, mut second) = (accumulator(name, distinct)?, accumulator(name, distinct)?);
        let mut run = || {
            first.update_batch(&array(left))?;
            if !distinct {
                first.update_batch(&array(&gone))?;
                first.retract_batch(&array(&gone))?;
            }
            second.update_batch(&array(right))?;
            let state = second.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>()?;
            first.merge_batch(&state)?;
            first.evaluate()
        };
        let counted: Vec<f64> = if distinct { unique(&values) } else { values.clone() };
        equal(run().map_err(|e| e.to_string())?, ScalarValue::Float64(expected(name, &counted)))?;
    }
    Ok(())
}

fn unique(values: &[f64]) -> Vec<f64> {
    let bits: BTreeSet<u64> = values.iter().map(|v| (v + 0.0).to_bits()).collect();
    bits.into_iter().map(f64::from_bits).collect()
}

fn expected(name: &str, values: &[f64]) -> Option<f64> {
    let sum = sum(values);
    (!values.is_empty()).then(|| if name == "sum" { sum.value() } else { sum.average(values.len() as u64) })
}

/// Three groups and a filter, in two accumulators, one of which only converts.
fn of_groups(random: &mut Random) -> Result<(), String> {
    let values = random.floats();
    let groups: Vec<usize> = values.iter().map(|_| random.below(3)).collect();
    let kept: Vec<bool> = values.iter().map(|_| random.below(4) > 0).collect();
    let array: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(values.clone()))];
    let filter = BooleanArray::from(kept.clone());
    for name in ["sum", "avg"] {
        let make = || over_floats(name, false, |function, args| function.create_groups_accumulator(args));
        let (mut direct, mut merged) = (make()?, make()?);
        let mut run = || {
            direct.update_batch(&array, &groups, Some(&filter), 3)?;
            let converted = merged.convert_to_state(&array, Some(&filter))?;
            merged.merge_batch(&converted, &groups, 3)?;
            Ok([direct.evaluate(EmitTo::All)?, merged.evaluate(EmitTo::All)?])
        };
        let results: [ArrayRef; 2] = run().map_err(|e: DataFusionError| e.to_string())?;
        let of_group = |group| {
            let rows = (0..values.len()).filter(|&row| groups[row] == group && kept[row]);
            expected(name, &rows.map(|row| values[row]).collect::<Vec<_>>())
        };
        let wanted: Float64Array = (0..3).map(of_group).collect();
        for result in results {
            equal(result.as_primitive::<Float64Type>(), &wanted)?;
        }
    }
    Ok(())
}
