//! Single operations, at the sizes that they have in a model.
#![forbid(unsafe_code)]

use std::{hint::black_box, slice};

use super::{
    Bench, Measurement, Part, Request, STATISTICS, Shape, Work,
    clock::{Call, time},
    joined::joined,
    noise,
    passes::passes,
    recurrences::delta_rule,
};
use crate::{
    backend::{AttentionCapture, AttentionRequest, Backend, NormWeights, Target},
    error::Result,
    model::{
        Model,
        dtype::DType,
        spec::{Activation, NormKind},
        weights::{AssembledMatrix, WeightMatrix},
    },
};

/// Maps go to the host, so they are only asked for short sequences.
const MAP_TOKENS: usize = 1024;

/// Times a part at the widths of the shape, attention with heads of each width, passes with the model.
pub(super) fn measure<B: Backend>(
    bench: &Bench<'_, B>,
    part: Part,
    request: &Request,
    model: &Model,
) -> Result<Vec<Measurement>> {
    let &Shape { hidden, inner, .. } = &request.shape;
    match part {
        Part::Copy => Ok(vec![copy(bench, hidden)?]),
        Part::Statistics => Ok(vec![statistics(bench, hidden)?]),
        Part::Norm => Ok(vec![norm(bench, hidden)?]),
        Part::AddNorm => Ok(vec![add_norm(bench, hidden)?]),
        Part::GatedActivation => Ok(vec![gated_activation(bench, inner)?]),
        Part::Product => [(hidden, hidden), (hidden, inner), (inner, hidden)]
            .into_iter()
            .map(|(columns, out)| product(bench, columns, out))
            .collect(),
        Part::Joined => {
            let head_dim = request.head_dims.iter().copied().max().unwrap_or(64);
            joined(bench, &request.shape, head_dim)
        }
        Part::Attention => {
            let mut found = Vec::new();
            for head_dim in &request.head_dims {
                let heads = (hidden / head_dim).max(1);
                found.extend(attention(bench, heads, *head_dim)?);
            }
            Ok(found)
        }
        Part::DeltaRule => {
            let mut found = Vec::new();
            for head_dim in &request.head_dims {
                let heads = (hidden / head_dim).max(1);
                found.extend(delta_rule(bench, heads, *head_dim)?);
            }
            Ok(found)
        }
        Part::Model => Ok(passes(bench, model)?.to_vec()),
        // A table of its own.
        Part::Looking => Ok(Vec::new()),
    }
}

impl<B: Backend> Bench<'_, B> {
    /// A residual stream.
    pub(super) fn stream(&self, columns: usize) -> Result<B::Tensor> {
        let rows = self.rows();
        self.backend.upload(rows, columns, noise(rows * columns))
    }

    /// A tensor of these values, normalised, as the parts of a layer have it.
    pub(super) fn part(&self, columns: usize, values: Vec<f32>) -> Result<B::Tensor> {
        let stream = self.backend.upload(self.rows(), columns, values)?;
        let norm = rms_norm(columns, None);
        self.backend.norm(&stream, &norm, Target::Part)
    }

    /// Bytes of a residual stream.
    pub(super) fn stream_bytes(&self, columns: usize) -> usize {
        self.rows() * columns * self.backend.precision().residual().size()
    }

    /// Bytes of a tensor inside a part.
    pub(super) fn part_bytes(&self, columns: usize) -> usize {
        self.rows() * columns * self.backend.held().arithmetic().size()
    }

    /// Measures something that moves the rows of a tensor.
    fn rowwise(
        &self,
        name: &'static str,
        dtype: DType,
        columns: usize,
        bytes: usize,
        call: &mut Call<'_>,
    ) -> Result<Measurement> {
        let [found] = self.rowwise_in_turns((columns, dtype), [(name, bytes)], [call])?;
        Ok(found)
    }

    /// The same for several ways, each with its name and the bytes that it moves.
    pub(super) fn rowwise_in_turns<const N: usize>(
        &self,
        (columns, dtype): (usize, DType),
        ways: [(&'static str, usize); N],
        calls: [&mut Call<'_>; N],
    ) -> Result<[Measurement; N]> {
        let times = time(self.backend, self.effort, calls)?;
        Ok(std::array::from_fn(|way| {
            let (name, bytes) = ways[way];
            let sizes = vec![
                ("sequences", self.sequences),
                ("tokens", self.tokens),
                ("columns", columns),
            ];
            self.measurement(name, dtype, sizes, Work::Bytes(bytes), times[way])
        }))
    }

    /// What a gate is applied to, and what it multiplies.
    pub(super) fn gate_and_up(&self, width: usize) -> Result<[B::Tensor; 2]> {
        let values = self.rows() * width;
        // Zeros, which stay what they are: other numbers would shrink, call by call, to subnormal ones.
        let gate = self.part(width, vec![0.0; values])?;
        Ok([gate, self.part(width, noise(values))?])
    }
}

fn rms_norm<V>(width: usize, weight: Option<V>) -> NormWeights<V> {
    NormWeights {
        kind: NormKind::Rms,
        width,
        weight,
        bias: None,
        alpha: None,
        epsilon: 1e-5,
    }
}

/// Read and written once.
fn copy<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<Measurement> {
    let x = bench.stream(width)?;
    let dtype = bench.backend.precision().residual();
    let bytes = 2 * bench.stream_bytes(width);
    bench.rowwise("copy", dtype, width, bytes, &mut || {
        bench.backend.duplicate(black_box(&x)).map(drop)
    })
}

/// Exact median, top 5 and massive entries of each sequence, left on the device. Read once.
fn statistics<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<Measurement> {
    let x = bench.stream(width)?;
    let rows = bench.sequences();
    let dtype = bench.backend.precision().residual();
    let bytes = bench.stream_bytes(width);
    bench.rowwise("statistics", dtype, width, bytes, &mut || {
        let found = bench
            .backend
            .statistics(black_box(&x), &rows, &STATISTICS)?;
        drop(black_box(found));
        Ok(())
    })
}

/// Read and written once.
fn norm<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<Measurement> {
    let x = bench.stream(width)?;
    let norm = rms_norm(width, Some(bench.backend.vector(noise(width))?));
    let dtype = bench.backend.precision().residual();
    let bytes = bench.stream_bytes(width) + bench.part_bytes(width);
    bench.rowwise("norm", dtype, width, bytes, &mut || {
        let out = bench.backend.norm(black_box(&x), &norm, Target::Part)?;
        drop(black_box(out));
        Ok(())
    })
}

/// What a part gave is added to the stream, and the sum normalised for the next part: two streams read,
/// one written, and the part's input.
fn add_norm<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<Measurement> {
    let mut x = bench.stream(width)?;
    let output = bench.stream(width)?;
    let norm = rms_norm(width, Some(bench.backend.vector(noise(width))?));
    let dtype = bench.backend.precision().residual();
    let bytes = 3 * bench.stream_bytes(width) + bench.part_bytes(width);
    bench.rowwise("add_norm", dtype, width, bytes, &mut || {
        let out = bench.backend.add_norm(&mut x, black_box(&output), &norm)?;
        drop(black_box(out));
        Ok(())
    })
}

/// `silu(gate) * up`; two tensors read, one written.
fn gated_activation<B: Backend>(bench: &Bench<'_, B>, width: usize) -> Result<Measurement> {
    let [mut gate, up] = bench.gate_and_up(width)?;
    let dtype = bench.backend.precision().arithmetic();
    let bytes = 3 * bench.part_bytes(width);
    bench.rowwise("gated_activation", dtype, width, bytes, &mut || {
        let activation = Activation::Silu;
        bench.backend.gate(&mut gate, black_box(&up), activation)
    })
}

/// `[rows, columns] x [columns, out]`.
pub(super) fn product<B: Backend>(
    bench: &Bench<'_, B>,
    columns: usize,
    out: usize,
) -> Result<Measurement> {
    let x = bench.part(columns, noise(bench.rows() * columns))?;
    let weight = AssembledMatrix::from_f32(&noise(columns * out), out, columns);
    let weight = bench.backend.matrix(WeightMatrix::Assembled(weight))?;
    let call: &mut Call<'_> = &mut || {
        let (x, target) = (black_box(&x), Target::Part);
        let y = bench.backend.linear(x, &weight, None, target)?;
        drop(black_box(y));
        Ok(())
    };
    let [times] = time(bench.backend, bench.effort, [call])?;
    let sizes = vec![("rows", bench.rows()), ("in", columns), ("out", out)];
    let work = Work::Flops(2 * bench.rows() * columns * out);
    let dtype = bench.backend.precision().arithmetic();
    Ok(bench.measurement("product", dtype, sizes, work, times))
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
        let own = values.split_off(values.len() - bench.rows() * columns);
        bench.part(columns, own)
    };
    let (q, k, v) = (next()?, next()?, next()?);
    let rows = bench.sequences();
    let short = 0..bench.tokens.min(MAP_TOKENS);
    let request = |mean, sink| AttentionRequest {
        capture: AttentionCapture {
            mean,
            heads: false,
            sink,
        },
        ..AttentionRequest::plain(heads, heads, head_dim)
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
        let dtype = backend.precision().arithmetic();
        bench.measurement(name, dtype, sizes, work, times)
    };
    Ok([
        measurement("attention", bench.sequences, bench.tokens, plain),
        measurement("attention_sink", bench.sequences, bench.tokens, sink),
        measurement("attention_mean_maps", 1, short.len(), mean),
    ])
}
