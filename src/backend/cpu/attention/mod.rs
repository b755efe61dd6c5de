//! Causal multi-head attention in tiles, and the maps that can be captured from it.
#![forbid(unsafe_code)]

mod lanes;
mod maps;
mod tiles;

use rayon::prelude::*;

use super::{Cpu, Tensor, gemm::Operand, kernels::Kernel, math, simd::vectorise};
use crate::{
    backend::{Attention, AttentionMaps, AttentionOutput, AttentionRequest, OutputParts, Rows},
    error::Result,
    interrupt,
};

/// Query positions that one task works on. More would pack the keys less often, but waste more of
/// the diagonal tiles.
const QUERIES: usize = 64;

impl Attention for Cpu {
    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Vec<f32>>,
    ) -> Result<AttentionOutput<Tensor>> {
        let columns = request.heads * request.value_dim;
        let mut context = self.tensor(q.rows, columns);
        let mut parts = request.subset.map(|_| OutputParts {
            subset: self.tensor(q.rows, columns),
            rest: self.tensor(q.rows, columns),
        });
        let out = Outputs {
            context: &mut context.values,
            parts: parts.as_mut().map(|parts| OutputParts {
                subset: &mut parts.subset.values[..],
                rest: &mut parts.rest.values[..],
            }),
        };
        let maps = run(self.kernel, (q, k, v), sequences, request, out)?;
        Ok(AttentionOutput {
            context,
            maps,
            parts,
        })
    }
}

/// Queries, keys and values of one sequence.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    /// First row in the tensors.
    start: usize,
    /// Number of positions.
    length: usize,
    request: &'a AttentionRequest<'a, Vec<f32>>,
}

impl<'a> Sequence<'a> {
    /// Query heads that share a key/value head.
    fn group(&self) -> usize {
        self.request.heads / self.request.kv_heads
    }

    /// Head `head` (of `width` values) of `tensor` from position `first` on, as
    /// `[positions, width]`.
    fn head(&self, tensor: &'a Tensor, head: usize, width: usize, first: usize) -> Operand<'a> {
        let offset = (self.start + first) * tensor.columns + head * width;
        Operand {
            values: &tensor.values()[offset..],
            row_stride: tensor.columns,
            column_stride: 1,
        }
    }

    /// Keys of a head from position `first` on, as `[head_dim, positions]`.
    fn keys(&self, kv_head: usize, first: usize) -> Operand<'a> {
        let keys = self.head(self.k, kv_head, self.request.head_dim, first);
        Operand {
            row_stride: keys.column_stride,
            column_stride: keys.row_stride,
            ..keys
        }
    }

    /// Values of a head from position `first` on, as `[positions, value_dim]`.
    fn values(&self, kv_head: usize, first: usize) -> Operand<'a> {
        self.head(self.v, kv_head, self.request.value_dim, first)
    }

    /// Turns products q.k of one head with the keys `first..` into logits, where they differ.
    fn finish_logits(&self, head: usize, first: usize, logits: &mut [f32]) {
        if let Some(cap) = self.request.soft_cap {
            vectorise(
                #[inline(always)]
                || {
                    for logit in logits.iter_mut() {
                        *logit = math::soft_cap(*logit, cap);
                    }
                },
            );
        }
        if let Some(alibi) = self.request.alibi {
            let bias = alibi.bias(head, first..first + logits.len(), self.length);
            for (logit, bias) in logits.iter_mut().zip(bias) {
                *logit += bias;
            }
        }
    }

    /// Hides from a query the keys `first..` that were not chosen for it.
    fn hide_unchosen(&self, query: usize, first: usize, logits: &mut [f32]) {
        if self.request.chosen.is_some() {
            for (key, logit) in (first..).zip(logits) {
                if !self.chose(query, key) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Whether a key that mask, window and chunk leave to the query is one that it sees.
    fn chose(&self, query: usize, key: usize) -> bool {
        let chosen = self.request.chosen;
        chosen.is_none_or(|chosen| chosen.sees(self.start + query, key))
    }

    /// How many queries see the key.
    fn viewers(&self, key: usize) -> usize {
        let viewers = self.request.viewers(key, self.length);
        let seen = |query: &usize| self.chose(*query, key);
        match self.request.chosen {
            None => viewers,
            Some(_) => (key..key + viewers).filter(seen).count(),
        }
    }

    /// The logit of the extra key in one head, given the scaled query.
    fn extra_logit(&self, head: usize, query: &[f32]) -> Option<f32> {
        let width = self.request.head_dim;
        let bias = self.request.kv_bias.as_ref()?;
        let key = &bias.k[head * width..(head + 1) * width];
        let logit = query.iter().zip(key).map(|(q, k)| q * k).sum();
        Some(match self.request.soft_cap {
            Some(cap) => math::soft_cap(logit, cap),
            None => logit,
        })
    }

    /// The extra value of one head.
    fn extra_value(&self, head: usize) -> Option<&'a [f32]> {
        let width = self.request.value_dim;
        let bias = self.request.kv_bias.as_ref()?;
        Some(&bias.v[head * width..(head + 1) * width])
    }

    /// Copies query rows, scaled, into `out` as `[positions x heads, head_dim]`: rows of a
    /// position's heads follow each other, so that heads sharing a key make one product.
    fn gather_queries(&self, positions: Rows, heads: Rows, out: &mut Vec<f32>) {
        let width = self.request.head_dim;
        out.clear();
        for position in positions {
            let row = self.q.row(self.start + position);
            let row = &row[heads.start * width..heads.end * width];
            out.extend(row.iter().map(|value| value * self.request.scale));
        }
    }
}

/// Where a call's tensors go, `[rows, heads * value_dim]` each.
struct Outputs<'a> {
    pub(super) context: &'a mut [f32],
    /// There if the request names a subset.
    pub(super) parts: Option<OutputParts<&'a mut [f32]>>,
}

/// Whole panels, more where there are rows enough for all threads, so that keys are packed less often.
fn positions_of_a_task(rows: usize, kernel: Kernel, threads: usize) -> usize {
    /// Tasks a thread, so that one with many keys does not hold up the others.
    const TASKS: usize = 4;
    let share = rows / (TASKS * threads);
    let whole = share.clamp(kernel.width(), lanes::POSITIONS);
    whole / kernel.width() * kernel.width()
}

/// Attention of every sequence into `out`, and the maps that were asked for.
fn run(
    kernel: Option<Kernel>,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    sequences: &[Rows],
    request: &AttentionRequest<'_, Vec<f32>>,
    out: Outputs<'_>,
) -> Result<Vec<AttentionMaps>> {
    let columns = request.heads * request.value_dim;
    let sequence = |rows: &Rows| Sequence {
        q,
        k,
        v,
        start: rows.start,
        length: rows.len(),
        request,
    };
    let positions = match kernel {
        Some(kernel) => positions_of_a_task(q.rows, kernel, rayon::current_num_threads()),
        None => QUERIES,
    };
    let mut tasks = Vec::new();
    let mut rest = out.context;
    for rows in sequences {
        let (mine, others) = rest.split_at_mut(rows.len() * columns);
        rest = others;
        for (block, out) in mine.chunks_mut(positions * columns).enumerate() {
            tasks.push((sequence(rows), block * positions, out));
        }
    }
    // Those that see most keys first.
    tasks.sort_by_key(|(_, first, _)| std::cmp::Reverse(*first));
    tasks.into_par_iter().with_max_len(1).for_each_init(
        || (lanes::Scratch::default(), tiles::Scratch::default()),
        |(lanes, tiles), (sequence, first, out)| {
            if interrupt::requested() {
                return;
            }
            match kernel {
                Some(kernel) => lanes::attend(kernel, sequence, first, out, lanes),
                None => tiles::attend(sequence, first, out, tiles),
            }
        },
    );
    interrupt::check()?;
    let mut subset = request.subset.zip(out.parts);
    if !request.capture.any() && subset.is_none() {
        return Ok(Vec::new());
    }
    let mut maps = Vec::with_capacity(sequences.len());
    for (index, rows) in sequences.iter().enumerate() {
        let subset = subset.as_mut().map(|(keys, out)| {
            let values = rows.start * columns..rows.end * columns;
            maps::Subset {
                keys: &keys[index],
                out: OutputParts {
                    subset: &mut out.subset[values.clone()],
                    rest: &mut out.rest[values],
                },
            }
        });
        maps.push(maps::capture(sequence(rows), subset)?);
    }
    if !request.capture.any() {
        maps.clear();
    }
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{AttentionCapture, KeyMask, Tensors, cpu::Cpu},
        model::spec::Alibi,
    };

    const LENGTH: usize = 700;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn sees(request: &AttentionRequest<'_, Vec<f32>>, query: usize, key: usize) -> bool {
        key <= query
            && request.window.is_none_or(|window| query - key < window)
            && request
                .chunk
                .is_none_or(|chunk| query / chunk == key / chunk)
            && request.chosen.is_none_or(|chosen| chosen.sees(query, key))
    }

    /// A choice that leaves the first tiles of late queries empty, and one key to nobody.
    fn choice() -> KeyMask {
        let words = LENGTH.div_ceil(32);
        let mut bits = vec![0; LENGTH * words];
        for query in 0..LENGTH {
            for key in 0..=query {
                let near = key + query % 5 == query;
                let some = near || (7 * key + 3 * query) % 11 < 3;
                if some && key != 10 && (query < 500 || key > 300) {
                    bits[query * words + key / 32] |= 1 << (key % 32);
                }
            }
        }
        KeyMask { words, bits }
    }

    /// Probabilities `[T]` of one row in double precision; hidden keys are 0.
    fn row(
        request: &AttentionRequest<'_, Vec<f32>>,
        (q, k): (&[f32], &[f32]),
        (head, query): (usize, usize),
    ) -> Vec<f64> {
        let (width, group) = (request.head_dim, request.heads / request.kv_heads);
        let part = |x: &[f32], heads: usize, head: usize, row: usize| -> Vec<f64> {
            let start = (row * heads + head) * width;
            x[start..start + width]
                .iter()
                .map(|v| f64::from(*v))
                .collect()
        };
        let queries = part(q, request.heads, head, query);
        let mut weights = vec![0.0; LENGTH];
        let mut total = request
            .sinks
            .map_or(0.0, |sinks| f64::from(sinks[head]).exp());
        for (key, weight) in weights.iter_mut().enumerate() {
            if !sees(request, query, key) {
                continue;
            }
            let keys = part(k, request.kv_heads, head / group, key);
            let dot: f64 = queries.iter().zip(&keys).map(|(a, b)| a * b).sum();
            let mut logit = dot * f64::from(request.scale);
            if let Some(cap) = request.soft_cap {
                logit = f64::from(cap) * (logit / f64::from(cap)).tanh();
            }
            if let Some(alibi) = request.alibi {
                logit += f64::from(alibi.slopes[head]) * (key as f64 - query as f64);
            }
            *weight = logit.exp();
            total += *weight;
        }
        weights.iter().map(|weight| weight / total).collect()
    }

    /// Output and sink mass against the sums of double-precision rows.
    fn check(cpu: &Cpu, request: &AttentionRequest<'_, Vec<f32>>) -> Result<Vec<f32>> {
        let (heads, kv_heads, value) = (request.heads, request.kv_heads, request.value_dim);
        let (wide, narrow) = (heads * request.head_dim, kv_heads * request.head_dim);
        let (q, k) = (noise(LENGTH * wide, 1), noise(LENGTH * narrow, 2));
        let v = noise(LENGTH * kv_heads * value, 3);
        let found = cpu.attention(
            &cpu.upload(LENGTH, wide, q.clone())?,
            &cpu.upload(LENGTH, narrow, k.clone())?,
            &cpu.upload(LENGTH, kv_heads * value, v.clone())?,
            std::slice::from_ref(&(0..LENGTH)),
            request,
        )?;
        // ALiBi's biases reach 175 here, of which float32 keeps five decimals.
        let bound = if request.alibi.is_some() { 2e-5 } else { 2e-6 };
        let mass = found.maps[0].sink_mass.as_ref().expect("asked for");
        let parts = found.parts.as_ref().expect("asked for");
        let keys = &request.subset.expect("asked for")[0];
        for head in 0..heads {
            let mut received = vec![0.0; LENGTH];
            for query in 0..LENGTH {
                let probs = row(request, (&q, &k), (head, query));
                for (sum, prob) in received.iter_mut().zip(&probs) {
                    *sum += prob;
                }
                for dimension in 0..value {
                    let column = head / (heads / kv_heads) * value + dimension;
                    let given =
                        |key: &usize| probs[*key] * f64::from(v[key * kv_heads * value + column]);
                    for (tensor, truth) in [
                        (
                            &found.context,
                            (0..LENGTH).map(|key| given(&key)).sum::<f64>(),
                        ),
                        (&parts.subset, keys.iter().map(given).sum()),
                        (
                            &parts.rest,
                            (0..LENGTH)
                                .filter(|key| !keys.contains(key))
                                .map(|key| given(&key))
                                .sum(),
                        ),
                    ] {
                        let got = f64::from(tensor.row(query)[head * value + dimension]);
                        assert!((got - truth).abs() < bound, "{head} {query}: {got} {truth}");
                    }
                }
            }
            for (key, sum) in received.iter().enumerate() {
                let viewers = (0..LENGTH).filter(|query| sees(request, *query, key));
                let truth = sum / viewers.count().max(1) as f64;
                let got = f64::from(mass[head * LENGTH + key]);
                assert!((got - truth).abs() < bound, "{head} {key}: {got} {truth}");
            }
        }
        Ok(found.context.values().to_vec())
    }

    #[test]
    fn options_match_double_precision_across_tiles() {
        let (alibi, sinks) = (Alibi::exact(3), vec![0.5, -1.0, 3.0]);
        // First and last, the ends of a block of queries, neighbours.
        let subset = [vec![0, 63, 64, 301, 302, LENGTH - 1]];
        let chosen = choice();
        let plain = || AttentionRequest {
            scale: 0.9,
            capture: AttentionCapture {
                sink: true,
                ..AttentionCapture::default()
            },
            subset: Some(&subset),
            ..AttentionRequest::plain(3, 1, 6)
        };
        let requests = [
            plain(),
            AttentionRequest {
                window: Some(65),
                ..plain()
            },
            AttentionRequest {
                window: Some(300),
                value_dim: 4,
                ..plain()
            },
            AttentionRequest {
                soft_cap: Some(0.7),
                window: Some(1),
                ..plain()
            },
            AttentionRequest {
                chunk: Some(7),
                ..plain()
            },
            AttentionRequest {
                chunk: Some(300),
                window: Some(290),
                ..plain()
            },
            AttentionRequest {
                chosen: Some(&chosen),
                ..plain()
            },
            AttentionRequest {
                chosen: Some(&chosen),
                sinks: Some(&sinks),
                chunk: Some(400),
                ..plain()
            },
            AttentionRequest {
                sinks: Some(&sinks),
                window: Some(256),
                ..plain()
            },
            AttentionRequest {
                alibi: Some(&alibi),
                kv_heads: 3,
                ..plain()
            },
        ];
        let cpus = [
            Cpu::new(),
            Cpu::without_avx512(),
            Cpu {
                kernel: None,
                ..Cpu::new()
            },
        ];
        let threads = |count| rayon::ThreadPoolBuilder::new().num_threads(count).build();
        let many = threads(7).expect("threads");
        for request in requests {
            let [best, narrow, plain] = cpus.each_ref().map(|cpu| check(cpu, &request));
            assert_eq!(plain.map(|_| ()), Ok(()));
            // Neither instructions nor tasks change a bit.
            assert_eq!(best, narrow);
            assert_eq!(best, many.install(|| check(&cpus[0], &request)));
        }
    }
}
