//! Ratios of perplexity as a picture.

use crate::{
    experiments::intervention_analysis::{Impact, InterventionAnalysis, Ratio},
    present::lines::color,
    report::plot::{Band, Interval, IntervalChart, IntervalGroup},
};

/// Named groups of rows.
pub(in crate::present) type Groups = Vec<(String, Vec<RatioRow>)>;

/// A row of a group.
#[derive(Debug)]
pub(in crate::present) struct RatioRow {
    pub(in crate::present) label: String,
    /// Its place among the things that all groups are about, which gives it its colour.
    pub(in crate::present) index: usize,
    /// The ratio, or why there is none.
    pub(in crate::present) ratio: Result<Ratio, &'static str>,
}

/// Ratios of every intervention, a row an evaluation set.
pub(super) fn by_intervention(result: &InterventionAnalysis) -> Groups {
    let changed = result.interventions.iter();
    let changed = changed.filter(|intervention| result.ratios.contains_key(*intervention));
    let groups = changed.map(|intervention| {
        let sets = result.evaluation.iter().enumerate();
        let rows = sets.map(|(index, set)| RatioRow {
            label: set.name.clone(),
            index,
            ratio: Ok(result.ratios[intervention][&set.name]),
        });
        (intervention.clone(), rows.collect())
    });
    groups.collect()
}

/// Ratios of perplexity with their intervals, and the classes of impact behind them.
pub(in crate::present) fn chart(title: &str, groups: Groups) -> IntervalChart {
    let row = |row: RatioRow| {
        let ratio = row.ratio.ok();
        Interval {
            label: row.label,
            value: ratio.and_then(|ratio| ratio.ratio).unwrap_or(f64::INFINITY),
            note: row.ratio.err().unwrap_or("beyond double precision"),
            ends: ratio.and_then(|ratio| ratio.low.zip(ratio.high)),
            color: color(row.index),
        }
    };
    let band = |label: &str, from, to| Band {
        label: label.to_owned(),
        from,
        to,
    };
    IntervalChart {
        title: title.to_owned(),
        x_label: "Perplexity over the original's (95 %)".to_owned(),
        groups: groups
            .into_iter()
            .map(|(label, members)| IntervalGroup {
                label,
                rows: members.into_iter().map(row).collect(),
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
