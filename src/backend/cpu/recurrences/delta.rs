//! The gated delta rule.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use crate::backend::{
    DeltaRequest, Rows,
    cpu::{Tensor, math, simd::vectorise},
};

/// Added to the sum of squares of a query or key.
const L2_EPSILON: f32 = 1e-6;

/// Token after token.
pub(super) fn run(
    out: &mut Tensor,
    [q, k, v, decay, beta]: [&Tensor; 5],
    sequences: &[Rows],
    request: &DeltaRequest<'_, Vec<f32>>,
) {
    let (heads, dk, dv) = (request.heads, request.key_dim, request.value_dim);
    let tasks = sequences.len() * heads;
    let results: Vec<Vec<f32>> = (0..tasks)
        .into_par_iter()
        .map(|task| {
            let (rows, head) = (&sequences[task / heads], task % heads);
            let key_head = head / (heads / request.key_heads);
            let rate = math::exp(request.a_log[head]);
            let channels = if request.per_channel { dk } else { 1 };
            let mut state = vec![0.0; dk * dv];
            let mut read = vec![0.0; dv];
            let mut made = vec![0.0; rows.len() * dv];
            let mut factors = vec![0.0; dk];
            vectorise(
                #[inline(always)]
                || {
                    for (row, out) in rows.clone().zip(made.chunks_exact_mut(dv)) {
                        let keys = key_head * dk..(key_head + 1) * dk;
                        let (q, k) = (&q.row(row)[keys.clone()], &k.row(row)[keys]);
                        let (q_norm, k_norm) = (length(q), length(k));
                        let first = head * channels;
                        for (channel, factor) in factors.iter_mut().enumerate() {
                            let at = first + channel % channels;
                            let step = softplus(decay.row(row)[at] + request.dt_bias[at]);
                            *factor = math::exp(-rate * step);
                        }
                        let beta = request.beta_scale * math::sigmoid(beta.row(row)[head]);
                        read.fill(0.0);
                        for ((state, k), factor) in state.chunks_exact_mut(dv).zip(k).zip(&factors)
                        {
                            for (state, read) in state.iter_mut().zip(&mut read) {
                                *state *= factor;
                                *read += *state * (k / k_norm);
                            }
                        }
                        let v = &v.row(row)[head * dv..(head + 1) * dv];
                        for (read, v) in read.iter_mut().zip(v) {
                            *read = beta * (v - *read);
                        }
                        out.fill(0.0);
                        let q_norm = q_norm * (dk as f32).sqrt();
                        for ((state, k), q) in state.chunks_exact_mut(dv).zip(k).zip(q) {
                            for ((state, delta), out) in
                                state.iter_mut().zip(&read).zip(out.iter_mut())
                            {
                                *state += (k / k_norm) * delta;
                                *out += *state * (q / q_norm);
                            }
                        }
                    }
                },
            );
            made
        })
        .collect();
    for (task, made) in results.iter().enumerate() {
        let (rows, head) = (&sequences[task / heads], task % heads);
        for (row, made) in rows.clone().zip(made.chunks_exact(dv)) {
            let start = row * heads * dv + head * dv;
            out.values[start..start + dv].copy_from_slice(made);
        }
    }
}

#[inline(always)]
fn length(x: &[f32]) -> f32 {
    (math::sum_of_squares(x, 0.0) + L2_EPSILON).sqrt()
}

/// `ln(1 + exp(x))`
#[inline(always)]
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
