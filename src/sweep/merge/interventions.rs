//! A row an intervention and evaluation set of an intervention-analysis.

use super::{MODEL, REVISION, SETTINGS, start};
use crate::{
    report::{
        LongTable,
        long_table::{Column, Kind},
    },
    sweep::runs::{Found, MeasuredRun},
};

const COLUMNS: &[Column] = &[
    MODEL,
    REVISION,
    SETTINGS,
    Column::full("intervention", Kind::Text),
    Column::full("dataset", Kind::Text),
    // None beyond the range of double precision.
    Column::nullable("perplexity", Kind::Number),
    // Over the original's, which itself has none.
    Column::nullable("ratio", Kind::Number),
    Column::nullable("low", Kind::Number),
    Column::nullable("high", Kind::Number),
    Column::nullable("class", Kind::Text),
];

pub(super) fn table(runs: &[MeasuredRun]) -> LongTable {
    let mut table = LongTable::new("interventions", COLUMNS);
    for run in runs {
        let Found::Interventions(found) = &run.found else {
            continue;
        };
        for intervention in &found.interventions {
            for set in &found.evaluation {
                let ratio = found.ratio_of(intervention, set);
                table.push(start(run).into_iter().chain([
                    intervention.into(),
                    (&set.name).into(),
                    found.perplexity_of(intervention, set).into(),
                    ratio.and_then(|ratio| ratio.ratio).into(),
                    ratio.and_then(|ratio| ratio.low).into(),
                    ratio.and_then(|ratio| ratio.high).into(),
                    ratio.map(|ratio| &ratio.class).into(),
                ]));
            }
        }
    }
    table
}
