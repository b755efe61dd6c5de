//! All runs of a sweep in long tables, which concatenate across sweeps.

mod accuracy;
mod dimensions;
mod interventions;
mod layers;

use std::path::{Path, PathBuf};

use super::{
    runs::{self, MeasuredRun},
    task::Finished,
    trajectory::{self, Trajectory},
};
use crate::{
    error::Result,
    report::{
        LongTable,
        long_table::{Cell, Column, Kind},
    },
};

/// The folder of the tables in a sweep's.
pub const FOLDER: &str = "merged";

/// The argument that names a sweep's folder, as errors call it.
const FLAG: &str = "folder";

/// What every table begins with.
const MODEL: Column = Column::full("model", Kind::Text);
const REVISION: Column = Column::nullable("revision", Kind::Text);
const SETTINGS: Column = Column::full("settings", Kind::Text);

/// The tables of runs that are in the order of the manifest, and of their trajectories. Each is there,
/// with rows or without.
pub fn tables(runs: &[MeasuredRun], trajectories: &[Trajectory]) -> Vec<LongTable> {
    let mut tables = vec![
        layers::table(runs),
        interventions::table(runs),
        accuracy::table(runs),
        dimensions::table(runs),
    ];
    tables.extend(trajectory::tables(trajectories));
    tables
}

/// Writes all tables and the figures of trajectories into `DIR/merged/`, each file whole or not at
/// all. `finished` is in the order of the manifest. Returns what was written.
pub fn write(dir: &Path, finished: &[Finished]) -> Result<Vec<PathBuf>> {
    let runs = runs::read(finished)?;
    let trajectories = trajectory::of(&runs);
    let folder = dir.join(FOLDER);
    let mut written = Vec::new();
    for table in tables(&runs, &trajectories) {
        written.extend(table.write(&folder, FLAG)?);
    }
    written.extend(trajectory::write_figures(&folder, &trajectories, FLAG)?);
    Ok(written)
}

/// The cells that every row of a run begins with.
fn start(run: &MeasuredRun) -> [Cell; 3] {
    [
        (&run.model).into(),
        run.revision.as_ref().into(),
        (&run.settings).into(),
    ]
}

/// A list in one cell, as JSON: CSV has no lists.
fn list(values: &impl serde::Serialize) -> Cell {
    // Numbers and texts always serialise.
    serde_json::to_string(values).as_ref().ok().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::runs::examples, *};

    #[test]
    fn no_runs_leave_tables_with_columns() {
        let place = tempfile::tempdir().expect("a folder");
        let written = write(place.path(), &[]).expect("written");
        let names: Vec<_> = written
            .iter()
            .map(|path| {
                path.strip_prefix(place.path())
                    .expect("inside")
                    .display()
                    .to_string()
            })
            .collect();
        let expected = [
            "layers",
            "interventions",
            "accuracy",
            "dimensions",
            "trajectories",
            "fits",
        ];
        let expected =
            expected.map(|name| ["parquet", "csv"].map(|end| format!("merged/{name}.{end}")));
        assert_eq!(names, expected.concat());
        let header = fs::read_to_string(&written[1]).expect("there");
        assert_eq!(
            header,
            "model,revision,settings,layer,top1_mean,median_mean,ratio,massive,dimension,position,token\r\n"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Runs that were done in any order and lie anywhere give the same bytes, and rows follow the
        /// manifest.
        #[test]
        fn tables_depend_on_the_manifest_alone(
            means in proptest::collection::vec((0f64..3000.0, 0f64..2.0), 1..6),
            order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let merged = |order: &[usize]| {
                let place = tempfile::tempdir().expect("a folder");
                let mut done: Vec<(usize, Finished)> = order.iter().map(|&index| {
                    let folder = place.path().join(format!("{index}-of-{}", order[0]));
                    let settings = json!({ "seed": index % 2, "text": { "name": "t", "files": [
                        { "path": folder.join("t").display().to_string(), "blake3": "aa" }] } });
                    let model = format!("m{}", index / 2);
                    (index, examples::existence(&folder, &model, &settings, &means))
                }).collect();
                done.sort_by_key(|(index, _)| *index);
                let done: Vec<Finished> = done.into_iter().map(|(_, finished)| finished).collect();
                let written = write(place.path(), &done).expect("written");
                written.iter().map(|path| fs::read(path).expect("there")).collect::<Vec<_>>()
            };
            let expected = merged(&[0, 1, 2, 3, 4]);
            prop_assert_eq!(&merged(&order), &expected);
            let csv = String::from_utf8(expected[1].clone()).expect("UTF-8");
            let models: Vec<&str> =
                csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
            prop_assert!(models.is_sorted(), "{:?}", models);
            prop_assert_eq!(models.len(), 5 * means.len());
        }
    }
}
