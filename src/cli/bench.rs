//! `massact bench`

use clap::{Args, ValueEnum as _};
use serde_json::json;

use super::args::{ModelArgs, positive};
use crate::{
    bench::{self, Effort, LEAST_TIME, Measurement, Part, Request, SHAPES, Shape},
    checkpoint,
    engine::Device,
    error::Result,
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

fn shape(name: &str) -> Result<Shape, String> {
    let names = SHAPES.map(|shape| shape.name).join(", ");
    let found = SHAPES.into_iter().find(|shape| shape.name == name);
    found.ok_or_else(|| format!("expected one of {names}"))
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let progress = Progress::new(args.quiet);
    let types = args.model.device.types();
    let device = Device::open(&args.model.device.device, types, progress)?;
    let revision = args.model.source.revision.as_deref();
    let source = &args.model.source;
    let (model, mut checkpoint) =
        checkpoint::find(source.name(), revision, source.adapter.as_deref(), progress)?;
    checkpoint.record.label.clone_from(&source.label);
    let precision = device.precision(types, &model)?;
    let found = bench::run(
        &device,
        precision,
        &model,
        &Request {
            parts: args.parts.clone(),
            shape: args.shape,
            head_dims: args.head_dims.clone(),
            sequences: args.sequences,
            tokens: args.tokens,
            effort: Effort {
                repetitions: args.repetitions,
                least: LEAST_TIME,
            },
            budget: args.model.device.budget(),
        },
    )?;
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
        "device": device.place().device,
        "card": device.place().card,
        "compute_dtype": device.place().arithmetic(precision),
        "host": Host::current(),
        "shape": operations.then_some(args.shape.name),
        "model": passes.then_some(&checkpoint.record),
        "sequences": args.sequences,
        "tokens": args.tokens,
        "repetitions": args.repetitions,
        "measurements": found,
    }))
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
