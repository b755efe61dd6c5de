//! Every operation of the backend against the CPU's: all types, awkward shapes, every order.

use massact::{
    Result,
    backend::{
        Backend, Cells, Change, Elementwise, HeadRequest, InnerProducts, NormWeights, Norms,
        Products, Rotation, Rotations, RowOperations, RowScaling, Rows, Target, Tensors,
        Vocabulary, Xielu, cpu::Cpu,
    },
    model::{
        dtype::DType,
        rope::RopeTable,
        spec::{Activation, NormKind},
        weights::AssembledMatrix,
    },
};

use crate::bench::{DTYPES, backends, near, noise, rounded, rounding};

/// Runs the same lines on the CPU and on every emulated card and compares what they return.
/// Magnitudes below `$scale` need not be closer than those of its size. Results are rounded once, or
/// `$times`.
macro_rules! agree {
    ($what:expr, $dtype:expr, $scale:expr, $backend:ident => $lines:expr) => {
        agree!($what, $dtype, $scale, 1.0 times, $backend => $lines)
    };
    ($what:expr, $dtype:expr, $scale:expr, $times:literal times, $backend:ident => $lines:expr) => {{
        let wanted: Vec<f32> = {
            let $backend = &Cpu::new();
            (|| -> Result<Vec<f32>> { $lines })().expect("computed")
        };
        let mut first: Option<Vec<f32>> = None;
        for (name, backend) in backends($dtype) {
            let $backend = &backend;
            let got = (|| -> Result<Vec<f32>> { $lines })();
            let got = got.unwrap_or_else(|error| panic!("{}, {name}: {error}", $what));
            let what = format!("{}, {name}", $what);
            near(&what, &got, &wanted, $times * rounding($dtype), $scale);
            // Bit for bit the same in every order.
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let first = first.get_or_insert_with(|| got.clone());
            assert_eq!(bits(&got), bits(first), "{what}");
        }
    }};
}
pub(crate) use agree;

/// Not multiples of a vector of 16 bytes, one value, several blocks.
const SHAPES: [(usize, usize); 4] = [(1, 1), (3, 5), (7, 64), (33, 100)];

#[test]
fn upload_and_download() {
    for dtype in DTYPES {
        for (rows, columns) in SHAPES {
            let values = noise(rows * columns, 1, DType::Float32);
            agree!("upload", dtype, 1e-3, b => b.download(&b.upload(rows, columns, values.clone())?));
        }
    }
}

#[test]
fn elementwise() {
    for dtype in DTYPES {
        for (rows, columns) in SHAPES {
            let x: Vec<f32> = noise(rows * columns, 1, dtype)
                .into_iter()
                .map(|x| rounded(8.0 * x, dtype))
                .collect();
            let y = noise(rows * columns, 2, dtype);
            for activation in [
                Activation::Silu,
                Activation::ScaledSilu(1.702),
                Activation::Sigmoid,
                Activation::Softplus,
                Activation::GeluErf,
                Activation::GeluTanh,
                Activation::Relu,
                Activation::ReluSquared,
            ] {
                agree!(format!("{activation:?}"), dtype, 1.0, b => {
                    let mut x = b.upload(rows, columns, x.clone())?;
                    b.activate(&mut x, activation)?;
                    b.download(&x)
                });
            }
            for activation in [
                Activation::Silu,
                Activation::GeluTanh,
                Activation::ReluSquared,
            ] {
                let pairs = x.chunks(columns).zip(y.chunks(columns));
                let both: Vec<f32> = pairs.flat_map(|(x, y)| [x, y].concat()).collect();
                agree!(format!("gate, {activation:?}"), dtype, 1.0, 2.0 times, b => {
                    let y = b.upload(rows, columns, y.clone())?;
                    let mut fused = b.upload(rows, columns, x.clone())?;
                    b.gate(&mut fused, &y, activation)?;
                    let mut apart = b.upload(rows, columns, x.clone())?;
                    b.activate(&mut apart, activation)?;
                    b.multiply(&mut apart, &y)?;
                    let fused = b.download(&fused)?;
                    assert_eq!(fused, b.download(&apart)?, "looking at the gate changes nothing");
                    let both = b.upload(rows, 2 * columns, both.clone())?;
                    let halves = b.download(&b.gate_halves(&both, activation)?)?;
                    assert_eq!(fused, halves, "one product or two");
                    Ok(fused)
                });
            }
            agree!("multiply", dtype, 1e-3, b => {
                let mut x = b.upload(rows, columns, x.clone())?;
                b.multiply(&mut x, &b.upload(rows, columns, y.clone())?)?;
                b.download(&x)
            });
            let heads = [1, columns.div_ceil(4), columns];
            for heads in heads
                .into_iter()
                .filter(|heads| columns.is_multiple_of(*heads))
            {
                agree!(format!("multiply, {heads} heads"), dtype, 1e-3, b => {
                    let mut x = b.upload(rows, columns, x.clone())?;
                    let factors = b.upload(rows, heads, y[..rows * heads].to_vec())?;
                    b.multiply_heads(&mut x, &factors)?;
                    b.download(&x)
                });
            }
            agree!("xielu", dtype, 1.0, b => {
                let mut x = b.upload(rows, columns, x.clone())?;
                let scalars = Xielu { square: 0.8, exponential: 1.3, linear: 0.5, limit: -0.2 };
                b.xielu(&mut x, scalars)?;
                b.download(&x)
            });
            agree!("add", dtype, 1e-3, b => {
                let mut x = b.upload(rows, columns, x.clone())?;
                b.add(&mut x, &b.upload(rows, columns, y.clone())?)?;
                b.download(&x)
            });
            agree!("affine and clamp", dtype, 1.0, b => {
                let mut x = b.upload(rows, columns, x.clone())?;
                b.affine(&mut x, 0.75, -1.5)?;
                b.clamp(&mut x, f32::NEG_INFINITY, 3.0)?;
                b.download(&x)
            });
        }
    }
}

#[test]
fn nan_stays() {
    for dtype in DTYPES {
        let x = vec![f32::NAN, -1.0, 1.0];
        agree!("clamp", dtype, 1.0, b => {
            let mut x = b.upload(1, 3, x.clone())?;
            b.clamp(&mut x, -0.5, 0.5)?;
            b.activate(&mut x, Activation::Relu)?;
            b.download(&x)
        });
    }
}

#[test]
fn norms() {
    // (rows, columns, width): whole rows narrow and wide, heads; beyond what registers keep.
    let shapes = [
        (1, 1, 1),
        (3, 7, 7),
        (5, 96, 32),
        (2, 600, 600),
        (3, 2300, 2300),
        (1, 9001, 9001),
        (1, 17_000, 17_000),
    ];
    for dtype in DTYPES {
        for (rows, columns, width) in shapes {
            let x: Vec<f32> = noise(rows * columns, 1, dtype);
            for kind in [NormKind::Rms, NormKind::Layer, NormKind::Tanh] {
                for learned in [0, width, columns] {
                    if columns > 1000 && (learned == 0 || kind == NormKind::Tanh) {
                        continue;
                    }
                    let what = format!("{kind:?} of {columns} by {width}, {learned} learned");
                    agree!(what, dtype, 1.0, b => {
                        let vector = |seed| (learned > 0)
                            .then(|| b.vector(noise(learned, seed, DType::Float32)))
                            .transpose();
                        let alpha = (kind == NormKind::Tanh)
                            .then(|| b.vector(noise(columns / width, 9, DType::Float32)))
                            .transpose()?;
                        let norm = NormWeights {
                            kind,
                            width,
                            weight: vector(2)?,
                            bias: vector(3)?,
                            alpha,
                            epsilon: 1e-5,
                        };
                        let mut stream = b.upload(rows, columns, x.clone())?;
                        let mut out = b.download(&b.norm(&stream, &norm, Target::Part)?)?;
                        let other = b.upload(rows, columns, noise(rows * columns, 6, dtype))?;
                        let fused = b.add_norm(&mut stream, &other, &norm)?;
                        let apart = b.norm(&stream, &norm, Target::Part)?;
                        assert_eq!(b.download(&fused)?, b.download(&apart)?, "in one pass");
                        out.extend(b.download(&stream)?);
                        Ok(out)
                    });
                }
            }
        }
    }
}

/// Two tables; rows between sequences and behind them stay as they are.
#[test]
fn rotation() {
    for dtype in DTYPES {
        // (heads, head_dim, first, pairs): whole heads, a part, a part that starts late, in vectors; value by
        // value, because of a width, a beginning or a number of pairs; more pairs than a block has threads.
        for (heads, head_dim, first, pairs) in [
            (7, 64, 0, 32),
            (3, 64, 0, 8),
            (5, 96, 32, 32),
            (2, 24, 16, 4),
            (1, 2, 0, 1),
            (3, 10, 0, 5),
            (2, 72, 4, 32),
            (3, 40, 0, 12),
            (1, 600, 0, 300),
        ] {
            for (interleaved, step, back) in [(false, 1, false), (true, 1, true), (false, 2, true)]
            {
                let table = |positions: usize, seed| {
                    let values = |seed| noise(positions * pairs, seed, DType::Float32);
                    RopeTable::new(interleaved, pairs, values(seed), values(seed + 1))
                };
                let (long, short) = (table(17, 4), table(7, 8));
                let x = noise(19 * heads * head_dim, 1, dtype);
                let sequences: [Rows; 4] = [1..10, 10..14, 14..15, 16..18];
                let tables = [&long, &short, &short, &short];
                agree!(format!("{heads} heads of {head_dim}"), dtype, 1.0, 4.0 times, b => {
                    let mut x = b.upload(19, heads * head_dim, x.clone())?;
                    let mut rotation = Rotation::new(head_dim, first).every(step);
                    if back {
                        rotation = rotation.reversed();
                    }
                    // Twice, by what is on the device then.
                    b.rotate(&mut x, &sequences, rotation, &tables)?;
                    b.rotate(&mut x, &sequences, rotation, &tables)?;
                    b.download(&x)
                });
                // The same beside keys of one head and values of another width.
                let widths = [heads * head_dim, head_dim, heads * (pairs + 3)];
                let width: usize = widths.iter().sum();
                let joined = noise(14 * width, 2, dtype);
                let sequences: [Rows; 3] = [0..9, 9..13, 13..14];
                let tables = [&long, &short, &short];
                agree!(format!("{heads} heads of {head_dim}, joined"), dtype, 1.0, b => {
                    let joined = b.upload(14, width, joined.clone())?;
                    let mut rotation = Rotation::new(head_dim, first);
                    if back {
                        rotation = rotation.reversed();
                    }
                    let parts = b.split_rotated(&joined, widths, &sequences, rotation, &tables)?;
                    let parts = parts.iter().map(|part| b.download(part));
                    Ok(parts.collect::<Result<Vec<_>>>()?.concat())
                });
            }
        }
    }
}

#[test]
fn rows_and_heads() {
    for dtype in DTYPES {
        for columns in [1, 13, 300] {
            let (x, y) = (noise(7 * columns, 1, dtype), noise(3 * columns, 2, dtype));
            agree!("gather_rows", dtype, 1e-3, b => {
                let x = b.upload(7, columns, x.clone())?;
                b.download(&b.gather_rows(&x, &[6, 0, 0, 3])?)
            });
            agree!("add_scaled", dtype, 1.0, b => {
                let mut out = b.upload(3, columns, x[..3 * columns].to_vec())?;
                let y = b.upload(3, columns, y.clone())?;
                let factors = b.upload(3, 1, vec![0.5, -2.0, 0.125])?;
                b.add_scaled(&mut out, &y, &factors)?;
                b.download(&out)
            });
            agree!("match_magnitude", dtype, 1.0, 3.0 times, b => {
                let mut out = b.upload(3, columns, x[..3 * columns].to_vec())?;
                // A row whose own values are below the floor.
                b.affine(&mut out, 1e-3, 0.0)?;
                b.match_magnitude(&mut out, &b.upload(3, columns, y.clone())?, 1e-5)?;
                b.download(&out)
            });
            agree!("keep_largest", dtype, 1.0, b => {
                let mut out = b.upload(7, columns, x.clone())?;
                b.keep_largest(&mut out, 0.5)?;
                b.download(&out)
            });
            agree!("multiply_columns", dtype, 1.0, b => {
                let mut out = b.upload(7, columns, x.clone())?;
                b.multiply_columns(&mut out, &b.vector(noise(columns, 3, DType::Float32))?)?;
                b.download(&out)
            });
            agree!("inner_products", dtype, 1.0, b => {
                let x = b.upload(7, columns, x.clone())?;
                let y = b.upload(7, columns, noise(7 * columns, 5, dtype))?;
                let mut products = b.inner_products(&x, &y, 1)?;
                products.extend(b.inner_products(&x, &x, columns)?);
                Ok(products.into_iter().map(|product| product as f32).collect())
            });
            agree!("zeros", dtype, 1.0, b => {
                b.download(&b.zeros(&b.upload(7, columns, x.clone())?)?)
            });
            agree!("join_heads", dtype, 1e-3, b => {
                let own = b.upload(7, columns * 3, noise(7 * columns * 3, 1, dtype))?;
                let shared = b.upload(7, 5, noise(35, 2, dtype))?;
                b.download(&b.join_heads(&own, &shared, 3)?)
            });
        }
    }
}

#[test]
fn embedding() {
    for dtype in DTYPES {
        for stored in DTYPES {
            for width in [1, 13, 300] {
                let table =
                    AssembledMatrix::stored_as(stored, &noise(5 * width, 1, stored), 5, width);
                let rows = [4, 0, 4, 4, 2, 1];
                agree!(format!("rows of {width} in {stored}"), dtype, 1.0, b => {
                    b.download(&b.embed(&table.view().into(), width, &rows, 2.5)?)
                });
            }
        }
    }
}

#[test]
fn cells_and_duplicates() {
    for dtype in DTYPES {
        let x = noise(7 * 11, 1, dtype);
        let cells = [
            (0, 0, Change::Set(1.0)),
            (6, 10, Change::Set(-2400.0)),
            (3, 4, Change::Scale(-1.5)),
        ];
        agree!("overwrite", dtype, 1e-3, b => {
            let x = b.upload(7, 11, x.clone())?;
            let mut copy = b.duplicate(&x)?;
            b.overwrite(&mut copy, &cells)?;
            b.overwrite(&mut copy, &[])?;
            let mut out = b.download(&copy)?;
            out.extend(b.download(&x)?);
            out.extend(b.values_at(&copy, &[(6, 10), (3, 4), (1, 1)])?);
            out.extend(b.values_at(&copy, &[])?);
            Ok(out)
        });
    }
}

#[test]
fn products_of_both_layouts() {
    for dtype in DTYPES {
        for (rows, width, outputs) in [(1, 1, 1), (5, 7, 3), (17, 40, 33)] {
            let x = noise(rows * width, 1, dtype);
            let weights = noise(outputs * width, 2, dtype);
            for learned in [false, true] {
                agree!("linear", dtype, 4.0, b => {
                    let stored = AssembledMatrix::from_f32(&weights, outputs, width);
                    let bias = learned
                        .then(|| b.vector(noise(outputs, 3, DType::Float32)))
                        .transpose()?;
                    let x = b.upload(rows, width, x.clone())?;
                    let matrix = b.matrix(stored.view().into())?;
                    b.download(&b.linear(&x, &matrix, bias.as_ref(), Target::Part)?)
                });
            }
            agree!("Conv1D", dtype, 4.0, b => {
                // [in, out + 2], of which the middle outputs.
                let stored = AssembledMatrix::from_f32(&noise(width * (outputs + 2), 2, dtype), outputs + 2, width);
                let mut view = stored.view();
                (view.out_stride, view.in_stride) = (1, outputs + 2);
                let x = b.upload(rows, width, x.clone())?;
                let matrix = b.matrix(view.outputs(1, outputs + 1).into())?;
                b.download(&b.linear(&x, &matrix, None, Target::Part)?)
            });
            // An odd input among them, at which no pair begins.
            for inputs in [0..width, width / 3..width, width / 2..width / 2 + 1] {
                agree!("linear_of", dtype, 4.0, b => {
                    let stored = AssembledMatrix::from_f32(&weights, outputs, width);
                    let mut view = stored.view();
                    let matrix = b.matrix(view.into())?;
                    let x = b.upload(rows, width, x.clone())?;
                    let part = b.gather_columns(&x, inputs.clone())?;
                    let mut out = b.download(&b.linear_of(&part, &matrix, inputs.clone(), Target::Part)?)?;
                    (view.out_stride, view.in_stride) = (1, outputs);
                    let matrix = b.matrix(view.into())?;
                    out.extend(b.download(&b.linear_of(&part, &matrix, inputs.clone(), Target::Part)?)?);
                    Ok(out)
                });
            }
        }
    }
}

#[test]
fn likelihood() {
    for dtype in DTYPES {
        for (vocabulary, soft_cap) in [(5, None), (300, Some(2.0)), (1031, None)] {
            let (rows, width) = (4, 12);
            let x = noise(rows * width, 1, dtype);
            let table = noise(vocabulary * width, 2, dtype);
            let targets = [Some(0), None, Some(vocabulary as u32 - 1), Some(4)];
            // Sums in float32 on either side, whatever the type of the factors.
            let dtype_of_sums = DType::Float32;
            let wanted = {
                let cpu = Cpu::new();
                nll(
                    &cpu, rows, width, &x, &table, vocabulary, soft_cap, &targets,
                )
            };
            for (name, cuda) in backends(dtype) {
                let cuda = cuda.with_vocabulary_piece(256);
                let got = nll(
                    &cuda, rows, width, &x, &table, vocabulary, soft_cap, &targets,
                );
                near(&name, &got, &wanted, rounding(dtype_of_sums), 1.0);
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn nll<B: Backend>(
    b: &B,
    rows: usize,
    width: usize,
    x: &[f32],
    table: &[f32],
    vocabulary: usize,
    soft_cap: Option<f32>,
    targets: &[Option<u32>],
) -> Vec<f32> {
    let stored = AssembledMatrix::from_f32(table, vocabulary, width);
    let bias = noise(vocabulary, 3, DType::Float32);
    let head = HeadRequest {
        weight: stored.view().into(),
        bias: Some(b.vector(bias).expect("fits")),
        scale: 1.5,
        soft_cap,
    };
    let x = b.upload(rows, width, x.to_vec()).expect("fits");
    b.token_nll(&x, &head, targets).expect("computed")
}
