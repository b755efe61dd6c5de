//! The committed checkpoints and what transformers computed on them (format: tools/README.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::program::read_json;

/// One folder of tests/checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) model_type: String,
    pub(crate) reference: Reference,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reference {
    pub(crate) noise: Noise,
    pub(crate) attention_sequence: usize,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) experiments: Option<Experiments>,
}

/// Largest differences of transformers in float32 from itself in float64.
#[derive(Debug, Deserialize)]
pub(crate) struct Noise {
    pub(crate) max: f64,
    pub(crate) median: f64,
    pub(crate) top: f64,
    pub(crate) nll: f64,
    pub(crate) hidden: f64,
    pub(crate) last_logits: f64,
    pub(crate) attention_probs: f64,
    pub(crate) attention_logits: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sequence {
    pub(crate) token_ids: Vec<u32>,
    pub(crate) nll: Option<f64>,
    pub(crate) last_logits: Vec<f32>,
    pub(crate) layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Layer {
    pub(crate) layer: usize,
    pub(crate) max: f64,
    pub(crate) median: f64,
    pub(crate) top: Vec<Entry>,
    pub(crate) massive: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) position: usize,
    pub(crate) dimension: usize,
    pub(crate) value: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Experiments {
    pub(crate) text_file: String,
    pub(crate) text_tokens: usize,
    pub(crate) context_length: usize,
    pub(crate) existence_nsamples: usize,
    pub(crate) tokens_nsamples: usize,
    pub(crate) calibration_nsamples: usize,
    pub(crate) runs: Vec<ExperimentRun>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ExperimentRun {
    pub(crate) add_bos_token: bool,
    pub(crate) first_window: Vec<u32>,
    pub(crate) existence_validation: Existence,
    pub(crate) tokens_analysis: Tokens,
    pub(crate) intervention_analysis: Interventions,
    /// With the reference program's dimensions, where they are others.
    pub(crate) intervention_analysis_reference: Option<Interventions>,
    /// Of the checkpoints that have them.
    #[serde(default)]
    pub(crate) constants: Vec<Constants>,
}

/// By intervention and evaluation set.
type Perplexities = BTreeMap<String, BTreeMap<String, f64>>;

#[derive(Debug, Deserialize)]
pub(crate) struct Interventions {
    pub(crate) first_layer: usize,
    pub(crate) dimensions: Vec<usize>,
    pub(crate) windows: BTreeMap<String, usize>,
    pub(crate) perplexity: Perplexities,
    pub(crate) missing_dimensions: Vec<usize>,
    pub(crate) means: Vec<Mean>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Mean {
    pub(crate) layer: usize,
    pub(crate) starting: bool,
    pub(crate) dimension: usize,
    pub(crate) mean: f64,
    pub(crate) count: usize,
}

/// Constants written at the outputs of some layers.
#[derive(Debug, Deserialize)]
pub(crate) struct Constants {
    pub(crate) layers: Vec<usize>,
    pub(crate) perplexity: Perplexities,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Existence {
    pub(crate) has_massive_activations: bool,
    pub(crate) layers: Vec<ExistenceLayer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ExistenceLayer {
    pub(crate) layer: usize,
    pub(crate) top1_mean: f64,
    pub(crate) median_mean: f64,
    pub(crate) massive: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) first_layer: Option<usize>,
    pub(crate) dimensions: Vec<usize>,
    pub(crate) dimensions_reference: Vec<usize>,
    pub(crate) unique_tokens: BTreeMap<usize, Vec<String>>,
    pub(crate) magnitudes: Vec<Magnitude>,
    pub(crate) magnitudes_reference: Vec<Magnitude>,
    pub(crate) sequences: Vec<TokensSequence>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Magnitude {
    pub(crate) position: usize,
    pub(crate) dimension: usize,
    pub(crate) mean: f64,
    pub(crate) std: f64,
    pub(crate) count: usize,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokensSequence {
    pub(crate) sequence: usize,
    pub(crate) layers: Vec<TokensLayer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokensLayer {
    pub(crate) layer: usize,
    pub(crate) massive: Vec<Entry>,
}

/// What a float32 program may differ: four times the error that transformers in float32 makes
/// itself, and 2e-6 because that is measured on few numbers; never more than the contract's 1e-4.
pub(crate) fn tolerance(noise: f64) -> f64 {
    (4.0 * noise + 2e-6).min(1e-4)
}

/// A number of ours within the tolerance of theirs, in units of theirs.
#[track_caller]
pub(crate) fn assert_near(ours: &Value, theirs: f64, noise: f64, what: &str) {
    let ours = ours.as_f64().unwrap_or_else(|| panic!("{what}: {ours}"));
    assert!(
        (ours - theirs).abs() <= tolerance(noise) * theirs.abs(),
        "{what}: {ours} instead of {theirs}"
    );
}

impl Sequence {
    /// As `--token-ids` takes them.
    pub(crate) fn argument(&self) -> String {
        let ids: Vec<String> = self.token_ids.iter().map(u32::to_string).collect();
        ids.join(",")
    }
}

/// Every checkpoint, by name.
pub(crate) fn all() -> Vec<Checkpoint> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("tests/checkpoints")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names.iter().map(|name| load(name)).collect()
}

/// The committed GGUF files, each in a folder with what transformers computed on the decoded weights.
pub(crate) fn gguf() -> Vec<Checkpoint> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf");
    let entries = std::fs::read_dir(folder).expect("tests/gguf");
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.retain(|folder| folder.join("reference.json").is_file());
    folders.sort();
    let load = |folder: PathBuf| {
        let name = folder
            .file_name()
            .expect("named")
            .to_string_lossy()
            .into_owned();
        let reference = read_json(&folder.join("reference.json"));
        Checkpoint {
            model_type: reference["model_type"]
                .as_str()
                .expect("model_type")
                .to_owned(),
            reference: serde_json::from_value(reference)
                .unwrap_or_else(|error| panic!("{name}/reference.json: {error}")),
            name,
            folder,
        }
    };
    folders.into_iter().map(load).collect()
}

/// Those with references for the experiments: their massive activations were planted.
pub(crate) fn planted() -> Vec<Checkpoint> {
    let mut found = all();
    found.retain(|checkpoint| checkpoint.reference.experiments.is_some());
    assert_eq!(
        found.len(),
        8,
        "gpt2, llama twice, falcon, gemma2, gemma4, lfm2, olmo2"
    );
    found
}

/// One checkpoint.
pub(crate) fn load(name: &str) -> Checkpoint {
    let folder = super::program::checkpoint(name);
    let config = read_json(&folder.join("config.json"));
    let reference = read_json(&folder.join("reference.json"));
    Checkpoint {
        name: name.to_owned(),
        model_type: config["model_type"]
            .as_str()
            .expect("model_type")
            .to_owned(),
        reference: serde_json::from_value(reference)
            .unwrap_or_else(|error| panic!("{name}/reference.json: {error}")),
        folder,
    }
}
