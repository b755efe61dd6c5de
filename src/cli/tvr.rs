//! `massact tvr`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    args::{OutputArgs, SourceArgs, threshold},
    device::on_device,
    existence_validation::significant,
    figures,
    run::Run,
    weight_std,
};
use crate::{
    error::{Error, Result},
    model::demo,
    report::{
        WholeFolder,
        html::{Body, Section},
        table::{Align, Row, Table},
        whole_folder::{check_unused, resolve},
    },
    tvr::{SCHEMA, Settings, Source, Tvr, TvrReport},
};

/// File of the new checkpoint that says how it was made.
const PROVENANCE: &str = "massact_tvr.json";

/// Target variance rescaling: a new checkpoint whose layers' weights have a bounded spread.
///
/// Every 2-D weight W of the decoder layers with std(W) / target above the threshold becomes
/// (W - mean) / std * target + mean, and the bias of its module zero; all other tensors stay as they
/// are, byte for byte.
#[derive(Debug, Args)]
pub(super) struct TvrArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Folder of the new checkpoint; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure only: table, figure and JSON, no new checkpoint.
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    /// Standard deviation that a rescaled weight gets.
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = target_std)]
    target_std: f64,
    /// Divide the target by the square root of the layer's number, counted from 1.
    #[arg(long)]
    scale_with_depth: bool,
    /// Rescale weights whose standard deviation is more than this times the target.
    #[arg(long, value_name = "X", default_value_t = 1.2, value_parser = threshold)]
    ratio_threshold: f64,
    /// Leave the weights alone that have one of these in their name, whole between dots: q_proj,
    /// self_attn.k_proj.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    exclude: Vec<String>,
    /// `auto`, `cpu` or `cuda[:N]`: where the weights are measured and rescaled. The result is the
    /// same, bit for bit.
    #[arg(long, default_value = "auto")]
    device: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &TvrArgs) -> Result<()> {
    let out = args.out.as_deref();
    if out.is_none() && !args.dry_run {
        return Err(Error::usage("--out", "the new checkpoint needs a folder")
            .remedy("give --out DIR, or --dry-run to measure only"));
    }
    // What can be refused is refused before the checkpoint is read, or even downloaded.
    if let Some(out) = out {
        if let Some(name) = &args.source.pretrained {
            refuse_inside(out, Path::new(name))?;
        }
        check_unused(out, "--out")?;
    }
    let run = Run::open_files("tvr", &args.source, &args.device, &args.output)?;
    let source = match run.checkpoint.folder() {
        Some(folder) => Source::Folder(folder),
        None => Source::Embedded(&demo::DESCRIPTIONS),
    };
    if let (Some(out), Source::Folder(folder)) = (out, source) {
        refuse_inside(out, folder)?;
    }
    let mut tvr = Tvr::new(
        &run.checkpoint.model,
        Settings {
            target_std: args.target_std,
            scale_with_depth: args.scale_with_depth,
            ratio_threshold: args.ratio_threshold,
            exclude: args.exclude.clone(),
        },
        on_device!(&run.device, backend => backend),
    )?;
    let settings = json!({
        "target_std": args.target_std,
        "scale_with_depth": args.scale_with_depth,
        "ratio_threshold": args.ratio_threshold,
        "exclude": args.exclude,
        "revision": args.source.revision,
        "out": args.out,
    });
    let loaded = run.elapsed();
    let new = out
        .map(|out| WholeFolder::create(out, "--out"))
        .transpose()?;
    match &new {
        Some(folder) => {
            let left_out = tvr.write(source, folder, run.progress)?;
            if !left_out.is_empty() {
                run.progress
                    .notice(&format!("not copied: {}", left_out.join(", ")));
            }
        }
        None => tvr.measure(run.progress)?,
    }
    let report = tvr.report();
    let worked = run.elapsed().saturating_sub(loaded);
    let document = run.document(SCHEMA, &settings, &report)?;
    let new = new.map(|folder| finish(folder, &document)).transpose()?;

    let folder = run.folder(&settings)?;
    folder.write_json("tvr.json", &document)?;
    let figure = weight_std::figure(&folder, &run.model_name(), &report)?;
    let verdict = verdict(&run.model_name(), &report, new.as_deref());
    let table = table(&report);
    let mut sections = vec![
        Section::new("Weights by layer", Body::Figure(figure)),
        figures::table_section("Weights", &table),
    ];
    if !report.skipped.is_empty() {
        sections.push(figures::table_section("Left alone", &skipped(&report)));
    }
    sections.push(figures::settings_section(&settings));
    figures::page_of(
        &folder,
        &run,
        (&verdict, false),
        &format!(
            "float64 on {}",
            run.device.card().as_deref().unwrap_or("the CPU")
        ),
        sections,
    )?;
    run.finish_files(&folder, settings, loaded, worked)?;
    run.present(&folder, &document, || {
        table.print()?;
        if !report.skipped.is_empty() {
            super::print_line("\nleft alone:")?;
            skipped(&report).print()?;
        }
        super::print_line(&format!("\n{verdict}"))
    })
}

/// Says in the new checkpoint how it was made, and gives it its name.
fn finish(folder: WholeFolder, document: &Value) -> Result<PathBuf> {
    folder.write(PROVENANCE, format!("{document:#}\n").as_bytes())?;
    folder.commit()
}

/// The new checkpoint goes beside the old one, not into it.
fn refuse_inside(out: &Path, source: &Path) -> Result<()> {
    // Without such a folder, the name is a hub id.
    let Ok(source) = source.canonicalize() else {
        return Ok(());
    };
    if !resolve(out, "--out")?.starts_with(&source) {
        return Ok(());
    }
    Err(Error::usage(
        format!("--out {}", out.display()),
        "it is inside the checkpoint that is read",
    )
    .remedy("name a folder outside of it"))
}

fn verdict(name: &str, report: &TvrReport, new: Option<&Path>) -> String {
    let biases = match report.biases_zeroed {
        0 => String::new(),
        1 => ", 1 bias set to zero".to_owned(),
        count => format!(", {count} biases set to zero"),
    };
    let (rescaled, all) = (report.rescaled, report.weights.len());
    match new {
        Some(new) => format!(
            "{name}: {rescaled} of {all} weights rescaled{biases}; written to {}",
            new.display()
        ),
        None => format!("{name}: {rescaled} of {all} weights would be rescaled{biases}"),
    }
}

fn table(report: &TvrReport) -> Table {
    let mut table = Table::new([
        ("weight", Align::Left),
        ("mean", Align::Right),
        ("std", Align::Right),
        ("ratio", Align::Right),
        ("rescaled", Align::Left),
        ("std after", Align::Right),
        ("bias", Align::Left),
    ]);
    for weight in &report.weights {
        let rescaled = match (weight.changed, weight.excluded) {
            (true, _) => "yes",
            (false, true) => "excluded",
            (false, false) => "",
        };
        let row = Row::new([
            weight.name.clone(),
            significant(weight.mean),
            significant(weight.std),
            significant(weight.ratio),
            rescaled.to_owned(),
            significant(weight.std_after),
            if weight.bias_zeroed { "zeroed" } else { "" }.to_owned(),
        ]);
        table.push(row.emphasised(weight.changed));
    }
    table
}

fn skipped(report: &TvrReport) -> Table {
    let mut table = Table::new([
        ("tensor", Align::Left),
        ("shape", Align::Left),
        ("reason", Align::Left),
    ]);
    for tensor in &report.skipped {
        table.push(Row::new([
            tensor.name.clone(),
            format!("{:?}", tensor.shape),
            tensor.reason.to_owned(),
        ]));
    }
    table
}

fn target_std(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (1e-30..=1e30).contains(&value) => Ok(value),
        _ => Err("expected a number above 0".into()),
    }
}
