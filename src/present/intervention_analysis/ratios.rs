//! Ratios of perplexity as a picture.

use crate::{
    experiments::intervention_analysis::{Impact, InterventionAnalysis, Ratio},
    report::plot::{Band, Interval, IntervalChart, IntervalGroup, palette},
};

/// Named groups of named rows.
pub(in crate::present) type Groups = Vec<(String, Vec<(String, Ratio)>)>;

/// Ratios of every intervention, a row an evaluation set.
pub(super) fn by_intervention(result: &InterventionAnalysis) -> Groups {
    let changed = result.interventions.iter();
    let changed = changed.filter(|intervention| result.ratios.contains_key(*intervention));
    let groups = changed.map(|intervention| {
        let sets = result.evaluation.iter();
        let row = |name: &String| (name.clone(), result.ratios[intervention][name]);
        let rows = sets.map(|set| row(&set.name)).collect();
        (intervention.clone(), rows)
    });
    groups.collect()
}

/// Ratios of perplexity with their intervals, and the classes of impact behind them.
pub(in crate::present) fn chart(title: &str, groups: Groups) -> IntervalChart {
    let colors = [
        palette::BLUE,
        palette::VERMILION,
        palette::GREEN,
        palette::PURPLE,
        palette::SKY,
    ];
    let rows = |rows: Vec<(String, Ratio)>| {
        let rows = rows.into_iter().zip(colors.iter().cycle());
        rows.map(|((label, ratio), color)| Interval {
            label,
            value: ratio.ratio.unwrap_or(f64::INFINITY),
            ends: ratio.low.zip(ratio.high),
            color,
        })
        .collect()
    };
    let band = |label: &str, from, to| Band {
        label: label.to_owned(),
        from,
        to,
    };
    IntervalChart {
        title: title.to_owned(),
        x_label: "Perplexity over the original's, with 95 % interval".to_owned(),
        groups: groups
            .into_iter()
            .map(|(label, members)| IntervalGroup {
                label,
                rows: rows(members),
            })
            .collect(),
        reference: 1.0,
        bands: vec![
            band("no impact", None, Some(Impact::MEDIUM_FROM)),
            band("medium", Some(Impact::MEDIUM_FROM), Some(Impact::HIGH_FROM)),
            band("high", Some(Impact::HIGH_FROM), None),
        ],
    }
}
