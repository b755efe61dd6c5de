//! Trajectories and their fits as long tables.

use super::Trajectory;
use crate::report::{
    LongTable,
    long_table::{Cell, Column, Kind},
};

const POINTS: &[Column] = &[
    Column::full("model", Kind::Text),
    Column::full("settings", Kind::Text),
    Column::full("step", Kind::Integer),
    Column::nullable("revision", Kind::Text),
    Column::full("layer", Kind::Integer),
    Column::full("top1_mean", Kind::Number),
    Column::full("median_mean", Kind::Number),
    Column::nullable("ratio", Kind::Number),
];

const FITS: &[Column] = &[
    Column::full("model", Kind::Text),
    Column::full("settings", Kind::Text),
    Column::full("layer", Kind::Integer),
    Column::full("quantity", Kind::Text),
    Column::nullable("a", Kind::Number),
    Column::nullable("lambda", Kind::Number),
    Column::nullable("gamma", Kind::Number),
    Column::nullable("t0", Kind::Number),
    Column::nullable("k", Kind::Number),
    Column::nullable("r2", Kind::Number),
    Column::full("points", Kind::Integer),
    // Why there is no fit.
    Column::nullable("reason", Kind::Text),
];

/// `trajectories`, a row a step and layer, and `fits`, a row a layer and quantity.
pub fn tables(trajectories: &[Trajectory]) -> [LongTable; 2] {
    let mut points = LongTable::new("trajectories", POINTS);
    let mut fits = LongTable::new("fits", FITS);
    for trajectory in trajectories {
        let start = || [(&trajectory.model).into(), (&trajectory.settings).into()];
        for point in &trajectory.points {
            for layer in &point.layers {
                points.push(start().into_iter().chain([
                    point.step.into(),
                    point.revision.as_ref().into(),
                    layer.layer.into(),
                    layer.top1_mean.into(),
                    layer.median_mean.into(),
                    layer.ratio.into(),
                ]));
            }
        }
        for series in &trajectory.series {
            let fit = series.fit.as_ref().ok();
            let parameters: [Cell; 6] = [
                fit.map(|fit| fit.curve.a).into(),
                fit.map(|fit| fit.curve.lambda).into(),
                fit.map(|fit| fit.curve.gamma).into(),
                fit.map(|fit| fit.curve.t0).into(),
                fit.map(|fit| fit.curve.k).into(),
                fit.map(|fit| fit.r2).into(),
            ];
            let reason = series.fit.as_ref().err().map(ToString::to_string);
            fits.push(
                start()
                    .into_iter()
                    .chain([series.layer.into(), series.quantity.name().into()])
                    .chain(parameters)
                    .chain([series.points.len().into(), reason.as_ref().into()]),
            );
        }
    }
    [points, fits]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::trajectory::{examples, of};

    #[test]
    fn a_row_a_step_and_a_row_a_fit() {
        let place = tempfile::tempdir().expect("a folder");
        let [points, fits] = tables(&of(&examples::runs(place.path(), &[20, 10])));
        let settings = "\"{\"\"arithmetic\"\":\"\"float32\"\",\"\"seed\"\":1}\"";
        assert_eq!(
            points.to_csv().lines().nth(1).expect("a row"),
            format!("pythia,{settings},10,step10,0,20.0,0.5,40.0")
        );
        assert_eq!(points.rows.len(), 4);
        assert_eq!(
            fits.to_csv().lines().nth(1).expect("a row"),
            format!(
                "pythia,{settings},0,top1_mean,,,,,,,2,\"2 different steps, of which a fit needs 6\""
            )
        );
        assert_eq!(fits.rows.len(), 6);
    }
}
