//! What life shows.

mod figure;
mod tables;

use super::{
    Artifacts, Context,
    page::{self, Verdict},
};
use crate::{
    engine::Source,
    error::Result,
    experiments::life::{ActivationLife, Life, Measured, Neuron, SCHEMA, Turn},
    report::{html::Chart, number::significant, visible::token_label},
};

/// Files, table and verdict.
pub(crate) fn artifacts(result: &Life, context: &Context<'_>) -> Result<Artifacts> {
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("life.json", document)?;
    let verdict = Verdict {
        text: verdict(context.name(), result),
        highlight: !result.activations.is_empty(),
    };
    let mut sections = Vec::new();
    if !result.activations.is_empty() {
        let steps = tables::steps(context.name(), result);
        artifacts.file("life.parquet", steps.to_parquet()?);
        artifacts.file("life.csv", steps.to_csv());
        let chart = figure::stacks(context.name(), result);
        let svg = artifacts.figure("life", chart.to_svg())?;
        let section = page::figure("What every layer adds", svg);
        sections.push(section.explored([Chart::from(&chart)]));
        let norms = figure::norms(result);
        let svg = artifacts.figure("token_norms", norms.to_svg())?;
        let section = page::figure("Norm of the tokens' hidden states", svg);
        sections.push(section.explored([Chart::from(&norms)]));
        let lives = tables::lives(result);
        sections.push(page::table("Rise and fall", &lives));
        artifacts.sheet("lives", lives.clone(), tables::life_records(result));
        let weights = tables::neurons(result);
        sections.push(page::table(
            "Neurons in the layers of rise and fall",
            &weights,
        ));
        artifacts.sheet("neurons", weights, tables::neuron_records(result));
        let tokens = tables::tokens(result);
        sections.push(page::table("Tokens", &tokens));
        artifacts.sheet("token_norms", tokens, tables::token_records(result));
        artifacts.table(lives);
        artifacts.line("");
        if let Some(ablation) = &result.ablation {
            let table = tables::ablation(result, ablation);
            sections.push(page::table(
                "Without the weights through which they enter",
                &table,
            ));
            artifacts.sheet(
                "ablation",
                table.clone(),
                tables::ablation_records(result, ablation),
            );
            artifacts.table(table);
            artifacts.line("");
        }
    }
    if let [one] = result.sequences.as_slice() {
        sections.push(page::sequence(&one.tokens));
    }
    artifacts.line(verdict.text.clone());
    if result.left_out > 0 {
        artifacts.notice(format!(
            "{} massive activations more are not followed; --top-k says how many are",
            result.left_out
        ));
    }
    artifacts.page(context, verdict, sections);
    Ok(artifacts)
}

/// The life of the largest one.
fn verdict(name: &str, result: &Life) -> String {
    let Some(first) = result.activations.first() else {
        return format!(
            "{name} has no massive activations in the sequence; --position and --dimension follow any value"
        );
    };
    let mut text = format!(
        "{name}: {} {} in layer {} from {} to {}",
        place(first),
        if first.massive_layers.is_empty() {
            "rises"
        } else {
            "becomes massive: it rises"
        },
        first.rise.layer,
        significant(f64::from(first.rise.from)),
        significant(f64::from(first.rise.to)),
    );
    text.push_str(&share(&first.rise));
    if let Some(weight) = &first.super_weight {
        text.push_str(&format!(", most of all through {}", weight_name(weight)));
    }
    match &first.fall {
        Some(fall) => text.push_str(&format!(
            "; it falls in layer {} from {} to {}{}",
            fall.layer,
            significant(f64::from(fall.from)),
            significant(f64::from(fall.to)),
            share(fall)
        )),
        None => text.push_str("; it never falls"),
    }
    if let Some(ablation) = &result.ablation {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
        let peak = |measured: &Measured| measured.peaks.first().map(|peak| f64::from(*peak));
        text.push_str(&format!(
            "; with {} set to zero its largest value is {} instead of {}, and perplexity {} instead of {}",
            match ablation.weights.len() {
                1 => "this weight".to_owned(),
                count => format!("the {count} weights of all activations here"),
            },
            number(peak(&ablation.after)),
            number(peak(&ablation.before)),
            number(ablation.after.perplexity),
            number(ablation.before.perplexity),
        ));
    }
    text
}

fn share(turn: &Turn) -> String {
    let expert = turn.expert.map(|expert| format!(", expert {expert} first"));
    match turn.mlp_share {
        Some(share) => format!(
            " (the MLP's share {:.1} %{})",
            100.0 * share,
            expert.unwrap_or_default()
        ),
        None => String::new(),
    }
}

fn place(life: &ActivationLife) -> String {
    format!(
        "token {} at position {}, dimension {},",
        token_label(&life.token),
        life.position,
        life.dimension
    )
}

/// `W[507, 123] = 0.8 of model.layers.11.mlp.down_proj.weight`.
fn weight_name(neuron: &Neuron) -> String {
    format!(
        "neuron {}: {}[{}, {}] = {} times {}",
        neuron.neuron,
        neuron.tensor,
        neuron.dimension,
        neuron.neuron,
        significant(f64::from(neuron.weight)),
        significant(f64::from(neuron.activation))
    )
}

fn source_name(source: Source) -> String {
    match source {
        Source::Dense => "MLP".to_owned(),
        Source::Shared => "shared expert".to_owned(),
        Source::Expert(expert) => format!("expert {expert}"),
    }
}
