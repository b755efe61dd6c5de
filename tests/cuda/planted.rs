//! The emulator finds mistakes: kernels with one each (`emulator/planted/`) are reported, and the
//! same kernels without it are not.

use massact::backend::cuda::{Address, Argument, Device, Launch, Source};
use massact_emulator::{Emulator, Order};

const ORDERS: [Order; 5] = [
    Order::Forward,
    Order::Reverse,
    Order::Random(1),
    Order::Random(2),
    Order::Random(3),
];

const LENGTH: usize = 128;

/// Input `1, 2, ...` and an output of as many values, as the device sees them.
struct Buffers<'d> {
    device: &'d Emulator,
    x: Address,
    out: Address,
}

impl<'d> Buffers<'d> {
    fn new(device: &'d Emulator) -> Self {
        let allocate = || device.allocate(LENGTH * 4).expect("there is memory");
        let (x, out) = (allocate(), allocate());
        let values: Vec<u8> = (1..=LENGTH)
            .flat_map(|value| (value as f32).to_le_bytes())
            .collect();
        device.write(x, &values).expect("copied");
        Self { device, x, out }
    }

    fn run(
        &self,
        kernel: &str,
        grid: u32,
        threads: u32,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<f32>, String> {
        self.run_with(kernel, grid, threads, 0, arguments)
    }

    fn run_with(
        &self,
        kernel: &str,
        grid: u32,
        threads: u32,
        shared_bytes: u32,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<f32>, String> {
        let launch = Launch {
            kernel,
            grid: [grid, 1, 1],
            block: [threads, 1, 1],
            shared_bytes,
        };
        let done = self.device.launch(&launch, arguments);
        done.map_err(|error| error.to_string())?;
        let mut bytes = vec![0; LENGTH * 4];
        self.device.read(self.out, &mut bytes).expect("copied");
        let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four"));
        Ok(bytes.chunks_exact(4).map(value).collect())
    }
}

impl Drop for Buffers<'_> {
    fn drop(&mut self) {
        self.device.release(self.x);
        self.device.release(self.out);
    }
}

/// Runs `kernel(x, out)` and returns its output, or the report.
fn run(device: &Emulator, kernel: &str, threads: u32) -> Result<Vec<f32>, String> {
    let buffers = Buffers::new(device);
    buffers.run(kernel, 1, threads, &[buffers.x.into(), buffers.out.into()])
}

/// Runs `kernel(x, out, count)`.
fn run_counted(device: &Emulator, kernel: &str, count: i32) -> Result<Vec<f32>, String> {
    let buffers = Buffers::new(device);
    let arguments = [buffers.x.into(), buffers.out.into(), count.into()];
    buffers.run(kernel, 1, 32, &arguments)
}

/// Runs `kernel(out)`.
fn run_writer(device: &Emulator, kernel: &str, grid: u32) -> Result<Vec<f32>, String> {
    let buffers = Buffers::new(device);
    device.clear(buffers.out, 4).expect("cleared");
    buffers.run(kernel, grid, 64, &[buffers.out.into()])
}

#[track_caller]
fn reports(result: Result<Vec<f32>, String>, words: &[&str]) {
    let report = result.expect_err("no mistake was reported");
    for word in words {
        assert!(report.contains(word), "`{word}` is not in: {report}");
    }
}

fn reversed() -> Vec<f32> {
    (1..=64).rev().map(|value| value as f32).collect()
}

#[test]
fn kernels_without_a_mistake_pass_in_every_order() {
    for order in ORDERS {
        for device in [Emulator::new(order), Emulator::checked(order)] {
            let out = run(&device, "reverse_right", 64).expect("no mistake");
            assert_eq!(out[..64], reversed());
            let out = run(&device, "rotate_lanes_right", 32).expect("no mistake");
            assert_eq!((out[0], out[31]), (2.0, 1.0));
            let out = run(&device, "accumulate_right", 64).expect("no mistake");
            assert_eq!((out[0], out[63]), (6.0 * 64.0, 6.0));
            let out = run(&device, "copy_async_right", 32).expect("no mistake");
            assert_eq!((out[0], out[127]), (1.0, 128.0));
            let out = run_counted(&device, "copy_right", LENGTH as i32).expect("no mistake");
            assert_eq!((out[0], out[127]), (1.0, 128.0));
            let out = run_writer(&device, "count_right", 3).expect("no mistake");
            assert_eq!(out[0].to_bits(), 3 * 64);
        }
    }
}

#[test]
fn a_missing_barrier_shows_in_the_result_and_as_a_race() {
    for order in ORDERS {
        let out = run(&Emulator::new(order), "reverse_without_barrier", 64).expect("it ends");
        assert_ne!(out[..64], reversed(), "{order:?}");
        let checked = Emulator::checked(order);
        let out = run(&checked, "reverse_without_barrier", 64);
        // What is read before it is written is uninitialised first of all.
        let report = out.expect_err("no mistake was reported");
        assert!(
            report.contains("race on shared memory") || report.contains("uninitialised shared"),
            "{report}"
        );
        reports(
            run(&checked, "rotate_lanes_without_barrier", 32),
            &[
                "rotate_lanes_without_barrier, block (0,0,0)",
                "shared memory",
            ],
        );
    }
}

#[test]
fn a_missing_barrier_before_reuse_shows_in_reverse_order_and_as_a_race() {
    let right = run(&Emulator::new(Order::Forward), "accumulate_right", 64).expect("no mistake");
    let reverse = Emulator::new(Order::Reverse);
    let out = run(&reverse, "accumulate_without_barrier", 64).expect("it ends");
    assert_ne!(out[..64], right[..64]);
    for order in ORDERS {
        reports(
            run(&Emulator::checked(order), "accumulate_without_barrier", 64),
            &["race on shared memory", "accumulate_without_barrier"],
        );
    }
}

#[test]
fn a_store_past_the_end_is_reported() {
    let count = LENGTH as i32;
    reports(
        run_counted(
            &Emulator::new(Order::Forward),
            "copy_off_by_one_store",
            count,
        ),
        &[
            "copy_off_by_one_store",
            "past the end of a buffer of 512 bytes",
        ],
    );
    reports(
        run_counted(
            &Emulator::checked(Order::Forward),
            "copy_off_by_one_store",
            count,
        ),
        &["write of 4 bytes out of bounds of device memory, 512 bytes from the start"],
    );
}

#[test]
fn a_load_past_the_end_is_reported() {
    reports(
        run_counted(
            &Emulator::checked(Order::Forward),
            "copy_off_by_one_load",
            LENGTH as i32,
        ),
        &["read of 4 bytes out of bounds of device memory"],
    );
}

#[test]
fn an_unawaited_copy_is_reported() {
    for order in ORDERS {
        reports(
            run(&Emulator::new(order), "copy_async_unawaited", 32),
            &["copy_async_unawaited", "1 cp.async not waited for"],
        );
    }
}

#[test]
fn a_race_between_blocks_is_reported() {
    reports(
        run_writer(
            &Emulator::checked(Order::Forward),
            "count_without_atomic",
            1,
        ),
        &["race on device memory"],
    );
    reports(
        run_writer(
            &Emulator::checked(Order::Reverse),
            "count_without_atomic",
            3,
        ),
        &["race on device memory"],
    );
}

#[test]
fn misuse_of_barriers_and_lanes_is_reported_in_every_order() {
    for order in ORDERS {
        let device = Emulator::new(order);
        reports(
            run_writer(&device, "divergent_barrier", 1),
            &["divergent __syncthreads", "planted.cu"],
        );
        reports(run_writer(&device, "early_return", 1), &["__syncthreads"]);
        reports(
            run_writer(&device, "shuffle_from_absent", 1),
            &["reads lane 20, which takes no part"],
        );
    }
}

#[test]
fn uninitialised_and_misaligned_reads_are_reported() {
    let out = run_writer(&Emulator::new(Order::Forward), "uninitialised_shared", 1);
    assert!(out.expect("it ends")[0].is_nan());
    let checked = Emulator::checked(Order::Forward);
    reports(
        run_writer(&checked, "uninitialised_shared", 1),
        &["uninitialised shared memory"],
    );
    reports(
        run(&checked, "misaligned_vector", 1),
        &["misaligned read of"],
    );
}

#[test]
fn launches_are_checked_against_the_kernel() {
    let device = Emulator::new(Order::Forward);
    let buffers = Buffers::new(&device);
    reports(
        buffers.run("no_such_kernel", 1, 32, &[]),
        &["no kernel is called no_such_kernel"],
    );
    reports(
        buffers.run(
            "copy_right",
            1,
            32,
            &[buffers.x.into(), buffers.out.into(), 1.0f32.into()],
        ),
        &["takes arguments (ppi), not (ppf)"],
    );
    reports(
        buffers.run(
            "reverse_right",
            1,
            1025,
            &[buffers.x.into(), buffers.out.into()],
        ),
        &["impossible launch"],
    );
}

#[test]
fn a_block_beyond_its_launch_bound_is_reported() {
    let device = Emulator::new(Order::Forward);
    let buffers = Buffers::new(&device);
    let arguments = [buffers.out.into()];
    buffers
        .run("bounded", 1, 64, &arguments)
        .expect("as many as it may have");
    reports(
        buffers.run("bounded", 1, 65, &arguments),
        &["bounded takes blocks of at most 64 threads", "65"],
    );
}

/// Also by less than the padding that follows, where a card would not notice either.
#[test]
fn too_little_dynamic_shared_memory_is_reported() {
    for device in [
        Emulator::new(Order::Forward),
        Emulator::checked(Order::Forward),
    ] {
        let buffers = Buffers::new(&device);
        let run = |count: i32| {
            let arguments = [buffers.out.into(), count.into()];
            buffers.run_with("past_dynamic_shared", 1, 32, 100, &arguments)
        };
        run(25).expect("25 floats are 100 bytes");
        let report = run(26).expect_err("one too many");
        assert!(
            report.contains("past the end of 100 bytes of dynamic shared memory")
                || report.contains("out of bounds of shared memory"),
            "{report}"
        );
    }
}

/// A copy beside the computation is there once it was waited for, and not before.
#[test]
fn a_copy_that_is_not_waited_for_is_reported() {
    let device = Emulator::new(Order::Forward);
    let buffers = Buffers::new(&device);
    let ones: Vec<u8> = std::iter::repeat_n(1f32.to_le_bytes(), LENGTH)
        .flatten()
        .collect();
    let arguments = [buffers.x.into(), buffers.out.into(), (LENGTH as i32).into()];
    let copy = || buffers.run("copy_right", 1, 32, &arguments);

    let copying = device.start_write(buffers.x, Source::Bytes(ones.clone()));
    let copying = copying.expect("started");
    reports(copy(), &["copy_right", "has not been waited for"]);
    let mut bytes = [0; 4];
    let read = device.read(buffers.x.offset(8), &mut bytes);
    assert!(read.is_err(), "the host does not see it either");
    device.await_copy(copying).expect("done");
    assert_eq!(copy().expect("there"), [1.0; LENGTH]);

    // Memory that a copy is still writing may belong to somebody else by then.
    let address = device.allocate(LENGTH * 4).expect("there is memory");
    device
        .start_write(address, Source::Bytes(ones))
        .expect("started");
    device.release(address);
    reports(copy(), &["given back while a copy to it was under way"]);
}
