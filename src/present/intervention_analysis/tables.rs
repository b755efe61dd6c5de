//! The result as tables.

use crate::{
    experiments::{
        intervention_analysis::{Impact, InterventionAnalysis, Ratio, SetReport},
        published::PublishedRun,
    },
    report::{
        number::significant,
        table::{Align, Row, Table},
    },
};

/// One row an intervention and evaluation set.
pub(super) fn perplexities(
    result: &InterventionAnalysis,
    published: Option<&PublishedRun>,
) -> Table {
    let mut columns = vec![
        ("intervention", Align::Left),
        ("evaluation set", Align::Left),
        ("perplexity", Align::Right),
        ("ratio", Align::Right),
        ("95 % interval", Align::Left),
        ("impact", Align::Left),
    ];
    let partly = super::untreated(result).next().is_some();
    if partly {
        columns.push(("windows treated", Align::Right));
        columns.push(("ratio over these", Align::Right));
    }
    if published.is_some() {
        columns.push(("published perplexity", Align::Right));
    }
    let mut table = Table::new(columns);
    for intervention in &result.interventions {
        for set in &result.evaluation {
            let perplexity = result.perplexity[intervention][&set.name];
            let ratios = result.ratios.get(intervention);
            let ratio = ratios.and_then(|ratios| ratios.get(&set.name));
            let mut cells = vec![
                intervention.clone(),
                set.name.clone(),
                number(perplexity),
                ratio.map_or_else(String::new, |ratio| number(ratio.ratio)),
                ratio.map_or_else(String::new, interval),
                ratio.map_or("", |ratio| ratio.class.name()).to_owned(),
            ];
            if partly {
                cells.extend(treated(result, intervention, set));
            }
            if let Some(published) = published {
                let value = published.perplexity.get(intervention);
                let value = value.and_then(|sets| sets.get(&set.name));
                cells.push(value.map_or_else(String::new, |value| significant(*value)));
            }
            let changed = ratio.is_some_and(|ratio| ratio.class != Impact::None);
            table.push(Row::new(cells).emphasised(changed));
        }
    }
    table
}

/// How many of a set's windows an intervention treats, and the ratio over these.
fn treated(result: &InterventionAnalysis, intervention: &str, set: &SetReport) -> [String; 2] {
    let counts = result.windows_treated.get(intervention);
    let Some(count) = counts.and_then(|counts| counts.get(&set.name)) else {
        return [String::new(), String::new()];
    };
    let ratios = result.ratios_treated.get(intervention);
    let ratio = ratios.and_then(|ratios| ratios.get(&set.name));
    [
        format!("{count} of {}", set.windows),
        ratio.map_or_else(|| "-".to_owned(), |ratio| number(ratio.ratio)),
    ]
}

/// Where the evaluation windows have massive activations.
pub(super) fn evaluation(result: &InterventionAnalysis) -> Table {
    let mut table = Table::new([
        ("evaluation set", Align::Left),
        ("windows", Align::Right),
        ("with massive activations", Align::Right),
        ("at position 0", Align::Right),
        ("at later positions", Align::Right),
        ("first massive layer (windows)", Align::Left),
    ]);
    for set in &result.evaluation {
        let layers = set.windows_by_first_layer.iter();
        let layers: Vec<String> = layers
            .map(|(layer, windows)| format!("{layer} ({windows})"))
            .collect();
        table.push(Row::new([
            set.name.clone(),
            set.windows.to_string(),
            set.windows_massive.to_string(),
            set.windows_starting.to_string(),
            set.windows_nonstarting.to_string(),
            layers.join(", "),
        ]));
    }
    table
}

/// The means that were written.
pub(super) fn means(result: &InterventionAnalysis) -> Table {
    let mut table = Table::new([
        ("first massive layer", Align::Right),
        ("position", Align::Left),
        ("dimension", Align::Right),
        ("mean value", Align::Right),
        ("values", Align::Right),
    ]);
    for mean in &result.means {
        table.push(Row::new([
            mean.layer.to_string(),
            if mean.starting { "0" } else { "later" }.to_owned(),
            mean.dimension.to_string(),
            significant(mean.mean),
            mean.count.to_string(),
        ]));
    }
    table
}

fn interval(ratio: &Ratio) -> String {
    match (ratio.low, ratio.high) {
        (None, None) => String::new(),
        (low, high) => format!("{} to {}", number(low), number(high)),
    }
}

/// What double precision cannot hold is as good as infinite.
fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "inf".to_owned(), significant)
}
