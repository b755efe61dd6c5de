//! submit.sbatch: the array job that runs a sweep.
#![forbid(unsafe_code)]

use std::path::Path;

use super::quote::{directive, one_line, path, pattern, word};
use crate::error::{Error, Result};

/// What a job asks of the cluster, and how it computes there.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--partition`
    pub partition: Option<String>,
    /// `--time`
    pub time: Option<String>,
    /// Cards of an element: `2`, or `a100:2`.
    pub gpus: Option<String>,
    /// Cores of an element.
    pub cpus: Option<usize>,
    /// `--mem`
    pub mem: Option<String>,
    /// Elements at once.
    pub array_limit: Option<usize>,
    /// An image for Apptainer.
    pub container: Option<String>,
    /// `--device` of the tasks.
    pub device: Option<String>,
    /// Other arguments of sbatch.
    pub sbatch_args: Vec<String>,
}

/// A script, and the arrays that are to be submitted with it.
#[derive(Debug)]
pub struct Script<'a> {
    /// What the cluster is asked for.
    pub options: &'a Options,
    /// The sweep's folder, absolute.
    pub root: &'a Path,
    /// This program.
    pub program: &'a Path,
    /// The file with the elements' tasks.
    pub elements: &'a Path,
    /// How many elements there are.
    pub count: usize,
    /// How many an array may have.
    pub largest: usize,
}

/// Arguments of sbatch that would undo what the script relies on.
const OURS: [&str; 4] = ["--array", "-a", "--output", "-o"];

impl Options {
    fn check(&self) -> Result<()> {
        let stated = [
            ("--partition", &self.partition),
            ("--time", &self.time),
            ("--gpus", &self.gpus),
            ("--mem", &self.mem),
            ("--container", &self.container),
            ("--device", &self.device),
        ];
        for (name, value) in stated {
            one_line(name, value.as_deref().unwrap_or_default())?;
        }
        for argument in &self.sbatch_args {
            one_line("--sbatch-arg", argument)?;
            let name = argument.split('=').next().unwrap_or_default();
            let wrong = |why: &str| Error::usage(format!("--sbatch-arg {argument}"), why);
            if !name.starts_with('-') || name.contains(char::is_whitespace) {
                return Err(wrong("it is no argument of sbatch")
                    .remedy("write it as one word, --sbatch-arg=--account=name"));
            }
            if OURS.contains(&name) {
                return Err(wrong("the sweep needs its own").remedy("leave it out"));
            }
        }
        Ok(())
    }

    /// The number of cards: the last part of `a100:2`.
    fn cards(&self) -> usize {
        let cards = self
            .gpus
            .as_deref()
            .map_or("0", |gpus| gpus.rsplit(':').next().unwrap_or(gpus));
        // A name alone is one card.
        cards.parse().unwrap_or(1)
    }

    fn device(&self) -> Option<&str> {
        match (&self.device, self.cards()) {
            (Some(device), _) => Some(device),
            (None, 0 | 1) => None,
            (None, _) => Some("cuda:all"),
        }
    }
}

impl Script<'_> {
    /// The arrays: how many elements come before each, and how many it has.
    pub fn arrays(&self) -> Vec<(usize, usize)> {
        let starts = (0..self.count).step_by(self.largest);
        starts
            .map(|start| (start, self.largest.min(self.count - start)))
            .collect()
    }

    /// `--array=0-7%4` of an array of so many elements.
    pub fn array(&self, count: usize) -> String {
        let limit = self.options.array_limit;
        let limit = limit.map_or_else(String::new, |limit| format!("%{limit}"));
        format!("--array=0-{}{limit}", count - 1)
    }

    /// The script.
    pub fn text(&self) -> Result<String> {
        self.options.check()?;
        let root = path(self.root)?;
        let mut lines = Lines(vec!["#!/bin/bash".to_owned()]);
        lines.comment(
            "Runs a sweep as an array job. `massact sweep submit` wrote it, and writes it again.",
        );
        self.resources(&mut lines, root)?;
        lines.line("");
        self.variables(&mut lines, root)?;
        lines.line(BODY.trim_end());
        Ok(lines.0.join("\n") + "\n")
    }

    fn resources(&self, lines: &mut Lines, root: &str) -> Result<()> {
        let options = self.options;
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        lines.ask(
            "What squeue calls it.",
            &format!("--job-name=massact-{name}"),
        );
        let first = self.arrays().first().map_or(1, |(_, count)| *count);
        lines.ask(
            "An element a line of the file that is named below; behind a % how many run at once.",
            &self.array(first),
        );
        lines.ask("An element is one process on one machine.", "--nodes=1");
        lines.line("#SBATCH --ntasks=1");
        let cpus = options.cpus.map(|cpus| cpus.to_string());
        let wanted = [
            (&options.partition, "--partition=", "Where it runs."),
            (
                &options.time,
                "--time=",
                "How long an element may run before it goes back into the queue.",
            ),
            (&options.gpus, "--gres=gpu:", "Cards of an element."),
            (&cpus, "--cpus-per-task=", "Cores of an element."),
            (&options.mem, "--mem=", "Memory of an element."),
        ];
        for (value, flag, comment) in wanted {
            if let Some(value) = value {
                lines.ask(comment, &format!("{flag}{value}"));
            }
        }
        lines.ask(
            "Preempted, or its machine lost: back into the queue. What is done stays done.",
            "--requeue",
        );
        lines.ask(
            "%A is the array's job, %a the element. One that runs again goes on in the same log.",
            &format!("--output={}/slurm/%A_%a.log", pattern(root)?),
        );
        lines.line("#SBATCH --open-mode=append");
        lines.ask(
            "A minute before its time is over, this script (B:) is told so.",
            "--signal=B:USR1@60",
        );
        for argument in &options.sbatch_args {
            lines.ask("As --sbatch-arg has it.", argument);
        }
        Ok(())
    }

    fn variables(&self, lines: &mut Lines, root: &str) -> Result<()> {
        let options = self.options;
        lines.comment("The sweep.");
        lines.line(&format!("sweep={}", word(root)));
        lines.comment("Line n has the tasks of element n - 1, by their places in manifest.jsonl.");
        lines.line(&format!("elements={}", word(path(self.elements)?)));
        match &options.container {
            None => {
                lines.comment(
                    "The program. No srun: all that is allocated is this script's already.",
                );
                lines.line(&format!("massact=({})", word(path(self.program)?)));
            }
            Some(image) => {
                if root.contains([':', ',']) {
                    return Err(Error::usage(root, "Apptainer splits paths at `:` and `,`")
                        .remedy("give the folder another name"));
                }
                let cards = match self.options.cards() {
                    0 => "",
                    _ => " --nv",
                };
                lines.comment("The image's program, which sees the sweep and the hub's cache, and signals sent to");
                lines.comment("it. Other folders: APPTAINER_BIND.");
                lines.line(&format!(
                    "massact=(apptainer exec{cards} --bind \"$sweep\" ${{HF_HOME:+--bind \"$HF_HOME\"}} {} massact)",
                    word(image)
                ));
            }
        }
        let device = options.device();
        let device = device.map_or_else(String::new, |device| format!("--device={}", word(device)));
        lines.comment(match (&options.device, device.is_empty()) {
            (_, true) => "Where it computes: what the plan says, else on the card if there is one.",
            (Some(_), _) => "Where it computes, instead of what the plan says.",
            (None, _) => "A worker a card.",
        });
        lines.line(&format!("device=({device})"));
        if let Some(cpus) = options.cpus {
            let threads = (cpus / options.cards().max(1)).max(1);
            lines.comment("Not every cluster binds jobs to their cores.");
            lines.line(&format!(
                "export RAYON_NUM_THREADS=\"${{RAYON_NUM_THREADS:-{threads}}}\""
            ));
        }
        lines.comment("More elements than an array may have go in several; the argument is how many earlier ones have.");
        lines.line("line=$((${1:-0} + SLURM_ARRAY_TASK_ID + 1))");
        Ok(())
    }
}

/// What depends on nothing that was asked for.
const BODY: &str = r#"job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
tasks="$(sed -n "${line}p" "$elements")"
if [ -z "$tasks" ]; then
    echo "$elements: it has no line $line; submit again with massact sweep submit" >&2
    exit 2
fi

# How many of the tasks are neither done nor failed.
left() { "${massact[@]}" sweep status "$sweep" --index "$tasks" --left; }

before="$(left)" || exit

# At the limit massact is asked to stop: it gives its task back, and ends with 3. When a job is cancelled or
# preempted, Slurm sends TERM to all its processes, massact included; then this script only waits for it.
asked=0
run=
trap 'asked=$((asked + 1)); [ -z "$run" ] || kill -TERM "$run"' USR1
trap 'asked=$((asked + 1))' TERM
"${massact[@]}" sweep run "$sweep" --index "$tasks" "${device[@]}" &
run=$!
# A signal ends `wait`, not massact.
while signals="$asked"; wait "$run"; code=$?; [ "$signals" -ne "$asked" ]; do :; done

# Nobody has asked it to stop: all is done (0), or a task failed, which trying again would not change (1).
[ "$asked" -gt 0 ] || exit "$code"

# Cancelled, or Slurm has put it back into the queue itself.
[ "$(squeue --noheader --job "$job" --format %T)" = RUNNING ] || exit 3

# Back into the queue, if that helps: a round that has ended no task would end none again, except that a
# download goes on where it was.
after="$(left)" || exit
[ "$after" -gt 0 ] || exit "$code"
if [ "$after" -lt "$before" ] || [ "${SLURM_RESTART_COUNT:-0}" -lt 2 ]; then
    echo "massact: $after of the element's tasks are left; back into the queue" >&2
    scontrol requeue "$job"
else
    echo "massact: no task ended before the time was over; submit again with a longer --time" >&2
fi
exit 3
"#;

/// Lines of a script.
struct Lines(Vec<String>);

impl Lines {
    fn line(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn comment(&mut self, text: &str) {
        self.line(&format!("# {text}"));
    }

    /// An argument of sbatch, and why.
    fn ask(&mut self, why: &str, argument: &str) {
        self.line("");
        self.comment(why);
        self.line(&directive(argument));
    }
}
