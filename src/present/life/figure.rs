//! The figures of life.

use super::super::lines::Lines;
use crate::{
    engine::Step,
    experiments::life::{ActivationLife, LayerSteps, Life},
    report::{
        plot::{LineChart, ScaleChoice, StackChart, StackPanel, StackPart, palette},
        visible::token_label,
    },
};

/// Activations that have a panel of their own.
const MOST_PANELS: usize = 8;

/// The parts of a stack: name, colour, steps.
const PARTS: [(&str, &str, &[Step]); 4] = [
    ("attention", palette::BLUE, &[Step::Attention]),
    ("mixer", palette::GREEN, &[Step::Mixer]),
    ("MLP", palette::VERMILION, &[Step::Mlp]),
    (
        "norms, factors, other embeddings",
        palette::PURPLE,
        &[
            Step::PerLayerEmbedding,
            Step::Norm,
            Step::Laurel,
            Step::Altup,
            Step::Scale,
        ],
    ),
];

/// What every layer adds to the values.
pub(super) fn stacks(name: &str, result: &Life) -> StackChart {
    let lives = || result.activations.iter().take(MOST_PANELS);
    let has = |steps: &[Step]| {
        let mut layers = lives().flat_map(|life| &life.layers);
        layers.any(|layer| steps.iter().any(|step| layer.step(*step).is_some()))
    };
    let parts: Vec<_> = PARTS
        .into_iter()
        .filter(|(_, _, steps)| has(steps))
        .collect();
    let sum = |layer: &LayerSteps, steps: &[Step]| -> f64 {
        let values = steps.iter().filter_map(|step| layer.step(*step));
        values.map(f64::from).sum()
    };
    StackChart {
        title: format!("{name}: what every layer adds"),
        line_label: "value as it leaves the layer".to_owned(),
        parts: parts
            .iter()
            .map(|(label, color, _)| StackPart {
                label: (*label).to_owned(),
                color,
            })
            .collect(),
        panels: lives()
            .map(|life| StackPanel {
                title: title(life, result.sequences.len()),
                stacks: life
                    .layers
                    .iter()
                    .map(|layer| parts.iter().map(|part| sum(layer, part.2)).collect())
                    .collect(),
                line: life
                    .layers
                    .iter()
                    .map(|layer| f64::from(layer.output))
                    .collect(),
                marks: std::iter::once((life.rise.layer, "rise"))
                    .chain(life.fall.iter().map(|fall| (fall.layer, "fall")))
                    .collect(),
            })
            .collect(),
    }
}

fn title(life: &ActivationLife, sequences: usize) -> String {
    let sequence = match sequences {
        1 => String::new(),
        _ => format!("sequence {}, ", life.sequence),
    };
    format!(
        "{sequence}position {} ({}), dimension {}",
        life.position,
        token_label(&life.token),
        life.dimension
    )
}

/// The norms of the tokens' hidden states.
pub(super) fn norms(result: &Life) -> LineChart {
    let mut lines = Lines::default();
    for (index, token) in result.tokens.iter().take(MOST_PANELS).enumerate() {
        let label = format!(
            "position {} ({})",
            token.position,
            token_label(&token.token)
        );
        lines.push(index, &label, token.norms.iter().copied());
    }
    lines.chart(
        "Norm of the hidden state",
        "norm of the layer's output",
        ScaleChoice::Auto,
    )
}
