//! Which files of a model repository massact reads.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::names;
use crate::{
    error::{Error, Result},
    files,
};

/// An adapter's configuration; transformers puts the adapter on the weights wherever it lies.
pub(super) const ADAPTER: &str = "adapter_config.json";
/// The configuration, without which a repository is no model.
pub(super) const CONFIG: &str = "config.json";
/// The file without which no other is looked for, if there is one.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Read when they are there.
const BESIDE: [&str; 5] = [
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "hf_quant_config.json",
];

/// Where weights may be, in the order of transformers: a file, or an index whose shards follow.
const WEIGHTS: [(&str, Option<Shards>); 4] = [
    ("model.safetensors", None),
    ("model.safetensors.index.json", Some(SAFETENSORS)),
    ("pytorch_model.bin", None),
    ("pytorch_model.bin.index.json", Some(PYTORCH)),
];

const SAFETENSORS: Shards = Shards {
    ending: ".safetensors",
    kind: "safetensors file",
};
const PYTORCH: Shards = Shards {
    ending: ".bin",
    kind: "file of PyTorch",
};

/// Where tokens may be, likewise.
const TOKENIZERS: [&[&str]; 4] = [
    &[TOKENIZER],
    &["tokenizer.model"],
    &["tiktoken.model"],
    &["vocab.json", "merges.txt"],
];

/// What the files that an index names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shards {
    ending: &'static str,
    kind: &'static str,
}

impl Shards {
    /// Whether a file in a listing may be one.
    pub(super) fn may_be(&self, name: &str) -> bool {
        let own = name.strip_suffix(self.ending);
        own.is_some_and(|own| !own.contains('/') && own.contains("-of-"))
    }
}

/// The files of a repository, small ones first: when the last is there, all are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// To be downloaded in this order.
    pub(super) files: Vec<&'static str>,
    /// What follows if the last of them is an index.
    pub(super) shards: Option<Shards>,
    /// Files that are not there, each with what is read in its place.
    pub(super) instead: Vec<(&'static str, &'static str)>,
}

impl Plan {
    /// The file with the weights, or their index.
    pub(super) fn weights(&self) -> &'static str {
        self.files.last().copied().unwrap_or_default()
    }

    /// Whether there are files of tokens. A model without them runs on ids.
    pub(super) fn has_tokens(&self) -> bool {
        let mut names = TOKENIZERS.iter().flat_map(|names| names.iter());
        names.any(|name| self.files.contains(name))
    }
}

/// Whether a repository has weights that are read.
pub(super) fn has_weights(listing: &[String]) -> bool {
    WEIGHTS.iter().any(|(name, _)| has(listing, name))
}

fn has(listing: &[String], name: &str) -> bool {
    listing.iter().any(|path| path == name)
}

/// Chooses among `listing`, or says why nothing can be chosen and what to do.
pub(super) fn plan(repo: &str, listing: &[String]) -> Result<Plan> {
    if !has(listing, CONFIG) {
        let other = "name the repository of the original model in transformers format";
        return Err(match only_gguf(repo, listing) {
            Some(error) => error.or(other),
            None => {
                Error::new(repo, "has no config.json, so it is no transformers model").remedy(other)
            }
        });
    }
    let weights = WEIGHTS.iter().position(|(name, _)| has(listing, name));
    let Some(weights) = weights else {
        return Err(without_weights(repo, listing));
    };
    let (name, shards) = WEIGHTS[weights];
    let before = WEIGHTS[..weights].iter();
    let mut instead: Vec<_> = before.map(|(absent, _)| (*absent, name)).collect();
    let mut files = vec![CONFIG];
    let whole = |names: &&&[&str]| names.iter().all(|name| has(listing, name));
    let tokens = TOKENIZERS.iter().position(|names| whole(&names));
    files.extend(tokens.iter().flat_map(|place| TOKENIZERS[*place]));
    let before = &TOKENIZERS[..tokens.unwrap_or(TOKENIZERS.len())];
    let read = tokens.map_or("no tokenizer", |place| TOKENIZERS[place][0]);
    instead.extend(before.iter().map(|names| (names[0], read)));
    files.extend(BESIDE.into_iter().filter(|name| has(listing, name)));
    files.push(name);
    Ok(Plan {
        files,
        shards,
        instead,
    })
}

/// Names the GGUF files of a repository, if it has any.
fn only_gguf(repo: &str, listing: &[String]) -> Option<Error> {
    let files = listing.iter().filter(|path| path.ends_with(".gguf"));
    let files: Vec<&str> = files.map(String::as_str).collect();
    if files.is_empty() {
        return None;
    }
    let reason = format!("holds its weights only in GGUF files: {}", files.join(", "));
    Some(Error::new(repo, reason).remedy("download one of them, and give its path"))
}

/// Says what a repository has in the place of weights that are read.
fn without_weights(repo: &str, listing: &[String]) -> Error {
    if let Some(error) = only_gguf(repo, listing) {
        return error;
    }
    const OTHERS: [(&str, &str); 4] = [
        (".msgpack", "Flax"),
        (".h5", "TensorFlow"),
        (".pth", "the layout of the model's authors"),
        (".onnx", "ONNX"),
    ];
    let mut others = OTHERS.iter();
    let found = others.find(|(ending, _)| listing.iter().any(|path| path.ends_with(ending)));
    let reason = match found {
        Some((ending, kind)) => {
            format!("holds its weights only in {kind} (*{ending}), which massact does not read")
        }
        None => "holds no model.safetensors and no pytorch_model.bin".to_owned(),
    };
    Error::new(repo, reason).remedy(format!(
        "convert it in Python with AutoModelForCausalLM.from_pretrained(\"{repo}\")\
         .save_pretrained(\"folder\"), or name a revision with safetensors with --revision"
    ))
}

/// Why a repository with an adapter is refused; `path` is the adapter's configuration.
pub(super) fn adapter(repo: &str, path: &Path, whole: bool) -> Error {
    if whole {
        let reason = format!(
            "holds an adapter ({ADAPTER}) beside the model; transformers would put it on the weights"
        );
        return Error::new(repo, reason).remedy(
            "download it, and give the folder as the model and as --adapter, or merge the two in Python with merge_and_unload()",
        );
    }
    #[derive(Default, Deserialize)]
    struct Settings {
        base_model_name_or_path: Option<String>,
    }
    let text = files::read(path, files::DESCRIPTION).unwrap_or_default();
    let settings: Settings = serde_json::from_slice(&text).unwrap_or_default();
    let base = settings.base_model_name_or_path;
    let base = base.map_or_else(String::new, |base| format!(" of `{base}`"));
    Error::new(repo, format!("holds an adapter{base}, not a whole model"))
        .remedy("download it, and give the base model and the folder as --adapter; or merge the two in Python with merge_and_unload()")
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The shards that an index names, which are of a kind.
pub(super) fn shards(repo: &str, index: &Path, kind: Shards) -> Result<BTreeSet<String>> {
    let name = index.file_name().unwrap_or_default().to_string_lossy();
    let title = format!("{repo}: {name}");
    let bad = |reason: &dyn std::fmt::Display| {
        Error::new(&title, reason).remedy("the repository is malformed; use another one")
    };
    let text = files::read(index, files::INDEX)
        .map_err(|error| bad(&format!("cannot be read: {error}")))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(bad(&"names no shards"));
    }
    for shard in &shards {
        names::file(&title, shard)?;
        if !shard.ends_with(kind.ending) {
            return Err(bad(&format!("names {shard}, which is no {}", kind.kind)));
        }
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Plan> {
        plan(
            "o/m",
            &names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn only_what_is_read_and_weights_last() {
        let plan = of(&[
            "README.md",
            "model.safetensors",
            "pytorch_model.bin",
            "config.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "model.safetensors.index.json",
        ]);
        let plan = plan.expect("a plan");
        assert_eq!(
            plan.files,
            [
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "model.safetensors"
            ]
        );
        assert!(plan.instead.is_empty() && plan.shards.is_none());
    }

    #[test]
    fn what_is_read_in_the_place_of_what_is_not_there() {
        let plan = of(&[
            "config.json",
            "vocab.json",
            "merges.txt",
            "pytorch_model.bin.index.json",
        ]);
        let plan = plan.expect("a plan");
        assert_eq!(
            plan.files,
            [
                "config.json",
                "vocab.json",
                "merges.txt",
                "pytorch_model.bin.index.json"
            ]
        );
        assert_eq!(plan.shards, Some(PYTORCH));
        let index = "pytorch_model.bin.index.json";
        assert_eq!(
            plan.instead,
            [
                ("model.safetensors", index),
                ("model.safetensors.index.json", index),
                ("pytorch_model.bin", index),
                ("tokenizer.json", "vocab.json"),
                ("tokenizer.model", "vocab.json"),
                ("tiktoken.model", "vocab.json"),
            ]
        );
        // Half of a vocabulary is none, and a model runs without.
        let plan = of(&["config.json", "vocab.json", "model.safetensors"]).expect("a plan");
        assert_eq!(plan.files, ["config.json", "model.safetensors"]);
        assert!(!plan.has_tokens());
    }

    #[test]
    fn shards_by_name() {
        assert!(PYTORCH.may_be("pytorch_model-00001-of-00002.bin"));
        for other in ["training_args.bin", "a/pytorch_model-00001-of-00002.bin"] {
            assert!(!PYTORCH.may_be(other), "{other}");
        }
    }

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        for (names, reason, remedy) in [
            (
                vec!["m.gguf", "n.gguf"],
                "GGUF files: m.gguf, n.gguf",
                "original model",
            ),
            (
                vec!["config.json", "m.gguf"],
                "GGUF files: m.gguf",
                "give its path",
            ),
            (vec!["README.md"], "no config.json", "original model"),
            (
                vec!["config.json", "flax_model.msgpack", "tokenizer.json"],
                "Flax",
                "save_pretrained",
            ),
            (
                vec!["config.json", "tokenizer.json"],
                "no model.safetensors",
                "save_pretrained",
            ),
        ] {
            let error = of(&names).expect_err("refused").to_string();
            assert!(error.contains(reason) && error.contains(remedy), "{error}");
        }
    }
}
