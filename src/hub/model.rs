//! Which files of a model repository massact reads.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::names;
use crate::error::{Error, Result};

/// An adapter's configuration; transformers puts the adapter on the weights wherever it lies.
pub(super) const ADAPTER: &str = "adapter_config.json";
/// The configuration, without which a repository is no model.
pub(super) const CONFIG: &str = "config.json";
/// Weights in one file.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The list of weights in several files.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The fast tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Read when they are there.
pub(super) const OPTIONAL: [&str; 3] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// The files of a repository, small ones first: when the last is there, all are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// To be downloaded in this order.
    pub(super) files: Vec<&'static str>,
    /// Whether the last of them is an index whose shards follow.
    pub(super) sharded: bool,
}

/// Chooses among `listing`, or says why nothing can be chosen and what to do.
pub(super) fn plan(repo: &str, listing: &[String]) -> Result<Plan> {
    let has = |name: &str| listing.iter().any(|path| path == name);
    let ends = |suffix: &str| listing.iter().any(|path| path.ends_with(suffix));
    if !has(CONFIG) {
        let reason = if ends(".gguf") {
            "holds GGUF files, no config.json"
        } else {
            "has no config.json, so it is no transformers model"
        };
        return Err(Error::new(repo, reason)
            .remedy("name the repository of the original model in transformers format"));
    }
    let sharded = !has(WEIGHTS);
    if sharded && !has(INDEX) {
        let pickled = listing.iter().any(|path| {
            path.starts_with("pytorch_model") && (path.ends_with(".bin") || path.ends_with(".json"))
        });
        let reason = if pickled {
            "holds its weights only as pytorch_model.bin, which massact does not read"
        } else {
            "holds no model.safetensors"
        };
        return Err(Error::new(repo, reason).remedy(format!(
            "convert it in Python with AutoModelForCausalLM.from_pretrained(\"{repo}\")\
             .save_pretrained(\"folder\"), or name a revision with safetensors with --revision"
        )));
    }
    if !has(TOKENIZER) {
        let reason = if ends("tokenizer.model") {
            "has only tokenizer.model, no tokenizer.json"
        } else {
            "has no tokenizer.json"
        };
        return Err(Error::new(repo, reason).remedy(format!(
            "save a fast tokenizer in Python with AutoTokenizer.from_pretrained(\"{repo}\")\
             .save_pretrained(\"folder\") beside the model"
        )));
    }
    let mut files = vec![CONFIG, TOKENIZER];
    files.extend(OPTIONAL.into_iter().filter(|name| has(name)));
    files.push(if sharded { INDEX } else { WEIGHTS });
    Ok(Plan { files, sharded })
}

/// Why a repository with an adapter is refused; `path` is the adapter's configuration.
pub(super) fn adapter(repo: &str, path: &Path, whole: bool) -> Error {
    if whole {
        let reason = format!(
            "holds an adapter ({ADAPTER}) beside the model; transformers would put it on the weights, which massact does not"
        );
        return Error::new(repo, reason).remedy(
            "download it and merge the adapter in Python with merge_and_unload(), or move the file away",
        );
    }
    #[derive(Default, Deserialize)]
    struct Settings {
        base_model_name_or_path: Option<String>,
    }
    let text = std::fs::read(path).unwrap_or_default();
    let settings: Settings = serde_json::from_slice(&text).unwrap_or_default();
    let base = settings.base_model_name_or_path;
    let base = base.map_or_else(String::new, |base| format!(" of `{base}`"));
    Error::new(repo, format!("holds an adapter{base}, not a whole model"))
        .remedy("name the base model, or merge the two in Python with merge_and_unload()")
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The shards that an index names.
pub(super) fn shards(repo: &str, index: &Path) -> Result<BTreeSet<String>> {
    let bad = |reason: &dyn std::fmt::Display| {
        Error::new(format!("{repo}: {INDEX}"), reason)
            .remedy("the repository is malformed; use another one")
    };
    let text = std::fs::read(index).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(bad(&"names no shards"));
    }
    for shard in &shards {
        names::file(&format!("{repo}: {INDEX}"), shard)?;
        if !shard.ends_with(".safetensors") {
            return Err(bad(&format!("names {shard}, which is no safetensors file")));
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
            "tokenizer_config.json",
            "model.safetensors.index.json",
        ]);
        assert_eq!(
            plan.expect("a plan").files,
            [
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "model.safetensors"
            ]
        );
        let plan = of(&["config.json", "tokenizer.json", INDEX]).expect("a plan");
        assert!(plan.sharded);
    }

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        for (names, reason, remedy) in [
            (vec!["m.gguf"], "GGUF", "original model"),
            (vec!["README.md"], "no config.json", "original model"),
            (
                vec!["config.json", "pytorch_model.bin", "tokenizer.json"],
                "pytorch_model.bin",
                "save_pretrained",
            ),
            (
                vec!["config.json", "tokenizer.json"],
                "no model.safetensors",
                "save_pretrained",
            ),
            (
                vec!["config.json", WEIGHTS, "tokenizer.model"],
                "only tokenizer.model",
                "AutoTokenizer",
            ),
            (
                vec!["config.json", WEIGHTS],
                "no tokenizer.json",
                "AutoTokenizer",
            ),
        ] {
            let error = of(&names).expect_err("refused").to_string();
            assert!(error.contains(reason) && error.contains(remedy), "{error}");
        }
    }
}
