//! Mamba's selective scan: every channel has a state with decays of its own, so that there is nothing to
//! share between channels, and tokens follow each other. Channels are neighbours in memory and in the
//! processor's lanes.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::columns::by_columns;
use crate::{
    backend::{
        Rows, SelectiveScanRequest,
        cpu::{Tensor, math, simd::vectorise},
    },
    interrupt,
};

/// Channels of a task: with 16 numbers of each, decays and states stay in the first-level cache.
const CHANNELS: usize = 64;
/// Tokens between two looks for an interrupt.
const TOKENS: usize = 256;

/// What a scan reads.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) x: &'a Tensor,
    pub(super) dt: &'a Tensor,
    pub(super) b: &'a Tensor,
    pub(super) c: &'a Tensor,
}

type Request<'a> = SelectiveScanRequest<'a, Vec<f32>>;

/// All sequences and channels.
pub(super) fn run(input: &Input<'_>, sequences: &[Rows], request: &Request<'_>, out: &mut Tensor) {
    let inner = out.columns;
    let parts: Vec<Range<usize>> = (0..inner)
        .step_by(CHANNELS)
        .map(|first| first..(first + CHANNELS).min(inner))
        .collect();
    by_columns(out, sequences, &parts, |rows, part| {
        scan(input, request, &parts[part], rows)
    });
}

/// Some channels over one sequence, `[rows, channels]`.
fn scan(
    input: &Input<'_>,
    request: &Request<'_>,
    channels: &Range<usize>,
    rows: &Rows,
) -> Vec<f32> {
    let width = channels.len();
    // A row of channels for each number of the state.
    let rates: Vec<f32> = (0..request.state)
        .flat_map(|index| {
            let of = move |channel: usize| -request.a_log[channel * request.state + index].exp();
            channels.clone().map(of)
        })
        .collect();
    let mut state = vec![0.0; request.state * width];
    let mut y = vec![0.0; rows.len() * width];
    let of = |x: &'_ [f32]| x[channels.clone()].to_vec();
    let (bias, d) = (of(request.dt_bias), of(request.d));
    let (mut dt, mut step) = (vec![0.0; width], vec![0.0; width]);
    for (index, y) in y.chunks_mut(TOKENS * width).enumerate() {
        if interrupt::requested() {
            break;
        }
        vectorise(
            #[inline(always)]
            || {
                for (token, y) in y.chunks_exact_mut(width).enumerate() {
                    let row = rows.start + index * TOKENS + token;
                    let x = &input.x.row(row)[channels.clone()];
                    let raw = &input.dt.row(row)[channels.clone()];
                    begin(x, raw, &bias, &d, &mut dt, &mut step, y);
                    let (b, c) = (input.b.row(row), input.c.row(row));
                    let states = state.chunks_exact_mut(width);
                    let numbers = states.zip(rates.chunks_exact(width)).zip(b).zip(c);
                    for (((state, rates), b), c) in numbers {
                        advance(state, rates, &dt, &step, *b, *c, y);
                    }
                }
            },
        );
    }
    y
}

/// Step sizes, what they take from `x`, and what passes by the state.
#[inline(always)]
fn begin(
    x: &[f32],
    raw: &[f32],
    bias: &[f32],
    d: &[f32],
    dt: &mut [f32],
    step: &mut [f32],
    y: &mut [f32],
) {
    let steps = dt.iter_mut().zip(step).zip(y);
    for ((((((dt, step), y), x), raw), bias), d) in steps.zip(x).zip(raw).zip(bias).zip(d) {
        *dt = math::softplus(raw + bias);
        *step = *dt * x;
        *y = d * x;
    }
}

/// One number of each channel's state, a token further.
#[inline(always)]
fn advance(
    state: &mut [f32],
    rates: &[f32],
    dt: &[f32],
    step: &[f32],
    b: f32,
    c: f32,
    y: &mut [f32],
) {
    let channels = state.iter_mut().zip(rates).zip(dt).zip(step).zip(y);
    for ((((state, rate), dt), step), y) in channels {
        *state = *state * math::exp(rate * dt) + step * b;
        *y += *state * c;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Recurrences, Tensors, cpu::Cpu};

    /// The definition in double precision.
    fn definition(input: &Input<'_>, sequences: &[Rows], request: &Request<'_>) -> Vec<f64> {
        let inner = input.x.columns;
        let mut y = vec![0.0; input.x.values().len()];
        for rows in sequences {
            for channel in 0..inner {
                let mut state = vec![0f64; request.state];
                for row in rows.clone() {
                    let raw = f64::from(input.dt.row(row)[channel] + request.dt_bias[channel]);
                    let dt = if raw > 30.0 { raw } else { raw.exp().ln_1p() };
                    let x = f64::from(input.x.row(row)[channel]);
                    let mut sum = f64::from(request.d[channel]) * x;
                    for (index, state) in state.iter_mut().enumerate() {
                        let a_log = request.a_log[channel * request.state + index];
                        let decay = (-f64::from(a_log).exp() * dt).exp();
                        *state = *state * decay + dt * x * f64::from(input.b.row(row)[index]);
                        sum += *state * f64::from(input.c.row(row)[index]);
                    }
                    y[row * inner + channel] = sum;
                }
            }
        }
        y
    }

    fn noise(count: usize, seed: usize, scale: f32) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
        (0..count).map(|i| value(i) * scale).collect()
    }

    fn check(lengths: &[usize], inner: usize, state: usize, dt_scale: f32, dt_bias: f32) {
        let cpu = Cpu::new();
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
        let x = tensor(inner, 1, 3.0);
        let dt = tensor(inner, 2, dt_scale);
        let b = tensor(state, 3, 1.0);
        let c = tensor(state, 4, 1.0);
        let dt_bias: Vec<f32> = noise(inner, 5, 1.0).iter().map(|v| v + dt_bias).collect();
        let request = Request {
            state,
            a_log: &noise(inner * state, 6, 3.0),
            dt_bias: &dt_bias,
            d: &noise(inner, 7, 2.0),
        };
        let input = Input {
            x: &x,
            dt: &dt,
            b: &b,
            c: &c,
        };
        let truth = definition(&input, &sequences, &request);
        let found = cpu.selective_scan(&x, &dt, &b, &c, &sequences, &request);
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
    fn scans_follow_the_definition() {
        check(&[1], 1, 1, 1.0, 0.0);
        check(&[300, 1, 257], 70, 16, 1.0, -3.0);
        check(&[50], 5, 3, 100.0, 0.0);
        check(&[50], 5, 3, 1.0, -30.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_sizes(
            lengths in prop::collection::vec(1usize..100, 1..4),
            inner in 1usize..140,
            state in 1usize..20,
            dt_bias in -8f32..3.0,
        ) {
            check(&lengths, inner, state, 2.0, dt_bias);
        }
    }
}
