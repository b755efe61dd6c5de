//! What the runs of one process have in common: the device, the model that was opened last, the texts
//! that were cut for it, and what a walk over them showed.
//!
//! A single command uses it once. In a sweep the tasks of a model follow each other, and a walk for the
//! first of them is a walk for all that are expected.

use std::{
    cell::{Cell, OnceCell, RefCell},
    path::PathBuf,
    rc::Rc,
};

use super::args::{DeviceArgs, ModelArgs, TextArgs, ThresholdArgs};
use crate::{
    checkpoint::{self, Checkpoint},
    data::{
        TextSource,
        sequences::{self, DefaultText, Sequences},
    },
    engine::{Device, Session, Timings},
    error::{Error, Kind, Result},
    experiments::CorpusWalk,
    model::Model,
    progress::Progress,
};

/// What is kept between runs.
#[derive(Default)]
pub(super) struct Shared {
    /// The command line of the run that is next, behind the program's name, for the record.
    arguments: RefCell<Vec<String>>,
    /// Where it shows its progress, unless its own arguments say so.
    progress: Cell<Option<Progress>>,
    devices: RefCell<Vec<(DeviceKey, Device)>>,
    model: RefCell<Option<(ModelKey, Rc<Opened>)>>,
    expected: RefCell<Vec<CorpusRequest>>,
    /// A model that cannot be opened; who asks again need not wait for the network again.
    refused: RefCell<Option<(ModelKey, Error)>>,
}

/// Name of the device, and whether its float32 products are in TF32.
type DeviceKey = (String, bool);

/// Everything that decides which session it is.
#[derive(Debug, Clone, PartialEq)]
struct ModelKey {
    name: Option<String>,
    revision: Option<String>,
    adapter: Option<PathBuf>,
    label: Option<String>,
    device: DeviceArgs,
}

/// What an experiment wants of a corpus.
#[derive(Debug, Clone)]
pub(super) struct CorpusRequest {
    pub(super) text: TextArgs,
    pub(super) nsamples: usize,
    pub(super) thresholds: ThresholdArgs,
    /// Whether the values of each sequence's first massive layer are to be read.
    pub(super) values: bool,
}

/// A walk, and the time that it took this run.
pub(super) struct Corpus {
    pub(super) walk: Rc<CorpusWalk>,
    pub(super) timings: Timings,
}

/// A model that is open, and what is known of texts with it.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) checkpoint: Checkpoint,
    built_in_tokens: OnceCell<usize>,
    texts: RefCell<Vec<CutText>>,
    walks: RefCell<Vec<Walked>>,
}

/// Which text, cut how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TextKey {
    source: String,
    seed: u64,
    context_length: Option<usize>,
    add_bos_token: bool,
}

/// The first windows of a text.
struct CutText {
    key: TextKey,
    /// Windows that were asked for; the text may have fewer.
    asked: usize,
    sequences: Rc<Sequences>,
}

struct Walked {
    key: TextKey,
    thresholds: ThresholdArgs,
    asked: usize,
    values: bool,
    walk: Rc<CorpusWalk>,
}

impl Shared {
    /// Of runs that this command line asks for.
    pub(super) fn of(arguments: Vec<String>) -> Self {
        let shared = Self::default();
        shared.next(arguments);
        shared
    }

    /// The next run is what this command line asks for.
    pub(super) fn next(&self, arguments: Vec<String>) {
        self.arguments.replace(arguments);
    }

    /// The command line of the run.
    pub(super) fn arguments(&self) -> Vec<String> {
        self.arguments.borrow().clone()
    }

    /// The runs to come show their progress there.
    pub(super) fn show_in(&self, progress: Progress) {
        self.progress.set(Some(progress));
    }

    /// Where the run shows its progress.
    pub(super) fn progress(&self, quiet: bool) -> Progress {
        let given = self.progress.get();
        given.unwrap_or_else(|| Progress::new(quiet))
    }

    /// Says what the runs to come want of corpora, so that the first walk serves them all.
    pub(super) fn expect(&self, requests: Vec<CorpusRequest>) {
        self.expected.replace(requests);
    }

    /// The device of these arguments.
    pub(super) fn device(&self, args: &DeviceArgs, progress: Progress) -> Result<Device> {
        let key = (args.device.clone(), args.tf32);
        let known = self
            .devices
            .borrow()
            .iter()
            .find_map(|(other, device)| (*other == key).then(|| device.clone()));
        if let Some(device) = known {
            device.check(args.types())?;
            return Ok(device);
        }
        let device = Device::open(&args.device, args.types(), progress)?;
        self.devices.borrow_mut().push((key, device.clone()));
        Ok(device)
    }

    /// The model of these arguments, opened unless it is the one that was opened last. `checksums`: they
    /// are taken beside the walks.
    pub(super) fn open(
        &self,
        args: &ModelArgs,
        checksums: bool,
        progress: Progress,
    ) -> Result<Rc<Opened>> {
        let key = ModelKey {
            name: args.source.name().map(str::to_owned),
            revision: args.source.revision.clone(),
            adapter: args.source.adapter.clone(),
            label: args.source.label.clone(),
            device: args.device.clone(),
        };
        if let Some((other, opened)) = &*self.model.borrow()
            && *other == key
        {
            return Ok(Rc::clone(opened));
        }
        if let Some((other, error)) = &*self.refused.borrow()
            && *other == key
        {
            return Err(error.clone());
        }
        // First the device: a model may be a download of hours. And the last model leaves before the
        // next one comes.
        let device = self.device(&args.device, progress)?;
        self.model.replace(None);
        let revision = key.revision.as_deref();
        let adapter = key.adapter.as_deref();
        let found = checkpoint::find(key.name.as_deref(), revision, adapter, progress);
        let (model, mut checkpoint) = found.inspect_err(|error| {
            if error.kind() != Kind::Interrupted {
                self.refused.replace(Some((key.clone(), error.clone())));
            }
        })?;
        let label = key.label.clone();
        checkpoint.record.label = label.or_else(|| checkpoint.record.with_adapter());
        if checksums {
            model.weights.take_checksums();
        }
        let (types, budget) = (args.device.types(), args.device.budget());
        let opened = Rc::new(Opened {
            session: Session::open(model, &device, types, budget, progress)?,
            checkpoint,
            built_in_tokens: OnceCell::new(),
            texts: RefCell::default(),
            walks: RefCell::default(),
        });
        self.model.replace(Some((key, Rc::clone(&opened))));
        Ok(opened)
    }

    /// The same model with something changed in memory, in a session of its own.
    pub(super) fn altered(
        &self,
        args: &ModelArgs,
        progress: Progress,
        change: impl FnOnce(&mut Model) -> Result<()>,
    ) -> Result<Session> {
        let device = self.device(&args.device, progress)?;
        let source = &args.source;
        let (revision, adapter) = (source.revision.as_deref(), source.adapter.as_deref());
        let (mut model, _) = checkpoint::find(source.name(), revision, adapter, progress)?;
        change(&mut model)?;
        let (types, budget) = (args.device.types(), args.device.budget());
        Session::open(model, &device, types, budget, progress)
    }

    /// Up to `nsamples` windows from the start of the text that the arguments name.
    pub(super) fn windows(
        &self,
        opened: &Opened,
        args: &TextArgs,
        nsamples: usize,
        progress: Progress,
    ) -> Result<Sequences> {
        let key = opened.text_key(args, nsamples)?;
        let asked = self.largest(opened, &key, |_| true)?.max(nsamples);
        let all = opened.text(&key, args, asked, progress)?;
        let sequences = all.first(nsamples);
        sequences.tell(nsamples, progress);
        Ok(sequences)
    }

    /// What the request's first windows show.
    pub(super) fn corpus(&self, opened: &Opened, request: &CorpusRequest) -> Result<Corpus> {
        let key = opened.text_key(&request.text, request.nsamples)?;
        if let Some(walk) = opened.walk(&key, request) {
            let timings = Timings::default();
            return Ok(Corpus { walk, timings });
        }
        let progress = opened.session.progress();
        let alike = |other: &CorpusRequest| other.thresholds == request.thresholds;
        let asked = self.largest(opened, &key, alike)?.max(request.nsamples);
        let expected = self.expected.borrow();
        let values = request.values || expected.iter().any(|other| alike(other) && other.values);
        let all = opened.text(&key, &request.text, asked, progress)?;
        if !expected.is_empty() {
            opened.session.expect_walks(2);
        }
        let walk = |asked: usize, values: bool| {
            let ids = &all.ids[..asked.min(all.ids.len())];
            let walk = CorpusWalk::run(&opened.session, ids, request.thresholds.into(), values)?;
            let (timings, walk) = (walk.timings, Rc::new(walk));
            opened.walks.borrow_mut().push(Walked {
                key: key.clone(),
                thresholds: request.thresholds,
                asked,
                values,
                walk: Rc::clone(&walk),
            });
            Ok::<_, Error>(Corpus { walk, timings })
        };
        match walk(asked, values) {
            // What others want may be too much, or their sequences at fault.
            Err(error) if asked > request.nsamples && error.kind() != Kind::Interrupted => {
                walk(request.nsamples, request.values)
            }
            outcome => outcome,
        }
    }

    /// The most windows of a text that some expected run wants.
    fn largest(
        &self,
        opened: &Opened,
        key: &TextKey,
        alike: impl Fn(&CorpusRequest) -> bool,
    ) -> Result<usize> {
        let mut most = 0;
        for request in self
            .expected
            .borrow()
            .iter()
            .filter(|request| alike(request))
        {
            if opened.text_key(&request.text, request.nsamples)? == *key {
                most = most.max(request.nsamples);
            }
        }
        Ok(most)
    }
}

impl Opened {
    /// Whether the model is part of the binary.
    pub(super) fn built_in_model(&self) -> bool {
        self.checkpoint.record.source == "built-in"
    }

    fn text_key(&self, args: &TextArgs, nsamples: usize) -> Result<TextKey> {
        let spec = args.spec(self.built_in_model());
        let source = match spec.source {
            TextSource::File(path) => format!("file {}", path.display()),
            TextSource::Named(name) => format!("named {name}"),
            // The choice depends on the number of windows, and on one of the choices what is said of it.
            TextSource::Unsaid => match self.default_text(args, nsamples)?.is_built_in() {
                true => "unsaid".to_owned(),
                false => format!("unsaid {nsamples}"),
            },
        };
        Ok(TextKey {
            source,
            seed: args.seed,
            context_length: args.context_length,
            add_bos_token: args.add_bos_token,
        })
    }

    fn default_text(&self, args: &TextArgs, nsamples: usize) -> Result<DefaultText> {
        let model = self.session.model();
        let tokens = match self.built_in_tokens.get() {
            Some(tokens) => *tokens,
            None => {
                let tokens = sequences::built_in_tokens(model)?;
                *self.built_in_tokens.get_or_init(|| tokens)
            }
        };
        let length = sequences::context_length(args.context_length, model)?;
        Ok(DefaultText::of(tokens, length, nsamples))
    }

    /// At least the first `wanted` windows of a text, as far as it has them.
    fn text(
        &self,
        key: &TextKey,
        args: &TextArgs,
        wanted: usize,
        progress: Progress,
    ) -> Result<Rc<Sequences>> {
        let known = self.texts.borrow().iter().find_map(|text| {
            (text.key == *key && text.asked >= wanted).then(|| Rc::clone(&text.sequences))
        });
        if let Some(sequences) = known {
            return Ok(sequences);
        }
        let spec = args.spec(self.built_in_model());
        let sequences = sequences::load(&spec, self.session.model(), wanted, progress)?;
        let sequences = Rc::new(sequences);
        self.texts.borrow_mut().push(CutText {
            key: key.clone(),
            asked: wanted,
            sequences: Rc::clone(&sequences),
        });
        Ok(sequences)
    }

    fn walk(&self, key: &TextKey, request: &CorpusRequest) -> Option<Rc<CorpusWalk>> {
        let walks = self.walks.borrow();
        let found = walks.iter().find(|walk| {
            walk.key == *key
                && walk.thresholds == request.thresholds
                && walk.asked >= request.nsamples
                && (walk.values || !request.values)
        });
        found.map(|walk| Rc::clone(&walk.walk))
    }
}
