//! Against the definition, token after token in float64.

use proptest::prelude::*;

use crate::backend::{DeltaRequest, Recurrences, Rows, Tensors, cpu::Cpu};

/// One call of the rule.
#[derive(Debug, Clone)]
struct Case {
    key_heads: usize,
    /// Value heads a key head.
    served: usize,
    key_dim: usize,
    value_dim: usize,
    lengths: Vec<usize>,
    per_channel: bool,
    beta_scale: f32,
    /// Added to the raw decays and betas.
    shift: [f32; 2],
    a_log: f32,
    seed: u64,
}

const PLAIN: Case = Case {
    key_heads: 2,
    served: 2,
    key_dim: 5,
    value_dim: 7,
    lengths: Vec::new(),
    per_channel: false,
    beta_scale: 1.0,
    shift: [0.0; 2],
    a_log: 0.0,
    seed: 1,
};

/// Values of about unit size.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| 4.0 * (next() + next())).collect()
}

impl Case {
    fn heads(&self) -> usize {
        self.key_heads * self.served
    }

    fn channels(&self) -> usize {
        if self.per_channel { self.key_dim } else { 1 }
    }

    fn sequences(&self) -> Vec<Rows> {
        let mut end = 0;
        let lengths = self.lengths.iter();
        lengths
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect()
    }

    /// Queries, keys, values, decays, betas: width and values.
    fn inputs(&self) -> [(usize, Vec<f32>); 5] {
        let rows: usize = self.lengths.iter().sum();
        let heads = self.heads();
        let widths = [
            self.key_heads * self.key_dim,
            self.key_heads * self.key_dim,
            heads * self.value_dim,
            heads * self.channels(),
            heads,
        ];
        let mut index = 0;
        widths.map(|width| {
            index += 1;
            let mut values = noise(self.seed * 31 + index, rows * width);
            if index > 3 {
                let shift = self.shift[index as usize - 4];
                values.iter_mut().for_each(|value| *value += shift);
            }
            (width, values)
        })
    }

    fn learned(&self) -> [Vec<f32>; 2] {
        let heads = self.heads();
        let a_log = noise(self.seed * 31 + 7, heads);
        let a_log = a_log.into_iter().map(|x| x / 2.0 + self.a_log).collect();
        [a_log, noise(self.seed * 31 + 8, heads * self.channels())]
    }

    fn computed(&self) -> Vec<f32> {
        let cpu = Cpu::new();
        let rows = self.lengths.iter().sum();
        let [q, k, v, decay, beta] = self
            .inputs()
            .map(|(width, values)| cpu.upload(rows, width, values).expect("memory"));
        let [a_log, dt_bias] = self.learned();
        let request = DeltaRequest {
            key_heads: self.key_heads,
            heads: self.heads(),
            key_dim: self.key_dim,
            value_dim: self.value_dim,
            a_log: &a_log,
            dt_bias: &dt_bias,
            per_channel: self.per_channel,
            beta_scale: self.beta_scale,
        };
        let out = cpu.delta_rule(&q, &k, &v, &decay, &beta, &self.sequences(), &request);
        out.expect("no interrupt").values().to_vec()
    }

    fn definition(&self) -> Vec<f64> {
        let inputs = self.inputs();
        let [q, k, v, decay, beta] = &inputs;
        let [a_log, dt_bias] = self.learned();
        let (heads, dk, dv) = (self.heads(), self.key_dim, self.value_dim);
        let rows: usize = self.lengths.iter().sum();
        let mut out = vec![0.0; rows * heads * dv];
        let of = |(width, values): &(usize, Vec<f32>), row: usize, from: usize, count: usize| {
            let start = row * width + from;
            let part = values[start..start + count].iter();
            part.map(|x| f64::from(*x)).collect::<Vec<f64>>()
        };
        let unit = |x: Vec<f64>| {
            let length = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
            x.into_iter().map(|x| x / length).collect::<Vec<f64>>()
        };
        for rows in self.sequences() {
            for head in 0..heads {
                let mut state = vec![0.0; dk * dv];
                for row in rows.clone() {
                    let key_head = head / self.served;
                    let q = unit(of(q, row, key_head * dk, dk));
                    let k = unit(of(k, row, key_head * dk, dk));
                    let v = of(v, row, head * dv, dv);
                    let raw = of(decay, row, head * self.channels(), self.channels());
                    let beta =
                        f64::from(self.beta_scale) / (1.0 + (-of(beta, row, head, 1)[0]).exp());
                    for (i, state) in state.chunks_mut(dv).enumerate() {
                        let channel = i % self.channels();
                        let bias = dt_bias[head * self.channels() + channel];
                        let step = raw[channel] + f64::from(bias);
                        let step = step.max(0.0) + (-step.abs()).exp().ln_1p();
                        let kept = (-f64::from(a_log[head]).exp() * step).exp();
                        state.iter_mut().for_each(|state| *state *= kept);
                    }
                    for j in 0..dv {
                        let found: f64 = (0..dk).map(|i| state[i * dv + j] * k[i]).sum();
                        let delta = beta * (v[j] - found);
                        for i in 0..dk {
                            state[i * dv + j] += k[i] * delta;
                        }
                        let read: f64 = (0..dk).map(|i| state[i * dv + j] * q[i]).sum();
                        out[row * heads * dv + head * dv + j] = read / (dk as f64).sqrt();
                    }
                }
            }
        }
        out
    }

    /// The largest difference, in units of the outputs' root mean square.
    fn error(&self) -> f64 {
        let (computed, truth) = (self.computed(), self.definition());
        assert_eq!(computed.len(), truth.len());
        let squares: f64 = truth.iter().map(|x| x * x).sum();
        let rms = (squares / truth.len() as f64).sqrt();
        let differences = computed.iter().zip(&truth);
        let worst = differences.map(|(x, truth)| (f64::from(*x) - truth).abs());
        worst.fold(0.0, f64::max) / rms.max(1e-30)
    }
}

#[test]
fn lengths_around_the_chunk_and_the_block() {
    for per_channel in [false, true] {
        for lengths in [
            vec![1],
            vec![16],
            vec![17, 1, 2],
            vec![63],
            vec![64],
            vec![65],
            vec![200, 3, 129],
        ] {
            let case = Case {
                lengths,
                per_channel,
                ..PLAIN
            };
            let error = case.error();
            assert!(error < 5e-6, "{case:?}: {error:e}");
        }
    }
}

#[test]
fn decays_that_keep_all_or_nothing() {
    for per_channel in [false, true] {
        // Kept for thousands of tokens, forgotten at once, some of both in a head, and the same in
        // sums so large that float32 would know little of their differences.
        for (shift, a_log) in [(-30.0, 0.0), (40.0, 6.0), (-1.0, 3.0), (-4.0, 8.0)] {
            let case = Case {
                lengths: vec![150, 70],
                shift: [shift, 1.0],
                a_log,
                per_channel,
                ..PLAIN
            };
            let error = case.error();
            assert!(error < 1e-5, "{case:?}: {error:e}");
        }
    }
}

#[test]
fn corrections_of_nothing_and_of_twice_the_difference() {
    let case = Case {
        lengths: vec![100],
        shift: [0.0, -300.0],
        ..PLAIN
    };
    assert!(case.computed().iter().all(|x| *x == 0.0));
    for per_channel in [false, true] {
        let case = Case {
            lengths: vec![100],
            beta_scale: 2.0,
            // Every step mirrors the state, and nothing is forgotten.
            shift: [-30.0, 300.0],
            per_channel,
            ..PLAIN
        };
        let error = case.error();
        assert!(error < 2e-5, "{case:?}: {error:e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_sizes(
        (key_heads, served) in (1usize..4, 1usize..4),
        (key_dim, value_dim) in (1usize..40, 1usize..40),
        lengths in prop::collection::vec(1usize..140, 1..4),
        per_channel: bool,
        twice: bool,
        shift in prop::array::uniform2(-4f32..4.0),
        a_log in -5f32..3.0,
        seed in 0u64..1000,
    ) {
        let beta_scale = if twice { 2.0 } else { 1.0 };
        let case = Case {
            key_heads, served, key_dim, value_dim, lengths, per_channel, beta_scale, shift, a_log, seed,
        };
        let error = case.error();
        prop_assert!(error < 2e-5, "{:e}", error);
    }
}
