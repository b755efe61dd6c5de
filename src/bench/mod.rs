//! What a device achieves: single operations at a model's shapes, and whole passes of a model.
#![forbid(unsafe_code)]

mod amount;
mod clock;
mod joined;
mod looking;
mod operations;
mod passes;
mod recurrences;
mod shapes;

pub use clock::Effort;
pub use looking::{Ceilings, Looking, Walk};
pub use shapes::Shape;

use std::{ops::Range, time::Duration};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::{
    backend::{Backend, Precision, StatisticsRequest, Tensors, cpu::Cpu, cuda::Cuda},
    engine::{Device, Footprint, Wants, available, budget, human, token_width},
    error::{Error, Result},
    model::{Model, dtype::DType},
};
use clock::Times;

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/bench/1";

/// What existence-validation asks for.
const STATISTICS: StatisticsRequest = StatisticsRequest {
    top_k: 5,
    abs_threshold: 100.0,
    rel_threshold: 1000.0,
    moments: false,
};

/// What to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Of a residual stream.
    Copy,
    /// Exact median, largest and massive values.
    Statistics,
    /// RMSNorm.
    Norm,
    /// A residual add, and the norm of the sum.
    AddNorm,
    /// `silu(gate) * up`
    GatedActivation,
    /// The products of the shape.
    Product,
    /// Passes over memory that the engine joins, each beside those that it stands for.
    Joined,
    /// Causal attention without and with capture.
    Attention,
    /// The gated delta rule, with one decay a head and one a key channel.
    DeltaRule,
    /// Passes of a model.
    Model,
    /// What looking costs: passes that look at more and more, beside what copies and products reach.
    Looking,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Operations and passes, in the order of the parts.
    pub measurements: Vec<Measurement>,
    /// What looking costs, if that was a part.
    pub looking: Option<Looking>,
}

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub struct Request {
    /// In this order.
    pub parts: Vec<Part>,
    /// Widths of the operations.
    pub shape: Shape,
    /// Widths of attention's heads.
    pub head_dims: Vec<usize>,
    /// Sequences that are computed together.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// How often.
    pub effort: Effort,
    /// Memory that passes of the model may take, in bytes; none: a share of what is free.
    pub budget: Option<u64>,
}

/// Measures on a device; the model is what [`Part::Model`] and [`Part::Looking`] run.
pub fn run(
    device: &Device,
    precision: Precision,
    model: &Model,
    request: &Request,
) -> Result<Found> {
    match device {
        Device::Cpu => run_on(&Cpu::computing_in(precision), available(), model, request),
        // Each of several is as fast as the first.
        Device::Cuda(drivers) => {
            let cuda = Cuda::sharing(drivers[0].clone(), precision);
            let memory = cuda.memory_bytes();
            // The repetitions of a pass find the weights where the first has put them.
            cuda.keep_weights(memory / 5 * 3);
            run_on(&cuda, Some(memory as u64 / 5 * 2), model, request)
        }
    }
}

/// As [`run`], on a backend that the caller has and of which `free` bytes can be had.
pub fn run_on<B: Backend>(
    backend: &B,
    free: Option<u64>,
    model: &Model,
    request: &Request,
) -> Result<Found> {
    let bench = Bench {
        backend,
        sequences: request.sequences,
        tokens: request.tokens,
        effort: request.effort,
    };
    let mut found = Found {
        measurements: Vec::new(),
        looking: None,
    };
    for part in &request.parts {
        match part {
            Part::Model | Part::Looking => {
                let looks = *part == Part::Looking;
                let wants = Wants {
                    tokens: bench.tokens,
                    variants: usize::from(looks),
                    looks_inside: looks,
                    statistics: Some(STATISTICS),
                };
                let rows = backend.micro_batch_rows(token_width(&model.spec));
                let footprint = Footprint::on(backend, &model.spec, wants, rows);
                let needed = footprint.total(bench.sequences);
                fits("the model", needed, budget(request.budget, free))?;
            }
            _ => {
                // Its operands are made on the host.
                let needed = bench.memory(&request.shape, &request.head_dims);
                fits("the operations", needed, budget(None, available()))?;
            }
        }
        if *part == Part::Looking {
            found.looking = Some(looking::looking(&bench, model)?);
            continue;
        }
        let measured = operations::measure(&bench, *part, request, model)?;
        found.measurements.extend(measured);
    }
    Ok(found)
}

/// Better said before than found out by the system's killer of processes.
fn fits(what: &str, needed: u64, budget: u64) -> Result<()> {
    if needed <= budget {
        return Ok(());
    }
    let (needed, budget) = (human(needed), human(budget));
    let reason = format!("about {needed} of memory are needed, {budget} are available");
    Err(Error::usage(what, reason)
        .remedy("use fewer --sequences or --tokens, or a larger --memory-budget"))
}

/// Where and how long to measure.
#[derive(Debug)]
struct Bench<'b, B> {
    backend: &'b B,
    /// Sequences that are computed together.
    sequences: usize,
    /// Tokens of each.
    tokens: usize,
    effort: Effort,
}

impl<B: Backend> Bench<'_, B> {
    fn rows(&self) -> usize {
        self.sequences * self.tokens
    }

    /// Host memory that an operation takes at most, in bytes.
    fn memory(&self, shape: &Shape, head_dims: &[usize]) -> u64 {
        let head_dim = head_dims.iter().copied().max().unwrap_or(0);
        let columns = shape.hidden.max(shape.inner).max(head_dim) as u64;
        let rows = (self.sequences as u64).saturating_mul(self.tokens as u64);
        // Up to ten tensors at a time: joined ones, the noise they are made of, and what becomes of them.
        // A weight exists three times while it goes up, and is three joined ones at most.
        let tensors = rows.saturating_mul(columns).saturating_mul(10);
        let weights = (9 * shape.hidden as u64).saturating_mul(columns);
        tensors.saturating_add(weights).saturating_mul(4)
    }

    /// Where each sequence's rows are.
    fn sequences(&self) -> Vec<Range<usize>> {
        (0..self.sequences)
            .map(|index| index * self.tokens..(index + 1) * self.tokens)
            .collect()
    }

    fn measurement(
        &self,
        name: &'static str,
        dtype: DType,
        shape: Vec<(&'static str, usize)>,
        work: Work,
        times: Times,
    ) -> Measurement {
        let (amount, unit, units) = match work {
            Work::Bytes(bytes) => (bytes, "GB/s", 1e9),
            Work::Flops(flops) => (flops, "TFLOP/s", 1e12),
            Work::Tokens(tokens) => (tokens, "tokens/s", 1.0),
        };
        let best_seconds = times.best.as_secs_f64();
        Measurement {
            name,
            shape,
            dtype,
            calls: times.calls,
            best_seconds,
            median_seconds: times.median.as_secs_f64(),
            work: amount,
            // The clock counts nanoseconds, and JSON knows no infinity.
            rate: amount as f64 / units / best_seconds.max(1e-9),
            unit,
        }
    }
}

/// What one call does, in the unit its rate is given in.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Bytes that must be read and written at least.
    Bytes(usize),
    /// Multiplications and additions of its products; for causal attention those of visible keys.
    Flops(usize),
    /// Tokens that pass through the model.
    Tokens(usize),
}

/// How fast one thing is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// What was measured.
    pub name: &'static str,
    /// Its sizes by name.
    #[serde(serialize_with = "as_map")]
    pub shape: Vec<(&'static str, usize)>,
    /// Type of the tensors it reads.
    pub dtype: DType,
    /// Calls between two looks at the clock.
    pub calls: usize,
    /// Seconds of a call in the fastest repetition.
    pub best_seconds: f64,
    /// Seconds of a call in the median repetition.
    pub median_seconds: f64,
    /// Bytes, floating-point operations or tokens of a call.
    pub work: usize,
    /// Work over time of the fastest repetition, in `unit`.
    pub rate: f64,
    /// `GB/s`, `TFLOP/s` or `tokens/s`.
    pub unit: &'static str,
}

fn as_map<S: Serializer>(
    sizes: &[(&'static str, usize)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(sizes.iter().copied())
}

/// Deterministic values, roughly normal with a standard deviation of 0.5: sums of uniform ones.
/// A block of a prime number of values, repeated, so that rows differ.
pub fn noise(count: usize) -> Vec<f32> {
    const BLOCK: usize = 1_000_003;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let block: Vec<f32> = (0..count.min(BLOCK))
        .map(|_| uniform() + uniform() + uniform())
        .collect();
    block.iter().copied().cycle().take(count).collect()
}

/// Enough for a look at the clock and the start of a kernel not to count.
pub const LEAST_TIME: Duration = Duration::from_millis(20);
