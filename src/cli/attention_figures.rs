//! Pictures of self-attention.

use std::collections::BTreeSet;

use super::{figures, recorder::FileRecorder};
use crate::{
    backend::AttentionMaps,
    engine::{Observer, Site},
    error::Result,
    experiments::self_attention::{LayerAttention, Reason, SelfAttention},
    report::{
        RunFolder,
        plot::{Heatmap, HeatmapGrid, Highlight, LineChart, Marker, Scale, Series, palette},
        visible::token_label,
    },
};

/// Followed tokens that have a line of their own.
const MOST_LINES: usize = 3;

/// Keeps what the pictures show, at their resolution, of the maps on their way to the files.
pub(super) struct Pictures<'f> {
    files: &'f mut FileRecorder,
    show_logits: bool,
    /// Mean over heads, by layer.
    pub(super) means: Vec<Heatmap>,
    /// Layers with their heads.
    pub(super) heads: Vec<(usize, Vec<Heatmap>)>,
}

impl<'f> Pictures<'f> {
    /// Pictures of logits or probabilities.
    pub(super) fn new(files: &'f mut FileRecorder, show_logits: bool) -> Self {
        Self {
            files,
            show_logits,
            means: Vec::new(),
            heads: Vec::new(),
        }
    }
}

impl Observer for Pictures<'_> {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<()> {
        self.files.tensor(site, layer, sequence, columns, values)
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        let (mean, each) = match self.show_logits {
            true => (&maps.logits_mean, &maps.logits),
            false => (&maps.probs_mean, &maps.probs),
        };
        let mean = mean.as_deref().unwrap_or_default();
        // One learned key may stand before the tokens.
        let rows = mean.len().isqrt();
        let columns = mean.len() / rows.max(1);
        self.means
            .push(Heatmap::new(format!("Layer {layer}"), mean, rows, columns));
        if let Some(each) = each {
            let heads = each.chunks(mean.len().max(1)).enumerate();
            let heads =
                heads.map(|(head, map)| Heatmap::new(format!("Head {head}"), map, rows, columns));
            self.heads.push((layer, heads.collect()));
        }
        self.files.attention(layer, sequence, maps)
    }

    fn attention_parts(
        &mut self,
        layer: usize,
        sequence: usize,
        columns: usize,
        whole: &[f32],
        part: &[f32],
    ) -> Result<()> {
        self.files
            .attention_parts(layer, sequence, columns, whole, part)
    }
}

/// What is written on the maps.
pub(super) struct Labels {
    pub(super) tokens: Vec<String>,
    /// Positions in bold red.
    pub(super) emphasised: BTreeSet<usize>,
    pub(super) show_logits: bool,
    /// Whether the caller named the emphasised tokens.
    pub(super) given: bool,
}

/// A grid of maps as `<file>.png` and `.svg`. Returns the SVG.
pub(super) fn grid(
    folder: &RunFolder,
    file: &str,
    title: String,
    labels: &Labels,
    maps: Vec<Heatmap>,
) -> Result<String> {
    let kind = if labels.show_logits {
        "logits (before the softmax)"
    } else {
        "probabilities"
    };
    let mut note = format!("attention {kind}; queries down, keys across");
    if !labels.emphasised.is_empty() {
        note.push_str(if labels.given {
            "; red: the followed tokens"
        } else {
            "; red: tokens with massive activations"
        });
    }
    let keys = maps.first().map_or(0, Heatmap::columns);
    let extra = keys.saturating_sub(labels.tokens.len());
    let mut column_labels = vec!["extra_kv".to_owned(); extra];
    column_labels.extend(labels.tokens.iter().cloned());
    let grid = HeatmapGrid {
        title,
        note,
        maps,
        row_labels: labels.tokens.clone(),
        column_labels,
        emphasised: labels.emphasised.iter().map(|key| key + extra).collect(),
    };
    figures::write(folder, file, grid.to_svg()?)
}

/// `attention_trajec.png` and `.svg`: attention and logits of the followed tokens by layer.
pub(super) fn trajectory(
    folder: &RunFolder,
    model: &str,
    result: &SelfAttention,
) -> Result<String> {
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
        let label = format!("{} at {position}", token_label(&result.tokens[position]));
        if result.followed.len() > 1 {
            let share = |l: &LayerAttention| l.followed[index].probability;
            shares.push(line(&label, color, marker, result, share));
        }
        let logit = |l: &LayerAttention| l.followed[index].logit;
        logits.push(line(&label, color, marker, result, logit));
    }
    let charts = [
        chart("Share of the other tokens' attention", shares, result),
        chart("Mean attention logit", logits, result),
    ];
    let title = format!("Attention to {} in {model}", subject(result));
    let svg = LineChart::column(&title, &charts);
    figures::write(folder, "attention_trajec", svg)
}

/// `attention_output_decomposition.png` and `.svg`: norms and cosines of the two parts by layer.
pub(super) fn decomposition(
    folder: &RunFolder,
    model: &str,
    result: &SelfAttention,
) -> Result<String> {
    let part = format!("from {}", subject(result));
    let norms = vec![
        line(
            "attention output",
            palette::GRAY,
            Marker::Square,
            result,
            |l| l.decomposition.norm_attention,
        ),
        line(&part, palette::BLUE, Marker::Circle, result, |l| {
            l.decomposition.norm_followed
        }),
        line(
            "from all others",
            palette::VERMILION,
            Marker::Triangle,
            result,
            |l| l.decomposition.norm_rest,
        ),
    ];
    let cosines = vec![
        line(
            "the two parts of one query",
            palette::GRAY,
            Marker::Square,
            result,
            |l| l.decomposition.cosine,
        ),
        line(
            &format!("{part}, two queries"),
            palette::BLUE,
            Marker::Circle,
            result,
            |l| l.decomposition.similarity_followed,
        ),
        line(
            "from all others, two queries",
            palette::VERMILION,
            Marker::Triangle,
            result,
            |l| l.decomposition.similarity_rest,
        ),
    ];
    let charts = [
        chart("Mean norm over queries", norms, result),
        chart("Mean cosine", cosines, result),
    ];
    let title = format!("Attention output of {model} in two parts");
    let svg = LineChart::column(&title, &charts);
    figures::write(folder, "attention_output_decomposition", svg)
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
        [position] => format!("{} at {position}", token_label(&result.tokens[*position])),
        _ => format!("{} together", subject(result)),
    }
}

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
            .map(|layer| (layer.layer as f64, value(layer).unwrap_or(f64::NAN)))
            .collect(),
    }
}

fn chart(y_label: &str, series: Vec<Series>, result: &SelfAttention) -> LineChart {
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
        y_scale: Scale::Linear,
        highlight: (!massive.is_empty()).then(|| Highlight {
            label: "massive activations in the input".to_owned(),
            xs: massive,
        }),
    }
}
