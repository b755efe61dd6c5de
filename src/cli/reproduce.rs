//! `massact reproduce`

use std::path::PathBuf;

use clap::Args;

use super::{
    print_line,
    sweep::{RunArgs, commands, counted, downloads, experiment, run_all, write_report},
};
use crate::{
    bench::{self, Effort, LEAST_TIME, Part, Request, Shape},
    engine::{Device, Types},
    error::Result,
    model::demo,
    progress::Progress,
    report::{
        atomic::write_atomic,
        number::significant,
        table::{Align, Row, Table},
    },
    sweep::{
        Folder, Manifest, Plan, merge,
        published::{self, Checkpoint, checkpoints, pick},
        runs,
    },
};

/// The paper's experiments on its 18 checkpoints, beside its published numbers.
///
/// A sweep with the paper's context lengths, datasets and numbers of sequences, each with BOS and without. It
/// goes on where it stopped, and `massact sweep` does all with its folder that it does with others.
#[derive(Debug, Args)]
pub(super) struct ReproduceArgs {
    /// Only these checkpoints, by hub id or its last part. Default: all 18.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    models: Vec<String>,
    /// The sweep's folder.
    #[arg(long, value_name = "DIR", default_value = "massact-reproduce")]
    dir: PathBuf,
    /// Say what there is to do, how large the models are, and about how long this machine would take; write
    /// nothing.
    #[arg(long)]
    dry_run: bool,
    /// `auto`, `cpu`, `cuda[:N]`, `cuda:N,M`, or `cuda:all` for a process on every card.
    #[arg(long)]
    device: Option<String>,
    /// Remove models that were downloaded for this, and are done with, from the cache when together they
    /// take more than this.
    #[arg(long, value_name = "GB", value_parser = super::sweep::gigabytes)]
    max_cache_gb: Option<f64>,
    /// No progress and no notices.
    #[arg(long)]
    quiet: bool,
}

/// Tokens of the products that are timed.
const SEQUENCES: usize = 2;
const TOKENS: usize = 256;

/// Share of the rate of its products that a whole pass reaches.
const EFFICIENCY: f64 = 0.8;

pub(super) fn run(args: &ReproduceArgs) -> Result<()> {
    let chosen = match args.models.as_slice() {
        [] => checkpoints(),
        names => pick(names, "--models")?,
    };
    let text = plan(&chosen);
    let folder = std::env::current_dir().unwrap_or_default();
    let manifest = Plan::parse("plan.toml", &text, folder)?
        .manifest(&commands(), |task| experiment(task).map(drop))?;
    let progress = Progress::new(args.quiet);
    if args.dry_run {
        print_line(&text)?;
        return estimate(args, &chosen, &manifest, progress);
    }
    let folder = Folder::at(&args.dir);
    folder.write(&manifest)?;
    write_atomic(&folder.root().join("plan.toml"), text.as_bytes())?;
    let outcome = run_all(&RunArgs {
        dir: args.dir.clone(),
        index: None,
        jobs: 1,
        device: args.device.clone(),
        max_cache_gb: args.max_cache_gb,
        quiet: args.quiet,
        worker: None,
    });
    // What is done is shown, also where some of it failed.
    let finished = folder.finished(&manifest)?;
    merge::write(folder.root(), &finished)?;
    let comparison = published::compare(&runs::read(&finished)?);
    let table = published::long_table(&comparison);
    table.write(&folder.root().join(merge::FOLDER), "--dir")?;
    published::verdicts(&comparison).print()?;
    for note in &comparison.notes {
        progress.notice(note);
    }
    let page = write_report(&args.dir)?;
    progress.notice(&format!("results in {}", page.display()));
    outcome
}

/// The paper's runs as a plan of a sweep.
fn plan(chosen: &[Checkpoint]) -> String {
    let mut text = String::from(
        "# The experiments of \"A Refined Analysis of Massive Activations in LLMs\" (arXiv 2503.22329).\n\
         [defaults]\ndataset = \"redpajama\"\nseed = 42\nadd_bos_token = [true, false]\n",
    );
    for checkpoint in chosen {
        text.push_str(&format!(
            "\n[[model]]\npretrained = \"{}\"\n",
            checkpoint.hub_id
        ));
        if let Some(revision) = &checkpoint.revision {
            text.push_str(&format!("revisions = [\"{revision}\"]\n"));
        }
        text.push_str(&format!("context_length = {}\n", checkpoint.context_length));
    }
    for (name, settings) in [
        ("existence-validation", "nsamples = 10\n"),
        ("tokens-analysis", "nsamples = 50\ncompat = \"reference\"\n"),
        (
            "intervention-analysis",
            "nsamples = 50\ncalibration_nsamples = 100\ncompat = \"reference\"\neval = [[\"wikitext\", \"c4\", \"pg19\"]]\n",
        ),
    ] {
        text.push_str(&format!("\n[[experiment]]\nname = \"{name}\"\n{settings}"));
    }
    text
}

/// Plan, sizes and hours.
fn estimate(
    args: &ReproduceArgs,
    chosen: &[Checkpoint],
    manifest: &Manifest,
    progress: Progress,
) -> Result<()> {
    let name = args.device.as_deref().unwrap_or("auto");
    // One card is timed where several are to work.
    let device = match name {
        "cuda:all" => "cuda",
        name => name,
    };
    let device = Device::open(device, Types::default(), progress)?;
    let devices = match name {
        "cuda:all" => Device::cards()?.len(),
        _ => device.count(),
    };
    let rate = EFFICIENCY * devices as f64 * rate(&device)?;
    let hours = |checkpoint: &Checkpoint| checkpoint.flops() / rate / 3600.0;
    let mut table = Table::new([
        ("model", Align::Left),
        ("parameters", Align::Right),
        ("GB on the hub", Align::Right),
        ("context length", Align::Right),
        ("tasks", Align::Right),
        ("million tokens", Align::Right),
        ("about hours", Align::Right),
    ]);
    for checkpoint in chosen {
        let tasks = manifest.tasks.iter();
        let tasks = tasks.filter(|task| task.model == checkpoint.hub_id).count();
        table.push(Row::new([
            checkpoint.hub_id.clone(),
            format!("{:.2} B", checkpoint.parameters as f64 / 1e9),
            format!("{:.1}", checkpoint.bytes as f64 / 1e9),
            checkpoint.context_length.to_string(),
            tasks.to_string(),
            format!("{:.1}", checkpoint.tokens() as f64 / 1e6),
            significant(hours(checkpoint)),
        ]));
    }
    table.print()?;
    let bytes: u64 = chosen.iter().map(|own| own.bytes).sum();
    let total: f64 = chosen.iter().map(hours).sum();
    print_line(&format!(
        "\n{} on {} of {:.1} GB; about {} hours on {} at {} TFLOP/s, without downloads",
        counted(manifest.tasks.len(), "task"),
        counted(chosen.len(), "model"),
        bytes as f64 / 1e9,
        significant(total),
        device.place().name(),
        significant(rate / 1e12)
    ))?;
    print_line(&downloads(manifest, progress)?)
}

/// What the device's products reach, in operations a second.
fn rate(device: &Device) -> Result<f64> {
    let model = demo::open(demo::NAME)?;
    let precision = device.precision(Types::default(), &model)?;
    let found = bench::run(
        device,
        precision,
        &model,
        &Request {
            parts: vec![Part::Product],
            shape: Shape::named("llama-1.1b")?,
            head_dims: Vec::new(),
            sequences: SEQUENCES,
            tokens: TOKENS,
            effort: Effort {
                repetitions: 2,
                least: LEAST_TIME,
            },
            budget: None,
        },
    )?;
    let (work, seconds) = found
        .measurements
        .iter()
        .fold((0.0, 0.0), |(work, seconds), product| {
            (work + product.work as f64, seconds + product.best_seconds)
        });
    Ok(work / seconds)
}
