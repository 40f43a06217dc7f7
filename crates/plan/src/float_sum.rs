//! Sums of floats that can be taken back: exact, whatever the order.
//!
//! Adding floats rounds, so `(a + b) − b` need not be `a`, and two orders of the same rows need not agree. A
//! [`FloatSum`] therefore adds nothing up in floating point: every finite `f64` is an integer multiple of 2⁻¹⁰⁷⁴, and
//! the sum is kept as that integer, in two's complement, over as many 64-bit limbs as it needs. Rounding happens once,
//! in [`FloatSum::value`]. The law: a sum is a function of the multiset of what was added minus what was subtracted,
//! and equal sums have equal bytes.
//!
//! NaN and the infinities are counted apart, so that they too can be taken back.

/// Limbs are counted from 2⁻¹⁰⁷⁴ upwards; the largest `f64` ends in limb 32, and 64 bits are left for carries.
const LIMB_BITS: u32 = 64;

/// An exact, reversible sum of `f64` values.
#[derive(Debug, Clone, Default)]
pub struct FloatSum {
    /// Position of the first limb.
    low: usize,
    /// Little-endian two's complement, sign-extended beyond the last; empty: zero.
    limbs: Vec<u64>,
    /// How many NaNs, positive and negative infinities are in the sum.
    special: Special,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Special {
    nan: i64,
    positive: i64,
    negative: i64,
}

impl FloatSum {
    /// The sum of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.count(value, 1);
    }

    /// Takes one value back.
    pub fn subtract(&mut self, value: f64) {
        self.count(value, -1);
    }

    /// Adds a value `weight` times.
    pub fn add_weighted(&mut self, value: f64, weight: i64) {
        match weight {
            1 => self.add(value),
            -1 => self.subtract(value),
            _ if value.is_finite() => self.add_product(value, weight),
            _ => self.count(value, weight),
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.special.nan += other.special.nan;
        self.special.positive += other.special.positive;
        self.special.negative += other.special.negative;
        if !other.limbs.is_empty() {
            let negative = other.is_negative();
            self.add_limbs(other.low, &other.limbs, negative);
        }
    }

    /// The sum, rounded once to the nearest `f64` (ties to even); 0.0 of nothing.
    pub fn value(&self) -> f64 {
        match self.special {
            Special { nan: 0, positive: 0, negative: 0 } => self.finite(),
            Special { nan: 0, positive: _, negative: 0 } => f64::INFINITY,
            Special { nan: 0, positive: 0, negative: _ } => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    /// The sum divided by a number of values.
    #[expect(clippy::cast_precision_loss, reason = "an average divides by the nearest float, as SQL engines do")]
    pub fn average(&self, count: u64) -> f64 {
        self.value() / count as f64
    }

    /// Bytes of the heap that it holds.
    pub fn heap_size(&self) -> usize {
        self.limbs.capacity() * size_of::<u64>()
    }

    /// The sum as bytes: a flag byte, the position of the first limb, three counts of 8 bytes if the flag is set, the
    /// limbs; all little endian. Equal sums give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let trimmed = self.trimmed();
        let special = self.special != Special::default();
        let mut out = Vec::with_capacity(2 + trimmed.limbs.len() * 8 + usize::from(special) * 24);
        out.push(u8::from(special));
        out.push(u8::try_from(trimmed.low).unwrap_or(u8::MAX));
        if special {
            for count in [self.special.nan, self.special.positive, self.special.negative] {
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        out.extend(trimmed.limbs.iter().flat_map(|limb| limb.to_le_bytes()));
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; none for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&flag, rest) = bytes.split_first()?;
        let (&low, mut rest) = rest.split_first()?;
        let mut special = Special::default();
        if flag == 1 {
            let (counts, limbs) = rest.split_at_checked(24)?;
            let count = |i: usize| i64::from_le_bytes(limb_bytes(&counts[i * 8..]));
            special = Special { nan: count(0), positive: count(1), negative: count(2) };
            rest = limbs;
        }
        if flag > 1 || rest.len() % 8 != 0 {
            return None;
        }
        let limbs = rest.chunks_exact(8).map(|chunk| u64::from_le_bytes(limb_bytes(chunk))).collect();
        Some(Self { low: usize::from(low), limbs, special })
    }

    /// Counts a value in (`weight` 1) or out (−1); specials by any weight.
    fn count(&mut self, value: f64, weight: i64) {
        if value.is_finite() {
            self.add_finite(if weight < 0 { -value } else { value });
        } else if value.is_nan() {
            self.special.nan += weight;
        } else if value > 0.0 {
            self.special.positive += weight;
        } else {
            self.special.negative += weight;
        }
    }

    fn add_finite(&mut self, value: f64) {
        let (mantissa, shift) = parts(value);
        if mantissa == 0 {
            return;
        }
        let magnitude = u128::from(mantissa) << (shift % LIMB_BITS);
        self.add_signed(magnitude, (shift / LIMB_BITS) as usize, value < 0.0);
    }

    /// A weight has 63 bits and a mantissa 53: the product fits 128 bits, its shifted halves are added apart.
    fn add_product(&mut self, value: f64, weight: i64) {
        let (mantissa, shift) = parts(value);
        let product = u128::from(mantissa) * u128::from(weight.unsigned_abs());
        let negative = (value < 0.0) != (weight < 0);
        let at = (shift / LIMB_BITS) as usize;
        let half = |part: u128| (part & u128::from(u64::MAX)) << (shift % LIMB_BITS);
        for (part, limb) in [(half(product), at), (half(product >> 64), at + 1)] {
            if part != 0 {
                self.add_signed(part, limb, negative);
            }
        }
    }

    fn add_signed(&mut self, magnitude: u128, limb: usize, negative: bool) {
        let signed = if negative { magnitude.wrapping_neg() } else { magnitude };
        let [low, high] = [signed & u128::from(u64::MAX), signed >> 64].map(|half| u64::try_from(half).unwrap_or(0));
        self.add_limbs(limb, &[low, high], negative);
    }

    /// Adds a number whose limbs start at `low`, sign-extended.
    fn add_limbs(&mut self, low: usize, addend: &[u64], negative: bool) {
        self.cover(low, low + addend.len());
        let before = self.is_negative();
        let extension = if negative { u64::MAX } else { 0 };
        let mut carry = false;
        for i in low - self.low..self.limbs.len() {
            let term = addend.get(i + self.low - low).copied().unwrap_or(extension);
            let (sum, first) = self.limbs[i].overflowing_add(term);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            self.limbs[i] = sum;
            carry = first || second;
        }
        // Two numbers of one sign whose sum has the other: the true sign needs a limb of its own.
        if before == negative && self.is_negative() != before {
            self.limbs.push(if before { u64::MAX } else { 0 });
        }
    }

    /// Widens the limbs to positions `from..to` at least.
    fn cover(&mut self, from: usize, to: usize) {
        if self.limbs.is_empty() {
            self.low = from;
        }
        if from < self.low {
            self.limbs.splice(0..0, std::iter::repeat_n(0, self.low - from));
            self.low = from;
        }
        let length = to.saturating_sub(self.low);
        if self.limbs.len() < length {
            let extension = if self.is_negative() { u64::MAX } else { 0 };
            self.limbs.resize(length, extension);
        }
    }

    fn is_negative(&self) -> bool {
        self.limbs.last().is_some_and(|limb| limb >> 63 == 1)
    }

    /// The same number without limbs that say nothing: zeros below, sign copies above.
    fn trimmed(&self) -> Self {
        let mut limbs = self.limbs.clone();
        while let [.., second, last] = limbs[..] {
            let implied = if second >> 63 == 1 { u64::MAX } else { 0 };
            if last != implied {
                break;
            }
            limbs.pop();
        }
        let zeros = limbs.iter().take_while(|&&limb| limb == 0).count();
        limbs.drain(..zeros);
        let low = if limbs.is_empty() { 0 } else { self.low + zeros };
        Self { low, limbs, special: self.special }
    }

    /// The integer times 2⁻¹⁰⁷⁴, rounded to nearest even.
    fn finite(&self) -> f64 {
        let negative = self.is_negative();
        let magnitude = if negative { negated(&self.limbs) } else { self.limbs.clone() };
        let Some(top) = magnitude.iter().rposition(|&limb| limb != 0) else { return 0.0 };
        let highest = top as u64 * 64 + u64::from(63 - magnitude[top].leading_zeros());
        let absolute = highest + self.low as u64 * 64;
        // Below 2⁵³ units the number is its own bit pattern, subnormals included.
        let bits = match absolute.checked_sub(52) {
            None | Some(0) => magnitude_bits(&magnitude, 0, self.low, absolute + 1),
            Some(dropped) => rounded(&magnitude, self.low, dropped),
        };
        let value = f64::from_bits(bits);
        if negative { -value } else { value }
    }
}

impl PartialEq for FloatSum {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for FloatSum {}

/// Mantissa and the position of its lowest bit above 2⁻¹⁰⁷⁴.
fn parts(value: f64) -> (u64, u32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match u32::try_from(bits >> 52 & 0x7ff).unwrap_or(0) {
        0 => (fraction, 0),
        exponent => (fraction | 1 << 52, exponent - 1),
    }
}

fn negated(limbs: &[u64]) -> Vec<u64> {
    let mut carry = true;
    let mut out = Vec::with_capacity(limbs.len());
    for limb in limbs {
        let (sum, overflow) = (!limb).overflowing_add(u64::from(carry));
        out.push(sum);
        carry = overflow;
    }
    out
}

/// Bits `from..from + count` of a number whose limbs start at position `low`; at most 63 of them.
fn magnitude_bits(limbs: &[u64], from: u64, low: usize, count: u64) -> u64 {
    let position = |at: u64| usize::try_from(at / 64).ok().and_then(|at| at.checked_sub(low));
    let limb = |at: u64| position(at).and_then(|at| limbs.get(at)).copied().unwrap_or(0);
    let lower = limb(from) >> (from % 64);
    let upper = if from.is_multiple_of(64) { 0 } else { limb(from + 64) << (64 - from % 64) };
    (lower | upper) & ((1 << count) - 1)
}

fn bit(limbs: &[u64], low: usize, at: u64) -> bool {
    let Some(at) = at.checked_sub(low as u64 * 64) else { return false };
    limbs.get(usize::try_from(at / 64).unwrap_or(usize::MAX)).is_some_and(|limb| limb >> (at % 64) & 1 == 1)
}

/// The bit pattern of a number of which the lowest `dropped` bits do not fit the mantissa.
fn rounded(limbs: &[u64], low: usize, dropped: u64) -> u64 {
    let mantissa = magnitude_bits(limbs, dropped, low, 53);
    let half = bit(limbs, low, dropped - 1);
    let up = half && (mantissa & 1 == 1 || any_below(limbs, low, dropped - 1));
    // The implicit bit of the mantissa counts the exponent up by one, and a carry out of it by one more.
    let bits = (dropped << 52) + mantissa + u64::from(up);
    bits.min(f64::INFINITY.to_bits())
}

fn any_below(limbs: &[u64], low: usize, at: u64) -> bool {
    let Some(at) = at.checked_sub(low as u64 * 64) else { return false };
    let whole = usize::try_from(at / 64).unwrap_or(usize::MAX).min(limbs.len());
    let partial = limbs.get(whole).is_some_and(|limb| limb & ((1 << (at % 64)) - 1) != 0);
    partial || limbs[..whole].iter().any(|&limb| limb != 0)
}

/// The first eight bytes.
fn limb_bytes(bytes: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[..8]);
    out
}
