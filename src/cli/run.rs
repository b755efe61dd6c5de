//! What every run shares: its clock, its folder and its run.json.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    args::{ModelArgs, OutputArgs, SourceArgs, TextArgs},
    settings::ids_hash,
};
use crate::{
    checkpoint::{self, Checkpoint},
    data::{
        Provenance,
        sequences::{self, Sequences},
    },
    engine::{self, Device, Session, Types},
    error::Result,
    experiments::Finding,
    model::Model,
    present::{Artifacts, Block, Context},
    progress::Progress,
    report::{
        Identity, RunFolder, RunRecord, folder,
        run::{
            Build, Checksum, Host, InputRecord, RUN_SCHEMA, Timings, memory_parts, now_rfc3339,
            peak_memory,
        },
    },
};

/// The texts that went through the model.
#[derive(Debug, Default)]
pub(super) struct Texts<'a> {
    pub(super) corpus: Option<&'a Provenance>,
    pub(super) evaluation: &'a [Provenance],
    /// What was made of the corpus: how a text is read and cut decides the numbers as well.
    ids: String,
    /// Tokens of all sequences.
    pub(super) tokens: u64,
}

impl<'a> From<&'a Sequences> for Texts<'a> {
    fn from(sequences: &'a Sequences) -> Self {
        Self {
            corpus: sequences.provenance.as_ref(),
            ids: ids_hash(&sequences.ids),
            tokens: sequences.ids.iter().map(|ids| ids.len() as u64).sum(),
            ..Self::default()
        }
    }
}

/// A run between its start and its run.json.
pub(super) struct Run {
    command: &'static str,
    pub(super) session: Session,
    pub(super) checkpoint: Checkpoint,
    pub(super) progress: Progress,
    /// The types of the arithmetic, and where: `float32`, `float32 on the CPU`.
    arithmetic: String,
    computed_in: String,
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
        let progress = Progress::new(output.quiet);
        Self::start(command, output, progress, seed, |progress| {
            // First the device: a model may be a download of hours.
            let types = args.device.types();
            let device = Device::open(&args.device.device, types, progress)?;
            Self::load(args, &device, progress)
        })
    }

    /// As [`Run::open`], on a device that is open.
    pub(super) fn open_on(
        device: &Device,
        command: &'static str,
        args: &ModelArgs,
        output: &OutputArgs,
        progress: Progress,
        seed: u64,
    ) -> Result<Self> {
        let load = |progress| Self::load(args, device, progress);
        Self::start(command, output, progress, seed, load)
    }

    fn load(
        args: &ModelArgs,
        device: &Device,
        progress: Progress,
    ) -> Result<(Session, Checkpoint)> {
        let source = &args.source;
        let revision = source.revision.as_deref();
        let (model, mut checkpoint) = checkpoint::find(source.name(), revision, progress)?;
        checkpoint.record.label.clone_from(&source.label);
        let progress = progress.about(checkpoint.record.shown());
        model.weights.take_checksums();
        let (types, budget) = (args.device.types(), args.device.budget());
        let session = Session::open(model, device, types, budget, progress)?;
        Ok((session, checkpoint))
    }

    /// As [`Run::open`], for work on stored tensors, in float64, that draws nothing at random.
    pub(super) fn open_files(
        command: &'static str,
        source: &SourceArgs,
        device: &str,
        output: &OutputArgs,
    ) -> Result<Self> {
        let progress = Progress::new(output.quiet);
        let run = Self::start(command, output, progress, 0, |progress| {
            let types = Types::default();
            let device = Device::open(device, types, progress)?;
            let revision = source.revision.as_deref();
            let (model, mut checkpoint) = checkpoint::find(source.name(), revision, progress)?;
            checkpoint.record.label.clone_from(&source.label);
            let session = Session::open(model, &device, types, None, progress)?;
            Ok((session, checkpoint))
        })?;
        Ok(Self {
            arithmetic: "float64".to_owned(),
            computed_in: format!("float64 on {}", run.session.place().name()),
            ..run
        })
    }

    fn start(
        command: &'static str,
        output: &OutputArgs,
        progress: Progress,
        seed: u64,
        open: impl FnOnce(Progress) -> Result<(Session, Checkpoint)>,
    ) -> Result<Self> {
        let (started, started_at) = (Instant::now(), now_rfc3339());
        folder::check_writable(&output.save_dir)?;
        let (session, checkpoint) = open(progress)?;
        Ok(Self {
            command,
            arithmetic: session.arithmetic(),
            computed_in: session.computed_in(),
            session,
            progress: progress.about(checkpoint.record.shown()),
            checkpoint,
            started,
            started_at,
            output: output.clone(),
            seed,
        })
    }

    /// The decoder.
    pub(super) fn model(&self) -> &Model {
        self.session.model()
    }

    /// Whether the model is part of the binary.
    pub(super) fn built_in_model(&self) -> bool {
        self.checkpoint.record.source == "built-in"
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Who the run is: the checkpoint, the content of its texts, and the settings.
    pub(super) fn identity(&self, settings: &Value, texts: &Texts<'_>) -> Result<Identity> {
        let mut settings = settings.clone();
        let on_card = self.session.place().card.is_some();
        if let (true, Value::Object(settings)) = (on_card, &mut settings) {
            // Other numbers than the CPU's, so another folder.
            settings.insert("arithmetic".into(), json!(self.arithmetic));
        }
        let sources = texts.corpus.into_iter().chain(texts.evaluation);
        let contents: Vec<String> = sources
            .flat_map(|source| source.files.iter().map(|file| file.blake3.clone()))
            .chain([texts.ids.clone()])
            .collect();
        Ok(Identity::new(
            self.checkpoint.identity(),
            self.checkpoint.fingerprint(self.model())?,
            &contents,
            &settings,
        ))
    }

    /// Begins the folder for a run.
    fn folder(&self, identity: &Identity) -> Result<RunFolder> {
        RunFolder::create(
            &self.output.save_dir,
            &self.checkpoint.folder_name(),
            self.command,
            &identity.digest(),
        )
    }

    /// What the experiment's result does not know.
    pub(super) fn context<'a>(&'a self, settings: &'a Value) -> Context<'a> {
        Context {
            model: &self.checkpoint.record,
            computed_in: self.computed_in.clone(),
            notices: self.model().notices(),
            settings,
        }
    }

    /// Up to `nsamples` windows from the start of the text that the arguments name.
    pub(super) fn windows(&self, args: &TextArgs, nsamples: usize) -> Result<Sequences> {
        let spec = args.spec(self.built_in_model());
        sequences::load(&spec, self.model(), nsamples, self.progress)
    }

    /// Everything behind the loaded texts: the experiment, its artifacts, run.json, and what is
    /// printed.
    pub(super) fn conduct<R>(
        &self,
        texts: Texts<'_>,
        settings: &Value,
        experiment: impl FnOnce(&RunFolder) -> Result<Finding<R>>,
        present: impl FnOnce(R, &Context<'_>) -> Result<Artifacts>,
    ) -> Result<()> {
        let loaded = self.elapsed();
        let identity = self.identity(settings, &texts)?;
        let folder = self.folder(&identity)?;
        let Finding { result, timings } = experiment(&folder)?;
        let artifacts = present(result, &self.context(settings))?;
        artifacts.write(&folder, &self.output.formats)?;
        let record = self.record(identity, settings.clone(), texts, loaded, timings)?;
        folder.write_json("run.json", &record)?;
        if let Some(earlier) = record.of_other_contents(folder.path()) {
            let place = Path::new(&earlier);
            self.progress.notice(&format!(
                "the checkpoint's files have changed since the run in {earlier}, which {}",
                if place == folder.path() {
                    "this one replaces"
                } else {
                    "stays beside this one"
                }
            ));
        }
        show(&artifacts, &self.output, folder, self.progress)
    }

    /// What run.json says.
    pub(super) fn record(
        &self,
        identity: Identity,
        mut settings: Value,
        texts: Texts<'_>,
        loaded: Duration,
        timings: engine::Timings,
    ) -> Result<RunRecord> {
        let mut inputs = self.checkpoint.inputs(self.model())?;
        for source in texts.corpus.into_iter().chain(texts.evaluation) {
            inputs.extend(source.files.iter().map(|file| InputRecord {
                path: file.path.clone(),
                bytes: file.bytes,
                checksum: Checksum::Blake3(file.blake3.clone()),
            }));
        }
        let timings = Timings {
            load_seconds: loaded.as_secs_f64(),
            forward_seconds: timings.forward.as_secs_f64(),
            statistics_seconds: timings.statistics.as_secs_f64(),
            total_seconds: self.elapsed().as_secs_f64(),
        };
        if let Value::Object(settings) = &mut settings {
            if let Some(source) = texts.corpus {
                settings.insert("text".into(), json!(source));
            }
            if !texts.evaluation.is_empty() {
                settings.insert("evaluation_texts".into(), json!(texts.evaluation));
            }
        }
        Ok(RunRecord {
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
            identity,
            device: self.session.place().device.clone(),
            card: self.session.place().card.clone(),
            compute_dtype: self.arithmetic.clone(),
            config: self.model().config_record().clone(),
            weights: self.model().weights_record().clone(),
            notices: self.model().notices(),
            inputs,
            tokens_per_second: timings.tokens_per_second(texts.tokens),
            timings,
            tokens: texts.tokens,
            peak_memory_bytes: peak_memory(),
            memory_at_end: memory_parts(),
            started_at: self.started_at.clone(),
            host: Host::current(),
        })
    }
}

/// Puts the folder in its place, prints the document with `--json`, else the tables, and says where
/// the files are.
pub(super) fn show(
    artifacts: &Artifacts,
    output: &OutputArgs,
    folder: RunFolder,
    progress: Progress,
) -> Result<()> {
    let path = folder.commit()?;
    for notice in &artifacts.notices {
        progress.notice(notice);
    }
    if output.json {
        super::print_json(&artifacts.document)?;
    } else {
        for block in &artifacts.terminal {
            match block {
                Block::Table(table) => table.print()?,
                Block::Line(text) => super::print_line(text)?,
            }
        }
    }
    progress.notice(&format!("results in {}", path.display()));
    Ok(())
}
