//! A row a layer of an existence-validation.

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
    Column::full("layer", Kind::Integer),
    Column::full("top1_mean", Kind::Number),
    Column::full("median_mean", Kind::Number),
    Column::nullable("ratio", Kind::Number),
    Column::full("massive", Kind::Flag),
    // The place of the largest value.
    Column::nullable("dimension", Kind::Integer),
    Column::nullable("position", Kind::Integer),
    Column::nullable("token", Kind::Text),
];

pub(super) fn table(runs: &[MeasuredRun]) -> LongTable {
    let mut table = LongTable::new("layers", COLUMNS);
    for run in runs {
        let Found::Existence(found) = &run.found else {
            continue;
        };
        for layer in &found.layers {
            let place = layer.top.first();
            table.push(start(run).into_iter().chain([
                layer.layer.into(),
                layer.top1_mean.into(),
                layer.median_mean.into(),
                layer.ratio.into(),
                layer.massive.into(),
                place.map(|place| place.dimension).into(),
                place.map(|place| place.position).into(),
                place.map(|place| &place.token).into(),
            ]));
        }
    }
    table
}
