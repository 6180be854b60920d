//! Gradients, clipping, learning-rate schedules and AdamW.
//!
//! AdamW follows arXiv 1711.05101 as PyTorch writes it, and decays every parameter, norms included: that is what the
//! golden numbers were made with. [`crate::sft`] drives it; [`crate::checkpoint`] stores its moments.

use crate::error::{Result, TrainError};
use candle_core::{Tensor, Var, backprop::GradStore};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Gradients by tensor name, summed over micro-batches.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Gradients {
    /// Adds one backward pass; fails where a variable got no gradient, because a silent gap in the chain trains
    /// nothing below it.
    pub fn add(&mut self, store: &GradStore, variables: &BTreeMap<String, Var>) -> Result<()> {
        for (name, variable) in variables {
            let gradient = store.get(variable.as_tensor()).ok_or_else(|| {
                TrainError::Policy(format!("tensor `{name}`: expected a gradient, got none"))
            })?;
            let values = gradient.flatten_all()?.to_vec1::<f32>()?;
            match self.tensors.get_mut(name) {
                Some(sum) => sum.par_iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
                None => {
                    self.tensors.insert(name.clone(), values);
                }
            }
        }
        Ok(())
    }

    /// Adds another micro-batch's gradients.
    pub fn merge(&mut self, other: Self) {
        for (name, values) in other.tensors {
            match self.tensors.get_mut(&name) {
                Some(sum) => sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
                None => {
                    self.tensors.insert(name, values);
                }
            }
        }
    }

    /// Euclidean norm of each tensor's gradient.
    pub fn norms(&self) -> BTreeMap<&str, f64> {
        self.tensors
            .iter()
            .map(|(name, values)| {
                (name.as_str(), values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt())
            })
            .collect()
    }

    /// Euclidean norm of all gradients together.
    pub fn total_norm(&self) -> f64 {
        self.norms().values().map(|norm| norm * norm).sum::<f64>().sqrt()
    }

    /// Scales everything down so that the total norm is at most `limit`; gives the norm before.
    pub fn clip(&mut self, limit: f64) -> f64 {
        let norm = self.total_norm();
        // The small addend is PyTorch's.
        let factor = (limit / (norm + 1e-6)).min(1.0) as f32;
        if factor < 1.0 {
            self.tensors.par_iter_mut().for_each(|(_, values)| values.iter_mut().for_each(|v| *v *= factor));
        }
        norm
    }
}

/// Settings of the optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of each parameter taken off per step, times the learning rate.
    pub weight_decay: f64,
    /// Learning rate of the embedding, as a share of the others'. Adam moves every row about as far as the rate,
    /// rare tokens too, whose rows have little but their random identity; a smaller rate keeps that.
    pub embedding_rate: f64,
}

impl Default for AdamWSettings {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, embedding_rate: 1.0 }
    }
}

/// First and second moment of one tensor's gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Running mean.
    pub first: Vec<f32>,
    /// Running mean of squares.
    pub second: Vec<f32>,
}

/// AdamW with its state.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    /// Updates made so far.
    pub steps: u64,
    /// Moments by tensor name; empty before the first update.
    pub moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// A fresh optimiser.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// Moves every variable one step against its gradient.
    pub fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &Gradients,
        rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, embedding_rate } = self.settings;
        let time = self.steps as i32;
        let first_correction = 1.0 - beta1.powi(time);
        let second_correction = (1.0 - beta2.powi(time)).sqrt();
        let (beta1, beta2, epsilon) = (beta1 as f32, beta2 as f32, epsilon as f32);
        let inverse_correction = (1.0 / second_correction) as f32;
        for (name, variable) in variables {
            let gradient = gradients.tensors.get(name).ok_or_else(|| {
                TrainError::Policy(format!("tensor `{name}`: expected a gradient, got none"))
            })?;
            let rate = if name == "model.embed_tokens.weight" { rate * embedding_rate } else { rate };
            let keep = (1.0 - rate * weight_decay) as f32;
            let step = (rate / first_correction) as f32;
            let moments = self.moments.entry(name.clone()).or_insert_with(|| Moments {
                first: vec![0.0; gradient.len()],
                second: vec![0.0; gradient.len()],
            });
            let mut values = variable.flatten_all()?.to_vec1::<f32>()?;
            values
                .par_iter_mut()
                .zip(gradient)
                .zip(moments.first.par_iter_mut().zip(&mut moments.second))
                .with_min_len(16 * 1024)
                .for_each(|((value, g), (first, second))| {
                    *first = beta1 * *first + (1.0 - beta1) * g;
                    *second = beta2 * *second + (1.0 - beta2) * g * g;
                    let denominator = second.sqrt() * inverse_correction + epsilon;
                    *value = *value * keep - step * *first / denominator;
                });
            variable.set(&Tensor::from_vec(values, variable.dims(), variable.device())?)?;
        }
        Ok(())
    }
}

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Stays at the peak.
    Fixed,
    /// Half a cosine from the peak to the floor.
    Cosine,
}

/// Learning rate by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Steps of linear growth from zero.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
    /// Last learning rate, as a share of the peak.
    pub floor: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { peak: 1e-3, warmup_steps: 0, decay: Decay::Fixed, floor: 0.0 }
    }
}

impl Schedule {
    /// The rate of step `step` (from 0) of `total`.
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Fixed => self.peak,
            Decay::Cosine => {
                let span = total.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
                let share =
                    self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.peak * share
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_grows_then_falls_to_its_floor() {
        let schedule = Schedule { peak: 2.0, warmup_steps: 4, decay: Decay::Cosine, floor: 0.1 };
        let rates: Vec<f64> = (0..=14).map(|step| schedule.rate(step, 14)).collect();
        assert_eq!(rates[0], 0.5);
        assert_eq!(rates[3], 2.0);
        assert_eq!(rates[4], 2.0);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!((rates[14] - 0.2).abs() < 1e-12);
    }
}
