//! What `massact compare` leaves: table, JSON, CSV, figures and page.

use serde_json::{Value, json};

use super::{Entry, Measured};
use crate::{
    cli::{
        existence_validation::significant, figures, intervention_analysis::ratio_chart,
        overlay::Lines,
    },
    error::{Error, Result},
    experiments::{
        compare::{Intervened, InterventionsProfile, Profile, SCHEMA},
        intervention_analysis::Ratio,
    },
    report::{
        RunFolder, csv,
        html::{Body, Page, Section},
        plot::Scale,
        table::{Align, Row, Table},
    },
};

/// compare.json.
pub(super) fn document(settings: &Value, entries: &[Entry], same_tokens: bool) -> Result<Value> {
    let checkpoints = entries
        .iter()
        .map(|entry| {
            let measured = entry.outcome.as_ref().ok();
            let mut value = json!({
                "label": entry.label,
                "name": entry.name,
                "revision": entry.revision,
                "error": entry.outcome.as_ref().err().map(ToString::to_string),
                "model": measured.map(|measured| &measured.model),
                "nsamples": measured.map(|measured| measured.nsamples),
                "tokens_blake3": measured.map(|measured| &measured.tokens),
            });
            let nothing = Profile::default();
            let profile = measured.map_or(&nothing, |measured| &measured.profile);
            let profile = serde_json::to_value(profile)
                .map_err(|error| Error::new("result", format!("not valid JSON: {error}")))?;
            if let (Value::Object(value), Value::Object(profile)) = (&mut value, profile) {
                value.extend(profile);
            }
            Ok(value)
        })
        .collect::<Result<Vec<Value>>>()?;
    let mut document = json!({ "schema": SCHEMA });
    if let (Value::Object(document), Value::Object(settings)) = (&mut document, settings) {
        document.extend(settings.clone());
        document.insert("same_tokens".into(), json!(same_tokens));
        document.insert("checkpoints".into(), json!(checkpoints));
    }
    Ok(document)
}

/// Writes every file but the checkpoints' own.
pub(super) fn write(
    folder: &RunFolder,
    settings: &Value,
    entries: &[Entry],
    same_tokens: bool,
    document: &Value,
) -> Result<()> {
    folder.write_json("compare.json", document)?;
    folder.write("compare.csv", csv_text(entries))?;
    let mut sections = vec![figures::table_section("Checkpoints", &table(entries))];
    let mut panels = Vec::new();
    for (entry, measured) in measured(entries) {
        if let Some(found) = &measured.profile.existence {
            let layers = found.layers.iter();
            let means: Vec<(f64, f64)> = layers.map(|l| (l.top1_mean, l.median_mean)).collect();
            let svg = figures::magnitudes(&entry.label, &means, &found.massive_layers);
            let name = format!("{}/top_activation_magnitude", entry.place);
            let svg = figures::write(folder, &name, svg)?;
            let heading = format!("Magnitudes by layer: {}", entry.label);
            panels.push(Section::new(heading, Body::Figure(svg)));
        }
    }
    for (name, heading, scale, values) in FIGURES {
        let mut lines = Lines::default();
        for (entry, measured) in measured(entries) {
            let values = values(&measured.profile);
            if !values.is_empty() {
                lines.push(&entry.label, values);
            }
        }
        if !lines.is_empty() {
            let svg = figures::write(folder, name, lines.chart(heading, heading, scale))?;
            sections.push(Section::new(heading, Body::Figure(svg)));
        }
    }
    let ratios = perplexity_ratios(entries);
    if !ratios.is_empty() {
        let heading = "Perplexity with massive activations overwritten";
        let svg = ratio_chart(heading, ratios).to_svg();
        let svg = figures::write(folder, "perplexity_ratio", svg)?;
        sections.push(Section::new(heading, Body::Figure(svg)));
    }
    sections.extend(panels);
    if !same_tokens {
        let text = "The checkpoints' tokenizers differ: the text is the same, the tokens and where the windows end are not.";
        sections.push(Section::new("Tokens", Body::Text(text.to_owned())));
    }
    sections.push(figures::settings_section(settings));
    let complete = measured(entries).count();
    let page = Page {
        title: "Comparison".to_owned(),
        verdict: format!("{complete} of {} checkpoints measured", entries.len()),
        highlight: complete < entries.len(),
        facts: measured(entries)
            .flat_map(|(entry, found)| {
                let notices = found.record.notices.iter();
                notices.map(|notice| (entry.label.clone(), notice.clone()))
            })
            .collect(),
        sections,
    };
    folder.write("report.html", page.render())?;
    Ok(())
}

/// By intervention, the checkpoints' ratios; those without massive activations have none.
fn perplexity_ratios(entries: &[Entry]) -> Vec<(String, Vec<(String, Ratio)>)> {
    INTERVENTIONS
        .into_iter()
        .map(|(name, of)| {
            let rows = measured(entries).filter_map(|(entry, found)| {
                let profile = found.profile.interventions.as_ref()?;
                Some((entry.label.clone(), of(profile)?.ratio))
            });
            (name.to_owned(), rows.collect::<Vec<_>>())
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
}

/// Names and results of the interventions that are shown.
const INTERVENTIONS: [(&str, OfIntervention); 2] = [
    ("set_to_zero", |profile| profile.set_to_zero),
    ("set_to_mean", |profile| profile.set_to_mean),
];

type OfIntervention = fn(&InterventionsProfile) -> Option<Intervened>;

type ByLayer = fn(&Profile) -> Vec<f64>;

/// File name, heading, scale and values of the figures.
const FIGURES: [(&str, &str, Scale, ByLayer); 7] = [
    (
        "top1_by_layer",
        "Largest magnitude (mean top-1)",
        Scale::Log,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.top1_mean).collect()
        },
    ),
    (
        "median_by_layer",
        "Median magnitude (mean median)",
        Scale::Log,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.median_mean).collect()
        },
    ),
    (
        "ratio_by_layer",
        "Largest magnitude over the median",
        Scale::Log,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers
                .map(|layer| layer.top1_mean / layer.median_mean)
                .collect()
        },
    ),
    (
        "attention_to_first_token",
        "Share of attention to the first token",
        Scale::Linear,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.first_token).collect()
        },
    ),
    (
        "attention_to_massive_tokens",
        "Share of attention to massive tokens",
        Scale::Linear,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.massive_tokens).collect()
        },
    ),
    (
        "attention_to_kv_bias",
        "Share of attention to the learned key",
        Scale::Linear,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            let shares: Option<Vec<f64>> = layers.map(|layer| layer.kv_bias).collect();
            shares.unwrap_or_default()
        },
    ),
    (
        "weight_std_by_layer",
        "Standard deviation of the weights",
        Scale::Log,
        |profile| {
            profile
                .weights
                .iter()
                .flat_map(|found| found.layers.clone())
                .collect()
        },
    ),
];

fn measured(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &Measured)> {
    entries
        .iter()
        .filter_map(|entry| Some((entry, entry.outcome.as_ref().ok()?)))
}

/// A column: title, and a profile's value in full and as the table shows it.
struct Column {
    title: &'static str,
    /// Name in the CSV.
    name: &'static str,
    value: fn(&Profile) -> Option<Cell>,
}

enum Cell {
    Number(f64),
    Indices(Vec<usize>),
}

impl Cell {
    /// What double precision cannot hold is as good as infinite.
    fn perplexity(found: Intervened) -> Self {
        Self::Number(found.perplexity.unwrap_or(f64::INFINITY))
    }

    fn ratio(found: Intervened) -> Self {
        Self::Number(found.ratio.ratio.unwrap_or(f64::INFINITY))
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(value) => significant(*value),
            Self::Indices(indices) => ranges(indices),
        }
    }

    fn in_full(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Indices(indices) => indices
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

const COLUMNS: [Column; 16] = [
    Column {
        title: "top-1",
        name: "top1",
        value: |profile| Some(Cell::Number(profile.existence.as_ref()?.top1)),
    },
    Column {
        title: "in layer",
        name: "top1_layer",
        value: |profile| Some(Cell::Indices(vec![profile.existence.as_ref()?.layer])),
    },
    Column {
        title: "median",
        name: "median",
        value: |profile| Some(Cell::Number(profile.existence.as_ref()?.median)),
    },
    Column {
        title: "ratio",
        name: "ratio",
        value: |profile| profile.existence.as_ref()?.ratio.map(Cell::Number),
    },
    Column {
        title: "massive layers",
        name: "massive_layers",
        value: |profile| {
            Some(Cell::Indices(
                profile.existence.as_ref()?.massive_layers.clone(),
            ))
        },
    },
    Column {
        title: "first layer",
        name: "first_layer",
        value: |profile| {
            Some(Cell::Indices(
                profile.tokens.as_ref()?.first_layer.into_iter().collect(),
            ))
        },
    },
    Column {
        title: "dimensions",
        name: "dimensions",
        value: |profile| Some(Cell::Indices(profile.tokens.as_ref()?.dimensions.clone())),
    },
    Column {
        title: "perplexity",
        name: "perplexity",
        value: |profile| {
            let original = || profile.interventions.as_ref()?.original;
            profile.perplexity.or_else(original).map(Cell::Number)
        },
    },
    Column {
        title: "with zeros",
        name: "perplexity_set_to_zero",
        value: |profile| intervened(profile, |found| found.set_to_zero).map(Cell::perplexity),
    },
    Column {
        title: "/ original",
        name: "ratio_set_to_zero",
        value: |profile| intervened(profile, |found| found.set_to_zero).map(Cell::ratio),
    },
    Column {
        title: "with means",
        name: "perplexity_set_to_mean",
        value: |profile| intervened(profile, |found| found.set_to_mean).map(Cell::perplexity),
    },
    Column {
        title: "/ original",
        name: "ratio_set_to_mean",
        value: |profile| intervened(profile, |found| found.set_to_mean).map(Cell::ratio),
    },
    Column {
        title: "attention to first",
        name: "attention_first_token",
        value: |profile| Some(Cell::Number(profile.attention.as_ref()?.first_token)),
    },
    Column {
        title: "to massive",
        name: "attention_massive_tokens",
        value: |profile| Some(Cell::Number(profile.attention.as_ref()?.massive_tokens)),
    },
    Column {
        title: "to KV bias",
        name: "attention_kv_bias",
        value: |profile| profile.attention.as_ref()?.kv_bias.map(Cell::Number),
    },
    Column {
        title: "weight std",
        name: "weight_std",
        value: |profile| Some(Cell::Number(profile.weights.as_ref()?.std)),
    },
];

fn intervened(profile: &Profile, of: OfIntervention) -> Option<Intervened> {
    profile.interventions.as_ref().and_then(of)
}

/// A row a checkpoint; columns that no checkpoint has a value for are left out.
pub(super) fn table(entries: &[Entry]) -> Table {
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| {
            measured(entries).any(|(_, found)| (column.value)(&found.profile).is_some())
        })
        .collect();
    let mut titles = vec![("checkpoint", Align::Left)];
    titles.extend(columns.iter().map(|column| (column.title, Align::Right)));
    if entries.iter().any(|entry| entry.outcome.is_err()) {
        titles.push(("error", Align::Left));
    }
    let mut table = Table::new(titles);
    for entry in entries {
        let profile = entry
            .outcome
            .as_ref()
            .ok()
            .map(|measured| &measured.profile);
        let mut cells = vec![entry.label.clone()];
        cells.extend(columns.iter().map(|column| {
            let cell = profile.and_then(|profile| (column.value)(profile));
            cell.map_or_else(|| "-".to_owned(), |cell| cell.shown())
        }));
        cells.extend(entry.outcome.as_ref().err().map(ToString::to_string));
        let massive = profile.and_then(|profile| profile.existence.as_ref());
        let massive = massive.is_some_and(|found| found.has_massive_activations);
        table.push(Row::new(cells).emphasised(massive));
    }
    table
}

/// The table in full digits and with every column.
fn csv_text(entries: &[Entry]) -> String {
    let names = COLUMNS.iter().map(|column| column.name);
    let mut text = csv::line(
        ["label", "name", "revision", "commit", "error"]
            .into_iter()
            .chain(names),
    );
    for entry in entries {
        let measured = entry.outcome.as_ref().ok();
        let commit = measured.and_then(|measured| measured.model.commit.clone());
        let mut cells = vec![
            entry.label.clone(),
            entry.name.clone(),
            entry.revision.clone().unwrap_or_default(),
            commit.unwrap_or_default(),
            entry
                .outcome
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ];
        cells.extend(COLUMNS.iter().map(|column| {
            let cell = measured.and_then(|measured| (column.value)(&measured.profile));
            cell.map_or_else(String::new, |cell| cell.in_full())
        }));
        text.push_str(&csv::line(cells));
    }
    text
}

/// `2-5, 9`; a dash for none.
fn ranges(sorted: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &value in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == value => *last = value,
            _ => runs.push((value, value)),
        }
    }
    if runs.is_empty() {
        return "-".to_owned();
    }
    let texts = runs.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn layers_as_ranges() {
        assert_eq!(ranges(&[]), "-");
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[2, 3, 4, 7, 9, 10]), "2-4, 7, 9-10");
    }
}
