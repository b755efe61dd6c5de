//! What of the arguments decides the numbers: the settings, whose hash names a run's folder.
//!
//! Every command has a struct of them that serialises under the flags' own names; the test below
//! compares it with the flags.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{args::ThresholdArgs, intervention_analysis::PlaceSettings};
use crate::{
    data::{
        Sequences,
        items::{Convention, Task},
    },
    error::{Error, Result},
    experiments::intervention_analysis::{EvaluationSet, PositionsFrom, WrittenLayers},
    present::Compat,
};

/// The settings as a run carries them.
pub(super) fn value(settings: &impl Serialize) -> Result<Value> {
    serde_json::to_value(settings)
        .map_err(|error| Error::new("settings", format!("not valid JSON: {error}")))
}

/// Which text, as it was cut, and which state of the model.
#[derive(Debug, Serialize)]
pub(super) struct TextSettings {
    context_length: usize,
    add_bos_token: bool,
    seed: u64,
    dataset: Option<String>,
    revision: Option<String>,
}

impl TextSettings {
    pub(super) fn of(sequences: &Sequences, seed: u64, revision: Option<&str>) -> Self {
        let source = sequences.provenance.as_ref();
        Self {
            context_length: sequences.context_length,
            add_bos_token: sequences.add_bos_token,
            seed,
            dataset: source.map(|source| source.name.clone()),
            revision: revision.map(str::to_owned),
        }
    }
}

/// Any sequences, and which state of the model.
#[derive(Debug, Serialize)]
pub(super) struct InputSettings<'a> {
    context_length: usize,
    add_bos_token: bool,
    /// Identifies the ids.
    input: String,
    /// Tokens of each sequence where they differ: the same ids may be cut elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    lengths: Option<Vec<usize>>,
    revision: Option<&'a str>,
}

impl<'a> InputSettings<'a> {
    pub(super) fn of(sequences: &Sequences, revision: Option<&'a str>) -> Self {
        let lengths: Vec<usize> = sequences.ids.iter().map(Vec::len).collect();
        Self {
            context_length: sequences.context_length,
            add_bos_token: sequences.add_bos_token,
            input: ids_hash(&sequences.ids),
            lengths: lengths
                .iter()
                .any(|length| *length != sequences.context_length)
                .then_some(lengths),
            revision,
        }
    }
}

/// What an experiment over several sequences has in any case.
#[derive(Debug, Serialize)]
pub(super) struct CorpusSettings {
    #[serde(flatten)]
    pub(super) text: TextSettings,
    pub(super) nsamples: usize,
    #[serde(flatten)]
    pub(super) thresholds: ThresholdArgs,
}

/// Of tokens-analysis.
#[derive(Debug, Serialize)]
pub(super) struct TokensSettings {
    #[serde(flatten)]
    pub(super) corpus: CorpusSettings,
    pub(super) compat: Compat,
}

/// Of intervention-analysis.
#[derive(Debug, Serialize)]
pub(super) struct InterventionSettings {
    #[serde(flatten)]
    pub(super) corpus: CorpusSettings,
    pub(super) calibration_nsamples: usize,
    #[serde(serialize_with = "layers")]
    pub(super) layers: WrittenLayers,
    pub(super) positions_from: PositionsFrom,
    pub(super) set_to: Vec<f32>,
    pub(super) noise: Vec<f64>,
    pub(super) compat: Compat,
    #[serde(flatten)]
    pub(super) place: PlaceSettings,
    pub(super) evaluation_sets: Vec<SetSettings>,
    #[serde(flatten)]
    pub(super) tasks: Option<TaskSettings>,
}

fn layers<S: Serializer>(layers: &WrittenLayers, to: S) -> Result<S::Ok, S::Error> {
    match layers {
        WrittenLayers::First => to.serialize_str("first"),
        WrittenLayers::All => to.serialize_str("all"),
        WrittenLayers::Listed(layers) => layers.serialize(to),
    }
}

/// Of the tasks whose accuracy is measured.
#[derive(Debug, Serialize)]
pub(super) struct TaskSettings {
    pub(super) task_sets: Vec<SetSettings>,
    pub(super) task_convention: Convention,
    pub(super) task_add_bos_token: Option<bool>,
    pub(super) limit: Option<usize>,
}

impl From<&Task> for SetSettings {
    fn from(task: &Task) -> Self {
        let items = task.items.iter().flat_map(|item| &item.choices);
        let ids: Vec<Vec<u32>> = items
            .map(|request| request.ids.iter().copied().chain([request.last]).collect())
            .collect();
        Self {
            name: task.name.clone(),
            windows: ids.len(),
            tokens_blake3: ids_hash(&ids),
        }
    }
}

/// An evaluation set, or a task, whose answers are its windows.
#[derive(Debug, Serialize)]
pub(super) struct SetSettings {
    name: String,
    windows: usize,
    tokens_blake3: String,
}

impl From<&EvaluationSet> for SetSettings {
    fn from(set: &EvaluationSet) -> Self {
        Self {
            name: set.name.clone(),
            windows: set.windows.len(),
            tokens_blake3: ids_hash(&set.windows),
        }
    }
}

/// Identifies the ids of sequences, whose lengths it does not tell apart.
pub(super) fn ids_hash(sequences: &[Vec<u32>]) -> String {
    let hash = blake3::hash(bytemuck::cast_slice(&sequences.concat()));
    hash.to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use serde_json::json;

    use super::{
        super::{Cli, Command, experiment::Experiment},
        *,
    };
    use crate::engine::Site;

    /// Flags that change no number, whatever the command.
    const NO_NUMBERS: [&str; 12] = [
        "save_dir",
        "quiet",
        "json",
        "memory_budget",
        "dry_run",
        "label",
        "scale",
        "shared_scale",
        "figure_format",
        "no_figures",
        "print_folder",
        "tables",
    ];

    /// Flags that decide numbers and are in the folder's name by other ways: the checkpoint and its adapter are, and on
    /// a card the arithmetic is added to the settings.
    const ELSEWHERE: [&str; 7] = [
        "adapter",
        "checkpoint",
        "pretrained",
        "device",
        "dtype",
        "residual_dtype",
        "tf32",
    ];

    /// Flags of intervention-analysis that are settings only if they are given, so that the published
    /// experiment keeps its folder, each with a value.
    const IF_GIVEN: [(&str, &str); 7] = [
        ("site", "--site=mlp_output"),
        ("positions", "--positions=first"),
        ("dimensions", "--dimensions=3"),
        ("shuffle", "--shuffle"),
        ("clip", "--clip=2"),
        ("head", "--head=0:1"),
        ("controls", "--controls"),
    ];

    #[test]
    fn what_departs_from_the_published_experiment_is_a_setting_if_it_is_given() {
        for (setting, flag) in IF_GIVEN {
            let of = |more: &[&str]| {
                let line = [&["massact", "intervention-analysis"][..], more].concat();
                let parsed = Cli::try_parse_from(line).expect("a complete command line");
                settings(&parsed.command).expect("settings")
            };
            assert_eq!(of(&[]).get(setting), None, "{setting}");
            assert!(of(&[flag]).get(setting).is_some(), "{setting}");
        }
    }

    /// Command, flag, and the setting that has another name or stands for several flags.
    const RENAMED: [(&str, &str, &str); 38] = [
        ("existence-validation", "text_field", "dataset"),
        ("tokens-analysis", "text_field", "dataset"),
        ("top-activation-magnitude", "text_field", "dataset"),
        ("intervention-analysis", "text_field", "dataset"),
        ("self-attention", "text_field", "input"),
        ("self-attention", "chat", "input"),
        ("figures", "text_field", "input"),
        ("figures", "chat", "input"),
        ("life", "text_field", "input"),
        ("life", "chat", "input"),
        ("sinks", "text_field", "input"),
        ("capture", "chat", "input"),
        ("profile", "chat", "input"),
        ("existence-validation", "text_file", "dataset"),
        ("tokens-analysis", "text_file", "dataset"),
        ("top-activation-magnitude", "text_file", "dataset"),
        ("top-activation-magnitude", "module_name", "site"),
        ("intervention-analysis", "text_file", "dataset"),
        ("intervention-analysis", "eval", "evaluation_sets"),
        ("intervention-analysis", "tasks", "task_sets"),
        ("intervention-analysis", "task", "task_sets"),
        ("self-attention", "text_file", "input"),
        ("self-attention", "sentence", "input"),
        ("self-attention", "token_ids", "input"),
        ("figures", "text_file", "input"),
        ("figures", "sentence", "input"),
        ("figures", "token_ids", "input"),
        ("life", "text_file", "input"),
        ("life", "sentence", "input"),
        ("life", "token_ids", "input"),
        ("capture", "text", "input"),
        ("capture", "text_file", "input"),
        ("capture", "token_ids", "input"),
        ("sinks", "text_file", "input"),
        ("sinks", "token_ids", "input"),
        ("profile", "text", "input"),
        ("profile", "text_file", "input"),
        ("profile", "token_ids", "input"),
    ];

    /// What the ids' hash stands for, too.
    const OF_IDS: [&str; 4] = ["dataset", "text_field", "nsamples", "seed"];

    /// The settings of a command line; none of commands without a folder.
    fn settings(command: &Command) -> Option<Value> {
        let sequences = Sequences::of_ids(vec![vec![1, 2], vec![3]]);
        let found = match command {
            Command::Experiment(Experiment::ExistenceValidation(args)) => {
                value(&args.settings(&sequences))
            }
            Command::Experiment(Experiment::TokensAnalysis(args)) => {
                value(&args.settings(&sequences))
            }
            Command::Experiment(Experiment::TopActivationMagnitude(args)) => {
                value(&args.settings(Site::LayerOutput, &sequences))
            }
            Command::Experiment(Experiment::SelfAttention(args)) => {
                value(&args.settings(&sequences))
            }
            Command::Experiment(Experiment::Figures(args)) => value(&args.settings(&sequences)),
            Command::Experiment(Experiment::InterventionAnalysis(args)) => {
                // Settings of tasks are there where tasks are.
                let task = Task {
                    name: "piqa".to_owned(),
                    convention: Convention::LmEval,
                    normed: true,
                    items: Vec::new(),
                };
                value(&args.settings(&sequences, &[], &[task]))
            }
            Command::Experiment(Experiment::Life(args)) => value(&args.settings(&sequences)),
            Command::Experiment(Experiment::Capture(args)) => {
                value(&args.settings(&[Site::Q], &sequences))
            }
            Command::Experiment(Experiment::Profile(args)) => {
                value(&args.settings(&[Site::Q], &sequences))
            }
            Command::Experiment(Experiment::Sinks(args)) => value(&args.settings(&sequences)),
            Command::Tvr(args) => value(&args.settings()),
            Command::Compare(args) => value(&args.settings(&args.text)),
            Command::Sweep(_)
            | Command::Reproduce(_)
            | Command::Selftest(_)
            | Command::Bench(_)
            | Command::Models(_)
            | Command::Devices(_)
            | Command::Show(_)
            | Command::Completions(_) => {
                return None;
            }
        };
        Some(found.expect("JSON"))
    }

    /// A flag that changes numbers and no setting would let two runs share a folder, and the later
    /// replace the earlier's results.
    #[test]
    fn every_flag_is_in_the_name_of_the_folder() {
        let mut commands = 0;
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let more: &[&str] = match name {
                "compare" => &["a", "b"],
                "tvr" => &["--dry-run"],
                "sweep" => &["merge", "a"],
                "show" => &["a"],
                "completions" => &["bash"],
                _ => &[],
            };
            let line = [&["massact", name][..], more].concat();
            let parsed = Cli::try_parse_from(line).expect("a complete command line");
            let Some(settings) = settings(&parsed.command) else {
                continue;
            };
            commands += 1;
            for argument in command.get_arguments() {
                let flag = argument.get_id().as_str();
                let renamed = RENAMED.iter().find(|row| (row.0, row.1) == (name, flag));
                let mut key = renamed.map_or(flag, |row| row.2);
                if ["capture", "profile"].contains(&name) && OF_IDS.contains(&flag) {
                    key = "input";
                }
                let named = settings.get(key).is_some();
                assert!(
                    named
                        || NO_NUMBERS.contains(&flag)
                        || ELSEWHERE.contains(&flag)
                        || IF_GIVEN.iter().any(|row| row.0 == flag),
                    "{name} --{flag} is in no setting: {settings}"
                );
                if name == "compare" && ELSEWHERE.contains(&flag) {
                    assert!(settings["device"].get(flag).is_some(), "{flag}: {settings}");
                }
                assert!(
                    !(named && NO_NUMBERS.contains(&flag)),
                    "{name} --{flag} would give equal results two folders"
                );
            }
        }
        assert_eq!(commands, 12);
    }

    #[test]
    fn keys_and_values() {
        let args = ["massact", "capture", "--nll"];
        let Command::Experiment(Experiment::Capture(args)) = Cli::parse_from(args).command else {
            panic!("another command");
        };
        let of = |ids: &[&[u32]]| {
            let ids = ids.iter().map(|ids| ids.to_vec()).collect();
            value(&args.settings(&[Site::Q], &Sequences::of_ids(ids))).expect("JSON")
        };
        let found = of(&[&[1, 2], &[3]]);
        assert_eq!(found["sites"], json!(["q"]));
        assert_eq!(found["nll"], true);
        assert_eq!(found["abs_threshold"], 100.0);
        // The same ids, cut elsewhere.
        assert_ne!(of(&[&[1, 2], &[3]]), of(&[&[1], &[2, 3]]));
        assert_eq!(of(&[&[1, 2]]).get("lengths"), None);
    }
}
