//! What changes from layer to layer, as lines.

use crate::{
    experiments::self_attention::{HeadDecomposition, LayerAttention, Reason, SelfAttention},
    report::{
        html::Chart,
        plot::{
            Highlight, LayerMap, LayerMaps, LineChart, Marker, Scale, ScaleChoice, Series, palette,
        },
        visible::token_label,
    },
};

/// Followed tokens that have a line of their own.
const MOST_LINES: usize = 3;

/// Charts under one title.
pub(super) struct Panels {
    title: String,
    charts: [LineChart; 2],
}

impl Panels {
    pub(super) fn to_svg(&self) -> String {
        LineChart::column(&self.title, &self.charts)
    }

    /// For the page.
    pub(super) fn explored(&self) -> Vec<Chart> {
        self.charts.iter().map(Chart::from).collect()
    }
}

/// Attention and logits of the followed tokens by layer.
pub(super) fn trajectory(model: &str, result: &SelfAttention) -> Panels {
    let mut shares = vec![
        line(
            "if attended evenly",
            palette::GRAY,
            Marker::Square,
            result,
            |l| l.even_share,
        ),
        line(
            &together(result),
            palette::BLUE,
            Marker::Circle,
            result,
            |l| l.attention_to_followed,
        ),
    ];
    let mut logits = vec![line(
        "all other tokens",
        palette::GRAY,
        Marker::Square,
        result,
        |l| l.logit_of_others,
    )];
    let styles = [
        (palette::VERMILION, Marker::Triangle),
        (palette::GREEN, Marker::Diamond),
        (palette::PURPLE, Marker::Square),
    ];
    let shown = result.followed.len().min(MOST_LINES);
    for (index, (color, marker)) in styles.into_iter().take(shown).enumerate() {
        let position = result.followed[index];
        let label = token(result, position);
        if result.followed.len() > 1 {
            let share = |l: &LayerAttention| l.followed.get(index)?.probability;
            shares.push(line(&label, color, marker, result, share));
        }
        let logit = |l: &LayerAttention| l.followed.get(index)?.logit;
        logits.push(line(&label, color, marker, result, logit));
    }
    let charts = [
        // A share is read from zero, and logits have any sign.
        chart(
            "Share of others' attention",
            shares,
            ScaleChoice::Linear,
            result,
        ),
        chart("Mean attention logit", logits, ScaleChoice::Linear, result),
    ];
    let title = format!("Attention to {} in {model}", subject(result));
    Panels { title, charts }
}

/// Norms and cosines of the two parts of the attention output by layer.
pub(super) fn decomposition(model: &str, result: &SelfAttention, scale: ScaleChoice) -> Panels {
    let part = format!("from {}", subject(result));
    let norms = vec![
        line(
            "attention output",
            palette::GRAY,
            Marker::Square,
            result,
            |l| l.decomposition.as_ref()?.norm_attention,
        ),
        line(&part, palette::BLUE, Marker::Circle, result, |l| {
            l.decomposition.as_ref()?.norm_followed
        }),
        line(
            "from all others",
            palette::VERMILION,
            Marker::Triangle,
            result,
            |l| l.decomposition.as_ref()?.norm_rest,
        ),
    ];
    let cosines = vec![
        line(
            "the two parts of one query",
            palette::GRAY,
            Marker::Square,
            result,
            |l| l.decomposition.as_ref()?.cosine,
        ),
        line(
            &format!("{part}, two queries"),
            palette::BLUE,
            Marker::Circle,
            result,
            |l| l.decomposition.as_ref()?.similarity_followed,
        ),
        line(
            "from all others, two queries",
            palette::VERMILION,
            Marker::Triangle,
            result,
            |l| l.decomposition.as_ref()?.similarity_rest,
        ),
    ];
    let charts = [
        chart("Mean norm over queries", norms, scale, result),
        chart("Mean cosine", cosines, ScaleChoice::Linear, result),
    ];
    let title = format!("Attention output of {model} in two parts");
    Panels { title, charts }
}

/// Norms of the two parts, heads down, layers across.
pub(super) fn decomposition_by_head(model: &str, result: &SelfAttention) -> LayerMaps {
    let heads = |layer: &LayerAttention| layer.decomposition.as_ref().map_or(0, |d| d.heads.len());
    let most = result.layers.iter().map(heads).max().unwrap_or(0);
    let map = |title: String, value: fn(&HeadDecomposition) -> Option<f64>| LayerMap {
        title,
        bar_label: "mean norm".to_owned(),
        rows: (0..most)
            .map(|head| {
                let of =
                    |layer: &LayerAttention| value(layer.decomposition.as_ref()?.heads.get(head)?);
                let values = result.layers.iter().map(of);
                let values = values.map(|value| value.unwrap_or(f64::NAN));
                (head.to_string(), values.collect())
            })
            .collect(),
        scale: Scale::Linear,
    };
    LayerMaps {
        title: format!("Attention output of {model} in two parts, by head"),
        layers: result.layers.len(),
        maps: vec![
            map(format!("From {}", subject(result)), |head| {
                head.norm_followed
            }),
            map("From all others".to_owned(), |head| head.norm_rest),
        ],
    }
}

/// A token with its position.
pub(super) fn token(result: &SelfAttention, position: usize) -> String {
    format!("{} at {position}", token_label(&result.tokens[position]))
}

/// What is followed, in words.
fn subject(result: &SelfAttention) -> &'static str {
    match (result.followed_because, result.followed.len()) {
        (Reason::First, _) => "the first token",
        (Reason::Massive, 1) => "the massive token",
        (Reason::Massive, _) => "the massive tokens",
        (Reason::Given, 1) => "the followed token",
        (Reason::Given, _) => "the followed tokens",
    }
}

fn together(result: &SelfAttention) -> String {
    match result.followed.as_slice() {
        [position] => token(result, *position),
        _ => format!("{} together", subject(result)),
    }
}

/// From one layer with attention to the next.
fn line(
    label: &str,
    color: &'static str,
    marker: Marker,
    result: &SelfAttention,
    value: impl Fn(&LayerAttention) -> Option<f64>,
) -> Series {
    Series {
        label: label.to_owned(),
        color,
        marker,
        points: result
            .layers
            .iter()
            .filter(|layer| layer.decomposition.is_some())
            .map(|layer| (layer.layer as f64, value(layer).unwrap_or(f64::NAN)))
            .collect(),
    }
}

fn chart(
    y_label: &str,
    series: Vec<Series>,
    scale: ScaleChoice,
    result: &SelfAttention,
) -> LineChart {
    let values = series.iter().flat_map(|series| &series.points);
    let y_scale = scale.of(values.map(|point| point.1));
    // What attention reads is the output of the layer before.
    let massive: Vec<f64> = result
        .layers
        .iter()
        .filter(|layer| !layer.massive.is_empty())
        .map(|layer| layer.layer as f64 + 1.0)
        .filter(|layer| *layer < result.layers.len() as f64)
        .collect();
    LineChart {
        title: String::new(),
        x_label: "Layer (first is 0)".to_owned(),
        y_label: y_label.to_owned(),
        series,
        y_scale,
        highlight: (!massive.is_empty()).then(|| Highlight {
            label: "massive activations in the input".to_owned(),
            xs: massive,
        }),
    }
}
