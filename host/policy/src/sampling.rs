//! From logits to log-probabilities and to tokens.
//!
//! [`LogSoftmax`] is the only log-softmax of this crate: sampling and scoring see the same numbers.

use orion_kernels::exp_in_place;

use crate::random::Random;

/// Log-probabilities of one row of logits under the unmodified model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSoftmax {
    largest: f32,
    log_sum: f64,
}

/// Logits whose exponentials are held at once: 4 KiB, which stay in the first-level cache.
const HELD_EXPONENTIALS: usize = 1024;

impl LogSoftmax {
    /// The normaliser of a row.
    pub(crate) fn of(logits: &[f32]) -> Self {
        let largest = largest(logits);
        let mut held = [0.0; HELD_EXPONENTIALS];
        let mut sum = Sum::default();
        for part in logits.chunks(HELD_EXPONENTIALS) {
            let exponentials = &mut held[..part.len()];
            for (exponential, logit) in exponentials.iter_mut().zip(part) {
                *exponential = logit - largest;
            }
            exp_in_place(exponentials);
            sum.add(exponentials);
        }
        Self { largest, log_sum: sum.total().ln() }
    }

    /// Natural log-probability of a logit of the row.
    pub(crate) fn log_probability(&self, logit: f32) -> f32 {
        (f64::from(logit - self.largest) - self.log_sum) as f32
    }
}

/// Four interleaved sums in f64: quick, and exact enough that their order hardly matters; it is fixed all the same.
#[derive(Default)]
struct Sum {
    interleaved: [f64; 4],
    rest: f64,
}

impl Sum {
    /// Adds values; where several calls add to one sum, all but the last bring a multiple of four.
    fn add(&mut self, values: &[f32]) {
        let (fours, rest) = values.as_chunks::<4>();
        for four in fours {
            for (total, value) in self.interleaved.iter_mut().zip(four) {
                *total += f64::from(*value);
            }
        }
        self.rest = rest.iter().map(|value| f64::from(*value)).sum();
    }

    fn total(&self) -> f64 {
        let [a, b, c, d] = self.interleaved;
        a + b + (c + d) + self.rest
    }
}

fn sum(values: &[f32]) -> f64 {
    let mut sum = Sum::default();
    sum.add(values);
    sum.total()
}

fn largest(logits: &[f32]) -> f32 {
    let (eights, rest) = logits.as_chunks::<8>();
    let mut lanes = [f32::NEG_INFINITY; 8];
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane = lane.max(*value);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// How a token is picked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    /// 0 is greedy.
    pub(crate) temperature: f32,
    /// Share of the probability that is sampled from, likeliest tokens first, in (0, 1].
    pub(crate) top_p: f32,
}

/// Which tokens may be picked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Allowed<'a> {
    /// Those that a table `[vocabulary]` admits, and perhaps one more.
    Table(&'a [bool], Option<u32>),
    /// Those of a list.
    Only(&'a [u32]),
}

impl Allowed<'_> {
    /// Copies the logits, negative infinity in place of those of other tokens.
    fn masked(&self, logits: &[f32], out: &mut Vec<f32>) {
        out.clear();
        let put_back = |out: &mut [f32], ids: &[u32]| {
            ids.iter().for_each(|id| out[*id as usize] = logits[*id as usize]);
        };
        match self {
            Allowed::Table(table, more) => {
                let masked = |(logit, may): (&f32, &bool)| if *may { *logit } else { f32::NEG_INFINITY };
                out.extend(logits.iter().zip(*table).map(masked));
                put_back(out, more.as_slice());
            }
            Allowed::Only(ids) => {
                out.resize(logits.len(), f32::NEG_INFINITY);
                put_back(out, ids);
            }
        }
    }
}

/// Picks one of the tokens that `allowed` admits; the lowest id wins ties. At least one must be allowed. `buffer` is
/// working memory.
pub(crate) fn pick(
    logits: &[f32],
    allowed: Allowed<'_>,
    choice: Choice,
    random: &mut Random,
    buffer: &mut Vec<f32>,
) -> u32 {
    allowed.masked(logits, buffer);
    let best = largest(buffer);
    let greedy = || buffer.iter().position(|logit| *logit == best).unwrap_or(0) as u32;
    if choice.temperature <= 0.0 {
        return greedy();
    }
    let fallback = greedy();
    for logit in buffer.iter_mut() {
        *logit = (*logit - best) / choice.temperature;
    }
    exp_in_place(buffer);
    let total = sum(buffer);
    if choice.top_p < 1.0 {
        return pick_nucleus(buffer, total, choice.top_p, random).unwrap_or(fallback);
    }
    let target = random.unit() * total;
    let mut reached = 0.0;
    for (id, weight) in buffer.iter().enumerate() {
        reached += f64::from(*weight);
        if target < reached {
            return id as u32;
        }
    }
    fallback
}

/// The smallest set of likeliest tokens that holds `top_p` of the weight (Holtzman et al., arXiv:1904.09751), sampled
/// by weight.
fn pick_nucleus(weights: &[f32], total: f64, top_p: f32, random: &mut Random) -> Option<u32> {
    let wanted = f64::from(top_p) * total;
    // Tokens below the bound hold less than 1 - top_p of the weight together: the set is full before them.
    let bound = (total - wanted) / weights.len() as f64;
    let mut likely: Vec<(f32, u32)> = weights
        .iter()
        .zip(0u32..)
        .filter(|(weight, _)| 0.0 < **weight && bound <= f64::from(**weight))
        .map(|(weight, id)| (*weight, id))
        .collect();
    likely.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut held = 0.0;
    let mut size = 0;
    for (weight, _) in &likely {
        held += f64::from(*weight);
        size += 1;
        if wanted <= held {
            break;
        }
    }
    let target = random.unit() * held;
    let mut reached = 0.0;
    for (weight, id) in &likely[..size] {
        reached += f64::from(*weight);
        if target < reached {
            return Some(*id);
        }
    }
    likely.first().map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Top-p as it is defined: sort everything, cut, sample.
    fn nucleus_twin(logits: &[f32], allowed: &[bool], choice: Choice, random: &mut Random) -> u32 {
        let best = (0..logits.len()).filter(|&i| allowed[i]).map(|i| logits[i]).fold(f32::MIN, f32::max);
        let mut all: Vec<(f64, u32)> = (0..logits.len())
            .filter(|&i| allowed[i])
            .map(|i| (f64::from(orion_kernels::exp((logits[i] - best) / choice.temperature)), i as u32))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let total: f64 = all.iter().map(|(weight, _)| weight).sum();
        let mut held = 0.0;
        let size = all
            .iter()
            .position(|(weight, _)| {
                held += weight;
                f64::from(choice.top_p) * total <= held
            })
            .map_or(all.len(), |last| last + 1);
        let target = random.unit() * all[..size].iter().map(|(weight, _)| weight).sum::<f64>();
        let mut reached = 0.0;
        for (weight, id) in &all[..size] {
            reached += weight;
            if target < reached {
                return *id;
            }
        }
        all[0].1
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn nucleus_equals_its_twin(
            logits in proptest::collection::vec(-6.0f32..6.0, 2..60), seed: u64, mask: u64,
            temperature in 0.2f32..3.0, top_p in 0.05f32..0.99,
        ) {
            let allowed: Vec<bool> = (0..logits.len()).map(|i| i == 1 || mask >> (i % 64) & 1 == 1).collect();
            let choice = Choice { temperature, top_p };
            let got = pick(&logits, Allowed::Table(&allowed, None), choice, &mut Random::new(seed), &mut Vec::new());
            prop_assert_eq!(got, nucleus_twin(&logits, &allowed, choice, &mut Random::new(seed)));
        }

        #[test]
        fn log_softmax_equals_its_twin(logits in proptest::collection::vec(-30.0f32..30.0, 1..2100)) {
            let normaliser = LogSoftmax::of(&logits);
            let exact = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
            for logit in &logits {
                let got = f64::from(normaliser.log_probability(*logit));
                prop_assert!((got - (f64::from(*logit) - exact)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn sampling_follows_the_weights() {
        let logits = [0.0, 2.0f32.ln(), 5.0f32.ln(), 9.0];
        let choice = Choice { temperature: 1.0, top_p: 1.0 };
        let mut random = Random::new(7);
        let mut counts = [0u32; 4];
        for _ in 0..8000 {
            counts
                [pick(&logits, Allowed::Only(&[0, 1, 2]), choice, &mut random, &mut Vec::new()) as usize] +=
                1;
        }
        assert_eq!(counts[3], 0);
        for (count, share) in counts.iter().zip([1.0, 2.0, 5.0]) {
            assert!((f64::from(*count) / 8000.0 - share / 8.0).abs() < 0.02, "{counts:?}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let choice = Choice { temperature: 0.0, top_p: 1.0 };
        let mut random = Random::new(1);
        assert_eq!(
            pick(
                &[3.0, 1.0, 2.0, 2.0],
                Allowed::Table(&[false, true, true, false], Some(3)),
                choice,
                &mut random,
                &mut Vec::new()
            ),
            2
        );
    }
}
