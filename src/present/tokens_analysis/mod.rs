//! What tokens-analysis shows.

mod listing;
mod picture;
mod records;
mod tables;
mod text;

use serde_json::json;

use super::{
    Artifacts, Compat, Context,
    page::{self, Verdict},
};
use crate::{
    error::Result,
    experiments::tokens_analysis::{DIMENSIONS_SCHEMA, SCHEMA, TokensAnalysis, massive_dimensions},
    report::{
        html::Chart,
        number::listed,
        plot::ScaleChoice,
        text::{TOKENS_FILE, tokens_text},
    },
};

/// Files, table and verdict, with whose dimensions and magnitudes they show.
pub(crate) fn artifacts(
    result: &TokensAnalysis,
    compat: Compat,
    scale: ScaleChoice,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let (name, layers) = (context.name(), context.model.layers);
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("tokens_analysis.json", document)?;
    let dimensions = massive_dimensions(&result.sequences);
    let export = json!({
        "layers": layers,
        "hidden_size": context.model.hidden_size,
        "first_layer": result.summary.first_layer,
        "nsamples": result.nsamples,
        "massive_dimensions": dimensions,
    });
    let export = context.document(DIMENSIONS_SCHEMA, &export)?;
    artifacts.json("massive_dimensions.json", &export)?;
    let (data, summary) = text::of(result, compat);
    artifacts.file(TOKENS_FILE, tokens_text(&data, &summary));
    let maps = picture::maps(name, result, &dimensions, layers, scale);
    let picture = artifacts.figure("massive_activations_by_layer", maps.to_svg()?)?;
    let magnitudes = tables::magnitudes(result, compat);
    let by_layer = tables::dimensions(&dimensions);
    let mut sections = vec![
        page::figure("Dimensions and tokens by layer", picture).explored(Chart::grids(&maps)),
        page::table("Magnitudes in the first massive layer", &magnitudes),
        page::table("Massive dimensions by layer", &by_layer),
    ];
    sections.extend(listing::sections(result));
    let records = records::magnitudes(result, compat);
    artifacts.sheet("magnitudes", magnitudes.clone(), records);
    artifacts.sheet(
        "massive_dimensions",
        by_layer,
        records::dimensions(&dimensions),
    );
    let verdict = Verdict {
        text: verdict(name, result, compat),
        highlight: result.summary.first_layer.is_some(),
    };
    tables::show(magnitudes, &mut artifacts);
    artifacts.line(verdict.text.clone());
    artifacts.page(context, verdict, sections);
    Ok(artifacts)
}

/// One line about the answer and, if need be, one about the reference program's.
fn verdict(name: &str, result: &TokensAnalysis, compat: Compat) -> String {
    let Some(first_layer) = result.summary.first_layer else {
        return format!(
            "{name} has no massive activations (no |h| > {} and > {} x median in any of {} sequences)",
            result.abs_threshold, result.rel_threshold, result.nsamples
        );
    };
    let (dimensions, other) = match compat {
        Compat::None => (&result.summary.dimensions, "the reference program"),
        Compat::Reference => (&result.dimensions_reference, "the definition"),
    };
    let mut verdict = format!(
        "{name}: massive activations from layer {first_layer}, dimensions {}, in {} of {} sequences",
        listed(dimensions),
        result.nsamples_massive,
        result.nsamples
    );
    if !result.reference_differs.is_empty() {
        let flag = match compat {
            Compat::None => "reference",
            Compat::Reference => "none",
        };
        verdict.push_str(&format!(
            "; by {other}, the {} differ (--compat {flag})",
            result.reference_differs.join(" and ")
        ));
    }
    verdict
}
