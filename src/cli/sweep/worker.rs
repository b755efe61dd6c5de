//! Works on a sweep: takes tasks one after the other, those of one model together.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{args::OutputArgs, experiment::Experiment, shared::Shared},
    flags,
    run::{RunArgs, selected},
};
use crate::{
    error::{Error, Kind, Result},
    interrupt, panics,
    progress::Progress,
    sweep::{Claim, Claimed, Folder, Manifest, State, Task},
};

/// How often the tasks of others are looked at while there is nothing else to do.
const PERIOD: Duration = Duration::from_millis(500);

/// How long this process may take to stop once its parent is gone.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn run(args: &RunArgs) -> Result<()> {
    end_with_parent();
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let selected = selected(args, manifest.tasks.len())?;
    let tasks = selected
        .iter()
        .map(|index| {
            let task = &manifest.tasks[*index];
            let experiment = flags::experiment(task);
            Item {
                index: *index,
                model: experiment.as_ref().map(model).unwrap_or_default(),
                task,
                experiment,
                ended: false,
            }
        })
        .collect();
    let worker = Worker {
        args,
        folder: &folder,
        manifest: &manifest,
        shared: Shared::default(),
        progress: Progress::new(args.quiet),
        tasks,
        model: None,
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
}

/// What there is to do.
enum Next {
    Run(usize, Claim),
    Wait,
    Nothing,
}

impl Worker<'_> {
    fn work(mut self) -> Result<()> {
        loop {
            interrupt::check()?;
            match self.next()? {
                Next::Run(place, claim) => self.run(place, claim)?,
                Next::Wait => thread::sleep(PERIOD),
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// Takes a task: of the model that is open, else of one that nobody has open, else any.
    fn next(&mut self) -> Result<Next> {
        let mut waiting = Vec::new();
        let mut running = Vec::new();
        let mut wait = false;
        for (place, item) in self.tasks.iter_mut().enumerate() {
            if item.ended {
                continue;
            }
            match self.folder.state(item.task)? {
                State::Waiting { .. } => waiting.push(place),
                State::Running { near, .. } => {
                    running.push(item.model.clone());
                    // The one that it is all about is worth waiting for.
                    wait |= near || self.args.index.is_some();
                }
                State::Done(_) | State::Failed(_) => item.ended = true,
            }
        }
        let rank = |place: &usize| {
            let model = &self.tasks[*place].model;
            match &self.model {
                Some(open) if open == model => 0,
                _ if running.contains(model) => 2,
                _ => 1,
            }
        };
        waiting.sort_by_key(rank);
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
        let item = &self.tasks[place];
        let (index, task) = (item.index, item.task);
        let count = self.manifest.tasks.len();
        let title = format!("[{}/{count}] {}", index + 1, task.title());
        self.model = Some(item.model.clone());
        self.expect(place)?;
        let started = Instant::now();
        let outcome = panics::reported(|| self.attempt(place)).unwrap_or_else(|| {
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
                self.folder.failed(claim, &error)?;
                self.progress.notice(&format!("{title}: {error}"));
            }
        }
        self.tasks[place].ended = true;
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
        let mut experiment = flags::experiment(self.tasks[place].task)?;
        if let Some(device) = &self.args.device {
            experiment.model_mut().device.device.clone_from(device);
        }
        *experiment.output_mut() = OutputArgs {
            save_dir: self.folder.results(),
            quiet: true,
            json: false,
        };
        Ok(experiment.run(&self.shared)?.folder)
    }
}
