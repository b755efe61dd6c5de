//! Single operations, at the sizes that they have in a model.
#![forbid(unsafe_code)]

use std::{hint::black_box, slice};

use super::{
    Bench, Measurement, STATISTICS, Work,
    clock::{Call, Times, time},
    noise,
};
use crate::{
    backend::{AttentionCapture, AttentionRequest, Backend, NormWeights},
    error::Result,
    model::{
        spec::{Activation, NormKind},
        weights::{AssembledMatrix, WeightMatrix},
    },
};

/// Widths of a decoder's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The model that has it.
    pub name: &'static str,
    /// Of the residual stream.
    pub hidden: usize,
    /// Inside the MLP.
    pub inner: usize,
}

/// The shapes by name.
pub const SHAPES: [Shape; 4] = [
    Shape {
        name: "tiny",
        hidden: 256,
        inner: 688,
    },
    Shape {
        name: "gpt2-124m",
        hidden: 768,
        inner: 3072,
    },
    Shape {
        name: "llama-1.1b",
        hidden: 2048,
        inner: 5632,
    },
    Shape {
        name: "llama-7b",
        hidden: 4096,
        inner: 11_008,
    },
];

/// Those that kernels are tuned for.
const HEAD_DIMS: [usize; 3] = [64, 128, 256];

/// Maps go to the host, so they are only asked for short sequences.
const MAP_TOKENS: usize = 1024;

/// Times every operation at the widths of `shape`.
pub fn operations<B: Backend>(bench: &Bench<'_, B>, shape: Shape) -> Result<Vec<Measurement>> {
    let mut found = vec![
        copy(bench, shape)?,
        statistics(bench, shape)?,
        norm(bench, shape)?,
        gated_activation(bench, shape)?,
    ];
    for (columns, out) in [
        (shape.hidden, shape.hidden),
        (shape.hidden, shape.inner),
        (shape.inner, shape.hidden),
    ] {
        found.push(product(bench, columns, out)?);
    }
    for head_dim in HEAD_DIMS {
        let heads = (shape.hidden / head_dim).max(1);
        found.extend(attention(bench, heads, head_dim)?);
    }
    Ok(found)
}

impl<B: Backend> Bench<'_, B> {
    fn tensor(&self, columns: usize) -> Result<B::Tensor> {
        let rows = self.rows();
        self.backend.upload(rows, columns, noise(rows * columns))
    }

    fn bytes(&self, columns: usize) -> usize {
        self.rows() * columns * self.dtype.size()
    }

    fn time(&self, call: &mut Call<'_>) -> Result<Times> {
        let [times] = time(self.backend, self.effort, [call])?;
        Ok(times)
    }
}

/// Read and written once.
fn copy<B: Backend>(bench: &Bench<'_, B>, shape: Shape) -> Result<Measurement> {
    let x = bench.tensor(shape.hidden)?;
    let times = bench.time(&mut || bench.backend.duplicate(black_box(&x)).map(drop))?;
    let sizes = vec![("rows", bench.rows()), ("columns", shape.hidden)];
    let work = Work::Bytes(2 * bench.bytes(shape.hidden));
    Ok(bench.measurement("copy", sizes, work, times))
}

/// Exact median, top 5 and massive entries of each sequence, left on the device. Read once.
fn statistics<B: Backend>(bench: &Bench<'_, B>, shape: Shape) -> Result<Measurement> {
    let x = bench.tensor(shape.hidden)?;
    let rows = bench.sequences();
    let times = bench.time(&mut || {
        let found = bench
            .backend
            .statistics(black_box(&x), &rows, &STATISTICS)?;
        drop(black_box(found));
        Ok(())
    })?;
    let sizes = vec![
        ("sequences", bench.sequences),
        ("tokens", bench.tokens),
        ("columns", shape.hidden),
    ];
    let work = Work::Bytes(bench.bytes(shape.hidden));
    Ok(bench.measurement("statistics", sizes, work, times))
}

/// Read and written once.
fn norm<B: Backend>(bench: &Bench<'_, B>, shape: Shape) -> Result<Measurement> {
    let x = bench.tensor(shape.hidden)?;
    let norm = NormWeights {
        kind: NormKind::Rms,
        width: shape.hidden,
        weight: Some(bench.backend.vector(noise(shape.hidden))?),
        bias: None,
        alpha: None,
        epsilon: 1e-5,
    };
    let times = bench.time(&mut || bench.backend.norm(black_box(&x), &norm).map(drop))?;
    let sizes = vec![("rows", bench.rows()), ("columns", shape.hidden)];
    let work = Work::Bytes(2 * bench.bytes(shape.hidden));
    Ok(bench.measurement("norm", sizes, work, times))
}

/// `silu(gate) * up` as the layer computes it; two tensors read, one written.
fn gated_activation<B: Backend>(bench: &Bench<'_, B>, shape: Shape) -> Result<Measurement> {
    // Zeros, which stay what they are: other numbers would shrink, call by call, to subnormal ones.
    let zeros = vec![0.0; bench.rows() * shape.inner];
    let mut gate = bench.backend.upload(bench.rows(), shape.inner, zeros)?;
    let up = bench.tensor(shape.inner)?;
    let times = bench.time(&mut || {
        bench.backend.activate(&mut gate, Activation::Silu)?;
        bench.backend.multiply(&mut gate, black_box(&up))
    })?;
    let sizes = vec![("rows", bench.rows()), ("columns", shape.inner)];
    let work = Work::Bytes(3 * bench.bytes(shape.inner));
    Ok(bench.measurement("gated_activation", sizes, work, times))
}

/// `[rows, columns] x [columns, out]`.
fn product<B: Backend>(bench: &Bench<'_, B>, columns: usize, out: usize) -> Result<Measurement> {
    let x = bench.tensor(columns)?;
    let weight = AssembledMatrix::from_f32(&noise(columns * out), out, columns);
    let weight = bench.backend.matrix(WeightMatrix::Assembled(weight))?;
    let times = bench.time(&mut || {
        let y = bench.backend.linear(black_box(&x), &weight, None)?;
        drop(black_box(y));
        Ok(())
    })?;
    let sizes = vec![("rows", bench.rows()), ("in", columns), ("out", out)];
    let work = Work::Flops(2 * bench.rows() * columns * out);
    Ok(bench.measurement("product", sizes, work, times))
}

/// Causal attention, in turns without capture, with what each key receives, and with mean maps of one
/// short sequence.
fn attention<B: Backend>(
    bench: &Bench<'_, B>,
    heads: usize,
    head_dim: usize,
) -> Result<[Measurement; 3]> {
    let backend = bench.backend;
    let columns = heads * head_dim;
    // Not the same values three times: a query would be nearest to its own key.
    let mut values = noise(3 * bench.rows() * columns);
    let mut next = || {
        let rest = values.split_off(values.len() - bench.rows() * columns);
        backend.upload(bench.rows(), columns, rest)
    };
    let (q, k, v) = (next()?, next()?, next()?);
    let rows = bench.sequences();
    let short = 0..bench.tokens.min(MAP_TOKENS);
    let request = |mean, sink| AttentionRequest {
        heads,
        kv_heads: heads,
        head_dim,
        value_dim: head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window: None,
        soft_cap: None,
        alibi: None,
        sinks: None,
        kv_bias: None,
        capture: AttentionCapture {
            mean,
            heads: false,
            sink,
        },
        subset: None,
    };
    let (plain, sink, mean) = (
        request(false, false),
        request(false, true),
        request(true, false),
    );
    let run = |rows: &[_], request| backend.attention(&q, &k, &v, rows, request).map(drop);
    let [plain, sink, mean] = time(
        backend,
        bench.effort,
        [
            &mut || run(&rows, &plain),
            &mut || run(&rows, &sink),
            &mut || run(slice::from_ref(&short), &mean),
        ],
    )?;
    let measurement = |name, sequences: usize, tokens: usize, times| {
        let sizes = vec![
            ("sequences", sequences),
            ("tokens", tokens),
            ("heads", heads),
            ("head_dim", head_dim),
        ];
        // A logit and its part in the output: two sums of head_dim products a visible key.
        let visible = sequences * tokens * (tokens + 1) / 2;
        let work = Work::Flops(4 * heads * head_dim * visible);
        bench.measurement(name, sizes, work, times)
    };
    Ok([
        measurement("attention", bench.sequences, bench.tokens, plain),
        measurement("attention_sink", bench.sequences, bench.tokens, sink),
        measurement("attention_mean_maps", 1, short.len(), mean),
    ])
}
