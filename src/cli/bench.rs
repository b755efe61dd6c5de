//! `massact bench`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum as _};
use serde_json::{Value, json};

use super::args::{ModelArgs, positive};
use crate::{
    bench::{self, Effort, LEAST_TIME, Looking, Measurement, Part, Request, Shape},
    checkpoint,
    engine::{Device, Types},
    error::{Error, Result},
    model::dtype::DType,
    progress::Progress,
    report::{
        atomic::write_atomic,
        number::significant,
        run::{Build, Host},
        table::{Align, Row, Table},
    },
};

/// How fast this machine computes, and what looking costs: single operations, and whole passes of a shape with
/// random weights or of a checkpoint.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What to time: operations at `--shape`; passes of it, or of a checkpoint. Default: all.
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        value_enum,
        hide_default_value = true,
        default_values_t = Part::value_variants().to_vec()
    )]
    parts: Vec<Part>,
    /// The model whose widths the operations have (default: gpt2); unless a checkpoint is given, it is also
    /// what passes run, with random weights that are made on the device and nothing on disk.
    #[arg(long, value_name = "NAME", value_parser = shape)]
    shape: Option<Shape>,
    /// Layers of the shape. Default: all of its model's.
    #[arg(
        long,
        value_name = "N",
        value_parser = positive,
        requires = "shape",
        conflicts_with = "model_name"
    )]
    layers: Option<usize>,
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
    /// Time cuBLASLt's algorithms for every shape of product that this run meets, and keep the fastest in a
    /// file (in MASSACT_CACHE_DIR, or ~/.cache/massact) that all later runs on this card read.
    #[arg(long)]
    tune: bool,
    /// A folder to write bench.json into.
    #[arg(long, value_name = "DIR")]
    save_dir: Option<PathBuf>,
    /// No progress and no notices.
    #[arg(long)]
    quiet: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the operations have without `--shape`.
const SHAPE: &str = "gpt2";

fn shape(name: &str) -> Result<Shape, String> {
    Shape::named(name).map_err(|_| format!("expected one of {}", Shape::names().join(", ")))
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    let progress = Progress::new(args.quiet);
    let types = args.model.device.types();
    let name = &args.model.device.device;
    let device = match args.tune {
        true => Device::open_tuning(name, types, progress)?,
        false => Device::open(name, types, progress)?,
    };
    if device.count() > 1 {
        return Err(
            Error::usage(format!("--device {}", name), "bench times one card")
                .remedy("name one, with --device cuda:N"),
        );
    }
    let revision = args.model.source.revision.as_deref();
    let source = &args.model.source;
    let (model, mut checkpoint) = match &args.shape {
        Some(shape) if source.name().is_none() => {
            let model = shape.model(args.layers, args.tokens)?;
            let checkpoint = checkpoint::random(&shape.name, &model);
            (model, checkpoint)
        }
        _ => checkpoint::find(source.name(), revision, source.adapter.as_deref(), progress)?,
    };
    checkpoint.record.label.clone_from(&source.label);
    let types = match types.arithmetic {
        // Noise is stored in no type, and cards run models in this one.
        None if checkpoint.record.source == "random" && !types.tf32 => Types {
            arithmetic: matches!(device, Device::Cuda(_)).then_some(DType::BFloat16),
            ..types
        },
        _ => types,
    };
    let precision = device.precision(types, &model)?;
    let operations = args
        .parts
        .iter()
        .any(|part| !matches!(part, Part::Model | Part::Looking));
    let shape = args.shape.clone().map_or_else(|| Shape::named(SHAPE), Ok)?;
    let found = bench::run(
        &device,
        precision,
        &model,
        &Request {
            parts: args.parts.clone(),
            shape: shape.clone(),
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
    let passes = args
        .parts
        .iter()
        .any(|part| matches!(part, Part::Model | Part::Looking));
    let document = json!({
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
        "shape": operations.then_some(shape.name),
        "model": passes.then_some(&checkpoint.record),
        "sequences": args.sequences,
        "tokens": args.tokens,
        "repetitions": args.repetitions,
        "measurements": found.measurements,
        "looking": found.looking,
    });
    if let Some(folder) = &args.save_dir {
        write(folder, &document)?;
    }
    if args.json {
        super::print_json(&document)?;
    } else {
        if !found.measurements.is_empty() {
            table(&found.measurements).print()?;
        }
        found.looking.as_ref().map_or(Ok(()), print_looking)?;
    }
    // Behind what was measured, which is told in any case.
    if args.tune
        && let Some((file, shapes)) = device.keep_tuned()?
    {
        progress.notice(&format!(
            "the fastest algorithms for {shapes} shapes of products are in {}",
            file.display()
        ));
    }
    Ok(())
}

fn write(folder: &Path, document: &Value) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::new(format!("--save-dir {}", folder.display()), error))?;
    let text = format!("{document:#}\n");
    write_atomic(&folder.join("bench.json"), text.as_bytes()).map(drop)
}

/// The ceilings in a line, the walks in a table.
fn print_looking(looking: &Looking) -> Result<()> {
    let ceilings = looking.ceilings;
    super::print_line(&format!(
        "copies reach {} GB/s, products {} TFLOP/s in the same run",
        significant(ceilings.copied_bytes_per_second / 1e9),
        significant(ceilings.product_flops_per_second / 1e12),
    ))?;
    let mut table = Table::new([
        ("a walk that looks at", Align::Left),
        ("median ms", Align::Right),
        ("tokens/s", Align::Right),
        ("added time", Align::Right),
        ("at least", Align::Right),
        ("TFLOP/s", Align::Right),
        ("of products", Align::Right),
        ("GB/s", Align::Right),
        ("of copies", Align::Right),
    ]);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    for walk in &looking.walks {
        table.push(Row::new([
            walk.looks_at.to_owned(),
            significant(walk.median_seconds * 1e3),
            significant(walk.tokens_per_second),
            percent(walk.added_share),
            percent(walk.least_added_share),
            significant(walk.flops_per_second / 1e12),
            percent(walk.of_product_ceiling),
            significant(walk.bytes_per_second / 1e9),
            percent(walk.of_copy_ceiling),
        ]));
    }
    table.print()
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
