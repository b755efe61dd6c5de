//! Which dimensions and which tokens are massive in which layers, at a glance.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    experiments::tokens_analysis::{MassiveDimension, TokensAnalysis},
    report::{
        plot::{LayerMap, LayerMaps, Scale, ScaleChoice},
        visible::token_label,
    },
};

/// Most rows of a map.
const MOST_ROWS: usize = 20;

/// A label and one value a layer, NaN where nothing is massive.
type LayerRow = (String, Vec<f64>);

/// The picture.
pub(super) fn maps(
    model: &str,
    result: &TokensAnalysis,
    dimensions: &[MassiveDimension],
    layers: usize,
    scale: ScaleChoice,
) -> LayerMaps {
    let mut by_dimension: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for found in dimensions {
        let row = by_dimension.entry(found.dimension);
        row.or_insert_with(|| vec![f64::NAN; layers])[found.layer] = found.mean;
    }
    let by_dimension = by_dimension
        .into_iter()
        .map(|(dimension, values)| (dimension.to_string(), values))
        .collect();
    let (dimension_rows, dimension_title) =
        largest(by_dimension, "Mean magnitude by dimension".to_owned());
    let (token_rows, token_title) = largest(
        tokens(result, layers),
        "Share of sequences by token".to_owned(),
    );
    let magnitudes = dimension_rows.iter().flat_map(|(_, values)| values);
    let magnitudes = scale.of(magnitudes.copied());
    LayerMaps {
        title: model.to_owned(),
        layers,
        maps: vec![
            LayerMap {
                title: dimension_title,
                bar_label: "mean |h|".to_owned(),
                rows: dimension_rows,
                scale: magnitudes,
            },
            LayerMap {
                title: token_title,
                bar_label: "share".to_owned(),
                rows: token_rows,
                scale: Scale::Linear,
            },
        ],
    }
}

/// The share of sequences with a massive activation at the first position, and on each token
/// elsewhere: the paper's starting and non-starting tokens.
fn tokens(result: &TokensAnalysis, layers: usize) -> Vec<LayerRow> {
    let mut counts: BTreeMap<Option<&str>, Vec<f64>> = BTreeMap::new();
    for sequence in &result.sequences {
        for found in &sequence.detections.layers {
            let tokens: BTreeSet<Option<&str>> = found
                .positions()
                .into_iter()
                .map(|position| {
                    let token = sequence.tokens.get(&position).map(String::as_str);
                    token.filter(|_| position > 0)
                })
                .collect();
            for token in tokens {
                counts.entry(token).or_insert_with(|| vec![0.0; layers])[found.layer] += 1.0;
            }
        }
    }
    let share = |count: f64| {
        if count > 0.0 {
            count / result.nsamples as f64
        } else {
            f64::NAN
        }
    };
    counts
        .into_iter()
        .map(|(token, counts)| {
            let label = token.map_or_else(|| first_label(result), token_label);
            (label, counts.into_iter().map(share).collect())
        })
        .collect()
}

/// The first position, with its token where that is always the same.
fn first_label(result: &TokensAnalysis) -> String {
    let tokens = result.unique_tokens.get(&0).into_iter().flatten();
    match tokens.collect::<Vec<_>>()[..] {
        [only] => format!("{} (first)", token_label(only)),
        _ => "first position".to_owned(),
    }
}

/// The rows with the largest values, in their order, and a title that says so.
fn largest(mut rows: Vec<LayerRow>, title: String) -> (Vec<LayerRow>, String) {
    let total = rows.len();
    if total <= MOST_ROWS {
        return (rows, title);
    }
    let peak = |row: &LayerRow| row.1.iter().copied().fold(0.0, f64::max);
    let mut peaks: Vec<f64> = rows.iter().map(peak).collect();
    peaks.sort_by(|a, b| b.total_cmp(a));
    let least = peaks[MOST_ROWS - 1];
    rows.retain(|row| peak(row) >= least);
    rows.truncate(MOST_ROWS);
    (rows, format!("{title}, the largest {MOST_ROWS} of {total}"))
}
