//! intervention_analysis.json.

use serde_json::{Value, json};

use super::super::{args::Compat, run::Run};
use crate::{
    data::Sequences,
    error::Result,
    experiments::{
        intervention_analysis::{
            EvaluationSet, InterventionAnalysis, SCHEMA, Setup, WrittenLayers,
        },
        published::PublishedRun,
    },
};

/// What was asked for.
pub(in crate::cli) fn settings(
    setup: &Setup,
    corpus: &Sequences,
    evaluation: &[EvaluationSet],
    revision: Option<&str>,
) -> Value {
    let sets: Vec<Value> = evaluation
        .iter()
        .map(|set| {
            let ids: Vec<u32> = set.windows.concat();
            let hash = blake3::hash(bytemuck::cast_slice(&ids)).to_hex();
            json!({ "name": set.name, "windows": set.windows.len(), "tokens_blake3": hash.as_str() })
        })
        .collect();
    let compat = if setup.reference {
        Compat::Reference
    } else {
        Compat::None
    };
    json!({
        "context_length": corpus.context_length,
        "add_bos_token": corpus.add_bos_token,
        "nsamples": setup.nsamples,
        "calibration_nsamples": setup.calibration_nsamples,
        "abs_threshold": setup.thresholds.abs,
        "rel_threshold": setup.thresholds.rel,
        "layers": match &setup.layers {
            WrittenLayers::First => json!("first"),
            WrittenLayers::All => json!("all"),
            WrittenLayers::Listed(layers) => json!(layers),
        },
        "set_to": setup.constants,
        "noise": setup.noise,
        "compat": compat,
        "seed": setup.seed,
        "dataset": corpus.provenance.as_ref().map(|source| source.name.clone()),
        "evaluation_sets": sets,
        "revision": revision,
    })
}

/// The whole document, with what was published for the same model.
pub(in crate::cli) fn document(
    run: &Run,
    settings: &Value,
    result: &InterventionAnalysis,
    published: Option<&PublishedRun>,
) -> Result<Value> {
    let mut document = run.document(SCHEMA, settings, result)?;
    document["published"] = json!(published.map(|published| json!({
        "hub_id": published.hub_id,
        "context_length": published.context_length,
        "perplexity": published.perplexity,
    })));
    Ok(document)
}
