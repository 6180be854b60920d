//! LFM2 said plainly: one token after another, loops over numbers, f64 sums, no caches. The twin of `model`.

use crate::checkpoint::{Tensor, Weights};
use crate::config::{Config, LayerKind};

type Rows = Vec<Vec<f64>>;

pub(crate) struct Reference<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights,
}

impl Reference<'_> {
    fn tensor(&self, name: &str) -> &Tensor {
        &self.weights.tensors[name]
    }

    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = self.weights.tensors.get(&format!("{name}.bias"));
        let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
        assert_eq!(inputs, x.len());
        (0..outputs)
            .map(|o| {
                let start = bias.map_or(0.0, |values| f64::from(values.data[o]));
                start + (0..inputs).map(|i| x[i] * f64::from(weight.data[o * inputs + i])).sum::<f64>()
            })
            .collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.tensor(&format!("{name}.weight"));
        let square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (square + f64::from(self.config.norm_epsilon)).sqrt();
        x.iter().zip(&weight.data).map(|(v, w)| v * scale * f64::from(*w)).collect()
    }

    fn convolution(&self, rows: &Rows, layer: usize) -> Rows {
        let hidden = self.config.hidden_size;
        let length = self.config.convolution_length;
        let name = |part: &str| format!("model.layers.{layer}.conv.{part}");
        let projected: Rows = rows.iter().map(|row| self.linear(row, &name("in_proj"))).collect();
        let kernel = self.tensor(&name("conv.weight"));
        let bias = self.weights.tensors.get(&name("conv.bias"));
        let outputs = (0..rows.len()).map(|t| {
            let mixed: Vec<f64> = (0..hidden)
                .map(|c| {
                    let mut sum = bias.map_or(0.0, |values| f64::from(values.data[c]));
                    for back in 0..length.min(t + 1) {
                        let at = &projected[t - back];
                        let weight = kernel.data[c * length + length - 1 - back];
                        sum += f64::from(weight) * at[c] * at[2 * hidden + c];
                    }
                    projected[t][hidden + c] * sum
                })
                .collect();
            self.linear(&mixed, &name("out_proj"))
        });
        outputs.collect()
    }

    fn rotate(&self, head: &[f64], position: usize) -> Vec<f64> {
        let half = head.len() / 2;
        let mut out = head.to_vec();
        for i in 0..half {
            let frequency = f64::from(self.config.rope_base).powf(-2.0 * i as f64 / head.len() as f64);
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            out[i] = head[i] * cosine - head[half + i] * sine;
            out[half + i] = head[half + i] * cosine + head[i] * sine;
        }
        out
    }

    fn attention(&self, rows: &Rows, layer: usize) -> Rows {
        let size = self.config.head_size;
        let group = self.config.attention_heads / self.config.key_value_heads;
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}");
        let heads = |row: &[f64], projection: &str, norm: Option<&str>, position: usize| -> Rows {
            let projected = self.linear(row, &name(projection));
            let split = projected.chunks(size).map(|head| match norm {
                Some(norm) => self.rotate(&self.norm(head, &name(norm)), position),
                None => head.to_vec(),
            });
            split.collect()
        };
        let at = |projection: &str, norm: Option<&str>| -> Vec<Rows> {
            rows.iter().enumerate().map(|(t, row)| heads(row, projection, norm, t)).collect()
        };
        let queries = at("q_proj", Some("q_layernorm"));
        let keys = at("k_proj", Some("k_layernorm"));
        let values = at("v_proj", None);
        let outputs = (0..rows.len()).map(|t| {
            let mut all = Vec::new();
            for h in 0..self.config.attention_heads {
                let weights: Vec<f64> = (0..=t)
                    .map(|s| {
                        let key = &keys[s][h / group];
                        let score: f64 = queries[t][h].iter().zip(key).map(|(a, b)| a * b).sum();
                        (score / (size as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                all.extend(
                    (0..size)
                        .map(|i| (0..=t).map(|s| weights[s] / total * values[s][h / group][i]).sum::<f64>()),
                );
            }
            self.linear(&all, &name("out_proj"))
        });
        outputs.collect()
    }

    /// Logits after each token.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Rows {
        let hidden = self.config.hidden_size;
        let table = self.tensor("model.embed_tokens.weight");
        let mut x: Rows = tokens
            .iter()
            .map(|token| {
                table.data[*token as usize * hidden..][..hidden].iter().map(|v| f64::from(*v)).collect()
            })
            .collect();
        let add = |x: &mut Rows, more: Rows| {
            for (row, other) in x.iter_mut().zip(more) {
                for (value, delta) in row.iter_mut().zip(other) {
                    *value += delta;
                }
            }
        };
        for (layer, kind) in self.config.layers.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let normed: Rows = x.iter().map(|row| self.norm(row, &name("operator_norm"))).collect();
            let mixed = match kind {
                LayerKind::Convolution => self.convolution(&normed, layer),
                LayerKind::Attention => self.attention(&normed, layer),
            };
            add(&mut x, mixed);
            let fed = x.iter().map(|row| {
                let input = self.norm(row, &name("ffn_norm"));
                let gate = self.linear(&input, &name("feed_forward.w1"));
                let up = self.linear(&input, &name("feed_forward.w3"));
                let active: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                self.linear(&active, &name("feed_forward.w2"))
            });
            let fed = fed.collect();
            add(&mut x, fed);
        }
        let head = if self.config.tied_head { "model.embed_tokens" } else { "lm_head" };
        x.iter().map(|row| self.linear(&self.norm(row, "model.embedding_norm"), head)).collect()
    }
}
