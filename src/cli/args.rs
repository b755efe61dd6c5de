//! Arguments that several commands share. Their help is the documentation.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::bytes::Bytes;
use crate::{
    data::{TextSource, TextSpec},
    engine::Types,
    error::{Error, Result},
    experiments::Thresholds,
    model::dtype::DType,
    present::Formats,
    report::{plot::ScaleChoice, visible::visible},
};

/// Which checkpoint, and where it runs.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

/// Where a run computes, and in which type.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub(super) struct DeviceArgs {
    /// Type of the arithmetic. Default: on a card the checkpoint's own; the CPU computes in float32.
    #[arg(long, value_enum, default_value_t = DTypeArg::Auto)]
    pub(super) dtype: DTypeArg,
    /// `auto`, `cpu`, `cuda[:N]`, or several cards of one kind: `cuda:N,M`, or `cuda:all` for all of them.
    /// auto is the first card that massact can use, else the CPU.
    #[arg(
        long,
        default_value = "auto",
        env = "MASSACT_DEVICE",
        hide_env_values = true
    )]
    pub(super) device: String,
    /// Type of the residual stream on a card: auto is the arithmetic's; float32 keeps the digits of
    /// massive activations beside 16-bit arithmetic, and does not overflow.
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = DTypeArg::Auto)]
    pub(super) residual_dtype: DTypeArg,
    /// Float32 products in TF32 on a card: faster, with 10 bits of mantissa instead of 23.
    #[arg(long)]
    pub(super) tf32: bool,
    /// Memory for the residual streams and one layer, such as 8GB; more sequences than fit run in
    /// parts, each of which reads the model again, or wait on the host where that moves less. Default:
    /// four fifths of what is free.
    #[arg(long, value_name = "SIZE")]
    #[serde(skip)]
    pub(super) memory_budget: Option<Bytes>,
}

impl DeviceArgs {
    /// This device, and nothing stated of types and memory.
    pub(super) fn named(device: &str) -> Self {
        Self {
            dtype: DTypeArg::Auto,
            device: device.to_owned(),
            residual_dtype: DTypeArg::Auto,
            tf32: false,
            memory_budget: None,
        }
    }

    /// The types that are asked for.
    pub(super) fn types(&self) -> Types {
        Types {
            arithmetic: self.dtype.stated(),
            residual: self.residual_dtype.stated(),
            tf32: self.tf32,
        }
    }

    /// The memory that is asked for, in bytes.
    pub(super) fn budget(&self) -> Option<u64> {
        self.memory_budget.map(|bytes| bytes.0)
    }
}

/// Which checkpoint.
#[derive(Debug, Clone, Args)]
pub(super) struct SourceArgs {
    /// Hub id, folder of a Hugging Face checkpoint, or GGUF file; without it the built-in demo runs.
    #[arg(value_name = "ID_OR_PATH", group = "model_name")]
    pub(super) checkpoint: Option<String>,
    /// The same, as the reference program has it.
    #[arg(long, value_name = "ID_OR_PATH", group = "model_name", alias = "model")]
    pub(super) pretrained: Option<String>,
    /// Branch, tag or commit of the hub repository.
    #[arg(long, requires = "model_name")]
    pub(super) revision: Option<String>,
    /// A folder with a LoRA adapter, as peft saves it, to put on the weights while they are read.
    #[arg(long, value_name = "DIR")]
    pub(super) adapter: Option<PathBuf>,
    /// What titles, tables and texts call the model. Default: the last part of its name.
    #[arg(long, value_name = "NAME", value_parser = label)]
    pub(super) label: Option<String>,
}

impl SourceArgs {
    /// Id or path of the checkpoint, whichever way it was given.
    pub(super) fn name(&self) -> Option<&str> {
        self.checkpoint.as_deref().or(self.pretrained.as_deref())
    }
}

/// Choices of `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DTypeArg {
    Auto,
    Float32,
    Bfloat16,
    Float16,
}

impl DTypeArg {
    /// The type, unless it is to follow from the checkpoint.
    pub(super) fn stated(self) -> Option<DType> {
        match self {
            Self::Auto => None,
            Self::Float32 => Some(DType::Float32),
            Self::Bfloat16 => Some(DType::BFloat16),
            Self::Float16 => Some(DType::Float16),
        }
    }
}

/// Which text, and how it is cut.
#[derive(Debug, Clone, Args, Serialize)]
pub(super) struct TextArgs {
    /// redpajama, wikitext, c4, pg19, builtin, `owner/name` on the hub, or a local .txt,
    /// .jsonl[.gz|.zst] or .parquet. Default: builtin, or wikitext where that is too short.
    #[arg(long, value_name = "NAME_OR_FILE", conflicts_with = "text_file")]
    pub(super) dataset: Option<String>,
    /// A file that is the joined text, or - for standard input; windows are cut from its start.
    #[arg(long, value_name = "FILE")]
    pub(super) text_file: Option<PathBuf>,
    /// The field or column of --dataset that holds the text. Default: text, or the known dataset's own.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "text_file",
        requires = "dataset"
    )]
    pub(super) text_field: Option<String>,
    /// Tokens in a sequence, BOS included. Default: 4096, or what the model has positions for.
    #[arg(long, value_name = "N")]
    pub(super) context_length: Option<usize>,
    /// Start every sequence with the BOS token (EOS if the tokenizer has no BOS).
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true,
        num_args = 0..=1, default_missing_value = "true")]
    pub(super) add_bos_token: bool,
    /// Seed of the random choice of documents.
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    pub(super) seed: u64,
}

impl TextArgs {
    /// What they ask for; the built-in model has its own text.
    pub(super) fn spec(&self, built_in_model: bool) -> TextSpec<'_> {
        TextSpec {
            source: match (&self.text_file, &self.dataset) {
                (Some(path), _) => TextSource::File(path),
                (None, Some(name)) => TextSource::Named(name),
                (None, None) if built_in_model => TextSource::Named("builtin"),
                (None, None) => TextSource::Unsaid,
            },
            field: self.text_field.as_deref(),
            seed: self.seed,
            context_length: self.context_length,
            add_bos_token: self.add_bos_token,
        }
    }
}

/// Where results go.
#[derive(Debug, Clone, Args)]
pub(super) struct OutputArgs {
    /// Folder of the results.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "massact-results",
        env = "MASSACT_SAVE_DIR",
        hide_env_values = true
    )]
    pub(super) save_dir: PathBuf,
    /// No progress and no notices.
    #[arg(long)]
    pub(super) quiet: bool,
    /// Print the experiment's JSON on stdout instead of the table.
    #[arg(long)]
    pub(super) json: bool,
    /// Print the folder of the results on stdout instead of the table, for scripts.
    #[arg(long, conflicts_with = "json")]
    pub(super) print_folder: bool,
    #[command(flatten)]
    pub(super) formats: Formats,
}

/// How values by layer are drawn.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ScaleArgs {
    /// Scale of the magnitudes in the figures; shares, logits and cosines are linear in any case.
    #[arg(long, value_enum, default_value_t = ScaleChoice::Auto)]
    pub(super) scale: ScaleChoice,
}

/// Which layers have a sheet of their own in a figure.
#[derive(Debug, Clone, Args)]
pub(super) struct LayerArgs {
    /// Draw these layers only, such as 0-3,7. The numbers of all layers are in the JSON anyway.
    #[arg(long, value_name = "LAYERS", value_parser = layer_list)]
    layers: Option<LayerList>,
}

impl LayerArgs {
    /// The layers, all of which the model has; none for all.
    pub(super) fn of(&self, count: usize) -> Result<Option<BTreeSet<usize>>> {
        let Some(LayerList(layers)) = &self.layers else {
            return Ok(None);
        };
        match layers.last() {
            Some(last) if *last >= count => Err(Error::usage(
                format!("--layers {last}"),
                format!("the model has {count} layers"),
            )
            .remedy(format!("use layers from 0 to {}", count.saturating_sub(1)))),
            _ => Ok(Some(layers.clone())),
        }
    }

    /// As a setting.
    pub(super) fn listed(&self) -> Option<&BTreeSet<usize>> {
        self.layers.as_ref().map(|LayerList(layers)| layers)
    }
}

/// Numbers of layers.
#[derive(Debug, Clone)]
struct LayerList(BTreeSet<usize>);

/// More layers than any model has; a longer list is a slip.
const MOST_LAYERS: usize = 100_000;

/// Reads `0-3,7`.
fn layer_list(text: &str) -> Result<LayerList, String> {
    let refused = || "expected layer numbers and ranges of them, such as 0-3,7".to_owned();
    let mut layers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| refused());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > MOST_LAYERS {
            return Err(refused());
        }
        layers.extend(first..=last);
    }
    Ok(LayerList(layers))
}

/// More entries than anybody reads.
const MOST_LISTED: usize = 1_000_000;

/// How many entries to list.
pub(super) fn listed(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= MOST_LISTED)
        .ok_or_else(|| format!("expected a number of at most {MOST_LISTED}"))
}

/// How many entries to list, one at least.
pub(super) fn some_listed(text: &str) -> Result<usize, String> {
    positive(text)?;
    listed(text)
}

/// A label that can be seen, on one line.
pub(super) fn label(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || visible(text) != text {
        return Err("expected a name on one line, without invisible characters".into());
    }
    Ok(text.to_owned())
}

/// What counts as massive.
#[derive(Debug, Clone, Copy, PartialEq, Args, Serialize)]
pub(super) struct ThresholdArgs {
    /// A massive activation is above this...
    #[arg(long, value_name = "X", default_value_t = 100.0, value_parser = threshold)]
    pub(super) abs_threshold: f64,
    /// ...and this many times the layer's median.
    #[arg(long, value_name = "X", default_value_t = 1000.0, value_parser = threshold)]
    pub(super) rel_threshold: f64,
}

impl From<ThresholdArgs> for Thresholds {
    fn from(args: ThresholdArgs) -> Self {
        Self {
            abs: args.abs_threshold,
            rel: args.rel_threshold,
        }
    }
}

pub(super) fn threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a number of at least 0".into()),
    }
}

/// The ids of one sequence.
#[derive(Debug, Clone)]
pub(super) struct TokenIds(pub(super) Vec<u32>);

/// Reads `1,2,3`.
pub(super) fn token_ids(text: &str) -> Result<TokenIds, String> {
    text.split(',')
        .map(|id| id.trim().parse())
        .collect::<Result<_, _>>()
        .map(TokenIds)
        .map_err(|_| "expected token ids separated by commas, such as 1,2,3".into())
}

/// A count of at least one.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value > 0 => Ok(value),
        _ => Err("expected a positive integer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_layers() {
        let of = |text| layer_list(text).map(|LayerList(layers)| Vec::from_iter(layers));
        assert_eq!(of("0-3,7"), Ok(vec![0, 1, 2, 3, 7]));
        assert_eq!(of("7, 2-2,2"), Ok(vec![2, 7]));
        for wrong in ["", "a", "3-1", "1-", "-1", "0-99999999999", "1,,2"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        let args = |text| LayerArgs {
            layers: layer_list(text).ok(),
        };
        assert!(args("0,5").of(6).is_ok());
        let error = args("0,6").of(6).expect_err("six layers");
        let told = "--layers 6: the model has 6 layers; use layers from 0 to 5";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn labels_can_be_seen() {
        assert!(label("Llama 2 (7B)").is_ok());
        assert!(label(" ").is_err() && label("a\nb").is_err() && label("a\u{202e}b").is_err());
    }
}
