//! A logistic curve through yes-or-no answers: how likely is a yes, given one number?
//!
//! Maximum likelihood by Newton's method, which for two parameters is a handful of steps.
//! Neighbours: `behaviour.rs` fits what a confidence says of success.

use serde::{Deserialize, Serialize};

/// The chance of a yes at `x` is 1 / (1 + exp((x - middle) / width)): it falls as `x` grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FallingLogistic {
    /// Where the chance is one half.
    pub middle: f64,
    /// In the unit of `x`, above 0; larger is flatter.
    pub width: f64,
}

/// Most steps of Newton's method; it needs fewer than ten where there is a maximum.
const STEPS: usize = 100;

impl FallingLogistic {
    /// The chance of a yes at `x`.
    pub fn chance(&self, x: f64) -> f64 {
        1.0 / (1.0 + ((x - self.middle) / self.width).exp())
    }

    /// The likeliest curve. `None` where there is none: without both answers, where a threshold separates them, or where
    /// the chance does not fall.
    pub fn fit(answers: &[(f64, bool)]) -> Option<Self> {
        let (mut constant, mut slope) = (0.0_f64, 0.0_f64);
        for _ in 0..STEPS {
            let (mut gradient, mut curvature) = ([0.0; 2], [0.0; 3]);
            for &(x, yes) in answers {
                let chance = 1.0 / (1.0 + (-constant - slope * x).exp());
                let error = f64::from(u8::from(yes)) - chance;
                let certainty = chance * (1.0 - chance);
                gradient[0] += error;
                gradient[1] += error * x;
                curvature[0] += certainty;
                curvature[1] += certainty * x;
                curvature[2] += certainty * x * x;
            }
            let determinant = curvature[0] * curvature[2] - curvature[1] * curvature[1];
            let step = [
                (curvature[2] * gradient[0] - curvature[1] * gradient[1]) / determinant,
                (curvature[0] * gradient[1] - curvature[1] * gradient[0]) / determinant,
            ];
            constant += step[0];
            slope += step[1];
            if !(constant.is_finite() && slope.is_finite()) {
                return None;
            }
            if step[0].abs().max(step[1].abs()) < 1e-9 {
                return (slope < 0.0).then(|| Self { middle: -constant / slope, width: -1.0 / slope });
            }
        }
        None
    }
}
