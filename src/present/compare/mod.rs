//! What compare shows: table, JSON, CSV, figures and page.

mod changes;
mod columns;
mod entries;
mod figures;
mod layers;
mod places;

pub(crate) use entries::{Entry, Measured, same_tokens};

use serde_json::{Value, json};

use self::{
    entries::{Since, measured, since_first},
    figures::Kind,
};
use super::{
    Artifacts,
    intervention_analysis::ratio_chart,
    json_value,
    lines::{Lines, color},
    magnitudes::{self, Magnitudes, Means},
    merged, page, sites,
};
use crate::{
    engine::Site,
    error::Result,
    experiments::compare::{Profile, SCHEMA},
    report::{
        html::{Body, Chart, Page, Section, chart},
        plot::ScaleChoice,
        run::Origin,
    },
};

/// What a comparison over different tokens must say.
pub(crate) const OTHER_TOKENS: &str = "the checkpoints' tokenizers differ: the text is the same, the tokens and where the windows end are not; if only the token that starts a text is another, --add-bos-token false makes them the same";

/// All files, those of the checkpoints included, and the table.
pub(crate) fn artifacts(
    entries: &[Entry],
    scale: ScaleChoice,
    settings: &Value,
    origin: &Origin,
) -> Result<Artifacts> {
    let since = since_first(entries);
    let mut artifacts = Artifacts::new("compare.json", document(entries, &since, settings)?)?;
    for (entry, measured) in measured(entries) {
        let place = &entry.place;
        artifacts.json(&format!("{place}/run.json"), &measured.record)?;
        for (name, document) in &measured.documents {
            artifacts.json(&format!("{place}/{name}"), document)?;
        }
    }
    let (records, layers) = (columns::records(entries), layers::records(entries));
    artifacts.file("compare.csv", records.csv());
    artifacts.file("layers.csv", layers.csv());
    let table = columns::table(entries);
    artifacts.sheet("compare", table.clone(), records);
    artifacts.sheet("layers", layers::table(entries), layers);
    let mut sections = vec![page::table("Checkpoints", &table)];
    artifacts.table(table);
    sections.extend(changes::add(&mut artifacts, entries, &since)?);
    for (name, heading, y_label, kind, values) in figures::BY_LAYER {
        let mut lines = Lines::default();
        for (index, entry) in entries.iter().enumerate() {
            if let Ok(measured) = &entry.outcome {
                let values = values(&measured.profile);
                match kind {
                    Kind::Magnitude => lines.push(index, &entry.label, values),
                    Kind::Share => lines.push_known(index, &entry.label, values),
                }
            }
        }
        if !lines.is_empty() {
            let chart = lines.chart(heading, y_label, kind.scale(scale));
            let svg = artifacts.figure(name, chart.to_svg())?;
            let mut explored = chart::Lines::from(&chart);
            if figures::OF_LARGEST.contains(&name) {
                explored = measured(entries).fold(explored, |lines, (entry, found)| {
                    lines.noted(&entry.label, places::of(found))
                });
            }
            sections.push(page::figure(heading, svg).explored([Chart::Lines(explored)]));
        }
    }
    let ratios = figures::perplexity_ratios(entries);
    if !ratios.is_empty() {
        let heading = "Perplexity with massive activations overwritten";
        let chart = ratio_chart(heading, ratios);
        let svg = artifacts.figure("perplexity_ratio", chart.to_svg())?;
        sections.push(page::figure(heading, svg).explored([Chart::from(&chart)]));
    }
    for (index, entry) in entries.iter().enumerate() {
        let Ok(measured) = &entry.outcome else {
            continue;
        };
        if let Some(found) = &measured.profile.existence {
            let layers = found.layers.iter();
            let means = layers.map(|l| (l.layer, l.top1_mean, l.median_mean));
            let means: Vec<Means> = means.collect();
            let figure = Magnitudes {
                title: entry.label.clone(),
                tensors: sites::tensors(Site::LayerOutput),
                layers: &means,
                massive: &found.massive_layers,
                color: color(index),
                scale,
            };
            let name = format!("{}/top_activation_magnitude", entry.place);
            let chart = figure.chart();
            let svg = artifacts.figure(&name, chart.to_svg())?;
            let heading = format!("Magnitudes by layer: {}", entry.label);
            let explored = magnitudes::explored(&chart, places::of(measured));
            sections.push(page::figure(heading, svg).explored([explored]));
        }
    }
    if !same_tokens(entries) {
        let text = "The checkpoints' tokenizers differ: the text is the same, the tokens and where the windows end are not.";
        sections.push(Section::new("Tokens", Body::Text(text.to_owned())));
    }
    sections.push(page::settings(settings));
    let complete = measured(entries).count();
    let mut facts = page::provenance(origin);
    facts.extend(measured(entries).flat_map(|(entry, found)| {
        let notices = found.record.notices.iter();
        notices.map(|notice| (entry.label.clone(), notice.clone()))
    }));
    let page = Page {
        title: title(entries),
        experiment: origin.command.clone(),
        verdict: format!("{complete} of {} checkpoints measured", entries.len()),
        highlight: complete < entries.len(),
        facts,
        command_line: origin.command_line(),
        sections,
    };
    artifacts.file("report.html", page.render());
    Ok(artifacts)
}

/// The checkpoints' names as long as they are a title.
fn title(entries: &[Entry]) -> String {
    const MOST: usize = 4;
    if entries.len() > MOST {
        return format!("{} checkpoints", entries.len());
    }
    let labels = entries.iter().map(|entry| entry.label.as_str());
    labels.collect::<Vec<_>>().join(", ")
}

/// compare.json.
fn document(entries: &[Entry], since: &[Option<Since<'_>>], settings: &Value) -> Result<Value> {
    let checkpoints = entries
        .iter()
        .zip(since)
        .map(|(entry, since)| {
            let measured = entry.outcome.as_ref().ok();
            let value = json!({
                "label": entry.label,
                "name": entry.name,
                "revision": entry.revision,
                "error": entry.outcome.as_ref().err().map(ToString::to_string),
                "model": measured.map(|measured| &measured.model),
                "format": entry.format(),
                "nsamples": measured.map(|measured| measured.nsamples),
                "tokens_blake3": measured.map(|measured| &measured.tokens),
                "changes": changes::document(since.as_ref())?,
            });
            let nothing = Profile::default();
            let profile = measured.map_or(&nothing, |measured| &measured.profile);
            merged([value, json_value(profile)?])
        })
        .collect::<Result<Vec<Value>>>()?;
    let found = json!({ "same_tokens": same_tokens(entries), "checkpoints": checkpoints });
    merged([json!({ "schema": SCHEMA }), settings.clone(), found])
}
