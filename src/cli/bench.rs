//! `massact bench`

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    args::{ModelArgs, positive},
    budget::{available, budget},
    checkpoint,
    device::{self, Device, on_device},
};
use crate::{
    backend::Backend,
    bench::{self, Bench, Effort, LEAST_TIME, Measurement, Operation, SHAPES, Shape},
    engine::Footprint,
    error::{Error, Result},
    model::Model,
    progress::Progress,
    report::{
        number::significant,
        run::{Build, Host},
        table::{Align, Row, Table},
    },
};

/// How fast this machine computes: single operations at a shape, and whole passes of a checkpoint.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What to time: operations at `--shape`, and passes of `--pretrained`. Default: all.
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        value_enum,
        hide_default_value = true,
        default_values_t = Part::value_variants().to_vec()
    )]
    parts: Vec<Part>,
    /// Widths of the operations: those of this model.
    #[arg(long, value_name = "NAME", default_value = "gpt2-124m", value_parser = shape)]
    shape: Shape,
    /// Widths of the heads of attention.
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        default_value = "64,128,256",
        value_parser = positive
    )]
    head_dims: Vec<usize>,
    /// Sequences that are computed together.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive)]
    sequences: usize,
    /// Tokens of each sequence.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive)]
    tokens: usize,
    /// Repetitions, of which the best and the median are shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    repetitions: usize,
    /// No progress and no notices.
    #[arg(long)]
    quiet: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Choices of `--parts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Copy,
    Statistics,
    Norm,
    AddNorm,
    GatedActivation,
    Product,
    Attention,
    Model,
}

impl Part {
    /// None for the model.
    fn operation(self) -> Option<Operation> {
        Some(match self {
            Self::Copy => Operation::Copy,
            Self::Statistics => Operation::Statistics,
            Self::Norm => Operation::Norm,
            Self::AddNorm => Operation::AddNorm,
            Self::GatedActivation => Operation::GatedActivation,
            Self::Product => Operation::Product,
            Self::Attention => Operation::Attention,
            Self::Model => return None,
        })
    }
}

fn shape(name: &str) -> Result<Shape, String> {
    let names = SHAPES.map(|shape| shape.name).join(", ");
    let found = SHAPES.into_iter().find(|shape| shape.name == name);
    found.ok_or_else(|| format!("expected one of {names}"))
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let progress = Progress::new(args.quiet);
    let opened = device::open(&args.model.device, progress)?;
    let (name, revision) = (&args.model.pretrained, &args.model.revision);
    let checkpoint = checkpoint::find(name.as_deref(), revision.as_deref(), progress)?;
    let device = opened.for_model(&args.model.device, &checkpoint.model)?;
    let found = on_device!(&device, backend => {
        let bench = Bench {
            backend,
            sequences: args.sequences,
            tokens: args.tokens,
            effort: Effort {
                repetitions: args.repetitions,
                least: LEAST_TIME,
            },
        };
        measure(args, &device, &bench, &checkpoint.model)?
    });
    if !args.json {
        return table(&found).print();
    }
    let operations = args.parts.iter().any(|part| *part != Part::Model);
    let passes = args.parts.contains(&Part::Model);
    super::print_json(&json!({
        "schema": bench::SCHEMA,
        "massact": Build::new(
            option_env!("MASSACT_GIT_COMMIT"),
            option_env!("MASSACT_RUSTC"),
            option_env!("MASSACT_TARGET"),
        ),
        "device": device.name(),
        "card": device.card(),
        "compute_dtype": device.arithmetic(),
        "host": Host::current(),
        "shape": operations.then_some(args.shape.name),
        "model": passes.then_some(&checkpoint.record),
        "sequences": args.sequences,
        "tokens": args.tokens,
        "repetitions": args.repetitions,
        "measurements": found,
    }))
}

fn measure<B: Backend>(
    args: &BenchArgs,
    device: &Device,
    bench: &Bench<'_, B>,
    model: &Model,
) -> Result<Vec<Measurement>> {
    let mut found = Vec::new();
    for part in &args.parts {
        found.extend(match part.operation() {
            Some(operation) => {
                // Its operands are made on the host.
                let needed = bench.memory(args.shape, &args.head_dims);
                fits("the operations", needed, budget(None, available()))?;
                bench::measure(bench, operation, args.shape, &args.head_dims)?
            }
            None => {
                let footprint = Footprint::of(bench.backend, &model.spec, args.tokens, 0);
                let needed = footprint.total(args.sequences);
                fits("the model", needed, device.memory_budget(None))?;
                bench::passes(bench, model)?.to_vec()
            }
        });
    }
    Ok(found)
}

/// Better said before than found out by the system's killer of processes.
fn fits(what: &str, needed: u64, budget: u64) -> Result<()> {
    if needed <= budget {
        return Ok(());
    }
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let (needed, budget) = (gigabytes(needed), gigabytes(budget));
    let reason = format!("about {needed} of memory are needed, {budget} are available");
    Err(Error::usage(what, reason).remedy("use fewer --sequences or --tokens"))
}

fn table(found: &[Measurement]) -> Table {
    let mut table = Table::new([
        ("what", Align::Left),
        ("shape", Align::Left),
        ("type", Align::Left),
        ("best ms", Align::Right),
        ("median ms", Align::Right),
        ("rate", Align::Right),
        ("", Align::Left),
    ]);
    for one in found {
        let sizes = one.shape.iter();
        let sizes: Vec<String> = sizes.map(|(name, size)| format!("{name} {size}")).collect();
        table.push(Row::new([
            one.name.replace('_', " "),
            sizes.join(", "),
            one.dtype.to_string(),
            significant(one.best_seconds * 1e3),
            significant(one.median_seconds * 1e3),
            significant(one.rate),
            one.unit.to_owned(),
        ]));
    }
    table
}
