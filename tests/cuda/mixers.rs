//! What stands in a layer beside attention or in its place, against the CPU's.

use massact::{
    Result,
    backend::{
        Convolutions, DeltaRequest, Filter, Recurrences, Rows, SelectiveScanRequest,
        StateSpaceRequest, Tensors, cpu::Cpu, cuda::Cuda,
    },
    model::{dtype::DType, spec::Activation},
};
use massact_emulator::{Emulator, Order};

use crate::{
    bench::{DTYPES, backends, near, noise, rounded, rounding},
    operations::agree,
};

#[test]
fn convolutions() {
    for dtype in DTYPES {
        // One tap, more taps than tokens, the widths that models have on whole vectors, several blocks.
        for (channels, width, bias, activation) in [
            (1, 1, false, None),
            (13, 7, true, None),
            (16, 5, true, None),
            (24, 3, false, None),
            (1200, 4, true, Some(Activation::Silu)),
        ] {
            agree!(format!("{channels} channels, {width} taps"), dtype, 1.0, b => {
                let filter = Filter {
                    width,
                    weight: learned(b, channels * width, 2, 0.0)?,
                    bias: bias.then(|| learned(b, channels, 3, 0.0)).transpose()?,
                    activation,
                };
                let x = inputs(b, channels, 1, 1.0, dtype)?;
                b.download(&b.convolve(&x, &LONG, &filter)?)
            });
        }
    }
}

/// Tokens that are not a whole tile, several tiles, one token; not in the order of their lengths.
const SEQUENCES: [Rows; 3] = [0..1, 1..54, 54..71];
const ROWS: usize = 71;

/// More than one tile of a convolution, and less than its taps.
const LONG: [Rows; 2] = [0..2, 2..71];

/// A tensor of noise times a factor.
fn inputs<B: Tensors>(
    b: &B,
    columns: usize,
    seed: u32,
    factor: f32,
    dtype: DType,
) -> Result<B::Tensor> {
    let values = noise(ROWS * columns, seed, dtype).into_iter();
    let values = values.map(|x| rounded(factor * x, dtype)).collect();
    b.upload(ROWS, columns, values)
}

/// Learned values in float32: noise about `offset`.
fn learned<B: Tensors>(b: &B, count: usize, seed: u32, offset: f32) -> Result<B::Vector> {
    let values = noise(count, seed, DType::Float32).into_iter();
    b.vector(values.map(|x| x + offset).collect())
}

#[test]
fn delta_rules() {
    // Key heads, heads, their widths; how strong decays are.
    let shapes = [
        (1, 1, 1, 1, 0.0),
        (1, 3, 20, 12, -6.0),
        (2, 2, 33, 33, 0.0),
        (1, 2, 96, 64, 3.0),
        (1, 1, 130, 40, -1.0),
    ];
    for dtype in DTYPES {
        for (key_heads, heads, key_dim, value_dim, strength) in shapes {
            for per_channel in [false, true] {
                let what = format!("states of {key_dim} x {value_dim}, channels {per_channel}");
                // A query's length, and so the size of what is read with it.
                let scale = 1.0 / (key_dim as f32).sqrt();
                agree!(what, dtype, scale, b => {
                    let decays = if per_channel { heads * key_dim } else { heads };
                    let request = DeltaRequest {
                        key_heads,
                        heads,
                        key_dim,
                        value_dim,
                        a_log: &learned(b, heads, 6, strength)?,
                        dt_bias: &learned(b, decays, 7, 0.0)?,
                        per_channel,
                        beta_scale: if heads > 1 { 2.0 } else { 1.0 },
                    };
                    let q = inputs(b, key_heads * key_dim, 1, 2.0, dtype)?;
                    let k = inputs(b, key_heads * key_dim, 2, 2.0, dtype)?;
                    let v = inputs(b, heads * value_dim, 3, 1.0, dtype)?;
                    let decay = inputs(b, decays, 4, 4.0, dtype)?;
                    let beta = inputs(b, heads, 5, 4.0, dtype)?;
                    b.download(&b.delta_rule(&q, &k, &v, &decay, &beta, &SEQUENCES, &request)?)
                });
            }
        }
    }
}

#[test]
fn state_spaces() {
    // Heads, their width, groups, numbers of a state, how strong decays are.
    let shapes = [
        (1, 1, 1, 1, 0.0),
        (4, 12, 2, 20, -4.0),
        (2, 37, 1, 64, 2.0),
        (2, 64, 2, 128, -1.0),
        (1, 33, 1, 256, 0.0),
    ];
    for dtype in DTYPES {
        for (heads, head_dim, groups, state, strength) in shapes {
            let scale = (state as f32).sqrt();
            agree!(format!("states of {head_dim} x {state}"), dtype, scale, b => {
                let request = StateSpaceRequest {
                    heads,
                    head_dim,
                    groups,
                    state,
                    a_log: &learned(b, heads, 5, strength)?,
                    dt_bias: &learned(b, heads, 6, -1.0)?,
                    d: &learned(b, heads, 7, 0.0)?,
                    dt_limits: if heads > 1 { (0.01, 0.5) } else { (0.0, f32::INFINITY) },
                };
                let x = inputs(b, heads * head_dim, 1, 1.0, dtype)?;
                let keys = inputs(b, groups * state, 2, 1.0, dtype)?;
                let queries = inputs(b, groups * state, 3, 1.0, dtype)?;
                let dt = inputs(b, heads, 4, 4.0, dtype)?;
                b.download(&b.state_space(&x, &keys, &queries, &dt, &SEQUENCES, &request)?)
            });
        }
    }
}

#[test]
fn selective_scans() {
    for dtype in DTYPES {
        // Channels that fill no block, states of one number, of both kernels.
        for (inner, state, strength) in [(1, 1, 0.0), (70, 16, -3.0), (17, 5, 2.0), (33, 21, 0.0)] {
            let scale = (state as f32).sqrt();
            agree!(format!("{inner} states of {state}"), dtype, scale, b => {
                let request = SelectiveScanRequest {
                    state,
                    a_log: &learned(b, inner * state, 5, strength)?,
                    dt_bias: &learned(b, inner, 6, -1.0)?,
                    d: &learned(b, inner, 7, 0.0)?,
                };
                let x = inputs(b, inner, 1, 1.0, dtype)?;
                let dt = inputs(b, inner, 2, 4.0, dtype)?;
                let (input, output) = (inputs(b, state, 3, 1.0, dtype)?, inputs(b, state, 4, 1.0, dtype)?);
                b.download(&b.selective_scan(&x, &dt, &input, &output, &SEQUENCES, &request)?)
            });
        }
    }
}

#[test]
fn states_longer_than_any_kernel_holds_are_refused() {
    let cuda = Cuda::new(Emulator::new(Order::Forward), DType::Float32);
    let compute = |state: usize| -> Result<Vec<f32>> {
        let dtype = DType::Float32;
        let request = SelectiveScanRequest {
            state,
            a_log: &learned(&cuda, state, 5, 0.0)?,
            dt_bias: &learned(&cuda, 1, 6, 0.0)?,
            d: &learned(&cuda, 1, 7, 0.0)?,
        };
        let x = inputs(&cuda, 1, 1, 1.0, dtype)?;
        let b = inputs(&cuda, state, 3, 1.0, dtype)?;
        cuda.download(&cuda.selective_scan(&x, &x, &b, &b, &SEQUENCES, &request)?)
    };
    compute(64).expect("as long as the longest");
    let error = compute(65).expect_err("longer").to_string();
    assert_eq!(
        error,
        "selective scan: states of 65 numbers are longer than the 64 that the CUDA kernels hold; \
         use --device cpu for this model"
    );
}
