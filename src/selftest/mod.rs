//! Whether a card computes what the CPU computes: every operation of the backend, and whole models.
//!
//! The CPU backend is the reference; what it is compared with in turn is transformers (`tests/`). The
//! inputs are the same on both sides: values that the card's type holds.
#![forbid(unsafe_code)]

mod attention;
mod experts;
mod generated;
mod inputs;
mod mixers;
mod model;
mod operations;
mod packed;
mod profiles;
mod streams;

use std::fmt;

use serde::Serialize;

use crate::{
    backend::{Backend, Precision},
    error::Result,
    interrupt,
    progress::Progress,
};

/// Identifies the JSON.
pub const SCHEMA: &str = "massact/selftest/1";

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Shapes that take several blocks and go around loops.
    Full,
    /// Small shapes, for tools that follow every access of memory.
    Quick,
}

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was computed.
    pub name: String,
    /// In which type, and the residual stream's where that is another.
    pub dtype: String,
    /// The largest difference, relative to the larger of the value and the check's scale.
    pub error: f64,
    /// What rounding in this type explains.
    pub allowed: f64,
    /// Whether the error is allowed.
    pub passed: bool,
    /// The first value that is further off than allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_wrong: Option<Wrong>,
    /// Why there is no error to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wrong {
    /// Its place among the check's results.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// On the card; as text, because JSON has no NaN.
    pub got: String,
    /// On the CPU.
    pub wanted: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            of,
            got,
            wanted,
        } = self;
        write!(f, "value {index} of {of} is {got} instead of {wanted}")
    }
}

impl Check {
    fn of(name: String, precision: Precision, allowed: f64, found: Result<Difference>) -> Self {
        let (error, first_wrong, failure) = match found {
            Ok(found) => (found.largest, found.first_wrong, None),
            Err(error) => (f64::INFINITY, None, Some(error.to_string())),
        };
        Self {
            name,
            dtype: precision.to_string(),
            error,
            allowed,
            // Not-a-number is no pass.
            passed: error <= allowed,
            first_wrong,
            failure,
        }
    }
}

/// Compares `backend` with the CPU. Beside a residual stream of another type only the operations that
/// read the stream are checked, and the models: inputs come as streams. Only an interrupt is an error:
/// what fails on the card is a check that failed.
pub fn run<B: Backend>(backend: &B, extent: Extent, progress: Progress) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    run_from(backend, extent, 0, progress, &mut |_, check| {
        checks.push(check);
        Ok(())
    })?;
    Ok(checks)
}

/// How many steps [`run`] takes in this precision.
pub fn steps(precision: Precision, extent: Extent) -> usize {
    operations_in(precision, extent).len() + model::all().count()
}

fn operations_in(precision: Precision, extent: Extent) -> Vec<operations::Operation> {
    let mut operations = operations::all(extent);
    if precision.residual() != precision.arithmetic() {
        operations.retain(operations::Operation::reads_streams);
    }
    operations
}

/// As [`run`], from a step on, and each check is told as soon as it is made, with the number of its
/// step: where a card stops working, what was found before is known, and the steps after it may be run
/// by another process.
pub fn run_from<B: Backend>(
    backend: &B,
    extent: Extent,
    first: usize,
    progress: Progress,
    tell: &mut dyn FnMut(usize, Check) -> Result<()>,
) -> Result<()> {
    let operations = operations_in(backend.precision(), extent);
    let steps = steps(backend.precision(), extent);
    let bar = progress.steps("selftest", steps.saturating_sub(first) as u64);
    for (step, operation) in operations.iter().enumerate().skip(first) {
        interrupt::check()?;
        tell(step, operation.check(backend))?;
        bar.inc(1);
    }
    for (step, model) in (operations.len()..).zip(model::all()) {
        if step < first {
            continue;
        }
        interrupt::check()?;
        for check in model::checks(backend, model, extent)? {
            tell(step, check)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What `massact selftest --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`]
    pub schema: &'static str,
    /// The card, as `--device` takes it.
    pub device: String,
    /// Its product name.
    pub card: String,
    /// How much was checked.
    pub extent: Extent,
    /// Whether all checks passed.
    pub good: bool,
    /// Each comparison.
    pub checks: Vec<Check>,
}

impl Report {
    /// Of all checks of a card.
    pub fn new(device: String, card: String, extent: Extent, checks: Vec<Check>) -> Self {
        Self {
            schema: SCHEMA,
            device,
            card,
            extent,
            good: checks.iter().all(|check| check.passed),
            checks,
        }
    }
}

/// How far two lists are apart.
#[derive(Debug, Clone, PartialEq)]
struct Difference {
    /// The largest difference, relative to the larger of the wanted value and the scale.
    largest: f64,
    first_wrong: Option<Wrong>,
}

impl Difference {
    /// Of what is either right or wrong.
    fn exact(same: bool) -> Self {
        Self {
            largest: if same { 0.0 } else { f64::INFINITY },
            first_wrong: None,
        }
    }
}

/// The difference of two lists, of which a value further off than `allowed` is wrong. Hidden entries
/// (NaN) must be hidden in both.
fn difference(got: &[f32], wanted: &[f32], scale: f64, allowed: f64) -> Difference {
    if got.len() != wanted.len() {
        return Difference::exact(false);
    }
    let (mut found, count) = (Difference::exact(true), wanted.len());
    for (index, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        let (x, y) = (f64::from(got), f64::from(wanted));
        let same = x == y || (x.is_nan() && y.is_nan());
        let error = if same {
            0.0
        } else {
            (x - y).abs() / y.abs().max(scale)
        };
        // Not-a-number is no small error, and it stays, whatever follows it.
        let (smaller, right) = (error <= found.largest, error <= allowed);
        if !smaller && !found.largest.is_nan() {
            found.largest = error;
        }
        if !right && found.first_wrong.is_none() {
            found.first_wrong = Some(Wrong {
                index,
                of: count,
                got: got.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dtype::DType;

    #[test]
    fn differences() {
        let largest = |got: &[f32], wanted: &[f32]| difference(got, wanted, 1.0, 0.1).largest;
        assert_eq!(largest(&[1.0, f32::NAN], &[1.0, f32::NAN]), 0.0);
        assert_eq!(largest(&[3.0, 0.5], &[2.0, 0.0]), 0.5);
        assert!(largest(&[f32::NAN], &[1.0]).is_nan());
        // Whatever comes before and after it.
        assert!(largest(&[2.0, f32::NAN, 1.0], &[1.0, 1.0, 1.5]).is_nan());
        assert_eq!(largest(&[], &[1.0]), f64::INFINITY);
        assert_eq!(largest(&[f32::INFINITY], &[1.0]), f64::INFINITY);
    }

    #[test]
    fn the_first_wrong_value() {
        let first = |got: &[f32]| difference(got, &[1.0, 2.0, 3.0], 1.0, 0.1).first_wrong;
        assert_eq!(first(&[1.05, 2.0, 3.0]), None);
        let wrong = first(&[1.05, f32::NAN, 9.0]).expect("two are wrong");
        assert_eq!(wrong.to_string(), "value 1 of 3 is NaN instead of 2");
        assert_eq!(first(&[1.0, 2.0, 9.0]).expect("one is wrong").index, 2);
    }

    #[test]
    fn not_a_number_is_no_pass() {
        let check = |largest| {
            let found = Difference {
                largest,
                first_wrong: None,
            };
            Check::of(String::new(), DType::Float32.into(), 1.0, Ok(found))
        };
        assert!(check(1.0).passed);
        assert!(!check(1.1).passed && !check(f64::NAN).passed);
    }
}
