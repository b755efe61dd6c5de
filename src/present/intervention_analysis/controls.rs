//! The effect beside its controls: would any other values have done this?

use serde_json::json;

use crate::{
    experiments::intervention_analysis::{Control, Drawn, InterventionAnalysis},
    report::{
        number::significant,
        records::Records,
        table::{Align, Row, Table},
    },
};

/// The effect and the controls of a kind in an evaluation set.
struct Compared<'a> {
    set: &'a str,
    random: Drawn,
    effect: Option<f64>,
    /// One a control.
    controls: Vec<Option<f64>>,
}

impl Compared<'_> {
    /// Controls that change perplexity at least as much as the effect: the farther from 1, the more.
    fn as_strong(&self) -> usize {
        let size = |ratio: Option<f64>| ratio.map_or(f64::INFINITY, |ratio| ratio.ln().abs());
        let effect = size(self.effect);
        let controls = self.controls.iter();
        controls.filter(|control| size(**control) >= effect).count()
    }

    fn least_and_most(&self) -> (Option<f64>, Option<f64>) {
        let known = || self.controls.iter().flatten().copied();
        let most = match self.controls.iter().all(Option::is_some) {
            true => Some(known().fold(f64::NEG_INFINITY, f64::max)),
            false => None,
        };
        (known().min_by(f64::total_cmp), most)
    }

    fn mean(&self) -> Option<f64> {
        let logarithms = self.controls.iter().map(|ratio| ratio.map(f64::ln));
        let sum = logarithms.sum::<Option<f64>>()?;
        Some((sum / self.controls.len() as f64).exp())
    }
}

fn compared(result: &InterventionAnalysis) -> Vec<Compared<'_>> {
    let controls = result.controls.as_deref().unwrap_or_default();
    let ratio = |intervention: &str, set: &str| {
        let ratios = result.ratios.get(intervention)?;
        ratios.get(set).map(|ratio| ratio.ratio)
    };
    let mut all = Vec::new();
    for set in &result.evaluation {
        let Some(effect) = ratio("set_to_zero", &set.name) else {
            continue;
        };
        for random in [Drawn::Dimensions, Drawn::Tokens] {
            let own = controls.iter().filter(|control| control.random == random);
            let own = own.filter_map(|control: &Control| ratio(&control.intervention, &set.name));
            let controls: Vec<Option<f64>> = own.collect();
            if !controls.is_empty() {
                all.push(Compared {
                    set: &set.name,
                    random,
                    effect,
                    controls,
                });
            }
        }
    }
    all
}

fn name(random: Drawn) -> &'static str {
    match random {
        Drawn::Dimensions => "random dimensions",
        Drawn::Tokens => "random tokens",
    }
}

fn number(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "inf".to_owned(), significant)
}

/// A row an evaluation set and kind of control; none without controls.
pub(super) fn table(result: &InterventionAnalysis) -> Option<Table> {
    let all = compared(result);
    let mut table = Table::new([
        ("evaluation set", Align::Left),
        ("control", Align::Left),
        ("set_to_zero", Align::Right),
        ("controls' mean", Align::Right),
        ("least", Align::Right),
        ("most", Align::Right),
        ("as strong", Align::Right),
    ]);
    for one in &all {
        let (least, most) = one.least_and_most();
        table.push(Row::new([
            one.set.to_owned(),
            name(one.random).to_owned(),
            number(one.effect),
            number(one.mean()),
            number(least),
            number(most),
            format!("{} of {}", one.as_strong(), one.controls.len()),
        ]));
    }
    (!all.is_empty()).then_some(table)
}

/// The same in full.
pub(super) fn records(result: &InterventionAnalysis) -> Records {
    let mut records = Records::new([
        "set",
        "random",
        "set_to_zero",
        "mean",
        "least",
        "most",
        "as_strong",
        "controls",
    ]);
    for one in compared(result) {
        let (least, most) = one.least_and_most();
        records.push(json!([
            one.set,
            one.random,
            one.effect,
            one.mean(),
            least,
            most,
            one.as_strong(),
            one.controls.len(),
        ]));
    }
    records
}

/// Half a sentence; none without controls.
pub(super) fn verdict(result: &InterventionAnalysis) -> Option<String> {
    let all = compared(result);
    if all.is_empty() {
        return None;
    }
    let strong: usize = all.iter().map(Compared::as_strong).sum();
    let count: usize = all.iter().map(|one| one.controls.len()).sum();
    let most = all.iter().flat_map(|one| &one.controls).copied();
    let most = most
        .map(|ratio| ratio.unwrap_or(f64::INFINITY))
        .fold(0.0, f64::max);
    Some(format!(
        "; as many random values set to zero multiply it by at most {} ({strong} of {count} controls are as strong)",
        significant(most)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_is_the_distance_from_no_change() {
        let one = Compared {
            set: "text",
            random: Drawn::Dimensions,
            effect: Some(0.5),
            controls: vec![Some(1.1), Some(2.5), Some(0.9)],
        };
        assert_eq!(one.as_strong(), 1);
        assert_eq!(one.least_and_most(), (Some(0.9), Some(2.5)));
        let beyond = Compared {
            controls: vec![Some(1.0), None],
            ..one
        };
        assert_eq!((beyond.as_strong(), beyond.mean()), (1, None));
        assert_eq!(beyond.least_and_most(), (Some(1.0), None));
    }
}
