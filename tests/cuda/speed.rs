//! What `massact bench` times, on the emulator.

use std::time::Duration;

use massact::{
    backend::{Backend, cuda::Cuda},
    bench::{Bench, Effort, SHAPES, operations, passes},
    model::{demo, dtype::DType},
};
use massact_emulator::{Emulator, Order};

#[test]
fn every_operation_can_be_timed() {
    let dtype = DType::BFloat16;
    let backend = Cuda::new(Emulator::new(Order::Forward), dtype);
    backend.synchronise().expect("waits");
    let bench = Bench {
        backend: &backend,
        dtype,
        sequences: 2,
        tokens: 4,
        effort: Effort {
            repetitions: 1,
            least: Duration::ZERO,
        },
    };
    let found = operations(&bench, SHAPES[0]).expect("runs");
    // Half the bytes of float32.
    assert_eq!((found[0].name, found[0].work), ("copy", 2 * 8 * 256 * 2));
    let model = demo::open(demo::NAME).expect("built in");
    let passes = passes(&bench, &model).expect("runs");
    for one in found.iter().chain(&passes) {
        assert!(one.best_seconds > 0.0, "{one:?}");
        assert_eq!((one.calls, one.dtype), (1, dtype), "{one:?}");
    }
}
