//! The checkpoints, their sizes, and how they were run.

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    experiments::published,
};

/// Each checkpoint was run with BOS and without.
pub const BOS: [bool; 2] = [true, false];

/// A checkpoint of the paper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Id on the hub.
    pub hub_id: String,
    /// The revision that has safetensors files, where the main branch has none.
    pub revision: Option<String>,
    /// Tokens in a sequence of the published runs.
    pub context_length: usize,
    /// Parameters; of Gemma 3's larger ones with the vision tower, which is not run.
    pub parameters: u64,
    /// Size of the safetensors files on the hub.
    pub bytes: u64,
    /// Size of the parameters in 16 bits.
    pub bytes_in_16_bits: u64,
}

#[derive(Deserialize)]
struct Sizes {
    checkpoints: Vec<Size>,
}

#[derive(Deserialize)]
struct Size {
    hub_id: String,
    #[serde(default)]
    revision: Option<String>,
    parameters: u64,
    stored: String,
    /// Numbers of a tied tensor that the files have a second time.
    #[serde(default)]
    stored_twice: u64,
}

/// The checkpoints in the order of the published runs.
pub fn checkpoints() -> Vec<Checkpoint> {
    // Part of the binary, and a test parses it.
    let sizes: Sizes = serde_json::from_str(include_str!("../../../assets/reproduce.json"))
        .unwrap_or(Sizes {
            checkpoints: Vec::new(),
        });
    let runs = published::all();
    let sizes = sizes.checkpoints.into_iter();
    sizes
        .filter_map(|size| {
            let run = runs.iter().find(|run| run.hub_id == size.hub_id)?;
            let width = if size.stored == "float32" { 4 } else { 2 };
            Some(Checkpoint {
                context_length: run.context_length,
                parameters: size.parameters,
                bytes: (size.parameters + size.stored_twice) * width,
                bytes_in_16_bits: size.parameters * 2,
                hub_id: size.hub_id,
                revision: size.revision,
            })
        })
        .collect()
}

/// The checkpoints of these names, by hub id or its last part, in the order of the paper. `flag` is
/// the argument that named them.
pub fn pick(names: &[impl AsRef<str>], flag: &str) -> Result<Vec<Checkpoint>> {
    let all = checkpoints();
    let last = |id: &str| id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
    let named = |checkpoint: &Checkpoint, name: &str| {
        checkpoint.hub_id.eq_ignore_ascii_case(name)
            || (!name.contains('/') && last(&checkpoint.hub_id) == last(name))
    };
    for name in names {
        let name = name.as_ref();
        if !all.iter().any(|checkpoint| named(checkpoint, name)) {
            let known: Vec<&str> = all.iter().map(|checkpoint| &*checkpoint.hub_id).collect();
            let last = known.iter().filter_map(|id| id.rsplit('/').next());
            return Err(
                Error::usage(format!("{flag} {name}"), "none of the paper's checkpoints")
                    .remedy(format!("choose among {}", known.join(", ")))
                    .meant(name, known.iter().copied().chain(last)),
            );
        }
    }
    let mut picked = all;
    picked.retain(|own| names.iter().any(|name| named(own, name.as_ref())));
    Ok(picked)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn eighteen_checkpoints_each_with_its_runs() {
        let all = checkpoints();
        assert_eq!(all.len(), 18);
        let of_runs: BTreeSet<String> =
            published::all().into_iter().map(|run| run.hub_id).collect();
        let of_plan: BTreeSet<String> = all.iter().map(|own| own.hub_id.clone()).collect();
        assert_eq!(of_plan, of_runs);
        for own in &all {
            for bos in BOS {
                let run = published::find(&own.hub_id, bos).expect("published");
                assert_eq!(
                    (run.hub_id, run.context_length),
                    (own.hub_id.clone(), own.context_length)
                );
            }
        }
        let olmo = all
            .iter()
            .find(|own| own.hub_id.contains("OLMo-2"))
            .expect("there");
        // Six files, 29.19 GB on the hub.
        assert_eq!(
            (olmo.bytes / 10_000_000, olmo.bytes_in_16_bits / 10_000_000),
            (2919, 1459)
        );
    }

    #[test]
    fn picks_by_id_or_last_part() {
        let picked = pick(&["google/gemma-3-1b-pt", "GPT2"], "--models").expect("known");
        let ids: Vec<&str> = picked.iter().map(|own| &*own.hub_id).collect();
        assert_eq!(ids, ["google/gemma-3-1b-pt", "openai-community/gpt2"]);
        let error = pick(&["else/gpt2"], "--models").expect_err("another owner");
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().starts_with("--models else/gpt2: none of"),
            "{error}"
        );
    }
}
