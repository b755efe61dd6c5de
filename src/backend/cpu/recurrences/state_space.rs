//! Mamba-2's state space layer in chunks (the SSD algorithm, Dao & Gu 2024, section 6): within a chunk
//! tokens see each other through a small matrix, as in attention; what they see of earlier chunks is in
//! the state. All is matrix products, and their number is linear in the tokens.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::columns::by_columns;
use crate::{
    backend::{
        Rows, StateSpaceRequest,
        cpu::{
            Tensor,
            gemm::{self, Operand, Output, Shape},
            math,
            simd::vectorise,
        },
    },
    interrupt,
};

/// Tokens of a chunk: more would make the small matrices costlier, fewer the visits of the state.
const CHUNK: usize = 64;
/// Columns that a task takes at most, if a head is not wider: heads of one group, which share the
/// products of `c` and `b`, and whose states together stay in the second-level cache.
const COLUMNS: usize = 512;

/// What a layer reads.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) x: &'a Tensor,
    pub(super) b: &'a Tensor,
    pub(super) c: &'a Tensor,
    pub(super) dt: &'a Tensor,
}

type Request<'a> = StateSpaceRequest<'a, Vec<f32>>;

/// All sequences and heads.
pub(super) fn run(input: &Input<'_>, sequences: &[Rows], request: &Request<'_>, out: &mut Tensor) {
    let share = request.heads / request.groups;
    let most = (COLUMNS / request.head_dim).clamp(1, share);
    // Blocks of about equal size.
    let size = share.div_ceil(share.div_ceil(most));
    let blocks: Vec<Range<usize>> = (0..request.groups)
        .flat_map(|group| {
            let (start, end) = (group * share, (group + 1) * share);
            (start..end)
                .step_by(size)
                .map(move |first| first..(first + size).min(end))
        })
        .collect();
    let width = request.head_dim;
    let parts: Vec<Range<usize>> = blocks
        .iter()
        .map(|heads| heads.start * width..heads.end * width)
        .collect();
    by_columns(out, sequences, &parts, |rows, part| {
        Scan::new(input, request, blocks[part].clone()).run(rows)
    });
}

/// Some heads of one group over one sequence.
struct Scan<'a> {
    input: &'a Input<'a>,
    request: &'a Request<'a>,
    heads: Range<usize>,
    /// Columns of the heads together.
    width: usize,
    /// First column of the group's `b` and `c`.
    group: usize,
    /// `[state, width]`
    state: Vec<f32>,
    /// Products of a chunk's `c` and `b`.
    products: Vec<f32>,
    /// The same, decayed, of one head.
    weights: Vec<f32>,
    /// `dt x`, `[chunk, width]`
    steps: Vec<f32>,
}

/// What a chunk does with one head's state.
struct Decay {
    /// Of each token: its `dt`.
    dt: [f32; CHUNK],
    /// Of each token: the factor from the token before.
    step: [f32; CHUNK],
    /// Of each token: the factor from before the chunk.
    so_far: [f32; CHUNK],
    /// Of each token: the factor to the chunk's last.
    to_last: [f32; CHUNK],
}

impl<'a> Scan<'a> {
    fn new(input: &'a Input<'a>, request: &'a Request<'a>, heads: Range<usize>) -> Self {
        let width = heads.len() * request.head_dim;
        Self {
            group: heads.start / (request.heads / request.groups) * request.state,
            heads,
            width,
            state: vec![0.0; request.state * width],
            products: vec![0.0; CHUNK * CHUNK],
            weights: vec![0.0; CHUNK * CHUNK],
            steps: vec![0.0; CHUNK * width],
            input,
            request,
        }
    }

    /// `y` of these rows, `[rows, width]`.
    fn run(mut self, rows: &Rows) -> Vec<f32> {
        let mut y = vec![0.0; rows.len() * self.width];
        let chunks = y.chunks_mut(CHUNK * self.width).enumerate();
        for (index, y) in chunks {
            if interrupt::requested() {
                break;
            }
            self.chunk(rows.start + index * CHUNK, y);
        }
        y
    }

    /// The tokens from row `first` on that `y` has room for.
    fn chunk(&mut self, first: usize, y: &mut [f32]) {
        let (width, state, head_dim) = (self.width, self.request.state, self.request.head_dim);
        let length = y.len() / width;
        let c = self.rows(self.input.c, first);
        let b = self.rows(self.input.b, first);
        let transposed = Operand {
            row_stride: 1,
            column_stride: b.row_stride,
            ..b
        };
        product(
            (length, length, state),
            &mut self.products,
            CHUNK,
            false,
            c,
            transposed,
        );
        product(
            (length, width, state),
            y,
            width,
            false,
            c,
            whole(&self.state, width),
        );
        for (index, head) in self.heads.clone().enumerate() {
            let decay = self.decay(head, first, length);
            let column = index * head_dim;
            decay.weigh(&self.products, &mut self.weights, length);
            self.begin(head, column, first, &decay, y);
            let steps = whole(&self.steps[column..], width);
            let weights = whole(&self.weights, CHUNK);
            product(
                (length, head_dim, length),
                &mut y[column..],
                width,
                true,
                weights,
                steps,
            );
            self.end(column, length, &decay);
        }
        let steps = whole(&self.steps, width);
        product(
            (state, width, length),
            &mut self.state,
            width,
            true,
            transposed,
            steps,
        );
    }

    /// What a head's tokens see of earlier chunks, what passes by the state, and `dt x`.
    fn begin(&mut self, head: usize, column: usize, first: usize, decay: &Decay, y: &mut [f32]) {
        let (width, head_dim) = (self.width, self.request.head_dim);
        let (x, d) = (self.input.x, self.request.d[head]);
        let steps = &mut self.steps;
        vectorise(
            #[inline(always)]
            || {
                let rows = y.chunks_exact_mut(width).zip(steps.chunks_exact_mut(width));
                for (token, (y, steps)) in rows.enumerate() {
                    let x = &x.row(first + token)[head * head_dim..][..head_dim];
                    let y = &mut y[column..column + head_dim];
                    let steps = &mut steps[column..column + head_dim];
                    let (dt, so_far) = (decay.dt[token], decay.so_far[token]);
                    for ((y, step), x) in y.iter_mut().zip(steps).zip(x) {
                        *y = *y * so_far + d * x;
                        *step = dt * x;
                    }
                }
            },
        );
    }

    /// Decays a head's tokens and state to the end of the chunk.
    fn end(&mut self, column: usize, length: usize, decay: &Decay) {
        let (width, head_dim) = (self.width, self.request.head_dim);
        let (steps, state) = (&mut self.steps, &mut self.state);
        vectorise(
            #[inline(always)]
            || {
                let rows = steps.chunks_exact_mut(width).zip(&decay.to_last);
                for (steps, to_last) in rows.take(length) {
                    for step in &mut steps[column..column + head_dim] {
                        *step *= to_last;
                    }
                }
                let kept = decay.so_far[length - 1];
                for row in state.chunks_exact_mut(width) {
                    for value in &mut row[column..column + head_dim] {
                        *value *= kept;
                    }
                }
            },
        );
    }

    /// The group's part of `b` or `c` from a row on.
    fn rows(&self, x: &'a Tensor, first: usize) -> Operand<'a> {
        whole(&x.values()[first * x.columns + self.group..], x.columns)
    }

    fn decay(&self, head: usize, first: usize, length: usize) -> Decay {
        let request = self.request;
        let rate = request.a_log[head].exp();
        let (low, high) = request.dt_limits;
        let mut decay = Decay {
            dt: [0.0; CHUNK],
            step: [1.0; CHUNK],
            so_far: [1.0; CHUNK],
            to_last: [1.0; CHUNK],
        };
        let mut so_far = 1.0;
        for token in 0..length {
            let raw = self.input.dt.row(first + token)[head];
            let dt = math::clamp(math::softplus(raw + request.dt_bias[head]), low, high);
            let step = math::exp(-rate * dt);
            so_far *= step;
            decay.dt[token] = dt;
            decay.step[token] = step;
            decay.so_far[token] = so_far;
        }
        for token in (1..length).rev() {
            decay.to_last[token - 1] = decay.to_last[token] * decay.step[token];
        }
        decay
    }
}

/// Rows of values, `row_stride` apart.
fn whole(values: &[f32], row_stride: usize) -> Operand<'_> {
    Operand {
        values,
        row_stride,
        column_stride: 1,
    }
}

/// `[m, k] x [k, n]` into `values`, or onto them.
fn product(
    (m, n, k): (usize, usize, usize),
    values: &mut [f32],
    row_stride: usize,
    accumulate: bool,
    left: Operand<'_>,
    right: Operand<'_>,
) {
    let out = Output {
        values,
        row_stride,
        accumulate,
    };
    gemm::multiply(Shape { m, n, k }, out, left, right);
}

impl Decay {
    /// `weights[l, s] = products[l, s]` times the decay from token `s` to token `l`; later tokens have
    /// no weight.
    fn weigh(&self, products: &[f32], weights: &mut [f32], length: usize) {
        let mut row = [0f32; CHUNK];
        vectorise(
            #[inline(always)]
            || {
                for token in 0..length {
                    let step = self.step[token];
                    // Products of neighbours' factors: no difference of large exponents loses digits.
                    for factor in &mut row {
                        *factor *= step;
                    }
                    row[token] = 1.0;
                    let at = token * CHUNK;
                    let products = &products[at..at + CHUNK];
                    let weights = &mut weights[at..at + CHUNK];
                    for ((weight, product), factor) in weights.iter_mut().zip(products).zip(&row) {
                        *weight = product * factor;
                    }
                    // Not 0 times whatever is there.
                    weights[token + 1..].fill(0.0);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Recurrences, Tensors, cpu::Cpu};

    /// The definition, a token at a time in double precision.
    fn definition(input: &Input<'_>, sequences: &[Rows], request: &Request<'_>) -> Vec<f64> {
        let (width, state) = (request.head_dim, request.state);
        let mut y = vec![0.0; input.x.values().len()];
        for rows in sequences {
            for head in 0..request.heads {
                let group = head / (request.heads / request.groups) * state;
                let (rate, d) = (f64::from(request.a_log[head]).exp(), request.d[head]);
                let mut kept = vec![0f64; width * state];
                for row in rows.clone() {
                    let raw = f64::from(input.dt.row(row)[head] + request.dt_bias[head]);
                    let dt = if raw > 30.0 { raw } else { raw.exp().ln_1p() };
                    let (low, high) = request.dt_limits;
                    let dt = dt.clamp(f64::from(low), f64::from(high));
                    for value in 0..width {
                        let x = f64::from(input.x.row(row)[head * width + value]);
                        let mut sum = f64::from(d) * x;
                        for index in 0..state {
                            let b = f64::from(input.b.row(row)[group + index]);
                            let kept = &mut kept[value * state + index];
                            *kept = *kept * (-rate * dt).exp() + dt * x * b;
                            sum += *kept * f64::from(input.c.row(row)[group + index]);
                        }
                        y[row * input.x.columns + head * width + value] = sum;
                    }
                }
            }
        }
        y
    }

    fn noise(count: usize, seed: usize, scale: f32) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
        (0..count).map(|i| value(i) * scale).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "a test's sizes")]
    fn check(
        lengths: &[usize],
        groups: usize,
        share: usize,
        head_dim: usize,
        state: usize,
        dt_scale: f32,
        dt_bias: f32,
        dt_limits: (f32, f32),
    ) {
        let cpu = Cpu::new();
        let heads = groups * share;
        let mut start = 0;
        let sequences: Vec<Rows> = lengths
            .iter()
            .map(|length| {
                start += length;
                start - length..start
            })
            .collect();
        let tensor = |columns: usize, seed, scale| {
            let values = noise(start * columns, seed, scale);
            cpu.upload(start, columns, values).expect("memory")
        };
        let x = tensor(heads * head_dim, 1, 3.0);
        let b = tensor(groups * state, 2, 1.0);
        let c = tensor(groups * state, 3, 1.0);
        let dt = tensor(heads, 4, dt_scale);
        let dt_bias: Vec<f32> = noise(heads, 5, 1.0).iter().map(|v| v + dt_bias).collect();
        let request = Request {
            heads,
            head_dim,
            groups,
            state,
            a_log: &noise(heads, 6, 3.0),
            dt_bias: &dt_bias,
            d: &noise(heads, 7, 2.0),
            dt_limits,
        };
        let truth = definition(
            &Input {
                x: &x,
                b: &b,
                c: &c,
                dt: &dt,
            },
            &sequences,
            &request,
        );
        let found = cpu.state_space(&x, &b, &c, &dt, &sequences, &request);
        let found = found.expect("no interrupt");
        let scale = truth.iter().fold(0f64, |most, value| most.max(value.abs()));
        for (index, (found, truth)) in found.values().iter().zip(&truth).enumerate() {
            let error = (f64::from(*found) - truth).abs();
            assert!(
                error <= 2e-5 * truth.abs() + 3e-6 * scale,
                "{index}: {found}, not {truth} (scale {scale})"
            );
        }
    }

    #[test]
    fn chunks_make_the_recurrence() {
        let free = (0.0, f32::INFINITY);
        check(&[1], 1, 1, 1, 1, 1.0, 0.0, free);
        check(&[64, 1, 65], 2, 3, 5, 7, 1.0, -2.0, free);
        check(&[200], 1, 24, 64, 16, 1.0, -4.0, (0.01, 0.1));
        // Decays that leave nothing, and such that lose nothing.
        check(&[130], 1, 3, 8, 20, 100.0, 0.0, free);
        check(&[130], 1, 3, 8, 20, 1.0, -30.0, free);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_sizes(
            lengths in prop::collection::vec(1usize..150, 1..4),
            groups in 1usize..4,
            share in 1usize..8,
            head_dim in 1usize..20,
            state in 1usize..33,
            dt_bias in -8f32..3.0,
        ) {
            check(&lengths, groups, share, head_dim, state, 2.0, dt_bias, (0.0, f32::INFINITY));
        }
    }
}
