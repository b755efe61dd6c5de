//! Whether a card computes what the CPU computes: every operation of the backend, and whole models.
//!
//! The CPU backend is the reference; what it is compared with in turn is transformers (`tests/`). The
//! inputs are the same on both sides: values that the card's type holds.
#![forbid(unsafe_code)]

mod generated;
mod inputs;
mod model;
mod operations;

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
    /// Why there is no error to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Check {
    fn of(name: String, precision: Precision, allowed: f64, found: Result<f64>) -> Self {
        let (error, failure) = match found {
            Ok(error) => (error, None),
            Err(error) => (f64::INFINITY, Some(error.to_string())),
        };
        Self {
            name,
            dtype: precision.to_string(),
            error,
            allowed,
            // Not-a-number is no pass.
            passed: error <= allowed,
            failure,
        }
    }
}

/// Compares `backend` with the CPU. Beside a residual stream of another type only the operations that
/// read the stream are checked, and the models: inputs come as streams. Only an interrupt is an error:
/// what fails on the card is a check that failed.
pub fn run<B: Backend>(
    backend: &B,
    extent: Extent,
    progress: Progress,
) -> Result<Vec<Check>> {
    let precision = backend.precision();
    let mut operations = operations::all(extent);
    if precision.residual() != precision.arithmetic() {
        operations.retain(operations::Operation::reads_streams);
    }
    let steps = operations.len() + model::all().count();
    let bar = progress.steps("selftest", steps as u64);
    let mut checks = Vec::new();
    for operation in operations {
        interrupt::check()?;
        checks.push(operation.check(backend));
        bar.inc(1);
    }
    for model in model::all() {
        interrupt::check()?;
        checks.extend(model::checks(backend, model, extent)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(checks)
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

/// The largest difference of two lists, relative to the larger of the wanted value and `scale`. Hidden
/// entries (NaN) must be hidden in both.
fn difference(got: &[f32], wanted: &[f32], scale: f64) -> f64 {
    if got.len() != wanted.len() {
        return f64::INFINITY;
    }
    let mut worst = 0.0f64;
    for (&got, &wanted) in got.iter().zip(wanted) {
        let (got, wanted) = (f64::from(got), f64::from(wanted));
        let same = got == wanted || (got.is_nan() && wanted.is_nan());
        let error = if same {
            0.0
        } else {
            (got - wanted).abs() / wanted.abs().max(scale)
        };
        if error.is_nan() {
            return error;
        }
        worst = worst.max(error);
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dtype::DType;

    #[test]
    fn differences() {
        assert_eq!(difference(&[1.0, f32::NAN], &[1.0, f32::NAN], 1.0), 0.0);
        assert_eq!(difference(&[3.0, 0.5], &[2.0, 0.0], 1.0), 0.5);
        assert!(difference(&[f32::NAN], &[1.0], 1.0).is_nan());
        // Whatever follows it.
        assert!(difference(&[f32::NAN, 1.0], &[1.0, 1.5], 1.0).is_nan());
        assert_eq!(difference(&[], &[1.0], 1.0), f64::INFINITY);
    }

    #[test]
    fn not_a_number_is_no_pass() {
        let check = |error| Check::of(String::new(), DType::Float32.into(), 1.0, Ok(error));
        assert!(check(1.0).passed);
        assert!(!check(1.1).passed && !check(f64::NAN).passed);
    }
}
