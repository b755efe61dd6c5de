//! Says what is there instead of what is missing: files of a folder, tensors of the files.
#![forbid(unsafe_code)]

use std::path::Path;

use super::files::{INDEX, SINGLE, TORCH_INDEX, TORCH_SINGLE};
use crate::error::Error;

/// Tensors that are named in an error.
const NAMED: usize = 3;

/// A folder without weights that are read.
pub(super) fn weights(folder: &Path) -> Error {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let any = |fits: &dyn Fn(&str) -> bool| names.iter().any(|name| fits(name));
    let error = |reason: &str| Error::new(folder.display(), reason);
    if any(&|name| name.starts_with("pytorch_model-") && name.ends_with(".bin")) {
        Error::new(
            folder.display(),
            format!("it has shards, and no {TORCH_INDEX} that says which tensor lies where"),
        )
        .remedy(format!("get {TORCH_INDEX} from where the shards come from"))
    } else if let Some(name) = names
        .iter()
        .find(|name| name.to_ascii_lowercase().ends_with(".gguf"))
    {
        error("the only weights beside config.json are GGUF files, which bring their own")
            .remedy(format!("name the file: {}", folder.join(name).display()))
    } else if any(&is_shard) {
        Error::new(
            folder.display(),
            format!("it has shards, and no {INDEX} that says which tensor lies where"),
        )
        .remedy(format!("get {INDEX} from where the shards come from"))
    } else if any(&|name| name.ends_with(".safetensors")) {
        Error::new(
            folder.display(),
            format!("its safetensors files are neither {SINGLE} nor named by {INDEX}"),
        )
        .remedy(format!("rename the file with the whole model to {SINGLE}"))
    } else {
        Error::new(
            folder.display(),
            format!("neither {SINGLE} nor {TORCH_SINGLE} is there, nor the index of either"),
        )
        .remedy("give a folder with a Hugging Face checkpoint")
    }
}

/// Whether a file is called as transformers calls the parts of a model.
pub(super) fn is_shard(name: &str) -> bool {
    let numbers = name
        .strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|numbers| numbers.split_once("-of-"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(number, count)| digits(number) && digits(count))
}

/// A tensor that is not among the stored `names` of `files`.
pub(super) fn tensor<'n>(
    name: &str,
    files: String,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Error {
    let missing = format!("tensor `{name}` is missing");
    if let Some(packed) = packed(name, names.clone()) {
        return Error::new(
            files,
            format!("{missing}, and config.json does not say how `{packed}` is packed"),
        )
        .remedy("take the config.json that came with the weights");
    }
    let near = near(name, names);
    if near.is_empty() {
        return Error::new(files, missing).remedy(MISMATCH);
    }
    Error::new(
        files,
        format!("{missing}; near to it is {}", near.join(", ")),
    )
    .remedy(
        "if the weights are laid out otherwise than transformers does, load them there and save_pretrained; else take weights and config.json from one model",
    )
}

/// What there is of a tensor that is packed.
fn packed<'n>(name: &str, mut names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let module = name.strip_suffix("weight").unwrap_or("\0");
    names.find(|stored| match stored.strip_prefix(name) {
        Some(ending) => ["_packed", "_blocks"].contains(&ending),
        None => stored.strip_prefix(module) == Some("qweight"),
    })
}

/// What to do about weights that are whole and not what config.json describes.
pub(super) const MISMATCH: &str =
    "take weights and config.json from one model: these do not fit together";

/// Stored tensors of the same module, or of the nearest one around it within the layer.
fn near<'n>(name: &str, names: impl Iterator<Item = &'n str> + Clone) -> Vec<String> {
    let mut around = name;
    while let Some((outer, last)) = around.rsplit_once('.') {
        // Beyond its layer nothing is near.
        if last.bytes().all(|byte| byte.is_ascii_digit()) && !outer.ends_with("experts") {
            break;
        }
        around = outer;
        let inside = format!("{around}.");
        let mut found: Vec<&str> = names
            .clone()
            .filter(|name| name.starts_with(&inside))
            .collect();
        if found.is_empty() {
            continue;
        }
        found.sort_unstable();
        return found
            .iter()
            .take(NAMED)
            .map(|name| format!("`{name}`"))
            .collect();
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near() {
        let names = [
            "model.layers.0.mlp.experts.gate_up_proj",
            "model.layers.0.mlp.experts.down_proj",
            "model.layers.0.input_layernorm.weight",
            "model.layers.1.self_attn.q_proj.weight",
        ];
        let near = |name: &str| near(name, names.into_iter());
        assert_eq!(
            near("model.layers.0.mlp.experts.3.gate_proj.weight"),
            [
                "`model.layers.0.mlp.experts.down_proj`",
                "`model.layers.0.mlp.experts.gate_up_proj`"
            ]
        );
        assert_eq!(
            near("model.layers.1.self_attn.q_proj.bias"),
            ["`model.layers.1.self_attn.q_proj.weight`"]
        );
        assert!(near("model.layers.2.self_attn.q_proj.bias").is_empty());
        assert!(near("lm_head.weight").is_empty());
    }

    #[test]
    fn what_is_packed() {
        for (stored, found) in [
            ("h.0.q.qweight", true),
            ("h.0.q.weight_packed", true),
            ("h.0.q.weight_scale", false),
            ("h.1.q.qweight", false),
        ] {
            let names = ["h.0.q.bias", stored];
            let packed = packed("h.0.q.weight", names.into_iter());
            assert_eq!(packed, found.then_some(stored));
        }
    }

    #[test]
    fn names_of_shards() {
        assert!(is_shard("model-00001-of-00002.safetensors"));
        for name in [
            "model.safetensors",
            "model-x-of-2.safetensors",
            "model-1-of-.safetensors",
        ] {
            assert!(!is_shard(name), "{name}");
        }
    }
}
