//! `massact sweep submit`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    super::{args::positive, print_line},
    flags,
};
use crate::{
    error::{Error, Result},
    progress::Progress,
    report::{atomic::write_atomic, run::now_rfc3339},
    sweep::{
        Folder, Manifest, State, Task,
        slurm::{
            Elements, Options, Queue, Script, Submission, elements, max_array_size, sbatch, word,
        },
    },
};

/// Submit what is not done to a Slurm cluster, as an array job.
///
/// Writes DIR/submit.sbatch and submits it; logs are in DIR/slurm. What runs already, or is in the queue, is
/// left out, so that a second submission completes what is missing.
#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// The sweep's folder, on a file system that the cluster's machines share.
    dir: PathBuf,
    /// To Slurm.
    #[arg(long, required = true)]
    slurm: bool,
    /// Slurm's partition. Default: the cluster's.
    #[arg(long, value_name = "P")]
    partition: Option<String>,
    /// Time limit of an element of the array, as Slurm has it: 90, 4:00:00, 1-12. What is stopped by it goes
    /// on in another round.
    #[arg(long, value_name = "T")]
    time: Option<String>,
    /// Cards of an element: 1, or a100:2. With several, a worker a card.
    #[arg(long, value_name = "G")]
    gpus: Option<String>,
    /// Cores of an element.
    #[arg(long, value_name = "C", value_parser = positive)]
    cpus: Option<usize>,
    /// Memory of an element, such as 64G.
    #[arg(long, value_name = "M")]
    mem: Option<String>,
    /// Elements at once.
    #[arg(long, value_name = "K", value_parser = positive)]
    array_limit: Option<usize>,
    /// Which tasks are an element: all of one model, which share its weights and walks, or any.
    #[arg(long, value_enum, default_value_t = Group::Model)]
    group: Group,
    /// At most so many tasks are an element. Default: all of a model; with `--group none`, 1.
    #[arg(long, value_name = "M", value_parser = positive)]
    tasks_per_job: Option<usize>,
    /// Image that has massact on its PATH, run by Apptainer: a .sif file, or docker://...
    #[arg(long, value_name = "IMAGE")]
    container: Option<String>,
    /// Where to compute, instead of what the plan says.
    #[arg(long)]
    device: Option<String>,
    /// Another argument of sbatch, such as --sbatch-arg=--account=name; may be given several times.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    sbatch_arg: Vec<String>,
    /// Write the script, and say how to submit it.
    #[arg(long)]
    dry_run: bool,
    /// No notices.
    #[arg(long)]
    quiet: bool,
}

/// What the tasks of an element have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Model,
    None,
}

pub(super) fn run(args: &SubmitArgs) -> Result<()> {
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let progress = Progress::new(args.quiet);
    let missing = missing(&folder, &manifest, args, progress)?;
    if missing.is_empty() {
        return print_line("nothing to submit");
    }
    let elements = divided(&manifest, &missing, args);
    let options = options(args);
    let program = std::env::current_exe().map_err(|error| Error::new("massact", error))?;
    let slurm = folder.root().join("slurm");
    let script = Script {
        options: &options,
        root: folder.root(),
        program: &program,
        elements: &elements.path_in(&slurm),
        count: elements.0.len(),
        largest: max_array_size(),
    };
    // Refused before anything is written.
    let text = script.text()?;
    elements.write(&slurm)?;
    let path = folder.root().join("submit.sbatch");
    write_atomic(&path, text.as_bytes())?;
    let job = Job {
        args,
        folder: &folder,
        manifest: &manifest,
        elements: &elements,
        script: &script,
        path,
    };
    if args.dry_run {
        job.show(missing.len())
    } else {
        job.submit()
    }
}

/// Places of the tasks that nobody has run, runs or is going to run.
fn missing(
    folder: &Folder,
    manifest: &Manifest,
    args: &SubmitArgs,
    progress: Progress,
) -> Result<Vec<usize>> {
    let queue = match Queue::ask(folder.root()) {
        Ok(queue) => queue.unwrap_or_default(),
        Err(error) => {
            progress.notice(&format!("{error}; what is queued already is not left out"));
            Queue::default()
        }
    };
    let (mut missing, mut done, mut failed, mut others) = (Vec::new(), 0, 0, 0);
    for (index, task) in manifest.tasks.iter().enumerate() {
        let state = folder.state(task)?;
        match &state {
            State::Done(_) => done += 1,
            State::Failed(_) => failed += 1,
            _ if queue.of_task(&task.id).is_some() => others += 1,
            State::Running { process, .. } => {
                let job = process.job.as_ref().filter(|_| queue.is_lost(&state));
                match job {
                    Some(job) => {
                        // Else the next would wait until the dead has been silent for long enough.
                        if !args.dry_run {
                            folder.release_lost(task, &job.id)?;
                        }
                        missing.push(index);
                    }
                    None => others += 1,
                }
            }
            State::Waiting { .. } => missing.push(index),
        }
    }
    if done > 0 {
        progress.notice(&format!("{done} tasks are done"));
    }
    if others > 0 {
        progress.notice(&format!("{others} tasks run or are in the queue"));
    }
    if failed > 0 {
        progress.notice(&format!(
            "{failed} tasks have failed; `massact sweep retry {} --failed` lets them be submitted",
            word(&args.dir.display().to_string())
        ));
    }
    Ok(missing)
}

fn divided(manifest: &Manifest, missing: &[usize], args: &SubmitArgs) -> Elements {
    let key = |task: &Task| match (args.group, flags::experiment(task)) {
        (Group::None, _) => None,
        (Group::Model, Ok(experiment)) => {
            let source = &experiment.model().source;
            Some((
                source.name().unwrap_or_default().to_owned(),
                source.revision.clone(),
            ))
        }
        // It fails at once, wherever it is.
        (Group::Model, Err(_)) => Some((task.model.clone(), task.revision.clone())),
    };
    let tasks: Vec<_> = missing
        .iter()
        .map(|index| (*index, key(&manifest.tasks[*index])))
        .collect();
    let most = match args.group {
        Group::None => args.tasks_per_job.or(Some(1)),
        Group::Model => args.tasks_per_job,
    };
    elements(&tasks, most)
}

fn options(args: &SubmitArgs) -> Options {
    Options {
        partition: args.partition.clone(),
        time: args.time.clone(),
        gpus: args.gpus.clone(),
        cpus: args.cpus,
        mem: args.mem.clone(),
        array_limit: args.array_limit,
        container: args.container.clone(),
        device: args.device.clone(),
        sbatch_args: args.sbatch_arg.clone(),
    }
}

/// A script that is written, and what is to be submitted with it.
struct Job<'a> {
    args: &'a SubmitArgs,
    folder: &'a Folder,
    manifest: &'a Manifest,
    elements: &'a Elements,
    script: &'a Script<'a>,
    path: PathBuf,
}

impl Job<'_> {
    /// How one would submit it.
    fn show(&self, tasks: usize) -> Result<()> {
        let path = word(&self.path.display().to_string());
        print_line(&format!(
            "{}: {}",
            self.path.display(),
            sizes(self.elements.0.len(), tasks)
        ))?;
        for (offset, count) in self.script.arrays() {
            print_line(&match offset {
                0 => format!("sbatch {path}"),
                _ => format!("sbatch {} {path} {offset}", self.script.array(count)),
            })?;
        }
        Ok(())
    }

    /// Submits it, in as many arrays as it takes.
    fn submit(&self) -> Result<()> {
        let mut earlier: Option<String> = None;
        for (offset, count) in self.script.arrays() {
            let mut options = Vec::new();
            if offset > 0 {
                options.push(self.script.array(count));
            }
            if let (Some(earlier), Some(_)) = (&earlier, self.args.array_limit) {
                // The limit holds for one array.
                options.push(format!("--dependency=afterany:{earlier}"));
            }
            let offset_argument = (offset > 0).then_some(offset);
            let id = sbatch(&options, &self.path, offset_argument).map_err(|error| {
                error.remedy(format!(
                    "what would be submitted is in {}; --sbatch-arg adds what this cluster asks for",
                    self.path.display()
                ))
            })?;
            let parts = &self.elements.0[offset..offset + count];
            let tasks = parts
                .iter()
                .map(|part| {
                    let places = part.below(self.manifest.tasks.len())?;
                    let ids = places
                        .iter()
                        .map(|place| self.manifest.tasks[*place].id.clone());
                    Ok(ids.collect())
                })
                .collect::<Result<Vec<Vec<String>>>>()?;
            let sizes = sizes(count, tasks.iter().map(Vec::len).sum());
            let submission = Submission {
                job: id,
                submitted_at: now_rfc3339(),
                indices: parts.iter().map(ToString::to_string).collect(),
                tasks,
            };
            submission.record(self.folder.root())?;
            print_line(&format!("job {}: {sizes}", submission.job))?;
            earlier = Some(submission.job);
        }
        Ok(())
    }
}

fn sizes(elements: usize, tasks: usize) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "{elements} element{} with {tasks} task{}",
        plural(elements),
        plural(tasks)
    )
}
