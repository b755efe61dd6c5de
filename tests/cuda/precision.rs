//! A residual stream in float32 beside 16-bit arithmetic.

use std::path::Path;

use massact::{
    Result,
    backend::{
        Backend, Elementwise, NormWeights, Precision, Products, RowOperations, Statistics,
        StatisticsRequest, Target, Tensors, cpu::Cpu,
    },
    engine::{self, Discard, Plan, Site},
    model::{
        Model,
        dtype::DType,
        spec::{Activation, NormKind},
        weights::AssembledMatrix,
    },
    progress::Progress,
};
use massact_emulator::{Emulator, Order};

use crate::{
    bench::{backends, near, noise, rounded, rounding},
    support::{damage, program::checkpoint},
};

fn mixed(arithmetic: DType) -> Precision {
    Precision::new(arithmetic, DType::Float32).expect("float32 serves any arithmetic")
}

/// Values that no 16-bit type holds.
fn wide(count: usize) -> Vec<f32> {
    let noise = noise(count, 1, DType::Float32);
    noise.into_iter().map(|x| 70_001.0 * x).collect()
}

#[test]
fn the_stream_keeps_float32() {
    for arithmetic in [DType::BFloat16, DType::Float16] {
        for (name, cuda) in backends(mixed(arithmetic)) {
            let (x, y) = (wide(7 * 11), wide(7 * 11));
            let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            let mut stream = cuda.upload(7, 11, x).expect("fits");
            let other = cuda.upload(7, 11, y).expect("fits");
            cuda.add(&mut stream, &other).expect("added");
            let copy = cuda.duplicate(&stream).expect("copied");
            let rows = cuda.gather_rows(&copy, &[6, 0]).expect("gathered");
            assert_eq!(cuda.download(&stream).expect("read"), sum, "{name}");
            let wanted = [&sum[66..], &sum[..11]].concat();
            assert_eq!(cuda.download(&rows).expect("read"), wanted, "{name}");
        }
    }
}

#[test]
fn norms_read_the_stream() {
    let cpu = Cpu::new();
    for arithmetic in [DType::BFloat16, DType::Float16] {
        for (rows, columns) in [(3, 7), (5, 96), (2, 2300)] {
            for (target, tolerance) in [
                (Target::Part, rounding(arithmetic)),
                (Target::Stream, rounding(DType::Float32)),
            ] {
                let x = wide(rows * columns);
                let normed = |b: &dyn Fn(Vec<f32>) -> Vec<f32>| b(x.clone());
                let wanted = normed(&|x| norm(&cpu, rows, columns, x, target));
                for (name, cuda) in backends(mixed(arithmetic)) {
                    let got = normed(&|x| norm(&cuda, rows, columns, x, target));
                    near(&name, &got, &wanted, tolerance, 1.0);
                }
            }
        }
    }
}

fn norm<B: Backend>(b: &B, rows: usize, columns: usize, x: Vec<f32>, target: Target) -> Vec<f32> {
    let run = || -> Result<Vec<f32>> {
        let norm = NormWeights {
            kind: NormKind::Layer,
            width: columns,
            weight: Some(b.vector(noise(columns, 2, DType::Float32))?),
            bias: None,
            alpha: None,
            epsilon: 1e-5,
        };
        let other = b.upload(rows, columns, x.clone())?;
        let mut stream = b.upload(rows, columns, x)?;
        let normed = b.norm(&stream, &norm, target)?;
        let fused = b.add_norm(&mut stream, &other, &norm)?;
        let apart = b.norm(&stream, &norm, Target::Part)?;
        assert_eq!(b.download(&fused)?, b.download(&apart)?, "in one pass");
        let mut out = b.download(&normed)?;
        out.extend(b.download(&stream)?);
        Ok(out)
    };
    run().expect("computed")
}

/// A product reads the stream in the weights' type, and writes what is added to it in float32.
#[test]
fn products_between_parts_and_stream() {
    for arithmetic in [DType::BFloat16, DType::Float16] {
        let (rows, width, outputs) = (5, 24, 9);
        let x = noise(rows * width, 1, DType::Float32);
        let weights = noise(outputs * width, 2, arithmetic);
        let stored = AssembledMatrix::from_f32(&weights, outputs, width);
        let sums: Vec<f32> = (0..rows * outputs)
            .map(|i| {
                let (row, output) = (i / outputs, i % outputs);
                let terms = (0..width)
                    .map(|j| rounded(x[row * width + j], arithmetic) * weights[output * width + j]);
                // What an activation would refuse to hold in float16.
                terms.sum::<f32>() + 100_000.0
            })
            .collect();
        for (name, cuda) in backends(mixed(arithmetic)) {
            let matrix = cuda.matrix(stored.view().into()).expect("fits");
            let bias = cuda.vector(vec![100_000.0; outputs]).expect("fits");
            let x = cuda.upload(rows, width, x.clone()).expect("fits");
            let out = cuda.linear(&x, &matrix, Some(&bias), Target::Stream);
            let got = cuda.download(&out.expect("computed")).expect("read");
            near(&name, &got, &sums, 1e-6, 1.0);
            let mut part = cuda
                .linear(&x, &matrix, None, Target::Part)
                .expect("computed");
            cuda.activate(&mut part, Activation::Relu).expect("applied");
            let part = cuda.download(&part).expect("read");
            let held = part.iter().all(|x| rounded(*x, arithmetic) == *x);
            assert!(held, "{name}: a part's result in the arithmetic's type");
        }
    }
}

fn statistics<B: Backend>(backend: &B, model: &Model, tokens: &[u32]) -> Result<Vec<Statistics>> {
    let request = StatisticsRequest {
        top_k: 3,
        abs_threshold: 100.0,
        rel_threshold: 1000.0,
        moments: false,
    };
    let plan = Plan::magnitudes(Site::LayerOutput, request);
    let sequences = [tokens.to_vec()];
    let progress = Progress::silent();
    let outcome = engine::run(backend, model, &sequences, &plan, &mut Discard, progress)?;
    let layers = outcome.statistics[&Site::LayerOutput].iter();
    Ok(layers.map(|sequences| sequences[0].clone()).collect())
}

fn emulated(precision: impl Into<Precision>) -> massact::backend::cuda::Cuda<Emulator> {
    massact::backend::cuda::Cuda::new(Emulator::new(Order::Random(11)), precision)
}

/// The planted model's massive activation of 2338 appears in layer 1; layer 2 adds 0.5 to it, which
/// is less than bfloat16's 16 at that size.
#[test]
fn massive_activations_keep_their_digits() {
    let model = Model::open(&checkpoint("planted-gpt2")).expect("opens");
    let tokens = [1, 5, 9, 200, 31];
    let step = |found: &[Statistics]| found[2].max - found[1].max;
    let truth = statistics(&Cpu::new(), &model, &tokens).expect("runs");
    let wanted = step(&truth);
    assert!((0.3..0.7).contains(&wanted), "{wanted}");
    let kept = statistics(&emulated(mixed(DType::BFloat16)), &model, &tokens).expect("runs");
    assert!((step(&kept) - wanted).abs() < 0.02, "{}", step(&kept));
    // Weights, and what is multiplied with them, are still rounded to 8 bits.
    assert!((kept[1].max / truth[1].max - 1.0).abs() < 3e-2);
    let lost = statistics(&emulated(DType::BFloat16), &model, &tokens).expect("runs");
    assert_eq!(step(&lost) % 16.0, 0.0);
}

/// The same with what layer 1's MLP writes 64 times as large: beyond float16.
#[test]
fn a_stream_beyond_float16_does_not_overflow() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("model");
    damage::copy("planted-gpt2", &copy);
    magnify(&copy, "transformer.h.1.mlp.c_proj.weight", 64.0);
    let model = Model::open(&copy).expect("opens");
    let tokens = [1, 5, 9, 200, 31];
    let truth = statistics(&Cpu::new(), &model, &tokens).expect("runs");
    assert!(truth[1].max > 65_504.0, "{}", truth[1].max);
    let kept = statistics(&emulated(mixed(DType::Float16)), &model, &tokens).expect("runs");
    for (layer, (kept, truth)) in kept.iter().zip(&truth).enumerate() {
        let error = (kept.max / truth.max - 1.0).abs();
        assert!(
            error < 2e-3,
            "layer {layer}: {} for {}",
            kept.max,
            truth.max
        );
    }
    let error = statistics(&emulated(DType::Float16), &model, &tokens).expect_err("overflows");
    let text = error.to_string();
    assert!(text.starts_with("layer 1, layer_output: "), "{text}");
    assert!(
        text.contains("in float16; use --residual-dtype float32, "),
        "{text}"
    );
}

/// Multiplies a float32 tensor of a checkpoint.
fn magnify(folder: &Path, name: &str, factor: f32) {
    let path = folder.join("model.safetensors");
    let mut parts = damage::Parts::read(&path);
    let (start, end) = parts.range(name);
    for bytes in parts.data[start..end].chunks_exact_mut(4) {
        let value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        bytes.copy_from_slice(&(value * factor).to_le_bytes());
    }
    std::fs::write(&path, parts.bytes()).expect("written");
}
