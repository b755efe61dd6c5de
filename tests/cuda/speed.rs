//! What `massact bench` times, on the emulator.

use std::time::Duration;

use massact::{
    backend::{Precision, Tensors, cuda::Cuda},
    bench::{self, Effort, Measurement, Part, Request, SHAPES},
    model::{demo, dtype::DType},
};
use massact_emulator::{Emulator, Order};

#[test]
fn every_operation_can_be_timed() {
    let (arithmetic, residual) = (DType::BFloat16, DType::Float32);
    let precision = Precision::new(arithmetic, residual).expect("a wider stream");
    let backend = Cuda::new(Emulator::new(Order::Forward), precision);
    backend.synchronise().expect("waits");
    let model = demo::open(demo::NAME).expect("built in");
    let request = Request {
        parts: vec![
            Part::Copy,
            Part::Norm,
            Part::AddNorm,
            Part::GatedActivation,
            Part::Statistics,
            Part::Product,
            Part::Attention,
            Part::DeltaRule,
            Part::Model,
        ],
        shape: SHAPES[0],
        head_dims: vec![64, 128, 256],
        sequences: 2,
        tokens: 4,
        effort: Effort {
            repetitions: 1,
            least: Duration::ZERO,
        },
        budget: None,
    };
    let found: Vec<Measurement> =
        bench::run_on(&backend, Some(1 << 30), &model, &request).expect("runs");
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
    for one in &found {
        assert!(one.best_seconds > 0.0, "{one:?}");
        assert_eq!(one.calls, 1, "{one:?}");
    }
}
