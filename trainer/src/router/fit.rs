//! Two logistic models over a query's signals: how much to trust the dense retriever, and how likely a first look misses.
//!
//! The share model is not taught what share is best, a noisy and mostly flat target, but climbs the measure itself: each
//! query knows nDCG@10 on a grid of shares, the model's share moves along the line between grid points, and the mean over
//! queries is maximised by Adam. Sets weigh the same, whatever their size. The weakness model is plain logistic
//! regression. Everything is full batch, `f64`, and starts at zero: deterministic.

/// What is known of one training query.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The plugin's signals; the first is the constant 1.
    pub signals: Vec<f64>,
    /// nDCG@10 of the fused ranking at each share of [`SHARES`].
    pub utility: Vec<f64>,
    /// Whether a judged document is among the first ten at each share.
    pub success: Vec<bool>,
    /// Weight in every mean; positive.
    pub weight: f64,
}

impl Example {
    /// Whether the ranking with even shares has no judged document among its first ten.
    pub fn missed(&self) -> bool {
        !self.success[SHARES.len() / 2]
    }
}

/// The grid of dense shares, even ones in the middle.
pub const SHARES: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// Steps of Adam: the objective no longer moves in its fifth digit after half of them.
const STEPS: u32 = 4000;
const RATE: f64 = 0.03;
const BETA: (f64, f64) = (0.9, 0.99);
/// Ridge on standardised coefficients, the constant excepted.
const RIDGE: f64 = 1e-3;

/// 1 / (1 + exp(-w x)).
pub fn logistic(coefficients: &[f64], signals: &[f64]) -> f64 {
    let sum: f64 = coefficients.iter().zip(signals).map(|(weight, signal)| weight * signal).sum();
    1.0 / (1.0 + (-sum).exp())
}

/// Value of a grid function at `share`, linear between grid points.
pub(super) fn interpolated(values: &[f64], share: f64) -> f64 {
    let place = (share.clamp(0.0, 1.0) * (SHARES.len() - 1) as f64).min((SHARES.len() - 1) as f64);
    let low = (place.floor() as usize).min(SHARES.len() - 2);
    values[low] + (values[low + 1] - values[low]) * (place - low as f64)
}

/// Slope of a grid function around `share`, over three cells: a single cell is mostly flat, and now and then a cliff.
fn slope(values: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (SHARES.len() - 1) as f64;
    let cell = (place.floor() as usize).min(SHARES.len() - 2);
    let (low, high) = (cell.saturating_sub(1), (cell + 2).min(SHARES.len() - 1));
    (values[high] - values[low]) / (SHARES[high] - SHARES[low])
}

/// Coefficients of the share model, for signals as they come.
pub fn fit_share(examples: &[Example]) -> Vec<f64> {
    climb(examples, |example, share| slope(&example.utility, share) * share * (1.0 - share))
}

/// Coefficients of the weakness model: how likely the ranking with even shares misses.
pub fn fit_weakness(examples: &[Example]) -> Vec<f64> {
    climb(examples, |example, probability| f64::from(u8::from(example.missed())) - probability)
}

/// Maximises a mean over examples by Adam; `ascent` is the derivative of an example's part by the model's inner sum,
/// given the model's output for it.
fn climb(examples: &[Example], ascent: impl Fn(&Example, f64) -> f64) -> Vec<f64> {
    let width = examples.first().map_or(0, |example| example.signals.len());
    let scale = Standard::of(examples, width);
    let inputs: Vec<Vec<f64>> = examples.iter().map(|example| scale.apply(&example.signals)).collect();
    let total: f64 = examples.iter().map(|example| example.weight).sum();
    let mut model = vec![0.0; width];
    let (mut first, mut second) = (vec![0.0; width], vec![0.0; width]);
    for step in 1..=STEPS {
        let mut gradient = vec![0.0; width];
        for (example, input) in examples.iter().zip(&inputs) {
            let push = ascent(example, logistic(&model, input)) * example.weight / total;
            gradient.iter_mut().zip(input).for_each(|(sum, value)| *sum += push * value);
        }
        let rate = RATE * (1.0 - f64::from(step - 1) / f64::from(STEPS));
        let (decay_first, decay_second) =
            (1.0 - BETA.0.powi(step.cast_signed()), 1.0 - BETA.1.powi(step.cast_signed()));
        for place in 0..width {
            let ridge = if place == 0 { 0.0 } else { RIDGE * model[place] };
            let slope = gradient[place] - ridge;
            first[place] = BETA.0 * first[place] + (1.0 - BETA.0) * slope;
            second[place] = BETA.1 * second[place] + (1.0 - BETA.1) * slope * slope;
            let size = (second[place] / decay_second).sqrt() + 1e-8;
            model[place] += rate * (first[place] / decay_first) / size;
        }
    }
    scale.unfold(&model)
}

/// Mean and spread of each signal; the constant stays as it is.
struct Standard {
    mean: Vec<f64>,
    spread: Vec<f64>,
}

impl Standard {
    fn of(examples: &[Example], width: usize) -> Self {
        let count = examples.len().max(1) as f64;
        let mut mean = vec![0.0; width];
        let mut spread = vec![1.0; width];
        for place in 1..width {
            let values = || examples.iter().map(|example| example.signals[place]);
            mean[place] = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - mean[place]).powi(2)).sum::<f64>() / count;
            // A signal that never varies says nothing; it must not be blown up.
            spread[place] = if variance > 1e-12 { variance.sqrt() } else { 1.0 };
        }
        Self { mean, spread }
    }

    fn apply(&self, signals: &[f64]) -> Vec<f64> {
        signals
            .iter()
            .zip(self.mean.iter().zip(&self.spread))
            .map(|(signal, (mean, spread))| (signal - mean) / spread)
            .collect()
    }

    /// The same model over signals that are not standardised.
    fn unfold(&self, model: &[f64]) -> Vec<f64> {
        let mut unfolded: Vec<f64> =
            model.iter().zip(&self.spread).map(|(weight, spread)| weight / spread).collect();
        let shift: f64 = unfolded.iter().zip(&self.mean).skip(1).map(|(weight, mean)| weight * mean).sum();
        if let Some(constant) = unfolded.first_mut() {
            *constant -= shift;
        }
        unfolded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries whose second signal says which retriever is right.
    fn examples() -> Vec<Example> {
        (0..40)
            .map(|number| {
                let dense_is_right = number % 2 == 0;
                let utility: Vec<f64> =
                    SHARES.iter().map(|share| if dense_is_right { *share } else { 1.0 - share }).collect();
                Example {
                    signals: vec![1.0, if dense_is_right { 3.0 } else { 2.0 }, 7.0],
                    success: utility.iter().map(|value| 0.5 < *value).collect(),
                    utility,
                    weight: 1.0,
                }
            })
            .collect()
    }

    #[test]
    fn a_signal_that_tells_which_retriever_is_right_is_used() {
        let examples = examples();
        let model = fit_share(&examples);
        for example in &examples {
            let share = logistic(&model, &example.signals);
            assert!(0.9 < interpolated(&example.utility, share), "{share}");
        }
        // What never varies gets no weight.
        assert!(model[2].abs() < 1e-9);
        assert_eq!(model, fit_share(&examples), "deterministic");
    }

    #[test]
    fn the_weakness_model_is_calibrated_on_what_it_cannot_tell_apart() {
        let mut examples = examples();
        for (number, example) in examples.iter_mut().enumerate() {
            example.signals[1] = 0.0;
            example.success = vec![number % 4 != 0; SHARES.len()];
        }
        let model = fit_weakness(&examples);
        assert!((logistic(&model, &examples[0].signals) - 0.25).abs() < 0.01);
    }

    #[test]
    fn grid_functions_are_linear_between_points() {
        let rising: Vec<f64> = SHARES.to_vec();
        assert!((interpolated(&rising, 0.37) - 0.37).abs() < 1e-12);
        assert!((interpolated(&rising, 1.0) - 1.0).abs() < 1e-12);
        assert!((SHARES[SHARES.len() / 2] - 0.5).abs() < 1e-12);
    }
}
