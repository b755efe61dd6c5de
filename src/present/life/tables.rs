//! The tables of life.

use serde_json::{Value, json};

use super::source_name;
use crate::{
    engine::{Source, Step},
    experiments::life::{Ablation, ActivationLife, Life, Neuron, Turn},
    report::{
        LongTable,
        long_table::{Column, Kind},
        number::significant,
        records::Records,
        table::{Align, Row, Table},
        visible::token_label,
    },
};

const COLUMNS: &[Column] = &[
    Column::full("model", Kind::Text),
    Column::full("sequence", Kind::Integer),
    Column::full("position", Kind::Integer),
    Column::full("token", Kind::Text),
    Column::full("dimension", Kind::Integer),
    Column::full("layer", Kind::Integer),
    Column::full("step", Kind::Text),
    Column::full("value", Kind::Number),
];

/// Every step of every value: what a layer receives, what is added, and what it gives.
pub(super) fn steps(model: &str, result: &Life) -> LongTable {
    let mut table = LongTable::new("life", COLUMNS);
    for life in &result.activations {
        for layer in &life.layers {
            let mut row = |step: Step, value: f32| {
                table.push([
                    model.into(),
                    life.sequence.into(),
                    life.position.into(),
                    (&life.token).into(),
                    life.dimension.into(),
                    layer.layer.into(),
                    step.name().into(),
                    f64::from(value).into(),
                ]);
            };
            row(Step::Input, layer.input);
            for step in Step::CHANGES {
                if let Some(value) = layer.step(step) {
                    row(step, value);
                }
            }
            row(Step::Output, layer.output);
        }
    }
    table
}

fn number(value: f32) -> String {
    significant(f64::from(value))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

/// A row a value: where it rises and falls.
pub(super) fn lives(result: &Life) -> Table {
    let mut table = Table::new([
        ("position", Align::Right),
        ("token", Align::Left),
        ("dimension", Align::Right),
        ("largest", Align::Right),
        ("massive in", Align::Right),
        ("rises in", Align::Right),
        ("from", Align::Right),
        ("to", Align::Right),
        ("MLP's share", Align::Right),
        ("neuron", Align::Right),
        ("weight", Align::Right),
        ("falls in", Align::Right),
        ("from", Align::Right),
        ("to", Align::Right),
        ("MLP's share", Align::Right),
    ]);
    for life in &result.activations {
        let weight = life.super_weight.as_ref();
        let mut cells = vec![
            life.position.to_string(),
            token_label(&life.token),
            life.dimension.to_string(),
            number(life.peak),
            match life.massive_layers.as_slice() {
                [] => "-".to_owned(),
                layers => format!("{} layers", layers.len()),
            },
        ];
        cells.extend(turn(&life.rise));
        cells.extend([
            weight.map_or_else(|| "-".to_owned(), neuron_name),
            weight.map_or_else(|| "-".to_owned(), |weight| number(weight.weight)),
        ]);
        match &life.fall {
            Some(fall) => cells.extend(turn(fall)),
            None => cells.extend(["never", "", "", ""].map(str::to_owned)),
        }
        table.push(Row::new(cells));
    }
    table
}

fn turn(turn: &Turn) -> [String; 4] {
    [
        turn.layer.to_string(),
        number(turn.from),
        number(turn.to),
        percent(turn.mlp_share),
    ]
}

fn neuron_name(neuron: &Neuron) -> String {
    match neuron.source {
        Source::Dense => neuron.neuron.to_string(),
        source => format!("{} of {}", neuron.neuron, source_name(source)),
    }
}

/// The same in full.
pub(super) fn life_records(result: &Life) -> Records {
    let mut records = Records::new([
        "sequence",
        "position",
        "token",
        "dimension",
        "peak_layer",
        "peak",
        "massive_layers",
        "rise_layer",
        "rise_from",
        "rise_to",
        "rise_mlp_share",
        "rise_expert",
        "fall_layer",
        "fall_from",
        "fall_to",
        "fall_mlp_share",
        "fall_expert",
        "super_weight_tensor",
        "super_weight_neuron",
        "super_weight",
        "super_weight_activation",
        "super_weight_product",
    ]);
    for life in &result.activations {
        let weight = life.super_weight.as_ref();
        let fall = life.fall.as_ref();
        records.push(json!([
            life.sequence,
            life.position,
            life.token,
            life.dimension,
            life.peak_layer,
            life.peak,
            life.massive_layers,
            life.rise.layer,
            life.rise.from,
            life.rise.to,
            life.rise.mlp_share,
            life.rise.expert,
            fall.map(|fall| fall.layer),
            fall.map(|fall| fall.from),
            fall.map(|fall| fall.to),
            fall.and_then(|fall| fall.mlp_share),
            fall.and_then(|fall| fall.expert),
            weight.map(|weight| &weight.tensor),
            weight.map(|weight| weight.neuron),
            weight.map(|weight| weight.weight),
            weight.map(|weight| weight.activation),
            weight.map(|weight| weight.product),
        ]));
    }
    records
}

/// The neurons of a life's layers of rise and fall: the layer's part in it, the layer, the neuron.
fn turning(life: &ActivationLife) -> impl Iterator<Item = (&'static str, usize, &Neuron)> {
    let turns = [("rise", Some(&life.rise)), ("fall", life.fall.as_ref())];
    turns.into_iter().flat_map(|(name, turn)| {
        let layer = turn.and_then(|turn| life.layers.get(turn.layer));
        layer.into_iter().flat_map(move |layer| {
            let neurons = layer.neurons.iter();
            neurons.map(move |neuron| (name, layer.layer, neuron))
        })
    })
}

/// The neurons that matter in the layers of rise and fall.
pub(super) fn neurons(result: &Life) -> Table {
    let mut table = Table::new([
        ("position", Align::Right),
        ("dimension", Align::Right),
        ("turn", Align::Left),
        ("layer", Align::Right),
        ("part", Align::Left),
        ("neuron", Align::Right),
        ("weight", Align::Right),
        ("activation", Align::Right),
        ("its rank", Align::Right),
        ("product", Align::Right),
        ("share", Align::Right),
        ("rank of the output", Align::Right),
    ]);
    for life in &result.activations {
        for (name, layer, neuron) in turning(life) {
            table.push(Row::new([
                life.position.to_string(),
                life.dimension.to_string(),
                name.to_owned(),
                layer.to_string(),
                source_name(neuron.source),
                neuron.neuron.to_string(),
                number(neuron.weight),
                number(neuron.activation),
                neuron.input_rank.to_string(),
                number(neuron.product),
                percent(neuron.share),
                neuron.output_rank.to_string(),
            ]));
        }
    }
    table
}

/// The neurons of every layer in full.
pub(super) fn neuron_records(result: &Life) -> Records {
    let mut records = Records::new([
        "sequence",
        "position",
        "dimension",
        "layer",
        "source",
        "expert",
        "tensor",
        "neuron",
        "weight",
        "activation",
        "product",
        "share",
        "input_rank",
        "output_rank",
    ]);
    for life in &result.activations {
        for layer in &life.layers {
            for neuron in &layer.neurons {
                let (source, expert) = match neuron.source {
                    Source::Dense => ("dense", Value::Null),
                    Source::Shared => ("shared", Value::Null),
                    Source::Expert(expert) => ("expert", json!(expert)),
                };
                records.push(json!([
                    life.sequence,
                    life.position,
                    life.dimension,
                    layer.layer,
                    source,
                    expert,
                    neuron.tensor,
                    neuron.neuron,
                    neuron.weight,
                    neuron.activation,
                    neuron.product,
                    neuron.share,
                    neuron.input_rank,
                    neuron.output_rank,
                ]));
            }
        }
    }
    records
}

/// The norms of the tokens.
pub(super) fn tokens(result: &Life) -> Table {
    let mut table = Table::new([
        ("sequence", Align::Right),
        ("position", Align::Right),
        ("token", Align::Left),
        ("embedding's norm", Align::Right),
        ("largest norm", Align::Right),
        ("rises in", Align::Right),
        ("falls in", Align::Right),
    ]);
    for token in &result.tokens {
        let largest = token.norms.iter().copied().fold(0.0, f64::max);
        table.push(Row::new([
            token.sequence.to_string(),
            token.position.to_string(),
            token_label(&token.token),
            significant(token.embedding_norm),
            significant(largest),
            token.rise_layer.to_string(),
            token
                .fall_layer
                .map_or_else(|| "never".to_owned(), |layer| layer.to_string()),
        ]));
    }
    table
}

/// The same in full, a record a layer.
pub(super) fn token_records(result: &Life) -> Records {
    let mut records = Records::new(["sequence", "position", "token", "layer", "norm"]);
    for token in &result.tokens {
        for (layer, norm) in token.norms.iter().enumerate() {
            records.push(json!([
                token.sequence,
                token.position,
                token.token,
                layer,
                norm
            ]));
        }
    }
    records
}

/// A number that was measured twice: its name, the token, the dimension, before and after.
type Pair = (
    &'static str,
    Option<usize>,
    Option<usize>,
    Option<f64>,
    Option<f64>,
);

/// What was measured with and without the weights.
fn pairs(result: &Life, ablation: &Ablation) -> Vec<Pair> {
    let (before, after) = (&ablation.before, &ablation.after);
    let mut pairs = vec![(
        "perplexity",
        None,
        None,
        before.perplexity,
        after.perplexity,
    )];
    let masses = before.sink_mass.iter().zip(&after.sink_mass);
    for (token, (before, after)) in result.tokens.iter().zip(masses) {
        pairs.push((
            "attention to it",
            Some(token.position),
            None,
            *before,
            *after,
        ));
    }
    let peaks = before.peaks.iter().zip(&after.peaks);
    for (life, (before, after)) in result.activations.iter().zip(peaks) {
        let [before, after] = [before, after].map(|peak| Some(f64::from(*peak)));
        let place = (Some(life.position), Some(life.dimension));
        pairs.push(("largest value", place.0, place.1, before, after));
    }
    pairs
}

/// The same as a table.
pub(super) fn ablation(result: &Life, ablation: &Ablation) -> Table {
    let mut table = Table::new([
        ("number", Align::Left),
        ("position", Align::Right),
        ("dimension", Align::Right),
        ("before", Align::Right),
        ("after", Align::Right),
    ]);
    let place = |index: Option<usize>| index.map_or_else(String::new, |index| index.to_string());
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    for (name, position, dimension, before, after) in pairs(result, ablation) {
        table.push(Row::new([
            name.to_owned(),
            place(position),
            place(dimension),
            shown(before),
            shown(after),
        ]));
    }
    table
}

/// The same in full.
pub(super) fn ablation_records(result: &Life, ablation: &Ablation) -> Records {
    let mut records = Records::new(["number", "position", "dimension", "before", "after"]);
    for (name, position, dimension, before, after) in pairs(result, ablation) {
        records.push(json!([name, position, dimension, before, after]));
    }
    records
}
