//! Functions of numbers that PostgreSQL refuses an argument of, or types otherwise.

use datafusion_common::{Result, exec_err};

use super::calls::Kind::{Float, Int4};
use super::calls::{Overload, Row, over};

pub(crate) const SQRT: &[Overload] = &[over(&[Float], Float, |row, out| match row.float(0) {
    negative if negative < 0.0 => exec_err!("cannot take square root of a negative number"),
    value => out.float(value.sqrt()),
})];

pub(crate) const POWER: &[Overload] = &[over(&[Float, Float], Float, |row, out| {
    let (base, exponent) = (row.float(0), row.float(1));
    if base == 0.0 && exponent < 0.0 {
        return exec_err!("zero raised to a negative power is undefined");
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return exec_err!("a negative number raised to a non-integer power yields a complex result");
    }
    out.float(finite(row, base.powf(exponent))?)
})];

pub(crate) const EXP: &[Overload] = &[over(&[Float], Float, |row, out| out.float(finite(row, row.float(0).exp())?))];

pub(crate) const LN: &[Overload] = &[over(&[Float], Float, |row, out| out.float(above_zero(row.float(0))?.ln()))];

pub(crate) const LOG: &[Overload] = &[
    over(&[Float], Float, |row, out| out.float(above_zero(row.float(0))?.log10())),
    over(&[Float, Float], Float, |row, out| {
        let (base, value) = (above_zero(row.float(0))?, above_zero(row.float(1))?);
        if base == 1.0 {
            return exec_err!("division by zero");
        }
        out.float(value.ln() / base.ln())
    }),
];

/// A result that is infinite though no argument is: it was too large.
fn finite(row: &Row<'_>, made: f64) -> Result<f64> {
    let of_infinite = (0..row.len()).any(|at| row.float(at).is_infinite());
    if made.is_infinite() && !of_infinite {
        return exec_err!("value out of range: overflow");
    }
    Ok(made)
}

fn above_zero(value: f64) -> Result<f64> {
    if value == 0.0 {
        return exec_err!("cannot take logarithm of zero");
    }
    if value < 0.0 {
        return exec_err!("cannot take logarithm of a negative number");
    }
    Ok(value)
}

pub(crate) const WIDTH_BUCKET: &[Overload] = &[over(&[Float, Float, Float, Int4], Int4, |row, out| {
    let (value, low, high, count) = (row.float(0), row.float(1), row.float(2), row.int(3));
    if count <= 0 {
        return exec_err!("count must be greater than zero");
    }
    if !low.is_finite() || !high.is_finite() || low == high || value.is_nan() {
        return exec_err!("lower bound cannot equal upper bound, and none of them may be infinite");
    }
    let (from, span) = if low < high { (value - low, high - low) } else { (low - value, low - high) };
    if from < 0.0 {
        return out.int(0);
    }
    if from >= span {
        return out.int(count + 1);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of buckets has 32 bits")]
    let buckets = count as f64;
    #[expect(clippy::cast_possible_truncation, reason = "the value lies between zero and the count of buckets")]
    let at = (from / span * buckets).floor() as i64;
    out.int(at.min(count - 1) + 1)
})];
