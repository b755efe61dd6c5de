//! Works on a sweep: takes tasks one after the other, those of one model together.

use std::{
    collections::HashSet,
    io::Read,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{experiment::Experiment, shared::Shared},
    estimate::{hub_model, hub_model_of},
    flags,
    run::{RunArgs, selected},
};
use crate::{
    error::{Error, Kind, Result},
    interrupt, panics,
    progress::Progress,
    sweep::{Claim, Claimed, Downloads, Folder, HubModel, Manifest, State, Task},
};

/// How often the tasks of others are looked at while there is nothing else to do.
const PERIOD: Duration = Duration::from_millis(500);

/// How long it waits for others before it says so.
const SILENCE: Duration = Duration::from_secs(10);

/// How long this process may take to stop once its parent is gone.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn run(args: &RunArgs) -> Result<()> {
    end_with_parent();
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let selected = selected(args.index.as_ref(), manifest.tasks.len())?;
    let tasks = selected
        .iter()
        .map(|index| {
            let task = &manifest.tasks[*index];
            let experiment = flags::experiment(task).map(|mut experiment| {
                if let Some(device) = &args.device {
                    experiment.model_mut().device.device.clone_from(device);
                }
                let output = experiment.output_mut();
                output.save_dir = folder.results();
                output.json = false;
                experiment
            });
            Item {
                index: *index,
                model: experiment.as_ref().map(model).unwrap_or_default(),
                hub: experiment.as_ref().ok().and_then(hub_model_of),
                task,
                experiment,
                ended: false,
            }
        })
        .collect();
    let progress = Progress::new(args.quiet);
    let worker = Worker {
        args,
        folder: &folder,
        manifest: &manifest,
        shared: Shared::default(),
        progress,
        tasks,
        model: None,
        downloads: Downloads::of(&folder, progress),
        told: false,
        hubs: match args.max_cache_gb {
            Some(_) => manifest.tasks.iter().map(hub_model).collect(),
            None => Vec::new(),
        },
    };
    worker.work()
}

/// Stops this process when its parent dies, which closes this one's standard input.
fn end_with_parent() {
    thread::spawn(|| {
        let mut nothing = [0; 64];
        while std::io::stdin()
            .read(&mut nothing)
            .is_ok_and(|read| read > 0)
        {}
        interrupt::request();
        thread::sleep(PATIENCE);
        std::process::exit(i32::from(Error::interrupted().exit_code()));
    });
}

/// Name and revision of an experiment's model.
type Model = (Option<String>, Option<String>);

fn model(experiment: &Experiment) -> Model {
    let source = &experiment.model().source;
    (source.name().map(str::to_owned), source.revision.clone())
}

/// A task that may be run.
struct Item<'a> {
    index: usize,
    task: &'a Task,
    experiment: Result<Experiment>,
    model: Model,
    /// The model, if the hub has it.
    hub: Option<HubModel>,
    /// Whether it is known to be done or failed.
    ended: bool,
}

struct Worker<'a> {
    args: &'a RunArgs,
    folder: &'a Folder,
    manifest: &'a Manifest,
    shared: Shared,
    progress: Progress,
    tasks: Vec<Item<'a>>,
    /// The one that is open.
    model: Option<Model>,
    downloads: Downloads<'a>,
    /// Whether it was said that there is nothing to do but to wait.
    told: bool,
    /// With a limit of the cache: the models of all tasks of the manifest.
    hubs: Vec<Option<HubModel>>,
}

/// What there is to do.
enum Next {
    Run(usize, Claim),
    Wait,
    Nothing,
}

impl Worker<'_> {
    fn work(mut self) -> Result<()> {
        let mut idle = None;
        loop {
            interrupt::check()?;
            let next = self.next()?;
            if let Next::Run(..) = next {
                idle = None;
            } else if idle.get_or_insert_with(Instant::now).elapsed() > SILENCE && !self.told {
                self.told = true;
                self.progress
                    .notice("waiting for tasks that other processes work on");
            }
            match next {
                Next::Run(place, claim) => self.run(place, claim)?,
                Next::Wait => thread::sleep(PERIOD),
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// Takes a task of the model that is open: without a look at all the others, of which there may be
    /// thousands on a slow file system.
    fn next_of_model(&mut self) -> Result<Option<Next>> {
        for place in 0..self.tasks.len() {
            let item = &self.tasks[place];
            if item.ended || self.model.as_ref() != Some(&item.model) {
                continue;
            }
            if !matches!(self.folder.state(item.task)?, State::Waiting { .. }) {
                continue;
            }
            if let Claimed::Ours(claim) = self.folder.claim(item.task)? {
                return Ok(Some(Next::Run(place, claim)));
            }
        }
        Ok(None)
    }

    /// Takes a task: of the model that is open, else of one that nobody has open, else any.
    fn next(&mut self) -> Result<Next> {
        if let Some(next) = self.next_of_model()? {
            return Ok(next);
        }
        let mut waiting = Vec::new();
        let mut running = Vec::new();
        let mut wait = false;
        for (place, item) in self.tasks.iter_mut().enumerate() {
            if item.ended {
                continue;
            }
            match self.folder.state(item.task)? {
                State::Waiting { .. } => waiting.push(place),
                State::Running { .. } => {
                    running.push(item.model.clone());
                    // Who runs it may die.
                    wait = true;
                }
                State::Done(_) | State::Failed(_) => item.ended = true,
            }
        }
        waiting.sort_by_key(|place| running.contains(&self.tasks[*place].model));
        for place in &waiting {
            if let Claimed::Ours(claim) = self.folder.claim(self.tasks[*place].task)? {
                return Ok(Next::Run(*place, claim));
            }
            // Somebody was faster; the order may be another now.
            wait = true;
        }
        Ok(if wait { Next::Wait } else { Next::Nothing })
    }

    fn run(&mut self, place: usize, claim: Claim) -> Result<()> {
        self.fetch(place);
        let item = &self.tasks[place];
        let (index, task) = (item.index, item.task);
        let count = self.manifest.tasks.len();
        let title = format!("task {index} ({}/{count}) {}", index + 1, task.title());
        self.model = Some(item.model.clone());
        // Of several processes bars would be in each other's way.
        let alone = self.args.worker == Some(1) && !self.args.quiet;
        let shown = self.progress.within(&title).without_notices();
        self.shared
            .show_in(if alone { shown } else { Progress::silent() });
        self.expect(place)?;
        let started = Instant::now();
        let outcome = panics::reported(|| self.attempt(place)).unwrap_or_else(|| {
            // Nothing of what it has touched is used again.
            self.shared = Shared::default();
            Err(Error::new(task.title(), "an error in massact itself")
                .remedy("please report it with what stands above on stderr"))
        });
        match outcome {
            Ok(folder) => {
                let seconds = started.elapsed().as_secs_f64();
                self.folder.done(claim, &folder, seconds)?;
                self.progress
                    .notice(&format!("{title}: done in {seconds:.1} s"));
            }
            Err(error) if error.kind() == Kind::Interrupted => {
                self.folder.release(claim)?;
                return Err(error);
            }
            Err(error) => {
                // A task has no --save-dir: its results go into the sweep's folder.
                let error = error.map_remedy(|remedy| {
                    remedy.replace("another --save-dir", "another folder for the sweep")
                });
                self.folder.failed(claim, &error)?;
                self.progress.notice(&format!("{title}: {error}"));
            }
        }
        self.tasks[place].ended = true;
        self.evict()
    }

    /// Makes sure that a task's model is there, and begins to fetch the next one.
    fn fetch(&mut self, place: usize) {
        let item = &self.tasks[place];
        if self.model.as_ref() == Some(&item.model) {
            return;
        }
        if let Some(model) = &item.hub {
            // What goes wrong is said by the task itself.
            let _ = self.downloads.finish(model);
        }
        let mut later = self.tasks[place..].iter();
        let next =
            later.find(|other| !other.ended && other.hub.is_some() && other.model != item.model);
        if let Some(next) = next.and_then(|next| next.hub.as_ref()) {
            self.downloads.begin(next);
        }
    }

    /// Removes models that no task wants any more.
    fn evict(&self) -> Result<()> {
        let Some(most) = self.args.max_cache_gb else {
            return Ok(());
        };
        let tasks = self.manifest.tasks.iter().zip(&self.hubs);
        let open = tasks.filter_map(|(task, hub)| {
            let hub = hub.as_ref()?;
            let state = self.folder.state(task);
            let ended = matches!(state, Ok(State::Done(_) | State::Failed(_)));
            (!ended).then_some(hub)
        });
        let open: HashSet<&HubModel> = open.collect();
        let removed = self
            .downloads
            .evict((most * 1e9) as u64, |model| !open.contains(model))?;
        for repo in removed {
            self.progress
                .notice(&format!("{repo}: removed from the cache"));
        }
        Ok(())
    }

    /// Says what the tasks of this model that are still to come want, so that a walk serves them all.
    fn expect(&self, place: usize) -> Result<()> {
        let model = &self.tasks[place].model;
        let mut requests = Vec::new();
        for (other, item) in self.tasks.iter().enumerate() {
            let Ok(experiment) = &item.experiment else {
                continue;
            };
            if item.ended || item.model != *model {
                continue;
            }
            let ours =
                other == place || !matches!(self.folder.state(item.task)?, State::Running { .. });
            requests.extend(experiment.corpus().filter(|_| ours));
        }
        self.shared.expect(requests);
        Ok(())
    }

    /// Runs a task. Returns the folder of its results.
    fn attempt(&self, place: usize) -> Result<std::path::PathBuf> {
        let Item {
            task, experiment, ..
        } = &self.tasks[place];
        let experiment = experiment.as_ref().map_err(Clone::clone)?;
        let command = [task.command.clone()].into_iter();
        let arguments = command.chain(task.arguments.iter().cloned());
        self.shared.next(arguments.collect());
        Ok(experiment.run(&self.shared)?.folder)
    }
}
