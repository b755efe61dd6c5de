//! What `massact bench` times, on the emulator.

use std::time::Duration;

use massact::{
    backend::{Precision, StatisticsRequest, Tensors, cpu::Cpu, cuda::Cuda},
    bench::{self, Effort, Part, Request, Shape},
    engine::{Discard, Outcome, Plan, Site, run},
    model::dtype::DType,
    progress::Progress,
};
use massact_emulator::{Emulator, Order};

#[test]
fn every_operation_can_be_timed() {
    let (arithmetic, residual) = (DType::BFloat16, DType::Float32);
    let precision = Precision::new(arithmetic, residual).expect("a wider stream");
    let backend = Cuda::new(Emulator::new(Order::Forward), precision);
    backend.synchronise().expect("waits");
    let shape = Shape::named("tiny").expect("known");
    let model = shape.model(Some(2), 4).expect("runs");
    let request = Request {
        parts: vec![
            Part::Copy,
            Part::Norm,
            Part::AddNorm,
            Part::GatedActivation,
            Part::Statistics,
            Part::Product,
            Part::Joined,
            Part::Attention,
            Part::DeltaRule,
            Part::Model,
            Part::Looking,
        ],
        shape,
        head_dims: vec![64, 128, 256],
        sequences: 2,
        tokens: 4,
        effort: Effort {
            repetitions: 1,
            least: Duration::ZERO,
        },
        budget: None,
    };
    let all = bench::run_on(&backend, Some(1 << 30), &model, &request).expect("runs");
    let found = all.measurements;
    let work = |name| {
        found
            .iter()
            .find(|one| one.name == name)
            .map(|one| one.work)
    };
    // The stream is in float32, what lies inside the parts is not.
    assert_eq!(work("copy"), Some(8 * 256 * (4 + 4)));
    assert_eq!(work("norm"), Some(8 * 256 * (4 + 2)));
    assert_eq!(work("add_norm"), Some(8 * 256 * (3 * 4 + 2)));
    assert_eq!(work("gated_activation"), Some(8 * 688 * 3 * 2));
    assert_eq!(work("add_then_statistics"), Some(8 * 256 * 4 * 4));
    assert_eq!(work("add_statistics"), Some(8 * 256 * 3 * 4));
    assert_eq!(work("gated_halves"), work("gated_activation"));
    assert_eq!(work("split_rotated"), Some(8 * 256 * 6 * 2));
    for one in &found {
        assert!(one.best_seconds > 0.0, "{one:?}");
        assert_eq!(one.calls, 1, "{one:?}");
    }
    let looking = all.looking.expect("asked for");
    let looks_at: Vec<&str> = looking.walks.iter().map(|walk| walk.looks_at).collect();
    assert_eq!(
        looks_at,
        [
            "nothing",
            "statistics of layer outputs",
            "statistics of every site",
            "attention sinks",
            "attention maps",
            "one intervention"
        ]
    );
}

/// The shape of a model whose weights are nowhere: they are made on the card, and are the CPU's.
#[test]
fn a_shape_walks_without_weights_on_disk() {
    let shape = Shape::named("tiny").expect("known");
    let model = shape.model(Some(1), 8).expect("runs");
    let plan = Plan::magnitudes(
        Site::LayerOutput,
        StatisticsRequest {
            top_k: 1,
            abs_threshold: 100.0,
            rel_threshold: 1000.0,
            moments: false,
        },
    );
    let ids = [vec![1, 999, 5]];
    let card = Emulator::new(Order::Forward);
    let cuda = Cuda::new(card, DType::Float32);
    let found = run(&cuda, &model, &ids, &plan, &mut Discard, Progress::silent());
    let (found, launches) = (found.expect("runs"), cuda.device().launches());
    let expected = run(
        &Cpu::new(),
        &model,
        &ids,
        &plan,
        &mut Discard,
        Progress::silent(),
    );
    let of = |outcome: Outcome| outcome.statistics[&Site::LayerOutput][0][0].clone();
    let (found, expected) = (of(found), of(expected.expect("runs")));
    assert!(expected.median > 1e-3, "{expected:?}");
    for (found, expected) in [(found.max, expected.max), (found.median, expected.median)] {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    }
    let made = launches
        .iter()
        .filter(|kernel| *kernel == "decode_random_f32");
    // Seven projections; the embedding's rows come from the host.
    assert_eq!(made.count(), 7);
}
