//! Tables of the page: measured beside published, and every intervention.

use crate::{
    report::{
        html::overview::{Cell, Flag, OverviewTable},
        number::significant,
        table::Table,
    },
    sweep::{
        MeasuredRun,
        published::{self, Comparison},
        runs::Found,
    },
};

/// What was published beside what was measured; nothing where no checkpoint of the paper was run.
pub(super) fn published(comparison: &Comparison) -> Vec<OverviewTable> {
    if comparison.rows.is_empty() {
        return Vec::new();
    }
    let verdicts = published::verdicts(comparison);
    let flags =
        comparison
            .verdicts
            .iter()
            .map(|verdict| match (verdict.compared, verdict.differ.len()) {
                (0, _) => Flag::Plain,
                (_, 0) => Flag::Agrees,
                _ => Flag::Differs,
            });
    let rows = published::table(comparison);
    let agreement = comparison.rows.iter().map(|row| match row.agrees {
        Some(true) => Flag::Agrees,
        Some(false) if row.note.is_some() => Flag::Known,
        Some(false) => Flag::Differs,
        None => Flag::Plain,
    });
    vec![
        flagged(
            "Measured beside published",
            &comparison.notes.join(". "),
            &verdicts,
            flags,
        ),
        flagged("Every published quantity", "", &rows, agreement),
    ]
}

/// A table whose last column has a flag in every row.
fn flagged(
    heading: &str,
    note: &str,
    table: &Table,
    flags: impl Iterator<Item = Flag>,
) -> OverviewTable {
    let rows = table.rows.iter().zip(flags).map(|(row, flag)| {
        let mut cells: Vec<Cell> = row.cells.iter().map(Cell::plain).collect();
        if let Some(last) = cells.last_mut() {
            last.flag = flag;
        }
        cells
    });
    OverviewTable {
        heading: heading.to_owned(),
        note: note.to_owned(),
        header: table
            .columns
            .iter()
            .map(|(title, _)| title.clone())
            .collect(),
        rows: rows.collect(),
    }
}

/// Every perplexity under every intervention.
pub(super) fn interventions(runs: &[MeasuredRun]) -> Option<OverviewTable> {
    let mut rows = Vec::new();
    for run in runs {
        let Found::Interventions(found) = &run.found else {
            continue;
        };
        for name in &found.interventions {
            for set in &found.evaluation {
                let ratio = found.ratio_of(name, set);
                let number = |value: Option<f64>| value.map_or_else(String::new, significant);
                let interval = ratio.and_then(|ratio| ratio.low.zip(ratio.high));
                let cells = [
                    run.model.to_string(),
                    run.revision.as_deref().unwrap_or("").to_owned(),
                    run.add_bos_token
                        .map_or("", |bos| if bos { "yes" } else { "no" })
                        .to_owned(),
                    set.name.clone(),
                    name.clone(),
                    number(found.perplexity_of(name, set)),
                    number(ratio.and_then(|ratio| ratio.ratio)),
                    interval.map_or_else(String::new, |(low, high)| {
                        format!("{} to {}", significant(low), significant(high))
                    }),
                    ratio.map_or_else(String::new, |ratio| ratio.class.clone()),
                ];
                rows.push(cells.map(Cell::plain).to_vec());
            }
        }
    }
    let header = [
        "model",
        "revision",
        "BOS",
        "evaluation set",
        "intervention",
        "perplexity",
        "ratio",
        "95 % interval",
        "impact",
    ];
    (!rows.is_empty()).then(|| OverviewTable {
        heading: "Perplexity under interventions".to_owned(),
        note: String::new(),
        header: header.map(str::to_owned).to_vec(),
        rows,
    })
}
