//! `massact tvr`

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{
    args::{DeviceArgs, ModelArgs, OutputArgs, ScaleArgs, SourceArgs, threshold},
    run::{Done, Run, Texts},
    settings,
    shared::Shared,
};
use crate::{
    engine::Timings,
    error::{Error, Result},
    experiments::Finding,
    model::demo,
    present,
    report::{
        WholeFolder,
        whole_folder::{check_unused, resolve},
    },
    tvr::{self, SCHEMA, Source, Tvr, TvrReport},
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
    draw: ScaleArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    target_std: f64,
    scale_with_depth: bool,
    ratio_threshold: f64,
    exclude: &'a [String],
    revision: Option<&'a str>,
    // JSON has no other names than text.
    out: Option<Cow<'a, str>>,
}

impl TvrArgs {
    pub(super) fn settings(&self) -> Settings<'_> {
        Settings {
            target_std: self.target_std,
            scale_with_depth: self.scale_with_depth,
            ratio_threshold: self.ratio_threshold,
            exclude: &self.exclude,
            revision: self.source.revision.as_deref(),
            out: self.out.as_deref().map(Path::to_string_lossy),
        }
    }

    fn rescaling(&self) -> tvr::Settings {
        tvr::Settings {
            target_std: self.target_std,
            scale_with_depth: self.scale_with_depth,
            ratio_threshold: self.ratio_threshold,
            exclude: self.exclude.clone(),
        }
    }
}

pub(super) fn run(args: &TvrArgs, shared: &Shared) -> Result<Done> {
    if args.out.is_none() && !args.dry_run {
        return Err(Error::usage("--out", "the new checkpoint needs a folder")
            .remedy("give --out DIR, or --dry-run to measure only"));
    }
    // What can be refused is refused before the checkpoint is read, or even downloaded.
    if let Some(out) = &args.out {
        if let Some(name) = args.source.name() {
            refuse_inside(out, Path::new(name))?;
        }
        check_unused(out, "--out")?;
    }
    let model = ModelArgs {
        source: args.source.clone(),
        device: DeviceArgs::named(&args.device),
    };
    let run = Run::open_files(shared, "tvr", &model, &args.output)?;
    if run.model().adapter().is_some() {
        return Err(Error::usage(
            "--adapter",
            "tvr rewrites a checkpoint's own files, and an adapter is none of them",
        )
        .remedy("merge it with its base model in Python first: merge_and_unload()"));
    }
    if let (Some(out), Some(folder)) = (&args.out, run.checkpoint().folder()) {
        refuse_inside(out, folder)?;
    }
    let settings = settings::value(&args.settings())?;
    // Before the run's folder, so that after an error it goes behind it, and with it what is around both.
    let new = args.out.as_ref();
    let new = new
        .map(|out| WholeFolder::create(out, "--out"))
        .transpose()?;
    let (folder, artifacts) = run.written(
        Texts::default(),
        &settings,
        |_| rescale(args, &run, &settings, new.as_ref()),
        |report, context| {
            let place = new.as_ref().map(WholeFolder::target);
            present::tvr::artifacts(&report, place, args.draw.scale, context)
        },
    )?;
    let Some(new) = new else {
        return Done::commit(folder, artifacts, run.progress);
    };
    // Both or neither.
    if let Err(error) = new.put() {
        drop(folder);
        return Err(error);
    }
    match Done::commit(folder, artifacts, run.progress) {
        Ok(done) => {
            new.keep();
            Ok(done)
        }
        Err(error) => {
            new.take_back();
            Err(error)
        }
    }
}

/// Measures, and writes the new checkpoint into its folder.
fn rescale(
    args: &TvrArgs,
    run: &Run<'_>,
    settings: &Value,
    new: Option<&WholeFolder>,
) -> Result<Finding<TvrReport>> {
    let mut tvr = Tvr::new(run.model(), args.rescaling(), run.session().weights())?;
    if new.is_some() {
        tvr.refuse_other_files()?;
    }
    tvr.refuse_packed()?;
    let source = match run.checkpoint().folder() {
        Some(folder) => Source::Folder(folder),
        None => Source::Embedded(&demo::DESCRIPTIONS),
    };
    let started = Instant::now();
    match new {
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
    let timings = Timings {
        statistics: started.elapsed(),
        ..Timings::default()
    };
    let document = run.context(settings).document(SCHEMA, &report)?;
    if let Some(new) = new {
        // How it was made.
        new.write(PROVENANCE, format!("{document:#}\n").as_bytes())?;
    }
    Ok(Finding {
        result: report,
        timings,
    })
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

fn target_std(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (1e-30..=1e30).contains(&value) => Ok(value),
        _ => Err("expected a number above 0".into()),
    }
}
