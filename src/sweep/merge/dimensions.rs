//! A row a layer and massive dimension of a tokens-analysis.

use super::{MODEL, REVISION, SETTINGS, list, start};
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
    Column::full("dimension", Kind::Integer),
    Column::full("sign", Kind::Text),
    Column::full("mean", Kind::Number),
    Column::full("max", Kind::Number),
    Column::full("count", Kind::Integer),
    Column::full("sequence_share", Kind::Number),
    Column::full("persists", Kind::Integer),
    // JSON lists.
    Column::full("positions", Kind::Text),
    Column::full("tokens", Kind::Text),
];

pub(super) fn table(runs: &[MeasuredRun]) -> LongTable {
    let mut table = LongTable::new("dimensions", COLUMNS);
    for run in runs {
        let Found::Tokens(_, found) = &run.found else {
            continue;
        };
        for row in &found.massive_dimensions {
            table.push(start(run).into_iter().chain([
                row.layer.into(),
                row.dimension.into(),
                (&row.sign).into(),
                row.mean.into(),
                row.max.into(),
                row.count.into(),
                row.sequence_share.into(),
                row.persists.into(),
                list(&row.positions),
                list(&row.tokens),
            ]));
        }
    }
    table
}
