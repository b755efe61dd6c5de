//! The numbers that the paper published, shown beside one's own.
//!
//! `assets/published_results.json` holds the published outputs of 18 checkpoints of "A Refined
//! Analysis of Massive Activations in LLMs" (arXiv 2503.22329), each with and without BOS.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One published run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedRun {
    /// Id of the checkpoint on the hub.
    pub hub_id: String,
    /// Whether sequences began with BOS.
    pub bos_token: bool,
    /// Tokens in a sequence.
    pub context_length: usize,
    /// Mean top-1 of the layers found massive, by layer.
    pub existence_top1_mean_by_layer: BTreeMap<usize, f64>,
    /// Perplexity by intervention and dataset.
    #[serde(skip_serializing)]
    pub perplexity: BTreeMap<String, BTreeMap<String, f64>>,
    /// First layer in which any sequence has a massive activation; read it where `dimensions` is there.
    #[serde(default, skip_serializing)]
    pub first_layer: Option<usize>,
    /// Massive dimensions over all sequences, as that program gathers them; none where its log is not
    /// among what was published, as for Gemma 3.
    #[serde(default, skip_serializing)]
    pub dimensions: Option<Vec<usize>>,
    /// Token positions in the first layer.
    #[serde(default, skip_serializing)]
    pub token_positions_first_layer: Vec<usize>,
}

#[derive(Deserialize)]
struct Results {
    runs: Vec<PublishedRun>,
}

/// The published run of the checkpoint `name` (a hub id, or a folder named like one's last part)
/// with or without BOS.
pub fn find(name: &str, bos_token: bool) -> Option<PublishedRun> {
    let last = |id: &str| -> String {
        let id = id.trim_end_matches('/');
        id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase()
    };
    all()
        .into_iter()
        .find(|run| run.bos_token == bos_token && last(&run.hub_id) == last(name))
}

/// Every published run, a checkpoint's two after each other.
pub fn all() -> Vec<PublishedRun> {
    // The file is part of the binary and a test parses it; a damaged one would only hide a column.
    serde_json::from_str(include_str!("../../assets/published_results.json"))
        .map_or_else(|_| Vec::new(), |results: Results| results.runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_runs_are_there_and_found_by_id_or_folder() {
        assert_eq!(all().len(), 36);
        for name in ["meta-llama/Llama-2-7b-hf", "/models/llama-2-7B-hf/"] {
            let run = find(name, true).expect(name);
            assert_eq!(run.context_length, 4096);
            assert_eq!(run.existence_top1_mean_by_layer[&1], 2400.0);
            assert_eq!(run.perplexity["set_to_mean_1"]["c4"].round(), 8.0);
            assert_eq!(run.first_layer, Some(1));
            assert_eq!(run.dimensions.as_deref(), Some(&[1415, 1512, 2533][..]));
            assert_eq!(run.token_positions_first_layer.len(), 33);
        }
        let without = all().into_iter().filter(|run| run.dimensions.is_none());
        assert!(
            without
                .map(|run| run.hub_id)
                .all(|id| id.contains("gemma-3"))
        );
        assert_eq!(find("some/other-model", true), None);
    }
}
