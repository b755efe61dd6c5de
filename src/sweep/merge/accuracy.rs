//! A row an intervention and task of an intervention-analysis that measured accuracy.

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
    Column::full("task", Kind::Text),
    Column::full("convention", Kind::Text),
    Column::full("items", Kind::Integer),
    Column::full("acc", Kind::Number),
    // None of a single item.
    Column::nullable("acc_stderr", Kind::Number),
    // None where the convention has no other accuracy.
    Column::nullable("acc_norm", Kind::Number),
    Column::nullable("acc_norm_stderr", Kind::Number),
];

pub(super) fn table(runs: &[MeasuredRun]) -> LongTable {
    let mut table = LongTable::new("accuracy", COLUMNS);
    for run in runs {
        let Found::Interventions(found) = &run.found else {
            continue;
        };
        for intervention in &found.interventions {
            for task in &found.tasks {
                let Some(accuracy) = task.accuracy.get(intervention) else {
                    continue;
                };
                table.push(start(run).into_iter().chain([
                    intervention.into(),
                    (&task.name).into(),
                    (&task.convention).into(),
                    task.items.into(),
                    accuracy.acc.into(),
                    accuracy.acc_stderr.into(),
                    accuracy.acc_norm.into(),
                    accuracy.acc_norm_stderr.into(),
                ]));
            }
        }
    }
    table
}
