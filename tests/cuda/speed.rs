//! What `massact bench` times, on the emulator.

use std::time::Duration;

use massact::{
    backend::{Tensors, Precision, cuda::Cuda},
    bench::{Bench, Effort, Measurement, Operation, SHAPES, measure, passes},
    model::{demo, dtype::DType},
};
use massact_emulator::{Emulator, Order};

#[test]
fn every_operation_can_be_timed() {
    let (arithmetic, residual) = (DType::BFloat16, DType::Float32);
    let precision = Precision::new(arithmetic, residual).expect("a wider stream");
    let backend = Cuda::new(Emulator::new(Order::Forward), precision);
    backend.synchronise().expect("waits");
    let bench = Bench {
        backend: &backend,
        sequences: 2,
        tokens: 4,
        effort: Effort {
            repetitions: 1,
            least: Duration::ZERO,
        },
    };
    let operations = [
        Operation::Copy,
        Operation::Norm,
        Operation::AddNorm,
        Operation::GatedActivation,
        Operation::Statistics,
        Operation::Product,
        Operation::Attention,
    ];
    let found: Vec<Measurement> = operations
        .into_iter()
        .flat_map(|one| measure(&bench, one, SHAPES[0], &[64, 128, 256]).expect("runs"))
        .collect();
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
    let model = demo::open(demo::NAME).expect("built in");
    let passes = passes(&bench, &model).expect("runs");
    for one in found.iter().chain(&passes) {
        assert!(one.best_seconds > 0.0, "{one:?}");
        assert_eq!(one.calls, 1, "{one:?}");
    }
}
