//! The reference program's text files.

use std::collections::BTreeMap;

use crate::{
    experiments::intervention_analysis::{InterventionAnalysis, LogEntry},
    present::Artifacts,
    report::text::{
        PERPLEXITY_FILE, PerplexityText, Reset, TokenGroup, perplexity_text, reset_file, reset_text,
    },
};

/// `results_ppl.txt` and the logs of overwritten values. A log without a line is no file.
pub(super) fn add(artifacts: &mut Artifacts, result: &InterventionAnalysis) {
    artifacts.file(PERPLEXITY_FILE, perplexity_text(&perplexities(result)));
    let mut logs: BTreeMap<String, Vec<Reset>> = BTreeMap::new();
    for entry in &result.log {
        let group = if entry.starting {
            TokenGroup::Starting
        } else {
            TokenGroup::NonStarting
        };
        let name = reset_file(&entry.intervention, &entry.set, group);
        logs.entry(name).or_default().push(reset(entry));
    }
    for (name, resets) in logs {
        artifacts.file(name, reset_text(&resets));
    }
}

fn perplexities(result: &InterventionAnalysis) -> PerplexityText {
    let sets = |intervention: &String| {
        let by_set = &result.perplexity[intervention];
        let sets = result.evaluation.iter();
        sets.map(|set| {
            let perplexity = by_set[&set.name];
            (set.name.clone(), perplexity.unwrap_or(f64::INFINITY))
        })
        .collect()
    };
    PerplexityText {
        interventions: result
            .interventions
            .iter()
            .map(|intervention| (intervention.clone(), sets(intervention)))
            .collect(),
        missing_dimensions: result.missing_dimensions.clone(),
    }
}

fn reset(entry: &LogEntry) -> Reset {
    Reset {
        value: entry.value,
        layer: entry.layer,
        positions: entry.positions.clone(),
        dimension: entry.dimension,
        original: entry.originals.iter().copied().map(f64::from).collect(),
    }
}
