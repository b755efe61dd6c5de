//! `massact selftest` on the emulated card, which is good, and on cards that are not.

use std::{collections::BTreeSet, rc::Rc};

use massact::{
    Result,
    backend::{
        Precision,
        cuda::{
            Address, Argument, Boxes, Cuda, Device, Launch, Limits, Product, Source, TensorMap,
        },
    },
    model::dtype::DType,
    progress::Progress,
    selftest::{self, Check, Extent, Report},
};
use massact_emulator::{Emulator, Order};

use crate::{attention_hopper::hopper, support::schema::assert_valid};

fn checks<D: Device>(device: Rc<D>, precision: impl Into<Precision>) -> Vec<Check> {
    let cuda = Cuda::sharing(device, precision);
    selftest::run(&cuda, Extent::Quick, Progress::new(true)).expect("not interrupted")
}

fn failed(checks: &[Check]) -> Vec<String> {
    let failed = checks.iter().filter(|check| !check.passed);
    failed
        .map(|check| {
            let Check {
                name,
                dtype,
                error,
                allowed,
                failure,
                ..
            } = check;
            format!("{name} in {dtype}: {error:.2e} of {allowed:.2e} {failure:?}")
        })
        .collect()
}

/// Nothing fails on a good card, and no kernel is left out.
#[test]
fn a_good_card_passes_and_every_kernel_runs() {
    let mut launched = BTreeSet::new();
    let mixed = |dtype| Precision::new(dtype, DType::Float32).expect("wider");
    let precisions = DType::ALL.map(Precision::from).into_iter();
    for precision in precisions.chain([DType::BFloat16, DType::Float16].map(mixed)) {
        let device = Rc::new(Emulator::new(Order::Random(11)));
        let checks = checks(Rc::clone(&device), precision);
        assert_eq!(failed(&checks), [""; 0]);
        let report = Report::new("cuda:0".into(), "emulated".into(), Extent::Quick, checks);
        assert!(report.good);
        let document = serde_json::to_value(&report).expect("JSON");
        assert_valid("selftest", &document);
        launched.extend(device.launches());
    }
    // Cards with less shared memory count magnitudes of 16 bits in two steps.
    for dtype in [DType::BFloat16, DType::Float16] {
        let device =
            Emulator::new(Order::Forward).with_limits(|limits| limits.shared_bytes = 99 << 10);
        let device = Rc::new(device);
        assert_eq!(failed(&checks(Rc::clone(&device), dtype)), [""; 0]);
        launched.extend(device.launches());
    }
    // Cards of capability 9.0 have an attention of their own.
    for dtype in [DType::BFloat16, DType::Float16] {
        let device = Rc::new(hopper(Emulator::new(Order::Reverse)));
        assert_eq!(failed(&checks(Rc::clone(&device), dtype)), [""; 0]);
        launched.extend(device.launches());
    }
    let unchecked: Vec<_> = Emulator::kernels()
        .into_iter()
        .filter(|kernel| !launched.contains(*kernel))
        .collect();
    assert_eq!(unchecked, [""; 0]);
}

/// A card with a fault of one kind.
#[derive(Debug)]
struct Faulty {
    card: Emulator,
    /// Does not run this kernel.
    dead_kernel: &'static str,
    /// Leaves the bias out of products.
    forgets_bias: bool,
}

impl Device for Faulty {
    type Copying = <Emulator as Device>::Copying;

    fn start_write(&self, to: Address, source: Source) -> Result<Self::Copying> {
        self.card.start_write(to, source)
    }
    fn await_copy(&self, copying: Self::Copying) -> Result<()> {
        self.card.await_copy(copying)
    }
    fn limits(&self) -> Limits {
        self.card.limits()
    }
    fn allocate(&self, bytes: usize) -> Result<Address> {
        let address = self.card.allocate(bytes)?;
        self.card.clear(address, bytes)?;
        Ok(address)
    }
    fn release(&self, address: Address) {
        self.card.release(address);
    }
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.card.write(to, bytes)
    }
    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.card.read(from, bytes)
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.card.copy(from, to, bytes)
    }
    fn clear(&self, address: Address, bytes: usize) -> Result<()> {
        self.card.clear(address, bytes)
    }
    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()> {
        if launch.kernel == self.dead_kernel {
            return Ok(());
        }
        self.card.launch(launch, arguments)
    }
    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap> {
        self.card.tensor_map(boxes)
    }
    fn multiply(&self, product: &Product) -> Result<()> {
        let bias = product.bias.filter(|_| !self.forgets_bias);
        self.card.multiply(&Product { bias, ..*product })
    }
}

/// A kernel that does nothing is noticed, one of each file, and so is a wrong product.
#[test]
fn a_faulty_card_fails() {
    let faulty = |dead_kernel: &'static str, forgets_bias| {
        let mut card = Emulator::new(Order::Forward);
        if dead_kernel.contains("hopper") {
            card = hopper(card);
        }
        let device = Faulty {
            card,
            dead_kernel,
            forgets_bias,
        };
        failed(&checks(Rc::new(device), DType::BFloat16)).len()
    };
    assert_eq!(faulty("", false), 0);
    assert!(faulty("", true) > 0);
    for kernel in [
        "add_bf16",
        "attention_64_bf16",
        "attention_hopper_64_bf16",
        "attention_maps_hopper_64_bf16",
        "attention_sink_hopper_64_bf16",
        "attention_subset_hopper_64_bf16",
        "convolve_bf16",
        "decode_e4m3_bf16",
        "decode_ggml_q4_k_bf16",
        "decode_gptq_bf16",
        "decode_table_bf16",
        "delta_rule_channels_96_bf16",
        "gather_rows_bf16",
        "overwrite_bf16",
        "rotate_bf16",
        "selective_scan_16_bf16",
        "state_space_128_bf16",
        "statistics_rank",
        "token_nll",
    ] {
        assert!(Emulator::kernels().contains(&kernel), "{kernel}");
        assert!(faulty(kernel, false) > 0, "{kernel}");
    }
}
