//! The tables in full.

use serde_json::json;

use crate::{
    experiments::{intervention_analysis::InterventionAnalysis, published::PublishedRun},
    report::records::Records,
};

/// One record an intervention and evaluation set.
pub(super) fn perplexities(
    result: &InterventionAnalysis,
    published: Option<&PublishedRun>,
) -> Records {
    let mut records = Records::new([
        "intervention",
        "set",
        "perplexity",
        "nll",
        "ratio",
        "low",
        "high",
        "class",
        "windows",
        "windows_treated",
        "ratio_treated",
        "published_perplexity",
    ]);
    for intervention in &result.interventions {
        for set in &result.evaluation {
            let name = &set.name;
            let ratios = result.ratios.get(intervention);
            let ratio = ratios.and_then(|ratios| ratios.get(name));
            let counts = result.windows_treated.get(intervention);
            let treated = result.ratios_treated.get(intervention);
            let treated = treated.and_then(|ratios| ratios.get(name));
            let known = published.and_then(|run| run.perplexity.get(intervention));
            records.push(json!([
                intervention,
                name,
                result.perplexity[intervention][name],
                result.nll[intervention][name],
                ratio.map(|ratio| ratio.ratio),
                ratio.map(|ratio| ratio.low),
                ratio.map(|ratio| ratio.high),
                ratio.map(|ratio| ratio.class.name()),
                set.windows,
                counts.and_then(|counts| counts.get(name)),
                treated.map(|ratio| ratio.ratio),
                known.and_then(|sets| sets.get(name)),
            ]));
        }
    }
    records
}

/// One record an evaluation set.
pub(super) fn evaluation(result: &InterventionAnalysis) -> Records {
    let mut records = Records::new([
        "set",
        "windows",
        "windows_massive",
        "windows_starting",
        "windows_nonstarting",
        "windows_by_first_layer",
    ]);
    for set in &result.evaluation {
        let layers = set.windows_by_first_layer.iter();
        let layers: Vec<String> = layers
            .map(|(layer, windows)| format!("{layer}:{windows}"))
            .collect();
        records.push(json!([
            set.name,
            set.windows,
            set.windows_massive,
            set.windows_starting,
            set.windows_nonstarting,
            layers,
        ]));
    }
    records
}

/// One record a mean.
pub(super) fn means(result: &InterventionAnalysis) -> Records {
    let mut records = Records::new(["layer", "starting", "dimension", "mean", "count"]);
    for mean in &result.means {
        records.push(json!([
            mean.layer,
            mean.starting,
            mean.dimension,
            mean.mean,
            mean.count
        ]));
    }
    records
}
