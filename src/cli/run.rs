//! What every run shares: its clock, its folder and its run.json.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    args::{ModelArgs, OutputArgs, TextArgs},
    settings::ids_hash,
    shared::{Corpus, CorpusRequest, Opened, Shared},
};
use crate::{
    checkpoint::Checkpoint,
    data::{Provenance, sequences::Sequences},
    engine::{self, Session},
    error::Result,
    experiments::Finding,
    model::Model,
    present::{Artifacts, Block, Context},
    progress::Progress,
    report::{
        Identity, RunFolder, RunRecord, folder,
        run::{
            Build, Checksum, Host, InputRecord, Origin, RUN_SCHEMA, Timings, memory_parts,
            now_rfc3339, peak_memory,
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
pub(super) struct Run<'a> {
    command: &'static str,
    shared: &'a Shared,
    opened: Rc<Opened>,
    pub(super) progress: Progress,
    /// The types of the arithmetic, and where: `float32`, `float32 on the CPU`.
    arithmetic: String,
    computed_in: String,
    started: Instant,
    started_at: String,
    output: OutputArgs,
    seed: u64,
}

/// What a command leaves: its folder is in place, and nothing is printed yet.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) folder: PathBuf,
    artifacts: Artifacts,
    progress: Progress,
}

impl<'a> Run<'a> {
    /// Checks the output folder, then opens the device and the model.
    pub(super) fn open(
        shared: &'a Shared,
        command: &'static str,
        args: &ModelArgs,
        output: &OutputArgs,
        seed: u64,
    ) -> Result<Self> {
        Self::start(shared, command, output, seed, |progress| {
            shared.open(args, true, progress)
        })
    }

    /// As [`Run::open`], for work on stored tensors, in float64, that draws nothing at random.
    pub(super) fn open_files(
        shared: &'a Shared,
        command: &'static str,
        args: &ModelArgs,
        output: &OutputArgs,
    ) -> Result<Self> {
        let run = Self::start(shared, command, output, 0, |progress| {
            shared.open(args, false, progress)
        })?;
        Ok(Self {
            arithmetic: "float64".to_owned(),
            computed_in: format!("float64 on {}", run.session().place().name()),
            ..run
        })
    }

    fn start(
        shared: &'a Shared,
        command: &'static str,
        output: &OutputArgs,
        seed: u64,
        open: impl FnOnce(Progress) -> Result<Rc<Opened>>,
    ) -> Result<Self> {
        let (started, started_at) = (Instant::now(), now_rfc3339());
        folder::check_writable(&output.save_dir)?;
        let progress = shared.progress(output.quiet);
        let opened = open(progress)?;
        let progress = progress.about(opened.checkpoint.record.shown());
        opened.session.show_in(progress);
        Ok(Self {
            command,
            shared,
            arithmetic: opened.session.arithmetic(),
            computed_in: opened.session.computed_in(),
            opened,
            progress,
            started,
            started_at,
            output: output.clone(),
            seed,
        })
    }

    /// What computes.
    pub(super) fn session(&self) -> &Session {
        &self.opened.session
    }

    /// Who the model is.
    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.opened.checkpoint
    }

    /// The decoder.
    pub(super) fn model(&self) -> &Model {
        self.session().model()
    }

    /// Whether the model is part of the binary.
    pub(super) fn built_in_model(&self) -> bool {
        self.opened.built_in_model()
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Who the run is: the checkpoint, the content of its texts, and the settings.
    pub(super) fn identity(&self, settings: &Value, texts: &Texts<'_>) -> Result<Identity> {
        let mut settings = settings.clone();
        let on_card = self.session().place().card.is_some();
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
            self.checkpoint().identity(),
            self.checkpoint().fingerprint(self.model())?,
            &contents,
            &settings,
        ))
    }

    /// Begins the folder for a run.
    fn folder(&self, identity: &Identity) -> Result<RunFolder> {
        RunFolder::create(
            &self.output.save_dir,
            &self.checkpoint().folder_name(),
            self.command,
            &identity.digest(),
        )
    }

    /// What was said of the model, and of layers that lack what was asked for.
    fn notices(&self) -> Vec<String> {
        let mut notices = self.model().notices();
        notices.extend(self.session().lacking());
        notices
    }

    /// What the experiment's result does not know.
    pub(super) fn context<'c>(&'c self, settings: &'c Value) -> Context<'c> {
        Context {
            model: &self.checkpoint().record,
            computed_in: self.computed_in.clone(),
            notices: self.notices(),
            settings,
            origin: self.origin(None, &[]),
        }
    }

    fn origin(&self, corpus: Option<&Provenance>, evaluation: &[Provenance]) -> Origin {
        let arguments = self.shared.arguments();
        origin(
            self.command,
            arguments,
            &self.started_at,
            corpus,
            evaluation,
        )
    }

    /// Up to `nsamples` windows from the start of the text that the arguments name.
    pub(super) fn windows(&self, args: &TextArgs, nsamples: usize) -> Result<Sequences> {
        let (shared, progress) = (self.shared, self.progress);
        shared.windows(&self.opened, args, nsamples, progress)
    }

    /// One sequence of each text, exactly, or with `chat` of what the chat template makes of it.
    pub(super) fn texts(
        &self,
        texts: &[impl AsRef<str>],
        add_bos_token: bool,
        chat: bool,
    ) -> Result<Sequences> {
        match chat {
            true => Sequences::of_chats(texts, self.model()),
            false => Sequences::of_texts(texts, add_bos_token, self.model(), self.progress),
        }
    }

    /// What the request's windows show.
    pub(super) fn corpus(&self, request: &CorpusRequest) -> Result<Corpus> {
        self.shared.corpus(&self.opened, request)
    }

    /// Everything behind the loaded texts: the experiment, its artifacts, run.json.
    pub(super) fn conduct<R>(
        &self,
        texts: Texts<'_>,
        settings: &Value,
        experiment: impl FnOnce(&RunFolder) -> Result<Finding<R>>,
        present: impl FnOnce(R, &Context<'_>) -> Result<Artifacts>,
    ) -> Result<Done> {
        let (folder, artifacts) = self.written(texts, settings, experiment, present)?;
        Done::commit(folder, artifacts, self.progress)
    }

    /// As [`Run::conduct`], where the folder does not yet take its place.
    pub(super) fn written<R>(
        &self,
        texts: Texts<'_>,
        settings: &Value,
        experiment: impl FnOnce(&RunFolder) -> Result<Finding<R>>,
        present: impl FnOnce(R, &Context<'_>) -> Result<Artifacts>,
    ) -> Result<(RunFolder, Artifacts)> {
        let loaded = self.elapsed();
        let identity = self.identity(settings, &texts)?;
        let folder = self.folder(&identity)?;
        let Finding { result, timings } = experiment(&folder)?;
        let context = Context {
            origin: self.origin(texts.corpus, texts.evaluation),
            ..self.context(settings)
        };
        let artifacts = present(result, &context)?;
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
        Ok((folder, artifacts))
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
        let mut inputs = self.checkpoint().inputs(self.model())?;
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
            massact: build(),
            command: self.command.to_owned(),
            arguments: self.shared.arguments(),
            settings,
            seed: self.seed,
            model: self.checkpoint().record.clone(),
            identity,
            device: self.session().place().device.clone(),
            card: self.session().place().card.clone(),
            compute_dtype: self.arithmetic.clone(),
            config: self.model().config_record().clone(),
            weights: self.model().weights_record().clone(),
            notices: self.notices(),
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

/// What this program was built from.
pub(super) fn build() -> Build {
    Build::new(
        option_env!("MASSACT_GIT_COMMIT"),
        option_env!("MASSACT_RUSTC"),
        option_env!("MASSACT_TARGET"),
    )
}

/// How this run came about.
pub(super) fn origin(
    command: &str,
    arguments: Vec<String>,
    started_at: &str,
    corpus: Option<&Provenance>,
    evaluation: &[Provenance],
) -> Origin {
    let corpus = corpus.into_iter().map(|text| ("Text", text));
    let evaluation = evaluation.iter().map(|text| ("Evaluation text", text));
    let texts = corpus.chain(evaluation);
    Origin {
        command: command.to_owned(),
        arguments,
        texts: texts
            .map(|(role, text)| (role.to_owned(), text.to_string()))
            .collect(),
        started_at: started_at.to_owned(),
        massact: build().to_string(),
    }
}

impl Done {
    /// Puts the folder in its place.
    pub(super) fn commit(
        folder: RunFolder,
        artifacts: Artifacts,
        progress: Progress,
    ) -> Result<Self> {
        Ok(Self {
            folder: folder.commit()?,
            artifacts,
            progress,
        })
    }

    /// Prints the document with `--json`, the folder with `--print-folder`, else the tables, and says
    /// where the files are.
    pub(super) fn show(&self, output: &OutputArgs) -> Result<()> {
        for notice in &self.artifacts.notices {
            self.progress.notice(notice);
        }
        if output.print_folder {
            return super::print_path(&self.folder);
        }
        if output.json {
            super::print_json(&self.artifacts.document)?;
        } else {
            for block in &self.artifacts.terminal {
                match block {
                    Block::Table(table) => table.print()?,
                    Block::Line(text) => super::print_line(text)?,
                }
            }
        }
        let folder = self.folder.display();
        self.progress.notice(&format!("results in {folder}"));
        Ok(())
    }
}
