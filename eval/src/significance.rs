//! Is a difference of means more than luck? Paired randomisation and Holm's correction.
//!
//! The test: Fisher's paired randomisation as recommended for retrieval by Smucker, Allan and Carterette,
//! "A comparison of statistical significance tests for information retrieval evaluation", CIKM 2007. The
//! correction: Holm, "A simple sequentially rejective multiple test procedure", 1979.
//! Neighbours: [`crate::measures`] gives the columns, [`crate::table`] shows the marks.

use serde::{Deserialize, Serialize};

use crate::{measures::mean, split::finalise};

/// Sign flips drawn for one comparison: the smallest p that can come out is 1 in 10,001.
pub const RANDOMISATIONS: u32 = 10_000;

/// One system against the control.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Mean of system less mean of control.
    pub difference: f64,
    /// Two-sided p of the paired randomisation test.
    pub p: f64,
    /// The same after Holm's correction over all comparisons of the table.
    pub p_holm: f64,
}

/// Two-sided p that paired columns differ in their means by luck: the share of random sign flips of the
/// differences whose absolute mean reaches the observed one, the observed one counted in.
///
/// Columns are in the same query order; where lengths differ the longer one's tail is ignored. Same seed, same p.
pub fn paired_randomisation(system: &[f64], control: &[f64], seed: u64) -> f64 {
    let differences: Vec<f64> =
        system.iter().zip(control).map(|(a, b)| a - b).filter(|difference| *difference != 0.0).collect();
    if differences.is_empty() {
        return 1.0;
    }
    let observed = differences.iter().sum::<f64>().abs();
    // Sums of the same numbers in another sign order differ in the last bits; those are ties.
    let reached = observed - 1e-9 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let mut random = SplitMix { state: seed };
    let mut as_extreme = 1_u32;
    for _ in 0..RANDOMISATIONS {
        let mut sum = 0.0;
        let mut bits = 0_u64;
        for (position, difference) in differences.iter().enumerate() {
            if position.is_multiple_of(64) {
                bits = random.next();
            }
            sum += if bits & 1 == 1 { *difference } else { -*difference };
            bits >>= 1;
        }
        as_extreme += u32::from(reached <= sum.abs());
    }
    f64::from(as_extreme) / f64::from(RANDOMISATIONS + 1)
}

/// Holm's step-down correction of several p values; order is kept, results are at most 1.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]).then(a.cmp(b)));
    let mut corrected = vec![1.0; p_values.len()];
    let mut floor: f64 = 0.0;
    for (step, index) in order.into_iter().enumerate() {
        let factor = (p_values.len() - step) as f64;
        floor = floor.max((p_values[index] * factor).min(1.0));
        corrected[index] = floor;
    }
    corrected
}

/// Compares each system's column with the control's. Comparison i draws its flips from `seed` and i alone.
pub fn compare_all(systems: &[Vec<f64>], control: &[f64], seed: u64) -> Vec<Comparison> {
    let p_values: Vec<f64> = systems
        .iter()
        .zip(0_u64..)
        .map(|(system, index)| paired_randomisation(system, control, finalise(seed.wrapping_add(index))))
        .collect();
    let corrected = holm(&p_values);
    systems
        .iter()
        .zip(p_values.iter().zip(corrected))
        .map(|(system, (p, p_holm))| Comparison { difference: mean(system) - mean(control), p: *p, p_holm })
        .collect()
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): enough randomness for sign flips, and no dependency.
struct SplitMix {
    state: u64,
}

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finalise(self.state)
    }
}
