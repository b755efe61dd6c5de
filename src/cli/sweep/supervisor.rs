//! Starts the processes that work on a sweep, and outlives their deaths.
//!
//! A task may take its process with it: out of memory, the system kills. So the work is done by child
//! processes, and this one sees how they end. Children end when this process does, because their standard
//! input then closes.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    run::{RunArgs, selected},
    status::Status,
};
use crate::{
    engine::Device,
    error::{Error, Result},
    interrupt,
    progress::Progress,
    report::hidden,
    sweep::{
        Folder, Manifest,
        slurm::{Queue, word},
    },
};

/// How often the children are looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// After the death of a child: who kills it may kill this process next, and then it was no task's fault.
const PAUSE: Duration = Duration::from_millis(300);

/// How long children may take to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A task that has taken so many processes with it is not tried again.
const DEATHS: usize = 3;

/// Exit code of an interrupted process.
const INTERRUPTED: i32 = 3;

pub(in super::super) fn run(args: &RunArgs) -> Result<()> {
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let tasks = selected(args.index.as_ref(), manifest.tasks.len())?;
    let progress = Progress::new(args.quiet);
    let devices = devices(args.device.as_deref())?;
    let jobs = args.jobs.min(tasks.len().max(1));
    remove_abandoned(&folder);
    let mut supervisor = Supervisor {
        args,
        folder: &folder,
        manifest: &manifest,
        workers: devices.len() * jobs,
        threads: threads(devices.len() * jobs),
        deaths: HashMap::new(),
        idle_deaths: 0,
        children: Vec::new(),
    };
    for device in &devices {
        for _ in 0..jobs {
            supervisor.start(device.clone())?;
        }
    }
    supervisor.wait()?;
    remove_abandoned(&folder);
    let chosen = tasks.iter().map(|index| (*index, &manifest.tasks[*index]));
    let status = Status::of(&folder, chosen, &Queue::default())?;
    for line in status.failures() {
        progress.notice(&line);
    }
    progress.notice(&status.counts());
    if !status.running.is_empty() {
        progress.notice("what runs is run by other processes");
    }
    if status.failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        format!("{} of {} tasks", status.failed.len(), tasks.len()),
        "failed",
    )
    .remedy(format!(
        "`massact sweep status {0}` says why, `massact sweep retry {0} --failed` lets them be run again",
        word(&args.dir.display().to_string())
    )))
}

/// Removes what runs that were killed have left among the results.
fn remove_abandoned(folder: &Folder) {
    for entry in fs::read_dir(folder.results())
        .into_iter()
        .flatten()
        .flatten()
    {
        hidden::remove_abandoned(&entry.path());
    }
}

/// One `--device` a group of workers; none where the tasks say it.
fn devices(device: Option<&str>) -> Result<Vec<Option<String>>> {
    match device {
        Some("cuda:all") => {
            let cards = Device::cards()?;
            Ok(cards
                .into_iter()
                .map(|card| Some(format!("cuda:{card}")))
                .collect())
        }
        device => {
            // What is wrong for every task is nobody's failure.
            if let Some(name) = device.filter(|name| *name != "auto") {
                Device::named(name)?;
            }
            Ok(vec![device.map(str::to_owned)])
        }
    }
}

/// Threads of each of several workers.
fn threads(workers: usize) -> Option<usize> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (workers > 1 && std::env::var_os("RAYON_NUM_THREADS").is_none())
        .then(|| (cores / workers).max(1))
}

struct Supervisor<'a> {
    args: &'a RunArgs,
    folder: &'a Folder,
    manifest: &'a Manifest,
    workers: usize,
    threads: Option<usize>,
    /// By task: the processes it took with it.
    deaths: HashMap<String, usize>,
    /// Processes that died without a task.
    idle_deaths: usize,
    children: Vec<(Child, Option<String>)>,
}

impl Supervisor<'_> {
    fn start(&mut self, device: Option<String>) -> Result<()> {
        let fail = |error: std::io::Error| Error::new("a process of the sweep", error);
        let program = std::env::current_exe().map_err(fail)?;
        let mut command = Command::new(program);
        command
            .args(["sweep", "run", "--worker", &self.workers.to_string()])
            .arg(&self.args.dir);
        if let Some(index) = &self.args.index {
            command.args(["--index", &index.to_string()]);
        }
        if let Some(device) = &device {
            command.args(["--device", device]);
        }
        if let Some(size) = self.args.max_cache_gb {
            command.args(["--max-cache-gb", &size.to_string()]);
        }
        if self.args.quiet {
            command.arg("--quiet");
        }
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let child = command.stdin(Stdio::piped()).spawn().map_err(fail)?;
        self.children.push((child, device));
        Ok(())
    }

    /// Until no child is left.
    fn wait(&mut self) -> Result<()> {
        while !self.children.is_empty() {
            if interrupt::requested() {
                self.stop();
                return Err(Error::interrupted());
            }
            for index in (0..self.children.len()).rev() {
                let ended = self.children[index].0.try_wait();
                let ended = ended.map_err(|error| Error::new("a process of the sweep", error))?;
                if let Some(status) = ended {
                    let (child, device) = self.children.swap_remove(index);
                    self.ended(&child, device, status)?;
                }
            }
            thread::sleep(PERIOD);
        }
        Ok(())
    }

    fn ended(&mut self, child: &Child, device: Option<String>, status: ExitStatus) -> Result<()> {
        match status.code() {
            Some(0) => return Ok(()),
            Some(INTERRUPTED) => {
                self.stop();
                return Err(Error::interrupted());
            }
            // It has said why.
            Some(_) => {
                self.stop();
                return Err(Error::new("a process of the sweep", "it could not go on"));
            }
            None => {}
        }
        thread::sleep(PAUSE);
        interrupt::check()?;
        if let Some(task) = self.folder.left_by(self.manifest, child.id()) {
            let deaths = self.deaths.entry(task.id.clone()).or_default();
            *deaths += 1;
            if *deaths >= DEATHS {
                let error = Error::new(
                    task.title(),
                    format!(
                        "its process died {DEATHS} times ({status}); the system kills so when memory runs out"
                    ),
                );
                let error = error.remedy("give it more memory, or a smaller context_length");
                self.folder.died(task, &error)?;
            }
        } else {
            self.idle_deaths += 1;
            if self.idle_deaths >= DEATHS {
                self.stop();
                let reason = format!("it dies before it has taken a task ({status})");
                return Err(Error::new("a process of the sweep", reason));
            }
        }
        self.start(device)
    }

    /// Asks the children to stop, and waits for it.
    fn stop(&mut self) {
        for (child, _) in &mut self.children {
            drop(child.stdin.take());
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.children
                .retain_mut(|(child, _)| matches!(child.try_wait(), Ok(None)));
            if self.children.is_empty() {
                return;
            }
            thread::sleep(PERIOD);
        }
        for (child, _) in &mut self.children {
            // It may have ended in this moment.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
