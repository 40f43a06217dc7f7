//! Histograms of latency: counts in buckets that grow by an eighth, so that a quantile is right within 7 %.

/// Buckets per doubling.
const PER_DOUBLING: u32 = 8;
/// From 1 µs to about 18 minutes; beyond lies the last bucket.
const BUCKETS: usize = 31 * PER_DOUBLING as usize;

/// Latencies in microseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum_us: u64,
    max_us: u64,
}

/// Latencies counted once, to be merged into many histograms: each bucket's longest with the number of all in it.
#[derive(Debug, Clone, Default)]
pub struct Tally(Vec<(i64, u64)>);

impl FromIterator<i64> for Tally {
    fn from_iter<I: IntoIterator<Item = i64>>(latencies: I) -> Self {
        let mut buckets: std::collections::BTreeMap<usize, (i64, u64)> = std::collections::BTreeMap::new();
        for us in latencies {
            let entry = buckets.entry(bucket(u64::try_from(us).unwrap_or(0))).or_insert((us, 0));
            *entry = (entry.0.max(us), entry.1 + 1);
        }
        Self(buckets.into_values().collect())
    }
}

impl Tally {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, sum_us: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts a latency; one that is negative, by clocks that differ, counts as zero.
    pub fn record(&mut self, us: i64) {
        self.record_many(us, 1);
    }

    /// Counts the same latency several times.
    pub fn record_many(&mut self, us: i64, times: u64) {
        let us = u64::try_from(us).unwrap_or(0);
        self.counts[bucket(us)] += times;
        self.total += times;
        self.sum_us += us * times;
        self.max_us = self.max_us.max(us);
    }

    /// Counts all of a tally.
    pub fn merge(&mut self, tally: &Tally) {
        tally.0.iter().for_each(|&(us, times)| self.record_many(us, times));
    }

    /// Number of latencies.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Their sum, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// The latency that a share of all does not exceed, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the count of all")]
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper_us(i).min(self.max_us as f64) / 1e3;
            }
        }
        0.0
    }

    /// How many do not exceed a bound.
    pub fn count_up_to(&self, seconds: f64) -> u64 {
        let bound = seconds * 1e6;
        let within = self.counts.iter().enumerate().take_while(|(i, _)| upper_us(*i) <= bound * 1.001);
        within.map(|(_, count)| count).sum()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than PER_DOUBLING")]
fn bucket(us: u64) -> usize {
    if us < 2 {
        return 0;
    }
    let doubling = us.ilog2();
    let part = ((us - (1 << doubling)) * u64::from(PER_DOUBLING)) >> doubling;
    (doubling as usize * PER_DOUBLING as usize + part as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket, in microseconds.
#[expect(clippy::cast_possible_truncation, reason = "at most 64 doublings")]
fn upper_us(bucket: usize) -> f64 {
    let (doubling, part) = (bucket / PER_DOUBLING as usize, bucket % PER_DOUBLING as usize);
    2f64.powi(doubling as i32) * (1.0 + (part + 1) as f64 / f64::from(PER_DOUBLING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_as_its_latencies_do() {
        let latencies = [5, -3, 900, 901, 40_000, 40_100, 40_050];
        let (mut each, mut merged) = (Histogram::default(), Histogram::default());
        latencies.iter().for_each(|us| each.record(*us));
        merged.merge(&latencies.into_iter().collect());
        assert_eq!((merged.count(), merged.counts), (each.count(), each.counts));
        assert_eq!(merged.max_us, each.max_us);
    }
}
