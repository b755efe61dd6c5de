//! One operation at a time.

use super::{
    Check, Extent,
    attention::{self, Attention},
    difference,
    experts::experts,
    inputs::{noise, rounded, rounding},
    mixers::{self, Mixer},
    packed::{self, Packed},
    profiles,
    streams::{compressed, streams},
};
use crate::{
    backend::{
        Backend, Change, HeadRequest, NormWeights, Rescaling, Rotation, Statistics,
        StatisticsRequest, Target, Xielu, cpu::Cpu,
    },
    error::Result,
    model::{
        dtype::DType,
        rope::RopeTable,
        spec::{Activation, NormKind},
        weights::{AssembledMatrix, Elements},
    },
};

/// A call of the backend, or a few that belong together.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Transfer {
        rows: usize,
        columns: usize,
    },
    Activate(Activation),
    Arithmetic,
    Norm {
        kind: NormKind,
        rows: usize,
        width: usize,
        groups: usize,
    },
    Rotate {
        interleaved: bool,
    },
    RowScaling {
        columns: usize,
    },
    Rows {
        columns: usize,
    },
    /// A weight of this size, of which some columns are read.
    Weight {
        bytes: usize,
    },
    /// Routing of a mixture of experts.
    Experts,
    /// So many residual streams.
    Streams {
        count: usize,
    },
    /// Entries that stand for tokens.
    Compressed {
        overlaps: bool,
    },
    Cells,
    Embedding(DType),
    Linear {
        rows: usize,
        width: usize,
        outputs: usize,
        bias: bool,
    },
    Conv1D,
    /// A weight stored in another type than the arithmetic's.
    StoredAs(DType),
    /// Weights that have to be decoded.
    Packed(Packed),
    Attention(Attention),
    Mixer(Mixer),
    Statistics {
        rows: usize,
        columns: usize,
        top_k: usize,
    },
    Profile(usize, usize),
    Rescaling,
    Likelihood {
        vocabulary: usize,
    },
}

/// All that is checked.
pub(super) fn all(extent: Extent) -> Vec<Operation> {
    let full = extent == Extent::Full;
    let mut all = vec![
        Operation::Transfer {
            rows: 3,
            columns: 5,
        },
        Operation::Arithmetic,
        Operation::Rotate { interleaved: false },
        Operation::Rotate { interleaved: true },
        Operation::Rows { columns: 13 },
        Operation::RowScaling { columns: 300 },
        Operation::Experts,
        Operation::Streams { count: 3 },
        Operation::Streams { count: 8 },
        Operation::Compressed { overlaps: false },
        Operation::Compressed { overlaps: true },
        Operation::Cells,
        Operation::Linear {
            rows: 5,
            width: 7,
            outputs: 3,
            bias: true,
        },
        Operation::Linear {
            rows: 17,
            width: 40,
            outputs: 33,
            bias: false,
        },
        // Large enough for tensor cores, with a bias.
        Operation::Linear {
            rows: 256,
            width: 512,
            outputs: 384,
            bias: true,
        },
        Operation::Conv1D,
        Operation::Rescaling,
        Operation::Statistics {
            rows: 30,
            columns: 777,
            top_k: 5,
        },
        Operation::Profile(30, 777),
        Operation::Likelihood { vocabulary: 1031 },
    ];
    all.extend(DType::ALL.map(Operation::StoredAs));
    all.extend(DType::ALL.map(Operation::Embedding));
    all.extend(packed::all().into_iter().map(Operation::Packed));
    all.extend(
        [
            Activation::Silu,
            Activation::ScaledSilu(1.702),
            Activation::Sigmoid,
            Activation::Softplus,
            Activation::GeluErf,
            Activation::GeluTanh,
            Activation::Relu,
            Activation::ReluSquared,
        ]
        .map(Operation::Activate),
    );
    for kind in [NormKind::Rms, NormKind::Layer, NormKind::Tanh] {
        all.push(Operation::Norm {
            kind,
            rows: 5,
            width: 32,
            groups: 3,
        });
        all.push(Operation::Norm {
            kind,
            rows: 3,
            width: 2300,
            groups: 1,
        });
    }
    all.extend(attention::small().map(Operation::Attention));
    all.extend(mixers::small().map(Operation::Mixer));
    if full {
        all.extend([
            // More than all pinned memory that copies pass through.
            Operation::Transfer {
                rows: 4608,
                columns: 4096,
            },
            Operation::Weight { bytes: 72 << 20 },
            Operation::Linear {
                rows: 1000,
                width: 4096,
                outputs: 1024,
                bias: true,
            },
            Operation::Norm {
                kind: NormKind::Rms,
                rows: 3,
                width: 17_000,
                groups: 1,
            },
            Operation::Statistics {
                rows: 2048,
                columns: 4096,
                top_k: 40,
            },
            Operation::Profile(2048, 4096),
            Operation::Likelihood { vocabulary: 50_257 },
        ]);
        all.extend(attention::large().map(Operation::Attention));
        all.extend(mixers::large().map(Operation::Mixer));
    }
    all
}

impl Operation {
    /// Whether its inputs are residual streams, and its results of the arithmetic's type.
    pub(super) fn reads_streams(&self) -> bool {
        matches!(self, Self::Norm { .. } | Self::Embedding(_))
    }

    /// Compares the backend with the CPU.
    pub(super) fn check<B: Backend>(&self, backend: &B) -> Check {
        let precision = backend.precision();
        let dtype = precision.arithmetic();
        let wanted = self.compute(&Cpu::new(), dtype);
        let found = wanted.and_then(|wanted| {
            let got = self.compute(backend, dtype)?;
            Ok(difference(&got, &wanted, self.scale(), self.allowed(dtype)))
        });
        Check::of(self.name(), precision, self.allowed(dtype), found)
    }

    fn name(&self) -> String {
        match self {
            Self::Transfer { rows, columns } => format!("copies, {rows} x {columns}"),
            Self::Weight { bytes } => format!("a weight of {} MiB", bytes >> 20),
            Self::Activate(activation) => format!("activation {activation:?}"),
            Self::Arithmetic => "add, multiply, affine, clamp, xIELU".to_owned(),
            Self::Norm { kind, width, .. } => format!("norm {kind:?}, {width} wide"),
            Self::Rotate { interleaved: false } => "rotation of halves".to_owned(),
            Self::Rotate { interleaved: true } => "rotation of neighbours".to_owned(),
            Self::Rows { columns } => format!("rows and heads, {columns} wide"),
            Self::RowScaling { columns } => format!("scaled rows, {columns} wide"),
            Self::Embedding(dtype) => format!("embedding stored in {dtype}"),
            Self::Experts => "choice of experts".to_owned(),
            Self::Streams { count } => format!("{count} residual streams"),
            Self::Compressed { overlaps: false } => "compressed tokens".to_owned(),
            Self::Compressed { overlaps: true } => "compressed tokens that overlap".to_owned(),
            Self::Cells => "overwriting and reading values".to_owned(),
            Self::Linear {
                rows,
                width,
                outputs,
                ..
            } => format!("product, {rows} x {width} x {outputs}"),
            Self::Conv1D => "product with a transposed weight".to_owned(),
            Self::StoredAs(dtype) => format!("product with a weight stored in {dtype}"),
            Self::Packed(packed) => format!("weights packed as {}", packed.name),
            Self::Attention(attention) => attention.name(),
            Self::Mixer(mixer) => mixer.name(),
            Self::Statistics { rows, columns, .. } => format!("statistics of {rows} x {columns}"),
            Self::Profile(rows, columns) => format!("profile of {rows} x {columns}"),
            Self::Rescaling => "target variance rescaling".to_owned(),
            Self::Likelihood { vocabulary } => format!("likelihood of {vocabulary} tokens"),
        }
    }

    /// Values below this need not be closer than those of its size: results are sums of terms around 1.
    fn scale(&self) -> f64 {
        match self {
            Self::Linear { width, .. } => (*width as f64).sqrt(),
            Self::Conv1D | Self::StoredAs(_) => 4.0,
            Self::Mixer(mixer) => mixer.scale(),
            Self::Statistics { .. } | Self::Profile(..) => 1e-30,
            _ => 1.0,
        }
    }

    fn allowed(&self, dtype: DType) -> f64 {
        match self {
            // Nothing is computed.
            Self::Transfer { .. } | Self::Weight { .. } | Self::Statistics { .. } => 0.0,
            // The same bits.
            Self::Rescaling | Self::Packed(_) => 0.0,
            // Logits and sums are float32 whatever the type.
            Self::Likelihood { .. } => 1e-4,
            Self::Profile(..) => 1e-5,
            // Several roundings follow each other.
            Self::Activate(_)
            | Self::Arithmetic
            | Self::Rows { .. }
            | Self::RowScaling { .. }
            | Self::Experts
            | Self::Streams { .. }
            | Self::Compressed { .. } => 4.0 * rounding(dtype),
            // Probabilities are rounded before they meet the values, and the result once more.
            Self::Attention(_) => 2.0 * rounding(dtype),
            _ => rounding(dtype),
        }
    }

    /// The results, one after the other.
    fn compute<B: Backend>(&self, b: &B, dtype: DType) -> Result<Vec<f32>> {
        match self {
            &Self::Transfer { rows, columns } => {
                let x = b.upload(rows, columns, noise(rows * columns, 1, dtype))?;
                b.download(&b.duplicate(&x)?)
            }
            &Self::Weight { bytes } => {
                let (width, picked) = (1024, [0, 1, 511, 1023]);
                let outputs = bytes / width / dtype.size();
                let values = noise(outputs * width, 1, dtype);
                let weight = AssembledMatrix::stored_as(dtype, &values, outputs, width);
                // Each row of the product is a column of the weight, as it is.
                let mut ones = vec![0.0; picked.len() * width];
                for (row, column) in picked.into_iter().enumerate() {
                    ones[row * width + column] = 1.0;
                }
                let x = b.upload(picked.len(), width, ones)?;
                b.download(&b.linear(&x, &b.matrix(weight.into())?, None, Target::Part)?)
            }
            &Self::Activate(activation) => {
                let values = noise(33 * 100, 1, dtype)
                    .into_iter()
                    .map(|x| rounded(8.0 * x, dtype));
                let mut x = b.upload(33, 100, values.collect())?;
                b.activate(&mut x, activation)?;
                let up = b.upload(33, 100, noise(33 * 100, 2, dtype))?;
                let mut gate = b.duplicate(&up)?;
                b.gate(&mut gate, &up, activation)?;
                let mut out = b.download(&x)?;
                out.extend(b.download(&gate)?);
                Ok(out)
            }
            Self::Arithmetic => arithmetic(b, dtype),
            &Self::Norm {
                kind,
                rows,
                width,
                groups,
            } => {
                let columns = width * groups;
                let vector = |count, seed| b.vector(noise(count, seed, DType::Float32));
                let norm = NormWeights {
                    kind,
                    width,
                    weight: Some(vector(columns, 2)?),
                    bias: Some(vector(columns, 3)?),
                    alpha: (kind == NormKind::Tanh)
                        .then(|| vector(groups, 9))
                        .transpose()?,
                    epsilon: 1e-5,
                };
                let x = b.upload(rows, columns, noise(rows * columns, 1, dtype))?;
                let mut out = b.download(&b.norm(&x, &norm, Target::Part)?)?;
                // Once more behind a sum, in one pass.
                let mut stream = b.duplicate(&x)?;
                let normed = b.add_norm(&mut stream, &x, &norm)?;
                out.extend(b.download(&stream)?);
                out.extend(b.download(&normed)?);
                Ok(out)
            }
            &Self::Rotate { interleaved } => {
                let (heads, head_dim, pairs, positions) = (7, 64, 8, 9);
                let table = RopeTable::new(
                    interleaved,
                    pairs,
                    noise(positions * pairs, 4, DType::Float32),
                    noise(positions * pairs, 5, DType::Float32),
                );
                let mut x =
                    b.upload(14, heads * head_dim, noise(14 * heads * head_dim, 1, dtype))?;
                let rotation = Rotation::new(head_dim, 16);
                b.rotate(&mut x, &[0..9, 9..14], rotation, &[&table, &table])?;
                b.download(&x)
            }
            &Self::RowScaling { columns } => {
                let tensor = |seed| b.upload(5, columns, noise(5 * columns, seed, dtype));
                let (mut x, mut gates) = (tensor(1)?, tensor(3)?);
                b.match_magnitude(&mut x, &tensor(2)?, 1e-5)?;
                b.multiply_columns(&mut x, &b.vector(noise(columns, 4, DType::Float32))?)?;
                b.keep_largest(&mut gates, 0.25)?;
                let mut out = b.download(&x)?;
                out.extend(b.download(&gates)?);
                for (other, parts) in [(&x, columns), (&gates, 1)] {
                    let products = b.inner_products(&x, other, parts)?;
                    out.extend(products.into_iter().map(|product| product as f32));
                }
                Ok(out)
            }
            &Self::Rows { columns } => {
                let x = b.upload(7, columns, noise(7 * columns, 1, dtype))?;
                let mut gathered = b.gather_rows(&x, &[6, 0, 0, 3])?;
                let y = b.upload(4, columns + 2, noise(4 * (columns + 2), 2, dtype))?;
                let y = b.gather_columns(&y, 1..columns + 1)?;
                let factors = b.upload(4, 1, vec![0.5, -2.0, 0.125, 1.0])?;
                b.add_scaled(&mut gathered, &y, &factors)?;
                b.scale_rows(&mut gathered, &b.vector(vec![2.0, 0.5, -1.0, 1.5])?)?;
                let own = b.upload(4, columns * 3, noise(4 * columns * 3, 3, dtype))?;
                let mut found = b.download(&b.join_heads(&own, &gathered, 3)?)?;
                let mut all = b.zeros(&x)?;
                b.put_rows(&mut all, 2, &b.gather_rows(&x, &[5, 1, 3])?)?;
                found.extend(b.download(&all)?);
                Ok(found)
            }
            &Self::Embedding(stored) => {
                let values = noise(5 * 300, 1, stored);
                let table = AssembledMatrix::stored_as(stored, &values, 5, 300);
                let rows = [4, 0, 4, 4, 2, 1];
                b.download(&b.embed(&table.view().into(), 300, &rows, 2.5)?)
            }
            Self::Experts => experts(b, dtype),
            &Self::Streams { count } => streams(b, count, dtype),
            &Self::Compressed { overlaps } => compressed(b, overlaps, dtype),
            Self::Cells => {
                let mut x = b.upload(7, 11, noise(7 * 11, 1, dtype))?;
                b.overwrite(
                    &mut x,
                    &[
                        (0, 0, Change::Set(1.0)),
                        (6, 10, Change::Set(-2400.0)),
                        (3, 4, Change::Scale(-1.5)),
                    ],
                )?;
                let mut out = b.download(&x)?;
                out.extend(b.values_at(&x, &[(6, 10), (3, 4), (1, 1)])?);
                Ok(out)
            }
            &Self::Linear {
                rows,
                width,
                outputs,
                bias,
            } => {
                let weight =
                    AssembledMatrix::from_f32(&noise(outputs * width, 2, dtype), outputs, width);
                let bias = bias
                    .then(|| b.vector(noise(outputs, 3, dtype)))
                    .transpose()?;
                let x = b.upload(rows, width, noise(rows * width, 1, dtype))?;
                b.download(&b.linear(&x, &b.matrix(weight.into())?, bias.as_ref(), Target::Part)?)
            }
            Self::Conv1D => {
                let (rows, width, outputs) = (17, 40, 33);
                // [in, out + 2], of which the middle outputs.
                let stored = AssembledMatrix::from_f32(
                    &noise(width * (outputs + 2), 2, dtype),
                    outputs + 2,
                    width,
                );
                let mut view = stored.view();
                (view.out_stride, view.in_stride) = (1, outputs + 2);
                let x = b.upload(rows, width, noise(rows * width, 1, dtype))?;
                let weight = b.matrix(view.outputs(1, outputs + 1).into())?;
                let mut out = b.download(&b.linear(&x, &weight, None, Target::Part)?)?;
                // Some inputs of it, and of one that is stored the other way.
                let part = b.gather_columns(&x, 8..24)?;
                out.extend(b.download(&b.linear_of(&part, &weight, 8..24, Target::Part)?)?);
                let values = noise(width * outputs, 3, dtype);
                let weight = AssembledMatrix::from_f32(&values, outputs, width);
                let weight = b.matrix(weight.into())?;
                out.extend(b.download(&b.linear_of(&part, &weight, 8..24, Target::Part)?)?);
                Ok(out)
            }
            &Self::StoredAs(stored) => {
                // Halves are whole in every type.
                let values: Vec<f32> = (0..33 * 40).map(|i| (i % 7) as f32 / 2.0 - 1.5).collect();
                let weight = AssembledMatrix::stored_as(stored, &values, 33, 40);
                let x = b.upload(17, 40, noise(17 * 40, 1, dtype))?;
                b.download(&b.linear(&x, &b.matrix(weight.into())?, None, Target::Part)?)
            }
            Self::Packed(packed) => decoded(b, packed, dtype),
            Self::Attention(attention) => attention.compute(b, dtype),
            Self::Mixer(mixer) => mixer.compute(b, dtype),
            &Self::Statistics {
                rows,
                columns,
                top_k,
            } => {
                let mut values = noise(rows * columns, 1, dtype);
                let last = values.len() - 1;
                values[last / 2] = -2400.0;
                values[last] = 2400.0;
                let x = b.upload(rows, columns, values)?;
                let request = StatisticsRequest {
                    top_k,
                    abs_threshold: 100.0,
                    rel_threshold: 1000.0,
                    moments: true,
                };
                let sequences = [0..rows / 3, rows / 3..rows];
                let mut found = b.read_statistics(b.statistics(&x, &sequences, &request)?)?;
                // Of a sum that no type rounds.
                let (mut sum, mut more) = (b.duplicate(&x)?, vec![0.0; rows * columns]);
                more[last] = -2400.0;
                let more = b.upload(rows, columns, more)?;
                let pending = b.add_statistics(&mut sum, &more, &sequences, &request)?;
                found.extend(b.read_statistics(pending)?);
                Ok(found.iter().flat_map(numbers).collect())
            }
            &Self::Profile(rows, columns) => profiles::numbers(b, (rows, columns), dtype),
            Self::Rescaling => {
                let stored =
                    AssembledMatrix::stored_as(dtype, &noise(40 * 2000, 1, dtype), 40, 2000);
                let elements = stored.view().elements;
                let moments = b.moments(elements, None)?;
                let mut bytes = vec![0; elements.bytes.len()];
                b.rescale(elements, Rescaling::new(&moments[0], 0.01), &mut bytes)?;
                let mut out = Elements {
                    dtype,
                    bytes: &bytes,
                }
                .to_f32()
                .into_owned();
                out.extend(moments.iter().flat_map(|m| [m.mean as f32, m.std() as f32]));
                Ok(out)
            }
            &Self::Likelihood { vocabulary } => {
                let (rows, width) = (4, 12);
                let stored = AssembledMatrix::from_f32(
                    &noise(vocabulary * width, 2, dtype),
                    vocabulary,
                    width,
                );
                let head = HeadRequest {
                    weight: stored.view().into(),
                    bias: Some(b.vector(noise(vocabulary, 3, DType::Float32))?),
                    scale: 1.5,
                    soft_cap: Some(2.0),
                };
                let x = b.upload(rows, width, noise(rows * width, 1, dtype))?;
                let targets = [Some(0), None, Some(vocabulary as u32 - 1), Some(4)];
                b.token_nll(&x, &head, &targets)
            }
        }
    }
}

/// The values of the last matrix of a packed weight, all of them, then those of some outputs: a product
/// with unit vectors has them as they are, rounded once.
fn decoded<B: Backend>(b: &B, packed: &Packed, dtype: DType) -> Result<Vec<f32>> {
    let store = packed.open()?;
    let whole = store.last_packed(packed::WEIGHT)?;
    let (outputs, inputs) = (whole.out_features, whole.in_features);
    let mut units = vec![0.0; inputs * inputs];
    units
        .iter_mut()
        .step_by(inputs + 1)
        .for_each(|one| *one = 1.0);
    let units = b.upload(inputs, inputs, units)?;
    let every_third = whole.grouped(1, 1, 3, (outputs - 1) / 3);
    let mut out = Vec::new();
    for matrix in [
        whole,
        whole.outputs(2, outputs - 1),
        every_third.outputs(1, 3),
    ] {
        let weight = b.matrix(matrix.into())?;
        let values = b.download(&b.linear(&units, &weight, None, Target::Part)?)?;
        out.extend(values.into_iter().map(|value| rounded(value, dtype)));
    }
    Ok(out)
}

fn arithmetic<B: Backend>(b: &B, dtype: DType) -> Result<Vec<f32>> {
    let (rows, columns) = (33, 100);
    let mut x = b.upload(rows, columns, noise(rows * columns, 1, dtype))?;
    let y = b.upload(rows, columns, noise(rows * columns, 2, dtype))?;
    b.multiply(&mut x, &y)?;
    b.add(&mut x, &y)?;
    b.affine(&mut x, 0.75, -0.5)?;
    b.clamp(&mut x, -0.9, 0.5)?;
    let factors = b.upload(rows, columns / 4, noise(rows * columns / 4, 3, dtype))?;
    b.multiply_heads(&mut x, &factors)?;
    let mut found = b.download(&x)?;
    let mut x = b.upload(rows, columns, noise(rows * columns, 4, dtype))?;
    b.affine(&mut x, 4.0, 0.0)?;
    let scalars = Xielu {
        square: 0.8,
        exponential: 1.1,
        linear: 0.5,
        limit: -1e-6,
    };
    b.xielu(&mut x, scalars)?;
    found.extend(b.download(&x)?);
    Ok(found)
}

/// What was found, as numbers.
fn numbers(found: &Statistics) -> Vec<f32> {
    let mut numbers = vec![found.max, found.median, found.non_finite as f32];
    for entry in found.top.iter().chain(&found.massive) {
        numbers.extend([entry.position as f32, entry.dimension as f32, entry.value]);
    }
    numbers
}
