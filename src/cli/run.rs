//! What every run shares: its clock, its folder and its run.json.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    args::{ModelArgs, OutputArgs, SourceArgs},
    checkpoint::{self, Checkpoint},
    device::{self, Device, Opened},
    sequences::Sequences,
};
use crate::{
    backend::cuda::driver::Options,
    data::Provenance,
    engine,
    error::{Error, Result},
    progress::Progress,
    report::{
        RunFolder, RunRecord, folder,
        run::{
            Build, Host, InputRecord, RUN_SCHEMA, Timings, memory_parts, now_rfc3339, peak_memory,
        },
    },
};

/// A run between its start and its run.json.
pub(super) struct Run {
    command: &'static str,
    pub(super) device: Device,
    pub(super) checkpoint: Checkpoint,
    pub(super) progress: Progress,
    started: Instant,
    started_at: String,
    output: OutputArgs,
    seed: u64,
}

impl Run {
    /// Checks the output folder, then opens the device and the model.
    pub(super) fn open(
        command: &'static str,
        args: &ModelArgs,
        output: &OutputArgs,
        seed: u64,
    ) -> Result<Self> {
        Self::start(command, output, seed, |progress| {
            // First the device: a model may be a download of hours.
            let opened = device::open(&args.device, progress)?;
            Self::load(args, &opened, progress)
        })
    }

    /// As [`Run::open`], on a device that is open.
    pub(super) fn open_on(
        opened: &Opened,
        command: &'static str,
        args: &ModelArgs,
        output: &OutputArgs,
        seed: u64,
    ) -> Result<Self> {
        let load = |progress| Self::load(args, opened, progress);
        Self::start(command, output, seed, load)
    }

    fn load(args: &ModelArgs, opened: &Opened, progress: Progress) -> Result<(Device, Checkpoint)> {
        let (name, revision) = (&args.pretrained, &args.revision);
        let checkpoint = checkpoint::find(name.as_deref(), revision.as_deref(), progress)?;
        let device = opened.for_model(&args.device, &checkpoint.model)?;
        Ok((device, checkpoint))
    }

    /// As [`Run::open`], for work on stored tensors that draws nothing at random.
    pub(super) fn open_files(
        command: &'static str,
        source: &SourceArgs,
        device: &str,
        output: &OutputArgs,
    ) -> Result<Self> {
        Self::start(command, output, 0, |progress| {
            let opened = device::open_named(device, Options::default(), progress)?;
            let (name, revision) = (&source.pretrained, &source.revision);
            let checkpoint = checkpoint::find(name.as_deref(), revision.as_deref(), progress)?;
            Ok((opened.for_files(), checkpoint))
        })
    }

    fn start(
        command: &'static str,
        output: &OutputArgs,
        seed: u64,
        open: impl FnOnce(Progress) -> Result<(Device, Checkpoint)>,
    ) -> Result<Self> {
        let (started, started_at) = (Instant::now(), now_rfc3339());
        folder::check_writable(&output.save_dir)?;
        let progress = Progress::new(output.quiet);
        let (device, checkpoint) = open(progress)?;
        Ok(Self {
            command,
            device,
            checkpoint,
            progress,
            started,
            started_at,
            output: output.clone(),
            seed,
        })
    }

    /// Whether the model is part of the binary.
    pub(super) fn built_in_model(&self) -> bool {
        self.checkpoint.record.source == "built-in"
    }

    /// Last part of the model's name, as folders and titles show it.
    pub(super) fn model_name(&self) -> String {
        let name = self.checkpoint.record.name.trim_end_matches('/');
        name.rsplit('/').next().unwrap_or(name).to_owned()
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Creates the folder for these settings.
    pub(super) fn folder(&self, settings: &Value) -> Result<RunFolder> {
        let mut settings = settings.clone();
        if let (Device::Cuda(_), Value::Object(settings)) = (&self.device, &mut settings) {
            // Other numbers than the CPU's, so another folder.
            settings.insert("arithmetic".into(), json!(self.device.arithmetic()));
        }
        RunFolder::create(
            &self.output.save_dir,
            &self.checkpoint.record.name,
            self.command,
            &settings,
        )
    }

    /// The experiment's JSON: schema and settings first, then the result's own fields.
    pub(super) fn document(
        &self,
        schema: &str,
        settings: &Value,
        result: &impl Serialize,
    ) -> Result<Value> {
        let mut document = json!({ "schema": schema, "model": self.checkpoint.record.name });
        let result = serde_json::to_value(result)
            .map_err(|error| Error::new("result", format!("not valid JSON: {error}")))?;
        for part in [settings, &result] {
            if let (Value::Object(all), Value::Object(part)) = (&mut document, part) {
                all.extend(part.clone());
            }
        }
        Ok(document)
    }

    /// Writes run.json.
    pub(super) fn finish(
        &self,
        folder: &RunFolder,
        settings: Value,
        sequences: &Sequences,
        loaded: Duration,
        timings: engine::Timings,
    ) -> Result<()> {
        self.finish_with(folder, settings, sequences, &[], loaded, timings)
    }

    /// Writes run.json of a run that read more texts than the sequences'.
    pub(super) fn finish_with(
        &self,
        folder: &RunFolder,
        settings: Value,
        sequences: &Sequences,
        more: &[Provenance],
        loaded: Duration,
        timings: engine::Timings,
    ) -> Result<()> {
        let record = self.record_with(settings, sequences, more, loaded, timings)?;
        folder.write_json("run.json", &record).map(drop)
    }

    /// What run.json says.
    pub(super) fn record(
        &self,
        settings: Value,
        sequences: &Sequences,
        loaded: Duration,
        timings: engine::Timings,
    ) -> Result<RunRecord> {
        self.record_with(settings, sequences, &[], loaded, timings)
    }

    fn record_with(
        &self,
        settings: Value,
        sequences: &Sequences,
        more: &[Provenance],
        loaded: Duration,
        timings: engine::Timings,
    ) -> Result<RunRecord> {
        let mut inputs = self.checkpoint.inputs()?;
        for source in sequences.provenance.iter().chain(more) {
            inputs.extend(source.files.iter().map(|file| InputRecord {
                path: file.path.clone(),
                bytes: file.bytes,
                blake3: file.blake3.clone(),
            }));
        }
        let tokens = sequences.ids.iter().map(|ids| ids.len() as u64).sum();
        let timings = Timings {
            load_seconds: loaded.as_secs_f64(),
            forward_seconds: timings.forward.as_secs_f64(),
            statistics_seconds: timings.statistics.as_secs_f64(),
            total_seconds: self.elapsed().as_secs_f64(),
        };
        let mut settings = settings;
        if let Value::Object(settings) = &mut settings {
            if let Some(source) = &sequences.provenance {
                settings.insert("text".into(), json!(source));
            }
            if !more.is_empty() {
                settings.insert("evaluation_texts".into(), json!(more));
            }
        }
        let arithmetic = self.device.arithmetic();
        Ok(self.record_of(settings, inputs, tokens, timings, arithmetic))
    }

    /// Writes run.json of work that runs no tokens and computes in float64.
    pub(super) fn finish_files(
        &self,
        folder: &RunFolder,
        settings: Value,
        loaded: Duration,
        statistics: Duration,
    ) -> Result<()> {
        let timings = Timings {
            load_seconds: loaded.as_secs_f64(),
            forward_seconds: 0.0,
            statistics_seconds: statistics.as_secs_f64(),
            total_seconds: self.elapsed().as_secs_f64(),
        };
        let inputs = self.checkpoint.inputs()?;
        let record = self.record_of(settings, inputs, 0, timings, "float64".to_owned());
        folder.write_json("run.json", &record).map(drop)
    }

    fn record_of(
        &self,
        settings: Value,
        inputs: Vec<InputRecord>,
        tokens: u64,
        timings: Timings,
        compute_dtype: String,
    ) -> RunRecord {
        RunRecord {
            schema: RUN_SCHEMA.to_owned(),
            massact: Build::new(
                option_env!("MASSACT_GIT_COMMIT"),
                option_env!("MASSACT_RUSTC"),
                option_env!("MASSACT_TARGET"),
            ),
            command: self.command.to_owned(),
            settings,
            seed: self.seed,
            model: self.checkpoint.record.clone(),
            device: self.device.name(),
            card: self.device.card(),
            compute_dtype,
            config: self.checkpoint.model.config_record().clone(),
            weights: self.checkpoint.model.weights_record().clone(),
            notices: self.checkpoint.model.notices(),
            inputs,
            tokens_per_second: timings.tokens_per_second(tokens),
            timings,
            tokens,
            peak_memory_bytes: peak_memory(),
            memory_at_end: memory_parts(),
            started_at: self.started_at.clone(),
            host: Host::current(),
        }
    }

    /// Prints the document with `--json`, else runs `table`, then says where the files are.
    pub(super) fn present(
        &self,
        folder: &RunFolder,
        document: &Value,
        table: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if self.output.json {
            super::print_json(document)?;
        } else {
            table()?;
        }
        self.progress
            .notice(&format!("results in {}", folder.path().display()));
        Ok(())
    }
}
