//! The emulator knows Hopper: tensor copies, warpgroup products and barriers compute what they should, and
//! kernels with one mistake each (`emulator/planted/hopper.cu`) are reported.

use half::bf16;
use massact::{
    backend::cuda::{Address, Argument, Boxes, Device, Launch, Swizzle, TensorMap},
    model::dtype::DType,
};
use massact_emulator::{Emulator, Order};

const ORDERS: [Order; 4] = [
    Order::Forward,
    Order::Reverse,
    Order::Random(1),
    Order::Random(2),
];
const SIDE: usize = 64;

#[repr(C)]
#[derive(Clone, Copy)]
struct ProductMaps {
    a: TensorMap,
    b: TensorMap,
}

/// Small whole numbers, whose sums of products are exact.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7 + i / 13 + seed) % 17) as f32 - 8.0)
        .collect()
}

fn upload(device: &Emulator, values: &[f32]) -> Address {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| bf16::from_f32(*value).to_le_bytes())
        .collect();
    let address = device.allocate(bytes.len()).expect("there is memory");
    device.write(address, &bytes).expect("copied");
    address
}

/// Runs a kernel whose last argument is its output of so many floats.
fn run(
    device: &Emulator,
    kernel: &str,
    threads: u32,
    arguments: &[Argument<'_>],
    count: usize,
) -> Result<Vec<f32>, String> {
    let out = device.allocate(count * 4).expect("there is memory");
    let arguments: Vec<_> = arguments.iter().copied().chain([out.into()]).collect();
    let launch = Launch {
        kernel,
        grid: [1, 1, 1],
        block: [threads, 1, 1],
        shared_bytes: 20 << 10,
    };
    let done = device.launch(&launch, &arguments);
    let mut bytes = vec![0; count * 4];
    device.read(out, &mut bytes).expect("copied");
    device.release(out);
    done.map_err(|error| error.to_string())?;
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four"));
    Ok(bytes.chunks_exact(4).map(value).collect())
}

/// `A B` of two matrices of 64 x 64.
fn product(a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let sum = |i: usize| {
        let (row, column) = (i / SIDE, i % SIDE);
        (0..SIDE).map(|k| a(row, k) * b(k, column)).sum()
    };
    (0..SIDE * SIDE).map(sum).collect()
}

/// A kernel of tensor copies and products.
fn run_product(device: &Emulator, kernel: &str) -> Result<Vec<f32>, String> {
    let values = [numbers(1, SIDE * SIDE), numbers(5, SIDE * SIDE)];
    let addresses = values.each_ref().map(|values| upload(device, values));
    let (swizzle, columns) = match kernel.rsplit('_').next() {
        Some("64") => (Swizzle::Bytes64, 32),
        Some("32") => (Swizzle::Bytes32, 16),
        _ => (Swizzle::Bytes128, 64),
    };
    let map = |address| {
        let boxes = Boxes {
            address,
            dtype: DType::BFloat16,
            sizes: &[SIDE, SIDE],
            strides: &[SIDE * 2],
            box_sizes: &[columns, SIDE],
            swizzle,
        };
        device.tensor_map(&boxes).expect("encoded")
    };
    let [a, b] = addresses.map(map);
    let maps = ProductMaps { a, b };
    let out = run(device, kernel, 128, &[Argument::of(&maps)], SIDE * SIDE);
    addresses
        .into_iter()
        .for_each(|address| device.release(address));
    out
}

/// What such a kernel should find: B is stored by columns unless transposed, A by rows.
fn right_product(transposed: [bool; 2]) -> Vec<f32> {
    let [a, b] = [numbers(1, SIDE * SIDE), numbers(5, SIDE * SIDE)];
    let at = |values: &[f32], outer: usize, inner: usize| values[outer * SIDE + inner];
    product(
        |row, k| {
            if transposed[0] {
                at(&a, k, row)
            } else {
                at(&a, row, k)
            }
        },
        |k, column| {
            if transposed[1] {
                at(&b, k, column)
            } else {
                at(&b, column, k)
            }
        },
    )
}

fn run_written(device: &Emulator, kernel: &str) -> Result<Vec<f32>, String> {
    let [a, b] = [1, 5].map(|seed| upload(device, &numbers(seed, SIDE * SIDE)));
    let out = run(device, kernel, 128, &[a.into(), b.into()], SIDE * SIDE);
    device.release(a);
    device.release(b);
    out
}

/// 61 rows of 64 values in eight tiles of 8 rows, described in three axes.
fn run_ring(device: &Emulator, kernel: &str) -> Result<Vec<f32>, String> {
    let values = upload(device, &numbers(3, 61 * SIDE));
    let boxes = Boxes {
        address: values,
        dtype: DType::BFloat16,
        sizes: &[SIDE, 1, 61],
        strides: &[SIDE * 2, SIDE * 2],
        box_sizes: &[SIDE, 1, 8],
        swizzle: Swizzle::None,
    };
    let map = device.tensor_map(&boxes).expect("encoded").0;
    let place = device.allocate(128).expect("there is memory");
    let bytes: Vec<u8> = map.iter().flat_map(|word| word.to_le_bytes()).collect();
    device.write(place, &bytes).expect("copied");
    let out = run(device, kernel, 160, &[place.into()], 128);
    device.release(values);
    device.release(place);
    out
}

#[track_caller]
fn reports(result: Result<Vec<f32>, String>, words: &str) {
    let report = result.expect_err("no mistake was reported");
    assert!(report.contains(words), "`{words}` is not in: {report}");
}

#[test]
fn kernels_without_a_mistake_pass_in_every_order() {
    for order in ORDERS {
        for device in [Emulator::new(order), Emulator::checked(order)] {
            for (kernel, transposed) in [
                ("product_right_128", [false, false]),
                ("product_right_64", [false, false]),
                ("product_right_32", [false, false]),
                ("product_transposed_128", [true, true]),
                ("product_transposed_64", [true, true]),
                ("product_transposed_32", [true, true]),
                ("product_mixed_128", [false, true]),
            ] {
                let found = run_product(&device, kernel).expect("no mistake");
                assert!(found == right_product(transposed), "{kernel}");
            }
            let found = run_written(&device, "written_product_right").expect("no mistake");
            assert!(found == right_product([false, false]));
            let found = run_ring(&device, "ring_right").expect("no mistake");
            let values = numbers(3, 61 * SIDE);
            let sum = |thread: usize| values[thread..].iter().step_by(128).sum::<f32>();
            assert_eq!(found, (0..128).map(sum).collect::<Vec<_>>());
            let found = run(&device, "hand_over_right", 64, &[], 64).expect("no mistake");
            assert_eq!((found[32], found[63]), (31.0, 0.0));
            run(&device, "registers_right", 384, &[], 1).expect("no mistake");
        }
    }
}

/// What the plain emulator reports, whatever the order of threads.
#[test]
fn mistakes_are_reported_in_every_order() {
    for order in ORDERS {
        let device = Emulator::new(order);
        for (kernel, words) in [
            ("product_without_init_fence", "a proxy fence is missing"),
            (
                "product_before_arrival",
                "which a tensor copy has not delivered",
            ),
            (
                "product_in_wrong_phase",
                "which a tensor copy has not delivered",
            ),
            ("product_unannounced", "tensor copy"),
            ("product_never_awaited", "4 wgmma not waited for"),
            ("product_without_register_fence", "wgmma.fence"),
        ] {
            reports(run_product(&device, kernel), words);
        }
        reports(
            run(&device, "registers_beyond", 384, &[], 1),
            "66560 registers together, of 65536",
        );
    }
}

#[test]
fn accumulators_read_early_show_in_the_result() {
    for order in ORDERS {
        for device in [Emulator::new(order), Emulator::checked(order)] {
            let found = run_product(&device, "product_read_early").expect("it ends");
            assert!(found.iter().all(|value| value.is_nan()), "{order:?}");
        }
    }
}

/// A descriptor with another swizzle than the copy's shows in the result, and is reported when checked.
#[test]
fn wrong_swizzles_are_found() {
    for order in ORDERS {
        let found = run_product(&Emulator::new(order), "product_of_wrong_swizzle");
        let found = found.expect("it ends");
        assert!(found != right_product([false, false]), "{order:?}");
        reports(
            run_product(&Emulator::checked(order), "product_of_wrong_swizzle"),
            "with a swizzle of",
        );
    }
}

#[test]
fn missing_order_is_reported_when_checked() {
    for order in ORDERS {
        let device = Emulator::checked(order);
        reports(
            run_written(&device, "written_product_without_fence"),
            "no fence.proxy.async between",
        );
        let report = run_ring(&device, "ring_released_early").expect_err("no mistake was reported");
        assert!(report.contains("shared memory"), "{report}");
        let report = run(&device, "hand_over_without_barrier", 64, &[], 64);
        let report = report.expect_err("no mistake was reported");
        assert!(
            report.contains("race on shared memory") || report.contains("uninitialised shared"),
            "{report}"
        );
    }
}

#[test]
fn maps_that_a_driver_refuses_are_refused() {
    let device = Emulator::new(Order::Forward);
    let good = Boxes {
        address: Address(256),
        dtype: DType::Float16,
        sizes: &[64, 3],
        strides: &[128],
        box_sizes: &[64, 2],
        swizzle: Swizzle::Bytes128,
    };
    device.tensor_map(&good).expect("encoded");
    for bad in [
        Boxes {
            address: Address(8),
            ..good
        },
        Boxes {
            strides: &[24],
            ..good
        },
        Boxes {
            box_sizes: &[32, 2],
            ..good
        },
        Boxes {
            box_sizes: &[64, 257],
            ..good
        },
        Boxes {
            sizes: &[64, 0],
            ..good
        },
        Boxes {
            dtype: DType::Float32,
            ..good
        },
    ] {
        device.tensor_map(&bad).expect_err("refused");
    }
}
