//! What the benchmarks of the index share: made-up numbers, and how times and memory become figures.

mod random;

pub(crate) use random::Random;

/// What a benchmark prints: one JSON object of names and numbers.
pub(crate) type Figures = serde_json::Map<String, serde_json::Value>;

impl Random {
    /// Sums of four uniform values, which are normal enough, with variance 1/3.
    pub(crate) fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }

    /// One of them.
    pub(crate) fn normal(&mut self) -> f32 {
        let mut bits = self.next();
        let mut sum = -2.0;
        for _ in 0..4 {
            sum += (bits & 0xFFFF) as f32 / 65_536.0;
            bits >>= 16;
        }
        sum
    }
}

/// Puts a number, to four decimals.
pub(crate) fn put(figures: &mut Figures, name: &str, value: f64) {
    figures.insert(name.to_owned(), serde_json::json!((value * 10_000.0).round() / 10_000.0));
}

/// Puts the median and the 99th percentile of `times`, which are in milliseconds.
pub(crate) fn put_times(figures: &mut Figures, name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    put(figures, &format!("{name}_p50_ms"), times[times.len() / 2]);
    put(figures, &format!("{name}_p99_ms"), times[times.len() * 99 / 100]);
}

/// A line of what the system says of this process's memory, in MB.
pub(crate) fn memory_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB"));
    found.and_then(|kilobytes| kilobytes.trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
