//! What intervention-analysis shows.

mod controls;
mod files;
mod ratios;
mod records;
mod tables;
mod tasks;

pub(super) use ratios::{Groups, RatioRow, chart as ratio_chart};

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Artifacts, Compat, Context,
    page::{self, Verdict},
};
use crate::{
    error::Result,
    experiments::{
        intervention_analysis::{Impact, InterventionAnalysis, Place, SCHEMA, SetReport},
        published::PublishedRun,
    },
    report::{
        html::Chart,
        number::{listed, significant},
    },
};

/// Files, table and verdict, with what was published for the same model and whose dimensions were
/// overwritten.
pub(crate) fn artifacts(
    result: &InterventionAnalysis,
    published: Option<&PublishedRun>,
    compat: Compat,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let name = context.name();
    let document = document(result, published, context)?;
    let mut artifacts = Artifacts::new("intervention_analysis.json", document)?;
    files::add(&mut artifacts, result);
    let table = tables::perplexities(result, published);
    let mut sections = Vec::new();
    if !result.ratios.is_empty() {
        let chart = ratios::chart(name, ratios::by_intervention(result));
        let svg = artifacts.figure("perplexity_ratio", chart.to_svg())?;
        let section = page::figure("Change of perplexity", svg);
        sections.push(section.explored([Chart::from(&chart)]));
    }
    sections.push(page::table("Perplexity", &table));
    let accuracy = tasks::add(&mut artifacts, &mut sections, result)?;
    let evaluation = tables::evaluation(result);
    sections.push(page::table(
        "Massive activations in the evaluation windows",
        &evaluation,
    ));
    artifacts.sheet("evaluation", evaluation, records::evaluation(result));
    if !result.means.is_empty() {
        let means = tables::means(result);
        sections.push(page::table("Mean values", &means));
        artifacts.sheet("means", means, records::means(result));
    }
    let compared = controls::table(result);
    if let Some(compared) = &compared {
        sections.push(page::table("The effect beside its controls", compared));
        artifacts.sheet("controls", compared.clone(), controls::records(result));
    }
    let records = records::perplexities(result, published);
    artifacts.sheet("perplexity", table.clone(), records);
    let verdict = Verdict {
        text: verdict(name, result, compat),
        highlight: table.rows.iter().any(|row| row.emphasis),
    };
    artifacts.table(table);
    if let Some(compared) = compared {
        artifacts.line("");
        artifacts.table(compared);
    }
    if let Some(accuracy) = accuracy {
        artifacts.line("");
        artifacts.table(accuracy);
    }
    artifacts.line(format!("\n{}", verdict.text));
    for notice in notices(result) {
        artifacts.notice(notice);
    }
    artifacts.page(context, verdict, sections);
    Ok(artifacts)
}

/// The document, with what was published for the same model.
pub(crate) fn document(
    result: &InterventionAnalysis,
    published: Option<&PublishedRun>,
    context: &Context<'_>,
) -> Result<Value> {
    let mut document = context.document(SCHEMA, result)?;
    document["published"] = json!(published.map(|published| json!({
        "hub_id": published.hub_id,
        "context_length": published.context_length,
        "perplexity": published.perplexity,
    })));
    Ok(document)
}

/// The answer in a sentence, and what the reader should know about it.
fn verdict(name: &str, result: &InterventionAnalysis, compat: Compat) -> String {
    if let Some(place) = &result.place {
        return elsewhere(name, result, place);
    }
    let Some(first_layer) = result.first_layer else {
        return format!(
            "{name} has no massive activations in the corpus: there is nothing to overwrite, and \
             only the original perplexity is measured"
        );
    };
    let zero = result.ratios.get("set_to_zero");
    let worst = zero
        .into_iter()
        .flatten()
        .max_by(|a, b| order(a.1.ratio).total_cmp(&order(b.1.ratio)));
    let mut verdict = match worst {
        Some((set, ratio)) => format!(
            "{name}: setting the massive activations of layer {} to zero multiplies perplexity by up \
             to {} ({set}), {}",
            listed(&result.layers_written),
            ratio.ratio.map_or_else(|| "inf".to_owned(), significant),
            match ratio.class {
                Impact::None => "no impact",
                Impact::Medium => "a medium impact",
                Impact::High => "a high impact",
            }
        ),
        None => format!("{name}: massive activations from layer {first_layer}"),
    };
    if let Some(compared) = controls::verdict(result) {
        verdict.push_str(&compared);
    }
    if !result.missing_dimensions.is_empty() {
        verdict.push_str(&format!(
            "; no calibration sequence has a mean for dimension {}, which set_to_mean leaves alone",
            listed(&result.missing_dimensions)
        ));
    }
    if result.dimensions_union != result.dimensions_reference {
        let (other, flag) = match compat {
            Compat::None => ("the reference program", "reference"),
            Compat::Reference => ("the definition", "none"),
        };
        verdict.push_str(&format!(
            "; by {other}, the dimensions differ (--compat {flag})"
        ));
    }
    verdict
}

/// The answer where it was not done at the published place.
fn elsewhere(name: &str, result: &InterventionAnalysis, place: &Place) -> String {
    let worst = result.ratios.iter().flat_map(|(intervention, ratios)| {
        let ratios = ratios.iter();
        ratios.map(move |(set, ratio)| (intervention, set, ratio.ratio))
    });
    let worst = worst.max_by(|a, b| order(a.2).total_cmp(&order(b.2)));
    let mut verdict = format!(
        "{name}: {} of layer {}, dimension {}, at positions {}",
        place.site.name(),
        listed(&result.layers_written),
        listed(&result.dimensions),
        place.positions,
    );
    if let Some((intervention, set, ratio)) = worst {
        verdict.push_str(&format!(
            ": the most is done by {intervention}, which multiplies perplexity by {} ({set})",
            ratio.map_or_else(|| "inf".to_owned(), significant)
        ));
    }
    verdict.push_str(&controls::verdict(result).unwrap_or_default());
    verdict
}

/// What the averages over all windows hide, one line a set.
pub(crate) fn notices(result: &InterventionAnalysis) -> Vec<String> {
    untreated(result)
        .map(|(set, treated)| notice(result, set, treated))
        .chain(tasks::notice(result))
        .collect()
}

/// The sets with windows in which zeroing overwrites no massive activation, and in how many it does.
fn untreated(result: &InterventionAnalysis) -> impl Iterator<Item = (&SetReport, usize)> {
    let published = result.place.is_none();
    let counts = result
        .windows_treated
        .get("set_to_zero")
        .filter(|_| published);
    result.evaluation.iter().filter_map(move |set| {
        let treated = *counts?.get(&set.name)?;
        (treated < set.windows).then_some((set, treated))
    })
}

/// Why some windows of a set are not treated.
fn notice(result: &InterventionAnalysis, set: &SetReport, treated: usize) -> String {
    let left = result.nll_by_window[&set.name]
        .iter()
        .filter(|window| !window.treated_by.iter().any(|name| name == "set_to_zero"));
    let mut by_layer: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for window in left {
        *by_layer.entry(window.first_layer).or_default() += 1;
    }
    let reasons: Vec<String> = by_layer
        .iter()
        .map(|(layer, windows)| match layer {
            None => format!("{windows} have none in any layer"),
            Some(layer) => format!("{windows} have them from layer {layer} on"),
        })
        .collect();
    let mut text = format!(
        "{}: in {} of {} windows no massive activation is overwritten at layer {}: {}",
        set.name,
        set.windows - treated,
        set.windows,
        listed(&result.layers_written),
        reasons.join(", ")
    );
    if treated > 0 {
        text.push_str("; the table has the ratio over the others");
    }
    let own = !result.reference_differs.contains(&"positions");
    if own && by_layer.keys().any(Option::is_some) {
        text.push_str(
            "; --positions-from written takes a window's positions from the layer that is overwritten",
        );
    }
    text
}

fn order(ratio: Option<f64>) -> f64 {
    ratio.unwrap_or(f64::INFINITY)
}
