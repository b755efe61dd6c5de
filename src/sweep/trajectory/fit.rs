//! How a quantity develops in training, as five numbers.
//!
//! The curve of "Hidden Dynamics of Massive Activations in Transformer Training" (arXiv 2508.03616):
//! f(t) = A exp(-lambda x) ln x + K with x = gamma t + t0, where t is the training step itself, as in
//! the parameters that its authors published. The fit is by least squares over the steps, all of one
//! weight. A and K are linear, so that only lambda, gamma and t0 are searched (variable projection):
//! over a grid first, then by Levenberg-Marquardt from its best places, in logarithms, which keep all
//! three above zero and so x above zero at any step. Nothing is drawn at random.

use std::fmt;

/// Points without which five parameters say nothing.
pub const LEAST_STEPS: usize = 6;

/// The curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Amplitude.
    pub a: f64,
    /// Rate of decay, per unit of x.
    pub lambda: f64,
    /// Units of x a step.
    pub gamma: f64,
    /// x at step 0.
    pub t0: f64,
    /// Value that is reached in the end.
    pub k: f64,
}

impl Curve {
    /// The value at a step.
    pub fn at(&self, step: f64) -> f64 {
        let x = self.gamma * step + self.t0;
        self.a * (-self.lambda * x).exp() * x.ln() + self.k
    }
}

/// A curve and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The curve.
    pub curve: Curve,
    /// 1 - residual over total sum of squares.
    pub r2: f64,
    /// Points it was fitted to.
    pub points: usize,
}

/// Why there is no fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFit {
    /// Fewer than [`LEAST_STEPS`] different steps.
    FewSteps(usize),
    /// A value that is no number.
    NotFinite,
    /// All values are equal.
    Constant,
}

impl fmt::Display for NoFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewSteps(steps) => {
                write!(
                    f,
                    "{steps} different steps, of which a fit needs {LEAST_STEPS}"
                )
            }
            Self::NotFinite => f.write_str("a value is not a finite number"),
            Self::Constant => f.write_str("the values are equal at all steps"),
        }
    }
}

/// Logarithms of lambda, of gamma times the last step, and of t0.
type Searched = [f64; 3];

/// Ranges of the searched parameters; beyond them the curve has other shapes no more.
const RANGES: [(f64, f64); 3] = [(1e-6, 1e2), (1e-3, 1e6), (1e-6, 1e2)];
/// Of the grid: decay over all steps, gamma times the last step, t0.
const DECAYS: [f64; 10] = [1e-3, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0];
const GAMMAS: [f64; 13] = [
    0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 4096.0, 1e5,
];
const STARTS: [f64; 14] = [
    1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 20.0,
];
/// Places of the grid that are followed, beside the best of each gamma.
const FOLLOWED: usize = 32;
const MOST_STEPS: usize = 300;
/// For derivatives by central differences.
const NUDGE: f64 = 1e-5;

/// Fits the curve to (step, value).
pub fn fit(points: &[(f64, f64)]) -> Result<Fit, NoFit> {
    if points
        .iter()
        .any(|(step, value)| !(step.is_finite() && value.is_finite()))
    {
        return Err(NoFit::NotFinite);
    }
    let mut steps: Vec<f64> = points.iter().map(|(step, _)| *step).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    if steps.len() < LEAST_STEPS {
        return Err(NoFit::FewSteps(steps.len()));
    }
    let data = Data::new(points)?;
    let best = data.starts().into_iter().map(|start| data.descend(start));
    let best = best.min_by(|a, b| a.rss.total_cmp(&b.rss));
    // There is always a start. Only values at the end of double precision overflow.
    let best = best.map(|best| data.fit(&best)).ok_or(NoFit::Constant)?;
    let Curve { a, k, .. } = best.curve;
    if a.is_finite() && k.is_finite() {
        Ok(best)
    } else {
        Err(NoFit::NotFinite)
    }
}

/// The points with steps over the last one, and values around zero over the largest deviation.
struct Data {
    times: Vec<f64>,
    values: Vec<f64>,
    last: f64,
    mean: f64,
    size: f64,
    /// Of the scaled values.
    total: f64,
}

/// The curve of searched parameters with the best A and K.
#[derive(Clone, Debug)]
struct Projected {
    at: Searched,
    a: f64,
    k: f64,
    rss: f64,
}

impl Data {
    fn new(points: &[(f64, f64)]) -> Result<Self, NoFit> {
        let last = points.iter().map(|(step, _)| *step).fold(0.0, f64::max);
        let mean = points
            .iter()
            .map(|(_, value)| value / points.len() as f64)
            .sum::<f64>();
        let deviations = || points.iter().map(|(_, value)| value - mean);
        let size = deviations().map(f64::abs).fold(0.0, f64::max);
        let largest = points
            .iter()
            .map(|(_, value)| value.abs())
            .fold(0.0, f64::max);
        if !size.is_finite() {
            return Err(NoFit::NotFinite);
        }
        // What rounding leaves of equal values is no deviation.
        if size <= 1e-13 * largest {
            return Err(NoFit::Constant);
        }
        let values: Vec<f64> = deviations().map(|value| value / size).collect();
        Ok(Self {
            times: points.iter().map(|(step, _)| step / last).collect(),
            total: values.iter().map(|value| value * value).sum(),
            values,
            last,
            mean,
            size,
        })
    }

    /// The shape exp(-lambda x) ln x at every point.
    fn shape(&self, at: Searched) -> Vec<f64> {
        let [lambda, gamma, t0] = at.map(f64::exp);
        let shape = |time: &f64| {
            let x = gamma * time + t0;
            (-lambda * x).exp() * x.ln()
        };
        self.times.iter().map(shape).collect()
    }

    /// A and K by linear regression.
    fn linear(&self, shape: &[f64]) -> (f64, f64) {
        let count = shape.len() as f64;
        let mean = shape.iter().sum::<f64>() / count;
        let own = self.values.iter().sum::<f64>() / count;
        let (mut across, mut square) = (0.0, 0.0);
        for (value, shape) in self.values.iter().zip(shape) {
            across += (shape - mean) * (value - own);
            square += (shape - mean) * (shape - mean);
        }
        let a = if square > 0.0 { across / square } else { 0.0 };
        if a.is_finite() {
            (a, own - a * mean)
        } else {
            (0.0, own)
        }
    }

    fn residuals(&self, at: Searched) -> (f64, f64, Vec<f64>) {
        let shape = self.shape(at);
        let (a, k) = self.linear(&shape);
        let residual = |(value, shape): (&f64, &f64)| value - (a * shape + k);
        (a, k, self.values.iter().zip(&shape).map(residual).collect())
    }

    fn project(&self, at: Searched) -> Projected {
        let (a, k, residuals) = self.residuals(at);
        Projected {
            at,
            a,
            k,
            rss: residuals.iter().map(|residual| residual * residual).sum(),
        }
    }

    /// The places of the grid from which to descend.
    fn starts(&self) -> Vec<Projected> {
        let mut starts = Vec::new();
        let mut rest = Vec::new();
        for gamma in GAMMAS {
            let mut found: Vec<Projected> = DECAYS
                .iter()
                .flat_map(|decay| STARTS.iter().map(move |t0| (decay / gamma, t0)))
                .map(|(lambda, t0)| self.project(inside([lambda.ln(), gamma.ln(), t0.ln()])))
                .collect();
            found.sort_by(|a, b| a.rss.total_cmp(&b.rss));
            let mut found = found.into_iter();
            starts.extend(found.next());
            rest.extend(found.take(FOLLOWED));
        }
        rest.sort_by(|a, b| a.rss.total_cmp(&b.rss));
        rest.truncate(FOLLOWED);
        starts.extend(rest);
        starts
    }

    /// Levenberg-Marquardt within the ranges.
    fn descend(&self, start: Projected) -> Projected {
        let mut best = start;
        let mut damping = 1e-2;
        for _ in 0..MOST_STEPS {
            let (normal, gradient) = self.normal_equations(best.at);
            let mut better = None;
            while better.is_none() && damping < 1e12 {
                let step = solve(normal, gradient, damping);
                let next = self.project(inside(std::array::from_fn(|i| best.at[i] + step[i])));
                if next.rss < best.rss {
                    better = Some(next);
                    damping = (damping * 0.2).max(1e-12);
                } else {
                    damping *= 4.0;
                }
            }
            let Some(better) = better else {
                break;
            };
            let gained = best.rss - better.rss;
            best = better;
            if gained <= 1e-15 * self.total && gained <= 1e-9 * best.rss {
                break;
            }
        }
        best
    }

    /// J'J and J'r of the residuals, whose derivatives are taken by central differences.
    fn normal_equations(&self, at: Searched) -> ([[f64; 3]; 3], [f64; 3]) {
        let (_, _, residuals) = self.residuals(at);
        let slopes: [Vec<f64>; 3] = std::array::from_fn(|i| {
            let moved = |by: f64| {
                let mut moved = at;
                moved[i] += by;
                self.residuals(moved).2
            };
            let (up, down) = (moved(NUDGE), moved(-NUDGE));
            let pairs = up.iter().zip(&down);
            pairs
                .map(|(up, down)| (up - down) / (2.0 * NUDGE))
                .collect()
        });
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        (
            std::array::from_fn(|i| std::array::from_fn(|j| dot(&slopes[i], &slopes[j]))),
            std::array::from_fn(|i| dot(&slopes[i], &residuals)),
        )
    }

    /// In the units of the points.
    fn fit(&self, best: &Projected) -> Fit {
        let [lambda, gamma, t0] = best.at.map(f64::exp);
        Fit {
            curve: Curve {
                a: best.a * self.size,
                lambda,
                gamma: gamma / self.last,
                t0,
                k: best.k * self.size + self.mean,
            },
            r2: 1.0 - best.rss / self.total,
            points: self.values.len(),
        }
    }
}

fn inside(at: Searched) -> Searched {
    std::array::from_fn(|i| at[i].clamp(RANGES[i].0.ln(), RANGES[i].1.ln()))
}

/// The step -(N + damping diag N)^-1 g, by elimination with pivots.
fn solve(normal: [[f64; 3]; 3], gradient: [f64; 3], damping: f64) -> Searched {
    let largest = (0..3).map(|i| normal[i][i]).fold(0.0, f64::max);
    let mut rows: [[f64; 4]; 3] = std::array::from_fn(|i| {
        let mut row = [normal[i][0], normal[i][1], normal[i][2], -gradient[i]];
        // A parameter without effect stays where it is.
        row[i] += damping * normal[i][i] + 1e-14 * largest + f64::MIN_POSITIVE;
        row
    });
    for pivot in 0..3 {
        let largest = (pivot..3).max_by(|a, b| {
            let size = |row: &usize| rows[*row][pivot].abs();
            size(a).total_cmp(&size(b))
        });
        rows.swap(pivot, largest.unwrap_or(pivot));
        let from = rows[pivot];
        for row in rows.iter_mut().skip(pivot + 1) {
            let factor = row[pivot] / from[pivot];
            for (value, from) in row.iter_mut().zip(from) {
                *value -= factor * from;
            }
        }
    }
    let mut step = [0.0; 3];
    for i in (0..3).rev() {
        let known: f64 = (i + 1..3).map(|j| rows[i][j] * step[j]).sum();
        step[i] = (rows[i][3] - known) / rows[i][i];
    }
    // A step is at most a factor of e^3.
    step.map(|step| {
        if step.is_finite() {
            step.clamp(-3.0, 3.0)
        } else {
            0.0
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The steps of Pythia's 154 checkpoints.
    fn pythia() -> Vec<f64> {
        let early = (0..10).map(|power| f64::from(1 << power));
        let late = (1..=143).map(|thousand| f64::from(thousand * 1000));
        std::iter::once(0.0).chain(early).chain(late).collect()
    }

    fn points(curve: Curve, steps: &[f64]) -> Vec<(f64, f64)> {
        steps.iter().map(|step| (*step, curve.at(*step))).collect()
    }

    /// As its authors published it for the median of layer 0 of Pythia-410M.
    const PUBLISHED: Curve = Curve {
        a: 0.199_141_326_292_791_3,
        lambda: 0.124_516_434_728_960_5,
        gamma: 0.000_112_435_040_710_988_89,
        t0: 0.621_219_313_586_894_9,
        k: 0.121_934_865_214_765_92,
    };

    #[test]
    fn recovers_published_parameters() {
        let found = fit(&points(PUBLISHED, &pythia())).expect("a fit");
        assert_eq!(found.points, 154);
        assert!(found.r2 > 1.0 - 1e-10, "{found:?}");
        let pairs = |curve: Curve| [curve.a, curve.lambda, curve.gamma, curve.t0, curve.k];
        for (own, published) in pairs(found.curve).iter().zip(pairs(PUBLISHED)) {
            assert!((own / published - 1.0).abs() < 1e-4, "{found:?}");
        }
    }

    #[test]
    fn says_why_there_is_none() {
        let all = points(PUBLISHED, &pythia());
        assert_eq!(fit(&all[..5]), Err(NoFit::FewSteps(5)));
        let same = [(7.0, 1.0), (7.0, 2.0)].repeat(9);
        assert_eq!(fit(&same), Err(NoFit::FewSteps(1)));
        let flat: Vec<(f64, f64)> = all.iter().map(|(step, _)| (*step, 0.1)).collect();
        assert_eq!(fit(&flat), Err(NoFit::Constant));
        let mut broken = all;
        broken[3].1 = f64::NAN;
        assert_eq!(fit(&broken), Err(NoFit::NotFinite));
        assert_eq!(fit(&[]), Err(NoFit::FewSteps(0)));
        let said = NoFit::FewSteps(5).to_string();
        assert_eq!(said, "5 different steps, of which a fit needs 6");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever the parameters, of which some cannot be told apart by what they draw: the curve is
        /// found again, in any unit of steps and values, and the same at every call.
        #[test]
        fn finds_the_curve_again(
            a in prop_oneof![-1.0f64..-0.1, 0.1f64..1.0],
            decay in 0.01f64..6.0,
            gamma in 0.5f64..40.0,
            t0 in 0.02f64..3.0,
            k in -1f64..1.0,
            (value_unit, step_unit) in (-3f64..6.0, 0f64..7.0),
        ) {
            let unit = 10f64.powf(value_unit);
            let last = 143.0 * 10f64.powf(step_unit);
            let steps: Vec<f64> = pythia().iter().map(|step| step / 143_000.0 * last).collect();
            let curve = Curve {
                a: a * unit, lambda: decay / gamma, gamma: gamma / last, t0, k: k * unit,
            };
            let all = points(curve, &steps);
            let found = fit(&all).expect("a fit");
            prop_assert!(found.r2 > 1.0 - 1e-6, "{:?} of {:?}", found, curve);
            prop_assert!(found.curve.gamma > 0.0 && found.curve.t0 > 0.0);
            prop_assert_eq!(fit(&all), Ok(found));
        }

        /// Whatever the points: numbers, and x above zero, or a reason.
        #[test]
        fn any_points(
            steps in proptest::collection::vec(0u64..1 << 50, 6..30),
            (size, exponent) in (proptest::collection::vec(-1f64..1.0, 30), -300i32..308),
        ) {
            let value = |size: &f64| size * 10f64.powi(exponent);
            let all: Vec<(f64, f64)> =
                steps.iter().map(|step| *step as f64).zip(size.iter().map(value)).collect();
            if let Ok(found) = fit(&all) {
                let Curve { a, lambda, gamma, t0, k } = found.curve;
                prop_assert!([a, lambda, gamma, t0, k].iter().all(|value| value.is_finite()));
                prop_assert!(lambda > 0.0 && gamma > 0.0 && t0 > 0.0);
                prop_assert!((0.0..=1.0).contains(&found.r2), "{}", found.r2);
            }
        }
    }
}
