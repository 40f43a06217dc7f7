//! Laws of the encodings: rows come back as they were, keys order as values do, consolidation keeps the sums.

use std::cmp::Ordering;

use proptest::prelude::*;
use relation::columns::{decode, encode};
use relation::key::{
    KEY_BYTES, KeyEncoder, Order, compare as compare_rows, holds_row, of_whole_keys, ordered_bytes, push_row, read_row,
    sort_keys, whole_keys,
};
use relation::value::Interval;
use relation::{Column, DataType, Delta, Layout, Rows, Schema, Value};

const TYPES: [DataType; 6] = [
    DataType::Bool,
    DataType::Int32,
    DataType::Decimal { precision: 12, scale: 2 },
    DataType::Text,
    DataType::Bytes,
    DataType::Timestamp,
];

fn row() -> impl Strategy<Value = Vec<Value>> {
    let text = prop::collection::vec(prop::sample::select(vec!['a', 'b', '\0', 'ÿ', 'z']), 0..6);
    (
        prop::option::of(any::<bool>()),
        prop::option::of(-3_i64..3),
        prop::option::of(-200_i128..200),
        prop::option::of(text),
        prop::option::of(prop::collection::vec(0_u8..3, 0..4)),
        prop::option::of(-5_i64..5),
    )
        .prop_map(|(b, i, d, t, y, ts)| {
            vec![
                b.map_or(Value::Null, Value::Bool),
                i.map_or(Value::Null, Value::Int),
                d.map_or(Value::Null, |v| Value::Decimal(v, 2)),
                t.map_or(Value::Null, |t| Value::Text(t.into_iter().collect())),
                y.map_or(Value::Null, Value::Bytes),
                ts.map_or(Value::Null, Value::Timestamp),
            ]
        })
}

fn rows_of(values: &[Vec<Value>]) -> (Layout, Rows) {
    let layout = Layout::new(TYPES.to_vec());
    let mut rows = Rows::new();
    values.iter().for_each(|row| rows.push_values(&layout, row).expect("rows of these types"));
    (layout, rows)
}

fn schema() -> Schema {
    Schema::new(TYPES.iter().enumerate().map(|(i, t)| Column::new(format!("c{i}"), *t)).collect(), vec![])
}

/// The order of SQL with NULLs first, text and bytes by bytes.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Decimal(a, _), Value::Decimal(b, _)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        _ => unreachable!("values of one column have one type"),
    }
}

/// Texts around the length at which keys cut them.
fn long_text() -> impl Strategy<Value = Value> {
    let tails = prop::sample::select(vec!["", "a", "b", "ab", "\0"]);
    (prop::sample::select(vec![0, 1023, 1024, 1500]), tails).prop_map(|(n, tail)| Value::Text("x".repeat(n) + tail))
}

const LONG_TYPES: [DataType; 4] = [DataType::Text, DataType::Int32, DataType::Text, DataType::Float64];

fn long_row() -> impl Strategy<Value = Vec<Value>> {
    let floats = prop::sample::select(vec![0.0, -0.0, 1.5, f64::NAN, -f64::NAN]).prop_map(Value::Float);
    (long_text(), (0_i64..2).prop_map(Value::Int), prop_oneof![long_text(), Just(Value::Null)], floats)
        .prop_map(|(a, b, c, d)| vec![a, b, c, d])
}

/// Types whose equal values may be of several forms, and arrays.
const NESTED_TYPES: [DataType; 4] = [
    DataType::Interval,
    DataType::Array(&DataType::Int32),
    DataType::Array(&DataType::Text),
    DataType::Array(&DataType::Array(&DataType::Float64)),
];

fn nested_row() -> impl Strategy<Value = Vec<Value>> {
    let micros = prop::sample::select(vec![0, 1, -1, 86_400_000_000, -86_400_000_000, 5_025_500_000]);
    let interval = (-2_i32..3, -31_i32..32, micros)
        .prop_map(|(months, days, micros)| Value::Interval(Interval { months, days, micros }));
    let element = |strategy: BoxedStrategy<Value>, most: usize| {
        let element = prop_oneof![4 => strategy, 1 => Just(Value::Null)];
        prop::collection::vec(element, 0..most).prop_map(Value::Array)
    };
    let texts = prop::sample::select(vec!["", "a", "null", "NULL", "a b", "{,}", "\"\\", "\0", "b\0c", "ÿ"]);
    let floats = prop::sample::select(vec![0.0, -0.0, 1.5, -2.0]).prop_map(Value::Float).boxed();
    let inner = element(floats, 3).boxed();
    let long = prop::sample::select(vec![0, 1000, 1100]).prop_map(|n| Value::Text("x".repeat(n)));
    let text = prop_oneof![5 => texts.prop_map(|t| Value::Text(t.to_owned())), 1 => long].boxed();
    (
        prop_oneof![9 => interval, 1 => Just(Value::Null)],
        prop_oneof![9 => element((-2_i64..3).prop_map(Value::Int).boxed(), 4), 1 => Just(Value::Null)],
        element(text, 3),
        element(inner, 3),
    )
        .prop_map(|(a, b, c, d)| vec![a, b, c, d])
}

/// PostgreSQL's order of arrays: element by element, NULL last, then how many there are, then the dimensions.
fn compare_nested(a: &Value, b: &Value) -> Ordering {
    fn leaves<'v>(value: &'v Value, out: &mut Vec<&'v Value>, lengths: &mut Vec<u32>) {
        match value {
            Value::Array(values) => {
                lengths.push(u32::try_from(values.len()).expect("a few elements"));
                for value in values {
                    match value {
                        Value::Null if matches!(values[..], [Value::Array(_), ..] | [_, Value::Array(_), ..]) => {
                            lengths.push(u32::MAX);
                        }
                        value => leaves(value, out, lengths),
                    }
                }
            }
            leaf => out.push(leaf),
        }
    }
    let number = |value: &Value| match value {
        Value::Int(v) => *v as f64,
        Value::Float(v) => *v,
        _ => unreachable!("numbers"),
    };
    let of_leaf = |a: &Value, b: &Value| match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        _ => number(a).partial_cmp(&number(b)).expect("no NaN"),
    };
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => compare(a, b),
        (Value::Interval(a), Value::Interval(b)) => a.span().cmp(&b.span()),
        _ => {
            let (mut of_a, mut of_b, mut lengths_a, mut lengths_b) = (vec![], vec![], vec![], vec![]);
            leaves(a, &mut of_a, &mut lengths_a);
            leaves(b, &mut of_b, &mut lengths_b);
            let decided = of_a.iter().zip(&of_b).map(|(a, b)| of_leaf(a, b)).find(|o| o.is_ne());
            decided.unwrap_or(of_a.len().cmp(&of_b.len()).then(lengths_a.cmp(&lengths_b)))
        }
    }
}

/// Whether an array holds nothing but NULLs where arrays stand: of those a value does not say that they are arrays.
fn has_unknown_arrays(value: &Value) -> bool {
    matches!(value, Value::Array(values) if !values.is_empty() && values.iter().all(Value::is_null))
}

fn nested_rows_of(values: &[Vec<Value>]) -> (Layout, Rows, arrow::array::RecordBatch) {
    let layout = Layout::new(NESTED_TYPES.to_vec());
    let mut rows = Rows::new();
    values.iter().for_each(|row| rows.push_values(&layout, row).expect("rows of these types"));
    let columns = NESTED_TYPES.iter().map(|t| Column::new("c", *t)).collect();
    let batch = decode(rows.iter(), &layout, &[0, 1, 2, 3], &Schema::new(columns, vec![]).to_arrow());
    let batch = batch.expect("rows of this layout");
    (layout, rows, batch)
}

proptest! {
    #[test]
    fn nested_rows_come_back(values in prop::collection::vec(nested_row(), 0..8)) {
        let (layout, rows, batch) = nested_rows_of(&values);
        for (bytes, wanted) in rows.iter().zip(&values) {
            prop_assert!(layout.check(bytes).is_ok());
            prop_assert_eq!(&layout.values(bytes), wanted);
            for (value, data_type) in wanted.iter().zip(NESTED_TYPES) {
                prop_assert_eq!(&Value::parse(data_type, &value.to_string()).unwrap(), value);
            }
        }
        prop_assert_eq!(encode(&layout, &batch).unwrap(), rows);
        // As what is sliced of a larger batch, too.
        if values.len() > 2 {
            let (_, part, _) = nested_rows_of(&values[1..values.len() - 1]);
            prop_assert_eq!(encode(&layout, &batch.slice(1, values.len() - 2)).unwrap(), part);
        }
    }

    #[test]
    fn nested_keys_order_as_values(a in nested_row(), b in nested_row(), descending in any::<bool>()) {
        let (layout, rows, batch) = nested_rows_of(&[a.clone(), b.clone()]);
        for (i, data_type) in NESTED_TYPES.into_iter().enumerate() {
            if i == 3 && (has_unknown_arrays(&a[i]) || has_unknown_arrays(&b[i])) {
                continue;
            }
            let wanted = compare_nested(&a[i], &b[i]);
            let column = batch.column(i);
            let sorted = sort_keys(column, data_type).unwrap();
            let whole = whole_keys(column, data_type).unwrap();
            prop_assert_eq!(encode(&Layout::new(vec![data_type]), &arrow::array::RecordBatch::try_from_iter([
                ("v", of_whole_keys(&whole, data_type).unwrap()),
            ]).unwrap()).unwrap(), encode(&Layout::new(vec![data_type]), &batch.project(&[i]).unwrap()).unwrap());
            let mut keys = Vec::new();
            for row in 0..2 {
                let order = Order { descending, nulls_first: true };
                let mut key = Vec::new();
                KeyEncoder::ordered(vec![(std::sync::Arc::clone(column), data_type, order)]).push(row, &mut key);
                keys.push(key);
                let mut of_row = Vec::new();
                push_row(&mut of_row, &layout, rows.get(row), &[i]);
                if !descending {
                    prop_assert_eq!(&keys[row], &of_row);
                }
            }
            if a[i].is_null() || b[i].is_null() {
                continue;
            }
            prop_assert_eq!(sorted.value(0).cmp(sorted.value(1)), wanted);
            prop_assert!(wanted.is_eq() || whole.value(0).cmp(whole.value(1)) == wanted);
            prop_assert!(!sorted.value(1).starts_with(sorted.value(0)) || wanted.is_eq());
            prop_assert_eq!(keys[0] == keys[1], wanted.is_eq());
            let of_rows = compare_rows(&layout, rows.get(0), rows.get(1), &[(i, Order { descending, nulls_first: true })]);
            prop_assert_eq!(if descending { of_rows.reverse() } else { of_rows }, wanted);
            let is_short = [0, 1].into_iter().all(|row| sorted.value(row).len() <= relation::key::LONG_PART);
            if is_short {
                let of_keys = keys[0].cmp(&keys[1]);
                prop_assert_eq!(if descending { of_keys.reverse() } else { of_keys }, wanted);
            }
        }
    }

    #[test]
    fn damage_of_nested_rows_is_found_or_harmless(values in nested_row(), at in 0_usize..256, bit in 0_u8..8) {
        let (layout, rows, _) = nested_rows_of(&[values]);
        let mut bytes = rows.get(0).to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if layout.check(&bytes).is_ok() {
            layout.values(&bytes);
            let schema = Schema::new(NESTED_TYPES.iter().map(|t| Column::new("c", *t)).collect(), vec![]).to_arrow();
            decode([bytes.as_slice()].into_iter(), &layout, &[0, 1, 2, 3], &schema).unwrap();
            push_row(&mut Vec::new(), &layout, &bytes, &[0, 1, 2, 3]);
        }
    }

    #[test]
    fn what_keys_cut_is_compared(a in long_row(), b in long_row(), descending in any::<(bool, bool)>()) {
        let layout = Layout::new(LONG_TYPES.to_vec());
        let mut rows = Rows::new();
        [&a, &b].into_iter().for_each(|row| rows.push_values(&layout, row).unwrap());
        let order = |descending| Order { descending, nulls_first: descending };
        let columns = [(0, order(descending.0)), (1, Order::PLAIN), (2, order(descending.1)), (3, Order::PLAIN)];
        let named = LONG_TYPES.iter().map(|t| Column::new("c", *t)).collect();
        let batch = decode(rows.iter(), &layout, &[0, 1, 2, 3], &Schema::new(named, vec![]).to_arrow()).unwrap();
        let of = |&(i, order): &(usize, Order)| (std::sync::Arc::clone(batch.column(i)), LONG_TYPES[i], order);
        let encoder = KeyEncoder::ordered(columns.iter().map(of).collect());
        let key = |row| {
            let mut key = Vec::new();
            encoder.push(row, &mut key);
            key
        };
        let keys = [key(0), key(1)];
        let ordered = |i: usize| ordered_bytes(&layout, rows.get(i), &columns, keys[i].len());
        let prefix = |i: usize| &keys[i][..ordered(i).unwrap_or(keys[i].len())];
        let wanted = compare_rows(&layout, rows.get(0), rows.get(1), &columns);
        if ordered(0).is_some() && keys[1].starts_with(prefix(0)) {
            // They lie side by side, and both know it.
            prop_assert_eq!(prefix(0), prefix(1));
        } else {
            prop_assert_eq!(keys[0].cmp(&keys[1]), wanted);
        }
        prop_assert_eq!(wanted == Ordering::Equal, keys[0] == keys[1]);
    }

    #[test]
    fn a_key_holds_its_row_or_says_so(row in long_row()) {
        let layout = Layout::new(LONG_TYPES.to_vec());
        let mut rows = Rows::new();
        rows.push_values(&layout, &row).unwrap();
        let mut key = Vec::new();
        push_row(&mut key, &layout, rows.get(0), &[0, 1, 2, 3]);
        let mut back = Rows::new();
        let read = read_row(&key, &layout, &mut back);
        prop_assert_eq!(holds_row(&layout, rows.get(0), key.len()), read.is_ok() && back == rows);
    }

    #[test]
    fn wide_keys_end_somewhere(lengths in prop::collection::vec(900_usize..1500, 30), other in 0_usize..30) {
        let layout = Layout::new(vec![DataType::Text; 30]);
        let columns: Vec<usize> = (0..30).collect();
        let key = |changed: Option<usize>| {
            let text = |(i, n): (usize, &usize)| Value::Text("\0".repeat(*n) + if changed == Some(i) { "b" } else { "a" });
            let mut rows = Rows::new();
            rows.push_values(&layout, &lengths.iter().enumerate().map(text).collect::<Vec<_>>()).unwrap();
            let mut key = b"before".to_vec();
            push_row(&mut key, &layout, rows.get(0), &columns);
            prop_assert!(read_row(&key[6..], &layout, &mut Rows::new()).is_err());
            Ok(key)
        };
        let (one, another) = (key(None)?, key(Some(other))?);
        prop_assert!(one.starts_with(b"before"));
        prop_assert_eq!(one.len(), 6 + KEY_BYTES + 16);
        prop_assert_eq!(one.len(), another.len());
        prop_assert_ne!(one, another);
    }

    #[test]
    fn rows_come_back(values in prop::collection::vec(row(), 0..20)) {
        let (layout, rows) = rows_of(&values);
        for (bytes, wanted) in rows.iter().zip(&values) {
            prop_assert!(layout.check(bytes).is_ok());
            prop_assert_eq!(&layout.values(bytes), wanted);
        }
        let arrow = schema().to_arrow();
        let columns: Vec<usize> = (0..TYPES.len()).collect();
        let batch = decode(rows.iter(), &layout, &columns, &arrow).unwrap();
        prop_assert_eq!(encode(&layout, &batch).unwrap(), rows);
    }

    #[test]
    fn damage_is_found_or_harmless(values in row(), at in 0_usize..64, bit in 0_u8..8) {
        let (layout, rows) = rows_of(&[values]);
        let mut bytes = rows.get(0).to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // Whatever passes the check can be read without a panic.
        if layout.check(&bytes).is_ok() {
            layout.values(&bytes);
        }
    }

    #[test]
    fn keys_order_as_values(a in row(), b in row()) {
        let (layout, rows) = rows_of(&[a.clone(), b.clone()]);
        let columns: Vec<usize> = (0..TYPES.len()).collect();
        let key = |i: usize| {
            let mut key = Vec::new();
            push_row(&mut key, &layout, rows.get(i), &columns);
            key
        };
        let wanted = a.iter().zip(&b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
        prop_assert_eq!(key(0).cmp(&key(1)), wanted);
    }

    #[test]
    fn keys_give_back_rows(values in prop::collection::vec(row(), 0..20)) {
        let (layout, rows) = rows_of(&values);
        let columns: Vec<usize> = (0..TYPES.len()).collect();
        let mut back = Rows::new();
        for bytes in rows.iter() {
            let mut key = Vec::new();
            push_row(&mut key, &layout, bytes, &columns);
            read_row(&key, &layout, &mut back).unwrap();
            key.pop();
            prop_assert!(read_row(&key, &layout, &mut back).is_err());
        }
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn numbers_come_back_from_keys(int in any::<i64>(), small in any::<i16>(), unsigned in any::<u64>(), float in any::<f64>(), wide in any::<i128>()) {
        let types = vec![
            DataType::Int64, DataType::Int16, DataType::UInt64, DataType::Float64,
            DataType::Decimal { precision: 38, scale: 3 }, DataType::Decimal { precision: 60, scale: 3 },
        ];
        let layout = Layout::new(types);
        let float = if float.is_nan() || float == 0.0 { 1.5 } else { float };
        let big = Value::BigDecimal(relation::value::I256Bytes::from_i128(wide), 3);
        let values = [
            Value::Int(int), Value::Int(small.into()), Value::UInt(unsigned), Value::Float(float),
            Value::Decimal(wide, 3), big,
        ];
        let (mut rows, mut back, mut key) = (Rows::new(), Rows::new(), Vec::new());
        rows.push_values(&layout, &values).unwrap();
        push_row(&mut key, &layout, rows.get(0), &[0, 1, 2, 3, 4, 5]);
        read_row(&key, &layout, &mut back).unwrap();
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn consolidation_keeps_sums(values in prop::collection::vec((row(), -2_i64..3), 0..20)) {
        let plain: Vec<Vec<Value>> = values.iter().map(|(row, _)| row.clone()).collect();
        let (layout, rows) = rows_of(&plain);
        let columns: Vec<usize> = (0..TYPES.len()).collect();
        let batch = decode(rows.iter(), &layout, &columns, &schema().to_arrow()).unwrap();
        let delta = Delta::new(batch, values.iter().map(|(_, w)| *w).collect());
        let net = delta.consolidate(&TYPES).unwrap();
        let net_rows = encode(&layout, &net.batch).unwrap();
        for row in rows.iter() {
            let before: i64 = rows.iter().zip(&delta.weights).filter(|(r, _)| *r == row).map(|(_, w)| w).sum();
            let after: i64 = net_rows.iter().zip(&net.weights).filter(|(r, _)| *r == row).map(|(_, w)| w).sum();
            prop_assert_eq!(before, after);
        }
        prop_assert!(net.weights.iter().all(|w| *w != 0));
    }

    #[test]
    fn values_read_what_they_print(values in row()) {
        for (value, data_type) in values.iter().zip(TYPES) {
            let text = value.to_string();
            if !matches!(data_type, DataType::Text) {
                prop_assert_eq!(&Value::parse(data_type, &text).unwrap(), value);
            }
        }
    }
}

/// Arrays of every type have a name, and no more dimensions than PostgreSQL's.
#[test]
fn names_of_arrays() {
    for name in ["interval", "interval[]", "decimal(10,2)[][]", "text[][][][][][]", "timestamptz[]"] {
        let data_type: DataType = name.parse().unwrap();
        assert_eq!(data_type.to_string(), name);
        assert_eq!(DataType::from_arrow(&data_type.to_arrow()), Ok(data_type));
    }
    for bad in ["text[][][][][][][]", "[]", "[][]", "texts[]"] {
        assert!(bad.parse::<DataType>().is_err(), "{bad}");
    }
    let deep = "[]".repeat(100_000);
    assert!(format!("int{deep}").parse::<DataType>().is_err());
}

/// Dates that no calendar has are apart, in order, below every day that a function can reckon with, and have timestamps.
#[test]
fn unreal_dates() {
    use arrow::temporal_conversions::date32_to_datetime;
    use relation::unreal;

    let parts =
        [(0, 0, 0), (0, 0, 1), (0, 1, 0), (2020, 0, 0), (2020, 1, 0), (2020, 2, 30), (2020, 3, 0), (9999, 12, 0)];
    let days: Vec<i32> = parts.iter().map(|&(y, m, d)| unreal::day(y, m, d).expect("room for it")).collect();
    assert!(days.is_sorted_by(|a, b| a < b), "{days:?}");
    for day in days.into_iter().chain([*unreal::DAYS.start(), *unreal::DAYS.end()]) {
        assert!(unreal::is_day(i64::from(day)));
        assert_eq!(date32_to_datetime(day), None, "a function takes {day} for a real day");
        let midnight = i64::from(day).checked_mul(86_400_000_000).expect("it has a timestamp");
        assert!(unreal::is_instant(midnight) && unreal::is_instant(midnight + 86_399_999_999));
        assert_eq!([Value::Date(day), Value::TimestampTz(midnight)].map(|v| v.to_string()), [unreal::SHOWN; 2]);
    }
    let last = unreal::day((1 << 14) - 1, 15, 31);
    assert_eq!((last, unreal::day(1 << 14, 0, 0)), (Some(*unreal::DAYS.end()), None));
    assert_eq!((unreal::day(0, 16, 0), unreal::day(0, 0, 32), unreal::day(u32::MAX, 0, 0)), (None, None, None));
    let beyond = [*unreal::DAYS.start() - 1, unreal::DAYS.end() + 1].map(|day| unreal::is_day(i64::from(day)));
    assert_eq!(beyond, [false, false]);
    let parsed = Value::parse(DataType::Timestamp, "2020-00-00 10:00:00").map(|v| v.to_string());
    assert_eq!(parsed.as_deref(), Ok(unreal::SHOWN));
    assert!(Value::parse(DataType::Date, "2020-13-00").is_err());
}

/// A `real` that is read out of a row is written as it is known, and put into a row again it is the same one.
#[test]
#[expect(clippy::cast_possible_truncation, reason = "whether it becomes the same single again is asked")]
fn reals() {
    let layout = Layout::new(vec![DataType::Float32]);
    let all = (0..=u32::MAX).step_by(99_991).map(f32::from_bits);
    let edges = [0.1, -0.0, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::INFINITY, f32::NEG_INFINITY];
    for single in all.chain(edges).filter(|single| !single.is_nan()) {
        let Value::Float(double) = Value::real(single) else { panic!("it is a number") };
        let mut rows = Rows::new();
        rows.push_values(&layout, &[Value::Float(double)]).expect("a real");
        let read = layout.value(rows.iter().next().expect("it was put there"), 0);
        assert_eq!((read.to_string(), read), (single.to_string(), Value::real(single)));
        assert_eq!((double as f32).to_bits(), single.to_bits());
    }
    assert!(matches!(Value::real(f32::NAN), Value::Float(double) if double.is_nan()));
}
