//! The gated delta rule, a chunk of tokens at a time, so that most of it are matrix products.
//!
//! Let `G` be the logarithms of the decays summed up from a chunk's first token on, and `S` the state
//! before it. What the chunk's tokens write, `U`, follows from a triangular system (the WY form of Yang
//! et al. 2024, arXiv 2406.06484, with decays as in arXiv 2412.06464):
//!
//! ```text
//! M_ij = beta_i sum_d k_id k_jd exp(G_id - G_jd)  for j < i      (1 + M) U = beta (V - (K exp(G)) S)
//! P_ij = sum_d q_id k_jd exp(G_id - G_jd)         for j <= i     O = (Q exp(G)) S + P U
//! S' = exp(G_last) S + (K exp(G_last - G))^T U
//! ```
//!
//! No exponent is above 0, so that a strong decay makes zeros and nothing overflows. The sums `G` are in
//! float64: of two large ones the difference counts.
#![forbid(unsafe_code)]

mod pairs;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    backend::{
        DeltaRequest, Rows,
        cpu::{
            Tensor,
            gemm::{self, Operand, Output, Shape},
            math,
            simd::vectorise,
        },
    },
    interrupt,
};

/// Tokens of a chunk.
const CHUNK: usize = 64;

/// Tokens of a chunk that are solved for one after the other.
const BLOCK: usize = 16;

/// Added to the sum of squares of a query or key.
const L2_EPSILON: f32 = 1e-6;

/// Queries, keys, values, decays and betas as projected.
pub(super) struct Inputs<'a> {
    pub(super) q: &'a Tensor,
    pub(super) k: &'a Tensor,
    pub(super) v: &'a Tensor,
    pub(super) decay: &'a Tensor,
    pub(super) beta: &'a Tensor,
    pub(super) request: &'a DeltaRequest<'a, Vec<f32>>,
}

/// The rule, each head of each sequence for itself.
pub(super) fn run(out: &mut Tensor, inputs: &Inputs<'_>, sequences: &[Rows]) {
    let (heads, width) = (inputs.request.heads, inputs.request.value_dim);
    let columns = heads * width;
    let made: Vec<Vec<f32>> = (0..sequences.len() * heads)
        .into_par_iter()
        .map_init(
            || Scratch::new(inputs.request),
            |scratch, task| scratch.head(inputs, &sequences[task / heads], task % heads),
        )
        .collect();
    for (rows, made) in sequences.iter().zip(made.chunks_exact(heads)) {
        let part = rows.start * columns..rows.end * columns;
        let rows = out.values[part].par_chunks_exact_mut(columns).enumerate();
        rows.for_each(|(row, out)| {
            for (out, made) in out.chunks_exact_mut(width).zip(made) {
                out.copy_from_slice(&made[row * width..(row + 1) * width]);
            }
        });
    }
}

/// What a head's walk through the chunks needs; rows are the tokens of a chunk.
struct Scratch {
    key_dim: usize,
    value_dim: usize,
    /// Decays of a token: one, or one a key channel.
    channels: usize,
    /// Normalised queries and keys.
    q: Vec<f32>,
    k: Vec<f32>,
    /// Times `exp(G)`: what reads the state before the chunk.
    q_read: Vec<f32>,
    k_read: Vec<f32>,
    /// Keys times `exp(G_last - G)`: what is left of them at the chunk's end.
    k_write: Vec<f32>,
    beta: Vec<f32>,
    /// `G`
    logs: Vec<f64>,
    /// `exp(G_last)`
    kept: Vec<f32>,
    /// `-M`, rows of `CHUNK`.
    m: Vec<f32>,
    /// `P`, rows of `CHUNK`.
    p: Vec<f32>,
    /// Right side of the system, then its solution `U`.
    u: Vec<f32>,
    /// `[key_dim, value_dim]`
    state: Vec<f32>,
    pairs: pairs::Scratch,
}

impl Scratch {
    fn new(request: &DeltaRequest<'_, Vec<f32>>) -> Self {
        let (key_dim, value_dim) = (request.key_dim, request.value_dim);
        let channels = if request.per_channel { key_dim } else { 1 };
        let keys = || vec![0.0; CHUNK * key_dim];
        Self {
            key_dim,
            value_dim,
            channels,
            q: keys(),
            k: keys(),
            q_read: keys(),
            k_read: keys(),
            k_write: keys(),
            beta: vec![0.0; CHUNK],
            logs: vec![0.0; CHUNK * channels],
            kept: vec![0.0; channels],
            m: vec![0.0; CHUNK * CHUNK],
            p: vec![0.0; CHUNK * CHUNK],
            u: vec![0.0; CHUNK * value_dim],
            state: vec![0.0; key_dim * value_dim],
            pairs: pairs::Scratch::new(channels, key_dim),
        }
    }

    /// The outputs of a head over a sequence, `[tokens, value_dim]`.
    fn head(&mut self, inputs: &Inputs<'_>, rows: &Rows, head: usize) -> Vec<f32> {
        let width = self.value_dim;
        let mut out = vec![0.0; rows.len() * width];
        self.state.fill(0.0);
        for (index, out) in out.chunks_mut(CHUNK * width).enumerate() {
            // What is made then is nobody's: the caller checks.
            if interrupt::requested() {
                break;
            }
            let start = rows.start + index * CHUNK;
            let tokens = start..start + out.len() / width;
            self.read(inputs, tokens.clone(), head);
            self.scale(tokens.len());
            self.pairs.fill(
                [&mut self.m, &mut self.p],
                [&self.q, &self.k],
                &self.logs[..tokens.len() * self.channels],
                &self.beta,
            );
            self.right_side(inputs.v, tokens.clone(), head);
            self.solve(tokens.len());
            self.write(tokens.len(), out);
        }
        out
    }

    /// Normalises queries and keys, and makes decays and betas.
    fn read(&mut self, inputs: &Inputs<'_>, tokens: Range<usize>, head: usize) {
        let request = inputs.request;
        let (width, channels) = (self.key_dim, self.channels);
        let key_head = head / (request.heads / request.key_heads);
        let keys = key_head * width..(key_head + 1) * width;
        let decays = head * channels..(head + 1) * channels;
        let rate = math::exp(request.a_log[head]);
        let bias = &request.dt_bias[decays.clone()];
        let scale = 1.0 / (width as f32).sqrt();
        let mut sums = vec![0f64; channels];
        vectorise(
            #[inline(always)]
            || {
                let tokens = tokens.clone().enumerate();
                for (index, row) in tokens {
                    let at = index * width..(index + 1) * width;
                    normalise(
                        &inputs.q.row(row)[keys.clone()],
                        scale,
                        &mut self.q[at.clone()],
                    );
                    normalise(&inputs.k.row(row)[keys.clone()], 1.0, &mut self.k[at]);
                    self.beta[index] =
                        request.beta_scale * math::sigmoid(inputs.beta.row(row)[head]);
                    let logs = &mut self.logs[index * channels..(index + 1) * channels];
                    let raw = &inputs.decay.row(row)[decays.clone()];
                    for (((log, sum), raw), bias) in
                        logs.iter_mut().zip(&mut sums).zip(raw).zip(bias)
                    {
                        *sum -= f64::from(rate * math::softplus(raw + bias));
                        *log = *sum;
                    }
                }
            },
        );
    }

    /// Queries and keys with what the decays leave of them.
    fn scale(&mut self, tokens: usize) {
        let (width, channels) = (self.key_dim, self.channels);
        vectorise(
            #[inline(always)]
            || {
                let last = &self.logs[(tokens - 1) * channels..tokens * channels];
                for (kept, log) in self.kept.iter_mut().zip(last) {
                    *kept = math::exp(*log as f32);
                }
                for index in 0..tokens {
                    let at = index * width..(index + 1) * width;
                    let logs = &self.logs[index * channels..(index + 1) * channels];
                    let read = [&mut self.q_read[at.clone()], &mut self.k_read[at.clone()]];
                    let from = [&self.q[at.clone()], &self.k[at.clone()]];
                    for (out, x) in read.into_iter().zip(from) {
                        decayed(x, logs, None, out);
                    }
                    decayed(&self.k[at.clone()], logs, Some(last), &mut self.k_write[at]);
                }
            },
        );
    }

    /// `beta (V - (K exp(G)) S)`
    fn right_side(&mut self, v: &Tensor, tokens: Range<usize>, head: usize) {
        let width = self.value_dim;
        let shape = Shape {
            m: tokens.len(),
            n: width,
            k: self.key_dim,
        };
        let left = rows_of(&self.k_read, self.key_dim);
        gemm::multiply(
            shape,
            output(&mut self.u, width, false),
            left,
            rows_of(&self.state, width),
        );
        let values = head * width..(head + 1) * width;
        vectorise(
            #[inline(always)]
            || {
                let u = self.u.chunks_exact_mut(width);
                for ((u, beta), row) in u.zip(&self.beta).zip(tokens.clone()) {
                    for (u, v) in u.iter_mut().zip(&v.row(row)[values.clone()]) {
                        *u = beta * (v - *u);
                    }
                }
            },
        );
    }

    /// `U`, a block of tokens after the other.
    fn solve(&mut self, tokens: usize) {
        let width = self.value_dim;
        for first in (0..tokens).step_by(BLOCK) {
            let end = (first + BLOCK).min(tokens);
            let (done, rest) = self.u.split_at_mut(first * width);
            let m = &self.m[first * CHUNK..];
            if first > 0 {
                let shape = Shape {
                    m: end - first,
                    n: width,
                    k: first,
                };
                let left = rows_of(m, CHUNK);
                gemm::multiply(shape, output(rest, width, true), left, rows_of(done, width));
            }
            vectorise(
                #[inline(always)]
                || {
                    for (index, m) in m.chunks(CHUNK).enumerate().take(end - first) {
                        let (before, own) = rest.split_at_mut(index * width);
                        let before = before.chunks_exact(width);
                        for (before, m) in before.zip(&m[first..]) {
                            for (own, before) in own[..width].iter_mut().zip(before) {
                                *own += m * before;
                            }
                        }
                    }
                },
            );
        }
    }

    /// The outputs of a chunk's tokens, and the state behind it.
    fn write(&mut self, tokens: usize, out: &mut [f32]) {
        let (keys, width) = (self.key_dim, self.value_dim);
        let shape = |m, k| Shape { m, n: width, k };
        let (u, state) = (rows_of(&self.u, width), rows_of(&self.state, width));
        let read = rows_of(&self.q_read, keys);
        gemm::multiply(shape(tokens, keys), output(out, width, false), read, state);
        let p = rows_of(&self.p, CHUNK);
        gemm::multiply(shape(tokens, tokens), output(out, width, true), p, u);
        let channels = self.channels;
        vectorise(
            #[inline(always)]
            || {
                for (index, state) in self.state.chunks_exact_mut(width).enumerate() {
                    let kept = self.kept[index % channels];
                    for state in state {
                        *state *= kept;
                    }
                }
            },
        );
        let written = Operand {
            values: &self.k_write,
            row_stride: 1,
            column_stride: keys,
        };
        let state = output(&mut self.state, width, true);
        gemm::multiply(shape(keys, tokens), state, written, u);
    }
}

/// `x / sqrt(sum x^2 + epsilon) * scale`
#[inline(always)]
fn normalise(x: &[f32], scale: f32, out: &mut [f32]) {
    let factor = scale / (math::sum_of_squares(x, 0.0) + L2_EPSILON).sqrt();
    for (out, x) in out.iter_mut().zip(x) {
        *out = x * factor;
    }
}

/// `x exp(log)`, or `x exp(last - log)`; one logarithm for all or one a channel.
#[inline(always)]
fn decayed(x: &[f32], logs: &[f64], last: Option<&[f64]>, out: &mut [f32]) {
    match (logs, last) {
        (&[log], last) => {
            let factor = math::exp(last.map_or(log, |last| last[0] - log) as f32);
            for (out, x) in out.iter_mut().zip(x) {
                *out = x * factor;
            }
        }
        (logs, None) => {
            for ((out, x), log) in out.iter_mut().zip(x).zip(logs) {
                *out = x * math::exp(*log as f32);
            }
        }
        (logs, Some(last)) => {
            for (((out, x), log), last) in out.iter_mut().zip(x).zip(logs).zip(last) {
                *out = x * math::exp((last - log) as f32);
            }
        }
    }
}

/// Rows of so many values.
fn rows_of(values: &[f32], width: usize) -> Operand<'_> {
    Operand {
        values,
        row_stride: width,
        column_stride: 1,
    }
}

fn output(values: &mut [f32], row_stride: usize, accumulate: bool) -> Output<'_> {
    Output {
        values,
        row_stride,
        accumulate,
    }
}
